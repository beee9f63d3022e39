//! From what a commit declares to the next revision: what is held, what is put, what is dropped.
//!
//! Pure. A revision is a difference from the one before; only objects that a commit touched, or that
//! an earlier one had to leave behind, are looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use jiff::Timestamp;
use rustc_hash::FxHashSet;
use schemas::{
    Commit, Key, Kind, Unit,
    report::{Problem, Severity},
};
use store::{Desired, DesiredRow, RevisionWrite, desired::UnitAt};

use crate::index::Index;

/// Git's own way to write "no commit".
pub(crate) const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// How many problems a revision keeps; a repository of other people's YAML can have any number.
const MAX_PROBLEMS: usize = 1_000;

/// What a revision takes from its commit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CommitInfo {
    pub(crate) commit: Commit,
    pub(crate) author: String,
    pub(crate) subject: String,
    pub(crate) confirm_trailer: Option<String>,
}

/// The newest revision, turned to be asked by file and by unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) revision: u64,
    by_file: BTreeMap<Arc<str>, FxHashSet<Key>>,
    units: BTreeMap<Unit, usize>,
    /// Objects whose declaration and desired row may differ: touched since, or held back.
    pub(crate) pending: FxHashSet<Key>,
}

impl Book {
    /// Reads a whole revision: at the start, and when another hand has recorded one.
    pub(crate) fn read(desired: &Desired, index: &Index) -> Self {
        let mut book = Self {
            revision: desired.revision,
            ..Self::default()
        };
        for row in desired.rows.values() {
            book.add(row);
        }
        book.pending = desired.rows.keys().chain(index.keys()).cloned().collect();
        book
    }

    fn add(&mut self, row: &DesiredRow) {
        self.by_file
            .entry(row.file.clone())
            .or_default()
            .insert(row.key.clone());
        *self.units.entry(row.unit.clone()).or_default() += 1;
    }

    fn take(&mut self, row: &DesiredRow) {
        if let Some(keys) = self.by_file.get_mut(&row.file) {
            keys.remove(&row.key);
            if keys.is_empty() {
                self.by_file.remove(&row.file);
            }
        }
        if let Some(count) = self.units.get_mut(&row.unit) {
            *count -= 1;
            if *count == 0 {
                self.units.remove(&row.unit);
            }
        }
    }

    /// Follows a write that the store has recorded as `revision`.
    pub(crate) fn follow(&mut self, before: &Desired, write: &RevisionWrite, pending: FxHashSet<Key>, revision: u64) {
        for key in write.put.iter().map(|row| &row.key).chain(&write.drop) {
            if let Some(row) = before.rows.get(key) {
                self.take(row);
            }
        }
        for row in &write.put {
            self.add(row);
        }
        self.pending = pending;
        self.revision = revision;
    }

    /// The units that a file fed; for an overlay, that any file of its folder fed.
    fn fed(&self, file: &str, folder: Option<&str>) -> BTreeSet<Unit> {
        let mut units: BTreeSet<Unit> = self.by_file.get(file).into_iter().flatten().map(Unit::of).collect();
        match folder {
            None => {}
            Some("") => units.extend(self.units.keys().cloned()),
            Some(folder) => {
                let below = self
                    .by_file
                    .range::<str, _>((Bound::Included(folder), Bound::Unbounded));
                let below = below.take_while(|(file, _)| file.starts_with(folder));
                units.extend(below.flat_map(|(_, keys)| keys).map(Unit::of));
            }
        }
        units
    }
}

/// What is held, and why.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Holds {
    pub(crate) units: BTreeMap<Unit, String>,
    /// Set while a broken file feeds no one knows what: no unit deletes.
    pub(crate) no_deletes: Option<String>,
}

