//! A whole Towline: the real binary in a process of its own.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Container, Repository, binary,
    docker::{self, containers},
    run, run_any, wait,
};

/// How a test wants its cluster.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Use the built-in repository, seeded from `examples-repo/`, instead of a local one.
    pub builtin: bool,
    /// More flags for `towline up`.
    pub flags: Vec<String>,
    /// Another engine's socket than the shared one.
    pub docker: Option<PathBuf>,
    /// What fills the built-in repository in place of `examples-repo/`.
    pub seed: Option<PathBuf>,
    /// Another repository than the local one.
    pub repo: Option<String>,
    /// `towline server` in place of `towline up`: agents are processes of their own.
    pub server_only: bool,
}

/// A running cluster and its folder.
#[derive(Debug)]
pub struct Cluster {
    pub dir: TempDir,
    /// The repository that declares the state: the local one, or a clone of the built-in one.
    pub repository: Repository,
    options: Options,
    port: u16,
    range: u8,
    _range_lock: Flock<File>,
    child: Option<Child>,
}

/// Long enough for a loaded machine of two cores; a condition that holds ends the wait at once.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl Cluster {
    /// Starts a cluster with an empty local repository.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare(options)?;
        cluster.launch()?;
        if cluster.options.builtin {
            cluster.repository = Repository::clone(
                &cluster.git_url()?,
                &cluster.data().join("ca.pem"),
                &cluster.dir.path().join("repo"),
            )?;
        }
        Ok(cluster)
    }

    /// Starts another server beside one, for the same repository and with the key of its database.
    pub fn beside(other: &Self, options: Options) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare(options)?;
        cluster.repository = Repository {
            dir: other.repository.dir.clone(),
        };
        fs::create_dir_all(cluster.data())?;
        fs::copy(other.data().join("master.key"), cluster.data().join("master.key"))?;
        cluster.launch()?;
        Ok(cluster)
    }

    fn prepare(options: Options) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("towline-test-").tempdir()?;
        // The private Postgres runs as another user when tests run as root.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
        let (range, lock) = pod_range()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let repository = Repository {
            dir: dir.path().join("repo"),
        };
        if !options.builtin {
            Repository::init(&repository.dir)?.commit("Begin")?;
        }
        Ok(Self {
            dir,
            repository,
            options,
            port,
            range,
            _range_lock: lock,
            child: None,
        })
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data().join("kubeconfig")
    }

    pub fn listen(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The name of this cluster's node.
    pub fn node_name(&self) -> String {
        format!("node-{}", self.range)
    }

    /// Name, pod range and Docker Engine of this cluster's node, as flags.
    pub(crate) fn node_flags(&self) -> Vec<String> {
        let docker = match &self.options.docker {
            Some(socket) => socket.display().to_string(),
            None => docker::socket(),
        };
        let range = format!("10.201.{}.0/24", self.range);
        let name = self.node_name();
        // How full the disk of a test machine is, is not what tests are about.
        let pressure = "nodefs.available<1%,imagefs.available<1%";
        [
            "--pod-range",
            &range,
            "--node-name",
            &name,
            "--docker",
            &docker,
            "--pressure",
            pressure,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    pub fn git_url(&self) -> anyhow::Result<String> {
        let token = fs::read_to_string(self.data().join("admin-token"))?;
        Ok(format!(
            "https://towline:{}@{}/git/towline.git",
            token.trim(),
            self.listen()
        ))
    }

    /// The engine that this cluster's containers run on, for `docker -H`.
    pub fn docker_host(&self) -> String {
        match &self.options.docker {
            Some(socket) => format!("unix://{}", socket.display()),
            None => docker::host(),
        }
    }

    /// Starts the process, also again after it was killed, and waits until it is ready.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(binary("towline"));
        command
            .arg(if self.options.server_only { "server" } else { "up" })
            .arg("--data-dir")
            .arg(self.data())
            .arg("--listen")
            .arg(self.listen())
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(File::options().create(true).append(true).open(self.out_path())?)
            .stderr(log);
        if !self.options.server_only {
            command.args(self.node_flags());
        }
        if self.options.builtin {
            let examples = crate::sources().join("examples-repo");
            command
                .arg("--seed")
                .arg(self.options.seed.as_ref().unwrap_or(&examples));
        } else if let Some(repo) = &self.options.repo {
            command.arg("--repo").arg(repo);
        } else {
            command.arg("--repo").arg(&self.repository.dir);
        }
        command.args(&self.options.flags);
        self.child = Some(command.spawn().context("towline does not start")?);
        self.wait_ready();
        Ok(())
    }

    pub fn wait_ready(&mut self) {
        wait("the server to be ready", PATIENCE, || {
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!("towline up ended with {status}\n{}", self.log());
            }
            if !self.kubeconfig().exists() {
                return Err(format!("no kubeconfig\n{}", self.log()));
            }
            match run_any(&mut self.command(&["status", "--output", "json"])) {
                Ok((0, _)) => Ok(()),
                Ok((_, text)) => Err(format!("{text}\n{}", self.log())),
                Err(error) => Err(error.to_string()),
            }
        });
    }

    /// The ids of the agents that have their folders here, as their networks' labels have them.
    fn node_uids(&self) -> Vec<String> {
        let folders = fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        folders
            .filter_map(|folder| fs::read_to_string(folder.path().join("agent/identity.json")).ok())
            .filter_map(|text| serde_json::from_str::<Value>(&text).ok())
            .filter_map(|identity| identity["node_uid"].as_str().map(str::to_owned))
            .collect()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("up.log")
    }

    fn out_path(&self) -> PathBuf {
        self.dir.path().join("up.out")
    }

    /// What the process has printed, apart from its log.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.out_path()).unwrap_or_default()
    }

    /// The end of the process's log, for failure messages.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// The process's whole log.
    pub fn whole_log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The process's id.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| child.id().cast_signed())
    }

    /// The id of the private Postgres.
    pub fn postgres_pid(&self) -> anyhow::Result<i32> {
        let text = fs::read_to_string(self.data().join("postgres/postmaster.pid"))?;
        Ok(text.lines().next().unwrap_or_default().trim().parse()?)
    }

    /// Waits until the process has ended by itself.
    pub fn wait_end(&mut self, within: Duration) -> ExitStatus {
        let ended = self.child.take().map(|mut child| {
            wait("towline to end", within, || match child.try_wait() {
                Ok(Some(status)) => Ok(status),
                other => Err(format!("{other:?}\n{}", self.log())),
            })
        });
        ended.unwrap_or_default()
    }

    /// Stops the process where it is; only [`Cluster::kill`] ends it then.
    pub fn freeze(&self) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.pid()), Signal::SIGSTOP)?)
    }

    /// `kill -9` of the process, waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.end(Signal::SIGKILL)
    }

    /// SIGTERM, waited for.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.end(Signal::SIGTERM)
    }

    fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            kill(Pid::from_raw(child.id().cast_signed()), signal)?;
            wait("towline to end", Duration::from_secs(30), || match child.try_wait() {
                Ok(Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
        Ok(())
    }

    /// `towline …` against this cluster.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("towline"));
        command.args(arguments).arg("--data-dir").arg(self.data());
        command
    }

    pub fn towline(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(&mut self.command(arguments))
    }

    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments);
        command
    }

    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(&mut self.kubectl_command(arguments))
    }

    /// An object or a list, as JSON.
    pub fn get(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut all = vec!["get", "--output", "json"];
        all.extend(arguments);
        Ok(serde_json::from_str(&self.kubectl(&all)?)?)
    }

    /// The containers of this cluster, dead ones included.
    pub fn containers(&self) -> anyhow::Result<Vec<Container>> {
        let id = fs::read_to_string(self.data().join("cluster-id"))?;
        containers(&self.docker_host(), &format!("dev.towline.cluster={}", id.trim()))
    }

    /// The running containers of this cluster.
    pub fn running(&self) -> anyhow::Result<Vec<Container>> {
        let mut all = self.containers()?;
        all.retain(|container| container.state == "running");
        Ok(all)
    }

    pub fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        docker::docker(&self.docker_host(), arguments)
    }

    /// Waits until the newest commit's outcome is `outcome` (as `towline sync --wait` prints it).
    pub fn sync(&self, code: i32) -> String {
        let mut last = String::new();
        wait("the sync's outcome", PATIENCE, || {
            let (got, text) = run_any(&mut self.command(&["sync", "--wait", "--timeout", "60"]))
                .map_err(|error| error.to_string())?;
            last.clone_from(&text);
            if got == code {
                Ok(())
            } else {
                Err(format!(
                    "exit code {got}, not {code}: {text}\n{}\n{}",
                    self.kubectl(&["get", "pods,events", "--all-namespaces"])
                        .unwrap_or_default(),
                    self.log()
                ))
            }
        });
        last
    }

    /// Waits until `count` containers run, and returns them.
    pub fn wait_running(&self, count: usize) -> Vec<Container> {
        wait(&format!("{count} running containers"), PATIENCE, || {
            let running = self.running().map_err(|error| error.to_string())?;
            if running.len() == count {
                Ok(running)
            } else {
                Err(format!("{running:#?}\n{}", self.log()))
            }
        })
    }

    /// Waits until the newest status commit reports on `commit` with `outcome`; returns its message.
    pub fn wait_status(&self, commit: &str, outcome: &str) -> String {
        self.wait_status_within(commit, outcome, PATIENCE)
    }

    /// As [`Cluster::wait_status`], for what takes longer by design.
    pub fn wait_status_within(&self, commit: &str, outcome: &str, within: Duration) -> String {
        wait(&format!("a status commit for {commit}: {outcome}"), within, || {
            if self.options.builtin {
                self.repository
                    .git(&["fetch", "--quiet", "origin", "+towline/status:towline/status"])
                    .map_err(|error| error.to_string())?;
            }
            let message = self.repository.status_message().map_err(|error| error.to_string())?;
            if message.contains(&format!("Source-Commit: {commit}")) && message.contains(&format!("Outcome: {outcome}"))
            {
                Ok(message)
            } else {
                Err(format!("{message}\n{}", self.log()))
            }
        })
    }
}

