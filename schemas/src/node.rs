//! What a node agent and the server say to each other.
//!
//! An agent opens one HTTP/2 connection and reads a stream of [`Frame`]s, one JSON document a line:
//! first a [`Frame::Snapshot`], then [`Frame::Delta`]s. It answers with batches of [`PodReport`]s and
//! with [`Heartbeat`]s. A second connection, also opened by the agent, carries [`SessionRequest`]s:
//! logs, orders and the like, so that the server never dials a node.
//!
//! What is added to this protocol is optional on both sides: a server and its agents need not be of
//! the same version.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Key, Object, Uid};

/// Which life of the store a version belongs to: versions compare only within one incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub Arc<str>);

/// A leader's time in office, by a random name. Two databases that were once the same, one of them
/// put back from a backup, share the terms before they parted and none after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Term(pub Arc<str>);

/// A point in the history of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub incarnation: Incarnation,
    /// Empty for a server that knew no terms.
    #[serde(default)]
    pub term: Term,
    pub version: u64,
}

/// The history of one database: its incarnation, and at which versions its terms began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pub incarnation: Incarnation,
    /// In order, the newest last.
    pub terms: Vec<Began>,
}

/// The version at which a term began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    pub term: Term,
    pub version: u64,
}

impl History {
    /// Terms that are kept: positions of older ones count as unknown.
    const KEPT: usize = 500;

    /// Begins a term at this version.
    pub fn begin(&mut self, term: Term, version: u64) {
        self.terms.push(Began { term, version });
        self.terms.drain(..self.terms.len().saturating_sub(Self::KEPT));
    }

    /// The term that lasts.
    #[must_use]
    pub fn term(&self) -> Term {
        self.terms.last().map(|began| began.term.clone()).unwrap_or_default()
    }

    /// Whether this history, which has come to `newest`, went through a position: then what was there
    /// at that position and is not there now was deleted.
    #[must_use]
    pub fn holds(&self, position: &Position, newest: u64) -> bool {
        let Some(at) = self.terms.iter().position(|began| began.term == position.term) else {
            return false;
        };
        let end = self.terms.get(at + 1).map_or(newest, |next| next.version);
        position.incarnation == self.incarnation
            && !position.term.0.is_empty()
            && (self.terms[at].version..=end).contains(&position.version)
    }
}

/// Names the agent that sends a request: one that does not hold its node's name is refused.
pub const AGENT_HEADER: &str = "x-towline-agent";

/// The condition of a node that tells of pods that the server does not have and that keep running.
pub const UNCLAIMED: &str = "UnclaimedContainers";

/// One line of a node stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Frame {
    /// Everything the node needs, complete: its pods, and the ConfigMaps, Secrets and services that
    /// these name.
    Snapshot {
        cluster: Arc<str>,
        incarnation: Incarnation,
        #[serde(default)]
        term: Term,
        version: u64,
        /// Whether the position that the agent named lies in the history of this snapshot: only then
        /// says it something that the snapshot lacks what the agent has.
        #[serde(default = "yes")]
        continues: bool,
        objects: Vec<Object>,
    },
    /// What changed since the frame before. `gone` lists what the node no longer needs or what is
    /// deleted; it comes before `put`. A ConfigMap or Secret in it is named by its key alone.
    Delta {
        #[serde(default)]
        term: Term,
        version: u64,
        put: Vec<Object>,
        gone: Vec<Gone>,
    },
    /// Nothing changed up to `version`; also keeps the connection alive.
    Bookmark {
        #[serde(default)]
        term: Term,
        version: u64,
    },
}

/// What a server that knew no terms meant.
fn yes() -> bool {
    true
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
    /// Pods whose containers keep running although the server does not have them.
    #[serde(default)]
    pub unclaimed_pods: Vec<Unclaimed>,
}

/// A pod that the server does not have, and of which it cannot say that it was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unclaimed {
    pub key: Key,
    pub uid: Uid,
    /// The names of its containers that are there.
    pub containers: Vec<String>,
    /// A person said that it shall stay.
    #[serde(default)]
    pub kept: bool,
}

