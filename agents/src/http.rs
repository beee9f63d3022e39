//! The server over HTTP/2, with the node's own certificate.
//!
//! Two connections: one for the node stream, reports and heartbeats, one for sessions, so that a long
//! log cannot hold up a status. Each is made when it is needed and made anew after it broke.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream, stream::BoxStream};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame as BodyFrame, Incoming},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use schemas::node::{
    self, Frame, Heartbeat, Identity, Missing, PodReport, Registered, Registration, SessionRequest, Stats, Told,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, sync::Mutex};
use tokio_rustls::TlsConnector;

use crate::control::{ControlError, ControlPlane, Resume, SessionAnswer};

/// How long a connection may take to be made, and the server to begin an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that says nothing is asked for a sign of life after this long.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The longest line of a stream: a snapshot of a full node.
const LINE: usize = 256 << 20;
/// Windows that fit a snapshot of a node, so that it is not sent in small steps.
const WINDOW: u32 = 1 << 20;

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// Where the server is, and who the node is.
#[derive(Clone)]
pub struct HttpOptions {
    /// `host:port`.
    pub server: String,
    pub node: Arc<str>,
    /// The cluster's authority, in PEM.
    pub ca: Vec<u8>,
    /// The node's certificate and key, in PEM.
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpOptions({} at {})", self.node, self.server)
    }
}

/// What is wrong with the certificates of a node.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("the cluster's certificate is not valid: {0}")]
    Authority(String),
    #[error("the node's certificate or key is not valid: {0}")]
    Node(String),
}

/// The server over HTTP/2.
pub struct HttpControl {
    options: HttpOptions,
    tls: Arc<ClientConfig>,
    /// Which agent this is: said with every request, once it has registered.
    agent: OnceLock<HeaderValue>,
    main: Mutex<Option<SendRequest<Body>>>,
    sessions: Mutex<Option<SendRequest<Body>>>,
}

#[derive(Clone, Copy)]
enum Line {
    Main,
    Sessions,
}

