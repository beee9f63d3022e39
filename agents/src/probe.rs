//! The probes of one running container: startup, then readiness and liveness.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container as ContainerSpec, PodStatus, Probe};
use schemas::node::NodeEvent;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::{agent::Message, execute::Update, hook, host::Host, memory::Checks, pod::Pod, runtime::ContainerId};

struct Rule<'a> {
    probe: &'a Probe,
    period: Duration,
    limit: Duration,
    failures: i32,
    successes: i32,
}

impl<'a> Rule<'a> {
    fn of(probe: &'a Probe) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(
                value
                    .and_then(|value| u64::try_from(value).ok())
                    .filter(|value| *value > 0)
                    .unwrap_or(default),
            )
        };
        Self {
            probe,
            period: seconds(probe.period_seconds, 10),
            limit: seconds(probe.timeout_seconds, 1),
            failures: probe.failure_threshold.filter(|count| *count > 0).unwrap_or(3),
            successes: probe.success_threshold.filter(|count| *count > 0).unwrap_or(1),
        }
    }

    fn delay(&self) -> Duration {
        Duration::from_secs(
            self.probe
                .initial_delay_seconds
                .and_then(|delay| u64::try_from(delay).ok())
                .unwrap_or(0),
        )
    }
}

struct Prober {
    host: Arc<Host>,
    pod: Arc<Pod>,
    spec: ContainerSpec,
    id: ContainerId,
    tell: UnboundedSender<Message>,
}

/// Probes a container until it is cancelled.
pub(crate) async fn run(
    host: Arc<Host>,
    pod: Arc<Pod>,
    spec: ContainerSpec,
    id: ContainerId,
    said: PodStatus,
    tell: UnboundedSender<Message>,
    cancel: CancellationToken,
) {
    let docker_id = format!("docker://{id}");
    let said = said
        .container_statuses
        .into_iter()
        .chain(said.init_container_statuses)
        .flatten()
        .find(|status| status.container_id.as_deref() == Some(&docker_id));
    let prober = Prober {
        host,
        pod,
        spec,
        id,
        tell,
    };
    tokio::select! {
        biased;
        () = prober.run(said.as_ref().is_some_and(|said| said.started == Some(true)), said.is_some_and(|said| said.ready)) => {}
        () = cancel.cancelled() => {}
    }
}

impl Prober {
    async fn run(&self, was_started: bool, was_ready: bool) {
        let startup = self.spec.startup_probe.clone();
        let readiness = self.spec.readiness_probe.clone();
        let liveness = self.spec.liveness_probe.clone();
        let mut checks = Checks {
            started: startup.is_none() || was_started,
            ready: false,
        };
        if let Some(probe) = startup.filter(|_| !was_started) {
            self.checked(checks);
            if !self.until_started(&Rule::of(&probe)).await {
                return;
            }
            checks.started = true;
        }
        checks.ready = readiness.is_none() || was_ready;
        self.checked(checks);
        let ready = async {
            if let Some(probe) = &readiness {
                self.keep_ready(&Rule::of(probe), checks).await;
            }
        };
        let alive = async {
            if let Some(probe) = &liveness {
                self.keep_alive(&Rule::of(probe)).await;
            }
        };
        futures::join!(ready, alive);
    }

    fn checked(&self, checks: Checks) {
        let _ = self.tell.send(Message::Checked {
            pod: self.pod.uid.clone(),
            container: self.spec.name.as_str().into(),
            id: self.id.clone(),
            checks,
        });
    }

    fn tell(&self, update: Update) {
        let _ = self.tell.send(Message::Told {
            pod: self.pod.uid.clone(),
            update,
        });
    }

    fn unhealthy(&self, kind: &str, message: &str) {
        self.tell(Update::Event(NodeEvent {
            warning: true,
            reason: "Unhealthy".to_owned(),
            message: format!("{kind} probe failed: {message}"),
            field_path: Some(format!("spec.containers{{{}}}", self.spec.name)),
        }));
    }

    fn condemn(&self, kind: &str) {
        self.tell(Update::Condemned {
            id: self.id.clone(),
            container: self.spec.name.as_str().into(),
            reason: format!("Container {} failed {kind} probe, will be restarted", self.spec.name),
        });
    }

    /// Whether the startup probe passed before it failed too often.
    async fn until_started(&self, rule: &Rule<'_>) -> bool {
        tokio::time::sleep(rule.delay()).await;
        let mut failures = 0;
        loop {
            match self.once(rule).await {
                Ok(()) => return true,
                Err(message) => {
                    failures += 1;
                    self.unhealthy("Startup", &message);
                }
            }
            if failures >= rule.failures {
                self.condemn("startup");
                return false;
            }
            tokio::time::sleep(rule.period).await;
        }
    }

    async fn keep_ready(&self, rule: &Rule<'_>, mut checks: Checks) {
        tokio::time::sleep(rule.delay()).await;
        let (mut failures, mut successes) = (0, 0);
        loop {
            match self.once(rule).await {
                Ok(()) => {
                    failures = 0;
                    successes += 1;
                    if !checks.ready && successes >= rule.successes {
                        checks.ready = true;
                        self.checked(checks);
                    }
                }
                Err(message) => {
                    successes = 0;
                    failures += 1;
                    self.unhealthy("Readiness", &message);
                    if checks.ready && failures >= rule.failures {
                        checks.ready = false;
                        self.checked(checks);
                    }
                }
            }
            tokio::time::sleep(rule.period).await;
        }
    }

    async fn keep_alive(&self, rule: &Rule<'_>) {
        tokio::time::sleep(rule.delay()).await;
        let mut failures = 0;
        loop {
            match self.once(rule).await {
                Ok(()) => failures = 0,
                Err(message) => {
                    failures += 1;
                    self.unhealthy("Liveness", &message);
                    if failures >= rule.failures {
                        self.condemn("liveness");
                        return;
                    }
                }
            }
            tokio::time::sleep(rule.period).await;
        }
    }

    async fn once(&self, rule: &Rule<'_>) -> Result<(), String> {
        let probe = rule.probe;
        if let Some(exec) = &probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            return hook::execute(&self.host, &self.id, &command, rule.limit).await;
        }
        if let Some(get) = &probe.http_get {
            return hook::http_get(&self.host, &self.pod, &self.spec, get, rule.limit)
                .await
                .map(|_| ());
        }
        if let Some(socket) = &probe.tcp_socket {
            let port = hook::port(&self.spec, &socket.port)
                .ok_or_else(|| "the port is not one of the container's".to_owned())?;
            let named = socket.host.as_deref().and_then(|host| host.parse().ok());
            let address = named
                .or_else(|| self.host.address(&self.pod))
                .ok_or("the pod has no address")?;
            return hook::tcp(address, port, rule.limit).await;
        }
        // Other kinds of probe are refused before a pod gets here.
        Ok(())
    }
}
