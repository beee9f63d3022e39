//! The columns of each kind's table, and what stands in them.

mod access;
mod cells;
mod cluster;
mod pods;
mod services;
mod storage;
mod workloads;

use jiff::Timestamp;
use schemas::{Kind, Object};
use serde_json::Value;

/// One column of a table.
#[derive(Debug)]
pub(crate) struct Column {
    pub name: &'static str,
    pub holds: Holds,
    /// Shown with `-o wide` only.
    pub wide: bool,
    pub description: &'static str,
}

/// The type of a column's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Text,
    Number,
    Switch,
}

impl Holds {
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Number => "integer",
            Self::Switch => "boolean",
        }
    }
}

const fn text(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        holds: Holds::Text,
        wide: false,
        description,
    }
}

const fn wide(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        holds: Holds::Text,
        wide: true,
        description,
    }
}

const fn number(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        holds: Holds::Number,
        wide: false,
        description,
    }
}

const fn switch(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        holds: Holds::Switch,
        wide: false,
        description,
    }
}

const NAME: Column = text("Name", "The name, unique in its namespace.");
const AGE: Column = text("Age", "How long ago the object was made.");
const CONTAINERS: Column = wide("Containers", "The names of the containers.");
const IMAGES: Column = wide("Images", "The images of the containers.");
const SELECTOR: Column = wide("Selector", "The labels of the pods that belong to it.");

/// The columns of a kind.
#[must_use]
pub(crate) fn of(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Pod => pods::COLUMNS,
        Kind::Deployment => workloads::DEPLOYMENT,
        Kind::ReplicaSet | Kind::ReplicationController => workloads::REPLICA_SET,
        Kind::DaemonSet => workloads::DAEMON_SET,
        Kind::StatefulSet => workloads::STATEFUL_SET,
        Kind::ControllerRevision => workloads::CONTROLLER_REVISION,
        Kind::Job => workloads::JOB,
        Kind::CronJob => workloads::CRON_JOB,
        Kind::HorizontalPodAutoscaler => workloads::AUTOSCALER,
        Kind::PodDisruptionBudget => workloads::BUDGET,
        Kind::Service => services::SERVICE,
        Kind::Endpoints => services::ENDPOINTS,
        Kind::EndpointSlice => services::ENDPOINT_SLICE,
        Kind::Ingress => services::INGRESS,
        Kind::NetworkPolicy => services::NETWORK_POLICY,
        Kind::PersistentVolume => storage::VOLUME,
        Kind::PersistentVolumeClaim => storage::CLAIM,
        Kind::StorageClass => storage::CLASS,
        Kind::ResourceQuota => storage::QUOTA,
        Kind::Namespace => cluster::NAMESPACE,
        Kind::Node => cluster::NODE,
        Kind::Event => cluster::EVENT,
        Kind::ConfigMap => cluster::CONFIG_MAP,
        Kind::Secret => cluster::SECRET,
        Kind::ServiceAccount => cluster::SERVICE_ACCOUNT,
        Kind::Lease => cluster::LEASE,
        Kind::PriorityClass => cluster::PRIORITY_CLASS,
        Kind::RoleBinding | Kind::ClusterRoleBinding => cluster::BINDING,
        Kind::LimitRange | Kind::Role | Kind::ClusterRole => cluster::CREATED_AT,
    }
}

/// The cells of an object's row, one for each column of its kind.
#[must_use]
pub(crate) fn cells(object: &Object, now: Timestamp) -> Vec<Value> {
    let object = &access::Shown::from(object);
    match object.kind {
        Kind::Pod => pods::cells(object, now),
        Kind::Deployment => workloads::deployment(object, now),
        Kind::ReplicaSet | Kind::ReplicationController => workloads::replica_set(object, now),
        Kind::DaemonSet => workloads::daemon_set(object, now),
        Kind::StatefulSet => workloads::stateful_set(object, now),
        Kind::ControllerRevision => workloads::controller_revision(object, now),
        Kind::Job => workloads::job(object, now),
        Kind::CronJob => workloads::cron_job(object, now),
        Kind::HorizontalPodAutoscaler => workloads::autoscaler(object, now),
        Kind::PodDisruptionBudget => workloads::budget(object, now),
        Kind::Service => services::service(object, now),
        Kind::Endpoints => services::endpoints(object, now),
        Kind::EndpointSlice => services::endpoint_slice(object, now),
        Kind::Ingress => services::ingress(object, now),
        Kind::NetworkPolicy => services::network_policy(object, now),
        Kind::PersistentVolume => storage::volume(object, now),
        Kind::PersistentVolumeClaim => storage::claim(object, now),
        Kind::StorageClass => storage::class(object, now),
        Kind::ResourceQuota => storage::quota(object, now),
        Kind::Namespace => cluster::namespace(object, now),
        Kind::Node => cluster::node(object, now),
        Kind::Event => cluster::event(object, now),
        Kind::ConfigMap => cluster::config_map(object, now),
        Kind::Secret => cluster::secret(object, now),
        Kind::ServiceAccount => cluster::service_account(object, now),
        Kind::Lease => cluster::lease(object, now),
        Kind::PriorityClass => cluster::priority_class(object, now),
        Kind::RoleBinding | Kind::ClusterRoleBinding => cluster::binding(object, now),
        Kind::LimitRange | Kind::Role | Kind::ClusterRole => cluster::created_at(object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::kind::KINDS;
    use serde_json::json;

    #[test]
    fn every_kind_has_as_many_cells_as_columns_even_when_it_is_empty() {
        for info in KINDS {
            let object = Object::from_value(json!({
                "apiVersion": info.api_version(), "kind": info.name, "metadata": {"name": "a"},
            }))
            .expect("an object");
            let columns = of(info.kind);
            let cells = cells(&object, Timestamp::UNIX_EPOCH);
            assert_eq!(cells.len(), columns.len(), "{}", info.name);
            for (cell, column) in cells.iter().zip(columns) {
                let fits = match column.holds {
                    Holds::Text => cell.is_string(),
                    Holds::Number => cell.is_number(),
                    Holds::Switch => cell.is_boolean(),
                };
                assert!(fits, "{} {}: {cell}", info.name, column.name);
            }
        }
    }
}
