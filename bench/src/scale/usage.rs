//! What processes use, as `/proc` tells it.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use tokio::task::JoinHandle;

/// How often memory is looked at. What is higher in between is not seen of Postgres; of the server the
/// kernel keeps the highest by itself.
const INTERVAL: Duration = Duration::from_millis(500);

/// The processes that are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pids {
    pub(crate) server: u32,
    pub(crate) postmaster: u32,
}

/// CPU that was used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) server: Duration,
    /// The postmaster and all its children, those that have ended included.
    pub(crate) postgres: Duration,
    /// This process: the simulated nodes and whoever measures.
    pub(crate) nodes: Duration,
    /// The whole machine.
    pub(crate) all: Duration,
}

impl Cpu {
    /// # Errors
    /// When one of the processes is not there.
    pub(crate) fn now(pids: Pids) -> anyhow::Result<Self> {
        Ok(Self {
            server: stat(pids.server)?.own,
            postgres: tree(pids.postmaster)?,
            nodes: stat(std::process::id())?.own,
            all: machine()?,
        })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            postgres: self.postgres.saturating_sub(before.postgres),
            nodes: self.nodes.saturating_sub(before.nodes),
            all: self.all.saturating_sub(before.all),
        }
    }

    /// What processes used that have nothing to do with this.
    pub(crate) fn others(self) -> Duration {
        self.all
            .saturating_sub(self.server)
            .saturating_sub(self.postgres)
            .saturating_sub(self.nodes)
    }
}

/// A clock tick of `/proc`, which Linux fixes at a hundredth of a second for all that it shows.
const TICK: Duration = Duration::from_millis(10);

struct Stat {
    parent: u32,
    own: Duration,
    /// Of children that have ended and were waited for.
    ended: Duration,
}

fn stat(pid: u32) -> anyhow::Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name, in brackets, may hold anything.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<u64> = rest
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let ticks = |at: usize| {
        let ticks = fields.get(at).copied().unwrap_or(0) + fields.get(at + 1).copied().unwrap_or(0);
        TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
    };
    Ok(Stat {
        parent: u32::try_from(fields.get(1).copied().unwrap_or(0)).unwrap_or(0),
        own: ticks(11),
        ended: ticks(13),
    })
}

fn children(of: u32) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has just ended is no child any more.
        if stat(pid).is_ok_and(|stat| stat.parent == of) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn tree(postmaster: u32) -> anyhow::Result<Duration> {
    let root = stat(postmaster)?;
    let children = children(postmaster)?;
    let living = children
        .into_iter()
        .filter_map(|pid| stat(pid).ok())
        .map(|stat| stat.own);
    Ok(root.own + root.ended + living.sum::<Duration>())
}

/// All but idle time of all cores.
fn machine() -> anyhow::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let fields: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // Idle, waiting for a disk, and guests, which are counted as users already.
    let busy = fields.iter().enumerate().filter(|(at, _)| ![3, 4, 8, 9].contains(at));
    let ticks: u64 = busy.map(|(_, ticks)| ticks).sum();
    Ok(TICK * u32::try_from(ticks).unwrap_or(u32::MAX))
}

fn kib(path: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The memory of a process that is in use now, in KiB.
pub(crate) fn resident(pid: u32) -> u64 {
    kib(&format!("/proc/{pid}/status"), "VmRSS:").unwrap_or(0)
}

/// The memory of all processes of a Postgres in KiB, what they share counted once.
fn postgres(postmaster: u32) -> u64 {
    let all = children(postmaster).unwrap_or_default().into_iter().chain([postmaster]);
    all.filter_map(|pid| kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:"))
        .sum()
}

/// The highest use of memory since it was last asked.
pub(crate) struct Peak {
    pids: Pids,
    postgres: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

/// KiB of memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) server: u64,
    pub(crate) postgres: u64,
}

impl Peak {
    /// Begins to look.
    pub(crate) fn start(pids: Pids) -> Self {
        forget(pids.server);
        let highest = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn({
            let highest = highest.clone();
            async move {
                loop {
                    let found = tokio::task::spawn_blocking(move || postgres(pids.postmaster)).await;
                    highest.fetch_max(found.unwrap_or(0), Ordering::Relaxed);
                    tokio::time::sleep(INTERVAL).await;
                }
            }
        });
        Self {
            pids,
            postgres: highest,
            task,
        }
    }

    /// The highest since the start or the last call.
    pub(crate) fn take(&self) -> Memory {
        let path = format!("/proc/{}/status", self.pids.server);
        let memory = Memory {
            server: kib(&path, "VmHWM:").unwrap_or(0),
            postgres: self
                .postgres
                .swap(0, Ordering::Relaxed)
                .max(postgres(self.pids.postmaster)),
        };
        forget(self.pids.server);
        memory
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Lets the kernel begin anew to keep the highest.
fn forget(pid: u32) {
    // Without the right to do so, the peak is that of the whole life.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The load of the machine over the last minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string(Path::new("/proc/loadavg")).unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}
