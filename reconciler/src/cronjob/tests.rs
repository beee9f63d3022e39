use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use schemas::{Key, Kind, Object, labels};
use serde_json::{Value, json};

use super::{World, due_name, plan};
use crate::{plan::Plan, pods::stamp, simulation::Simulation};

/// One CronJob named `c`, made at noon; what its Jobs do is the test's.
struct Cluster {
    sim: Simulation,
    failure: Option<String>,
}

impl Cluster {
    fn new(spec: Value) -> Self {
        let mut cluster = Self {
            sim: Simulation::new(),
            failure: None,
        };
        cluster.put(spec);
        cluster
    }

    fn put(&mut self, spec: Value) {
        let mut value = json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c", "namespace": "a"},
            "spec": {"schedule": "*/10 * * * *", "jobTemplate": {
                "metadata": {"labels": {"team": "x"}, "annotations": {"note": "y"}},
                "spec": {"backoffLimit": 2, "template": {"spec": {
                    "restartPolicy": "Never", "containers": [{"name": "m", "image": "i"}]}}}}},
        });
        json_patch::merge(&mut value, &json!({"spec": spec}));
        let mut object = Object::clone(&self.sim.put(value));
        object.status.get_or_insert_with(|| json!({}).into());
        object.meta.creation_timestamp = Some(Time("2026-11-24T12:00:00Z".parse().expect("it is a time")));
        self.sim.insert(object);
    }

    fn cron_job(&self) -> Arc<Object> {
        self.sim.get(Kind::CronJob, "c")
    }

    fn status(&self) -> Value {
        self.cron_job().status_value().unwrap_or_default()
    }

    fn plan(&mut self) -> Plan {
        let cron_job = self.cron_job();
        let named = due_name(&cron_job, self.sim.now)
            .and_then(|name| self.sim.objects.get(&Key::namespaced(Kind::Job, "a", &name)).cloned());
        let uid = cron_job.uid();
        let mut jobs = self.sim.all(Kind::Job);
        jobs.retain(|job| job.controller().is_some_and(|owner| *owner.uid == *uid.0));
        let world = World {
            cron_job,
            jobs,
            named,
            failure: self.failure.clone(),
        };
        plan(&world, self.sim.now, &mut self.sim.ids)
    }

    fn look(&mut self) -> Plan {
        let plan = self.plan();
        self.sim.apply(&plan);
        plan
    }

    /// Moves on to a time of the day, on both clocks, and looks.
    fn at(&mut self, time: &str) -> Plan {
        let to: jiff::Timestamp = format!("2026-11-24T{time}Z").parse().expect("it is a time");
        let by = Duration::try_from(to.duration_since(self.sim.now.wall)).expect("it lies ahead");
        self.sim.now = self.sim.now.after(by);
        self.look()
    }

    fn jobs(&self) -> Vec<String> {
        self.sim
            .all(Kind::Job)
            .iter()
            .map(|job| job.name().to_owned())
            .collect()
    }

    fn end(&mut self, name: &str, how: &str) {
        let mut job = Object::clone(&self.sim.get(Kind::Job, name));
        let now = stamp(self.sim.now.wall);
        let created = job.meta.creation_timestamp.as_ref().map(|time| stamp(time.0));
        job.status = Some(
            json!({
            "startTime": created, "completionTime": if how == "Complete" { json!(now) } else { Value::Null },
            "conditions": [{"type": how, "status": "True", "lastTransitionTime": now}]})
            .into(),
        );
        self.sim.insert(job);
    }
}

/// The name of the Job of a time of the day.
fn named(time: &str) -> String {
    let at: jiff::Timestamp = format!("2026-11-24T{time}Z").parse().expect("it is a time");
    format!("c-{}", at.as_second() / 60)
}

fn reasons(plan: &Plan) -> Vec<&str> {
    plan.notes.iter().map(|note| note.reason.as_str()).collect()
}

