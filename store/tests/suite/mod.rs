//! What every log must do: the same tests for the one in memory and for Postgres.

mod load;
mod notes;
mod objects;
mod restart;
mod revisions;
mod watches;

use std::{sync::Arc, time::Duration};

use schemas::{Key, Kind, Object, Packed};
use serde_json::{Value, json};
use store::{Change, Class, Op, Store, Watch, Write, WriteError, log::Log};

pub(crate) use load::{many_writes_at_once, random_writes_survive_a_restart};
pub(crate) use notes::{notes_are_kept, what_is_old_goes};
pub(crate) use objects::{objects_are_written_and_read, one_failed_precondition_fails_one_write};
pub(crate) use restart::{
    a_fenced_look_for_what_is_old_ends_the_leader, a_restart_changes_nothing, a_second_store_fences_the_first,
    a_watch_resumes_over_a_restart,
};
pub(crate) use revisions::{
    a_large_revision_is_recorded_whole, revisions_are_differences, what_was_staged_and_never_recorded_is_never_seen,
};
#[allow(unused_imports, reason = "not every log's tests use them")]
pub(crate) use revisions::{revision, row};
pub(crate) use watches::{a_node_watch_sees_its_pods, watches_see_their_scope_in_order};

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
            a_fenced_look_for_what_is_old_ends_the_leader
            revisions_are_differences
            a_large_revision_is_recorded_whole
            what_was_staged_and_never_recorded_is_never_seen
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

pub(crate) fn status(text: &str) -> Packed {
    json!({"phase": text, "message": "\u{0}nul and ü"}).into()
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
