//! What is durable beside objects: desired state, marks, confirmations, secrets, deliveries.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use rustc_hash::FxHashMap;
use schemas::{ContentHash, Key};
use serde_json::Value;

use crate::{
    desired::{Confirmation, Desired, Mark, Revision, RevisionWrite},
    write::AuditLine,
};

/// One durable write that is not of an object. Each may be repeated without harm.
#[derive(Clone)]
pub enum Note {
    Revision {
        write: Arc<RevisionWrite>,
        /// Its rows and bodies were staged; the revision's own line makes them count.
        staged: bool,
    },
    /// The newest content that was healthy. `number` orders the marks of an object.
    Healthy {
        key: Key,
        mark: Mark,
        number: u64,
    },
    /// A mark that no one needs any more.
    Unmarked {
        key: Key,
        content: ContentHash,
    },
    Confirmation(Confirmation),
    Secret {
        name: String,
        value: Vec<u8>,
    },
    Delivery {
        source: String,
        id: String,
        at: Timestamp,
    },
    Audit(AuditLine),
    /// None removes the document.
    Document {
        name: String,
        value: Option<Value>,
    },
}

/// The notes in memory. Revisions before the newest and the audit stay in the log.
#[derive(Clone, Default)]
pub struct Notes {
    pub desired: Arc<Desired>,
    pub healthy: FxHashMap<Key, Marks>,
    pub confirmations: Vec<Confirmation>,
    pub secrets: BTreeMap<String, Vec<u8>>,
    pub deliveries: FxHashMap<(String, String), Timestamp>,
    pub documents: BTreeMap<String, Value>,
}

impl Notes {
    /// Takes a note that was committed.
    pub fn apply(&mut self, note: &Note) {
        match note {
            Note::Revision { write, .. } => {
                self.desired = Arc::new(self.desired.with(write));
                // An object that is not declared any more begins anew if it comes back.
                for key in &write.drop {
                    self.healthy.remove(key);
                }
            }
            Note::Healthy { key, mark, number } => self.healthy.entry(key.clone()).or_default().put(*number, mark),
            Note::Unmarked { key, content } => {
                if let Some(marks) = self.healthy.get_mut(key) {
                    marks.remove(*content);
                }
            }
            Note::Confirmation(confirmation) => {
                if !self.confirmations.contains(confirmation) {
                    self.confirmations.push(confirmation.clone());
                }
            }
            Note::Secret { name, value } => {
                self.secrets.insert(name.clone(), value.clone());
            }
            Note::Delivery { source, id, at } => {
                self.deliveries.insert((source.clone(), id.clone()), *at);
            }
            Note::Audit(_) => {}
            Note::Document { name, value } => match value {
                Some(value) => {
                    self.documents.insert(name.clone(), value.clone());
                }
                None => {
                    self.documents.remove(name);
                }
            },
        }
    }

    pub(crate) fn was_healthy(&self, key: &Key, content: ContentHash) -> bool {
        self.healthy.get(key).is_some_and(|marks| marks.contains(content))
    }

    pub(crate) fn last_healthy(&self, key: &Key) -> Option<&Mark> {
        self.healthy.get(key)?.0.last().map(|(_, mark)| mark)
    }

    /// What it takes to note a content as the newest that was healthy, after what the batch has so far.
    pub(crate) fn marking(&self, batch: &[Note], key: Key, mark: Mark) -> Vec<Note> {
        let mut marks = self.healthy.get(&key).cloned().unwrap_or_default();
        for note in batch {
            match note {
                Note::Healthy {
                    key: other,
                    mark,
                    number,
                } if *other == key => marks.put(*number, mark),
                Note::Unmarked { key: other, content } if *other == key => marks.remove(*content),
                Note::Revision { write, .. } if write.drop.contains(&key) => marks = Marks::default(),
                _ => {}
            }
        }
        let newest = marks.0.last();
        if newest.is_some_and(|(_, newest)| newest.content == mark.content) {
            return Vec::new();
        }
        let number = newest.map_or(1, |(number, _)| number + 1);
        marks.put(number, &mark);
        let beyond = marks.0.len().saturating_sub(MARKS);
        let old = marks.0.iter().take(beyond).map(|(_, old)| Note::Unmarked {
            key: key.clone(),
            content: old.content,
        });
        let mut notes: Vec<Note> = old.collect();
        notes.push(Note::Healthy { key, mark, number });
        notes
    }
}

/// So many contents of an object are remembered as once healthy: what gates and a return to the last
/// good one need, and a few to go back further.
const MARKS: usize = 10;

/// The contents of one object that were healthy, the newest last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Marks(Vec<(u64, Mark)>);

impl Marks {
    pub(crate) fn put(&mut self, number: u64, mark: &Mark) {
        self.remove(mark.content);
        let at = self.0.partition_point(|(other, _)| *other < number);
        self.0.insert(at, (number, mark.clone()));
    }

    fn remove(&mut self, content: ContentHash) {
        self.0.retain(|(_, mark)| mark.content != content);
    }

    fn contains(&self, content: ContentHash) -> bool {
        self.0.iter().any(|(_, mark)| mark.content == content)
    }

    /// The newest last.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Mark> {
        self.0.iter().map(|(_, mark)| mark)
    }
}

impl Desired {
    /// The desired state that a revision makes of this one.
    #[must_use]
    pub fn with(&self, write: &RevisionWrite) -> Self {
        let mut rows = self.rows.clone();
        for key in &write.drop {
            rows.remove(key);
        }
        for row in &write.put {
            rows.insert(row.key.clone(), Arc::new(row.clone()));
        }
        Self {
            revision: self.revision + 1,
            commit: Some(write.commit.clone()),
            units: write.units.clone(),
            rows,
            problems: write.problems.clone(),
            confirm_trailer: write.confirm_trailer.clone(),
            source_error: write.source_error.clone(),
        }
    }
}

impl RevisionWrite {
    /// The line of the history that this revision becomes.
    #[must_use]
    pub fn line(&self) -> Revision {
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        Revision {
            number: self.base + 1,
            commit: self.commit.clone(),
            author: self.author.clone(),
            subject: self.subject.clone(),
            at: self.at,
            units: self.units.clone(),
            changed: count(self.put.len()),
            dropped: count(self.drop.len()),
        }
    }
}
