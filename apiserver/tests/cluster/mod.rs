//! A server on loopback with a store in memory, a small cluster in it, and a real kubectl.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use apiserver::{Authority, Config, Parts, exchange::ByteStream, logs::LogSource, status::ApiError};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use schemas::{Commit, ContentHash, Key, Kind, Object, Uid, Unit, defaulting, node::LogOptions, now::Clock};
use serde_json::{Value, json};
use store::{Class, DesiredRow, MemoryLog, Op, RevisionWrite, Store, SystemClock, UnitAt, Write};
use tokio::{net::TcpListener, process::Command};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than any wait of a test that passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The kubectl to use; the variable `KUBECTL` names another.
fn program() -> std::ffi::OsString {
    std::env::var_os("KUBECTL").unwrap_or_else(|| "kubectl".into())
}

pub(crate) struct Cluster {
    pub store: Store,
    pub url: String,
    pub authority: Arc<Authority>,
    pub folder: tempfile::TempDir,
    _stop: DropGuard,
}

/// Logs that say what was asked for.
struct EchoedLogs;

#[async_trait]
impl LogSource for EchoedLogs {
    async fn logs(&self, node: &str, pod: Key, _uid: Uid, options: LogOptions) -> Result<ByteStream, ApiError> {
        let line = format!(
            "{node} {pod} {} follow={} previous={} tail={:?}\n",
            options.container.unwrap_or_default(),
            options.follow,
            options.previous,
            options.tail_lines
        );
        let lines = [Ok(Bytes::from(line)), Ok(Bytes::from("second line\n"))];
        Ok(futures::stream::iter(lines).boxed())
    }
}

