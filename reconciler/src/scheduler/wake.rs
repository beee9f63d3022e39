//! What happened on the board, and which pods that wait it could help.

use std::{sync::Arc, time::Duration};

use super::{
    board::{Event, Move, Nominated},
    cluster::Cluster,
    filter,
    group::{Group, GroupId},
    terms::Spaces,
    waiting::{Lot, Why},
};

/// After more moves than this every lot is tried: considering each move would cost more.
const MANY: u64 = 2_000;

impl Cluster {
    /// Wakes what could be helped by what happened since this was last asked.
    pub(super) fn wake(&mut self, now: Duration) {
        let from = std::mem::replace(&mut self.considered, self.board.log.end());
        let all = std::mem::take(&mut self.spaces_changed);
        let volumes = std::mem::take(&mut self.volumes.changed);
        if !self.queue.has_parked() {
            return;
        }
        let behind = self.board.log.behind(from);
        let events: Option<Vec<Event>> = (behind <= MANY)
            .then(|| self.board.log.since(from))
            .flatten()
            .map(Iterator::collect);
        let Some(events) = events.filter(|_| !all) else {
            self.queue.wake_all(now);
            return;
        };
        self.wake_nominated(&events, now);
        let lots: Vec<(Lot, Why, u64, Option<Arc<str>>)> = self
            .queue
            .asleep()
            .map(|(lot, parked)| (lot, parked.why, parked.seen, parked.pin.clone()))
            .collect();
        for (lot, why, seen, pin) in lots {
            let new = usize::try_from(seen.saturating_sub(from))
                .unwrap_or(usize::MAX)
                .min(events.len());
            let helped = (volumes && why.volumes) || self.is_helped(lot, why, pin.as_deref(), &events[new..]);
            if helped {
                self.queue.wake(lot, now);
            }
        }
    }

    /// A pod that room is made for is tried when there is room for it, and when others took it.
    fn wake_nominated(&mut self, events: &[Event], now: Duration) {
        for event in events {
            let wanted = match event.what {
                Move::Left { .. } | Move::Dismissed(_) | Move::Node => true,
                Move::Arrived | Move::Nominated(_) => false,
                Move::Ending(_) => continue,
            };
            let Some((seat, facts)) = self.board.seat(event.node) else {
                continue;
            };
            let fits = |nominated: &Nominated| {
                self.board.pod(nominated.pod).is_some_and(|pod| {
                    let request = &pod.asked.shape.request;
                    let mut used = self.board.used_for(seat, nominated.priority).into_owned();
                    used.sub(request);
                    filter::fits(facts, &used, request)
                })
            };
            // With the last one that was on its way out it is clear what became of the room.
            let leaving = |pod: &u32| self.board.pod(*pod).is_some_and(|pod| pod.ending);
            let cleared = matches!(event.what, Move::Left { .. }) && !seat.pods.iter().any(leaving);
            let others = seat.nominated.iter().filter(|it| wanted || it.group != event.group);
            let woken: Vec<u32> = others
                .filter(|it| cleared || fits(it) == wanted)
                .map(|it| it.pod)
                .collect();
            woken.into_iter().for_each(|pod| self.queue.wake_pod(pod, now));
        }
    }

    fn is_helped(&mut self, lot: Lot, why: Why, pin: Option<&str>, events: &[Event]) -> bool {
        for event in events {
            let elsewhere = pin.is_some_and(|pin| {
                let seat = self.board.nodes.get(event.node as usize);
                seat.is_none_or(|seat| &*seat.name != pin)
            });
            if elsewhere && !why.is_by_pods() {
                continue;
            }
            if self.helps(lot.group, why, event) {
                return true;
            }
        }
        false
    }

    fn helps(&mut self, id: GroupId, why: Why, event: &Event) -> bool {
        let Some(group) = self.board.groups.get(id) else {
            return true;
        };
        let concerned = why.is_by_pods()
            && self
                .board
                .groups
                .get(event.group)
                .is_none_or(|other| concerns(group, other, &self.board.spaces));
        let has_room = |cluster: &Self| {
            let Some(group) = cluster.board.groups.get(id) else {
                return false;
            };
            cluster.board.seat(event.node).is_some_and(|(seat, facts)| {
                filter::refuses(facts, &group.shape.spec).is_none()
                    && cluster
                        .board
                        .fits(seat, facts, &group.shape.request, group.shape.priority)
            })
        };
        match event.what {
            // With its labels a node may leave one domain and join another, with all its pods.
            Move::Node => why.is_by_pods() || has_room(self),
            Move::Left { .. } | Move::Dismissed(_) => {
                concerned || (has_room(self) && (!why.is_by_pods() || self.is_free(id, event.node)))
            }
            Move::Ending(_) => why.spread && concerned,
            Move::Arrived => (why.spread || why.near) && concerned,
            Move::Nominated(_) => false,
        }
    }

    /// Whether other pods have nothing against a group at a node, as far as that is known cheaply.
    fn is_free(&mut self, id: GroupId, node: u32) -> bool {
        let Some(class) = self.known_class(id) else { return true };
        let free = class.block_at(&self.board, node, &[]).is_none();
        self.put_class(id, class);
        free
    }
}

/// Whether pods of `other` are counted by what `group` wants, or want something of it.
fn concerns(group: &Group, other: &Group, spaces: &Spaces) -> bool {
    let (own, theirs) = (&group.terms, &other.terms);
    own.hard.iter().any(|spread| spread.counts(&group.peer, &other.peer))
        || own.near.iter().any(|term| term.matches(&other.peer, spaces))
        || own.away.iter().any(|term| term.matches(&other.peer, spaces))
        || theirs.away.iter().any(|term| term.matches(&group.peer, spaces))
}
