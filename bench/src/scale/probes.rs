//! What people wait for while the cluster works: single reads, single writes, lists of a namespace.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;

/// The pause between two requests of a kind.
const PAUSE: Duration = Duration::from_millis(50);

/// A Lease of nobody, to write to.
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/team-0/leases";

/// Makes the Lease that is written to.
pub(crate) async fn prepare(cluster: &Cluster) -> anyhow::Result<()> {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "bench", "namespace": "team-0"},
        "spec": {"leaseDurationSeconds": 1},
    });
    let api = cluster.api()?;
    api.ask("POST", LEASES, lease.to_string().into_bytes()).await?;
    Ok(())
}

/// One write; it is answered when it is durable.
pub(crate) fn write(turn: u64) -> (&'static str, String, Vec<u8>) {
    let body = json!({"metadata": {"annotations": {"turn": turn.to_string()}}});
    ("PATCH", format!("{LEASES}/bench"), body.to_string().into_bytes())
}

/// Requests that go on until they are stopped.
pub(crate) struct Probes {
    tasks: JoinSet<(&'static str, Latencies)>,
    stop: CancellationToken,
}

/// How long requests of one kind took.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    took: Vec<Duration>,
    failed: usize,
}

impl Latencies {
    /// The smallest time that `share` of the requests did not exceed.
    fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.took.clone();
        sorted.sort();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a short list"
        )]
        let at = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub(crate) fn show(&self) -> String {
        let ms = |took: Duration| format!("{:.1}", took.as_secs_f64() * 1000.0);
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        format!(
            "{} / {} ms ({} requests{failed})",
            ms(self.quantile(0.5)),
            ms(self.quantile(0.99)),
            self.took.len()
        )
    }
}

impl Probes {
    /// Reads `pod`, writes a Lease and lists the pods of `namespace`, each over and over on a connection
    /// of its own.
    pub(crate) fn start(cluster: &Cluster, pod: &str, namespace: &str) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let read = ("single read", format!("/api/v1/namespaces/team-0/pods/{pod}"));
        let list = ("namespace list", format!("/api/v1/namespaces/{namespace}/pods"));
        for (what, path) in [read, list, ("single write", String::new())] {
            let api = Arc::new(cluster.api()?);
            let stop = stop.clone();
            tasks.spawn(async move {
                let mut latencies = Latencies::default();
                for turn in 1.. {
                    let (method, path, body) = match what {
                        "single write" => write(turn),
                        _ => ("GET", path.clone(), Vec::new()),
                    };
                    let begin = Instant::now();
                    match api.ask(method, &path, body).await {
                        Ok(_) => latencies.took.push(begin.elapsed()),
                        Err(_) => latencies.failed += 1,
                    }
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        () = stop.cancelled() => break,
                    }
                }
                (what, latencies)
            });
        }
        Ok(Self { tasks, stop })
    }

    pub(crate) async fn stop(self) -> Vec<(&'static str, Latencies)> {
        self.stop.cancel();
        let mut all = self.tasks.join_all().await;
        all.sort_by_key(|(what, _)| std::cmp::Reverse(*what));
        all
    }
}
