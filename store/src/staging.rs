//! Revisions that are too large for one transaction: their bodies and rows are written ahead in parts,
//! seen by nobody until the transaction that records the revision, which is then small.
//!
//! What dies in the middle leaves rows of a revision that never came; they go before the next one.

use std::{ops::Range, sync::Arc};

use schemas::Key;
use serde_json::Value;

use crate::{Class, RevisionWrite, Store, Unavailable, queue::Job};

/// A revision of no more rows than this is one transaction.
const WHOLE_ROWS: usize = 1000;
/// A part has at most this many rows...
const PART_ROWS: usize = 500;
/// ...and about this many bytes, unless one row alone has more. A revision of fewer is whole.
const PART_BYTES: usize = 1024 * 1024;

/// A part of a revision.
#[derive(Clone)]
pub struct Stage {
    pub write: Arc<RevisionWrite>,
    /// Rows of `write.put`.
    pub put: Range<usize>,
    /// Keys of `write.drop`.
    pub drop: Range<usize>,
}

impl Stage {
    pub(crate) fn put(&self) -> &[crate::DesiredRow] {
        &self.write.put[self.put.clone()]
    }

    pub(crate) fn drop(&self) -> &[Key] {
        &self.write.drop[self.drop.clone()]
    }

    /// The parts of a revision, none if it is small enough to be whole.
    pub(crate) fn parts(write: &Arc<RevisionWrite>) -> Vec<Self> {
        let part = |put, drop| Self {
            write: write.clone(),
            put,
            drop,
        };
        let mut parts = Vec::new();
        let (mut start, mut bytes, mut total) = (0, 0, 0);
        for (at, row) in write.put.iter().enumerate() {
            let size = size(&row.content);
            total += size;
            if at > start && (at - start >= PART_ROWS || bytes + size > PART_BYTES) {
                parts.push(part(start..at, 0..0));
                (start, bytes) = (at, 0);
            }
            bytes += size;
        }
        if write.put.len() + write.drop.len() <= WHOLE_ROWS && total <= PART_BYTES {
            return Vec::new();
        }
        if start < write.put.len() {
            parts.push(part(start..write.put.len(), 0..0));
        }
        let drops = write.drop.len();
        parts.extend(
            (0..drops)
                .step_by(PART_ROWS)
                .map(|at| part(0..0, at..drops.min(at + PART_ROWS))),
        );
        parts
    }
}

/// About how long a value's text is.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 6,
        Value::String(text) => text.len() + 3,
        Value::Array(items) => 2 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => {
            let entries = map.iter().map(|(name, item)| name.len() + 4 + size(item));
            2 + entries.sum::<usize>()
        }
    }
}

/// What the writer is asked to do ahead of a revision. Each staging has a number of its own.
pub(crate) enum StageAsk {
    /// Begins: what an earlier staging left goes, a step at a time.
    Begin(u64),
    Part(u64, Stage),
}

/// What the writer knows of staged rows.
pub(crate) struct Staging {
    /// The last staging that began.
    pub(crate) number: u64,
    /// There may be staged rows that no revision has. True at first: an earlier server may have left
    /// some.
    pub(crate) dirty: bool,
}

impl Default for Staging {
    fn default() -> Self {
        Self { number: 0, dirty: true }
    }
}

/// How a revision was prepared.
#[derive(Clone, Copy)]
pub(crate) struct Staged {
    pub(crate) number: u64,
    /// Its rows and bodies are there already.
    pub(crate) rows: bool,
}

impl Staging {
    /// Whether a revision may be recorded as it was prepared.
    pub(crate) fn allows(&self, staged: Staged) -> bool {
        self.number == staged.number && self.dirty == staged.rows
    }
}

impl Store {
    /// Writes the parts of a revision ahead of it, if it is too large for one transaction.
    pub(crate) async fn stage(&self, write: &Arc<RevisionWrite>, number: u64) -> Result<Staged, Unavailable> {
        while self.stage_step(StageAsk::Begin(number)).await? {}
        let parts = Stage::parts(write);
        let rows = !parts.is_empty();
        for part in parts {
            self.stage_step(StageAsk::Part(number, part)).await?;
        }
        Ok(Staged { number, rows })
    }

    async fn stage_step(&self, ask: StageAsk) -> Result<bool, Unavailable> {
        self.side_job(Class::Git, |reply| Job::Stage { ask, reply }).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use schemas::{ContentHash, Kind, Unit};
    use serde_json::json;

    use super::*;
    use crate::DesiredRow;

    fn write(put: usize, bytes: usize, drop: usize) -> Arc<RevisionWrite> {
        let key = |n: usize| Key::namespaced(Kind::ConfigMap, "a", &format!("c{n}"));
        let row = |n| DesiredRow {
            unit: Unit("a".into()),
            key: key(n),
            hash: ContentHash::of_bytes(b""),
            content: Arc::new(json!("x".repeat(bytes))),
            file: "f".into(),
            line: 1,
            commit: "c".into(),
        };
        Arc::new(RevisionWrite {
            base: 0,
            commit: "c".into(),
            author: String::new(),
            subject: String::new(),
            at: jiff::Timestamp::UNIX_EPOCH,
            units: BTreeMap::new(),
            put: (0..put).map(row).collect(),
            drop: (0..drop).map(key).collect(),
            problems: Vec::new(),
            confirm_trailer: None,
            source_error: None,
        })
    }

    #[test]
    fn a_large_revision_is_cut_into_bounded_parts_that_are_all_of_it() {
        for (put, bytes, drop, parts) in [
            (0, 0, 0, 0),
            (1000, 10, 0, 0),
            (600, 10, 400, 0),
            (1001, 10, 0, 3),
            (0, 0, 1001, 3),
            (1000, 10, 1, 3),
            (3, 600 * 1024, 0, 3),
            (1, 3 * 1024 * 1024, 0, 1),
        ] {
            let write = write(put, bytes, drop);
            let found = Stage::parts(&write);
            assert_eq!(found.len(), parts, "{put} of {bytes}, {drop} go");
            if parts > 0 {
                let puts: usize = found.iter().map(|part| part.put().len()).sum();
                let drops: usize = found.iter().map(|part| part.drop().len()).sum();
                assert_eq!((puts, drops), (put, drop));
                let next = found.iter().filter(|part| !part.put.is_empty()).fold(0, |next, part| {
                    assert_eq!(part.put.start, next);
                    part.put.end
                });
                assert_eq!(next, put);
            }
        }
    }
}
