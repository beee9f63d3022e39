//! How good a node is for a pod, from 0 to 100 for each rule, times the rule's weight.
//!
//! <https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins>

use k8s_openapi::api::core::v1::PodSpec;
use rustc_hash::FxHashMap;

use super::{
    board::Board,
    filter,
    group::Shape,
    node::{Facts, Used},
    resources::{CPU, MEMORY, Request},
};

/// The most that one rule gives.
pub(super) const FULL: i64 = 100;

pub(super) const TAINTS: i64 = 3;
pub(super) const NODE_AFFINITY: i64 = 2;
pub(super) const SPREAD: i64 = 2;
pub(super) const POD_AFFINITY: i64 = 2;

/// Images below the first size make no difference; what is more than the second for each container
/// makes no further one.
const SMALL_IMAGE: i64 = 23 << 20;
const LARGE_IMAGE: i64 = 1_000 << 20;

/// How many taints that a pod had better not meet a node has.
#[must_use]
pub fn soft_taints(facts: &Facts, spec: &PodSpec) -> i64 {
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    // An empty effect tolerates this one as well.
    let soft = facts.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    soft.filter(|taint| !filter::tolerates(tolerations, taint)).count() as i64
}

/// The sum of the weights of preferred node affinities that hold.
#[must_use]
pub fn preferred(facts: &Facts, spec: &PodSpec) -> i64 {
    let affinity = spec.affinity.as_ref().and_then(|all| all.node_affinity.as_ref());
    let terms = affinity.and_then(|all| all.preferred_during_scheduling_ignored_during_execution.as_ref());
    terms
        .into_iter()
        .flatten()
        .filter(|term| filter::term_holds(&term.preference, facts))
        .map(|term| i64::from(term.weight))
        .sum()
}

/// The part of the score that depends on how full the node would be: rather an emptier one (least
/// allocated), and rather one whose CPU and memory are used alike (balanced).
#[must_use]
pub fn fill(facts: &Facts, used: &Used, request: &Request) -> i64 {
    let has = [facts.allocatable.basic[CPU], facts.allocatable.basic[MEMORY]];
    least_allocated(has, used, request) + balanced(has, used, request)
}

fn least_allocated(has: [i64; 2], used: &Used, request: &Request) -> i64 {
    let (mut sum, mut parts) = (0, 0);
    for (at, has) in has.into_iter().enumerate() {
        if has > 0 {
            let after = used.scored[at] + request.scored[at];
            sum += if after > has { 0 } else { (has - after) * FULL / has };
            parts += 1;
        }
    }
    if parts == 0 { 0 } else { sum / parts }
}

fn balanced(has: [i64; 2], used: &Used, request: &Request) -> i64 {
    let asked = [request.resources.basic[CPU], request.resources.basic[MEMORY]];
    if asked == [0, 0] {
        // A pod that asks for nothing would balance nothing, and all of them would go to one node.
        return 0;
    }
    let taken = [used.resources.basic[CPU], used.resources.basic[MEMORY]];
    let part = |at: usize| ((taken[at] + asked[at]) as f64 / has[at] as f64).min(1.0);
    // The standard deviation of two fractions is half their distance; that of one is nothing.
    let deviation = match has {
        [cpu, memory] if cpu > 0 && memory > 0 => ((part(CPU) - part(MEMORY)) / 2.0).abs(),
        _ => 0.0,
    };
    ((1.0 - deviation) * FULL as f64) as i64
}

/// What nodes get for having a pod's images: more for larger ones, less for those that few nodes
/// have, so that pods do not crowd where an image happens to be.
pub(super) fn images(board: &Board, shape: &Shape) -> FxHashMap<u32, i64> {
    let mut sums: FxHashMap<u32, i64> = FxHashMap::default();
    for image in &shape.images {
        let Some(state) = board.images.get(image) else { continue };
        let part = state.nodes.len() as f64 / board.known().max(1) as f64;
        for (node, size) in &state.nodes {
            *sums.entry(*node).or_insert(0) += (*size as f64 * part) as i64;
        }
    }
    let most = LARGE_IMAGE * shape.images.len().max(1) as i64;
    sums.retain(|_, sum| {
        *sum = FULL * ((*sum).clamp(SMALL_IMAGE, most) - SMALL_IMAGE) / (most - SMALL_IMAGE);
        *sum > 0
    });
    sums
}

/// When the images of a pod last changed anywhere.
pub(super) fn images_changed(board: &Board, shape: &Shape) -> u64 {
    let states = shape.images.iter().filter_map(|image| board.images.get(image));
    states.map(|state| state.changed).max().unwrap_or(0)
}

/// A count in relation to the highest one.
pub(super) fn relative(count: i64, most: i64) -> i64 {
    if most == 0 { 0 } else { FULL * count / most }
}

/// The raw spread of one constraint: fewer pods are better, and domains weigh more the more of them
/// there are.
pub(super) fn spread_part(count: i64, max_skew: i64, domains: usize) -> f64 {
    count as f64 * ((domains + 2) as f64).ln() + (max_skew - 1) as f64
}

/// A raw spread in relation to the lowest and the highest one.
pub(super) fn spread(raw: i64, least: i64, most: i64) -> i64 {
    if most == 0 {
        FULL
    } else {
        FULL * (most + least - raw) / most
    }
}

/// The pull of other pods in relation to the weakest and the strongest one.
pub(super) fn pull(raw: i64, least: i64, most: i64) -> i64 {
    if most == least {
        0
    } else {
        (FULL as f64 * ((raw - least) as f64 / (most - least) as f64)) as i64
    }
}
