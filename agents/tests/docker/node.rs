//! A node on Docker that cleans up, and what its tests share.

use std::{path::Path, process::Command, sync::Arc};

use agents::{Docker, Options, Runtime, memory_control::MemoryControl};
use schemas::{
    Key, Kind, Object, Uid,
    node::{LogOptions, PodReport, SessionRequest},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{RealClock, is_ready, object, options};

pub(crate) const IMAGE: &str = "towline-agents-test/busybox:1";

pub(crate) fn socket() -> String {
    std::env::var("TOWLINE_TEST_DOCKER").unwrap_or_else(|_| "/var/run/docker.sock".to_owned())
}

pub(crate) fn docker(arguments: &[&str]) -> String {
    let out = Command::new("docker")
        .args(["-H", &format!("unix://{}", socket())])
        .args(arguments)
        .output()
        .expect("the docker command can be run");
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let text = text.trim().to_owned();
    if !out.status.success() {
        eprintln!("docker {arguments:?} ended with {}: {text}", out.status);
    }
    text
}

/// An image of busybox alone.
pub(crate) async fn image() {
    let runtime = Docker::new(&socket());
    if runtime
        .image(IMAGE)
        .await
        .expect("Docker answers; start it, or run `make setup`")
        .is_some()
    {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).expect("a directory");
    std::fs::create_dir(dir.path().join("tmp")).expect("a directory");
    std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
    for name in [
        "sh", "sleep", "cat", "hostname", "wget", "httpd", "nc", "dd", "id", "echo", "head", "tail", "ip",
    ] {
        std::os::unix::fs::symlink("busybox", bin.join(name)).expect("a link");
    }
    let tar = Command::new("tar")
        .arg("-C")
        .arg(dir.path())
        .args(["-c", "."])
        .output()
        .expect("tar runs")
        .stdout;
    let changes = ["ENV PATH=/bin".to_owned(), "CMD [\"sh\"]".to_owned()];
    runtime
        .import(IMAGE, tar.into(), &changes)
        .await
        .expect("the image can be made");
}

/// A node on Docker that cleans up.
pub(crate) struct Node {
    pub(crate) control: Arc<MemoryControl>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: Option<agents::Running>,
    pub(crate) options: Options,
    pub(crate) node_uid: String,
    pub(crate) network: String,
}

impl Node {
    pub(crate) async fn start(cluster: &str, range: &str, state: &Path) -> Self {
        image().await;
        let mut node = Self {
            control: MemoryControl::new(cluster),
            shutdown: CancellationToken::new(),
            running: None,
            options: Options {
                docker: socket(),
                ..options(range, Some(state.to_owned()))
            },
            node_uid: String::new(),
            network: String::new(),
        };
        node.resume().await;
        node
    }

    pub(crate) async fn resume(&mut self) {
        self.shutdown = CancellationToken::new();
        let running = agents::start(
            self.options.clone(),
            self.control.clone(),
            RealClock::new(),
            self.shutdown.clone(),
        )
        .await
        .expect("the agent starts");
        self.node_uid = running.node_uid.to_string();
        self.network = running.network.clone();
        self.running = Some(running);
    }

    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            running.ended().await;
        }
    }

    pub(crate) async fn until(&self, what: &str, name: &str, check: impl Fn(&PodReport) -> bool) -> PodReport {
        let uid = Uid::from(format!("uid-{name}").as_str());
        self.control.until(what, |all| all.get(&uid).is_some_and(&check)).await;
        self.control.report(&uid.0).expect("it was reported")
    }

    pub(crate) async fn ready(&self, name: &str) -> PodReport {
        self.until("the pod is ready", name, is_ready).await
    }

    pub(crate) fn exec(&self, report: &PodReport, container: usize, script: &str) -> String {
        docker(&["exec", &id(report, container), "sh", "-c", script])
    }

    pub(crate) fn all(&self) -> Vec<String> {
        let label = format!("label=dev.towline.node-uid={}", self.node_uid);
        let mut ids: Vec<String> = docker(&["ps", "-aq", "--no-trunc", "--filter", &label])
            .lines()
            .map(str::to_owned)
            .collect();
        ids.sort();
        ids
    }

    pub(crate) async fn log(&self, name: &str, options: LogOptions) -> String {
        let id = format!("ask-{name}");
        let request = SessionRequest::Logs {
            id: id.clone(),
            pod: Key::namespaced(Kind::Pod, "test", name),
            uid: format!("uid-{name}").as_str().into(),
            options,
        };
        let answer = self
            .control
            .ask(&id, request)
            .await
            .expect("the agent listens")
            .expect("there is a log");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
        for id in self.all() {
            docker(&["rm", "-f", &id]);
        }
        docker(&["network", "rm", &self.network]);
    }
}

pub(crate) fn id(report: &PodReport, container: usize) -> String {
    let id = report.status["containerStatuses"][container]["containerID"]
        .as_str()
        .unwrap_or_default();
    id.trim_start_matches("docker://").to_owned()
}

pub(crate) fn shell(script: &str) -> Value {
    json!({"name": "app", "image": IMAGE, "command": ["sh", "-c", script]})
}

pub(crate) fn config(name: &str, value: &str) -> Object {
    object(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "test", "uid": format!("uid-{name}"), "resourceVersion": value.len().to_string()},
        "data": {"key": value},
    }))
}

pub(crate) const FOREVER: &str = "trap 'echo ending; exit 0' TERM; while :; do sleep 0.05; done";
