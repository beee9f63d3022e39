//! What a commit would change: a pure difference from desired state to desired state.

use std::{collections::BTreeMap, fmt};

use schemas::{
    Commit, Key, Kind, Unit,
    diff::{self, FieldChange},
    replaced::{Replaced, replaced},
    report::Problem,
    validate,
};
use serde::Serialize;
use store::{Desired, DesiredRow};

use crate::revise::Revised;

/// What a commit would change. Values of Secrets are told as changed or unchanged, never shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub commit: Commit,
    /// The commit of the newest revision.
    pub base: Option<Commit>,
    pub created: Vec<Declaration>,
    pub updated: Vec<Updated>,
    pub deleted: Vec<Declaration>,
    /// Namespaces that are declared no longer and stay, without what their manifests said of them,
    /// because manifests declare objects in them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub released: Vec<Declaration>,
    /// Units that would not move on, and why.
    pub held: BTreeMap<Unit, String>,
    pub problems: Vec<Problem>,
    /// Why nothing would be deleted, if so.
    pub source_error: Option<String>,
}

/// An object and where it is declared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Declaration {
    pub object: Key,
    pub file: String,
    pub line: u32,
}

/// An object whose content changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Updated {
    #[serde(flatten)]
    pub declaration: Declaration,
    pub changes: Vec<FieldChange>,
    /// The containers that the change replaces, in every pod of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
}

impl Plan {
    pub(crate) fn between(commit: Commit, desired: &Desired, revised: Revised) -> Self {
        let write = revised.write;
        let mut created = Vec::new();
        let mut updated = Vec::new();
        for row in &write.put {
            match desired.rows.get(&row.key) {
                None => created.push(Declaration::of(row)),
                Some(old) if old.hash != row.hash => updated.push(Updated::between(old, row)),
                Some(_) => {}
            }
        }
        let dropped = write.drop.iter().filter_map(|key| desired.rows.get(key));
        let stays = |key: &Key| key.kind == Kind::Namespace && write.units.contains_key(&Unit::of(key));
        let (released, deleted) = dropped
            .map(|row| Declaration::of(row))
            .partition(|declaration| stays(&declaration.object));
        Self {
            commit,
            base: desired.commit.clone(),
            created,
            updated,
            deleted,
            released,
            held: write
                .units
                .into_iter()
                .filter_map(|(unit, at)| Some((unit, at.held?)))
                .collect(),
            problems: write.problems,
            source_error: write.source_error,
        }
    }

    /// Nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.created.is_empty() && self.updated.is_empty() && self.deleted.is_empty() && self.released.is_empty()
    }
}

impl Declaration {
    fn of(row: &DesiredRow) -> Self {
        Self {
            object: row.key.clone(),
            file: row.file.to_string(),
            line: row.line,
        }
    }
}

impl Updated {
    fn between(old: &DesiredRow, new: &DesiredRow) -> Self {
        let kind = new.key.kind;
        let (before, after) = validate::redact_pair(kind, &old.content, &new.content);
        Self {
            declaration: Declaration::of(new),
            changes: diff::fields(&before, &after),
            replaced: replaced(kind, &old.content, &new.content),
        }
    }
}

impl fmt::Display for Plan {
    /// For people: a line for each object, indented lines for its fields, a sum at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base.as_ref().map_or("nothing", |base| base.short());
        writeln!(f, "Plan for {} against {base}\n", self.commit.short())?;
        for created in &self.created {
            writeln!(f, "+ {created}")?;
        }
        for updated in &self.updated {
            writeln!(f, "~ {}", updated.declaration)?;
            for change in &updated.changes {
                writeln!(f, "    {change}")?;
            }
            if let Some(replaced) = &updated.replaced {
                writeln!(
                    f,
                    "    replaces {} because of {}",
                    replaced.containers.join(", "),
                    replaced.because.join(", ")
                )?;
            }
        }
        for deleted in &self.deleted {
            writeln!(f, "- {deleted}")?;
        }
        for released in &self.released {
            writeln!(
                f,
                "~ {released}\n    stays, without its labels and annotations: manifests declare objects in it"
            )?;
        }
        // What the source as a whole holds is told once, below.
        let own = |reason: &str| self.source_error.as_deref() != Some(reason);
        for (unit, reason) in self.held.iter().filter(|(_, reason)| own(reason)) {
            writeln!(f, "held: {unit} stays as it is: {reason}")?;
        }
        if let Some(error) = &self.source_error {
            writeln!(f, "nothing is deleted: {error}")?;
        }
        let (created, updated, deleted) = (self.created.len(), self.updated.len(), self.deleted.len());
        write!(f, "{created} to create, {updated} to update, {deleted} to delete")
    }
}

impl fmt::Display for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.object, self.file, self.line)
    }
}
