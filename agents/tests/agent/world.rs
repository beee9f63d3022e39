//! One node in memory: its engine, its server, its clock, and the agent between them.

use std::{sync::Arc, time::Duration};

use agents::{
    fake::{Behaviour, FakeOptions, FakeRuntime},
    memory_control::MemoryControl,
    runtime::{Found, Life},
};
use schemas::{Object, Uid, node::PodReport};
use serde_json::{Value, json};

use crate::harness::{Agent, TestClock, is_ready, on_runtime, options, phase, pod};

const RANGE: &str = "10.88.0.0/24";

pub(crate) struct World {
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) control: Arc<MemoryControl>,
    pub(crate) clock: Arc<TestClock>,
    state: tempfile::TempDir,
    agent: Option<Agent>,
}

impl World {
    /// No agent runs yet.
    pub(crate) fn new(fake: FakeOptions) -> Self {
        let clock = TestClock::new();
        Self {
            runtime: FakeRuntime::new(fake, clock.clone()),
            control: MemoryControl::new("cluster-1"),
            clock,
            state: tempfile::tempdir().expect("a directory"),
            agent: None,
        }
    }

    /// An agent that was just told of these pods.
    pub(crate) async fn of(pods: Vec<Object>) -> Self {
        let mut world = Self::new(FakeOptions::default());
        world.control.put(pods);
        world.start().await;
        world
    }

    /// So many pods of one container, which run and are ready.
    pub(crate) async fn running(count: usize) -> Self {
        let world = Self::of(pods(0..count)).await;
        world.ready(0..count).await;
        world
    }

    pub(crate) async fn start(&mut self) {
        assert!(self.agent.is_none(), "an agent runs already");
        let options = options(RANGE, Some(self.state.path().to_owned()));
        self.agent = Some(on_runtime(self.runtime.clone(), &self.control, self.clock.clone(), options).await);
    }

    /// Ends the agent; its containers and its state stay.
    pub(crate) async fn stop(&mut self) {
        self.agent.take().expect("an agent runs").stop().await;
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    /// The state directory.
    pub(crate) fn state(&self) -> &std::path::Path {
        self.state.path()
    }

    /// Every container of this image ends by itself.
    pub(crate) fn ends(&self, image: &str, after: Duration, code: i32) {
        self.runtime.set_behaviour(image, Behaviour::Ends { after, code });
    }

    /// Waits until all of these pods run and are ready.
    pub(crate) async fn ready(&self, range: std::ops::Range<usize>) {
        let uids = uids(range);
        self.control
            .until("all pods run and are ready", |all| {
                uids.iter().all(|uid| {
                    all.get(uid)
                        .is_some_and(|report| phase(report) == "Running" && is_ready(report))
                })
            })
            .await;
    }

    /// Waits until a pod is reported so.
    pub(crate) async fn until(&self, what: &str, name: &str, check: impl Fn(&PodReport) -> bool) -> PodReport {
        let uid = uid(name);
        self.control.until(what, |all| all.get(&uid).is_some_and(&check)).await;
        self.report(name)
    }

    /// Waits until every container of a deleted pod has ended.
    pub(crate) async fn ended(&self, name: &str) {
        self.until("the pod has ended", name, |report| report.terminated).await;
    }

    pub(crate) fn report(&self, name: &str) -> PodReport {
        self.control.report(&uid(name).0).expect("it was reported")
    }

    /// The containers that run.
    pub(crate) fn alive(&self) -> Vec<Found> {
        self.runtime
            .containers()
            .into_iter()
            .filter(|found| matches!(found.life, Life::Running { .. }))
            .collect()
    }

    /// The running container of this name in this pod.
    pub(crate) fn container(&self, pod: &str, name: &str) -> Found {
        let labelled = |found: &Found, label: &str, value: &str| found.labels.get(label).is_some_and(|is| is == value);
        self.alive()
            .into_iter()
            .find(|found| {
                labelled(found, "dev.towline.pod-name", pod) && labelled(found, "dev.towline.container", name)
            })
            .expect("it runs")
    }
}

/// A pod's spec of one container.
pub(crate) fn simple() -> Value {
    json!({"containers": [{"name": "app", "image": "app:1"}]})
}

/// A pod's spec of two containers.
pub(crate) fn double() -> Value {
    json!({"containers": [{"name": "a", "image": "app:1"}, {"name": "b", "image": "app:1"}]})
}

pub(crate) fn uid(name: &str) -> Uid {
    format!("uid-{name}").as_str().into()
}

pub(crate) fn uids(range: std::ops::Range<usize>) -> Vec<Uid> {
    range.map(|n| uid(&format!("p{n}"))).collect()
}

/// The pods p0, p1 and so on.
pub(crate) fn pods(range: std::ops::Range<usize>) -> Vec<Object> {
    range.map(|n| pod(&format!("p{n}"), simple())).collect()
}

/// Lets time pass, in which the agent comes to rest.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
