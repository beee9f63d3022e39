//! Signs of life of nodes. They are kept in the leader's memory alone: nothing is written for them.

use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

/// When each node was last heard of, by the server's monotonic clock of receipt. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats {
    inner: Arc<RwLock<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// When this server took office: before that it could have heard nobody.
    office: Duration,
    last: FxHashMap<Arc<str>, Duration>,
}

impl Heartbeats {
    pub(crate) fn take_office(&self, at_monotonic: Duration) {
        self.inner.write().office = at_monotonic;
    }

    /// Notes a sign of life. An older one than the last changes nothing.
    pub fn beat(&self, node: &str, at_monotonic: Duration) {
        let mut inner = self.inner.write();
        match inner.last.get_mut(node) {
            Some(last) => *last = at_monotonic.max(*last),
            None => {
                inner.last.insert(node.into(), at_monotonic);
            }
        }
    }

    /// The last sign of life of a node since this server took office.
    #[must_use]
    pub fn last(&self, node: &str) -> Option<Duration> {
        self.inner.read().last.get(node).copied()
    }

    /// How long a node has been silent: from the later of its last sign of life and this server's
    /// taking office, so that no restart of the server makes a node unknown.
    #[must_use]
    pub fn silence(&self, node: &str, now_monotonic: Duration) -> Duration {
        let inner = self.inner.read();
        let since = inner.last.get(node).copied().unwrap_or_default().max(inner.office);
        now_monotonic.saturating_sub(since)
    }

    /// When this server took office.
    #[must_use]
    pub fn office(&self) -> Duration {
        self.inner.read().office
    }

    /// Every node that was heard of, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<(Arc<str>, Duration)> {
        self.inner
            .read()
            .last
            .iter()
            .map(|(node, at)| (node.clone(), *at))
            .collect()
    }

    /// Forgets a node whose object is gone.
    pub(crate) fn forget(&self, node: &str) {
        self.inner.write().last.remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_the_later_of_heartbeat_and_office() {
        let beats = Heartbeats::default();
        let s = Duration::from_secs;
        beats.beat("a", s(5));
        beats.beat("a", s(3));
        assert_eq!(beats.last("a"), Some(s(5)));
        beats.take_office(s(20));
        assert_eq!(beats.silence("a", s(30)), s(10));
        assert_eq!(beats.silence("b", s(25)), s(5));
        beats.beat("a", s(29));
        assert_eq!(beats.silence("a", s(30)), s(1));
        beats.forget("a");
        assert_eq!(beats.last("a"), None);
    }
}
