//! Which commit wrote which field of a manifest, and where it stands.

use std::path::Path;

use git2::{Oid, Repository, Sort};
use jiff::Timestamp;
use schemas::{
    Commit, Key,
    diff::{self, FieldChange},
    manifest::{self, Declared, folder_namespace},
    origin::{Author, FieldOrigin, Origin, Question},
};
use serde_json::Value;
use tokio::task;

use crate::{GitSync, preview::PlanError, source::commit_of};

/// So many commits between two contents are looked at; a longer way is told by its newest commit.
const LOOK_BACK: usize = 1_000;

impl GitSync {
    /// Which commits wrote these contents, in the order of the questions. A sync may pass over several
    /// commits at once: of those between a content and the one before, each field is told with the
    /// commit that gave it its value.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn origins(&self, questions: Vec<Question>) -> Result<Vec<Origin>, PlanError> {
        let place = self.shared.place.clone();
        let found = task::spawn_blocking(move || {
            let repo = place.open()?;
            Ok(questions.iter().map(|asked| origin(&repo, asked)).collect())
        });
        match found.await {
            Ok(found) => found,
            Err(error) => Err(PlanError::Broke(error.to_string())),
        }
    }
}

/// What is not in the repository any more is not told.
fn origin(repo: &Repository, asked: &Question) -> Origin {
    let nothing = || Origin {
        by: None,
        fields: vec![FieldOrigin::default(); asked.fields.len()],
    };
    let Some(tip) = oid(&asked.commit).filter(|tip| repo.find_commit(*tip).is_ok()) else {
        return nothing();
    };
    let writers = match writers(repo, asked, tip) {
        Ok(writers) if !writers.is_empty() => writers,
        _ => vec![tip],
    };
    let by = writers.first().and_then(|id| author(repo, *id));
    let here = read(repo, tip, asked);
    let credited = credited(repo, asked, &writers);
    let fields = asked.fields.iter().zip(credited).map(|(field, id)| FieldOrigin {
        by: author(repo, id),
        line: here
            .as_ref()
            .and_then(|(declared, bytes)| Some(manifest::locate(declared, bytes, &field.place)?.line)),
    });
    Origin {
        fields: fields.collect(),
        by,
    }
}

/// The commits between the content before and this one that wrote the file, newest first.
fn writers(repo: &Repository, asked: &Question, tip: Oid) -> Result<Vec<Oid>, git2::Error> {
    let mut walk = repo.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)?;
    walk.push(tip)?;
    if let Some(since) = asked.since.as_ref().and_then(oid) {
        // A history that was rewritten may have lost it: the walk is bounded all the same.
        let _ = walk.hide(since);
    }
    let mut found = Vec::new();
    for id in walk.take(LOOK_BACK) {
        let commit = repo.find_commit(id?)?;
        let own = blob(repo, commit.id(), &asked.file);
        // A merge that took the file from one of its sides wrote nothing.
        if own.is_some() && commit.parent_ids().all(|parent| blob(repo, parent, &asked.file) != own) {
            found.push(commit.id());
            if asked.since.is_none() {
                break;
            }
        }
    }
    Ok(found)
}

/// For each field the commit that gave it its value; where that cannot be told, the newest.
fn credited(repo: &Repository, asked: &Question, writers: &[Oid]) -> Vec<Oid> {
    let newest = writers[0];
    let mut credited: Vec<Option<Oid>> = vec![None; asked.fields.len()];
    if writers.len() > 1 {
        for id in writers {
            for (field, credit) in asked.fields.iter().zip(&mut credited) {
                if credit.is_none() && changed(repo, asked, *id).iter().any(|change| change.overlaps(field)) {
                    *credit = Some(*id);
                }
            }
        }
    }
    credited.into_iter().map(|credit| credit.unwrap_or(newest)).collect()
}

/// What a commit changed of the declaration.
fn changed(repo: &Repository, asked: &Question, id: Oid) -> Vec<FieldChange> {
    let content = |id: Oid| {
        let read = read(repo, id, asked);
        read.map_or(Value::Null, |(declared, _)| Value::clone(&declared.content))
    };
    let parent = repo.find_commit(id).ok().and_then(|commit| commit.parent_id(0).ok());
    diff::fields(&parent.map_or(Value::Null, content), &content(id))
}

/// The declaration as a commit has it, and the file that it is in.
fn read(repo: &Repository, id: Oid, asked: &Question) -> Option<(Declared, Vec<u8>)> {
    let blob = repo.find_blob(blob(repo, id, &asked.file)?).ok()?;
    let bytes = blob.content().to_vec();
    let declared = declaration(&asked.file, &bytes, &asked.key)?;
    Some((declared, bytes))
}

/// The declaration of an object in a file.
pub(crate) fn declaration(file: &str, bytes: &[u8], key: &Key) -> Option<Declared> {
    let parsed = manifest::parse(file, bytes, folder_namespace(file));
    parsed.objects.into_iter().find(|declared| declared.key == *key)
}

/// The file's content as a commit has it.
pub(crate) fn blob(repo: &Repository, id: Oid, file: &str) -> Option<Oid> {
    let tree = repo.find_commit(id).ok()?.tree().ok()?;
    let entry = tree.get_path(Path::new(file)).ok()?;
    Some(entry.id())
}

pub(crate) fn author(repo: &Repository, id: Oid) -> Option<Author> {
    let commit = repo.find_commit(id).ok()?;
    let by = commit.author();
    let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
    Some(Author {
        commit: commit_of(id),
        author: format!(
            "{} <{}>",
            String::from_utf8_lossy(by.name_bytes()),
            String::from_utf8_lossy(by.email_bytes())
        ),
        subject: message.lines().next().unwrap_or_default().to_owned(),
        at: Timestamp::from_second(by.when().seconds()).unwrap_or_default(),
    })
}

pub(crate) fn oid(commit: &Commit) -> Option<Oid> {
    Oid::from_str(&commit.0).ok()
}
