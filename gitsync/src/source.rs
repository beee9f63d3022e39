//! The repository that declares: finding its branch, its commit and its trees. All of it blocks.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use git2::{ErrorCode, Oid, Repository};
use schemas::Commit;

use crate::{
    revise::CommitInfo,
    tree::{self, Dir},
};

/// Why a source says nothing. Never an order to delete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("the repository {path} cannot be read: {reason}; nothing changes until it can")]
    Unreadable { path: String, reason: String },
    #[error("{text:?} names no commit of {path}; give a branch, a tag or a commit's id")]
    NoCommit { path: String, text: String },
    #[error("{path} has no branch {branch}; nothing changes until it is back (a push creates it)")]
    NoBranch { path: String, branch: String },
    /// There has never been a commit: a new repository, waiting for its first push.
    #[error("{path} has no commit yet; push to its branch {branch}")]
    Unborn { path: String, branch: String },
    #[error("commit {commit} has no folder {folder:?}; nothing changes until it is back, or --path names another")]
    NoFolder { commit: Commit, folder: String },
    #[error(
        "commit {commit} has no manifest under {folder:?}, and an empty folder is not read as an order to delete; \
         delete objects by commits that leave at least one manifest"
    )]
    Empty { commit: Commit, folder: String },
    #[error(transparent)]
    Unrelated(#[from] Unrelated),
}

/// A force-push to a history that shares no commit with the one before.
///
/// Its text carries the old commit, so that the condition outlives a restart: it is what the
/// revision keeps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Unrelated {
    pub(crate) base: Commit,
}

impl fmt::Display for Unrelated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{UNRELATED} {}: what it declares is applied, and nothing that it lacks is deleted; if that is meant, \
             confirm its newest commit with `towline sync --confirm-deletes COMMIT`, or push one with the trailer \
             `Confirm-Deletes: all`; else merge the old history",
            self.base
        )
    }
}

const UNRELATED: &str = "the branch was pushed to a history unrelated to commit";

impl Unrelated {
    /// Reads the condition back from a revision's source error.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(UNRELATED)?;
        let base = rest.trim_start().get(..40)?;
        base.bytes()
            .all(|byte| byte.is_ascii_hexdigit())
            .then(|| Self { base: base.into() })
    }
}

/// A repository on this machine: the source itself, or the mirror of a remote one.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// How messages call it.
    pub(crate) shown: String,
    /// The reference that declares.
    pub(crate) reference: String,
    pub(crate) branch: String,
    pub(crate) folder: String,
}

/// A repository that is kept open between looks.
pub(crate) struct Reader {
    place: Place,
    open: Option<(Repository, Identity)>,
    reopened: bool,
}

/// Tells a repository from another one that took its place.
#[derive(PartialEq, Eq)]
struct Identity(u64, u64);

impl Reader {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            open: None,
            reopened: false,
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The repository, opened anew when it was replaced.
    pub(crate) fn repo(&mut self) -> Result<&Repository, SourceError> {
        let current = match &self.open {
            Some((repo, identity)) => identity_of(repo.path()).is_ok_and(|now| now == *identity),
            None => false,
        };
        if !current {
            self.open = None;
            let repo = self.place.open()?;
            let identity = identity_of(repo.path()).map_err(|error| self.place.unreadable(&error))?;
            self.open = Some((repo, identity));
            self.reopened = true;
        }
        match &self.open {
            Some((repo, _)) => Ok(repo),
            None => Err(self.place.unreadable(&"it could not be opened")),
        }
    }

    /// Whether it was opened since this was last asked.
    pub(crate) fn reopened(&mut self) -> bool {
        std::mem::take(&mut self.reopened)
    }

    /// Forgets the open repository, after an error that opening it anew may cure.
    pub(crate) fn close(&mut self) {
        self.open = None;
    }
}

fn identity_of(path: &Path) -> std::io::Result<Identity> {
    let meta = fs::metadata(path)?;
    Ok(Identity(meta.dev(), meta.ino()))
}

impl Place {
    pub(crate) fn open(&self) -> Result<Repository, SourceError> {
        // No search in the folders above: a path that lost its repository must not find another one.
        let flags = git2::RepositoryOpenFlags::NO_SEARCH;
        Repository::open_ext(&self.path, flags, std::iter::empty::<&Path>())
            .map_err(|error| self.unreadable(&error.message()))
    }

