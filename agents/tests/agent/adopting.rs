//! A new agent takes over what the one before it made, and nothing of anybody else.

use agents::{
    memory_control::MemoryControl,
    runtime::{Found, Life},
};

use crate::{
    harness::{deleting, is_ready, on_runtime, options, pod},
    world::{World, pass, pods, simple, uid},
};

#[tokio::test(start_paused = true)]
async fn a_new_agent_adopts_what_runs_also_without_a_server() {
    let mut world = World::running(3).await;
    let before = world.runtime.containers();
    let address = world.report("p0").status["podIP"].clone();
    world.stop().await;

    world.control.set_away(true);
    world.start().await;
    pass(5).await;
    assert_eq!(world.runtime.containers(), before, "nothing was touched");
    // Without a server, the agent goes on with what it last knew.
    world.runtime.exit(&world.container("p0", "app").id, 1, false);
    pass(5).await;
    assert_eq!(world.alive().len(), 3, "it was restarted");
    assert_eq!(world.runtime.count("create"), 4);
    world.control.set_away(false);
    let report = world
        .until("the restart is reported", "p0", |report| {
            report.status["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
    assert_eq!(report.status["podIP"], address, "the address stays");
}

#[tokio::test(start_paused = true)]
async fn what_the_agent_before_could_not_say_is_said_after_a_restart() {
    let mut world = World::running(1).await;
    world.control.set_away(true);
    world.runtime.exit(&world.container("p0", "app").id, 3, false);
    pass(5).await;
    let unheard = world.report("p0");
    assert_eq!(
        unheard.status["containerStatuses"][0]["restartCount"], 0,
        "nobody heard it"
    );
    world.stop().await;
    world.control.set_away(false);
    world.start().await;
    let report = world
        .until("the restart of before is reported", "p0", |report| {
            report.status["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
    assert_eq!(report.status["phase"], "Running");
}

#[tokio::test(start_paused = true)]
async fn pods_deleted_while_the_agent_was_away_are_removed() {
    let mut world = World::running(10).await;
    world.stop().await;
    world.control.remove(&[uid("p0"), uid("p1")]);
    world.start().await;
    pass(5).await;
    assert_eq!(world.runtime.containers().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_is_not_touched() {
    let foreign = |id: &str, labels: &[(&str, &str)]| Found {
        id: id.into(),
        name: id.into(),
        image: "x".into(),
        image_id: "x".into(),
        labels: labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        joins: None,
        paused: false,
        addresses: Vec::new(),
        life: Life::Running {
            started: jiff::Timestamp::UNIX_EPOCH,
        },
    };
    let world = World::running(2).await;
    world.runtime.put(foreign("plain", &[]));
    world.runtime.put(foreign(
        "other-cluster",
        &[("dev.towline.cluster", "other"), ("dev.towline.pod-uid", "uid-p9")],
    ));
    // A second agent, of another cluster, on the same engine.
    let other = MemoryControl::new("cluster-2");
    other.put(pods(5..6));
    let second = on_runtime(
        world.runtime.clone(),
        &other,
        world.clock.clone(),
        options("10.89.0.0/24", None),
    )
    .await;
    other
        .until("its pod runs", |all| all.get(&uid("p5")).is_some_and(is_ready))
        .await;
    other.put(vec![deleting(&pod("p5", simple()), 1)]);
    other
        .until("its pod has ended", |all| {
            all.get(&uid("p5")).is_some_and(|report| report.terminated)
        })
        .await;
    pass(120).await;
    let mut left: Vec<String> = world.alive().iter().map(|found| found.id.to_string()).collect();
    left.sort();
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(left.contains(&"plain".to_owned()) && left.contains(&"other-cluster".to_owned()));
    second.stop().await;
}
