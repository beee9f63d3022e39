use schemas::{Commit, Kind};
use store::UnitAt;

use super::*;
use crate::simulation::start;

fn desired(held: Option<&str>) -> Arc<Desired> {
    let mut desired = Desired {
        revision: 1,
        commit: Some(Commit::from("0123456789abcdef")),
        ..Desired::default()
    };
    let at = UnitAt {
        commit: Commit::from("0123456789abcdef"),
        held: held.map(str::to_owned),
        may_delete: true,
    };
    desired.units.insert(Unit("a".into()), at);
    Arc::new(desired)
}

fn seen(status: Value) -> Seen {
    let key = Key::namespaced(Kind::Pod, "a", "p");
    let live = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a", "uid": "u"},
        "spec": {"containers": []}, "status": status,
    });
    let hash = ContentHash([1; 32]);
    let row = DesiredRow {
        unit: Unit("a".into()),
        key: key.clone(),
        hash,
        content: Arc::new(json!({})),
        file: "f.yaml".into(),
        line: 3,
        commit: Commit::from("c"),
    };
    Seen {
        key,
        row: Some(Arc::new(row)),
        live: Some(Arc::new(Object::from_value(live).expect("it is valid"))),
        pods: Vec::new(),
        settles: None,
        released: Some(hash),
        trouble: None,
        finished: None,
        marked: false,
        bad: None,
        revertible: false,
    }
}

fn missing_image() -> Seen {
    seen(json!({"phase": "Pending", "containerStatuses": [{
        "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "there is no such image"}},
    }]}))
}

fn ready() -> Seen {
    seen(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}))
}

fn world(objects: Vec<Seen>) -> World {
    World {
        desired: desired(None),
        objects,
        ..World::default()
    }
}

fn after(seconds: u64) -> Now {
    start().after(Duration::from_secs(seconds))
}

#[test]
fn a_stall_fails_after_its_time_and_success_ends_that() {
    let mut tracker = Tracker::default();
    let plan = tracker.look(&world(vec![missing_image()]), after(0));
    assert_eq!(tracker.report().outcome, Outcome::Progressing);
    assert_eq!(plan.revisit.len(), 1);
    assert_eq!(plan.revisit[0].1, stalls::STALL);
    tracker.look(&world(vec![missing_image()]), after(29));
    assert_eq!(tracker.report().outcome, Outcome::Progressing);
    tracker.look(&world(vec![missing_image()]), after(30));
    assert_eq!(tracker.report().outcome, Outcome::Failed);
    let unit = &tracker.report().units[&Unit("a".into())];
    assert!(unit.reason.contains("ImagePullBackOff"), "{}", unit.reason);
    let plan = tracker.look(&world(vec![ready()]), after(40));
    assert_eq!(tracker.report().outcome, Outcome::Converged);
    assert!(plan.steps.iter().any(|step| matches!(step, Step::MarkHealthy(_))));
    assert!(plan.steps.iter().any(|step| matches!(step, Step::Publish(_))));
}

#[test]
fn nothing_new_publishes_nothing() {
    let mut tracker = Tracker::default();
    let mut healthy = ready();
    healthy.marked = true;
    assert_eq!(tracker.look(&world(vec![healthy.clone()]), after(0)).steps.len(), 1);
    assert!(tracker.look(&world(vec![healthy]), after(1)).is_empty());
}

#[test]
fn a_content_that_is_not_released_yet_is_progressing() {
    let mut tracker = Tracker::default();
    let mut old = ready();
    old.released = Some(ContentHash([2; 32]));
    tracker.look(&world(vec![old]), after(0));
    assert_eq!(tracker.report().outcome, Outcome::Progressing);
}

#[test]
fn a_held_unit_and_a_source_error_are_held() {
    let mut tracker = Tracker::default();
    let mut held = world(vec![ready()]);
    held.desired = desired(Some("a.yaml does not parse"));
    tracker.look(&held, after(0));
    assert_eq!(tracker.report().outcome, Outcome::Held);
    assert_eq!(
        tracker.report().units[&Unit("a".into())].reason,
        "a.yaml does not parse"
    );
    let mut broken = Desired::clone(&desired(None));
    broken.source_error = Some("the branch is gone".to_owned());
    held.desired = Arc::new(broken);
    tracker.look(&held, after(1));
    assert_eq!(tracker.report().outcome, Outcome::Held);
}

