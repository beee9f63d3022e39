//! Rolling updates: how far the new set may grow and the old ones may shrink.

use k8s_openapi::{api::apps::v1::DeploymentSpec, apimachinery::pkg::util::intstr::IntOrString};

use super::Rollout;
use crate::share::{self, Round};

/// The surge (rounded up) and the unavailability (rounded down) that a rollout may use. One of them
/// is at least 1, or nothing could move.
pub(super) fn bounds(spec: &DeploymentSpec, replicas: i32) -> (i32, i32) {
    let strategy = spec.strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
        return (0, 0);
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let quarter = IntOrString::String("25%".to_owned());
    let surge = rolling
        .and_then(|rolling| rolling.max_surge.as_ref())
        .unwrap_or(&quarter);
    let unavailable = rolling
        .and_then(|rolling| rolling.max_unavailable.as_ref())
        .unwrap_or(&quarter);
    let surge = share::of(surge, replicas, Round::Up);
    let unavailable = share::of(unavailable, replicas, Round::Down);
    if surge == 0 && unavailable == 0 {
        return (0, 1);
    }
    (surge, unavailable.min(replicas))
}

impl Rollout<'_> {
    /// One step of a rolling update: the new set grows as far as the surge allows, else the old ones
    /// shrink as far as availability allows.
    pub(super) fn roll(&mut self) {
        if let Some(new) = self.new {
            let target = self.new_replicas();
            let (replicas, surge) = (self.replicas, self.max_surge);
            let set = &mut self.sets[new];
            let grows = target != set.replicas;
            set.scale_to(target, replicas, surge);
            if grows {
                return;
            }
        }
        self.shrink_old();
    }

    /// How many replicas the new set may have now.
    pub(super) fn new_replicas(&self) -> i32 {
        if self.is_recreate() {
            return self.replicas;
        }
        let own = self.new.map_or(0, |new| self.sets[new].replicas);
        if own >= self.replicas {
            return self.replicas;
        }
        let all: i32 = self.sets.iter().map(super::Set::size).sum();
        let room = self.replicas + self.max_surge - all;
        own + room.clamp(0, self.replicas - own)
    }

    /// New pods that work and are likely to go on: old ones that work go in exchange for these.
    fn new_available(&self, new: usize) -> i32 {
        let available = self.sets[new].available();
        self.steady.map_or(available, |steady| steady.min(available))
    }

    fn shrink_old(&mut self) {
        let Some(new) = self.new else { return };
        let all: i32 = self.sets.iter().map(|set| set.replicas).sum();
        let least = self.replicas - self.max_unavailable;
        let new_available = self.new_available(new);
        let new_missing = self.sets[new].replicas - new_available;
        let mut room = all - least - new_missing;
        if room <= 0 {
            return;
        }
        let (replicas, surge) = (self.replicas, self.max_surge);
        // Those that do not work go first: they cost no availability.
        for (_, set) in self.sets.iter_mut().enumerate().filter(|(at, _)| *at != new) {
            let broken = set.replicas - set.available();
            let by = broken.min(room);
            if by > 0 {
                set.scale_to(set.replicas - by, replicas, surge);
                room -= by;
            }
        }
        let old_available: i32 = self.old().map(|(_, set)| set.available()).sum();
        let available = old_available + new_available;
        let mut room = room.min(available - least);
        for (_, set) in self.sets.iter_mut().enumerate().filter(|(at, _)| *at != new) {
            let by = set.replicas.min(room);
            if by > 0 {
                set.scale_to(set.replicas - by, replicas, surge);
                room -= by;
            }
        }
    }
}
