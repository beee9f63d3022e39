//! Worlds of the kinds that keep revisions of their templates.

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use schemas::{Key, Kind, Object, Uid};
use store::View;

use super::controlled;
use crate::{daemonset, index::Index, revision, settling, statefulset};

/// Since when each pod is seen ready, and until when a failed one stays.
struct Times {
    ready_since: FxHashMap<Uid, Duration>,
    not_before: FxHashMap<Uid, Duration>,
}

fn times(index: &Index, pods: &[Arc<Object>]) -> Times {
    let since = |pod: &Arc<Object>| {
        let uid = pod.uid();
        index.ready_since(&uid).map(|since| (uid, since))
    };
    let until = |pod: &Arc<Object>| index.not_before(pod).map(|until| (pod.uid(), until));
    Times {
        ready_since: pods.iter().filter_map(since).collect(),
        not_before: pods.iter().filter_map(until).collect(),
    }
}

fn strays(view: &View<'_>, index: &Index, namespace: &str) -> Vec<Arc<Object>> {
    let kinds = [Kind::Pod, Kind::ControllerRevision].into_iter();
    let keys = kinds.flat_map(|kind| index.strays(kind, namespace));
    keys.filter_map(|key| view.get(key).cloned()).collect()
}

pub(crate) fn daemon_set(
    view: &View<'_>,
    index: &Index,
    key: &Key,
    failure: Option<String>,
) -> Option<daemonset::World> {
    let set = view.get(key)?.clone();
    let pods = controlled(view, &set.uid(), Kind::Pod);
    let Times {
        ready_since,
        not_before,
    } = times(index, &pods);
    let rolls = pods
        .iter()
        .any(|pod| revision::mark_of(pod) != pods.first().and_then(|first| revision::mark_of(first)));
    let counts_at = |pod: &Arc<Object>| {
        let uid = pod.uid();
        let since = ready_since.get(&uid)?;
        Some((uid, settling::steady_at(pod, *since)))
    };
    let steady = pods.iter().filter(|_| rolls).filter_map(counts_at).collect();
    let named = daemonset::revision_name(&set).map(|name| Key::namespaced(Kind::ControllerRevision, key.ns(), &name));
    Some(daemonset::World {
        nodes: index.nodes.values().cloned().collect(),
        revisions: controlled(view, &set.uid(), Kind::ControllerRevision),
        strays: strays(view, index, key.ns()),
        named: named.and_then(|name| view.get(&name).cloned()),
        set,
        pods,
        steady,
        ready_since,
        not_before,
        failure,
    })
}

pub(crate) fn stateful_set(
    view: &View<'_>,
    index: &Index,
    key: &Key,
    failure: Option<String>,
) -> Option<statefulset::World> {
    let set = view.get(key)?.clone();
    let pods = controlled(view, &set.uid(), Kind::Pod);
    let Times {
        ready_since,
        not_before,
    } = times(index, &pods);
    let named = statefulset::revision_name(&set).map(|name| Key::namespaced(Kind::ControllerRevision, key.ns(), &name));
    let claim = |name: String| {
        let claim = view.get(&Key::namespaced(Kind::PersistentVolumeClaim, key.ns(), &name))?;
        Some((name, claim.clone()))
    };
    let claims = statefulset::claims::names(&set, &pods).into_iter().filter_map(claim);
    Some(statefulset::World {
        claims: claims.collect(),
        revisions: controlled(view, &set.uid(), Kind::ControllerRevision),
        strays: strays(view, index, key.ns()),
        named: named.and_then(|name| view.get(&name).cloned()),
        set,
        pods,
        ready_since,
        not_before,
        failure,
    })
}
