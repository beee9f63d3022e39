//! A private Postgres cluster, as a process of our own in the data directory.
//!
//! It takes no network connections: its socket lies in a folder that only its user and root can
//! enter. What happens when we die here: the server goes on, and the next start finds it by its pid
//! file, makes sure that it serves this very folder, and takes it over. A pid file is never deleted by
//! us; Postgres knows better when one is stale.

mod binaries;
mod place;
mod process;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};
use tokio_postgres::{Config, NoTls, error::SqlState};
use tokio_util::sync::CancellationToken;

use binaries::Binaries;
use place::Place;
use process::Process;

/// A data directory that is this process's alone, for as long as a copy of this lives; the system
/// frees it even after a kill.
#[derive(Clone, Debug)]
pub struct DataDirLock {
    _file: Arc<std::fs::File>,
}

impl DataDirLock {
    /// Locks a data directory that is there.
    ///
    /// # Errors
    /// When another process has it, and when its lock file cannot be opened.
    pub fn take(data_dir: &Path) -> Result<Self, PrivateError> {
        let file = Arc::new(place::lock(data_dir)?);
        Ok(Self { _file: file })
    }
}

/// Where the private cluster lives.
#[derive(Clone, Debug)]
pub struct PrivateOptions {
    /// The data directory of Towline. The cluster is in `postgres` there, its log in `postgres.log`.
    pub data_dir: PathBuf,
    /// A folder with `postgres` and `initdb`. None: the newest of `/usr/lib/postgresql/*/bin` that
    /// fits, then those on PATH.
    pub binaries: Option<PathBuf>,
    /// Further settings of the server, as `name=value`.
    pub settings: Vec<String>,
    /// The lock of the data directory, where the caller has taken it already.
    pub lock: Option<DataDirLock>,
}

impl PrivateOptions {
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            binaries: None,
            settings: Vec::new(),
            lock: None,
        }
    }
}

/// Why there is no private cluster.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    #[error(
        "no PostgreSQL server programs were found in {looked}; install them (on Debian and Ubuntu: apt-get install \
         postgresql) or use --database-url"
    )]
    NoBinaries { looked: String },
    #[error(
        "the database in {} was made by PostgreSQL {found}, and the programs found are of version {have}; install \
         PostgreSQL {found}, or dump the database with it and load it into a new data directory", folder.display()
    )]
    ForeignVersion {
        folder: PathBuf,
        found: String,
        have: String,
    },
    #[error("{} is in use by another towline (process {pid}); stop that one or use another data directory", folder.display())]
    Locked { folder: PathBuf, pid: String },
    #[error(
        "{} cannot be entered by user {user}, as whom PostgreSQL runs; allow it (chmod o+x {}) or use another data \
         directory", folder.display(), folder.display()
    )]
    Unsearchable { folder: PathBuf, user: String },
    #[error("PostgreSQL does not run as root, and there is no user named postgres; make one, or run as another user")]
    NoUser,
    #[error("{} belongs to user {owner}, and we run as {ours}; run as its owner or as root", folder.display())]
    Owner { folder: PathBuf, owner: u32, ours: u32 },
    #[error("{} is not a folder that only user {user} can enter; remove it", folder.display())]
    Unsafe { folder: PathBuf, user: u32 },
    #[error("cannot {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("initdb failed in {}: {output}", folder.display())]
    InitDb { folder: PathBuf, output: String },
    #[error("PostgreSQL in {} did not start; the end of its log:\n{log}", folder.display())]
    NotStarted { folder: PathBuf, log: String },
    #[error("the database server in {} answers, but not as expected: {reason}", folder.display())]
    Odd { folder: PathBuf, reason: String },
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateError {
    let path = path.to_owned();
    move |source| PrivateError::Io { what, path, source }
}

/// How long a server may take from its start to its first answer: recovery after a crash included.
const READY: Duration = Duration::from_secs(300);
/// How long a clean shutdown may take before it is made an immediate one, which is safe too.
const STOP: Duration = Duration::from_secs(60);
const DATABASE: &str = "towline";
const USER: &str = "towline";

/// What each private server is set to, for a machine of two cores that has other work.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "port=5432",
    "cluster_name=towline",
    "max_connections=40",
    "shared_buffers=64MB",
    "huge_pages=off",
    "jit=off",
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "wal_compression=on",
    "max_wal_size=1GB",
    "min_wal_size=80MB",
    "checkpoint_timeout=15min",
    "max_wal_senders=2",
    "autovacuum_naptime=20s",
    "autovacuum_vacuum_scale_factor=0.1",
    "autovacuum_max_workers=2",
    "max_parallel_workers_per_gather=0",
    "default_toast_compression=pglz",
    "logging_collector=off",
    "log_destination=stderr",
    "log_min_messages=warning",
    "timezone=UTC",
    "log_timezone=UTC",
];

