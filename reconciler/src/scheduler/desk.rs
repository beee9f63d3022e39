//! Where the scheduler's copy of the cluster lies: here, or out with a plan that is being carried out.

use std::{sync::Arc, time::Duration};

use schemas::{Key, Kind, Object, Uid};

use super::{cluster::Cluster, node::Facts};

/// The copy, and what happened while it was out.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    cluster: Option<Box<Cluster>>,
    missed: Vec<News>,
}

/// A new state of an object, or what is known of a node; none when it is gone.
#[derive(Debug)]
pub(crate) enum News {
    Object(Key, Uid, Option<Arc<Object>>),
    Node(Arc<str>, Option<Arc<Facts>>),
}

/// Kinds that matter to where pods go, beside nodes.
pub(crate) const KINDS: [Kind; 7] = [
    Kind::Namespace,
    Kind::PriorityClass,
    Kind::StorageClass,
    Kind::PersistentVolume,
    Kind::PersistentVolumeClaim,
    Kind::PodDisruptionBudget,
    Kind::Pod,
];

impl Desk {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            cluster: Some(Box::new(Cluster::seeded(seed))),
            missed: Vec::new(),
        }
    }

    /// Takes a new state in, now or when the copy is back.
    pub(crate) fn tell(&mut self, news: News) {
        match &mut self.cluster {
            Some(cluster) => apply(cluster, &news),
            None => self.missed.push(news),
        }
    }

    /// Whether there is something to decide, and the copy is here to decide on.
    pub(crate) fn has_work(&self, now: Duration) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.has_work(now))
    }

    /// Hands the copy out, if there is something to decide.
    pub(crate) fn take(&mut self, now: Duration) -> Option<Box<Cluster>> {
        if self.has_work(now) { self.cluster.take() } else { None }
    }

    pub(crate) fn put_back(&mut self, mut cluster: Box<Cluster>) {
        for news in self.missed.drain(..) {
            apply(&mut cluster, &news);
        }
        self.cluster = Some(cluster);
    }
}

fn apply(cluster: &mut Cluster, news: &News) {
    let (key, uid, object) = match news {
        News::Node(name, facts) => return cluster.put_node(name, facts.clone()),
        News::Object(key, uid, object) => (key, uid, object.as_ref()),
    };
    let plain = object.map(Arc::as_ref);
    match key.kind {
        Kind::Pod => cluster.put_pod(uid, object),
        Kind::Namespace => cluster.put_namespace(&key.name, plain),
        Kind::PriorityClass => cluster.put_priority(&key.name, plain),
        Kind::PodDisruptionBudget => cluster.put_budget(key.ns(), &key.name, plain),
        Kind::PersistentVolume | Kind::PersistentVolumeClaim | Kind::StorageClass => {
            cluster.put_storage(key.kind, key.ns(), &key.name, plain);
        }
        _ => {}
    }
}

#[cfg(test)]
impl Desk {
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    pub(crate) fn cluster_mut(&mut self) -> Option<&mut Cluster> {
        self.cluster.as_deref_mut()
    }
}
