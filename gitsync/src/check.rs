//! Judging a push to the built-in repository before it is accepted.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use git2::{Oid, Repository};
use schemas::{
    Commit,
    report::{Problem, Severity},
};
use tokio::task;

use crate::{
    GitSync, Plan, Shared,
    parsed::describe,
    preview,
    rendered::Rendered,
    source::{SourceError, commit_of},
};

/// A push as a `pre-receive` hook sees it.
#[derive(Clone, Debug)]
pub struct PushCheck {
    /// Where git keeps the pushed objects until they are accepted, and where these may refer to:
    /// `GIT_OBJECT_DIRECTORY` and `GIT_ALTERNATE_OBJECT_DIRECTORIES`, absolute.
    pub object_dirs: Vec<PathBuf>,
    pub updates: Vec<Update>,
}

/// One reference of a push. An id of zeros means that there is none.
#[derive(Clone, Debug)]
pub struct Update {
    pub old: String,
    pub new: String,
    pub refname: String,
}

/// Whether a push may go on, and what to tell its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub accepted: bool,
    pub lines: Vec<String>,
    /// The commit that the declaring branch moves to, if it moves.
    pub commit: Option<Commit>,
}

/// The most problems that are shown of each severity.
const SHOWN: usize = 50;

impl GitSync {
    /// Judges a push: errors that it adds refuse it, older ones are warnings. References of Towline's
    /// own are refused, and so is the deletion of the branch that declares.
    pub async fn check_push(&self, push: PushCheck) -> Verdict {
        let shared = self.shared.clone();
        match task::spawn_blocking(move || judge(&shared, &push)).await {
            Ok(verdict) => verdict,
            Err(error) => Verdict {
                accepted: false,
                lines: vec![format!("refused: the check itself failed ({error}); push again")],
                commit: None,
            },
        }
    }
}

fn judge(shared: &Shared, push: &PushCheck) -> Verdict {
    let mut verdict = Verdict {
        accepted: true,
        lines: Vec::new(),
        commit: None,
    };
    let status = format!("refs/heads/{}", shared.options.status.branch);
    for update in &push.updates {
        let name = &update.refname;
        let is_gone = update.new.bytes().all(|digit| digit == b'0');
        if *name == status || is_reserved(name) {
            verdict.refuse(format!(
                "refused: {name} is written by Towline itself; push to another branch"
            ));
        } else if *name != shared.place.reference {
            verdict
                .lines
                .push(format!("note: {name} is not followed; only {} is", shared.place.branch));
        } else if is_gone {
            let branch = &shared.place.branch;
            verdict.refuse(format!(
                "refused: {branch} declares what runs and cannot be deleted; delete objects by commits"
            ));
        } else {
            match judge_branch(shared, push, update) {
                Ok((accepted, lines)) => {
                    verdict.accepted &= accepted;
                    verdict.lines.extend(lines);
                    verdict.commit = Some(update.new.as_str().into());
                }
                Err(error) => verdict.refuse(format!("refused: {error}")),
            }
        }
    }
    verdict
}

impl Verdict {
    fn refuse(&mut self, line: String) {
        self.accepted = false;
        self.lines.push(line);
    }
}

