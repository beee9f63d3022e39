//! The suite on Postgres, and what happens when Postgres fails. Each test has a private cluster of its
//! own.

mod suite;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use schemas::{Kind, now::Clock as _};
use store::{
    Class, MasterKey, Office, Op, Options, Pace, PostgresLog, PrivateError, PrivateOptions, PrivatePostgres, Scope,
    Store, SystemClock, Write, WriteError,
    log::{Log, LogError, Stage},
    postgres::Settings,
};
use suite::{create, key, pod, set_status};

const KEY: [u8; 32] = [7; 32];

/// A folder for one cluster. The server in it ends with it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // The server's user must come through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opened");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.path().join("postgres/postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok().map(Pid::from_raw)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, Signal::SIGQUIT);
            while Path::new(&format!("/proc/{pid}")).exists() && self.pid().is_some() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

async fn start(folder: &Folder) -> Arc<PrivatePostgres> {
    Arc::new(
        PrivatePostgres::start(PrivateOptions::new(folder.path()))
            .await
            .expect("it starts"),
    )
}

async fn log_of(postgres: &PrivatePostgres) -> Arc<PostgresLog> {
    let settings = Settings::new(postgres.connection());
    Arc::new(
        PostgresLog::connect(settings, &MasterKey::new(KEY))
            .await
            .expect("it connects"),
    )
}

struct Fresh {
    log: Arc<PostgresLog>,
    _postgres: Arc<PrivatePostgres>,
    _folder: Folder,
}

impl Fresh {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone()
    }
}

async fn fresh() -> Fresh {
    let folder = Folder::new();
    let mut options = PrivateOptions::new(folder.path());
    // The machine does not fail while these tests run.
    options.settings = vec!["fsync=off".into()];
    let postgres = Arc::new(PrivatePostgres::start(options).await.expect("it starts"));
    Fresh {
        log: log_of(&postgres).await,
        _postgres: postgres,
        _folder: folder,
    }
}

suite!(fresh);

/// A running server, a store on it, and one pod.
async fn scene(pace: Pace) -> (Folder, Arc<PrivatePostgres>, Store) {
    let folder = Folder::new();
    let postgres = start(&folder).await;
    let options = Options {
        pace,
        ..Options::default()
    };
    let store = Store::open_with(log_of(&postgres).await, options)
        .await
        .expect("it opens");
    create(&store, "a").await;
    (folder, postgres, store)
}

async fn office(store: &Store, wanted: Office) {
    let mut office = store.office();
    let waited = tokio::time::timeout(Duration::from_secs(30), office.wait_for(|office| *office == wanted)).await;
    assert!(
        waited.is_ok(),
        "waited for {wanted:?}, it is {:?}",
        *store.office().borrow()
    );
}

