//! What an agent keeps on disk: who it is, and what it last knew, so that pods keep running and
//! restarting when neither the server nor the former process is there.
//!
//! | file | what | written |
//! |---|---|---|
//! | `identity.json` | who the agent is, and of which cluster | once, durably |
//! | `claims.json` | whose containers may go, and whose nobody claims | when one changes, durably |
//! | `head.json` | how far the server's history was applied | with each version |
//! | `known/*.json` | one object each | when it or its status changes |
//!
//! The order makes a kill at any moment leave a state that is older, never one that claims more than it
//! has: objects and claims are written before a container is made or removed for them and before the
//! version that they came with. A machine that lost its power may have lost the newest files but not
//! the older ones, so a head of an earlier boot is not gone on from: everything is sent again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::fcntl::{Flock, FlockArg};
use schemas::{
    Key, Kind, Object, Uid,
    node::{Incarnation, Position},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

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
    #[error(
        "{} is not valid ({error}), so this agent does not know which containers are its own; put the file back, or move the directory away: an agent that starts without one gets its identity back from the server",
        .path.display()
    )]
    Identity { path: PathBuf, error: serde_json::Error },
}

/// How far the agent has applied the server's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub cluster: Arc<str>,
    /// Where a stream goes on.
    #[serde(flatten)]
    pub at: Position,
    /// The highest version ever seen in this incarnation. A server that comes with a lower one has lost
    /// a part of its history, and what it does not know proves nothing.
    #[serde(default)]
    pub high: u64,
}

impl Head {
    /// The head after `self`, at a new position.
    #[must_use]
    pub(crate) fn moved(before: Option<&Self>, cluster: &Arc<str>, at: Position) -> Self {
        let high = before
            .filter(|head| head.at.incarnation == at.incarnation)
            .map_or(0, |head| head.high);
        Self {
            cluster: cluster.clone(),
            high: high.max(at.version),
            at,
        }
    }
}

/// An object as it was last known, and the life of the store in which it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    pub incarnation: Incarnation,
    pub object: Object,
}

/// The pods whose claim is not simply that the server has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Deleted; their containers are to be removed.
    pub gone: BTreeSet<Uid>,
    /// Not known to the server, with the last position at which it had them.
    pub unclaimed: BTreeMap<Uid, Option<Position>>,
    /// Unclaimed, and a person said that they stay.
    pub kept: BTreeSet<Uid>,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    node_uid: Arc<str>,
    #[serde(default)]
    cluster: Option<Arc<str>>,
    /// Where the head was kept before it had a file of its own.
    #[serde(default, skip_serializing)]
    head: Option<Head>,
}

#[derive(Serialize, Deserialize)]
struct KeptHead {
    /// The boot of the machine in which it was written.
    boot: String,
    head: Head,
}

/// What was found on disk.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    pub node_uid: Option<Arc<str>>,
    pub cluster: Option<Arc<str>>,
    pub head: Option<Head>,
    /// Whether everything up to the head is known, so that a stream can go on from there.
    pub whole: bool,
    pub claims: Claims,
    pub known: Vec<Known>,
}

/// The state directory. Without one, nothing outlives the process: for simulation.
#[derive(Debug)]
pub(crate) struct State {
    dir: Option<PathBuf>,
    boot: String,
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

/// Writes a file whole or not at all, as every process sees it from then on.
///
/// # Errors
/// When the file cannot be written beside its place and moved there.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_file(path, bytes, mode, false)
}

/// As [`replace_file`], and the machine may lose its power after it.
fn keep_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_file(path, bytes, mode, true)
}

