//! Volumes that outlive their pods: made on this node when a pod first needs one, removed when the
//! server has deleted the PersistentVolume, and never for any other reason.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use schemas::{
    Key, Kind, Object, Uid,
    labels::docker,
    node::{NodeEvent, PodReport},
    storage::{self, Backing, DockerVolume},
};
use serde_json::Value;

use crate::{
    agent::Agent,
    environment::Objects,
    execute::{Execution, Failure, Update},
    host::Host,
    memory::TroubleKind,
    pod::Pod,
    reporter::Reporter,
    runtime::{RuntimeError, VolumeSpec},
    volumes::{Location, give_to_group},
};

/// How long to wait before a volume that could not be removed is tried again, at first and at most.
const AGAIN: Duration = Duration::from_secs(1);
const LAST_AGAIN: Duration = Duration::from_secs(300);

/// A volume of the pod that a claim stands for.
#[derive(Debug, PartialEq)]
struct Claimed {
    /// The name by which containers mount it.
    name: String,
    backing: Backing,
    /// The PersistentVolume's key and uid.
    volume: (Key, Uid),
}

/// Why a claim cannot be mounted.
#[derive(Debug, PartialEq, thiserror::Error)]
enum Unmounted {
    /// The server is yet to bind it: that comes by itself.
    #[error("waits until claim {0:?} is bound to a volume")]
    Unbound(String),
    #[error("claim {claim:?} is bound to volume {volume:?}, which is on node {node:?}")]
    Elsewhere {
        claim: String,
        volume: String,
        node: Arc<str>,
    },
    #[error("volume {0:?} is of a kind that no node can mount")]
    Unknown(String),
}

/// What stands behind the claims that a pod names.
fn claimed(pod: &Pod, objects: &Objects, node: &str) -> Result<Vec<Claimed>, Unmounted> {
    let mut all = Vec::new();
    for volume in pod.spec.volumes.iter().flatten() {
        let Some(source) = &volume.persistent_volume_claim else {
            continue;
        };
        let unbound = || Unmounted::Unbound(source.claim_name.clone());
        let key = Key::namespaced(Kind::PersistentVolumeClaim, pod.key.ns(), &source.claim_name);
        let claim = objects.get(&key).ok_or_else(unbound)?;
        let found = storage::volume_of(claim).and_then(|volume| objects.get(&volume));
        let found = found.ok_or_else(unbound)?;
        let backing = storage::backing(found).ok_or_else(|| Unmounted::Unknown(found.name().to_owned()))?;
        if let Backing::Docker(docker) = &backing
            && *docker.node != *node
        {
            return Err(Unmounted::Elsewhere {
                claim: source.claim_name.clone(),
                volume: found.name().to_owned(),
                node: docker.node.clone(),
            });
        }
        all.push(Claimed {
            name: volume.name.clone(),
            backing,
            volume: (found.key(), found.uid()),
        });
    }
    Ok(all)
}

/// The labels by which a volume of Docker is known as the one of a PersistentVolume.
fn labels(host: &Host, volume: &Key, uid: &Uid) -> BTreeMap<String, String> {
    let cluster = host
        .owner
        .get()
        .map(|owner| owner.cluster.to_string())
        .unwrap_or_default();
    BTreeMap::from([
        (docker::CLUSTER.to_owned(), cluster),
        (docker::VOLUME.to_owned(), volume.name.to_string()),
        (docker::VOLUME_UID.to_owned(), uid.to_string()),
    ])
}

impl<F: Fn(Update) + Send + Sync> Execution<F> {
    /// Makes the volumes of the pod's claims as far as they are not there, and says where each is.
    pub(crate) async fn mount_claims(&self, container: &str) -> Result<BTreeMap<String, Location>, Failure> {
        let found = claimed(&self.pod, &self.host.objects.read(), &self.host.node_name);
        let fail = |message: String, told: bool| {
            if told {
                self.event(true, "FailedMount", message.clone(), None);
            }
            self.trouble(container, TroubleKind::Volume, message)
        };
        let all = found.map_err(|error| {
            let told = !matches!(error, Unmounted::Unbound(_));
            fail(error.to_string(), told)
        })?;
        let mut sources = BTreeMap::new();
        for Claimed { name, backing, volume } in all {
            let source = match backing {
                Backing::Directory(path) => Location::Path(path),
                Backing::Docker(DockerVolume { name: docker, .. }) => {
                    let spec = VolumeSpec {
                        name: docker.clone(),
                        labels: labels(&self.host, &volume.0, &volume.1),
                    };
                    let made = self.host.runtime.ensure_volume(&spec).await;
                    let made = made.map_err(|error| match error {
                        RuntimeError::Unreachable { .. } => Failure::Unreachable,
                        error => fail(format!("volume {name:?}: {error}"), true),
                    })?;
                    if self.host.state.keep_volume(&volume.1) && made.fresh {
                        let message = format!(
                            "volume {name:?} begins anew, empty: Docker's volume {docker} was removed from node {} by hand, and what was in it is lost",
                            self.host.node_name
                        );
                        self.event(true, "VolumeLost", message, None);
                    }
                    let prepared = open_up(&self.pod, Path::new(&made.path), made.fresh);
                    prepared
                        .map_err(|error| fail(format!("volume {name:?}: cannot open {}: {error}", made.path), true))?;
                    Location::Docker {
                        name: docker,
                        path: made.path,
                    }
                }
            };
            sources.insert(name, source);
        }
        Ok(sources)
    }
}

