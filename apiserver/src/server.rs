//! The port: TLS, HTTP/1.1 and HTTP/2, and one warp route for everything.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures::{Stream, StreamExt};
use http::{HeaderMap, Method};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warp::{Filter, path::FullPath};

use crate::{
    api::{Api, Parts},
    exchange::Call,
    identity::Identity,
    query::Query,
};

/// How long a client may take for the TLS handshake, and for the headers of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long requests may go on after a shutdown began.
const GRACE: Duration = Duration::from_secs(5);
/// How often an idle HTTP/2 connection is asked for a sign of life, and how long it may take.
const PING: Duration = Duration::from_secs(30);
/// Streams of one connection; an agent or a kubectl uses a handful, a controller hundreds.
const STREAMS: u32 = 1000;

/// What a server is made of.
pub struct Config {
    /// Bound already, so that the caller knows the port.
    pub listener: TcpListener,
    pub tls: Arc<rustls::ServerConfig>,
    pub parts: Parts,
}

/// Why a server ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the listening socket is not usable: {0}")]
    Listener(io::Error),
}

/// Whom a connection belongs to.
#[derive(Clone)]
struct Peer {
    address: SocketAddr,
    identity: Option<Identity>,
}

/// Serves until `shutdown`; then lets requests end for a few seconds.
///
/// # Errors
/// When the listening socket fails for good.
pub async fn serve(config: Config, shutdown: CancellationToken) -> Result<(), ServeError> {
    let address = config.listener.local_addr().map_err(ServeError::Listener)?;
    let api = Api::start(config.parts, shutdown.clone());
    let acceptor = TlsAcceptor::from(with_protocols(config.tls));
    let connections = TaskTracker::new();
    tracing::info!(%address, "the API server listens");
    loop {
        let accepted = tokio::select! {
            accepted = config.listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, acceptor.clone(), api.clone(), shutdown.clone());
                connections.spawn(connection);
            }
            Err(error) => {
                // Too many open files and the like pass; a moment's rest keeps the log readable.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "connections were still open when the server stopped"
        );
    }
    Ok(())
}

/// Offers HTTP/2 first; a configuration that names its own protocols keeps them.
fn with_protocols(tls: Arc<rustls::ServerConfig>) -> Arc<rustls::ServerConfig> {
    if !tls.alpn_protocols.is_empty() {
        return tls;
    }
    let mut tls = rustls::ServerConfig::clone(&tls);
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(tls)
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    api: Arc<Api>,
    shutdown: CancellationToken,
) {
    // Small answers must not wait for more of them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "the connection was gone at once");
        return;
    }
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "a TLS handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(%address, "a TLS handshake took too long");
            return;
        }
    };
    let identity = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(Identity::of_certificate);
    let peer = Peer { address, identity };
    let routes = TowerToHyperService::new(warp::service(routes(api)));
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        hyper::service::Service::call(&routes, request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, connection.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "a connection ended");
    }
}

/// The one route: method and path are matched by [`crate::path`], everything else is read by the
/// handlers, so that a bad query or body gets its own error and never another route's.
fn routes(
    api: Arc<Api>,
) -> impl Filter<Extract = (crate::exchange::Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static {
    warp::method()
        .and(warp::path::full())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .and(warp::ext::optional::<Peer>())
        .then(
            move |method: Method, path: FullPath, query: String, headers: HeaderMap, body, peer: Option<Peer>| {
                let api = api.clone();
                async move {
                    let body = Body(Arc::new(Mutex::new(pieces(body))));
                    let call = Call {
                        method,
                        path: path.as_str().to_owned(),
                        query: Query::parse(&query),
                        headers,
                        body: body.clone().boxed(),
                        peer: peer.as_ref().map(|peer| peer.address),
                        identity: peer.and_then(|peer| peer.identity),
                    };
                    let answer = api.answer(call).await;
                    if answer.status().is_client_error() || answer.status().is_server_error() {
                        body.drain().await;
                    }
                    answer
                }
            },
        )
}

/// A request's body, of which the handler reads as much as it likes.
///
/// A refusal is often known before the body has come. Over HTTP/2 the stream of a body that nobody reads
/// is reset, and many clients then drop the answer that came before: what is left is read and thrown
/// away, within bounds.
#[derive(Clone)]
struct Body(Arc<Mutex<crate::exchange::ByteStream>>);

/// At most so much of a body, for so long, is read for the sake of the answer.
const DRAINED: usize = 64 * 1024 * 1024;
const DRAINING: Duration = Duration::from_secs(5);

impl Body {
    async fn drain(mut self) {
        let rest = async {
            let mut read = 0;
            while let Some(Ok(piece)) = self.next().await {
                read += piece.len();
                if read > DRAINED {
                    return;
                }
            }
        };
        // A client that is slower than that has to do without the answer.
        let _ = tokio::time::timeout(DRAINING, rest).await;
    }
}

impl Stream for Body {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.lock().poll_next_unpin(context)
    }
}

fn pieces<B: Buf>(
    body: impl futures::Stream<Item = Result<B, warp::Error>> + Send + 'static,
) -> crate::exchange::ByteStream {
    body.map(|piece| {
        piece
            .map(|mut piece| piece.copy_to_bytes(piece.remaining()))
            .map_err(io::Error::other)
    })
    .boxed()
}
