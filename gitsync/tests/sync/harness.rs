//! A git repository, a store in memory and a watcher between them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use gitsync::{GitSync, Options, Source};
use schemas::{
    Commit, Key, Kind,
    report::{ObjectReport, Objects, Outcome, Position, Report, UnitReport},
    shared::SharedMap,
};
use serde_json::Value;
use store::{Desired, MemoryLog, Store, SystemClock};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A repository with a work tree, driven by the git program.
pub(crate) struct Repo {
    pub(crate) dir: PathBuf,
}

impl Repo {
    pub(crate) fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("a folder");
        let repo = Self { dir: dir.to_path_buf() };
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        let (done, text) = self.try_git(args);
        assert!(done, "git {args:?}: {text}");
        text
    }

    pub(crate) fn try_git(&self, args: &[&str]) -> (bool, String) {
        let output = Command::new("git")
            .arg("-C")
            .arg(&self.dir)
            .args([
                "-c",
                "user.name=Ann",
                "-c",
                "user.email=ann@example.org",
                "-c",
                "commit.gpgsign=false",
            ])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .expect("git runs");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            text.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        (output.status.success(), text.trim_end().to_owned())
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let full = self.dir.join(path);
        fs::create_dir_all(full.parent().expect("a folder")).expect("made");
        fs::write(full, text).expect("written");
    }

    pub(crate) fn remove(&self, path: &str) {
        self.git(&["rm", "-rqf", path]);
    }

    pub(crate) fn commit(&self, message: &str) -> Commit {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.head()
    }

    pub(crate) fn head(&self) -> Commit {
        self.git(&["rev-parse", "HEAD"]).as_str().into()
    }
}

/// Everything that a test needs.
pub(crate) struct World {
    pub(crate) repo: Repo,
    pub(crate) store: Store,
    pub(crate) sync: GitSync,
    pub(crate) root: TempDir,
    pub(crate) options: Options,
    pub(crate) log: Arc<MemoryLog>,
    stop: DropGuard,
}

impl World {
    /// A watcher on a fresh repository that `fill` has prepared.
    pub(crate) async fn new(fill: impl FnOnce(&Repo)) -> Self {
        Self::with(fill, |_| {}).await
    }

