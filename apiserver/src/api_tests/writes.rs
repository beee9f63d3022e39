//! Creations, changes and deletions.

use super::*;

#[tokio::test]
async fn a_pod_is_made_changed_and_deleted() {
    let bench = Bench::start().await;
    let pod = json!({"metadata": {"generateName": "job-"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let dry = bench
        .ok(ask(Method::POST, &format!("{PODS}?dryRun=All")).body(&pod))
        .await;
    assert_eq!(
        bench.store.list(Kind::Pod, None).items.len(),
        0,
        "a dry run writes nothing"
    );
    assert_eq!(dry["spec"]["restartPolicy"], "Always", "defaults are shown");
    let made = bench.ok(ask(Method::POST, PODS).body(&pod)).await;
    let name = made["metadata"]["name"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("job-") && name.len() == 9, "{name}");
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["status"]["phase"], "Pending");
    let path = format!("{PODS}/{name}");

    let (code, status) = bench.json(ask(Method::POST, PODS).body(&made)).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("AlreadyExists")));

    let label = json!({"metadata": {"labels": {"a": "b"}}});
    for content_type in ["application/merge-patch+json", "application/strategic-merge-patch+json"] {
        let labelled = bench.ok(ask(Method::PATCH, &path).patch(content_type, &label)).await;
        assert_eq!(labelled["metadata"]["labels"]["a"], "b");
    }
    let steps = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "i:2"}]);
    let patched = bench
        .ok(ask(Method::PATCH, &path).patch("application/json-patch+json", &steps))
        .await;
    assert_eq!(patched["spec"]["containers"][0]["image"], "i:2");
    assert_eq!(patched["metadata"]["generation"], 2);
    let renamed = json!({"spec": {"containers": [{"name": "c", "image": "i:2", "command": ["x"]}]}});
    let (code, status) = bench
        .json(ask(Method::PATCH, &path).patch("application/merge-patch+json", &renamed))
        .await;
    assert_eq!((code, status["reason"].as_str()), (422, Some("Invalid")), "{status}");

    // An update against an old version is refused, one against the newest is not.
    let (code, status) = bench.json(ask(Method::PUT, &path).body(&made)).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")), "{status}");
    let mut newest = bench.ok(get(&path)).await;
    newest["metadata"]["annotations"] = json!({"seen": "yes"});
    let updated = bench.ok(ask(Method::PUT, &path).body(&newest)).await;
    assert_eq!(updated["metadata"]["annotations"]["seen"], "yes");
    assert_eq!(updated["metadata"]["uid"], made["metadata"]["uid"]);

    // It is on no node, so it goes at once.
    let gone = bench.ok(ask(Method::DELETE, &path)).await;
    assert_eq!(gone["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(bench.json(get(&path)).await.0, 404);
}

#[tokio::test]
async fn a_pod_on_a_node_is_marked_and_then_forced() {
    let bench = Bench::start().await;
    bench.pod("a", Some("n1")).await;
    let path = format!("{PODS}/a");
    let dry = bench.ok(ask(Method::DELETE, &format!("{path}?dryRun=All"))).await;
    assert_ne!(dry["metadata"]["deletionTimestamp"], Value::Null);
    assert_eq!(bench.ok(get(&path)).await["metadata"]["deletionTimestamp"], Value::Null);
    let marked = bench.ok(ask(Method::DELETE, &path)).await;
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = bench
        .ok(ask(Method::DELETE, &path).body(&json!({"gracePeriodSeconds": 5})))
        .await;
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    bench
        .ok(ask(Method::DELETE, &format!("{path}?gracePeriodSeconds=0")))
        .await;
    assert_eq!(bench.json(get(&path)).await.0, 404);
}

#[tokio::test]
async fn unknown_fields_are_ignored_warned_of_or_refused() {
    let bench = Bench::start().await;
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}], "nothing": 1}});
    for (query, code, warned) in [
        ("fieldValidation=Strict", 400, false),
        ("fieldValidation=Warn", 201, true),
        ("", 201, true),
        ("fieldValidation=Ignore", 201, false),
        ("fieldValidation=Maybe", 400, false),
    ] {
        let response = bench
            .answer(ask(Method::POST, &format!("{PODS}?dryRun=All&{query}")).body(&pod))
            .await;
        let found = response
            .headers()
            .get_all(header::WARNING)
            .iter()
            .any(|warning| warning.to_str().is_ok_and(|text| text.contains("spec.nothing")));
        assert_eq!((response.status().as_u16(), found), (code, warned), "{query}");
    }
}

#[tokio::test]
async fn server_side_apply_creates_keeps_owners_and_conflicts() {
    let bench = Bench::start().await;
    let lease = |holder: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l", "namespace": "shop"},
            "spec": {"holderIdentity": holder}})
    };
    let path = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/l";
    let apply = |manager: &str, holder: &str, force: bool| {
        ask(Method::PATCH, &format!("{path}?fieldManager={manager}&force={force}"))
            .patch("application/apply-patch+yaml", &lease(holder))
    };
    let (code, _) = bench.json(apply("one", "a", false)).await;
    assert_eq!(code, 201);
    let (code, made) = bench.json(apply("one", "b", false)).await;
    assert_eq!((code, made["spec"]["holderIdentity"].as_str()), (200, Some("b")));
    let (code, status) = bench.json(apply("two", "c", false)).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")), "{status}");
    assert_eq!(status["details"]["causes"][0]["field"], ".spec.holderIdentity");
    let (code, taken) = bench.json(apply("two", "c", true)).await;
    assert_eq!((code, taken["spec"]["holderIdentity"].as_str()), (200, Some("c")));
}

