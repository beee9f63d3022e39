use std::sync::Arc;

use schemas::{ContentHash, report::HeldDeletions};
use serde_json::{Value, json};
use store::{DesiredRow, UnitAt};

use super::*;

const NEW: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OLD: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const NEWER: &str = "cccccccccccccccccccccccccccccccccccccccc";

fn web() -> Key {
    Key::namespaced(Kind::Deployment, "shop", "web")
}

fn other() -> Key {
    Key::namespaced(Kind::ConfigMap, "other", "c")
}

fn row(key: Key, commit: &str) -> (Key, Arc<DesiredRow>) {
    let row = DesiredRow {
        unit: Unit::of(&key),
        key: key.clone(),
        hash: ContentHash([0; 32]),
        content: Arc::new(Value::Null),
        file: "web.yaml".into(),
        line: 1,
        commit: commit.into(),
    };
    (key, Arc::new(row))
}

fn desired(revision: u64, commit: &str, web_at: &str) -> Arc<Desired> {
    let at = |commit: &str| UnitAt {
        commit: commit.into(),
        held: None,
        may_delete: true,
    };
    Arc::new(Desired {
        revision,
        commit: Some(commit.into()),
        units: ["shop", "other"].map(|unit| (Unit(unit.into()), at(commit))).into(),
        rows: [row(web(), web_at), row(other(), OLD)].into_iter().collect(),
        ..Desired::default()
    })
}

fn report(commit: &str, outcome: Outcome, status: Value, reason: &str, of_other: Outcome) -> Report {
    let unit = |key: Key, outcome: Outcome, status: Value, reason: &str| {
        let object = ObjectReport {
            outcome,
            reason: reason.into(),
            position: None,
            status,
            stale: false,
            gated: false,
        };
        let report = UnitReport {
            commit: commit.into(),
            outcome,
            reason: reason.into(),
            objects: [(key.clone(), object)].into_iter().collect(),
            removing: Vec::new(),
        };
        (Unit::of(&key), report)
    };
    Report {
        commit: Some(commit.into()),
        revision: 9,
        confirmations: 0,
        outcome: outcome.max(of_other),
        units: [
            unit(web(), outcome, status, reason),
            unit(other(), of_other, Value::Null, "of the other"),
        ]
        .into(),
        nodes: Default::default(),
        problems: Vec::new(),
        held_deletions: None,
        source_error: None,
    }
}

/// The store with a Deployment of three replicas and nothing else.
fn three(key: &Key) -> Option<Arc<Object>> {
    let value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "generation": 2},
        "spec": {"replicas": 3},
    });
    (*key == web()).then(|| Arc::new(Object::from_value(value).expect("it is valid")))
}

#[test]
fn a_rollout_is_told_as_it_changes_and_ends_converged() {
    let before = desired(1, OLD, OLD);
    let mut follower = Follower::of_push(NEW.into(), Before::of(before.clone()));
    let converged = Outcome::Converged;
    assert_eq!(follower.look(&before, None, three), (vec![], None));

    let after = desired(2, NEW, NEW);
    let stale = report(OLD, converged, Value::Null, "", converged);
    let (lines, end) = follower.look(&after, Some(&stale), three);
    assert_eq!(lines, ["aaaaaaaaaa is recorded: 1 object in 1 unit"]);
    assert_eq!(end, None, "the report is not on this commit yet");

    let one = json!({"updatedReplicas": 1, "observedGeneration": 2});
    let old = json!({"updatedReplicas": 3, "availableReplicas": 3, "observedGeneration": 1});
    let mut unobserved = report(NEW, Outcome::Progressing, old, "", converged);
    assert_eq!(
        follower.look(&after, Some(&unobserved), three),
        (vec![], None),
        "the numbers are those of the old generation"
    );
    let shop = unobserved.units.get_mut(&Unit::of(&web())).expect("it is there");
    let object = ObjectReport {
        status: one.clone(),
        stale: true,
        ..shop.objects[&web()].clone()
    };
    shop.objects.insert(web(), object);
    assert_eq!(follower.look(&after, Some(&unobserved), three), (vec![], None));
    let moving = report(NEW, Outcome::Progressing, one.clone(), "", converged);
    let (lines, end) = follower.look(&after, Some(&moving), three);
    assert_eq!(
        (lines, end),
        (vec!["shop/web: 1/3 updated, 0 available".to_owned()], None)
    );
    assert_eq!(
        follower.look(&after, Some(&moving), three),
        (vec![], None),
        "nothing is told twice"
    );

    let done = report(
        NEW,
        converged,
        json!({"updatedReplicas": 3, "availableReplicas": 3}),
        "",
        converged,
    );
    let (lines, end) = follower.look(&after, Some(&done), three);
    assert_eq!(lines, ["shop/web: converged, 3 available", "unit shop: converged"]);
    assert_eq!(end, Some(End::Reached(converged)));
}

