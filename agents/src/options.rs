//! How an agent is set up.

use std::{
    collections::BTreeMap,
    net::{IpAddr, UdpSocket},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::pressure::Thresholds;

/// What an agent is told when it starts.
#[derive(Clone, Debug)]
pub struct Options {
    pub node_name: Arc<str>,
    /// Where Docker listens: `unix:///var/run/docker.sock`, a path, or `tcp://…`.
    pub docker: String,
    /// The range of the node's pods, `10.88.0.0/24`.
    pub pod_range: String,
    /// What the agent keeps; nothing outlives the process without one.
    pub state_dir: Option<PathBuf>,
    /// Labels of the node, beside those that every node has.
    pub labels: BTreeMap<String, String>,
    /// Containers created and started at the same time.
    pub concurrent_starts: usize,
    /// A pull without progress for this long has failed.
    pub pull_idle: Duration,
    /// The address under which the node is reached; found by itself where none is given.
    pub host_ip: Option<IpAddr>,
    pub cluster_dns: Option<IpAddr>,
    pub cluster_domain: String,
    /// From where on the node is under pressure.
    pub thresholds: Thresholds,
    /// Names the machine; read from the system where none is given.
    pub machine_id: Option<String>,
}

impl Options {
    /// The defaults for a node on the local Docker.
    #[must_use]
    pub fn new(node_name: &str, pod_range: &str) -> Self {
        Self {
            node_name: node_name.into(),
            docker: "unix:///var/run/docker.sock".to_owned(),
            pod_range: pod_range.to_owned(),
            state_dir: None,
            labels: BTreeMap::new(),
            concurrent_starts: 8,
            pull_idle: Duration::from_secs(60),
            host_ip: None,
            cluster_dns: None,
            cluster_domain: "cluster.local".to_owned(),
            thresholds: Thresholds::default(),
            machine_id: None,
        }
    }
}

/// How many containers are created at a time: a creation keeps a core busy.
pub(crate) fn concurrent_creates() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// The address that this machine uses towards others: that of its default route.
pub(crate) fn host_ip() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // A connected UDP socket sends nothing; it only chooses a route.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

/// The id of this machine, as the system keeps it.
#[must_use]
pub fn machine_id() -> Option<String> {
    ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .find(|text| !text.is_empty())
}

pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// The host's resolver configuration. A stub on a loopback address is of no use to a pod, so the file
/// behind it is read where there is one.
pub(crate) fn host_resolv_conf() -> String {
    let own = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if own.contains("127.0.0.53")
        && let Ok(behind) = std::fs::read_to_string("/run/systemd/resolve/resolv.conf")
    {
        return behind;
    }
    own
}

/// The lowest score for the kernel's choice of whom to kill that may be given to a container. An
/// engine inside a container or a small machine often lacks the capability to go below its own, and
/// then such a container would not start at all. The agent and its engine have the same rights where
/// the agent is root; elsewhere the engine is taken to be a full one.
pub(crate) fn least_oom_score() -> i64 {
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let limited = nix::unistd::geteuid().is_root() && capabilities.is_some_and(|mask| mask & SYS_RESOURCE == 0);
    if limited {
        let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        own.trim().parse().unwrap_or(0)
    } else {
        -1000
    }
}