#[test]
fn held_deletions_keep_their_time_and_what_is_gone_leaves_the_report() {
    let mut tracker = Tracker::default();
    let mut it = world(vec![ready()]);
    let held = |now: Now| HeldDeletions {
        commit: Commit::from("c"),
        objects: vec![Key::namespaced(Kind::ConfigMap, "a", "c")],
        since: now.wall,
        reason: "too many".to_owned(),
    };
    let held = |now: Now| {
        Arc::new(Deletions {
            held: Some(Arc::new(held(now))),
            ..Deletions::default()
        })
    };
    it.deletions = held(after(0));
    tracker.look(&it, after(0));
    it.deletions = held(after(60));
    tracker.look(&it, after(60));
    let kept = tracker.report().held_deletions.as_ref().map(|held| held.since);
    assert_eq!(kept, Some(after(0).wall));
    it.deletions = Arc::default();
    it.objects[0].row = None;
    tracker.look(&it, after(61));
    assert!(tracker.report().units[&Unit("a".into())].objects.is_empty());
    assert_eq!(tracker.report().outcome, Outcome::Converged);
}

#[test]
fn each_unit_is_told_its_own_part_of_the_held_deletions() {
    let mut tracker = Tracker::default();
    let mut it = world(vec![ready()]);
    let key = |namespace: &str, name: &str| Key::namespaced(Kind::ConfigMap, namespace, name);
    let all = vec![key("a", "c"), key("b", "c"), key("b", "d"), key("b", "e")];
    let cases = [
        (
            all,
            "1 object of its own is held together with 3 of other units: 3 of the 3 in b",
        ),
        (vec![key("a", "c")], "3 of the 3 in b"),
    ];
    for (objects, told) in cases {
        it.deletions = Arc::new(Deletions {
            held: Some(Arc::new(HeldDeletions {
                commit: Commit::from("c"),
                objects,
                since: after(0).wall,
                reason: "3 of the 3 in b".to_owned(),
            })),
            ..Deletions::default()
        });
        tracker.look(&it, after(0));
        let unit = &tracker.report().units[&Unit("a".into())];
        assert_eq!((unit.outcome, unit.reason.as_str()), (Outcome::Held, told));
    }
}

#[test]
fn a_unit_is_on_its_way_until_what_it_removes_is_gone() {
    let mut tracker = Tracker::default();
    let key = |name: &str| Key::namespaced(Kind::ConfigMap, "a", name);
    let unit = Unit("a".into());
    let mut it = world(vec![ready()]);
    let told = |tracker: &Tracker| {
        let unit = tracker.report().units.get(&unit)?;
        Some((tracker.report().outcome, unit.reason.clone(), unit.removing.len()))
    };
    let removing = |keys: Vec<Key>, waits_for| {
        Arc::new(Deletions {
            removing: BTreeMap::from([(unit.clone(), keys)]),
            waits_for,
            ..Deletions::default()
        })
    };
    it.deletions = removing(vec![key("c"), key("d")], Some(key("e")));
    tracker.look(&it, after(0));
    assert_eq!(
        told(&tracker).map(|told| told.1),
        Some("2 objects wait to be removed until ConfigMap a/e is released".to_owned())
    );
    it.deletions = removing(vec![key("c"), key("d")], None);
    tracker.look(&it, after(0));
    let progressing = Outcome::Progressing;
    assert_eq!(
        told(&tracker),
        Some((progressing, "2 objects are being removed".to_owned(), 2))
    );

    // Nothing of the unit is declared any more.
    it.desired = Arc::new(Desired {
        units: BTreeMap::new(),
        ..Desired::clone(&desired(None))
    });
    it.objects[0].row = None;
    it.deletions = removing(vec![key("d")], None);
    let plan = tracker.look(&it, after(60));
    assert!(plan.steps.iter().any(|step| matches!(step, Step::Publish(_))));
    assert_eq!(
        told(&tracker),
        Some((progressing, "1 object is being removed".to_owned(), 1))
    );
    it.deletions = Arc::default();
    tracker.look(&it, after(120));
    assert_eq!(told(&tracker), None, "it is empty");
    assert_eq!(tracker.report().outcome, Outcome::Converged);
}

