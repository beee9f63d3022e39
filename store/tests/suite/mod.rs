//! What every log must do: the same tests for the one in memory and for Postgres.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use schemas::{Commit, ContentHash, Key, Kind, Object, Uid, Unit};
use serde_json::{Value, json};
use store::{
    AuditLine, Change, Class, Confirmation, DesiredRow, Office, Op, Options, Retention, RevisionWrite, Scope, Store,
    UnitAt, Watch, Write, WriteError, log::Log,
};

/// Runs every test of the suite on the logs that `$fresh` makes.
#[macro_export]
macro_rules! suite {
    ($fresh:path) => {
        $crate::suite!($fresh:
            objects_are_written_and_read
            one_failed_precondition_fails_one_write
            watches_see_their_scope_in_order
            a_node_watch_sees_its_pods
            a_restart_changes_nothing
            a_watch_resumes_over_a_restart
            a_second_store_fences_the_first
            revisions_are_differences
            notes_are_kept
            what_is_old_goes
            many_writes_at_once
            random_writes_survive_a_restart
        );
    };
    ($fresh:path: $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let fresh = $fresh().await;
            $crate::suite::$name(fresh.log()).await;
        })*
    };
}

pub(crate) fn pod(name: &str, image: &str) -> Object {
    pod_value(name, json!({"containers": [{"name": "c", "image": image}]}))
}

fn pod_value(name: &str, spec: Value) -> Object {
    Object::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"app": name}},
        "spec": spec,
    }))
    .expect("a pod")
}

pub(crate) fn key(name: &str) -> Key {
    Key::namespaced(Kind::Pod, "shop", name)
}

pub(crate) fn status(text: &str) -> Arc<Value> {
    Arc::new(json!({"phase": text, "message": "\u{0}nul and ü"}))
}

pub(crate) async fn open(log: Arc<dyn Log>) -> Store {
    Store::open(log).await.expect("the store opens")
}

pub(crate) async fn create(store: &Store, name: &str) -> Arc<Object> {
    store
        .write_one(Class::User, Write::new(Op::Create(pod(name, "i"))))
        .await
        .expect("it is created")
}

pub(crate) async fn set_status(store: &Store, name: &str, text: &str) -> Result<Arc<Object>, WriteError> {
    let op = Op::Status {
        key: key(name),
        status: status(text),
    };
    store.write_one(Class::Status, Write::new(op)).await
}

/// Changes until `version` is seen.
pub(crate) async fn until(watch: &mut Watch, version: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    while changes.last().is_none_or(|change: &Change| change.version < version) {
        let next = tokio::time::timeout(Duration::from_secs(10), watch.next())
            .await
            .unwrap_or_else(|_| panic!("waited for {version}, saw {changes:?}"));
        changes.extend(next.expect("the watch goes on"));
    }
    changes
}

fn shown(changes: &[Change]) -> Vec<(u64, Option<Value>, Option<Value>)> {
    let value = |object: &Option<Arc<Object>>| object.as_ref().map(|object| object.to_value());
    changes
        .iter()
        .map(|change| (change.version, value(&change.old), value(&change.new)))
        .collect()
}

fn everything(store: &Store) -> Vec<Value> {
    let view = store.view();
    [
        Kind::Pod,
        Kind::ConfigMap,
        Kind::ReplicaSet,
        Kind::Event,
        Kind::Namespace,
    ]
    .iter()
    .flat_map(|kind| view.list(*kind, None))
    .map(|object| object.to_value())
    .collect()
}

