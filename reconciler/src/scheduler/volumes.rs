//! Which nodes can reach a pod's volumes.
//!
//! A claim that is bound ties its pods to the nodes of its volume. One that waits for its first
//! consumer gets its volume where that one goes, and so ties those that come later to the same node.
//!
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#node-affinity>

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::{NodeSelector, PersistentVolumeClaimSpec, PersistentVolumeSpec};
use rustc_hash::FxHashMap;
use schemas::{Kind, Object, storage};

use super::{filter, group::Claim, node::Facts};

/// Namespace and name of a claim.
type ClaimKey = (Arc<str>, Arc<str>);

/// Claims, volumes and classes, as far as they decide where pods go.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    claims: FxHashMap<ClaimKey, ClaimState>,
    /// Where each volume can be reached from; everywhere, if nothing is said.
    volumes: FxHashMap<Arc<str>, Option<NodeSelector>>,
    classes: FxHashMap<Arc<str>, ClassState>,
    /// The pods that name a claim, by name and number.
    users: FxHashMap<ClaimKey, BTreeSet<(Arc<str>, u32)>>,
    /// Something changed since pods were last considered.
    pub(super) changed: bool,
}

#[derive(Debug)]
struct ClaimState {
    volume: Option<Arc<str>>,
    /// None: it gets the default one. An empty one stands for volumes without a class.
    class: Option<Arc<str>>,
    /// One pod at a time may use it.
    single: bool,
    ending: bool,
}

#[derive(Debug)]
struct ClassState {
    /// Its volumes are made where the first pod goes.
    waits: bool,
    is_default: bool,
}

/// What the volumes of a pod ask of nodes.
#[derive(Debug, Default)]
pub(super) struct Reach<'a> {
    selectors: Vec<&'a NodeSelector>,
    /// The places of pods that share a claim whose volume is yet to be made.
    nodes: Vec<u32>,
}

impl Reach<'_> {
    /// Whether any node will do.
    pub(super) fn is_free(&self) -> bool {
        self.selectors.is_empty() && self.nodes.is_empty()
    }

    /// Whether a node can reach all.
    pub(super) fn holds(&self, node: u32, facts: &Facts) -> bool {
        let held = |selector: &&NodeSelector| {
            let mut terms = selector.node_selector_terms.iter();
            terms.any(|term| filter::term_holds(term, facts))
        };
        self.nodes.iter().all(|other| *other == node) && self.selectors.iter().all(held)
    }
}

impl Volumes {
    /// Takes in a claim, a volume or a class; none when it is gone.
    pub(super) fn put(&mut self, kind: Kind, namespace: &str, name: &str, object: Option<&Object>) {
        self.changed = true;
        match kind {
            Kind::PersistentVolumeClaim => {
                let key = (Arc::from(namespace), Arc::from(name));
                let Some(object) = object else {
                    self.claims.remove(&key);
                    return;
                };
                let spec = object.spec::<PersistentVolumeClaimSpec>().unwrap_or_default();
                let mut modes = spec.access_modes.iter().flatten();
                let state = ClaimState {
                    volume: storage::volume_of(object).map(|volume| volume.name),
                    class: spec.storage_class_name.as_deref().map(Arc::from),
                    single: modes.any(|mode| mode == "ReadWriteOncePod"),
                    ending: object.is_deleting(),
                };
                self.claims.insert(key, state);
            }
            Kind::PersistentVolume => {
                let Some(object) = object else {
                    self.volumes.remove(name);
                    return;
                };
                let spec = object.spec::<PersistentVolumeSpec>().unwrap_or_default();
                let required = spec
                    .node_affinity
                    .as_ref()
                    .and_then(|affinity| affinity.required.clone());
                self.volumes.insert(name.into(), required);
            }
            Kind::StorageClass => {
                let Some(object) = object else {
                    self.classes.remove(name);
                    return;
                };
                let mode = object.body.at("volumeBindingMode");
                let state = ClassState {
                    waits: mode.is_some_and(|mode| mode.is("WaitForFirstConsumer")),
                    is_default: object.annotation(storage::IS_DEFAULT_CLASS) == Some("true"),
                };
                self.classes.insert(name.into(), state);
            }
            _ => {}
        }
    }

