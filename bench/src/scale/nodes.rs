//! Simulated nodes: the agents' own code above a runtime in memory, many in one process, each with its
//! own certificate and its own connections to the server.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use agents::{
    ControlPlane, HttpControl, HttpOptions,
    control::{ControlError, Resume, SessionAnswer},
    fake::{FakeOptions, FakeRuntime},
};
use anyhow::Context;
use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use parking_lot::Mutex;
use rcgen::{CertificateParams, DnType, KeyPair};
use schemas::{
    Uid,
    node::{Frame, Heartbeat, Identity, Missing, PodReport, Registered, Registration, SessionRequest, Stats, Told},
};
use tokio_util::sync::CancellationToken;

use super::{api::Api, cluster::Cluster};
use crate::IMAGE_2;

/// Nodes that make themselves known at a time.
const AT_ONCE: usize = 64;

/// What all nodes have seen and said.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Streams that began, and those of them that began with everything anew.
    streams: AtomicUsize,
    snapshots: AtomicUsize,
    /// Pods that are running and ready, by the image's version, as reported and confirmed: a report is
    /// confirmed when it is durable.
    ready: [AtomicUsize; 2],
    /// When each count of ready pods was last higher than ever before.
    newest: Mutex<[Option<(usize, Instant)>; 2]>,
}