pub(crate) async fn objects_are_written_and_read(log: Arc<dyn Log>) {
    let store = open(log).await;
    let start = store.version();
    let a = create(&store, "a").await;
    assert_eq!(a.version, start + 1);
    assert_eq!(a.meta.generation, Some(1));
    let b = create(&store, "b").await;
    assert_eq!(b.version, start + 2);
    // The two share one body, though they were written apart.
    assert!(Arc::ptr_eq(&a.body, &b.body));

    let mut changed = Object::clone(&a);
    changed.body = pod("a", "j").body;
    changed.status = Some(status("ignored"));
    let replaced = store
        .write_one(Class::User, Write::new(Op::Replace(changed)).version(a.version))
        .await
        .expect("it is replaced");
    assert_eq!(replaced.meta.generation, Some(2));
    assert_eq!(replaced.status, None);
    let same = store
        .write_one(Class::User, Write::new(Op::Replace(Object::clone(&replaced))))
        .await
        .expect("nothing to do");
    assert_eq!(same.version, replaced.version);
    assert_eq!(store.version(), start + 3);

    set_status(&store, "a", "Running").await.expect("it has a status");
    let bind = |node: &str| {
        Write::new(Op::Bind {
            key: key("a"),
            node: node.into(),
            status: None,
        })
    };
    store.write_one(Class::Controller, bind("n1")).await.expect("bound");
    let again = store.write_one(Class::Controller, bind("n2")).await;
    assert!(matches!(again, Err(WriteError::Conflict { .. })), "{again:?}");
    let found = store.get(&key("a")).expect("it is there");
    assert_eq!(found.node.as_deref(), Some("n1"));
    assert_eq!(found.status, Some(status("Running")));
    assert_eq!(found.meta.generation, Some(2));

    let list = store.list(Kind::Pod, Some("shop"));
    assert_eq!(list.version, store.version());
    assert_eq!(list.items.iter().map(|pod| pod.name()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(store.list(Kind::Pod, Some("sho")).items.is_empty());
    assert_eq!(store.view().on_node("n1").count(), 1);
    assert_eq!(
        store
            .view()
            .by_uid(&"uid-b".into())
            .map(|pod| pod.name().to_owned())
            .as_deref(),
        Some("b")
    );
    let page = store.view().list_after(Kind::Pod, None, &key("a")).count();
    assert_eq!(page, 1);

    // A name is free again within the same call.
    let answers = store
        .write(
            Class::User,
            vec![
                Write::new(Op::Remove { key: key("a") }),
                Write::new(Op::Create(pod("a", "k"))),
            ],
        )
        .await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(store.view().on_node("n1").count(), 0);

    // The last finalizer holds an object that is being deleted, and lets it go.
    let mut held = pod("held", "i");
    held.meta.finalizers = Some(vec!["towline.dev/test".into()]);
    let held = store
        .write_one(Class::User, Write::new(Op::Create(held)))
        .await
        .expect("created");
    let refused = store
        .write_one(Class::User, Write::new(Op::Remove { key: key("held") }))
        .await;
    assert!(matches!(refused, Err(WriteError::Conflict { .. })), "{refused:?}");
    let mut deleting = Object::clone(&held);
    deleting.meta.deletion_timestamp = deleting.meta.creation_timestamp.clone();
    deleting.meta.deletion_grace_period_seconds = Some(0);
    store
        .write_one(Class::User, Write::new(Op::Replace(deleting.clone())))
        .await
        .expect("marked");
    deleting.meta.finalizers = None;
    store
        .write_one(Class::User, Write::new(Op::Replace(deleting)))
        .await
        .expect("let go");
    assert!(store.get(&key("held")).is_none());
}

pub(crate) async fn one_failed_precondition_fails_one_write(log: Arc<dyn Log>) {
    let store = open(log).await;
    let a = create(&store, "a").await;
    let missing = Op::Status {
        key: key("nobody"),
        status: status("x"),
    };
    let mut nameless = pod("x", "i");
    nameless.meta.uid = None;
    let mut stolen = pod("y", "i");
    stolen.meta.uid = Some("uid-a".into());
    let answers = store
        .write(
            Class::User,
            vec![
                Write::new(Op::Create(pod("a", "i"))),
                Write::new(Op::Status {
                    key: key("a"),
                    status: status("1"),
                })
                .version(a.version + 7),
                Write::new(Op::Status {
                    key: key("a"),
                    status: status("1"),
                })
                .uid(Uid::from("other")),
                Write::new(missing),
                Write::new(Op::Create(nameless)),
                Write::new(Op::Create(stolen)),
                Write::new(Op::Status {
                    key: key("a"),
                    status: status("2"),
                })
                .version(a.version)
                .uid(a.uid()),
                // The write before moved it on within the batch.
                Write::new(Op::Status {
                    key: key("a"),
                    status: status("3"),
                })
                .version(a.version),
            ],
        )
        .await;
    use WriteError::{AlreadyExists, Conflict, Invalid, NotFound};
    assert!(matches!(&answers[0], Err(AlreadyExists(_))), "{answers:?}");
    assert!(matches!(&answers[1], Err(Conflict { .. })), "{answers:?}");
    assert!(matches!(&answers[2], Err(Conflict { .. })), "{answers:?}");
    assert!(matches!(&answers[3], Err(NotFound(_))), "{answers:?}");
    assert!(matches!(&answers[4], Err(Invalid { .. })), "{answers:?}");
    assert!(matches!(&answers[5], Err(Invalid { .. })), "{answers:?}");
    assert!(
        matches!(&answers[6], Ok(pod) if pod.version == a.version + 1),
        "{answers:?}"
    );
    assert!(matches!(&answers[7], Err(Conflict { .. })), "{answers:?}");
    assert_eq!(store.version(), a.version + 1);
}

pub(crate) async fn watches_see_their_scope_in_order(log: Arc<dyn Log>) {
    let store = open(log).await;
    let start = store.version();
    let mut all = store.watch(Scope::all(), None).expect("now");
    let mut other = store.watch(Scope::kinds(&[Kind::ConfigMap]), None).expect("now");
    let mut space = store
        .watch(Scope::kinds(&[Kind::Pod]).in_namespace("shop"), Some(start))
        .expect("now");
    let mut elsewhere = store
        .watch(Scope::kinds(&[Kind::Pod]).in_namespace("else"), Some(start))
        .expect("now");
    create(&store, "a").await;
    for n in 0..5 {
        set_status(&store, "a", &n.to_string()).await.expect("written");
    }
    store
        .write_one(Class::User, Write::new(Op::Remove { key: key("a") }))
        .await
        .expect("removed");
    let end = store.version();
    let seen = until(&mut all, end).await;
    assert_eq!(
        seen.iter().map(|change| change.version).collect::<Vec<_>>(),
        (start + 1..=end).collect::<Vec<_>>()
    );
    assert!(seen[0].old.is_none() && seen[6].new.is_none());
    assert_eq!(
        seen[6].old.as_ref().and_then(|pod| pod.status.clone()),
        Some(status("4"))
    );
    assert_eq!(shown(&until(&mut space, end).await), shown(&seen));
    assert_eq!(other.ready().map(|changes| changes.len()), Some(0));
    assert_eq!(other.seen(), end);
    assert_eq!(elsewhere.ready().map(|changes| changes.len()), Some(0));
    let gone = store
        .watch(Scope::all(), Some(end + 1))
        .expect_err("it is not there yet");
    assert_eq!((gone.asked, gone.newest), (end + 1, end));
}

pub(crate) async fn a_node_watch_sees_its_pods(log: Arc<dyn Log>) {
    let store = open(log).await;
    let mut n1 = store.watch(Scope::node("n1"), None).expect("now");
    let mut n2 = store.watch(Scope::node("n2"), None).expect("now");
    for (name, node) in [("a", "n1"), ("b", "n2")] {
        create(&store, name).await;
        let op = Op::Bind {
            key: key(name),
            node: node.into(),
            status: Some(status("Pending")),
        };
        store.write_one(Class::Controller, Write::new(op)).await.expect("bound");
    }
    store
        .write_one(Class::User, Write::new(Op::Remove { key: key("a") }))
        .await
        .expect("removed");
    let end = store.version();
    let seen = until(&mut n1, end).await;
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[0].new.as_ref().is_some_and(|pod| pod.name() == "a") && seen[1].new.is_none());
    let seen = until(&mut n2, end - 1).await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    // The same from the past.
    let mut late = store.watch(Scope::node("n1"), Some(end - 5)).expect("kept");
    assert_eq!(until(&mut late, end).await.len(), 2);
}

pub(crate) async fn a_restart_changes_nothing(log: Arc<dyn Log>) {
    let store = open(log.clone()).await;
    create(&store, "a").await;
    set_status(&store, "a", "Running").await.expect("written");
    let before = (
        store.version(),
        store.cluster(),
        store.incarnation(),
        everything(&store),
    );
    store.close().await;
    let refused = set_status(&store, "a", "late").await;
    assert!(matches!(refused, Err(WriteError::Unavailable(_))), "{refused:?}");
    assert!(!store.is_writable());
    let store = open(log).await;
    assert_eq!(
        (
            store.version(),
            store.cluster(),
            store.incarnation(),
            everything(&store)
        ),
        before
    );
    assert!(store.is_writable());
    create(&store, "b").await;
}

pub(crate) async fn a_watch_resumes_over_a_restart(log: Arc<dyn Log>) {
    let store = open(log.clone()).await;
    let start = store.version();
    create(&store, "a").await;
    set_status(&store, "a", "1").await.expect("written");
    let end = store.version();
    store.close().await;
    let again = open(log).await;
    let mut watch = again.watch(Scope::all(), Some(start + 1)).expect("still kept");
    let seen = until(&mut watch, end).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].old.as_ref().map(|pod| pod.version), Some(start + 1));
    set_status(&again, "a", "2").await.expect("written");
    assert_eq!(until(&mut watch, end + 1).await.len(), 1);
}