#[test]
fn a_job_is_made_at_each_time_and_once() {
    let mut cluster = Cluster::new(json!({}));
    let plan = cluster.look();
    assert!(plan.is_empty());
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(600)));
    let plan = cluster.at("12:10:00.2");
    assert_eq!(reasons(&plan), ["SuccessfulCreate"]);
    assert_eq!(cluster.jobs(), [named("12:10:00")]);
    let job = cluster.sim.get(Kind::Job, &named("12:10:00"));
    assert_eq!(job.annotation(labels::CRON_JOB_SCHEDULED), Some("2026-11-24T12:10:00Z"));
    assert_eq!((job.annotation("note"), job.label("team")), (Some("y"), Some("x")));
    assert_eq!(job.body.value()["spec"]["backoffLimit"], 2);
    assert_eq!(job.body.value()["spec"]["completions"], 1);
    assert_eq!(
        job.body.value()["spec"]["selector"]["matchLabels"][labels::JOB_CONTROLLER_UID],
        job.uid().to_string()
    );
    assert_eq!(job.controller().map(|owner| owner.name.as_str()), Some("c"));
    let status = cluster.status();
    assert_eq!(status["lastScheduleTime"], "2026-11-24T12:10:00Z");
    assert_eq!(
        status["active"],
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": job.name(), "namespace": "a", "uid": job.uid()}])
    );
    let plan = cluster.look();
    assert!(plan.is_empty());
    assert_eq!(plan.requeue_after.map(|after| after.as_secs()), Some(599));

    cluster.sim.now = cluster.sim.now.after(Duration::from_secs(30));
    cluster.end(job.name(), "Complete");
    let plan = cluster.look();
    assert_eq!(reasons(&plan), ["SawCompletedJob"]);
    let status = cluster.status();
    assert_eq!(status.get("active"), None);
    assert_eq!(status["lastSuccessfulTime"], "2026-11-24T12:10:30Z");
    assert!(cluster.look().is_empty());
    cluster.at("12:20:00");
    assert_eq!(cluster.jobs().len(), 2);
}

#[test]
fn a_crash_between_job_and_status_starts_nothing_twice() {
    let mut cluster = Cluster::new(json!({}));
    cluster.sim.now = cluster.sim.now.after(Duration::from_secs(600));
    let plan = cluster.plan();
    cluster.sim.carry_out(&plan, 1).expect("the job is made");
    assert_eq!(cluster.status().get("lastScheduleTime"), None);
    let plan = cluster.look();
    assert_eq!(cluster.jobs().len(), 1);
    assert!(!reasons(&plan).contains(&"SuccessfulCreate"));
    assert_eq!(cluster.status()["lastScheduleTime"], "2026-11-24T12:10:00Z");
    assert_eq!(cluster.status()["active"][0]["name"], named("12:10:00"));
}

#[test]
fn what_runs_is_waited_for_replaced_or_joined() {
    for (policy, jobs, active) in [
        ("Allow", vec![named("12:10:00"), named("12:20:00")], 2),
        ("Forbid", vec![named("12:10:00")], 1),
        ("Replace", vec![named("12:20:00")], 1),
    ] {
        let mut cluster = Cluster::new(json!({"concurrencyPolicy": policy}));
        cluster.at("12:10:00");
        cluster.at("12:20:00");
        assert_eq!(cluster.jobs(), jobs, "{policy}");
        assert_eq!(
            cluster.status()["active"].as_array().map(Vec::len),
            Some(active),
            "{policy}"
        );
        cluster.look();
        assert_eq!(
            cluster.status()["active"].as_array().map(Vec::len),
            Some(active),
            "{policy}"
        );
    }
}

#[test]
fn a_start_that_was_held_up_is_made_up_for_within_the_deadline() {
    for (deadline, jobs) in [(json!(null), 2), (json!(240), 1), (json!(400), 2)] {
        let mut cluster = Cluster::new(json!({"concurrencyPolicy": "Forbid", "startingDeadlineSeconds": deadline}));
        cluster.at("12:10:00");
        let plan = cluster.at("12:20:00");
        assert_eq!(reasons(&plan), ["JobAlreadyActive"]);
        cluster.sim.now = cluster.sim.now.after(Duration::from_secs(300));
        cluster.end(&named("12:10:00"), "Failed");
        cluster.look();
        assert_eq!(cluster.jobs().len(), jobs, "{deadline}");
    }
}

#[test]
fn a_job_made_by_hand_stands_in_nobodys_way() {
    let mut cluster = Cluster::new(json!({"concurrencyPolicy": "Forbid"}));
    cluster.at("12:10:00");
    cluster.end(&named("12:10:00"), "Complete");
    let mut manual = Object::clone(&cluster.sim.get(Kind::Job, &named("12:10:00")));
    manual.meta.name = Some("by-hand".into());
    manual.meta.uid = Some("by-hand".into());
    manual.status = Some(json!({}).into());
    let annotations = manual.meta.annotations.get_or_insert_default();
    annotations.insert(labels::CRON_JOB_INSTANTIATE.to_owned(), "manual".to_owned());
    cluster.sim.insert(manual);
    cluster.at("12:20:00");
    assert!(cluster.jobs().contains(&named("12:20:00")));
    let active = cluster.status()["active"].clone();
    assert_eq!(active.as_array().map(Vec::len), Some(1), "{active}");
}

