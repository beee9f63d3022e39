//! The world of an autoscaler.

use std::sync::Arc;

use schemas::{Key, Kind, Now, Object};
use store::{View, usage::Usages};

use super::controlled;
use crate::{
    autoscaler::{Memory, Pod, World},
    index::Index,
    release::autoscaling,
};

pub(crate) fn autoscaler(
    view: &View<'_>,
    index: &Index,
    usages: &Usages,
    key: &Key,
    memory: Memory,
    failure: Option<String>,
    now: Now,
) -> Option<World> {
    let autoscaler = view.get(key)?.clone();
    let aim = autoscaling::target(&autoscaler);
    let target = match &aim {
        Ok(aim) => {
            let target = view.get(aim).filter(|target| !target.is_deleting()).cloned();
            target.ok_or_else(|| format!("there is no {aim}"))
        }
        Err(why) => Err(why.clone()),
    };
    let pods = target.as_ref().map(|target| pods(view, target)).unwrap_or_default();
    let pods = pods.into_iter().map(|object| {
        let uid = object.uid();
        Pod {
            ready_since: index.ready_since(&uid),
            usage: object.node.as_deref().and_then(|node| usages.pod(node, &uid, now)),
            object,
        }
    });
    Some(World {
        pods: pods.collect(),
        rivals: aim
            .iter()
            .flat_map(|aim| index.scaled.by(aim))
            .filter(|other| *other != key)
            .cloned()
            .collect(),
        autoscaler,
        target,
        memory,
        failure,
    })
}

/// The pods of a workload: those of its ReplicaSets, or its own.
fn pods(view: &View<'_>, workload: &Object) -> Vec<Arc<Object>> {
    if workload.kind != Kind::Deployment {
        return controlled(view, &workload.uid(), Kind::Pod);
    }
    let sets = controlled(view, &workload.uid(), Kind::ReplicaSet);
    sets.iter()
        .flat_map(|set| controlled(view, &set.uid(), Kind::Pod))
        .collect()
}
