//! Back-off: 10 s, doubling, at most 300 s.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(300);
/// A container that ran this long has earned a fresh start.
pub(crate) const RESET_AFTER: Duration = Duration::from_secs(600);

/// How often something failed in a row, and when it may be tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub failures: u32,
    /// On the monotonic clock.
    pub until: Duration,
}

impl Backoff {
    /// What is left to wait at `monotonic`.
    #[must_use]
    pub(crate) fn remaining(&self, monotonic: Duration) -> Duration {
        self.until.saturating_sub(monotonic)
    }

    /// The wait that the last failure led to.
    #[must_use]
    pub(crate) fn delay(failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        FIRST.saturating_mul(1 << (failures - 1).min(10)).min(MOST)
    }

    /// One more failure: the first wait is 10 s.
    pub(crate) fn fail(&mut self, monotonic: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.until = monotonic + Self::delay(self.failures);
    }

    /// A container ended after `ran`, `ago` before now. The first restart comes at once, the next
    /// after 10 s; running for ten minutes starts the count over.
    pub(crate) fn exited(&mut self, ran: Duration, ago: Duration, monotonic: Duration) {
        if ran >= RESET_AFTER {
            self.failures = 0;
        }
        self.until = (monotonic + Self::delay(self.failures)).saturating_sub(ago);
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_wait_longer_and_longer_until_the_container_ran_for_ten_minutes() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            backoff.exited(Duration::from_secs(1), Duration::ZERO, Duration::from_secs(1000));
            waits.push(backoff.remaining(Duration::from_secs(1000)).as_secs());
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        backoff.exited(RESET_AFTER, Duration::ZERO, Duration::from_secs(1000));
        assert_eq!(backoff.remaining(Duration::from_secs(1000)).as_secs(), 0);
        backoff.exited(
            Duration::from_secs(1),
            Duration::from_secs(4),
            Duration::from_secs(1000),
        );
        assert_eq!(backoff.remaining(Duration::from_secs(1000)).as_secs(), 6);
    }

    #[test]
    fn pulls_wait_ten_seconds_after_the_first_failure() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..7)
            .map(|_| {
                backoff.fail(Duration::ZERO);
                backoff.remaining(Duration::ZERO).as_secs()
            })
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }
}
