//! Local storage: volumes of Docker, one node's each, behind PersistentVolumes and their claims.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{Key, Kind, Object, Part};

/// The class that claims get that name none.
pub const DEFAULT_CLASS: &str = "local";
/// Makes volumes of Docker on the node of a claim's first pod.
pub const PROVISIONER: &str = "towline.dev/local";
/// Classes with this one have volumes that people make.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// The driver of the volumes that [`PROVISIONER`] makes: the node agent.
pub const DRIVER: &str = "local.towline.dev";
/// The attribute of such a volume that names its node.
const NODE: &str = "node";

/// On a class: claims without a class get this one.
pub const IS_DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// On a claim: the node of its first pod.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a claim: who makes its volume.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// On a claim: it was bound once.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On both sides: the system chose the other one.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// Keeps a volume while a claim is bound to it.
pub const PV_PROTECTION: &str = "kubernetes.io/pv-protection";
/// Keeps a volume until its node has removed what is behind it.
pub const DOCKER_VOLUME: &str = "towline.dev/docker-volume";

/// What is behind a PersistentVolume, as its node finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A named volume of Docker.
    Docker(DockerVolume),
    /// A directory of the node.
    Directory(String),
}

/// A named volume of Docker on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerVolume {
    pub name: String,
    pub node: Arc<str>,
}

/// What is behind a volume; none for sources that no node can mount.
#[must_use]
pub fn backing(volume: &Object) -> Option<Backing> {
    let spec = volume.body.at("spec")?;
    if let Some(docker) = docker_volume(volume) {
        return Some(Backing::Docker(docker));
    }
    let path = spec.at("local/path").or_else(|| spec.at("hostPath/path"))?;
    Some(Backing::Directory(path.text()?.into_owned()))
}

/// The volume of Docker that is behind a PersistentVolume, if it is one.
#[must_use]
pub fn docker_volume(volume: &Object) -> Option<DockerVolume> {
    let csi = volume.body.at("spec/csi")?;
    csi.has("driver", DRIVER).then_some(())?;
    Some(DockerVolume {
        name: csi.get("volumeHandle")?.text()?.into_owned(),
        node: csi.get("volumeAttributes")?.get(NODE)?.text()?.into(),
    })
}

/// The `csi` source of such a volume.
#[must_use]
pub fn source(volume: &DockerVolume) -> Value {
    json!({"driver": DRIVER, "volumeHandle": volume.name, "volumeAttributes": {NODE: &*volume.node}})
}

/// Whether what is behind a volume goes with it.
#[must_use]
pub fn is_deleted_with(volume: &Object) -> bool {
    let spec = volume.body.at("spec");
    spec.is_some_and(|spec| spec.has("persistentVolumeReclaimPolicy", "Delete"))
}

/// The claims that a pod's volumes name.
pub fn claims(pod: &Object) -> impl Iterator<Item = Key> {
    let volumes = pod.body.at("spec/volumes").into_iter().flat_map(Part::items);
    let named = volumes.filter_map(|volume| {
        let claim = volume.at("persistentVolumeClaim/claimName")?;
        claim.text().filter(|claim| !claim.is_empty())
    });
    named.map(|claim| Key::namespaced(Kind::PersistentVolumeClaim, pod.namespace(), &claim))
}

/// The volume that a claim is bound to, or wants to be.
#[must_use]
pub fn volume_of(claim: &Object) -> Option<Key> {
    let name = claim.body.at("spec/volumeName")?.text()?;
    (!name.is_empty()).then(|| Key::cluster(Kind::PersistentVolume, &name))
}

/// The claim that a volume is bound to, or kept for.
#[must_use]
pub fn claim_of(volume: &Object) -> Option<Key> {
    let reference = volume.body.at("spec/claimRef")?;
    let text = |field: &str| reference.get(field)?.text().filter(|text| !text.is_empty());
    Some(Key::namespaced(
        Kind::PersistentVolumeClaim,
        &text("namespace")?,
        &text("name")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_a_volume_is_read_from_its_source() {
        let docker = DockerVolume {
            name: "towline-v".to_owned(),
            node: "n1".into(),
        };
        let table = [
            (json!({"csi": source(&docker)}), Some(Backing::Docker(docker))),
            (json!({"csi": {"driver": "other", "volumeHandle": "v"}}), None),
            (
                json!({"local": {"path": "/data"}}),
                Some(Backing::Directory("/data".to_owned())),
            ),
            (
                json!({"hostPath": {"path": "/data"}}),
                Some(Backing::Directory("/data".to_owned())),
            ),
            (json!({"nfs": {"path": "/data", "server": "s"}}), None),
        ];
        for (spec, expected) in table {
            let value =
                json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}, "spec": spec});
            let volume = Object::from_value(value).expect("it is valid");
            assert_eq!(backing(&volume), expected, "{spec}");
        }
    }
}
