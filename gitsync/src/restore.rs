//! Restoring one object's document to an earlier content, as a commit on top of the branch.
//!
//! The commit is made on what the branch is at, and the branch moves only if it is still there:
//! whoever was faster is never overwritten, and the document is put back on top of what they pushed.
//! Where the branch takes no commit of the server's, it goes to a branch below `proposals/`.

mod document;

use std::fmt;

use git2::{ErrorCode, Oid, Repository, Sort, build::TreeUpdateBuilder};
use jiff::Timestamp;
use schemas::{
    Commit, ContentHash, Key,
    restore::{Restore, Restored, Target, Why},
};
use tokio::task;

use crate::{
    GitSync, Shared,
    options::Source,
    origin::{blob, oid},
    remote::{self, Connection, RemoteError},
    source::{SourceError, commit_of, trailer},
    status::signature,
};
pub use document::Entangled;
use document::File;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Source(SourceTrouble),
    #[error("{key} is already as it was at {}", from.short())]
    Same { key: Key, from: Commit },
    #[error("{key} is declared otherwise by now: {}", tip.short())]
    MovedOn { key: Key, tip: Commit },
    #[error("{0}")]
    NoCommit(String),
    #[error("commit {} does not declare {key}", commit.short())]
    NotThere { key: Key, commit: Commit },
    #[error("{key} is not declared in {file} of the newest commit, {}", commit.short())]
    Gone { key: Key, file: String, commit: Commit },
    #[error("{key} cannot be restored by itself: {reason}; edit {file} and push")]
    Entangled { key: Key, file: String, reason: Entangled },
    #[error("the branch {branch} moved again and again while a commit was made for it; try again")]
    Busy { branch: String },
    #[error("the repository cannot be written: {0}")]
    Git(String),
    #[error("the restoring broke off: {0}")]
    Broke(String),
}

impl RestoreError {
    /// Whether it may go when it is tried again.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Source(_) | Self::Git(_) | Self::Busy { .. } | Self::Broke(_)
        )
    }
}

/// The repository could not be read or reached.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceTrouble(String);

impl From<SourceError> for RestoreError {
    fn from(error: SourceError) -> Self {
        Self::Source(SourceTrouble(error.to_string()))
    }
}

impl From<RemoteError> for RestoreError {
    fn from(error: RemoteError) -> Self {
        Self::Source(SourceTrouble(error.to_string()))
    }
}

impl From<git2::Error> for RestoreError {
    fn from(error: git2::Error) -> Self {
        Self::Git(error.message().to_owned())
    }
}

/// So often a commit is made anew for a branch that moves.
const TRIES: usize = 20;
/// How far back an earlier revert of the same content is looked for.
const LOOK_BACK: usize = 2_000;
/// Where the branches for people to look at are.
const PROPOSALS: &str = "refs/heads/proposals/";
/// Holds a commit in the mirror until it is pushed.
const STAGED: &str = "refs/towline/restore";

const OBJECT: &str = "Restored-Object";
const FROM: &str = "Restored-From";
const BAD: &str = "Reverted-Content";

impl GitSync {
    /// Restores an object's document to an earlier content, as one commit.
    ///
    /// # Errors
    /// When there is nothing to restore, the document cannot be restored by itself, or the repository
    /// cannot be read or written. Nothing was changed then.
    pub async fn restore(&self, asked: Restore) -> Result<Restored, RestoreError> {
        restore(&self.shared, asked).await
    }
}

pub(crate) async fn restore(shared: &std::sync::Arc<Shared>, asked: Restore) -> Result<Restored, RestoreError> {
    let shared = shared.clone();
    let done = task::spawn_blocking(move || {
        let restored = Writing::open(&shared)?.restore(&asked)?;
        shared.look.notify_one();
        Ok(restored)
    });
    match done.await {
        Ok(done) => done,
        Err(error) => Err(RestoreError::Broke(error.to_string())),
    }
}

