//! An event of Docker in the words of the seam.

use std::collections::BTreeMap;

use bollard::models::EventMessage;
use jiff::Timestamp;

use crate::runtime::{ContainerId, RuntimeEvent};

/// What an event means for an agent; `None` for what it does not care for.
pub(super) fn meaning(event: EventMessage, labels: &BTreeMap<String, String>) -> Option<RuntimeEvent> {
    let kind = event.typ.map(|kind| kind.to_string())?;
    if kind == "image" {
        return Some(RuntimeEvent::Images);
    }
    let actor = event.actor?;
    let attributes = actor.attributes.unwrap_or_default();
    if kind == "network" {
        // Such an event has no labels of the container; whoever hears it knows its own.
        let id = attributes.get("container")?.as_str().into();
        return Some(RuntimeEvent::Changed { id });
    }
    if kind != "container" || labels.iter().any(|(name, value)| attributes.get(name) != Some(value)) {
        return None;
    }
    let id: ContainerId = actor.id?.into();
    let at = Timestamp::from_nanosecond(i128::from(event.time_nano.unwrap_or(0))).unwrap_or_default();
    match event.action?.as_str() {
        "start" => Some(RuntimeEvent::Started { id, at }),
        "die" => Some(RuntimeEvent::Died {
            id,
            code: attributes
                .get("exitCode")
                .and_then(|code| code.parse().ok())
                .unwrap_or(-1),
            at,
        }),
        "pause" | "unpause" => Some(RuntimeEvent::Changed { id }),
        "destroy" => Some(RuntimeEvent::Destroyed { id }),
        _ => None,
    }
}
