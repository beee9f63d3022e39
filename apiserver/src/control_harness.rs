//! What the tests of this front share: the mounts behind real TLS and HTTP/2, a store in memory, a
//! clock that the test moves, and a git side that only notes what it is asked.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyDataStream, BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use schemas::{
    Key, Kind, Now, Object,
    now::Clock,
    origin::{Origin, Question},
    restore::{Restore, Restored},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use store::{Class, MemoryLog, Op, Options, Store, Write};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Authority,
    authority::NodeCredentials,
    control::{Front, FrontParts, Looked, Source, SourceError, Unconfirmed},
    exchange::{ByteStream, Call, Mount, Response},
    identity::{Authenticator, Identity},
    push::{Push, Verdict},
    query::Query,
    status::ApiError,
    webhooks::Secrets,
};

/// Longer than any wait of a test that passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct TestClock(Mutex<Now>);

impl Clock for TestClock {
    fn now(&self) -> Now {
        *self.0.lock()
    }
}

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        let mut now = self.0.lock();
        *now = now.after(by);
    }
}

#[derive(Default)]
pub(crate) struct FakeSource {
    pub(crate) looks: AtomicUsize,
    pub(crate) repository: Option<PathBuf>,
    pub(crate) looked: Mutex<Option<Looked>>,
    pub(crate) unconfirmed: Mutex<Option<Unconfirmed>>,
    pub(crate) origins: Mutex<Option<Vec<Origin>>>,
}

#[async_trait]
impl Source for FakeSource {
    fn look(&self) {
        self.looks.fetch_add(1, Ordering::SeqCst);
    }

    async fn look_and_wait(&self) -> Result<Looked, SourceError> {
        self.look();
        let looked = self.looked.lock().clone();
        looked.ok_or_else(|| SourceError::Unavailable("the source is away".to_owned()))
    }

    fn unconfirmed(&self) -> Option<Unconfirmed> {
        self.unconfirmed.lock().clone()
    }

    async fn plan(&self, head: &str) -> Result<Value, SourceError> {
        match head {
            "main" => Ok(json!({"head": head})),
            _ => Err(SourceError::NotFound(format!("there is no ref {head:?}"))),
        }
    }

    async fn origins(&self, questions: Vec<Question>) -> Result<Vec<Origin>, SourceError> {
        let known = self.origins.lock().clone();
        known.ok_or_else(|| SourceError::Unavailable(format!("{} questions, no git", questions.len())))
    }

    async fn restore(&self, asked: Restore) -> Result<Restored, SourceError> {
        Err(SourceError::Conflict(format!("{} cannot be put back", asked.key)))
    }

    async fn check_push(&self, push: &Push) -> Verdict {
        Verdict::refused(format!("{} is not valid", push.updates[0].reference))
    }

    fn repository(&self) -> Option<PathBuf> {
        self.repository.clone()
    }

    fn branch(&self) -> &str {
        "main"
    }
}

pub(crate) struct Harness {
    pub(crate) store: Store,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) source: Arc<FakeSource>,
    pub(crate) front: Arc<Front>,
    pub(crate) address: SocketAddr,
    _stop: DropGuard,
}

impl Harness {
    pub(crate) async fn start() -> Self {
        Self::with(FakeSource::default(), Secrets::default()).await
    }

    pub(crate) async fn with(source: FakeSource, secrets: Secrets) -> Self {
        Self::on(Arc::default(), source, secrets).await
    }

    /// A server on a database that may have been another one's before.
    pub(crate) async fn on(log: Arc<MemoryLog>, source: FakeSource, secrets: Secrets) -> Self {
        let clock = Arc::new(TestClock(Mutex::new(Now {
            wall: jiff::Timestamp::from_second(1_790_000_000).expect("a time"),
            monotonic: Duration::from_secs(1000),
        })));
        let options = Options {
            clock: clock.clone(),
            ..Options::default()
        };
        let store = Store::open_with(log, options).await.expect("a store in memory");
        let authority = Authority::open(&store, clock.now()).await.expect("an authority");
        let authority = Arc::new(authority);
        let source = Arc::new(source);
        let shutdown = CancellationToken::new();
        let front = Front::start(FrontParts {
            store: store.clone(),
            clock: clock.clone(),
            authority: authority.clone(),
            source: source.clone(),
            push_wait: PATIENCE,
            shutdown: shutdown.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, authority.clone(), front.mounts(secrets), clock.now()));
        Self {
            store,
            clock,
            authority,
            source,
            front,
            address,
            _stop: shutdown.drop_guard(),
        }
    }

    pub(crate) async fn create(&self, value: Value) -> Arc<Object> {
        let object = Object::from_value(value).expect("a valid object");
        let write = Write::new(Op::Create(object));
        self.store.write_one(Class::User, write).await.expect("it is new")
    }

    /// Replaces the body's fields that `patch` names.
    pub(crate) async fn change(&self, key: &Key, patch: Value) -> Arc<Object> {
        let mut value = self.store.get(key).expect("it is there").to_value();
        json_patch::merge(&mut value, &patch);
        let object = Object::from_value(value).expect("a valid object");
        let write = Write::new(Op::Replace(object));
        self.store.write_one(Class::User, write).await.expect("it is there")
    }

    pub(crate) async fn remove(&self, key: &Key) {
        let write = Write::new(Op::Remove { key: key.clone() });
        self.store.write_one(Class::User, write).await.expect("it is there");
    }

