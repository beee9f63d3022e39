//! The compact copy of the cluster that the scheduler decides on, kept change by change.
//!
//! What a plan decides is taken as done here at once, so that the next decision counts with it. What
//! the store has not confirmed by the next plan did not happen, and is taken back.

use std::{borrow::Cow, sync::Arc, time::Duration};

use rustc_hash::{FxHashMap, FxHashSet};
use schemas::{Kind, Object, Uid, priority::Priorities};

use super::{
    board::{Board, started},
    budgets::Budgets,
    class::Class,
    group::GroupId,
    node::Facts,
    topology::NOWHERE,
    volumes::Volumes,
    waiting::Queue,
};
use crate::pods;

/// About so many nodes are kept in all classes together; the classes that were used last.
const PLACES: usize = 1_200_000;
/// So many classes are kept, however many nodes there are.
const CLASSES: usize = 16;

/// All nodes, the pods on them, the pods that wait, and what else decides where they go.
#[derive(Debug, Default)]
pub struct Cluster {
    pub(super) board: Board,
    pub(super) queue: Queue,
    pub(super) budgets: Budgets,
    pub(super) volumes: Volumes,
    pub(super) outstanding: Vec<Outstanding>,
    /// Pods whose place was decided and is not confirmed yet.
    pub(super) held: FxHashSet<u32>,
    /// How much of the board's log was considered for pods that wait.
    pub(super) considered: u64,
    /// Counts plans.
    pub(super) rounds: u64,
    pub(super) had_node: bool,
    /// Labels of namespaces changed since pods were last considered.
    pub(super) spaces_changed: bool,
    priorities: Priorities,
    classes: FxHashMap<GroupId, Class>,
    by_uid: FxHashMap<Uid, u32>,
    uses: u64,
}

/// Something that was decided and is not confirmed yet.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) pod: Arc<Object>,
    pub(super) what: Decided,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    Bound,
    /// The pod goes, to make room.
    Going,
    /// Room is made for the pod on a node, or nowhere any more.
    Room(Option<Arc<str>>),
    /// The pod's condition says why it waits.
    Said(Arc<str>),
}