    pub(crate) async fn with(fill: impl FnOnce(&Repo), change: impl FnOnce(&mut Options)) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let repo = Repo::new(&root.path().join("repo"));
        fill(&repo);
        let log = Arc::new(MemoryLog::default());
        let store = Store::open(log.clone()).await.expect("a store");
        let mut options = Options::new(Source::Local(repo.dir.clone()), root.path().join("data"));
        options.status.pace = Some(Duration::from_millis(1));
        change(&mut options);
        let (sync, stop) = start(&options, &store);
        Self {
            repo,
            store,
            sync,
            root,
            options,
            log,
            stop,
        }
    }

    /// Ends the watcher and starts another one over the same store.
    pub(crate) fn restart(&mut self) {
        let (sync, stop) = start(&self.options, &self.store);
        self.sync = sync;
        self.stop = stop;
    }

    /// Looks, and answers with what is recorded then.
    pub(crate) async fn look(&self) -> Arc<Desired> {
        tokio::time::timeout(LIMIT, self.sync.look_now())
            .await
            .expect("the look ends");
        self.store.desired()
    }

    pub(crate) async fn commit(&self, message: &str) -> Arc<Desired> {
        self.repo.commit(message);
        self.look().await
    }

    /// Publishes a report in which every declared object has converged but for those named.
    pub(crate) fn report(&self, outcomes: &[(&Key, Outcome, &str)]) -> Arc<Report> {
        let desired = self.store.desired();
        let mut units: BTreeMap<_, UnitReport> = desired
            .units
            .iter()
            .map(|(unit, at)| {
                let report = UnitReport {
                    commit: at.commit.clone(),
                    outcome: if at.held.is_some() {
                        Outcome::Held
                    } else {
                        Outcome::Converged
                    },
                    reason: at.held.clone().unwrap_or_default(),
                    objects: Objects::default(),
                    removing: Vec::new(),
                };
                (unit.clone(), report)
            })
            .collect();
        for (key, row) in desired.rows.iter() {
            let told = outcomes.iter().find(|(named, ..)| *named == key);
            let object = ObjectReport {
                outcome: told.map_or(Outcome::Converged, |told| told.1),
                reason: told.map_or(String::new(), |told| told.2.to_owned()),
                position: Some(Position {
                    file: row.file.clone(),
                    line: row.line,
                    column: 1,
                }),
                status: Value::Null,
                stale: false,
                gated: false,
            };
            if let Some(unit) = units.get_mut(&row.unit) {
                unit.outcome = unit.outcome.max(object.outcome);
                unit.objects.insert(key.clone(), object);
            }
        }
        let report = Arc::new(Report {
            commit: desired.commit.clone(),
            revision: desired.revision,
            confirmations: 0,
            outcome: units
                .values()
                .map(|unit| unit.outcome)
                .max()
                .unwrap_or(Outcome::Converged),
            units,
            nodes: SharedMap::new(),
            problems: desired.problems.clone(),
            held_deletions: None,
            source_error: desired.source_error.clone(),
        });
        self.store.publish_report(report.clone());
        report
    }

    /// Waits until the status branch satisfies a condition; answers with its tip.
    pub(crate) async fn status(&self, what: &str, mut found: impl FnMut(&Repo) -> bool) {
        until(
            what,
            || found(&self.repo),
            || self.repo.try_git(&["log", "--format=%B", "-3", "towline/status"]).1,
        )
        .await;
    }
}

fn start(options: &Options, store: &Store) -> (GitSync, DropGuard) {
    let stop = CancellationToken::new();
    let clock = Arc::new(SystemClock::default());
    let sync = GitSync::start(options.clone(), store.clone(), clock, stop.clone()).expect("it starts");
    (sync, stop.drop_guard())
}

/// Waits until something holds; the failure shows the last state.
pub(crate) async fn until(what: &str, mut found: impl FnMut() -> bool, state: impl Fn() -> String) {
    let end = tokio::time::Instant::now() + LIMIT;
    while !found() {
        assert!(
            tokio::time::Instant::now() < end,
            "{what}: not in {LIMIT:?}; last state: {}",
            state()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn key(kind: Kind, namespace: &str, name: &str) -> Key {
    Key::namespaced(kind, namespace, name)
}

pub(crate) fn map(namespace: &str, name: &str) -> Key {
    key(Kind::ConfigMap, namespace, name)
}

/// A ConfigMap without a namespace of its own.
pub(crate) fn config(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  value: \"{value}\"\n")
}

pub(crate) fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n")
}

pub(crate) fn deployment(name: &str, image: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\nspec:\n  replicas: {replicas}\n  selector:\n    \
         matchLabels:\n      app: {name}\n  template:\n    metadata:\n      labels:\n        app: {name}\n    spec:\n      \
         containers:\n        - name: main\n          image: {image}\n"
    )
}

/// Two namespaces with a ConfigMap each, and one of the cluster's objects.
pub(crate) fn two_shops(repo: &Repo) {
    repo.write("namespaces/a/ns.yaml", &namespace("a"));
    repo.write("namespaces/a/one.yaml", &config("one", "1"));
    repo.write("namespaces/b/ns.yaml", &namespace("b"));
    repo.write("namespaces/b/two.yaml", &config("two", "2"));
    repo.commit("First");
}

pub(crate) fn names(desired: &Desired) -> Vec<String> {
    desired.rows.keys().map(ToString::to_string).collect()
}

pub(crate) fn value<'a>(desired: &'a Desired, key: &Key) -> Option<&'a str> {
    desired.rows.get(key)?.content["data"]["value"].as_str()
}
