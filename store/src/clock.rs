//! The machine's clock, for those who bring no other.

use std::time::Instant;

use schemas::{Now, now::Clock};

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
            monotonic: self.start.elapsed(),
        }
    }
}
