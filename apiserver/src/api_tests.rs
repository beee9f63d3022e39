//! The API without a transport: requests in, answers out, over a store in memory.

mod access;
mod metrics;
mod reads;
mod writes;

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
