//! How long objects have stalled: a stall that lasts fails a rollout. What is told of a failure stays,
//! while it is the same one.

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use schemas::{ContentHash, Key, Kind, Now, Object, report::Outcome};
use serde_json::Value;

/// Something that stalls an object for this long fails it.
pub(super) const STALL: Duration = Duration::from_secs(30);
/// A stall that pauses for less than this goes on.
const PAUSE: Duration = Duration::from_secs(15);

/// Another failure, or other numbers, must have stood for so long before they are told instead.
const CALM: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub(super) struct Stalls(FxHashMap<Key, Stall>);

#[derive(Clone, Debug)]
struct Stall {
    content: ContentHash,
    since: Duration,
    last: Duration,
    /// It failed; only success or another content ends that.
    failed: bool,
    told: Option<Words>,
    /// What else was seen of the failure, and since when.
    other: Option<(Words, Duration)>,
}

/// What is told of an object that failed.
#[derive(Clone, Debug)]
pub(super) struct Words {
    /// What stalls it, in one word; none in a moment in which nothing seems to.
    pub(super) cause: Option<String>,
    pub(super) reason: String,
    pub(super) status: Value,
}

impl Words {
    /// One failing state: an image that is tried again fails in two ways by turns, and how often a
    /// container was restarted, and how the last one ended, is no news.
    fn is(&self, other: &Self) -> bool {
        fn cause(words: &Words) -> Option<&str> {
            match words.cause.as_deref() {
                Some("ErrImagePull") => Some("ImagePullBackOff"),
                cause => cause,
            }
        }
        cause(self) == cause(other) && same(&self.status, &other.status)
    }

    /// The pod that the reason names, if it names one that is no more.
    fn names_gone(&self, pods: &[Arc<Object>]) -> bool {
        let named = self
            .reason
            .split_once(": pod ")
            .and_then(|(_, rest)| rest.split_once(':'));
        named.is_some_and(|(name, _)| pods.iter().all(|pod| pod.name() != name))
    }
}

/// Compares statuses without what counts restarts.
fn same(one: &Value, two: &Value) -> bool {
    let counts = |name: &str| matches!(name, "restartCount" | "containerID" | "lastState");
    match (one, two) {
        (Value::Object(one), Value::Object(two)) => {
            let covers = |one: &serde_json::Map<String, Value>, two: &serde_json::Map<String, Value>| {
                let mut all = one.iter().filter(|(name, _)| !counts(name));
                all.all(|(name, value)| two.get(name).is_some_and(|other| same(value, other)))
            };
            covers(one, two) && two.keys().all(|name| counts(name) || one.contains_key(name))
        }
        (Value::Array(one), Value::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| same(one, two))
        }
        (one, two) => one == two,
    }
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
        if outcome == Outcome::Failed && key.kind == Kind::Deployment {
            // A deadline that passed is not unmade by a pod that is up for a moment.
            let stall = self.0.entry(key.clone()).or_insert(Stall::new(content, now));
            stall.failed = true;
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
        let stall = self.0.entry(key.clone()).or_insert(Stall::new(content, now));
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

    /// What to tell of an object that failed, and when to look again. The words stay while it fails in
    /// the same way, also through moments in which it seems to run; others are told once they have
    /// stood for a while.
    pub(super) fn tell(&mut self, key: &Key, seen: Words, pods: &[Arc<Object>], now: Now) -> (Words, Option<Duration>) {
        let Some(stall) = self.0.get_mut(key) else {
            return (seen, None);
        };
        let Some(told) = &mut stall.told else {
            stall.told = Some(seen.clone());
            return (seen, None);
        };
        if seen.cause.is_none() {
            return (told.clone(), None);
        }
        if seen.is(told) && !told.names_gone(pods) {
            stall.other = None;
            return (told.clone(), None);
        }
        match &mut stall.other {
            Some((other, since)) if other.is(&seen) => {
                let stood = now.monotonic.saturating_sub(*since);
                if stood < CALM {
                    return (told.clone(), Some(CALM - stood));
                }
                *told = seen.clone();
                stall.other = None;
                (seen, None)
            }
            other => {
                *other = Some((seen, now.monotonic));
                (told.clone(), Some(CALM))
            }
        }
    }
}

impl Stall {
    fn new(content: ContentHash, now: Now) -> Self {
        Self {
            content,
            since: now.monotonic,
            last: now.monotonic,
            failed: false,
            told: None,
            other: None,
        }
    }
}
