//! How an agent and its server come to know each other.

use std::time::Duration;

use crate::world::{World, pass, pods};

#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_the_registration() {
    let mut world = World::new(agents::fake::FakeOptions::default());
    world.control.set_registration_takes(Duration::from_secs(3));
    world.control.put(pods(0..1));
    world.start().await;
    world.ready(0..1).await;
    pass(30).await;
    let calls = world.control.calls();
    let registered = calls.iter().position(|call| *call == "register").expect("it registers");
    for call in ["heartbeat", "report", "sessions", "stream"] {
        let first = calls.iter().position(|it| *it == call).expect("it comes");
        assert!(registered < first, "{call} came first: {calls:?}");
    }
    assert_eq!(calls.iter().filter(|call| **call == "register").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_lost_its_state_gets_its_id_and_its_containers_back() {
    let mut world = World::running(3).await;
    let before = world.runtime.containers();
    let agent = world.control.registration().expect("it registered").agent;
    world.stop().await;
    for entry in std::fs::read_dir(world.state()).expect("it is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).expect("it can be removed");
        } else {
            std::fs::remove_file(path).expect("it can be removed");
        }
    }
    world.control.set_agent(&agent);
    world.start().await;
    pass(30).await;
    assert_eq!(world.control.registration().expect("it registered").agent, agent);
    assert_eq!(world.runtime.containers(), before, "the same containers");
    assert_eq!(world.runtime.count("create"), 3);
}
