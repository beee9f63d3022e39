//! What a node agent and the server say to each other.
//!
//! An agent opens one HTTP/2 connection and reads a stream of [`Frame`]s, one JSON document a line:
//! first a [`Frame::Snapshot`], then [`Frame::Delta`]s. It answers with batches of [`PodReport`]s and
//! with [`Heartbeat`]s. A second connection, also opened by the agent, carries [`SessionRequest`]s:
//! logs and the like, so that the server never dials a node.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Key, Object, Uid};

/// Which life of the store a version belongs to: versions compare only within one incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub Arc<str>);

/// One line of a node stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Frame {
    /// Everything the node needs, complete: its pods, and the ConfigMaps, Secrets and services that
    /// these name.
    Snapshot {
        cluster: Arc<str>,
        incarnation: Incarnation,
        version: u64,
        objects: Vec<Object>,
    },
    /// What changed since the frame before. `gone` lists what the node no longer needs or what is
    /// deleted; it comes before `put`. A ConfigMap or Secret in it is named by its key alone.
    Delta {
        version: u64,
        put: Vec<Object>,
        gone: Vec<Gone>,
    },
    /// Nothing changed up to `version`; also keeps the connection alive.
    Bookmark { version: u64 },
}

/// An object that left a node's view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    pub key: Key,
    pub uid: Uid,
}

/// The state of one pod, as its agent sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodReport {
    pub key: Key,
    /// A report for another uid than the stored one is dropped.
    pub uid: Uid,
    /// The whole `status` of the pod.
    pub status: Value,
    /// Every container of a pod with a deletion timestamp is gone: the object may go too.
    #[serde(default)]
    pub terminated: bool,
    pub events: Vec<NodeEvent>,
}

/// Something that happened to a pod or to the node, to become an `Event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeEvent {
    pub warning: bool,
    pub reason: String,
    pub message: String,
    /// The part of the pod, `spec.containers{web}`.
    #[serde(default)]
    pub field_path: Option<String>,
}

/// A sign of life. The server counts silence by its own clock of receipt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The node's `status`: sent at first and when it changed.
    pub status: Option<Value>,
    /// Containers that carry this cluster's labels but that no pod claims.
    #[serde(default)]
    pub unclaimed: Vec<String>,
}

/// What registers a node, once per connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registration {
    pub name: Arc<str>,
    /// Names the machine: a node name held by another machine is refused.
    pub machine_id: String,
    pub labels: std::collections::BTreeMap<String, String>,
    pub pod_range: String,
    pub status: Value,
}

/// The answer to a [`Registration`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub cluster: Arc<str>,
    /// The uid of the Node object.
    pub uid: Uid,
    pub incarnation: Incarnation,
}

/// A request of the server to an agent, over the agent's second connection.
///
/// The answer is the body of `POST …/sessions/ID`. With the query `?status=404` (or another error
/// code) the body is the reason why there is no answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum SessionRequest {
    /// Stream a container's log back as the body of `POST …/sessions/ID`.
    Logs {
        id: String,
        pod: Key,
        uid: Uid,
        options: LogOptions,
    },
}

/// As the query of `GET …/pods/NAME/log`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogOptions {
    pub container: Option<String>,
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub since_seconds: Option<i64>,
    pub since_time: Option<jiff::Timestamp>,
    pub tail_lines: Option<i64>,
    pub limit_bytes: Option<i64>,
}