    /// Takes note of a pod that names claims, by its number.
    pub(super) fn meet(&mut self, claims: &[Claim], pod: &Object, at: u32) {
        for claim in claims {
            let users = self.users.entry(key(claim, pod)).or_default();
            users.insert((pod.name().into(), at));
        }
    }

    /// The same for one that is gone or has finished: others may have waited for it.
    pub(super) fn forget(&mut self, claims: &[Claim], pod: &Object, at: u32) {
        for claim in claims {
            let key = key(claim, pod);
            if let Some(users) = self.users.get_mut(&key) {
                users.remove(&(pod.name().into(), at));
                if users.is_empty() {
                    self.users.remove(&key);
                }
                self.changed = true;
            }
        }
    }

    /// What the volumes of a pod ask of nodes. `place` says where another pod is, if it has a node.
    ///
    /// # Errors
    /// With a sentence, where no node will do before a claim changes.
    pub(super) fn reach(
        &self,
        claims: &[Claim],
        pod: &Object,
        at: u32,
        place: impl Fn(u32) -> Option<u32>,
    ) -> Result<Reach<'_>, String> {
        let mut reach = Reach::default();
        for claim in claims {
            let key = key(claim, pod);
            let Some(state) = self.claims.get(&key) else {
                return Err(format!("persistentvolumeclaim {:?} not found", &*key.1));
            };
            if state.ending {
                return Err(format!("persistentvolumeclaim {:?} is being deleted", &*key.1));
            }
            let others = self.users.get(&key).into_iter().flatten();
            let mut taken = others
                .filter(|(_, other)| *other != at)
                .filter_map(|(_, other)| place(*other));
            let first = taken.next();
            if state.single && first.is_some() {
                return Err(SINGLE.to_owned());
            }
            match &state.volume {
                Some(volume) => match self.volumes.get(volume) {
                    Some(required) => reach.selectors.extend(required),
                    None => return Err(LOST.to_owned()),
                },
                None if self.waits(state.class.as_deref()) => reach.nodes.extend(first),
                None => return Err(UNBOUND.to_owned()),
            }
        }
        Ok(reach)
    }

    /// Whether a claim of this class gets its volume where its first pod goes.
    fn waits(&self, class: Option<&str>) -> bool {
        match class {
            Some(class) => self.classes.get(class).is_some_and(|class| class.waits),
            // It is about to be given the default class.
            None => self.classes.values().any(|class| class.is_default && class.waits),
        }
    }
}

const UNBOUND: &str = "pod has unbound immediate PersistentVolumeClaims";
const LOST: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const SINGLE: &str = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";

