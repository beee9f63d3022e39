//! A Swarm service on a dockerd of its own, in a network namespace of its own: Swarm and live-restore
//! exclude each other.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{
    IMAGE, IMAGE_2, PATIENCE,
    process::{clean, goes_on, run},
};

const NAMESPACE: &str = "towline-bench";

pub(crate) struct Swarm {
    dir: TempDir,
    child: Child,
    version: String,
}

impl Swarm {
    /// None where this user may not start a second engine; the run says so.
    pub(crate) fn start() -> anyhow::Result<Option<Self>> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("Swarm is left out: only root can start a second Docker Engine in a network namespace");
            return Ok(None);
        }
        let dir = tempfile::tempdir()?;
        let _ = clean(Command::new("ip").args(["netns", "delete", NAMESPACE]));
        run(Command::new("ip").args(["netns", "add", NAMESPACE]))?;
        run(Command::new("ip").args(["-n", NAMESPACE, "link", "set", "lo", "up"]))?;
        let log = File::create(dir.path().join("dockerd.log"))?;
        let child = Command::new("nsenter")
            .arg(format!("--net=/var/run/netns/{NAMESPACE}"))
            .arg("dockerd")
            .arg("--data-root")
            .arg(dir.path().join("data"))
            .arg("--exec-root")
            .arg(dir.path().join("exec"))
            .arg("--pidfile")
            .arg(dir.path().join("docker.pid"))
            .arg("--host")
            .arg(format!("unix://{}", dir.path().join("docker.sock").display()))
            .args(["--bip", "172.31.254.1/24"])
            // A signal from the terminal is this process's to act on.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut swarm = Self {
            dir,
            child,
            version: String::new(),
        };
        let begin = Instant::now();
        while let Err(error) = swarm.docker(&["info"]) {
            goes_on()?;
            anyhow::ensure!(begin.elapsed() < PATIENCE, "Swarm's dockerd does not answer: {error}");
            thread::sleep(Duration::from_millis(100));
        }
        run(Command::new("scripts/images").env("TOWLINE_DOCKER", swarm.dir.path().join("docker.sock")))?;
        swarm.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"])?;
        swarm.version = swarm
            .docker(&["version", "--format", "{{.Server.Version}}"])?
            .trim()
            .to_owned();
        Ok(Some(swarm))
    }

    pub(crate) fn name(&self) -> String {
        format!("Swarm {}", self.version)
    }

    fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(self.command().args(arguments))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command
            .arg("-H")
            .arg(format!("unix://{}", self.dir.path().join("docker.sock").display()));
        command
    }

    /// From `service create --detach` to all containers running: the stability wait of five seconds
    /// that the client adds is taken out.
    pub(crate) fn run(&self, replicas: usize) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.create(replicas)?;
        self.wait(IMAGE, replicas)?;
        let took = start.elapsed();
        self.remove()?;
        Ok(took)
    }

    pub(crate) fn roll(&self, replicas: usize) -> anyhow::Result<Duration> {
        self.create(replicas)?;
        self.wait(IMAGE, replicas)?;
        let start = Instant::now();
        // As many at a time as a Deployment of ten may replace: a quarter, rounded up.
        self.docker(&[
            "service",
            "update",
            "--detach",
            "--quiet",
            "--no-resolve-image",
            "--image",
            IMAGE_2,
            "--update-parallelism",
            "3",
            "--update-order",
            "start-first",
            "--update-monitor",
            "1ms",
            "web",
        ])?;
        self.wait(IMAGE_2, replicas)?;
        let took = start.elapsed();
        self.remove()?;
        Ok(took)
    }

    fn create(&self, replicas: usize) -> anyhow::Result<()> {
        let replicas = replicas.to_string();
        self.docker(&[
            "service",
            "create",
            "--detach",
            "--quiet",
            "--no-resolve-image",
            "--stop-grace-period",
            "1s",
            "--name",
            "web",
            "--replicas",
            &replicas,
            IMAGE,
        ])?;
        Ok(())
    }

    fn wait(&self, image: &str, replicas: usize) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let filter = format!("ancestor={image}");
            let running = self.docker(&["ps", "--quiet", "--filter", "status=running", "--filter", &filter])?;
            if running.lines().count() >= replicas {
                return Ok(());
            }
            anyhow::ensure!(
                begin.elapsed() < PATIENCE,
                "Swarm runs {} of {replicas}",
                running.lines().count()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn remove(&self) -> anyhow::Result<()> {
        self.docker(&["service", "rm", "web"])?;
        let begin = Instant::now();
        while !self.docker(&["ps", "--all", "--quiet"])?.trim().is_empty() {
            anyhow::ensure!(begin.elapsed() < PATIENCE, "Swarm's containers do not go");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        let _ = clean(self.command().args(["swarm", "leave", "--force"]));
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let _ = self.child.wait();
        let _ = clean(Command::new("ip").args(["netns", "delete", NAMESPACE]));
    }
}
