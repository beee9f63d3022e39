//! The API without a transport: requests in, answers out, over a store in memory.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::{BodyDataStream, BodyExt};
use schemas::{Key, Kind, Object, Uid, node::LogOptions};
use serde_json::{Value, json};
use store::{Class, MemoryLog, Op, Store, SystemClock, Write};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Api, Parts},
    exchange::{ByteStream, Call, Response},
    identity::{ADMINISTRATORS, Authenticator, Identity, NODES},
    logs::LogSource,
    query::Query,
    status::ApiError,
};

/// Longer than any wait of a test that passes.
const PATIENCE: Duration = Duration::from_secs(20);
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

struct OneToken;

impl Authenticator for OneToken {
    fn bearer(&self, token: &str) -> Option<Identity> {
        (token == "secret").then(|| Identity::new("admin", [ADMINISTRATORS]))
    }
}

struct NoLogs;

#[async_trait]
impl LogSource for NoLogs {
    async fn logs(&self, _: &str, _: Key, _: Uid, _: LogOptions) -> Result<ByteStream, ApiError> {
        Ok(futures::stream::iter([Ok(Bytes::from_static(b"a line\n"))]).boxed())
    }
}

struct Bench {
    api: Arc<Api>,
    store: Store,
    shutdown: CancellationToken,
}

/// One request.
#[derive(Clone)]
struct Ask {
    method: Method,
    path: String,
    accept: &'static str,
    content_type: &'static str,
    body: Bytes,
    identity: Option<Identity>,
    authorization: Option<&'static str>,
}

fn ask(method: Method, path: &str) -> Ask {
    Ask {
        method,
        path: path.to_owned(),
        accept: "application/json",
        content_type: "application/json",
        body: Bytes::new(),
        identity: Some(Identity::new("admin", [ADMINISTRATORS])),
        authorization: None,
    }
}

fn get(path: &str) -> Ask {
    ask(Method::GET, path)
}

impl Ask {
    fn body(mut self, value: &Value) -> Self {
        self.body = value.to_string().into();
        self
    }

    fn patch(mut self, content_type: &'static str, value: &Value) -> Self {
        self.content_type = content_type;
        self.body(value)
    }

    fn accept(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }

    fn by(mut self, identity: Option<Identity>) -> Self {
        self.identity = identity;
        self
    }
}

impl Bench {
    async fn start() -> Self {
        let store = Store::open(Arc::new(MemoryLog::default())).await.expect("a store");
        let shutdown = CancellationToken::new();
        let parts = Parts {
            store: store.clone(),
            clock: Arc::new(SystemClock::default()),
            authenticator: Arc::new(OneToken),
            logs: Arc::new(NoLogs),
            mounts: Vec::new(),
        };
        let bench = Self {
            api: Api::start(parts, shutdown.clone()),
            store,
            shutdown,
        };
        bench
            .put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "uid": "ns"}}))
            .await;
        bench
    }

    async fn put(&self, value: Value) -> Arc<Object> {
        let object = Object::from_value(value).expect("an object");
        self.store
            .write_one(Class::Controller, Write::new(Op::Create(object)))
            .await
            .expect("it is created")
    }

    async fn remove(&self, key: Key) {
        self.store
            .write_one(Class::Controller, Write::new(Op::Remove { key }))
            .await
            .expect("it is removed");
    }

    async fn pod(&self, name: &str, node: Option<&str>) -> Arc<Object> {
        let mut value = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 30},
            "status": {"phase": "Running"},
        });
        if let Some(node) = node {
            value["spec"]["nodeName"] = node.into();
        }
        self.put(value).await
    }

    async fn answer(&self, ask: Ask) -> Response {
        let (path, query) = ask.path.split_once('?').unwrap_or((&ask.path, ""));
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(ask.accept));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(ask.content_type));
        if let Some(authorization) = ask.authorization {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(authorization));
        }
        let call = Call {
            method: ask.method,
            path: path.to_owned(),
            query: Query::parse(query),
            headers,
            body: futures::stream::iter([Ok(ask.body)]).boxed(),
            peer: None,
            identity: ask.identity,
        };
        self.api.answer(call).await
    }

    async fn json(&self, ask: Ask) -> (u16, Value) {
        let response = self.answer(ask).await;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (
            code,
            serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into()),
        )
    }

    async fn ok(&self, ask: Ask) -> Value {
        let path = ask.path.clone();
        let (code, value) = self.json(ask).await;
        assert!(code < 300, "{path}: {code} {value}");
        value
    }

    /// Starts a watch.
    async fn watch(&self, ask: Ask) -> Events {
        let response = self.answer(ask).await;
        assert_eq!(response.status(), 200);
        let pieces = BodyDataStream::new(response.into_body()).map(|piece| piece.expect("a piece of the body"));
        Events {
            body: pieces.boxed(),
            rest: Vec::new(),
        }
    }
}