fn write_file(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> io::Result<()> {
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
    if durable {
        file.sync_all()?;
    }
    fs::rename(&beside, path)?;
    if durable && let Some(parent) = path.parent() {
        // The new name is in the directory, which is a file of its own.
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<Result<T, serde_json::Error>>, StateError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Reads a file whose content can be had again: one that makes no sense is skipped with a warning.
fn read_or_skip<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let found = read(path)?;
    Ok(found.and_then(|found| {
        found
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a saved file is not valid"))
            .ok()
    }))
}

impl State {
    /// Opens and locks the directory, and reads what is in it. `boot` names the boot of this machine.
    ///
    /// # Errors
    /// When it cannot be made, read or locked, or when it does not say whose it is.
    pub(crate) fn open(dir: Option<PathBuf>, boot: &str) -> Result<(Self, Saved), StateError> {
        let boot = boot.to_owned();
        let Some(dir) = dir else {
            let state = Self {
                dir: None,
                boot,
                _lock: None,
            };
            return Ok((state, Saved::default()));
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
        let path = dir.join("identity.json");
        if let Some(identity) = read::<Identity>(&path)? {
            let identity = identity.map_err(|error| StateError::Identity { path, error })?;
            saved.node_uid = Some(identity.node_uid);
            saved.cluster = identity
                .cluster
                .or_else(|| identity.head.as_ref().map(|head| head.cluster.clone()));
            saved.head = identity.head;
            saved.whole = saved.head.is_some();
        }
        if let Some(kept) = read_or_skip::<KeptHead>(&dir.join("head.json"))? {
            saved.whole = kept.boot == boot;
            saved.head = Some(kept.head);
        }
        if let Some(head) = &mut saved.head {
            head.high = head.high.max(head.at.version);
        }
        let state = Self {
            dir: Some(dir.clone()),
            boot,
            _lock: Some(lock),
        };
        if let Some(head) = saved.head.as_ref().filter(|_| saved.whole) {
            // From here on in its own file, wherever it was.
            state.save_head(head);
        }
        saved.claims = read_or_skip(&dir.join("claims.json"))?.unwrap_or_default();
        for entry in fs::read_dir(&known_dir).map_err(failed("read", &known_dir))? {
            let path = entry.map_err(failed("read", &known_dir))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                saved.known.extend(read_or_skip(&path)?);
            }
        }
        Ok((state, saved))
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

    /// Keeps an object; tells whether it is on disk, where there is one.
    pub(crate) fn save(&self, incarnation: &Incarnation, object: &Object) -> bool {
        let Some(path) = self.path(&object.key(), &object.uid().0) else {
            return true;
        };
        let known = Known {
            incarnation: incarnation.clone(),
            object: object.clone(),
        };
        write_json(&path, &known, replace_file)
    }

    pub(crate) fn forget(&self, key: &Key, uid: &str) {
        let Some(path) = self.path(key, uid) else { return };
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(path = %path.display(), %error, "cannot forget a saved object");
        }
    }

    /// Keeps who this agent is. Without that on disk its containers would be nobody's.
    ///
    /// # Errors
    /// When it cannot be written durably.
    pub(crate) fn save_identity(&self, node_uid: &Arc<str>, cluster: Option<&Arc<str>>) -> Result<(), StateError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let identity = Identity {
            node_uid: node_uid.clone(),
            cluster: cluster.cloned(),
            head: None,
        };
        let path = dir.join("identity.json");
        serde_json::to_vec(&identity)
            .map_err(io::Error::from)
            .and_then(|bytes| keep_file(&path, &bytes, 0o600))
            .map_err(failed("write", &path))
    }

    pub(crate) fn save_head(&self, head: &Head) {
        let Some(dir) = &self.dir else { return };
        let kept = KeptHead {
            boot: self.boot.clone(),
            head: head.clone(),
        };
        write_json(&dir.join("head.json"), &kept, replace_file);
    }

    /// Keeps the claims; tells whether they are on disk.
    pub(crate) fn save_claims(&self, claims: &Claims) -> bool {
        let Some(dir) = &self.dir else { return true };
        write_json(&dir.join("claims.json"), claims, keep_file)
    }

    /// Keeps that a volume was made on this node; tells whether that was known.
    pub(crate) fn keep_volume(&self, uid: &Uid) -> bool {
        let Some(path) = self.volume_path(uid) else {
            return false;
        };
        if path.exists() {
            return true;
        }
        let kept = path.parent().map_or(Ok(()), private_dir);
        if let Err(error) = kept.and_then(|()| replace_file(&path, b"", 0o600)) {
            tracing::error!(path = %path.display(), %error, "cannot keep that a volume was made");
        }
        false
    }

    /// The volume is gone for good.
    pub(crate) fn forget_volume(&self, uid: &Uid) {
        if let Some(path) = self.volume_path(uid) {
            // It is not there when no agent before this one kept it.
            let _ = fs::remove_file(path);
        }
    }

    fn volume_path(&self, uid: &Uid) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join("volumes").join(file_name(&uid.0)?))
    }

    /// The directory of a pod's files and volumes.
    #[must_use]
    pub(crate) fn pod_dir(&self, uid: &str) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join("pods").join(file_name(uid)?))
    }
}

