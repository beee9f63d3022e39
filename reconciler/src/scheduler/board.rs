//! The nodes and the pods on them, kept current move by move.
//!
//! Every move goes into a log. Who has computed something from the board catches up by reading what
//! is new in the log, and not by looking at all nodes again.

use std::{
    borrow::Cow,
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use rustc_hash::FxHashMap;
use schemas::Object;

use super::{
    group::{Asked, GroupId, Groups, Shape},
    node::{Facts, Used},
    resources::Request,
    terms::Spaces,
    topology::{NOWHERE, Topology},
};

/// How many bits of a node's name decide between nodes that are equally good.
pub(super) const TIE_BITS: u32 = 40;
/// The log keeps at least this many moves.
const KEPT: usize = 4_096;

/// One node. Pods can name a node that is not there (yet): it has no facts then.
#[derive(Debug, Default)]
pub(super) struct Seat {
    pub(super) name: Arc<str>,
    pub(super) facts: Option<Arc<Facts>>,
    pub(super) used: Used,
    pub(super) pods: Vec<u32>,
    /// Pods that room is being made for here.
    pub(super) nominated: Vec<Nominated>,
    /// Decides between nodes that are equally good.
    pub(super) tie: u64,
}

/// A pod that room is being made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nominated {
    pub(super) pod: u32,
    pub(super) group: GroupId,
    pub(super) priority: i32,
}

/// One pod that has not finished.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) object: Arc<Object>,
    pub(super) asked: Arc<Asked>,
    pub(super) group: GroupId,
    /// [`NOWHERE`] while it waits.
    pub(super) node: u32,
    pub(super) nominated: u32,
    pub(super) ending: bool,
    /// When it started, in seconds since 1970; the end of time where it has not.
    pub(super) started: i64,
}

/// When a pod started, by its status.
pub(super) fn started(pod: &Object) -> i64 {
    let text = pod.status.as_ref().and_then(|status| status.at("startTime")?.text());
    let time = text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    time.map_or(i64::MAX, jiff::Timestamp::as_second)
}

/// What happened on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// Labels, taints or what it offers; or it came or went.
    Node,
    Arrived,
    /// Whether it was being deleted.
    Left {
        ending: bool,
    },
    /// A pod is being deleted (or not, after all).
    Ending(bool),
    /// Room is being made for a pod of this priority (or not any more).
    Nominated(i32),
    Dismissed(i32),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) node: u32,
    pub(super) group: GroupId,
    pub(super) what: Move,
}

/// The newest moves.
#[derive(Debug, Default)]
pub(super) struct Log {
    first: u64,
    events: VecDeque<Event>,
}

impl Log {
    /// The place behind the newest move.
    pub(super) fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The moves from a place on; none if they are not kept any more.
    pub(super) fn since(&self, place: u64) -> Option<impl Iterator<Item = Event> + '_> {
        let skip = usize::try_from(place.checked_sub(self.first)?).ok()?;
        Some(self.events.range(skip.min(self.events.len())..).copied())
    }

    /// How many moves are new since a place.
    pub(super) fn behind(&self, place: u64) -> u64 {
        self.end().saturating_sub(place)
    }

    fn add(&mut self, event: Event) {
        self.events.push_back(event);
    }

    fn trim(&mut self, keep: usize) {
        while self.events.len() > keep {
            self.events.pop_front();
            self.first += 1;
        }
    }
}

/// Which nodes have an image.
#[derive(Debug, Default)]
pub(super) struct ImageState {
    pub(super) nodes: FxHashMap<u32, i64>,
    /// When this last changed, counted in changes of images.
    pub(super) changed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) nodes: Vec<Seat>,
    pub(super) pods: Vec<Option<Pod>>,
    pub(super) topology: Topology,
    pub(super) groups: Groups,
    pub(super) spaces: Spaces,
    pub(super) log: Log,
    pub(super) images: FxHashMap<Arc<str>, ImageState>,
    by_name: FxHashMap<Arc<str>, u32>,
    free_nodes: Vec<u32>,
    free_pods: Vec<u32>,
    known: usize,
    image_changes: u64,
    seed: u64,
}

impl Board {
    pub(super) fn seeded(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// How many nodes there are.
    pub(super) fn known(&self) -> usize {
        self.known
    }

    /// All nodes that are there.
    pub(super) fn seats(&self) -> impl Iterator<Item = (u32, &Seat, &Facts)> {
        (0..).zip(&self.nodes).filter_map(|(at, seat)| {
            let facts = seat.facts.as_deref()?;
            Some((at, seat, facts))
        })
    }

    pub(super) fn seat(&self, node: u32) -> Option<(&Seat, &Facts)> {
        let seat = self.nodes.get(node as usize)?;
        Some((seat, seat.facts.as_deref()?))
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(super) fn pod(&self, at: u32) -> Option<&Pod> {
        self.pods.get(at as usize)?.as_ref()
    }

    pub(super) fn pod_mut(&mut self, at: u32) -> Option<&mut Pod> {
        self.pods.get_mut(at as usize)?.as_mut()
    }

    /// What counts as used of a node for a pod of this priority: pods that are at least as important
    /// and have room made for them count, too.
    pub(super) fn used_for<'a>(&self, seat: &'a Seat, priority: i32) -> Cow<'a, Used> {
        let counted = seat.nominated.iter().filter(|it| it.priority >= priority);
        let mut used = Cow::Borrowed(&seat.used);
        for nominated in counted {
            if let Some(pod) = self.pod(nominated.pod) {
                used.to_mut().add(&pod.asked.shape.request);
            }
        }
        used
    }

