//! `towline agent` in a process of its own, beside a cluster without one.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{Cluster, binary, wait};

/// An agent and its folder, which lies in the cluster's. It ends when it is dropped; the cluster then
/// removes its containers.
#[derive(Debug)]
pub struct Agent {
    folder: PathBuf,
    flags: Vec<String>,
    child: Option<Child>,
}

impl Agent {
    /// Starts an agent that keeps its state in the folder `name`.
    pub fn start(cluster: &Cluster, name: &str) -> anyhow::Result<Self> {
        let server = cluster.data();
        let mut flags = cluster.node_flags();
        flags.extend([
            "--server".to_owned(),
            format!("https://{}", cluster.listen()),
            "--token-file".to_owned(),
            server.join("join-token").display().to_string(),
            "--ca-file".to_owned(),
            server.join("ca.pem").display().to_string(),
        ]);
        let mut agent = Self {
            folder: cluster.dir.path().join(name),
            flags,
            child: None,
        };
        agent.launch()?;
        Ok(agent)
    }

    /// Starts the process, also again after it has ended.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let child = Command::new(binary("towline"))
            .arg("agent")
            .arg("--data-dir")
            .arg(&self.folder)
            .args(&self.flags)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("the agent does not start")?;
        self.child = Some(child);
        Ok(())
    }

    /// The certificate and the key of the node, in PEM.
    pub fn credentials(&self, cluster: &Cluster) -> anyhow::Result<(String, String)> {
        let text = fs::read_to_string(self.folder.join(format!("node-{}.json", cluster.node_name())))?;
        let kept: Value = serde_json::from_str(&text)?;
        let part = |name: &str| kept[name].as_str().unwrap_or_default().to_owned();
        Ok((part("certificate"), part("key")))
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("agent.log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// `kill -9`, waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.end(Signal::SIGKILL)
    }

    /// Waits until the process has ended by itself.
    pub fn wait_end(&mut self, within: Duration) -> ExitStatus {
        let log = self.log_path();
        let child = self.child.as_mut();
        let Some(child) = child else {
            return ExitStatus::default();
        };
        wait("the agent to end", within, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}\n{}", fs::read_to_string(&log).unwrap_or_default())),
        })
    }

    fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take()
            && child.try_wait()?.is_none()
        {
            kill(Pid::from_raw(child.id().cast_signed()), signal)?;
            wait("the agent to end", Duration::from_secs(30), || match child.try_wait() {
                Ok(Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.end(Signal::SIGTERM);
        if std::thread::panicking() {
            eprintln!("--- the agent's log\n{}", self.log());
        }
    }
}
