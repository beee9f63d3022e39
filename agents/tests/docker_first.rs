//! One agent on a real Docker engine.

mod harness;

use std::{process::Command, sync::Arc, time::Instant};

use agents::memory_control::MemoryControl;
use harness::{RealClock, is_ready, options, phase, pod};
use serde_json::json;
use tokio_util::sync::CancellationToken;

fn docker(args: &[&str]) -> String {
    let out = Command::new("docker").args(args).output().expect("docker runs");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_and_ends_a_pod() {
    let dir = tempfile::tempdir().expect("a directory");
    let control = MemoryControl::new("h8-first");
    let clock = RealClock::new();
    let shutdown = CancellationToken::new();
    let opts = options("10.213.7.0/24", Some(dir.path().to_owned()));
    let running = agents::start(opts, control.clone(), clock.clone(), shutdown.clone()).await.expect("it starts");
    control.until("nothing", |_| true).await;
    let spec = json!({"containers": [{"name": "app", "image": "h8/busybox:1", "command": ["sh", "-c", "hostname; trap 'exit 0' TERM; while :; do sleep 0.1; done"]}]});
    // Wait until the agent has looked at Docker once.
    for _ in 0..100 {
        if control.heartbeat_seen().is_some() { break; }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    for i in 0..5 {
        let name = format!("p{i}");
        let t = Instant::now();
        control.put(vec![pod(&name, spec.clone())]);
        let uid = schemas::Uid::from(format!("uid-{name}").as_str());
        control.until("running", |all| all.get(&uid).is_some_and(|r| phase(r) == "Running" && is_ready(r))).await;
        eprintln!("one: {:?}", t.elapsed());
    }
    let t = Instant::now();
    control.put((10..20).map(|i| pod(&format!("p{i}"), spec.clone())).collect());
    control.until("ten", |all| (10..20).all(|i| all.get(&format!("uid-p{i}").as_str().into()).is_some_and(is_ready))).await;
    eprintln!("ten: {:?}", t.elapsed());
    eprintln!("{:#}", control.report("uid-p10").unwrap().status);
    let id = control.report("uid-p10").unwrap().status["containerStatuses"][0]["containerID"].as_str().unwrap()[9..].to_owned();
    eprintln!("{}", docker(&["exec", &id, "sh", "-c", "hostname; cat /etc/hosts /etc/hostname /etc/resolv.conf; ip addr show dev eth0"]));
    let node = running.node_uid.clone();
    let gone: Vec<_> = (0..5).chain(10..20).map(|i| harness::deleting(&pod(&format!("p{i}"), spec.clone()), 5)).collect();
    let t = Instant::now();
    control.put(gone);
    control.until("ended", |all| all.values().all(|r| r.terminated)).await;
    eprintln!("ended: {:?}", t.elapsed());
    eprintln!("left: {}", docker(&["ps", "-aq", "--filter", &format!("label=dev.towline.node-uid={node}")]));
    shutdown.cancel();
    let network = running.network.clone();
    running.ended().await;
    docker(&["network", "rm", &network]);
    let _ = Arc::new(());
}