    pub(crate) fn unreadable(&self, reason: &dyn fmt::Display) -> SourceError {
        SourceError::Unreadable {
            path: self.shown.clone(),
            reason: reason.to_string(),
        }
    }

    /// The commit that the branch is at.
    pub(crate) fn tip(&self, repo: &Repository) -> Result<Oid, SourceError> {
        match repo.find_reference(&self.reference) {
            Ok(found) => {
                let commit = found
                    .peel_to_commit()
                    .map_err(|error| self.unreadable(&error.message()))?;
                Ok(commit.id())
            }
            Err(error) if error.code() == ErrorCode::NotFound => {
                let mut references = repo.references().map_err(|error| self.unreadable(&error.message()))?;
                let (path, branch) = (self.shown.clone(), self.branch.clone());
                Err(match references.next() {
                    None => SourceError::Unborn { path, branch },
                    Some(_) => SourceError::NoBranch { path, branch },
                })
            }
            Err(error) => Err(self.unreadable(&error.message())),
        }
    }

    /// A commit by a reference, a branch's name or (part of) its id.
    pub(crate) fn resolve(&self, repo: &Repository, text: &str) -> Result<Oid, SourceError> {
        let found = repo.revparse_single(text).and_then(|object| object.peel_to_commit());
        found.map(|commit| commit.id()).map_err(|_| SourceError::NoCommit {
            path: self.shown.clone(),
            text: text.to_owned(),
        })
    }

    /// Reads which files of a commit count.
    pub(crate) fn scan(
        &self,
        repo: &Repository,
        commit: Oid,
        before: Option<&Arc<Dir>>,
    ) -> Result<Arc<Dir>, SourceError> {
        let tree = repo.find_commit(commit).map(|commit| commit.tree_id());
        let dir = tree
            .and_then(|tree| tree::scan(repo, tree, &self.folder, before))
            .map_err(|error| self.unreadable(&error.message()))?;
        dir.ok_or_else(|| SourceError::NoFolder {
            commit: commit_of(commit),
            folder: self.folder.clone(),
        })
    }

    pub(crate) fn info(&self, repo: &Repository, commit: Oid) -> Result<CommitInfo, SourceError> {
        let found = repo
            .find_commit(commit)
            .map_err(|error| self.unreadable(&error.message()))?;
        let author = found.author();
        let message = String::from_utf8_lossy(found.message_bytes()).into_owned();
        Ok(CommitInfo {
            commit: commit_of(commit),
            author: format!(
                "{} <{}>",
                String::from_utf8_lossy(author.name_bytes()),
                String::from_utf8_lossy(author.email_bytes())
            ),
            subject: message.lines().next().unwrap_or_default().to_owned(),
            confirm_trailer: trailer(&message, "Confirm-Deletes"),
        })
    }

    /// Whether `tip` has a commit in common with `base`. A base that is no longer there counts as
    /// unrelated: it was thrown away with its history.
    pub(crate) fn related(&self, repo: &Repository, tip: Oid, base: &Commit) -> bool {
        let Ok(base) = Oid::from_str(&base.0) else { return false };
        tip == base || repo.merge_base(tip, base).is_ok()
    }
}

pub(crate) fn commit_of(id: Oid) -> Commit {
    Commit(id.to_string().into())
}

/// The last value of a trailer of a commit message.
pub(crate) fn trailer(message: &str, name: &str) -> Option<String> {
    // A message with a zero byte has no trailers that could be meant.
    let trailers = git2::message_trailers_strs(message).ok()?;
    trailers
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.to_owned())
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_history_is_read_back_from_the_condition() {
        let base = Commit::from("0123456789abcdef0123456789abcdef01234567");
        let text = SourceError::from(Unrelated { base: base.clone() }).to_string();
        assert_eq!(Unrelated::from_text(&text), Some(Unrelated { base }));
        assert_eq!(Unrelated::from_text("the repository /x cannot be read"), None);
    }

    #[test]
    fn trailers_are_read_from_the_last_paragraph() {
        let message = "Remove the shop\n\nConfirm-Deletes: no\n\nConfirm-Deletes: all\nSigned-off-by: A\n";
        assert_eq!(trailer(message, "confirm-deletes").as_deref(), Some("all"));
        assert_eq!(trailer("Just a subject", "Confirm-Deletes"), None);
    }
}
