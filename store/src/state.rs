//! From what the log holds to the copy.

use std::sync::Arc;

use schemas::Now;

use crate::{
    copy::Objects,
    intern::Interner,
    log::Loaded,
    notes::Notes,
    ring::{Ring, RingLimits},
    shared::State,
};

/// The copy and the notes that a loaded log makes.
pub(crate) fn state_of(loaded: Loaded, interner: &mut Interner, limits: RingLimits, now: Now) -> (State, Notes) {
    let mut objects = Objects::default();
    for (id, mut object) in loaded.objects {
        interner.object(&mut object);
        let key = interner.key(&object);
        objects.insert(key, id, Arc::new(object));
    }
    objects.count_quotas();
    objects.set_version(loaded.version);
    let base = loaded
        .changes
        .first()
        .map_or(loaded.version, |(_, change)| change.version.saturating_sub(1));
    let mut ring = Ring::new(base, limits);
    let wall = i64::try_from(now.monotonic.as_millis()).unwrap_or(i64::MAX);
    for (at, mut change) in loaded.changes {
        // The newest state of an object is kept once, in the copy.
        if let Some(new) = &mut change.new
            && let Some(kept) = objects.get(&new.key())
            && kept.version == new.version
        {
            *new = kept.clone();
        }
        let age = now.wall.as_millisecond() - at.as_millisecond();
        ring.push([change], wall - age.max(0));
    }
    ring.trim(wall);
    let state = State {
        objects,
        ring,
        life: 0,
        incarnation: loaded.incarnation,
        cluster: loaded.cluster,
    };
    (state, loaded.notes)
}