impl HttpControl {
    /// # Errors
    /// When a certificate or the key is not valid.
    pub fn new(options: HttpOptions) -> Result<Arc<Self>, CredentialError> {
        let authority = |error: &dyn fmt::Display| CredentialError::Authority(error.to_string());
        let node = |error: &dyn fmt::Display| CredentialError::Node(error.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&options.ca) {
            let certificate = certificate.map_err(|error| authority(&error))?;
            roots.add(certificate).map_err(|error| authority(&error))?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| authority(&error))?;
        let chain = CertificateDer::pem_slice_iter(&options.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| node(&error))?;
        let key = PrivateKeyDer::from_pem_slice(&options.key).map_err(|error| node(&error))?;
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| node(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName(verifier)))
            .with_client_auth_cert(chain, key)
            .map_err(|error| node(&error))?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(Self {
            options,
            tls: Arc::new(tls),
            agent: OnceLock::new(),
            main: Mutex::new(None),
            sessions: Mutex::new(None),
        }))
    }

    fn unreachable(&self, message: impl fmt::Display) -> ControlError {
        ControlError::Unreachable {
            server: self.options.server.clone(),
            message: message.to_string(),
        }
    }

    async fn sender(&self, line: Line) -> Result<SendRequest<Body>, ControlError> {
        let slot = match line {
            Line::Main => &self.main,
            Line::Sessions => &self.sessions,
        };
        let mut slot = slot.lock().await;
        if let Some(sender) = slot.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let made = tokio::time::timeout(PATIENCE, self.connect()).await;
        let sender = made.map_err(|_| self.unreachable("no connection in time"))??;
        *slot = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> Result<SendRequest<Body>, ControlError> {
        let server = &self.options.server;
        let stream = TcpStream::connect(server)
            .await
            .map_err(|error| self.unreachable(error))?;
        stream.set_nodelay(true).map_err(|error| self.unreachable(error))?;
        let host = server
            .rsplit_once(':')
            .map_or(server.as_str(), |(host, _)| host)
            .trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| self.unreachable(error))?;
        let stream = TlsConnector::from(self.tls.clone())
            .connect(name, stream)
            .await
            .map_err(|error| self.unreachable(error))?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(PATIENCE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(error))?;
        // The connection lives as long as somebody holds a sender of it or reads from it.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the server ended");
            }
        });
        Ok(sender)
    }

    async fn send(
        &self,
        line: Line,
        method: Method,
        path: &str,
        body: Body,
        patience: Option<Duration>,
    ) -> Result<Response<Incoming>, ControlError> {
        let mut sender = self.sender(line).await?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!(
                "https://{}/towline/v1/nodes/{}/{path}",
                self.options.server, self.options.node
            ))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| ControlError::Malformed(error.to_string()))?;
        if let Some(agent) = self.agent.get() {
            request.headers_mut().insert(node::AGENT_HEADER, agent.clone());
        }
        let ask = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let answer = match patience {
            Some(patience) => tokio::time::timeout(patience, ask)
                .await
                .map_err(|_| self.unreachable("no answer in time"))?,
            None => ask.await,
        };
        answer.map_err(|error| self.unreachable(error))
    }

    async fn checked(
        &self,
        what: &'static str,
        answer: Response<Incoming>,
    ) -> Result<Response<Incoming>, ControlError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = http_body_util::Limited::new(answer.into_body(), 64 << 10)
            .collect()
            .await;
        let text = body
            .map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned())
            .unwrap_or_default();
        let message = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|status| status["message"].as_str().map(str::to_owned))
            .unwrap_or(text);
        if status.is_server_error() {
            return Err(self.unreachable(format!("{status}: {message}")));
        }
        Err(ControlError::Refused {
            what,
            status: status.as_u16(),
            message,
        })
    }

    async fn post<T: Serialize + Sync + ?Sized>(
        &self,
        what: &'static str,
        path: &str,
        body: &T,
    ) -> Result<Response<Incoming>, ControlError> {
        let bytes = serde_json::to_vec(body).map_err(|error| ControlError::Malformed(error.to_string()))?;
        let answer = self
            .send(Line::Main, Method::POST, path, whole(bytes), Some(PATIENCE))
            .await?;
        self.checked(what, answer).await
    }

    /// Posts, and reads the answer.
    async fn ask<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        body: &(impl Serialize + Sync + ?Sized),
    ) -> Result<T, ControlError> {
        let answer = self.post(what, path, body).await?;
        let body = answer.into_body().collect().await;
        let body = body.map_err(|error| self.unreachable(error))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| ControlError::Malformed(error.to_string()))
    }

    async fn lines<T: DeserializeOwned + Send + 'static>(
        &self,
        line: Line,
        what: &'static str,
        path: &str,
    ) -> Result<BoxStream<'static, Result<T, ControlError>>, ControlError> {
        let answer = self
            .send(line, Method::GET, path, whole(Vec::new()), Some(PATIENCE))
            .await?;
        let answer = self.checked(what, answer).await?;
        Ok(read_lines(answer.into_body(), self.options.server.clone()))
    }
}

fn whole(bytes: Vec<u8>) -> Body {
    BoxBody::new(Full::new(Bytes::from(bytes)))
}

