//! What every controller's plan is made of: ordered steps with reasons.
//!
//! A plan is data. It is computed from a small world without I/O, and [`crate::execute`] turns it
//! into writes without choosing anything.

use std::{fmt, sync::Arc, time::Duration};

use schemas::{Key, Object, event::EventSpec, report::Report, restore::BadContent};
use store::{Class, Mark, Op, Write, desired::Confirmation};

use crate::{autoscaler, finished};

/// What one controller wants done about one key (or one batch of keys), and why.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In order; execution stops at the first that fails.
    pub steps: Vec<Step>,
    /// Told to people once all steps succeeded.
    pub notes: Vec<EventSpec>,
    /// What is not done now, and why.
    pub waiting: Vec<(Key, Reason)>,
    /// Look again after this time although nothing changed.
    pub requeue_after: Option<Duration>,
    /// The same for single keys of a batch.
    pub revisit: Vec<(Key, Duration)>,
    /// What an autoscaler remembers, once all steps succeeded.
    pub memory: Option<autoscaler::Memory>,
}

/// One step. The writes of a step are independent of each other and go to the store in one call.
#[derive(Clone, Debug)]
pub enum Step {
    Write {
        class: Class,
        writes: Vec<Write>,
        /// Why, for logs.
        why: String,
    },
    /// Keeps a person's word that a set of deletions is meant.
    Confirm(Confirmation),
    /// Notes that these contents have been healthy.
    MarkHealthy(Vec<(Key, Mark)>),
    /// Keeps a content with which a rollout failed, and asks for its revert.
    Distrust(BadContent),
    /// Remembers how a declared object ended that is not kept, or forgets it.
    Remember(finished::Note),
    Publish(Arc<Report>),
}

/// Why something waits or stalls: a word for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub word: &'static str,
    pub message: String,
}

impl Reason {
    #[must_use]
    pub fn new(word: &'static str, message: impl Into<String>) -> Self {
        Self {
            word,
            message: message.into(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.word, self.message)
    }
}

impl Plan {
    /// Adds a step of one write.
    pub fn write(&mut self, class: Class, why: impl Into<String>, write: Write) {
        self.writes(class, why, vec![write]);
    }

    /// Adds a step of independent writes; none at all adds no step.
    pub fn writes(&mut self, class: Class, why: impl Into<String>, writes: Vec<Write>) {
        if !writes.is_empty() {
            self.steps.push(Step::Write {
                class,
                writes,
                why: why.into(),
            });
        }
    }

    /// Adds steps of 1, 2, 4, … independent writes: a fault that hits them all is met once.
    pub fn growing(&mut self, class: Class, why: &str, writes: Vec<Write>) {
        let mut writes = writes.into_iter().peekable();
        let mut size = 1;
        while writes.peek().is_some() {
            self.writes(class, why, writes.by_ref().take(size).collect());
            size *= 2;
        }
    }

    pub fn wait(&mut self, key: Key, word: &'static str, message: impl Into<String>) {
        self.waiting.push((key, Reason::new(word, message)));
    }

    /// Tells people something about an object, once all steps succeeded.
    pub fn note(&mut self, source: &str, about: &Object, reason: &str, message: impl Into<String>) {
        self.notes.push(EventSpec::about(about, false, reason, message, source));
    }

    /// The same, for what a person may have to look at.
    pub fn warn(&mut self, source: &str, about: &Object, reason: &str, message: impl Into<String>) {
        self.notes.push(EventSpec::about(about, true, reason, message, source));
    }

    /// Looks again after `delay`, or earlier if something else asked for that.
    pub fn look_again(&mut self, delay: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(delay, |earlier| earlier.min(delay)));
    }

    /// Nothing is left to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// A status write that holds only for the very object that was looked at.
#[must_use]
pub fn status_of(object: &Object, status: serde_json::Value) -> Write {
    Write::new(Op::Status {
        key: object.key(),
        status: status.into(),
    })
    .uid(object.uid())
    .version(object.version)
}

/// A replacement that holds only for the very state that was looked at.
#[must_use]
pub fn replace_of(seen: &Object, object: Object) -> Write {
    Write::new(Op::Replace(object)).uid(seen.uid()).version(seen.version)
}