fn key(claim: &Claim, pod: &Object) -> ClaimKey {
    let name = match claim {
        Claim::Named(name) => name.clone(),
        Claim::Own(volume) => format!("{}-{volume}", pod.name()).into(),
    };
    (pod.namespace().into(), name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("it is valid")
    }

    #[test]
    fn a_claim_ties_its_pods_to_the_nodes_of_its_volume() {
        let mut volumes = Volumes::default();
        let claim = |name: &str, volume: &str, class: &str| {
            object(json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "a"},
                "spec": {"volumeName": volume, "storageClassName": class},
            }))
        };
        let volume = object(json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
            "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]}}},
        }));
        let class = |mode: &str| {
            object(json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "c"},
                "provisioner": "p", "volumeBindingMode": mode,
            }))
        };
        volumes.put(Kind::PersistentVolume, "", "v", Some(&volume));
        volumes.put(
            Kind::PersistentVolumeClaim,
            "a",
            "bound",
            Some(&claim("bound", "v", "")),
        );
        volumes.put(
            Kind::PersistentVolumeClaim,
            "a",
            "p-own",
            Some(&claim("p-own", "v", "")),
        );
        volumes.put(Kind::PersistentVolumeClaim, "a", "lost", Some(&claim("lost", "w", "")));
        volumes.put(
            Kind::PersistentVolumeClaim,
            "a",
            "waits",
            Some(&claim("waits", "", "c")),
        );
        let pod =
            object(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}, "spec": {}}));
        let host = |name: &str| Facts {
            labels: [("kubernetes.io/hostname".to_owned(), name.to_owned())].into(),
            ..Facts::default()
        };
        let named = |name: &str| vec![Claim::Named(name.into())];
        for claims in [named("bound"), vec![Claim::Own("own".into())]] {
            let reach = volumes.reach(&claims, &pod, 1, |_| None).expect("it is bound");
            assert!(reach.holds(1, &host("n1")) && !reach.holds(2, &host("n2")));
        }
        let why = |volumes: &Volumes, name: &str| {
            volumes
                .reach(&named(name), &pod, 1, |_| None)
                .map(|reach| reach.is_free())
        };
        assert_eq!(
            why(&volumes, "none"),
            Err("persistentvolumeclaim \"none\" not found".to_owned())
        );
        assert!(why(&volumes, "lost").is_err());
        let unbound = Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
        assert_eq!(
            why(&volumes, "waits"),
            unbound,
            "nothing says that it is made for a pod"
        );
        volumes.put(Kind::StorageClass, "", "c", Some(&class("Immediate")));
        assert_eq!(why(&volumes, "waits"), unbound);
        volumes.put(Kind::StorageClass, "", "c", Some(&class("WaitForFirstConsumer")));
        assert_eq!(why(&volumes, "waits"), Ok(true));
        let mut going = claim("bound", "v", "");
        going.meta.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            jiff::Timestamp::UNIX_EPOCH,
        ));
        volumes.put(Kind::PersistentVolumeClaim, "a", "bound", Some(&going));
        assert_eq!(
            why(&volumes, "bound"),
            Err("persistentvolumeclaim \"bound\" is being deleted".to_owned())
        );
    }

    #[test]
    fn pods_of_a_claim_without_a_volume_go_where_the_first_one_is() {
        let mut volumes = Volumes::default();
        let pod = |name: &str| {
            object(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a"}, "spec": {}}))
        };
        let claim = |class: Value, mode: &str| {
            object(json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "a"},
                "spec": {"storageClassName": class, "accessModes": [mode]},
            }))
        };
        let class = |default: &str| {
            object(json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "p",
                "metadata": {"name": "c", "annotations": {"storageclass.kubernetes.io/is-default-class": default}},
                "volumeBindingMode": "WaitForFirstConsumer",
            }))
        };
        let claims = [Claim::Named("data".into())];
        let put = |volumes: &mut Volumes, claim: &Object| {
            volumes.put(Kind::PersistentVolumeClaim, "a", "data", Some(claim));
        };
        put(&mut volumes, &claim("c".into(), "ReadWriteOnce"));
        volumes.put(Kind::StorageClass, "", "c", Some(&class("false")));
        for (at, name) in [(1, "p"), (2, "q")] {
            volumes.meet(&claims, &pod(name), at);
        }
        let at = |volumes: &Volumes, place: &dyn Fn(u32) -> Option<u32>| {
            let reach = volumes.reach(&claims, &pod("q"), 2, place)?;
            Ok::<_, String>([7, 8].map(|node| reach.holds(node, &Facts::default())))
        };
        let seven = |pod: u32| (pod == 1).then_some(7);
        assert_eq!(at(&volumes, &|_| None), Ok([true, true]), "it is the first itself");
        assert_eq!(at(&volumes, &seven), Ok([true, false]));
        put(&mut volumes, &claim(Value::Null, "ReadWriteOnce"));
        assert!(at(&volumes, &seven).is_err(), "no class is the default");
        volumes.put(Kind::StorageClass, "", "c", Some(&class("true")));
        assert_eq!(at(&volumes, &seven), Ok([true, false]));
        put(&mut volumes, &claim("c".into(), "ReadWriteOncePod"));
        assert_eq!(at(&volumes, &seven), Err(SINGLE.to_owned()));
        volumes.changed = false;
        volumes.forget(&claims, &pod("p"), 1);
        assert!(volumes.changed);
        assert_eq!(at(&volumes, &seven), Ok([true, true]));
    }
}