    /// The place for a name: that of the node, or a new one.
    pub(super) fn place_for(&mut self, name: &str) -> u32 {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let mut hasher = DefaultHasher::new();
        (self.seed, name).hash(&mut hasher);
        let seat = Seat {
            name: name.into(),
            tie: hasher.finish() >> (u64::BITS - TIE_BITS),
            ..Seat::default()
        };
        let name = seat.name.clone();
        let at = match self.free_nodes.pop() {
            Some(at) => {
                self.nodes[at as usize] = seat;
                at
            }
            None => {
                self.nodes.push(seat);
                // Four billion nodes would not fit into memory.
                u32::try_from(self.nodes.len() - 1).unwrap_or(NOWHERE)
            }
        };
        self.by_name.insert(name, at);
        at
    }

    /// Takes in a node's new state (none: removed); true if it changed.
    pub(super) fn put_node(&mut self, name: &str, facts: Option<Arc<Facts>>) -> bool {
        if facts.is_none() && !self.by_name.contains_key(name) {
            return false;
        }
        let at = self.place_for(name);
        let seat = &mut self.nodes[at as usize];
        if seat.facts == facts {
            return false;
        }
        let labels = facts.as_ref().map(|facts| &facts.labels);
        self.topology.put(at, labels);
        let old = std::mem::replace(&mut seat.facts, facts);
        self.known = self.known + usize::from(seat.facts.is_some()) - usize::from(old.is_some());
        let images = |facts: &Option<Arc<Facts>>| facts.as_ref().map_or_else(Vec::new, |facts| facts.images.clone());
        let (before, after) = (images(&old), images(&seat.facts));
        if before != after {
            self.put_images(at, &before, &after);
        }
        self.note(at, 0, Move::Node);
        self.tidy(at);
        true
    }

    fn put_images(&mut self, node: u32, before: &[(Arc<str>, i64)], after: &[(Arc<str>, i64)]) {
        self.image_changes += 1;
        for (name, _) in before.iter().filter(|it| !after.contains(it)) {
            if let Some(state) = self.images.get_mut(name) {
                state.nodes.remove(&node);
                state.changed = self.image_changes;
            }
        }
        for (name, size) in after.iter().filter(|it| !before.contains(it)) {
            let state = self.images.entry(name.clone()).or_default();
            state.nodes.insert(node, *size);
            state.changed = self.image_changes;
        }
    }

    /// Forgets a place that neither node nor pod is at.
    fn tidy(&mut self, at: u32) {
        let seat = &mut self.nodes[at as usize];
        if seat.facts.is_none() && seat.pods.is_empty() && seat.nominated.is_empty() {
            self.by_name.remove(&seat.name);
            *seat = Seat::default();
            self.free_nodes.push(at);
        }
    }

    fn note(&mut self, node: u32, group: GroupId, what: Move) {
        self.log.add(Event { node, group, what });
    }

    /// Drops moves that nobody needs to catch up: computing anew is cheaper by then.
    pub(super) fn trim(&mut self) {
        self.log.trim(self.nodes.len().max(KEPT));
    }

    /// Takes in a pod that waits.
    pub(super) fn add_pod(&mut self, object: Arc<Object>, asked: Arc<Asked>) -> u32 {
        let group = self.join(&asked.shape, &object);
        let pod = Pod {
            ending: object.is_deleting(),
            started: started(&object),
            object,
            asked,
            group,
            node: NOWHERE,
            nominated: NOWHERE,
        };
        match self.free_pods.pop() {
            Some(at) => {
                self.pods[at as usize] = Some(pod);
                at
            }
            None => {
                self.pods.push(Some(pod));
                u32::try_from(self.pods.len() - 1).unwrap_or(NOWHERE)
            }
        }
    }

    fn join(&mut self, shape: &Arc<Shape>, object: &Object) -> GroupId {
        let (nodes, topology) = (&self.nodes, &mut self.topology);
        let mut axis = |label: &str| {
            let labels = (0..)
                .zip(nodes)
                .filter_map(|(at, seat)| Some((at, &seat.facts.as_ref()?.labels)));
            topology.find(label, labels)
        };
        self.groups.join(shape, object, &mut axis)
    }

