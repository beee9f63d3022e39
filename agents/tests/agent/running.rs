//! Pods run, restart and end as their specs say.

use std::time::Duration;

use agents::fake::FakeOptions;
use serde_json::json;

use crate::{
    harness::{deleting, is_ready, phase, pod, waits},
    world::{World, double, pass, pods, simple, uid},
};

#[tokio::test(start_paused = true)]
async fn runs_what_is_bound_and_ends_what_is_deleted() {
    let mut world = World::running(3).await;
    let report = world.report("p0");
    let status = &report.status["containerStatuses"][0];
    assert_eq!(status["restartCount"], 0);
    assert!(
        status["containerID"]
            .as_str()
            .is_some_and(|id| id.starts_with("docker://"))
    );
    assert!(
        report.status["podIP"]
            .as_str()
            .is_some_and(|ip| ip.starts_with("10.88.0."))
    );
    let reasons: Vec<&str> = report.events.iter().map(|event| event.reason.as_str()).collect();
    assert_eq!(
        reasons,
        ["Pulled", "Created", "Started"],
        "one report carries the start and its events"
    );
    let mut ips: Vec<String> = ["p0", "p1", "p2"]
        .iter()
        .map(|name| world.report(name).status["podIP"].to_string())
        .collect();
    ips.sort();
    ips.dedup();
    assert_eq!(ips.len(), 3, "addresses are not shared");

    world.control.put(vec![deleting(&pod("p1", simple()), 5)]);
    world.ended("p1").await;
    assert_eq!(world.alive().len(), 2);
    world.control.remove(&[uid("p1")]);
    pass(5).await;
    assert_eq!(world.runtime.containers().len(), 2);
    world.stop().await;
    assert_eq!(world.alive().len(), 2, "containers outlive their agent");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ends_comes_back_later_and_later() {
    let mut world = World::new(FakeOptions::default());
    world.ends("app:1", Duration::from_millis(100), 3);
    world.control.put(pods(0..1));
    world.start().await;
    let report = world
        .until("it waits", "p0", |report| waits(report) == "CrashLoopBackOff")
        .await;
    let status = &report.status["containerStatuses"][0];
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(status["lastState"]["terminated"]["reason"], "Error");
    assert_eq!(status["restartCount"], 1, "the first restart comes at once");
    assert_eq!(phase(&report), "Running");
    // 10 s + 20 s + 40 s later there have been three more.
    pass(75).await;
    assert_eq!(world.runtime.count("start"), 5);
    assert!(
        world.runtime.containers().len() <= 2,
        "one dead container is kept, older ones are not"
    );
}

#[tokio::test(start_paused = true)]
async fn restart_policies_decide_the_phase() {
    let mut world = World::new(FakeOptions::default());
    world.ends("good:1", Duration::from_millis(10), 0);
    world.ends("bad:1", Duration::from_millis(10), 1);
    let of = |name: &str, policy: &str, image: &str| {
        pod(
            name,
            json!({"restartPolicy": policy, "containers": [{"name": "app", "image": image}]}),
        )
    };
    world.control.put(vec![
        of("never-good", "Never", "good:1"),
        of("never-bad", "Never", "bad:1"),
        of("failure-good", "OnFailure", "good:1"),
        of("failure-bad", "OnFailure", "bad:1"),
    ]);
    world.start().await;
    for (name, wanted) in [
        ("never-good", "Succeeded"),
        ("never-bad", "Failed"),
        ("failure-good", "Succeeded"),
    ] {
        world
            .until("the phase is right", name, |report| phase(report) == wanted)
            .await;
    }
    world
        .until("it is tried again", "failure-bad", |report| {
            waits(report) == "CrashLoopBackOff"
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn probes_gate_readiness_and_end_what_is_not_alive() {
    let spec = json!({"containers": [{
        "name": "app", "image": "app:1",
        "readinessProbe": {"exec": {"command": ["ready"]}, "periodSeconds": 1},
        "livenessProbe": {"exec": {"command": ["alive"]}, "periodSeconds": 5, "failureThreshold": 1, "initialDelaySeconds": 60},
    }]});
    let bad = || agents::runtime::ExecResult {
        code: 1,
        output: "no".to_owned(),
    };
    let mut world = World::new(FakeOptions::default());
    world.runtime.next_exec(bad());
    world.control.put(vec![pod("p0", spec)]);
    world.start().await;
    world
        .until("it runs, not ready", "p0", |report| {
            phase(report) == "Running" && !is_ready(report)
        })
        .await;
    world.until("it is ready", "p0", is_ready).await;
    pass(59).await;
    // The next commands are a mixture of both probes; enough of them fail for both.
    for _ in 0..12 {
        world.runtime.next_exec(bad());
    }
    world
        .until("it was restarted", "p0", |report| {
            report.status["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_several_containers_starts_in_order_and_ends_whole() {
    let mut spec = double();
    spec["initContainers"] = json!([{"name": "setup", "image": "init:1"}]);
    let mut world = World::new(FakeOptions::default());
    world.ends("init:1", Duration::from_secs(2), 0);
    world.control.put(vec![pod("p0", spec.clone())]);
    world.start().await;
    world.ready(0..1).await;
    assert_eq!(
        world.report("p0").status["initContainerStatuses"][0]["state"]["terminated"]["reason"],
        "Completed"
    );
    assert_eq!(world.alive().len(), 3, "the network and two containers");
    world.control.put(vec![deleting(&pod("p0", spec), 5)]);
    world.ended("p0").await;
    assert!(world.runtime.containers().is_empty());
}
