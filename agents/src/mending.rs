//! Putting right what was done to a container by hand. What cannot be put right is ended, so that a new
//! container takes its place.

use std::net::Ipv4Addr;

use crate::{
    execute::{Execution, Failure, Update},
    observed::Container,
    runtime::{ContainerId, RuntimeError},
    watch,
};

impl<F: Fn(Update) + Send + Sync> Execution<F> {
    pub(crate) async fn unpause(&mut self, id: &ContainerId) -> Result<(), Failure> {
        let done = self.host.runtime.unpause(id).await;
        self.mended(id, done, "Unpaused", "was paused by hand; it goes on")
            .await
    }

    pub(crate) async fn reconnect(&mut self, id: &ContainerId, address: Ipv4Addr) -> Result<(), Failure> {
        let host = self.host.clone();
        let network = &host.network.name;
        let mut done = host.runtime.connect(network, id, address).await;
        if let Err(RuntimeError::Refused(message)) = &done
            && message.contains("not found")
            && watch::ensure_network(&host).await.is_ok()
        {
            // The network itself was removed as well, when nothing was on it any more.
            done = host.runtime.connect(network, id, address).await;
        }
        let message = format!("was cut off from the network of its node by hand; it has its address {address} again");
        self.mended(id, done, "Reconnected", &message).await
    }

    async fn mended(
        &mut self,
        id: &ContainerId,
        done: Result<(), RuntimeError>,
        reason: &str,
        message: &str,
    ) -> Result<(), Failure> {
        let Some(known) = self.containers.iter().find(|known| known.id == *id).cloned() else {
            return Ok(());
        };
        let name = if known.name.starts_with('_') {
            "of the pod's network".to_owned()
        } else {
            known.name.to_string()
        };
        let found = match done {
            Ok(()) => self.host.runtime.inspect(id).await,
            Err(error) => Err(error),
        };
        let why = match found {
            Err(error) if error.is_unreachable() => return Err(Failure::Unreachable),
            Err(RuntimeError::NoSuchContainer(_)) => {
                (self.tell)(Update::Gone(id.clone()));
                return Ok(());
            }
            Ok(found) => {
                let monotonic = self.host.clock.now().monotonic;
                match Container::read(&found, monotonic) {
                    Some(container) if container.meddling == known.meddling => "the runtime left it as it was".into(),
                    container => {
                        self.event(true, reason, format!("Container {name} {message}"), Some(&known.name));
                        container.into_iter().for_each(|container| self.seen(container));
                        return Ok(());
                    }
                }
            }
            Err(error) => error.to_string(),
        };
        let failed = format!("Container {name} could not be put right, and is replaced: {why}");
        self.event(true, "FailedRepair", failed, Some(&known.name));
        let grace = self.pod.grace();
        self.stop(&[vec![id.clone()]], grace, "it could not be put right").await
    }
}