    /// Reads a pod's looks again; the group that is gone, if it was the last of it.
    pub(super) fn regroup(&mut self, at: u32, asked: Arc<Asked>) -> Option<GroupId> {
        let pod = self.pods.get_mut(at as usize)?.as_mut()?;
        let (old, node, nominated) = (pod.group, pod.node, pod.nominated);
        let object = pod.object.clone();
        if self.groups.looks_like(old, &asked.shape, &object) {
            pod.asked = asked;
            return None;
        }
        // The places stay, as the pod comes back to them.
        self.lift(at);
        self.drop_nomination(at);
        let group = self.join(&asked.shape, &object);
        if let Some(pod) = self.pod_mut(at) {
            pod.group = group;
            pod.asked = asked;
        }
        if node != NOWHERE {
            self.place(at, node);
        }
        if nominated != NOWHERE {
            self.nominate(at, nominated);
        }
        self.groups.leave(old).then_some(old)
    }

    /// Forgets a pod; its group, if it was the last of it.
    pub(super) fn remove_pod(&mut self, at: u32) -> Option<GroupId> {
        self.unplace(at);
        self.dismiss(at);
        let pod = self.pods.get_mut(at as usize)?.take()?;
        self.free_pods.push(at);
        self.groups.leave(pod.group).then_some(pod.group)
    }

    /// Puts a pod on a node.
    pub(super) fn place(&mut self, at: u32, node: u32) {
        self.dismiss(at);
        let Some(pod) = self.pods.get_mut(at as usize).and_then(Option::as_mut) else {
            return;
        };
        pod.node = node;
        let (group, ending, asked) = (pod.group, pod.ending, pod.asked.clone());
        let seat = &mut self.nodes[node as usize];
        seat.used.add(&asked.shape.request);
        seat.pods.push(at);
        if let Some(group) = self.groups.get_mut(group) {
            group.arrive(node, ending);
        }
        self.note(node, group, Move::Arrived);
        if ending {
            self.note(node, group, Move::Ending(true));
        }
    }

    /// Takes a pod from its node.
    pub(super) fn unplace(&mut self, at: u32) {
        if let Some(node) = self.lift(at) {
            self.tidy(node);
        }
    }

    fn lift(&mut self, at: u32) -> Option<u32> {
        let pod = self.pods.get_mut(at as usize)?.as_mut()?;
        let node = std::mem::replace(&mut pod.node, NOWHERE);
        if node == NOWHERE {
            return None;
        }
        let (group, ending, asked) = (pod.group, pod.ending, pod.asked.clone());
        let seat = &mut self.nodes[node as usize];
        seat.used.sub(&asked.shape.request);
        seat.pods.retain(|other| *other != at);
        if let Some(group) = self.groups.get_mut(group) {
            group.depart(node, ending);
        }
        self.note(node, group, Move::Left { ending });
        Some(node)
    }

    /// A pod is being deleted, or not after all.
    pub(super) fn end(&mut self, at: u32, ending: bool) {
        let Some(pod) = self.pods.get_mut(at as usize).and_then(Option::as_mut) else {
            return;
        };
        if pod.ending == ending {
            return;
        }
        pod.ending = ending;
        let (node, group) = (pod.node, pod.group);
        if node != NOWHERE {
            if let Some(group) = self.groups.get_mut(group) {
                group.end(node, ending);
            }
            self.note(node, group, Move::Ending(ending));
        }
    }

    /// Room is being made for a pod on a node.
    pub(super) fn nominate(&mut self, at: u32, node: u32) {
        if self.pod(at).is_none_or(|pod| pod.nominated == node) {
            return;
        }
        self.dismiss(at);
        let Some(pod) = self.pods.get_mut(at as usize).and_then(Option::as_mut) else {
            return;
        };
        pod.nominated = node;
        let (group, priority) = (pod.group, pod.asked.shape.priority);
        self.nodes[node as usize].nominated.push(Nominated {
            pod: at,
            group,
            priority,
        });
        self.note(node, group, Move::Nominated(priority));
    }

    /// No room is made for a pod any more.
    pub(super) fn dismiss(&mut self, at: u32) {
        if let Some(node) = self.drop_nomination(at) {
            self.tidy(node);
        }
    }

    fn drop_nomination(&mut self, at: u32) -> Option<u32> {
        let pod = self.pods.get_mut(at as usize)?.as_mut()?;
        let node = std::mem::replace(&mut pod.nominated, NOWHERE);
        if node == NOWHERE {
            return None;
        }
        let (group, priority) = (pod.group, pod.asked.shape.priority);
        self.nodes[node as usize].nominated.retain(|it| it.pod != at);
        self.note(node, group, Move::Dismissed(priority));
        Some(node)
    }

    /// Whether a node has room for a pod with this request.
    pub(super) fn fits(&self, seat: &Seat, facts: &Facts, request: &Request, priority: i32) -> bool {
        super::filter::fits(facts, &self.used_for(seat, priority), request)
    }
}
