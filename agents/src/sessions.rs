//! Answers what the server asks over the second connection: logs, and what a person decided.

use std::sync::Arc;

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use schemas::{
    Uid,
    node::{LogOptions, Order, SessionRequest},
};
use tokio::sync::oneshot;

use crate::{
    agent::{Agent, Message},
    connection::Link,
    control::{SessionAnswer, SessionRefusal},
    entry::Entry,
    host::Host,
    observed,
    runtime::{ContainerId, Life, LogRequest, RuntimeError},
};

/// Which container's log is asked for.
#[derive(Debug)]
pub(crate) struct LogQuestion {
    pub uid: Uid,
    pub container: Option<String>,
    pub previous: bool,
}

pub(crate) async fn answer(link: Arc<Link>, host: Arc<Host>, request: SessionRequest) {
    let (id, answer) = match request {
        SessionRequest::Logs { id, uid, options, .. } => (id, logs(&link, &host, uid, &options).await),
        SessionRequest::Settle { id, uid, order } => (id, settle(&link, uid, order).await),
    };
    let sent = tokio::select! {
        biased;
        sent = link.control.answer(&id, answer) => sent,
        () = link.shutdown.cancelled() => return,
    };
    if let Err(error) = sent {
        tracing::debug!(node = &*host.node_name, %error, "the answer to a session was not delivered");
    }
}

fn shutting_down() -> SessionRefusal {
    SessionRefusal {
        status: 503,
        message: "the node agent is shutting down".to_owned(),
    }
}

async fn settle(link: &Link, uid: Uid, order: Order) -> SessionAnswer {
    let (reply, done) = oneshot::channel();
    let _ = link.tell.send(Message::Settle { uid, order, reply });
    let settled = done.await.unwrap_or_else(|_| Err(shutting_down()))?;
    let body = serde_json::to_vec(&settled).map_err(|error| SessionRefusal {
        status: 500,
        message: error.to_string(),
    })?;
    Ok(stream::once(std::future::ready(Bytes::from(body))).boxed())
}

async fn logs(link: &Link, host: &Host, uid: Uid, options: &LogOptions) -> SessionAnswer {
    let (reply, found) = oneshot::channel();
    let question = LogQuestion {
        uid,
        container: options.container.clone(),
        previous: options.previous,
    };
    let _ = link.tell.send(Message::FindLog { question, reply });
    let id: ContainerId = found.await.unwrap_or_else(|_| Err(shutting_down()))?;
    let now = host.clock.now();
    let since = options.since_time.or_else(|| {
        options
            .since_seconds
            .map(|seconds| now.wall - jiff::SignedDuration::from_secs(seconds.max(0)))
    });
    let request = LogRequest {
        follow: options.follow,
        timestamps: options.timestamps,
        since,
        tail: options.tail_lines,
    };
    let stream = host.runtime.logs(&id, &request).await.map_err(|error| SessionRefusal {
        status: match error {
            RuntimeError::NoSuchContainer(_) => 404,
            RuntimeError::Unreachable { .. } => 503,
            _ => 400,
        },
        message: error.to_string(),
    })?;
    Ok(limited(stream, options.limit_bytes))
}

fn limited(stream: BoxStream<'static, Result<Bytes, RuntimeError>>, limit: Option<i64>) -> BoxStream<'static, Bytes> {
    let mut left = limit.map_or(u64::MAX, |limit| u64::try_from(limit).unwrap_or(0));
    stream
        .take_while(|chunk| std::future::ready(chunk.is_ok()))
        .filter_map(|chunk| std::future::ready(chunk.ok()))
        .scan((), move |(), chunk| {
            let room = usize::try_from(left).unwrap_or(usize::MAX);
            if room == 0 {
                return std::future::ready(None);
            }
            let chunk = chunk.slice(..chunk.len().min(room));
            left -= chunk.len() as u64;
            std::future::ready(Some(chunk))
        })
        .boxed()
}

impl Agent {
    pub(crate) fn find_log(&self, question: &LogQuestion) -> Result<ContainerId, SessionRefusal> {
        let refuse = |status, message: String| Err(SessionRefusal { status, message });
        let Some(entry) = self.entries.get(&question.uid) else {
            return refuse(404, "the pod is not on this node".to_owned());
        };
        let name = match &question.container {
            Some(name) => name.clone(),
            None => entry
                .pod
                .spec
                .containers
                .first()
                .map(|spec| spec.name.clone())
                .unwrap_or_default(),
        };
        let pod = &entry.pod.key.name;
        if entry.pod.container(&name).is_none() {
            return refuse(400, format!("container {name} is not valid for pod {pod}"));
        }
        let found = if question.previous {
            observed::previous(&entry.containers, &name)
        } else {
            observed::latest(&entry.containers, &name)
        };
        match found {
            // A container that never ran has no log; the one before it is what people want to see.
            Some(container) if container.life != Life::Created => Ok(container.id.clone()),
            _ if question.previous => refuse(
                400,
                format!("previous terminated container {name:?} in pod {pod:?} not found"),
            ),
            _ => refuse(
                400,
                format!(
                    "container {name:?} in pod {pod:?} is waiting to start: {}",
                    waiting_reason(entry, &name)
                ),
            ),
        }
    }
}

fn waiting_reason(entry: &Entry, name: &str) -> String {
    let status = entry.status();
    let all = status
        .container_statuses
        .into_iter()
        .chain(status.init_container_statuses)
        .flatten();
    all.filter(|status| status.name == name)
        .find_map(|status| status.state?.waiting?.reason)
        .unwrap_or_else(|| "ContainerCreating".to_owned())
}
