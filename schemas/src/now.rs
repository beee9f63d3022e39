//! Time as an argument.

use std::time::Duration;

use jiff::Timestamp;

/// The time of one decision, read once at a task's edge.
///
/// Back-off, time-outs and silence are measured on `monotonic`, which no clock step can move; cron
/// and the time fields of the API use `wall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall-clock time, as written into objects.
    pub wall: Timestamp,
    /// Time since an arbitrary fixed point of this process.
    pub monotonic: Duration,
}

impl Now {
    /// The same instant moved on by `by` on both clocks. For tests and simulation.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self {
            wall: self.wall + by,
            monotonic: self.monotonic + by,
        }
    }
}

/// Where tasks read the time; the simulation puts its own clock here.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Now;
}
