use std::{collections::BTreeSet, time::Duration};

use schemas::{Kind, Object, labels};
use serde_json::json;

use super::harness::{Cluster, reasons};
use crate::{job::tracking::is_tracked, pods::phase};

#[test]
fn one_pod_runs_and_the_job_is_complete() {
    let mut cluster = Cluster::new(json!({}));
    let plan = cluster.look();
    assert_eq!(reasons(&plan), ["SuccessfulCreate"]);
    let pod = cluster.active()[0].clone();
    assert!(is_tracked(&pod));
    assert!(pod.name().starts_with("j-") && pod.name().len() == 7, "{}", pod.name());
    for label in [labels::JOB_NAME, labels::LEGACY_JOB_NAME] {
        assert_eq!(pod.label(label), Some("j"));
    }
    for label in [labels::JOB_CONTROLLER_UID, labels::LEGACY_JOB_CONTROLLER_UID] {
        assert_eq!(pod.label(label), Some("job-uid"));
    }
    let status = cluster.status();
    assert_eq!(status["active"], 1);
    assert_eq!(status["startTime"], "2026-11-24T12:00:00Z");
    assert!(cluster.look().is_empty());

    cluster.pass(7);
    cluster.end(&pod, 0);
    cluster.look();
    let status = cluster.status();
    assert_eq!(status["uncountedTerminatedPods"]["succeeded"], json!([pod.uid()]));
    assert_eq!(
        cluster.holds("SuccessCriteriaMet").as_deref(),
        Some("CompletionsReached")
    );
    assert_eq!(cluster.holds("Complete"), None, "it is not counted for good yet");
    assert!(!is_tracked(&cluster.sim.get(Kind::Pod, pod.name())));
    let plan = cluster.look();
    assert_eq!(reasons(&plan), ["Completed"]);
    assert_eq!(
        cluster.status(),
        json!({
            "startTime": "2026-11-24T12:00:00Z", "completionTime": "2026-11-24T12:00:07Z",
            "succeeded": 1, "ready": 0, "terminating": 0, "uncountedTerminatedPods": {},
            "conditions": [
                {"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached",
                    "message": "Reached expected number of succeeded pods",
                    "lastProbeTime": "2026-11-24T12:00:07Z", "lastTransitionTime": "2026-11-24T12:00:07Z"},
                {"type": "Complete", "status": "True", "reason": "CompletionsReached",
                    "message": "Reached expected number of succeeded pods",
                    "lastProbeTime": "2026-11-24T12:00:07Z", "lastTransitionTime": "2026-11-24T12:00:07Z"},
            ],
        })
    );
    assert!(cluster.look().is_empty());
    assert_eq!(cluster.pods().len(), 1, "the pod stays, for its logs");
}

#[test]
fn as_many_run_as_may_and_as_are_still_wanted() {
    let mut cluster = Cluster::new(json!({"parallelism": 3, "completions": 5}));
    cluster.settle();
    assert_eq!(cluster.active().len(), 3);
    for pod in &cluster.active()[..2] {
        cluster.end(pod, 0);
    }
    cluster.settle();
    assert_eq!(cluster.active().len(), 3, "three are still wanted");
    for pod in &cluster.active()[..1] {
        cluster.end(pod, 0);
    }
    cluster.settle();
    assert_eq!(cluster.active().len(), 2, "no more than are wanted");
    cluster.end_all(0);
    cluster.settle();
    assert_eq!(cluster.status()["succeeded"], 5);
    assert!(cluster.holds("Complete").is_some());
    assert_eq!(cluster.pods().len(), 5);
}

#[test]
fn pods_are_made_in_growing_batches_and_share_one_body() {
    let mut cluster = Cluster::new(json!({"parallelism": 10, "completions": 10}));
    let plan = cluster.look();
    let sizes: Vec<usize> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            crate::plan::Step::Write { writes, why, .. } if why == "making pods" => Some(writes.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [1, 2, 4, 3]);
    let bodies: BTreeSet<String> = cluster.pods().iter().map(|pod| pod.body.hash().to_string()).collect();
    assert_eq!(bodies.len(), 1);
}

