//! Images from a real registry.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::{
    harness::{pod, waits},
    node::{FOREVER, IMAGE, Node, docker},
};

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
