//! A runtime in memory: deterministic, with faults on request. Thousands fit in one process.

mod operations;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::Ipv4Addr,
    sync::{Arc, Weak},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use schemas::{labels::docker as label, now::Clock};
use tokio::sync::mpsc;

use crate::runtime::{
    ContainerId, CreateRequest, ExecResult, Exit, Found, Image, Life, Machine, NetworkFound, RuntimeError,
    RuntimeEvent, Usage,
};

/// The operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    List,
    Create,
    Start,
    Stop,
    Remove,
    Exec,
    Pull,
    Unpause,
    Connect,
}

/// What a container of an image does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Runs until it is stopped.
    #[default]
    Runs,
    /// Ends by itself.
    Ends { after: Duration, code: i32 },
}

/// How long operations take, and how large the machine is.
#[derive(Clone, Debug)]
pub struct FakeOptions {
    pub create: Duration,
    pub start: Duration,
    pub stop: Duration,
    pub cpus: i64,
    pub memory: i64,
    /// Every image is on the node already. If not, only those that were added.
    pub all_images: bool,
}

impl Default for FakeOptions {
    fn default() -> Self {
        Self {
            create: Duration::ZERO,
            start: Duration::ZERO,
            stop: Duration::ZERO,
            cpus: 16,
            memory: 64 << 30,
            all_images: true,
        }
    }
}

/// What each container of an image uses.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    /// CPU in thousandths of a core, since when (monotonic), and what it was before.
    milli: u64,
    since: Duration,
    before: u64,
    memory: u64,
}

impl Load {
    /// The load that follows this one.
    fn next(self, milli: u64, memory: u64, now: Duration) -> Self {
        Self {
            milli,
            since: now,
            before: self.usage(now).cpu,
            memory,
        }
    }

    fn usage(self, now: Duration) -> Usage {
        let nanos = u64::try_from(now.saturating_sub(self.since).as_nanos()).unwrap_or(u64::MAX);
        Usage {
            cpu: self.before + nanos.saturating_mul(self.milli) / 1000,
            memory: self.memory,
        }
    }
}

/// A runtime in memory.
pub struct FakeRuntime {
    options: FakeOptions,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    this: Weak<Self>,
}

/// A container, its labels packed into one text: thousands of nodes of these fit in a process.
struct Made {
    /// Its own address while it runs.
    address: Option<Ipv4Addr>,
    /// Without its labels.
    found: Box<Found>,
    /// `name=value`, a line each.
    labels: Box<str>,
}

impl Made {
    fn new(mut found: Found) -> Self {
        let lines: Vec<String> = found
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let address = found.labels.get(label::ADDRESS).and_then(|text| text.parse().ok());
        found.labels = BTreeMap::new();
        Self {
            address,
            found: Box::new(found),
            labels: lines.join("\n").into(),
        }
    }

    fn show(&self) -> Found {
        let pairs = self.labels.lines().filter_map(|line| line.split_once('='));
        Found {
            labels: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            ..Found::clone(&self.found)
        }
    }
}

#[derive(Default)]
struct State {
    next: u64,
    containers: BTreeMap<ContainerId, Made>,
    requests: HashMap<ContainerId, CreateRequest>,
    keep_requests: bool,
    images: BTreeMap<String, Image>,
    pullable: BTreeMap<String, Image>,
    behaviours: HashMap<String, Behaviour>,
    networks: Vec<NetworkFound>,
    volumes: BTreeMap<String, BTreeMap<String, String>>,
    listeners: Vec<mpsc::UnboundedSender<RuntimeEvent>>,
    away: bool,
    faults: VecDeque<(Op, RuntimeError)>,
    counts: HashMap<&'static str, u64>,
    execs: VecDeque<ExecResult>,
    loads: HashMap<String, Load>,
    /// The node's own load, and what else is to be seen of it.
    node_load: Load,
    machine: Option<Machine>,
}