#[test]
fn a_status_is_stale_until_the_newest_content_is_observed() {
    for (released, generation, stale) in [(true, 1, false), (true, 2, true), (false, 1, true)] {
        let mut it = seen(json!({}));
        it.key = Key::namespaced(Kind::Deployment, "a", "d");
        let live = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "namespace": "a", "uid": "u", "generation": generation},
            "spec": {"replicas": 3}, "status": {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3},
        });
        it.live = Some(Arc::new(Object::from_value(live).expect("it is valid")));
        if !released {
            it.released = None;
        }
        let key = it.key.clone();
        let mut tracker = Tracker::default();
        tracker.look(&world(vec![it]), after(0));
        let object = &tracker.report().units[&Unit("a".into())].objects[&key];
        assert_eq!(object.stale, stale, "{released} {generation}: {object:?}");
    }
}

#[test]
fn what_has_just_started_is_not_converged_before_it_has_settled() {
    let mut tracker = Tracker::default();
    let started = start();
    let settling = Seen {
        settles: Some(started.monotonic + Duration::from_secs(3)),
        ..ready()
    };
    let plan = tracker.look(&world(vec![settling.clone()]), started);
    assert_eq!(tracker.report().outcome, Outcome::Progressing);
    assert_eq!(plan.revisit, [(settling.key.clone(), Duration::from_secs(3))]);
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::MarkHealthy(_))));
    let later = Now {
        monotonic: started.monotonic + Duration::from_secs(3),
        ..started
    };
    let plan = tracker.look(&world(vec![settling]), later);
    assert_eq!(tracker.report().outcome, Outcome::Converged);
    assert!(plan.steps.iter().any(|step| matches!(step, Step::MarkHealthy(_))));
}

#[test]
fn the_good_moments_of_one_that_crashes_again_and_again_are_no_outcome() {
    let mut tracker = Tracker::default();
    let mut now = start();
    let mut worst = Outcome::Progressing;
    for restart in 3..9 {
        let crashed = seen(json!({"phase": "Running", "containerStatuses": [{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": restart,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        }]}));
        tracker.look(&world(vec![crashed]), now);
        now.monotonic += Duration::from_secs(12);
        let up = Seen {
            settles: Some(now.monotonic + Duration::from_secs(10)),
            ..ready()
        };
        tracker.look(&world(vec![up]), now);
        assert_ne!(tracker.report().outcome, Outcome::Converged);
        worst = worst.max(tracker.report().outcome);
        now.monotonic += Duration::from_secs(1);
    }
    assert_eq!(worst, Outcome::Failed);
}

#[test]
fn a_revision_is_reported_on_once_all_that_it_changed_was_looked_at() {
    let mut tracker = Tracker::default();
    let named = |name: &str| {
        let mut seen = ready();
        seen.key = Key::namespaced(Kind::Pod, "a", name);
        seen.marked = true;
        seen
    };
    let at = |revision: u64, seen: &[&Seen]| {
        let mut desired = Desired::clone(&desired(None));
        desired.revision = revision;
        let rows = seen
            .iter()
            .filter_map(|seen| Some((seen.key.clone(), seen.row.clone()?)));
        desired.rows = rows.collect();
        Arc::new(desired)
    };
    let look = |tracker: &mut Tracker, desired: &Arc<Desired>, objects: Vec<Seen>, second: u64| {
        let mut world = world(objects);
        world.desired = desired.clone();
        let plan = tracker.look(&world, after(second));
        plan.steps.into_iter().find_map(|step| match step {
            Step::Publish(report) => Some((report.revision, report.outcome)),
            _ => None,
        })
    };
    let (one, two) = (named("one"), named("two"));
    let first = at(1, &[&one, &two]);
    assert_eq!(look(&mut tracker, &first, vec![one.clone()], 1), None);
    let converged = Some((1, Outcome::Converged));
    assert_eq!(look(&mut tracker, &first, vec![two.clone()], 2), converged);

    let mut changed = two.clone();
    let mut row = DesiredRow::clone(two.row.as_deref().expect("it is declared"));
    row.hash = ContentHash([2; 32]);
    changed.row = Some(Arc::new(row));
    // Removing one needs no look; the other's old outcome is not told as the new one's.
    let second = at(2, &[&changed]);
    assert_eq!(look(&mut tracker, &second, vec![], 3), None);
    let progressing = Some((2, Outcome::Progressing));
    assert_eq!(look(&mut tracker, &second, vec![changed.clone()], 4), progressing);
    assert_eq!(tracker.report().units[&Unit("a".into())].objects.len(), 1);

    // What cannot be looked at holds up nobody.
    let third = at(3, &[&changed, &one]);
    assert_eq!(look(&mut tracker, &third, vec![], 5), None);
    tracker.pass_over(&one.key);
    assert_eq!(look(&mut tracker, &third, vec![], 6), Some((3, Outcome::Progressing)));
}

/// A Deployment of one replica whose only pod is as told.
fn web(ready: i32, container: Value, settles: Option<Duration>) -> Seen {
    let mut it = seen(json!({}));
    it.key = Key::namespaced(Kind::Deployment, "a", "web");
    let live = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "a", "uid": "d", "generation": 1},
        "spec": {"replicas": 1, "selector": {}, "template": {}},
        "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": ready,
            "availableReplicas": ready},
    });
    it.live = Some(Arc::new(Object::from_value(live).expect("it is valid")));
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": "a", "uid": "p"},
        "spec": {"containers": []}, "status": {"phase": "Running", "containerStatuses": [container],
            "conditions": [{"type": "Ready", "status": if ready > 0 { "True" } else { "False" }}]},
    });
    it.pods = vec![Arc::new(Object::from_value(pod).expect("it is valid"))];
    it.settles = settles;
    it
}