#[tokio::test]
async fn a_field_that_is_no_longer_applied_goes() {
    let bench = Bench::start().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/l?fieldManager=one";
    let apply = |spec: Value| {
        let lease =
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": spec});
        ask(Method::PATCH, path).patch("application/apply-patch+yaml", &lease)
    };
    bench
        .ok(apply(json!({"holderIdentity": "a", "leaseDurationSeconds": 10})))
        .await;
    let left = bench.ok(apply(json!({"holderIdentity": "a"}))).await;
    assert_eq!(left["spec"], json!({"holderIdentity": "a"}));
}

#[tokio::test]
async fn pods_are_bound_once_and_evicted_within_their_budget() {
    let bench = Bench::start().await;
    bench
        .put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "n"}}))
        .await;
    bench.pod("a", None).await;
    let bind = |node: &str| {
        ask(Method::POST, &format!("{PODS}/a/binding")).body(&json!({"target": {"kind": "Node", "name": node}}))
    };
    assert_eq!(bench.json(bind("none")).await.0, 404);
    assert_eq!(bench.json(bind("n1")).await.0, 201);
    assert_eq!(bench.json(bind("n1")).await.0, 409);
    let pod = bench.ok(get(&format!("{PODS}/a"))).await;
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");

    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    bench
        .ok(ask(Method::PATCH, &format!("{PODS}/a/status")).patch("application/merge-patch+json", &ready))
        .await;
    bench
        .put(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "b", "namespace": "shop", "uid": "b"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}}))
        .await;
    let evict = || ask(Method::POST, &format!("{PODS}/a/eviction")).body(&json!({"metadata": {"name": "a"}}));
    let (code, status) = bench.json(evict()).await;
    assert_eq!(
        (code, status["reason"].as_str()),
        (429, Some("TooManyRequests")),
        "{status}"
    );
    bench
        .remove(Key::namespaced(Kind::PodDisruptionBudget, "shop", "b"))
        .await;
    assert_eq!(bench.json(evict()).await.0, 201);
    assert_ne!(
        bench.ok(get(&format!("{PODS}/a"))).await["metadata"]["deletionTimestamp"],
        Value::Null
    );
}

#[tokio::test]
async fn of_two_evictions_at_once_a_budget_allows_one() {
    let bench = Bench::start().await;
    bench
        .put(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "b", "namespace": "shop", "uid": "b", "generation": 1},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"kind": "replica"}}},
            "status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 3, "desiredHealthy": 2,
                "expectedPods": 3}}))
        .await;
    for name in ["x", "y", "z"] {
        bench
            .put(json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"kind": "replica"}},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}))
            .await;
    }
    let evict = |name: &str, more: Value| {
        let mut body = json!({"metadata": {"name": name}});
        body["deleteOptions"] = more;
        ask(Method::POST, &format!("{PODS}/{name}/eviction")).body(&body)
    };
    assert_eq!(bench.json(evict("x", json!({"dryRun": ["All"]}))).await.0, 201);
    let (x, y, z) = tokio::join!(
        bench.json(evict("x", json!({}))),
        bench.json(evict("y", json!({}))),
        bench.json(evict("z", json!({}))),
    );
    let answers = [x, y, z];
    assert_eq!(
        answers.iter().filter(|(code, _)| *code == 201).count(),
        1,
        "{answers:?}"
    );
    let (_, refusal) = answers
        .iter()
        .find(|(code, _)| *code == 429)
        .expect("the others are refused");
    assert_eq!(refusal["reason"], "TooManyRequests");
    assert_eq!(refusal["details"]["causes"][0]["reason"], "DisruptionBudget");
    let budget = bench
        .ok(get("/apis/policy/v1/namespaces/shop/poddisruptionbudgets/b"))
        .await;
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert_eq!(
        budget["status"]["disruptedPods"].as_object().map(serde_json::Map::len),
        Some(1)
    );
    let pods = bench.ok(get(PODS)).await;
    let going: Vec<&Value> = pods["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null())
        .collect();
    assert_eq!(going.len(), 1);
    let conditions = going[0]["status"]["conditions"].as_array().expect("a list");
    assert!(
        conditions
            .iter()
            .any(|condition| condition["type"] == "DisruptionTarget" && condition["reason"] == "EvictionByEvictionAPI"),
        "{conditions:?}"
    );
    // A second eviction of the same pod is no second disruption.
    let name = going[0]["metadata"]["name"].as_str().expect("it has one").to_owned();
    assert_eq!(bench.json(evict(&name, json!({}))).await.0, 201);
}
