//! The table of kinds: one row for each kind that Towline knows.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A kind of object. Kinds order as the table does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Namespace,
    ConfigMap,
    Secret,
    Pod,
    Node,
    Event,
    Service,
    ServiceAccount,
    Endpoints,
    PersistentVolume,
    PersistentVolumeClaim,
    ReplicationController,
    ResourceQuota,
    LimitRange,
    ReplicaSet,
    Deployment,
    DaemonSet,
    StatefulSet,
    ControllerRevision,
    Job,
    CronJob,
    HorizontalPodAutoscaler,
    PodDisruptionBudget,
    EndpointSlice,
    Lease,
    PriorityClass,
    StorageClass,
    Ingress,
    NetworkPolicy,
    Role,
    RoleBinding,
    ClusterRole,
    ClusterRoleBinding,
}

impl Kind {
    /// The name after its article, `a Pod` or `an Ingress`.
    #[must_use]
    pub fn a(self) -> String {
        let name = self.info().name;
        let article = if name.starts_with(['A', 'E', 'I', 'O']) {
            "an"
        } else {
            "a"
        };
        format!("{article} {name}")
    }
}

/// What Towline does with a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Declared in git and acted on.
    Acted,
    /// Declared in git, validated and stored; nothing acts on it yet, and its status says so.
    Stored,
    /// Written by Towline itself (nodes, events, leases); never declared in git.
    Served,
}

/// What the table says of one kind.
#[derive(Debug)]
pub struct KindInfo {
    pub kind: Kind,
    /// The name in manifests, `Deployment`.
    pub name: &'static str,
    /// The API group; empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// The name in URLs, `deployments`.
    pub plural: &'static str,
    pub short_names: &'static [&'static str],
    pub namespaced: bool,
    /// There is a `/status` sub-resource.
    pub status: bool,
    /// `metadata.generation` counts changes of the body.
    pub generation: bool,
    /// Part of `kubectl get all`.
    pub in_all: bool,
    pub support: Support,
}

impl KindInfo {
    /// `v1`, or `apps/v1` for a kind outside the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods`, or `deployments.apps` for a kind outside the core group.
    #[must_use]
    pub fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// The name of one, in lower case: `deployment`.
    #[must_use]
    pub fn singular(&self) -> String {
        self.name.to_lowercase()
    }
}