/// Writes until told to stop; returns how many writes were acknowledged and the last of them.
async fn write_on(store: Store, name: String, stop: tokio_util::sync::CancellationToken) -> (usize, u64, String) {
    let mut acknowledged = (0, 0, String::new());
    let mut n = 0;
    while !stop.is_cancelled() {
        n += 1;
        let text = format!("{name} {n}");
        match set_status(&store, &name, &text).await {
            Ok(pod) => acknowledged = (acknowledged.0 + 1, pod.version, text),
            Err(WriteError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_postgres_is_killed() {
    let (folder, postgres, store) = scene(Pace::default()).await;
    let keeper = tokio::spawn({
        let postgres = postgres.clone();
        async move { postgres.run().await }
    });
    let first = store.version();
    let mut watch = store.watch(Scope::all(), None).expect("now");
    let stop = tokio_util::sync::CancellationToken::new();
    let mut writers = Vec::new();
    for name in ["w0", "w1", "w2", "w3"] {
        create(&store, name).await;
        writers.push(tokio::spawn(write_on(store.clone(), name.into(), stop.clone())));
    }
    let mut versions = store.version();
    for round in 0..3 {
        // In the middle of writes, each time.
        versions += 50;
        suite::until(&mut watch, versions).await;
        let pid = folder.pid().expect("it runs");
        kill(pid, Signal::SIGKILL).expect("killed");
        office(&store, Office::Away).await;
        office(&store, Office::Leading).await;
        assert_ne!(folder.pid(), Some(pid), "round {round}");
        versions = store.version();
    }
    suite::until(&mut watch, versions + 20).await;
    stop.cancel();
    let mut last = Vec::new();
    for writer in writers {
        last.push(writer.await.expect("it ends"));
    }
    let end = store.version();
    let reopened = Store::open(log_of(&postgres).await).await.expect("it opens");
    assert_eq!(reopened.version(), end, "the copy is what the database holds");
    assert_eq!(reopened.incarnation(), store.incarnation());
    for (n, (count, version, text)) in last.into_iter().enumerate() {
        assert!(count > 20, "w{n} wrote {count}");
        let kept = reopened.get(&key(&format!("w{n}"))).expect("it is there");
        // A later write may have been committed and never acknowledged.
        assert!(kept.version >= version, "w{n}: {} < {version}", kept.version);
        if kept.version == version {
            assert_eq!(kept.status, Some(suite::status(&text)));
        }
    }
    let mut again = reopened.watch(Scope::all(), Some(first)).expect("kept");
    let changes = suite::until(&mut again, end).await;
    assert_eq!(changes.len() as u64, end - first, "no version is missing or doubled");
    postgres.stop().await;
    keeper.await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_postgres_stopped_writes_fail_in_time_and_reads_go_on() {
    let (folder, postgres, store) = scene(Pace::default()).await;
    postgres.stop().await;
    let asked = std::time::Instant::now();
    let answer = set_status(&store, "a", "Running").await;
    assert!(matches!(answer, Err(WriteError::Unavailable(_))), "{answer:?}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(!store.is_writable());
    assert!(store.get(&key("a")).is_some());
    assert!(store.revisions(1).await.is_err());
    drop(postgres);
    let postgres = start(&folder).await;
    office(&store, Office::Leading).await;
    set_status(&store, "a", "Running again").await.expect("it writes again");
    assert!(store.revisions(1).await.is_ok());
    store.close().await;
    postgres.stop().await;
}

async fn sql(postgres: &PrivatePostgres) -> tokio_postgres::Client {
    let connected = postgres.connection().connect(tokio_postgres::NoTls).await;
    let (client, connection) = connected.expect("it connects");
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_row_that_postgres_refuses_fails_alone() {
    let (_folder, postgres, store) = scene(Pace::default()).await;
    sql(&postgres)
        .await
        .batch_execute("alter table towline.objects add constraint rule check (name <> 'bad')")
        .await
        .expect("a rule");
    let version = store.version();
    let names: Vec<String> = (0..40)
        .map(|n| if n == 17 { "bad".to_owned() } else { format!("p{n}") })
        .collect();
    let writes = names
        .iter()
        .map(|name| Write::new(Op::Create(pod(name, "i"))))
        .collect();
    let answers = store.write(Class::User, writes).await;
    for (name, answer) in names.iter().zip(&answers) {
        match answer {
            Err(WriteError::Invalid { reason, .. }) => assert!(name == "bad" && reason.contains("rule"), "{reason}"),
            answer => assert!(answer.is_ok() && name != "bad", "{name}: {answer:?}"),
        }
    }
    assert_eq!(store.version(), version + 39);
    let reopened = Store::open(log_of(&postgres).await).await.expect("it opens");
    assert_eq!(reopened.version(), store.version());
}

fn copy_tree(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .expect("cp runs");
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_database_is_a_new_incarnation() {
    let (folder, postgres, store) = scene(Pace::default()).await;
    let cluster = folder.path().join("postgres");
    let backup = folder.path().join("backup");
    postgres.stop().await;
    copy_tree(&cluster, &backup);
    drop(postgres);
    let postgres = start(&folder).await;
    office(&store, Office::Leading).await;
    let before = store.incarnation();
    create(&store, "b").await;
    let mut watch = store.watch(Scope::all(), None).expect("now");
    postgres.stop().await;
    fs::remove_dir_all(&cluster).expect("removed");
    copy_tree(&backup, &cluster);
    drop(postgres);
    let _postgres = start(&folder).await;
    let ended = tokio::time::timeout(Duration::from_secs(30), watch.next())
        .await
        .expect("it is told");
    assert!(ended.is_none(), "watchers must list again");
    assert_ne!(store.incarnation(), before);
    assert!(store.get(&key("b")).is_none() && store.get(&key("a")).is_some());
    office(&store, Office::Leading).await;
    let b = create(&store, "b").await;
    assert_eq!(b.version, store.version());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_connection_cannot_commit_later() {
    let pace = Pace {
        commit: Duration::from_millis(700),
        ..Pace::default()
    };
    let (_folder, postgres, store) = scene(pace).await;
    let client = sql(&postgres).await;
    let writer = "select pid from pg_stat_activity where query in ('commit', 'select epoch from leader')";
    let pid: i32 = client.query_one(writer, &[]).await.expect("the writer's").get(0);
    kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("frozen");
    let version = store.version();
    let pod = set_status(&store, "a", "once")
        .await
        .expect("written over another connection");
    kill(Pid::from_raw(pid), Signal::SIGCONT).expect("thawed");
    let gone = "select from pg_stat_activity where pid = $1";
    while client.query_opt(gone, &[&pid]).await.expect("asked").is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(pod.version, version + 1);
    let rows = client
        .query_one("select max(version), count(*) from towline.changes", &[])
        .await
        .expect("asked");
    assert_eq!(rows.get::<_, i64>(0).cast_unsigned(), version + 1);
    assert_eq!(rows.get::<_, i64>(1).cast_unsigned(), version + 1);
    set_status(&store, "a", "twice").await.expect("and on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_opens_nothing() {
    let (_folder, postgres, store) = scene(Pace::default()).await;
    store
        .secret_or("ca", b"very private text".to_vec())
        .await
        .expect("kept");
    store.close().await;
    let settings = Settings::new(postgres.connection());
    let refused = PostgresLog::connect(settings, &MasterKey::new([8; 32])).await;
    match refused {
        Err(LogError::Foreign(text)) => assert!(text.contains("master key"), "{text}"),
        other => panic!("{other:?}"),
    }
}

/// Everything under the cluster's folder that a text is in.
fn files_with(folder: &Path, text: &[u8], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_with(&path, text, found);
        } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text)) {
            found.push(path);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_not_on_disk() {
    let (folder, postgres, store) = scene(Pace::default()).await;
    let secret = schemas::Object::from_value(serde_json::json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "s", "namespace": "shop", "uid": "s", "annotations": {"last": "plain-8f3a"}},
        "data": {"password": "plain-8f3a"},
    }))
    .expect("a secret");
    store
        .write_one(Class::User, Write::new(Op::Create(secret)))
        .await
        .expect("written");
    store.secret_or("ca", b"plain-8f3a".to_vec()).await.expect("kept");
    store.put_document("d", Some("plain-8f3a".into())).await.expect("kept");
    store
        .write_one(
            Class::User,
            Write::new(Op::Remove {
                key: schemas::Key::namespaced(Kind::Secret, "shop", "s"),
            }),
        )
        .await
        .expect("removed");
    set_status(&store, "a", "visible-8f3a").await.expect("written");
    store.close().await;
    postgres.stop().await;
    let mut found = Vec::new();
    files_with(folder.path(), b"visible-8f3a", &mut found);
    assert!(!found.is_empty(), "the search finds what is there");
    found.clear();
    files_with(folder.path(), b"plain-8f3a", &mut found);
    assert_eq!(found, Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unused_bodies_go() {
    let (_folder, postgres, store) = scene(Pace::default()).await;
    for image in ["j", "k", "l"] {
        store
            .write_one(Class::User, Write::new(Op::Replace(pod("a", image))))
            .await
            .expect("replaced");
    }
    let client = sql(&postgres).await;
    let count = "select count(*) from towline.bodies";
    assert_eq!(client.query_one(count, &[]).await.expect("asked").get::<_, i64>(0), 4);
    let retention = store::Retention {
        change_age: Duration::ZERO,
        changes: 0,
        ..store::Retention::default()
    };
    store.tidy(&retention).await.expect("tidied");
    assert_eq!(client.query_one(count, &[]).await.expect("asked").get::<_, i64>(0), 1);
    let reopened = Store::open(log_of(&postgres).await).await.expect("it opens");
    assert_eq!(reopened.version(), store.version());
    assert!(reopened.get(&key("a")).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_a_staged_revision_stay() {
    let folder = Folder::new();
    let postgres = start(&folder).await;
    let log = log_of(&postgres).await;
    let epoch = log.take_office(0).await.expect("it leads").epoch;
    let stage = Stage {
        write: Arc::new(suite::revision(0, "c1", vec![suite::row("a", "1", "c1")], Vec::new())),
        put: 0..1,
        drop: 0..0,
    };
    log.stage(epoch, &stage).await.expect("staged");
    let retention = store::Retention::default().tidy(SystemClock::default().now().wall);
    log.tidy(epoch, &retention).await.expect("tidied");
    let count = async |client: &tokio_postgres::Client| -> i64 {
        let bodies = client.query_one("select count(*) from towline.bodies", &[]).await;
        bodies.expect("asked").get(0)
    };
    let client = sql(&postgres).await;
    assert_eq!(count(&client).await, 1);
    // Once the staging is given up nobody needs them.
    while log.unstage(epoch).await.expect("taken back") {}
    // A look goes on where the last one ended, then from the start.
    for _ in 0..2 {
        log.tidy(epoch, &retention).await.expect("tidied");
    }
    assert_eq!(count(&client).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_still_runs_is_adopted() {
    let folder = Folder::new();
    let postgres = start(&folder).await;
    let pid = postgres.pid().await;
    let locked = PrivatePostgres::start(PrivateOptions::new(folder.path())).await;
    assert!(matches!(locked, Err(PrivateError::Locked { .. })), "{locked:?}");
    // As after a kill: nobody stops it.
    drop(postgres);
    let postgres = start(&folder).await;
    assert_eq!(postgres.pid().await, pid);
    let keeper = tokio::spawn({
        let postgres = postgres.clone();
        async move { postgres.run().await }
    });
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
    let config = postgres.connection();
    let mut tries = 0;
    while postgres.pid().await == pid || config.connect(tokio_postgres::NoTls).await.is_err() {
        tries += 1;
        assert!(tries < 3000, "it does not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    postgres.stop().await;
    keeper.await.expect("it ends");
    assert!(folder.pid().is_none(), "a clean stop removes its pid file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_is_named() {
    let folder = Folder::new();
    let postgres = start(&folder).await;
    postgres.stop().await;
    drop(postgres);
    let version = folder.path().join("postgres/PG_VERSION");
    let kept = fs::read_to_string(&version).expect("read");
    fs::write(&version, "9\n").expect("written");
    match PrivatePostgres::start(PrivateOptions::new(folder.path())).await {
        Err(PrivateError::ForeignVersion { found, .. }) => assert_eq!(found, "9"),
        other => panic!("{other:?}"),
    }
    fs::write(&version, kept).expect("written");

    let mut options = PrivateOptions::new(folder.path());
    options.binaries = Some("/nowhere".into());
    let none = PrivatePostgres::start(options).await;
    assert!(matches!(none, Err(PrivateError::NoBinaries { .. })), "{none:?}");

    if nix::unistd::Uid::effective().is_root() {
        let closed = folder.path().join("closed");
        fs::create_dir(&closed).expect("made");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("closed");
        match PrivatePostgres::start(PrivateOptions::new(closed.join("data"))).await {
            Err(PrivateError::Unsearchable { folder, .. }) => assert_eq!(folder, closed.canonicalize().expect("there")),
            other => panic!("{other:?}"),
        }
    }
    let mut options = PrivateOptions::new(folder.path());
    options.settings = vec!["shared_buffers=nonsense".into()];
    match PrivatePostgres::start(options).await {
        Err(PrivateError::NotStarted { log, .. }) => assert!(log.contains("nonsense"), "{log}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_path_works() {
    let folder = Folder::new();
    let data_dir = folder.path().join("x".repeat(90));
    let postgres = PrivatePostgres::start(PrivateOptions::new(&data_dir))
        .await
        .expect("it starts");
    assert!(postgres.connection().connect(tokio_postgres::NoTls).await.is_ok());
    postgres.stop().await;
}
