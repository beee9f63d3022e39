//! One volume: free, bound, released, and gone with its claim where its policy says so.

use std::sync::Arc;

use schemas::{Now, Object, storage};
use store::Class;

use super::{
    SOURCE,
    claim::{holder, with_finalizer, without_finalizer},
};
use crate::{
    owners,
    plan::{Plan, status_of},
    pods::{blank, stamp},
};

/// What is looked at for one volume.
#[derive(Clone, Debug)]
pub struct World {
    pub volume: Arc<Object>,
    /// Whatever has the name of the claim that it is bound to, or kept for.
    pub claim: Option<Arc<Object>>,
    /// The node that it is on does not exist any more.
    pub node_is_gone: bool,
}

/// How a volume and its claim stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bond {
    /// No claim has it. It may be kept for one.
    Free,
    Bound,
    /// Its claim is gone.
    Released,
}

#[must_use]
pub fn plan(world: &World, now: Now) -> Plan {
    let mut plan = Plan::default();
    let volume = &*world.volume;
    let bond = bond(world);
    if volume.is_deleting() {
        end(&mut plan, world, bond);
        return plan;
    }
    if let Some(protected) = with_finalizer(volume, storage::PV_PROTECTION) {
        plan.write(Class::Controller, "protecting a volume", protected);
        return plan;
    }
    match bond {
        Bond::Free => set_phase(&mut plan, volume, "Available", None, now),
        Bond::Bound => set_phase(&mut plan, volume, "Bound", None, now),
        Bond::Released if !storage::is_deleted_with(volume) => set_phase(&mut plan, volume, "Released", None, now),
        Bond::Released if storage::docker_volume(volume).is_some() => {
            set_phase(&mut plan, volume, "Released", None, now);
            if plan.is_empty() {
                let gone = owners::delete(volume, None, now);
                plan.writes(
                    Class::Controller,
                    "deleting a volume whose claim is gone",
                    gone.into_iter().collect(),
                );
            }
        }
        Bond::Released => {
            let message = "what is behind it was made by hand and is not deleted by the system";
            if volume
                .status
                .as_ref()
                .is_none_or(|status| status.word("phase") != Some("Failed"))
            {
                plan.warn(SOURCE, volume, "VolumeFailedDelete", message);
            }
            set_phase(&mut plan, volume, "Failed", Some(message), now);
        }
    }
    plan
}

fn bond(world: &World) -> Bond {
    let volume = &*world.volume;
    let Some(uid) = holder(volume) else {
        return Bond::Free;
    };
    let has = |claim: &Arc<Object>| match storage::volume_of(claim) {
        _ if *claim.uid().0 != *uid => false,
        Some(named) => named == volume.key(),
        // It is about to name it.
        None => !volume.is_deleting(),
    };
    if world.claim.as_ref().is_some_and(has) {
        Bond::Bound
    } else {
        Bond::Released
    }
}

/// Lets a volume in deletion go: when no claim has it, and when its node has removed what is behind it.
fn end(plan: &mut Plan, world: &World, bond: Bond) {
    let volume = &*world.volume;
    if bond == Bond::Bound {
        plan.wait(
            volume.key(),
            "InUse",
            "a claim is bound to it; it goes when that is gone",
        );
        return;
    }
    let freed = without_finalizer(volume, storage::PV_PROTECTION);
    if let Some(freed) = freed {
        plan.write(Class::Controller, "no claim has the volume", freed);
        return;
    }
    let removed_by_node = storage::is_deleted_with(volume) && storage::docker_volume(volume).is_some();
    if removed_by_node && !world.node_is_gone {
        plan.wait(volume.key(), "OnNode", "its node is yet to remove the Docker volume");
        return;
    }
    let left = without_finalizer(volume, storage::DOCKER_VOLUME);
    if removed_by_node && left.is_some() {
        plan.warn(
            SOURCE,
            volume,
            "VolumeLeftBehind",
            "its node is gone; if it comes back, the Docker volume is still on it",
        );
    }
    plan.writes(
        Class::Controller,
        "nothing is left to remove behind the volume",
        left.into_iter().collect(),
    );
}

fn set_phase(plan: &mut Plan, volume: &Object, phase: &str, reason: Option<&str>, now: Now) {
    let mut status = blank(volume.status.as_ref());
    if status["phase"] == phase {
        return;
    }
    status["phase"] = phase.into();
    status["lastPhaseTransitionTime"] = stamp(now.wall).into();
    if let Some(status) = status.as_object_mut() {
        match reason {
            Some(reason) => {
                status.insert("reason".to_owned(), "VolumeFailedDelete".into());
                status.insert("message".to_owned(), reason.into());
            }
            None => {
                status.remove("reason");
                status.remove("message");
            }
        }
    }
    plan.write(Class::Status, "telling how a volume is", status_of(volume, status));
}
