//! Since when things have been as they are, on the monotonic clock.
//!
//! What was so before this process began is taken over from the server's stamp once; from then on no
//! step of the wall clock changes anything.

use std::time::Duration;

use jiff::Timestamp;
use rustc_hash::FxHashMap;
use schemas::{Now, Uid};

/// Objects in some state, with the server's stamp of when they came to it.
#[derive(Debug, Default)]
pub(super) struct Lasting(FxHashMap<Uid, Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    stamp: Option<Timestamp>,
    since: Duration,
}

impl Lasting {
    /// The state began just now, unless it is known already.
    pub(super) fn begin(&mut self, uid: Uid, stamp: Option<Timestamp>, now: Now) {
        let since = now.monotonic;
        self.see(uid, stamp, |_| since);
    }

    /// The state is found at a start: it has lasted since `before` saw it, or since its stamp.
    pub(super) fn find(&mut self, uid: Uid, stamp: Option<Timestamp>, before: &Self, now: Now) {
        let known = before.0.get(&uid).filter(|seen| seen.stamp == stamp).copied();
        self.see(uid, stamp, |stamp| match (known, stamp) {
            (Some(seen), _) => seen.since,
            (None, Some(stamp)) => {
                let ago = Duration::try_from(now.wall.duration_since(stamp)).unwrap_or_default();
                now.monotonic.saturating_sub(ago)
            }
            (None, None) => now.monotonic,
        });
    }

    fn see(&mut self, uid: Uid, stamp: Option<Timestamp>, since: impl FnOnce(Option<Timestamp>) -> Duration) {
        if self.0.get(&uid).is_some_and(|seen| seen.stamp == stamp) {
            return;
        }
        let since = since(stamp);
        self.0.insert(uid, Seen { stamp, since });
    }

    pub(super) fn end(&mut self, uid: &Uid) {
        self.0.remove(uid);
    }

    /// Since when (monotonic).
    pub(super) fn since(&self, uid: &Uid) -> Option<Duration> {
        self.0.get(uid).map(|seen| seen.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(wall: &str, monotonic: u64) -> Now {
        Now {
            wall: wall.parse().expect("it is a time"),
            monotonic: Duration::from_secs(monotonic),
        }
    }

    #[test]
    fn what_began_before_a_restart_goes_on_and_clock_steps_change_nothing() {
        let uid = Uid::from("u");
        let stamp = |text: &str| Some(text.parse::<Timestamp>().expect("it is a time"));
        let ready = stamp("2026-01-01T12:00:00Z");
        let mut first = Lasting::default();
        first.begin(uid.clone(), ready, now("2026-01-01T12:00:00Z", 100_000));
        // The wall clock jumps; the same state is seen again.
        first.begin(uid.clone(), ready, now("2027-06-01T00:00:00Z", 100_050));
        assert_eq!(first.since(&uid), Some(Duration::from_secs(100_000)));
        // The same process builds its cache anew, under a clock that has jumped.
        let mut anew = Lasting::default();
        anew.find(uid.clone(), ready, &first, now("2020-01-01T00:00:00Z", 100_060));
        assert_eq!(anew.since(&uid), Some(Duration::from_secs(100_000)));
        // Another process starts 70 seconds after it began, and its monotonic clock anywhere.
        let mut other = Lasting::default();
        other.find(
            uid.clone(),
            ready,
            &Lasting::default(),
            now("2026-01-01T12:01:10Z", 50_000),
        );
        assert_eq!(other.since(&uid), Some(Duration::from_secs(50_000 - 70)));
        // It ended and began again.
        let later = stamp("2026-01-01T12:02:00Z");
        other.begin(uid.clone(), later, now("2026-01-01T12:02:00Z", 50_050));
        assert_eq!(other.since(&uid), Some(Duration::from_secs(50_050)));
        other.end(&uid);
        assert_eq!(other.since(&uid), None);
    }
}
