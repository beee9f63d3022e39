use std::{collections::BTreeSet, time::Duration};

use http::{Method, StatusCode};
use schemas::{Kind, Object, node::Frame};
use serde_json::{Value, json};

use crate::control_harness::{Client, Harness, Lines, config, key, pod};

const STREAM: &str = "/towline/v1/nodes/a/stream";

fn names<'a>(objects: impl IntoIterator<Item = &'a Object>) -> BTreeSet<String> {
    objects.into_iter().map(|object| object.key().to_string()).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// The position, as a query names it, the version, and what is in it.
async fn snapshot(lines: &mut Lines) -> (String, u64, Vec<Object>) {
    match lines.json().await {
        Frame::Snapshot {
            incarnation,
            term,
            version,
            objects,
            ..
        } => (
            format!("incarnation={}&term={}", incarnation.0, term.0),
            version,
            objects,
        ),
        other => panic!("not a snapshot: {other:?}"),
    }
}

/// What was put and what is gone, by name, and the version.
async fn delta(lines: &mut Lines) -> (BTreeSet<String>, BTreeSet<String>, u64) {
    match lines.json().await {
        Frame::Delta { version, put, gone, .. } => (
            names(&put),
            gone.iter().map(|gone| gone.key.to_string()).collect(),
            version,
        ),
        other => panic!("not a delta: {other:?}"),
    }
}

/// Two nodes; one pod on `a` that names a ConfigMap and a Secret; others that it does not name.
async fn shop() -> Harness {
    let harness = Harness::start().await;
    for (kind, name) in [
        ("ConfigMap", "mine"),
        ("ConfigMap", "other"),
        ("Secret", "mine"),
        ("Secret", "other"),
    ] {
        harness.create(config(kind, name)).await;
    }
    let named = json!({"containers": [{"name": "c", "image": "i",
        "envFrom": [{"configMapRef": {"name": "mine"}}],
        "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "k"}}}]}]});
    harness.create(pod("p", "a", named)).await;
    harness
        .create(pod("q", "b", json!({"imagePullSecrets": [{"name": "other"}]})))
        .await;
    harness
}

#[tokio::test]
async fn a_node_sees_its_pods_and_what_they_name() {
    let harness = shop().await;
    let a = harness.node("a").await;
    let mut lines = a.lines(STREAM).await;
    let (_, version, objects) = snapshot(&mut lines).await;
    assert_eq!(
        names(&objects),
        set(["Pod shop/p", "ConfigMap shop/mine", "Secret shop/mine"])
    );

    // Not its own: nothing is said of these, or the next frame would not be the one below.
    harness
        .change(&key(Kind::ConfigMap, "other"), json!({"data": {"k": "x"}}))
        .await;
    harness.create(pod("r", "b", json!({}))).await;
    harness
        .change(&key(Kind::ConfigMap, "mine"), json!({"data": {"k": "x"}}))
        .await;
    let (put, gone, newer) = delta(&mut lines).await;
    assert_eq!((put, gone), (set(["ConfigMap shop/mine"]), set([])));
    assert!(newer > version);

    let volume = json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "other"}}]}}]});
    harness.create(pod("s", "a", volume)).await;
    let (put, gone, _) = delta(&mut lines).await;
    assert_eq!((put, gone), (set(["Pod shop/s", "Secret shop/other"]), set([])));

    harness.remove(&key(Kind::Pod, "p")).await;
    let (put, gone, _) = delta(&mut lines).await;
    assert_eq!(put, set([]));
    assert_eq!(gone, set(["Pod shop/p", "ConfigMap shop/mine", "Secret shop/mine"]));

    harness.remove(&key(Kind::Secret, "other")).await;
    assert_eq!(delta(&mut lines).await.1, set(["Secret shop/other"]));
    harness.create(config("Secret", "other")).await;
    assert_eq!(delta(&mut lines).await.0, set(["Secret shop/other"]));
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was() {
    let harness = shop().await;
    let a = harness.node("a").await;
    let mut lines = a.lines(STREAM).await;
    let (history, version, _) = snapshot(&mut lines).await;
    drop(lines);

    let resumed = format!("{STREAM}?{history}&version={version}");
    let (put, gone, _) = delta(&mut a.lines(&resumed).await).await;
    assert_eq!((put, gone), (set([]), set([])), "nothing happened meanwhile");

    harness.create(pod("s", "a", json!({}))).await;
    harness
        .change(&key(Kind::Secret, "mine"), json!({"data": {"k": "eA=="}}))
        .await;
    harness
        .create(pod("t", "a", json!({"imagePullSecrets": [{"name": "other"}]})))
        .await;
    let mut lines = a.lines(&resumed).await;
    let (put, gone, newer) = delta(&mut lines).await;
    assert_eq!(
        put,
        set(["Pod shop/s", "Pod shop/t", "Secret shop/mine", "Secret shop/other"])
    );
    assert_eq!(gone, set([]));
    harness.remove(&key(Kind::Pod, "p")).await;
    delta(&mut lines).await;

    let resumed = format!("{STREAM}?{history}&version={newer}");
    let (put, gone, _) = delta(&mut a.lines(&resumed).await).await;
    assert_eq!(put, set([]));
    assert_eq!(gone, set(["Pod shop/p", "ConfigMap shop/mine", "Secret shop/mine"]));

    let incarnation = history.split('&').next().expect("it has one").to_owned();
    for other in [
        "incarnation=another&term=another&version=1".to_owned(),
        "version=1".to_owned(),
        format!("{incarnation}&version={newer}"),
        format!("{incarnation}&term=another&version={newer}"),
        format!("{history}&version=999999"),
        format!("{history}&version={newer}&whole=true"),
    ] {
        snapshot(&mut a.lines(&format!("{STREAM}?{other}")).await).await;
    }
}

