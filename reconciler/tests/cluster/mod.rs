//! A cluster in memory: a store, the reconcilers, and nodes whose kubelet is made up.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemas::{
    Commit, ContentHash, Key, Kind, Now, Object, Unit,
    now::Clock,
    report::{Outcome, Report},
};
use serde_json::{Value, json};
use store::{Class, DesiredRow, MemoryLog, Op, RevisionWrite, Scope, Store, SystemClock, UnitAt, Write};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The machine's clock, set forward on the wall alone.
#[derive(Default)]
struct Shifted {
    system: SystemClock,
    seconds: AtomicU64,
}

impl Clock for Shifted {
    fn now(&self) -> Now {
        let mut now = self.system.now();
        now.wall += Duration::from_secs(self.seconds.load(Ordering::Relaxed));
        now
    }
}

pub(crate) struct Cluster {
    pub(crate) store: Store,
    clock: Arc<Shifted>,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    commits: AtomicU64,
}

impl Cluster {
    pub(crate) async fn start(nodes: usize) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let clock = Arc::new(Shifted::default());
        let options = store::Options {
            clock: clock.clone(),
            admission: true,
            ..store::Options::default()
        };
        let store = Store::open_with(Arc::new(MemoryLog::default()), options)
            .await
            .expect("memory opens");
        let shutdown = CancellationToken::new();
        let options = reconciler::Options {
            seed: 7,
            ..reconciler::Options::default()
        };
        let driver = reconciler::start(store.clone(), clock.clone(), shutdown.clone(), options).await;
        let kubelet = tokio::spawn(kubelet(store.clone(), shutdown.clone()));
        let cluster = Self {
            store,
            clock,
            shutdown,
            tasks: vec![driver, kubelet],
            commits: AtomicU64::new(0),
        };
        for node in 0..nodes {
            cluster.add_node(&format!("node-{node}")).await;
        }
        cluster
    }

    /// Sets the wall clock forward.
    pub(crate) fn set_clock_forward(&self, by: Duration) {
        self.clock.seconds.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        for task in self.tasks {
            task.await.expect("it ends");
        }
    }

    pub(crate) async fn add_node(&self, name: &str) {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": format!("uid-{name}")},
            "spec": {},
            "status": {
                "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True", "reason": "AgentReady"}],
            },
        });
        let node = Object::from_value(node).expect("it is valid");
        self.store.heartbeats().beat(name, self.clock.now().monotonic);
        self.store
            .write_one(Class::Controller, Write::new(Op::Create(node)))
            .await
            .expect("it is new");
    }

    /// Records a revision that declares exactly these objects.
    pub(crate) async fn declare(&self, objects: Vec<Value>) {
        let number = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        let commit = Commit(format!("{number:040x}").into());
        let old = self.store.desired();
        let mut units = BTreeMap::new();
        let mut put = Vec::new();
        let mut kept = Vec::new();
        for object in objects {
            let kind: Kind = object["kind"]
                .as_str()
                .expect("it has one")
                .parse()
                .expect("it is known");
            let name = object["metadata"]["name"].as_str().expect("it has one");
            let key = match object["metadata"]["namespace"].as_str() {
                Some(namespace) => Key::namespaced(kind, namespace, name),
                None => Key::cluster(kind, name),
            };
            let unit = Unit::of(&key);
            units.insert(
                unit.clone(),
                UnitAt {
                    commit: commit.clone(),
                    held: None,
                    may_delete: true,
                },
            );
            kept.push(key.clone());
            let row = DesiredRow {
                unit,
                hash: ContentHash::of(&object),
                content: Arc::new(object),
                file: "all.yaml".into(),
                line: 1,
                commit: commit.clone(),
                key,
            };
            if old.rows.get(&row.key).is_none_or(|old| old.hash != row.hash) {
                put.push(row);
            }
        }
        let write = RevisionWrite {
            base: old.revision,
            commit,
            author: "a".to_owned(),
            subject: "s".to_owned(),
            at: self.clock.now().wall,
            units,
            put,
            drop: old.rows.keys().filter(|key| !kept.contains(key)).cloned().collect(),
            problems: Vec::new(),
            confirm_trailer: None,
            source_error: None,
        };
        self.store.record(write).await.expect("it is recorded");
    }

    pub(crate) fn report(&self) -> Arc<Report> {
        self.store.reports().borrow().clone().expect("there is a report")
    }

    /// Whether there is a report, and it says this.
    pub(crate) fn is(&self, outcome: Outcome) -> bool {
        let reports = self.store.reports();
        let report = reports.borrow();
        report.as_ref().is_some_and(|report| report.outcome == outcome)
    }

    /// Waits until the newest commit is reported as converged.
    pub(crate) async fn converged(&self) {
        let mut reports = self.store.reports();
        let wanted = self.store.desired().commit.clone();
        let done = reports.wait_for(|report| {
            report
                .as_ref()
                .is_some_and(|report| report.commit == wanted && report.outcome == Outcome::Converged)
        });
        if tokio::time::timeout(Duration::from_secs(20), done).await.is_err() {
            panic!("not converged: {:#?}", self.store.reports().borrow());
        }
    }

    /// Waits for a condition, looked at after every change.
    pub(crate) async fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let mut watch = self.store.watch(Scope::default(), None).expect("from now on");
        let mut reports = self.store.reports();
        let wait = async {
            while !condition() {
                tokio::select! {
                    changes = watch.next() => assert!(changes.is_some()),
                    changed = reports.changed() => assert!(changed.is_ok()),
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), wait).await.is_err() {
            let kinds = schemas::kind::KINDS.iter().filter(|info| info.kind != Kind::Event);
            let all = kinds.flat_map(|info| self.store.list(info.kind, None).items);
            let all: Vec<_> = all.map(|object| object.to_value().to_string()).collect();
            panic!(
                "{what}: not so after 20 s; objects: {all:#?}; report: {:?}",
                self.store.reports().borrow()
            );
        }
    }

    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Arc<Object> {
        self.store
            .get(&Key::namespaced(kind, namespace, name))
            .expect("it is there")
    }

    /// Removes a node, and what ran on it with it.
    pub(crate) async fn remove_node(&self, name: &str) {
        let key = Key::cluster(Kind::Node, name);
        self.write(Op::Remove { key }).await;
    }

    pub(crate) async fn write(&self, op: Op) {
        self.store
            .write_one(Class::User, Write::new(op))
            .await
            .expect("it is written");
    }

    /// Pods with a node that are not being deleted.
    pub(crate) fn bound(&self, namespace: &str) -> Vec<Arc<Object>> {
        let pods = self.store.list(Kind::Pod, Some(namespace)).items;
        pods.into_iter()
            .filter(|pod| pod.node.is_some() && !pod.is_deleting())
            .collect()
    }
}

