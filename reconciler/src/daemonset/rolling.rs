//! Updates: which pods of an old template may go now, and which new ones may come beside them.

use std::sync::Arc;

use k8s_openapi::{
    api::apps::v1::{DaemonSetSpec, RollingUpdateDaemonSet},
    apimachinery::pkg::util::intstr::IntOrString,
};
use schemas::Object;

use super::{Moves, Seat, Spread, eligible::Verdict};
use crate::share::{self, Round};

/// The pods of a node that count for an update.
struct Pair<'a> {
    new: Option<&'a Arc<Object>>,
    old: Option<&'a Arc<Object>>,
}

fn rolling(spec: &DaemonSetSpec) -> Option<RollingUpdateDaemonSet> {
    let strategy = spec.update_strategy.as_ref();
    let on_delete = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete");
    (!on_delete).then(|| {
        strategy
            .and_then(|strategy| strategy.rolling_update.clone())
            .unwrap_or_default()
    })
}

/// How many pods may be away and how many may come beside old ones, of `wanted`. One of them is at
/// least 1, or nothing could move.
pub(super) fn bounds(spec: &DaemonSetSpec, wanted: i32) -> (i32, i32) {
    let Some(rolling) = rolling(spec) else {
        return (0, 0);
    };
    let one = IntOrString::Int(1);
    let unavailable = share::of(rolling.max_unavailable.as_ref().unwrap_or(&one), wanted, Round::Up);
    let surge = rolling
        .max_surge
        .as_ref()
        .map_or(0, |surge| share::of(surge, wanted, Round::Up));
    if unavailable == 0 && surge == 0 {
        return (1, 0);
    }
    (unavailable, surge)
}

/// Whether a new pod comes before the old one of its node goes.
pub(super) fn surges(spec: &DaemonSetSpec) -> bool {
    // Of any number of nodes: a share that is not zero is at least one.
    bounds(spec, 100).1 > 0
}

impl<'a> Spread<'a> {
    /// A step of a rolling update: pods of an old template go, as many as may be away, or new ones
    /// come beside them. A node that gets no new pod keeps the old one.
    pub(super) fn replace(&self) -> Moves<'a> {
        if rolling(self.spec).is_none() {
            return Moves::default();
        }
        let seats: Vec<&Seat<'a>> = self.seats.iter().filter(|seat| seat.verdict == Verdict::Runs).collect();
        let wanted = i32::try_from(seats.len()).unwrap_or(i32::MAX);
        let (unavailable, surge) = bounds(self.spec, wanted);
        if surges(self.spec) {
            self.surge(&seats, surge)
        } else {
            self.swap(&seats, unavailable)
        }
    }

    /// None if there are more than one of a kind, which is for the next look to mend.
    fn pair(&self, seat: &Seat<'a>) -> Option<Pair<'a>> {
        let mut pair = Pair { new: None, old: None };
        for pod in seat.pods.iter().filter(|pod| !pod.is_deleting()) {
            let place = if self.current.is_of(pod) {
                &mut pair.new
            } else {
                &mut pair.old
            };
            if place.replace(pod).is_some() {
                return None;
            }
        }
        Some(pair)
    }

    fn swap(&self, seats: &[&Seat<'a>], unavailable: i32) -> Moves<'a> {
        let mut moves = Moves::default();
        let mut candidates = Vec::new();
        let mut away = 0;
        for seat in seats {
            match self.pair(seat) {
                Some(Pair { new: Some(new), .. }) => away += i32::from(!self.is_steady(new)),
                Some(Pair {
                    new: None,
                    old: Some(old),
                }) if self.is_available(old) => candidates.push(old),
                // One that does not work costs no availability when it goes.
                Some(Pair {
                    new: None,
                    old: Some(old),
                }) => {
                    away += 1;
                    moves.remove.push(old);
                }
                Some(Pair { new: None, old: None }) | None => away += 1,
            }
        }
        let room = usize::try_from(unavailable - away).unwrap_or(0);
        moves.remove.extend(candidates.into_iter().take(room));
        moves
    }

    fn surge(&self, seats: &[&Seat<'a>], surge: i32) -> Moves<'a> {
        let mut moves = Moves::default();
        let mut candidates = Vec::new();
        let mut beside = 0;
        for seat in seats {
            match self.pair(seat) {
                None => beside += 1,
                Some(Pair { old: None, .. }) => {}
                Some(Pair {
                    new: None,
                    old: Some(old),
                }) => {
                    if self.is_available(old) {
                        candidates.push(seat.name);
                    } else {
                        moves.make.push(seat.name);
                    }
                }
                Some(Pair {
                    new: Some(new),
                    old: Some(old),
                }) => {
                    if self.is_steady(new) {
                        moves.remove.push(old);
                    } else {
                        beside += 1;
                    }
                }
            }
        }
        let room = usize::try_from(surge - beside).unwrap_or(0);
        moves.make.extend(candidates.into_iter().take(room));
        moves
    }
}
