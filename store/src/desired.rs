//! Revisions and desired rows: what git declares, as of one commit.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use schemas::{Commit, ContentHash, Key, Unit, report::Problem, shared::SharedMap};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One declared object at the newest revision.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredRow {
    pub unit: Unit,
    pub key: Key,
    /// The hash of `content`.
    pub hash: ContentHash,
    /// The manifest as validated: apiVersion, kind, metadata (namespace filled in) and the rest, with
    /// server-set fields dropped and no defaults added.
    pub content: Arc<Value>,
    pub file: Arc<str>,
    /// The line of the document in its file, from 1.
    pub line: u32,
    /// The commit at which this content was first seen by a sync.
    pub commit: Commit,
}

/// Where one unit is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitAt {
    /// The commit that the unit's rows are from.
    pub commit: Commit,
    /// Why the unit does not move on with the newest commit, if it does not.
    pub held: Option<String>,
    /// False: a part of the source could not be read, so nothing of this unit may be deleted.
    pub may_delete: bool,
}

/// The newest desired state, whole and immutable.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// 0: nothing was ever recorded.
    pub revision: u64,
    pub commit: Option<Commit>,
    pub units: BTreeMap<Unit, UnitAt>,
    pub rows: SharedMap<Key, Arc<DesiredRow>>,
    pub problems: Vec<Problem>,
    /// Digests or the word `all`, from the trailer `Confirm-Deletes` of the newest commit.
    pub confirm_trailer: Option<String>,
    /// Set when the source itself cannot be read: nothing is deleted then.
    pub source_error: Option<String>,
}

/// A new revision, as the difference from the one before.
#[derive(Clone, Debug)]
pub struct RevisionWrite {
    /// The revision that this one was computed against; another one in between is refused.
    pub base: u64,
    pub commit: Commit,
    pub author: String,
    pub subject: String,
    pub at: Timestamp,
    pub units: BTreeMap<Unit, UnitAt>,
    /// Rows that are new or changed in any field.
    pub put: Vec<DesiredRow>,
    /// Rows that are no longer declared.
    pub drop: Vec<Key>,
    pub problems: Vec<Problem>,
    pub confirm_trailer: Option<String>,
    pub source_error: Option<String>,
}

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    pub number: u64,
    pub commit: Commit,
    pub author: String,
    pub subject: String,
    pub at: Timestamp,
    pub units: BTreeMap<Unit, UnitAt>,
    pub changed: u32,
    pub dropped: u32,
}

/// A content that was healthy once, and a commit that declares it: there its document can be read as
/// its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub content: ContentHash,
    pub commit: Commit,
    pub file: Arc<str>,
    /// The line of the document in its file, from 1.
    pub line: u32,
}

/// A person's word that a set of deletions is meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confirmation {
    pub commit: Commit,
    pub keys: Vec<Key>,
    pub who: String,
    pub at: Timestamp,
}
