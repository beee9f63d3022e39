//! Rows for Jobs and CronJobs.

use super::{Field, harmless, implemented};

/// A Job's own fields; in a CronJob they stand below `spec.jobTemplate`.
pub(super) const JOB: &[Field] = &[
    implemented(
        "spec.completions",
        "How many pods must succeed; 1 if left out together with parallelism, else any success will do.",
    ),
    implemented("spec.parallelism", "How many pods may run side by side; 1 if left out."),
    implemented(
        "spec.completionMode",
        "NonIndexed, the default, or Indexed: each pod has a number from 0 to completions - 1, and each number must succeed once.",
    ),
    implemented(
        "spec.backoffLimit",
        "How many failures are tried again before the Job fails; 6 if left out.",
    ),
    implemented(
        "spec.backoffLimitPerIndex",
        "How many failures of one index are tried again before that index fails.",
    ),
    implemented(
        "spec.maxFailedIndexes",
        "How many indexes may fail before the whole Job fails.",
    ),
    implemented(
        "spec.activeDeadlineSeconds",
        "How long the Job may run, whatever its pods do, before it fails.",
    ),
    implemented(
        "spec.ttlSecondsAfterFinished",
        "How long a finished Job is kept before it is deleted; for ever if left out.",
    ),
    implemented(
        "spec.suspend",
        "Ends the running pods and starts none; false starts them again.",
    ),
    implemented(
        "spec.podFailurePolicy",
        "What a failure leads to, by exit code or by condition of the pod.",
    ),
    implemented("spec.podFailurePolicy.rules", "Rules; the first that matches counts."),
    implemented(
        "spec.podFailurePolicy.rules[*].action",
        "FailJob, FailIndex, Ignore (the failure is not counted) or Count.",
    ),
    implemented(
        "spec.podFailurePolicy.rules[*].onExitCodes",
        "Matches the exit codes of containers.",
    ),
    implemented(
        "spec.podFailurePolicy.rules[*].onPodConditions",
        "Matches conditions of the pod, such as DisruptionTarget.",
    ),
    implemented(
        "spec.podReplacementPolicy",
        "When a pod that goes is replaced: TerminatingOrFailed, the default, or Failed, once it has ended.",
    ),
    implemented(
        "spec.successPolicy",
        "Which indexes, or how many, are enough for the Job to be complete.",
    ),
    implemented(
        "spec.selector",
        "Which pods belong to it. Made by the system unless manualSelector is set.",
    ),
    implemented("spec.manualSelector", "The selector is one's own."),
    implemented(
        "spec.managedBy",
        "A controller outside Towline that runs this Job; Towline leaves it alone then.",
    ),
];

pub(super) const CRON_JOB: &[Field] = &[
    implemented(
        "spec.schedule",
        "When a Job is started: minute, hour, day of month, month, day of week, or a word such as @daily.",
    ),
    implemented(
        "spec.timeZone",
        "The time zone of the schedule, such as Europe/Berlin; UTC if left out.",
    ),
    implemented(
        "spec.concurrencyPolicy",
        "While the Job before still runs: Allow, the default, Forbid (the start is skipped) or Replace.",
    ),
    implemented(
        "spec.startingDeadlineSeconds",
        "How late a start may still be made; without limit if left out.",
    ),
    implemented("spec.suspend", "Starts no further Jobs; those that run go on."),
    implemented(
        "spec.successfulJobsHistoryLimit",
        "How many Jobs that succeeded are kept; 3 if left out.",
    ),
    implemented(
        "spec.failedJobsHistoryLimit",
        "How many Jobs that failed are kept; 1 if left out.",
    ),
    implemented("spec.jobTemplate", "What the Jobs are made from."),
    implemented("spec.jobTemplate.metadata", "Labels and annotations of the Jobs."),
    implemented("spec.jobTemplate.metadata.labels", "Labels of the Jobs."),
    implemented("spec.jobTemplate.metadata.annotations", "Annotations of the Jobs."),
    harmless(
        "spec.jobTemplate.metadata.name",
        "Jobs get their names from the CronJob.",
    ),
    harmless(
        "spec.jobTemplate.metadata.namespace",
        "Jobs are in the namespace of the CronJob.",
    ),
];
