//! A node agent: beside the server in one process, or on its own against a server elsewhere.

use std::{path::Path, sync::Arc};

use agents::{HttpControl, HttpOptions};
use anyhow::{Context, bail};
use rcgen::{CertificateParams, DnType, KeyPair};
use schemas::now::Clock;
use serde::{Deserialize, Serialize};
use store::SystemClock;
use tokio_util::sync::CancellationToken;

use super::{files, server::Server};
use crate::{
    cli::{AgentArgs, NodeArgs},
    client, paths,
};

/// A running agent.
pub(crate) struct Agent {
    running: agents::Running,
    shutdown: CancellationToken,
}

/// What proves who a node is, all in PEM.
#[derive(Serialize, Deserialize)]
struct Credentials {
    certificate: String,
    key: String,
}

/// Starts an agent beside its server. It speaks to it as any other agent does.
pub(crate) async fn beside(server: &Server, args: &NodeArgs, shutdown: &CancellationToken) -> anyhow::Result<Agent> {
    let node = node_name(args)?;
    let made = server.authority.node_credentials(&node, server.clock.now())?;
    let credentials = Credentials {
        certificate: made.certificate_pem,
        key: made.key_pem,
    };
    let ca = server.authority.ca_pem().as_bytes().to_vec();
    let member = Member {
        node: &node,
        server: &server.url,
        ca,
        credentials,
    };
    start(member, args, &server.data_dir, server.clock.clone(), shutdown).await
}

/// Checks what the flags of a node say, before anything is started.
pub(crate) fn check(args: &NodeArgs) -> anyhow::Result<()> {
    let node = node_name(args)?;
    anyhow::ensure!(
        schemas::labels::is_dns_subdomain(&node),
        "{node:?} is no name for a node: it must consist of lower-case letters, digits, '-' and '.'; choose one with \
         --node-name"
    );
    let range = args.pod_range.parse::<agents::Range>().and_then(agents::Range::checked);
    range.context("--pod-range")?;
    Ok(())
}

/// Starts an agent on its own. Its certificate is asked for once, with the join token, and kept.
pub(crate) async fn join(args: &AgentArgs, shutdown: &CancellationToken) -> anyhow::Result<Agent> {
    check(&args.node)?;
    let node = node_name(&args.node)?;
    let data_dir = std::path::absolute(paths::data_dir(args.data_dir.as_deref()))?;
    files::make_data_dir(&data_dir)?;
    let ca = std::fs::read(&args.ca_file).with_context(|| format!("cannot read {}", args.ca_file.display()))?;
    let kept = data_dir.join(format!("node-{node}.json"));
    let credentials = match std::fs::read(&kept) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{} is not readable", kept.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let made = tokio::select! {
                made = ask_for_certificate(&node, args, &ca) => made?,
                () = shutdown.cancelled() => bail!("ended before the node had a certificate"),
            };
            files::write(&kept, &serde_json::to_vec(&made)?)?;
            made
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", kept.display())),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let member = Member {
        node: &node,
        server: &args.server,
        ca,
        credentials,
    };
    start(member, &args.node, &data_dir, clock, shutdown).await
}

/// A node as its server knows it.
struct Member<'a> {
    node: &'a str,
    server: &'a str,
    /// The cluster's certificate authority, in PEM.
    ca: Vec<u8>,
    credentials: Credentials,
}

async fn start(
    member: Member<'_>,
    args: &NodeArgs,
    data_dir: &Path,
    clock: Arc<dyn Clock>,
    until: &CancellationToken,
) -> anyhow::Result<Agent> {
    let Member {
        node,
        server,
        ca,
        credentials,
    } = member;
    let uri: http::Uri = server.parse().with_context(|| format!("{server:?} is not a URL"))?;
    let authority = uri.authority().with_context(|| format!("{server:?} names no host"))?;
    let control = HttpControl::new(HttpOptions {
        server: match authority.port_u16() {
            Some(_) => authority.to_string(),
            None => format!("{authority}:443"),
        },
        node: node.into(),
        ca,
        certificate: credentials.certificate.into_bytes(),
        key: credentials.key.into_bytes(),
    })?;
    let mut options = agents::Options::new(node, &args.pod_range);
    options.docker = format!("unix://{}", args.docker.display());
    options.state_dir = Some(data_dir.join("agent"));
    options.concurrent_starts = args.concurrent_starts.get();
    options.thresholds = args.pressure;
    let shutdown = CancellationToken::new();
    let running = tokio::select! {
        running = agents::start(options, control, clock, shutdown.clone()) => running?,
        // An agent without an identity waits for its server, and for an agent that has its name.
        () = until.cancelled() => bail!("ended before the server said which agent this is"),
    };
    tracing::info!(node, network = running.network, "the agent runs");
    Ok(Agent { running, shutdown })
}

/// Makes a key, and has the server sign its certificate. The server may still be starting: an
/// unreachable one is asked again.
async fn ask_for_certificate(node: &str, args: &AgentArgs, ca: &[u8]) -> anyhow::Result<Credentials> {
    let token = std::fs::read_to_string(&args.token_file)
        .with_context(|| format!("cannot read {}", args.token_file.display()))?;
    let server = client::Server::new(&args.server, token.trim().to_owned(), ca)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("system:node:{node}"));
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    let request = params.serialize_request(&key)?.pem()?;
    loop {
        let machine = agents::machine_id().unwrap_or_default();
        let path = format!("/towline/v1/nodes/{node}/certificate?machine={machine}");
        match server.text("POST", &path, request.clone().into_bytes()).await {
            Ok(certificate) => {
                return Ok(Credentials {
                    certificate,
                    key: key.serialize_pem(),
                });
            }
            Err(error) if error.downcast_ref::<client::Unreachable>().is_some() => {
                tracing::warn!(%error, "waiting for the server");
                tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            }
            Err(error) => return Err(error).context("the server gives no certificate"),
        }
    }
}

fn node_name(args: &NodeArgs) -> anyhow::Result<String> {
    let name = match &args.node_name {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname()
            .context("this machine has no host name; choose the node's with --node-name")?
            .to_string_lossy()
            .to_lowercase(),
    };
    Ok(name)
}

impl Agent {
    /// Ends the agent; its containers stay.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.running.ended().await;
    }
}