pub(crate) async fn a_second_store_fences_the_first(log: Arc<dyn Log>) {
    let first = open(log.clone()).await;
    create(&first, "a").await;
    let second = open(log).await;
    let refused = set_status(&first, "a", "stale").await;
    assert!(matches!(refused, Err(WriteError::Unavailable(_))), "{refused:?}");
    let mut office = first.office();
    office.wait_for(|office| *office == Office::Lost).await.expect("told");
    assert!(!first.is_writable());
    assert!(second.get(&key("a")).is_some_and(|pod| pod.status.is_none()));
    set_status(&second, "a", "fresh").await.expect("the second leads");
}

fn row(name: &str, text: &str, commit: &str) -> DesiredRow {
    let content = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"},
        "data": {"text": text}});
    DesiredRow {
        unit: Unit("shop".into()),
        key: Key::namespaced(Kind::ConfigMap, "shop", name),
        hash: ContentHash::of(&content),
        content: Arc::new(content),
        file: format!("{name}.yaml").as_str().into(),
        line: 1,
        commit: commit.into(),
    }
}

fn revision(base: u64, commit: &str, put: Vec<DesiredRow>, drop: Vec<Key>) -> RevisionWrite {
    let at = UnitAt {
        commit: commit.into(),
        held: None,
        may_delete: true,
    };
    RevisionWrite {
        base,
        commit: commit.into(),
        author: "Ada <ada@example.org>".into(),
        subject: format!("Change to {commit}"),
        at: "2026-01-02T03:04:05Z".parse().expect("a time"),
        units: BTreeMap::from([(Unit("shop".into()), at)]),
        put,
        drop,
        problems: Vec::new(),
        confirm_trailer: None,
        source_error: None,
    }
}

