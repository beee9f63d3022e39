//! A small HTTPS client for the server's own endpoints, found through a kubeconfig.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use rustls_pki_types::ServerName;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::net::TcpStream;

use crate::{cli, paths};

/// Where a server is and how to prove who asks.
pub(crate) struct Server {
    authority: String,
    host: String,
    token: String,
    tls: Arc<ClientConfig>,
}

/// The server could not be reached at all: a different exit code from its saying no.
#[derive(Debug, thiserror::Error)]
#[error("the server at {server} cannot be reached: {reason}")]
pub(crate) struct Unreachable {
    server: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    current_context: String,
    contexts: Vec<Named<ContextRef>>,
    clusters: Vec<Named<Cluster>>,
    users: Vec<Named<User>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    value: T,
}

#[derive(Deserialize)]
struct ContextRef {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority_data: Option<String>,
    certificate_authority: Option<PathBuf>,
}

#[derive(Deserialize)]
struct User {
    token: Option<String>,
}

/// The kubeconfig that a command uses: what its flags name, else `$KUBECONFIG`, then the data directory's.
pub(crate) fn kubeconfig_path(client: &cli::Client) -> PathBuf {
    if let Some(path) = &client.kubeconfig {
        return path.clone();
    }
    if let Some(dir) = &client.data_dir {
        return dir.join("kubeconfig");
    }
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    first_there(&listed, Path::exists).unwrap_or_else(|| {
        let dir = std::env::var_os("TOWLINE_DATA_DIR").filter(|dir| !dir.is_empty());
        paths::data_dir(dir.as_deref().map(Path::new)).join("kubeconfig")
    })
}

/// The first file of a list such as `$KUBECONFIG` that is there; where none is, the first, for the error.
fn first_there(listed: &OsStr, is_there: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let files: Vec<PathBuf> = std::env::split_paths(listed)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    files.iter().find(|path| is_there(path)).or(files.first()).cloned()
}

impl Server {
    /// Finds the server through a kubeconfig.
    pub(crate) fn find(client: &cli::Client) -> anyhow::Result<Self> {
        let path = kubeconfig_path(client);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "no kubeconfig at {}: start `towline up`, or name one with --kubeconfig or --data-dir",
                path.display()
            )
        })?;
        let config: Kubeconfig =
            serde_saphyr::from_str(&text).with_context(|| format!("{} is not a kubeconfig", path.display()))?;
        let context = find(config.contexts, &config.current_context, "context")?;
        let cluster = find(config.clusters, &context.cluster, "cluster")?;
        let user = find(config.users, &context.user, "user")?;
        let ca = match (cluster.certificate_authority_data, cluster.certificate_authority) {
            (Some(data), _) => BASE64_STANDARD
                .decode(data)
                .context("certificate-authority-data is not base64")?,
            (None, Some(file)) => std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?,
            (None, None) => bail!("{} names no certificate authority", path.display()),
        };
        let token = user
            .token
            .ok_or_else(|| anyhow!("{}: user {:?} has no token", path.display(), context.user))?;
        Self::new(&cluster.server, token, &ca)
    }

    /// A server by its URL, a bearer token and its certificate authority in PEM.
    pub(crate) fn new(url: &str, token: String, ca: &[u8]) -> anyhow::Result<Self> {
        let uri: http::Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
        let host = uri
            .host()
            .ok_or_else(|| anyhow!("{url:?} names no host"))?
            .trim_matches(['[', ']'])
            .to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca) {
            roots.add(certificate.context("the certificate authority is not PEM")?)?;
        }
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Ok(Self {
            authority,
            host,
            token,
            tls: Arc::new(tls),
        })
    }

    fn unreachable(&self, reason: impl ToString) -> Unreachable {
        Unreachable {
            server: self.authority.clone(),
            reason: reason.to_string(),
        }
    }

    /// A server answered, and is not the one that the kubeconfig knows.
    fn untrusted(&self, error: &std::io::Error) -> Unreachable {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(_)) => self.unreachable(format!(
                "its certificate is not one that the kubeconfig's certificate authority vouches for ({error}): the kubeconfig is of another server, or of an earlier one with this address"
            )),
            _ => self.unreachable(error),
        }
    }

    /// Sends one request and returns the response, whatever its code, with its body still to read.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<Response<Incoming>> {
        let tcp = TcpStream::connect(&self.authority)
            .await
            .map_err(|error| self.unreachable(format!("{error}. Is it running?")))?;
        let name = ServerName::try_from(self.host.clone()).context("the server's host name is not valid")?;
        let stream = tokio_rustls::TlsConnector::from(self.tls.clone())
            .connect(name, tcp)
            .await
            .map_err(|error| self.untrusted(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection ended");
            }
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        Ok(sender
            .send_request(request)
            .await
            .map_err(|error| self.unreachable(error))?)
    }

    /// Sends one request and reads a JSON answer; an error `Status` becomes an error.
    pub(crate) async fn json<T: DeserializeOwned>(&self, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<T> {
        let response = accepted(self.send(method, path, body).await?).await?;
        let bytes = response.into_body().collect().await?.to_bytes();
        serde_json::from_slice(&bytes).with_context(|| format!("the answer to {method} {path} is not understood"))
    }
}

impl Server {
    /// Sends one request and reads a text as the answer; an error `Status` becomes an error.
    pub(crate) async fn text(&self, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<String> {
        let response = accepted(self.send(method, path, body).await?).await?;
        let bytes = response.into_body().collect().await?.to_bytes();
        String::from_utf8(bytes.to_vec()).with_context(|| format!("the answer to {method} {path} is no text"))
    }
}

/// The response itself when it says yes, else the message of its `Status`.
pub(crate) async fn accepted(response: Response<Incoming>) -> anyhow::Result<Response<Incoming>> {
    if response.status().is_success() {
        return Ok(response);
    }
    let code = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    let message = serde_json::from_slice::<serde_json::Value>(&bytes)
        .ok()
        .and_then(|status| status["message"].as_str().map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(&bytes).trim().to_owned());
    bail!("{message} ({code})")
}

fn find<T>(list: Vec<Named<T>>, name: &str, what: &str) -> anyhow::Result<T> {
    list.into_iter()
        .find(|entry| entry.name == name)
        .map(|entry| entry.value)
        .ok_or_else(|| anyhow!("the kubeconfig has no {what} {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_kubeconfig_that_is_there_is_taken() {
        let is_there = |path: &Path| path.starts_with("/there");
        let table = [
            ("", None),
            (":", None),
            ("/there/a:/there/b", Some("/there/a")),
            ("/nope:/there/b", Some("/there/b")),
            (":/there/b", Some("/there/b")),
            ("/nope:/neither", Some("/nope")),
        ];
        for (listed, expected) in table {
            let found = first_there(OsStr::new(listed), is_there);
            assert_eq!(found.as_deref(), expected.map(Path::new), "{listed:?}");
        }
    }
}