fn container(restarts: u64, state: Value) -> Value {
    json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": restarts, "state": state})
}

fn told(plan: &Plan) -> Option<(Outcome, String)> {
    let step = plan.steps.iter().find_map(|step| match step {
        Step::Publish(report) => Some(report),
        _ => None,
    })?;
    let unit = &step.units[&Unit("a".into())];
    Some((unit.outcome, unit.reason.clone()))
}

#[test]
fn what_is_told_of_a_failure_stays_while_it_is_the_same_one() {
    let mut tracker = Tracker::default();
    let mut published = Vec::new();
    // It crashes again and again, with ever longer pauses, and seems to run in between.
    let mut second = 0;
    for restarts in 3..20 {
        for (ready, state, lasts) in [
            (0, json!({"waiting": {"reason": "CrashLoopBackOff"}}), 40 + restarts),
            (1, json!({"running": {}}), 2),
            (0, json!({"terminated": {"exitCode": 1, "reason": "Error"}}), 1),
        ] {
            let now = after(second);
            let settles = (ready == 1).then(|| now.monotonic + Duration::from_secs(10));
            let it = world(vec![web(ready, container(restarts, state), settles)]);
            let plan = tracker.look(&it, now);
            published.extend(told(&plan));
            for (_, delay) in plan.revisit.iter().filter(|(_, delay)| delay.as_secs() < lasts) {
                published.extend(told(&tracker.look(&it, after(second + delay.as_secs() + 1))));
            }
            second += lasts;
        }
    }
    let failed = published.iter().position(|(outcome, _)| *outcome == Outcome::Failed);
    let after_that = &published[failed.expect("it fails") + 1..];
    assert_eq!(after_that, [], "one failure is one report");
    assert!(
        published
            .last()
            .is_some_and(|(_, why)| why.contains("CrashLoopBackOff")),
        "{published:?}"
    );

    // Another failure is told once it has stood for a while.
    let other = container(
        20,
        json!({"waiting": {"reason": "CreateContainerConfigError", "message": "no such map"}}),
    );
    let other = world(vec![web(0, other, None)]);
    assert_eq!(told(&tracker.look(&other, after(second))), None);
    let plan = tracker.look(&other, after(second + 15));
    assert!(
        told(&plan).is_some_and(|(_, why)| why.contains("no such map")),
        "{plan:?}"
    );
    // And so is success, at once.
    let done = web(1, container(20, json!({"running": {}})), None);
    let plan = tracker.look(&world(vec![done]), after(second + 16));
    assert_eq!(told(&plan).map(|told| told.0), Some(Outcome::Converged));
}

