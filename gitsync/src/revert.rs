//! Reverting contents with which rollouts failed.
//!
//! The reconcilers decide, and keep the decision; here it becomes a commit. Killed in between, the next
//! server finds the decision, and the commit by its trailers where it was made.

use std::{sync::Arc, time::Duration};

use schemas::restore::{BAD_CONTENTS, BadContent, Restore, Restored, Reverted, Target, Why};
use store::Mark;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span, warn};

use crate::{
    Shared,
    restore::{self, RestoreError},
};

/// How long after a try that failed to try again, at first and at most.
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(60);

pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let span = info_span!("revert", branch = %shared.place.branch);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow(shared).instrument(span) => {}
    }
}

async fn follow(shared: Arc<Shared>) {
    let mut documents = shared.store.document_changes();
    let mut revisions = shared.store.desired_changes();
    let mut pause = FIRST;
    loop {
        documents.mark_unchanged();
        revisions.mark_unchanged();
        let done = look(&shared).await;
        pause = if done { FIRST } else { (pause * 2).min(LAST) };
        tokio::select! {
            changed = documents.changed() => if changed.is_err() { return },
            changed = revisions.changed() => if changed.is_err() { return },
            () = time::sleep(pause), if !done => {}
        }
    }
}

/// Looks at everything that is kept; false when something is to be tried again.
async fn look(shared: &Arc<Shared>) -> bool {
    let mut done = true;
    for (name, value) in shared.store.documents(BAD_CONTENTS) {
        let name = format!("{BAD_CONTENTS}{name}");
        let Ok(mut bad) = serde_json::from_value::<BadContent>(value) else {
            warn!(name, "a failed content that is kept cannot be read");
            continue;
        };
        let desired = shared.store.desired();
        if desired.revision > 0 && !desired.rows.contains_key(&bad.key) {
            // An object that is not declared any more begins anew if it comes back.
            done &= shared.store.put_document(&name, None).await.is_ok();
            continue;
        }
        if bad.reverted != Reverted::Pending {
            continue;
        }
        let Some(reverted) = revert(shared, &bad).await else {
            done = false;
            continue;
        };
        info!(
            kind = %bad.key.kind, namespace = bad.key.ns(), name = %bad.key.name,
            "a failed content{}", BadContent { reverted: reverted.clone(), ..bad.clone() }.outcome()
        );
        bad.reverted = reverted;
        let value = serde_json::to_value(&bad).ok();
        done &= value.is_some() && shared.store.put_document(&name, value).await.is_ok();
    }
    done
}

/// Reverts one content; none where it is to be tried again.
async fn revert(shared: &Arc<Shared>, bad: &BadContent) -> Option<Reverted> {
    let Some(mark) = good(&shared.store.healthy(&bad.key), bad) else {
        return Some(Reverted::Not(
            "no content that was healthy is known any more".to_owned(),
        ));
    };
    let asked = Restore {
        key: bad.key.clone(),
        file: bad.file.clone(),
        to: Target::Content {
            commit: mark.commit,
            file: mark.file.to_string(),
            hash: mark.content,
        },
        why: Why::Failed {
            content: bad.content,
            reason: bad.reason.clone(),
        },
    };
    outcome(restore::restore(shared, asked).await)
}

fn outcome(restored: Result<Restored, RestoreError>) -> Option<Reverted> {
    match restored {
        Ok(restored) => Some(Reverted::By(restored)),
        Err(error) if error.passes() => {
            warn!(%error, "a failed content is not reverted yet; it is tried again");
            None
        }
        Err(error) => Some(Reverted::Not(error.to_string())),
    }
}

/// The newest other content that was healthy.
fn good(healthy: &[Mark], bad: &BadContent) -> Option<Mark> {
    let mut known = healthy.iter();
    known
        .find(|mark| mark.content != bad.content && !mark.commit.0.is_empty())
        .cloned()
}
