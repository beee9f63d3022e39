//! A Docker Engine of a test's own, in a network namespace of its own, that can be stopped.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{docker, have, run, skipped, sources, wait};

/// A dockerd with its own data root, socket and network namespace. Needs root.
#[derive(Debug)]
pub struct Engine {
    dir: TempDir,
    namespace: String,
    live_restore: bool,
    child: Option<Child>,
}

/// True where this user may start an engine of its own, in a network namespace of its own.
pub fn have_engine() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skipped("only root can start a second Docker Engine in a network namespace");
    }
    root && have("dockerd", &["--version"])
}

impl Engine {
    pub fn start(live_restore: bool) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("towline-engine-").tempdir()?;
        let namespace = format!("tl{}", std::process::id() % 100_000 + u32::from(live_restore) * 100_000);
        run(Command::new("ip").args(["netns", "add", &namespace]))?;
        let mut engine = Self {
            dir,
            namespace,
            live_restore,
            child: None,
        };
        run(Command::new("ip").args(["-n", &engine.namespace, "link", "set", "lo", "up"]))?;
        engine.launch()?;
        // The images are made where the shared engine's are: by the same script.
        run(Command::new(sources().join("scripts/images")).env("TOWLINE_DOCKER", engine.socket()))?;
        Ok(engine)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Starts dockerd, also again after a stop, and waits until it answers.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("dockerd.log"))?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/var/run/netns/{}", self.namespace))
            .arg("dockerd")
            .arg("--data-root")
            .arg(self.dir.path().join("data"))
            .arg("--exec-root")
            .arg(self.dir.path().join("exec"))
            .arg("--pidfile")
            .arg(self.dir.path().join("docker.pid"))
            .arg("--host")
            .arg(self.host())
            .args(["--bip", "172.31.255.1/24"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if self.live_restore {
            command.arg("--live-restore");
        }
        self.child = Some(command.spawn()?);
        wait("dockerd to answer", Duration::from_secs(60), || {
            docker::docker(&self.host(), &["info"])
                .map(|_| ())
                .map_err(|error| format!("{error}\n{}", self.log()))
        });
        Ok(())
    }

    /// Stops dockerd as a system would, waited for.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)?;
            wait("dockerd to end", Duration::from_secs(60), || match child.try_wait() {
                Ok(Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
        Ok(())
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.dir.path().join("dockerd.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.is_none() {
            let _ = self.launch();
        }
        docker::remove(&self.host(), &["ps", "-aq"], &["rm", "-f"]);
        let _ = self.stop();
        let _ = run(Command::new("ip").args(["netns", "delete", &self.namespace]));
    }
}
