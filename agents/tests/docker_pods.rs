//! Agents on a real Docker engine. Each test has its own range, and removes what it made.

#![allow(clippy::print_stderr, reason = "what was skipped must be seen")]

mod harness;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use agents::{Docker, Options, Runtime, memory_control::MemoryControl, runtime::LogRequest};
use futures::StreamExt;
use harness::{RealClock, deleting, is_ready, object, options, phase, pod, waits};
use schemas::{
    Key, Kind, Object, Uid,
    node::{LogOptions, PodReport, SessionRequest},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const IMAGE: &str = "towline-agents-test/busybox:1";

fn socket() -> String {
    std::env::var("TOWLINE_TEST_DOCKER").unwrap_or_else(|_| "/var/run/docker.sock".to_owned())
}

fn docker(arguments: &[&str]) -> String {
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
async fn image() {
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
struct Node {
    control: Arc<MemoryControl>,
    shutdown: CancellationToken,
    running: Option<agents::Running>,
    options: Options,
    node_uid: String,
    network: String,
}

impl Node {
    async fn start(cluster: &str, range: &str, state: &Path) -> Self {
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

    async fn resume(&mut self) {
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

    async fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            running.ended().await;
        }
    }

    async fn until(&self, what: &str, name: &str, check: impl Fn(&PodReport) -> bool) -> PodReport {
        let uid = Uid::from(format!("uid-{name}").as_str());
        self.control.until(what, |all| all.get(&uid).is_some_and(&check)).await;
        self.control.report(&uid.0).expect("it was reported")
    }

    async fn ready(&self, name: &str) -> PodReport {
        self.until("the pod is ready", name, is_ready).await
    }

    fn exec(&self, report: &PodReport, container: usize, script: &str) -> String {
        docker(&["exec", &id(report, container), "sh", "-c", script])
    }

    fn all(&self) -> Vec<String> {
        let label = format!("label=dev.towline.node-uid={}", self.node_uid);
        let mut ids: Vec<String> = docker(&["ps", "-aq", "--no-trunc", "--filter", &label])
            .lines()
            .map(str::to_owned)
            .collect();
        ids.sort();
        ids
    }

    async fn log(&self, name: &str, options: LogOptions) -> String {
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

fn id(report: &PodReport, container: usize) -> String {
    let id = report.status["containerStatuses"][container]["containerID"]
        .as_str()
        .unwrap_or_default();
    id.trim_start_matches("docker://").to_owned()
}

fn shell(script: &str) -> Value {
    json!({"name": "app", "image": IMAGE, "command": ["sh", "-c", script]})
}

fn config(name: &str, value: &str) -> Object {
    object(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "test", "uid": format!("uid-{name}"), "resourceVersion": value.len().to_string()},
        "data": {"key": value},
    }))
}

const FOREVER: &str = "trap 'echo ending; exit 0' TERM; while :; do sleep 0.05; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_its_name_address_and_files_and_ends_gracefully() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start("agents-files", "10.213.11.0/24", dir.path()).await;
    node.control.put(vec![pod(
        "web",
        json!({"containers": [shell(&format!("hostname; {FOREVER}"))]}),
    )]);
    let report = node.ready("web").await;
    let ip = report.status["podIP"].as_str().expect("it has an address").to_owned();
    assert!(ip.starts_with("10.213.11."));
    assert_eq!(node.exec(&report, 0, "hostname"), "web");
    assert_eq!(node.exec(&report, 0, "cat /etc/hostname"), "web");
    assert!(node.exec(&report, 0, "cat /etc/hosts").contains(&format!("{ip}\tweb")));
    assert!(node.exec(&report, 0, "ip addr").contains(&format!("{ip}/24")));
    assert!(node.exec(&report, 0, "cat /etc/resolv.conf").contains("nameserver"));
    assert_eq!(
        docker(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", &id(&report, 0)]),
        "no"
    );

    // Adoption: another agent process finds everything as it is.
    let before = node.all();
    node.stop().await;
    node.resume().await;
    node.control
        .put(vec![pod("other", json!({"containers": [shell(FOREVER)]}))]);
    let other = node.ready("other").await;
    assert_ne!(other.status["podIP"], ip.as_str());
    let after = node.all();
    assert!(
        before.iter().all(|id| after.contains(id)) && after.len() == before.len() + 1,
        "nothing was made anew"
    );
    assert_eq!(
        docker(&["inspect", "-f", "{{.State.Running}} {{.RestartCount}}", &before[0]]),
        "true 0"
    );

    let runtime = Docker::new(&socket());
    let log = runtime
        .logs(
            &id(&report, 0),
            &LogRequest {
                follow: true,
                ..LogRequest::default()
            },
        )
        .await
        .expect("there is a log");
    let spec = json!({"containers": [shell(&format!("hostname; {FOREVER}"))]});
    node.control.put(vec![deleting(&pod("web", spec), 30)]);
    let text: Vec<_> = log
        .map(|line| String::from_utf8_lossy(&line.unwrap_or_default()).into_owned())
        .collect()
        .await;
    assert_eq!(text.concat(), "web\nending\n", "it was asked to end, and had the time");
    node.until("it has ended", "web", |report| report.terminated).await;
    assert_eq!(node.all().len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_told_apart_and_logs_of_before_are_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start("agents-ends", "10.213.12.0/24", dir.path()).await;
    let never = |container: Value| json!({"restartPolicy": "Never", "containers": [container]});
    let mut hungry = shell("head -c 200000000 /dev/zero | tail");
    hungry["resources"] = json!({"limits": {"memory": "16Mi"}});
    let broken = json!({"name": "app", "image": IMAGE, "command": ["/no/such/file"]});
    let mut nobody = shell("id -u");
    nobody["securityContext"] = json!({"runAsUser": 1234});
    node.control.put(vec![
        pod("good", never(shell("echo -n bye > /dev/termination-log"))),
        pod("bad", never(shell("exit 3"))),
        pod("hungry", never(hungry)),
        pod("nobody", never(nobody)),
        pod("broken", json!({"containers": [broken]})),
        pod("crash", json!({"containers": [shell("echo here $RANDOM; exit 1")]})),
        pod("config", json!({"containers": [{"name": "app", "image": IMAGE, "envFrom": [{"configMapRef": {"name": "late"}}], "command": ["sh", "-c", format!("echo $key; {FOREVER}")]}]})),
    ]);
    let ended = |report: &PodReport| report.status["containerStatuses"][0]["state"]["terminated"].clone();
    let report = node
        .until("it succeeded", "good", |report| phase(report) == "Succeeded")
        .await;
    assert_eq!(ended(&report)["reason"], "Completed");
    assert_eq!(ended(&report)["message"], "bye");
    let report = node.until("it failed", "bad", |report| phase(report) == "Failed").await;
    assert_eq!(
        (ended(&report)["exitCode"].clone(), ended(&report)["reason"].clone()),
        (3.into(), "Error".into())
    );
    node.until("it ran out of memory", "hungry", |report| {
        ended(report)["reason"] == "OOMKilled"
    })
    .await;
    node.until("it ran", "nobody", |report| phase(report) == "Succeeded")
        .await;
    assert_eq!(node.log("nobody", LogOptions::default()).await, "1234\n");
    let report = node
        .until("it cannot run", "broken", |report| waits(report) == "CrashLoopBackOff")
        .await;
    let last = &report.status["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["reason"], "ContainerCannotRun", "{last}");
    assert!(
        last["message"]
            .as_str()
            .is_some_and(|message| message.contains("/no/such/file")),
        "{last}"
    );

    let report = node
        .until("it waits", "crash", |report| waits(report) == "CrashLoopBackOff")
        .await;
    assert_eq!(report.status["containerStatuses"][0]["restartCount"], 1);
    let now = node.log("crash", LogOptions::default()).await;
    let before = node
        .log(
            "crash",
            LogOptions {
                previous: true,
                ..LogOptions::default()
            },
        )
        .await;
    assert!(now.starts_with("here") && before.starts_with("here"), "{now} {before}");

    node.until("it waits for its configuration", "config", |report| {
        waits(report) == "CreateContainerConfigError"
    })
    .await;
    node.control.put(vec![config("late", "v1")]);
    node.ready("config").await;
    assert_eq!(node.log("config", LogOptions::default()).await, "v1\n");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_share_its_network_and_volumes() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start("agents-several", "10.213.13.0/24", dir.path()).await;
    let spec = json!({
        "initContainers": [{
            "name": "setup", "image": IMAGE, "command": ["sh", "-c", "echo -n from-init > /shared/index.html"],
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        }],
        "containers": [
            {
                "name": "web", "image": IMAGE, "command": ["httpd", "-f", "-p", "8080", "-h", "/shared"],
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
                "readinessProbe": {"httpGet": {"port": 8080, "path": "/index.html"}, "periodSeconds": 1},
                "livenessProbe": {"tcpSocket": {"port": 8080}},
            },
            {
                "name": "app", "image": IMAGE, "command": ["sh", "-c", FOREVER],
                "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "me", "mountPath": "/me"}],
                "startupProbe": {"exec": {"command": ["cat", "/config/key"]}, "periodSeconds": 1},
                "lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "echo started > /tmp/hook"]}}},
            },
        ],
        "volumes": [
            {"name": "shared", "emptyDir": {}},
            {"name": "config", "configMap": {"name": "settings"}},
            {"name": "me", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ],
    });
    node.control
        .put(vec![config("settings", "one"), pod("both", spec.clone())]);
    let report = node.ready("both").await;
    assert_eq!(
        node.exec(&report, 1, "wget -qO- http://127.0.0.1:8080/index.html"),
        "from-init"
    );
    assert_eq!(node.exec(&report, 1, "hostname"), "both");
    assert_eq!(
        node.exec(&report, 1, "cat /config/key /tmp/hook /me/labels"),
        "onestarted\napp=\"both\""
    );
    assert_eq!(node.all().len(), 4, "the network, the finished init container, and two");
    node.control.put(vec![config("settings", "changed")]);
    for _ in 0..200 {
        if node.exec(&report, 1, "cat /config/key") == "changed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.exec(&report, 1, "cat /config/key"), "changed");
    // The end of one container is no matter of the other.
    docker(&["kill", &id(&report, 1)]);
    let again = node
        .until("it was restarted", "both", |report| {
            report.status["containerStatuses"][1]["restartCount"] == 1 && is_ready(report)
        })
        .await;
    assert_eq!(id(&again, 0), id(&report, 0));
    assert_ne!(id(&again, 1), id(&report, 1));
    node.control.put(vec![deleting(&pod("both", spec), 2)]);
    node.until("it has ended", "both", |report| report.terminated).await;
    assert!(node.all().is_empty());
    node.control.remove(&["uid-both".into()]);
    for _ in 0..200 {
        if !dir.path().join("pods/uid-both").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        !dir.path().join("pods/uid-both").exists(),
        "its directory is gone with it"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_in_use_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start("agents-range", "10.213.14.0/24", dir.path()).await;
    let second = tempfile::tempdir().expect("a directory");
    let options = Options {
        docker: socket(),
        ..options("10.213.14.128/25", Some(second.path().to_owned()))
    };
    let refused = agents::start(
        options,
        node.control.clone(),
        RealClock::new(),
        CancellationToken::new(),
    )
    .await;
    let error = refused.expect_err("the range is taken").to_string();
    assert!(
        error.contains(&node.network) && error.contains("10.213.14.0/24"),
        "{error}"
    );
    let same_dir = Options {
        docker: socket(),
        ..options_for(dir.path())
    };
    let refused = agents::start(
        same_dir,
        node.control.clone(),
        RealClock::new(),
        CancellationToken::new(),
    )
    .await;
    assert!(
        refused
            .expect_err("the directory is locked")
            .to_string()
            .contains("another agent")
    );
    node.stop().await;
}

fn options_for(dir: &Path) -> Options {
    options("10.213.15.0/24", Some(dir.to_owned()))
}

/// Debian's `docker-registry` on loopback.
struct Registry {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Registry {
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a free port")
            .port();
        let file = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}/data\nhttp:\n  addr: 127.0.0.1:{port}\n",
            dir.path().display()
        );
        std::fs::write(&file, text).expect("a file");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Some(Self {
            child: child.ok()?,
            port,
            _dir: dir,
        })
    }

    async fn answers(&self) {
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the registry does not answer");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_come_from_a_registry_and_a_missing_one_backs_off() {
    let Some(registry) = Registry::start() else {
        assert!(std::env::var("CI").is_err(), "docker-registry is not installed");
        eprintln!("SKIPPED: docker-registry is not installed (Debian's package of that name)");
        return;
    };
    registry.answers().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start("agents-pull", "10.213.16.0/24", dir.path()).await;
    let remote = format!("localhost:{}/team/app:1", registry.port);
    docker(&["tag", IMAGE, &remote]);
    let pushed = docker(&["push", &remote]);
    assert!(pushed.contains("digest:"), "{pushed}");
    docker(&["rmi", &remote]);
    let spec = |image: &str| json!({"containers": [{"name": "app", "image": image, "command": ["sh", "-c", FOREVER]}]});
    let missing = format!("localhost:{}/team/none:1", registry.port);
    node.control
        .put(vec![pod("there", spec(&remote)), pod("missing", spec(&missing))]);
    let report = node.ready("there").await;
    let image_id = &report.status["containerStatuses"][0]["imageID"];
    assert!(
        image_id
            .as_str()
            .is_some_and(|id| id.starts_with("docker-pullable://localhost:") && id.contains("@sha256:")),
        "{image_id}"
    );
    // Events follow the status that they explain.
    let reasons = || -> Vec<String> {
        node.control
            .reports()
            .into_iter()
            .filter(|report| &*report.uid.0 == "uid-there")
            .flat_map(|report| report.events)
            .map(|event| event.reason)
            .collect()
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while reasons().len() < 4 && std::time::Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let reasons = reasons();
    assert_eq!(reasons, ["Pulling", "Pulled", "Created", "Started"]);
    let report = node
        .until("the pull failed", "missing", |report| waits(report) == "ErrImagePull")
        .await;
    let message = report.status["containerStatuses"][0]["state"]["waiting"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(message.contains("team/none"), "{message}");
    node.until("the pull is backed off", "missing", |report| {
        waits(report) == "ImagePullBackOff"
    })
    .await;
    docker(&["tag", IMAGE, &missing]);
    docker(&["push", &missing]);
    docker(&["rmi", &missing]);
    node.ready("missing").await;
    node.stop().await;
    drop(node);
    docker(&["rmi", &remote]);
    docker(&["rmi", &missing]);
}