#[test]
fn a_push_ends_by_its_own_units_and_a_sync_by_all() {
    let (before, after) = (Before::of(desired(1, OLD, OLD)), desired(2, NEW, NEW));
    let reached = |outcome| Some(End::Reached(outcome));
    use Outcome::{Converged, Failed, Held, Progressing};
    for (mine, others, push, sync) in [
        (Converged, Converged, reached(Converged), reached(Converged)),
        (Converged, Failed, reached(Converged), reached(Failed)),
        (Converged, Progressing, reached(Converged), None),
        (Progressing, Failed, None, None),
        (Failed, Converged, reached(Failed), reached(Failed)),
        (Held, Converged, reached(Held), reached(Held)),
        (Failed, Progressing, reached(Failed), None),
    ] {
        let report = report(NEW, mine, Value::Null, "", others);
        let mut of_push = Follower::of_push(NEW.into(), before.clone());
        assert_eq!(
            of_push.look(&after, Some(&report), three).1,
            push,
            "{mine:?} {others:?}"
        );
        let mut of_sync = Follower::of_sync(NEW.into(), before.clone(), 0);
        assert_eq!(
            of_sync.look(&after, Some(&report), three).1,
            sync,
            "{mine:?} {others:?}"
        );
    }
}

#[test]
fn what_waits_for_something_that_failed_ends_as_failed() {
    let (before, after) = (Before::of(desired(1, OLD, OLD)), desired(2, NEW, NEW));
    let mut waiting = report(NEW, Outcome::Failed, Value::Null, "", Outcome::Progressing);
    let mut follower = Follower::of_sync(NEW.into(), before.clone(), 0);
    assert_eq!(follower.look(&after, Some(&waiting), three).1, None, "something moves");
    for unit in waiting.units.values_mut() {
        let gated: Vec<_> = unit.objects.iter().map(|(key, it)| (key.clone(), it.clone())).collect();
        for (key, it) in gated.into_iter().filter(|(_, it)| it.outcome == Outcome::Progressing) {
            let it = schemas::report::ObjectReport {
                gated: true,
                ..schemas::report::ObjectReport::clone(&it)
            };
            unit.objects.insert(key, it);
        }
    }
    let mut follower = Follower::of_sync(NEW.into(), before, 0);
    let end = follower.look(&after, Some(&waiting), three).1;
    assert_eq!(end, Some(End::Reached(Outcome::Failed)));
}

#[test]
fn a_newer_commit_supersedes_and_a_broken_source_does_not() {
    let before = desired(1, OLD, OLD);
    let follower = || Follower::of_push(NEW.into(), Before::of(before.clone()));
    let superseded = Some(End::Superseded(NEWER.into()));
    assert_eq!(follower().look(&desired(2, NEWER, OLD), None, three).1, superseded);

    let mut recorded = follower();
    recorded.look(&desired(2, NEW, NEW), None, three);
    assert_eq!(recorded.look(&desired(3, NEWER, NEW), None, three).1, superseded);

    let broken = Desired {
        source_error: Some("the branch main is gone".into()),
        ..Desired::clone(&desired(2, OLD, OLD))
    };
    let mut waiting = follower();
    let (lines, end) = waiting.look(&broken, None, three);
    assert_eq!(lines, ["source: the branch main is gone"]);
    assert_eq!(end, None);
    assert_eq!(waiting.look(&broken, None, three), (vec![], None));
}

