use std::time::Duration;

use serde_json::json;

use super::harness::{Cluster, reasons};
use crate::job::tracking::is_tracked;

#[test]
fn failures_are_tried_again_after_a_wait_that_doubles() {
    let mut cluster = Cluster::new(json!({"backoffLimit": 3}));
    cluster.settle();
    for (failures, wait) in [(1, 10), (2, 20), (3, 40)] {
        cluster.end_all(1);
        let plan = cluster.settle();
        assert!(cluster.active().is_empty());
        assert_eq!(plan.requeue_after, Some(Duration::from_secs(wait)), "{failures}");
        assert_eq!(cluster.status()["failed"], failures);
        cluster.pass(wait - 1);
        assert_eq!(cluster.settle().requeue_after, Some(Duration::from_secs(1)));
        assert!(cluster.active().is_empty());
        cluster.pass(1);
        cluster.settle();
        assert_eq!(cluster.active().len(), 1, "{failures}");
    }
    cluster.end_all(1);
    let plan = cluster.look();
    assert!(
        !reasons(&plan).contains(&"BackoffLimitExceeded"),
        "not before all is counted"
    );
    assert_eq!(cluster.holds("FailureTarget").as_deref(), Some("BackoffLimitExceeded"));
    let plan = cluster.look();
    assert_eq!(reasons(&plan), ["BackoffLimitExceeded"]);
    assert_eq!(cluster.holds("Failed").as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(cluster.status()["failed"], 4);
    assert_eq!(cluster.status().get("completionTime"), None);
    cluster.pass(10_000);
    assert!(cluster.settle().is_empty());
    assert!(cluster.active().is_empty());
}

#[test]
fn a_success_ends_the_row_of_failures() {
    let mut cluster = Cluster::new(json!({"completions": 3, "parallelism": 1}));
    cluster.settle();
    cluster.end_all(1);
    cluster.settle();
    cluster.pass(10);
    cluster.settle();
    cluster.end_all(0);
    cluster.settle();
    assert_eq!(cluster.active().len(), 1, "the next one is made at once");
    cluster.pass(5);
    cluster.end_all(1);
    assert_eq!(cluster.settle().requeue_after, Some(Duration::from_secs(10)));
}

#[test]
fn a_wait_goes_on_where_it_was_after_a_restart() {
    let mut cluster = Cluster::new(json!({}));
    cluster.settle();
    cluster.end_all(1);
    cluster.settle();
    cluster.pass(10);
    cluster.settle();
    cluster.end_all(1);
    cluster.settle();
    cluster.pass(5);
    cluster.restart();
    assert_eq!(cluster.settle().requeue_after, Some(Duration::from_secs(15)));
    cluster.pass(15);
    cluster.settle();
    assert_eq!(cluster.active().len(), 1);
    // Long ago is long ago, however young the process is.
    cluster.end_all(1);
    cluster.settle();
    cluster.pass(3_600);
    cluster.restart();
    cluster.settle();
    assert_eq!(cluster.active().len(), 1);
}

#[test]
fn the_limit_ends_what_runs_beside_it_and_counts_it_as_failed() {
    let mut cluster = Cluster::new(json!({"completions": 4, "parallelism": 3, "backoffLimit": 0}));
    cluster.settle();
    let pods = cluster.active();
    pods.iter().for_each(|pod| cluster.run(pod));
    cluster.end(&pods[0], 0);
    cluster.end(&pods[1], 1);
    cluster.look();
    assert_eq!(cluster.holds("FailureTarget").as_deref(), Some("BackoffLimitExceeded"));
    cluster.settle();
    assert!(cluster.active().is_empty());
    assert_eq!(cluster.holds("Failed"), None, "one is still stopping");
    assert_eq!(cluster.status()["terminating"], 1);
    cluster.reap();
    cluster.settle();
    assert_eq!(cluster.holds("Failed").as_deref(), Some("BackoffLimitExceeded"));
    let status = cluster.status();
    assert_eq!((&status["succeeded"], &status["failed"]), (&json!(1), &json!(2)));
    assert!(cluster.pods().iter().all(|pod| !is_tracked(pod)));
}

#[test]
fn the_deadline_wins_over_the_limit_of_failures() {
    let mut cluster = Cluster::new(json!({"activeDeadlineSeconds": 30, "backoffLimit": 0}));
    cluster.settle();
    let pod = cluster.active()[0].clone();
    cluster.run(&pod);
    assert_eq!(cluster.settle().requeue_after, Some(Duration::from_secs(30)));
    cluster.pass(30);
    cluster.end_all(1);
    cluster.settle();
    assert_eq!(cluster.holds("Failed").as_deref(), Some("DeadlineExceeded"));
    assert_eq!(cluster.status()["failed"], 1);
}

#[test]
fn no_pod_is_made_after_the_deadline_though_failures_are_left() {
    let mut cluster = Cluster::new(json!({"activeDeadlineSeconds": 5}));
    cluster.settle();
    cluster.end_all(1);
    assert_eq!(
        cluster.settle().requeue_after,
        Some(Duration::from_secs(5)),
        "the earlier of both"
    );
    cluster.pass(5);
    cluster.settle();
    assert_eq!(cluster.holds("Failed").as_deref(), Some("DeadlineExceeded"));
    assert!(cluster.active().is_empty());
}

#[test]
fn what_has_succeeded_in_time_is_not_failed_for_a_late_look() {
    let mut cluster = Cluster::new(json!({"activeDeadlineSeconds": 30}));
    cluster.settle();
    cluster.pass(29);
    cluster.end_all(0);
    cluster.pass(600);
    cluster.restart();
    cluster.settle();
    assert!(cluster.holds("Complete").is_some());
}

#[test]
fn a_step_of_the_wall_clock_moves_no_deadline() {
    let mut cluster = Cluster::new(json!({"activeDeadlineSeconds": 30}));
    cluster.settle();
    cluster.pass(1);
    cluster.sim.now.wall += jiff::SignedDuration::from_hours(5);
    assert_eq!(cluster.settle().requeue_after, Some(Duration::from_secs(29)));
    assert_eq!(cluster.active().len(), 1);
}

#[test]
fn restarts_of_containers_count_where_they_are_restarted() {
    let mut cluster = Cluster::new(json!({"backoffLimit": 2, "template": {"spec": {"restartPolicy": "OnFailure"}}}));
    cluster.settle();
    let pod = cluster.active()[0].clone();
    for (restarts, fails) in [(1, false), (2, true)] {
        cluster.run(&pod);
        let mut running = schemas::Object::clone(&cluster.sim.objects[&pod.key()]);
        let mut status = running.status_value().expect("it is there");
        status["containerStatuses"][0]["restartCount"] = restarts.into();
        running.status = Some(status.into());
        cluster.sim.insert(running);
        cluster.settle();
        assert_eq!(cluster.holds("FailureTarget").is_some(), fails, "{restarts}");
    }
    assert!(cluster.active().is_empty());
}

#[test]
fn a_pod_that_somebody_deletes_counts_as_failed_once() {
    let mut cluster = Cluster::new(json!({}));
    cluster.settle();
    let pod = cluster.active()[0].clone();
    cluster.run(&pod);
    cluster.delete(&pod);
    cluster.settle();
    assert_eq!(cluster.status()["failed"], 1);
    assert!(!is_tracked(&cluster.sim.objects[&pod.key()]));
    cluster.reap();
    cluster.settle();
    assert_eq!(cluster.status()["failed"], 1);
    cluster.pass(10);
    cluster.settle();
    assert_eq!(cluster.active().len(), 1);
}

#[test]
fn a_pod_is_replaced_only_after_its_end_where_the_spec_says_so() {
    let mut cluster = Cluster::new(json!({"podReplacementPolicy": "Failed"}));
    cluster.settle();
    let pod = cluster.active()[0].clone();
    cluster.run(&pod);
    cluster.delete(&pod);
    cluster.pass(600);
    cluster.settle();
    assert!(cluster.active().is_empty());
    let status = cluster.status();
    assert_eq!((status.get("failed"), &status["terminating"]), (None, &json!(1)));
    cluster.reap();
    cluster.settle();
    assert_eq!(cluster.active().len(), 1);
    let status = cluster.status();
    assert_eq!((&status["failed"], &status["terminating"]), (&json!(1), &json!(0)));
    // One that never came to a node has no end to wait for.
    let pod = cluster.active()[0].clone();
    cluster.delete(&pod);
    cluster.settle();
    assert_eq!(cluster.status()["failed"], 2);
}
