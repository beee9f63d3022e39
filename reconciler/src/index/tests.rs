use std::time::Duration;

use schemas::{Commit, ContentHash, report::Outcome, shared::visits};
use serde_json::json;
use store::{Class, MemoryLog, Op, RevisionWrite, Scope, Store, UnitAt, Write};

use super::*;
use crate::{ids::Ids, observe, plan::Step, report::Tracker, simulation::start};

/// Index, release and report over a store, driven by hand.
struct Parts {
    store: Store,
    index: Index,
    tracker: Tracker,
    now: Now,
    ids: Ids,
}

const UNITS: usize = 10;

fn row(number: usize, data: &str) -> DesiredRow {
    let space = format!("space{}", number % UNITS);
    let content = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("c{number}"), "namespace": space}, "data": {"a": data}});
    let key = Key::namespaced(Kind::ConfigMap, &space, &format!("c{number}"));
    DesiredRow {
        unit: Unit::of(&key),
        hash: ContentHash::of(&content),
        content: Arc::new(content),
        file: "all.yaml".into(),
        line: 1,
        commit: Commit::from("c"),
        key,
    }
}

impl Parts {
    /// So many declared objects, all of them released and healthy.
    async fn of(count: usize) -> Self {
        let log = Arc::new(MemoryLog::default());
        let store = Store::open(log).await.expect("memory opens");
        let now = start();
        let index = Index::build(&store.view(), store.desired(), |_| false, Index::default(), 0, now);
        let mut parts = Self {
            index,
            store,
            tracker: Tracker::default(),
            now,
            ids: Ids::seeded(1),
        };
        parts
            .declare((0..count).map(|number| row(number, "1")).collect(), Vec::new())
            .await;
        parts
    }

    async fn declare(&mut self, put: Vec<DesiredRow>, drop: Vec<Key>) {
        let old = self.store.desired();
        let commit = Commit(format!("{:040x}", old.revision + 1).into());
        let unit = |number| {
            let at = UnitAt {
                commit: commit.clone(),
                held: None,
                may_delete: true,
            };
            (Unit(format!("space{number}").into()), at)
        };
        let write = RevisionWrite {
            base: old.revision,
            units: (0..UNITS).map(unit).collect(),
            commit,
            author: "a".to_owned(),
            subject: "s".to_owned(),
            at: self.now.wall,
            put,
            drop,
            problems: Vec::new(),
            confirm_trailer: None,
            source_error: None,
        };
        self.store.record(write).await.expect("it is recorded");
        let mut touched = Vec::new();
        let store = self.store.clone();
        let proven = |row: &DesiredRow| store.was_healthy(&row.key, row.hash);
        self.index
            .set_desired(&self.store.view(), self.store.desired(), proven, &mut touched);
        self.look(touched).await;
    }

    /// Lets release and report look until nothing is touched any more.
    async fn look(&mut self, mut touched: Touched) {
        while !touched.is_empty() {
            self.now = self.now.after(Duration::from_secs(1));
            let keys = |controller| -> Vec<Key> {
                let keys: BTreeSet<Key> = touched
                    .iter()
                    .filter(|work| work.controller == controller)
                    .map(|work| work.key.clone())
                    .collect();
                keys.into_iter().collect()
            };
            let (releases, reports) = (keys(Controller::Release), keys(Controller::Report));
            let mut watch = self.store.watch(Scope::default(), None).expect("from now on");
            touched = Vec::new();
            if !releases.is_empty() {
                let world = observe::release(&self.store, &self.store.view(), &mut self.index, &releases, self.now);
                let plan = release::plan(&world, self.now, &mut self.ids);
                self.carry_out(&plan).await;
                for row in &world.rows {
                    self.index.released.done(&row.key, row.hash, row.hash);
                }
            }
            while let Some(changes) = watch.ready().filter(|changes| !changes.is_empty()) {
                let view = self.store.view();
                for change in &changes {
                    self.index.apply(&view, change, self.now, &mut touched);
                }
            }
            if !reports.is_empty() || !releases.is_empty() {
                let world = observe::report(
                    &self.store,
                    &self.store.view(),
                    &mut self.index,
                    &crate::faults::Faults::default(),
                    &reports,
                    self.now,
                );
                let plan = self.tracker.look(&world, self.now);
                self.carry_out(&plan).await;
            }
        }
    }

    async fn carry_out(&self, plan: &crate::plan::Plan) {
        let mut plan = plan.clone();
        plan.steps.retain(|step| !matches!(step, Step::Publish(_)));
        crate::execute::execute(&self.store, &mut plan)
            .await
            .expect("it goes through");
    }