impl FakeRuntime {
    #[must_use]
    pub fn new(options: FakeOptions, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            options,
            clock,
            state: Mutex::new(State::default()),
            this: this.clone(),
        })
    }

    /// The next `op` fails so.
    pub fn fail_next(&self, op: Op, error: RuntimeError) {
        self.state.lock().faults.push_back((op, error));
    }

    /// The next command in a container ends so; without one, commands end with 0.
    pub fn next_exec(&self, result: ExecResult) {
        self.state.lock().execs.push_back(result);
    }

    /// The engine goes away or comes back. Its containers go on, as with live-restore.
    pub fn set_away(&self, away: bool) {
        let mut state = self.state.lock();
        state.away = away;
        if away {
            state.listeners.clear();
        }
    }

    /// The engine stops with all its containers, as without live-restore, and stays away.
    pub fn stop_engine(&self) {
        let now = self.clock.now().wall;
        let mut state = self.state.lock();
        for container in state.containers.values_mut() {
            if let Life::Running { started } = container.found.life {
                container.found.life = Life::Exited(Exit {
                    code: 137,
                    started: Some(started),
                    finished: now,
                    oom_killed: false,
                    error: None,
                });
                container.found.paused = false;
                container.found.addresses = Vec::new();
            }
        }
        state.away = true;
        state.listeners.clear();
    }

    pub fn add_image(&self, reference: &str) {
        let mut state = self.state.lock();
        let image = image(reference);
        state.images.insert(reference.to_owned(), image);
    }

    /// A registry has this image.
    pub fn add_to_registry(&self, reference: &str) {
        self.state
            .lock()
            .pullable
            .insert(reference.to_owned(), image(reference));
    }

    pub fn set_behaviour(&self, reference: &str, behaviour: Behaviour) {
        self.state.lock().behaviours.insert(reference.to_owned(), behaviour);
    }

    /// Every container of an image uses this much from now on: CPU in thousandths of a core, memory in
    /// bytes.
    pub fn set_load(&self, reference: &str, milli: u64, memory: u64) {
        let now = self.clock.now().monotonic;
        let mut state = self.state.lock();
        let load = state.loads.entry(reference.to_owned()).or_default();
        *load = load.next(milli, memory, now);
    }

    /// The node as a whole uses this much from now on.
    pub fn set_node_load(&self, milli: u64, memory: u64) {
        let now = self.clock.now().monotonic;
        let mut state = self.state.lock();
        state.node_load = state.node_load.next(milli, memory, now);
    }

    /// The machine looks so from now on, but for what it uses; without this it has room for everything.
    pub fn set_machine(&self, machine: Machine) {
        self.state.lock().machine = Some(machine);
    }

    /// Keeps the requests that containers were made from, for [`FakeRuntime::request`].
    pub fn keep_requests(&self) {
        self.state.lock().keep_requests = true;
    }

    #[must_use]
    pub fn request(&self, id: &str) -> Option<CreateRequest> {
        self.state.lock().requests.get(id).cloned()
    }

    #[must_use]
    pub fn containers(&self) -> Vec<Found> {
        self.state.lock().containers.values().map(Made::show).collect()
    }

    /// How often an operation was asked for: `create`, `start`, `stop`, `remove`, `pull`.
    #[must_use]
    pub fn count(&self, op: &'static str) -> u64 {
        self.state.lock().counts.get(op).copied().unwrap_or(0)
    }

    /// A container that is not this agent's.
    pub fn put(&self, found: Found) {
        self.state.lock().containers.insert(found.id.clone(), Made::new(found));
    }

    /// A running container ends by itself.
    pub fn exit(&self, id: &str, code: i32, oom_killed: bool) {
        let now = self.clock.now().wall;
        let mut state = self.state.lock();
        let Some(container) = state.containers.get_mut(id) else {
            return;
        };
        let Life::Running { started } = container.found.life else {
            return;
        };
        container.found.life = Life::Exited(Exit {
            code,
            started: Some(started),
            finished: now,
            oom_killed,
            error: None,
        });
        container.found.paused = false;
        container.found.addresses = Vec::new();
        state.tell(RuntimeEvent::Died {
            id: id.into(),
            code,
            at: now,
        });
    }

    /// The named volumes that are there.
    #[must_use]
    pub fn volumes(&self) -> Vec<String> {
        self.state.lock().volumes.keys().cloned().collect()
    }

    /// Somebody removes a named volume by hand.
    pub fn lose_volume(&self, name: &str) {
        self.state.lock().volumes.remove(name);
    }

    /// Somebody pauses a running container by hand.
    pub fn pause(&self, id: &str) {
        self.change(id, |made| made.found.paused = true);
    }

    /// Somebody cuts a running container off from its network by hand.
    pub fn disconnect(&self, id: &str) {
        self.change(id, |made| made.found.addresses = Vec::new());
    }

    /// Somebody starts a container by hand.
    ///
    /// # Errors
    /// When its address is another one's meanwhile.
    pub fn start_by_hand(&self, id: &str) -> Result<(), RuntimeError> {
        let now = self.clock.now().wall;
        let mut state = self.state.lock();
        state.run(id, now)
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Made)) {
        let mut state = self.state.lock();
        if let Some(made) = state.containers.get_mut(id) {
            change(made);
            state.tell(RuntimeEvent::Changed { id: id.into() });
        }
    }

    /// Somebody removes a container by hand.
    pub fn lose(&self, id: &str) {
        self.exit(id, 137, false);
        let mut state = self.state.lock();
        if state.containers.remove(id).is_some() {
            state.tell(RuntimeEvent::Destroyed { id: id.into() });
        }
    }

    fn enter(&self, op: Option<Op>) -> Result<parking_lot::MutexGuard<'_, State>, RuntimeError> {
        let mut state = self.state.lock();
        if state.away {
            return Err(RuntimeError::Unreachable {
                endpoint: "fake".to_owned(),
                message: "the engine is away".to_owned(),
            });
        }
        if let Some(op) = op
            && let Some(at) = state.faults.iter().position(|(of, _)| *of == op)
            && let Some((_, error)) = state.faults.remove(at)
        {
            return Err(error);
        }
        Ok(state)
    }
}

impl State {
    fn tell(&mut self, event: RuntimeEvent) {
        self.listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }

    /// Sets a container running.
    fn run(&mut self, id: &str, now: Timestamp) -> Result<(), RuntimeError> {
        let Some(made) = self.containers.get(id) else {
            return Err(RuntimeError::NoSuchContainer(id.to_owned()));
        };
        let address = made.address;
        let held = |made: &Made| {
            made.address
                .is_some_and(|held| address == Some(held) && made.found.addresses == [held])
        };
        if self.containers.iter().any(|(other, made)| **other != *id && held(made)) {
            return Err(RuntimeError::Refused("Address already in use".to_owned()));
        }
        if let Some(made) = self.containers.get_mut(id) {
            made.found.life = Life::Running { started: now };
            made.found.addresses = address.into_iter().collect();
        }
        self.tell(RuntimeEvent::Started { id: id.into(), at: now });
        Ok(())
    }

    fn counted(&mut self, op: &'static str) {
        *self.counts.entry(op).or_default() += 1;
    }
}

fn image(reference: &str) -> Image {
    Image {
        id: format!("sha256:{reference}").into(),
        tags: vec![reference.to_owned()],
        digests: Vec::new(),
        size: 1 << 20,
        user: String::new(),
    }
}
