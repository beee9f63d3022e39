//! The server's process: started by us or found running.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{process::Command, sync::watch};

use super::{PrivateError, failed, place::Place};

/// How often an adopted process, whose end nobody tells us, is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// A server's process and whether it has ended.
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) ended: watch::Receiver<bool>,
}

/// A server found by its pid file.
pub(super) struct Running {
    pub(super) pid: i32,
    /// When it started, in the kernel's ticks: the same id later is another process.
    pub(super) started: u64,
    pub(super) socket: Option<PathBuf>,
}

impl Process {
    /// Starts a server in its own process group, so that what interrupts us does not interrupt it.
    pub(super) fn spawn(mut command: Command, place: &Place) -> Result<Self, PrivateError> {
        let log = place.open_log()?;
        let also = log.try_clone().map_err(failed("open", &place.log))?;
        let mut child = command
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(also))
            .process_group(0)
            .spawn()
            .map_err(failed("start the server of", &place.cluster))?;
        // A process that was never waited for has its id.
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        let (tell, ended) = watch::channel(false);
        tokio::spawn(async move {
            match child.wait().await {
                Ok(status) => tracing::debug!(pid, %status, "the database server ended"),
                Err(error) => tracing::debug!(pid, %error, "the database server cannot be waited for"),
            }
            tell.send_replace(true);
        });
        Ok(Self { pid, ended })
    }

    /// Takes over a process that is not our child.
    pub(super) fn adopt(pid: i32, started: u64) -> Self {
        let (tell, ended) = watch::channel(false);
        tokio::spawn(async move {
            while started_at(pid) == Some(started) {
                tokio::time::sleep(LOOK).await;
            }
            tell.send_replace(true);
        });
        Self { pid, ended }
    }

    pub(super) fn signal(&self, signal: Signal) {
        if self.pid > 1 && !*self.ended.borrow() {
            // It may have ended in between.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// The server that runs in a folder: the pid file names a process, and that process works there.
pub(super) fn running(cluster: &Path) -> Option<Running> {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let pid: i32 = lines.first()?.parse().ok()?;
    let started = started_at(pid)?;
    let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    if works_in != cluster {
        return None;
    }
    let socket = lines.get(4).filter(|socket| !socket.is_empty());
    Some(Running {
        pid,
        started,
        socket: socket.map(PathBuf::from),
    })
}

/// When a live process started. None: there is none, or it is dead and only not yet waited for.
fn started_at(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    fields.get(19)?.parse().ok()
}
