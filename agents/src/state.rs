//! What an agent keeps on disk: who it is, and what it last knew, so that pods keep running and
//! restarting when neither the server nor the former process is there.
//!
//! One file for each object. A file is written before a container is made from it and before the
//! version that it came with is noted, so a kill at any moment leaves a state that is older, never one
//! that claims more than it has.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::fcntl::{Flock, FlockArg};
use schemas::{Key, Kind, Object, node::Incarnation};
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot {what} {}: {error}", .path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error("another agent uses the state directory {}; give each its own", .0.display())]
    Locked(PathBuf),
}

/// The last point of the server's history that the agent has applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub cluster: Arc<str>,
    pub incarnation: Incarnation,
    pub version: u64,
}

/// An object as it was last known, and the life of the store in which it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    pub incarnation: Incarnation,
    pub object: Object,
}

#[derive(Default, Serialize, Deserialize)]
struct Identity {
    node_uid: String,
    #[serde(default)]
    head: Option<Head>,
}

/// What was found on disk.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    pub node_uid: Option<Arc<str>>,
    pub head: Option<Head>,
    pub known: Vec<Known>,
}

/// The state directory. Without one, nothing outlives the process: for simulation.
#[derive(Debug)]
pub(crate) struct State {
    dir: Option<PathBuf>,
    _lock: Option<Flock<fs::File>>,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |error| StateError::Io { what, path, error }
}

/// Makes a directory that only its owner can enter.
///
/// # Errors
/// When it is not there and cannot be made.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file whole or not at all.
///
/// # Errors
/// When the file cannot be written beside its place and moved there.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(bytes)?;
    fs::rename(&beside, path)
}

impl State {
    /// Opens and locks the directory, and reads what is in it.
    ///
    /// # Errors
    /// When it cannot be made, read or locked. A file that makes no sense is skipped with a warning:
    /// the server sends its object again.
    pub(crate) fn open(dir: Option<PathBuf>) -> Result<(Self, Saved), StateError> {
        let Some(dir) = dir else {
            return Ok((Self { dir: None, _lock: None }, Saved::default()));
        };
        let known_dir = dir.join("known");
        private_dir(&known_dir).map_err(failed("make", &known_dir))?;
        let lock_path = dir.join("lock");
        let lock = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|_| StateError::Locked(dir.clone()))?;
        let mut saved = Saved::default();
        let identity_path = dir.join("identity.json");
        match fs::read(&identity_path) {
            Ok(bytes) => match serde_json::from_slice::<Identity>(&bytes) {
                Ok(identity) => {
                    saved.node_uid = Some(identity.node_uid.into());
                    saved.head = identity.head;
                }
                Err(error) => tracing::warn!(path = %identity_path.display(), %error, "the identity file is not valid"),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read", &identity_path)(error)),
        }
        for entry in fs::read_dir(&known_dir).map_err(failed("read", &known_dir))? {
            let path = entry.map_err(failed("read", &known_dir))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = fs::read(&path).map_err(failed("read", &path))?;
            match serde_json::from_slice(&bytes) {
                Ok(known) => saved.known.push(known),
                Err(error) => tracing::warn!(path = %path.display(), %error, "a saved object is not valid"),
            }
        }
        Ok((
            Self {
                dir: Some(dir),
                _lock: Some(lock),
            },
            saved,
        ))
    }

    #[must_use]
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    fn path(&self, key: &Key, uid: &str) -> Option<PathBuf> {
        // Two pods of one name can be here at once, while the older ends.
        let uid = if key.kind == Kind::Pod { uid } else { "" };
        let name = format!("{}_{}_{}_{uid}.json", key.kind, key.ns(), key.name);
        Some(self.dir.as_ref()?.join("known").join(name))
    }

    pub(crate) fn save(&self, incarnation: &Incarnation, object: &Object) {
        let Some(path) = self.path(&object.key(), &object.uid().0) else {
            return;
        };
        let known = Known {
            incarnation: incarnation.clone(),
            object: object.clone(),
        };
        let written = serde_json::to_vec(&known)
            .map_err(io::Error::from)
            .and_then(|bytes| replace_file(&path, &bytes, 0o600));
        if let Err(error) = written {
            tracing::error!(path = %path.display(), %error, "cannot save what is known");
        }
    }

    pub(crate) fn forget(&self, key: &Key, uid: &str) {
        let Some(path) = self.path(key, uid) else { return };
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(path = %path.display(), %error, "cannot forget a saved object");
        }
    }

    pub(crate) fn save_identity(&self, node_uid: &str, head: Option<&Head>) {
        let Some(dir) = &self.dir else { return };
        let identity = Identity {
            node_uid: node_uid.to_owned(),
            head: head.cloned(),
        };
        let path = dir.join("identity.json");
        let written = serde_json::to_vec(&identity)
            .map_err(io::Error::from)
            .and_then(|bytes| replace_file(&path, &bytes, 0o600));
        if let Err(error) = written {
            tracing::error!(path = %path.display(), %error, "cannot save the agent's identity");
        }
    }

    /// The directory of a pod's files and volumes.
    #[must_use]
    pub(crate) fn pod_dir(&self, uid: &str) -> Option<PathBuf> {
        // A uid comes from the server; only what cannot leave the directory is taken.
        let safe: String = uid.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        (!safe.is_empty()).then(|| self.dir.as_ref().map(|dir| dir.join("pods").join(safe)))?
    }
}
