//! Which nodes can reach a pod's volumes.
//!
//! A claim that is bound ties its pods to the nodes of its volume. One that waits for its first
//! consumer ties them to none: its volume is made where the pod goes.
//!
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#node-affinity>

use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelector, PersistentVolumeClaimSpec, PersistentVolumeSpec};
use rustc_hash::FxHashMap;
use schemas::{Kind, Object};

use super::{filter, group::Claim, node::Facts};

/// Claims, volumes and classes, as far as they decide where pods go.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    claims: FxHashMap<(Arc<str>, Arc<str>), ClaimState>,
    /// Where each volume can be reached from; everywhere, if nothing is said.
    volumes: FxHashMap<Arc<str>, Option<NodeSelector>>,
    /// Classes whose volumes are made at once, wherever the pod goes.
    immediate: FxHashMap<Arc<str>, bool>,
    /// Something changed since pods were last considered.
    pub(super) changed: bool,
}

#[derive(Debug)]
struct ClaimState {
    volume: Option<Arc<str>>,
    class: Option<Arc<str>>,
    ending: bool,
}

/// Nodes that can reach all volumes of a pod; none where all can.
pub(super) type Reach<'a> = Vec<&'a NodeSelector>;

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
                let text = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(Arc::from);
                let state = ClaimState {
                    volume: text(&spec.volume_name),
                    class: text(&spec.storage_class_name),
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
                    self.immediate.remove(name);
                    return;
                };
                let mode = object
                    .body
                    .value()
                    .get("volumeBindingMode")
                    .and_then(|mode| mode.as_str());
                self.immediate.insert(name.into(), mode != Some("WaitForFirstConsumer"));
            }
            _ => {}
        }
    }

    /// What the volumes of a pod ask of nodes.
    ///
    /// # Errors
    /// With a sentence, where no node will do before a claim changes.
    pub(super) fn reach(&self, claims: &[Claim], pod: &Object) -> Result<Reach<'_>, String> {
        let mut reach = Vec::new();
        for claim in claims {
            let name = match claim {
                Claim::Named(name) => name.clone(),
                Claim::Own(volume) => format!("{}-{volume}", pod.name()).into(),
            };
            let key = (Arc::from(pod.namespace()), name);
            let Some(state) = self.claims.get(&key) else {
                return Err(format!("persistentvolumeclaim {:?} not found", &*key.1));
            };
            if state.ending {
                return Err(format!("persistentvolumeclaim {:?} is being deleted", &*key.1));
            }
            let Some(volume) = &state.volume else {
                let immediate = state.class.as_ref().and_then(|class| self.immediate.get(class));
                if immediate == Some(&true) {
                    return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
                }
                continue;
            };
            match self.volumes.get(volume) {
                Some(required) => reach.extend(required),
                None => {
                    return Err("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)".to_owned());
                }
            }
        }
        Ok(reach)
    }
}

/// Whether a node can reach what all of these ask.
pub(super) fn reaches(reach: &Reach<'_>, facts: &Facts) -> bool {
    let holds = |selector: &&NodeSelector| {
        let mut terms = selector.node_selector_terms.iter();
        terms.any(|term| filter::term_holds(term, facts))
    };
    reach.iter().all(holds)
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
            let reach = volumes.reach(&claims, &pod).expect("it is bound");
            assert!(reaches(&reach, &host("n1")) && !reaches(&reach, &host("n2")));
        }
        let why = |volumes: &Volumes, name: &str| volumes.reach(&named(name), &pod).map(|reach| reach.len());
        assert_eq!(
            why(&volumes, "none"),
            Err("persistentvolumeclaim \"none\" not found".to_owned())
        );
        assert!(why(&volumes, "lost").is_err());
        assert_eq!(why(&volumes, "waits"), Ok(0), "nothing says that it is bound at once");
        volumes.put(Kind::StorageClass, "", "c", Some(&class("Immediate")));
        assert_eq!(
            why(&volumes, "waits"),
            Err("pod has unbound immediate PersistentVolumeClaims".to_owned())
        );
        volumes.put(Kind::StorageClass, "", "c", Some(&class("WaitForFirstConsumer")));
        assert_eq!(why(&volumes, "waits"), Ok(0));
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
}
