//! How good a node is for a pod, from 0 to 100 for each rule, times the rule's weight.
//!
//! <https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins>

use k8s_openapi::api::core::v1::PodSpec;

use super::{
    cluster::{Facts, Used},
    filter,
    resources::Request,
};

const TAINTS: i64 = 3;
const NODE_AFFINITY: i64 = 2;

/// The part of a node's score that does not change as pods are placed, for all nodes that may take
/// the pod.
#[must_use]
pub fn fixed(nodes: &[&Facts], spec: &PodSpec) -> Vec<i64> {
    let soft: Vec<i64> = nodes.iter().map(|facts| soft_taints(facts, spec)).collect();
    let liked: Vec<i64> = nodes.iter().map(|facts| preferred(facts, spec)).collect();
    let most_soft = soft.iter().copied().max().unwrap_or(0);
    let most_liked = liked.iter().copied().max().unwrap_or(0);
    let of = |part: i64, most: i64| if most == 0 { 0 } else { part * 100 / most };
    let scores = soft.iter().zip(&liked);
    scores
        .map(|(soft, liked)| TAINTS * (100 - of(*soft, most_soft)) + NODE_AFFINITY * of(*liked, most_liked))
        .collect()
}

fn soft_taints(facts: &Facts, spec: &PodSpec) -> i64 {
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let soft = facts.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    soft.filter(|taint| !filter::tolerates(tolerations, taint)).count() as i64
}

fn preferred(facts: &Facts, spec: &PodSpec) -> i64 {
    let terms = spec
        .affinity
        .iter()
        .filter_map(|affinity| affinity.node_affinity.as_ref())
        .flat_map(|affinity| {
            affinity
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
        });
    terms
        .filter(|term| filter::term_holds(&term.preference, facts))
        .map(|term| i64::from(term.weight))
        .sum()
}

/// The part that depends on how full the node would be: rather an emptier one (least allocated), and
/// rather one whose CPU and memory are used alike (balanced).
#[must_use]
pub fn fill(facts: &Facts, used: &Used, request: &Request) -> i64 {
    let after = |has: i64, taken: i64, asked: i64| -> f64 {
        if has <= 0 {
            return 1.0;
        }
        ((taken + asked) as f64 / has as f64).min(1.0)
    };
    let cpu = after(facts.allocatable.cpu, used.scored.0, request.scored.0);
    let memory = after(facts.allocatable.memory, used.scored.1, request.scored.1);
    let least = (100.0 - (cpu + memory) * 50.0).round() as i64;
    // The standard deviation of two fractions is half their distance.
    let balanced = (100.0 - (cpu - memory).abs() * 50.0).round() as i64;
    least + balanced
}
