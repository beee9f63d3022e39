//! What is known of Jobs across changes: the pods that still matter, and since when things are so by
//! this process's own clock.
//!
//! It can be rebuilt: a new book takes times at the word of the objects that it is shown.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use rustc_hash::FxHashMap;
use schemas::{Key, Kind, Now, Object, Part, Uid};

use super::{backoff, tracking::is_tracked};
use crate::pods::{condition, is_finished, phase};

/// Pages by the uid of the Job.
#[derive(Debug, Default)]
pub struct Book(FxHashMap<Uid, Page>);

#[derive(Debug, Default)]
struct Page {
    /// Pods that have not ended, or are not counted yet.
    pods: BTreeSet<Key>,
    /// When (by the monotonic clock) these of them ended, or began to go.
    ended: FxHashMap<Uid, SignedDuration>,
    started: Option<Stamp>,
    finished: Option<Stamp>,
    /// The last failures after the last success, in the order of time.
    failures: Vec<SignedDuration>,
    success: Option<SignedDuration>,
}

/// A time that an object shows, and when that was by the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    shown: Timestamp,
    at: SignedDuration,
}

/// Since when things are so, for one look at a Job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How long it has been running, once it was started.
    pub running: Option<Duration>,
    /// How long ago it finished.
    pub finished: Option<Duration>,
    /// Failures of pods after the last success; more than a few count as a few.
    pub failures: usize,
    /// How long ago the last of them was.
    pub since_failure: Duration,
    /// How long ago each pod ended that is not counted yet.
    pub ended: FxHashMap<Uid, Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Succeeded,
    Failed,
}

impl Book {
    /// Takes a change of a pod in.
    ///
    /// `is_there` tells whether there is an object of a uid.
    pub(crate) fn take_pod(
        &mut self,
        is_there: impl Fn(&Uid) -> bool,
        key: &Key,
        old: Option<&Arc<Object>>,
        new: Option<&Arc<Object>>,
        now: Now,
    ) {
        let owner = |pod: &Arc<Object>| Some(Uid::from(job_of(pod)?.1));
        let (was, is) = (old.and_then(owner), new.and_then(owner));
        if let Some(was) = was.as_ref().filter(|was| is.as_ref() != Some(was))
            && let Some(page) = self.0.get_mut(was)
        {
            page.drop_pod(key, old.map(|old| old.uid()));
        }
        let Some(uid) = is else { return };
        if !self.0.contains_key(&uid) && !is_there(&uid) {
            // Its Job is gone.
            return;
        }
        if let Some(new) = new {
            let page = self.0.entry(uid).or_default();
            page.take(key, old.filter(|old| old.uid() == new.uid()), new, now);
        }
    }

    /// Takes a change of a Job in.
    pub(crate) fn take_job(&mut self, old: Option<&Arc<Object>>, new: Option<&Arc<Object>>, now: Now) {
        if let Some(old) = old.filter(|old| new.is_none_or(|new| new.uid() != old.uid())) {
            self.0.remove(&old.uid());
        }
        let Some(new) = new else { return };
        let page = self.0.entry(new.uid()).or_default();
        let started = new
            .status
            .as_ref()
            .and_then(|status| status.at("startTime")?.text()?.parse().ok());
        page.started = stamp(page.started, started, now);
        page.finished = stamp(page.finished, finished_at(new), now);
    }

    /// The pods of a Job that still matter.
    pub(crate) fn pods(&self, job: &Uid) -> impl Iterator<Item = &Key> {
        self.0.get(job).into_iter().flat_map(|page| &page.pods)
    }

    pub(crate) fn seen(&self, job: &Uid, now: Now) -> Seen {
        let Some(page) = self.0.get(job) else {
            return Seen::default();
        };
        let now = monotonic(now);
        let ago = |at: SignedDuration| Duration::try_from(now.saturating_sub(at)).unwrap_or_default();
        Seen {
            running: page.started.map(|stamp| ago(stamp.at)),
            finished: page.finished.map(|stamp| ago(stamp.at)),
            failures: page.failures.len(),
            since_failure: page.failures.last().copied().map(ago).unwrap_or_default(),
            ended: page.ended.iter().map(|(pod, at)| (pod.clone(), ago(*at))).collect(),
        }
    }
}