/// The events of a watch.
struct Events {
    body: futures::stream::BoxStream<'static, Bytes>,
    rest: Vec<u8>,
}

impl Events {
    /// The next event; None: the watch has ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event"));
            }
            let piece = tokio::time::timeout(PATIENCE, self.body.next())
                .await
                .expect("an event comes in time")?;
            self.rest.extend_from_slice(&piece);
        }
    }

    /// The next event as its type and the name of its object.
    async fn short(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch goes on");
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

const PODS: &str = "/api/v1/namespaces/shop/pods";

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
async fn pages_of_a_list_hold_everything_once() {
    let bench = Bench::start().await;
    for number in 0..25 {
        bench.pod(&format!("p{number:02}"), None).await;
    }
    let mut path = "/api/v1/pods?limit=10".to_owned();
    let (mut names, mut versions, mut pages) = (Vec::new(), Vec::new(), 0);
    loop {
        let list = bench.ok(get(&path)).await;
        names.extend(
            list["items"]
                .as_array()
                .expect("items")
                .iter()
                .map(|item| item["metadata"]["name"].as_str().unwrap_or("").to_owned()),
        );
        versions.push(list["metadata"]["resourceVersion"].clone());
        pages += 1;
        if pages == 1 {
            assert_eq!(list["metadata"]["remainingItemCount"], 15);
            // What changes between pages is left to the watch.
            bench.remove(Key::namespaced(Kind::Pod, "shop", "p00")).await;
        }
        match list["metadata"]["continue"].as_str() {
            Some(token) => path = format!("/api/v1/pods?limit=10&continue={token}"),
            None => break,
        }
    }
    let expected: Vec<String> = (0..25).map(|number| format!("p{number:02}")).collect();
    assert_eq!(names, expected);
    assert_eq!(pages, 3);
    assert!(versions.windows(2).all(|pair| pair[0] == pair[1]), "{versions:?}");
    let version = versions[0].as_str().expect("a version");
    let mut events = bench
        .watch(get(&format!("/api/v1/pods?watch=true&resourceVersion={version}")))
        .await;
    assert_eq!(events.short().await, ("DELETED".to_owned(), "p00".to_owned()));
}

#[tokio::test]
async fn selectors_narrow_lists() {
    let bench = Bench::start().await;
    bench.pod("a", Some("n1")).await;
    bench.pod("b", Some("n2")).await;
    bench.pod("c", None).await;
    for (query, names) in [
        ("", vec!["a", "b", "c"]),
        ("labelSelector=app%3Da", vec!["a"]),
        ("labelSelector=app+in+(a,c)", vec!["a", "c"]),
        ("labelSelector=!app", vec![]),
        ("fieldSelector=spec.nodeName%3Dn2", vec!["b"]),
        ("fieldSelector=spec.nodeName%3D", vec!["c"]),
        ("fieldSelector=metadata.name%3Dc", vec!["c"]),
        (
            "fieldSelector=metadata.name!%3Dc,status.phase%3DRunning",
            vec!["a", "b"],
        ),
        ("fieldSelector=metadata.namespace%3Dother", vec![]),
        ("fieldSelector=spec.nodeName%3Dn1&labelSelector=app%3Db", vec![]),
    ] {
        for base in ["/api/v1/pods", PODS] {
            let list = bench.ok(get(&format!("{base}?{query}"))).await;
            let found: Vec<&str> = list["items"]
                .as_array()
                .expect("items")
                .iter()
                .filter_map(|item| item["metadata"]["name"].as_str())
                .collect();
            assert_eq!(found, names, "{base}?{query}");
        }
    }
}

#[tokio::test]
async fn a_watch_sees_what_its_selector_lets_in() {
    let bench = Bench::start().await;
    bench.pod("a", None).await;
    let mut events = bench
        .watch(get("/api/v1/pods?watch=true&labelSelector=app+in+(a,b)"))
        .await;
    assert_eq!(events.short().await, ("ADDED".to_owned(), "a".to_owned()));
    bench.pod("x", None).await;
    let pod = bench.pod("b", None).await;
    assert_eq!(events.short().await, ("ADDED".to_owned(), "b".to_owned()));
    // A label that no longer matches takes the pod out of view.
    let mut changed = Object::clone(&pod);
    changed.meta.labels = Some([("app".to_owned(), "z".to_owned())].into());
    bench
        .store
        .write_one(Class::Controller, Write::new(Op::Replace(changed)))
        .await
        .expect("it is replaced");
    let gone = events.next().await.expect("an event");
    assert_eq!(gone["type"], "DELETED");
    assert_eq!(
        gone["object"]["metadata"]["labels"]["app"], "b",
        "the last state that was in view"
    );
    assert_eq!(
        gone["object"]["metadata"]["resourceVersion"],
        bench.store.version().to_string(),
        "at the version at which it left"
    );
    bench.remove(Key::namespaced(Kind::Pod, "shop", "a")).await;
    assert_eq!(events.short().await, ("DELETED".to_owned(), "a".to_owned()));
    bench.shutdown.cancel();
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark_and_a_timeout_with_another() {
    let bench = Bench::start().await;
    bench.pod("a", None).await;
    let mut events = bench
        .watch(get(
            "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1",
        ))
        .await;
    assert_eq!(events.short().await.0, "ADDED");
    let mark = events.next().await.expect("a bookmark");
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["kind"], "Pod");
    assert_eq!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(
        mark["object"]["metadata"]["resourceVersion"],
        bench.store.version().to_string()
    );
    let last = events.next().await.expect("a bookmark at the end");
    assert_eq!(last["type"], "BOOKMARK");
    assert_eq!(last["object"]["metadata"]["annotations"], Value::Null);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn tables_are_served_for_lists_objects_and_watches() {
    let bench = Bench::start().await;
    bench.pod("a", Some("n1")).await;
    let list = bench.ok(get("/api/v1/pods").accept(TABLE)).await;
    assert_eq!(list["kind"], "Table");
    assert_eq!(list["columnDefinitions"][2]["name"], "Status");
    assert_eq!(list["rows"][0]["cells"][2], "Running");
    assert_eq!(list["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let whole = bench.ok(get("/api/v1/pods?includeObject=Object").accept(TABLE)).await;
    assert_eq!(whole["rows"][0]["object"]["kind"], "Pod");
    let bare = bench
        .ok(get(&format!("{PODS}/a?includeObject=None")).accept(TABLE))
        .await;
    assert_eq!(bare["rows"][0].get("object"), None);
    let mut events = bench.watch(get("/api/v1/pods?watch=true").accept(TABLE)).await;
    let first = events.next().await.expect("an event");
    assert_eq!(first["object"]["kind"], "Table");
    assert_ne!(first["object"]["columnDefinitions"], json!([]));
    bench.pod("b", None).await;
    let second = events.next().await.expect("an event");
    assert_eq!(second["object"]["columnDefinitions"], json!([]));
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
}

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
