//! How long a Job waits after failures.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
const LAST: Duration = Duration::from_secs(600);

/// How many failures in a row tell apart: from then on the wait stays the same.
pub(super) const STEPS: usize = 8;

/// The wait after so many failures in a row: 10 s, doubling, at most 10 min.
pub(super) fn after(failures: usize) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => (FIRST * (1 << (failures - 1).min(STEPS))).min(LAST),
    }
}

/// What is left of the wait, `since` the last failure.
pub(super) fn left(failures: usize, since: Duration) -> Option<Duration> {
    after(failures).checked_sub(since).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_ten_minutes() {
        let seconds: Vec<u64> = (0..10).map(|failures| after(failures).as_secs()).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert_eq!(after(1_000).as_secs(), 600);
        assert_eq!(left(1, Duration::from_secs(4)), Some(Duration::from_secs(6)));
        assert_eq!(left(1, Duration::from_secs(10)), None);
        assert_eq!(left(0, Duration::ZERO), None);
    }
}
