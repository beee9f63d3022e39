use schemas::{Object, labels};
use serde_json::{Value, json};

use super::harness::Cluster;

fn rules(rules: Value) -> Value {
    json!({"podFailurePolicy": {"rules": rules}, "backoffLimit": 0, "parallelism": 2, "completions": 2})
}

fn disrupted(cluster: &mut Cluster, pod: &Object) {
    let mut pod = Object::clone(&cluster.sim.objects[&pod.key()]);
    let mut status = pod.status_value().expect("it is there");
    status["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]);
    pod.status = Some(status.into());
    cluster.sim.insert(pod);
}

#[test]
fn an_exit_code_fails_the_whole_job() {
    let mut cluster = Cluster::new(rules(json!([
        {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}}])));
    cluster.settle();
    let pods = cluster.active();
    cluster.run(&pods[1]);
    cluster.end(&pods[0], 42);
    cluster.settle();
    assert_eq!(cluster.holds("FailureTarget").as_deref(), Some("PodFailurePolicy"));
    assert!(cluster.active().is_empty());
    cluster.reap();
    cluster.settle();
    let job = cluster.job();
    let failed = crate::pods::condition(&job, "Failed").expect("it has failed");
    assert_eq!(
        failed["message"],
        format!(
            "Container c for pod a/{} failed with exit code 42 matching FailJob rule at index 0",
            pods[0].name()
        )
    );
    assert_eq!(cluster.status()["failed"], 2);
}

#[test]
fn a_disruption_can_be_ignored_and_is_replaced_after_its_end() {
    let mut cluster = Cluster::new(rules(json!([
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}])));
    cluster.settle();
    let pod = cluster.active()[0].clone();
    cluster.run(&pod);
    disrupted(&mut cluster, &pod);
    cluster.delete(&pod);
    cluster.settle();
    assert_eq!(cluster.active().len(), 1, "it has not ended yet");
    cluster.reap();
    cluster.settle();
    assert_eq!(cluster.status().get("failed"), None);
    assert_eq!(cluster.holds("FailureTarget"), None);
    cluster.pass(10);
    cluster.settle();
    assert_eq!(cluster.active().len(), 2);
    // Any other failure counts, and the limit is none.
    cluster.end_all(1);
    cluster.settle();
    assert_eq!(cluster.holds("Failed").as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(cluster.status()["failed"], 2);
}

#[test]
fn the_first_rule_that_matches_decides() {
    let mut cluster = Cluster::new(rules(json!([
        {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [1, 2]}},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [1]}},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2]}}])));
    cluster.settle();
    let pods = cluster.active();
    cluster.end(&pods[0], 1);
    cluster.settle();
    assert_eq!(cluster.status().get("failed"), None);
    cluster.end(&pods[1], 2);
    cluster.settle();
    assert_eq!(cluster.holds("Failed").as_deref(), Some("PodFailurePolicy"));
}

#[test]
fn one_index_can_be_failed_by_its_exit_code() {
    let mut cluster = Cluster::new(json!({
        "completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 3,
        "podFailurePolicy": {"rules": [
            {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [7]}},
            {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [8]}}]}}));
    cluster.settle();
    let (zero, one) = (cluster.of_index(0), cluster.of_index(1));
    cluster.end(&zero, 7);
    cluster.end(&one, 8);
    cluster.settle();
    assert_eq!(cluster.status()["failedIndexes"], "0");
    cluster.pass(10);
    cluster.settle();
    let again = cluster.of_index(1);
    assert_eq!(again.annotation(labels::JOB_INDEX_FAILURE_COUNT), Some("0"));
    assert_eq!(again.annotation(labels::JOB_INDEX_IGNORED_FAILURE_COUNT), Some("1"));
    cluster.end(&again, 0);
    cluster.settle();
    assert_eq!(cluster.holds("Failed").as_deref(), Some("FailedIndexes"));
    assert_eq!(cluster.status()["failed"], 1);
}

#[test]
fn a_leader_can_be_enough() {
    let mut cluster = Cluster::new(json!({
        "completionMode": "Indexed", "completions": 4, "parallelism": 4,
        "successPolicy": {"rules": [{"succeededIndexes": "0,3", "succeededCount": 1}, {"succeededCount": 3}]}}));
    cluster.settle();
    let (one, zero) = (cluster.of_index(1), cluster.of_index(0));
    for pod in cluster.active() {
        cluster.run(&pod);
    }
    cluster.end(&one, 0);
    cluster.settle();
    assert_eq!(cluster.holds("SuccessCriteriaMet"), None);
    cluster.end(&zero, 0);
    cluster.settle();
    assert_eq!(cluster.holds("SuccessCriteriaMet").as_deref(), Some("SuccessPolicy"));
    assert!(cluster.active().is_empty(), "the others are not needed");
    assert_eq!(cluster.holds("Complete"), None, "they are still stopping");
    cluster.reap();
    cluster.settle();
    assert_eq!(cluster.holds("Complete").as_deref(), Some("SuccessPolicy"));
    let status = cluster.status();
    assert_eq!((&status["succeeded"], status.get("failed")), (&json!(2), None));
}