impl Cluster {
    /// Starts a server, with the small cluster of [`Cluster::fill`] in it.
    pub(crate) async fn start() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let store = Store::open(Arc::new(MemoryLog::default()))
            .await
            .expect("a store in memory");
        let now = clock.now();
        let authority = Arc::new(Authority::open(&store, now).await.expect("an authority"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let shutdown = CancellationToken::new();
        let config = Config {
            listener,
            tls: authority.server_config(&[], now).expect("a TLS configuration"),
            parts: Parts {
                store: store.clone(),
                clock,
                authenticator: authority.clone(),
                logs: Arc::new(EchoedLogs),
                mounts: Vec::new(),
            },
        };
        tokio::spawn(apiserver::serve(config, shutdown.clone()));
        let cluster = Self {
            store,
            url,
            authority,
            folder: tempfile::tempdir().expect("a folder"),
            _stop: shutdown.drop_guard(),
        };
        cluster.write_kubeconfig();
        cluster.fill().await;
        cluster
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// The code that curl gets for a body over HTTP/2 at a path, as nobody.
    pub(crate) async fn post_as_nobody(&self, path: &str, body: &str) -> Output {
        let file = self.folder.path().join("body");
        std::fs::write(&file, body).expect("the body is written");
        let mut command = Command::new("curl");
        command
            .args(["--http2", "--silent", "--show-error", "--insecure", "--max-time", "20"])
            .args(["--write-out", "%{http_version} %{http_code}", "--output", "/dev/null"])
            .arg("--data-binary")
            .arg(format!("@{}", file.display()))
            .arg(format!("{}{path}", self.url));
        command.output().await.expect("curl can be run")
    }

    fn write_kubeconfig(&self) {
        std::fs::write(self.folder.path().join("ca.pem"), self.authority.ca_pem()).expect("the CA is written");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority": self.folder.path().join("ca.pem")}}],
            "users": [{"name": "admin", "user": {"token": self.authority.admin_token()}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin", "namespace": "shop"}}],
        });
        std::fs::write(self.kubeconfig(), config.to_string()).expect("the kubeconfig is written");
    }

    /// Stores objects as they stand, defaults filled in.
    pub(crate) async fn create(&self, objects: impl IntoIterator<Item = Value>) -> Vec<Arc<Object>> {
        let writes = objects
            .into_iter()
            .map(|mut value| {
                let uid = format!(
                    "uid-{}-{}",
                    value["kind"].as_str().unwrap_or(""),
                    value["metadata"]["name"].as_str().unwrap_or("")
                );
                if value["metadata"]["uid"].is_null() {
                    value["metadata"]["uid"] = uid.to_lowercase().into();
                }
                value["metadata"]["creationTimestamp"] = jiff::Timestamp::now().to_string().into();
                let kind = Kind::find(
                    value["apiVersion"].as_str().unwrap_or(""),
                    value["kind"].as_str().unwrap_or(""),
                );
                defaulting::default_object(kind.expect("a known kind"), &mut value);
                Write::new(Op::Create(Object::from_value(value).expect("an object")))
            })
            .collect();
        let written = self.store.write(Class::Controller, writes).await;
        written
            .into_iter()
            .map(|answer| answer.expect("it is written"))
            .collect()
    }

    /// Says that git declares objects.
    pub(crate) async fn declare(&self, rows: &[(&str, u32, Value)]) {
        let commit = Commit::from("0123456789012345678901234567890123456789");
        let put: Vec<DesiredRow> = rows
            .iter()
            .map(|(file, line, value)| {
                let key = Object::from_value(value.clone()).expect("an object").key();
                DesiredRow {
                    unit: Unit::of(&key),
                    hash: ContentHash::of(value),
                    content: Arc::new(value.clone()),
                    file: (*file).into(),
                    line: *line,
                    commit: commit.clone(),
                    key,
                }
            })
            .collect();
        let at = UnitAt {
            commit: commit.clone(),
            held: None,
            may_delete: true,
        };
        let revision = RevisionWrite {
            base: self.store.desired().revision,
            commit,
            author: "a".into(),
            subject: "s".into(),
            at: jiff::Timestamp::now(),
            units: put.iter().map(|row| (row.unit.clone(), at.clone())).collect(),
            put,
            drop: Vec::new(),
            problems: Vec::new(),
            confirm_trailer: None,
            source_error: None,
        };
        self.store.record(revision).await.expect("the revision is recorded");
    }

    async fn fill(&self) {
        let template = json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 80}]}]},
        });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        });
        let config = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "shop"},
            "data": {"a": "1", "b": "2"},
        });
        self.declare(&[
            ("namespaces/shop/web.yaml", 1, deployment.clone()),
            ("namespaces/shop/settings.yaml", 3, config.clone()),
        ])
        .await;
        let mut live = deployment;
        live["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "1"});
        live["status"] = json!({
            "observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
            "conditions": [
                {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
                {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
            ],
        });
        let owner = |api: &str, kind: &str, name: &str| {
            json!([{"apiVersion": api, "kind": kind, "name": name, "controller": true,
                "uid": format!("uid-{}-{name}", kind.to_lowercase())}])
        };
        let replica_set = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "web-abc", "namespace": "shop", "labels": {"app": "web", "pod-template-hash": "abc"},
                "annotations": {"deployment.kubernetes.io/revision": "1"},
                "ownerReferences": owner("apps/v1", "Deployment", "web")},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web", "pod-template-hash": "abc"}},
                "template": {"metadata": {"labels": {"app": "web", "pod-template-hash": "abc"}}, "spec": live["spec"]["template"]["spec"]}},
            "status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "observedGeneration": 1},
        });
        let mut objects = vec![
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}, "status": {"phase": "Active"}}),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}, "status": {"phase": "Active"}}),
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}},
                "spec": {"podCIDR": "10.1.0.0/24"},
                "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "AgentReady"}],
                    "capacity": {"cpu": "2", "memory": "4Gi", "pods": "110"}, "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"},
                    "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n1"}],
                    "nodeInfo": {"kubeletVersion": "v1.33.0+towline", "osImage": "Debian", "kernelVersion": "6.1",
                        "containerRuntimeVersion": "docker://20.10", "architecture": "amd64", "operatingSystem": "linux"}}}),
            config,
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "shop"},
                "type": "Opaque", "data": {"k": "djE="}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
                "spec": {"selector": {"app": "web"}, "clusterIP": "10.2.0.7", "ports": [{"port": 80, "protocol": "TCP"}]}}),
            live,
            replica_set,
            json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "web-1.e1", "namespace": "shop"},
                "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web-1", "uid": "uid-pod-web-1", "apiVersion": "v1"},
                "type": "Normal", "reason": "Started", "message": "Started container web", "count": 1,
                "firstTimestamp": jiff::Timestamp::now().to_string(), "lastTimestamp": jiff::Timestamp::now().to_string(),
                "source": {"component": "agent", "host": "n1"}}),
        ];
        for name in ["web-1", "web-2"] {
            objects.push(pod(name, &owner("apps/v1", "ReplicaSet", "web-abc")));
        }
        self.create(objects).await;
    }

    /// A kubectl command for this server.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs kubectl; panics with all that it wrote if it does not end well or in time.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        let (out, err) = texts(&output);
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}\n{out}\n{err}",
            output.status
        );
        out
    }

    /// Runs kubectl, which must fail; returns what it wrote to standard error.
    pub(crate) async fn fails(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        let (out, err) = texts(&output);
        assert!(
            !output.status.success(),
            "kubectl {arguments:?} went well:\n{out}\n{err}"
        );
        err
    }

    pub(crate) async fn output(&self, arguments: &[&str]) -> Output {
        let command = self.kubectl(arguments).output();
        tokio::time::timeout(PATIENCE, command)
            .await
            .unwrap_or_else(|_| panic!("kubectl {arguments:?} takes too long"))
            .expect("kubectl can be run")
    }

    /// A file for `kubectl -f`.
    pub(crate) fn file(&self, name: &str, value: &Value) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, value.to_string()).expect("the file is written");
        path.display().to_string()
    }
}

