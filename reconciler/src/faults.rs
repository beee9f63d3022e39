//! Faults of the reconcilers' own: a plan that panics backs off and is told, and others go on.

use std::{any::Any, collections::BTreeMap};

use schemas::{Key, Object, event::EventSpec};
use store::View;

use crate::{plan::Reason, queue::Work};

/// The word of the reason that the report and the event give.
pub(crate) const WORD: &str = "ControllerFault";
/// A chain of owners is no longer than this: a pod of a set of a Deployment, a pod of a Job of a CronJob.
const OWNERS: usize = 4;

/// Work whose last plan panicked.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// For each object that the report tells of it.
    told: BTreeMap<Key, BTreeMap<Work, String>>,
    works: BTreeMap<Work, Key>,
}

impl Faults {
    /// `told` is the declared object that the work is for.
    pub(crate) fn add(&mut self, work: Work, told: Key, message: String) {
        self.remove(&work);
        self.told.entry(told.clone()).or_default().insert(work.clone(), message);
        self.works.insert(work, told);
    }

    /// The work went through; the object that is to be told of anew.
    pub(crate) fn remove(&mut self, work: &Work) -> Option<Key> {
        if self.works.is_empty() {
            return None;
        }
        let told = self.works.remove(work)?;
        if let Some(works) = self.told.get_mut(&told) {
            works.remove(work);
            if works.is_empty() {
                self.told.remove(&told);
            }
        }
        Some(told)
    }

    pub(crate) fn reason(&self, told: &Key) -> Option<Reason> {
        let (work, message) = self.told.get(told)?.first_key_value()?;
        let about = if work.key == *told {
            String::new()
        } else {
            format!(" for {}", work.key)
        };
        Some(Reason::new(
            WORD,
            format!("the {}{about} {message}", work.controller.name()),
        ))
    }
}

/// What a panic said.
#[must_use]
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .map(|said| (*said).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "met a fault of its own ({}); it tries again, ever more seldom, and goes on with everything else",
        said.as_deref().unwrap_or("a panic without words")
    )
}

/// The event that tells of it.
#[must_use]
pub(crate) fn event(object: &Object, work: &Work, message: &str) -> EventSpec {
    let source = work.controller.name();
    EventSpec::about(object, true, WORD, format!("the {source} {message}"), source)
}

/// The declared object that a key is about: itself, or the one that controls it.
#[must_use]
pub(crate) fn declared_root(view: &View<'_>, declared: impl Fn(&Key) -> bool, key: &Key) -> Key {
    let mut at = key.clone();
    for _ in 0..OWNERS {
        if declared(&at) {
            return at;
        }
        let owner = view
            .get(&at)
            .and_then(|object| object.controller())
            .and_then(|owner| view.by_uid(&owner.uid.as_str().into()));
        match owner {
            Some(owner) => at = owner.key(),
            None => break,
        }
    }
    key.clone()
}
