//! What waits for what in a release: waves, deletions after creates.

use schemas::{Key, Kind, report::Outcome};
use serde_json::json;

use crate::cluster::{Cluster, deployment};

fn map(name: &str, data: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"a": data}})
}

fn in_wave(mut object: serde_json::Value, wave: &str) -> serde_json::Value {
    object["metadata"]["annotations"] = json!({"towline.dev/wave": wave});
    object
}

/// A Deployment that fits on the node, or that fits on none.
fn sized(cpu: &str) -> serde_json::Value {
    let mut sized = deployment("default", "sized", "sized:1", 1);
    sized["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
    sized
}

fn reported(cluster: &Cluster, kind: Kind, name: &str) -> Option<(Outcome, String)> {
    // None before the first report.
    let report = cluster.store.reports().borrow().clone()?;
    let unit = report.units.get(&schemas::Unit("default".into()))?;
    let object = unit.objects.get(&Key::namespaced(kind, "default", name))?;
    Some((object.outcome, object.reason.clone()))
}

fn is_there(cluster: &Cluster, map: &str) -> bool {
    let key = Key::namespaced(Kind::ConfigMap, "default", map);
    cluster.store.get(&key).is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_deleted_while_a_create_is_refused() {
    let cluster = Cluster::start(1).await;
    cluster.declare(vec![map("old", "1")]).await;
    cluster.converged().await;
    let there = |name: &str| is_there(&cluster, name);
    // No store takes such a name.
    cluster.declare(vec![map("bad\0", "1"), map("new", "1")]).await;
    cluster
        .wait("the refusal is told and the rest goes on", || {
            there("new") && reported(&cluster, Kind::ConfigMap, "bad\0").is_some_and(|it| it.1.starts_with("Refused"))
        })
        .await;
    assert!(there("old"), "creates come before deletes");
    cluster.declare(vec![map("new", "1")]).await;
    cluster.converged().await;
    assert!(!there("old"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_deleted_while_a_create_waits_for_its_wave() {
    let cluster = Cluster::start(1).await;
    cluster.declare(vec![map("old", "1")]).await;
    cluster.converged().await;
    let there = |name: &str| is_there(&cluster, name);
    cluster
        .declare(vec![sized("100"), in_wave(map("late", "1"), "1")])
        .await;
    cluster
        .wait("the later wave waits", || {
            reported(&cluster, Kind::ConfigMap, "late").is_some_and(|it| it.1.starts_with("Wave"))
        })
        .await;
    assert!(there("old") && !there("late"));
    cluster.declare(vec![sized("1"), in_wave(map("late", "1"), "1")]).await;
    cluster
        .wait("the later wave comes, and then the old goes", || {
            assert!(there("old") || there("late"), "creates come before deletes");
            !there("old")
        })
        .await;
    cluster.converged().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_content_that_comes_back_does_not_wait_at_a_gate() {
    let cluster = Cluster::start(1).await;
    let late = |data| in_wave(map("late", data), "1");
    cluster.declare(vec![sized("1"), late("1"), map("old", "1")]).await;
    cluster.converged().await;
    cluster.declare(vec![sized("100"), late("2")]).await;
    cluster
        .wait("the later wave waits", || {
            reported(&cluster, Kind::ConfigMap, "late").is_some_and(|it| it.1.starts_with("Wave"))
        })
        .await;
    let old = Key::namespaced(Kind::ConfigMap, "default", "old");
    assert!(cluster.store.get(&old).is_some());
    // The earlier wave is as stuck as before, but the later one is what it was.
    cluster.declare(vec![sized("100"), late("1")]).await;
    cluster
        .wait("what is as declared waits for nothing, nor do deletions", || {
            reported(&cluster, Kind::ConfigMap, "late").is_some_and(|it| it.0 == Outcome::Converged)
                && cluster.store.get(&old).is_none()
        })
        .await;
    // The whole is reverted: the gate was passed with this content before.
    cluster.declare(vec![sized("1"), late("1")]).await;
    cluster.converged().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_waits_for_what_it_depends_on_and_a_person_can_end_that() {
    let cluster = Cluster::start(1).await;
    let mut needs = map("needs", "1");
    needs["metadata"]["annotations"] = json!({"towline.dev/depends-on": "Deployment/sized"});
    let key = Key::namespaced(Kind::ConfigMap, "default", "needs");
    let there = || cluster.store.get(&key).is_some();
    let waits = || reported(&cluster, Kind::ConfigMap, "needs").is_some_and(|it| it.1.starts_with("DependsOn"));
    cluster.declare(vec![sized("100"), needs.clone()]).await;
    cluster.wait("it waits", waits).await;
    assert!(!there());
    cluster.declare(vec![sized("1"), needs.clone()]).await;
    cluster.converged().await;
    assert!(there(), "what it depends on was healthy");

    // Another content that is stuck holds it up again, until someone says that it shall not.
    needs["data"]["a"] = json!("2");
    cluster.declare(vec![sized("100"), needs]).await;
    cluster.wait("it waits", waits).await;
    let commit = cluster.store.desired().commit.clone();
    let skip = store::SKIP_GATES;
    let earlier = json!("0123456789012345678901234567890123456789");
    cluster.store.put_document(skip, Some(earlier)).await.expect("kept");
    assert!(waits(), "that was about another commit");
    cluster
        .store
        .put_document(skip, Some(json!(commit)))
        .await
        .expect("kept");
    cluster
        .wait("it goes on", || {
            let live = cluster.store.get(&key).expect("it is there");
            live.body.value()["data"]["a"] == "2"
        })
        .await;
    cluster.stop().await;
}
