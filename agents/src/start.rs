//! Puts an agent together and sets it going.

use std::sync::{Arc, OnceLock, atomic::AtomicU64};

use parking_lot::{Mutex, RwLock};
use schemas::{labels, node::Registration, now::Clock};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    ControlPlane, Docker, Options, Runtime,
    agent::{Agent, Parts},
    connection::{Admission, Link, NodeFace},
    control::Resume,
    environment::Objects,
    host::Host,
    identity,
    image::Images,
    node_status, options,
    podfiles::NameService,
    range::{Pool, Range, RangeError},
    reporter::Reporter,
    runtime::NetworkSpec,
    sampling::Sampler,
    state::{State, StateError},
    watch::{self, NetworkError, Watcher},
};

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Range(#[from] RangeError),
    #[error(transparent)]
    Network(NetworkError),
    #[error("the agent was ended before the server told it who it is")]
    Shutdown,
}

/// A running agent.
#[derive(Debug)]
pub struct Running {
    tasks: JoinSet<()>,
    /// The id of this agent on its Docker engine, as its containers' labels carry it.
    pub node_uid: Arc<str>,
    /// The name of the network of its pods.
    pub network: String,
}

impl Running {
    /// Waits until every task has ended, after the shutdown.
    pub async fn ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Starts an agent on Docker. It runs until `shutdown`; containers stay.
///
/// # Errors
/// When its state directory or its pod range cannot be used. A Docker engine or a server that is away
/// is no error: the agent waits for them.
pub async fn start(
    options: Options,
    control: Arc<dyn ControlPlane>,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> Result<Running, StartError> {
    let runtime = Arc::new(Docker::new(&options.docker));
    start_with(options, runtime, control, clock, shutdown, true).await
}

/// Starts an agent on any runtime: for simulation and tests.
///
/// # Errors
/// As [`start`].
pub async fn start_on(
    options: Options,
    runtime: Arc<dyn Runtime>,
    control: Arc<dyn ControlPlane>,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> Result<Running, StartError> {
    start_with(options, runtime, control, clock, shutdown, false).await
}

async fn start_with(
    options: Options,
    runtime: Arc<dyn Runtime>,
    control: Arc<dyn ControlPlane>,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
    real: bool,
) -> Result<Running, StartError> {
    let range: Range = options.pod_range.parse::<Range>()?.checked()?;
    let boot_id = if real { options::boot_id() } else { String::new() };
    let (state, saved) = State::open(options.state_dir.clone(), &boot_id)?;
    let node_uid = match saved.node_uid.clone() {
        Some(known) => known,
        None => {
            let machine_id = options.machine_id.clone().or_else(options::machine_id);
            let asks = state.dir().is_some().then_some(&*control);
            let found = identity::find(asks, machine_id, &shutdown).await;
            let found = found.ok_or(StartError::Shutdown)?;
            state.save_identity(&found, None)?;
            found
        }
    };
    let short: String = node_uid.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let network = NetworkSpec {
        name: format!("towline-{short}"),
        bridge: format!("tl-{short}"),
        subnet: range.to_string(),
        dynamic: range.dynamic().to_string(),
        gateway: range.gateway(),
        labels: std::iter::once((labels::docker::NODE_UID.to_owned(), node_uid.to_string())).collect(),
    };
    let machine_id = options
        .machine_id
        .clone()
        .or_else(options::machine_id)
        .unwrap_or_else(|| node_uid.to_string());
    let host = Arc::new(Host {
        node_name: options.node_name.clone(),
        runtime,
        clock,
        state,
        owner: OnceLock::new(),
        node_uid: node_uid.clone(),
        network,
        pool: Mutex::new(Pool::new(range)),
        objects: RwLock::new(Objects::new()),
        images: Images::default(),
        image_list: RwLock::new(Vec::new()),
        info: RwLock::new(None),
        host_ip: options.host_ip.or_else(|| real.then(options::host_ip).flatten()),
        machine_id: machine_id.clone(),
        boot_id,
        names: NameService {
            cluster_dns: options.cluster_dns,
            cluster_domain: options.cluster_domain.clone(),
            host_resolv_conf: if real {
                options::host_resolv_conf()
            } else {
                String::new()
            },
        },
        starts: Arc::new(Semaphore::new(options.concurrent_starts.max(1))),
        creates: Arc::new(Semaphore::new(options::concurrent_creates())),
        pull_idle: options.pull_idle,
        checks_routes: real,
        least_oom_score: if real { options::least_oom_score() } else { -1000 },
        thresholds: options.thresholds,
        pressures: RwLock::default(),
        allocatable: RwLock::new((0, 0)),
    });

    // A range that cannot be used is said at once; an engine that is away is waited for.
    let runtime_there = match watch::learn(&host).await {
        Ok(()) => match watch::ensure_network(&host).await {
            Ok(()) => true,
            Err(NetworkError::Runtime(error)) if error.is_unreachable() => false,
            Err(error) => return Err(StartError::Network(error)),
        },
        Err(_) => false,
    };
    let face = Arc::new(NodeFace::default());
    let info = host.info.read().clone();
    face.set_status(node_status::status(&host, info.as_ref(), runtime_there, &[]));

    let (tell, inbox) = mpsc::unbounded_channel();
    let reporter = Arc::new(Reporter::default());
    let lost = Arc::new(Notify::new());
    let owner_known = Arc::new(Notify::new());
    let touches = Arc::new(AtomicU64::new(0));
    let mut agent = Agent::new(Parts {
        host: host.clone(),
        control: control.clone(),
        reporter: reporter.clone(),
        face: face.clone(),
        tell: tell.clone(),
        runtime_lost: lost.clone(),
        owner_known: owner_known.clone(),
        touches: touches.clone(),
        shutdown: shutdown.clone(),
    });
    let resume = saved.head.as_ref().map(|head| Resume {
        at: head.at.clone(),
        whole: !saved.whole,
    });
    agent.restore(saved);

    let admission = Admission::default();
    let link = Arc::new(Link {
        control: control.clone(),
        tell: tell.clone(),
        face,
        registration: registration(&options, &machine_id, &node_uid, info.map(|info| info.architecture)),
        admission: admission.clone(),
        registering: tokio::sync::Mutex::new(()),
        shutdown: shutdown.clone(),
    });
    let sampler = Sampler {
        host: host.clone(),
        control: control.clone(),
        tell: tell.clone(),
        admission: admission.clone(),
        shutdown: shutdown.clone(),
    };
    let watcher = Watcher {
        host: host.clone(),
        tell,
        lost,
        owner_known,
        touches,
        shutdown: shutdown.clone(),
    };
    let mut running = Running {
        tasks: JoinSet::new(),
        node_uid,
        network: host.network.name.clone(),
    };
    running.tasks.spawn(sampler.run());
    Ok(spawn(
        running,
        agent.run(inbox),
        watcher,
        link,
        reporter.run(control, admission, shutdown),
        host,
        resume,
    ))
}

fn spawn(
    mut running: Running,
    agent: impl Future<Output = ()> + Send + 'static,
    watcher: Watcher,
    link: Arc<Link>,
    reports: impl Future<Output = ()> + Send + 'static,
    host: Arc<Host>,
    resume: Option<Resume>,
) -> Running {
    running.tasks.spawn(agent);
    running.tasks.spawn(watcher.run());
    running.tasks.spawn(reports);
    running.tasks.spawn(link.clone().follow(resume));
    running.tasks.spawn(link.clone().beat());
    running.tasks.spawn(link.serve(host));
    running
}

fn registration(options: &Options, machine_id: &str, agent: &Arc<str>, architecture: Option<String>) -> Registration {
    let mut all = options.labels.clone();
    let mut set = |name: &str, value: String| {
        all.entry(name.to_owned()).or_insert(value);
    };
    set(labels::HOSTNAME, options.node_name.to_string());
    set(labels::OS, "linux".to_owned());
    if let Some(architecture) = architecture.filter(|name| !name.is_empty()) {
        set(labels::ARCH, architecture);
    }
    Registration {
        name: options.node_name.clone(),
        machine_id: machine_id.to_owned(),
        agent: agent.clone(),
        labels: all,
        pod_range: options.pod_range.clone(),
        status: serde_json::Value::Null,
    }
}
