//! What an agent asks of the server, path by path. Every call comes with the certificate of the node
//! that it is about.

use std::sync::Arc;

use http::{Method, StatusCode, header};
use schemas::{
    Key, Kind, Object, labels,
    node::{Registered, Unclaimed},
};
use serde_json::json;
use store::{Class, Op, Write, WriteError};
use uuid::Uuid;

use crate::{
    authority::NODE_SILENCE,
    control::Front,
    exchange::{self, Call, Response},
    identity::Identity,
    nodes_missing as missing,
    nodes_registration::{self as registration, Claim},
    nodes_status as reports, nodes_stream as stream, sessions,
    status::ApiError,
};

/// The largest batch of reports. Agents split what is more.
const MAX_REPORTS: usize = 16 * 1024 * 1024;

/// How often a write is tried that others may get in between of.
const TRIES: usize = 5;

/// Everything under `nodes/NAME/` but the certificate.
pub(crate) async fn answer(
    front: &Arc<Front>,
    node: &str,
    rest: &[&str],
    mut call: Call,
) -> Result<Response, ApiError> {
    match rest {
        ["identity"] | ["register"] => {}
        _ => holds(front, node, &call)?,
    }
    match (&call.method, rest) {
        (&Method::POST, ["identity"]) => identify(front, node, &mut call).await,
        (&Method::POST, ["register"]) => register(front, node, &mut call).await,
        (&Method::GET, ["stream"]) => stream::open(front, node, &call.query).await,
        (&Method::POST, ["status"]) => {
            let body = call.take_body(MAX_REPORTS).await?;
            let batch = serde_json::from_slice(&body)
                .map_err(|error| ApiError::bad_request(format!("the body is not a list of pod reports: {error}")))?;
            reports::take(front, node, batch).await
        }
        (&Method::POST, ["heartbeat"]) => heartbeat(front, node, &mut call).await,
        (&Method::POST, ["stats"]) => stats(front, node, &mut call).await,
        (&Method::POST, ["missing"]) => missing::answer(front, node, &mut call).await,
        (&Method::GET, ["sessions"]) => Ok(sessions::listen(front, node)),
        (&Method::POST, ["sessions", id]) => sessions::answer(front, node, id, call).await,
        (
            _,
            ["identity" | "register" | "stream" | "status" | "heartbeat" | "stats" | "missing" | "sessions"]
            | ["sessions", _],
        ) => Err(ApiError::method_not_allowed()),
        _ => Err(ApiError::no_such_path()),
    }
}

/// Signs the request of an agent that holds the bootstrap token. The query `machine` names the
/// machine, so that nobody gets the certificate of a node that is alive elsewhere.
pub(crate) async fn certificate(
    front: &Front,
    identity: &Identity,
    node: &str,
    mut call: Call,
) -> Result<Response, ApiError> {
    let body = call.take_body(64 * 1024).await?;
    let request = std::str::from_utf8(&body)
        .map_err(|_| ApiError::bad_request("the body is not a certificate request in PEM"))?;
    let now = front.clock.now();
    let machine = call.query.text("machine").unwrap_or("");
    let existing = front.store.get(&Key::cluster(Kind::Node, node));
    claim(front, existing.as_deref(), node, machine, None)?;
    let certificate = front
        .authority
        .sign_node(node, request, now)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    tracing::info!(node, "signed a certificate");
    let detail = format!("for machine {machine:?}");
    front
        .audit(identity, "sign", &format!("nodes/{node}/certificate"), detail)
        .await;
    let mut response = exchange::text(StatusCode::OK, certificate);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/x-pem-file"),
    );
    Ok(response)
}

/// Refuses an agent whose node's name another one holds, and an agent of another machine anyway. `agent` is
/// none for a request that does not say which agent it is for.
fn claim(
    front: &Front,
    existing: Option<&Object>,
    node: &str,
    machine: &str,
    agent: Option<&str>,
) -> Result<(), ApiError> {
    let heartbeats = front.store.heartbeats();
    let silence = heartbeats.silence(node, front.clock.now().monotonic);
    let left = NODE_SILENCE.saturating_sub(silence).as_secs();
    let message = match registration::claim(existing, machine, agent, silence) {
        Claim::Free => return Ok(()),
        Claim::OtherMachine => {
            "the name is held by another machine that is alive; give this one another name with --node-name".to_owned()
        }
        Claim::OtherAgent => format!(
            "the name is held by another agent of this machine, with another data directory, that was heard of less than {} s ago; \
             run one of the two, or give this one another name with --node-name and a pod range of its own. If the other one is gone \
             for good, wait: this one gets the name in {left} s",
            NODE_SILENCE.as_secs()
        ),
    };
    Err(ApiError::conflict(Kind::Node, node, &message))
}

/// Whether a request comes from the agent that holds the node's name. An agent that does not say which
/// it is comes from before that was asked.
fn holds(front: &Front, node: &str, call: &Call) -> Result<(), ApiError> {
    let Some(agent) = call
        .header(schemas::node::AGENT_HEADER)
        .filter(|agent| !agent.is_empty())
    else {
        return Ok(());
    };
    let stored = front.store.get(&Key::cluster(Kind::Node, node));
    let holder = stored.as_ref().and_then(|node| node.annotation(labels::AGENT));
    match holder {
        Some(holder) if holder != agent => Err(ApiError::conflict(
            Kind::Node,
            node,
            "another agent has taken the name over; this one must register again",
        )),
        _ => Ok(()),
    }
}

