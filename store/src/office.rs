//! Whether this server may write, and how anyone else can tell.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use schemas::Now;
use tokio::{sync::watch, time::Instant};

use crate::queue::BatchLimits;

/// Whether this server may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Office {
    Leading,
    /// The log is away; reads go on, and the writer keeps trying.
    Away,
    /// Another server took over. For good: open a new store.
    Lost,
    Closed,
}

/// How the writer goes about its work.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub batch: BatchLimits,
    /// How long a commit may take before its connection counts as lost.
    pub commit: Duration,
    /// How often an idle writer asks whether it still leads.
    pub renew: Duration,
    /// How long it counts as leading after it last knew so.
    pub lease: Duration,
    /// The first and the longest pause between attempts to reach the log again.
    pub retry: (Duration, Duration),
    /// How long callers wait for an answer while nothing moves.
    pub answer: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            batch: BatchLimits::default(),
            commit: Duration::from_secs(20),
            renew: Duration::from_secs(1),
            lease: Duration::from_secs(10),
            retry: (Duration::from_millis(50), Duration::from_secs(1)),
            answer: Duration::from_millis(4500),
        }
    }
}

/// What the writer tells everyone about itself.
pub(crate) struct Standpoint {
    pub(crate) office: watch::Sender<Office>,
    /// When it last knew that it leads: milliseconds of the monotonic clock.
    pub(crate) renewed: AtomicU64,
    /// When it last made progress: milliseconds since `start`.
    pub(crate) progress: AtomicU64,
    /// When the log went away: milliseconds since `start`; `u64::MAX` while it is there.
    away: AtomicU64,
    pub(crate) start: Instant,
}

impl Standpoint {
    pub(crate) fn new(now: Now) -> Self {
        Self {
            office: watch::Sender::new(Office::Leading),
            renewed: AtomicU64::new(millis(now.monotonic)),
            progress: AtomicU64::new(0),
            away: AtomicU64::new(u64::MAX),
            start: Instant::now(),
        }
    }

    /// When a caller that asked at `asked` may give up, as things stand.
    pub(crate) fn deadline(&self, asked: Instant, patience: Duration) -> Instant {
        let progress = self.start + Duration::from_millis(self.progress.load(Ordering::Relaxed));
        asked.max(progress) + patience
    }

    /// Whether the log has been away for longer than this.
    pub(crate) fn is_away_for(&self, patience: Duration) -> bool {
        let since = self.away.load(Ordering::Relaxed);
        since != u64::MAX && millis(self.start.elapsed()).saturating_sub(since) >= millis(patience)
    }

    pub(crate) fn is_away(&self, away: bool) {
        let since = if away { millis(self.start.elapsed()) } else { u64::MAX };
        self.away.store(since, Ordering::Relaxed);
        self.office
            .send_replace(if away { Office::Away } else { Office::Leading });
    }

    pub(crate) fn moved(&self) {
        let since = self.start.elapsed();
        self.progress.store(millis(since), Ordering::Relaxed);
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
