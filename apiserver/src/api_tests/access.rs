//! Who may do what, and how a refusal reads.

use super::*;

#[tokio::test]
async fn only_who_is_known_is_answered() {
    let bench = Bench::start().await;
    for (identity, authorization, path, code) in [
        (None, None, "/api/v1/pods", 401),
        (None, None, "/nothing", 401),
        (None, None, "/version", 401),
        (None, Some("Bearer wrong"), "/api/v1/pods", 401),
        (None, Some("Bearer secret"), "/api/v1/pods", 200),
        (None, Some("Basic Z2l0OnNlY3JldA=="), "/api/v1/pods", 200),
        (None, Some("Basic Z2l0"), "/api/v1/pods", 401),
        (None, None, "/readyz", 200),
        (None, None, "/livez", 200),
        (Some(Identity::new("someone", ["people"])), None, "/api/v1/pods", 403),
        (Some(Identity::new("someone", ["people"])), None, "/apis", 200),
    ] {
        let mut request = get(path).by(identity);
        request.authorization = authorization;
        let (found, body) = bench.json(request).await;
        assert_eq!(found, code, "{path} {authorization:?}: {body}");
        if code >= 400 {
            assert_eq!(body["kind"], "Status", "{body}");
        }
    }
}

#[tokio::test]
async fn errors_are_statuses() {
    let bench = Bench::start().await;
    bench.pod("a", Some("n")).await;
    for (request, code, reason) in [
        (get("/api/v1/namespaces/shop/pods/none"), 404, "NotFound"),
        (get("/api/v1/nothing"), 404, "NotFound"),
        (get("/apis/nothing/v1"), 404, "NotFound"),
        (
            ask(Method::POST, "/api/v1/namespaces/shop/pods/a"),
            405,
            "MethodNotAllowed",
        ),
        (ask(Method::POST, "/version"), 405, "MethodNotAllowed"),
        (get("/api/v1/pods?labelSelector=a%3D%3D%3Db"), 400, "BadRequest"),
        (get("/api/v1/pods?fieldSelector=spec.nothing%3Da"), 400, "BadRequest"),
        (get("/api/v1/pods?limit=x"), 400, "BadRequest"),
        (get("/api/v1/pods?limit=-1"), 400, "BadRequest"),
        (get("/api/v1/pods?continue=nonsense"), 400, "BadRequest"),
        (get("/api/v1/pods?resourceVersion=999999"), 504, "Timeout"),
        (
            get("/api/v1/pods?resourceVersion=1&resourceVersionMatch=Exact"),
            410,
            "Expired",
        ),
        (get("/api/v1/pods?watch=true&resourceVersion=999999"), 410, "Expired"),
        (get("/api/v1/pods?watch=true&sendInitialEvents=true"), 400, "BadRequest"),
        (get("/api/v1/pods").accept("text/html"), 406, "NotAcceptable"),
        (ask(Method::POST, PODS).body(&json!("text")), 400, "BadRequest"),
        (ask(Method::POST, PODS), 400, "BadRequest"),
        (
            ask(Method::POST, PODS).body(&json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "x"}})),
            400,
            "BadRequest",
        ),
        (
            ask(Method::POST, PODS).body(&json!({"metadata": {"name": "x", "namespace": "other"}})),
            400,
            "BadRequest",
        ),
        (
            ask(Method::POST, PODS).body(&json!({"metadata": {"name": "x"}, "spec": {}})),
            422,
            "Invalid",
        ),
        (ask(Method::POST, PODS).body(&json!({"spec": {}})), 422, "Invalid"),
        (
            ask(Method::POST, "/api/v1/namespaces/none/pods").body(&json!({
                "metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})),
            404,
            "NotFound",
        ),
        (
            ask(Method::PATCH, &format!("{PODS}/a")).patch("text/plain", &json!({})),
            415,
            "UnsupportedMediaType",
        ),
        (
            ask(Method::PATCH, &format!("{PODS}/a")).patch("application/apply-patch+yaml", &json!({})),
            400,
            "BadRequest",
        ),
        (
            ask(Method::DELETE, &format!("{PODS}/a")).body(&json!({"preconditions": {"uid": "x"}})),
            409,
            "Conflict",
        ),
        (get(&format!("{PODS}/a/log?container=no")), 400, "BadRequest"),
        (get(&format!("{PODS}/a/exec")), 501, "NotImplemented"),
    ] {
        let shown = format!("{} {}", request.method, request.path);
        let (found, status) = bench.json(request).await;
        assert_eq!(
            (found, status["reason"].as_str()),
            (code, Some(reason)),
            "{shown}: {status}"
        );
        assert_eq!(status["kind"], "Status");
        assert_eq!(status["code"], code);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let bench = Bench::start().await;
    let mut request = ask(Method::POST, PODS);
    request.body = vec![b' '; crate::exchange::MAX_BODY + 1].into();
    let (code, status) = bench.json(request).await;
    assert_eq!((code, status["reason"].as_str()), (413, Some("RequestEntityTooLarge")));
}

#[tokio::test]
async fn what_only_git_changes_is_refused_with_the_place_to_edit() {
    let bench = Bench::start().await;
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"}});
    let base = "/api/v1/namespaces/shop/configmaps";
    let (code, status) = bench.json(ask(Method::POST, base).body(&config)).await;
    assert_eq!((code, status["reason"].as_str()), (403, Some("Forbidden")));
    assert!(
        status["message"]
            .as_str()
            .is_some_and(|text| text.contains("namespaces/shop/")),
        "{status}"
    );
    let dry = bench
        .answer(ask(Method::POST, &format!("{base}?dryRun=All")).body(&config))
        .await;
    assert_eq!(dry.status(), 201);
    assert!(
        dry.headers().contains_key(header::WARNING),
        "a dry run says what would happen"
    );
    let mut stored = config.clone();
    stored["metadata"]["uid"] = "u".into();
    bench.put(stored).await;
    for request in [
        ask(Method::DELETE, &format!("{base}/c")),
        ask(Method::DELETE, base),
        ask(Method::PATCH, &format!("{base}/c")).patch("application/merge-patch+json", &json!({"data": {"a": "b"}})),
        ask(Method::PUT, &format!("{base}/c")).body(&json!({"metadata": {"name": "c"}, "data": {"a": "b"}})),
    ] {
        let shown = format!("{} {}", request.method, request.path);
        assert_eq!(bench.json(request).await.0, 403, "{shown}");
    }
}

#[tokio::test]
async fn a_node_sees_its_own_objects_only() {
    let bench = Bench::start().await;
    for name in ["n1", "n2"] {
        bench
            .put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": format!("node-{name}")}}))
            .await;
    }
    bench.pod("mine", Some("n1")).await;
    bench.pod("other", Some("n2")).await;
    bench
        .put(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user", "namespace": "shop", "uid": "user"},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i",
                "envFrom": [{"configMapRef": {"name": "used"}}, {"secretRef": {"name": "key"}}]}]}}),
        )
        .await;
    for (kind, name) in [
        ("ConfigMap", "used"),
        ("ConfigMap", "unused"),
        ("Secret", "key"),
        ("Secret", "hidden"),
    ] {
        bench
            .put(
                json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "shop", "uid": name}}),
            )
            .await;
    }
    let node = Identity::new("system:node:n1", [NODES]);
    for (path, code) in [
        ("/api/v1/nodes/n1", 200),
        ("/api/v1/nodes/n2", 403),
        ("/api/v1/nodes", 403),
        ("/api/v1/nodes?fieldSelector=metadata.name%3Dn1", 200),
        ("/api/v1/pods", 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", 200),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn2", 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName!%3Dn1", 403),
        ("/api/v1/namespaces/shop/pods/mine", 200),
        ("/api/v1/namespaces/shop/pods/other", 403),
        ("/api/v1/namespaces/shop/pods/mine/log", 403),
        ("/api/v1/namespaces/shop/configmaps/used", 200),
        ("/api/v1/namespaces/shop/configmaps/unused", 403),
        ("/api/v1/namespaces/shop/configmaps", 403),
        ("/api/v1/namespaces/shop/secrets/key", 200),
        ("/api/v1/namespaces/shop/secrets/hidden", 403),
        ("/api/v1/secrets", 403),
    ] {
        let (found, body) = bench.json(get(path).by(Some(node.clone()))).await;
        assert_eq!(found, code, "{path}: {body}");
    }
    let (code, status) = bench
        .json(ask(Method::DELETE, "/api/v1/namespaces/shop/pods/mine").by(Some(node)))
        .await;
    assert_eq!(code, 403);
    assert!(
        status["message"].as_str().is_some_and(|text| text.starts_with(
            r#"pods "mine" is forbidden: User "system:node:n1" cannot delete resource "pods" in API group "" in the namespace "shop""#
        )),
        "{status}"
    );
}

