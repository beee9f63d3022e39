//! A folder on disk as a tree of git.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use git2::{FileMode, Oid, Repository};

use crate::{ignore, tree::is_manifest};

/// Which files of a folder are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    /// All but git's own folder.
    Everything,
    /// Manifests, and what says which files are manifests.
    Manifests,
}

/// Why a folder could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{}: {error}", path.display())]
    Read { path: std::path::PathBuf, error: io::Error },
    #[error("{0}")]
    Git(String),
}

impl From<git2::Error> for ImportError {
    fn from(error: git2::Error) -> Self {
        Self::Git(error.message().to_owned())
    }
}

/// Writes a folder's files as blobs and trees, and answers with its tree and the number of files.
pub(crate) fn folder(repo: &Repository, path: &Path, take: Take) -> Result<(Oid, usize), ImportError> {
    let read_error = |error| ImportError::Read {
        path: path.to_path_buf(),
        error,
    };
    let mut builder = repo.treebuilder(None)?;
    let mut count = 0;
    for entry in fs::read_dir(path).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        let kind = entry.file_type().map_err(read_error)?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let wanted = match take {
            Take::Everything => text != ".git",
            Take::Manifests if kind.is_dir() || (kind.is_symlink() && entry.path().is_dir()) => !text.starts_with('.'),
            Take::Manifests => is_manifest(&text) || text == ignore::FILE || text == "Kustomization",
        };
        if !wanted {
            continue;
        }
        let inside = entry.path();
        if kind.is_dir() {
            let (id, files) = folder(repo, &inside, take)?;
            // Git has no empty folders.
            if files > 0 {
                builder.insert(&name, id, FileMode::Tree.into())?;
                count += files;
            }
        } else if kind.is_symlink() || kind.is_file() {
            let (id, mode) = file(repo, &inside, kind.is_symlink())?;
            builder.insert(&name, id, mode.into())?;
            count += 1;
        }
    }
    Ok((builder.write()?, count))
}

fn file(repo: &Repository, path: &Path, link: bool) -> Result<(Oid, FileMode), ImportError> {
    let error = |error| ImportError::Read {
        path: path.to_path_buf(),
        error,
    };
    if link {
        let target = fs::read_link(path).map_err(error)?;
        return Ok((repo.blob(target.as_os_str().as_encoded_bytes())?, FileMode::Link));
    }
    let bytes = fs::read(path).map_err(error)?;
    let mode = fs::metadata(path).map_err(error)?.permissions().mode();
    let mode = if mode & 0o111 == 0 {
        FileMode::Blob
    } else {
        FileMode::BlobExecutable
    };
    Ok((repo.blob(&bytes)?, mode))
}
