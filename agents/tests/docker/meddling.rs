//! What somebody does to containers with Docker's own commands.

use std::{
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use schemas::node::PodReport;
use serde_json::json;

use crate::{
    harness::{is_ready, phase, waits},
    node::{FOREVER, IMAGE, Node, docker, id, shell},
};

/// How long a restart by hand may take until the pod is ready, with Docker's own share on a loaded machine.
const SOON: Duration = Duration::from_secs(30);

fn answers(report: &PodReport) -> bool {
    let ip = report.status["podIP"].as_str().and_then(|ip| ip.parse().ok());
    let address = SocketAddr::new(ip.expect("it has an address"), 8080);
    TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok()
}

/// Waits until an event of this reason was told of a pod.
async fn told(node: &Node, name: &str, reason: &str) {
    let uid = node.uid(name);
    let seen = || {
        let reports = node.control.reports().into_iter().filter(|report| report.uid == uid);
        let mut events = reports.flat_map(|report| report.events);
        events.any(|event| event.reason == reason)
    };
    let until = Instant::now() + Duration::from_secs(60);
    while !seen() {
        assert!(
            Instant::now() < until,
            "no event {reason} of {name}: {:#?}",
            node.control.reports()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_taken_away_by_hand_is_given_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start("agents-cut", dir.path()).await;
    let web = json!({"name": "web", "image": IMAGE, "command": ["httpd", "-f", "-p", "8080"]});
    node.control.put(vec![
        node.pod("one", json!({"containers": [web]})),
        node.pod("two", json!({"containers": [web, shell(FOREVER)]})),
    ]);
    for name in ["one", "two"] {
        let before = node.ready(name).await;
        let label = format!("label=dev.towline.pod-uid={}", node.uid(name));
        let holder = docker(&[
            "ps",
            "-q",
            "--no-trunc",
            "--filter",
            &label,
            "--filter",
            "label=dev.towline.address",
        ]);
        assert!(answers(&before), "{name} answers");
        docker(&["network", "disconnect", &node.network, &holder]);
        told(&node, name, "Reconnected").await;
        let after = node
            .until("it is ready and answers", name, |report| {
                is_ready(report) && answers(report)
            })
            .await;
        assert_eq!(before.status["podIP"], after.status["podIP"]);
        assert_eq!(id(&before, 0), id(&after, 0), "nothing was restarted");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_paused_by_hand_is_not_ready_and_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start("agents-paused", dir.path()).await;
    node.control.put(vec![
        node.pod("app", json!({"containers": [shell(FOREVER)]})),
        node.pod("last", json!({"containers": [shell(FOREVER)]})),
    ]);
    let before = node.ready("app").await;
    docker(&["pause", &id(&before, 0)]);
    node.until("it is not ready", "app", |report| {
        phase(report) == "Running" && !is_ready(report)
    })
    .await;
    told(&node, "app", "Unpaused").await;
    let after = node.ready("app").await;
    assert_eq!(id(&before, 0), id(&after, 0));

    // A paused container is no reason for its pod not to end.
    let last = node.ready("last").await;
    docker(&["pause", &id(&last, 0)]);
    let pod = node.pod("last", json!({"containers": [shell(FOREVER)]}));
    node.control.put(vec![crate::harness::deleting(&pod, 1)]);
    node.until("it has ended", "last", |report| report.terminated).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_started_by_hand_is_taken_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start("agents-by-hand", dir.path()).await;
    let second = format!("if [ -e /tmp/been ]; then {FOREVER}; fi; echo > /tmp/been; exit 1");
    node.control.put(vec![
        node.pod("crash", json!({"containers": [shell(&second)]})),
        node.pod("app", json!({"containers": [shell(FOREVER)]})),
        node.pod(
            "two",
            json!({"containers": [shell(FOREVER), {"name": "b", "image": IMAGE, "command": ["sh", "-c", FOREVER]}]}),
        ),
    ]);
    node.until("it waits", "crash", |report| waits(report) == "CrashLoopBackOff")
        .await;
    let label = format!("label=dev.towline.pod-uid={}", node.uid("crash"));
    // The newest comes first.
    let dead = docker(&["ps", "-aq", "--no-trunc", "--filter", &label]);
    let newest = dead.lines().next().expect("there is one").to_owned();
    docker(&["start", &newest]);
    told(&node, "crash", "Adopted").await;
    let report = node.ready("crash").await;
    assert_eq!(id(&report, 0), newest);

    for name in ["app", "two"] {
        let mut before = node.ready(name).await;
        for _ in 0..3 {
            let stamp =
                |report: &PodReport| report.status["containerStatuses"][0]["state"]["running"]["startedAt"].clone();
            // The stamp has whole seconds: the next start shall have another one.
            let text = stamp(&before);
            let since: jiff::Timestamp = text.as_str().and_then(|at| at.parse().ok()).expect("a time");
            let next = jiff::SignedDuration::from_secs(1) - jiff::Timestamp::now().duration_since(since);
            tokio::time::sleep(Duration::try_from(next).unwrap_or_default()).await;
            let began = Instant::now();
            docker(&["restart", "-t", "1", &id(&before, 0)]);
            let after = node
                .until("it is ready again", name, |report| {
                    is_ready(report) && stamp(report) != stamp(&before)
                })
                .await;
            let took = began.elapsed();
            eprintln!(
                "{name}: ready {took:?} after the restart, {} of its own",
                id(&after, 0) == id(&before, 0)
            );
            assert!(took < SOON, "{name}: {took:?}");
            before = after;
        }
    }
    node.stop().await;
}
