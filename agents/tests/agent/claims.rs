//! Whose containers may be removed: what a server must have said for it.

use std::collections::BTreeSet;

use agents::{control::SessionRefusal, runtime::Life};
use schemas::node::{Order, SessionRequest, Unclaimed};

use crate::{
    harness::{deleting, pod},
    world::{World, double, pass, pods, simple, uid, uids},
};

/// The pods that the node reports as unclaimed.
fn unclaimed(world: &World) -> Vec<Unclaimed> {
    world.control.heartbeat_seen().expect("it beats").unclaimed_pods
}

fn names(pods: &[Unclaimed]) -> Vec<String> {
    pods.iter().map(|pod| pod.key.name.to_string()).collect()
}

async fn settle(world: &World, name: &str, order: Order) -> Result<Unclaimed, SessionRefusal> {
    let request = SessionRequest::Settle {
        id: "order".to_owned(),
        uid: uid(name),
        order,
    };
    let answer = world.control.ask("order", request).await.expect("an agent listens");
    answer.map(|body| serde_json::from_slice(&body).expect("the pod"))
}

/// Four pods run; the database is put back to when there were two, and the server knows it or not.
async fn put_back(noticed: bool) -> World {
    let mut world = World::running(2).await;
    let backup = world.control.backup();
    world.control.put(pods(2..4));
    world.ready(2..4).await;
    world.control.restore(&backup, noticed);
    pass(15).await;
    assert_eq!(world.alive().len(), 4);
    assert_eq!(names(&unclaimed(&world)), ["p2", "p3"]);
    world.restart().await;
    pass(15).await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_said_to_be_gone_goes_however_many_they_are() {
    let world = World::running(20).await;
    // A namespace is deleted, a node is drained, or somebody deletes with force.
    world.control.remove(&uids(0..10));
    pass(5).await;
    assert_eq!(world.alive().len(), 10);
    let marked = pods(10..20).iter().map(|pod| deleting(pod, 1)).collect();
    world.control.put(marked);
    pass(5).await;
    world.control.remove(&uids(10..20));
    pass(5).await;
    assert_eq!(world.runtime.containers().len(), 0);
    assert_eq!(world.control.questions(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_snapshot_lacks_is_asked_about_when_it_is_over_a_third_of_the_node() {
    // How many of ten pods were deleted while the agent was away, and whether it asks.
    for (deleted, asks) in [(3, false), (4, true), (10, true)] {
        let mut world = World::running(10).await;
        world.stop().await;
        world.control.remove(&uids(0..deleted));
        world.control.expire();
        world.control.set_mute(true);
        world.start().await;
        pass(60).await;
        let left = if asks { 10 } else { 10 - deleted };
        assert_eq!(world.alive().len(), left, "{deleted} before the answer");
        assert!(unclaimed(&world).is_empty(), "they are under question");
        world.control.set_mute(false);
        pass(60).await;
        assert_eq!(world.alive().len(), 10 - deleted, "{deleted} after the answer");
        assert_eq!(world.control.questions(), if asks { deleted as u64 } else { 0 });
        assert!(unclaimed(&world).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn the_only_pod_of_a_node_is_asked_about_too() {
    let mut world = World::running(1).await;
    world.stop().await;
    world.control.remove(&uids(0..1));
    world.control.expire();
    world.start().await;
    pass(30).await;
    assert_eq!((world.control.questions(), world.alive().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_restart_before_the_answer_asks_again() {
    let mut world = World::running(4).await;
    world.stop().await;
    world.control.remove(&uids(0..3));
    world.control.expire();
    world.control.set_mute(true);
    world.start().await;
    pass(5).await;
    world.restart().await;
    pass(5).await;
    assert_eq!(world.alive().len(), 4);
    world.control.set_mute(false);
    pass(60).await;
    assert_eq!(world.alive().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn pods_that_another_history_does_not_know_stay_and_are_reported() {
    for noticed in [true, false] {
        let mut world = put_back(noticed).await;
        // The new history passes the old one's versions, and is seen whole, again and again.
        for _ in 0..3 {
            for _ in 0..30 {
                world.control.expire();
            }
            world.restart().await;
            pass(15).await;
        }
        assert_eq!(world.alive().len(), 4, "noticed: {noticed}");
        let reported = unclaimed(&world);
        assert_eq!(names(&reported), ["p2", "p3"]);
        assert_eq!(
            (reported[0].containers.as_slice(), reported[0].kept),
            (&["app".to_owned()][..], false)
        );
        // Declared again, it is claimed again, and is still the same container.
        world.control.put(pods(2..3));
        pass(15).await;
        assert_eq!(names(&unclaimed(&world)), ["p3"]);
        assert_eq!(world.runtime.count("create"), 4);
        // And then its absence means what it says.
        world.control.remove(&[uid("p2")]);
        pass(15).await;
        assert_eq!(world.alive().len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_came_and_went_in_the_new_history_alone_is_removed() {
    let mut world = put_back(false).await;
    world.control.put(pods(5..7));
    world.ready(5..7).await;
    world.stop().await;
    world.control.remove(&[uid("p5")]);
    world.control.expire();
    world.start().await;
    pass(30).await;
    // The versions are still below those that were seen once, so it takes a question.
    assert_eq!(world.alive().len(), 5);
    assert_eq!(names(&unclaimed(&world)), ["p2", "p3"]);
}

#[tokio::test(start_paused = true)]
async fn a_person_may_order_what_is_unclaimed_away_or_keep_it() {
    let mut world = put_back(true).await;
    let unknown = settle(&world, "p0", Order::Remove).await;
    assert_eq!(unknown.expect_err("it is not unclaimed").status, 404);

    let kept = settle(&world, "p2", Order::Keep).await.expect("it is done");
    assert!(kept.kept && kept.uid == uid("p2"));
    let gone = settle(&world, "p3", Order::Remove).await.expect("it is done");
    assert_eq!(gone.key.to_string(), "Pod test/p3");
    pass(15).await;
    assert_eq!(world.alive().len(), 3);
    for _ in 0..2 {
        let left = unclaimed(&world);
        assert_eq!(names(&left), ["p2"]);
        assert!(left[0].kept);
        world.restart().await;
        pass(15).await;
    }
    settle(&world, "p2", Order::Remove)
        .await
        .expect("a mind can be changed");
    pass(15).await;
    assert_eq!((world.alive().len(), unclaimed(&world).len()), (2, 0));
    assert!(!world.state().join("known").join("Pod_test_p2_uid-p2.json").exists());
}

#[tokio::test(start_paused = true)]
async fn containers_of_which_nothing_else_is_known_are_ordered_away_whole() {
    let mut world = World::of(vec![pod("p0", simple()), pod("p1", double())]).await;
    world.ready(0..2).await;
    world.stop().await;
    // All that is left of the pod are its containers.
    let backup = {
        world.control.remove(&[uid("p1")]);
        world.control.backup()
    };
    std::fs::remove_file(world.state().join("known").join("Pod_test_p1_uid-p1.json")).expect("it was known");
    world.control.restore(&backup, true);
    world.control.expire();
    world.start().await;
    pass(15).await;
    let left = unclaimed(&world);
    assert_eq!(names(&left), ["p1"]);
    assert_eq!(left[0].containers, ["a", "b"]);
    assert_eq!(world.alive().len(), 4);
    settle(&world, "p1", Order::Remove).await.expect("it is done");
    pass(15).await;
    assert_eq!(world.runtime.containers().len(), 1);
    assert!(unclaimed(&world).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_an_agent_could_not_carry_out_is_carried_out_by_the_next() {
    let mut world = World::running(3).await;
    world.runtime.set_away(true);
    pass(5).await;
    world.control.remove(&uids(0..2));
    pass(5).await;
    world.stop().await;
    world.runtime.set_away(false);
    // The next one goes on after that version, and is not told again.
    world.start().await;
    pass(15).await;
    assert_eq!(world.runtime.containers().len(), 1);
    assert_eq!(world.control.questions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_head_of_an_earlier_boot_or_none_gets_everything_anew_and_removes_only_what_is_vouched_for() {
    for lost in [false, true] {
        let mut world = World::running(4).await;
        world.stop().await;
        let head = world.state().join("head.json");
        if lost {
            std::fs::write(&head, "").expect("it can be written");
        } else {
            let text = std::fs::read_to_string(&head).expect("it is there");
            let other = text.replace(r#""boot":"""#, r#""boot":"another""#);
            assert_ne!(text, other);
            std::fs::write(&head, other).expect("it can be written");
        }
        // What was saved last before the power went is lost.
        std::fs::remove_file(world.state().join("known").join("Pod_test_p3_uid-p3.json")).expect("it was known");
        world.control.remove(&uids(0..1));
        world.start().await;
        pass(15).await;
        let running: BTreeSet<String> = world
            .alive()
            .iter()
            .filter_map(|found| found.labels.get("dev.towline.pod-name").cloned())
            .collect();
        assert_eq!(running, ["p1", "p2", "p3"].map(str::to_owned).into(), "lost: {lost}");
        assert_eq!(world.runtime.count("create"), 4);
        world.control.put(pods(4..5));
        world.ready(4..5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_server_of_another_cluster_says_is_not_followed() {
    let mut world = World::running(2).await;
    world.stop().await;
    let other = agents::memory_control::MemoryControl::new("another");
    let ours = std::mem::replace(&mut world.control, other);
    world.control.put(pods(7..8));
    world.start().await;
    pass(15).await;
    world.control.put(pods(8..9));
    world.control.remove(&uids(7..8));
    pass(15).await;
    assert_eq!(world.alive().len(), 2);
    assert_eq!(world.runtime.count("create"), 2);
    world.stop().await;
    world.control = ours;
    world.start().await;
    pass(15).await;
    assert!(
        world
            .runtime
            .containers()
            .iter()
            .all(|found| matches!(found.life, Life::Running { .. }))
    );
}