impl Cluster {
    /// An empty copy. The seed decides between nodes that are equally good.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            board: Board::seeded(seed),
            ..Self::default()
        }
    }

    /// Whether there is something to decide now.
    #[must_use]
    pub fn has_work(&self, now: Duration) -> bool {
        self.queue.has_ready()
            || self.queue.next_due().is_some_and(|due| due <= now)
            || !self.outstanding.is_empty()
            || (self.queue.has_parked()
                && (self.board.log.behind(self.considered) > 0 || self.volumes.changed || self.spaces_changed))
    }

    /// How many pods wait for a node.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Takes in a node's new state; none: removed.
    pub fn put_node(&mut self, name: &str, node: Option<Arc<Facts>>) {
        self.had_node |= node.is_some();
        self.board.put_node(name, node);
    }

    /// Takes in a namespace's new labels; none: removed.
    pub fn put_namespace(&mut self, name: &str, namespace: Option<&Object>) {
        let labels = namespace.map(|namespace| namespace.meta.labels.as_deref().cloned().unwrap_or_default());
        if self.board.spaces.get(name) == labels.as_ref() {
            return;
        }
        match labels {
            Some(labels) => drop(self.board.spaces.insert(name.into(), labels)),
            None => drop(self.board.spaces.remove(name)),
        }
        // Which pods count may have changed.
        if self.board.groups.concerned().next().is_some() {
            self.classes.clear();
            self.spaces_changed = true;
        }
    }

    /// Takes in a class of priority; none: removed.
    pub fn put_priority(&mut self, name: &str, class: Option<&Object>) {
        self.priorities.put(name, class);
        self.board.groups.forget_read();
    }

    /// Takes in a disruption budget; none: removed.
    pub fn put_budget(&mut self, namespace: &str, name: &str, budget: Option<&Object>) {
        let (board, by_uid) = (&self.board, &self.by_uid);
        let is_gone = |uid: &Uid| {
            let pod = by_uid.get(uid).and_then(|at| board.pod(*at));
            pod.is_none_or(|pod| pod.object.is_deleting())
        };
        self.budgets.put(namespace, name, budget, is_gone);
    }

    /// Takes in a claim, a volume or a storage class; none: removed.
    pub fn put_storage(&mut self, kind: Kind, namespace: &str, name: &str, object: Option<&Object>) {
        self.volumes.put(kind, namespace, name, object);
    }

    /// Takes in a pod's new state; none: removed.
    pub fn put_pod(&mut self, uid: &Uid, pod: Option<&Arc<Object>>) {
        let active = pod.filter(|pod| !pods::is_finished(pod));
        match (self.by_uid.get(uid).copied(), active) {
            (None, None) => {}
            (None, Some(pod)) => self.meet(uid, pod),
            (Some(at), Some(pod)) => self.update(at, pod),
            (Some(at), None) => self.forget(uid, at),
        }
    }

    fn meet(&mut self, uid: &Uid, pod: &Arc<Object>) {
        let asked = match self.board.groups.read(pod, &self.priorities) {
            Ok(asked) => asked,
            Err(error) => {
                // Validation does not let such a pod in.
                tracing::error!(namespace = pod.namespace(), name = pod.name(), %error, "a pod's spec cannot be read");
                return;
            }
        };
        let at = self.board.add_pod(pod.clone(), asked.clone());
        self.volumes.meet(&asked.claims, pod, at);
        self.by_uid.insert(uid.clone(), at);
        self.seat(at);
        self.tell_own_labels();
    }

    fn forget(&mut self, uid: &Uid, at: u32) {
        self.by_uid.remove(uid);
        self.queue.remove(at);
        self.held.remove(&at);
        if let Some(pod) = self.board.pod(at) {
            let namespace = pod.object.namespace().to_owned();
            self.budgets.refund(&namespace, uid);
            self.volumes.forget(&pod.asked.claims, &pod.object, at);
        }
        if let Some(group) = self.board.remove_pod(at) {
            self.classes.remove(&group);
        }
    }

    fn update(&mut self, at: u32, new: &Arc<Object>) {
        let Some(pod) = self.board.pod_mut(at) else { return };
        let old = std::mem::replace(&mut pod.object, new.clone());
        pod.started = started(new);
        let changed = old.body.hash() != new.body.hash()
            || old.meta.labels != new.meta.labels
            || old.meta.owner_references != new.meta.owner_references;
        if changed {
            self.look_again(at, new);
        }
        self.seat(at);
        if changed {
            self.tell_own_labels();
        }
    }

    /// A pod's spec or labels changed: it may be of another group now, and it may fit now.
    fn look_again(&mut self, at: u32, new: &Arc<Object>) {
        let Ok(asked) = self.board.groups.read(new, &self.priorities) else {
            return;
        };
        if let Some(group) = self.board.regroup(at, asked) {
            self.classes.remove(&group);
        }
        if self.queue.contains(at) {
            self.enqueue(at);
        }
    }

    /// From now on labels count that were left aside: all pods are looked at again.
    fn tell_own_labels(&mut self) {
        if !self.board.groups.take_news_of_own_labels() {
            return;
        }
        for at in 0..self.board.pods.len() as u32 {
            let Some(asked) = self.board.pod(at).map(|pod| pod.asked.clone()) else {
                continue;
            };
            self.board.regroup(at, asked);
            if self.queue.contains(at) {
                self.enqueue(at);
            }
        }
        self.classes.clear();
    }

    /// Puts a pod where its object says it is.
    fn seat(&mut self, at: u32) {
        let Some(pod) = self.board.pod(at) else { return };
        let (object, before) = (pod.object.clone(), pod.node);
        let bound = object.node.as_deref();
        if let Some(name) = bound {
            self.had_node = true;
            let node = self.board.place_for(name);
            if before != node {
                self.board.unplace(at);
                // The old place may have been forgotten with its last pod.
                let node = self.board.place_for(name);
                self.board.place(at, node);
            }
            self.queue.remove(at);
        }
        if object.is_deleting() {
            self.board.end(at, true);
            if bound.is_none() {
                self.queue.remove(at);
                self.board.unplace(at);
                self.board.dismiss(at);
            }
            return;
        }
        if bound.is_some() || self.held.contains(&at) {
            return;
        }
        if before != NOWHERE {
            self.board.unplace(at);
        }
        if self.board.pod(at).is_some_and(|pod| pod.asked.foreign) {
            return;
        }
        match nominated(&object).map(|name| self.board.place_for(&name)) {
            Some(node) => self.board.nominate(at, node),
            None => self.board.dismiss(at),
        }
        if !self.queue.contains(at) {
            self.enqueue(at);
        }
    }

    /// Puts a pod into the queue.
    pub(super) fn enqueue(&mut self, at: u32) {
        let Some(pod) = self.board.pod(at) else { return };
        let created = pod.object.meta.creation_timestamp.as_ref();
        let created = created.map_or(i64::MIN, |time| time.0.as_second());
        self.queue.add_again(at, pod.asked.shape.priority, created, pod.group);
    }

    /// Takes back what was decided and not confirmed.
    pub(super) fn settle(&mut self) {
        self.held.clear();
        for Outstanding { pod, what } in std::mem::take(&mut self.outstanding) {
            let Some(at) = self.by_uid.get(&pod.uid()).copied() else {
                continue;
            };
            let Some(now) = self.board.pod(at).map(|pod| pod.object.clone()) else {
                continue;
            };
            match what {
                Decided::Bound if now.node.is_none() => {
                    self.board.unplace(at);
                    if !now.is_deleting() {
                        self.enqueue(at);
                    }
                }
                Decided::Going if !now.is_deleting() => {
                    self.board.end(at, false);
                    self.budgets.refund(now.namespace(), &now.uid());
                }
                Decided::Room(node) if nominated(&now).as_deref() != node.as_deref() => {
                    self.board.dismiss(at);
                    self.queue.retry(at);
                }
                Decided::Said(message) => {
                    let said = pods::condition(&now, "PodScheduled");
                    if said.is_none_or(|it| it["message"] != *message) {
                        self.queue.retry(at);
                    }
                }
                _ => {}
            }
        }
    }

    /// What is worked out for a group, current; it is out of the copy until it is put back.
    pub(super) fn take_class(&mut self, id: GroupId) -> Option<Class> {
        let class = self.classes.remove(&id);
        let current = class.and_then(|mut class| class.catch_up(&self.board).then_some(class));
        match current {
            Some(class) => Some(class),
            None => Some(Class::new(&self.board, self.board.groups.get(id)?)),
        }
    }

    /// The same, if it is there already.
    pub(super) fn known_class(&mut self, id: GroupId) -> Option<Class> {
        let mut class = self.classes.remove(&id)?;
        class.catch_up(&self.board).then_some(class)
    }

    pub(super) fn put_class(&mut self, id: GroupId, mut class: Class) {
        self.uses += 1;
        class.used = self.uses;
        self.classes.insert(id, class);
        let most = CLASSES.max(PLACES / self.board.nodes.len().max(1));
        if self.classes.len() > most {
            let oldest = self.classes.iter().min_by_key(|(_, class)| class.used);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.classes.remove(&oldest);
            }
        }
    }
}

/// The node that room is made for a pod on, by its status.
pub(super) fn nominated(pod: &Object) -> Option<Cow<'_, str>> {
    let name = pod.status.as_ref()?.at("nominatedNodeName")?.text();
    name.filter(|name| !name.is_empty())
}

#[cfg(test)]
impl Cluster {
    /// Panics where what is kept of a class differs from what would be worked out anew.
    pub(super) fn check_classes(&mut self) {
        let ids: Vec<GroupId> = self.classes.keys().copied().collect();
        for id in ids {
            let Some(group) = self.board.groups.get(id) else {
                panic!("group {id} is gone and its class is not")
            };
            let anew = Class::new(&self.board, group);
            let Some(class) = self.known_class(id) else { continue };
            for (node, seat, _) in self.board.seats() {
                assert_eq!(
                    class.described(node),
                    anew.described(node),
                    "{} for {:?} of {:?}",
                    seat.name,
                    class.terms,
                    class.peer
                );
            }
            self.put_class(id, class);
        }
    }
}
