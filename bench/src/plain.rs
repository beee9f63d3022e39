//! Plain git: a bare repository behind `git http-backend` and nothing else, over TLS and HTTP/2 with a
//! password, as Towline serves its own. What a push to Towline's repository costs on top of this is
//! Towline's.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{CertificateParams, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use crate::process::run;

/// A password is asked for, so that the client makes the same round trips; any will do.
const CHALLENGE: &str = "Basic realm=\"bench\"";

/// The server; it ends when it is dropped.
pub(crate) struct Plain {
    root: PathBuf,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Plain {
    /// Serves a bare copy of `from` in `dir`.
    pub(crate) async fn start(dir: &Path, from: &Path) -> anyhow::Result<Self> {
        let root = dir.join("plain");
        fs::create_dir_all(&root)?;
        run(Command::new("git")
            .args(["clone", "--quiet", "--bare", "--no-local"])
            .arg(from)
            .arg(root.join("plain.git")))?;
        run(Command::new("git")
            .arg("-C")
            .arg(root.join("plain.git"))
            .args(["config", "http.receivepack", "true"]))?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "bench");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?;
        fs::write(root.join("ca.pem"), certificate.pem())?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|reason| anyhow::anyhow!("{reason}"))?;
        let mut tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let served = root.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, root) = (acceptor.clone(), served.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request| answer(root.clone(), request));
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self { root, address, task })
    }

    pub(crate) fn url(&self) -> String {
        format!("https://bench:bench@{}/plain.git", self.address)
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.root.join("plain.git")
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.root.join("ca.pem")
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(root: PathBuf, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
    if !request.headers().contains_key(header::AUTHORIZATION) {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, CHALLENGE.parse()?);
        return Ok(response);
    }
    let mut command = tokio::process::Command::new("git");
    let named = |name: header::HeaderName| {
        let value = request.headers().get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", request.uri().path())
        .env("QUERY_STRING", request.uri().query().unwrap_or_default())
        .env("REQUEST_METHOD", request.method().as_str())
        .env("REMOTE_USER", "bench")
        .env("CONTENT_TYPE", named(header::CONTENT_TYPE))
        .env("HTTP_CONTENT_ENCODING", named(header::CONTENT_ENCODING))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().context("git has an input")?;
    let body = request.into_body().collect().await?.to_bytes();
    input.write_all(&body).await?;
    drop(input);
    let output = child.wait_with_output().await?.stdout;
    let end = output
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("git answers with a head")?;
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => {
                response = response.status(status.split(' ').next().unwrap_or("500").parse::<u16>()?);
            }
            Some((name, value)) => response = response.header(name, value),
            None => {}
        }
    }
    Ok(response.body(Full::new(Bytes::copy_from_slice(&output[end + 4..])))?)
}
