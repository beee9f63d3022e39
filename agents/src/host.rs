//! What all pods of an agent share while they are executed.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use schemas::{Uid, now::Clock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    environment::{Objects, Place},
    image::Images,
    observed::Owner,
    pod::Pod,
    podfiles::{self, NameService},
    pressure::{Pressures, Thresholds},
    range::{Pool, RangeError},
    runtime::{Bind, Image, NetworkSpec, Runtime, RuntimeInfo},
    state::{State, private_dir, replace_file},
};

/// Shared between the agent's own task and the tasks of its pods.
pub(crate) struct Host {
    pub node_name: Arc<str>,
    pub runtime: Arc<dyn Runtime>,
    pub clock: Arc<dyn Clock>,
    pub state: State,
    /// Set once the cluster is known.
    pub owner: OnceLock<Owner>,
    pub node_uid: Arc<str>,
    pub network: NetworkSpec,
    pub pool: Mutex<Pool>,
    pub objects: RwLock<Objects>,
    pub images: Images,
    /// All images of the node, as last seen, for its status.
    pub image_list: RwLock<Vec<Image>>,
    pub info: RwLock<Option<RuntimeInfo>>,
    pub host_ip: Option<IpAddr>,
    pub machine_id: String,
    pub boot_id: String,
    pub names: NameService,
    pub starts: Arc<Semaphore>,
    /// One for each container that may be created at a time: fewer, see [`Self::acquire_create`].
    pub creates: Arc<Semaphore>,
    /// A pull that shows no progress for this long has failed.
    pub pull_idle: Duration,
    /// Whether the routes of this machine are those of the runtime: not in a simulation.
    pub checks_routes: bool,
    pub least_oom_score: i64,
    /// From where on the node is under pressure.
    pub thresholds: Thresholds,
    pub pressures: RwLock<Pressures>,
    /// CPU in thousandths and memory in bytes that pods may have.
    pub allocatable: RwLock<(i64, i64)>,
}

impl Host {
    /// The pod's address on the node: its own, or the host's.
    #[must_use]
    pub(crate) fn address(&self, pod: &Pod) -> Option<IpAddr> {
        if pod.host_network() {
            self.host_ip
        } else {
            self.pool.lock().of(&pod.uid).map(IpAddr::V4)
        }
    }

    /// Waits until one more container may be started.
    pub(crate) async fn acquire(self: Arc<Self>) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed; without a permit a start goes on all the same.
        self.starts.clone().acquire_owned().await.ok()
    }

    /// Waits until one more container may be created. An engine makes the networks of starts one at a
    /// time, so the first start should begin while others are still being created, and not wait until
    /// all of them are.
    pub(crate) async fn acquire_create(self: Arc<Self>) -> Option<OwnedSemaphorePermit> {
        self.creates.clone().acquire_owned().await.ok()
    }

    /// # Errors
    /// When the range is used up.
    pub(crate) fn allocate(&self, pod: &Uid) -> Result<Ipv4Addr, RangeError> {
        self.pool.lock().allocate(pod)
    }

    #[must_use]
    pub(crate) fn place(&self, pod: &Pod) -> Place {
        let (cpu, memory) = *self.allocatable.read();
        Place {
            node_name: self.node_name.to_string(),
            host_ip: self.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            pod_ip: self.address(pod).map(|ip| ip.to_string()).unwrap_or_default(),
            allocatable_cpu_milli: cpu,
            allocatable_memory: memory,
            least_oom_score: self.least_oom_score,
        }
    }

    #[must_use]
    pub(crate) fn pod_dir(&self, pod: &Uid) -> Option<PathBuf> {
        self.state.pod_dir(&pod.0)
    }

    /// Writes the pod's files and tells how to mount them. Nothing without a state directory.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn pod_files(&self, pod: &Pod) -> std::io::Result<Vec<Bind>> {
        let Some(dir) = self.pod_dir(&pod.uid) else {
            return Ok(Vec::new());
        };
        private_dir(&dir)?;
        let files = podfiles::render(pod, self.address(pod), &self.names);
        let mut binds = Vec::new();
        for (name, target, text) in [
            ("hosts", "/etc/hosts", &files.hosts),
            ("hostname", "/etc/hostname", &files.hostname),
            ("resolv.conf", "/etc/resolv.conf", &files.resolv_conf),
        ] {
            // On the host's network, the host's own names hold.
            if pod.host_network() && name != "resolv.conf" {
                continue;
            }
            let path = dir.join(name);
            // A running container holds the file itself, so it is made once and then left alone.
            if !path.exists() {
                replace_file(&path, text.as_bytes(), 0o644)?;
                use_umask_free_mode(&path)?;
            }
            binds.push(Bind {
                source: path.to_string_lossy().into_owned(),
                target: target.to_owned(),
                read_only: false,
                propagation: None,
            });
        }
        Ok(binds)
    }

    /// The file in which a container leaves its last words.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn termination_file(
        &self,
        pod: &Pod,
        container: &str,
        attempt: u32,
        target: &str,
    ) -> std::io::Result<Option<Bind>> {
        let Some(path) = self.termination_path(&pod.uid, container, attempt) else {
            return Ok(None);
        };
        if let Some(parent) = path.parent() {
            private_dir(parent)?;
        }
        std::fs::write(&path, "")?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        Ok(Some(Bind {
            source: path.to_string_lossy().into_owned(),
            target: target.to_owned(),
            read_only: false,
            propagation: None,
        }))
    }

    #[must_use]
    pub(crate) fn termination_path(&self, pod: &Uid, container: &str, attempt: u32) -> Option<PathBuf> {
        Some(
            self.pod_dir(pod)?
                .join("termination")
                .join(format!("{container}.{attempt}")),
        )
    }

    #[must_use]
    pub(crate) fn owner_labels(&self) -> BTreeMap<String, String> {
        self.owner.get().map(Owner::labels).unwrap_or_default()
    }
}

fn use_umask_free_mode(path: &std::path::Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
}