fn is_reserved(name: &str) -> bool {
    ["refs/heads/towline", "refs/towline"].iter().any(|own| {
        name.strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn judge_branch(shared: &Shared, push: &PushCheck, update: &Update) -> Result<(bool, Vec<String>), SourceError> {
    let repo = shared.place.open()?;
    add_objects(shared, &repo, &push.object_dirs)?;
    let unreadable = |id: &str| shared.place.unreadable(&format!("{id:?} is not the id of a commit"));
    let new = Oid::from_str(&update.new).map_err(|_| unreadable(&update.new))?;
    let old = Oid::from_str(&update.old).ok().filter(|old| !old.is_zero());

    let mut rendered = shared.rendered.read().clone();
    if rendered.commit != old {
        match old {
            Some(old) => {
                let touched = rendered.turn_to(&shared.place, &repo, &shared.cache, old)?;
                rendered.book.pending.extend(touched);
            }
            None => rendered = Rendered::default(),
        }
    }
    // The book is of the newest revision, so that moving on from the old commit must not lose what
    // lies between the two: the objects touched so far stay pending.
    let before = rendered.index.problems();
    let desired = shared.store.desired();
    let revised = preview::revise_at(shared, &repo, &mut rendered, new, &desired);
    let (added, older) = compare(&before, rendered.index.problems());
    let mut lines = Vec::new();
    let refused = added.iter().any(|problem| problem.severity == Severity::Error);
    list(&mut lines, &added, Severity::Error, "error");
    list(&mut lines, &added, Severity::Warning, "warning");
    list(&mut lines, &older, Severity::Error, "warning: not new");
    let revised = revised?;
    if refused {
        lines.push("refused: nothing was changed; correct the errors above and push again".into());
        return Ok((false, lines));
    }
    if let Some(note) = &revised.write.source_error {
        lines.push(format!("warning: {note}"));
    }
    let planned = Plan::between(commit_of(new), &desired, revised);
    let (created, updated, deleted) = (planned.created.len(), planned.updated.len(), planned.deleted.len());
    lines.push(format!(
        "{}: {created} to create, {updated} to update, {deleted} to delete",
        planned.commit.short()
    ));
    for released in &planned.released {
        lines.push(format!("{} stays: manifests declare objects in it", released.object));
    }
    for (unit, reason) in &planned.held {
        if Some(reason) != planned.source_error.as_ref() {
            lines.push(format!("held: {unit} stays as it is: {reason}"));
        }
    }
    Ok((true, lines))
}

/// Lets the repository read the objects of the push. Only folders of the repository itself are taken:
/// the hook is not to be trusted with others.
fn add_objects(shared: &Shared, repo: &Repository, dirs: &[PathBuf]) -> Result<(), SourceError> {
    let unreadable = |error: &dyn std::fmt::Display| shared.place.unreadable(error);
    let objects = repo
        .commondir()
        .join("objects")
        .canonicalize()
        .map_err(|error| unreadable(&error))?;
    let odb = repo.odb().map_err(|error| unreadable(&error.message()))?;
    for dir in dirs {
        let full = dir.canonicalize().map_err(|error| unreadable(&error))?;
        if full == objects {
            continue;
        }
        if !full.starts_with(&objects) {
            return Err(unreadable(&format!("{} is no object folder of it", dir.display())));
        }
        odb.add_disk_alternate(&full.to_string_lossy())
            .map_err(|error| unreadable(&error.message()))?;
    }
    Ok(())
}

/// Splits problems into those that are new and those that were there before, wherever in its file each
/// has moved to.
fn compare(before: &[Problem], after: Vec<Problem>) -> (Vec<Problem>, Vec<Problem>) {
    let mut known: BTreeMap<_, usize> = BTreeMap::new();
    for problem in before {
        *known.entry(identity(problem)).or_default() += 1;
    }
    let mut added = Vec::new();
    let mut older = Vec::new();
    for problem in after {
        match known.get_mut(&identity(&problem)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                older.push(problem);
            }
            _ => added.push(problem),
        }
    }
    (added, older)
}

fn identity(problem: &Problem) -> (Severity, Option<Arc<str>>, Option<schemas::Key>, String) {
    let file = problem.position.as_ref().map(|at| at.file.clone());
    // Messages name lines of other places, which move.
    let words = problem.message.chars().filter(|c| !c.is_ascii_digit()).collect();
    (problem.severity, file, problem.object.clone(), words)
}

fn list(lines: &mut Vec<String>, problems: &[Problem], severity: Severity, word: &str) {
    let matching: Vec<_> = problems.iter().filter(|problem| problem.severity == severity).collect();
    lines.extend(
        matching
            .iter()
            .take(SHOWN)
            .map(|problem| format!("{word}: {}", describe(problem))),
    );
    if matching.len() > SHOWN {
        lines.push(format!(
            "{word}: and {} more; `towline validate` lists them",
            matching.len() - SHOWN
        ));
    }
}