pub(crate) async fn revisions_are_differences(log: Arc<dyn Log>) {
    let store = open(log.clone()).await;
    let mut changes = store.desired_changes();
    let first = revision(0, "c1", vec![row("a", "1", "c1"), row("b", "1", "c1")], Vec::new());
    let desired = store.record(first).await.expect("recorded");
    assert_eq!((desired.revision, desired.rows.len()), (1, 2));
    changes.wait_for(|number| *number == 1).await.expect("woken");
    let stale = store.record(revision(0, "c0", Vec::new(), Vec::new())).await;
    assert!(stale.is_err());
    let mut second = revision(1, "c2", vec![row("a", "2", "c2")], vec![row("b", "", "").key]);
    second.source_error = Some("it is away".into());
    store.record(second).await.expect("recorded");
    let now = store.desired();
    assert_eq!(
        now.rows
            .values()
            .map(|row| row.content["data"]["text"].clone())
            .collect::<Vec<_>>(),
        [json!("2")]
    );
    store.close().await;

    let store = open(log).await;
    let loaded = store.desired();
    assert_eq!(
        (loaded.revision, &loaded.commit, &loaded.units),
        (2, &Some(Commit::from("c2")), &now.units)
    );
    assert_eq!(loaded.rows, now.rows);
    assert_eq!(loaded.source_error.as_deref(), Some("it is away"));
    let lines = store.revisions(10).await.expect("read");
    assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(
        (lines[0].changed, lines[0].dropped, lines[0].author.as_str()),
        (1, 1, "Ada <ada@example.org>")
    );
    let earlier = store.desired_at(1).await.expect("read").expect("kept");
    assert_eq!(earlier.rows, desired.rows);
    assert_eq!(
        store.desired_at(9).await.expect("read").map(|found| found.revision),
        None
    );
    store
        .record(revision(2, "c3", vec![row("b", "1", "c3")], Vec::new()))
        .await
        .expect("recorded");
    assert_eq!(store.desired().rows.len(), 2);
}

