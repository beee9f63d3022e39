use std::time::Duration;

use schemas::labels;
use serde_json::{Value, json};

use super::harness::Cluster;
use crate::{job::tracking::is_tracked, pods::is_active};

fn indexed(more: Value) -> Cluster {
    let mut spec = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 2});
    for (key, value) in more.as_object().expect("it is one") {
        spec[key] = value.clone();
    }
    Cluster::new(spec)
}

#[test]
fn each_pod_knows_its_index() {
    let mut cluster = indexed(json!({}));
    cluster.settle();
    let pods = cluster.active();
    assert_eq!(pods.len(), 2);
    for (index, pod) in pods.iter().enumerate() {
        let text = index.to_string();
        assert_eq!(pod.annotation(labels::JOB_COMPLETION_INDEX), Some(&*text));
        assert_eq!(pod.label(labels::JOB_COMPLETION_INDEX), Some(&*text));
        assert!(pod.name().starts_with(&format!("j-{index}-")), "{}", pod.name());
        assert_eq!(pod.meta.generate_name.as_deref(), Some(&*format!("j-{index}-")));
        let spec = pod.body.value().remove("spec").expect("it has one");
        assert_eq!(spec["hostname"], format!("j-{index}"));
        assert_eq!(
            spec["containers"][0]["env"],
            json!([{"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"apiVersion": "v1",
                "fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"}}}])
        );
        assert_eq!(pod.annotation(labels::JOB_INDEX_FAILURE_COUNT), None);
    }
}

#[test]
fn each_index_succeeds_once_and_in_any_order() {
    let mut cluster = indexed(json!({}));
    cluster.settle();
    let one = cluster.of_index(1);
    cluster.end(&one, 0);
    cluster.settle();
    assert_eq!(cluster.status()["completedIndexes"], "1");
    assert_eq!(
        cluster.status()["uncountedTerminatedPods"],
        json!({}),
        "the index is enough"
    );
    cluster.of_index(2);
    let zero = cluster.of_index(0);
    cluster.end(&zero, 1);
    cluster.settle();
    assert_eq!(cluster.active().len(), 1);
    cluster.pass(10);
    cluster.settle();
    assert_ne!(cluster.of_index(0).name(), zero.name());
    cluster.end_all(0);
    cluster.settle();
    let status = cluster.status();
    assert_eq!(status["completedIndexes"], "0-2");
    assert_eq!((&status["succeeded"], &status["failed"]), (&json!(3), &json!(1)));
    assert!(cluster.holds("Complete").is_some());
    assert!(cluster.pods().iter().all(|pod| !is_tracked(pod)));
}

#[test]
fn a_second_pod_of_an_index_and_one_of_none_are_removed() {
    let mut cluster = indexed(json!({"completions": 5}));
    cluster.settle();
    for (name, index) in [("twin", "0"), ("beyond", "7"), ("none", "x")] {
        let mut pod = schemas::Object::clone(&cluster.of_index(0));
        pod.meta.name = Some(name.into());
        pod.meta.uid = Some(format!("uid-{name}").into());
        pod.meta.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            cluster.sim.now.wall + Duration::from_secs(9),
        ));
        pod.meta.annotations = Some([(labels::JOB_COMPLETION_INDEX.to_owned(), index.to_owned())].into());
        cluster.sim.insert(pod);
    }
    cluster.settle();
    let left: Vec<String> = cluster.active().iter().map(|pod| pod.name().to_owned()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|name| name.starts_with("j-")), "{left:?}");
    assert_eq!(cluster.status().get("failed"), None);
}

#[test]
fn more_completions_are_taken_over_together_with_the_parallelism() {
    let mut cluster = indexed(json!({"completions": 2}));
    cluster.settle();
    let zero = cluster.of_index(0);
    cluster.end(&zero, 0);
    cluster.settle();
    let spec = |count: u32| json!({"completionMode": "Indexed", "completions": count, "parallelism": count});
    cluster.put(spec(4));
    cluster.settle();
    assert_eq!(cluster.active().len(), 3);
    cluster.put(spec(2));
    cluster.settle();
    assert_eq!(cluster.active().len(), 1);
    cluster.end_all(0);
    cluster.settle();
    assert_eq!(cluster.status()["completedIndexes"], "0,1");
    assert!(cluster.holds("Complete").is_some());
}