impl Seen {
    /// Streams that began since the last call of [`Seen::forget_streams`], and those with a snapshot.
    pub(crate) fn streams(&self) -> (usize, usize) {
        (
            self.streams.load(Ordering::Relaxed),
            self.snapshots.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn forget_streams(&self) {
        self.streams.store(0, Ordering::Relaxed);
        self.snapshots.store(0, Ordering::Relaxed);
    }

    /// Ready pods with the first or the second image.
    pub(crate) fn ready(&self, second: bool) -> usize {
        self.ready[usize::from(second)].load(Ordering::Relaxed)
    }

    /// When the newest of the ready pods with an image came.
    pub(crate) fn last(&self, second: bool) -> Option<Instant> {
        self.newest.lock()[usize::from(second)].map(|(_, at)| at)
    }

    fn count(&self, before: Option<bool>, after: Option<bool>) {
        if before == after {
            return;
        }
        if let Some(second) = before {
            self.ready[usize::from(second)].fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(second) = after {
            let now = self.ready[usize::from(second)].fetch_add(1, Ordering::Relaxed) + 1;
            let newest = &mut self.newest.lock()[usize::from(second)];
            if newest.is_none_or(|(highest, _)| highest < now) {
                *newest = Some((now, Instant::now()));
            }
        }
    }
}

/// The server as one node sees it, with what goes by counted.
struct Counted {
    inner: Arc<HttpControl>,
    seen: Arc<Seen>,
    /// Ready pods, and whether they have the second image.
    ready: Mutex<HashMap<Uid, bool>>,
}

impl Counted {
    fn note(&self, reports: &[PodReport]) {
        let mut ready = self.ready.lock();
        for report in reports {
            let first = &report.status["containerStatuses"][0];
            let after = (first["ready"] == true && !report.terminated).then(|| first["image"] == IMAGE_2);
            let before = match after {
                Some(second) => ready.insert(report.uid.clone(), second),
                None => ready.remove(&report.uid),
            };
            self.seen.count(before, after);
        }
    }
}

#[async_trait]
impl ControlPlane for Counted {
    async fn identify(&self, proposed: &Identity) -> Result<Identity, ControlError> {
        self.inner.identify(proposed).await
    }

    async fn register(&self, registration: &Registration) -> Result<Registered, ControlError> {
        self.inner.register(registration).await
    }

    async fn stream(
        &self,
        resume: Option<Resume>,
    ) -> Result<BoxStream<'static, Result<Frame, ControlError>>, ControlError> {
        let frames = self.inner.stream(resume).await?;
        let seen = self.seen.clone();
        let mut first = true;
        let counted = frames.inspect(move |frame| {
            if let Ok(frame) = frame
                && std::mem::take(&mut first)
            {
                seen.streams.fetch_add(1, Ordering::Relaxed);
                if matches!(frame, Frame::Snapshot { .. }) {
                    seen.snapshots.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(counted.boxed())
    }

    async fn report(&self, reports: &[PodReport]) -> Result<(), ControlError> {
        self.inner.report(reports).await?;
        self.note(reports);
        Ok(())
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), ControlError> {
        self.inner.heartbeat(heartbeat).await
    }

    async fn stats(&self, stats: &Stats) -> Result<(), ControlError> {
        self.inner.stats(stats).await
    }

    async fn fates(&self, missing: &[Missing]) -> Result<Vec<Told>, ControlError> {
        self.inner.fates(missing).await
    }

    async fn sessions(&self) -> Result<BoxStream<'static, Result<SessionRequest, ControlError>>, ControlError> {
        self.inner.sessions().await
    }

    async fn answer(&self, id: &str, answer: SessionAnswer) -> Result<(), ControlError> {
        self.inner.answer(id, answer).await
    }
}

/// The running nodes.
pub(crate) struct Nodes {
    pub(crate) seen: Arc<Seen>,
    runtimes: Vec<Arc<FakeRuntime>>,
    running: Vec<agents::Running>,
    shutdown: CancellationToken,
}

impl Nodes {
    /// Gives each node a certificate and starts its agent; waits until all streams are open.
    pub(crate) async fn start(cluster: &Cluster, count: usize) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let ca = std::fs::read(cluster.data().join("ca.pem"))?;
        let api = Api::new(&cluster.data(), cluster.port(), "join-token")?;
        let mut nodes = Self {
            seen: Arc::default(),
            runtimes: Vec::new(),
            running: Vec::new(),
            shutdown: CancellationToken::new(),
        };
        for first in (0..count).step_by(AT_ONCE) {
            let some = first..(first + AT_ONCE).min(count);
            let mut starts = Vec::new();
            for number in some.clone() {
                let certificate = certificate(&api, &key, number).await?;
                starts.push(nodes.one(cluster, number, ca.clone(), certificate, key.serialize_pem()));
            }
            let started: Vec<_> = stream::iter(starts).buffer_unordered(AT_ONCE).collect().await;
            for node in started {
                let (runtime, running) = node?;
                nodes.runtimes.push(runtime);
                nodes.running.push(running);
            }
            nodes.opened(some.end, Duration::from_secs(120)).await?;
        }
        Ok(nodes)
    }

    /// Waits until so many streams have begun.
    pub(crate) async fn opened(&self, count: usize, patience: Duration) -> anyhow::Result<Instant> {
        let begin = Instant::now();
        while self.seen.streams().0 < count {
            anyhow::ensure!(
                begin.elapsed() < patience,
                "{} of {count} streams are open after {patience:?}",
                self.seen.streams().0
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Instant::now())
    }

    fn one(
        &self,
        cluster: &Cluster,
        number: usize,
        ca: Vec<u8>,
        certificate: Vec<u8>,
        key: String,
    ) -> impl Future<Output = anyhow::Result<(Arc<FakeRuntime>, agents::Running)>> + use<> {
        let name = name(number);
        let server = format!("127.0.0.1:{}", cluster.port());
        let (seen, shutdown) = (self.seen.clone(), self.shutdown.clone());
        async move {
            let control = Counted {
                inner: HttpControl::new(HttpOptions {
                    server,
                    node: name.as_str().into(),
                    ca,
                    certificate,
                    key: key.into_bytes(),
                })?,
                seen,
                ready: Mutex::default(),
            };
            let clock = Arc::new(store::SystemClock::default());
            let runtime = FakeRuntime::new(FakeOptions::default(), clock.clone());
            let range = format!("10.{}.{}.0/24", number / 256, number % 256);
            let mut options = agents::Options::new(&name, &range);
            options.machine_id = Some(name);
            let running = agents::start_on(options, runtime.clone(), Arc::new(control), clock, shutdown).await?;
            Ok((runtime, running))
        }
    }

    /// How many containers were started, of all nodes together.
    pub(crate) fn starts(&self) -> u64 {
        self.runtimes.iter().map(|runtime| runtime.count("start")).sum()
    }

    /// Ends them all.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        for running in self.running {
            running.ended().await;
        }
    }
}

fn name(number: usize) -> String {
    format!("node-{number:05}")
}

/// Has the server sign a certificate, as an agent that joins does. One key serves all nodes: making
/// thousands is no part of what is measured.
async fn certificate(api: &Api, key: &KeyPair, number: usize) -> anyhow::Result<Vec<u8>> {
    let name = name(number);
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("system:node:{name}"));
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    let request = params.serialize_request(key)?.pem()?;
    let path = format!("/towline/v1/nodes/{name}/certificate?machine={name}");
    let signed = api.ask("POST", &path, request.into_bytes()).await;
    Ok(signed.context("the server gives no certificate")?.to_vec())
}
