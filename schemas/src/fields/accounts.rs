//! Rows for quotas.

use super::{Field, implemented};

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
