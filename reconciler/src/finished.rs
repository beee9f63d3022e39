//! Declared objects that ended and are not kept: how they ended outlives them, so that their manifest
//! does not start them again before it changes.

use schemas::{ContentHash, Key, Object};
use serde_json::{Value, json};
use store::Store;

use crate::pods::condition;

/// What is remembered of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The content that it was made from.
    pub content: ContentHash,
    pub succeeded: bool,
    /// Why it ended as it did, for people.
    pub reason: String,
}

/// Something to remember, or, without it, to forget.
#[derive(Clone, Debug)]
pub struct Note {
    pub key: Key,
    pub finished: Option<Finished>,
}

impl Finished {
    /// How a Job ended that was made from `content`.
    #[must_use]
    pub fn of(job: &Object, content: ContentHash) -> Self {
        let failed = condition(job, "Failed").filter(|failed| failed["status"] == "True");
        let reason = match &failed {
            None => "Complete".to_owned(),
            Some(failed) => {
                let text = |field: &str| failed[field].as_str().unwrap_or_default().to_owned();
                format!("{}: {}", text("reason"), text("message"))
            }
        };
        Self {
            content,
            succeeded: failed.is_none(),
            reason,
        }
    }

    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            content: value["content"].as_str()?.parse().ok()?,
            succeeded: value["succeeded"].as_bool()?,
            reason: value["reason"].as_str()?.to_owned(),
        })
    }

    /// As it is stored.
    #[must_use]
    pub fn to_value(&self) -> Value {
        json!({"content": self.content, "succeeded": self.succeeded, "reason": self.reason})
    }
}

/// The name of the document that remembers an object.
#[must_use]
pub fn document(key: &Key) -> String {
    format!("finished/{}/{}/{}", key.kind.info().plural, key.ns(), key.name)
}

/// What is remembered of an object.
pub(crate) fn recall(store: &Store, key: &Key) -> Option<Finished> {
    Finished::read(&store.document(&document(key))?)
}

#[cfg(test)]
mod tests {
    use schemas::Kind;

    use super::*;

    #[test]
    fn it_is_remembered_how_a_job_ended() {
        let content = ContentHash::of_bytes(b"a");
        for (status, succeeded, reason) in [
            (json!([{"type": "Complete", "status": "True"}]), true, "Complete"),
            (
                json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "late"}]),
                false,
                "DeadlineExceeded: late",
            ),
        ] {
            let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "n"},
                "status": {"conditions": status}});
            let job = Object::from_value(job).expect("it is valid");
            let finished = Finished::of(&job, content);
            assert_eq!((finished.succeeded, &*finished.reason), (succeeded, reason));
            assert_eq!(Finished::read(&finished.to_value()), Some(finished));
            assert_eq!(document(&job.key()), "finished/jobs/n/j");
            assert_eq!(job.kind, Kind::Job);
        }
    }
}