/// Tells an agent without an id which one to take. Nothing is written: it registers with it.
async fn identify(front: &Front, node: &str, call: &mut Call) -> Result<Response, ApiError> {
    let body = call.take_body(exchange::MAX_BODY).await?;
    let proposed: schemas::node::Identity = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body is not an identity: {error}")))?;
    let existing = front.store.get(&Key::cluster(Kind::Node, node));
    claim(
        front,
        existing.as_deref(),
        node,
        &proposed.machine_id,
        Some(&proposed.agent),
    )?;
    Ok(exchange::json(
        StatusCode::OK,
        &registration::identity(existing.as_deref(), proposed),
    ))
}

async fn register(front: &Front, node: &str, call: &mut Call) -> Result<Response, ApiError> {
    let body = call.take_body(exchange::MAX_BODY).await?;
    let asked: schemas::node::Registration = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body is not a registration: {error}")))?;
    if *asked.name != *node {
        return Err(ApiError::forbidden(format!(
            "the certificate is of node {node:?}, the registration of {:?}",
            asked.name
        )));
    }
    let key = Key::cluster(Kind::Node, node);
    let mut tries = 0;
    let object = loop {
        let existing = front.store.get(&key);
        let agent = Some(&*asked.agent).filter(|agent| !agent.is_empty());
        claim(front, existing.as_deref(), node, &asked.machine_id, agent)?;
        let now = front.clock.now();
        let uid = Uuid::new_v4().to_string();
        let mut wanted = registration::node(existing.as_deref(), &asked, now, &uid);
        // Before the node is seen: one that is new is not one that was silent.
        front.store.heartbeats().beat(node, now.monotonic);
        let written = match &existing {
            None => {
                // A node that comes ready is never tainted as one that is not.
                let status = registration::status(None, Some(asked.status.clone()), None, now);
                wanted.status = status.map(Into::into);
                front
                    .store
                    .write_one(Class::Controller, Write::new(Op::Create(wanted)))
                    .await
            }
            Some(existing) if registration::is_same(existing, &wanted) => Ok(existing.clone()),
            Some(existing) => {
                let write = Write::new(Op::Replace(wanted)).version(existing.version);
                front.store.write_one(Class::Controller, write).await
            }
        };
        match written {
            Ok(object) => break object,
            Err(WriteError::Conflict { .. } | WriteError::AlreadyExists(_) | WriteError::NotFound(_))
                if tries < TRIES =>
            {
                tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    };
    // An older object of this name may have gone meanwhile, and taken the heartbeat with it.
    front.store.heartbeats().beat(node, front.clock.now().monotonic);
    write_status(front, &object, Some(asked.status), None).await?;
    tracing::info!(node, machine = asked.machine_id, "registered");
    Ok(exchange::json(
        StatusCode::OK,
        &Registered {
            cluster: front.store.cluster(),
            uid: object.uid(),
            incarnation: front.store.incarnation(),
        },
    ))
}

async fn heartbeat(front: &Front, node: &str, call: &mut Call) -> Result<Response, ApiError> {
    let body = call.take_body(exchange::MAX_BODY).await?;
    let beat: schemas::node::Heartbeat = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body is not a heartbeat: {error}")))?;
    let Some(object) = front.store.get(&Key::cluster(Kind::Node, node)) else {
        // The object was deleted, and its heartbeats with it: the agent registers again.
        return Err(ApiError::not_found(Kind::Node, node));
    };
    // Before anything is written, so that a store that is away makes no node unknown.
    front.store.heartbeats().beat(node, front.clock.now().monotonic);
    front.unclaimed.note(node, &beat.unclaimed_pods);
    write_status(front, &object, beat.status, Some(&beat.unclaimed_pods)).await?;
    Ok(exchange::json(StatusCode::OK, &json!({})))
}

/// Keeps what a node and its containers use, in memory alone.
async fn stats(front: &Front, node: &str, call: &mut Call) -> Result<Response, ApiError> {
    let body = call.take_body(exchange::MAX_BODY).await?;
    let stats = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body is not what a node uses: {error}")))?;
    front.store.usages().note(node, stats, front.clock.now());
    Ok(exchange::json(StatusCode::OK, &json!({})))
}

/// Writes a node's status where it differs from the stored one.
async fn write_status(
    front: &Front,
    node: &Object,
    reported: Option<serde_json::Value>,
    unclaimed: Option<&[Unclaimed]>,
) -> Result<(), ApiError> {
    let status = registration::status(node.status_value().as_ref(), reported, unclaimed, front.clock.now());
    let Some(status) = status else {
        return Ok(());
    };
    let op = Op::Status {
        key: node.key(),
        status: status.into(),
    };
    front
        .store
        .write_one(Class::Status, Write::new(op).uid(node.uid()))
        .await?;
    Ok(())
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "nodes_claim_tests.rs"]
mod claim_tests;
