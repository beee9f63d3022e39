//! Answers what the server asks over the second connection: logs.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use schemas::{
    Uid,
    node::{LogOptions, SessionRequest},
};
use tokio::sync::oneshot;

use crate::{
    agent::Message,
    connection::Link,
    control::{SessionAnswer, SessionRefusal},
    host::Host,
    runtime::{ContainerId, LogRequest, RuntimeError},
};

/// Which container's log is asked for.
#[derive(Debug)]
pub(crate) struct LogQuestion {
    pub uid: Uid,
    pub container: Option<String>,
    pub previous: bool,
}

pub(crate) async fn answer(link: Arc<Link>, host: Arc<Host>, request: SessionRequest) {
    let SessionRequest::Logs { id, pod, uid, options } = request;
    let answer = logs(&link, &host, uid, &options).await;
    let sent = tokio::select! {
        sent = link.control.answer(&id, answer) => sent,
        () = link.shutdown.cancelled() => return,
    };
    if let Err(error) = sent {
        tracing::debug!(namespace = pod.ns(), name = &*pod.name, %error, "a log was not delivered");
    }
}

async fn logs(link: &Link, host: &Host, uid: Uid, options: &LogOptions) -> SessionAnswer {
    let (reply, found) = oneshot::channel();
    let question = LogQuestion {
        uid,
        container: options.container.clone(),
        previous: options.previous,
    };
    let _ = link.tell.send(Message::FindLog { question, reply });
    let id: ContainerId = found.await.unwrap_or_else(|_| {
        Err(SessionRefusal {
            status: 503,
            message: "the node agent is shutting down".to_owned(),
        })
    })?;
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