/// A running private cluster. Dropping it leaves the server running, to be adopted later; call
/// [`PrivatePostgres::stop`] to end it.
pub struct PrivatePostgres {
    place: Place,
    binaries: Binaries,
    settings: Vec<String>,
    process: Mutex<Process>,
    stopping: CancellationToken,
    _lock: DataDirLock,
}

impl std::fmt::Debug for PrivatePostgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivatePostgres({})", self.place.cluster.display())
    }
}

impl PrivatePostgres {
    /// Locks the data directory, makes a cluster where there is none, and adopts or starts its server.
    pub async fn start(options: PrivateOptions) -> Result<Self, PrivateError> {
        std::fs::create_dir_all(&options.data_dir).map_err(failed("make", &options.data_dir))?;
        let data_dir = options
            .data_dir
            .canonicalize()
            .map_err(failed("find", &options.data_dir))?;
        let lock = match options.lock {
            Some(lock) => lock,
            None => DataDirLock::take(&data_dir)?,
        };
        let place = Place::find(data_dir)?;
        let binaries = Binaries::find(options.binaries.as_deref(), &place)?;
        place.check_search()?;
        let durable = !options.settings.iter().any(|setting| setting == "fsync=off");
        binaries.make_cluster(&place, durable).await?;
        let process = match Self::adopt(&place).await? {
            Some(process) => process,
            None => Self::launch_patiently(&place, &binaries, &options.settings).await?,
        };
        let postgres = Self {
            place,
            binaries,
            settings: options.settings,
            process: Mutex::new(process),
            stopping: CancellationToken::new(),
            _lock: lock,
        };
        postgres.make_database().await?;
        Ok(postgres)
    }

    /// How to connect, for as long as this server or one that takes its place runs.
    #[must_use]
    pub fn connection(&self) -> Config {
        connection(&self.place.socket, DATABASE)
    }

    /// The process id of the server now.
    pub async fn pid(&self) -> i32 {
        self.process.lock().await.pid
    }