/// A new volume is for whoever the containers run as; a group of the pod's gets it each time.
fn open_up(pod: &Pod, at: &Path, fresh: bool) -> std::io::Result<()> {
    // In a simulation nothing is there.
    if !at.exists() {
        return Ok(());
    }
    if fresh {
        fs::set_permissions(at, fs::Permissions::from_mode(0o777))?;
    }
    give_to_group(
        at,
        pod.spec.security_context.as_ref().and_then(|context| context.fs_group),
    )
}

impl Agent {
    /// A volume came or changed: one that is deleted goes from this node, if it is here.
    pub(crate) fn volume_changed(&mut self, volume: &Object) {
        let Some(docker) = storage::docker_volume(volume).filter(|docker| *docker.node == *self.host.node_name) else {
            return;
        };
        let held = volume
            .meta
            .finalizers
            .iter()
            .flatten()
            .any(|finalizer| finalizer == storage::DOCKER_VOLUME);
        let goes = volume.is_deleting() && held && storage::is_deleted_with(volume);
        if !goes || !self.removing.insert(volume.uid()) {
            return;
        }
        let removal = Removal {
            host: self.host.clone(),
            reporter: self.reporter.clone(),
            docker,
            key: volume.key(),
            uid: volume.uid(),
        };
        let shutdown = self.shutdown.clone();
        self.executions.spawn(async move {
            tokio::select! {
                biased;
                () = removal.run() => {}
                () = shutdown.cancelled() => {}
            }
        });
    }

    /// The server knows no more of a volume.
    pub(crate) fn volume_gone(&mut self, uid: &Uid) {
        self.removing.remove(uid);
    }
}

/// The end of one volume of Docker.
struct Removal {
    host: Arc<Host>,
    reporter: Arc<Reporter>,
    docker: DockerVolume,
    key: Key,
    uid: Uid,
}

impl Removal {
    /// Tries until it is gone, and says so.
    async fn run(self) {
        let labels = labels(&self.host, &self.key, &self.uid);
        let mut pause = AGAIN;
        while let Err(error) = self.host.runtime.remove_volume(&self.docker.name, &labels).await {
            tracing::warn!(name = &*self.key.name, volume = self.docker.name, %error, "a volume was not removed yet");
            if !error.is_unreachable() {
                self.say(
                    false,
                    Some(format!("the volume {} was not removed yet: {error}", self.docker.name)),
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_AGAIN);
        }
        tracing::info!(
            name = &*self.key.name,
            volume = self.docker.name,
            "a volume was removed"
        );
        self.host.state.forget_volume(&self.uid);
        self.say(true, None);
    }

    fn say(&self, terminated: bool, failure: Option<String>) {
        let event = failure.map(|message| NodeEvent {
            warning: true,
            reason: "VolumeFailedDelete".to_owned(),
            message,
            field_path: None,
        });
        self.reporter.push(PodReport {
            key: self.key.clone(),
            uid: self.uid.clone(),
            status: Value::Null,
            terminated,
            events: event.into_iter().collect(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> (Key, Object) {
        let object = Object::from_value(value).expect("it is valid");
        (object.key(), object)
    }

    fn claim(volume: &str) -> (Key, Object) {
        object(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": "a", "uid": "c"}, "spec": {"volumeName": volume},
        }))
    }

    fn volume(source: Value) -> (Key, Object) {
        object(json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v", "uid": "v"}, "spec": source,
        }))
    }

    #[test]
    fn a_claim_leads_to_what_is_behind_its_volume() {
        let pod = Pod::read(
            object(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a", "uid": "p"},
                "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": [
                    {"name": "other", "emptyDir": {}},
                    {"name": "mine", "persistentVolumeClaim": {"claimName": "data"}}]},
            }))
            .1,
        )
        .expect("it is valid");
        let docker = DockerVolume {
            name: "towline-v".to_owned(),
            node: "n1".into(),
        };
        let source = json!({"csi": storage::source(&docker)});
        let table = [
            (vec![], Err(Unmounted::Unbound("data".to_owned()))),
            (vec![claim("")], Err(Unmounted::Unbound("data".to_owned()))),
            (vec![claim("v")], Err(Unmounted::Unbound("data".to_owned()))),
            (vec![claim("v"), volume(source)], Ok(Backing::Docker(docker))),
            (
                vec![claim("v"), volume(json!({"hostPath": {"path": "/data"}}))],
                Ok(Backing::Directory("/data".to_owned())),
            ),
            (
                vec![claim("v"), volume(json!({"nfs": {}}))],
                Err(Unmounted::Unknown("v".to_owned())),
            ),
        ];
        for (known, expected) in table {
            let objects: Objects = known.into_iter().collect();
            let found = claimed(&pod, &objects, "n1").map(|mut all| {
                assert_eq!((all.len(), &*all[0].name), (1, "mine"));
                all.remove(0).backing
            });
            assert_eq!(found, expected, "{:?}", objects.keys());
        }
        let elsewhere = DockerVolume {
            name: "towline-v".to_owned(),
            node: "n2".into(),
        };
        let objects: Objects = [claim("v"), volume(json!({"csi": storage::source(&elsewhere)}))]
            .into_iter()
            .collect();
        assert!(matches!(
            claimed(&pod, &objects, "n1"),
            Err(Unmounted::Elsewhere { .. })
        ));
    }
}
