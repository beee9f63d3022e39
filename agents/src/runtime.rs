//! The seam to what runs containers: Docker, or a fake in memory.
//!
//! Everything above this trait is the same for both, so that the whole agent can be simulated.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

/// A container's id, as Docker gives it.
pub type ContainerId = Arc<str>;

/// What can go wrong between an agent and its runtime.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The daemon does not answer: nothing is known about any container.
    #[error("the container runtime at {endpoint} cannot be reached: {message}")]
    Unreachable { endpoint: String, message: String },
    #[error("there is no container {0}")]
    NoSuchContainer(String),
    #[error("the image {0:?} is not on this node")]
    NoSuchImage(String),
    /// The name of a container or network is taken.
    #[error("the name {0:?} is in use")]
    NameInUse(String),
    /// The daemon refused, and would refuse again.
    #[error("{0}")]
    Refused(String),
    /// The registry refused or could not be reached.
    #[error("{0}")]
    Pull(String),
    /// A pull made no progress for this long.
    #[error("no progress for {} s while pulling {image}", .idle.as_secs())]
    PullStalled { image: String, idle: Duration },
}

impl RuntimeError {
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// The life of a container, as its runtime tells it.
#[derive(Clone, Debug, PartialEq)]
pub enum Life {
    /// Made, never started.
    Created,
    Running {
        started: Timestamp,
    },
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    pub code: i32,
    pub started: Option<Timestamp>,
    pub finished: Timestamp,
    pub oom_killed: bool,
    /// What the runtime says, for a container that could not be started.
    pub error: Option<Arc<str>>,
}

/// A container as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub id: ContainerId,
    pub name: Arc<str>,
    pub image: Arc<str>,
    pub image_id: Arc<str>,
    pub labels: BTreeMap<String, String>,
    /// The container whose network it was made to share: the runtime keeps it from the creation on.
    pub joins: Option<ContainerId>,
    pub life: Life,
}

/// How a container is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// On the agent's bridge, with its own address.
    Bridge {
        network: String,
        address: Ipv4Addr,
    },
    /// In the network namespace of another container.
    Join(ContainerId),
    Host,
    None,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    pub host_ip: Option<String>,
    pub host_port: u16,
}

/// A directory or file of the host, or a named volume of the runtime, inside a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// An absolute path, or the name of a volume.
    pub source: String,
    pub target: String,
    pub read_only: bool,
    /// `rprivate`, `rslave` or `rshared`.
    pub propagation: Option<&'static str>,
}

/// What to make a container from: complete, neutral to the runtime.
#[derive(Clone, Default, PartialEq)]
pub struct CreateRequest {
    pub name: String,
    pub image: String,
    /// Replaces the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    /// `NAME=value`; may hold secrets, so it is never printed.
    pub env: Vec<String>,
    pub working_dir: Option<String>,
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub hostname: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub network: Option<Network>,
    pub ports: Vec<HostPort>,
    pub binds: Vec<Bind>,
    pub cpu_shares: Option<i64>,
    /// Microseconds in each period of 100 ms.
    pub cpu_quota: Option<i64>,
    /// In bytes; swap is included.
    pub memory: Option<i64>,
    pub oom_score_adj: Option<i64>,
    pub privileged: bool,
    pub read_only_root: bool,
    pub no_new_privileges: bool,
    pub seccomp_unconfined: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub sysctls: BTreeMap<String, String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    pub host_pid: bool,
    /// The process namespace of another container.
    pub pid_of: Option<ContainerId>,
    pub host_ipc: bool,
    pub stop_signal: Option<String>,
}

impl fmt::Debug for CreateRequest {
    /// Without the environment and the command: both can hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateRequest")
            .field("name", &self.name)
            .field("image", &self.image)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

/// An image on the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    /// `sha256:…`
    pub id: Arc<str>,
    pub tags: Vec<String>,
    /// `repository@sha256:…`
    pub digests: Vec<String>,
    pub size: i64,
    /// The user that the image runs as, empty for root.
    pub user: String,
}

/// Who may pull.
#[derive(Clone, Default, PartialEq)]
pub struct Credentials {
    pub username: Option<String>,
    pub password: Option<String>,
    pub identity_token: Option<String>,
    pub server: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.server)
    }
}

/// One sign of progress of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub status: String,
    pub layer: Option<String>,
    pub current: Option<i64>,
    pub total: Option<i64>,
}

/// Something that happened to a container that carries this node's labels, or to the images.
#[derive(Clone, Debug, PartialEq)]
pub enum RuntimeEvent {
    Started {
        id: ContainerId,
        at: Timestamp,
    },
    Died {
        id: ContainerId,
        code: i32,
        at: Timestamp,
    },
    Destroyed {
        id: ContainerId,
    },
    /// Some image came, went or was tagged.
    Images,
}

