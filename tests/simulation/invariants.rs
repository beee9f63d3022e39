//! What must hold after every commit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use schemas::{Key, Kind, Object, Uid};
use store::log::Batch;

/// Sees every commit, whichever server made it.
#[derive(Default)]
pub(crate) struct Watcher {
    objects: BTreeMap<Key, Arc<Object>>,
    /// Pods of Jobs that were seen to end well, by the Job.
    succeeded: BTreeMap<Uid, BTreeSet<Uid>>,
    /// What nobody may delete: not declared, and nobody's.
    pub(crate) bystanders: BTreeSet<Key>,
    /// Declared objects whose deletion is above the budget.
    pub(crate) budgeted: BTreeSet<Key>,
    /// For each Deployment the bounds of replicas since it last stood still.
    pub(crate) bounds: BTreeMap<Arc<str>, Bounds>,
    /// Whether pods can become unready by themselves: then only the upper bound counts.
    pub(crate) rough: bool,
    pub(crate) broken: Vec<String>,
}

/// How many pods of a Deployment there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) replicas: usize,
    pub(crate) least: usize,
    pub(crate) most: usize,
    /// The lower bound was reached once, so that it counts.
    pub(crate) reached: bool,
}

fn deployment_of(pod: &Object) -> Option<Arc<str>> {
    let app = pod.meta.labels.as_ref()?.get("app")?;
    Some(app.as_str().into())
}

impl Watcher {
    pub(crate) fn new(rough: bool) -> Self {
        Self {
            rough,
            ..Self::default()
        }
    }

    pub(crate) fn committed(&mut self, batch: &Batch) {
        for row in &batch.rows {
            match &row.new {
                Some(new) => {
                    self.objects.insert(row.key.clone(), new.clone());
                    self.looked(new);
                }
                None => {
                    self.objects.remove(&row.key);
                    if self.bystanders.contains(&row.key) {
                        self.broken
                            .push(format!("{} was deleted, and it is nobody's to delete", row.key));
                    }
                    if self.budgeted.contains(&row.key) {
                        self.broken.push(format!("{} was deleted above the budget", row.key));
                    }
                }
            }
        }
        self.rollouts();
    }

    fn looked(&mut self, object: &Arc<Object>) {
        let owner = object.controller().map(|owner| (owner.kind.clone(), owner.uid.clone()));
        if object.kind == Kind::Pod
            && object.status.as_ref().and_then(|status| status.word("phase")) == Some("Succeeded")
            && let Some((kind, uid)) = owner
            && kind == "Job"
        {
            self.succeeded.entry(Uid::from(&*uid)).or_default().insert(object.uid());
        }
        if object.kind == Kind::Job {
            let counted = object.status.as_ref().and_then(|status| status.at("succeeded")?.int());
            let ended = self.succeeded.get(&object.uid()).map_or(0, BTreeSet::len);
            if counted.is_some_and(|counted| usize::try_from(counted).is_ok_and(|counted| counted > ended)) {
                self.broken.push(format!(
                    "{} counts {counted:?} pods, and {ended} have ended well",
                    object.key()
                ));
            }
        }
    }

    /// The pods of each Deployment between its bounds.
    fn rollouts(&mut self) {
        for (name, bounds) in &mut self.bounds {
            let pods = self.objects.values().filter(|object| object.kind == Kind::Pod);
            let alive: Vec<&Arc<Object>> = pods
                .filter(|pod| deployment_of(pod).as_ref() == Some(name) && !pod.is_deleting())
                .filter(|pod| !reconciler::pods::is_finished(pod))
                .collect();
            let ready = alive.iter().filter(|pod| reconciler::pods::is_ready(pod)).count();
            if alive.len() > bounds.most {
                self.broken
                    .push(format!("{} pods of {name}, and {bounds:?}", alive.len()));
            }
            if bounds.reached && !self.rough && ready < bounds.least {
                self.broken
                    .push(format!("{ready} pods of {name} are ready, and {bounds:?}"));
            }
            bounds.reached |= ready >= bounds.least;
        }
    }
}
