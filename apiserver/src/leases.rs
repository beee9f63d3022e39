//! The heartbeats of nodes, served as the Leases that people look for.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemas::{Key, Kind, Object};
use serde_json::json;

use crate::api::Api;

/// Where the leases of nodes are.
pub(crate) const NAMESPACE: &str = "kube-node-lease";
/// How long a node may be silent.
const DURATION: Duration = Duration::from_secs(40);

/// The lease of a node that has sent a heartbeat since this server took office. Heartbeats stay in
/// memory: the lease is made when it is read.
#[must_use]
pub(crate) fn of_node(api: &Api, key: &Key) -> Option<Object> {
    if key.kind != Kind::Lease || key.ns() != NAMESPACE {
        return None;
    }
    let node = api.store.get(&Key::cluster(Kind::Node, &key.name))?;
    let last = api.store.heartbeats().last(&key.name)?;
    let now = api.clock.now();
    let at = now.wall - now.monotonic.saturating_sub(last);
    let mut lease = Object::from_value(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": node.name(), "namespace": NAMESPACE},
        "spec": {
            "holderIdentity": node.name(),
            "leaseDurationSeconds": DURATION.as_secs(),
            "renewTime": format!("{at:.6}"),
        },
    }))
    .ok()?;
    lease.meta.uid = node.meta.uid.clone();
    lease.meta.creation_timestamp = node.meta.creation_timestamp.clone().or(Some(Time(now.wall)));
    lease.meta.owner_references = Some(vec![node.as_controller()].into());
    lease.version = node.version;
    Some(lease)
}
