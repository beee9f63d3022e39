//! Pods on a real engine.

use std::time::Duration;

use agents::{Docker, Options, Runtime, runtime::LogRequest};
use futures::StreamExt;
use schemas::node::{LogOptions, PodReport};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{RealClock, deleting, is_ready, options, phase, pod, waits},
    node::{FOREVER, IMAGE, Node, config, docker, id, shell, socket},
};

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
    let overlapping = Options {
        docker: socket(),
        ..options("10.213.14.128/25", Some(second.path().to_owned()))
    };
    let refused = agents::start(
        overlapping,
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
        ..options("10.213.15.0/24", Some(dir.path().to_owned()))
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
