//! Where a private cluster lies, and who may enter.

use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Group, Uid, User};
use sha2::{Digest as _, Sha256};

use super::{PrivateError, failed};

/// The longest path of a Unix socket, without its closing zero.
const SOCKET_PATH: usize = 107;
/// A log over this many bytes is set aside at the next start.
const LOG_SIZE: u64 = 16 * 1024 * 1024;

/// The folders of one cluster and the user that its server runs as.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) data_dir: PathBuf,
    pub(super) cluster: PathBuf,
    /// The folder of the socket.
    pub(super) socket: PathBuf,
    pub(super) log: PathBuf,
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    /// Whether we are root and have to become that user.
    pub(super) switch: bool,
}

/// Locks a data directory for this process.
pub(super) fn lock(data_dir: &Path) -> Result<fs::File, PrivateError> {
    let path = data_dir.join("lock");
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(PrivateError::Locked {
                folder: data_dir.to_owned(),
                pid: pid.trim().to_owned(),
            });
        }
        Err(fs::TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
    }
    // The number only serves the message above.
    let _ = file.set_len(0);
    let _ = writeln!(file, "{}", std::process::id());
    Ok(file)
}

impl Place {
    pub(super) fn find(data_dir: PathBuf) -> Result<Self, PrivateError> {
        let cluster = data_dir.join("postgres");
        let ours = Uid::effective();
        let owner = match fs::metadata(&cluster) {
            Ok(found) => Some((Uid::from_raw(found.uid()), Gid::from_raw(found.gid()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("look at", &cluster)(error)),
        };
        let (uid, gid) = match owner {
            Some((owner, _)) if !ours.is_root() && owner != ours => {
                return Err(PrivateError::Owner {
                    folder: cluster,
                    owner: owner.as_raw(),
                    ours: ours.as_raw(),
                });
            }
            Some((owner, gid)) if !owner.is_root() => (owner, gid),
            _ if ours.is_root() => {
                let user = User::from_name("postgres").ok().flatten().ok_or(PrivateError::NoUser)?;
                (user.uid, user.gid)
            }
            _ => (ours, Gid::effective()),
        };
        let socket = socket_folder(&cluster, ours.is_root());
        Ok(Self {
            log: data_dir.join("postgres.log"),
            data_dir,
            cluster,
            socket,
            uid,
            gid,
            switch: ours.is_root(),
        })
    }

    /// Checks that the server's user can come as far as its cluster.
    pub(super) fn check_search(&self) -> Result<(), PrivateError> {
        if !self.switch {
            return Ok(());
        }
        let user = User::from_uid(self.uid).ok().flatten();
        let name = user.map_or_else(|| self.uid.to_string(), |user| user.name);
        let mut folders: Vec<&Path> = self.data_dir.ancestors().collect();
        folders.reverse();
        for folder in folders {
            let found = fs::metadata(folder).map_err(failed("look at", folder))?;
            let member = || {
                found.gid() == self.gid.as_raw()
                    || Group::from_gid(Gid::from_raw(found.gid()))
                        .ok()
                        .flatten()
                        .is_some_and(|group| group.mem.contains(&name))
            };
            let bit = if found.uid() == self.uid.as_raw() {
                0o100
            } else if member() {
                0o010
            } else {
                0o001
            };
            if found.mode() & bit == 0 {
                return Err(PrivateError::Unsearchable {
                    folder: folder.to_owned(),
                    user: name,
                });
            }
        }
        Ok(())
    }

    /// Makes the folder of the socket, if it is not the cluster's own.
    pub(super) fn make_socket_folder(&self) -> Result<(), PrivateError> {
        if self.socket == self.cluster {
            return Ok(());
        }
        self.make_private(&self.socket)
    }

    /// Makes a folder that the server's user alone can enter, or checks that it is one.
    pub(super) fn make_private(&self, folder: &Path) -> Result<(), PrivateError> {
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) if self.switch => {
                chown(folder, Some(self.uid.as_raw()), Some(self.gid.as_raw())).map_err(failed("give away", folder))
            }
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = fs::symlink_metadata(folder).map_err(failed("look at", folder))?;
                let safe =
                    found.is_dir() && found.uid() == self.uid.as_raw() && found.permissions().mode() & 0o077 == 0;
                if safe {
                    Ok(())
                } else {
                    Err(PrivateError::Unsafe {
                        folder: folder.to_owned(),
                        user: self.uid.as_raw(),
                    })
                }
            }
            Err(error) => Err(failed("make", folder)(error)),
        }
    }

    /// The server's log, to append to. A long one is set aside first.
    pub(super) fn open_log(&self) -> Result<fs::File, PrivateError> {
        if fs::metadata(&self.log).is_ok_and(|log| log.len() > LOG_SIZE) {
            let old = self.log.with_extension("log.old");
            fs::rename(&self.log, &old).map_err(failed("set aside", &self.log))?;
        }
        let mut options = fs::OpenOptions::new();
        options
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.log)
            .map_err(failed("open", &self.log))
    }

    /// The last lines of the server's log.
    pub(super) fn log_tail(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = fs::File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            let mut lines: Vec<&str> = text.lines().rev().take(12).collect();
            lines.reverse();
            Ok(lines.join("\n"))
        };
        read().unwrap_or_else(|error| format!("({} cannot be read: {error})", self.log.display()))
    }
}

/// The cluster's own folder, unless its path is too long for a socket.
fn socket_folder(cluster: &Path, root: bool) -> PathBuf {
    let fits = |folder: &Path| folder.join(".s.PGSQL.5432").as_os_str().len() <= SOCKET_PATH;
    if fits(cluster) {
        return cluster.to_owned();
    }
    let hash = hex::encode(Sha256::digest(cluster.as_os_str().as_encoded_bytes()));
    let name = format!("towline-{}", &hash[..16]);
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|_| !root);
    let runtime = runtime.filter(|folder| folder.is_dir() && fits(&folder.join(&name)));
    let run = PathBuf::from("/run");
    match runtime {
        Some(folder) => folder.join(name),
        None if root && run.is_dir() => run.join(name),
        None => PathBuf::from("/tmp").join(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_gets_a_short_socket() {
        let short = PathBuf::from("/var/lib/towline/postgres");
        assert_eq!(socket_folder(&short, true), short);
        let long = PathBuf::from(format!("/{}/postgres", "x".repeat(120)));
        let folder = socket_folder(&long, true);
        assert!(folder.join(".s.PGSQL.5432").as_os_str().len() <= SOCKET_PATH);
        let other = PathBuf::from(format!("/{}/postgres", "y".repeat(120)));
        assert_ne!(folder, socket_folder(&other, true));
    }
}