/// A uid comes from the server; only what cannot leave a directory is taken.
fn file_name(uid: &str) -> Option<String> {
    let safe: String = uid.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    (!safe.is_empty()).then_some(safe)
}

fn write_json(path: &Path, value: &impl Serialize, write: fn(&Path, &[u8], u32) -> io::Result<()>) -> bool {
    let written = serde_json::to_vec(value)
        .map_err(io::Error::from)
        .and_then(|bytes| write(path, &bytes, 0o600));
    if let Err(error) = &written {
        tracing::error!(path = %path.display(), %error, "cannot save what this agent knows");
    }
    written.is_ok()
}

#[cfg(test)]
mod tests {
    use schemas::node::Term;

    use super::*;

    fn at(incarnation: &str, version: u64) -> Position {
        Position {
            incarnation: Incarnation(incarnation.into()),
            term: Term("t".into()),
            version,
        }
    }

    #[test]
    fn a_head_goes_back_in_position_but_never_in_height_within_an_incarnation() {
        let cluster: Arc<str> = "c".into();
        let mut head: Option<Head> = None;
        for (position, high) in [
            (at("i", 10), 10),
            (at("i", 5), 10),
            (at("i", 7), 10),
            (at("i", 12), 12),
            (at("j", 3), 3),
            (at("j", 1), 3),
        ] {
            let next = Head::moved(head.as_ref(), &cluster, position.clone());
            assert_eq!((&next.at, next.high), (&position, high));
            head = Some(next);
        }
    }

    #[test]
    fn what_is_saved_is_found_and_a_boot_makes_the_head_a_place_not_to_go_on_from() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |boot: &str| State::open(Some(dir.path().to_owned()), boot).expect("it opens");
        let cluster: Arc<str> = "c".into();
        let head = Head::moved(None, &cluster, at("i", 10));
        let claims = Claims {
            gone: [Uid::from("g")].into(),
            unclaimed: [(Uid::from("u"), Some(at("i", 9))), (Uid::from("v"), None)].into(),
            kept: [Uid::from("v")].into(),
        };
        let (state, _) = open("one");
        state
            .save_identity(&"me".into(), Some(&cluster))
            .expect("it can be written");
        state.save_head(&head);
        assert!(state.save_claims(&claims));
        assert!(matches!(
            State::open(Some(dir.path().to_owned()), "one"),
            Err(StateError::Locked(_))
        ));
        drop(state);
        for (boot, whole) in [("one", true), ("two", false)] {
            let (_, saved) = open(boot);
            assert_eq!(saved.node_uid.as_deref(), Some("me"));
            assert_eq!(saved.cluster.as_deref(), Some("c"));
            assert_eq!((saved.head.as_ref(), saved.whole), (Some(&head), whole));
            assert_eq!(saved.claims, claims);
        }
        fs::write(dir.path().join("head.json"), "").expect("it can be written");
        let (_, saved) = open("one");
        assert!(saved.head.is_none() && !saved.whole && saved.claims == claims);
    }

    #[test]
    fn the_identity_of_an_older_agent_is_read_and_a_broken_one_is_no_new_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("identity.json");
        let older = r#"{"node_uid": "me", "head": {"cluster": "c", "incarnation": "i", "version": 7}}"#;
        fs::write(&path, older).expect("it can be written");
        let (_, saved) = State::open(Some(dir.path().to_owned()), "b").expect("it opens");
        let head = saved.head.expect("it has one");
        assert_eq!((head.at.version, head.high, saved.whole), (7, 7, true));
        assert_eq!(saved.cluster.as_deref(), Some("c"));
        fs::write(&path, "").expect("it can be written");
        let broken = State::open(Some(dir.path().to_owned()), "b");
        assert!(matches!(broken, Err(StateError::Identity { .. })));
    }
}
