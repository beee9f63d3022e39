//! The scheduler: pods that wait are bound to nodes, in batches over a compact copy.
//!
//! Pods of one spec share one look at all nodes: a heap of the nodes that may take them, ordered by
//! score. A placement changes the score of one node, so each further pod costs a logarithm.

pub mod cluster;
pub mod filter;
pub mod resources;
pub mod score;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::PodSpec;
use rustc_hash::FxHashMap;
use schemas::{ContentHash, Now, Object, Part};
use serde_json::json;
use store::{Class, Op, Write};

use crate::{
    plan::{Plan, status_of},
    pods,
    queue::Controller,
};
use cluster::{Facts, Used};
use resources::Request;

/// The only scheduler there is. Pods that ask for another one are left alone.
const NAME: &str = "default-scheduler";

/// Nodes, and the pods to place now.
#[derive(Debug, Default)]
pub struct World {
    pub nodes: Vec<(Arc<Facts>, Used)>,
    pub pods: Vec<Arc<Object>>,
    /// No node has registered in this cluster so far: that pods wait is no cause for warnings.
    pub no_node_yet: bool,
}

/// What was found for pods of one spec.
struct Group {
    request: Request,
    /// Better first: score, fewer pods, name. With the stamp of the node when it was scored.
    heap: BinaryHeap<(i64, Reverse<i64>, Reverse<usize>, u32)>,
    fixed: FxHashMap<usize, i64>,
    /// Why each other node refuses, with the count of nodes.
    refused: BTreeMap<String, usize>,
    /// How much of the log of placements was taken into account.
    seen: usize,
    /// Set once no node fits: later ones of this spec do not fit either.
    message: Option<String>,
}

struct Board<'a> {
    nodes: &'a [(Arc<Facts>, Used)],
    used: Vec<Used>,
    stamps: Vec<u32>,
    /// Nodes that got a pod, in order.
    log: Vec<usize>,
}

/// Places what fits; says of the rest why it does not.
#[must_use]
pub fn plan(world: &World, now: Now) -> Plan {
    let mut plan = Plan::default();
    let mut order: Vec<&Arc<Object>> = world.pods.iter().filter(|pod| is_ours(pod)).collect();
    order.sort_by_cached_key(|pod| {
        let priority = pod.spec::<PodSpec>().ok().and_then(|spec| spec.priority).unwrap_or(0);
        let created = pod.meta.creation_timestamp.as_ref().map(|time| time.0);
        (Reverse(priority), created, pod.key())
    });
    let mut board = Board {
        nodes: &world.nodes,
        used: world.nodes.iter().map(|(_, used)| used.clone()).collect(),
        stamps: vec![0; world.nodes.len()],
        log: Vec::new(),
    };
    let mut groups: FxHashMap<ContentHash, Group> = FxHashMap::default();
    let mut binds = Vec::new();
    let mut parks = Vec::new();
    for pod in order {
        let spec = match pod.spec::<PodSpec>() {
            Ok(spec) => spec,
            Err(error) => {
                plan.wait(pod.key(), "InvalidSpec", error.to_string());
                continue;
            }
        };
        if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
            parks.extend(park(pod, "SchedulingGated", "the pod has scheduling gates", now));
            continue;
        }
        let group = groups.entry(pod.body.hash()).or_insert_with(|| board.group(&spec));
        match board.place(group) {
            Ok(at) => {
                let node = &board.nodes[at].0.name;
                binds.push(bind(pod, node, now));
                let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
                plan.note(Controller::Scheduler.name(), pod, "Scheduled", message);
            }
            Err(message) => {
                plan.wait(pod.key(), "Unschedulable", message.clone());
                if let Some(write) = park(pod, "Unschedulable", &message, now) {
                    parks.push(write);
                    if !world.no_node_yet {
                        plan.warn(Controller::Scheduler.name(), pod, "FailedScheduling", message);
                    }
                }
            }
        }
    }
    plan.writes(Class::Controller, "binding pods to nodes", binds);
    plan.writes(Class::Status, "saying why pods do not fit", parks);
    plan
}