    /// A client with the certificate of a node, which is registered.
    pub(crate) async fn node(&self, name: &str) -> Client {
        let credentials = self
            .authority
            .node_credentials(name, self.clock.now())
            .expect("a certificate");
        let client = Client::connect(self, Some(&credentials), None).await;
        let registration = json!({
            "name": name, "machine_id": format!("machine-{name}"), "labels": {}, "pod_range": "10.9.0.0/24",
            "status": {"capacity": {"cpu": "2"}},
        });
        client
            .ok(&format!("/towline/v1/nodes/{name}/register"), registration)
            .await;
        client
    }

    pub(crate) async fn admin(&self) -> Client {
        Client::connect(self, None, Some(self.authority.admin_token())).await
    }
}

async fn serve(listener: TcpListener, authority: Arc<Authority>, mounts: Vec<Arc<dyn Mount>>, now: Now) {
    let tls = authority.server_config(&[], now).expect("a TLS configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    while let Ok((stream, peer)) = listener.accept().await {
        let (acceptor, authority, mounts) = (acceptor.clone(), authority.clone(), mounts.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let certificates = stream.get_ref().1.peer_certificates();
            let node = certificates.and_then(|chain| Identity::of_certificate(chain.first()?));
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let (authority, mounts, node) = (authority.clone(), mounts.clone(), node.clone());
                async move { Ok::<_, io::Error>(dispatch(&authority, &mounts, node, peer, request).await) }
            });
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn dispatch(
    authority: &Authority,
    mounts: &[Arc<dyn Mount>],
    node: Option<Identity>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response {
    let (parts, body) = request.into_parts();
    let bearer = parts
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let identity = match bearer.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(token) => authority.bearer(token),
        None => node,
    };
    let path = parts.uri.path().to_owned();
    let prefix = path.split('/').nth(1).unwrap_or("");
    let Some(mount) = mounts.iter().find(|mount| mount.prefix() == prefix) else {
        return ApiError::no_such_path().response();
    };
    if identity.is_none() && !mount.open() {
        return ApiError::unauthorized().response();
    }
    let call = Call {
        method: parts.method,
        path,
        query: Query::parse(parts.uri.query().unwrap_or("")),
        headers: parts.headers,
        body: BodyDataStream::new(body)
            .map(|piece| piece.map_err(io::Error::other))
            .boxed(),
        peer: Some(peer),
        identity,
    };
    mount.handle(call).await
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A client on one HTTP/2 connection.
#[derive(Clone)]
pub(crate) struct Client {
    sender: hyper::client::conn::http2::SendRequest<Body>,
    token: Option<String>,
    agent: Option<String>,
}

impl Client {
    pub(crate) async fn connect(harness: &Harness, node: Option<&NodeCredentials>, token: Option<&str>) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(harness.authority.ca_pem().as_bytes()).expect("a certificate");
        roots.add(ca).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match node {
            None => builder.with_no_client_auth(),
            Some(node) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(node.certificate_pem.as_bytes()).expect("a certificate")],
                    PrivateKeyDer::from_pem_slice(node.key_pem.as_bytes()).expect("a key"),
                )
                .expect("a client certificate"),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(harness.address).await.expect("a connection");
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from("kubernetes.default.svc").expect("a name"), stream)
            .await
            .expect("TLS");
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        Self {
            sender,
            token: token.map(str::to_owned),
            agent: None,
        }
    }

    /// The same client, saying that it is this agent.
    pub(crate) fn as_agent(&self, agent: &str) -> Self {
        Self {
            agent: Some(agent.to_owned()),
            ..self.clone()
        }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Body) -> http::Response<Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(agent) = &self.agent {
            request = request.header(schemas::node::AGENT_HEADER, agent);
        }
        let request = request.body(body).expect("a request");
        let sent = self.sender.clone().send_request(request);
        tokio::time::timeout(PATIENCE, sent)
            .await
            .expect("an answer in time")
            .expect("an answer")
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> http::Response<Incoming> {
        self.send(Method::POST, path, whole(body)).await
    }

    /// The code and the whole body.
    pub(crate) async fn call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> (StatusCode, String) {
        text(self.send(method, path, whole(body)).await).await
    }

    /// Posts JSON, which must be accepted.
    pub(crate) async fn ok(&self, path: &str, body: Value) -> Value {
        let (code, text) = self.call(Method::POST, path, body.to_string()).await;
        assert_eq!(code, StatusCode::OK, "{path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    pub(crate) async fn lines(&self, path: &str) -> Lines {
        let response = self.send(Method::GET, path, whole("")).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Lines::new(response)
    }
}

pub(crate) fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn streamed(pieces: ByteStream) -> Body {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

pub(crate) async fn text(response: http::Response<Incoming>) -> (StatusCode, String) {
    let code = response.status();
    let body = tokio::time::timeout(PATIENCE, response.into_body().collect())
        .await
        .expect("a body in time");
    let body = body.expect("a body").to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

/// The lines of a streamed answer.
pub(crate) struct Lines {
    body: Incoming,
    read: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(response: http::Response<Incoming>) -> Self {
        Self {
            body: response.into_body(),
            read: Vec::new(),
        }
    }

    /// None: the stream has ended, well or not.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let rest = self.read.split_off(end + 1);
                let line = std::mem::replace(&mut self.read, rest);
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame())
                .await
                .expect("a line in time");
            let data = frame?.ok()?.into_data().unwrap_or_default();
            self.read.extend_from_slice(&data);
        }
    }

    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> T {
        let line = self.next().await.expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

/// A pod on a node.
pub(crate) fn pod(name: &str, node: &str, spec: Value) -> Value {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
    });
    json_patch::merge(&mut value["spec"], &spec);
    value
}

pub(crate) fn config(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": kind,
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{kind}-{name}"),
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "data": {"k": "dg=="},
    })
}

pub(crate) fn key(kind: Kind, name: &str) -> Key {
    Key::namespaced(kind, "shop", name)
}
