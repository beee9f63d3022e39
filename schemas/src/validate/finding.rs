//! What validation finds.

use std::fmt;

use super::path::{At, FieldPath};
use crate::report::Severity;

/// What kind of fault a finding is. The API server writes it as the `reason` of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A field is missing.
    Required,
    /// A value is not allowed.
    Invalid,
    /// A value has the wrong type.
    Type,
    /// A value is not one of those that the field takes.
    NotSupported,
    /// A value that must be unique stands twice.
    Duplicate,
    /// The field may not stand here, or may not change.
    Forbidden,
    /// A reference leads to nothing.
    NotFound,
    /// There is no such field.
    Unknown,
    /// The field is valid, and Towline does not act on it.
    NotActedOn,
}

impl Fault {
    /// The cause's `reason` of a Kubernetes `Status`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid | Self::Unknown => "FieldValueInvalid",
            Self::Type => "FieldValueTypeInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden | Self::NotActedOn => "FieldValueForbidden",
            Self::NotFound => "FieldValueNotFound",
        }
    }
}

/// One finding on an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub severity: Severity,
    pub fault: Fault,
    /// Empty for the object as a whole.
    pub path: FieldPath,
    /// What is wrong and what to do; without the path.
    pub message: String,
}

impl Finding {
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.segments().is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Findings as they are collected.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) found: Vec<Finding>,
    /// Fields that misspelt ones were meant to be: that they are missing needs no telling.
    pub(super) meant: Vec<FieldPath>,
}

impl Findings {
    pub(crate) fn error(&mut self, fault: Fault, path: FieldPath, message: impl Into<String>) {
        self.found.push(Finding {
            severity: Severity::Error,
            fault,
            path,
            message: message.into(),
        });
    }

    pub(crate) fn warn(&mut self, fault: Fault, path: FieldPath, message: impl Into<String>) {
        self.found.push(Finding {
            severity: Severity::Warning,
            fault,
            path,
            message: message.into(),
        });
    }

    pub(crate) fn invalid(&mut self, at: &At<'_, '_>, message: impl fmt::Display) {
        self.error(Fault::Invalid, at.path(), format!("{} {message}", at.shown()));
    }

    pub(crate) fn required(&mut self, at: &At<'_, '_>, key: &str, message: &str) {
        self.error(Fault::Required, at.path_to(key), message);
    }

    pub(crate) fn forbidden(&mut self, at: &At<'_, '_>, message: &str) {
        self.error(Fault::Forbidden, at.path(), message);
    }

    /// The text must be one of `values`.
    pub(crate) fn one_of(&mut self, field: &At<'_, '_>, values: &[&str]) {
        let Some(text) = field.value.as_str() else { return };
        if values.contains(&text) {
            return;
        }
        let near = values.iter().find(|value| value.eq_ignore_ascii_case(text));
        let message = match near {
            Some(near) if !field.is_hidden() => {
                format!("{} is not one of its values: did you mean {near}?", field.shown())
            }
            _ => {
                let shown: Vec<&str> = values.iter().copied().filter(|value| !value.is_empty()).collect();
                format!("{} is not one of its values: {}", field.shown(), shown.join(", "))
            }
        };
        self.error(Fault::NotSupported, field.path(), message);
    }

    /// The number at `key`, if there is one, must lie in the range.
    pub(crate) fn in_range(&mut self, at: &At<'_, '_>, key: &str, range: std::ops::RangeInclusive<i64>) {
        let Some(field) = at.get(key) else { return };
        let Some(number) = field.value.as_i64() else { return };
        if range.contains(&number) {
            return;
        }
        let wanted = match (*range.start(), *range.end()) {
            (start, i64::MAX) => format!("must be {start} or more"),
            (start, end) => format!("must be from {start} to {end}"),
        };
        self.invalid(&field, wanted);
    }
}
