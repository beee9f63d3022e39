//! The machine's clock, for those who bring no other.

use std::time::{Duration, Instant};

use schemas::{Now, now::Clock};

/// The monotonic clock of a process begins here, so that what began long before the process has its
/// place on it.
const BEGINNING: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 10);

/// Reads the machine's wall clock and its monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now {
            wall: jiff::Timestamp::now(),
            monotonic: BEGINNING + self.start.elapsed(),
        }
    }
}
