//! What somebody does to containers by hand, past the agent, is put right and told.

use std::time::Duration;

use agents::{
    fake::{FakeOptions, Op},
    runtime::{Found, Life, RuntimeError},
};
use schemas::node::PodReport;
use serde_json::json;

use crate::{
    harness::{is_ready, phase, pod, waits},
    world::{World, double, pass, simple},
};

/// The container that holds the network of the pod p0.
fn holder(world: &World) -> Found {
    let holds = |found: &Found| found.labels.contains_key("dev.towline.address");
    world.alive().into_iter().find(holds).expect("the pod has a network")
}

/// Waits until the pod p0 was reported with an event of this reason; a later report may have come since.
async fn told(world: &World, reason: &str) {
    let tells = |report: &PodReport| report.events.iter().any(|event| event.reason == reason);
    let what = format!("an event {reason}");
    world.control.until_reported(&what, tells).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_cut_off_gets_its_address_back() {
    for spec in [simple(), double()] {
        let world = World::of(vec![pod("p0", spec)]).await;
        world.ready(0..1).await;
        let before = holder(&world);
        let started = world.runtime.count("start");
        world.runtime.disconnect(&before.id);
        told(&world, "Reconnected").await;
        world.ready(0..1).await;
        assert_eq!(holder(&world), before, "the same container, the same address");
        assert_eq!(world.runtime.count("start"), started, "nothing was restarted");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_be_connected_again_starts_over() {
    for spec in [simple(), double()] {
        let world = World::of(vec![pod("p0", spec)]).await;
        world.ready(0..1).await;
        let before = holder(&world);
        world
            .runtime
            .fail_next(Op::Connect, RuntimeError::Refused("no".to_owned()));
        world.runtime.disconnect(&before.id);
        told(&world, "FailedRepair").await;
        world.ready(0..1).await;
        let after = holder(&world);
        assert_ne!(after.id, before.id, "another container");
        assert_eq!(after.addresses, before.addresses, "the address stays");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_cut_off_while_no_agent_ran_is_found() {
    let mut world = World::running(1).await;
    world.stop().await;
    world.runtime.disconnect(&holder(&world).id);
    world.start().await;
    told(&world, "Reconnected").await;
    world.ready(0..1).await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_container_is_not_ready_and_goes_on_after_a_while() {
    let world = World::running(1).await;
    let id = holder(&world).id;
    world.runtime.pause(&id);
    world
        .until("it is not ready", "p0", |report| {
            phase(report) == "Running" && !is_ready(report)
        })
        .await;
    pass(5).await;
    assert!(holder(&world).paused, "whoever copies it has the time to");
    told(&world, "Unpaused").await;
    world.ready(0..1).await;
    assert_eq!((world.runtime.count("create"), holder(&world).paused), (1, false));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_cannot_go_on_is_replaced() {
    let world = World::running(1).await;
    let id = holder(&world).id;
    world
        .runtime
        .fail_next(Op::Unpause, RuntimeError::Refused("no".to_owned()));
    world.runtime.pause(&id);
    told(&world, "FailedRepair").await;
    world.ready(0..1).await;
    assert_ne!(holder(&world).id, id);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_started_by_hand_while_it_waits_is_taken_as_it_is() {
    let mut world = World::new(FakeOptions::default());
    world.ends("app:1", Duration::from_secs(1), 3);
    world.control.put(vec![pod("p0", simple())]);
    world.start().await;
    world
        .until("it waits", "p0", |report| waits(report) == "CrashLoopBackOff")
        .await;
    let made = world.runtime.count("create");
    let newest = world
        .runtime
        .containers()
        .into_iter()
        .max_by_key(|found| found.id.clone());
    let newest = newest.expect("there is one");
    world.runtime.start_by_hand(&newest.id).expect("its address is free");
    told(&world, "Adopted").await;
    world.ready(0..1).await;
    pass(300).await;
    assert_eq!(world.runtime.count("create"), made, "no other one was made");
    assert_eq!(holder(&world).id, newest.id);
    let after_all = |world: &World| world.runtime.count("create") - made;
    world.runtime.exit(&newest.id, 3, false);
    world
        .until("what ends is restarted as ever", "p0", |report| {
            report.status["containerStatuses"][0]["containerID"] != format!("docker://{}", newest.id)
                && after_all(&world) == 1
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_hand_costs_nothing_more() {
    let world = World::running(1).await;
    let before = holder(&world);
    for _ in 0..3 {
        world.runtime.exit(&before.id, 143, false);
        world.runtime.start_by_hand(&before.id).expect("its address is free");
        pass(1).await;
        world.ready(0..1).await;
        let mut after = holder(&world);
        after.life = before.life.clone();
        assert_eq!(after, before, "it runs in its place");
    }
    pass(120).await;
    let left = world.runtime.containers();
    assert_eq!(left.len(), 1, "what was made beside it is gone: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_for_good_is_ended_again() {
    let mut world = World::new(FakeOptions::default());
    world.ends("app:1", Duration::from_secs(1), 0);
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "app", "image": "app:1"}]});
    world.control.put(vec![pod("p0", spec)]);
    world.start().await;
    world
        .until("it is done", "p0", |report| phase(report) == "Succeeded")
        .await;
    let id = world.runtime.containers()[0].id.clone();
    world.runtime.start_by_hand(&id).expect("its address is free");
    pass(90).await;
    assert!(world.alive().is_empty(), "it does not run");
    let report = world.report("p0");
    let state = &report.status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((phase(&report), &state["exitCode"]), ("Succeeded", &json!(0)));
}

#[tokio::test(start_paused = true)]
async fn of_two_that_run_the_newer_one_stays() {
    let world = World::of(vec![pod("p0", double())]).await;
    world.ready(0..1).await;
    let old = world.container("p0", "a");
    world.runtime.exit(&old.id, 1, false);
    world
        .until("it was restarted", "p0", |report| {
            report.status["containerStatuses"][0]["restartCount"] == 1 && is_ready(report)
        })
        .await;
    world
        .runtime
        .start_by_hand(&old.id)
        .expect("it has no address of its own");
    pass(1).await;
    let old = world.runtime.containers().into_iter().find(|found| found.id == old.id);
    let ended = old.is_none_or(|found| matches!(found.life, Life::Exited(_)));
    assert!(ended && world.alive().len() == 3, "{:?}", world.alive());
    world.ready(0..1).await;
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_restarted_by_hand_starts_the_pod_over() {
    let world = World::of(vec![pod("p0", double())]).await;
    world.ready(0..1).await;
    let before = holder(&world);
    world.runtime.exit(&before.id, 137, false);
    world.runtime.start_by_hand(&before.id).expect("its address is free");
    pass(30).await;
    world.ready(0..1).await;
    let after = holder(&world);
    assert_ne!(after.id, before.id);
    let joined = |found: &Found| found.joins.as_ref().is_none_or(|joined| *joined == after.id);
    assert!(
        world.alive().len() == 3 && world.alive().iter().all(joined),
        "{:?}",
        world.alive()
    );
}
