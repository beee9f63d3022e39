//! Persistent storage on local volumes: a claim gets a volume on the node of its first pod, a volume
//! goes when its claim is gone, and neither goes while somebody uses it.
//!
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/>

pub mod claim;
pub mod class;
mod matching;
pub(crate) mod shelf;
pub(crate) mod users;
pub mod volume;

use schemas::Now;

use crate::{ids::Ids, plan::Plan};

/// What is looked at: one claim, one volume, or the default class.
#[derive(Clone, Debug)]
pub enum World {
    Claim(claim::World),
    Volume(volume::World),
    Class(class::World),
}

const SOURCE: &str = "persistentvolume-controller";

#[must_use]
pub fn plan(world: &World, now: Now, ids: &mut Ids) -> Plan {
    match world {
        World::Claim(world) => claim::plan(world, now, ids),
        World::Volume(world) => volume::plan(world, now),
        World::Class(world) => class::plan(world, now, ids),
    }
}

#[cfg(test)]
mod tests;
