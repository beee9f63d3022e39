//! A push to the built-in repository: judged before it is accepted, followed after.
//!
//! The repository's hooks call these two endpoints. `check` answers with a verdict as JSON; `rollout`
//! answers with lines of text, which git shows as `remote:` lines.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use schemas::{Commit, report::Outcome};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    control::Front,
    exchange::{self, Call, Response},
    push_follow::{Before, End, Follower},
    status::ApiError,
};

/// How long a check may take before it is a refusal that says so.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// A line of a hook's input: a ref and where it moves. An id of zeros means that there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefUpdate {
    pub old: String,
    pub new: String,
    /// The full name, `refs/heads/main`.
    #[serde(rename = "ref")]
    pub reference: String,
}

/// What a hook knows of a push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Push {
    pub updates: Vec<RefUpdate>,
    /// Where the objects lie that are not yet part of the repository; none after a push.
    #[serde(default)]
    pub quarantine: Option<Quarantine>,
}

/// `GIT_QUARANTINE_PATH` and its companions of a pre-receive hook, as absolute paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantine {
    pub path: PathBuf,
    pub object_directory: PathBuf,
    /// `GIT_ALTERNATE_OBJECT_DIRECTORIES`, split at colons.
    #[serde(default)]
    pub alternates: Vec<PathBuf>,
}

/// Whether a push is accepted, and what to tell its author.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub accepted: bool,
    /// In the order in which git shows them.
    pub lines: Vec<String>,
}

impl Verdict {
    /// A refusal with one line.
    #[must_use]
    pub fn refused(line: impl Into<String>) -> Self {
        Self {
            accepted: false,
            lines: vec![line.into()],
        }
    }
}

impl RefUpdate {
    /// The commit that the ref moves to, if it is not deleted.
    #[must_use]
    pub fn target(&self) -> Option<Commit> {
        (!self.new.bytes().all(|digit| digit == b'0')).then(|| self.new.as_str().into())
    }
}

async fn read(call: &mut Call) -> Result<Push, ApiError> {
    let body = call.take_body(exchange::MAX_BODY).await?;
    serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body is not the description of a push: {error}")))
}

/// Judges a push.
pub(crate) async fn check(front: &Front, mut call: Call) -> Result<Response, ApiError> {
    let push = read(&mut call).await?;
    let Some(repository) = front.source.repository() else {
        return Err(ApiError::bad_request(
            "this server follows another repository and has no built-in one to push to",
        ));
    };
    if let Some(reserved) = push.updates.iter().find(|update| is_reserved(&update.reference)) {
        let line = format!(
            "{} is written by Towline itself; push to another branch",
            reserved.reference
        );
        return Ok(exchange::json(StatusCode::OK, &Verdict::refused(line)));
    }
    if let Some(quarantine) = &push.quarantine {
        // The hook names folders that the server will read: only those of the repository itself.
        let objects = repository.join("objects");
        let objects = objects.canonicalize().unwrap_or(objects);
        let inside = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path.starts_with(&objects));
        if let Some(foreign) = std::iter::once(&quarantine.object_directory)
            .chain(&quarantine.alternates)
            .find(|path| !inside(path))
        {
            return Err(ApiError::bad_request(format!(
                "{} is not an object folder of the built-in repository",
                foreign.display()
            )));
        }
    }
    if let Some(commit) = followed(front, &push).and_then(RefUpdate::target) {
        front.judged.note(commit, front.store.desired());
    }
    let verdict = tokio::time::timeout(CHECK_LIMIT, front.source.check_push(&push))
        .await
        .unwrap_or_else(|_| {
            Verdict::refused(format!(
                "the check took longer than {} s, so nothing was accepted; push again",
                CHECK_LIMIT.as_secs()
            ))
        });
    Ok(exchange::json(StatusCode::OK, &verdict))
}

/// The full name of the branch that is followed.
fn branch(front: &Front) -> String {
    format!("refs/heads/{}", front.source.branch())
}

/// What a push does to the branch that is followed.
fn followed<'a>(front: &Front, push: &'a Push) -> Option<&'a RefUpdate> {
    let branch = branch(front);
    push.updates.iter().find(|update| update.reference == branch)
}

/// Branches that belong to Towline.
fn is_reserved(reference: &str) -> bool {
    reference == "refs/heads/towline" || reference.starts_with("refs/heads/towline/")
}

/// Follows what an accepted push set off.
pub(crate) async fn rollout(front: &Arc<Front>, mut call: Call) -> Result<Response, ApiError> {
    let push = read(&mut call).await?;
    // Read before the look, so that the commit's own revision is never taken for an older one.
    let before = Before::of(front.store.desired());
    front.source.look();
    let branch = branch(front);
    let Some(update) = followed(front, &push) else {
        let line = format!("nothing rolls out: only {branch} is followed");
        return Ok(exchange::text(StatusCode::OK, format!("{line}\n")));
    };
    let Some(commit) = update.target() else {
        let line = format!("{branch} was deleted: what it declared stays as it is");
        return Ok(exchange::text(StatusCode::OK, format!("{line}\n")));
    };
    let before = before.since(front.judged.take(&commit));
    let front = front.clone();
    let limit = front.push_wait;
    Ok(lines("text/plain; charset=utf-8", move |out| async move {
        let follower = Follower::of_push(commit, before);
        let end = follow(&front, follower, limit, &out, |line| format!("{line}\n")).await;
        if let Some(end) = end {
            let _ = out.send(format!("{}\n", end.line(limit))).await;
        }
    }))
}

