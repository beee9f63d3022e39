//! What a node needs, and what of it was sent: the comparison behind a node's stream.
//!
//! Reads the store's copy and nothing else.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Container, PodSpec};
use schemas::{
    Key, Kind, Object, Uid,
    node::{Gone, Incarnation},
    storage,
};
use store::{Change, View};

/// What the other side of a stream has.
#[derive(Default)]
pub(crate) struct Mirror {
    /// By uid.
    pods: HashMap<Box<str>, SentPod>,
    /// ConfigMaps and Secrets.
    bodies: HashMap<Key, Sent>,
    looks: u64,
}

struct SentPod {
    key: Key,
    /// The version that was last looked at.
    version: u64,
    /// Of everything but the status, which is the agent's own.
    print: u64,
    needs: Box<[Key]>,
    seen: u64,
}

struct Sent {
    uid: Uid,
    version: u64,
}

/// What a look found.
pub(crate) struct Difference {
    /// The life of the store that was looked at, and the version.
    pub(crate) incarnation: Incarnation,
    pub(crate) version: u64,
    pub(crate) put: Vec<Arc<Object>>,
    /// Comes before `put`.
    pub(crate) gone: Vec<Gone>,
    /// The ConfigMaps and Secrets that the node's pods name, there or not.
    pub(crate) needs: BTreeSet<Key>,
}

impl Difference {
    /// Adds what a later look found. The newer state of an object takes the place of the older one.
    pub(crate) fn then(&mut self, more: Self) {
        self.incarnation = more.incarnation;
        self.version = more.version;
        if !more.put.is_empty() || !more.gone.is_empty() {
            self.put.retain(|object| {
                let key = object.key();
                !more.put.iter().any(|newer| newer.key() == key) && !more.gone.iter().any(|gone| gone.key == key)
            });
        }
        self.put.extend(more.put);
        self.gone.extend(more.gone);
        self.needs = more.needs;
    }
}

/// The ConfigMaps, Secrets and claims that a pod names, and nothing else: this, with the volumes of the
/// claims, is what its node may read.
pub(crate) fn needs(pod: &Object) -> BTreeSet<Key> {
    let mut names = BTreeSet::new();
    // A spec that cannot be read names nothing; the agent reports it.
    let Ok(spec) = pod.spec::<PodSpec>() else {
        return names;
    };
    let mut name = |kind: Kind, name: &str| {
        if !name.is_empty() {
            names.insert(Key::namespaced(kind, pod.namespace(), name));
        }
    };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers.for_each(|container| of_container(container, &mut name));
    for secret in spec.image_pull_secrets.iter().flatten() {
        name(Kind::Secret, &secret.name);
    }
    for volume in spec.volumes.iter().flatten() {
        if let Some(source) = &volume.config_map {
            name(Kind::ConfigMap, &source.name);
        }
        if let Some(source) = volume.secret.as_ref().and_then(|source| source.secret_name.as_ref()) {
            name(Kind::Secret, source);
        }
        if let Some(source) = &volume.persistent_volume_claim {
            name(Kind::PersistentVolumeClaim, &source.claim_name);
        }
        let projected = volume.projected.iter().flat_map(|projected| &projected.sources);
        for source in projected.flatten() {
            if let Some(source) = &source.config_map {
                name(Kind::ConfigMap, &source.name);
            }
            if let Some(source) = &source.secret {
                name(Kind::Secret, &source.name);
            }
        }
    }
    names
}

fn of_container(container: &Container, name: &mut impl FnMut(Kind, &str)) {
    for source in container.env_from.iter().flatten() {
        if let Some(source) = &source.config_map_ref {
            name(Kind::ConfigMap, &source.name);
        }
        if let Some(source) = &source.secret_ref {
            name(Kind::Secret, &source.name);
        }
    }
    for source in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
        if let Some(source) = &source.config_map_key_ref {
            name(Kind::ConfigMap, &source.name);
        }
        if let Some(source) = &source.secret_key_ref {
            name(Kind::Secret, &source.name);
        }
    }
}

/// Adds the volumes that claims among these are bound to.
fn with_volumes(view: &View<'_>, keys: &mut BTreeSet<Key>) {
    let claims = keys.iter().filter(|key| key.kind == Kind::PersistentVolumeClaim);
    let volumes: Vec<Key> = claims
        .filter_map(|claim| storage::volume_of(view.get(claim)?))
        .collect();
    keys.extend(volumes);
}

/// Of everything in a pod but its status.
fn print(pod: &Object) -> u64 {
    let mut hasher = DefaultHasher::new();
    pod.body.hash().0.hash(&mut hasher);
    // Metadata always is valid JSON; were it not, an empty text would only send the pod again.
    serde_json::to_vec(&pod.meta).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// Whether a change of a pod is worth a look: the agent's own status reports are not.
pub(crate) fn matters(change: &Change) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            old.node != new.node
                || (!Arc::ptr_eq(&old.body, &new.body) && old.body.hash() != new.body.hash())
                || old.meta != new.meta
        }
        _ => true,
    }
}