/// A pod that a snapshot lacks, or whose containers are all that an agent has of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    pub key: Key,
    pub uid: Uid,
    /// The last position at which the server had it; none if the agent does not know.
    pub seen: Option<Position>,
}

/// What the server knows of a missing pod, from a fresh look after it made sure that it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fate {
    /// It is on this node.
    Bound,
    /// It was there in the history of this store, and was deleted.
    Deleted,
    /// Nothing is known of it.
    Unknown,
}

/// The fate of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub uid: Uid,
    pub fate: Fate,
}

/// What a person decided about an unclaimed pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// End and remove its containers.
    Remove,
    /// Leave its containers as they are, and complain no more.
    Keep,
}

/// Who an agent says it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub machine_id: String,
    /// The agent's own id, which its containers carry.
    pub agent: Arc<str>,
}

/// What a node and its containers use: measured every few seconds, and told beside everything that has a
/// version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The time over which CPU was measured, in milliseconds.
    pub window_millis: u64,
    pub node: Option<Used>,
    /// The pods of which something is known; a container that has just started is not yet among them.
    pub pods: Vec<PodStats>,
}

/// What the containers of one pod use, by their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStats {
    pub uid: Uid,
    pub containers: Vec<(Arc<str>, Used)>,
}

/// What is used at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// CPU, in billionths of a core.
    pub cpu: u64,
    /// Memory that cannot be taken back without harm, in bytes.
    pub memory: u64,
}

/// What registers a node, once per connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registration {
    pub name: Arc<str>,
    /// Names the machine: a node name held by another machine is refused.
    pub machine_id: String,
    /// The agent's own id: a name held by another agent of the same machine is refused too.
    #[serde(default = "nobody")]
    pub agent: Arc<str>,
    pub labels: std::collections::BTreeMap<String, String>,
    pub pod_range: String,
    pub status: Value,
}

fn nobody() -> Arc<str> {
    "".into()
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
    /// Carry out what a person decided about an unclaimed pod. The answer is the pod, an
    /// [`Unclaimed`].
    Settle { id: String, uid: Uid, order: Order },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn history(terms: &[(&str, u64)]) -> History {
        let mut history = History {
            incarnation: Incarnation("i".into()),
            terms: Vec::new(),
        };
        for (term, version) in terms {
            history.begin(Term((*term).into()), *version);
        }
        history
    }

    #[test]
    fn a_history_tells_its_own_positions_from_those_of_a_fork() {
        let whole = history(&[("a", 0), ("b", 90), ("c", 120)]);
        // Put back at version 50, when only the first term had begun.
        let fork = history(&[("a", 0), ("d", 50)]);
        for (term, version, in_whole, in_fork) in [
            ("a", 30, true, true),
            ("a", 50, true, true),
            ("a", 51, true, false),
            ("a", 91, false, false),
            ("b", 89, false, false),
            ("b", 100, true, false),
            ("c", 150, true, false),
            ("c", 151, false, false),
            ("d", 150, false, true),
            ("", 30, false, false),
        ] {
            let position = Position {
                incarnation: Incarnation("i".into()),
                term: Term(term.into()),
                version,
            };
            assert_eq!(whole.holds(&position, 150), in_whole, "{term} {version}");
            assert_eq!(fork.holds(&position, 150), in_fork, "{term} {version}");
            let other = Position {
                incarnation: Incarnation("j".into()),
                ..position
            };
            assert!(!whole.holds(&other, 150), "another incarnation is another history");
        }
    }

    #[test]
    fn frames_of_servers_that_knew_no_terms_are_read() {
        let frame = r#"{"type": "snapshot", "cluster": "c", "incarnation": "i", "version": 1, "objects": []}"#;
        match serde_json::from_str(frame).expect("a frame") {
            Frame::Snapshot { term, continues, .. } => assert!(term.0.is_empty() && continues),
            other => panic!("not a snapshot: {other:?}"),
        }
    }
}
