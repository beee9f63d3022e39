use std::time::Duration;

use jiff::Timestamp;

use super::*;

const NOW: Now = Now {
    wall: Timestamp::UNIX_EPOCH,
    monotonic: Duration::ZERO,
};

fn object(value: Value) -> Object {
    Object::from_value(value).expect("it is valid")
}

fn pod(node: Option<&str>, phase: &str) -> Object {
    object(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "namespace": "b", "uid": "u", "generation": 1, "resourceVersion": "7"},
        "spec": {"containers": [], "nodeName": node, "terminationGracePeriodSeconds": 20}, "status": {"phase": phase},
    }))
}

fn config(finalizers: &[&str]) -> Object {
    object(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "b", "uid": "u", "finalizers": finalizers},
    }))
}

fn marked(deletion: Deletion) -> Object {
    match deletion {
        Deletion::Mark(object) => object,
        other => panic!("not marked but {other:?}"),
    }
}

fn grace(seconds: i64) -> DeleteOptions {
    DeleteOptions {
        grace_period_seconds: Some(seconds),
        ..DeleteOptions::default()
    }
}

#[test]
fn a_pod_on_a_node_is_given_time() {
    for (options, seconds) in [(DeleteOptions::default(), 20), (grace(5), 5), (grace(-1), 1)] {
        let marked = marked(plan(&pod(Some("n"), "Running"), &options, NOW));
        assert_eq!(marked.meta.deletion_grace_period_seconds, Some(seconds));
        let at = marked.meta.deletion_timestamp.as_ref().map(|time| time.0.as_second());
        assert_eq!(at, Some(seconds));
        assert_eq!(marked.meta.generation, Some(2));
    }
}

#[test]
fn what_waits_for_nothing_is_removed_at_once() {
    for (name, object, options) in [
        ("unbound", pod(None, "Pending"), DeleteOptions::default()),
        ("forced", pod(Some("n"), "Running"), grace(0)),
        ("succeeded", pod(Some("n"), "Succeeded"), DeleteOptions::default()),
        ("plain", config(&[]), grace(30)),
    ] {
        assert!(matches!(plan(&object, &options, NOW), Deletion::Remove), "{name}");
    }
}

#[test]
fn a_second_deletion_only_shortens_the_wait() {
    let first = marked(plan(&pod(Some("n"), "Running"), &DeleteOptions::default(), NOW));
    let later = NOW.after(Duration::from_secs(1));
    assert!(matches!(
        plan(&first, &DeleteOptions::default(), later),
        Deletion::Nothing
    ));
    assert!(matches!(plan(&first, &grace(60), later), Deletion::Nothing));
    let shorter = marked(plan(&first, &grace(3), later));
    assert_eq!(shorter.meta.deletion_grace_period_seconds, Some(3));
    assert_eq!(
        shorter.meta.deletion_timestamp.as_ref().map(|time| time.0.as_second()),
        Some(4)
    );
    assert_eq!(shorter.meta.generation, Some(2));
    assert!(matches!(plan(&shorter, &grace(0), later), Deletion::Remove));
}

#[test]
fn finalizers_are_waited_for() {
    let with = |propagation| DeleteOptions {
        propagation: Some(propagation),
        ..DeleteOptions::default()
    };
    for (before, options, after) in [
        (&["x"][..], DeleteOptions::default(), &["x"][..]),
        (&[], with(Propagation::Foreground), &["foregroundDeletion"]),
        (
            &["x", "orphan"],
            with(Propagation::Foreground),
            &["x", "foregroundDeletion"],
        ),
        (&["x"], with(Propagation::Orphan), &["x", "orphan"]),
        (&["x", "orphan"], with(Propagation::Background), &["x"]),
    ] {
        let marked = marked(plan(&config(before), &options, NOW));
        assert_eq!(
            marked.meta.finalizers.as_deref().map(Vec::as_slice).unwrap_or_default(),
            after,
            "{before:?}"
        );
        assert_eq!(marked.meta.deletion_grace_period_seconds, Some(0));
        assert!(!is_finalized(&marked));
        let mut done = marked;
        done.meta.finalizers = None;
        assert!(is_finalized(&done));
    }
    assert!(matches!(
        plan(&config(&["orphan"]), &with(Propagation::Background), NOW),
        Deletion::Remove
    ));
    assert!(!is_finalized(&config(&[])), "nobody deletes it");
}

#[test]
fn a_namespace_waits_for_its_contents() {
    let namespace = |finalizers: Value| {
        object(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"},
            "spec": {"finalizers": finalizers}, "status": {"phase": "Active"},
        }))
    };
    let first = marked(plan(&namespace(json!(["kubernetes"])), &DeleteOptions::default(), NOW));
    assert_eq!(first.status_value(), Some(json!({"phase": "Terminating"})));
    assert!(!is_finalized(&first));
    assert!(is_finalized(&finalize_namespace(&first)));
    assert!(matches!(
        plan(&first, &DeleteOptions::default(), NOW),
        Deletion::Nothing
    ));
    assert!(matches!(
        plan(&namespace(json!([])), &DeleteOptions::default(), NOW),
        Deletion::Remove
    ));
}

#[test]
fn another_object_of_the_same_name_is_left_alone() {
    let uid = DeleteOptions {
        uid: Some("other".into()),
        ..DeleteOptions::default()
    };
    let version = DeleteOptions {
        version: Some(6),
        ..DeleteOptions::default()
    };
    for (options, message) in [
        (
            uid,
            "Precondition failed: UID in precondition: other, UID in object meta: u",
        ),
        (
            version,
            "Precondition failed: ResourceVersion in precondition: 6, ResourceVersion in object meta: 7",
        ),
    ] {
        match plan(&pod(None, "Pending"), &options, NOW) {
            Deletion::Refused(refusal) => assert_eq!(refusal.to_string(), message),
            other => panic!("not refused but {other:?}"),
        }
    }
}

#[test]
fn options_are_read_from_a_request() {
    let read = |value: Value| {
        let options: ApiDeleteOptions = serde_json::from_value(value).expect("it is valid");
        DeleteOptions::try_from(&options)
    };
    let options = read(json!({
        "gracePeriodSeconds": 3, "propagationPolicy": "Foreground", "preconditions": {"uid": "u", "resourceVersion": "9"},
    }));
    assert_eq!(
        options,
        Ok(DeleteOptions {
            grace_period_seconds: Some(3),
            propagation: Some(Propagation::Foreground),
            uid: Some("u".into()),
            version: Some(9),
        })
    );
    assert!(read(json!({"propagationPolicy": "Sideways"})).is_err());
    assert!(read(json!({"propagationPolicy": "Orphan", "orphanDependents": true})).is_err());
    assert!(read(json!({"preconditions": {"resourceVersion": "x"}})).is_err());
}
