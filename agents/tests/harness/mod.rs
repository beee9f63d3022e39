//! An agent with a server in memory, on a fake runtime or on Docker.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::{path::PathBuf, sync::Arc, time::Instant};

use agents::{Options, Running, memory_control::MemoryControl};
use jiff::Timestamp;
use schemas::{Now, Object, now::Clock};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub struct RealClock(Instant);

impl RealClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for RealClock {
    fn now(&self) -> Now {
        Now {
            wall: Timestamp::now(),
            monotonic: self.0.elapsed(),
        }
    }
}

/// Follows tokio's time, so that a paused test goes through minutes at once. Its wall clock steps when
/// a test says so.
pub struct TestClock {
    start: tokio::time::Instant,
    wall: parking_lot::Mutex<Timestamp>,
}

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            start: tokio::time::Instant::now(),
            wall: parking_lot::Mutex::new("2026-01-01T00:00:00Z".parse().expect("it is a time")),
        })
    }

    /// Somebody sets the wall clock.
    pub fn step(&self, by: jiff::SignedDuration) {
        *self.wall.lock() += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let monotonic = self.start.elapsed();
        Now {
            wall: *self.wall.lock() + monotonic,
            monotonic,
        }
    }
}

pub fn object(value: Value) -> Object {
    Object::from_value(value).expect("it is an object")
}

/// A pod of the namespace `test`.
pub fn pod(name: &str, spec: Value) -> Object {
    pod_of(&format!("uid-{name}"), name, spec)
}

pub fn pod_of(uid: &str, name: &str, mut spec: Value) -> Object {
    spec["nodeName"] = "node".into();
    object(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "test", "uid": uid, "labels": {"app": name}},
        "spec": spec,
    }))
}

pub fn deleting(object: &Object, grace: i64) -> Object {
    let mut object = object.clone();
    object.meta.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now()));
    object.meta.deletion_grace_period_seconds = Some(grace);
    object
}

pub fn phase(report: &schemas::node::PodReport) -> &str {
    report.status["phase"].as_str().unwrap_or("")
}

pub fn is_ready(report: &schemas::node::PodReport) -> bool {
    report.status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The reason for which the first container waits.
pub fn waits(report: &schemas::node::PodReport) -> &str {
    report.status["containerStatuses"][0]["state"]["waiting"]["reason"]
        .as_str()
        .unwrap_or("")
}

pub struct Agent {
    pub running: Running,
    pub shutdown: CancellationToken,
}

impl Agent {
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.running.ended().await;
    }
}

pub fn options(range: &str, state: Option<PathBuf>) -> Options {
    Options {
        state_dir: state,
        ..Options::new("node", range)
    }
}

pub async fn on_runtime(
    runtime: Arc<dyn agents::Runtime>,
    control: &Arc<MemoryControl>,
    clock: Arc<dyn Clock>,
    options: Options,
) -> Agent {
    let shutdown = CancellationToken::new();
    let running = agents::start_on(options, runtime, control.clone(), clock, shutdown.clone())
        .await
        .expect("the agent starts");
    Agent { running, shutdown }
}
