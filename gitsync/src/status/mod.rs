//! Status as commits: the reports of the reconcilers, written to a branch that mirrors the manifests.

mod desk;
mod folder;
mod render;
mod transfer;

use std::{sync::Arc, time::Duration};

use tokio::{task, time};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span, warn};

use crate::{Shared, builtin, options::Source};
use desk::{Desk, Published};

pub(crate) use desk::signature;

/// A report waits this long for what comes right after it, so that a quick rollout is one commit.
const GATHER: Duration = Duration::from_millis(250);

/// So many commits come between two looks at whether to repack.
const REPACK: u32 = 500;

/// How soon to look again while what is to be told is not settled.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long after a refusal to try again.
const RETRY: Duration = Duration::from_secs(5);

pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let span = info_span!("status", branch = %shared.options.status.branch);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = publish(shared).instrument(span) => {}
    }
}

async fn publish(shared: Arc<Shared>) {
    let target = shared.options.status.repo.as_ref().unwrap_or(&shared.options.source);
    let pace = shared.options.status.pace.unwrap_or(match target {
        Source::Local(_) => Duration::from_secs(2),
        Source::Remote(_) => Duration::from_secs(30),
    });
    let mut reports = shared.store.reports();
    // A report from before this task began is news too.
    reports.mark_changed();
    let mut desk = Some(Desk::new(&shared, target.clone()));
    let mut again = None;
    let mut commits: u32 = 0;
    loop {
        // Wait for a report that was not seen yet, or for the time to try a refused push again.
        tokio::select! {
            changed = reports.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = sleep(again) => {}
        }
        time::sleep(GATHER.min(pace)).await;
        let Some(report) = reports.borrow_and_update().clone() else {
            continue;
        };
        let (desired, now) = (shared.store.desired(), shared.clock.now());
        // A commit is the leader's alone, and tells of one revision alone: the report of the newest one is
        // on its way.
        if !shared.store.is_writable() || report.revision != desired.revision {
            again = Some(LOOK_AGAIN);
            continue;
        }
        let Some(mut own) = desk.take() else { return };
        let done = task::spawn_blocking(move || {
            let outcome = own.publish(&report, &desired, now.wall);
            (own, outcome)
        });
        let outcome = match done.await {
            Ok((own, outcome)) => {
                desk = Some(own);
                outcome.map_err(|error| error.to_string())
            }
            Err(error) => {
                desk = Some(Desk::new(&shared, target.clone()));
                Err(error.to_string())
            }
        };
        match outcome {
            Ok(published) => {
                again = None;
                shared.condition(|conditions| conditions.status = None);
                if let Published::Commit(id) = published {
                    info!(commit = %id, "committed the status");
                    commits += 1;
                    if commits.is_multiple_of(REPACK) {
                        repack(&shared).await;
                    }
                    time::sleep(pace).await;
                }
            }
            Err(error) => {
                warn!(%error, "the status waits in the local mirror");
                shared.condition(|conditions| conditions.status = Some(error));
                again = Some(pace.max(RETRY));
            }
        }
    }
}

/// Asks git to repack Towline's own repository, where status commits are most of what is written.
async fn repack(shared: &Shared) {
    if !shared.options.repack {
        return;
    }
    let dir = shared.place.path.clone();
    match task::spawn_blocking(move || builtin::tidy(&dir)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "the repository was not repacked"),
        Err(error) => warn!(%error, "the repository was not repacked"),
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