/// The repository that commits are made in: the source, or its mirror.
struct Writing<'a> {
    shared: &'a Shared,
    repo: Repository,
    connection: Option<Connection>,
}

/// A commit that is ready to be put on the branch.
struct Made {
    id: Oid,
    from: Commit,
}

enum Delivered {
    Done,
    Moved,
    Refused(String),
}

impl<'a> Writing<'a> {
    fn open(shared: &'a Shared) -> Result<Self, RestoreError> {
        let connection = match &shared.options.source {
            Source::Remote(url) => Some(Connection::new(url, &shared.options)),
            Source::Local(_) => None,
        };
        let repo = match &connection {
            Some(_) => remote::mirror(&shared.place.path)?,
            None => shared.place.open()?,
        };
        Ok(Self {
            shared,
            repo,
            connection,
        })
    }

    fn fetch(&self) -> Result<(), RestoreError> {
        match &self.connection {
            Some(connection) => Ok(connection.fetch(&self.repo, &["+refs/heads/*:refs/heads/*".into()])?),
            None => Ok(()),
        }
    }

    fn restore(&self, asked: &Restore) -> Result<Restored, RestoreError> {
        let place = &self.shared.place;
        for _ in 0..TRIES {
            self.fetch()?;
            let tip = place.tip(&self.repo)?;
            if let Some(done) = self.earlier(asked, tip)? {
                return Ok(done);
            }
            let made = self.commit(asked, tip, self.shared.clock.now().wall)?;
            let restored = |branch: &str, id: Oid, refused| Restored {
                commit: commit_of(id),
                branch: branch.to_owned(),
                refused,
                from: made.from.clone(),
                file: asked.file.clone(),
            };
            match self.deliver(made.id, tip)? {
                Delivered::Done => return Ok(restored(&place.branch, made.id, None)),
                Delivered::Moved => {}
                Delivered::Refused(why) => {
                    let (branch, id) = self.propose(asked, made.id)?;
                    return Ok(restored(&branch, id, Some(why)));
                }
            }
        }
        Err(RestoreError::Busy {
            branch: place.branch.clone(),
        })
    }

