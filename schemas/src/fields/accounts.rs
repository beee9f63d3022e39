//! Rows for service accounts, quotas and ranges of limits.

use super::{Field, harmless, implemented};

pub(super) const QUOTA: &[Field] = &[
    implemented("spec", "What is limited, and for which pods."),
    implemented(
        "spec.hard",
        "The most of each: pods, requests.cpu, limits.memory, configmaps, count/deployments.apps and the like.",
    ),
    implemented(
        "spec.scopes",
        "The pods that count: BestEffort, NotBestEffort, Terminating, NotTerminating or PriorityClass.",
    ),
    implemented(
        "spec.scopeSelector",
        "The pods that count, by their scopes and classes.",
    ),
];

pub(super) const RANGE: &[Field] = &[
    implemented("spec", "What a container, a pod or a claim may ask for."),
    implemented(
        "spec.limits",
        "The least and the most, by type, and what is meant where nothing is said.",
    ),
    implemented("spec.limits[*].type", "Container, Pod or PersistentVolumeClaim."),
    implemented("spec.limits[*].default", "Limits of containers that have none."),
    implemented(
        "spec.limits[*].defaultRequest",
        "Requests of containers that have none.",
    ),
    implemented("spec.limits[*].min", "The least that must be asked for."),
    implemented("spec.limits[*].max", "The most that may be asked for."),
    implemented(
        "spec.limits[*].maxLimitRequestRatio",
        "How far a limit may be above its request.",
    ),
];

pub(super) const ACCOUNT: &[Field] = &[
    implemented(
        "automountServiceAccountToken",
        "Whether pods get a token, unless they say so themselves; true if left out.",
    ),
    implemented(
        "imagePullSecrets",
        "Secrets with credentials for registries, for pods that name none.",
    ),
    harmless(
        "secrets",
        "Tokens are made when they are asked for, and kept in no Secret.",
    ),
];
