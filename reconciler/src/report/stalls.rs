//! How long objects have stalled: a stall that lasts fails a rollout.

use std::time::Duration;

use rustc_hash::FxHashMap;
use schemas::{ContentHash, Key, Now, report::Outcome};

/// Something that stalls an object for this long fails it.
pub(super) const STALL: Duration = Duration::from_secs(30);
/// A stall that pauses for less than this goes on.
const PAUSE: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub(super) struct Stalls(FxHashMap<Key, Stall>);

#[derive(Clone, Debug)]
struct Stall {
    content: ContentHash,
    since: Duration,
    last: Duration,
    /// It failed; only success or another content ends that.
    failed: bool,
}

/// What has become of an object's stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Goes,
    /// It fails if nothing changes for so long.
    FailsIn(Duration),
    Failed,
}

impl Stalls {
    pub(super) fn forget(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// Whether an object has stalled for so long that it counts as failed.
    pub(super) fn judge(
        &mut self,
        key: &Key,
        content: ContentHash,
        outcome: Outcome,
        stalled: bool,
        now: Now,
    ) -> Verdict {
        if outcome == Outcome::Converged {
            self.0.remove(key);
            return Verdict::Goes;
        }
        if outcome != Outcome::Progressing {
            return Verdict::Goes;
        }
        if self.0.get(key).is_some_and(|stall| stall.content != content) {
            self.0.remove(key);
        }
        if !stalled {
            let over = |stall: &Stall| !stall.failed && now.monotonic.saturating_sub(stall.last) > PAUSE;
            if self.0.get(key).is_some_and(over) {
                self.0.remove(key);
            }
            return match self.0.get(key) {
                Some(stall) if stall.failed => Verdict::Failed,
                _ => Verdict::Goes,
            };
        }
        let fresh = Stall {
            content,
            since: now.monotonic,
            last: now.monotonic,
            failed: false,
        };
        let stall = self.0.entry(key.clone()).or_insert(fresh);
        if now.monotonic.saturating_sub(stall.last) > PAUSE && !stall.failed && stall.last > stall.since {
            // It went on for a while in between and nobody looked: count from now.
            let looked = now.monotonic.saturating_sub(stall.since) <= STALL + PAUSE;
            if !looked {
                stall.since = now.monotonic;
            }
        }
        stall.last = now.monotonic;
        let waited = now.monotonic.saturating_sub(stall.since);
        stall.failed |= waited >= STALL;
        if stall.failed {
            Verdict::Failed
        } else {
            Verdict::FailsIn(STALL - waited)
        }
    }
}
