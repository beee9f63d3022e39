//! An inspected container in the words of the seam.

use std::collections::HashMap;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum as Status};
use jiff::Timestamp;

use crate::runtime::{Exit, Found, Life};

pub(super) fn read(found: ContainerInspectResponse) -> Found {
    let state = found.state.unwrap_or_default();
    let config = found.config.unwrap_or_default();
    let created = time(found.created.as_deref()).unwrap_or_default();
    let networks = found.network_settings.and_then(|settings| settings.networks);
    let addresses = networks
        .iter()
        .flat_map(HashMap::values)
        .filter_map(|endpoint| endpoint.ip_address.as_deref()?.parse().ok())
        .collect();
    let started = time(state.started_at.as_deref());
    let life = match state.status {
        Some(Status::RUNNING | Status::PAUSED | Status::RESTARTING) => Life::Running {
            started: started.unwrap_or(created),
        },
        // A container that Docker could not start stays "created" but carries an exit code.
        Some(Status::CREATED) | None if state.exit_code.unwrap_or(0) == 0 => Life::Created,
        _ => Life::Exited(Exit {
            code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1),
            started,
            finished: time(state.finished_at.as_deref()).unwrap_or(created),
            oom_killed: state.oom_killed.unwrap_or(false),
            error: state.error.filter(|error| !error.is_empty()).map(Into::into),
        }),
    };
    Found {
        paused: state.status == Some(Status::PAUSED),
        addresses,
        id: found.id.unwrap_or_default().into(),
        name: found.name.as_deref().unwrap_or_default().trim_start_matches('/').into(),
        image: config.image.unwrap_or_default().into(),
        image_id: found.image.unwrap_or_default().into(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        joins: found
            .host_config
            .and_then(|host| host.network_mode)
            .and_then(|mode| mode.strip_prefix("container:").map(Into::into)),
        life,
    }
}

/// A time as Docker writes it; its zero time means never.
fn time(text: Option<&str>) -> Option<Timestamp> {
    let text = text?;
    if text.starts_with("0001-") {
        return None;
    }
    text.parse().ok()
}