#[test]
fn without_a_number_of_completions_any_success_ends_it() {
    let mut cluster = Cluster::new(json!({"parallelism": 3}));
    cluster.settle();
    assert_eq!(cluster.active().len(), 3);
    let pods = cluster.active();
    cluster.end(&pods[0], 0);
    cluster.settle();
    assert_eq!(cluster.active().len(), 2, "none is made after a success");
    assert_eq!(cluster.holds("Complete"), None);
    cluster.end(&pods[1], 1);
    cluster.settle();
    assert_eq!(
        cluster.active().len(),
        1,
        "a failure after a success is not tried again"
    );
    cluster.end(&pods[2], 0);
    cluster.settle();
    assert!(cluster.holds("Complete").is_some());
    assert_eq!(cluster.status()["succeeded"], 2);
    assert_eq!(cluster.status()["failed"], 1);
}

#[test]
fn nothing_wanted_is_complete_at_once() {
    let mut cluster = Cluster::new(json!({"completions": 0}));
    cluster.settle();
    assert!(cluster.holds("Complete").is_some());
    assert!(cluster.pods().is_empty());
    let mut idle = Cluster::new(json!({"parallelism": 0, "completions": 3}));
    idle.settle();
    assert!(idle.pods().is_empty());
    assert_eq!(idle.holds("Complete"), None);
}

#[test]
fn lowering_the_parallelism_removes_what_is_worth_least_and_counts_none_of_it() {
    let mut cluster = Cluster::new(json!({"parallelism": 3, "completions": 9}));
    cluster.settle();
    let pods = cluster.active();
    cluster.run(&pods[1]);
    cluster.put(json!({"parallelism": 1, "completions": 9}));
    let plan = cluster.look();
    assert_eq!(reasons(&plan), ["SuccessfulDelete", "SuccessfulDelete"]);
    cluster.settle();
    assert_eq!(cluster.active().len(), 1);
    assert_eq!(cluster.active()[0].name(), pods[1].name(), "the one that runs stays");
    assert_eq!(cluster.status().get("failed"), None);
    cluster.put(json!({"parallelism": 2, "completions": 9}));
    cluster.settle();
    assert_eq!(cluster.active().len(), 2, "without a wait: nothing has failed");
}

