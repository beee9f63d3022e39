//! A real kubectl against a server on loopback.

mod cluster;

use std::process::Stdio;

use cluster::{Cluster, PATIENCE, has_kubectl, pod};
use schemas::{Key, Kind, Object};
use serde_json::{Value, json};
use store::{Class, Op, Write};
use tokio::io::{AsyncBufReadExt, BufReader};

/// The oldest kubectl that is supported in full; older ones read.
const FULL: u32 = 30;
/// Debian's.
const READS: u32 = 20;

/// Starts a server, or leaves the test where there is no kubectl that is new enough.
macro_rules! cluster {
    ($minor:expr) => {{
        if !has_kubectl($minor).await {
            return;
        }
        Cluster::start().await
    }};
}

/// The words of a line of a table.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_the_columns_that_people_know() {
    let cluster = cluster!(READS);
    for (arguments, header, row) in [
        ("get pods", "NAME READY STATUS RESTARTS AGE", "web-1 1/1 Running 0"),
        (
            "get pods -o wide",
            "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES",
            "web-1 1/1 Running 0",
        ),
        (
            "get pods -A",
            "NAMESPACE NAME READY STATUS RESTARTS AGE",
            "shop web-1 1/1 Running 0",
        ),
        ("get deploy", "NAME READY UP-TO-DATE AVAILABLE AGE", "web 2/2 2 2"),
        (
            "get deployments.apps -o wide",
            "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR",
            "web 2/2 2 2",
        ),
        ("get rs", "NAME DESIRED CURRENT READY AGE", "web-abc 2 2 2"),
        ("get nodes", "NAME STATUS ROLES AGE VERSION", "n1 Ready <none>"),
        ("get ns", "NAME STATUS AGE", "default Active"),
        ("get cm", "NAME DATA AGE", "settings 2"),
        ("get secrets", "NAME TYPE DATA AGE", "keys Opaque 1"),
        (
            "get svc",
            "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE",
            "web ClusterIP 10.2.0.7 <none> 80/TCP",
        ),
        ("get events", "LAST SEEN TYPE REASON OBJECT MESSAGE", ""),
        (
            "get pods --show-labels",
            "NAME READY STATUS RESTARTS AGE LABELS",
            "web-1 1/1",
        ),
        ("get pods -L app", "NAME READY STATUS RESTARTS AGE APP", "web-1 1/1"),
    ] {
        let out = cluster.run(&words(arguments)).await;
        let mut lines = out.lines();
        assert_eq!(words(lines.next().unwrap_or("")), words(header), "{arguments}\n{out}");
        let first = lines.next().unwrap_or("");
        assert!(words(first).join(" ").starts_with(row), "{arguments}\n{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_found_in_every_form() {
    let cluster = cluster!(READS);
    for (arguments, expected) in [
        ("get all", "deployment.apps/web"),
        ("get pods -o name", "pod/web-2"),
        ("get pods -o yaml", "kind: List"),
        ("get deploy web -o yaml", "kind: Deployment"),
        ("get pods -l app=web -o name", "pod/web-1"),
        ("get pods --field-selector spec.nodeName=n1 -o name", "pod/web-1"),
        ("get pods --sort-by=.metadata.creationTimestamp", "web-1"),
        ("get pods --chunk-size=1 -o name", "pod/web-2"),
        ("get pod web-1 -o jsonpath={.status.phase}", "Running"),
        ("get pods -o custom-columns=N:.metadata.name", "web-1"),
        ("get deploy,rs,pods -o name", "replicaset.apps/web-abc"),
        ("describe pod web-1", "Started container web"),
        ("describe deployment web", "web-abc (2/2 replicas created)"),
        ("describe rs web-abc", "2 current / 2 desired"),
        ("describe node n1", "Non-terminated Pods"),
        ("describe cm settings", "settings"),
        ("describe ns shop", "Active"),
        ("describe secret keys", "2 bytes"),
        ("describe svc web", "10.2.0.7"),
        ("logs web-1", "n1 Pod shop/web-1 web follow=false previous=false"),
        ("logs -f web-1", "follow=true"),
        ("logs --tail=5 deploy/web", "tail=Some(5)"),
        ("rollout status deployment web", "successfully rolled out"),
        ("rollout history deployment web", "REVISION"),
        (
            "wait --for=condition=Available deploy/web --timeout=5s",
            "condition met",
        ),
        (
            "wait --for=condition=Ready pod -l app=web --timeout=5s",
            "condition met",
        ),
        ("api-resources", "deployments"),
        ("api-resources --api-group=apps -o name", "replicasets.apps"),
        ("api-versions", "apps/v1"),
        ("cluster-info", "is running at"),
        ("get --raw /readyz", "ok"),
    ] {
        let out = cluster.run(&words(arguments)).await;
        assert!(out.contains(expected), "{arguments}: {expected:?} is missing in\n{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_commands_work_too() {
    let cluster = cluster!(FULL);
    for (arguments, expected) in [
        (
            "wait --for=jsonpath={.status.phase}=Running pod/web-1 --timeout=5s",
            "condition met",
        ),
        ("explain pods.spec.containers.image", "FIELD: image <string>"),
        ("explain deployment", "KIND:       Deployment"),
        ("version -o json", "serverVersion"),
        ("auth whoami", "admin"),
        ("auth can-i delete pods", "yes"),
        ("auth can-i --list", "*.*"),
        ("get --raw /api/v1/namespaces/shop/pods/web-1", "\"kind\":\"Pod\""),
        ("events --for pod/web-1", "Started container web"),
    ] {
        let out = cluster.run(&words(arguments)).await;
        assert!(out.contains(expected), "{arguments}: {expected:?} is missing in\n{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_in_kubernetes_words() {
    let cluster = cluster!(FULL);
    for (arguments, expected) in [
        ("get pod none", "Error from server (NotFound): pods \"none\" not found"),
        ("get nothing", "the server doesn't have a resource type \"nothing\""),
        ("logs web-1 -c none", "container none is not valid for pod web-1"),
        (
            "logs --previous web-1",
            "previous terminated container \"web\" in pod \"web-1\" not found",
        ),
        (
            "get pods --field-selector nothing=1",
            "field label not supported: nothing",
        ),
        (
            "delete deployment web",
            "it is declared in namespaces/shop/web.yaml:1; remove it there",
        ),
        ("scale deployment web --replicas=5", "namespaces/shop/web.yaml:1"),
        ("set image deployment/web web=web:2", "namespaces/shop/web.yaml:1"),
        ("rollout restart deployment web", "namespaces/shop/web.yaml:1"),
        ("label cm settings a=b", "namespaces/shop/settings.yaml:3"),
        (
            "create configmap more --from-literal=a=b",
            "only git creates it: add a manifest under namespaces/shop/",
        ),
        (
            "create namespace more",
            "only git creates it: add a manifest under namespaces/more/",
        ),
        ("delete namespace shop", "only git changes it"),
        ("--token=wrong get pods", "Unauthorized"),
    ] {
        let err = cluster.fails(&words(arguments)).await;
        assert!(err.contains(expected), "{arguments}: {expected:?} is missing in\n{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_directly_works() {
    let cluster = cluster!(FULL);
    let bare = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", "namespace": "shop"},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]},
    });
    let file = cluster.file("bare.json", &bare);
    let mut wrong = bare.clone();
    wrong["spec"]["containrs"] = json!([]);
    let wrong = cluster.file("wrong.json", &wrong);
    let mut changed = bare.clone();
    changed["metadata"]["labels"] = json!({"a": "b"});
    let changed = cluster.file("changed.json", &changed);
    let deployment = cluster.file(
        "deployment.json",
        &json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:2"}]}}},
        }),
    );
    for (arguments, expected) in [
        (
            format!("apply -f {file} --dry-run=server"),
            "pod/bare created (server dry run)",
        ),
        (format!("apply -f {file}"), "pod/bare created"),
        (format!("apply -f {file}"), "pod/bare unchanged"),
        (format!("apply -f {changed}"), "pod/bare configured"),
        (
            format!("apply --server-side --force-conflicts -f {changed}"),
            "pod/bare serverside-applied",
        ),
        (
            format!("apply -f {deployment} --dry-run=server"),
            "deployment.apps/web configured (server dry run)",
        ),
        ("label pod bare x=y".into(), "pod/bare labeled"),
        ("annotate pod bare x=y".into(), "pod/bare annotated"),
        ("set image pod/bare c=i:2".into(), "pod/bare image updated"),
        ("get pod bare --show-labels".into(), "a=b,x=y"),
        ("label pod web-1 extra=1".into(), "pod/web-1 labeled"),
        ("scale rs web-abc --replicas=3".into(), "replicaset.apps/web-abc scaled"),
        ("cordon n1".into(), "node/n1 cordoned"),
        ("get node n1".into(), "Ready,SchedulingDisabled"),
        ("uncordon n1".into(), "node/n1 uncordoned"),
        ("taint node n1 a=b:NoSchedule".into(), "node/n1 tainted"),
        ("label node n1 a=b".into(), "node/n1 labeled"),
        ("delete pod bare --timeout=10s".into(), "pod \"bare\" deleted"),
        ("run once --image=i:1 --restart=Never".into(), "pod/once created"),
        ("delete pod once --now".into(), "pod \"once\" deleted"),
        ("delete pod web-1 --wait=false".into(), "pod \"web-1\" deleted"),
        ("get pod web-1".into(), "Terminating"),
        (
            "delete pod web-2 --force --grace-period=0".into(),
            "pod \"web-2\" force deleted",
        ),
    ] {
        let out = cluster.run(&words(&arguments)).await;
        assert!(out.contains(expected), "{arguments}: {expected:?} is missing in\n{out}");
    }
    for (arguments, expected) in [
        (format!("apply -f {wrong}"), "unknown field \"spec.containrs\""),
        (
            format!("apply -f {deployment}"),
            "it is declared in namespaces/shop/web.yaml:1",
        ),
    ] {
        let err = cluster.fails(&words(&arguments)).await;
        assert!(err.contains(expected), "{arguments}: {expected:?} is missing in\n{err}");
    }
}

/// The next line of a running kubectl that holds `text`.
async fn line_with<R: tokio::io::AsyncBufRead + Unpin>(lines: &mut tokio::io::Lines<R>, text: &str) -> String {
    let mut seen = Vec::new();
    let found = tokio::time::timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.expect("a line") {
            if line.contains(text) {
                return Some(line);
            }
            seen.push(line);
        }
        None
    })
    .await;
    found
        .ok()
        .flatten()
        .unwrap_or_else(|| panic!("{text:?} does not come; there was {seen:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn get_watch_shows_changes_as_they_come() {
    let cluster = cluster!(READS);
    let mut watching = cluster
        .kubectl(&["get", "pods", "-w"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    let mut lines = BufReader::new(watching.stdout.take().expect("its output")).lines();
    line_with(&mut lines, "web-2").await;
    let made = cluster.create([pod("late", &Value::Null)]).await;
    assert!(line_with(&mut lines, "late").await.contains("1/1"));
    let mut status = made[0].status_value().expect("a status");
    status["containerStatuses"][0]["ready"] = false.into();
    status["containerStatuses"][0]["restartCount"] = 1.into();
    status["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let op = Op::Status {
        key: Key::namespaced(Kind::Pod, "shop", "late"),
        status: status.into(),
    };
    cluster
        .store
        .write_one(Class::Status, Write::new(op))
        .await
        .expect("it is written");
    let line = line_with(&mut lines, "CrashLoopBackOff").await;
    assert!(line.contains("0/1"), "{line}");
    watching.kill().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_waits_until_the_node_has_stopped_the_pod() {
    let cluster = cluster!(READS);
    let deleting = tokio::spawn(cluster.kubectl(&["delete", "pod", "web-1", "--timeout=20s"]).output());
    let key = Key::namespaced(Kind::Pod, "shop", "web-1");
    let mut changes = cluster
        .store
        .watch(store::Scope::kinds(&[Kind::Pod]), None)
        .expect("a watch");
    while !cluster
        .store
        .get(&key)
        .is_some_and(|pod: std::sync::Arc<Object>| pod.is_deleting())
    {
        tokio::time::timeout(PATIENCE, changes.next())
            .await
            .expect("the pod is marked in time")
            .expect("the watch goes on");
    }
    assert!(!deleting.is_finished(), "kubectl waits while the pod is there");
    cluster
        .store
        .write_one(Class::Controller, Write::new(Op::Remove { key }))
        .await
        .expect("it is removed");
    let output = deleting.await.expect("it ran").expect("it ended");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_evicts_the_pods_of_a_node() {
    let cluster = cluster!(FULL);
    let draining = tokio::spawn(
        cluster
            .kubectl(&["drain", "n1", "--ignore-daemonsets", "--force", "--timeout=20s"])
            .output(),
    );
    let mut changes = cluster
        .store
        .watch(store::Scope::kinds(&[Kind::Pod]), None)
        .expect("a watch");
    loop {
        let pods = cluster.store.list(Kind::Pod, Some("shop")).items;
        if pods.is_empty() {
            break;
        }
        for pod in pods.iter().filter(|pod| pod.is_deleting()) {
            // The part of the agent.
            let op = Op::Remove { key: pod.key() };
            let _ = cluster.store.write_one(Class::Controller, Write::new(op)).await;
        }
        if !cluster.store.list(Kind::Pod, Some("shop")).items.is_empty() {
            tokio::time::timeout(PATIENCE, changes.next())
                .await
                .expect("the pods are marked in time")
                .expect("the watch goes on");
        }
    }
    let output = draining.await.expect("it ran").expect("it ended");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_clients_of_http2_though_their_body_was_not_read() {
    let curl = tokio::process::Command::new("curl").arg("--version").output().await;
    if curl.is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI needs curl");
        return;
    }
    let cluster = Cluster::start().await;
    // More than fits into a stream's window, so that it must be read on.
    for body in ["{}".to_owned(), " ".repeat(5 << 20)] {
        let output = cluster
            .post_as_nobody("/api/v1/namespaces/shop/configmaps", &body)
            .await;
        let (out, err) = cluster::texts(&output);
        assert_eq!(out, "2 401", "{} bytes: {err}", body.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_generators_make_is_read() {
    let cluster = cluster!(FULL);
    let said = cluster
        .run(&["create", "job", "hello", "--image=busybox", "--", "echo", "hi there"])
        .await;
    assert_eq!(said.trim(), "job.batch/hello created");
    let job = cluster
        .store
        .get(&Key::namespaced(Kind::Job, "shop", "hello"))
        .expect("it is there")
        .to_value();
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["command"], json!(["echo", "hi there"]), "{job:#}");
    assert_eq!(
        (&pod["containers"][0]["image"], &pod["restartPolicy"]),
        (&json!("busybox"), &json!("Never"))
    );
    // What only git makes is refused with the place to put it.
    for arguments in [
        "create deployment d --image=i --port=80",
        "create configmap c --from-literal=a=b",
        "create secret generic s --from-literal=a=b",
        "create namespace n",
        "create serviceaccount s",
        "create role r --verb=get --resource=pods",
        "create rolebinding b --role=r --user=u",
        "create service clusterip s --tcp=80",
        "create ingress i --rule=a/b=c:80",
        "create quota q --hard=pods=1",
        "create poddisruptionbudget p --selector=a=b --min-available=1",
        "create priorityclass p --value=1",
    ] {
        let said = cluster.fails(&words(arguments)).await;
        assert!(
            said.contains("only git creates it: add a manifest under"),
            "{arguments}: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_deletion_warns_where_a_real_one_is_refused() {
    let cluster = cluster!(FULL);
    let output = cluster.output(&["delete", "secret", "keys", "--dry-run=server"]).await;
    let (out, err) = cluster::texts(&output);
    assert!(
        out.contains("deleted (server dry run)") && err.contains("only git"),
        "{out}{err}"
    );
    assert!(
        cluster
            .store
            .get(&Key::namespaced(Kind::Secret, "shop", "keys"))
            .is_some()
    );
    cluster.fails(&["delete", "secret", "keys"]).await;
}
