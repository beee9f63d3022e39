//! Containers that carry this agent's labels, read back from those labels.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use schemas::{Key, Kind, Uid, labels::docker as label};

use crate::{
    meddling::Meddling,
    runtime::{ContainerId, Exit, Found, Life},
};

/// How a container takes part in its pod; fixed when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Holds the network that the pod's other containers share.
    Infra,
    Init,
    Main,
    /// The only container of its pod; has the pod's network itself.
    Single,
}

impl Role {
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Infra => "infra",
            Self::Init => "init",
            Self::Main => "main",
            Self::Single => "single",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Infra, Self::Init, Self::Main, Self::Single]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

/// The name under which the infra container of a pod is kept; no container of a pod can have it.
pub(crate) const INFRA: &str = "_infra";

/// One container of a pod on this node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Container {
    pub id: ContainerId,
    pub pod: Uid,
    pub key: Key,
    /// The container's name in its pod, or [`INFRA`].
    pub name: Arc<str>,
    pub attempt: u32,
    pub role: Role,
    pub address: Option<Ipv4Addr>,
    pub spec_hash: Arc<str>,
    pub image_id: Arc<str>,
    /// The infra container whose network it shares, as the runtime has it since the creation.
    pub joins: Option<ContainerId>,
    pub life: Life,
    /// What somebody did to it by hand.
    pub meddling: Option<Meddling>,
    /// What the container left in its termination message file.
    pub message: Option<Arc<str>>,
}

impl Container {
    /// Reads a container from its labels; `None` where one is missing or makes no sense, and then the
    /// container is left alone. `monotonic` is when it was looked at.
    #[must_use]
    pub(crate) fn read(found: &Found, monotonic: Duration) -> Option<Self> {
        let label = |name: &str| found.labels.get(name).map(String::as_str);
        let mut container = Self {
            id: found.id.clone(),
            pod: label(label::POD_UID)?.into(),
            key: Key::namespaced(Kind::Pod, label(label::POD_NAMESPACE)?, label(label::POD_NAME)?),
            name: label(label::CONTAINER)?.into(),
            attempt: label(label::ATTEMPT)?.parse().ok()?,
            role: Role::read(label(label::ROLE)?)?,
            address: label(label::ADDRESS).and_then(|text| text.parse().ok()),
            spec_hash: label(label::SPEC_HASH).unwrap_or("").into(),
            image_id: found.image_id.clone(),
            joins: found.joins.clone(),
            life: found.life.clone(),
            meddling: None,
            message: None,
        };
        container.meddling = Meddling::read(found, &container, monotonic);
        Some(container)
    }

    #[must_use]
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    /// Whether something runs in it, wanted or not.
    #[must_use]
    pub(crate) fn is_alive(&self) -> bool {
        self.is_running() || self.meddling == Some(Meddling::Revived)
    }

    #[must_use]
    pub(crate) fn exit(&self) -> Option<&Exit> {
        match &self.life {
            Life::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

/// Whose container it is: the part of its labels that all containers of an agent share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub cluster: Arc<str>,
    pub node_uid: Arc<str>,
}

impl Owner {
    #[must_use]
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (label::CLUSTER.to_owned(), self.cluster.to_string()),
            (label::NODE_UID.to_owned(), self.node_uid.to_string()),
        ])
    }
}

/// The newest attempt of the container `name` among `containers`.
#[must_use]
pub(crate) fn latest<'a>(containers: &'a [Container], name: &str) -> Option<&'a Container> {
    containers
        .iter()
        .filter(|container| &*container.name == name)
        .max_by_key(|container| container.attempt)
}

/// The attempt before the newest one, if it is still there.
#[must_use]
pub(crate) fn previous<'a>(containers: &'a [Container], name: &str) -> Option<&'a Container> {
    let newest = latest(containers, name)?.attempt;
    containers
        .iter()
        .filter(|container| &*container.name == name && container.attempt < newest)
        .max_by_key(|container| container.attempt)
}