#[test]
fn failures_carry_their_reason_and_held_deletions_their_confirmation() {
    let before = Before::of(desired(1, OLD, OLD));
    let after = desired(2, NEW, NEW);
    let converged = Outcome::Converged;
    let failed = report(
        NEW,
        Outcome::Failed,
        Value::Null,
        "ErrImagePull: no such image",
        converged,
    );
    let mut follower = Follower::of_push(NEW.into(), before.clone());
    let (lines, _) = follower.look(&after, Some(&failed), three);
    assert!(
        lines.contains(&"shop/web: failed: ErrImagePull: no such image".to_owned()),
        "{lines:?}"
    );

    // What is seen of its troubles comes and goes; it is told once.
    for reason in [
        "ImagePullBackOff: no such image",
        "0 of 1 updated replicas are available",
    ] {
        let failed = report(NEW, Outcome::Failed, Value::Null, reason, converged);
        let (lines, _) = follower.look(&after, Some(&failed), three);
        assert_eq!(lines, [""; 0], "{reason}");
    }

    let mut held = report(NEW, converged, Value::Null, "", converged);
    held.held_deletions = Some(Arc::new(HeldDeletions {
        commit: NEW.into(),
        objects: vec![web(), other()],
        since: jiff::Timestamp::UNIX_EPOCH,
        reason: "over 30 % of shop".into(),
    }));
    let mut follower = Follower::of_push(NEW.into(), before);
    let (lines, end) = follower.look(&after, Some(&held), three);
    let line = "deletions: 2 objects wait to be deleted: over 30 % of shop";
    assert!(lines.contains(&line.to_owned()), "{lines:?}");
    assert_eq!(end, Some(End::Reached(Outcome::Held)));
}

#[test]
fn a_commit_that_sets_nothing_waits_for_everything() {
    let before = Before::of(desired(1, OLD, OLD));
    let mut follower = Follower::of_push(NEW.into(), before);
    let report = report(NEW, Outcome::Converged, Value::Null, "", Outcome::Converged);
    let (lines, end) = follower.look(&desired(2, NEW, OLD), Some(&report), three);
    assert_eq!(lines, ["aaaaaaaaaa is recorded and sets nothing new"]);
    assert_eq!(end, Some(End::Reached(Outcome::Converged)));
}

#[test]
fn removals_are_told_and_waited_for() {
    let converged = Outcome::Converged;
    let map = |name: &str| Key::namespaced(Kind::ConfigMap, "shop", name);
    let removed: Vec<Key> = ["a", "b", "c"].map(map).into();
    let mut before = Desired::clone(&desired(1, OLD, OLD));
    before.rows.extend(removed.iter().map(|key| row(key.clone(), OLD)));
    let before = Before::of(Arc::new(before));
    let at = |removing: &[Key]| {
        let mut report = report(NEW, converged, Value::Null, "as declared", converged);
        let shop = report.units.get_mut(&Unit::of(&web())).expect("it is there");
        shop.removing = removing.to_vec();
        if !removing.is_empty() {
            shop.outcome = Outcome::Progressing;
        }
        report
    };
    let mut follower = Follower::of_push(NEW.into(), before.clone());
    let after = desired(2, NEW, OLD);
    let (lines, end) = follower.look(&after, Some(&at(&removed)), three);
    assert_eq!(lines, ["aaaaaaaaaa is recorded: 3 objects to remove"]);
    assert_eq!(end, None);
    assert_eq!(
        follower.look(&after, Some(&at(&removed[1..])), three),
        (vec!["shop: 1 of 3 removed".to_owned()], None)
    );
    // What is not on its way and yet there, because it is kept, is not told as removed.
    let there = |key: &Key| {
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "namespace": "shop"}});
        (*key == map("b")).then(|| Arc::new(Object::from_value(value).expect("it is valid")))
    };
    let (lines, _) = Follower::of_push(NEW.into(), before.clone()).look(&after, Some(&at(&[])), there);
    assert_eq!(lines[1], "shop: 2 of 3 removed");
    let (lines, end) = follower.look(&after, Some(&at(&[])), three);
    assert_eq!(lines, ["shop: 3 of 3 removed", "unit shop: converged: as declared"]);
    assert_eq!(end, Some(End::Reached(converged)));

    // A push that was recorded before it is followed is compared with what it was judged by.
    let judged = Judged::default();
    judged.note(NEW.into(), before.base.clone());
    let late = || Before::of(after.clone()).since(judged.take(&NEW.into()));
    let (lines, _) = Follower::of_push(NEW.into(), late()).look(&after, Some(&at(&removed)), three);
    assert_eq!(lines, ["aaaaaaaaaa is recorded: 3 objects to remove"]);
    assert_eq!(late().base.rows.len(), after.rows.len(), "it is told once");

    let mut sync = Follower::of_sync(NEW.into(), Before::of(after.clone()), 0);
    let mut report = at(&removed);
    let shop = report.units.get_mut(&Unit::of(&web())).expect("it is there");
    shop.reason = "3 objects are being removed".to_owned();
    let (lines, end) = sync.look(&after, Some(&report), three);
    assert_eq!(lines[1..], ["unit shop: progressing: 3 objects are being removed"]);
    assert_eq!(end, None, "what an earlier commit removes counts in a sync");
    let (lines, end) = sync.look(&after, Some(&at(&[])), three);
    assert_eq!(
        lines,
        ["unit shop: converged: as declared"],
        "and how that ended is told"
    );
    assert_eq!(end, Some(End::Reached(converged)));
}

