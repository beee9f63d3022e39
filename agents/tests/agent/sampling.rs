//! What the node and its containers use, and when the node runs short of something.

use agents::runtime::{Machine, Space};
use schemas::node::Stats;
use serde_json::json;

use crate::{
    harness::pod,
    world::{World, double, pass, simple},
};

/// The last figures that were told: each container with CPU in thousandths of a core and memory.
fn figures(stats: &Stats) -> Vec<(String, u64, u64)> {
    let all = stats.pods.iter().flat_map(|pod| {
        pod.containers.iter().map(|(name, used)| {
            let milli = (used.cpu + 500_000) / 1_000_000;
            (format!("{}/{name}", pod.uid), milli, used.memory)
        })
    });
    all.collect()
}

#[tokio::test(start_paused = true)]
async fn figures_follow_what_containers_use() {
    let world = World::of(vec![pod("p0", double()), pod("p1", simple())]).await;
    world.ready(0..2).await;
    world.runtime.set_load("app:1", 250, 5 << 20);
    world.runtime.set_node_load(1500, 1 << 30);
    pass(60).await;
    let told = world.control.stats_seen();
    let last = told.last().expect("it tells");
    let wanted = ["uid-p0/a", "uid-p0/b", "uid-p1/app"].map(|name| (name.to_owned(), 250, 5 << 20));
    assert_eq!(figures(last), wanted);
    assert_eq!(last.node.map(|used| used.memory), Some(1 << 30));
    assert_eq!(last.window_millis, 15_000);
    // Figures that stay are told once a minute, and those that move at once.
    pass(120).await;
    let calm = world.control.stats_seen().len() - told.len();
    assert!((2..=3).contains(&calm), "{calm} in two minutes");
    world.runtime.set_load("app:1", 500, 5 << 20);
    pass(31).await;
    let last = world.control.stats_seen().pop().expect("it tells");
    assert_eq!(figures(&last)[0].1, 500);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_tells_nothing_and_no_rate_spans_its_absence() {
    let world = World::running(1).await;
    world.runtime.set_load("app:1", 100, 1 << 20);
    pass(60).await;
    world.runtime.set_away(true);
    pass(16).await;
    let told = world.control.stats_seen().len();
    pass(120).await;
    assert_eq!(world.control.stats_seen().len(), told);
    world.runtime.set_away(false);
    pass(60).await;
    let last = world.control.stats_seen().pop().expect("it tells");
    assert_eq!((figures(&last)[0].1, last.window_millis), (100, 15_000));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_runs_short_says_so_and_stays_so_for_a_while() {
    let world = World::running(1).await;
    let status = |kind: &str| {
        let status = world.control.status_seen().expect("it was told");
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == kind);
        found.map(|condition| (condition["status"].clone(), condition["message"].clone()))
    };
    let disk = |free: u64| Machine {
        memory_available: Some(1 << 30),
        image_space: Some(Space {
            bytes: 1000 << 20,
            bytes_free: free << 20,
            ..Space::default()
        }),
        ..Machine::default()
    };
    pass(20).await;
    assert_eq!(status("DiskPressure").map(|(status, _)| status), Some(json!("False")));
    world.runtime.set_machine(disk(149));
    pass(20).await;
    assert_eq!(
        status("DiskPressure"),
        Some((
            json!("True"),
            json!("imagefs.available is 149Mi of 1000Mi, less than 15%")
        ))
    );
    assert_eq!(status("MemoryPressure").map(|(status, _)| status), Some(json!("False")));
    assert_eq!(status("Ready").map(|(status, _)| status), Some(json!("True")));
    world.runtime.set_machine(disk(500));
    pass(250).await;
    assert_eq!(status("DiskPressure").map(|(status, _)| status), Some(json!("True")));
    pass(80).await;
    assert_eq!(status("DiskPressure").map(|(status, _)| status), Some(json!("False")));
}