/// What of a log to read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogRequest {
    pub follow: bool,
    pub timestamps: bool,
    pub since: Option<Timestamp>,
    pub tail: Option<i64>,
}

/// The end of a command in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecResult {
    pub code: i64,
    /// Both streams, cut at some thousand bytes.
    pub output: String,
}

/// The pod network of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    pub name: String,
    /// The name of the bridge device, at most 15 bytes.
    pub bridge: String,
    /// The whole range, `10.88.0.0/24`.
    pub subnet: String,
    /// The corner that the runtime's own allocation keeps to.
    pub dynamic: String,
    pub gateway: Ipv4Addr,
    pub labels: BTreeMap<String, String>,
}

/// A network of the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFound {
    pub name: String,
    pub id: String,
    pub subnets: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// A named volume as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSpec {
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

/// A named volume that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFound {
    /// Where it is on the host.
    pub path: String,
    /// It was made just now.
    pub fresh: bool,
}

/// What the runtime says of itself and its machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeInfo {
    pub version: String,
    pub api_version: String,
    pub kernel: String,
    pub os_image: String,
    /// As in Go: `amd64`, `arm64`.
    pub architecture: String,
    pub cpus: i64,
    /// In bytes.
    pub memory: i64,
    pub live_restore: bool,
    /// The directory of the runtime's data.
    pub root: String,
}

/// What a container or a machine used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of CPU since it began.
    pub cpu: u64,
    /// Bytes of memory that cannot be taken back without harm: all but page cache that was not used for a
    /// while.
    pub memory: u64,
}

/// Room in a file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub bytes: u64,
    pub bytes_free: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// Processes and threads of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pids {
    pub used: u64,
    pub most: u64,
}

/// The machine that containers run on, as far as it can be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub usage: Option<Usage>,
    /// Bytes.
    pub memory_available: Option<u64>,
    /// Where the agent keeps the pods' volumes.
    pub node_space: Option<Space>,
    /// Where images are.
    pub image_space: Option<Space>,
    pub pids: Option<Pids>,
}

/// What runs containers. Each operation is idempotent as far as its name allows.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Every container, running or not, that carries all of `labels`.
    async fn list(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Found>, RuntimeError>;
    async fn inspect(&self, id: &str) -> Result<Found, RuntimeError>;
    async fn create(&self, request: &CreateRequest) -> Result<ContainerId, RuntimeError>;
    async fn start(&self, id: &str) -> Result<(), RuntimeError>;
    /// Sends the container's stop signal, and KILL after `grace`. Returns when it has ended; a
    /// container that does not run is no error.
    async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError>;
    /// Removes a container and its anonymous volumes. One that is not there is no error.
    async fn remove(&self, id: &str, force: bool) -> Result<(), RuntimeError>;
    async fn exec(&self, id: &str, command: &[String], limit: Duration) -> Result<ExecResult, RuntimeError>;

    /// The image of this reference, if it is on the node.
    async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError>;
    async fn images(&self) -> Result<Vec<Image>, RuntimeError>;
    /// Pulls, telling its progress. There is no limit on the whole, only `idle` without progress.
    async fn pull(
        &self,
        reference: &str,
        credentials: Option<Credentials>,
        idle: Duration,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), RuntimeError>;
    /// Makes an image of one layer from a tar archive.
    async fn import(&self, reference: &str, tar: Bytes, changes: &[String]) -> Result<(), RuntimeError>;

    /// Events from now on. The stream ends when the runtime goes away.
    async fn events(&self, labels: &BTreeMap<String, String>)
    -> Result<BoxStream<'static, RuntimeEvent>, RuntimeError>;
    async fn logs(
        &self,
        id: &str,
        request: &LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, RuntimeError>>, RuntimeError>;

    async fn networks(&self) -> Result<Vec<NetworkFound>, RuntimeError>;
    async fn create_network(&self, spec: &NetworkSpec) -> Result<(), RuntimeError>;
    async fn remove_network(&self, name: &str) -> Result<(), RuntimeError>;
    /// Makes a named volume, if it is not there. One that is there without these labels is refused.
    async fn ensure_volume(&self, spec: &VolumeSpec) -> Result<VolumeFound, RuntimeError>;
    /// Removes a named volume with all that is in it, if it has these labels. One that is not there is
    /// no error; one that a container uses is.
    async fn remove_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<(), RuntimeError>;
    async fn info(&self) -> Result<RuntimeInfo, RuntimeError>;

    /// What each of these containers used so far, in their order; none for one of which nothing is known.
    async fn usage(&self, ids: &[ContainerId]) -> Result<Vec<Option<Usage>>, RuntimeError>;
    /// The machine; `data` is where the agent keeps the pods' volumes.
    async fn machine(&self, data: Option<&Path>) -> Result<Machine, RuntimeError>;
}
