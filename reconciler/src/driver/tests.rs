use std::{collections::BTreeMap, sync::Mutex};

use schemas::{Commit, Kind, Unit, report::Outcome};
use serde_json::json;
use store::{MemoryLog, RevisionWrite, SystemClock, UnitAt};

use super::*;

/// Plans of these panic while they stand here, and are counted.
static TRIPS: Mutex<BTreeMap<(Controller, String), u32>> = Mutex::new(BTreeMap::new());

pub(super) fn trip(works: &[Work]) {
    let name = {
        let mut trips = TRIPS.lock().expect("no test panics with it");
        works.iter().find_map(|work| {
            let count = trips.get_mut(&(work.controller, work.key.name.to_string()))?;
            *count += 1;
            Some(work.key.name.clone())
        })
    };
    if let Some(name) = name {
        panic!("{name} was tripped over");
    }
}

fn set_trip(controller: Controller, name: &str) {
    let mut trips = TRIPS.lock().expect("no test panics with it");
    trips.insert((controller, name.to_owned()), 0);
}

fn end_trip(controller: Controller, name: &str) -> u32 {
    let mut trips = TRIPS.lock().expect("no test panics with it");
    trips.remove(&(controller, name.to_owned())).expect("it was set")
}

struct Running {
    store: Store,
    shutdown: CancellationToken,
    driver: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let options = store::Options {
            clock: clock.clone(),
            ..store::Options::default()
        };
        let store = Store::open_with(Arc::new(MemoryLog::default()), options)
            .await
            .expect("memory opens");
        let shutdown = CancellationToken::new();
        let driver = crate::start(store.clone(), clock, shutdown.clone(), Options::default()).await;
        Self {
            store,
            shutdown,
            driver,
        }
    }

    async fn declare(&self, objects: Vec<serde_json::Value>) {
        let commit = Commit::from("0123456789abcdef");
        let row = |object: serde_json::Value| {
            let kind: Kind = object["kind"].as_str().expect("there").parse().expect("known");
            let key = Key::namespaced(kind, "default", object["metadata"]["name"].as_str().expect("there"));
            DesiredRow {
                unit: Unit::of(&key),
                hash: ContentHash::of(&object),
                content: Arc::new(object),
                file: "all.yaml".into(),
                line: 1,
                commit: commit.clone(),
                key,
            }
        };
        let at = UnitAt {
            commit: commit.clone(),
            held: None,
            may_delete: true,
        };
        let write = RevisionWrite {
            base: self.store.desired().revision,
            units: [(Unit("default".into()), at)].into(),
            put: objects.into_iter().map(row).collect(),
            drop: Vec::new(),
            commit,
            author: "a".to_owned(),
            subject: "s".to_owned(),
            at: jiff::Timestamp::now(),
            problems: Vec::new(),
            confirm_trailer: None,
            source_error: None,
        };
        self.store.record(write).await.expect("it is recorded");
    }

    async fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let mut watch = self.store.watch(Scope::default(), None).expect("from now on");
        let mut reports = self.store.reports();
        let wait = async {
            while !condition(self) {
                tokio::select! {
                    changes = watch.next() => assert!(changes.is_some()),
                    changed = reports.changed() => assert!(changed.is_ok()),
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), wait).await.is_err() {
            panic!(
                "{what}: not so after 20 s; report: {:#?}",
                self.store.reports().borrow()
            );
        }
    }

    fn reported(&self, kind: Kind, name: &str) -> Option<(Outcome, String)> {
        let report = self.store.reports().borrow().clone()?;
        let unit = report.units.get(&Unit("default".into()))?;
        let object = unit.objects.get(&Key::namespaced(kind, "default", name))?;
        Some((object.outcome, object.reason.clone()))
    }

    fn told(&self, name: &str) -> bool {
        self.store.list(Kind::Event, None).items.iter().any(|event| {
            let body = event.body.value();
            body["reason"] == faults::WORD && body["involvedObject"]["name"] == *name
        })
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.driver.await.expect("it ends");
    }
}

fn map(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {}})
}

fn web(name: &str) -> serde_json::Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_panics_backs_off_alone_and_is_told() {
    set_trip(Controller::Deployments, "faulty");
    let running = Running::start().await;
    running.declare(vec![web("faulty"), web("sound")]).await;
    let is = |reported: Option<(Outcome, String)>, outcome| reported.is_some_and(|it| it.0 == outcome);
    running
        .wait("the sound one converges, and the fault is told", |running| {
            let faulty = running.reported(Kind::Deployment, "faulty");
            is(running.reported(Kind::Deployment, "sound"), Outcome::Converged)
                && faulty.is_some_and(|it| {
                    it.1.contains("the deployment-controller met a fault of its own (faulty was")
                })
                && running.told("faulty")
        })
        .await;
    // What comes later is served as ever.
    running.declare(vec![web("late")]).await;
    running
        .wait("a later one converges", |running| {
            is(running.reported(Kind::Deployment, "late"), Outcome::Converged)
        })
        .await;
    let tries = end_trip(Controller::Deployments, "faulty");
    assert!(tries < 20, "it backs off: {tries} tries");
    running
        .wait("it goes through once the fault is gone", |running| {
            is(running.reported(Kind::Deployment, "faulty"), Outcome::Converged)
        })
        .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_a_batch_that_panics_takes_no_other_with_it() {
    set_trip(Controller::Release, "poison");
    let running = Running::start().await;
    running.declare(["a", "b", "poison", "q", "z"].map(map).into()).await;
    let there = |running: &Running, name: &str| {
        let key = Key::namespaced(Kind::ConfigMap, "default", name);
        running.store.get(&key).is_some()
    };
    running
        .wait("the others are released, and the fault is told", |running| {
            let told = running.reported(Kind::ConfigMap, "poison");
            ["a", "b", "q", "z"].iter().all(|name| there(running, name))
                && told.is_some_and(|it| it.1.starts_with("ControllerFault: the release-controller"))
        })
        .await;
    assert!(!there(&running, "poison"));
    assert!(end_trip(Controller::Release, "poison") < 20);
    running
        .wait("it is released once the fault is gone", |running| {
            there(running, "poison")
        })
        .await;
    running.stop().await;
}
