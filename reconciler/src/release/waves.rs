//! Waves: objects of a later wave wait until those of earlier waves have been healthy once.

use std::fmt;

use schemas::{Key, labels};
use serde_json::Value;

/// What later waves wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// This wave and earlier ones go on.
    pub wave: i64,
    /// An object whose current content has never yet been healthy.
    pub waits_for: Key,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "waits for {} of wave {}, which has not been healthy yet",
            self.waits_for, self.wave
        )
    }
}

/// The wave that a manifest is in: 0 unless its annotation says otherwise.
#[must_use]
pub fn wave(content: &Value) -> i64 {
    let annotation = &content["metadata"]["annotations"][labels::WAVE];
    annotation
        .as_str()
        .and_then(|wave| wave.trim().parse().ok())
        .unwrap_or(0)
}