/// Looks, and follows the newest commit to its outcome: one JSON document a line, the last one of
/// the type `outcome`. `first` is said before anything else.
pub(crate) fn sync(front: &Arc<Front>, first: Option<String>, limit: Duration) -> Response {
    let front = front.clone();
    lines("application/x-ndjson", move |out| async move {
        let progress = |line: &str| format!("{}\n", json!({"type": "progress", "message": line}));
        let outcome = |outcome: &str, commit: Option<&Commit>, message: &str| {
            let value = json!({"type": "outcome", "outcome": outcome, "commit": commit, "message": message});
            format!("{value}\n")
        };
        if let Some(first) = first
            && out.send(progress(&first)).await.is_err()
        {
            return;
        }
        let before = Before::of(front.store.desired());
        let confirmations = *front.store.confirmation_changes().borrow();
        let looked = match front.source.look_and_wait().await {
            Ok(looked) => looked,
            Err(error) => {
                let _ = out.send(outcome("held", None, &error.to_string())).await;
                return;
            }
        };
        if let Some(problem) = looked.problem {
            // No rollout has failed: everything stays as it is until the source can be read.
            let _ = out.send(outcome("held", looked.head.as_ref(), &problem)).await;
            return;
        }
        let Some(head) = looked.head else {
            let message = format!("the branch {} holds no commit yet", front.source.branch());
            let _ = out.send(outcome("held", None, &message)).await;
            return;
        };
        let follower = Follower::of_sync(head.clone(), before, confirmations);
        let end = follow(&front, follower, limit, &out, progress).await;
        if let Some(end) = end {
            let _ = out.send(outcome(end.word(), Some(&head), &end.line(limit))).await;
        }
    })
}

/// An answer whose lines a task sends.
fn lines<F, T>(media_type: &'static str, task: F) -> Response
where
    F: FnOnce(mpsc::Sender<String>) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let (out, lines) = mpsc::channel(16);
    tokio::spawn(task(out));
    let pieces = ReceiverStream::new(lines).map(|line: String| Ok(Bytes::from(line)));
    exchange::stream(media_type, pieces.boxed())
}

/// Tells what changes until the rollout has ended. None: the listener has gone, or the server stops.
async fn follow(
    front: &Front,
    mut follower: Follower,
    limit: Duration,
    out: &mpsc::Sender<String>,
    write: impl Fn(&str) -> String,
) -> Option<End> {
    let mut desired = front.store.desired_changes();
    let mut reports = front.store.reports();
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(deadline);
    loop {
        // Marked as seen before they are read, so that no change in between is missed.
        desired.borrow_and_update();
        let report = reports.borrow_and_update().clone();
        let state = front.store.desired();
        let (said, end) = follower.look(&state, report.as_deref(), |key| front.store.get(key));
        for line in said {
            out.send(write(&line)).await.ok()?;
        }
        if end.is_some() {
            return end;
        }
        tokio::select! {
            () = &mut deadline => return Some(End::Waiting),
            () = front.shutdown.cancelled() => {
                let _ = out.send(write("the server stops; the rollout goes on when it is back")).await;
                return None;
            }
            () = out.closed() => return None,
            // A sender that has gone means that the store is closed: the deadline or the shutdown ends it.
            Ok(()) = desired.changed() => {}
            Ok(()) = reports.changed() => {}
        }
    }
}

impl End {
    /// The outcome in one word, for scripts.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Reached(Outcome::Converged) => "converged",
            Self::Reached(Outcome::Held) => "held",
            Self::Reached(Outcome::Failed) => "failed",
            Self::Reached(Outcome::Superseded) | Self::Superseded(_) => "superseded",
            Self::Reached(Outcome::Progressing) | Self::Waiting => "progressing",
        }
    }

    /// The outcome in a sentence.
    pub(crate) fn line(&self, limit: Duration) -> String {
        match self {
            Self::Reached(Outcome::Converged) => "converged".to_owned(),
            Self::Reached(Outcome::Failed) => {
                "failed: it is tried on, and may still converge; `towline status` shows where it stands".to_owned()
            }
            Self::Reached(Outcome::Held) => "held: `towline status` shows what waits and for what".to_owned(),
            Self::Reached(Outcome::Superseded) => "superseded by a newer commit".to_owned(),
            Self::Superseded(newer) => format!("superseded by {}", newer.short()),
            Self::Reached(Outcome::Progressing) | Self::Waiting => format!(
                "still rolling out after {} s; `towline status` follows it",
                limit.as_secs()
            ),
        }
    }
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
