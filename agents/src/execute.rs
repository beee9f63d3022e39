//! Carries out the plan of one pod: step by step, choosing nothing, ending at the first step that fails.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Container as ContainerSpec;
use schemas::node::NodeEvent;
use tokio_util::sync::CancellationToken;

use crate::{
    hook,
    host::Host,
    memory::TroubleKind,
    observed::{Container, INFRA},
    plan::{Action, Step},
    pod::Pod,
    reporting::field_path,
    runtime::{ContainerId, RuntimeError},
};

/// What an execution tells while it runs.
#[derive(Debug)]
pub(crate) enum Update {
    /// A container is now so.
    Seen(Box<Container>),
    Gone(ContainerId),
    /// A container could not be made.
    Trouble {
        container: Arc<str>,
        kind: TroubleKind,
        message: String,
    },
    /// What stood in a container's way is gone.
    Cleared {
        container: Arc<str>,
    },
    /// A container must end.
    Condemned {
        id: ContainerId,
        container: Arc<str>,
        reason: String,
    },
    Event(NodeEvent),
}

/// How an execution ended.
#[derive(Debug)]
pub(crate) enum End {
    Done,
    /// A container could not be made or did not start; what that means was told as an [`Update`].
    Failed,
    /// A container could not be ended or removed.
    Stuck,
    /// The runtime cannot be reached: nothing is known any more.
    Unreachable,
    Cancelled,
}

/// One execution.
pub(crate) struct Execution<F> {
    pub host: Arc<Host>,
    pub pod: Arc<Pod>,
    pub containers: Vec<Container>,
    pub cancel: CancellationToken,
    /// Tells the agent's own task.
    pub tell: F,
}

pub(crate) enum Failure {
    Told,
    Unreachable,
    Cancelled,
}

impl<F: Fn(Update) + Send + Sync> Execution<F> {
    /// Runs the steps in order.
    pub(crate) async fn run(mut self, steps: Vec<Step>) -> End {
        let mut permit = None;
        for step in steps {
            // Starts are capped over all pods; the permit is held from the creation to the start.
            if matches!(step.action, Action::Create { .. }) && permit.is_none() {
                let host = self.host.clone();
                tokio::select! {
                    biased;
                    acquired = host.clone().acquire() => permit = acquired,
                    () = self.cancel.cancelled() => return End::Cancelled,
                }
            }
            let mut creating = None;
            if matches!(step.action, Action::Create { .. }) {
                let host = self.host.clone();
                tokio::select! {
                    biased;
                    acquired = host.acquire_create() => creating = acquired,
                    () = self.cancel.cancelled() => return End::Cancelled,
                }
            }
            let started = matches!(step.action, Action::Start { .. });
            let done = self.step(&step).await;
            drop(creating);
            match done {
                Ok(()) => {}
                Err(Failure::Told) => {
                    return match step.action {
                        Action::Stop { .. }
                        | Action::Remove { .. }
                        | Action::Unpause { .. }
                        | Action::Reconnect { .. } => End::Stuck,
                        _ => End::Failed,
                    };
                }
                Err(Failure::Unreachable) => return End::Unreachable,
                Err(Failure::Cancelled) => return End::Cancelled,
            }
            if started {
                permit = None;
            }
            if self.cancel.is_cancelled() {
                return End::Cancelled;
            }
        }
        End::Done
    }

    async fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match &step.action {
            Action::Ensure { container } => self.ensure(container, false).await,
            Action::Create { container, attempt } => self.create(container, *attempt).await,
            Action::Start { container, attempt } => self.start(container, *attempt).await,
            Action::PostStart { container, attempt } => self.post_start(container, *attempt).await,
            Action::Stop { waves, grace } => self.stop(waves, *grace, &step.reason).await,
            Action::Remove { id } => self.remove(id).await,
            Action::Unpause { id } => self.unpause(id).await,
            Action::Reconnect { id, address } => self.reconnect(id, *address).await,
        }
    }

    pub(crate) fn event(&self, warning: bool, reason: &str, message: String, container: Option<&str>) {
        let field_path = container
            .filter(|name| *name != INFRA)
            .map(|name| field_path(&self.pod, name));
        (self.tell)(Update::Event(NodeEvent {
            warning,
            reason: reason.to_owned(),
            message,
            field_path,
        }));
    }

    pub(crate) fn seen(&mut self, container: Container) {
        self.containers.retain(|known| known.id != container.id);
        self.containers.push(container.clone());
        (self.tell)(Update::Seen(Box::new(container)));
    }

    pub(crate) fn trouble(&self, container: &str, kind: TroubleKind, message: impl Into<String>) -> Failure {
        (self.tell)(Update::Trouble {
            container: container.into(),
            kind,
            message: message.into(),
        });
        Failure::Told
    }

    /// An error of the runtime while a container was made.
    pub(crate) fn refused(&self, container: &str, error: &RuntimeError) -> Failure {
        if error.is_unreachable() {
            return Failure::Unreachable;
        }
        self.event(true, "Failed", format!("Error: {error}"), Some(container));
        self.trouble(container, TroubleKind::Create, error.to_string())
    }

    pub(crate) fn spec(&self, name: &str) -> Result<ContainerSpec, Failure> {
        // A plan names only containers of its pod's spec.
        self.pod
            .container(name)
            .map(|(spec, _)| spec.clone())
            .ok_or(Failure::Told)
    }

    async fn post_start(&mut self, name: &str, attempt: u32) -> Result<(), Failure> {
        let spec = self.spec(name)?;
        let Some(handler) = spec.lifecycle.as_ref().and_then(|hooks| hooks.post_start.as_ref()) else {
            return Ok(());
        };
        let known = self
            .containers
            .iter()
            .find(|container| *container.name == *name && container.attempt == attempt);
        let Some(container) = known.cloned() else { return Ok(()) };
        let ran = tokio::select! {
            biased;
            ran = hook::run(&self.host, &self.pod, &spec, &container.id, handler, Duration::from_secs(600)) => ran,
            () = self.cancel.cancelled() => return Err(Failure::Cancelled),
        };
        if let Err(message) = ran {
            self.event(
                true,
                "FailedPostStartHook",
                format!("PostStartHook failed: {message}"),
                Some(name),
            );
            (self.tell)(Update::Condemned {
                id: container.id,
                container: name.into(),
                reason: "FailedPostStartHook".to_owned(),
            });
            return Err(Failure::Told);
        }
        Ok(())
    }
}
