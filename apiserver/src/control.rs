//! What the command line and the agents talk to: everything under `/towline/v1/`.
//!
//! | method and path | who | answers |
//! |---|---|---|
//! | `GET status` | admin | the newest report |
//! | `GET history?limit=` | admin | recorded revisions, newest first |
//! | `GET plan?head=` | admin | what a ref would change |
//! | `GET explain?kind=&name=&namespace=` | admin | why an object is as it is, see [`explain`] |
//! | `POST sync?wait=true&timeout=SECONDS&confirm-deletes=COMMIT&skip-gates=COMMIT` | admin | lines of progress, the outcome last |
//! | `POST rollback?kind=&name=&namespace=&to=COMMIT` | admin | the commit that puts a document back |
//! | `POST push/check`, `POST push/rollout` | admin | a verdict; lines of progress |
//! | `GET unclaimed`, `POST unclaimed?node=&uid=&order=` | admin | pods that run without the server's having them |
//! | `POST nodes/NAME/certificate` | bootstrap token | a signed certificate |
//! | `nodes/NAME/{identity,register,stream,status,heartbeat,stats,missing,sessions}` | that node | see [`schemas::node`] |

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{Method, StatusCode};
use schemas::{
    Commit, Key,
    now::Clock,
    origin::{Origin, Question},
    restore::{Restore, Restored},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{AuditLine, Store};
use tokio_util::sync::CancellationToken;

use crate::{
    Authority,
    authority::BOOTSTRAPPERS,
    confirm,
    exchange::{self, Call, Mount, Response},
    explain,
    git_http::GitHttp,
    identity::Identity,
    nodes,
    nodes_history::Histories,
    nodes_interest::Interest,
    nodes_stream::Streams,
    push::{self, Push, Verdict},
    push_follow::Judged,
    query::Query,
    rollback,
    sessions::Sessions,
    status::ApiError,
    unclaimed::{self, Roll},
    webhooks::{self, Webhooks},
};

/// The git side, as this server needs it.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Says "look again" and returns at once.
    fn look(&self);

    /// Looks again, and waits until a look that began after this call has ended.
    async fn look_and_wait(&self) -> Result<Looked, SourceError>;

    /// The deletions that wait for a word because the branch was pushed to an unrelated history; none
    /// where its history goes on.
    fn unconfirmed(&self) -> Option<Unconfirmed>;

    /// What `head` would change against the desired state, as the command line shows it; empty for
    /// the tip of the branch that is followed.
    async fn plan(&self, head: &str) -> Result<Value, SourceError>;

    /// Which commits wrote these contents, in the order of the questions.
    async fn origins(&self, questions: Vec<Question>) -> Result<Vec<Origin>, SourceError>;

    /// Puts one document back to an earlier content, as a commit.
    async fn restore(&self, asked: Restore) -> Result<Restored, SourceError>;

    /// Judges a push to the built-in repository before it is accepted.
    async fn check_push(&self, push: &Push) -> Verdict;

    /// The built-in bare repository, where there is one.
    fn repository(&self) -> Option<PathBuf>;

    /// The branch that is followed, without `refs/heads/`.
    fn branch(&self) -> &str;
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// The newest commit of the branch; none while the branch is empty or the source unreadable.
    pub head: Option<Commit>,
    /// Why the source could not be read, if it could not.
    pub problem: Option<String>,
}

/// What an unrelated history no longer declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The commit to confirm.
    pub commit: Commit,
    pub objects: Vec<Key>,
}

/// Why the git side did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// What was asked for does not exist or is not readable: the asker's to change.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done as things stand; the text says what to do.
    #[error("{0}")]
    Conflict(String),
    #[error("the git source cannot answer now: {0}")]
    Unavailable(String),
}

