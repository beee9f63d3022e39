//! A server of its own with its private Postgres, over a local repository.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{api::Api, usage::Pids};
use crate::{PATIENCE, process::run};

pub(crate) struct Cluster {
    binary: PathBuf,
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Cluster {
    /// Starts on an empty repository and waits until the server is ready.
    pub(crate) async fn start(binary: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("towline-scale-").tempdir()?;
        // The private Postgres may run as another user, who must get through.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let repo = dir.path().join("repo");
        fs::create_dir_all(&repo)?;
        run(Command::new("git")
            .arg("-C")
            .arg(&repo)
            .args(["init", "--quiet", "--initial-branch=main"]))?;
        let child = launch(binary, dir.path(), port)?;
        let mut cluster = Self {
            binary: binary.to_owned(),
            dir,
            port,
            child,
        };
        cluster.ready().await?;
        Ok(cluster)
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            if let Ok(api) = self.api()
                && api.ask("GET", "/readyz", Vec::new()).await.is_ok()
            {
                return Ok(());
            }
            anyhow::ensure!(
                begin.elapsed() < PATIENCE && self.child.try_wait()?.is_none(),
                "the server is not ready; the end of its log:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The end of the server's log.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A client of an administrator.
    pub(crate) fn api(&self) -> anyhow::Result<Api> {
        Api::new(&self.data(), self.port, "admin-token")
    }

    /// A line of the file that a Postgres keeps while it runs.
    fn postmaster(&self, line: usize) -> anyhow::Result<String> {
        let path = self.data().join("postgres/postmaster.pid");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let found = text.lines().nth(line);
        Ok(found.context("the file of the Postgres is short")?.trim().to_owned())
    }

    pub(crate) fn pids(&self) -> anyhow::Result<Pids> {
        Ok(Pids {
            server: self.child.id(),
            postmaster: self.postmaster(0)?.parse()?,
        })
    }

    /// Rows that were written into tables since the database was made.
    pub(crate) fn rows(&self) -> anyhow::Result<u64> {
        let count = "select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) from pg_stat_user_tables";
        let said = run(Command::new("psql")
            .args(["--no-psqlrc", "-At", "-U", "towline", "-d", "towline", "-p"])
            .arg(self.postmaster(3)?)
            .arg("-h")
            .arg(self.postmaster(4)?)
            .args(["-c", count]))
        .context("rows are counted with psql")?;
        said.trim().parse().context("psql does not print a number")
    }

    /// Writes a manifest of the repository.
    pub(crate) fn write(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let path = self.dir.path().join("repo").join(file);
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        fs::write(path, text)?;
        Ok(())
    }

    /// Commits what was written; returns when the branch had moved.
    pub(crate) fn publish(&self, message: &str) -> anyhow::Result<Instant> {
        let git = |arguments: &[&str]| {
            run(Command::new("git")
                .arg("-C")
                .arg(self.dir.path().join("repo"))
                .args(["-c", "user.name=Bench", "-c", "user.email=bench@example.com"])
                .args(arguments))
        };
        git(&["add", "--all"])?;
        let tree = git(&["write-tree"])?;
        let mut commit = vec!["commit-tree", tree.trim(), "-m", message];
        let parent = git(&["rev-parse", "--verify", "--quiet", "refs/heads/main"]);
        if let Ok(parent) = &parent {
            commit.extend(["-p", parent.trim()]);
        }
        let commit = git(&commit)?;
        let at = Instant::now();
        git(&["update-ref", "refs/heads/main", commit.trim()])?;
        Ok(at)
    }

    /// Kills the server as a crash would, and starts it again at once.
    pub(crate) fn crash(&mut self) -> anyhow::Result<Instant> {
        let at = Instant::now();
        self.child.kill()?;
        self.child.wait()?;
        self.child = launch(&self.binary, self.dir.path(), self.port)?;
        Ok(at)
    }
}

impl Drop for Cluster {
    /// Ends the server and its Postgres, whatever state they are in.
    fn drop(&mut self) {
        let signal = |pid: i32, signal| kill(Pid::from_raw(pid), signal).is_ok();
        let postmaster = self.postmaster(0).ok().and_then(|pid| pid.parse::<i32>().ok());
        signal(self.child.id().cast_signed(), Signal::SIGTERM);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(30) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(pid) = postmaster {
            let left = || fs::metadata(format!("/proc/{pid}")).is_ok() && self.postmaster(0).is_ok();
            if left() {
                signal(pid, Signal::SIGINT);
            }
            while begin.elapsed() < Duration::from_secs(60) && left() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn launch(binary: &Path, dir: &Path, port: u16) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(dir.join("server.log"))?;
    Command::new(binary)
        .arg("server")
        .arg("--data-dir")
        .arg(dir.join("data"))
        .arg("--repo")
        .arg(dir.join("repo"))
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("{} does not start", binary.display()))
}
