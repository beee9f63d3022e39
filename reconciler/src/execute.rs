//! Turns a plan into store writes. It chooses nothing and stops at the first failed step.

use schemas::Key;
use store::{Op, Store, Unavailable, Write, WriteError};

use crate::{
    finished,
    plan::{Plan, Step},
};

/// What a plan that went through has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The highest version written; 0 if nothing was.
    pub version: u64,
    pub writes: usize,
}

/// The step that failed. What was written before it stays; the next look plans from there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}: {error}")]
pub struct Failure {
    pub why: String,
    /// The objects whose writes failed, where it was writes.
    pub failed: Vec<Key>,
    /// The first error.
    pub error: WriteError,
}

/// How to retry a failed plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The world moved on between looking and writing: look again at once.
    Moved,
    /// The store is away: back off.
    Transient,
    /// The write itself was refused: someone must change something.
    Stalled,
}

impl Failure {
    #[must_use]
    pub fn retry(&self) -> Retry {
        match &self.error {
            WriteError::AlreadyExists(_) | WriteError::NotFound(_) | WriteError::Conflict { .. } => Retry::Moved,
            WriteError::Unavailable(_) => Retry::Transient,
            WriteError::Invalid { .. } | WriteError::Forbidden { .. } => Retry::Stalled,
        }
    }
}

/// Carries a plan out. Doing it twice does no harm: every write names the state that it was planned
/// from, so a second one is a conflict and leads to a new look.
pub async fn execute(store: &Store, plan: &mut Plan) -> Result<Done, Failure> {
    let mut done = Done::default();
    for step in std::mem::take(&mut plan.steps) {
        match step {
            Step::Write { class, writes, why } => {
                let keys: Vec<Key> = writes.iter().map(key_of).collect();
                let mut failure: Option<Failure> = None;
                for (key, answer) in keys.into_iter().zip(store.write(class, writes).await) {
                    match answer {
                        Ok(object) => {
                            done.version = done.version.max(object.version);
                            done.writes += 1;
                        }
                        Err(error) => {
                            let failure = failure.get_or_insert_with(|| Failure {
                                why: why.clone(),
                                failed: Vec::new(),
                                error,
                            });
                            failure.failed.push(key);
                        }
                    }
                }
                if let Some(failure) = failure {
                    return Err(failure);
                }
            }
            Step::Confirm(confirmation) => {
                let answer = store.confirm_deletes(confirmation).await;
                answer.map_err(|error| away("keeping a confirmation of deletions", error))?;
            }
            Step::MarkHealthy(contents) => {
                let answer = store.mark_healthy(contents).await;
                answer.map_err(|error| away("noting healthy contents", error))?;
            }
            Step::Distrust(bad) => {
                let document = bad.document();
                // What was decided first stays.
                if store.document(&document).is_none() {
                    let answer = store.put_document(&document, serde_json::to_value(&bad).ok()).await;
                    answer.map_err(|error| away("keeping a failed content", error))?;
                }
            }
            Step::Remember(note) => {
                let value = note.finished.map(|finished| finished.to_value());
                let answer = store.put_document(&finished::document(&note.key), value).await;
                answer.map_err(|error| away("remembering how an object ended", error))?;
            }
            Step::Publish(report) => store.publish_report(report),
        }
    }
    Ok(done)
}

fn away(why: &str, error: Unavailable) -> Failure {
    Failure {
        why: why.to_owned(),
        failed: Vec::new(),
        error: error.into(),
    }
}

fn key_of(write: &Write) -> Key {
    match &write.op {
        Op::Create(object) | Op::Replace(object) => object.key(),
        Op::Status { key, .. } | Op::Bind { key, .. } | Op::Remove { key } => key.clone(),
    }
}