pub(crate) async fn notes_are_kept(log: Arc<dyn Log>) {
    let store = open(log.clone()).await;
    let marked = (key("a"), ContentHash::of_bytes(b"x"));
    store.mark_healthy(vec![marked.clone()]).await.expect("marked");
    store.mark_healthy(vec![marked.clone()]).await.expect("again");
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
    assert!(store.was_healthy(&marked.0, marked.1));
    assert!(!store.was_healthy(&marked.0, ContentHash::of_bytes(b"y")));
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

pub(crate) async fn many_writes_at_once(log: Arc<dyn Log>) {
    let store = open(log.clone()).await;
    let creates = (0..1500)
        .map(|n| Write::new(Op::Create(pod(&format!("p{n:04}"), "i"))))
        .collect();
    let statuses = (0..1500)
        .map(|n| {
            Write::new(Op::Status {
                key: key(&format!("p{n:04}")),
                status: status("Running"),
            })
        })
        .collect();
    let answers = store.write(Class::Controller, creates).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(answers.windows(2).all(|pair| match pair {
        [Ok(a), Ok(b)] => a.version + 1 == b.version,
        _ => false,
    }));
    let answers = store.write(Class::Status, statuses).await;
    assert!(answers.iter().all(Result::is_ok));
    let before = everything(&store);
    store.close().await;
    assert_eq!(everything(&open(log).await), before);
}

/// A small generator, so that a failure is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

pub(crate) async fn random_writes_survive_a_restart(log: Arc<dyn Log>) {
    for seed in 0..4 {
        let store = open(log.clone()).await;
        let start = store.version();
        let mut all = store.watch(Scope::all(), None).expect("now");
        let mut dice = Dice(seed);
        for _ in 0..40 {
            let writes = (0..dice.roll(12) + 1)
                .map(|_| {
                    let name = format!("p{}", dice.roll(6));
                    let mut object = pod(&name, &format!("i{}", dice.roll(3)));
                    object.meta.annotations = Some(BTreeMap::from([("n".to_owned(), dice.roll(3).to_string())]));
                    Write::new(match dice.roll(9) {
                        0 | 1 => Op::Create(object),
                        2 | 3 => Op::Replace(object),
                        4 | 5 => Op::Status {
                            key: key(&name),
                            status: status(&dice.roll(4).to_string()),
                        },
                        6 => Op::Bind {
                            key: key(&name),
                            node: format!("n{}", dice.roll(3)).as_str().into(),
                            status: (dice.roll(2) == 0).then(|| status("Pending")),
                        },
                        7 => Op::Retire {
                            object,
                            status: status(&dice.roll(4).to_string()),
                        },
                        _ => Op::Remove { key: key(&name) },
                    })
                })
                .collect();
            store.write(Class::User, writes).await;
        }
        let end = store.version();
        assert!(end > start + 40, "most writes are accepted");
        let seen = shown(&until(&mut all, end).await);
        let before = everything(&store);
        let indexed = |store: &Store| {
            let view = store.view();
            ["n0", "n1", "n2"].map(|node| view.on_node(node).map(|pod| pod.name().to_owned()).collect::<Vec<_>>())
        };
        let nodes = indexed(&store);
        store.close().await;
        let store = Store::open_with(log.clone(), Options::default()).await.expect("opens");
        assert_eq!(everything(&store), before, "seed {seed}");
        assert_eq!(indexed(&store), nodes, "seed {seed}");
        let mut again = store.watch(Scope::all(), Some(start)).expect("kept");
        assert_eq!(shown(&until(&mut again, end).await), seen, "seed {seed}");
        store.close().await;
    }
}
