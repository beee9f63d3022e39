//! What wakes pods that wait, and how long they wait at least.

use super::*;

fn big(name: &str) -> Value {
    asks(name, json!({"cpu": "2"}))
}

#[test]
fn a_pod_that_does_not_fit_is_tried_again_when_it_could_help_and_not_before_its_time() {
    let mut place = Place::with([node("a", "1", "")]);
    place.put(big("p"));
    place.settle();
    let tried = |place: &mut Place| {
        let waits = place.run().waiting.len();
        place.settle();
        waits
    };
    place.put(on("a", asks("other", json!({}))));
    assert_eq!(tried(&mut place), 0, "a pod that came does not help");
    place.remove(Kind::Pod, "other");
    assert_eq!(tried(&mut place), 0, "the node is still too small");
    place.edit(Kind::Node, "a", |node| node["metadata"]["labels"]["x"] = "y".into());
    assert_eq!(tried(&mut place), 0, "a label does not help");
    place.put(node("b", "1", ""));
    assert_eq!(tried(&mut place), 0, "neither does another small node");
    place.edit(Kind::Node, "a", |node| {
        node["status"]["allocatable"]["cpu"] = "4".into()
    });
    place.settle();
    assert_eq!(place.node_of("p"), None, "it was tried a moment ago");
    let plan = place.run();
    assert!(plan.requeue_after.is_none() || plan.requeue_after > Some(Duration::ZERO));
    place.wait(1);
    place.settle();
    assert_eq!(place.node_of("p").as_deref(), Some("a"));
}

#[test]
fn the_driver_is_told_when_to_look_again() {
    let mut place = Place::with([node("a", "1", "")]);
    place.put(big("p"));
    place.settle();
    place.put(node("b", "4", ""));
    let plan = place.run();
    assert_eq!(
        plan.requeue_after,
        Some(Duration::from_secs(1)),
        "its back-off ends then"
    );
}

#[test]
fn of_many_equal_pods_one_is_tried_and_as_many_as_fit_follow() {
    let mut place = Place::with([node("a", "1", "")]);
    for at in 0..20 {
        place.put(big(&format!("p{at:02}")));
    }
    let plan = place.run();
    assert_eq!(plan.waiting.len(), 20, "each is told why it waits");
    place.settle();
    place.wait(10);
    place.put(node("b", "6", ""));
    let plan = place.run();
    assert_eq!(place.counts()["b"], 3);
    assert_eq!(
        plan.waiting.len(),
        1,
        "the first that does not fit speaks for the others"
    );
    assert!(
        ["p00", "p01", "p02"].iter().all(|name| place.node_of(name).is_some()),
        "in their order"
    );
    place.settle();
    place.wait(10);
    place.remove(Kind::Pod, "p01");
    place.settle();
    assert_eq!(place.counts()["b"], 3, "one came in the place of the one that went");
}

#[test]
fn what_the_store_did_not_confirm_did_not_happen() {
    let mut place = Place::with([node("a", "2", "")]);
    place.put(big("p"));
    let lost = place.look().expect("there is work");
    assert_eq!(lost.steps.len(), 1);
    assert!(
        place.desk.has_work(place.now.monotonic),
        "what came of it is to be looked at"
    );
    place.run();
    assert_eq!(place.node_of("p").as_deref(), Some("a"), "it is decided again");
    let mut place = Place::with([node("a", "1", "")]);
    place.put(big("p"));
    place.look();
    place.run();
    assert!(!place.why("p").is_empty(), "what was not said is said again");
}

#[test]
fn a_pod_that_someone_else_binds_is_where_they_put_it() {
    let mut place = Place::with([node("a", "2", ""), node("b", "8", "")]);
    place.put(big("p"));
    place.look();
    place.edit(Kind::Pod, "p", |pod| pod["spec"]["nodeName"] = "a".into());
    place.settle();
    assert_eq!(place.node_of("p").as_deref(), Some("a"));
    place.put(asks("q", json!({"cpu": "8"})));
    place.run();
    assert_eq!(
        place.node_of("q").as_deref(),
        Some("b"),
        "nothing of what was decided in vain is left"
    );
}

#[test]
fn finished_and_removed_pods_give_their_room_back() {
    let mut place = Place::with([node("a", "2", "")]);
    place.put(on("a", big("p")));
    place.edit(Kind::Pod, "p", |pod| pod["status"]["phase"] = "Succeeded".into());
    place.put(big("q"));
    place.run();
    assert_eq!(place.node_of("q").as_deref(), Some("a"));
    place.remove(Kind::Pod, "q");
    place.remove(Kind::Pod, "p");
    place.remove(Kind::Node, "a");
    assert_eq!(place.cluster().board.known(), 0);
    assert!(
        place.cluster().board.groups.all().next().is_none(),
        "nothing is left of them"
    );
    assert!(place.cluster().board.find("a").is_none());
}

#[test]
fn a_pod_that_comes_before_its_node_counts_once_the_node_is_there() {
    let mut place = Place::new();
    place.put(on("a", big("p")));
    place.put(node("a", "3", ""));
    place.put(big("q"));
    place.run();
    assert_eq!(place.node_of("q"), None);
    assert!(
        place
            .why("q")
            .starts_with("0/1 nodes are available: 1 Insufficient cpu.")
    );
}

#[test]
fn important_pods_are_placed_first() {
    let mut place = Place::with([node("a", "2", "")]);
    place.put(big("p"));
    let mut more = big("q");
    more["spec"]["priority"] = 5.into();
    place.put(more);
    place.run();
    assert_eq!((place.node_of("p"), place.node_of("q").as_deref()), (None, Some("a")));
}

#[test]
fn a_class_of_priority_counts_where_the_pod_itself_does_not_say() {
    let mut place = Place::with([node("a", "2", "")]);
    place.put(json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 5,
    }));
    place.put(big("p"));
    let mut more = big("q");
    more["spec"]["priorityClassName"] = "high".into();
    place.put(more);
    place.run();
    assert_eq!((place.node_of("p"), place.node_of("q").as_deref()), (None, Some("a")));
}

#[test]
fn a_large_batch_is_cut() {
    let mut place = Place::with((0..300).map(|at| node(&format!("n{at}"), "64", "")));
    for at in 0..1_500 {
        place.put(asks(&format!("p{at}"), json!({})));
    }
    let plan = place.run();
    assert_eq!(place.counts().values().sum::<usize>(), 1_000);
    assert_eq!(plan.requeue_after, Some(Duration::ZERO), "the rest comes at once");
    place.settle();
    assert_eq!(place.counts().values().sum::<usize>(), 1_500);
}
