use proptest::prelude::*;
use schemas::{Commit, ContentHash};
use serde_json::json;
use store::{DesiredRow, UnitAt};

use super::*;
use crate::simulation::start;

fn map(namespace: &str, name: &str) -> Arc<Object> {
    of("v1", "ConfigMap", Some(namespace), name)
}

fn of(version: &str, kind: &str, namespace: Option<&str>, name: &str) -> Arc<Object> {
    let value = json!({"apiVersion": version, "kind": kind, "metadata": {
        "name": name, "namespace": namespace, "uid": format!("{kind}{namespace:?}{name}"), "creationTimestamp": "2026-11-24T11:00:00Z",
    }});
    Arc::new(Object::from_value(value).expect("it is valid"))
}

fn unit(may_delete: bool) -> UnitAt {
    UnitAt {
        commit: Commit::from("c"),
        held: None,
        may_delete,
    }
}

/// A desired state of `kept` objects in each unit.
fn desired(units: &[(&str, usize)]) -> Desired {
    let mut desired = Desired {
        revision: 2,
        commit: Some(Commit::from("0123456789abcdef")),
        ..Desired::default()
    };
    for (name, kept) in units {
        desired.units.insert(Unit((*name).into()), unit(true));
        for at in 0..*kept {
            let key = Key::namespaced(Kind::ConfigMap, name, &format!("kept{at}"));
            let row = DesiredRow {
                unit: Unit((*name).into()),
                hash: ContentHash([0; 32]),
                content: Arc::new(json!({})),
                file: "f".into(),
                line: 1,
                commit: Commit::from("c"),
                key: key.clone(),
            };
            desired.rows.insert(key, Arc::new(row));
        }
    }
    desired
}

fn world(desired: &Desired, undeclared: Vec<Arc<Object>>) -> World {
    let mut totals: BTreeMap<Unit, usize> = BTreeMap::new();
    for row in desired.rows.values() {
        *totals.entry(row.unit.clone()).or_insert(0) += 1;
    }
    for object in &undeclared {
        *totals.entry(Unit::of(&object.key())).or_insert(0) += 1;
    }
    World {
        undeclared,
        totals,
        ..World::default()
    }
}

fn maps(namespace: &str, count: usize) -> Vec<Arc<Object>> {
    (0..count).map(|at| map(namespace, &format!("gone{at}"))).collect()
}

#[test]
fn the_table_of_the_budget() {
    // (kept in a, gone from a, kept in b, gone from b) → how many may go.
    let table = [
        (1, 5, 0, 0, 5),      // five are free, whatever their part
        (1, 6, 0, 0, 0),      // six of seven are over 30 %
        (94, 6, 0, 0, 6),     // six of a hundred are within both
        (85, 15, 0, 0, 0),    // fifteen of a hundred are over 10 % of everything
        (80, 20, 900, 0, 20), // twenty of a hundred of a thousand
        (13, 7, 900, 0, 0),   // seven of twenty are over 30 % of their unit
        (900, 3, 2, 3, 0),    // six in all, and three of five are over 30 % of a unit
    ];
    for (kept_a, gone_a, kept_b, gone_b, may) in table {
        let desired = desired(&[("a", kept_a), ("b", kept_b)]);
        let mut undeclared = maps("a", gone_a);
        undeclared.extend(maps("b", gone_b));
        let verdict = judge(&desired, &world(&desired, undeclared), start());
        assert_eq!(
            verdict.delete.len(),
            may,
            "{kept_a} {gone_a} {kept_b} {gone_b}: {:?}",
            verdict.held
        );
        assert_eq!(verdict.held.is_some(), may == 0);
        if let Some(held) = verdict.held {
            assert_eq!(held.objects.len(), gone_a + gone_b);
        }
    }
}

#[test]
fn a_claim_is_always_held() {
    let desired = desired(&[("a", 100)]);
    let claim = of("v1", "PersistentVolumeClaim", Some("a"), "data");
    let verdict = judge(&desired, &world(&desired, vec![claim, map("a", "x")]), start());
    assert!(verdict.delete.is_empty());
    assert_eq!(verdict.held.expect("it is held").objects.len(), 2);
}

#[test]
fn the_contents_of_a_namespace_count_and_their_claims_too() {
    let desired = desired(&[("a", 1000)]);
    let space = of("v1", "Namespace", None, "b");
    let mut it = world(&desired, vec![space]);
    let inside = |kind, count: usize| {
        (0..count)
            .map(|at| Key::namespaced(kind, "b", &format!("o{at}")))
            .collect()
    };
    it.contents.insert("b".into(), inside(Kind::Pod, 4));
    assert_eq!(judge(&desired, &it, start()).delete.len(), 1, "five in all");
    it.contents.insert("b".into(), inside(Kind::Pod, 5));
    assert!(
        judge(&desired, &it, start()).delete.is_empty(),
        "six in all, all of their unit"
    );
    it.contents.insert("b".into(), inside(Kind::PersistentVolumeClaim, 1));
    assert!(judge(&desired, &it, start()).delete.is_empty(), "a claim");
}