/// Runs what is bound, and ends what is to go.
async fn kubelet(store: Store, shutdown: CancellationToken) {
    let mut watch = store.watch(Scope::kinds(&[Kind::Pod]), None).expect("from now on");
    loop {
        let changes = tokio::select! {
            () = shutdown.cancelled() => return,
            changes = watch.next() => changes.expect("it keeps up"),
        };
        let mut writes = Vec::new();
        for pod in changes
            .into_iter()
            .filter_map(|change| change.new)
            .filter(|pod| pod.node.is_some())
        {
            if pod.is_deleting() {
                writes.extend(stop(&pod));
            } else if let Some(status) = ended(&pod) {
                writes.push(status);
            } else if !reconciler::pods::is_finished(&pod) && !reconciler::pods::is_ready(&pod) {
                let mut status = pod.status_value().unwrap_or_default();
                status["phase"] = "Running".into();
                for kind in ["ContainersReady", "Ready"] {
                    reconciler::pods::set_condition(
                        &mut status,
                        json!({"type": kind, "status": "True", "lastTransitionTime": Time(jiff::Timestamp::now())}),
                    );
                }
                writes.push(Write::new(Op::Status {
                    key: pod.key(),
                    status: status.into(),
                }));
            }
        }
        if !writes.is_empty() {
            store.write(Class::Status, writes).await;
        }
    }
}

/// Ends a pod that is being deleted, as an agent does.
fn stop(pod: &Arc<Object>) -> Option<Write> {
    let free = pod.meta.finalizers.as_ref().is_none_or(|names| names.is_empty());
    if free {
        return Some(Write::new(Op::Remove { key: pod.key() }));
    }
    if !reconciler::pods::is_finished(pod) {
        return Some(finish(pod, 137));
    }
    (pod.meta.deletion_grace_period_seconds != Some(0)).then(|| {
        let mut stopped = Object::clone(pod);
        stopped.meta.deletion_grace_period_seconds = Some(0);
        Write::new(Op::Replace(stopped)).version(pod.version)
    })
}

/// Pods of the image `exit:CODE` end at once.
fn ended(pod: &Arc<Object>) -> Option<Write> {
    let image = pod.body.at("spec/containers/0/image")?.word()?;
    let code = image.strip_prefix("exit:")?.parse().ok()?;
    (!reconciler::pods::is_finished(pod)).then(|| finish(pod, code))
}

fn finish(pod: &Arc<Object>, code: i32) -> Write {
    let status = json!({
        "phase": if code == 0 { "Succeeded" } else { "Failed" },
        "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "finishedAt": Time(jiff::Timestamp::now())}}}],
    });
    Write::new(Op::Status {
        key: pod.key(),
        status: status.into(),
    })
}

pub(crate) fn job(name: &str, image: &str, spec: Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "batch"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}}},
    });
    json_patch::merge(&mut job, &json!({"spec": spec}));
    job
}

pub(crate) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

pub(crate) fn deployment(namespace: &str, name: &str, image: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
        },
    })
}