/// The JSON documents of a body, one a line.
fn read_lines<T: DeserializeOwned + Send + 'static>(
    body: Incoming,
    server: String,
) -> BoxStream<'static, Result<T, ControlError>> {
    let start = (body, BytesMut::new(), 0_usize, false);
    stream::unfold(start, move |(mut body, mut buffer, mut scanned, mut over)| {
        let server = server.clone();
        async move {
            if over {
                return None;
            }
            loop {
                if let Some(at) = buffer[scanned..].iter().position(|byte| *byte == b'\n') {
                    let line = buffer.split_to(scanned + at + 1);
                    scanned = 0;
                    if line.iter().all(u8::is_ascii_whitespace) {
                        continue;
                    }
                    let read =
                        serde_json::from_slice(&line).map_err(|error| ControlError::Malformed(error.to_string()));
                    over = read.is_err();
                    return Some((read, (body, buffer, scanned, over)));
                }
                scanned = buffer.len();
                if buffer.len() > LINE {
                    let error = ControlError::Malformed(format!("a line of more than {LINE} bytes"));
                    return Some((Err(error), (body, buffer, scanned, true)));
                }
                match body.frame().await {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            buffer.extend_from_slice(&data);
                        }
                    }
                    Some(Err(error)) => {
                        let error = ControlError::Unreachable {
                            server,
                            message: error.to_string(),
                        };
                        return Some((Err(error), (body, buffer, scanned, true)));
                    }
                    None => return None,
                }
            }
        }
    })
    .boxed()
}

#[async_trait]
impl ControlPlane for HttpControl {
    async fn identify(&self, proposed: &Identity) -> Result<Identity, ControlError> {
        self.ask("the identity", "identity", proposed).await
    }

    async fn register(&self, registration: &Registration) -> Result<Registered, ControlError> {
        if let Ok(agent) = HeaderValue::from_str(&registration.agent) {
            // An agent keeps its id for as long as it runs.
            self.agent.get_or_init(|| agent);
        }
        self.ask("the registration", "register", registration).await
    }

    async fn stream(
        &self,
        resume: Option<Resume>,
    ) -> Result<BoxStream<'static, Result<Frame, ControlError>>, ControlError> {
        let path = match resume {
            Some(Resume { at, whole }) => format!(
                "stream?incarnation={}&term={}&version={}&whole={whole}",
                at.incarnation.0, at.term.0, at.version
            ),
            None => "stream".to_owned(),
        };
        self.lines(Line::Main, "the node stream", &path).await
    }

    async fn report(&self, reports: &[PodReport]) -> Result<(), ControlError> {
        self.post("pod reports", "status", reports).await.map(|_| ())
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), ControlError> {
        self.post("a heartbeat", "heartbeat", heartbeat).await.map(|_| ())
    }

    async fn stats(&self, stats: &Stats) -> Result<(), ControlError> {
        self.post("figures", "stats", stats).await.map(|_| ())
    }

    async fn fates(&self, missing: &[Missing]) -> Result<Vec<Told>, ControlError> {
        self.ask("a question about missing pods", "missing", missing).await
    }

    async fn sessions(&self) -> Result<BoxStream<'static, Result<SessionRequest, ControlError>>, ControlError> {
        self.lines(Line::Sessions, "sessions", "sessions").await
    }

    async fn answer(&self, id: &str, answer: SessionAnswer) -> Result<(), ControlError> {
        let (path, body) = match answer {
            Ok(stream) => {
                // What is there already goes in one frame: a server that holds many tiny ones unread
                // ends the connection.
                let frames = stream
                    .ready_chunks(256)
                    .map(|pieces| Ok(BodyFrame::data(Bytes::from(pieces.concat()))));
                (
                    format!("sessions/{id}"),
                    BoxBody::new(StreamBody::new(SyncStream(parking_lot::Mutex::new(frames.boxed())))),
                )
            }
            Err(refusal) => (
                format!("sessions/{id}?status={}", refusal.status),
                whole(refusal.message.into_bytes()),
            ),
        };
        // An answer lasts as long as its reader wants.
        let answer = self.send(Line::Sessions, Method::POST, &path, body, None).await?;
        self.checked("a session's answer", answer).await.map(|_| ())
    }
}

/// A stream that may be named from several threads, as a boxed body must be; only one ever reads it.
struct SyncStream<T>(parking_lot::Mutex<BoxStream<'static, T>>);

impl<T> futures::Stream for SyncStream<T> {
    type Item = T;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.get_mut().0.get_mut().poll_next_unpin(context)
    }
}

/// Checks the server's certificate against the cluster's authority, and not its name: a node reaches
/// its server under whatever name or address the network gives it.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::NotValidForName | rustls::CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