/// A failing file holds every unit that it fed in the last good revision and the one that its folder
/// names; when there is none, nothing is deleted. A duplicate holds the unit of its object.
pub(crate) fn holds(index: &Index, book: &Book) -> Holds {
    let mut holds = Holds::default();
    for file in index.failed() {
        let Some(failure) = &file.failure else { continue };
        let mut units = book.fed(&file.file, failure.folder.as_deref());
        units.extend(failure.unit.clone());
        if units.is_empty() && holds.no_deletes.is_none() {
            holds.no_deletes = Some(failure.reason.clone());
        }
        for unit in units {
            holds.units.entry(unit).or_insert_with(|| failure.reason.clone());
        }
    }
    for key in index.duplicates() {
        let reason = index
            .duplicate(key)
            .first()
            .map(crate::parsed::describe)
            .unwrap_or_default();
        holds.units.entry(Unit::of(key)).or_insert(reason);
    }
    for (key, problem) in index.misled() {
        holds
            .units
            .entry(Unit::of(key))
            .or_insert_with(|| crate::parsed::describe(problem));
    }
    holds
}

/// The next revision, and what it leaves behind.
#[derive(Debug)]
pub(crate) struct Revised {
    pub(crate) write: RevisionWrite,
    pub(crate) pending: FxHashSet<Key>,
}

impl Revised {
    /// Whether it says anything that `desired` does not.
    pub(crate) fn differs(&self, desired: &Desired) -> bool {
        let write = &self.write;
        !write.put.is_empty()
            || !write.drop.is_empty()
            || desired.commit.as_ref() != Some(&write.commit)
            || desired.units != write.units
            || desired.problems != write.problems
            || desired.confirm_trailer != write.confirm_trailer
            || desired.source_error != write.source_error
    }
}

/// Computes the next revision.
///
/// `keep` is set when the source gives no leave to delete anything, and says why.
pub(crate) fn revise(
    index: &Index,
    book: &Book,
    touched: &FxHashSet<Key>,
    desired: &Desired,
    info: &CommitInfo,
    keep: Option<String>,
    at: Timestamp,
) -> Revised {
    let Holds {
        units: held,
        no_deletes,
    } = holds(index, book);
    let failures: Vec<_> = index
        .failed()
        .filter_map(|file| Some((file, file.failure.as_ref()?)))
        .collect();
    let mut put = Vec::new();
    let mut drop = Vec::new();
    let mut kept = Vec::new();
    let mut pending = FxHashSet::default();
    let mut counts = book.units.clone();

    let mut candidates: Vec<&Key> = book.pending.union(touched).collect();
    candidates.sort();
    for key in candidates {
        let unit = Unit::of(key);
        let row = desired.rows.get(key);
        let declaration = index.declaration(key);
        if held.contains_key(&unit) {
            if row.is_some() || declaration.is_some() {
                pending.insert(key.clone());
            }
            continue;
        }
        match (declaration, row) {
            (Some((file, manifest)), row) => {
                let same = row.is_some_and(|row| row.hash == manifest.hash);
                if same && row.is_some_and(|row| row.file == *file && row.line == manifest.line) {
                    continue;
                }
                // Content that stays is shared with the row before and keeps its commit.
                let (content, commit) = match row.filter(|_| same) {
                    Some(row) => (row.content.clone(), row.commit.clone()),
                    None => (manifest.content.clone(), info.commit.clone()),
                };
                if row.is_none() {
                    *counts.entry(unit.clone()).or_default() += 1;
                }
                put.push(DesiredRow {
                    unit,
                    key: key.clone(),
                    hash: manifest.hash,
                    content,
                    file: file.clone(),
                    line: manifest.line,
                    commit,
                });
            }
            (None, None) => {}
            (None, Some(_)) => {
                let why = if keep.is_some() || no_deletes.is_some() {
                    Some(None)
                } else if let Some((file, _)) = failures.iter().find(|(_, failure)| failure.mentions(&key.name)) {
                    Some(Some(format!(
                        "{key} is no longer declared but stays: {} fails and mentions it",
                        file.file
                    )))
                } else {
                    moves_to(key, &held, index, desired)
                        .map(|to| Some(format!("{key} stays: it moves to {to}, which is held")))
                };
                match why {
                    None => drop.push(key.clone()),
                    Some(note) => {
                        pending.insert(key.clone());
                        kept.push((key.clone(), note));
                    }
                }
            }
        }
    }

    // A namespace outlives what has to stay in it.
    let occupied: BTreeSet<&str> = kept.iter().filter_map(|(key, _)| key.namespace.as_deref()).collect();
    drop.retain(|key| {
        let stays = key.kind == Kind::Namespace && occupied.contains(&*key.name);
        if stays {
            pending.insert(key.clone());
        }
        !stays
    });
    for key in &drop {
        if let Some(count) = counts.get_mut(&Unit::of(key)) {
            *count = count.saturating_sub(1);
        }
    }

    let mut problems = index.problems();
    if let Some(reason) = &no_deletes {
        problems.push(warning(
            None,
            format!("nothing is deleted while this stands, because no one can know what the file declares: {reason}"),
        ));
    }
    problems.extend(
        kept.into_iter()
            .filter_map(|(key, note)| note.map(|note| warning(Some(key), note))),
    );
    cap(&mut problems);

    // What an unrelated history does not declare stays at the commit that did.
    let mut left: BTreeMap<Unit, usize> = BTreeMap::new();
    for key in pending.iter().filter(|_| keep.is_some()) {
        if index.declaration(key).is_none() && desired.rows.contains_key(key) {
            *left.entry(Unit::of(key)).or_default() += 1;
        }
    }
    let commit_before = |unit: &Unit| {
        let before = desired.units.get(unit);
        before.map_or_else(|| NO_COMMIT.into(), |at| at.commit.clone())
    };

    let units = counts
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .chain(held.keys().map(|unit| (unit.clone(), 0)))
        .map(|(unit, count)| {
            let at = match held.get(&unit) {
                Some(reason) => UnitAt {
                    commit: commit_before(&unit),
                    held: Some(reason.clone()),
                    may_delete: false,
                },
                None if left.contains_key(&unit) => UnitAt {
                    commit: match left.get(&unit) {
                        Some(all) if *all >= count => commit_before(&unit),
                        _ => info.commit.clone(),
                    },
                    held: keep.clone(),
                    may_delete: false,
                },
                None => UnitAt {
                    commit: info.commit.clone(),
                    held: None,
                    may_delete: keep.is_none() && no_deletes.is_none(),
                },
            };
            (unit, at)
        })
        .collect();

    Revised {
        write: RevisionWrite {
            base: desired.revision,
            commit: info.commit.clone(),
            author: info.author.clone(),
            subject: info.subject.clone(),
            at,
            units,
            put,
            drop,
            problems,
            confirm_trailer: info.confirm_trailer.clone(),
            source_error: keep,
        },
        pending,
    }
}

