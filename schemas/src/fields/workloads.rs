//! Rows for the kinds that keep revisions of their templates, and for what guards pods.

use super::{Field, harmless, implemented, refused};

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

pub(super) const STATEFUL_SET: &[Field] = &[
    implemented("spec.replicas", "How many pods there should be; 1 if left out."),
    implemented(
        "spec.selector",
        "Which pods belong to it. Must match the template's labels and cannot change.",
    ),
    implemented(
        "spec.serviceName",
        "The headless Service that the pods' host names are under. Cannot change.",
    ),
    implemented(
        "spec.podManagementPolicy",
        "OrderedReady, the default: one pod after the other; or Parallel. Cannot change.",
    ),
    implemented("spec.ordinals", "How the pods are numbered."),
    implemented("spec.ordinals.start", "The number of the first pod; 0 if left out."),
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
        "Which pods a rolling update replaces, and how many at once.",
    ),
    implemented(
        "spec.updateStrategy.rollingUpdate.partition",
        "So many of the first pods keep the old template; 0 if left out.",
    ),
    implemented(
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
        "How many pods, or which share, may be unavailable; 1 if left out.",
    ),
    implemented(
        "spec.revisionHistoryLimit",
        "How many old ControllerRevisions are kept to go back to; 10 if left out.",
    ),
    implemented(
        "spec.persistentVolumeClaimRetentionPolicy",
        "What becomes of the claims made from the templates.",
    ),
    implemented(
        "spec.persistentVolumeClaimRetentionPolicy.whenDeleted",
        "Retain, the default, or Delete: whether the claims go with the set.",
    ),
    implemented(
        "spec.persistentVolumeClaimRetentionPolicy.whenScaled",
        "Retain, the default, or Delete: whether the claims of pods that are scaled away go.",
    ),
    implemented(
        "spec.volumeClaimTemplates",
        "Claims that each pod gets of its own, named TEMPLATE-SET-NUMBER. Cannot change.",
    ),
    implemented(
        "spec.volumeClaimTemplates[*].metadata",
        "The name by which containers mount the claim.",
    ),
    implemented(
        "spec.volumeClaimTemplates[*].metadata.name",
        "The name by which containers mount the claim.",
    ),
    implemented("spec.volumeClaimTemplates[*].metadata.labels", "Labels of the claims."),
    implemented(
        "spec.volumeClaimTemplates[*].metadata.annotations",
        "Annotations of the claims.",
    ),
    harmless("spec.volumeClaimTemplates[*].apiVersion", "v1, whatever stands here."),
    harmless(
        "spec.volumeClaimTemplates[*].kind",
        "PersistentVolumeClaim, whatever stands here.",
    ),
    harmless("spec.volumeClaimTemplates[*].status", "A new claim has none."),
];

pub(super) const AUTOSCALER: &[Field] = &[
    implemented(
        "spec.scaleTargetRef",
        "What is scaled: a Deployment, ReplicaSet, StatefulSet or ReplicationController. Its replicas belong to the autoscaler then.",
    ),
    implemented("spec.minReplicas", "The fewest replicas; 1 if left out."),
    implemented("spec.maxReplicas", "The most replicas."),
    implemented(
        "spec.metrics",
        "What to go by; the metric that needs the most replicas counts. 80 percent of the requested CPU if left out.",
    ),
    implemented("spec.metrics[*].type", "Resource or ContainerResource."),
    implemented(
        "spec.metrics[*].resource",
        "CPU or memory of the whole pod: percent of what is requested, or an average amount.",
    ),
    implemented(
        "spec.metrics[*].containerResource",
        "CPU or memory of one container of each pod: percent of what is requested, or an average amount.",
    ),
    refused(
        "spec.metrics[*].pods",
        "there are no custom metrics: use a metric of the type Resource or ContainerResource",
        &[],
    ),
    refused(
        "spec.metrics[*].object",
        "there are no metrics of other objects: use a metric of the type Resource or ContainerResource",
        &[],
    ),
    refused(
        "spec.metrics[*].external",
        "there are no external metrics: use a metric of the type Resource or ContainerResource",
        &[],
    ),
    implemented(
        "spec.behavior",
        "How fast to scale up and down: policies, stabilization windows (300 s down, none up if left out) and tolerance (10 %).",
    ),
];

pub(super) const DISRUPTION_BUDGET: &[Field] = &[
    implemented(
        "spec.selector",
        "The pods that it is about; an empty one is about all of the namespace.",
    ),
    implemented(
        "spec.minAvailable",
        "How many of the pods, or which share, must stay healthy when pods are evicted.",
    ),
    implemented(
        "spec.maxUnavailable",
        "How many of the pods, or which share, may be away when pods are evicted.",
    ),
    implemented(
        "spec.unhealthyPodEvictionPolicy",
        "Whether pods that are not ready may always be evicted (AlwaysAllow), or only while enough others are healthy (IfHealthyBudget, the default).",
    ),
];
