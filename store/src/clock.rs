//! The machine's clock, for those who bring no other.

use std::time::{Duration, Instant};

use schemas::{Now, now::Clock};

/// Reads the machine's wall clock and its monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

/// What the monotonic clock shows at its start, so that there is room for what lies before it: a pod
/// that was ready when this process started has been so for a while.
const BEFORE: Duration = Duration::from_secs(24 * 3600);

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now {
            wall: jiff::Timestamp::now(),
            monotonic: BEFORE + self.start.elapsed(),
        }
    }
}
