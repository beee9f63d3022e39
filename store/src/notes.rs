//! What is durable beside objects: desired state, marks, confirmations, secrets, deliveries.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use rustc_hash::{FxHashMap, FxHashSet};
use schemas::{ContentHash, Key};
use serde_json::Value;

use crate::{
    desired::{Confirmation, Desired, Revision, RevisionWrite},
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
    Healthy {
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
    pub healthy: FxHashMap<Key, FxHashSet<ContentHash>>,
    pub confirmations: Vec<Confirmation>,
    pub secrets: BTreeMap<String, Vec<u8>>,
    pub deliveries: FxHashMap<(String, String), Timestamp>,
    pub documents: BTreeMap<String, Value>,
}

impl Notes {
    /// Takes a note that was committed.
    pub fn apply(&mut self, note: &Note) {
        match note {
            Note::Revision { write, .. } => self.desired = Arc::new(self.desired.with(write)),
            Note::Healthy { key, content } => {
                self.healthy.entry(key.clone()).or_default().insert(*content);
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
        self.healthy
            .get(key)
            .is_some_and(|contents| contents.contains(&content))
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
