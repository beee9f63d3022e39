use std::{collections::BTreeSet, sync::Arc};

use schemas::{Key, Kind, Object, labels, storage};
use serde_json::{Value, json};

use super::{World, claim, class, shelf::Shelf, users::Users, volume};
use crate::{plan::Plan, simulation::Simulation};

fn claim(name: &str, more: Value) -> Value {
    let mut value = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "a"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    for (field, part) in more.as_object().into_iter().flatten() {
        value["spec"][field] = part.clone();
    }
    value
}

fn pod(name: &str, claim: &str, node: Option<&str>) -> Value {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a"},
        "spec": {
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}],
        },
    });
    if let Some(node) = node {
        value["spec"]["nodeName"] = node.into();
    }
    value
}

fn made_by_hand(name: &str, size: &str, more: Value) -> Value {
    let mut value = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name, "labels": {"name": name}},
        "spec": {
            "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "hand",
            "hostPath": {"path": "/data"},
        },
    });
    for (field, part) in more.as_object().into_iter().flatten() {
        value["spec"][field] = part.clone();
    }
    value
}

fn class_of(name: &str, provisioner: &str, mode: &str, more: Value) -> Value {
    let mut value = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": provisioner, "volumeBindingMode": mode,
    });
    for (field, part) in more.as_object().into_iter().flatten() {
        value[field] = part.clone();
    }
    value
}

/// A cluster with two nodes and the default class.
struct Store {
    sim: Simulation,
}

impl Store {
    fn new() -> Self {
        let mut sim = Simulation::new();
        for node in ["n1", "n2"] {
            sim.put_node(node, json!({labels::HOSTNAME: format!("{node}.host")}), json!({}));
        }
        let mut store = Self { sim };
        store.look(&class::key());
        store
    }

    fn put(&mut self, value: Value) -> Arc<Object> {
        self.sim.put(value)
    }

    fn find(&self, key: &Key) -> Option<Arc<Object>> {
        self.sim.objects.get(key).cloned()
    }

    fn claim(&self, name: &str) -> Arc<Object> {
        self.sim.get(Kind::PersistentVolumeClaim, name)
    }

    fn volumes(&self) -> Vec<Arc<Object>> {
        self.sim.all(Kind::PersistentVolume)
    }

    fn look(&mut self, key: &Key) -> Plan {
        let mut users = Users::default();
        for pod in self.sim.all(Kind::Pod) {
            users.take(&pod.key(), None, Some(&pod));
        }
        let mut shelf = Shelf::default();
        for volume in self.volumes() {
            shelf.take(&volume.key(), None, Some(&volume));
        }
        let world = match key.kind {
            Kind::StorageClass => World::Class(class::World { class: self.find(key) }),
            Kind::PersistentVolume => {
                let volume = self.find(key).expect("it is there");
                let node = storage::docker_volume(&volume).map(|docker| Key::cluster(Kind::Node, &docker.node));
                World::Volume(volume::World {
                    claim: storage::claim_of(&volume).and_then(|claim| self.find(&claim)),
                    node_is_gone: node.is_some_and(|node| self.find(&node).is_none()),
                    volume,
                })
            }
            _ => {
                let claim = self.find(key).expect("it is there");
                let users: Vec<_> = users.of(key).filter_map(|pod| self.find(pod)).collect();
                let nodes: BTreeSet<_> = users.iter().filter_map(|pod| pod.node.clone()).collect();
                let class = claim.body.at("spec/storageClassName").and_then(schemas::Part::word);
                World::Claim(claim::World {
                    volume: storage::volume_of(&claim).and_then(|volume| self.find(&volume)),
                    class: class.and_then(|class| self.find(&Key::cluster(Kind::StorageClass, class))),
                    default_class: self
                        .sim
                        .all(Kind::StorageClass)
                        .into_iter()
                        .find(|class| class::is_default(class)),
                    free: shelf.open_to(key).filter_map(|volume| self.find(volume)).collect(),
                    nodes: nodes
                        .iter()
                        .filter_map(|node| self.find(&Key::cluster(Kind::Node, node)))
                        .collect(),
                    users,
                    claim,
                })
            }
        };
        let plan = super::plan(&world, self.sim.now, &mut self.sim.ids);
        self.sim.apply(&plan);
        plan
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            let mut idle = true;
            for kind in [Kind::PersistentVolumeClaim, Kind::PersistentVolume] {
                for object in self.sim.all(kind) {
                    if self.find(&object.key()).is_some() {
                        idle &= self.look(&object.key()).is_empty();
                    }
                }
            }
            if idle {
                return;
            }
        }
        panic!("it does not settle: {:#?}", self.sim.objects.keys());
    }

    fn phase(&self, key: &Key) -> String {
        let object = self.find(key).expect("it is there");
        let phase = object.status.as_ref().and_then(|status| status.word("phase"));
        phase.unwrap_or("").to_owned()
    }

    /// Deletes as the API would: what has finalizers is marked.
    fn delete(&mut self, key: &Key) {
        let object = self.find(key).expect("it is there");
        let mut plan = Plan::default();
        plan.writes(
            store::Class::User,
            "deleting",
            crate::owners::delete(&object, None, self.sim.now).into_iter().collect(),
        );
        self.sim.apply(&plan);
    }

    /// What the agent of a node does: removes what is behind volumes in deletion.
    fn agent(&mut self, node: &str) -> Vec<String> {
        let mut removed = Vec::new();
        for volume in self.volumes() {
            let Some(docker) = storage::docker_volume(&volume).filter(|docker| &*docker.node == node) else {
                continue;
            };
            if volume.is_deleting()
                && let Some(write) = claim::without_finalizer(&volume, storage::DOCKER_VOLUME)
            {
                removed.push(docker.name);
                let mut plan = Plan::default();
                plan.write(store::Class::Status, "removed", write);
                self.sim.apply(&plan);
            }
        }
        removed
    }
}

