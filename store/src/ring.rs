//! The change log in memory: one ring that every watch reads from its own place.
//!
//! Versions are consecutive, so a version names its place. Lanes index the ring by kind, by kind and
//! namespace, and by node, so that a narrow watch costs what it sees and not what happened.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use schemas::{Kind, Object, kind::KINDS};

use crate::watch::{Change, Scope};

/// How much of the past is kept.
#[derive(Clone, Copy, Debug)]
pub struct RingLimits {
    /// Changes younger than this are kept...
    pub age: Duration,
    /// ...and at least this many...
    pub min_rows: usize,
    /// ...but never more than this, however young: memory is finite.
    pub max_rows: usize,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(15 * 60),
            min_rows: 100_000,
            max_rows: 200_000,
        }
    }
}

#[derive(Debug, Default)]
struct Lane {
    versions: VecDeque<u64>,
    /// The newest version that this lane had and dropped.
    dropped: u64,
}

#[derive(Debug)]
pub(crate) struct Ring {
    /// The version before the first change that is kept.
    base: u64,
    changes: VecDeque<Change>,
    /// The last version of each batch and its age, in milliseconds of the monotonic clock; negative
    /// for what was committed before this process started.
    marks: VecDeque<(u64, i64)>,
    kinds: Vec<Lane>,
    spaces: Vec<FxHashMap<Arc<str>, Lane>>,
    nodes: FxHashMap<Arc<str>, Lane>,
    limits: RingLimits,
}

/// The watcher is behind what is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Behind;

impl Ring {
    pub(crate) fn new(base: u64, limits: RingLimits) -> Self {
        Self {
            base,
            changes: VecDeque::new(),
            marks: VecDeque::new(),
            kinds: KINDS.iter().map(|_| Lane::default()).collect(),
            spaces: KINDS.iter().map(|_| FxHashMap::default()).collect(),
            nodes: FxHashMap::default(),
            limits,
        }
    }

    /// A watch may start after this version or a later one.
    pub(crate) fn oldest(&self) -> u64 {
        self.base
    }

    pub(crate) fn newest(&self) -> u64 {
        self.base + self.changes.len() as u64
    }

    /// Appends the changes of one batch; their versions must follow on.
    pub(crate) fn push(&mut self, changes: impl IntoIterator<Item = Change>, at_millis: i64) {
        for change in changes {
            debug_assert_eq!(change.version, self.newest() + 1);
            let version = change.version;
            let kind = change.kind() as usize;
            self.kinds[kind].versions.push_back(version);
            if let Some(namespace) = change.namespace() {
                note(&mut self.spaces[kind], namespace, version);
            }
            for node in change.nodes() {
                note(&mut self.nodes, node, version);
            }
            self.changes.push_back(change);
        }
        if self.marks.back().is_none_or(|(version, _)| *version < self.newest()) {
            self.marks.push_back((self.newest(), at_millis));
        }
    }

    /// Drops what is past the limits.
    pub(crate) fn trim(&mut self, now_millis: i64) {
        let oldest = now_millis - i64::try_from(self.limits.age.as_millis()).unwrap_or(i64::MAX);
        while self.changes.len() > self.limits.min_rows {
            while self.marks.front().is_some_and(|(version, _)| *version <= self.base) {
                self.marks.pop_front();
            }
            let old = self.marks.front().is_none_or(|(_, at)| *at < oldest);
            if !old && self.changes.len() <= self.limits.max_rows {
                break;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(change) = self.changes.pop_front() else {
            return;
        };
        self.base = change.version;
        let kind = change.kind() as usize;
        self.kinds[kind].shorten(change.version);
        if let Some(namespace) = change.namespace()
            && let Some(lane) = self.spaces[kind].get_mut(namespace)
        {
            lane.shorten(change.version);
        }
        for node in change.nodes() {
            if let Some(lane) = self.nodes.get_mut(node) {
                lane.shorten(change.version);
            }
        }
    }

    /// Up to `limit` changes after `after` that a scope sees, and the version up to which this is
    /// all there is.
    pub(crate) fn read(&self, scope: &Scope, after: u64, limit: usize) -> Result<(Vec<Change>, u64), Behind> {
        let lanes: Vec<&Lane> = if let Some(node) = &scope.node {
            self.nodes.get(&**node).into_iter().collect()
        } else if scope.kinds.is_empty() {
            return self.scan(scope, after, limit);
        } else if let Some(namespace) = &scope.namespace {
            scope
                .kinds
                .iter()
                .filter_map(|kind| self.spaces[*kind as usize].get(&**namespace))
                .collect()
        } else {
            scope.kinds.iter().map(|kind| &self.kinds[*kind as usize]).collect()
        };
        if lanes.iter().any(|lane| after < lane.dropped) {
            return Err(Behind);
        }
        let mut versions: Vec<u64> = Vec::new();
        for lane in &lanes {
            let start = lane.versions.partition_point(|version| *version <= after);
            versions.extend(lane.versions.range(start..).take(limit));
        }
        if lanes.len() > 1 {
            versions.sort_unstable();
            versions.dedup();
        }
        let cut = versions.len() >= limit;
        versions.truncate(limit);
        let seen = match versions.last() {
            Some(last) if cut => *last,
            _ => self.newest().max(after),
        };
        let changes = versions
            .into_iter()
            .filter_map(|version| self.at(version))
            .filter(|change| scope.sees(change))
            .cloned()
            .collect();
        Ok((changes, seen))
    }

    fn scan(&self, scope: &Scope, after: u64, limit: usize) -> Result<(Vec<Change>, u64), Behind> {
        let start = after.checked_sub(self.base).ok_or(Behind)?;
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(self.changes.len());
        let mut seen = self.newest().max(after);
        let mut found = Vec::new();
        for change in self.changes.range(start..) {
            if scope.sees(change) {
                found.push(change.clone());
                if found.len() == limit {
                    seen = change.version;
                    break;
                }
            }
        }
        Ok((found, seen))
    }

    fn at(&self, version: u64) -> Option<&Change> {
        let place = version.checked_sub(self.base + 1)?;
        self.changes.get(usize::try_from(place).ok()?)
    }
}

impl Lane {
    fn shorten(&mut self, through: u64) {
        while self.versions.front().is_some_and(|version| *version <= through) {
            self.versions.pop_front();
        }
        self.dropped = through;
    }
}

fn note(lanes: &mut FxHashMap<Arc<str>, Lane>, name: &str, version: u64) {
    match lanes.get_mut(name) {
        Some(lane) => lane.versions.push_back(version),
        None => {
            let lane = Lane {
                versions: VecDeque::from([version]),
                dropped: 0,
            };
            lanes.insert(name.into(), lane);
        }
    }
}

impl Change {
    fn either(&self) -> Option<&Arc<Object>> {
        self.new.as_ref().or(self.old.as_ref())
    }

    pub(crate) fn kind(&self) -> Kind {
        // A change has an old or a new side; one with neither is never made.
        self.either().map_or(Kind::Namespace, |object| object.kind)
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.either()?.meta.namespace.as_deref()
    }

    /// The node of the old and of the new side, once where they are the same.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &str> {
        let old = self.old.as_ref().and_then(|object| object.node.as_deref());
        let new = self.new.as_ref().and_then(|object| object.node.as_deref());
        old.filter(|old| Some(*old) != new).into_iter().chain(new)
    }
}