/// The revision that only says that the source cannot be read. Every row and every unit's commit stay.
pub(crate) fn broken(desired: &Desired, error: String, at: Timestamp) -> RevisionWrite {
    let units = desired.units.iter().map(|(unit, at)| {
        let at = UnitAt {
            commit: at.commit.clone(),
            held: Some(error.clone()),
            may_delete: false,
        };
        (unit.clone(), at)
    });
    RevisionWrite {
        base: desired.revision,
        commit: desired.commit.clone().unwrap_or_else(|| NO_COMMIT.into()),
        author: String::new(),
        subject: String::new(),
        at,
        units: units.collect(),
        put: Vec::new(),
        drop: Vec::new(),
        problems: desired.problems.clone(),
        confirm_trailer: desired.confirm_trailer.clone(),
        source_error: Some(error),
    }
}

/// The held unit that an undeclared object is about to appear in: one that declares an object of the
/// same kind and name that it did not have before.
fn moves_to<'a>(key: &Key, held: &'a BTreeMap<Unit, String>, index: &Index, desired: &Desired) -> Option<&'a Unit> {
    key.namespace.as_ref()?;
    held.keys().find(|unit| {
        let there = Key {
            namespace: Some(unit.0.clone()),
            ..key.clone()
        };
        index.declares(&there) && !desired.rows.contains_key(&there)
    })
}

fn warning(object: Option<Key>, message: String) -> Problem {
    Problem {
        severity: Severity::Warning,
        position: None,
        object,
        message,
    }
}

fn cap(problems: &mut Vec<Problem>) {
    if problems.len() > MAX_PROBLEMS {
        let more = problems.len() - MAX_PROBLEMS;
        // Errors first: they are what holds a unit.
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        problems.truncate(MAX_PROBLEMS);
        problems.push(warning(None, format!("and {more} problems more")));
    }
}

#[cfg(test)]
mod tests;
