//! What an agent leaves to chance: the random part of its waits, and the id of one that has none yet.

use std::cell::RefCell;

use rand::{Rng, SeedableRng, rngs::StdRng};

thread_local! {
    static FIXED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// Agents of this thread take chance from a seed from now on: a simulation that runs them all on one
/// thread happens again with the same seed.
pub fn fix(seed: u64) {
    FIXED.set(Some(StdRng::seed_from_u64(seed)));
}

/// Between 0 and 1.
pub(crate) fn part() -> f64 {
    FIXED.with_borrow_mut(|fixed| match fixed {
        Some(fixed) => fixed.random(),
        None => rand::random(),
    })
}

/// A new unique id.
pub(crate) fn id() -> String {
    let bytes = FIXED.with_borrow_mut(|fixed| match fixed {
        Some(fixed) => fixed.random(),
        None => rand::random(),
    });
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}
