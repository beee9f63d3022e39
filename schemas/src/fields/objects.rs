//! Rows for metadata and for the kinds without a pod's spec of their own.

use super::{Field, harmless, implemented};

/// `metadata` of every kind, with the two fields beside it.
pub(super) const META: &[Field] = &[
    implemented("apiVersion", "The API group and version of the kind."),
    implemented("kind", "The kind of object."),
    implemented("metadata.name", "The name, unique for its kind within the namespace."),
    implemented(
        "metadata.namespace",
        "The namespace. Left out, it is the folder under namespaces/, else default.",
    ),
    implemented("metadata.labels", "Labels, by which selectors and people find objects."),
    implemented("metadata.annotations", "Annotations: notes for tools and people."),
    implemented(
        "metadata.ownerReferences",
        "Objects that this one belongs to and is deleted with.",
    ),
    implemented(
        "metadata.finalizers",
        "Names of those who must finish before the object is gone.",
    ),
    harmless(
        "metadata.generateName",
        "A name wins over it; without one the object is refused.",
    ),
];

pub(super) const NAMESPACE: &[Field] = &[harmless(
    "spec.finalizers",
    "The namespace is emptied before it is gone, whatever stands here.",
)];

pub(super) const CONFIG_MAP: &[Field] = &[
    implemented("data", "Texts by key."),
    implemented("binaryData", "Bytes by key, in base64."),
    implemented("immutable", "Forbids any change of the data."),
];

pub(super) const SECRET: &[Field] = &[
    implemented("data", "Secret bytes by key, in base64."),
    implemented("stringData", "Secret texts by key; written over data."),
    implemented("type", "The type of the secret; Opaque if left out."),
    implemented("immutable", "Forbids any change of the data."),
];

pub(super) const PRIORITY_CLASS: &[Field] = &[
    implemented("value", "The priority of its pods: the higher, the more important."),
    implemented("globalDefault", "Pods that name no class are of this one."),
    implemented(
        "preemptionPolicy",
        "PreemptLowerPriority, the default, or Never: whether less important pods may have to go.",
    ),
    implemented("description", "When to use it, for people."),
];

pub(super) const TEMPLATE: &[Field] = &[
    implemented("", "What the pods are made from. A change of it starts a rollout."),
    implemented("metadata", "Labels and annotations of the pods."),
    implemented("spec", "Containers, volumes and the rest of the pods."),
    implemented("metadata.labels", "Labels of the pods; the selector must match them."),
    implemented("metadata.annotations", "Annotations of the pods."),
    implemented("metadata.finalizers", "Finalizers of the pods."),
    // Validation says so already.
    harmless("metadata.name", "Pods get their names from their owner."),
    harmless("metadata.namespace", "Pods are in the namespace of their owner."),
];

pub(super) const REPLICA_SET: &[Field] = &[
    implemented("spec.replicas", "How many pods there should be; 1 if left out."),
    implemented(
        "spec.minReadySeconds",
        "How long a pod must be ready to count as available; 0 if left out.",
    ),
    implemented(
        "spec.selector",
        "Which pods belong to it. Must match the template's labels and cannot change.",
    ),
];

pub(super) const DEPLOYMENT: &[Field] = &[
    implemented("spec.replicas", "How many pods there should be; 1 if left out."),
    implemented(
        "spec.minReadySeconds",
        "How long a pod must be ready to count as available; 0 if left out.",
    ),
    implemented(
        "spec.selector",
        "Which pods belong to it. Must match the template's labels and cannot change.",
    ),
    implemented("spec.strategy", "How old pods are replaced by new ones."),
    implemented(
        "spec.strategy.type",
        "RollingUpdate, the default, or Recreate: all old pods go first.",
    ),
    implemented(
        "spec.strategy.rollingUpdate",
        "How far a rolling update may go above and below the wanted count.",
    ),
    implemented(
        "spec.strategy.rollingUpdate.maxSurge",
        "How many pods, or which share, there may be above the wanted count; 25% if left out.",
    ),
    implemented(
        "spec.strategy.rollingUpdate.maxUnavailable",
        "How many pods, or which share, may be unavailable; 25% if left out.",
    ),
    implemented(
        "spec.revisionHistoryLimit",
        "How many old ReplicaSets are kept to go back to; 10 if left out.",
    ),
    implemented(
        "spec.progressDeadlineSeconds",
        "After how long without progress the rollout is reported as failed; 600 if left out.",
    ),
    implemented("spec.paused", "Stops rollouts of a new template; scaling goes on."),
];