    /// How many entries of what is declared or reported were visited meanwhile.
    async fn visited(&mut self, act: impl AsyncFnOnce(&mut Self)) -> u64 {
        let before = visits::count();
        act(self).await;
        visits::count() - before
    }
}

/// What one change costs: of a revision that changes, adds and drops an object; and of a live object.
async fn costs(count: usize) -> [u64; 3] {
    let mut parts = Parts::of(count).await;
    assert_eq!(parts.tracker.report().outcome, Outcome::Converged);
    assert_eq!(parts.store.list(Kind::ConfigMap, None).items.len(), count);
    let put = vec![row(7, "2"), row(count, "1")];
    let revision = parts
        .visited(async |parts| parts.declare(put, vec![row(9, "1").key]).await)
        .await;
    assert_eq!(parts.tracker.report().outcome, Outcome::Converged);
    assert_eq!(parts.store.list(Kind::ConfigMap, None).items.len(), count);

    let live = parts.store.get(&row(5, "1").key).expect("it is there");
    let mut drifted = Object::clone(&live);
    drifted.meta.labels = Some([("a".to_owned(), "b".to_owned())].into());
    let drift = parts
        .visited(async |parts| {
            let mut watch = parts.store.watch(Scope::default(), None).expect("from now on");
            let write = Write::new(Op::Replace(drifted));
            parts.store.write_one(Class::User, write).await.expect("it is written");
            let mut touched = Vec::new();
            for change in watch.ready().expect("it goes on") {
                parts.index.apply(&parts.store.view(), &change, parts.now, &mut touched);
            }
            parts.look(touched).await;
        })
        .await;

    // While many deletions are held, a look at something else does not walk them.
    let half_a_unit = (3..count / 2).step_by(UNITS).map(|number| row(number, "1").key);
    parts.declare(Vec::new(), half_a_unit.collect()).await;
    assert!(parts.tracker.report().held_deletions.is_some());
    let held = parts
        .visited(async |parts| parts.look(vec![Work::new(Controller::Report, row(5, "1").key)]).await)
        .await;
    [revision, drift, held]
}

#[tokio::test]
async fn a_look_costs_what_changed_however_much_is_declared() {
    let few = costs(1_000).await;
    let many = costs(100_000).await;
    assert_eq!(few, many, "visited entries at 1,000 and at 100,000 declared objects");
    assert!(many.iter().all(|visits| *visits < 200), "{many:?}");
}

#[tokio::test]
async fn a_start_takes_over_how_long_things_have_lasted() {
    let store = Store::open(Arc::new(MemoryLog::default())).await.expect("memory opens");
    let now = start();
    let ago = |seconds: i64| (now.wall - jiff::SignedDuration::from_secs(seconds)).to_string();
    let object = |kind: &str, version: &str, status: serde_json::Value| {
        let value = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": "a", "uid": kind},
            "spec": {}, "status": {"conditions": [status]}});
        Write::new(Op::Create(Object::from_value(value).expect("it is valid")))
    };
    let pod = object(
        "Pod",
        "v1",
        json!({"type": "Ready", "status": "True", "lastTransitionTime": ago(50)}),
    );
    let rollout = json!({"type": "Progressing", "status": "True", "lastUpdateTime": ago(300)});
    let rollout = object("Deployment", "apps/v1", rollout);
    for answer in store.write(Class::Controller, vec![pod, rollout]).await {
        answer.expect("it is written");
    }
    let lasted = |index: &Index, now: Now| {
        let deployment = store
            .get(&Key::namespaced(Kind::Deployment, "a", "a"))
            .expect("it is there");
        let since = [index.ready_since(&Uid::from("Pod")), index.progress_seen(&deployment)];
        since.map(|since| (now.monotonic - since.expect("it is known")).as_secs())
    };
    let index = Index::build(&store.view(), store.desired(), |_| false, Index::default(), 0, now);
    assert_eq!(lasted(&index, now), [50, 300], "the downtime counts, and no more");
    // Ten seconds later the cache is built anew, and the wall clock has been set back by an hour.
    let later = Now {
        wall: now.wall - jiff::SignedDuration::from_hours(1),
        ..now.after(Duration::from_secs(10))
    };
    let index = Index::build(&store.view(), store.desired(), |_| false, index, 0, later);
    assert_eq!(lasted(&index, later), [60, 310]);
}
