//! The API as its clients see it: one kept connection, a bearer token.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, body::Incoming, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, sync::Mutex};
use tokio_rustls::TlsConnector;

/// One client.
pub(crate) struct Api {
    port: u16,
    token: String,
    tls: Arc<ClientConfig>,
    sender: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Api {
    /// A client with the token that the server has left in this file of its data directory.
    pub(crate) fn new(data: &Path, port: u16, token: &str) -> anyhow::Result<Self> {
        let read = |file: &str| {
            let path = data.join(file);
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&read("ca.pem")?) {
            roots.add(certificate?)?;
        }
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            port,
            token: String::from_utf8(read(token)?)?.trim().to_owned(),
            tls: Arc::new(tls),
            sender: Mutex::new(None),
        })
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("127.0.0.1")?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // How it ends is seen by the next request.
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Sends a request, and hands the connection back to the next one when `read` has read the answer.
    async fn with<T>(
        &self,
        method: &str,
        path: &str,
        body: Vec<u8>,
        read: impl AsyncFnOnce(Incoming) -> anyhow::Result<T>,
    ) -> anyhow::Result<(StatusCode, T)> {
        let mut slot = self.sender.lock().await;
        let mut sender = match slot.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let patch = method == "PATCH";
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("127.0.0.1:{}", self.port))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(
                header::CONTENT_TYPE,
                if patch {
                    "application/merge-patch+json"
                } else {
                    "application/json"
                },
            )
            .body(Full::new(Bytes::from(body)))?;
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let read = read(answer.into_body()).await?;
        *slot = Some(sender);
        Ok((status, read))
    }

    /// The whole answer; one that does not say yes is an error.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<Bytes> {
        let read = async |body: Incoming| Ok(body.collect().await?.to_bytes());
        let (status, bytes) = self.with(method, path, body, read).await?;
        anyhow::ensure!(
            status.is_success(),
            "{method} {path}: {status}: {}",
            String::from_utf8_lossy(&bytes)
        );
        Ok(bytes)
    }

    /// How many bytes the answer has; none of it is kept.
    pub(crate) async fn weigh(&self, path: &str) -> anyhow::Result<usize> {
        let count = async |mut body: Incoming| {
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                bytes += frame?.data_ref().map_or(0, Bytes::len);
            }
            Ok(bytes)
        };
        let (status, bytes) = self.with("GET", path, Vec::new(), count).await?;
        anyhow::ensure!(status.is_success(), "GET {path}: {status}");
        Ok(bytes)
    }
}