#[test]
fn suspending_ends_pods_and_resuming_starts_the_clock_anew() {
    let mut cluster = Cluster::new(json!({"suspend": true, "activeDeadlineSeconds": 100}));
    let plan = cluster.look();
    assert_eq!(reasons(&plan), ["Suspended"]);
    cluster.settle();
    assert!(cluster.pods().is_empty());
    assert_eq!(cluster.status().get("startTime"), None);
    assert_eq!(cluster.holds("Suspended").as_deref(), Some("JobSuspended"));

    cluster.pass(1_000);
    cluster.put(json!({"activeDeadlineSeconds": 100}));
    let plan = cluster.look();
    assert!(reasons(&plan).contains(&"Resumed"), "{:?}", reasons(&plan));
    assert_eq!(cluster.holds("Suspended"), None);
    let started = cluster.status()["startTime"].clone();
    assert_eq!(started, "2026-11-24T12:16:40Z");
    let pod = cluster.active()[0].clone();
    cluster.run(&pod);

    cluster.pass(60);
    cluster.put(json!({"suspend": true, "activeDeadlineSeconds": 100}));
    cluster.settle();
    assert!(cluster.active().is_empty());
    assert_eq!(cluster.status()["terminating"], 1);
    assert_eq!(
        cluster.status().get("failed"),
        None,
        "ended by the controller, not by itself"
    );
    cluster.reap();
    cluster.settle();
    assert_eq!(cluster.status()["terminating"], 0);

    cluster.pass(1_000);
    cluster.put(json!({"activeDeadlineSeconds": 100}));
    let plan = cluster.look();
    assert_eq!(cluster.status()["startTime"], "2026-11-24T12:34:20Z");
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(100)));
    cluster.pass(60);
    cluster.settle();
    assert_eq!(cluster.holds("FailureTarget"), None, "the time before does not count");
    cluster.pass(41);
    cluster.settle();
    assert_eq!(cluster.holds("Failed").as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn pods_that_match_are_adopted_and_counted_and_others_are_let_go() {
    let mut cluster = Cluster::new(json!({"completions": 2, "parallelism": 1}));
    cluster.settle();
    let own = cluster.active()[0].clone();
    let mut stray = Object::clone(&own);
    stray.meta.name = Some("stray".into());
    stray.meta.uid = Some("stray-uid".into());
    stray.meta.owner_references = None;
    stray.meta.finalizers = None;
    cluster.sim.insert(stray);
    cluster.look();
    let adopted = cluster.sim.get(Kind::Pod, "stray");
    assert!(adopted.controller().is_some() && is_tracked(&adopted));
    cluster.settle();
    assert_eq!(cluster.active().len(), 1, "one is too many");

    let left = cluster.active()[0].clone();
    let mut other = Object::clone(&left);
    other.meta.labels = None;
    cluster.sim.insert(other);
    cluster.look();
    let released = cluster.sim.get(Kind::Pod, left.name());
    assert!(released.controller().is_none() && !is_tracked(&released));
    cluster.settle();
    let ours = cluster.active().into_iter().filter(|pod| pod.controller().is_some());
    assert_eq!(ours.count(), 1, "another one is made");
}

#[test]
fn another_controllers_job_is_left_alone() {
    let mut cluster = Cluster::new(json!({"managedBy": "example.com/queue"}));
    assert!(cluster.look().is_empty());
    let mut own = Cluster::new(json!({"managedBy": "kubernetes.io/job-controller"}));
    assert!(!own.look().is_empty());
}

#[test]
fn a_look_whose_outcome_is_not_known_makes_no_second_pod() {
    let mut cluster = Cluster::new(json!({"parallelism": 3, "completions": 9}));
    let names = |plan: &crate::plan::Plan| -> BTreeSet<String> {
        let writes = plan.steps.iter().flat_map(|step| match step {
            crate::plan::Step::Write { writes, .. } => writes.as_slice(),
            _ => &[],
        });
        let made = writes.filter_map(|write| match &write.op {
            store::Op::Create(pod) => Some(pod.name().to_owned()),
            _ => None,
        });
        made.collect()
    };
    let first = cluster.plan();
    let again = cluster.plan();
    assert_eq!(names(&first).len(), 3);
    assert_eq!(names(&first), names(&again));
    // Half of it arrived: the rest is made, under the names that it had.
    cluster.sim.carry_out(&first, 2).expect("it goes");
    let third = cluster.plan();
    assert!(names(&third).is_subset(&names(&first)));
    assert_eq!(names(&third).len(), 2);
    // Where names are taken after all, others are found.
    cluster.tries = 2;
    assert!(names(&cluster.plan()).is_disjoint(&names(&first)));
}

#[test]
fn pods_that_cannot_be_made_are_told_of_and_not_counted() {
    let mut cluster = Cluster::new(json!({}));
    cluster.failure = Some("exceeded quota".to_owned());
    let plan = cluster.plan();
    assert!(
        plan.notes
            .iter()
            .any(|note| note.warning && note.reason == "FailedCreate")
    );
    cluster.sim.carry_out(&plan, 1).expect("the status is written");
    assert_eq!(cluster.status().get("active"), None);
}

#[test]
fn a_deleted_job_holds_no_pod() {
    let mut cluster = Cluster::new(json!({"parallelism": 2, "completions": 2}));
    cluster.settle();
    let pods = cluster.active();
    cluster.run(&pods[0]);
    cluster.end(&pods[1], 1);
    let mut job = Object::clone(&cluster.job());
    job.meta.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        cluster.sim.now.wall,
    ));
    job.meta.finalizers = Some(vec![labels::FOREGROUND_DELETION.to_owned()].into());
    cluster.sim.insert(job);
    cluster.settle();
    assert!(!is_tracked(&cluster.sim.get(Kind::Pod, pods[1].name())));
    assert_eq!(cluster.pods().len(), 2, "nothing is made");
    assert!(is_tracked(&cluster.sim.get(Kind::Pod, pods[0].name())));
    cluster.delete(&pods[0]);
    cluster.settle();
    cluster.reap();
    assert_eq!(cluster.pods().len(), 1);
    assert_eq!(phase(&cluster.pods()[0]), "Failed");
}
