//! What an autoscaler remembers from look to look: what it recommended, and what it changed.

use std::time::Duration;

use schemas::Uid;

/// The windows of all rules are at most this long.
const LONGEST: Duration = Duration::from_secs(3600);

/// What one autoscaler recommended and changed of late. It is kept in memory alone: a server that takes
/// over starts with the replicas that it finds, and so scales nothing down before a window has passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    of: Option<Uid>,
    /// When (monotonic), and how many replicas.
    recommended: Vec<(Duration, i32)>,
    /// When (monotonic), and by how many.
    changed: Vec<(Duration, i32)>,
}

impl Memory {
    /// The memory of this very autoscaler: one of the same name remembers nothing of an earlier one.
    #[must_use]
    pub(super) fn of(&self, uid: &Uid) -> Self {
        if self.of.as_ref() == Some(uid) {
            return self.clone();
        }
        Self {
            of: Some(uid.clone()),
            ..Self::default()
        }
    }

    /// Counts the replicas that are there as what was recommended, where nothing is known.
    pub(super) fn begin(&mut self, replicas: i32, now: Duration) {
        if self.recommended.is_empty() {
            self.recommended.push((now, replicas));
        }
    }

    pub(super) fn recommend(&mut self, replicas: i32, now: Duration) {
        self.recommended.retain(|(at, _)| *at + LONGEST > now);
        self.recommended.push((now, replicas));
    }

    pub(super) fn change(&mut self, by: i32, now: Duration) {
        self.changed.retain(|(at, _)| *at + LONGEST > now);
        self.changed.push((now, by));
    }

    /// What was recommended within a window that ends now.
    pub(super) fn recommended(&self, window: Duration, now: Duration) -> impl Iterator<Item = i32> {
        let recent = self.recommended.iter().filter(move |(at, _)| *at + window > now);
        recent.map(|(_, replicas)| *replicas)
    }

    /// How many replicas there were a period ago, as far as this autoscaler changed them.
    pub(super) fn before(&self, current: i32, period: Duration, now: Duration) -> i64 {
        let recent = self.changed.iter().filter(|(at, _)| *at + period > now);
        i64::from(current) - recent.map(|(_, by)| i64::from(*by)).sum::<i64>()
    }
}
