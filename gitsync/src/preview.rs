//! Looking at a commit beside the newest one: for a plan, and for the check of a push.

use git2::{Oid, Repository};
use rustc_hash::FxHashSet;
use store::Desired;
use tokio::task;

use crate::{
    GitSync, Plan, Shared,
    rendered::{Against, Rendered},
    revise::{Book, Revised},
    source::{SourceError, commit_of},
};

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The head names no commit, or the source cannot be read.
    #[error("{0}")]
    Source(String),
    #[error("the plan broke off: {0}")]
    Broke(String),
}

impl From<SourceError> for PlanError {
    fn from(error: SourceError) -> Self {
        Self::Source(error.to_string())
    }
}

impl GitSync {
    /// What `head` (a branch, a reference or a commit; none: the tip of the followed branch) would
    /// change.
    ///
    /// # Errors
    /// When the head names no commit or the source cannot be read.
    pub async fn plan(&self, head: Option<&str>) -> Result<Plan, PlanError> {
        let shared = self.shared.clone();
        let head = head.map(str::to_owned);
        match task::spawn_blocking(move || plan(&shared, head.as_deref())).await {
            Ok(planned) => Ok(planned?),
            Err(error) => Err(PlanError::Broke(error.to_string())),
        }
    }
}

fn plan(shared: &Shared, head: Option<&str>) -> Result<Plan, SourceError> {
    let repo = shared.place.open()?;
    let commit = match head {
        Some(head) => shared.place.resolve(&repo, head)?,
        None => shared.place.tip(&repo)?,
    };
    let mut rendered = shared.rendered.read().clone();
    let desired = shared.store.desired();
    let revised = revise_at(shared, &repo, &mut rendered, commit, &desired)?;
    Ok(Plan::between(commit_of(commit), &desired, revised))
}

/// The revision that a commit asks for. `rendered` is a copy of the newest state, and moves on to the
/// commit.
pub(crate) fn revise_at(
    shared: &Shared,
    repo: &Repository,
    rendered: &mut Rendered,
    commit: Oid,
    desired: &Desired,
) -> Result<Revised, SourceError> {
    let mut touched = rendered.turn_to(&shared.place, repo, &shared.cache, commit)?;
    if rendered.book.revision != desired.revision || desired.revision == 0 {
        rendered.book = Book::read(desired, &rendered.index);
        touched = FxHashSet::default();
    }
    let info = shared.place.info(repo, commit)?;
    let against = Against {
        desired,
        confirmed: &[],
        at: shared.clock.now().wall,
    };
    rendered.revise(&shared.place, repo, &info, &touched, &against)
}