fn key(name: &str) -> Key {
    Key::namespaced(Kind::PersistentVolumeClaim, "a", name)
}

fn volume_key(name: &str) -> Key {
    Key::cluster(Kind::PersistentVolume, name)
}

#[test]
fn a_claim_waits_for_its_first_pod_and_gets_a_volume_on_its_node() {
    let mut store = Store::new();
    store.put(claim("data", json!({})));
    store.settle();
    let waiting = store.claim("data");
    assert_eq!(
        waiting.body.value()["spec"]["storageClassName"],
        "local",
        "the default class"
    );
    assert_eq!(
        waiting.meta.finalizers.as_deref(),
        Some(&vec![labels::PVC_PROTECTION.to_owned()])
    );
    assert_eq!(store.phase(&key("data")), "Pending");
    assert_eq!(store.look(&key("data")).waiting[0].1.word, "WaitForFirstConsumer");
    store.put(pod("p", "data", None));
    store.settle();
    assert!(store.volumes().is_empty(), "its pod has no node yet");

    store.put(pod("p", "data", Some("n2")));
    store.settle();
    let volume = &store.volumes()[0];
    let spec = volume.body.value().remove("spec").expect("it has one");
    let docker = storage::docker_volume(volume).expect("it is one of Docker");
    assert_eq!(&*docker.node, "n2");
    assert_eq!(docker.name, format!("towline-{}", volume.name()));
    assert_eq!(volume.name(), format!("pvc-{}", store.claim("data").uid()));
    assert_eq!(spec["capacity"]["storage"], "1Gi");
    assert_eq!(spec["persistentVolumeReclaimPolicy"], "Delete");
    assert_eq!(
        spec.pointer("/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0"),
        Some(&json!({"key": labels::HOSTNAME, "operator": "In", "values": ["n2.host"]}))
    );
    let bound = store.claim("data");
    assert_eq!(bound.annotation(storage::SELECTED_NODE), Some("n2"));
    assert_eq!(storage::volume_of(&bound), Some(volume.key()));
    assert_eq!(store.phase(&key("data")), "Bound");
    assert_eq!(store.phase(&volume.key()), "Bound");
    let status = bound.status_value().expect("it has one");
    assert_eq!(status["capacity"]["storage"], "1Gi");
    assert_eq!(status["accessModes"], json!(["ReadWriteOnce"]));
    // Another pod, elsewhere, changes nothing.
    store.put(pod("q", "data", Some("n1")));
    store.settle();
    assert_eq!(store.volumes().len(), 1);
}

#[test]
fn a_claim_in_use_stays_until_its_pods_are_gone_and_takes_its_volume_along() {
    let mut store = Store::new();
    store.put(claim("data", json!({})));
    store.put(pod("p", "data", Some("n1")));
    store.settle();
    let volume = store.volumes()[0].clone();
    store.delete(&key("data"));
    store.settle();
    assert!(store.claim("data").is_deleting());
    assert_eq!(store.look(&key("data")).waiting[0].1.word, "InUse");
    store.sim.objects.remove(&Key::namespaced(Kind::Pod, "a", "p"));
    store.settle();
    assert!(store.find(&key("data")).is_none());
    assert!(
        store.find(&volume.key()).is_some_and(|volume| volume.is_deleting()),
        "its node has work to do"
    );
    assert!(store.agent("n2").is_empty(), "it is on another node");
    assert_eq!(store.agent("n1"), [format!("towline-{}", volume.name())]);
    assert!(store.volumes().is_empty());
}

