//! Which nodes a pod may go to by what it and the node say, apart from how full the node is.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};
use schemas::labels::TAINT_UNSCHEDULABLE;

use super::{cluster::Facts, resources::Request};
use crate::scheduler::cluster::Used;

/// Why a node does not take a pod; none if it may.
#[must_use]
pub fn refuses(facts: &Facts, spec: &PodSpec) -> Option<String> {
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    if facts.unschedulable {
        let taint = Taint {
            key: TAINT_UNSCHEDULABLE.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        if !tolerates(tolerations, &taint) {
            return Some("node(s) were unschedulable".to_owned());
        }
    }
    let hard = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    let mut taints = facts
        .taints
        .iter()
        .filter(hard)
        .filter(|taint| taint.key != TAINT_UNSCHEDULABLE);
    if let Some(taint) = taints.find(|taint| !tolerates(tolerations, taint)) {
        let value = taint.value.as_deref().unwrap_or("");
        return Some(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key));
    }
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
    let wanted = required.is_none_or(|any| any.node_selector_terms.iter().any(|term| term_holds(term, facts)));
    if !selected || !wanted {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    None
}

/// Every reason why a node is too full for a pod now; empty when it fits.
#[must_use]
pub fn shortages(facts: &Facts, used: &Used, request: &Request) -> Vec<String> {
    let mut short = Vec::new();
    if used.pods + 1 > facts.pods {
        short.push("Too many pods".to_owned());
    }
    let (asked, has, taken) = (&request.resources, &facts.allocatable, &used.resources);
    let mut check = |name: &str, asked: i64, has: i64, taken: i64| {
        if asked > 0 && asked > has - taken {
            short.push(format!("Insufficient {name}"));
        }
    };
    check("cpu", asked.cpu, has.cpu, taken.cpu);
    check("memory", asked.memory, has.memory, taken.memory);
    check("ephemeral-storage", asked.ephemeral, has.ephemeral, taken.ephemeral);
    for (name, amount) in &asked.extended {
        let of = |all: &BTreeMap<String, i64>| all.get(name).copied().unwrap_or(0);
        check(name, *amount, of(&has.extended), of(&taken.extended));
    }
    if !used.has_ports_for(request) {
        short.push("node(s) didn't have free ports for the requested pod ports".to_owned());
    }
    short
}

/// The same, as a yes or no, without words.
#[must_use]
pub fn fits(facts: &Facts, used: &Used, request: &Request) -> bool {
    let (asked, has, taken) = (&request.resources, &facts.allocatable, &used.resources);
    let enough = |asked: i64, has: i64, taken: i64| asked <= 0 || asked <= has - taken;
    used.pods < facts.pods
        && enough(asked.cpu, has.cpu, taken.cpu)
        && enough(asked.memory, has.memory, taken.memory)
        && enough(asked.ephemeral, has.ephemeral, taken.ephemeral)
        && asked.extended.iter().all(|(name, amount)| {
            let of = |all: &BTreeMap<String, i64>| all.get(name).copied().unwrap_or(0);
            enough(*amount, of(&has.extended), of(&taken.extended))
        })
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