pub(crate) fn texts(output: &Output) -> (String, String) {
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// A running pod on the node.
pub(crate) fn pod(name: &str, owners: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": "web", "pod-template-hash": "abc"}, "ownerReferences": owners},
        "spec": {"nodeName": "n1", "containers": [{"name": "web", "image": "web:1",
            "envFrom": [{"configMapRef": {"name": "settings"}}]}]},
        "status": {"phase": "Running", "podIP": "10.1.0.5", "startTime": jiff::Timestamp::now().to_string(),
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{"name": "web", "image": "web:1", "imageID": "i", "ready": true, "started": true,
                "restartCount": 0, "state": {"running": {"startedAt": jiff::Timestamp::now().to_string()}}, "lastState": {}}]},
    })
}

/// Says loudly that a test did not run.
fn skipped(why: &str) {
    let line = format!("SKIPPED: {why}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// Whether there is a kubectl of at least version 1.`minor`. Where there is none at all a test run
/// by CI fails.
pub(crate) async fn has_kubectl(minor: u32) -> bool {
    let output = Command::new(program())
        .args(["version", "--client", "-o", "json"])
        .output()
        .await;
    let version = output
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok());
    let Some(version) = version else {
        skipped("there is no kubectl on this machine; install Debian's kubernetes-client");
        assert!(std::env::var_os("CI").is_none(), "CI must have a kubectl");
        return false;
    };
    let found: u32 = version["clientVersion"]["minor"]
        .as_str()
        .and_then(|text| {
            text.trim_end_matches(|letter: char| !letter.is_ascii_digit())
                .parse()
                .ok()
        })
        .unwrap_or(0);
    if found < minor {
        skipped(&format!(
            "kubectl 1.{found} is not supported here; this needs 1.{minor} or newer"
        ));
        return false;
    }
    true
}