impl From<SourceError> for ApiError {
    fn from(error: SourceError) -> Self {
        match &error {
            SourceError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "NotFound", error.to_string()),
            SourceError::Conflict(_) => Self::new(StatusCode::CONFLICT, "Conflict", error.to_string()),
            SourceError::Unavailable(_) => Self::unavailable(error.to_string()),
        }
    }
}

/// What the handlers of this front work with.
pub struct Front {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) sessions: Sessions,
    pub(crate) streams: Streams,
    pub(crate) interest: Arc<Interest>,
    pub(crate) histories: Histories,
    pub(crate) unclaimed: Roll,
    pub(crate) push_wait: Duration,
    pub(crate) judged: Judged,
    pub(crate) shutdown: CancellationToken,
}

/// What a [`Front`] is made of.
pub struct FrontParts {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub authority: Arc<Authority>,
    pub source: Arc<dyn Source>,
    /// How long a push or `sync --wait` follows a rollout.
    pub push_wait: Duration,
    /// Ends long-lived streams when the server stops.
    pub shutdown: CancellationToken,
}

impl Front {
    /// Starts what runs beside the requests. Must be called inside a Tokio runtime.
    #[must_use]
    pub fn start(parts: FrontParts) -> Arc<Self> {
        let interest = Interest::start(parts.store.clone(), parts.shutdown.clone());
        let front = Arc::new(Self {
            store: parts.store,
            clock: parts.clock,
            authority: parts.authority,
            source: parts.source,
            sessions: Sessions::default(),
            streams: Streams::default(),
            interest,
            histories: Histories::default(),
            unclaimed: Roll::default(),
            push_wait: parts.push_wait,
            judged: Judged::default(),
            shutdown: parts.shutdown,
        });
        let early = front.clone();
        tokio::spawn(async move {
            // So that the first agent need not wait for it; it is tried again when one comes.
            if let Err(error) = early.histories.current(&early.store).await {
                tracing::debug!(%error, "a term could not begin yet");
            }
        });
        front
    }

    /// The parts of the server's paths that this front owns: `/towline`, `/webhooks` and `/git`.
    #[must_use]
    pub fn mounts(self: &Arc<Self>, webhooks: webhooks::Secrets) -> Vec<Arc<dyn Mount>> {
        vec![
            Arc::new(Control(self.clone())),
            Arc::new(Webhooks::new(self.clone(), webhooks)),
            Arc::new(GitHttp::new(self.clone())),
        ]
    }

    /// Notes what someone did. What was done stays done where the note cannot be kept; the log has it
    /// then.
    pub(crate) async fn audit(&self, who: &Identity, verb: &str, resource: &str, detail: String) {
        let line = AuditLine {
            at: self.clock.now().wall,
            user: who.user.clone(),
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            code: StatusCode::OK.as_u16(),
            detail,
        };
        if let Err(error) = self.store.audit(vec![line.clone()]).await {
            tracing::warn!(?line, "an audit line could not be kept: {error}");
        }
    }

    /// Where the API server reads the logs of containers.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }
}

/// Everything under `/towline/`.
struct Control(Arc<Front>);

#[async_trait]
impl Mount for Control {
    fn prefix(&self) -> &str {
        "towline"
    }

    async fn handle(&self, call: Call) -> Response {
        answer(&self.0, call).await.unwrap_or_else(|error| error.response())
    }
}