    /// The revert of the same content that was made before: a server that was killed right after it
    /// does not know of it.
    fn earlier(&self, asked: &Restore, tip: Oid) -> Result<Option<Restored>, RestoreError> {
        let Why::Failed { content, .. } = &asked.why else {
            return Ok(None);
        };
        let (content, object) = (content.to_string(), asked.key.to_string());
        let told = |id: Oid| -> Option<Restored> {
            let commit = self.repo.find_commit(id).ok()?;
            let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
            let same = trailer(&message, BAD)? == content && trailer(&message, OBJECT)? == object;
            same.then(|| Restored {
                commit: commit_of(id),
                branch: self.shared.place.branch.clone(),
                refused: None,
                from: trailer(&message, FROM).unwrap_or_default().as_str().into(),
                file: asked.file.clone(),
            })
        };
        let mut walk = self.repo.revwalk()?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)?;
        walk.push(tip)?;
        for id in walk.take(LOOK_BACK) {
            if let Some(done) = told(id?) {
                return Ok(Some(done));
            }
        }
        for reference in self.repo.references_glob(&format!("{PROPOSALS}*"))? {
            let reference = reference?;
            let done = reference.peel_to_commit().ok().and_then(|commit| told(commit.id()));
            if let (Some(done), Ok(name)) = (done, reference.shorthand()) {
                return Ok(Some(Restored {
                    branch: name.to_owned(),
                    refused: Some("it was put there before".to_owned()),
                    ..done
                }));
            }
        }
        Ok(None)
    }

    /// The commit on top of `tip`, on no branch yet.
    fn commit(&self, asked: &Restore, tip: Oid, at: Timestamp) -> Result<Made, RestoreError> {
        let key = || asked.key.clone();
        let repo = &self.repo;
        let now = self.bytes(tip, &asked.file).unwrap_or_default();
        let now = File {
            path: &asked.file,
            bytes: &now,
        };
        let here = now.declared(&asked.key).ok_or_else(|| match &asked.why {
            Why::Failed { .. } => RestoreError::MovedOn {
                key: key(),
                tip: commit_of(tip),
            },
            Why::Asked { .. } => RestoreError::Gone {
                key: key(),
                file: asked.file.clone(),
                commit: commit_of(tip),
            },
        })?;
        if matches!(&asked.why, Why::Failed { content, .. } if *content != here.hash) {
            return Err(RestoreError::MovedOn {
                key: key(),
                tip: commit_of(tip),
            });
        }
        let (from, file, wanted) = self.target(asked)?;
        let then = self.bytes(from, &file).unwrap_or_default();
        let then = File {
            path: &file,
            bytes: &then,
        };
        let not_there = || RestoreError::NotThere {
            key: key(),
            commit: commit_of(from),
        };
        let there = then.declared(&asked.key).ok_or_else(not_there)?;
        if wanted.is_some_and(|wanted| wanted != there.hash) {
            return Err(not_there());
        }
        let from = commit_of(from);
        if here.hash == there.hash {
            return Err(RestoreError::Same { key: key(), from });
        }
        let bytes = document::put_back(now, then, &asked.key).map_err(|reason| RestoreError::Entangled {
            key: key(),
            file: asked.file.clone(),
            reason,
        })?;
        let parent = repo.find_commit(tip)?;
        let tree = parent.tree()?;
        let mode = match tree.get_path(asked.file.as_ref())?.filemode() {
            0o100_755 => git2::FileMode::BlobExecutable,
            _ => git2::FileMode::Blob,
        };
        let mut update = TreeUpdateBuilder::new();
        update.upsert(asked.file.as_str(), repo.blob(&bytes)?, mode);
        let tree = repo.find_tree(update.create_updated(repo, &tree)?)?;
        let who = signature(at)?;
        let message = Message { asked, from: &from }.to_string();
        let id = repo.commit(None, &who, &who, &message, &tree, &[&parent])?;
        Ok(Made { id, from })
    }

    fn bytes(&self, commit: Oid, file: &str) -> Option<Vec<u8>> {
        let id = blob(&self.repo, commit, file)?;
        Some(self.repo.find_blob(id).ok()?.content().to_vec())
    }

    /// The commit and file to restore from, and the content if it is known.
    fn target(&self, asked: &Restore) -> Result<(Oid, String, Option<ContentHash>), RestoreError> {
        match &asked.to {
            Target::Content { commit, file, hash } => {
                let id = oid(commit).filter(|id| self.repo.find_commit(*id).is_ok());
                let id = id.ok_or_else(|| RestoreError::NotThere {
                    key: asked.key.clone(),
                    commit: commit.clone(),
                })?;
                Ok((id, file.clone(), Some(*hash)))
            }
            Target::Revision { text, files } => {
                let place = &self.shared.place;
                let unknown = |error: SourceError| RestoreError::NoCommit(error.to_string());
                let id = place.resolve(&self.repo, text).map_err(unknown)?;
                let declares = |file: &&String| {
                    let bytes = self.bytes(id, file).unwrap_or_default();
                    let file = File {
                        path: file,
                        bytes: &bytes,
                    };
                    file.declared(&asked.key).is_some()
                };
                let file = files.iter().find(declares).ok_or_else(|| RestoreError::NotThere {
                    key: asked.key.clone(),
                    commit: commit_of(id),
                })?;
                Ok((id, file.clone(), None))
            }
        }
    }

    /// Moves the branch on from `tip`, if it is still there.
    fn deliver(&self, id: Oid, tip: Oid) -> Result<Delivered, RestoreError> {
        let place = &self.shared.place;
        let Some(connection) = &self.connection else {
            let checked_out = !self.repo.is_bare()
                && self
                    .repo
                    .find_reference("HEAD")
                    .is_ok_and(|head| head.symbolic_target().ok().flatten() == Some(place.reference.as_str()));
            if checked_out {
                return Ok(Delivered::Refused(format!(
                    "the branch {} is checked out in a work tree, which would fall behind",
                    place.branch
                )));
            }
            // The old value is part of the update: whoever was faster is not overwritten.
            let moved = self
                .repo
                .reference_matching(&place.reference, id, true, tip, "towline: restore");
            return match moved {
                Ok(_) => Ok(Delivered::Done),
                Err(error)
                    if matches!(
                        error.code(),
                        ErrorCode::Modified | ErrorCode::Exists | ErrorCode::Locked
                    ) =>
                {
                    Ok(Delivered::Moved)
                }
                Err(error) => Err(error.into()),
            };
        };
        match self.push(connection, id, &place.reference) {
            Ok(()) => Ok(Delivered::Done),
            Err(error) => {
                self.fetch()?;
                match (place.tip(&self.repo)? != tip, error) {
                    (true, _) => Ok(Delivered::Moved),
                    (false, RemoteError::Refused { reason, .. }) => Ok(Delivered::Refused(reason)),
                    (false, error) => Err(error.into()),
                }
            }
        }
    }

    fn push(&self, connection: &Connection, id: Oid, to: &str) -> Result<(), RemoteError> {
        let staged = self.repo.reference(STAGED, id, true, "restore");
        staged.map_err(|error| RemoteError::Git {
            url: connection.url.clone(),
            reason: error.message().to_owned(),
        })?;
        connection.push(&self.repo, STAGED, to)
    }

    /// Puts the commit on a branch of its own, where people can look at it.
    fn propose(&self, asked: &Restore, id: Oid) -> Result<(String, Oid), RestoreError> {
        let tree = self.repo.find_commit(id)?.tree_id();
        let base = format!("{PROPOSALS}{}", slug(&asked.key));
        for number in 1..=TRIES {
            let name = match number {
                1 => base.clone(),
                number => format!("{base}-{number}"),
            };
            let shown = name.trim_start_matches("refs/heads/").to_owned();
            if let Ok(there) = self.repo.refname_to_id(&name) {
                let there = self.repo.find_commit(there)?;
                if there.tree_id() == tree {
                    return Ok((shown, there.id()));
                }
                continue;
            }
            match &self.connection {
                Some(connection) => self.push(connection, id, &name)?,
                None => drop(self.repo.reference(&name, id, false, "towline: restore")?),
            }
            return Ok((shown, id));
        }
        Err(RestoreError::Busy {
            branch: base.trim_start_matches("refs/heads/").to_owned(),
        })
    }
}

/// An object's name as a part of a branch's.
fn slug(key: &Key) -> String {
    let kind = key.kind.info().singular();
    match key.ns() {
        "" => format!("restore-{kind}-{}", key.name),
        namespace => format!("restore-{kind}-{namespace}-{}", key.name),
    }
}

/// The message of the commit.
struct Message<'a> {
    asked: &'a Restore,
    from: &'a Commit,
}

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, from) = (&self.asked.key, self.from);
        match &self.asked.why {
            Why::Asked { by } => {
                writeln!(f, "Roll {key} back to {}\n", from.short())?;
                writeln!(f, "Its document is as that commit has it; nothing else changed.\n")?;
                writeln!(f, "{OBJECT}: {key}\n{FROM}: {from}\nRequested-By: {}", line(by))
            }
            Why::Failed { content, reason } => {
                writeln!(f, "Revert {key} to {}, its last healthy content\n", from.short())?;
                writeln!(f, "Its rollout failed: {}\n", line(reason))?;
                writeln!(f, "{OBJECT}: {key}\n{FROM}: {from}\n{BAD}: {content}")
            }
        }
    }
}

/// A text on one line.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
