//! One run: a server with its nodes, what git declares, and the end of it all.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use agents::fake::{Behaviour, FakeOptions, FakeRuntime};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use schemas::{Commit, ContentHash, Key, Kind, Now, Object, Unit, labels, now::Clock, report::Outcome as Rollout};
use serde_json::{Value, json};
use store::{Class, DesiredRow, MemoryLog, Op, RevisionWrite, Store, UnitAt, Write};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    control::{NodeControl, Plane},
    faults,
    invariants::{Bounds, Watcher},
    trace::{Trace, Traced},
};

const NODES: usize = 3;
/// How long everything may take to come right once faults have ceased.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) hash: u64,
    pub(crate) steps: usize,
    pub(crate) lines: Vec<String>,
    pub(crate) broken: Vec<String>,
    pub(crate) faults: Vec<String>,
}

/// Time that passes only when nobody has anything to do; its wall can be set.
pub(crate) struct Time {
    start: Instant,
    pub(crate) ahead: AtomicI64,
}

impl Clock for Time {
    fn now(&self) -> Now {
        let elapsed = self.start.elapsed();
        let wall = jiff::Timestamp::from_second(1_795_000_000 + self.ahead.load(Ordering::SeqCst)).expect("a time");
        Now {
            wall: wall + elapsed,
            monotonic: Duration::from_secs(100_000) + elapsed,
        }
    }
}

/// A node: its containers outlive its agent.
pub(crate) struct Node {
    pub(crate) control: Arc<NodeControl>,
    pub(crate) runtime: Arc<FakeRuntime>,
    state: tempfile::TempDir,
    agent: Option<(agents::Running, CancellationToken)>,
}

/// The running server.
struct Server {
    store: Store,
    log: Arc<Traced>,
    driver: JoinHandle<()>,
    over: CancellationToken,
}

/// What the repository declares.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) replicas: usize,
    pub(crate) image: u32,
    pub(crate) members: usize,
    pub(crate) jobs: usize,
    pub(crate) maps: usize,
}

pub(crate) struct World {
    pub(crate) rng: StdRng,
    pub(crate) rough: bool,
    pub(crate) time: Arc<Time>,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) declared: Declared,
    pub(crate) faults: Vec<String>,
    plane: Arc<Plane>,
    trace: Arc<Mutex<Trace>>,
    pub(crate) watcher: Arc<Mutex<Watcher>>,
    server: Option<Server>,
    seed: u64,
    lives: u64,
    commits: u64,
    acknowledged: u64,
}

