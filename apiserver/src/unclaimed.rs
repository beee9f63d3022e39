//! Pods that keep running although the server does not have them: what nodes tell of them, and what a
//! person orders about them.
//!
//! | method and path | answers |
//! |---|---|
//! | `GET unclaimed` | the pods, by node |
//! | `POST unclaimed?node=&uid=&order=remove\|keep` | the pod, after its agent has taken the order |
//!
//! What nodes tell comes with every heartbeat, so it is kept in memory alone. An order is not kept: it is
//! handed to the agent, which keeps it, or refused while the agent is not connected.

use std::{collections::BTreeMap, sync::Arc};

use futures::TryStreamExt;
use http::StatusCode;
use parking_lot::Mutex;
use schemas::{
    Uid,
    node::{Order, Unclaimed},
};
use serde_json::{Value, json};

use crate::{
    control::Front,
    exchange::{self, Response},
    identity::Identity,
    query::Query,
    status::ApiError,
};

/// What each node told last; nodes without unclaimed pods are not in it.
#[derive(Default)]
pub(crate) struct Roll {
    nodes: Mutex<BTreeMap<Arc<str>, Vec<Unclaimed>>>,
}

impl Roll {
    pub(crate) fn note(&self, node: &str, pods: &[Unclaimed]) {
        let mut nodes = self.nodes.lock();
        if pods.is_empty() {
            nodes.remove(node);
        } else {
            nodes.insert(node.into(), pods.to_vec());
        }
    }

    /// Every unclaimed pod with its node.
    pub(crate) fn list(&self) -> Vec<Value> {
        let nodes = self.nodes.lock();
        let pods = nodes
            .iter()
            .flat_map(|(node, pods)| pods.iter().map(move |pod| (node, pod)));
        pods.map(|(node, pod)| {
            json!({
                "node": node, "namespace": pod.key.ns(), "name": pod.key.name, "uid": pod.uid,
                "containers": pod.containers, "kept": pod.kept,
            })
        })
        .collect()
    }
}

pub(crate) fn list(front: &Front) -> Response {
    exchange::json(StatusCode::OK, &front.unclaimed.list())
}

/// Hands a person's order to the agent and waits until it has taken it.
pub(crate) async fn order(front: &Front, identity: &Identity, query: &Query) -> Result<Response, ApiError> {
    let need = |name: &str| {
        query
            .text(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| ApiError::bad_request(format!("the query needs {name}=")))
    };
    let (node, uid) = (need("node")?, Uid::from(need("uid")?));
    let order = match need("order")? {
        "remove" => Order::Remove,
        "keep" => Order::Keep,
        other => {
            return Err(ApiError::bad_request(format!(
                "the order {other:?} is neither remove nor keep"
            )));
        }
    };
    let answer = front.sessions.settle(node, uid.clone(), order).await?;
    let body = answer.try_collect::<Vec<_>>().await;
    let body = body.map_err(|error| ApiError::unavailable(format!("the answer of node {node} broke off: {error}")))?;
    let pod: Unclaimed = serde_json::from_slice(&body.concat())
        .map_err(|error| ApiError::internal(format!("the answer of node {node} is not understood: {error}")))?;
    let detail = format!("{} {uid}", pod.key);
    front
        .audit(identity, need("order")?, &format!("nodes/{node}/unclaimed"), detail)
        .await;
    Ok(exchange::json(StatusCode::OK, &pod))
}

#[cfg(test)]
#[path = "unclaimed_tests.rs"]
mod tests;
