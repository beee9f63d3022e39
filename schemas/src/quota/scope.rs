//! Which pods a quota is about.

use k8s_openapi::api::core::v1::{ResourceQuotaSpec, ScopedResourceSelectorRequirement};

use super::pod::is_best_effort;
use crate::{Object, Part};

/// One condition; a quota is about the pods that meet all of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    BestEffort(bool),
    /// Pods that end by themselves at a deadline.
    Terminating(bool),
    /// Pods whose class is one of these, or (false) none of these.
    Class(bool, Vec<String>),
    HasClass(bool),
    /// A scope that is not known: nothing is in it.
    Nothing,
}

impl Scope {
    pub(super) fn all(spec: &ResourceQuotaSpec) -> Vec<Self> {
        let plain = spec.scopes.iter().flatten().map(|name| Self::of(name, "Exists", &[]));
        let chosen = spec
            .scope_selector
            .iter()
            .flat_map(|selector| selector.match_expressions.iter().flatten());
        let chosen = chosen.map(|it: &ScopedResourceSelectorRequirement| {
            Self::of(&it.scope_name, &it.operator, it.values.as_deref().unwrap_or_default())
        });
        plain.chain(chosen).collect()
    }

    fn of(name: &str, operator: &str, values: &[String]) -> Self {
        match (name, operator) {
            ("BestEffort", "Exists") => Self::BestEffort(true),
            ("NotBestEffort", "Exists") => Self::BestEffort(false),
            ("Terminating", "Exists") => Self::Terminating(true),
            ("NotTerminating", "Exists") => Self::Terminating(false),
            ("PriorityClass", "In") => Self::Class(true, values.to_vec()),
            ("PriorityClass", "NotIn") => Self::Class(false, values.to_vec()),
            ("PriorityClass", "Exists") => Self::HasClass(true),
            ("PriorityClass", "DoesNotExist") => Self::HasClass(false),
            _ => Self::Nothing,
        }
    }

    pub(super) fn covers(&self, pod: &Object) -> bool {
        let class = || {
            let class = pod.body.at("spec/priorityClassName").and_then(Part::text);
            class.filter(|class| !class.is_empty())
        };
        match self {
            Self::BestEffort(wanted) => is_best_effort(pod) == *wanted,
            Self::Terminating(wanted) => pod.body.at("spec/activeDeadlineSeconds").is_some() == *wanted,
            Self::Class(wanted, names) => {
                class().is_some_and(|class| names.iter().any(|name| *name == class)) == *wanted
            }
            Self::HasClass(wanted) => class().is_some() == *wanted,
            Self::Nothing => false,
        }
    }
}
