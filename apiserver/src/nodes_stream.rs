//! A node's stream: a snapshot of what its agent needs, then what changes.
//!
//! Level-triggered: a wake means "look again", and a look compares what the node needs now with what
//! was sent. The cost of a look is that of the node's own pods, whatever the cluster holds.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use schemas::{
    Key, Kind, Object,
    node::{Gone, Incarnation},
};
use serde::Serialize;
use store::{Scope, Store, Watch};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::{
    control::Front,
    exchange::{self, Call, Response},
    nodes_interest::Membership,
    nodes_mirror::{Difference, Mirror, left, matters},
    status::ApiError,
};

/// A stream says at least this often up to which version nothing has changed.
const BOOKMARK: Duration = Duration::from_secs(30);

/// How many snapshots are built at a time: each is a whole node's pods in memory.
const SNAPSHOTS: usize = 16;

/// The open streams, one a node.
pub(crate) struct Streams {
    open: Mutex<HashMap<Arc<str>, CancellationToken>>,
    building: Semaphore,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            building: Semaphore::new(SNAPSHOTS),
        }
    }
}

impl Streams {
    /// A newer stream of a node ends an older one.
    fn replace(&self, node: &Arc<str>, token: CancellationToken) {
        if let Some(older) = self.open.lock().insert(node.clone(), token) {
            older.cancel();
        }
    }

    fn close(&self, node: &str, token: &CancellationToken) {
        let mut open = self.open.lock();
        // A token that was cancelled belongs to a stream whose place a newer one has taken.
        if !token.is_cancelled() {
            open.remove(node);
        }
    }
}

/// As [`schemas::node::Frame`], borrowed.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Line<'a> {
    Snapshot {
        cluster: &'a str,
        incarnation: &'a Incarnation,
        version: u64,
        objects: &'a [Arc<Object>],
    },
    Delta {
        version: u64,
        put: &'a [Arc<Object>],
        gone: &'a [Gone],
    },
    Bookmark {
        version: u64,
    },
}

/// Opens the stream of a node that has registered.
pub(crate) fn open(front: &Arc<Front>, node: &str, call: &Call) -> Result<Response, ApiError> {
    if front.store.get(&Key::cluster(Kind::Node, node)).is_none() {
        return Err(ApiError::not_found(Kind::Node, node));
    }
    let resume = match (call.query.text("incarnation"), call.query.parsed::<u64>("version")?) {
        (Some(incarnation), Some(version)) if *front.store.incarnation().0 == *incarnation => Some(version),
        _ => None,
    };
    let (out, lines) = mpsc::channel(2);
    let stream = NodeStream {
        front: front.clone(),
        node: node.into(),
        mirror: Mirror::default(),
        membership: front.interest.join(),
        out,
    };
    let token = CancellationToken::new();
    front.streams.replace(&stream.node, token.clone());
    tokio::spawn(async move {
        let (front, node) = (stream.front.clone(), stream.node.clone());
        tokio::select! {
            _ = stream.run(resume) => {}
            () = token.cancelled() => {}
            () = front.shutdown.cancelled() => {}
        }
        front.streams.close(&node, &token);
    });
    Ok(exchange::stream(
        "application/x-ndjson",
        ReceiverStream::new(lines).boxed(),
    ))
}

/// The agent does not read any more.
struct Hangup;

struct NodeStream {
    front: Arc<Front>,
    node: Arc<str>,
    mirror: Mirror,
    membership: Membership,
    out: mpsc::Sender<io::Result<Bytes>>,
}

