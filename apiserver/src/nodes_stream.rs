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
    node::{Gone, History, Incarnation, Position, Term},
};
use serde::Serialize;
use store::{Scope, Store, Watch};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::{
    control::Front,
    exchange::{self, Response},
    nodes_history,
    nodes_interest::Membership,
    nodes_mirror::{Difference, Mirror, left, matters},
    query::Query,
    status::ApiError,
};

/// A stream says at least this often up to which version nothing has changed.
const BOOKMARK: Duration = Duration::from_secs(30);

/// How soon a snapshot that the store is not ready for is tried again.
const AGAIN: Duration = Duration::from_millis(200);

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
        term: &'a Term,
        version: u64,
        continues: bool,
        objects: &'a [Arc<Object>],
    },
    Delta {
        term: &'a Term,
        version: u64,
        put: &'a [Arc<Object>],
        gone: &'a [Gone],
    },
    Bookmark {
        term: &'a Term,
        version: u64,
    },
}

/// Opens the stream of a node that has registered. The query names the position that its agent has come
/// to; with `whole=true` everything is sent all the same.
pub(crate) async fn open(front: &Arc<Front>, node: &str, query: &Query) -> Result<Response, ApiError> {
    if front.store.get(&Key::cluster(Kind::Node, node)).is_none() {
        return Err(ApiError::not_found(Kind::Node, node));
    }
    let position = nodes_history::position(query)?;
    let whole = query.flag("whole")?;
    let history = front.histories.current(&front.store).await?;
    let (out, lines) = mpsc::channel(2);
    let stream = NodeStream {
        front: front.clone(),
        node: node.into(),
        // What is not of this history is nothing to go on from.
        position: position.filter(|position| history.holds(position, front.store.version())),
        term: history.term(),
        history,
        mirror: Mirror::default(),
        membership: front.interest.join(&Arc::from(node)),
        out,
    };
    let token = CancellationToken::new();
    front.streams.replace(&stream.node, token.clone());
    tokio::spawn(async move {
        let (front, node) = (stream.front.clone(), stream.node.clone());
        tokio::select! {
            _ = stream.run(whole) => {}
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

/// The store began another life: nothing that was sent counts any more.
struct Turned;

struct NodeStream {
    front: Arc<Front>,
    node: Arc<str>,
    /// Where the agent was when it opened the stream, if that lies in the history of this store.
    position: Option<Position>,
    history: Arc<History>,
    term: Term,
    mirror: Mirror,
    membership: Membership,
    out: mpsc::Sender<io::Result<Bytes>>,
}

impl NodeStream {
    async fn run(mut self, whole: bool) -> Result<(), Hangup> {
        let resumed = match self.position.as_ref().map(|position| position.version) {
            Some(version) if !whole => self.resume(version).await?,
            _ => None,
        };
        let mut watch = match resumed {
            Some(watch) => watch,
            None => self.snapshot().await?,
        };
        loop {
            let look = tokio::select! {
                () = self.out.closed() => return Err(Hangup),
                changes = watch.next() => match changes {
                    Some(changes) => changes.iter().any(matters),
                    // The watch ended; a look finds what was missed, or that nothing sent counts.
                    None => {
                        watch = watch_node(&self.front.store, &self.node).await;
                        true
                    }
                },
                () = self.membership.changed() => true,
                () = tokio::time::sleep(BOOKMARK) => {
                    match self.delta().await? {
                        Ok(version) => {
                            let term = self.term.clone();
                            self.send(&Line::Bookmark { term: &term, version }).await?;
                        }
                        Err(Turned) => watch = self.snapshot().await?,
                    }
                    false
                }
            };
            if look && let Err(Turned) = self.delta().await? {
                watch = self.snapshot().await?;
            }
        }
    }

    /// Goes on from a version, if the change log still has all that came after it.
    async fn resume(&mut self, version: u64) -> Result<Option<Watch>, Hangup> {
        let store = self.front.store.clone();
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
        let Ok(mut difference) = self.look() else {
            return Ok(None);
        };
        difference.gone.extend(gone);
        self.send_difference(&difference).await?;
        Ok(Some(watch))
    }

    /// Sends everything anew.
    async fn snapshot(&mut self) -> Result<Watch, Hangup> {
        let front = self.front.clone();
        // The semaphore is never closed; were it, a snapshot without a turn is still right.
        let _turn = front.streams.building.acquire().await;
        loop {
            match front.histories.current(&front.store).await {
                Ok(history) => self.history = history,
                Err(error) => {
                    tracing::debug!(node = &*self.node, %error, "a snapshot waits for the store");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            }
            self.term = self.history.term();
            let watch = watch_node(&front.store, &self.node).await;
            self.mirror = Mirror::default();
            let Ok(difference) = self.look() else { continue };
            let holds = |position: &Position| self.history.holds(position, difference.version);
            let line = Line::Snapshot {
                cluster: &front.store.cluster(),
                incarnation: &difference.incarnation,
                term: &self.term,
                version: difference.version,
                continues: self.position.as_ref().is_some_and(holds),
                objects: &difference.put,
            };
            self.send(&line).await?;
            return Ok(watch);
        }
    }

    /// Compares what the node needs with what was sent: all of it in the one life of the store that this
    /// stream tells of, since what another life lacks was not deleted.
    fn look(&mut self) -> Result<Difference, Turned> {
        let mut difference = self.look_once()?;
        while self.membership.set(std::mem::take(&mut difference.needs)) {
            // Something new is needed: it may have changed before its changes were listened to.
            let more = self.look_once()?;
            difference.then(more);
        }
        Ok(difference)
    }

    fn look_once(&mut self) -> Result<Difference, Turned> {
        let view = self.front.store.view();
        if *view.incarnation() != self.history.incarnation {
            return Err(Turned);
        }
        Ok(self.mirror.look(&view, &self.node, self.membership.doomed()))
    }

    /// Looks, and sends what changed; returns the version up to which all is sent.
    async fn delta(&mut self) -> Result<Result<u64, Turned>, Hangup> {
        let Ok(difference) = self.look() else {
            return Ok(Err(Turned));
        };
        if !difference.put.is_empty() || !difference.gone.is_empty() {
            self.send_difference(&difference).await?;
        }
        Ok(Ok(difference.version))
    }

    async fn send_difference(&self, difference: &Difference) -> Result<(), Hangup> {
        self.send(&Line::Delta {
            term: &self.term,
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
