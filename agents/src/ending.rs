//! Ending and removing containers.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use crate::{
    execute::{Execution, Failure, Update},
    hook,
    host::Host,
    observed::{Container, Role},
    runtime::{ContainerId, RuntimeError},
};

impl<F: Fn(Update) + Send + Sync> Execution<F> {
    /// One budget covers the hooks and the signals of all containers.
    pub(crate) async fn stop(
        &mut self,
        waves: &[Vec<ContainerId>],
        grace: Duration,
        reason: &str,
    ) -> Result<(), Failure> {
        let began = self.host.clock.now().monotonic;
        for wave in waves {
            let stops = wave.iter().map(|id| self.stop_one(id, began, grace, reason));
            let done = tokio::select! {
                biased;
                done = futures::future::join_all(stops) => done,
                () = self.cancel.cancelled() => return Err(Failure::Cancelled),
            };
            for stopped in done {
                if let Err(error) = stopped {
                    if error.is_unreachable() {
                        return Err(Failure::Unreachable);
                    }
                    self.event(true, "FailedKillPod", format!("error killing pod: {error}"), None);
                    return Err(Failure::Told);
                }
            }
            for id in wave {
                // The event with the exit code may not have come yet, and the next step must not wait for it.
                match self.host.runtime.inspect(id).await {
                    Ok(found) => {
                        let monotonic = self.host.clock.now().monotonic;
                        Container::read(&found, monotonic)
                            .into_iter()
                            .for_each(|container| self.seen(container));
                    }
                    Err(error) if error.is_unreachable() => return Err(Failure::Unreachable),
                    Err(_) => (self.tell)(Update::Gone(id.clone())),
                }
            }
        }
        Ok(())
    }

    async fn stop_one(
        &self,
        id: &ContainerId,
        began: Duration,
        grace: Duration,
        reason: &str,
    ) -> Result<(), RuntimeError> {
        let left = |host: &Host| (began + grace).saturating_sub(host.clock.now().monotonic);
        let container = self.containers.iter().find(|container| container.id == *id);
        if let Some(container) = container.filter(|container| container.role != Role::Infra) {
            let name = &*container.name;
            let message = match reason {
                "the pod is deleted" => format!("Stopping container {name}"),
                other => format!("Stopping container {name}: {other}"),
            };
            self.event(false, "Killing", message, Some(name));
            let spec = self.pod.container(name).map(|(spec, _)| spec);
            let handler: Option<&LifecycleHandler> = spec
                .and_then(|spec| spec.lifecycle.as_ref())
                .and_then(|hooks| hooks.pre_stop.as_ref());
            if let (Some(handler), Some(spec)) = (handler, spec)
                && !grace.is_zero()
            {
                let ran = hook::run(&self.host, &self.pod, spec, id, handler, left(&self.host)).await;
                if let Err(message) = ran {
                    self.event(
                        true,
                        "FailedPreStopHook",
                        format!("PreStopHook failed: {message}"),
                        Some(name),
                    );
                }
            }
        }
        // A hook that used the budget up leaves two seconds for the signal.
        let least = if grace.is_zero() {
            Duration::ZERO
        } else {
            Duration::from_secs(2).min(grace)
        };
        self.host.runtime.stop(id, left(&self.host).max(least)).await
    }

    pub(crate) async fn remove(&mut self, id: &ContainerId) -> Result<(), Failure> {
        match self.host.runtime.remove(id, true).await {
            Ok(()) => {
                self.containers.retain(|container| container.id != *id);
                (self.tell)(Update::Gone(id.clone()));
                Ok(())
            }
            Err(error) if error.is_unreachable() => Err(Failure::Unreachable),
            Err(error) => {
                self.event(
                    true,
                    "FailedKillPod",
                    format!("error removing a container: {error}"),
                    None,
                );
                Err(Failure::Told)
            }
        }
    }
}