#[test]
fn a_retained_volume_is_released_and_its_data_stays_with_it() {
    let mut store = Store::new();
    store.put(class_of(
        "keep",
        storage::PROVISIONER,
        "WaitForFirstConsumer",
        json!({"reclaimPolicy": "Retain"}),
    ));
    store.put(claim("data", json!({"storageClassName": "keep"})));
    store.put(pod("p", "data", Some("n1")));
    store.settle();
    let volume = store.volumes()[0].key();
    store.sim.objects.remove(&Key::namespaced(Kind::Pod, "a", "p"));
    store.delete(&key("data"));
    store.settle();
    assert_eq!(store.phase(&volume), "Released");
    // A new claim of the same name is another claim.
    store.put(claim("data", json!({"storageClassName": "keep"})));
    store.put(pod("q", "data", Some("n1")));
    store.settle();
    assert_eq!(store.volumes().len(), 2);
    assert_eq!(store.phase(&volume), "Released");
    // A person who deletes the object leaves the data where it is.
    store.delete(&volume);
    store.settle();
    assert!(store.find(&volume).is_none());
    assert!(store.agent("n1").is_empty());
}

#[test]
fn a_volume_in_use_is_protected_and_a_claim_that_lost_its_volume_says_so() {
    let mut store = Store::new();
    store.put(claim("data", json!({})));
    store.put(pod("p", "data", Some("n1")));
    store.settle();
    let volume = store.volumes()[0].key();
    store.delete(&volume);
    store.settle();
    assert_eq!(store.look(&volume).waiting[0].1.word, "InUse");
    assert!(store.find(&volume).is_some());
    // By force: the object is gone.
    store.sim.objects.remove(&volume);
    store.settle();
    assert_eq!(store.phase(&key("data")), "Lost");
    assert!(store.volumes().is_empty(), "nothing is made in its place");
}

#[test]
fn a_volume_whose_node_is_gone_goes_with_its_claim() {
    let mut store = Store::new();
    store.put(claim("data", json!({})));
    store.put(pod("p", "data", Some("n1")));
    store.settle();
    store.sim.objects.remove(&Key::cluster(Kind::Node, "n1"));
    store.sim.objects.remove(&Key::namespaced(Kind::Pod, "a", "p"));
    store.delete(&key("data"));
    store.settle();
    assert!(store.volumes().is_empty());
}

#[test]
fn the_smallest_free_volume_that_fits_is_taken() {
    let mut store = Store::new();
    store.put(made_by_hand("large", "5Gi", json!({})));
    store.put(made_by_hand("small", "2Gi", json!({})));
    store.put(made_by_hand("tiny", "500Mi", json!({})));
    store.put(made_by_hand("other", "1Gi", json!({"storageClassName": "other"})));
    store.put(made_by_hand("shared", "1Gi", json!({"accessModes": ["ReadOnlyMany"]})));
    store.put(made_by_hand(
        "kept",
        "1Gi",
        json!({"claimRef": {"namespace": "a", "name": "someone"}}),
    ));
    store.put(class_of("hand", storage::NO_PROVISIONER, "Immediate", json!({})));
    store.settle();
    assert_eq!(store.phase(&volume_key("small")), "Available");
    for (name, more, expected) in [
        ("one", json!({}), Some("small")),
        ("two", json!({}), Some("large")),
        ("three", json!({}), None),
        ("someone", json!({}), Some("kept")),
        ("named", json!({"volumeName": "tiny"}), Some("tiny")),
        (
            "four",
            json!({"storageClassName": "other", "selector": {"matchLabels": {"name": "none"}}}),
            None,
        ),
    ] {
        let mut spec = json!({"storageClassName": "hand"});
        for (field, part) in more.as_object().into_iter().flatten() {
            spec[field] = part.clone();
        }
        store.put(claim(name, spec));
        store.settle();
        let bound = storage::volume_of(&store.claim(name)).map(|volume| volume.name.to_string());
        assert_eq!(bound.as_deref(), expected, "{name}");
        let phase = if expected.is_some() { "Bound" } else { "Pending" };
        assert_eq!(store.phase(&key(name)), phase, "{name}");
        if let Some(volume) = expected {
            assert_eq!(store.phase(&volume_key(volume)), "Bound", "{name}");
        }
    }
    // What a person made is not deleted by the system, whatever the policy says.
    store.delete(&key("one"));
    store.settle();
    assert_eq!(store.phase(&volume_key("small")), "Released");
}

