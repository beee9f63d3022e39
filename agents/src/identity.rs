//! Who an agent is that has no state of its own yet.
//!
//! An agent's id is on every container that it makes. One that was installed anew on its machine, its
//! state directory lost, would find none of its containers; so it asks the server, which knows the id
//! that the node's agent had, and gives it back once that agent is silent.

use std::{sync::Arc, time::Duration};

use schemas::node::Identity;
use tokio_util::sync::CancellationToken;

use crate::{
    chance,
    connection::Jitter,
    control::{ControlError, ControlPlane},
};

/// The id to take. Waits for a server that is away, and for one that says that the node's agent is alive
/// elsewhere; none at the shutdown. Nobody is asked without a machine that can be told from others, or
/// without a server (in a simulation).
pub(crate) async fn find(
    control: Option<&dyn ControlPlane>,
    machine_id: Option<String>,
    shutdown: &CancellationToken,
) -> Option<Arc<str>> {
    let own: Arc<str> = chance::id().into();
    let (Some(control), Some(machine_id)) = (control, machine_id) else {
        return Some(own);
    };
    let proposed = Identity {
        machine_id,
        agent: own.clone(),
    };
    let mut jitter = Jitter::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        let answer = tokio::select! {
            biased;
            answer = control.identify(&proposed) => answer,
            () = shutdown.cancelled() => return None,
        };
        match answer {
            Ok(identity) => {
                if identity.agent != own {
                    tracing::warn!(
                        agent = &*identity.agent,
                        "this machine's agent has lost its state; it takes its former containers over"
                    );
                }
                return Some(identity.agent);
            }
            // A server that does not know the question leaves the choice to the agent.
            Err(ControlError::Refused { status: 404 | 405, .. }) => return Some(own),
            Err(error @ ControlError::Refused { .. }) => {
                tracing::error!(%error, "this agent may not have its name yet")
            }
            Err(error) => tracing::debug!(%error, "waiting for the server to know who this agent is"),
        }
        tokio::select! {
            biased;
            () = tokio::time::sleep(jitter.next()) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}
