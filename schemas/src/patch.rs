//! The three patches of the API: JSON patch, merge patch and strategic merge patch. A patch that fails
//! changes nothing: each function returns the patched value or an error.

mod strategic;

use serde_json::Value;

use crate::Kind;

pub use strategic::strategic;

/// Why a patch could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    #[error("the patch is not a valid JSON patch: {0}")]
    NotAPatch(serde_json::Error),
    #[error("operation {operation} of the patch failed at {path:?}: {reason}")]
    Operation {
        operation: usize,
        path: String,
        reason: String,
    },
    #[error("the patch must be a JSON object")]
    NotAnObject,
    #[error("{path}: an item does not have the merge key {key:?}")]
    MissingMergeKey { path: String, key: &'static str },
    #[error("{path}: $patch must be replace, merge or delete, not {found}")]
    Directive { path: String, found: String },
    #[error("{path}: {directive} must be a list")]
    DirectiveList { path: String, directive: String },
    #[error("{path}: the patch sets {field:?}, which $retainKeys leaves out")]
    NotRetained { path: String, field: String },
    #[error("{path}: the patch has a list where the object has something else")]
    NotAList { path: String },
}

/// Applies a JSON patch (RFC 6902). All operations succeed, or the result is an error.
pub fn json(current: &Value, patch: &Value) -> Result<Value, PatchError> {
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(PatchError::NotAPatch)?;
    let mut patched = current.clone();
    json_patch::patch(&mut patched, &patch).map_err(|error| PatchError::Operation {
        operation: error.operation,
        path: error.path.to_string(),
        reason: error.kind.to_string(),
    })?;
    Ok(patched)
}

/// Applies a merge patch (RFC 7386): objects merge, null removes, everything else replaces.
pub fn merge(current: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::NotAnObject);
    }
    let mut patched = current.clone();
    json_patch::merge(&mut patched, patch);
    Ok(patched)
}

/// Which of the patches a request carries, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    /// Server-side apply; the body may be YAML.
    Apply,
}

impl PatchType {
    /// Reads a content type; parameters after `;` do not matter.
    #[must_use]
    pub fn from_content_type(text: &str) -> Option<Self> {
        match text.split(';').next().unwrap_or("").trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::Apply),
            _ => None,
        }
    }
}

/// Applies a patch of any type but [`PatchType::Apply`], which needs a manager.
pub fn patch(kind: Kind, current: &Value, patch: &Value, by: PatchType) -> Result<Value, PatchError> {
    match by {
        PatchType::Json => json(current, patch),
        PatchType::Merge | PatchType::Apply => merge(current, patch),
        PatchType::Strategic => strategic(current, patch, kind),
    }
}

#[cfg(test)]
mod tests;
