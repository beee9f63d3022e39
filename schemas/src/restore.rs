//! Restoring an object's document to an earlier content: what is asked for, and what came of it.

use serde::{Deserialize, Serialize};

use crate::{Commit, ContentHash, Key};

/// What shall be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    pub key: Key,
    /// The file that declares it now.
    pub file: String,
    pub to: Target,
    pub why: Why,
}

/// Where the content to restore is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// In this file of a commit, with this content.
    Content {
        commit: Commit,
        file: String,
        hash: ContentHash,
    },
    /// Whatever a commit (or branch, or tag) has, in one of these files.
    Revision { text: String, files: Vec<String> },
}

/// Who or what wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A person asked.
    Asked { by: String },
    /// This content failed. It is left alone once something newer took its place, and reverted once at
    /// most.
    Failed { content: ContentHash, reason: String },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    pub commit: Commit,
    /// The branch that the commit is on.
    pub branch: String,
    /// Why it is not on the branch that declares, if so.
    pub refused: Option<String>,
    /// The commit that the content is from.
    pub from: Commit,
    pub file: String,
}
