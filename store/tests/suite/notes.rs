//! What is kept beside objects, and for how long.

use std::{sync::Arc, time::Duration};

use schemas::{ContentHash, Key, Kind, Object};
use serde_json::json;
use store::{AuditLine, Class, Confirmation, Mark, Op, Retention, Scope, Write, log::Log};

use super::{
    key, open,
    revisions::{revision, row},
};

pub(crate) async fn notes_are_kept(log: Arc<dyn Log>) {
    let store = open(log.clone()).await;
    let content = |number: u8| ContentHash::of_bytes(&[number]);
    let mark = |number: u8| Mark {
        content: content(number),
        commit: "c1".into(),
        file: "a.yaml".into(),
        line: 7,
    };
    // Twelve contents, the first of them again, and again and again.
    for number in (0..12).chain([0, 0, 0]) {
        store
            .mark_healthy(vec![(key("a"), mark(number))])
            .await
            .expect("marked");
    }
    store
        .mark_healthy(vec![(key("b"), mark(0)), (key("c"), mark(0))])
        .await
        .expect("marked");
    let declared = revision(0, "c1", vec![row("b", "1", "c1"), row("c", "1", "c1")], Vec::new());
    store.record(declared).await.expect("recorded");
    store
        .record(revision(1, "c2", Vec::new(), vec![key("b")]))
        .await
        .expect("recorded");
    let confirmation = Confirmation {
        commit: "c1".into(),
        keys: vec![key("a"), Key::cluster(Kind::Namespace, "shop")],
        who: "ada".into(),
        at: "2026-01-02T03:04:05Z".parse().expect("a time"),
    };
    store.confirm_deletes(confirmation.clone()).await.expect("confirmed");
    assert_eq!(store.secret_or("ca", vec![1, 2]).await.expect("kept"), [1, 2]);
    assert_eq!(store.secret_or("ca", vec![3]).await.expect("kept"), [1, 2]);
    assert!(store.first_delivery("github", "1").await.expect("asked"));
    assert!(!store.first_delivery("github", "1").await.expect("asked"));
    store.put_document("sync", Some(json!({"a": 1}))).await.expect("kept");
    store.put_document("gone", Some(json!(1))).await.expect("kept");
    store.put_document("gone", None).await.expect("kept");
    let line = |verb: &str| AuditLine {
        at: "2026-01-02T03:04:05Z".parse().expect("a time"),
        user: "ada".into(),
        verb: verb.into(),
        resource: "pods".into(),
        code: 200,
        detail: String::new(),
    };
    store.audit(vec![line("get"), line("delete")]).await.expect("kept");
    store.close().await;

    let store = open(log).await;
    assert_eq!(store.last_healthy(&key("a")), Some(mark(0)));
    let kept: Vec<Mark> = [0, 11, 10, 9, 8, 7, 6, 5, 4, 3].map(mark).into();
    assert_eq!(
        store.healthy(&key("a")),
        kept,
        "the newest ones, without end they would grow"
    );
    assert!(store.was_healthy(&key("a"), content(5)) && !store.was_healthy(&key("a"), content(1)));
    assert!(store.was_healthy(&key("c"), content(0)));
    assert!(!store.was_healthy(&key("b"), content(0)), "what is dropped begins anew");
    assert_eq!(store.confirmations(), [confirmation]);
    assert_eq!(store.secret("ca").await.expect("read"), Some(vec![1, 2]));
    assert_eq!(store.secret_or("ca", vec![3]).await.expect("kept"), [1, 2]);
    assert!(!store.first_delivery("github", "1").await.expect("asked"));
    assert!(store.first_delivery("gitlab", "1").await.expect("asked"));
    assert_eq!(store.document("sync"), Some(json!({"a": 1})));
    assert_eq!(store.document("gone"), None);
    let verbs: Vec<_> = store
        .audited(5)
        .await
        .expect("read")
        .into_iter()
        .map(|line| line.verb)
        .collect();
    assert_eq!(verbs, ["delete", "get"]);
}

pub(crate) async fn what_is_old_goes(log: Arc<dyn Log>) {
    let store = open(log.clone()).await;
    let start = store.version();
    let event = |name: &str, last: &str| {
        Object::from_value(json!({"apiVersion": "v1", "kind": "Event", "lastTimestamp": last,
            "metadata": {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}}))
        .expect("an event")
    };
    let far = "2999-01-01T00:00:00Z";
    let events = [event("old", "2026-01-01T00:00:00Z"), event("new", far)];
    for event in events {
        store
            .write_one(Class::Controller, Write::new(Op::Create(event)))
            .await
            .expect("written");
    }
    for n in 1..=6 {
        store
            .record(revision(
                n - 1,
                &format!("c{n}"),
                vec![row("a", &n.to_string(), "c")],
                Vec::new(),
            ))
            .await
            .expect("kept");
    }
    let retention = Retention {
        change_age: Duration::ZERO,
        changes: 1,
        revision_age: Duration::ZERO,
        revisions: 2,
        audit: Duration::ZERO,
        deliveries: Duration::ZERO,
        ..Retention::default()
    };
    store.first_delivery("generic", "1").await.expect("asked");
    store.tidy(&retention).await.expect("tidied");
    assert!(
        store.first_delivery("generic", "1").await.expect("asked"),
        "it was forgotten"
    );
    let names: Vec<_> = store
        .list(Kind::Event, None)
        .items
        .iter()
        .map(|event| event.name().to_owned())
        .collect();
    assert_eq!(names, ["new"]);
    let kept = store.revisions(10).await.expect("read");
    assert_eq!(kept.iter().map(|line| line.number).collect::<Vec<_>>(), [6, 5]);
    assert!(store.desired_at(1).await.expect("read").is_none());
    let end = store.version();
    store.close().await;
    let store = open(log).await;
    assert_eq!(store.desired().rows.len(), 1);
    assert_eq!(
        store.desired_at(5).await.expect("read").map(|found| found.rows.len()),
        Some(1)
    );
    assert!(
        store.watch(Scope::all(), Some(start)).is_err(),
        "that far back nothing is kept"
    );
    store.watch(Scope::all(), Some(end)).expect("the present is kept");
    assert_eq!(store.version(), end);
}
