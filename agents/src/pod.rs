//! A pod as its agent knows it: the object, its spec, and the hash that names each container's spec.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container as ContainerSpec, PodSpec};
use schemas::{ContentHash, Key, Object, ObjectError, Part, Uid};
use serde_json::{Value, json};

use crate::observed::{Container, INFRA, Role};

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// One pod, read.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub key: Key,
    pub uid: Uid,
    pub object: Object,
    pub spec: Arc<PodSpec>,
}

impl Pod {
    /// # Errors
    /// When the object's spec is not that of a pod.
    pub(crate) fn read(object: Object) -> Result<Self, ObjectError> {
        Ok(Self {
            key: object.key(),
            uid: object.uid(),
            spec: object.spec::<PodSpec>()?,
            object,
        })
    }

    /// A pod of which only its containers are left: enough to end them in order.
    ///
    /// # Errors
    /// When what their labels say is no pod.
    pub(crate) fn left_over(uid: &Uid, key: &Key, containers: &[Container]) -> Result<Self, ObjectError> {
        let named = |of: &dyn Fn(Role) -> bool| -> Vec<Value> {
            let names: BTreeSet<&str> = containers
                .iter()
                .filter(|container| of(container.role))
                .map(|container| &*container.name)
                .collect();
            names.into_iter().map(|name| json!({"name": name})).collect()
        };
        let object = Object::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": &*key.name, "namespace": key.ns(), "uid": &*uid.0},
            "spec": {
                "containers": named(&|role| matches!(role, Role::Main | Role::Single)),
                "initContainers": named(&|role| role == Role::Init),
            },
        }))?;
        Self::read(object)
    }

    #[must_use]
    pub(crate) fn restart_policy(&self) -> RestartPolicy {
        match self.spec.restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        }
    }

    #[must_use]
    pub(crate) fn init(&self) -> &[ContainerSpec] {
        self.spec.init_containers.as_deref().unwrap_or(&[])
    }

    /// The spec of one container, and whether it is an init container.
    #[must_use]
    pub(crate) fn container(&self, name: &str) -> Option<(&ContainerSpec, bool)> {
        let main = self.spec.containers.iter().map(|container| (container, false));
        let init = self.init().iter().map(|container| (container, true));
        main.chain(init).find(|(container, _)| container.name == name)
    }

    /// Whether an infra container holds the network: a pod of one container on the bridge does
    /// without, and so does one on the host's network.
    #[must_use]
    pub(crate) fn needs_infra(&self) -> bool {
        !self.host_network() && self.spec.containers.len() + self.init().len() > 1
    }

    #[must_use]
    pub(crate) fn host_network(&self) -> bool {
        self.spec.host_network == Some(true)
    }

    #[must_use]
    pub(crate) fn role(&self, name: &str) -> Role {
        if name == INFRA {
            Role::Infra
        } else if self.init().iter().any(|container| container.name == name) {
            Role::Init
        } else if self.needs_infra() {
            Role::Main
        } else {
            Role::Single
        }
    }

    /// How long the pod's containers get to end by themselves.
    #[must_use]
    pub(crate) fn grace(&self) -> Duration {
        let seconds = self
            .object
            .meta
            .deletion_grace_period_seconds
            .or(self.spec.termination_grace_period_seconds)
            .unwrap_or(30);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// `Succeeded` or `Failed` as the server has it: such a pod is never started again.
    #[must_use]
    pub(crate) fn stored_phase_is_final(&self) -> bool {
        let phase = self.object.status.as_ref().and_then(|status| status.word("phase"));
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// Restarts that the server knows of, for a container whose dead ones were pruned.
    #[must_use]
    pub(crate) fn stored_restarts(&self, name: &str) -> Option<u32> {
        let status = self.object.status.as_ref()?;
        let list = |field| status.at(field).into_iter().flat_map(Part::items);
        let entry = list("containerStatuses")
            .chain(list("initContainerStatuses"))
            .find(|entry| entry.has("name", name))?;
        let known = entry.get("containerID").is_some_and(|id| !id.is(""));
        let count = entry
            .get("restartCount")
            .and_then(Part::int)
            .and_then(|count| u32::try_from(count).ok())?;
        known.then_some(count)
    }

    /// Names the stored spec of one container. It changes only when what the server stores changes,
    /// never because this version reads or defaults it differently.
    #[must_use]
    pub(crate) fn spec_hash(&self, name: &str) -> String {
        let entry = ["spec/containers", "spec/initContainers"]
            .iter()
            .filter_map(|list| self.object.body.at(list))
            .flat_map(Part::items)
            .find(|entry| entry.has("name", name));
        let hash = entry.map_or_else(
            || ContentHash::of_bytes(name.as_bytes()),
            |entry| ContentHash::of(&entry.value()),
        );
        hash.to_string()[..16].to_owned()
    }

    /// The name in the Docker engine of one attempt: deterministic, so that making it twice finds it.
    #[must_use]
    pub(crate) fn docker_name(&self, container: &str, attempt: u32) -> String {
        let uid: String = self
            .uid
            .0
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(12)
            .collect();
        let container = container.trim_start_matches('_');
        format!("tl.{}.{}.{container}.{uid}.{attempt}", self.key.ns(), self.key.name)
    }

    /// The host name inside the pod.
    #[must_use]
    pub(crate) fn hostname(&self) -> String {
        let name = self.spec.hostname.as_deref().filter(|name| !name.is_empty());
        let mut name = name.unwrap_or(&self.key.name).to_owned();
        name.truncate(63);
        name.trim_end_matches(['-', '.']).to_owned()
    }
}

/// Whether an init container keeps running beside the others.
#[must_use]
pub(crate) fn is_sidecar(container: &ContainerSpec) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}
