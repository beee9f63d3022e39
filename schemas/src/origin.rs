//! Where the fields of a manifest come from: the commit that wrote each, and its line.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Commit, Key, diff::FieldChange};

/// A commit as people know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    pub commit: Commit,
    /// `Name <address>`.
    pub author: String,
    /// The first line of its message.
    pub subject: String,
    /// When it was written, by its author's clock.
    pub at: Timestamp,
}

/// What is asked about one declaration.
#[derive(Clone, Debug)]
pub struct Question {
    pub key: Key,
    pub file: Arc<str>,
    /// The commit with which the content was first seen.
    pub commit: Commit,
    /// The one that the content before came with; none for the first content.
    pub since: Option<Commit>,
    /// What changed in between.
    pub fields: Vec<FieldChange>,
}

/// What git knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Origin {
    /// The newest commit that wrote this declaration; none where the repository has it no longer.
    pub by: Option<Author>,
    /// For each field that was asked about, in order.
    pub fields: Vec<FieldOrigin>,
}

/// Where one field comes from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FieldOrigin {
    pub by: Option<Author>,
    /// The line of the field, or of what it was taken out of, from 1.
    pub line: Option<u32>,
}
