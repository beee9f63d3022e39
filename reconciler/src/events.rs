//! What controllers tell people, as `Event` objects: repeated things are counted in one, and one
//! object cannot flood the store.

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use schemas::{Key, Now, Object, event, event::EventSpec};
use store::{Class, Op, Write};

use crate::{ids::Ids, plan::Plan, plan::replace_of};

/// An object may have so many events told at once by one source, and one more each interval.
const BURST: u32 = 25;
const INTERVAL: Duration = Duration::from_secs(300);
/// Allowances that are kept before the first sweep.
const SWEEP: usize = 10_000;
/// At most so many events are written in one look.
const AT_ONCE: usize = 500;

/// Occurrences that wait to be written.
#[derive(Debug, Default)]
pub struct Pending {
    waiting: FxHashMap<Key, (EventSpec, u32)>,
    told: FxHashMap<(Key, String), (u32, Duration)>,
    /// What nobody tells of any more is swept when there is more than this.
    sweep_at: usize,
}

/// Occurrences with what the store has of them.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub told: Vec<(EventSpec, u32, Option<Arc<Object>>)>,
}

impl Pending {
    /// Takes occurrences in; those above an object's allowance are dropped.
    pub fn add(&mut self, notes: Vec<EventSpec>, now: Now) {
        for note in notes {
            let key = note.key();
            if let Some((_, count)) = self.waiting.get_mut(&key) {
                *count += 1;
                continue;
            }
            let allowance = self
                .told
                .entry((note.involved.clone(), note.component.clone()))
                .or_insert((0, now.monotonic));
            let regained = now.monotonic.saturating_sub(allowance.1).as_secs() / INTERVAL.as_secs();
            if regained > 0 {
                allowance.0 = allowance.0.saturating_sub(u32::try_from(regained).unwrap_or(u32::MAX));
                allowance.1 = now.monotonic;
            }
            if allowance.0 < BURST {
                allowance.0 += 1;
                self.waiting.insert(key, (note, 1));
            }
        }
        if self.told.len() > self.sweep_at.max(SWEEP) {
            self.told
                .retain(|_, (_, since)| now.monotonic.saturating_sub(*since) < INTERVAL);
            // Twice what is left, so that a sweep costs no more than what came since the last one.
            self.sweep_at = 2 * self.told.len();
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Hands out what is to be written next, with what `stored` has of each.
    pub fn take(&mut self, stored: impl Fn(&Key) -> Option<Arc<Object>>) -> World {
        let keys: Vec<Key> = self.waiting.keys().take(AT_ONCE).cloned().collect();
        let told = keys.into_iter().filter_map(|key| {
            let (note, count) = self.waiting.remove(&key)?;
            let stored = stored(&key);
            Some((note, count, stored))
        });
        World { told: told.collect() }
    }
}

#[must_use]
pub fn plan(world: &World, now: Now, ids: &mut Ids) -> Plan {
    let mut plan = Plan::default();
    let mut writes = Vec::new();
    for (note, count, stored) in &world.told {
        let mut object = event::record(stored.as_deref(), note, now, &ids.uid());
        for _ in 1..*count {
            object = event::record(Some(&object), note, now, &ids.uid());
        }
        writes.push(match stored {
            Some(stored) => replace_of(stored, object),
            None => Write::new(Op::Create(object)),
        });
    }
    plan.writes(Class::Status, "telling events", writes);
    plan
}

#[cfg(test)]
mod tests;