#[test]
fn a_namespace_that_manifests_use_stays() {
    let desired = desired(&[("a", 3)]);
    let mut it = world(&desired, vec![of("v1", "Namespace", None, "a")]);
    it.used.insert("a".into());
    let verdict = judge(&desired, &it, start());
    assert!(verdict.delete.is_empty() && verdict.held.is_none());
    assert_eq!(verdict.kept.len(), 1);
}

#[test]
fn nothing_is_deleted_when_the_source_cannot_be_read_or_declares_nothing() {
    let good = desired(&[("a", 10)]);
    let gone = maps("a", 1);
    assert_eq!(judge(&good, &world(&good, gone.clone()), start()).delete.len(), 1);
    let mut error = good.clone();
    error.source_error = Some("the branch is gone".to_owned());
    assert!(judge(&error, &world(&error, gone.clone()), start()).delete.is_empty());
    let mut held = good.clone();
    held.units.insert(Unit("a".into()), unit(false));
    assert!(judge(&held, &world(&held, gone.clone()), start()).delete.is_empty());
    let mut never = good.clone();
    never.revision = 0;
    assert!(judge(&never, &world(&never, gone.clone()), start()).delete.is_empty());
    let mut empty = good;
    empty.rows.clear();
    let verdict = judge(&empty, &world(&empty, gone), start());
    assert!(verdict.delete.is_empty() && verdict.held.is_some());
}

#[test]
fn a_confirmation_covers_its_set_and_subsets_and_no_later_objects() {
    let desired = desired(&[("a", 1)]);
    let gone = maps("a", 8);
    let mut it = world(&desired, gone.clone());
    let mut word = Confirmation {
        commit: Commit::from("c"),
        keys: gone.iter().map(|object| object.key()).collect(),
        who: "someone".to_owned(),
        at: start().wall,
    };
    it.confirmations = vec![word.clone()];
    assert_eq!(judge(&desired, &it, start()).delete.len(), 8);
    it.undeclared.truncate(7);
    assert_eq!(
        judge(&desired, &it, start()).delete.len(),
        7,
        "a subset needs no second word"
    );
    it.undeclared.extend((0..6).map(|at| map("a", &format!("more{at}"))));
    let verdict = judge(&desired, &it, start());
    assert_eq!(verdict.delete.len(), 7, "the confirmed ones");
    assert_eq!(verdict.held.expect("the others").objects.len(), 6);
    word.at = "2026-11-24T10:00:00Z".parse().expect("a time");
    let mut it = world(&desired, gone);
    it.confirmations = vec![word];
    assert!(
        judge(&desired, &it, start()).delete.is_empty(),
        "they were made after the word was given"
    );
}

#[test]
fn a_trailer_confirms_by_the_word_all_or_by_the_digest() {
    let good = desired(&[("a", 1)]);
    let gone = maps("a", 8);
    let digest = digest(gone.iter().map(|object| object.key()).collect::<Vec<_>>().iter());
    assert_eq!(digest.len(), 12);
    for (trailer, may) in [
        ("all", true),
        (digest.as_str(), true),
        ("other, ALL", true),
        ("0123456789ab", false),
        ("", false),
    ] {
        let mut desired = good.clone();
        desired.confirm_trailer = Some(trailer.to_owned());
        let verdict = judge(&desired, &world(&desired, gone.clone()), start());
        assert_eq!(verdict.delete.len(), if may { 8 } else { 0 }, "{trailer:?}");
        assert_eq!(verdict.confirm.is_some(), may, "it is kept before anything is deleted");
    }
}

proptest! {
    /// What goes without a word is within the budget, whatever is asked for.
    #[test]
    fn the_budget_is_never_exceeded_unconfirmed(
        kept in prop::collection::vec(0usize..60, 1..4),
        gone in prop::collection::vec(0usize..30, 4),
    ) {
        let names = ["a", "b", "c"];
        let units: Vec<(&str, usize)> = names.iter().copied().zip(kept.iter().copied()).collect();
        let desired = desired(&units);
        let undeclared: Vec<_> = names.iter().zip(&gone).flat_map(|(name, gone)| maps(name, *gone)).collect();
        let it = world(&desired, undeclared.clone());
        let verdict = judge(&desired, &it, start());
        let all: usize = it.totals.values().sum();
        let count = verdict.delete.len();
        if count > FREE {
            prop_assert!(count * 10 <= all);
            for (name, total) in &it.totals {
                let part = verdict.delete.iter().filter(|object| Unit::of(&object.key()) == *name).count();
                prop_assert!(part * 10 <= total * 3);
            }
        }
        let held = verdict.held.map_or(0, |held| held.objects.len());
        prop_assert_eq!(count + held + verdict.kept.len(), undeclared.len(), "nothing is forgotten");
    }
}
