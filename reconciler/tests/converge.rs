//! From a recorded revision to running pods and a report, on a log in memory and with a kubelet that
//! is made up.

mod cluster;
mod gates;

use std::time::Instant;

use cluster::{Cluster, deployment, job, namespace};
use schemas::{Key, Kind, report::Outcome};
use serde_json::{Value, json};
use store::Op;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_converges_rolls_scales_and_goes() {
    let cluster = Cluster::start(3).await;
    let began = Instant::now();
    cluster
        .declare(vec![namespace("shop"), deployment("shop", "web", "web:1", 3)])
        .await;
    cluster
        .wait("three pods are bound", || cluster.bound("shop").len() == 3)
        .await;
    let took = began.elapsed();
    assert!(
        took < std::time::Duration::from_secs(1),
        "from a revision to bound pods took {took:?}"
    );
    cluster.converged().await;
    let report = cluster.report();
    let object =
        &report.units[&schemas::Unit("shop".into())].objects[&Key::namespaced(Kind::Deployment, "shop", "web")];
    assert_eq!(object.status["readyReplicas"], 3, "{object:?}");
    assert_eq!(object.status["pods"]["Running"], 3, "{object:?}");

    cluster
        .declare(vec![namespace("shop"), deployment("shop", "web", "web:2", 5)])
        .await;
    cluster.converged().await;
    cluster
        .wait("all pods are of the new image", || {
            let pods = cluster.bound("shop");
            pods.len() == 5
                && pods
                    .iter()
                    .all(|pod| pod.body.value()["spec"]["containers"][0]["image"] == "web:2")
        })
        .await;
    let live = cluster.get(Kind::Deployment, "shop", "web");
    assert_eq!(live.annotation(schemas::labels::REVISION), Some("2"));

    cluster.declare(vec![namespace("shop")]).await;
    cluster.converged().await;
    for kind in [Kind::Deployment, Kind::ReplicaSet, Kind::Pod] {
        let left = cluster.store.list(kind, Some("shop")).items;
        assert!(left.is_empty(), "a removal is over when all is gone: {left:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_field_is_removed_and_an_undeclared_namespace_is_made() {
    let cluster = Cluster::start(1).await;
    let map = |data| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "new"}, "data": data});
    cluster.declare(vec![map(json!({"a": "1", "b": "2"}))]).await;
    cluster.converged().await;
    assert_eq!(
        cluster.get(Kind::ConfigMap, "new", "c").body.value()["data"],
        json!({"a": "1", "b": "2"})
    );
    cluster.declare(vec![map(json!({"a": "3"}))]).await;
    cluster.converged().await;
    assert_eq!(
        cluster.get(Kind::ConfigMap, "new", "c").body.value()["data"],
        json!({"a": "3"})
    );
    assert!(cluster.store.get(&Key::cluster(Kind::Namespace, "default")).is_some());
    cluster
        .wait("an event tells of the namespace", || {
            cluster
                .store
                .list(Kind::Event, None)
                .items
                .iter()
                .any(|event| event.body.value()["reason"] == "NamespaceCreated")
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_does_not_fit_says_why_and_fits_when_a_node_comes() {
    let cluster = Cluster::start(1).await;
    let mut big = deployment("default", "big", "big:1", 2);
    big["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "3"}});
    cluster.declare(vec![big]).await;
    cluster
        .wait("one pod does not fit", || {
            cluster.store.list(Kind::Pod, None).items.iter().any(|pod| {
                reconciler::pods::condition(pod, "PodScheduled").is_some_and(|it| {
                    it["message"]
                        .as_str()
                        .is_some_and(|said| said.starts_with("0/1 nodes are available: 1 Insufficient cpu."))
                })
            })
        })
        .await;
    cluster
        .wait("an event tells it", || {
            cluster
                .store
                .list(Kind::Event, None)
                .items
                .iter()
                .any(|event| event.body.value()["reason"] == "FailedScheduling")
        })
        .await;
    cluster.add_node("more").await;
    cluster.converged().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_over_the_budget_wait_for_a_word() {
    let cluster = Cluster::start(1).await;
    let map = |name: String| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {}});
    let all: Vec<_> = (0..10).map(|n| map(format!("c{n}"))).collect();
    cluster.declare(all.clone()).await;
    cluster.converged().await;
    let mut fewer = all[..3].to_vec();
    fewer.push(map("new".to_owned()));
    cluster.declare(fewer.clone()).await;
    cluster
        .wait("the deletions are held", || cluster.report().held_deletions.is_some())
        .await;
    cluster
        .wait("creates go on", || {
            cluster
                .store
                .get(&Key::namespaced(Kind::ConfigMap, "default", "new"))
                .is_some()
        })
        .await;
    assert_eq!(
        cluster.store.list(Kind::ConfigMap, Some("default")).items.len(),
        11,
        "nothing is deleted"
    );
    let held = cluster.report().held_deletions.clone().expect("it was there");
    assert_eq!(held.objects.len(), 7);
    assert_eq!(cluster.report().outcome, Outcome::Held);
    cluster
        .store
        .confirm_deletes(store::Confirmation {
            commit: held.commit.clone(),
            keys: held.objects.clone(),
            who: "a person".to_owned(),
            at: cluster.now().wall,
        })
        .await
        .expect("it is kept");
    cluster
        .wait("the word is known to the report", || {
            cluster.report().confirmations == 1
        })
        .await;
    assert_eq!(
        cluster.report().held_deletions,
        None,
        "who waits for that reads no older one"
    );
    cluster
        .wait("they are deleted", || {
            cluster.store.list(Kind::ConfigMap, Some("default")).items.len() == 4
        })
        .await;
    cluster.converged().await;
    assert!(cluster.report().held_deletions.is_none());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_namespace_takes_its_contents_along_and_comes_back() {
    let cluster = Cluster::start(1).await;
    cluster
        .declare(vec![namespace("shop"), deployment("shop", "web", "web:1", 2)])
        .await;
    cluster.converged().await;
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}});
    cluster.declare(vec![other]).await;
    cluster.converged().await;
    assert!(
        cluster.store.get(&Key::cluster(Kind::Namespace, "shop")).is_none(),
        "its unit is reported until it is gone"
    );
    assert!(!cluster.report().units.contains_key(&schemas::Unit("shop".into())));
    assert!(cluster.store.list(Kind::Pod, Some("shop")).items.is_empty());
    cluster
        .declare(vec![namespace("shop"), deployment("shop", "web", "web:1", 2)])
        .await;
    cluster.converged().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_controller_keeps_its_pods() {
    let cluster = Cluster::start(1).await;
    let controller = |replicas: i32| {
        json!({
            "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "old", "namespace": "default"},
            "spec": {"replicas": replicas, "template": {
                "metadata": {"labels": {"app": "old"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}},
        })
    };
    cluster.declare(vec![controller(3)]).await;
    cluster.converged().await;
    let first = cluster.bound("default")[0].key();
    cluster.write(Op::Remove { key: first }).await;
    cluster
        .wait("another pod takes its place", || cluster.bound("default").len() == 3)
        .await;
    cluster.declare(vec![controller(1)]).await;
    cluster
        .wait("two pods go", || {
            cluster.store.list(Kind::Pod, Some("default")).items.len() == 1
        })
        .await;
    cluster.converged().await;
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}});
    cluster.declare(vec![other]).await;
    cluster.converged().await;
    assert!(cluster.store.list(Kind::Pod, Some("default")).items.is_empty());
    cluster.stop().await;
}