impl Mirror {
    /// Compares what the node needs now with what was sent, and notes it as sent.
    /// `doomed` are volumes that the node is to remove.
    pub(crate) fn look(&mut self, view: &View<'_>, node: &str, doomed: BTreeSet<Key>) -> Difference {
        self.looks += 1;
        let looks = self.looks;
        let mut put = Vec::new();
        let mut gone = Vec::new();
        let mut wanted = BTreeSet::new();
        for pod in view.on_node(node).filter(|pod| pod.kind == Kind::Pod) {
            let uid = pod.meta.uid.as_deref().unwrap_or("");
            let sent = match self.pods.get_mut(uid) {
                Some(sent) if sent.version == pod.version => sent,
                Some(sent) => {
                    sent.version = pod.version;
                    let print = print(pod);
                    if sent.print != print {
                        sent.print = print;
                        sent.needs = needs(pod).into_iter().collect();
                        put.push(pod.clone());
                    }
                    sent
                }
                None => {
                    put.push(pod.clone());
                    self.pods.entry(uid.into()).or_insert(SentPod::of(pod))
                }
            };
            sent.seen = looks;
            wanted.extend(sent.needs.iter().cloned());
        }
        with_volumes(view, &mut wanted);
        wanted.extend(doomed);
        self.pods.retain(|uid, sent| {
            let stays = sent.seen == looks;
            if !stays {
                gone.push(Gone {
                    key: sent.key.clone(),
                    uid: Uid::from(&**uid),
                });
            }
            stays
        });
        let mut bodies = Vec::new();
        for key in &wanted {
            let Some(object) = view.get(key) else {
                continue;
            };
            let sent = self.bodies.get(key);
            if sent.is_none_or(|sent| sent.version != object.version) {
                let sent = Sent {
                    uid: object.uid(),
                    version: object.version,
                };
                self.bodies.insert(key.clone(), sent);
                bodies.push(object.clone());
            }
        }
        self.bodies.retain(|key, sent| {
            let stays = wanted.contains(key) && view.get(key).is_some();
            if !stays {
                gone.push(Gone {
                    key: key.clone(),
                    uid: sent.uid.clone(),
                });
            }
            stays
        });
        // What pods name comes before the pods, so that an agent that starts one has it all.
        bodies.append(&mut put);
        Difference {
            incarnation: view.incarnation().clone(),
            version: view.version(),
            put: bodies,
            gone,
            needs: wanted,
        }
    }

    /// What an agent has that was up to date at `version`. What is newer is left out, and so is sent
    /// by the next look.
    pub(crate) fn at(view: &View<'_>, node: &str, version: u64) -> Self {
        let mut mirror = Self::default();
        for pod in view
            .on_node(node)
            .filter(|pod| pod.kind == Kind::Pod && pod.version <= version)
        {
            let sent = SentPod::of(pod);
            // A ConfigMap may be older than the pod that first names it, so only what pods of
            // that time name counts as sent.
            let mut keys: BTreeSet<Key> = sent.needs.iter().cloned().collect();
            with_volumes(view, &mut keys);
            for key in &keys {
                if let Some(object) = view.get(key).filter(|object| object.version <= version) {
                    let sent = Sent {
                        uid: object.uid(),
                        version: object.version,
                    };
                    mirror.bodies.insert(key.clone(), sent);
                }
            }
            mirror.pods.insert(pod.meta.uid.as_deref().unwrap_or("").into(), sent);
        }
        mirror
    }
}

impl SentPod {
    fn of(pod: &Object) -> Self {
        Self {
            key: pod.key(),
            version: pod.version,
            print: print(pod),
            needs: needs(pod).into_iter().collect(),
            seen: 0,
        }
    }
}

/// What left the node in these changes: pods, and what only they named.
pub(crate) fn left(changes: &[Change], view: &View<'_>, node: &str) -> Vec<Gone> {
    let mut gone = Vec::new();
    let mut named = BTreeSet::new();
    for change in changes {
        let Some(old) = change.old.as_ref().filter(|old| old.node.as_deref() == Some(node)) else {
            continue;
        };
        named.extend(needs(old));
        let here = |new: &Arc<Object>| new.node.as_deref() == Some(node) && new.uid() == old.uid();
        if !change.new.as_ref().is_some_and(here) {
            gone.push(Gone {
                key: old.key(),
                uid: old.uid(),
            });
        }
    }
    let mut wanted = BTreeSet::new();
    for pod in view.on_node(node).filter(|pod| pod.kind == Kind::Pod) {
        wanted.extend(needs(pod));
    }
    with_volumes(view, &mut wanted);
    // Whether the agent has these cannot be known from here; to drop what one has not does no harm.
    let dropped = named.iter().filter(|key| !wanted.contains(*key));
    let missing = wanted.iter().filter(|key| view.get(key).is_none());
    gone.extend(dropped.chain(missing).map(|key| Gone {
        key: key.clone(),
        uid: view.get(key).map_or_else(|| "".into(), |object| object.uid()),
    }));
    gone
}
