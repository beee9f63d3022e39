//! Rows for the kinds that keep revisions of their templates, and for what guards pods.

use super::{Field, implemented};

pub(super) const DAEMON_SET: &[Field] = &[
    implemented(
        "spec.selector",
        "Which pods belong to it. Must match the template's labels and cannot change.",
    ),
    implemented(
        "spec.minReadySeconds",
        "How long a pod must be ready to count as available; 0 if left out.",
    ),
    implemented("spec.updateStrategy", "How pods of an old template are replaced."),
    implemented(
        "spec.updateStrategy.type",
        "RollingUpdate, the default, or OnDelete: old pods stay until somebody deletes them.",
    ),
    implemented(
        "spec.updateStrategy.rollingUpdate",
        "How many pods a rolling update may take away or add at once.",
    ),
    implemented(
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
        "How many pods, or which share, may be unavailable; 1 if left out.",
    ),
    implemented(
        "spec.updateStrategy.rollingUpdate.maxSurge",
        "On how many nodes, or which share, a new pod may come before the old one goes; 0 if left out.",
    ),
    implemented(
        "spec.revisionHistoryLimit",
        "How many old ControllerRevisions are kept to go back to; 10 if left out.",
    ),
];