fn is_ours(pod: &Object) -> bool {
    let name = pod.body.at("spec/schedulerName").and_then(Part::word);
    pod.node.is_none() && !pod.is_deleting() && name.is_none_or(|name| name.is_empty() || name == NAME)
}

impl Board<'_> {
    fn group(&self, spec: &PodSpec) -> Group {
        let mut refused = BTreeMap::new();
        let mut open = Vec::new();
        for (at, (facts, _)) in self.nodes.iter().enumerate() {
            match filter::refuses(facts, spec) {
                Some(reason) => *refused.entry(reason).or_insert(0) += 1,
                None => open.push(at),
            }
        }
        let facts: Vec<&Facts> = open.iter().map(|at| &*self.nodes[*at].0).collect();
        let fixed = open.iter().copied().zip(score::fixed(&facts, spec)).collect();
        let mut group = Group {
            request: Request::of(spec),
            heap: BinaryHeap::new(),
            fixed,
            refused,
            seen: self.log.len(),
            message: None,
        };
        let entries: Vec<_> = open.iter().filter_map(|at| self.entry(&group, *at)).collect();
        group.heap = entries.into();
        group
    }

    /// A node's place in the order of a group; none if it is too full.
    fn entry(&self, group: &Group, at: usize) -> Option<(i64, Reverse<i64>, Reverse<usize>, u32)> {
        let (facts, used) = (&self.nodes[at].0, &self.used[at]);
        let fixed = *group.fixed.get(&at)?;
        filter::fits(facts, used, &group.request).then(|| {
            let score = fixed + score::fill(facts, used, &group.request);
            (score, Reverse(used.pods), Reverse(at), self.stamps[at])
        })
    }

    /// Takes the best node for one more pod of the group, or says why there is none.
    fn place(&mut self, group: &mut Group) -> Result<usize, String> {
        if let Some(message) = &group.message {
            return Err(message.clone());
        }
        // What others placed since then has changed the order.
        for at in &self.log[group.seen..] {
            if let Some(entry) = self.entry(group, *at) {
                group.heap.push(entry);
            }
        }
        group.seen = self.log.len();
        while let Some((_, _, Reverse(at), stamp)) = group.heap.pop() {
            if stamp != self.stamps[at] {
                continue;
            }
            self.used[at].add(&group.request);
            self.stamps[at] += 1;
            self.log.push(at);
            return Ok(at);
        }
        let message = self.why_not(group);
        group.message = Some(message.clone());
        Err(message)
    }

    /// The counted reasons, the most frequent first.
    fn why_not(&self, group: &Group) -> String {
        if self.nodes.is_empty() {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut counts = group.refused.clone();
        for at in group.fixed.keys() {
            for reason in filter::shortages(&self.nodes[*at].0, &self.used[*at], &group.request) {
                *counts.entry(reason).or_insert(0) += 1;
            }
        }
        let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
        counts.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        let reasons: Vec<String> = counts
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        format!("0/{} nodes are available: {}.", self.nodes.len(), reasons.join(", "))
    }
}

fn bind(pod: &Object, node: &Arc<str>, now: Now) -> Write {
    let mut status = pod.status_value().unwrap_or_else(|| json!({"phase": "Pending"}));
    let scheduled = json!({
        "type": "PodScheduled", "status": "True",
        "lastTransitionTime": pods::stamp(now.wall),
    });
    pods::set_condition(&mut status, scheduled);
    Write::new(Op::Bind {
        key: pod.key(),
        node: node.clone(),
        status: Some(status.into()),
    })
    .uid(pod.uid())
    .version(pod.version)
}

/// The status of a pod that stays; none if it says so already.
fn park(pod: &Object, reason: &str, message: &str, now: Now) -> Option<Write> {
    let said = pods::condition(pod, "PodScheduled");
    if said.is_some_and(|it| it["status"] == "False" && it["reason"] == reason && it["message"] == message) {
        return None;
    }
    let mut status = pod.status_value().unwrap_or_else(|| json!({"phase": "Pending"}));
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "lastTransitionTime": pods::stamp(now.wall),
    });
    pods::set_condition(&mut status, condition);
    Some(status_of(pod, status))
}

#[cfg(test)]
mod tests;
