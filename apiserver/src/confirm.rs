//! A person's word that deletions are meant: those over the budget, or those of an unrelated history.

use std::collections::BTreeSet;

use http::StatusCode;
use schemas::{Key, Kind, kind::KINDS};
use store::desired::Confirmation;

use crate::{
    control::{Front, Unconfirmed},
    identity::Identity,
    status::ApiError,
};

/// Git shows at least as many digits of a commit.
const SHORTEST: usize = 7;

/// Confirms the deletions that wait, if they are those of `commit`, and says what was confirmed.
///
/// # Errors
/// 409 where nothing waits, or what waits is another commit's.
pub(crate) async fn deletions(front: &Front, identity: &Identity, commit: &str) -> Result<String, ApiError> {
    let waiting = match over_the_budget(front) {
        Some(waiting) => waiting,
        None => {
            // The answer is about the branch as it is now.
            front.source.look_and_wait().await?;
            match front.source.unconfirmed() {
                Some(lost) => Unconfirmed {
                    objects: with_contents(front, lost.objects),
                    ..lost
                },
                None => {
                    over_the_budget(front).ok_or_else(|| conflict("no deletions wait for a confirmation".to_owned()))?
                }
            }
        }
    };
    // A person may type the first digits.
    if commit.len() < SHORTEST || !waiting.commit.0.starts_with(commit) {
        return Err(conflict(format!(
            "the deletions that wait are those of commit {}, not of {commit}: look at `towline status` and confirm that one",
            waiting.commit
        )));
    }
    let objects = waiting.objects.len();
    let said = format!(
        "{objects} {} of {} confirmed",
        if objects == 1 { "deletion" } else { "deletions" },
        waiting.commit.short()
    );
    let confirmation = Confirmation {
        keys: waiting.objects,
        commit: waiting.commit,
        who: identity.user.clone(),
        at: front.clock.now().wall,
    };
    let detail = format!("{} objects of {}", confirmation.keys.len(), confirmation.commit);
    front.store.confirm_deletes(confirmation).await?;
    front.audit(identity, "confirm", "deletions", detail).await;
    Ok(said)
}

/// Lets the objects of the newest commit go on without waiting for earlier waves or for what they
/// depend on. It counts for that commit alone.
///
/// # Errors
/// 409 where `commit` is not the newest that was recorded.
pub(crate) async fn gates(front: &Front, identity: &Identity, commit: &str) -> Result<(), ApiError> {
    front.source.look_and_wait().await?;
    let newest = front.store.desired().commit.clone();
    let Some(newest) = newest.filter(|newest| commit.len() >= SHORTEST && newest.0.starts_with(commit)) else {
        return Err(conflict(format!(
            "{commit} is not the newest commit that was recorded; `towline status` shows that one"
        )));
    };
    front
        .store
        .put_document(store::SKIP_GATES, Some(newest.0.as_ref().into()))
        .await?;
    front.audit(identity, "skip", "gates", newest.to_string()).await;
    Ok(())
}

fn over_the_budget(front: &Front) -> Option<Unconfirmed> {
    let report = front.store.reports().borrow().clone()?;
    let held = report.held_deletions.as_ref()?;
    Some(Unconfirmed {
        commit: held.commit.clone(),
        objects: held.objects.clone(),
    })
}

/// The objects, and what goes with the Namespaces among them, as the deletion budget counts it.
fn with_contents(front: &Front, objects: Vec<Key>) -> Vec<Key> {
    let mut all: BTreeSet<Key> = objects.into_iter().collect();
    let spaces: Vec<Key> = all.iter().filter(|key| key.kind == Kind::Namespace).cloned().collect();
    for space in spaces {
        for info in KINDS.iter().filter(|info| info.namespaced) {
            let inside = front.store.list(info.kind, Some(&space.name)).items;
            all.extend(inside.iter().map(|object| object.key()));
        }
    }
    all.into_iter().collect()
}

fn conflict(message: String) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "Conflict", message)
}