fn daemon_set(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": {
            "metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_follows_its_nodes_and_rolls() {
    let cluster = Cluster::start(2).await;
    cluster.declare(vec![daemon_set("i:1")]).await;
    cluster.converged().await;
    let nodes = |cluster: &Cluster| {
        let mut nodes: Vec<String> = cluster
            .bound("default")
            .iter()
            .filter_map(|pod| pod.node.as_deref().map(str::to_owned))
            .collect();
        nodes.sort();
        nodes
    };
    assert_eq!(nodes(&cluster), ["node-0", "node-1"]);

    cluster.add_node("joins").await;
    cluster
        .wait("the new node has its pod", || {
            nodes(&cluster) == ["joins", "node-0", "node-1"]
        })
        .await;
    cluster.declare(vec![daemon_set("i:2")]).await;
    cluster.converged().await;
    let images = cluster.bound("default");
    assert!(
        images
            .iter()
            .all(|pod| pod.body.value()["spec"]["containers"][0]["image"] == "i:2")
    );
    let set = cluster.get(Kind::DaemonSet, "default", "agent");
    let status = set.status_value().expect("it has one");
    assert_eq!(status["updatedNumberScheduled"], 3);
    assert_eq!(status["observedGeneration"], 2);
    let revisions = cluster.store.list(Kind::ControllerRevision, Some("default")).items;
    assert_eq!(revisions.len(), 2);

    cluster.remove_node("joins").await;
    cluster
        .wait("the set counts two nodes", || {
            let set = cluster.get(Kind::DaemonSet, "default", "agent");
            set.status_value()
                .is_some_and(|status| status["desiredNumberScheduled"] == 2)
        })
        .await;
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}});
    cluster.declare(vec![other]).await;
    cluster
        .wait("all of it is gone", || {
            let kinds = [Kind::DaemonSet, Kind::ControllerRevision];
            let left = kinds
                .iter()
                .map(|kind| cluster.store.list(*kind, None).items.len())
                .sum::<usize>();
            left == 0 && nodes(&cluster).iter().all(|node| node == "joins")
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_end_are_replaced_and_are_not_made_again() {
    let cluster = Cluster::start(2).await;
    let jobs = |image: &str| {
        vec![
            namespace("batch"),
            job("kept", image, json!({"completions": 5, "parallelism": 2})),
            job(
                "parts",
                "exit:0",
                json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"}),
            ),
            job("gone", "exit:0", json!({"ttlSecondsAfterFinished": 0})),
        ]
    };
    let get = |name: &str| cluster.store.get(&Key::namespaced(Kind::Job, "batch", name));
    cluster.declare(jobs("exit:0")).await;
    cluster.converged().await;
    let first = cluster.get(Kind::Job, "batch", "kept");
    let status = first.status_value().unwrap_or_default();
    assert_eq!(status["succeeded"], 5, "{status}");
    let parts = cluster.get(Kind::Job, "batch", "parts");
    assert_eq!(parts.status_value().unwrap_or_default()["completedIndexes"], "0-2");
    cluster.wait("what is not kept is gone", || get("gone").is_none()).await;

    // Another revision runs nothing again but the job whose template changed, after its pods are gone.
    cluster.declare(jobs("exit:00")).await;
    cluster
        .wait("the job is replaced", || {
            get("kept").is_some_and(|job| job.uid() != first.uid())
        })
        .await;
    cluster.converged().await;
    assert!(get("gone").is_none());
    assert_eq!(get("parts").map(|job| job.uid()), Some(parts.uid()));
    let pods = cluster.store.list(Kind::Pod, Some("batch")).items;
    assert_eq!(pods.len(), 5 + 3, "{pods:?}");
    let report = cluster.report();
    let gone = &report.units[&schemas::Unit("batch".into())].objects[&Key::namespaced(Kind::Job, "batch", "gone")];
    assert_eq!((gone.outcome, gone.stale), (Outcome::Converged, false), "{gone:?}");

    cluster.declare(vec![namespace("batch")]).await;
    cluster.converged().await;
    assert!(cluster.store.list(Kind::Pod, Some("batch")).items.is_empty());
    cluster.declare(jobs("exit:0")).await;
    cluster.converged().await;
    assert!(
        cluster
            .store
            .list(Kind::Event, Some("batch"))
            .items
            .iter()
            .any(|event| {
                event.body.value()["reason"] == "Completed" && event.body.value()["involvedObject"]["name"] == "gone"
            }),
        "declared anew, it runs anew"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_fails_its_unit_and_lets_its_pods_go() {
    let cluster = Cluster::start(1).await;
    cluster
        .declare(vec![
            namespace("batch"),
            job("bad", "exit:3", json!({"backoffLimit": 0})),
        ])
        .await;
    cluster
        .wait("the unit has failed", || cluster.is(Outcome::Failed))
        .await;
    let report = cluster.report();
    let bad = &report.units[&schemas::Unit("batch".into())].objects[&Key::namespaced(Kind::Job, "batch", "bad")];
    assert!(bad.reason.contains("BackoffLimitExceeded"), "{bad:?}");
    cluster.declare(vec![namespace("batch")]).await;
    cluster.converged().await;
    assert!(cluster.store.list(Kind::Pod, Some("batch")).items.is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_forward_starts_what_is_due() {
    let cluster = Cluster::start(1).await;
    let template = job("x", "exit:0", json!({}))["spec"].clone();
    let cron_job = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly", "namespace": "batch"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": template}},
    });
    cluster.declare(vec![namespace("batch"), cron_job]).await;
    cluster.converged().await;
    assert!(cluster.store.list(Kind::Job, Some("batch")).items.is_empty());
    cluster.set_clock_forward(std::time::Duration::from_secs(86_400));
    cluster
        .wait("one job has run", || {
            let jobs = cluster.store.list(Kind::Job, Some("batch")).items;
            let complete = |job: &std::sync::Arc<schemas::Object>| {
                reconciler::pods::condition(job, "Complete").is_some_and(|it| it["status"] == "True")
            };
            jobs.len() == 1 && jobs.iter().all(complete)
        })
        .await;
    let status = cluster.get(Kind::CronJob, "batch", "nightly").status_value();
    assert!(status.is_some_and(|status| status["lastScheduleTime"].is_string()));
    cluster.stop().await;
}

fn quota(namespace: &str, hard: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": namespace},
        "spec": {"hard": hard}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_meets_a_quota_says_so_and_goes_on_once_there_is_room() {
    let cluster = Cluster::start(2).await;
    let all = |image, pods: &str| {
        vec![
            namespace("shop"),
            quota("shop", json!({"pods": pods, "configmaps": "0"})),
            deployment("shop", "web", image, 3),
        ]
    };
    cluster.declare(all("web:1", "3")).await;
    cluster.converged().await;
    let used = || {
        let quota = cluster.get(Kind::ResourceQuota, "shop", "q");
        quota.status_value().unwrap_or_default()["used"]["pods"].clone()
    };
    cluster.wait("the quota counts three pods", || used() == "3").await;

    // A surge has no room: nothing of the old goes, and the reason is told.
    cluster.declare(all("web:2", "3")).await;
    let failure = || {
        let live = cluster.get(Kind::Deployment, "shop", "web");
        reconciler::pods::condition(&live, "ReplicaFailure").unwrap_or_default()
    };
    cluster
        .wait("the deployment says what is in its way", || {
            failure()["reason"] == "FailedCreate"
        })
        .await;
    let message = failure()["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.ends_with("is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3"),
        "{message}"
    );
    cluster
        .wait("an event tells of it", || {
            let events = cluster.store.list(Kind::Event, Some("shop")).items;
            events.iter().any(|event| {
                let body = event.body.value();
                body["reason"] == "FailedCreate"
                    && body["message"].as_str().is_some_and(|it| it.contains("exceeded quota"))
            })
        })
        .await;
    assert_eq!(cluster.bound("shop").len(), 3);

    cluster.declare(all("web:2", "4")).await;
    cluster.converged().await;
    let images: Vec<_> = cluster
        .bound("shop")
        .iter()
        .map(|pod| pod.body.value()["spec"]["containers"][0]["image"].clone())
        .collect();
    assert_eq!(images, ["web:2", "web:2", "web:2"]);

    // What git declares beyond a quota is reported.
    let mut more = all("web:2", "4");
    more.push(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"}, "data": {}}),
    );
    cluster.declare(more).await;
    let told = || {
        let report = cluster.report();
        let unit = report.units.get(&schemas::Unit("shop".into()));
        let object = unit.and_then(|unit| unit.objects.get(&Key::namespaced(Kind::ConfigMap, "shop", "c")));
        object.map(|object| format!("{object:?}")).unwrap_or_default()
    };
    cluster
        .wait("the report says why a ConfigMap is not there", || {
            told().contains("exceeded quota: q")
        })
        .await;
    cluster.stop().await;
}