/// Every kind, in the order of [`Kind`].
pub static KINDS: &[KindInfo] = &[
    KindInfo {
        kind: Kind::Namespace,
        name: "Namespace",
        group: "",
        version: "v1",
        plural: "namespaces",
        short_names: &["ns"],
        namespaced: false,
        status: true,
        generation: false,
        in_all: false,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::ConfigMap,
        name: "ConfigMap",
        group: "",
        version: "v1",
        plural: "configmaps",
        short_names: &["cm"],
        namespaced: true,
        status: false,
        generation: false,
        in_all: false,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::Secret,
        name: "Secret",
        group: "",
        version: "v1",
        plural: "secrets",
        short_names: &[],
        namespaced: true,
        status: false,
        generation: false,
        in_all: false,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::Pod,
        name: "Pod",
        group: "",
        version: "v1",
        plural: "pods",
        short_names: &["po"],
        namespaced: true,
        status: true,
        generation: true,
        in_all: true,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::Node,
        name: "Node",
        group: "",
        version: "v1",
        plural: "nodes",
        short_names: &["no"],
        namespaced: false,
        status: true,
        generation: false,
        in_all: false,
        support: Support::Served,
    },
    KindInfo {
        kind: Kind::Event,
        name: "Event",
        group: "",
        version: "v1",
        plural: "events",
        short_names: &["ev"],
        namespaced: true,
        status: false,
        generation: false,
        in_all: false,
        support: Support::Served,
    },
    KindInfo {
        kind: Kind::Service,
        name: "Service",
        group: "",
        version: "v1",
        plural: "services",
        short_names: &["svc"],
        namespaced: true,
        status: true,
        generation: false,
        in_all: true,
        support: Support::Stored,
    },
    KindInfo {
        kind: Kind::ServiceAccount,
        name: "ServiceAccount",
        group: "",
        version: "v1",
        plural: "serviceaccounts",
        short_names: &["sa"],
        namespaced: true,
        status: false,
        generation: false,
        in_all: false,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::Endpoints,
        name: "Endpoints",
        group: "",
        version: "v1",
        plural: "endpoints",
        short_names: &["ep"],
        namespaced: true,
        status: false,
        generation: false,
        in_all: false,
        support: Support::Stored,
    },
    KindInfo {
        kind: Kind::PersistentVolume,
        name: "PersistentVolume",
        group: "",
        version: "v1",
        plural: "persistentvolumes",
        short_names: &["pv"],
        namespaced: false,
        status: true,
        generation: false,
        in_all: false,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::PersistentVolumeClaim,
        name: "PersistentVolumeClaim",
        group: "",
        version: "v1",
        plural: "persistentvolumeclaims",
        short_names: &["pvc"],
        namespaced: true,
        status: true,
        generation: false,
        in_all: false,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::ReplicationController,
        name: "ReplicationController",
        group: "",
        version: "v1",
        plural: "replicationcontrollers",
        short_names: &["rc"],
        namespaced: true,
        status: true,
        generation: true,
        in_all: true,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::ResourceQuota,
        name: "ResourceQuota",
        group: "",
        version: "v1",
        plural: "resourcequotas",
        short_names: &["quota"],
        namespaced: true,
        status: true,
        generation: false,
        in_all: false,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::LimitRange,
        name: "LimitRange",
        group: "",
        version: "v1",
        plural: "limitranges",
        short_names: &["limits"],
        namespaced: true,
        status: false,
        generation: false,
        in_all: false,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::ReplicaSet,
        name: "ReplicaSet",
        group: "apps",
        version: "v1",
        plural: "replicasets",
        short_names: &["rs"],
        namespaced: true,
        status: true,
        generation: true,
        in_all: true,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::Deployment,
        name: "Deployment",
        group: "apps",
        version: "v1",
        plural: "deployments",
        short_names: &["deploy"],
        namespaced: true,
        status: true,
        generation: true,
        in_all: true,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::DaemonSet,
        name: "DaemonSet",
        group: "apps",
        version: "v1",
        plural: "daemonsets",
        short_names: &["ds"],
        namespaced: true,
        status: true,
        generation: true,
        in_all: true,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::StatefulSet,
        name: "StatefulSet",
        group: "apps",
        version: "v1",
        plural: "statefulsets",
        short_names: &["sts"],
        namespaced: true,
        status: true,
        generation: true,
        in_all: true,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::ControllerRevision,
        name: "ControllerRevision",
        group: "apps",
        version: "v1",
        plural: "controllerrevisions",
        short_names: &[],
        namespaced: true,
        status: false,
        generation: false,
        in_all: false,
        support: Support::Served,
    },
    KindInfo {
        kind: Kind::Job,
        name: "Job",
        group: "batch",
        version: "v1",
        plural: "jobs",
        short_names: &[],
        namespaced: true,
        status: true,
        generation: true,
        in_all: true,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::CronJob,
        name: "CronJob",
        group: "batch",
        version: "v1",
        plural: "cronjobs",
        short_names: &["cj"],
        namespaced: true,
        status: true,
        generation: true,
        in_all: true,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::HorizontalPodAutoscaler,
        name: "HorizontalPodAutoscaler",
        group: "autoscaling",
        version: "v2",
        plural: "horizontalpodautoscalers",
        short_names: &["hpa"],
        namespaced: true,
        status: true,
        generation: false,
        in_all: true,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::PodDisruptionBudget,
        name: "PodDisruptionBudget",
        group: "policy",
        version: "v1",
        plural: "poddisruptionbudgets",
        short_names: &["pdb"],
        namespaced: true,
        status: true,
        generation: true,
        in_all: false,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::EndpointSlice,
        name: "EndpointSlice",
        group: "discovery.k8s.io",
        version: "v1",
        plural: "endpointslices",
        short_names: &[],
        namespaced: true,
        status: false,
        generation: true,
        in_all: false,
        support: Support::Stored,
    },
    KindInfo {
        kind: Kind::Lease,
        name: "Lease",
        group: "coordination.k8s.io",
        version: "v1",
        plural: "leases",
        short_names: &[],
        namespaced: true,
        status: false,
        generation: false,
        in_all: false,
        support: Support::Served,
    },
    KindInfo {
        kind: Kind::PriorityClass,
        name: "PriorityClass",
        group: "scheduling.k8s.io",
        version: "v1",
        plural: "priorityclasses",
        short_names: &["pc"],
        namespaced: false,
        status: false,
        generation: true,
        in_all: false,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::StorageClass,
        name: "StorageClass",
        group: "storage.k8s.io",
        version: "v1",
        plural: "storageclasses",
        short_names: &["sc"],
        namespaced: false,
        status: false,
        generation: false,
        in_all: false,
        support: Support::Acted,
    },
    KindInfo {
        kind: Kind::Ingress,
        name: "Ingress",
        group: "networking.k8s.io",
        version: "v1",
        plural: "ingresses",
        short_names: &["ing"],
        namespaced: true,
        status: true,
        generation: true,
        in_all: false,
        support: Support::Stored,
    },
    KindInfo {
        kind: Kind::NetworkPolicy,
        name: "NetworkPolicy",
        group: "networking.k8s.io",
        version: "v1",
        plural: "networkpolicies",
        short_names: &["netpol"],
        namespaced: true,
        status: false,
        generation: true,
        in_all: false,
        support: Support::Stored,
    },
    KindInfo {
        kind: Kind::Role,
        name: "Role",
        group: "rbac.authorization.k8s.io",
        version: "v1",
        plural: "roles",
        short_names: &[],
        namespaced: true,
        status: false,
        generation: false,
        in_all: false,
        support: Support::Stored,
    },
    KindInfo {
        kind: Kind::RoleBinding,
        name: "RoleBinding",
        group: "rbac.authorization.k8s.io",
        version: "v1",
        plural: "rolebindings",
        short_names: &[],
        namespaced: true,
        status: false,
        generation: false,
        in_all: false,
        support: Support::Stored,
    },
    KindInfo {
        kind: Kind::ClusterRole,
        name: "ClusterRole",
        group: "rbac.authorization.k8s.io",
        version: "v1",
        plural: "clusterroles",
        short_names: &[],
        namespaced: false,
        status: false,
        generation: false,
        in_all: false,
        support: Support::Stored,
    },
    KindInfo {
        kind: Kind::ClusterRoleBinding,
        name: "ClusterRoleBinding",
        group: "rbac.authorization.k8s.io",
        version: "v1",
        plural: "clusterrolebindings",
        short_names: &[],
        namespaced: false,
        status: false,
        generation: false,
        in_all: false,
        support: Support::Stored,
    },
];

