//! A part of a volume, mounted so that nothing that a container does can lead out of the volume.
//!
//! Containers write into their volumes, symbolic links too. A path of a volume is therefore opened below
//! the volume by the kernel, once, and what was opened is what gets mounted: no later change of a name
//! moves it.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::{Mode, SFlag, fstat, mkdirat},
};

use crate::state::private_dir;

/// Why a part of a volume cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubPathError {
    #[error("subPath {sub:?} leads out of its volume, by a symbolic link or otherwise")]
    Outside { sub: String },
    #[error("subPath {sub:?}: mounting a part of a volume needs an agent that runs as root")]
    Privilege { sub: String },
    #[error("subPath {sub:?}: {error}")]
    Io { sub: String, error: io::Error },
}

/// Mounts `sub` of the volume at `volume` onto `target`, and makes it a directory where nothing is there
/// yet. What was mounted on `target` before is unmounted; containers that have it keep it.
///
/// # Errors
/// When the path leads out of the volume, or cannot be made or mounted.
pub(crate) fn pin(volume: &Path, sub: &str, target: &Path) -> Result<(), SubPathError> {
    let failed = |error: io::Error| SubPathError::Io {
        sub: sub.to_owned(),
        error,
    };
    let found = open(volume, Path::new(sub)).map_err(|errno| match errno {
        // The kernel says so of links that lead up and out, and of absolute ones.
        Errno::EXDEV | Errno::ELOOP => SubPathError::Outside { sub: sub.to_owned() },
        errno => failed(errno.into()),
    })?;
    let kind = SFlag::from_bits_truncate(fstat(&found).map_err(|errno| failed(errno.into()))?.st_mode);
    let is_dir = kind & SFlag::S_IFMT == SFlag::S_IFDIR;
    if let Some(parent) = target.parent() {
        private_dir(parent).map_err(failed)?;
    }
    while umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    place(target, is_dir).map_err(failed)?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    mount(
        Some(&source),
        target,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .map_err(|errno| match errno {
        Errno::EPERM => SubPathError::Privilege { sub: sub.to_owned() },
        errno => failed(errno.into()),
    })
}

/// Something to mount on, of the kind that is mounted.
fn place(target: &Path, is_dir: bool) -> io::Result<()> {
    match fs::symlink_metadata(target) {
        Ok(there) if there.is_dir() == is_dir => return Ok(()),
        Ok(there) if there.is_dir() => fs::remove_dir(target)?,
        Ok(_) => fs::remove_file(target)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if is_dir {
        fs::create_dir(target)
    } else {
        fs::File::create(target).map(drop)
    }
}

/// Opens a path below a directory, and makes directories where there is nothing.
fn open(volume: &Path, sub: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let root = nix::fcntl::open(
        volume,
        OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY,
        Mode::empty(),
    )?;
    match openat2(&root, sub, how) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    // As open to its users as the volume is.
    let mode = Mode::from_bits_truncate(fstat(&root)?.st_mode & 0o7777);
    let mut at = root.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
    let mut path = PathBuf::new();
    for part in sub.components() {
        let Component::Normal(part) = part else { continue };
        path.push(part);
        let next = match openat2(&root, &path, how) {
            Err(Errno::ENOENT) => {
                match mkdirat(&at, part, mode) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno),
                }
                // The umask took some of it away.
                let made = openat2(&root, &path, how)?;
                let by_fd = format!("/proc/self/fd/{}", made.as_raw_fd());
                nix::sys::stat::fchmodat(
                    nix::fcntl::AT_FDCWD,
                    by_fd.as_str(),
                    mode,
                    nix::sys::stat::FchmodatFlags::FollowSymlink,
                )?;
                made
            }
            other => other?,
        };
        at = next;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn links_inside_count_and_links_that_lead_out_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let volume = dir.path().join("volume");
        fs::create_dir(&volume).expect("made");
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).expect("set");
        fs::create_dir(dir.path().join("host")).expect("made");
        fs::create_dir(volume.join("real")).expect("made");
        fs::write(volume.join("real/file"), "").expect("written");
        symlink("real", volume.join("inside")).expect("linked");
        symlink("/", volume.join("absolute")).expect("linked");
        symlink("../host", volume.join("up")).expect("linked");
        symlink("nowhere", volume.join("dangling")).expect("linked");
        symlink("loop", volume.join("loop")).expect("linked");
        for (sub, expected) in [
            ("real", Ok(())),
            ("real/file", Ok(())),
            ("inside/file", Ok(())),
            ("new/and/deep", Ok(())),
            ("absolute", Err(Errno::EXDEV)),
            ("absolute/etc", Err(Errno::EXDEV)),
            ("up", Err(Errno::EXDEV)),
            ("up/new", Err(Errno::EXDEV)),
            ("loop", Err(Errno::ELOOP)),
            ("dangling", Err(Errno::ENOENT)),
            ("real/file/below", Err(Errno::ENOTDIR)),
        ] {
            assert_eq!(open(&volume, Path::new(sub)).map(drop), expected, "{sub}");
        }
        let mode = fs::metadata(volume.join("new/and/deep"))
            .expect("made")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o777);
        assert!(fs::read_dir(dir.path().join("host")).expect("read").next().is_none());
    }
}