/// Runs everything that a seed says.
pub(crate) async fn run(seed: u64) -> Outcome {
    agents::chance::fix(seed);
    let mut world = World::new(seed).await;
    let turns = world.rng.random_range(20..50);
    for _ in 0..turns {
        let pause = world.pause();
        world.pass(pause).await;
        faults::one(&mut world).await;
        world.look();
        if world.wrong().is_empty() {
            let bounds = world.bounds();
            world.watcher.lock().bounds.insert("web".into(), bounds);
        }
    }
    faults::cease(&mut world).await;
    world.comes_right().await;
    let mut broken = std::mem::take(&mut world.watcher.lock().broken);
    broken.dedup();
    broken.truncate(5);
    let mut trace = world.trace.lock();
    Outcome {
        hash: trace.hash(),
        steps: trace.lines.len(),
        lines: std::mem::take(&mut trace.lines),
        broken,
        faults: std::mem::take(&mut world.faults),
    }
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let rough = rng.random();
        let time = Arc::new(Time {
            start: Instant::now(),
            ahead: AtomicI64::new(0),
        });
        let watcher = Watcher::new(rough);
        let mut world = Self {
            rng,
            rough,
            time,
            log: Arc::default(),
            nodes: Vec::new(),
            declared: Declared {
                replicas: 4,
                image: 1,
                members: 2,
                jobs: 1,
                maps: 10,
            },
            faults: Vec::new(),
            plane: Arc::default(),
            trace: Arc::default(),
            watcher: Arc::new(Mutex::new(watcher)),
            server: None,
            seed,
            lives: 0,
            commits: 0,
            acknowledged: 0,
        };
        world.start_server().await;
        for number in 0..NODES {
            world.add_node(number).await;
        }
        world.bystander().await;
        world.declare().await;
        world
    }

    /// Something that nobody declares and nobody owns.
    async fn bystander(&self) {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "bystander", "namespace": "shop", "uid": "bystander", "labels": {"app": "web"}}});
        let map = Object::from_value(map).expect("it is valid");
        self.watcher.lock().bystanders.insert(map.key());
        let store = &self.server.as_ref().expect("it runs").store;
        let written = store.write_one(Class::User, Write::new(Op::Create(map))).await;
        written.expect("it is new");
    }

    fn pause(&mut self) -> Duration {
        let most = match self.rng.random_range(0..10) {
            0..6 => 1_500,
            6..9 => 15_000,
            _ if self.rough => 500_000,
            _ => 60_000,
        };
        Duration::from_millis(self.rng.random_range(1..most))
    }

    /// Lets time pass; a server that dies meanwhile is started again a little later.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let Some(server) = &self.server else {
                let pause = Duration::from_millis(self.rng.random_range(1..3_000));
                tokio::time::sleep(pause).await;
                self.start_server().await;
                continue;
            };
            let log = server.log.clone();
            tokio::select! {
                biased;
                () = log.died.notified() => self.kill_server(),
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    pub(crate) async fn start_server(&mut self) {
        self.lives += 1;
        let log = Arc::new(Traced {
            log: self.log.clone(),
            trace: self.trace.clone(),
            watcher: self.watcher.clone(),
            dead: AtomicBool::new(false),
            dies_after: Mutex::new(None),
            died: tokio::sync::Notify::new(),
        });
        let options = store::Options {
            clock: self.time.clone(),
            ..store::Options::default()
        };
        let store = Store::open_with(log.clone(), options).await.expect("memory opens");
        let recorded = store.desired().revision;
        if recorded < self.acknowledged {
            let lost = format!(
                "revision {} was acknowledged and {recorded} is there",
                self.acknowledged
            );
            self.watcher.lock().broken.push(lost);
        }
        let options = reconciler::Options {
            seed: self.seed.wrapping_mul(1_000_003).wrapping_add(self.lives),
            ..reconciler::Options::default()
        };
        let over = CancellationToken::new();
        let driver = reconciler::start(store.clone(), self.time.clone(), over.clone(), options).await;
        *self.plane.life.lock() = Some((store.clone(), self.lives, over.clone()));
        self.server = Some(Server {
            store,
            log,
            driver,
            over,
        });
    }

    /// As `kill -9` does it: what waits for an answer gets none.
    pub(crate) fn kill_server(&mut self) {
        if let Some(server) = self.server.take() {
            server.log.dead.store(true, Ordering::SeqCst);
            server.driver.abort();
            server.over.cancel();
            *self.plane.life.lock() = None;
        }
    }

    /// The server dies after so many more commits.
    pub(crate) fn doom_server(&self, after: u32) {
        if let Some(server) = &self.server {
            *server.log.dies_after.lock() = Some(after);
        }
    }

    async fn add_node(&mut self, number: usize) {
        let control = Arc::new(NodeControl {
            node: format!("node-{number}").into(),
            plane: self.plane.clone(),
            clock: self.time.clone(),
            cut: AtomicBool::new(false),
            streams: Mutex::default(),
            repeats: AtomicBool::new(false),
            loses: AtomicBool::new(false),
        });
        let options = FakeOptions {
            create: Duration::from_millis(120),
            start: Duration::from_millis(80),
            stop: Duration::from_millis(300),
            ..FakeOptions::default()
        };
        let runtime = FakeRuntime::new(options, self.time.clone());
        let ends = Behaviour::Ends {
            after: Duration::from_secs(5),
            code: 0,
        };
        runtime.set_behaviour("work:1", ends);
        self.nodes.push(Node {
            control,
            runtime,
            state: tempfile::tempdir().expect("a folder"),
            agent: None,
        });
        self.start_agent(number).await;
    }

    async fn start_agent(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let mut options = agents::Options::new(&node.control.node, &format!("10.77.{number}.0/24"));
        options.state_dir = Some(node.state.path().to_owned());
        options.machine_id = Some(format!("machine-{number}"));
        let shutdown = CancellationToken::new();
        let started = agents::start_on(
            options,
            node.runtime.clone(),
            node.control.clone(),
            self.time.clone(),
            shutdown.clone(),
        );
        node.agent = Some((started.await.expect("it starts"), shutdown));
    }

    pub(crate) async fn restart_agent(&mut self, number: usize) {
        if let Some((running, shutdown)) = self.nodes[number].agent.take() {
            shutdown.cancel();
            running.ended().await;
        }
        self.start_agent(number).await;
    }

    fn manifests(&self) -> Vec<Value> {
        let Declared {
            replicas,
            image,
            members,
            jobs,
            maps,
        } = self.declared;
        let template = |app: &str, image: String| json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "main", "image": image}]}});
        let of = |kind: &str, name: &str, spec: Value| {
            json!({"apiVersion": if kind == "Job" { "batch/v1" } else { "apps/v1" }, "kind": kind,
                "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
        };
        let mut all = vec![
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
            of(
                "Deployment",
                "web",
                json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": template("web", format!("web:{image}"))}),
            ),
            of(
                "StatefulSet",
                "db",
                json!({"replicas": members, "serviceName": "db",
                "selector": {"matchLabels": {"app": "db"}}, "template": template("db", "db:1".to_owned())}),
            ),
        ];
        for number in 0..jobs {
            all.push(of(
                "Job",
                &format!("work-{number}"),
                json!({"completions": 3, "parallelism": 2,
                "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "work:1"}]}}}),
            ));
        }
        for number in 0..maps {
            all.push(json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": format!("map-{number}"), "namespace": "conf"}, "data": {"a": "b"}}));
        }
        all
    }

    /// Records a revision that declares what is declared now; tells whether it was acknowledged.
    pub(crate) async fn declare(&mut self) -> bool {
        self.bound();
        let Some(store) = self.server.as_ref().map(|server| server.store.clone()) else {
            return false;
        };
        self.commits += 1;
        let commit = Commit(format!("{:040x}", self.commits).into());
        let old = store.desired();
        let mut units = BTreeMap::new();
        let mut rows = BTreeMap::new();
        for object in self.manifests() {
            let kind: Kind = object["kind"].as_str().expect("a kind").parse().expect("a known one");
            let name = object["metadata"]["name"].as_str().expect("a name");
            let key = match object["metadata"]["namespace"].as_str() {
                Some(namespace) => Key::namespaced(kind, namespace, name),
                None => Key::cluster(kind, name),
            };
            let unit = Unit::of(&key);
            let at = UnitAt {
                commit: commit.clone(),
                held: None,
                may_delete: true,
            };
            units.insert(unit.clone(), at);
            let row = DesiredRow {
                unit,
                hash: ContentHash::of(&object),
                content: Arc::new(object),
                file: "all.yaml".into(),
                line: 1,
                commit: commit.clone(),
                key: key.clone(),
            };
            rows.insert(key, row);
        }
        let drop = old.rows.keys().filter(|key| !rows.contains_key(key)).cloned().collect();
        let news = |row: &DesiredRow| old.rows.get(&row.key).is_none_or(|old| old.hash != row.hash);
        let write = RevisionWrite {
            base: old.revision,
            commit,
            author: "a".to_owned(),
            subject: "s".to_owned(),
            at: self.time.now().wall,
            units,
            put: rows.into_values().filter(news).collect(),
            drop,
            problems: Vec::new(),
            confirm_trailer: None,
            source_error: None,
        };
        match tokio::time::timeout(Duration::from_secs(30), store.record(write)).await {
            Ok(Ok(desired)) => {
                self.acknowledged = desired.revision;
                true
            }
            _ => false,
        }
    }

    /// Lets the bounds of the Deployment take in what is declared now as well. Who scales a rollout that is
    /// under way may lose ready pods by that, so then the lower bound waits until all stands still.
    fn bound(&self) {
        let now = self.bounds();
        let mut watcher = self.watcher.lock();
        let bounds = watcher.bounds.entry("web".into()).or_insert(now);
        bounds.least = if bounds.replicas == now.replicas {
            bounds.least.min(now.least)
        } else {
            0
        };
        bounds.most = bounds.most.max(now.most);
    }

    fn bounds(&self) -> Bounds {
        let replicas = self.declared.replicas;
        Bounds {
            replicas,
            least: replicas - replicas / 4,
            most: replicas + replicas.div_ceil(4),
            reached: false,
        }
    }

    /// Looks at what runs on the nodes.
    pub(crate) fn look(&self) {
        let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut broken = Vec::new();
        for node in &self.nodes {
            let mut seen = BTreeMap::new();
            for found in node.runtime.containers() {
                if !matches!(found.life, agents::runtime::Life::Running { .. }) {
                    continue;
                }
                let label = |name: &str| found.labels.get(name).cloned().unwrap_or_default();
                let (uid, container) = (label(labels::docker::POD_UID), label(labels::docker::CONTAINER));
                *seen.entry((uid.clone(), container)).or_insert(0) += 1;
                let name = label(labels::docker::POD_NAME);
                if name.starts_with("db-") {
                    members
                        .entry(name)
                        .or_default()
                        .push(format!("{uid} on {}", node.control.node));
                }
            }
            for (what, times) in seen.iter().filter(|(_, times)| **times > 1) {
                broken.push(format!("{what:?} runs {times} times on {}", node.control.node));
            }
        }
        for (name, places) in members.into_iter().filter(|(_, places)| places.len() > 1) {
            broken.push(format!("{name} runs more than once: {places:?}"));
        }
        self.watcher.lock().broken.extend(broken);
    }

    /// Waits until all is as declared; what is not is broken.
    async fn comes_right(&mut self) {
        let mut declared = false;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if !declared {
                declared = self.declare().await;
            }
            self.pass(Duration::from_secs(10)).await;
            self.look();
            if declared && self.wrong().is_empty() {
                return;
            }
        }
        let wrong = self.wrong();
        self.watcher.lock().broken.extend(wrong);
    }

    /// What is there: for whoever looks into a seed that fails.
    fn found(&self, store: &Store) -> Vec<String> {
        let pods = store.list(Kind::Pod, None).items;
        let pods = pods.iter().map(|pod| {
            format!(
                "pod {} on {:?}: {}, ready {}, in deletion {}",
                pod.name(),
                pod.node,
                reconciler::pods::phase(pod),
                reconciler::pods::is_ready(pod),
                pod.is_deleting()
            )
        });
        let nodes = self.nodes.iter().enumerate();
        let containers =
            nodes.flat_map(|(number, node)| node.runtime.containers().into_iter().map(move |it| (number, it)));
        let containers =
            containers.map(|(number, it)| format!("container {} on node {number}: {:?}", it.name, it.life));
        pods.chain(containers).collect()
    }

    /// What is not as declared.
    fn wrong(&self) -> Vec<String> {
        let Some(server) = &self.server else {
            return vec!["no server runs".to_owned()];
        };
        let store = &server.store;
        let mut wrong = Vec::new();
        let commit = store.desired().commit.clone();
        match store.reports().borrow().as_ref() {
            Some(report) if report.commit == commit && report.outcome == Rollout::Converged => {}
            other => wrong.push(format!(
                "not converged: {:?}",
                other.as_ref().map(|report| (&report.commit, &report.outcome))
            )),
        }
        for number in 0..self.declared.jobs {
            let job = store.get(&Key::namespaced(Kind::Job, "shop", &format!("work-{number}")));
            let counted = job.and_then(|job| job.status.as_ref()?.at("succeeded")?.int());
            if counted != Some(3) {
                wrong.push(format!("work-{number} counts {counted:?} of 3"));
            }
        }
        let ready = store.list(Kind::Pod, Some("shop")).items;
        let ready = ready
            .iter()
            .filter(|pod| !pod.is_deleting() && reconciler::pods::is_ready(pod));
        let wanted = self.declared.replicas + self.declared.members;
        let ready = ready.count();
        if ready != wanted {
            wrong.push(format!("{ready} pods are ready, not {wanted}"));
        }
        let running = self.nodes.iter().flat_map(|node| node.runtime.containers());
        let running = running.filter(|found| matches!(found.life, agents::runtime::Life::Running { .. }));
        let running = running.count();
        if running != wanted {
            wrong.push(format!("{running} containers run, not {wanted}"));
        }
        if !wrong.is_empty() {
            let found = self.found(store);
            wrong.push(found.join("\n"));
        }
        wrong
    }
}