impl NodeStream {
    async fn run(mut self, resume: Option<u64>) -> Result<(), Hangup> {
        let resumed = match resume {
            Some(version) => self.resume(version).await?,
            None => None,
        };
        let (mut watch, mut incarnation) = match resumed {
            Some(begun) => begun,
            None => self.snapshot().await?,
        };
        loop {
            let look = tokio::select! {
                () = self.out.closed() => return Err(Hangup),
                changes = watch.next() => match changes {
                    Some(changes) => changes.iter().any(matters),
                    // The watch ended: in another incarnation nothing that was sent counts; in the
                    // same one a look finds what was missed.
                    None if self.front.store.incarnation() != incarnation => {
                        (watch, incarnation) = self.snapshot().await?;
                        false
                    }
                    None => {
                        watch = watch_node(&self.front.store, &self.node).await;
                        true
                    }
                },
                () = self.membership.changed() => true,
                () = tokio::time::sleep(BOOKMARK) => {
                    let version = self.delta().await?;
                    self.send(&Line::Bookmark { version }).await?;
                    false
                }
            };
            if look {
                self.delta().await?;
            }
        }
    }

    /// Goes on from a version, if the change log still has all that came after it.
    async fn resume(&mut self, version: u64) -> Result<Option<(Watch, Incarnation)>, Hangup> {
        let store = self.front.store.clone();
        let incarnation = store.incarnation();
        let Ok(mut watch) = store.watch(Scope::node(&self.node), Some(version)) else {
            return Ok(None);
        };
        let mut missed = Vec::new();
        loop {
            match watch.ready() {
                None => return Ok(None),
                Some(changes) if changes.is_empty() => break,
                Some(mut changes) => missed.append(&mut changes),
            }
        }
        let gone = {
            let view = store.view();
            self.mirror = Mirror::at(&view, &self.node, version);
            left(&missed, &view, &self.node)
        };
        // Even an empty delta is sent: it tells the agent that it may go on with what it has.
        let mut difference = self.look();
        difference.gone.extend(gone);
        self.send_difference(&difference).await?;
        Ok(Some((watch, incarnation)))
    }

    /// Sends everything anew.
    async fn snapshot(&mut self) -> Result<(Watch, Incarnation), Hangup> {
        let front = self.front.clone();
        // The semaphore is never closed; were it, a snapshot without a turn is still right.
        let _turn = front.streams.building.acquire().await;
        let incarnation = front.store.incarnation();
        let watch = watch_node(&front.store, &self.node).await;
        self.mirror = Mirror::default();
        let difference = self.look();
        let line = Line::Snapshot {
            cluster: &front.store.cluster(),
            incarnation: &incarnation,
            version: difference.version,
            objects: &difference.put,
        };
        self.send(&line).await?;
        Ok((watch, incarnation))
    }

    fn look(&mut self) -> Difference {
        let mut difference = self.mirror.look(&self.front.store.view(), &self.node);
        while self.membership.set(std::mem::take(&mut difference.needs)) {
            // Something new is needed: it may have changed before its changes were listened to.
            let more = self.mirror.look(&self.front.store.view(), &self.node);
            difference.then(more);
        }
        difference
    }

    /// Looks, and sends what changed; returns the version up to which all is sent.
    async fn delta(&mut self) -> Result<u64, Hangup> {
        let difference = self.look();
        if !difference.put.is_empty() || !difference.gone.is_empty() {
            self.send_difference(&difference).await?;
        }
        Ok(difference.version)
    }

    async fn send_difference(&self, difference: &Difference) -> Result<(), Hangup> {
        self.send(&Line::Delta {
            version: difference.version,
            put: &difference.put,
            gone: &difference.gone,
        })
        .await
    }

    async fn send(&self, line: &Line<'_>) -> Result<(), Hangup> {
        let piece = match serde_json::to_vec(line) {
            Ok(mut text) => {
                text.push(b'\n');
                Ok(Bytes::from(text))
            }
            Err(error) => Err(io::Error::other(error)),
        };
        self.out.send(piece).await.map_err(|_| Hangup)
    }
}

/// A watch of the node's pods from now on.
async fn watch_node(store: &Store, node: &str) -> Watch {
    loop {
        match store.watch(Scope::node(node), None) {
            Ok(watch) => return watch,
            // Only while the store changes its life.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