#[test]
fn an_index_waits_fails_and_ends_by_itself() {
    let mut cluster = indexed(json!({"backoffLimitPerIndex": 1}));
    cluster.settle();
    let zero = cluster.of_index(0);
    assert_eq!(zero.annotation(labels::JOB_INDEX_FAILURE_COUNT), Some("0"));
    cluster.end(&zero, 1);
    let plan = cluster.settle();
    cluster.of_index(1);
    assert_eq!(
        cluster.of_index(2).annotation(labels::JOB_INDEX_FAILURE_COUNT),
        Some("0"),
        "another index is not held up"
    );
    assert!(plan.requeue_after.is_none(), "there is no room for a third");
    assert!(
        is_tracked(&cluster.sim.objects[&zero.key()]),
        "it tells how often its index has failed"
    );
    let one = cluster.of_index(1);
    cluster.end(&one, 0);
    let plan = cluster.settle();
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(10)));
    cluster.pass(10);
    cluster.settle();
    let again = cluster.of_index(0);
    assert_eq!(again.annotation(labels::JOB_INDEX_FAILURE_COUNT), Some("1"));
    cluster.settle();
    assert!(!is_tracked(&cluster.sim.objects[&zero.key()]));

    cluster.end(&again, 1);
    cluster.settle();
    assert_eq!(cluster.status()["failedIndexes"], "0");
    assert_eq!(cluster.holds("FailureTarget"), None, "the others go on");
    cluster.pass(10_000);
    cluster.settle();
    assert_eq!(cluster.active().len(), 1, "a failed index is not tried again");
    cluster.end_all(0);
    cluster.settle();
    assert_eq!(cluster.holds("Failed").as_deref(), Some("FailedIndexes"));
    let status = cluster.status();
    assert_eq!(
        (&status["completedIndexes"], &status["failedIndexes"]),
        (&json!("1,2"), &json!("0"))
    );
    assert_eq!((&status["succeeded"], &status["failed"]), (&json!(2), &json!(2)));
}

#[test]
fn the_failures_of_an_index_survive_a_restart() {
    let mut cluster = indexed(json!({"backoffLimitPerIndex": 5, "completions": 1, "parallelism": 1}));
    for failures in 0..3u32 {
        cluster.settle();
        let pod = cluster.of_index(0);
        let count = failures.to_string();
        assert_eq!(pod.annotation(labels::JOB_INDEX_FAILURE_COUNT), Some(&*count));
        cluster.end(&pod, 1);
        cluster.look();
        cluster.restart();
        let wait = 10 << failures;
        assert_eq!(cluster.settle().requeue_after, Some(Duration::from_secs(wait)));
        cluster.pass(wait);
    }
}

#[test]
fn too_many_failed_indexes_end_all() {
    let mut cluster =
        indexed(json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 1, "completions": 6, "parallelism": 4}));
    cluster.settle();
    let (zero, one) = (cluster.of_index(0), cluster.of_index(1));
    cluster.end(&zero, 1);
    cluster.settle();
    assert_eq!(cluster.holds("FailureTarget"), None);
    cluster.end(&one, 1);
    cluster.settle();
    assert_eq!(
        cluster.holds("FailureTarget").as_deref(),
        Some("MaxFailedIndexesExceeded")
    );
    assert!(!cluster.pods().iter().any(|pod| is_active(pod)));
    assert_eq!(cluster.status()["failedIndexes"], "0,1");
}

#[test]
fn long_names_keep_their_index() {
    let base = crate::job::making::indexed_base(&"x".repeat(63), 12_345);
    assert_eq!(base.len(), 58);
    assert!(base.ends_with("x-12345-"), "{base}");
}
