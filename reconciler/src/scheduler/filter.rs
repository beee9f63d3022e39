//! Which nodes a pod may go to by what it and the node say, and whether a node has room for it.

use std::fmt;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};
use schemas::labels::TAINT_UNSCHEDULABLE;

use super::{
    node::{Facts, Used},
    resources::{BASIC, Request},
};

/// Why a node does not take a pod, however empty it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal<'a> {
    Unschedulable,
    Taint(&'a Taint),
    Affinity,
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unschedulable => f.write_str("node(s) were unschedulable"),
            Self::Taint(taint) => {
                let value = taint.value.as_deref().unwrap_or("");
                write!(f, "node(s) had untolerated taint {{{}: {value}}}", taint.key)
            }
            Self::Affinity => f.write_str("node(s) didn't match Pod's node affinity/selector"),
        }
    }
}

/// Why a node does not take a pod; none if it may.
#[must_use]
pub fn refuses<'a>(facts: &'a Facts, spec: &PodSpec) -> Option<Refusal<'a>> {
    if facts.unschedulable && !tolerates_cordon(spec) {
        return Some(Refusal::Unschedulable);
    }
    if let Some(taint) = untolerated(facts, spec) {
        return Some(Refusal::Taint(taint));
    }
    (!selects(facts, spec)).then_some(Refusal::Affinity)
}

/// Whether a pod goes to a node that is cordoned.
#[must_use]
pub fn tolerates_cordon(spec: &PodSpec) -> bool {
    let taint = Taint {
        key: TAINT_UNSCHEDULABLE.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    tolerates(spec.tolerations.as_deref().unwrap_or_default(), &taint)
}

/// The first taint that keeps a pod away.
#[must_use]
pub fn untolerated<'a>(facts: &'a Facts, spec: &PodSpec) -> Option<&'a Taint> {
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    facts
        .taints
        .iter()
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .find(|taint| !tolerates(tolerations, taint))
}

/// Whether the pod's node selector and its required node affinity hold.
#[must_use]
pub fn selects(facts: &Facts, spec: &PodSpec) -> bool {
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| facts.labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|any| any.node_selector_terms.iter().any(|term| term_holds(term, facts)))
}

/// Why a node is too full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub reason: String,
    /// The node would be too small even if it were empty.
    pub for_good: bool,
}

/// Every reason why a node is too full for a pod now; empty when it fits. Ports come first and alone.
#[must_use]
pub fn shortages(facts: &Facts, used: &Used, request: &Request) -> Vec<Shortage> {
    let mut short = Vec::new();
    let mut add = |reason: String, for_good| short.push(Shortage { reason, for_good });
    if !used.has_ports_for(request) {
        add(PORTS.to_owned(), false);
        return short;
    }
    if used.pods >= facts.pods {
        add("Too many pods".to_owned(), false);
    }
    let basic = BASIC.iter().enumerate().map(|(at, name)| {
        let of = |all: &[i64; BASIC.len()]| all[at];
        let (asked, has) = (of(&request.resources.basic), of(&facts.allocatable.basic));
        (*name, asked, has, of(&used.resources.basic))
    });
    let extended = request.resources.extended.iter().map(|(name, asked)| {
        let name: &str = name;
        (
            name,
            *asked,
            facts.allocatable.extended(name),
            used.resources.extended(name),
        )
    });
    for (name, asked, has, taken) in basic.chain(extended) {
        if asked > 0 && asked > has - taken {
            add(format!("Insufficient {name}"), asked > has);
        }
    }
    short
}

pub(super) const PORTS: &str = "node(s) didn't have free ports for the requested pod ports";

/// The same, as a yes or no, without words.
#[must_use]
pub fn fits(facts: &Facts, used: &Used, request: &Request) -> bool {
    let (asked, has, taken) = (&request.resources, &facts.allocatable, &used.resources);
    used.pods < facts.pods
        && (0..BASIC.len()).all(|at| asked.basic[at] <= 0 || asked.basic[at] <= has.basic[at] - taken.basic[at])
        && asked
            .extended
            .iter()
            .all(|(name, amount)| *amount <= 0 || *amount <= has.extended(name) - taken.extended(name))
        && used.has_ports_for(request)
}

/// Whether any of the tolerations matches the taint.
#[must_use]
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| matches(toleration, taint))
}

/// Whether this toleration matches the taint.
#[must_use]
pub fn matches(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or("");
    let key = toleration.key.as_deref().unwrap_or("");
    let value = toleration.value.as_deref().unwrap_or("");
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => key.is_empty() || key == taint.key,
        _ => key == taint.key && value == taint.value.as_deref().unwrap_or(""),
    }
}

/// Whether a term of a node selector holds for a node. An empty one never does.
#[must_use]
pub fn term_holds(term: &NodeSelectorTerm, facts: &Facts) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let by_label = |it: &NodeSelectorRequirement| holds(it, facts.labels.get(&it.key).map(String::as_str));
    let by_field = |it: &NodeSelectorRequirement| it.key == "metadata.name" && holds(it, Some(&facts.name));
    expressions.iter().all(by_label) && fields.iter().all(by_field)
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
    let order = || {
        let bound: i64 = values.first()?.parse().ok()?;
        Some(value?.parse::<i64>().ok()?.cmp(&bound))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => order().is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => order().is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}
