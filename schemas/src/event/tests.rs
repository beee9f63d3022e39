use std::time::Duration;

use super::*;

const NOW: Now = Now {
    wall: Timestamp::UNIX_EPOCH,
    monotonic: Duration::ZERO,
};

fn spec() -> EventSpec {
    EventSpec {
        involved: Key::namespaced(Kind::Pod, "shop", "web"),
        involved_uid: "u".into(),
        field_path: Some("spec.containers{web}".into()),
        warning: true,
        reason: "BackOff".into(),
        message: "Back-off restarting failed container".into(),
        component: "agent".into(),
        host: Some("n1".into()),
    }
}

#[test]
fn repeated_occurrences_are_counted_in_one() {
    let first = record(None, &spec(), NOW, &"e1".into());
    assert_eq!(first.key(), spec().key());
    assert_eq!(first.namespace(), "shop");
    let later = NOW.after(Duration::from_secs(60));
    let second = record(Some(&first), &spec(), later, &"e2".into());
    assert_eq!(second.uid(), first.uid());
    let body = second.body.value();
    assert_eq!(body["count"], 2);
    assert_eq!(body["firstTimestamp"], "1970-01-01T00:00:00Z");
    assert_eq!(body["lastTimestamp"], "1970-01-01T00:01:00Z");
    assert_eq!(body["type"], "Warning");
    assert_eq!(body["involvedObject"]["fieldPath"], "spec.containers{web}");
    assert_eq!(last_seen(&second), Some(later.wall));
    let read: k8s_openapi::api::core::v1::Event =
        serde_json::from_value(second.to_value()).expect("clients can read it");
    assert_eq!(read.count, Some(2));
}

#[test]
fn different_things_have_different_names() {
    let base = spec().key();
    let change = |change: fn(&mut EventSpec)| {
        let mut spec = spec();
        change(&mut spec);
        spec.key()
    };
    for other in [
        change(|spec| spec.reason = "Killing".into()),
        change(|spec| spec.message.push('!')),
        change(|spec| spec.involved_uid = "v".into()),
        change(|spec| spec.warning = false),
        change(|spec| spec.host = None),
        change(|spec| spec.component = "scheduler".into()),
    ] {
        assert_ne!(other, base);
    }
}

#[test]
fn names_and_messages_stay_in_bounds() {
    let mut long = spec();
    long.involved = Key::cluster(Kind::Node, &"n".repeat(253));
    long.message = "ä".repeat(2000);
    let event = record(None, &long, NOW, &"e".into());
    assert_eq!(event.name().len(), 253);
    assert_eq!(event.namespace(), "default");
    assert_eq!(event.body.value()["message"].as_str().map(str::len), Some(1024));
}