impl Page {
    fn take(&mut self, key: &Key, old: Option<&Arc<Object>>, new: &Arc<Object>, now: Now) {
        let uid = new.uid();
        let (was, is) = (old.and_then(|old| ended(old)), ended(new));
        if was != is
            && let Some(is) = is
        {
            // What is seen for the first time ended when it says so.
            let at = match old {
                Some(_) => monotonic(now),
                None => ended_at(new).map_or_else(|| monotonic(now), |shown| at(shown, now)),
            };
            self.ended.insert(uid.clone(), at);
            match is {
                Ended::Failed if was.is_none() => self.failed(at),
                Ended::Failed => {}
                Ended::Succeeded => self.succeeded(at),
            }
        }
        if is_tracked(new) || !is_finished(new) {
            self.pods.insert(key.clone());
        } else {
            self.drop_pod(key, Some(uid));
        }
    }

    fn drop_pod(&mut self, key: &Key, uid: Option<Uid>) {
        self.pods.remove(key);
        if let Some(uid) = uid {
            self.ended.remove(&uid);
        }
    }

    fn failed(&mut self, at: SignedDuration) {
        if self.success.is_some_and(|success| success > at) {
            return;
        }
        let place = self.failures.partition_point(|failure| *failure <= at);
        self.failures.insert(place, at);
        if self.failures.len() > backoff::STEPS {
            self.failures.remove(0);
        }
    }

    fn succeeded(&mut self, at: SignedDuration) {
        self.success = self.success.max(Some(at));
        self.failures.retain(|failure| *failure >= at);
    }
}

fn monotonic(now: Now) -> SignedDuration {
    SignedDuration::try_from(now.monotonic).unwrap_or(SignedDuration::MAX)
}

/// When a wall-clock time was by the monotonic clock; never in the future.
fn at(shown: Timestamp, now: Now) -> SignedDuration {
    let ago = now.wall.duration_since(shown).max(SignedDuration::ZERO);
    monotonic(now).saturating_sub(ago)
}

fn stamp(known: Option<Stamp>, shown: Option<Timestamp>, now: Now) -> Option<Stamp> {
    let shown = shown?;
    let same = known.filter(|known| known.shown == shown);
    Some(same.unwrap_or_else(|| Stamp {
        shown,
        at: at(shown, now),
    }))
}

/// How a pod ended, or that somebody deletes it.
fn ended(pod: &Object) -> Option<Ended> {
    match phase(pod) {
        "Succeeded" => Some(Ended::Succeeded),
        "Failed" => Some(Ended::Failed),
        // One that is deleted without the finalizer was removed by the controller itself.
        _ => (pod.is_deleting() && is_tracked(pod)).then_some(Ended::Failed),
    }
}

/// When a pod's last container ended, or else when the pod was told to go.
fn ended_at(pod: &Object) -> Option<Timestamp> {
    let containers = pod.status.as_ref()?.at("containerStatuses");
    let ends = containers.into_iter().flat_map(Part::items).filter_map(|container| {
        let ended = container.at("state/terminated/finishedAt")?;
        ended.text()?.parse::<Timestamp>().ok()
    });
    let told = || {
        let grace = pod.meta.deletion_grace_period_seconds.unwrap_or(0);
        let deadline = pod.meta.deletion_timestamp.as_ref()?.0;
        deadline.checked_sub(SignedDuration::from_secs(grace)).ok()
    };
    ends.max().or_else(told).or_else(|| {
        let ready = condition(pod, "Ready")?;
        ready["lastTransitionTime"].as_str()?.parse().ok()
    })
}

/// When a Job became complete or failed.
fn finished_at(job: &Object) -> Option<Timestamp> {
    let ends = ["Complete", "Failed"]
        .into_iter()
        .filter_map(|kind| condition(job, kind))
        .filter(|condition| condition["status"] == "True");
    ends.filter_map(|condition| condition["lastTransitionTime"].as_str()?.parse().ok())
        .next()
}

/// Name and uid of the Job that controls a pod.
pub(crate) fn job_of(pod: &Object) -> Option<(&str, &str)> {
    let owner = pod.controller()?;
    (owner.kind == Kind::Job.info().name && owner.api_version == "batch/v1")
        .then_some((owner.name.as_str(), owner.uid.as_str()))
}

#[cfg(test)]
mod tests;