async fn answer(front: &Arc<Front>, call: Call) -> Result<Response, ApiError> {
    let identity = call.identity.clone().ok_or_else(ApiError::unauthorized)?;
    let path = call.path.clone();
    let Some(rest) = path.strip_prefix("/towline/v1/") else {
        return Err(ApiError::no_such_path());
    };
    let segments: Vec<&str> = rest.split('/').collect();
    let method = call.method.clone();
    match segments.as_slice() {
        ["nodes", name, "certificate"] if method == Method::POST => {
            if !identity.is_in(BOOTSTRAPPERS) && !identity.is_administrator() {
                return Err(ApiError::forbidden(
                    "only the bootstrap token can ask for a node's certificate",
                ));
            }
            nodes::certificate(front, &identity, name, call).await
        }
        ["nodes", name, rest @ ..] => {
            // A node's certificate opens its own paths and nobody else's; neither does any other token.
            if identity.node() != Some(*name) {
                return Err(ApiError::forbidden(format!(
                    "{} may not act as node {name:?}: use the node's own certificate",
                    identity.user
                )));
            }
            nodes::answer(front, name, rest, call).await
        }
        _ if !identity.is_administrator() => Err(ApiError::forbidden(format!(
            "{} may not use {path}: use the administrator's token",
            identity.user
        ))),
        ["status"] if method == Method::GET => status(front),
        ["history"] if method == Method::GET => history(front, &call.query).await,
        ["plan"] if method == Method::GET => plan(front, &call.query).await,
        ["explain"] if method == Method::GET => explain::answer(front, &call.query).await,
        ["sync"] if method == Method::POST => sync(front, &identity, &call.query).await,
        ["rollback"] if method == Method::POST => rollback::answer(front, &identity, &call.query).await,
        ["unclaimed"] if method == Method::GET => Ok(unclaimed::list(front)),
        ["unclaimed"] if method == Method::POST => unclaimed::order(front, &identity, &call.query).await,
        ["push", "check"] if method == Method::POST => push::check(front, call).await,
        ["push", "rollout"] if method == Method::POST => push::rollout(front, call).await,
        ["status" | "history" | "plan" | "explain" | "sync" | "rollback" | "unclaimed"]
        | ["push", "check" | "rollout"] => Err(ApiError::method_not_allowed()),
        _ => Err(ApiError::no_such_path()),
    }
}

/// The report, with how the desired state stands beside it: a report may be a moment behind.
fn status(front: &Front) -> Result<Response, ApiError> {
    let desired = front.store.desired();
    let report = front.store.reports().borrow().clone();
    let held: Vec<Value> = desired
        .units
        .iter()
        .filter_map(|(unit, at)| {
            let reason = at.held.as_ref()?;
            Some(json!({"unit": unit, "commit": at.commit, "reason": reason}))
        })
        .collect();
    Ok(exchange::json(
        StatusCode::OK,
        &json!({
            "cluster": front.store.cluster(),
            "branch": front.source.branch(),
            "revision": desired.revision,
            "commit": desired.commit,
            "sourceError": desired.source_error,
            "problems": desired.problems,
            "held": held,
            "writable": front.store.is_writable(),
            "unclaimed": front.unclaimed.list(),
            "report": report,
        }),
    ))
}

async fn history(front: &Front, query: &Query) -> Result<Response, ApiError> {
    let limit = query.parsed::<usize>("limit")?.unwrap_or(30);
    let revisions = front.store.revisions(limit.min(1000)).await?;
    Ok(exchange::json(StatusCode::OK, &revisions))
}

async fn plan(front: &Front, query: &Query) -> Result<Response, ApiError> {
    let head = query.get("head").unwrap_or_default();
    Ok(exchange::json(StatusCode::OK, &front.source.plan(head).await?))
}

async fn sync(front: &Arc<Front>, identity: &Identity, query: &Query) -> Result<Response, ApiError> {
    let confirmed = match query.get("confirm-deletes") {
        Some(commit) => Some(confirm::deletions(front, identity, commit).await?),
        None => None,
    };
    if let Some(commit) = query.get("skip-gates") {
        confirm::gates(front, identity, commit).await?;
    }
    if !query.flag("wait")? {
        front.source.look();
        let answer = json!({"looking": true, "confirmed": confirmed});
        return Ok(exchange::json(StatusCode::ACCEPTED, &answer));
    }
    let limit = query.parsed("timeout")?.map_or(front.push_wait, Duration::from_secs);
    Ok(push::sync(front, confirmed, limit))
}