impl Kind {
    #[must_use]
    pub fn info(self) -> &'static KindInfo {
        // The table stands in the order of the variants; a test holds the two together.
        &KINDS[self as usize]
    }

    /// The kind that a manifest names, if it is one of the table.
    #[must_use]
    pub fn find(api_version: &str, kind: &str) -> Option<Self> {
        KINDS
            .iter()
            .find(|info| info.name == kind && info.api_version() == api_version)
            .map(|info| info.kind)
    }

    /// The kind that a URL names: group, version and plural.
    #[must_use]
    pub fn of_resource(group: &str, version: &str, plural: &str) -> Option<Self> {
        KINDS
            .iter()
            .find(|info| info.group == group && info.version == version && info.plural == plural)
            .map(|info| info.kind)
    }

    /// The kind that a person names: `deployment`, `deployments`, `deploy`, in any case.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        let word = word.to_lowercase();
        KINDS
            .iter()
            .find(|info| info.plural == word || info.singular() == word || info.short_names.contains(&word.as_str()))
            .map(|info| info.kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Reads the name of a kind as manifests write it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        KINDS
            .iter()
            .find(|info| info.name == text)
            .map(|info| info.kind)
            .ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("there is no kind {0:?}")]
pub struct UnknownKind(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_variants() {
        for (index, info) in KINDS.iter().enumerate() {
            assert_eq!(info.kind as usize, index, "{}", info.name);
        }
    }

    #[test]
    fn kinds_have_the_article_of_their_sound() {
        for (kind, text) in [
            (Kind::Pod, "a Pod"),
            (Kind::Event, "an Event"),
            (Kind::Ingress, "an Ingress"),
            (Kind::EndpointSlice, "an EndpointSlice"),
            (Kind::HorizontalPodAutoscaler, "a HorizontalPodAutoscaler"),
        ] {
            assert_eq!(kind.a(), text);
        }
    }
}