#[test]
fn a_sync_tells_how_earlier_commits_stand() {
    let after = desired(2, NEW, OLD);
    let mut follower = Follower::of_sync(NEW.into(), Before::of(after.clone()), 0);
    let status = json!({"updatedReplicas": 1, "availableReplicas": 2, "observedGeneration": 2});
    let moving = report(NEW, Outcome::Progressing, status, "", Outcome::Failed);
    let (lines, end) = follower.look(&after, Some(&moving), three);
    assert_eq!(
        lines,
        [
            "aaaaaaaaaa is recorded and sets nothing new",
            "other/configmap c: failed: of the other",
            "shop/web: 1/3 updated, 2 available",
            "unit other: failed: of the other",
        ]
    );
    assert_eq!(end, None);
    let status = json!({"availableReplicas": 3, "observedGeneration": 2});
    let done = report(NEW, Outcome::Converged, status, "", Outcome::Failed);
    let (lines, end) = follower.look(&after, Some(&done), three);
    assert_eq!(lines, ["shop/web: converged, 3 available"]);
    assert_eq!(end, Some(End::Reached(Outcome::Failed)));
}

#[test]
fn a_source_that_holds_deletions_is_not_told_as_converged() {
    let mut after = Desired::clone(&desired(2, NEW, NEW));
    after.source_error = Some("the branch was pushed to an unrelated history".into());
    let mut follower = Follower::of_sync(NEW.into(), Before::of(desired(1, OLD, OLD)), 0);
    let converged = report(NEW, Outcome::Converged, Value::Null, "", Outcome::Converged);
    let (lines, end) = follower.look(&after, Some(&converged), three);
    assert_eq!(lines[0], "source: the branch was pushed to an unrelated history");
    assert_eq!(end, Some(End::Reached(Outcome::Held)));
}

#[test]
fn a_report_from_before_what_is_asked_about_is_not_its_outcome() {
    let after = desired(3, NEW, NEW);
    let mut follower = Follower::of_sync(NEW.into(), Before::of(after.clone()), 2);
    let converged = Outcome::Converged;
    for (revision, confirmations, outcome, end) in [
        (2, 2, Outcome::Held, None),
        (3, 1, Outcome::Held, None),
        (3, 2, converged, Some(End::Reached(converged))),
    ] {
        let mut report = report(NEW, outcome, Value::Null, "", converged);
        (report.revision, report.confirmations) = (revision, confirmations);
        let (_, found) = follower.look(&after, Some(&report), three);
        assert_eq!(found, end, "revision {revision}, {confirmations} confirmations");
    }
}