#[tokio::test]
async fn a_newer_stream_ends_the_older_one() {
    let harness = shop().await;
    let a = harness.node("a").await;
    let mut older = a.lines(STREAM).await;
    snapshot(&mut older).await;
    let mut newer = a.lines(STREAM).await;
    snapshot(&mut newer).await;
    assert_eq!(older.next().await, None);
    harness.remove(&key(Kind::Pod, "p")).await;
    delta(&mut newer).await;
}

#[tokio::test]
async fn a_node_acts_for_itself_alone() {
    let harness = shop().await;
    let (a, admin) = (harness.node("a").await, harness.admin().await);
    let guest = Client::connect(&harness, None, None).await;
    let forged = Client::connect(&harness, None, Some("nonsense")).await;
    let bootstrap = Client::connect(&harness, None, Some(harness.authority.bootstrap_token())).await;
    harness.node("b").await;
    for (who, client, code) in [
        ("another node", &a, StatusCode::FORBIDDEN),
        ("the administrator", &admin, StatusCode::FORBIDDEN),
        ("the bootstrap token", &bootstrap, StatusCode::FORBIDDEN),
        ("a guest", &guest, StatusCode::UNAUTHORIZED),
        ("a forger", &forged, StatusCode::UNAUTHORIZED),
    ] {
        for (method, path) in [
            (Method::GET, "stream"),
            (Method::GET, "sessions"),
            (Method::POST, "status"),
            (Method::POST, "register"),
            (Method::POST, "heartbeat"),
        ] {
            let (found, text) = client.call(method, &format!("/towline/v1/nodes/b/{path}"), "[]").await;
            assert_eq!(found, code, "{who} {path}: {text}");
        }
    }
    for path in ["status", "history", "plan"] {
        let (found, text) = a.call(Method::GET, &format!("/towline/v1/{path}"), "").await;
        assert_eq!(found, StatusCode::FORBIDDEN, "{path}: {text}");
    }
}

#[tokio::test]
async fn reports_become_status_events_and_ends() {
    let harness = shop().await;
    let a = harness.node("a").await;
    let report = |pod: &str, more: Value| {
        let mut report = json!({
            "key": {"kind": "Pod", "namespace": "shop", "name": pod}, "uid": format!("uid-{pod}"),
            "status": {"phase": "Running"}, "events": [],
        });
        json_patch::merge(&mut report, &more);
        report
    };
    let started = json!({"events": [{"warning": false, "reason": "Started", "message": "started container c"}]});
    let batch = json!([
        report("p", started.clone()),
        report("q", json!({})),
        report("p", json!({"uid": "of-an-earlier-pod", "status": {"phase": "Failed"}})),
    ]);
    let answer = a.ok("/towline/v1/nodes/a/status", batch).await;
    let dropped = answer["dropped"].as_array().expect("a list");
    assert_eq!(dropped.len(), 2, "{answer}");
    let phase = |name: &str| {
        let pod = harness.store.get(&key(Kind::Pod, name)).expect("a pod");
        pod.status_value().map(|status| status["phase"].clone())
    };
    assert_eq!(phase("p"), Some("Running".into()));
    assert_eq!(phase("q"), None);

    a.ok("/towline/v1/nodes/a/status", json!([report("p", started)])).await;
    let events = harness.store.list(Kind::Event, Some("shop")).items;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].body.value()["count"], 2);
    assert_eq!(events[0].body.value()["source"]["host"], "a");

    let end = json!([report("p", json!({"terminated": true}))]);
    a.ok("/towline/v1/nodes/a/status", end.clone()).await;
    assert!(harness.store.get(&key(Kind::Pod, "p")).is_some(), "nobody deleted it");
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:30Z"}});
    harness.change(&key(Kind::Pod, "p"), deleted).await;
    a.ok("/towline/v1/nodes/a/status", end).await;
    assert!(harness.store.get(&key(Kind::Pod, "p")).is_none());
}

