//! Worlds of claims, volumes and the default class.

use std::{collections::BTreeSet, sync::Arc};

use schemas::{Key, Kind, Object, Part, storage};
use store::View;

use crate::{
    index::Index,
    volumes::{World, claim, class, volume},
};

pub(crate) fn volumes(view: &View<'_>, index: &Index, key: &Key) -> Option<World> {
    Some(match key.kind {
        Kind::PersistentVolumeClaim => World::Claim(of_claim(view, index, view.get(key)?.clone())),
        Kind::PersistentVolume => World::Volume(of_volume(view, view.get(key)?.clone())),
        _ => World::Class(class::World {
            class: view.get(&class::key()).cloned(),
        }),
    })
}

fn of_claim(view: &View<'_>, index: &Index, claim: Arc<Object>) -> claim::World {
    let key = claim.key();
    let named = storage::volume_of(&claim);
    let class = claim.body.at("spec/storageClassName").and_then(Part::text);
    let class = class.and_then(|class| view.get(&Key::cluster(Kind::StorageClass, &class)).cloned());
    let users: Vec<_> = index.claims.of(&key).filter_map(|pod| view.get(pod).cloned()).collect();
    let nodes: BTreeSet<&Arc<str>> = users.iter().filter_map(|pod| pod.node.as_ref()).collect();
    let mut world = claim::World {
        volume: named.as_ref().and_then(|volume| view.get(volume).cloned()),
        class,
        default_class: None,
        free: Vec::new(),
        nodes: nodes
            .into_iter()
            .filter_map(|node| view.get(&Key::cluster(Kind::Node, node)).cloned())
            .collect(),
        users,
        claim,
    };
    if named.is_none() && !world.claim.is_deleting() {
        // The newest of several.
        world.default_class = view
            .list(Kind::StorageClass, None)
            .filter(|class| class::is_default(class))
            .max_by_key(|class| (class.meta.creation_timestamp.as_ref().map(|time| time.0), class.name()))
            .cloned();
        let free = index.free_volumes(&key);
        world.free = free.filter_map(|volume| view.get(volume).cloned()).collect();
    }
    world
}

fn of_volume(view: &View<'_>, volume: Arc<Object>) -> volume::World {
    let claim = storage::claim_of(&volume).and_then(|claim| view.get(&claim).cloned());
    let node = storage::docker_volume(&volume).map(|docker| Key::cluster(Kind::Node, &docker.node));
    volume::World {
        node_is_gone: node.is_some_and(|node| view.get(&node).is_none()),
        volume,
        claim,
    }
}
