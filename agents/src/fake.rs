//! A runtime in memory: deterministic, with faults on request. Thousands fit in one process.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use parking_lot::Mutex;
use schemas::now::Clock;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::runtime::{
    ContainerId, CreateRequest, Credentials, ExecResult, Exit, Found, Image, Life, LogRequest, Network, NetworkFound,
    NetworkSpec, Progress, Runtime, RuntimeError, RuntimeEvent, RuntimeInfo,
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

/// A runtime in memory.
pub struct FakeRuntime {
    options: FakeOptions,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    this: Weak<Self>,
}

/// A container, its labels packed into one text: thousands of nodes of these fit in a process.
struct Made {
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
        found.labels = BTreeMap::new();
        Self {
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
    listeners: Vec<mpsc::UnboundedSender<RuntimeEvent>>,
    away: bool,
    faults: VecDeque<(Op, RuntimeError)>,
    counts: HashMap<&'static str, u64>,
    execs: VecDeque<ExecResult>,
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
        state.tell(RuntimeEvent::Died {
            id: id.into(),
            code,
            at: now,
        });
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

async fn take(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn carries(found: &Found, labels: &BTreeMap<String, String>) -> bool {
    labels.iter().all(|(name, value)| found.labels.get(name) == Some(value))
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn list(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Found>, RuntimeError> {
        let state = self.enter(Some(Op::List))?;
        Ok(state
            .containers
            .values()
            .map(Made::show)
            .filter(|found| carries(found, labels))
            .collect())
    }

    async fn inspect(&self, id: &str) -> Result<Found, RuntimeError> {
        let state = self.enter(None)?;
        let found = state
            .containers
            .values()
            .find(|made| *made.found.id == *id || *made.found.name == *id);
        found
            .map(Made::show)
            .ok_or_else(|| RuntimeError::NoSuchContainer(id.to_owned()))
    }

    async fn create(&self, request: &CreateRequest) -> Result<ContainerId, RuntimeError> {
        take(self.options.create).await;
        let mut state = self.enter(Some(Op::Create))?;
        state.counted("create");
        if state.containers.values().any(|made| *made.found.name == *request.name) {
            return Err(RuntimeError::NameInUse(request.name.clone()));
        }
        if !self.options.all_images && !state.images.contains_key(&request.image) {
            return Err(RuntimeError::NoSuchImage(request.image.clone()));
        }
        state.next += 1;
        let id: ContainerId = format!("fake{:08}", state.next).into();
        if state.keep_requests {
            state.requests.insert(id.clone(), request.clone());
        }
        state.containers.insert(
            id.clone(),
            Made::new(Found {
                id: id.clone(),
                name: request.name.as_str().into(),
                image: request.image.as_str().into(),
                image_id: format!("sha256:{}", request.image).into(),
                labels: request.labels.clone(),
                joins: match &request.network {
                    Some(Network::Join(infra)) => Some(infra.clone()),
                    _ => None,
                },
                life: Life::Created,
            }),
        );
        Ok(id)
    }

    async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        take(self.options.start).await;
        let now = self.clock.now().wall;
        let mut state = self.enter(Some(Op::Start))?;
        state.counted("start");
        let Some(container) = state.containers.get_mut(id) else {
            return Err(RuntimeError::NoSuchContainer(id.to_owned()));
        };
        container.found.life = Life::Running { started: now };
        let image = container.found.image.to_string();
        state.tell(RuntimeEvent::Started { id: id.into(), at: now });
        if let Some(Behaviour::Ends { after, code }) = state.behaviours.get(&image).copied() {
            let this = self.this.clone();
            let id = id.to_owned();
            drop(state);
            tokio::spawn(async move {
                take(after).await;
                if let Some(this) = this.upgrade() {
                    this.exit(&id, code, false);
                }
            });
        }
        Ok(())
    }

    async fn stop(&self, id: &str, _grace: Duration) -> Result<(), RuntimeError> {
        take(self.options.stop).await;
        let running = {
            let mut state = self.enter(Some(Op::Stop))?;
            state.counted("stop");
            state
                .containers
                .get(id)
                .is_some_and(|made| matches!(made.found.life, Life::Running { .. }))
        };
        if running {
            self.exit(id, 143, false);
        }
        Ok(())
    }

    async fn remove(&self, id: &str, _force: bool) -> Result<(), RuntimeError> {
        let mut state = self.enter(Some(Op::Remove))?;
        state.counted("remove");
        state.requests.remove(id);
        if state.containers.remove(id).is_some() {
            state.tell(RuntimeEvent::Destroyed { id: id.into() });
        }
        Ok(())
    }

    async fn exec(&self, _id: &str, _command: &[String], _limit: Duration) -> Result<ExecResult, RuntimeError> {
        let mut state = self.enter(Some(Op::Exec))?;
        Ok(state.execs.pop_front().unwrap_or(ExecResult {
            code: 0,
            output: String::new(),
        }))
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        let state = self.enter(None)?;
        Ok(match state.images.get(reference) {
            Some(image) => Some(image.clone()),
            None => self.options.all_images.then(|| image(reference)),
        })
    }

    async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        Ok(self.enter(None)?.images.values().cloned().collect())
    }

    async fn pull(
        &self,
        reference: &str,
        _credentials: Option<Credentials>,
        _idle: Duration,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        let mut state = self.enter(Some(Op::Pull))?;
        state.counted("pull");
        progress(Progress {
            status: "Pulling".to_owned(),
            layer: None,
            current: None,
            total: None,
        });
        match state.pullable.get(reference).cloned() {
            Some(image) => {
                state.images.insert(reference.to_owned(), image);
                state.tell(RuntimeEvent::Images);
                Ok(())
            }
            None if self.options.all_images => Ok(()),
            None => Err(RuntimeError::Pull(format!("manifest for {reference} not found"))),
        }
    }

    async fn import(&self, reference: &str, _tar: Bytes, _changes: &[String]) -> Result<(), RuntimeError> {
        let mut state = self.enter(None)?;
        let image = image(reference);
        state.images.insert(reference.to_owned(), image);
        Ok(())
    }

    async fn events(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> Result<BoxStream<'static, RuntimeEvent>, RuntimeError> {
        let mut state = self.enter(None)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        state.listeners.push(sender);
        // Events carry only ids; whoever listens knows its own.
        let _ = labels;
        Ok(UnboundedReceiverStream::new(receiver).boxed())
    }

    async fn logs(
        &self,
        id: &str,
        request: &LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, RuntimeError>>, RuntimeError> {
        let state = self.enter(None)?;
        let made = state
            .containers
            .get(id)
            .ok_or_else(|| RuntimeError::NoSuchContainer(id.to_owned()))?;
        let lines: Vec<_> = (1..=3)
            .map(|line| Ok(Bytes::from(format!("{} line {line}\n", made.found.name))))
            .collect();
        let skip = request
            .tail
            .map_or(0, |tail| lines.len().saturating_sub(usize::try_from(tail).unwrap_or(0)));
        Ok(stream::iter(lines).skip(skip).boxed())
    }

    async fn networks(&self) -> Result<Vec<NetworkFound>, RuntimeError> {
        Ok(self.enter(None)?.networks.clone())
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<(), RuntimeError> {
        self.enter(None)?.networks.push(NetworkFound {
            name: spec.name.clone(),
            id: spec.name.clone(),
            subnets: vec![spec.subnet.clone()],
            labels: spec.labels.clone(),
        });
        Ok(())
    }

    async fn remove_network(&self, name: &str) -> Result<(), RuntimeError> {
        self.enter(None)?.networks.retain(|network| network.name != name);
        Ok(())
    }

    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        drop(self.enter(None)?);
        Ok(RuntimeInfo {
            version: "0.0.0-fake".to_owned(),
            api_version: "1.41".to_owned(),
            kernel: "fake".to_owned(),
            os_image: "fake".to_owned(),
            architecture: "amd64".to_owned(),
            cpus: self.options.cpus,
            memory: self.options.memory,
            live_restore: true,
            root: String::new(),
        })
    }
}
