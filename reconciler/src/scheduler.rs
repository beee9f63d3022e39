//! The scheduler: pods that wait are bound to nodes, in batches over a compact copy.
//!
//! The copy ([`cluster::Cluster`]) follows every change of nodes and pods. Pods that are alike form a
//! group, and what decides about a group is worked out once ([`class`]): which nodes may take one and
//! how good each is. Each placement is a move that later decisions catch up with, so that a pod costs
//! a few comparisons, however many nodes there are. A decision depends on the copy and on nothing
//! else: the same input gives the same plan.

mod board;
mod budgets;
mod choose;
mod class;
pub mod cluster;
mod counter;
mod decide;
pub(crate) mod desk;
pub mod filter;
mod group;
mod hunt;
mod message;
pub mod node;
mod preempt;
pub mod resources;
pub mod score;
mod terms;
mod topology;
mod volumes;
mod waiting;
mod wake;

use std::time::Duration;

use schemas::{
    Now, Object,
    deletion::{self, DeleteOptions, Deletion},
};
use serde_json::{Value, json};
use store::{Class, Op, Write};

use crate::{
    plan::{Plan, status_of},
    pods,
    queue::Controller,
};
use cluster::Cluster;
use decide::{Round, Said};

/// The only scheduler there is. Pods that ask for another one are left alone.
const NAME: &str = "default-scheduler";
/// Why a pod goes that had to make room.
const PREEMPTED: &str = "PreemptionByScheduler";
/// The reason of events that tell of a pod that got its node.
pub(crate) const SCHEDULED: &str = "Scheduled";
/// At most so many pods are decided in one plan: important ones that come meanwhile wait no longer.
const BATCH: usize = 1_000;

/// Places what fits, makes room for what is important enough, and says of the rest why it waits.
///
/// What it decides counts in `cluster` at once. By the next plan `cluster` must have been told what
/// came of it; what it was not told of did not happen.
#[must_use]
pub fn plan(cluster: &mut Cluster, now: Now) -> Plan {
    let mut plan = Plan::default();
    let mut round = Round::default();
    cluster.rounds += 1;
    cluster.settle();
    cluster.wake(now.monotonic);
    cluster.queue.advance(now.monotonic);
    for _ in 0..BATCH {
        let Some(pod) = cluster.queue.next() else { break };
        cluster.decide(pod, &mut round, now);
    }
    cluster.await_said(&round);
    cluster.board.trim();
    bind(&mut plan, &round, now);
    send_away(&mut plan, &round, now);
    say(&mut plan, &round, !cluster.had_node, now);
    if cluster.queue.has_ready() {
        plan.look_again(Duration::ZERO);
    } else if let Some(due) = cluster.queue.next_due() {
        plan.look_again(due.saturating_sub(now.monotonic));
    }
    plan
}

fn bind(plan: &mut Plan, round: &Round, now: Now) {
    let mut writes = Vec::with_capacity(round.binds.len());
    for (pod, node) in &round.binds {
        let mut status = status(pod);
        let scheduled = json!({
            "type": "PodScheduled", "status": "True",
            "lastTransitionTime": pods::stamp(now.wall),
        });
        pods::set_condition(&mut status, scheduled);
        if let Some(status) = status.as_object_mut() {
            status.remove("nominatedNodeName");
        }
        let op = Op::Bind {
            key: pod.key(),
            node: node.clone(),
            status: Some(status.into()),
        };
        writes.push(Write::new(op).uid(pod.uid()).version(pod.version));
        let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
        plan.note(Controller::Scheduler.name(), pod, SCHEDULED, message);
    }
    plan.writes(Class::Controller, "binding pods to nodes", writes);
}

/// Deletes pods that have to make room, as gracefully as any other, and says so in their status.
fn send_away(plan: &mut Plan, round: &Round, now: Now) {
    let mut writes = Vec::new();
    for (pod, preemptor, node) in &round.victims {
        let mut status = status(pod);
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": PREEMPTED,
            "message": format!("{NAME}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": pods::stamp(now.wall),
        });
        pods::set_condition(&mut status, condition);
        let op = match deletion::plan(pod, &DeleteOptions::default(), now) {
            Deletion::Mark(object) => Op::Retire {
                object,
                status: status.into(),
            },
            Deletion::Remove => Op::Remove { key: pod.key() },
            Deletion::Nothing | Deletion::Refused(_) => continue,
        };
        writes.push(Write::new(op).uid(pod.uid()).version(pod.version));
        let message = format!("Preempted by pod {} on node {node}", preemptor.uid());
        plan.note(Controller::Scheduler.name(), pod, "Preempted", message);
    }
    plan.writes(Class::Controller, "making room for more important pods", writes);
}

fn say(plan: &mut Plan, round: &Round, no_node_yet: bool, now: Now) {
    let mut writes = Vec::new();
    for said in round.said.values() {
        if let Some((word, message)) = &said.why {
            plan.wait(said.pod.key(), word, &**message);
        }
        let Some(write) = told(said, now) else { continue };
        writes.push(write);
        // While the first node is yet to come, that pods wait is no cause for warnings.
        if let Some(("Unschedulable", message)) = &said.why
            && !no_node_yet
        {
            plan.warn(Controller::Scheduler.name(), &said.pod, "FailedScheduling", &**message);
        }
    }
    plan.writes(Class::Status, "saying why pods wait", writes);
}

/// The status of a pod that stays; none if it says so already.
fn told(said: &Said, now: Now) -> Option<Write> {
    let pod = &*said.pod;
    let mut status = status(pod);
    if let Some((reason, message)) = &said.why {
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": &**message,
            "lastTransitionTime": pods::stamp(now.wall),
        });
        pods::set_condition(&mut status, condition);
    }
    if let Some(status) = status.as_object_mut() {
        match &said.nominated {
            Some(node) => drop(status.insert("nominatedNodeName".to_owned(), Value::String(node.to_string()))),
            None => drop(status.remove("nominatedNodeName")),
        }
    }
    (pod.status != Some((&status).into())).then(|| status_of(pod, status))
}

fn status(pod: &Object) -> Value {
    pod.status_value().unwrap_or_else(|| json!({"phase": "Pending"}))
}

#[cfg(test)]
mod tests;
