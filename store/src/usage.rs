//! What nodes and their containers use. As heartbeats, this is kept in the leader's memory alone: it comes
//! again every few seconds.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use schemas::{
    Now, Uid,
    node::{Stats, Used},
};

/// Figures that are older than this are not told any more: the node is silent, or the container is gone.
const FRESH: Duration = Duration::from_secs(150);

/// The newest figures of each node. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Usages {
    nodes: Arc<RwLock<FxHashMap<Arc<str>, NodeUsage>>>,
}

#[derive(Debug)]
struct NodeUsage {
    received: Now,
    window: Duration,
    node: Option<Used>,
    pods: FxHashMap<Uid, Arc<[ContainerUsage]>>,
}

/// What one container uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUsage {
    pub name: Arc<str>,
    pub used: Used,
}

/// Figures, and of when they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample<T> {
    /// The server's time of receipt.
    pub at: Timestamp,
    /// The same on the monotonic clock.
    pub received: Duration,
    /// The time over which CPU was measured, up to then.
    pub window: Duration,
    pub figures: T,
}

impl Usages {
    /// Takes what a node's agent says, in the place of what it said before.
    pub fn note(&self, node: &str, stats: Stats, now: Now) {
        let pods = stats.pods.into_iter().map(|pod| {
            let containers = pod
                .containers
                .into_iter()
                .map(|(name, used)| ContainerUsage { name, used });
            (pod.uid, containers.collect())
        });
        let usage = NodeUsage {
            received: now,
            window: Duration::from_millis(stats.window_millis),
            node: stats.node,
            pods: pods.collect(),
        };
        let mut nodes = self.nodes.write();
        if nodes.insert(node.into(), usage).is_none() {
            // A node comes seldom: then those that went are looked for.
            nodes.retain(|_, usage| now.monotonic.saturating_sub(usage.received.monotonic) <= FRESH);
        }
    }

    /// What a node uses as a whole.
    #[must_use]
    pub fn node(&self, node: &str, now: Now) -> Option<Sample<Used>> {
        self.read(node, now, |usage| usage.node)
    }

    /// What the containers of a pod use.
    #[must_use]
    pub fn pod(&self, node: &str, pod: &Uid, now: Now) -> Option<Sample<Arc<[ContainerUsage]>>> {
        self.read(node, now, |usage| usage.pods.get(pod).cloned())
    }

    fn read<T>(&self, node: &str, now: Now, figures: impl FnOnce(&NodeUsage) -> Option<T>) -> Option<Sample<T>> {
        let nodes = self.nodes.read();
        let usage = nodes.get(node)?;
        let age = now.monotonic.saturating_sub(usage.received.monotonic);
        (age <= FRESH).then_some(())?;
        Some(Sample {
            at: usage.received.wall,
            received: usage.received.monotonic,
            window: usage.window,
            figures: figures(usage)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use schemas::node::PodStats;

    use super::*;

    #[test]
    fn the_newest_figures_are_told_while_they_are_fresh() {
        let usages = Usages::default();
        let at = |seconds: u64| Now {
            wall: Timestamp::UNIX_EPOCH,
            monotonic: Duration::from_secs(seconds),
        };
        let used = |cpu| Used { cpu, memory: 7 };
        let stats = |cpu| Stats {
            window_millis: 15_000,
            node: Some(used(cpu)),
            pods: vec![PodStats {
                uid: "u".into(),
                containers: vec![("c".into(), used(cpu + 1))],
            }],
        };
        usages.note("a", stats(1), at(10));
        usages.note("a", stats(3), at(25));
        let node = |seconds| usages.node("a", at(seconds)).map(|sample| sample.figures.cpu);
        let pod = |uid: &str, seconds| {
            let sample = usages.pod("a", &uid.into(), at(seconds))?;
            Some((sample.figures[0].name.clone(), sample.figures[0].used.cpu))
        };
        assert_eq!((node(25), pod("u", 25)), (Some(3), Some(("c".into(), 4))));
        assert_eq!((node(175), pod("v", 175)), (Some(3), None));
        assert_eq!((node(176), pod("u", 176)), (None, None));
        usages.note("b", stats(1), at(200));
        assert_eq!(usages.nodes.read().len(), 1, "what is silent is forgotten");
    }
}
