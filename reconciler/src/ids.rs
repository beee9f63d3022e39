//! Ids and name suffixes, from a seed: the same seed makes the same plans.

use rand::{Rng, SeedableRng, rngs::StdRng};
use schemas::{Uid, template};

/// A seeded source of ids.
#[derive(Debug)]
pub struct Ids(StdRng);

impl Ids {
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A source of its own for one plan, so that plans can be made side by side.
    pub fn fork(&mut self) -> Self {
        Self(StdRng::from_rng(&mut self.0))
    }

    /// A random (version 4) unique id.
    pub fn uid(&mut self) -> Uid {
        let mut bytes = [0; 16];
        self.0.fill(&mut bytes);
        let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
        Uid(id.to_string().into())
    }

    /// Five letters, as at the end of a pod's name.
    pub fn suffix(&mut self) -> String {
        template::random_suffix(self.0.random())
    }
}
