//! Whose containers may be removed: what a server must have said for it.

use crate::{
    harness::deleting,
    world::{World, pass, pods, uid, uids},
};

#[tokio::test(start_paused = true)]
async fn pods_that_another_history_does_not_know_stay_and_are_reported() {
    let world = World::running(4).await;
    world.control.forget(&[uid("p0")], "second", 50);
    pass(5).await;
    // A second snapshot of the new history is no proof either: it never had the pod.
    world.control.forget(&[], "second", 60);
    pass(35).await;
    assert_eq!(world.alive().len(), 4);
    let unclaimed = world.control.heartbeat_seen().expect("it beats").unclaimed;
    assert_eq!(unclaimed, ["test/p0/app"]);
    // Declared again, it is claimed again, and is still the same container.
    world.control.put(pods(0..1));
    pass(30).await;
    assert_eq!(world.control.heartbeat_seen().expect("it beats").unclaimed, [""; 0]);
    assert_eq!(world.runtime.count("create"), 4);
}

#[tokio::test(start_paused = true)]
async fn an_older_snapshot_of_the_same_history_removes_nothing() {
    let world = World::running(4).await;
    world.control.forget(&[uid("p0")], "first", 1);
    pass(5).await;
    assert_eq!(world.alive().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn most_of_a_node_does_not_vanish_unasked() {
    let world = World::running(20).await;
    world.control.remove(&uids(0..10));
    pass(5).await;
    assert_eq!(world.alive().len(), 20, "half of the node is kept");
    world.control.remove(&uids(10..12));
    pass(5).await;
    assert_eq!(world.alive().len(), 18, "a few are followed");
    // Marked one by one, any number may go.
    let marked = pods(12..20).iter().map(|pod| deleting(pod, 1)).collect();
    world.control.put(marked);
    world.control.remove(&uids(12..20));
    pass(5).await;
    assert_eq!(world.alive().len(), 10);
}