impl Drop for Cluster {
    /// Ends the process and removes its containers and networks; each step is tried whatever became
    /// of the one before.
    fn drop(&mut self) {
        let id = fs::read_to_string(self.data().join("cluster-id")).unwrap_or_default();
        if std::thread::panicking() {
            eprintln!("--- towline's log\n{}", self.log());
            if std::env::var_os("TOWLINE_TEST_KEEP").is_some() {
                eprintln!("kept in {}", self.dir.path().display());
                self.dir.disable_cleanup(true);
                return;
            }
        }
        let _ = self.stop();
        let host = self.docker_host();
        let of_cluster = format!("label=dev.towline.cluster={}", id.trim());
        if !id.is_empty() {
            docker::remove(&host, &["ps", "-aq", "--filter", &of_cluster], &["rm", "-f"]);
            docker::remove(
                &host,
                &["volume", "ls", "-q", "--filter", &of_cluster],
                &["volume", "rm", "-f"],
            );
            for uid in self.node_uids() {
                let of_node = format!("label=dev.towline.node-uid={uid}");
                docker::remove(
                    &host,
                    &["network", "ls", "-q", "--filter", &of_node],
                    &["network", "rm"],
                );
            }
        }
        // A killed server leaves its Postgres behind for the next one to adopt; here none follows.
        if let Ok(pid) = self.postgres_pid()
            && let Ok(exe) = fs::read_link(format!("/proc/{pid}/exe"))
            && exe.ends_with("postgres")
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
    }
}

/// Takes a pod range that no other test of this machine has: 10.201.N.0/24.
fn pod_range() -> anyhow::Result<(u8, Flock<File>)> {
    let dir = std::env::temp_dir().join("towline-test-ranges");
    fs::create_dir_all(&dir)?;
    for range in 1..=250 {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(range.to_string()))?;
        if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            return Ok((range, lock));
        }
    }
    anyhow::bail!("all pod ranges are taken: are there tests that did not end?")
}