#[test]
fn missed_starts_are_made_up_for_by_the_last_one() {
    let mut cluster = Cluster::new(json!({}));
    let plan = cluster.at("12:43:00");
    assert_eq!(cluster.jobs(), [named("12:40:00")]);
    assert_eq!(reasons(&plan), ["SuccessfulCreate"]);

    let mut cluster = Cluster::new(json!({"schedule": "* * * * *"}));
    let plan = cluster.at("15:00:30");
    assert_eq!(cluster.jobs(), [named("15:00:00")]);
    assert_eq!(reasons(&plan), ["TooManyMissedTimes", "SuccessfulCreate"]);
    assert!(plan.notes[0].warning);
    assert!(cluster.look().notes.is_empty());
}

#[test]
fn after_the_deadline_a_start_is_not_made() {
    let mut cluster = Cluster::new(json!({"startingDeadlineSeconds": 60}));
    cluster.at("12:12:00");
    assert!(cluster.jobs().is_empty());
    cluster.at("12:20:59");
    assert_eq!(cluster.jobs(), [named("12:20:00")]);
}

#[test]
fn nothing_is_started_while_it_is_suspended_and_the_last_missed_one_after() {
    let mut cluster = Cluster::new(json!({"suspend": true}));
    assert_eq!(cluster.at("12:25:00").requeue_after, None);
    assert!(cluster.jobs().is_empty());
    cluster.put(json!({"suspend": false}));
    cluster.look();
    assert_eq!(cluster.jobs(), [named("12:20:00")]);
}

