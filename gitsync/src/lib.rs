//! Git to desired state, status to git.
//!
//! [`GitSync`] notices that a branch moved, reads its manifests by object id, validates them, holds
//! what is broken and records a revision in the store; and it writes what the reconcilers report as
//! commits to the status branch. All of git is in this crate, and runs on blocking threads.

mod autoscaled;
mod builtin;
mod check;
mod dependencies;
mod ignore;
mod import;
mod index;
mod known_hosts;
pub mod limits;
mod look;
mod notice;
mod offline;
mod options;
mod origin;
mod parsed;
mod plan;
mod preview;
mod remote;
mod rendered;
mod restore;
mod revert;
mod revise;
mod source;
mod status;
mod tree;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::RwLock;
pub use schemas::diff::FieldChange;
use schemas::now::Clock;
use store::Store;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use builtin::{BuiltinError, Hook, ensure_builtin, tidy};
pub use check::{PushCheck, Update, Verdict};
pub use import::ImportError;
pub use offline::{OfflineError, Validated, validate};
pub use options::{Credentials, Options, Source, SourceSyntax, StatusOptions};
pub use plan::{Declaration, Plan, Updated};
pub use preview::PlanError;
pub use restore::{Entangled, RestoreError};

use parsed::Cache;
use rendered::Rendered;
use source::Place;

/// A handle to the watcher; clones share it.
#[derive(Clone)]
pub struct GitSync {
    shared: Arc<Shared>,
}

/// What is wrong now, if anything. Both end by themselves when their cause does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The source cannot be read, or not be followed.
    pub source: Option<String>,
    /// Status commits wait in the local mirror.
    pub status: Option<String>,
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// The newest commit of the branch that could be read.
    pub head: Option<schemas::Commit>,
    /// Why the source could not be read this time, if so.
    pub problem: Option<String>,
}

/// Deletions that a force-push to an unrelated history asks for: they wait for someone's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The newest commit: the one to confirm.
    pub commit: schemas::Commit,
    /// What it no longer declares, in order; there may be nothing.
    pub objects: Vec<schemas::Key>,
}

/// Why a watcher does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0} is both the branch that declares and the branch for the status; choose another with --status-branch")]
    SameBranch(String),
    #[error("{0:?} is no name of a branch")]
    BranchName(String),
    #[error("the data folder {} cannot be made: {error}", path.display())]
    DataDir {
        path: std::path::PathBuf,
        error: std::io::Error,
    },
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) place: Place,
    pub(crate) cache: Cache,
    pub(crate) rendered: RwLock<Rendered>,
    pub(crate) look: Notify,
    /// How many looks were asked for, and up to which request looks have ended.
    pub(crate) requested: AtomicU64,
    pub(crate) finished: watch::Sender<u64>,
    conditions: watch::Sender<Conditions>,
}

impl Shared {
    pub(crate) fn condition(&self, change: impl FnOnce(&mut Conditions)) {
        self.conditions.send_if_modified(|conditions| {
            let before = conditions.clone();
            change(conditions);
            *conditions != before
        });
    }
}

impl GitSync {
    /// Starts to watch a repository; it ends with `shutdown`. Call it within a Tokio runtime.
    ///
    /// # Errors
    /// Only what no waiting cures: names that cannot be, and a data folder that cannot be made. A
    /// repository that cannot be read is a condition.
    pub fn start(
        options: Options,
        store: Store,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        options.check()?;
        builtin::make_private(&options.data_dir).map_err(|error| StartError::DataDir {
            path: options.data_dir.clone(),
            error,
        })?;
        let place = Place {
            path: match &options.source {
                Source::Local(path) => path.clone(),
                Source::Remote(_) => options.data_dir.join("source.git"),
            },
            shown: options.source.to_string(),
            reference: options.reference(),
            branch: options.branch.clone(),
            folder: options.folder(),
        };
        let shared = Arc::new(Shared {
            options,
            store,
            clock,
            place,
            cache: Cache::default(),
            rendered: RwLock::default(),
            look: Notify::new(),
            requested: AtomicU64::new(0),
            finished: watch::Sender::new(0),
            conditions: watch::Sender::new(Conditions::default()),
        });
        tokio::spawn(look::run(shared.clone(), shutdown.clone()));
        tokio::spawn(status::run(shared.clone(), shutdown.clone()));
        tokio::spawn(revert::run(shared.clone(), shutdown));
        Ok(Self { shared })
    }

    /// Look again: a webhook came, a push was accepted, someone asked. Carries no data and returns at
    /// once.
    pub fn look(&self) {
        self.shared.look.notify_one();
    }

    /// Looks, waits until a look that began after this call has ended, and tells what it found.
    pub async fn look_now(&self) -> Looked {
        let ticket = self.shared.requested.fetch_add(1, Ordering::SeqCst) + 1;
        let mut finished = self.shared.finished.subscribe();
        self.shared.look.notify_one();
        // The sender lives as long as `self`, so the wait ends by a look.
        let _ = finished.wait_for(|done| *done >= ticket).await;
        Looked {
            head: self.shared.rendered.read().commit.map(source::commit_of),
            problem: self.shared.conditions.borrow().source.clone(),
        }
    }

    /// What is wrong with the source or the status branch now.
    #[must_use]
    pub fn conditions(&self) -> watch::Receiver<Conditions> {
        self.shared.conditions.subscribe()
    }

    /// What waits for a confirmation because the branch was pushed to an unrelated history; none where
    /// its history goes on. Reads the whole desired state: for a person's question, not for a loop.
    #[must_use]
    pub fn unconfirmed(&self) -> Option<Unconfirmed> {
        let desired = self.shared.store.desired();
        source::Unrelated::from_text(desired.source_error.as_deref()?)?;
        let commit = desired.commit.clone()?;
        let rendered = self.shared.rendered.read();
        if rendered.commit.map(source::commit_of).as_ref() != Some(&commit) {
            // Looking is still on its way, and what the commit declares is not known.
            return None;
        }
        let held = |key: &schemas::Key| {
            let unit = desired.units.get(&schemas::Unit::of(key));
            // Units of which something is left behind are held by the condition itself.
            unit.is_some_and(|unit| unit.held.is_some() && unit.held != desired.source_error)
        };
        let gone = |key: &&schemas::Key| rendered.index.declaration(key).is_none() && !held(key);
        let mut objects: Vec<_> = desired.rows.keys().filter(gone).cloned().collect();
        objects.sort();
        Some(Unconfirmed { commit, objects })
    }
}
