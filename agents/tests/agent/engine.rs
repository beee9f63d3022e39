//! An engine that goes away, comes back, or fails in the middle.

use agents::{fake::Op, runtime::RuntimeError};

use crate::{
    harness::{is_ready, waits},
    world::{World, pass, pods},
};

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_means_unknown_and_live_restore_restarts_nothing() {
    let world = World::running(5).await;
    let before = world.runtime.containers();
    let said = world.control.reports().len();
    world.runtime.set_away(true);
    pass(60).await;
    assert_eq!(world.control.reports().len(), said, "nothing is said of pods");
    let status = world.control.heartbeat_seen();
    world.runtime.set_away(false);
    pass(5).await;
    assert_eq!(world.runtime.containers(), before);
    assert_eq!(world.control.reports().len(), said);
    assert!(status.is_some());
}

#[tokio::test(start_paused = true)]
async fn without_live_restore_each_container_is_replaced_once() {
    let world = World::running(5).await;
    world.runtime.stop_engine();
    pass(20).await;
    world.runtime.set_away(false);
    pass(60).await;
    assert_eq!(world.alive().len(), 5);
    assert_eq!(world.runtime.count("create"), 10);
    for name in ["p0", "p1", "p2", "p3", "p4"] {
        let report = world.report(name);
        assert!(is_ready(&report));
        assert_eq!(report.status["containerStatuses"][0]["restartCount"], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_the_middle_is_tried_again() {
    let mut world = World::new(agents::fake::FakeOptions::default());
    let refused = |message: &str| RuntimeError::Refused(message.to_owned());
    world.runtime.fail_next(Op::Create, refused("no space left on device"));
    world.runtime.fail_next(Op::Start, refused("port is already allocated"));
    world.control.put(pods(0..1));
    world.start().await;
    world
        .until("it is told", "p0", |report| waits(report) == "CreateContainerError")
        .await;
    world.until("it runs", "p0", is_ready).await;
}