#[test]
fn finished_jobs_beyond_the_limits_go_the_oldest_first() {
    let mut cluster = Cluster::new(json!({"schedule": "* * * * *"}));
    for minute in 1..=8 {
        cluster.at(&format!("12:{minute:02}:00"));
        let how = if minute % 2 == 0 { "Failed" } else { "Complete" };
        cluster.end(&named(&format!("12:{minute:02}:00")), how);
    }
    let plan = cluster.look();
    assert!(reasons(&plan).contains(&"SuccessfulDelete"));
    let kept: Vec<String> = ["12:03:00", "12:05:00", "12:07:00", "12:08:00"].map(named).to_vec();
    assert_eq!(cluster.jobs(), kept);
    cluster.put(json!({"schedule": "* * * * *", "successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0}));
    cluster.look();
    assert!(cluster.jobs().is_empty());
    assert_eq!(cluster.status()["lastSuccessfulTime"], "2026-11-24T12:07:00Z");
}

#[test]
fn a_job_that_is_gone_is_no_longer_active() {
    let mut cluster = Cluster::new(json!({}));
    cluster.at("12:10:00");
    cluster
        .sim
        .objects
        .remove(&Key::namespaced(Kind::Job, "a", &named("12:10:00")));
    let plan = cluster.look();
    assert_eq!(reasons(&plan), ["MissingJob"]);
    assert_eq!(cluster.status().get("active"), None);
    assert!(cluster.jobs().is_empty(), "its time is over");
}

#[test]
fn what_cannot_be_scheduled_is_told() {
    for (spec, word) in [
        (json!({"schedule": "0 0 31 2 *"}), "InvalidSchedule"),
        (json!({"schedule": "daily"}), "UnparseableSchedule"),
        (json!({"timeZone": "No/Where"}), "UnknownTimeZone"),
    ] {
        let mut cluster = Cluster::new(spec);
        let plan = cluster.at("13:00:00");
        assert_eq!(reasons(&plan), [word]);
        assert!(plan.notes[0].warning);
        assert_eq!(plan.waiting[0].1.word, word);
        assert!(cluster.jobs().is_empty());
    }
}

#[test]
fn times_are_those_of_the_time_zone() {
    let mut cluster = Cluster::new(json!({"schedule": "30 18 * * *", "timeZone": "Asia/Kolkata"}));
    assert_eq!(cluster.look().requeue_after, Some(Duration::from_secs(3_600)));
    cluster.at("13:00:00");
    let job = cluster.sim.get(Kind::Job, &named("13:00:00"));
    assert_eq!(
        job.annotation(labels::CRON_JOB_SCHEDULED),
        Some("2026-11-24T18:30:00+05:30")
    );
}

#[test]
fn a_name_that_is_taken_is_told() {
    let mut cluster = Cluster::new(json!({}));
    let taken = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": named("12:10:00"), "namespace": "a"},
        "spec": {"template": {"spec": {"containers": []}}}});
    cluster.sim.put(taken);
    let plan = cluster.at("12:10:00");
    assert_eq!(reasons(&plan), ["FailedCreate"]);
    assert_eq!(cluster.status().get("lastScheduleTime"), None);
}

#[test]
fn a_job_that_cannot_be_made_holds_up_nothing_else() {
    let mut cluster = Cluster::new(json!({}));
    cluster.at("12:10:00");
    cluster.end(&named("12:10:00"), "Complete");
    cluster.failure = Some("exceeded quota".to_owned());
    cluster.sim.now = cluster.sim.now.after(Duration::from_secs(600));
    let plan = cluster.plan();
    assert!(
        plan.notes
            .iter()
            .any(|note| note.reason == "FailedCreate" && note.warning)
    );
    cluster.sim.carry_out(&plan, 1).expect("the status is written");
    assert_eq!(cluster.status()["lastSuccessfulTime"], "2026-11-24T12:10:00Z");
    assert_eq!(cluster.status()["lastScheduleTime"], "2026-11-24T12:10:00Z");
}

#[test]
fn a_small_step_back_of_the_clock_starts_nothing_twice() {
    let mut cluster = Cluster::new(json!({"successfulJobsHistoryLimit": 0}));
    cluster.at("12:10:00");
    cluster.end(&named("12:10:00"), "Complete");
    cluster.look();
    assert!(cluster.jobs().is_empty());
    cluster.sim.now.wall -= SignedDuration::from_mins(5);
    cluster.at("12:10:00");
    assert!(cluster.jobs().is_empty(), "12:10 comes twice and is started once");
    cluster.at("12:20:00");
    assert_eq!(cluster.jobs(), [named("12:20:00")]);
}

#[test]
fn a_clock_that_was_far_ahead_does_not_stop_the_schedule() {
    let mut cluster = Cluster::new(json!({}));
    cluster.sim.now.wall += SignedDuration::from_hours(1_000);
    cluster.look();
    assert_eq!(cluster.jobs().len(), 1);
    cluster.sim.now.wall -= SignedDuration::from_hours(1_000);
    assert!(cluster.look().notes.is_empty());
    let plan = cluster.at("12:10:00");
    assert_eq!(reasons(&plan), ["ClockWentBack", "SuccessfulCreate"]);
    assert!(cluster.jobs().contains(&named("12:10:00")));
    assert_eq!(cluster.status()["lastScheduleTime"], "2026-11-24T12:10:00Z");
    assert!(cluster.look().notes.is_empty());
}

#[test]
fn one_that_is_deleted_starts_nothing() {
    let mut cluster = Cluster::new(json!({}));
    let mut deleted = Object::clone(&cluster.cron_job());
    deleted.meta.deletion_timestamp = Some(Time(cluster.sim.now.wall));
    cluster.sim.insert(deleted);
    assert!(cluster.at("12:10:00").is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// However looks, crashes and the ends of Jobs interleave, no start is made twice, none is made that
    /// is not of the schedule, and the last one that is due is made.
    #[test]
    fn each_start_is_made_once(
        policy in prop::sample::select(vec!["Allow", "Forbid", "Replace"]),
        acts in proptest::collection::vec((0u64..1_500, 0usize..6, any::<bool>(), any::<bool>()), 1..40),
    ) {
        let mut cluster = Cluster::new(json!({"concurrencyPolicy": policy, "successfulJobsHistoryLimit": 1}));
        let mut made = std::collections::BTreeSet::new();
        for (seconds, writes, crash, end) in acts {
            cluster.sim.now = cluster.sim.now.after(Duration::from_secs(seconds));
            let before = cluster.jobs();
            let plan = cluster.plan();
            let most = if crash { writes } else { usize::MAX };
            cluster.sim.carry_out(&plan, most).expect("nothing came between");
            for name in cluster.jobs().into_iter().filter(|name| !before.contains(name)) {
                prop_assert!(made.insert(name.clone()), "{name} was made twice");
                let minute: i64 = name.trim_start_matches("c-").parse().expect("it is a number");
                prop_assert_eq!(minute % 10, 0);
                prop_assert!(minute * 60 <= cluster.sim.now.wall.as_second());
            }
            let open = |cluster: &Cluster| {
                let jobs = cluster.sim.all(Kind::Job);
                jobs.into_iter().filter(|job| super::end(job).is_none()).map(|job| job.name().to_owned()).collect::<Vec<_>>()
            };
            if policy != "Allow" {
                prop_assert!(open(&cluster).len() <= 1, "{:?}", open(&cluster));
            }
            if end {
                for name in open(&cluster) {
                    cluster.end(&name, "Complete");
                }
            }
        }
        for name in cluster.jobs() {
            if super::end(&cluster.sim.get(Kind::Job, &name)).is_none() {
                cluster.end(&name, "Complete");
            }
        }
        cluster.look();
        for name in cluster.jobs() {
            cluster.end(&name, "Complete");
        }
        cluster.sim.now = cluster.sim.now.after(Duration::from_secs(600));
        cluster.look();
        let last = cluster.sim.now.wall.as_second() / 600 * 10;
        prop_assert!(cluster.jobs().contains(&format!("c-{last}")), "{:?} {last}", cluster.jobs());
    }
}
