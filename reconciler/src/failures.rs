//! How often pods have failed at one place, so that the next one there waits: a fault that does not
//! pass must not make and remove pods without end.

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use schemas::{Object, Uid};

use crate::{daemonset, revision, statefulset};

/// The second failed pod of a place stays for so long, each further one twice as long as the last.
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(15 * 60);
/// So many places may be remembered before those without a recent failure are forgotten.
const TIDY: usize = 10_000;

/// Failures by owner and place: a node for a DaemonSet, a pod's name for a StatefulSet.
#[derive(Debug, Default)]
pub(crate) struct Failures(FxHashMap<(Uid, Arc<str>), Failed>);

#[derive(Debug)]
struct Failed {
    /// Of which revision the pods were: a new one begins anew.
    mark: String,
    count: u32,
    last: Duration,
}

impl Failures {
    /// A pod at this place has failed now (monotonic).
    pub(crate) fn note(&mut self, owner: Uid, place: Arc<str>, mark: &str, now: Duration) {
        if self.0.len() > TIDY {
            self.0.retain(|_, failed| now.saturating_sub(failed.last) <= LAST * 2);
        }
        let failed = self.0.entry((owner, place)).or_insert(Failed {
            mark: mark.to_owned(),
            count: 0,
            last: now,
        });
        if failed.mark != mark || now.saturating_sub(failed.last) > LAST * 2 {
            failed.count = 0;
            mark.clone_into(&mut failed.mark);
        }
        failed.count += 1;
        failed.last = now;
    }

    /// When (monotonic) a failed pod of this place may be replaced; none: at once.
    pub(crate) fn not_before(&self, owner: &Uid, place: &Arc<str>, mark: &str) -> Option<Duration> {
        let failed = self.0.get(&(owner.clone(), place.clone()))?;
        if failed.mark != mark || failed.count < 2 {
            return None;
        }
        let delay = FIRST.saturating_mul(1 << (failed.count - 2).min(16)).min(LAST);
        Some(failed.last + delay)
    }

    pub(crate) fn forget(&mut self, owner: &Uid) {
        self.0.retain(|(of, _), _| of != owner);
    }
}

/// Whose pod this is, at which of its owner's places, and of which revision: for owners that make one
/// pod for each of their places.
pub(crate) fn place(pod: &Object) -> Option<(Uid, Arc<str>, &str)> {
    let owner = pod.controller()?;
    let place = if daemonset::controller_of(pod).is_some() {
        daemonset::place(pod)?
    } else if statefulset::controller_of(pod).is_some() {
        pod.name().into()
    } else {
        return None;
    };
    Some((owner.uid.as_str().into(), place, revision::mark_of(pod).unwrap_or("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_failure_waits_and_each_further_one_twice_as_long() {
        let mut failures = Failures::default();
        let (owner, place): (Uid, Arc<str>) = ("u".into(), "n".into());
        let at = Duration::from_secs;
        assert_eq!(failures.not_before(&owner, &place, "a"), None);
        for (now, expected) in [(10, None), (11, Some(12)), (13, Some(15)), (16, Some(20))] {
            failures.note(owner.clone(), place.clone(), "a", at(now));
            assert_eq!(failures.not_before(&owner, &place, "a"), expected.map(at), "at {now}");
        }
        for _ in 0..40 {
            failures.note(owner.clone(), place.clone(), "a", at(20));
        }
        assert_eq!(failures.not_before(&owner, &place, "a"), Some(at(20) + LAST));
        assert_eq!(
            failures.not_before(&owner, &place, "b"),
            None,
            "another revision waits for nothing"
        );
        failures.note(owner.clone(), place.clone(), "a", at(20) + LAST * 2 + at(1));
        assert_eq!(failures.not_before(&owner, &place, "a"), None, "long ago is forgotten");
        failures.forget(&owner);
        assert!(failures.0.is_empty());
    }
}