#[tokio::test]
async fn nodes_are_cordoned_but_not_rewritten() {
    let bench = Bench::start().await;
    bench
        .put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "n"}, "spec": {"podCIDR": "10.0.0.0/24"}}))
        .await;
    let patch =
        |value: Value| ask(Method::PATCH, "/api/v1/nodes/n1").patch("application/strategic-merge-patch+json", &value);
    let cordoned = bench.ok(patch(json!({"spec": {"unschedulable": true}}))).await;
    assert_eq!(cordoned["spec"]["unschedulable"], true);
    bench.ok(patch(json!({"metadata": {"labels": {"a": "b"}}}))).await;
    assert_eq!(
        bench.json(patch(json!({"spec": {"podCIDR": "10.0.1.0/24"}}))).await.0,
        403
    );
}

#[tokio::test]
async fn writes_leave_a_line_in_the_audit() {
    let bench = Bench::start().await;
    bench.json(ask(Method::DELETE, &format!("{PODS}/none"))).await;
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let lines = bench.store.audited(10).await.expect("the audit");
            if let Some(line) = lines.into_iter().next() {
                return line;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the line is kept");
    assert_eq!((found.verb.as_str(), found.code), ("delete", 404));
    assert_eq!(found.resource, "pods shop/none");
    assert_eq!(found.user, "admin");
}
