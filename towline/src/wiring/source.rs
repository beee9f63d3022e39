//! The API server's view of the git side.

use std::path::PathBuf;

use apiserver::{
    control::{Looked, Source, SourceError, Unconfirmed},
    push::{Push, Verdict},
};
use async_trait::async_trait;
use gitsync::{GitSync, PlanError, PushCheck, Update};
use schemas::{
    origin::{Origin, Question},
    restore::{Restore, Restored},
};
use serde_json::{Value, json};
use store::Store;

/// gitsync, as the API server asks it.
pub(crate) struct Git {
    pub(crate) sync: GitSync,
    pub(crate) store: Store,
    pub(crate) branch: String,
    /// The built-in repository, where it is the source.
    pub(crate) builtin: Option<PathBuf>,
}

#[async_trait]
impl Source for Git {
    fn look(&self) {
        self.sync.look();
    }

    async fn look_and_wait(&self) -> Result<Looked, SourceError> {
        self.sync.look_now().await;
        let problem = self.sync.conditions().borrow().source.clone();
        Ok(Looked {
            head: self.store.desired().commit.clone(),
            problem,
        })
    }

    fn unconfirmed(&self) -> Option<Unconfirmed> {
        let asked = self.sync.unconfirmed()?;
        Some(Unconfirmed {
            commit: asked.commit,
            objects: asked.objects,
        })
    }

    async fn plan(&self, head: &str) -> Result<Value, SourceError> {
        // An empty head is the tip of the branch that is followed.
        let head = (!head.is_empty()).then_some(head);
        let plan = self.sync.plan(head).await.map_err(|error| match error {
            PlanError::Source(reason) => SourceError::NotFound(reason),
            PlanError::Broke(reason) => SourceError::Unavailable(reason),
        })?;
        // The words for people travel with the data, so that there is one place that chooses them.
        Ok(json!({"plan": plan, "text": plan.to_string()}))
    }

    async fn origins(&self, questions: Vec<Question>) -> Result<Vec<Origin>, SourceError> {
        let origins = self.sync.origins(questions).await;
        origins.map_err(|error| SourceError::Unavailable(error.to_string()))
    }

    async fn restore(&self, asked: Restore) -> Result<Restored, SourceError> {
        self.sync.restore(asked).await.map_err(|error| {
            if error.passes() {
                SourceError::Unavailable(error.to_string())
            } else {
                SourceError::Conflict(error.to_string())
            }
        })
    }

    async fn check_push(&self, push: &Push) -> Verdict {
        let object_dirs = push
            .quarantine
            .iter()
            .flat_map(|quarantine| std::iter::once(&quarantine.object_directory).chain(&quarantine.alternates))
            .cloned()
            .collect();
        let updates = push
            .updates
            .iter()
            .map(|update| Update {
                old: update.old.clone(),
                new: update.new.clone(),
                refname: update.reference.clone(),
            })
            .collect();
        let verdict = self.sync.check_push(PushCheck { object_dirs, updates }).await;
        Verdict {
            accepted: verdict.accepted,
            lines: verdict.lines,
        }
    }

    fn repository(&self) -> Option<PathBuf> {
        self.builtin.clone()
    }

    fn branch(&self) -> &str {
        &self.branch
    }
}