    /// Keeps the server running: starts it again, with growing pauses, whenever it ends. Returns once
    /// [`PrivatePostgres::stop`] was called.
    pub async fn run(&self) {
        const FIRST: Duration = Duration::from_millis(100);
        let mut pause = FIRST;
        loop {
            let (pid, mut ended) = {
                let process = self.process.lock().await;
                (process.pid, process.ended.clone())
            };
            let since = Instant::now();
            tokio::select! {
                () = self.stopping.cancelled() => return,
                // An error: the task that waits for the process is gone, and so is the process.
                _ = ended.wait_for(|ended| *ended) => {}
            }
            tracing::error!(pid, "the database server has ended; starting it again");
            if since.elapsed() > Duration::from_secs(60) {
                pause = FIRST;
            }
            loop {
                let mut process = self.process.lock().await;
                if self.stopping.is_cancelled() {
                    return;
                }
                match Self::launch(&self.place, &self.binaries, &self.settings).await {
                    Ok(started) => {
                        tracing::info!(pid = started.pid, "the database server runs again");
                        *process = started;
                        break;
                    }
                    Err(error) => tracing::error!(%error, ?pause, "the database server does not start; trying again"),
                }
                drop(process);
                tokio::select! {
                    () = self.stopping.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(Duration::from_secs(10));
            }
        }
    }

    /// Shuts the server down: connections are cut, everything is written, and it ends.
    pub async fn stop(&self) {
        self.stopping.cancel();
        let process = self.process.lock().await;
        process.signal(nix::sys::signal::Signal::SIGINT);
        let mut ended = process.ended.clone();
        if tokio::time::timeout(STOP, ended.wait_for(|ended| *ended))
            .await
            .is_err()
        {
            tracing::warn!("the database server takes long to stop; it will recover at its next start");
            process.signal(nix::sys::signal::Signal::SIGQUIT);
            let _ = tokio::time::timeout(STOP, ended.wait_for(|ended| *ended)).await;
        }
        if self.place.socket != self.place.cluster {
            // Made for the socket alone; it goes if nothing else is in it.
            let _ = std::fs::remove_dir(&self.place.socket);
        }
    }

    /// Takes over a server that is still alive in this folder.
    async fn adopt(place: &Place) -> Result<Option<Process>, PrivateError> {
        let Some(found) = process::running(&place.cluster) else {
            return Ok(None);
        };
        // A socket elsewhere: an earlier version, or another runtime folder, chose it.
        let socket = found.socket.clone().unwrap_or_else(|| place.socket.clone());
        let process = Process::adopt(found.pid, found.started);
        match ready(place, &socket, &process).await {
            Ok(()) if socket == place.socket => {
                tracing::info!(pid = process.pid, "adopted the database server that was still running");
                Ok(Some(process))
            }
            Ok(()) => {
                tracing::info!(
                    pid = process.pid,
                    "the running database server has another socket; restarting it"
                );
                process.signal(nix::sys::signal::Signal::SIGINT);
                let mut ended = process.ended.clone();
                let _ = tokio::time::timeout(STOP, ended.wait_for(|ended| *ended)).await;
                Ok(None)
            }
            // It ended while we looked: it was shutting down.
            Err(PrivateError::NotStarted { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A server that was killed leaves children behind for a moment, and no other starts before they
    /// are gone.
    async fn launch_patiently(place: &Place, binaries: &Binaries, more: &[String]) -> Result<Process, PrivateError> {
        let mut tries = 0;
        loop {
            match Self::launch(place, binaries, more).await {
                Err(PrivateError::NotStarted { .. }) if tries < 5 => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(200) * tries).await;
                }
                result => return result,
            }
        }
    }

    async fn launch(place: &Place, binaries: &Binaries, more: &[String]) -> Result<Process, PrivateError> {
        place.make_socket_folder()?;
        let mut command = binaries.command("postgres", place);
        command.arg("-D").arg(&place.cluster);
        let socket = format!("unix_socket_directories={}", place.socket.display());
        let settings = SETTINGS.iter().map(|setting| (*setting).to_owned());
        for setting in settings.chain([socket]).chain(more.iter().cloned()) {
            command.arg("-c").arg(setting);
        }
        let process = Process::spawn(command, place)?;
        ready(place, &place.socket, &process).await?;
        tracing::info!(
            pid = process.pid,
            version = binaries.version,
            "the database server runs"
        );
        Ok(process)
    }

    async fn make_database(&self) -> Result<(), PrivateError> {
        let odd = |error: tokio_postgres::Error| PrivateError::Odd {
            folder: self.place.cluster.clone(),
            reason: crate::postgres::chain(&error),
        };
        let (client, connection) = connection(&self.place.socket, "postgres")
            .connect(NoTls)
            .await
            .map_err(odd)?;
        let connection = tokio::spawn(connection);
        let there = client
            .query_opt("select from pg_database where datname = $1", &[&DATABASE])
            .await
            .map_err(odd)?;
        if there.is_none() {
            client
                .batch_execute(&format!("create database {DATABASE}"))
                .await
                .map_err(odd)?;
        }
        drop(client);
        let _ = connection.await;
        Ok(())
    }
}

fn connection(socket: &Path, database: &str) -> Config {
    let mut config = Config::new();
    config
        .host_path(socket)
        .port(5432)
        .user(USER)
        .dbname(database)
        .connect_timeout(Duration::from_secs(5));
    config
}

/// Waits until a server answers, and makes sure that it serves this folder.
async fn ready(place: &Place, socket: &Path, process: &Process) -> Result<(), PrivateError> {
    let deadline = Instant::now() + READY;
    loop {
        match asked(socket).await {
            Ok(folder) if Path::new(&folder) == place.cluster => return Ok(()),
            Ok(folder) => {
                return Err(PrivateError::Odd {
                    folder: place.cluster.clone(),
                    reason: format!("it serves {folder}"),
                });
            }
            Err(error) => {
                let starting = error.code() == Some(&SqlState::CANNOT_CONNECT_NOW) || error.as_db_error().is_none();
                if !starting {
                    return Err(PrivateError::Odd {
                        folder: place.cluster.clone(),
                        reason: crate::postgres::chain(&error),
                    });
                }
            }
        }
        let mut ended = process.ended.clone();
        let wait = tokio::time::timeout(Duration::from_millis(20), ended.wait_for(|ended| *ended));
        if wait.await.is_ok() || Instant::now() > deadline {
            return Err(PrivateError::NotStarted {
                folder: place.cluster.clone(),
                log: place.log_tail(),
            });
        }
    }
}

async fn asked(socket: &Path) -> Result<String, tokio_postgres::Error> {
    let (client, connection) = connection(socket, "postgres").connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let row = client.query_one("show data_directory", &[]).await?;
    drop(client);
    let _ = connection.await;
    Ok(row.get(0))
}