#[tokio::test]
async fn the_agents_own_reports_are_not_sent_back() {
    let harness = shop().await;
    let a = harness.node("a").await;
    let mut lines = a.lines(STREAM).await;
    snapshot(&mut lines).await;
    let report = json!([{
        "key": {"kind": "Pod", "namespace": "shop", "name": "p"}, "uid": "uid-p",
        "status": {"phase": "Running"}, "events": [],
    }]);
    a.ok("/towline/v1/nodes/a/status", report).await;
    let labelled = json!({"metadata": {"labels": {"l": "x"}}});
    harness.change(&key(Kind::Pod, "p"), labelled).await;
    match lines.json().await {
        Frame::Delta { put, .. } => assert_eq!(put[0].label("l"), Some("x"), "the report was sent back"),
        other => panic!("not a delta: {other:?}"),
    }
}

#[tokio::test]
async fn idle_heartbeats_write_nothing() {
    let harness = Harness::start().await;
    let a = harness.node("a").await;
    let version = harness.store.version();
    for _ in 0..3 {
        harness.clock.advance(Duration::from_secs(10));
        a.ok("/towline/v1/nodes/a/heartbeat", json!({"status": null})).await;
    }
    assert_eq!(harness.store.version(), version);
    harness.remove(&schemas::Key::cluster(Kind::Node, "a")).await;
    let (code, text) = a
        .call(Method::POST, "/towline/v1/nodes/a/heartbeat", r#"{"status": null}"#)
        .await;
    assert_eq!(code, StatusCode::NOT_FOUND, "{text}");
}

#[tokio::test]
async fn an_agent_joins_with_the_bootstrap_token() {
    let harness = Harness::start().await;
    let bootstrap = Client::connect(&harness, None, Some(harness.authority.bootstrap_token())).await;
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    // What the request claims beyond its key counts for nothing.
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:masters");
    let request = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    let path = "/towline/v1/nodes/w/certificate?machine=m1";
    let (code, certificate_pem) = bootstrap.call(Method::POST, path, request.clone()).await;
    assert_eq!(code, StatusCode::OK, "{certificate_pem}");
    let credentials = crate::authority::NodeCredentials {
        certificate_pem,
        key_pem: key.serialize_pem(),
        ca_pem: harness.authority.ca_pem().to_owned(),
    };
    let w = Client::connect(&harness, Some(&credentials), None).await;
    let registration = json!({"name": "w", "machine_id": "m1", "labels": {}, "pod_range": "", "status": {}});
    w.ok("/towline/v1/nodes/w/register", registration).await;
    assert_eq!(
        w.call(Method::GET, "/towline/v1/status", "").await.0,
        StatusCode::FORBIDDEN
    );

    for (client, path, body, code) in [
        (
            &bootstrap,
            "/towline/v1/nodes/w/certificate?machine=m2",
            &*request,
            StatusCode::CONFLICT,
        ),
        (
            &bootstrap,
            "/towline/v1/nodes/w/certificate?machine=m1",
            &*request,
            StatusCode::OK,
        ),
        (
            &bootstrap,
            "/towline/v1/nodes/UPPER/certificate",
            &*request,
            StatusCode::BAD_REQUEST,
        ),
        (
            &bootstrap,
            "/towline/v1/nodes/x/certificate",
            "nonsense",
            StatusCode::BAD_REQUEST,
        ),
        (&w, "/towline/v1/nodes/x/certificate", &*request, StatusCode::FORBIDDEN),
        (&bootstrap, "/towline/v1/sync", "", StatusCode::FORBIDDEN),
    ] {
        let (found, text) = client.call(Method::POST, path, body.to_owned()).await;
        assert_eq!(found, code, "{path}: {text}");
    }
}

#[tokio::test]
async fn a_new_node_is_ready_from_its_first_version_on() {
    let harness = Harness::start().await;
    let scope = store::Scope::kinds(&[Kind::Node]);
    let mut watch = harness.store.watch(scope, None).expect("from now on");
    harness.node("a").await;
    let changes = watch.next().await.expect("it keeps up");
    let node = changes[0].new.as_ref().expect("it came");
    let ready = node.status_value().expect("it has one")["conditions"][0].take();
    assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("True")));
    assert_eq!(changes.len(), 1, "nothing had to be put right after that");
}