#[test]
fn a_status_that_is_behind_its_pods_is_not_believed() {
    let mut tracker = Tracker::default();
    let ended = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    let mut it = web(0, container(0, ended), None);
    let mut live = it.live.as_deref().expect("it is there").to_value();
    live["status"]["readyReplicas"] = 1.into();
    live["status"]["availableReplicas"] = 1.into();
    it.live = Some(Arc::new(Object::from_value(live).expect("it is valid")));
    let plan = tracker.look(&world(vec![it]), after(0));
    assert_eq!(told(&plan).map(|told| told.0), Some(Outcome::Progressing));
    let marks = plan.steps.iter().any(|step| matches!(step, Step::MarkHealthy(_)));
    assert!(!marks, "no gate opens");
}

#[test]
fn a_deadline_that_passed_is_not_unmade_by_a_moment() {
    let mut tracker = Tracker::default();
    let mut late = web(0, container(1, json!({"running": {}})), None);
    let mut live = late.live.as_deref().expect("it is there").to_value();
    live["status"]["conditions"] = json!([{"type": "Progressing", "status": "False",
        "reason": "ProgressDeadlineExceeded", "message": "it has timed out"}]);
    late.live = Some(Arc::new(Object::from_value(live).expect("it is valid")));
    tracker.look(&world(vec![late]), after(0));
    assert_eq!(tracker.report().outcome, Outcome::Failed);
    let up = web(1, container(1, json!({"running": {}})), Some(after(20).monotonic));
    assert_eq!(told(&tracker.look(&world(vec![up.clone()]), after(10))), None);
    let plan = tracker.look(&world(vec![up]), after(21));
    assert_eq!(told(&plan).map(|told| told.0), Some(Outcome::Converged));
}

#[test]
fn a_failed_rollout_is_given_up_once_and_its_content_held() {
    let mut tracker = Tracker::default();
    let now = start();
    let mut seen = seen(Value::Null);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "p", "namespace": "a", "uid": "u", "generation": 1},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {}},
        "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "no"}]},
    });
    seen.live = Some(Arc::new(Object::from_value(deployment).expect("it is valid")));
    seen.key = Key::namespaced(Kind::Deployment, "a", "p");
    let row = DesiredRow {
        key: seen.key.clone(),
        ..DesiredRow::clone(seen.row.as_deref().expect("a row"))
    };
    seen.row = Some(Arc::new(row));
    let mut look = |seen: &Seen| {
        let world = World {
            desired: desired(None),
            objects: vec![seen.clone()],
            ..World::default()
        };
        let plan = tracker.look(&world, now);
        let given_up = plan.steps.into_iter().find_map(|step| match step {
            Step::Distrust(bad) => Some(bad),
            _ => None,
        });
        let told = tracker.report().units[&Unit("a".into())]
            .objects
            .get(&seen.key)
            .cloned()
            .expect("told");
        (given_up, told.outcome, told.reason.clone())
    };
    assert_eq!(look(&seen).0, None, "nobody asked for it");
    seen.revertible = true;
    let (bad, outcome, reason) = look(&seen);
    let bad = bad.expect("it is given up");
    assert_eq!(
        (bad.content, outcome),
        (ContentHash([1; 32]), Outcome::Failed),
        "{reason}"
    );
    seen.bad = Some(Arc::new(bad.clone()));
    let (again, _, reason) = look(&seen);
    assert_eq!(again, None, "once is enough");
    assert!(reason.contains("about to be reverted"), "{reason}");
    // Pushed again later, it is not released.
    seen.trouble = Some(Reason::new(distrust::BAD, bad.held()));
    let (_, outcome, reason) = look(&seen);
    assert_eq!(outcome, Outcome::Held, "{reason}");
}
