//! Watches the runtime: waits until it is there, makes the node's network, looks at all containers, and
//! then passes events on until it goes away again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use tokio::sync::{Notify, mpsc::UnboundedSender};
use tokio_util::sync::CancellationToken;

use crate::{
    agent::Message,
    connection::Jitter,
    host::Host,
    node_status,
    range::{self, RangeError},
    runtime::{RuntimeError, RuntimeEvent},
};

/// How often the whole node is looked at, whatever events say.
const LOOK: Duration = Duration::from_secs(60);
/// Images come and go in bursts; the node's status follows after this much quiet.
const IMAGES_SETTLE: Duration = Duration::from_secs(2);

/// What is wrong with the node's network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Range(#[from] RangeError),
    #[error(
        "the Docker network {name} has the range {found} and containers on it; stop them, or start the agent with --pod-range {found}"
    )]
    Moved { name: String, found: String },
}

pub(crate) struct Watcher {
    pub host: Arc<Host>,
    pub tell: UnboundedSender<Message>,
    pub lost: Arc<Notify>,
    pub owner_known: Arc<Notify>,
    pub touches: Arc<AtomicU64>,
    pub shutdown: CancellationToken,
}

/// Makes the pod network of this node, or finds it as it should be.
///
/// # Errors
/// When its range is in use by something else, or an older network of other range cannot be replaced.
pub(crate) async fn ensure_network(host: &Host) -> Result<(), NetworkError> {
    let spec = &host.network;
    let networks = host.runtime.networks().await?;
    if let Some(own) = networks.iter().find(|network| network.name == spec.name) {
        if own.subnets.contains(&spec.subnet) {
            return Ok(());
        }
        let found = own.subnets.join(", ");
        match host.runtime.remove_network(&spec.name).await {
            Ok(()) => {}
            Err(error) if error.is_unreachable() => return Err(error.into()),
            Err(_) => {
                return Err(NetworkError::Moved {
                    name: spec.name.clone(),
                    found,
                });
            }
        }
    }
    let others: Vec<(String, String)> = networks
        .iter()
        .flat_map(|network| {
            network
                .subnets
                .iter()
                .map(|subnet| (network.name.clone(), subnet.clone()))
        })
        .collect();
    let routes = if host.checks_routes {
        std::fs::read_to_string("/proc/net/route").unwrap_or_default()
    } else {
        String::new()
    };
    range::check(spec.subnet.parse()?, &routes, &spec.bridge, &others, &spec.name)?;
    match host.runtime.create_network(spec).await {
        Ok(()) | Err(RuntimeError::NameInUse(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads the runtime's own facts.
pub(crate) async fn learn(host: &Host) -> Result<(), RuntimeError> {
    let info = host.runtime.info().await?;
    *host.allocatable.write() = node_status::allocatable(&info);
    *host.info.write() = Some(info);
    Ok(())
}

impl Watcher {
    pub(crate) async fn run(self) {
        let mut jitter = Jitter::new(Duration::from_millis(100), Duration::from_secs(2));
        while self.host.owner.get().is_none() {
            tokio::select! {
                biased;
                () = self.owner_known.notified() => {}
                () = self.shutdown.cancelled() => return,
            }
        }
        loop {
            let ended = tokio::select! {
                biased;
                ended = self.once(&mut jitter) => ended,
                () = self.shutdown.cancelled() => return,
            };
            match ended {
                Ok(()) => tracing::debug!("the runtime's events ended"),
                Err(NetworkError::Runtime(error)) => tracing::debug!(%error, "the runtime is away"),
                Err(error) => tracing::error!(node = &*self.host.node_name, %error, "the pod network is not usable"),
            }
            let _ = self.tell.send(Message::RuntimeAway);
            tokio::select! {
                biased;
                () = tokio::time::sleep(jitter.next()) => {}
                () = self.shutdown.cancelled() => return,
            }
        }
    }

    async fn once(&self, jitter: &mut Jitter) -> Result<(), NetworkError> {
        // Events first, so that nothing happens between the look and them.
        let mut events = self.host.runtime.events(&self.host.owner_labels()).await?;
        learn(&self.host).await?;
        ensure_network(&self.host).await?;
        self.host.images.forget();
        self.look().await?;
        self.list_images().await?;
        jitter.reset();
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + LOOK, LOOK);
        let mut images_at: Option<tokio::time::Instant> = None;
        loop {
            let settle = async {
                match images_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(event) => {
                        if event == RuntimeEvent::Images {
                            images_at = Some(tokio::time::Instant::now() + IMAGES_SETTLE);
                        }
                        let _ = self.tell.send(Message::Runtime(event));
                    }
                    None => return Ok(()),
                },
                _ = tick.tick() => self.look().await?,
                () = settle => {
                    images_at = None;
                    self.list_images().await?;
                }
                () = self.lost.notified() => return Ok(()),
            }
        }
    }

    async fn look(&self) -> Result<(), RuntimeError> {
        let as_of = self.touches.load(Ordering::Relaxed);
        let found = self.host.runtime.list(&self.host.owner_labels()).await?;
        let _ = self.tell.send(Message::Look { found, as_of });
        Ok(())
    }

    async fn list_images(&self) -> Result<(), RuntimeError> {
        let images = self.host.runtime.images().await?;
        *self.host.image_list.write() = images;
        let _ = self.tell.send(Message::NodeChanged);
        Ok(())
    }
}