#[test]
fn volumes_made_by_hand_are_taken_where_the_pod_is() {
    let mut store = Store::new();
    store.put(class_of(
        "hand",
        storage::NO_PROVISIONER,
        "WaitForFirstConsumer",
        json!({}),
    ));
    let on = |node: &str| {
        json!({"hostPath": null, "local": {"path": "/disk"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": labels::HOSTNAME, "operator": "In", "values": [format!("{node}.host")]}]}]}}})
    };
    store.put(made_by_hand("on-n1", "1Gi", on("n1")));
    store.put(made_by_hand("on-n2", "9Gi", on("n2")));
    store.put(claim("data", json!({"storageClassName": "hand"})));
    store.put(pod("p", "data", Some("n2")));
    store.settle();
    assert_eq!(storage::volume_of(&store.claim("data")), Some(volume_key("on-n2")));
}

#[test]
fn two_claims_never_get_one_volume() {
    let mut store = Store::new();
    store.put(made_by_hand("only", "1Gi", json!({})));
    store.put(class_of("hand", storage::NO_PROVISIONER, "Immediate", json!({})));
    for name in ["one", "two"] {
        store.put(claim(name, json!({"storageClassName": "hand"})));
    }
    store.put(claim(
        "named",
        json!({"storageClassName": "hand", "volumeName": "only"}),
    ));
    store.settle();
    let bound = ["one", "two", "named"]
        .into_iter()
        .filter(|name| store.phase(&key(name)) == "Bound");
    assert_eq!(bound.count(), 1);
}

#[test]
fn what_cannot_be_made_says_why() {
    let mut store = Store::new();
    store.put(class_of("hasty", storage::PROVISIONER, "Immediate", json!({})));
    store.put(class_of(
        "foreign",
        "example.com/disks",
        "WaitForFirstConsumer",
        json!({}),
    ));
    for (name, more, word, part) in [
        (
            "many",
            json!({"accessModes": ["ReadWriteMany"]}),
            "ProvisioningFailed",
            "cannot be ReadWriteMany",
        ),
        (
            "hasty",
            json!({"storageClassName": "hasty"}),
            "ProvisioningFailed",
            "WaitForFirstConsumer",
        ),
        (
            "foreign",
            json!({"storageClassName": "foreign"}),
            "FailedBinding",
            "no storage class makes one",
        ),
        (
            "none",
            json!({"storageClassName": "none"}),
            "NoClass",
            "\"none\" not found",
        ),
        (
            "no-class",
            json!({"storageClassName": ""}),
            "FailedBinding",
            "no persistent volumes available",
        ),
        (
            "picky",
            json!({"selector": {"matchLabels": {"a": "b"}}}),
            "ProvisioningFailed",
            "selector",
        ),
        ("absent", json!({"volumeName": "absent"}), "VolumeMissing", "absent"),
    ] {
        store.put(claim(name, more));
        store.put(pod(name, name, Some("n1")));
        store.settle();
        let plan = store.look(&key(name));
        assert_eq!(plan.waiting[0].1.word, word, "{name}");
        assert!(
            plan.waiting[0].1.message.contains(part),
            "{name}: {}",
            plan.waiting[0].1.message
        );
        assert_eq!(store.phase(&key(name)), "Pending", "{name}");
    }
    assert!(store.volumes().is_empty());
}

#[test]
fn a_volume_made_for_a_pod_that_is_gone_makes_way() {
    let mut store = Store::new();
    store.put(claim("data", json!({"storageClassName": "local"})));
    store.put(pod("p", "data", Some("n1")));
    store.look(&key("data"));
    // The plan broke off after the volume was made.
    let before = store.claim("data");
    store.look(&key("data"));
    let mut unbound = Object::clone(&before);
    unbound.version = store.claim("data").version;
    store.sim.objects.insert(key("data"), Arc::new(unbound));
    assert_eq!(store.volumes().len(), 1);
    store.sim.objects.remove(&Key::namespaced(Kind::Pod, "a", "p"));
    store.put(pod("q", "data", Some("n2")));
    for _ in 0..10 {
        store.look(&key("data"));
        for volume in store.volumes() {
            store.look(&volume.key());
        }
        store.agent("n1");
    }
    store.settle();
    let docker = storage::docker_volume(&store.volumes()[0]).expect("it is one of Docker");
    assert_eq!(&*docker.node, "n2");
    assert_eq!(store.phase(&key("data")), "Bound");
}
