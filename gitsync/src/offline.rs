//! Validating a folder on disk, without a server: the same rules as a sync, by the same code.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use git2::{FileMode, Odb, Oid, Repository};
use schemas::report::{Problem, Severity};
use serde::Serialize;

use crate::{
    import::{self, ImportError, Take},
    parsed::Cache,
    rendered::Rendered,
    source::Place,
};

/// What came of a validation.
#[derive(Clone, Debug, Serialize)]
pub struct Validated {
    /// How many manifest files were read.
    pub files: usize,
    /// How many objects the sound ones declare.
    pub objects: usize,
    /// In the order of positions. Files are named as `PATH` was given.
    pub problems: Vec<Problem>,
}

impl Validated {
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// Why a path could not be validated at all.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error("{} cannot be read: {error}", path.display())]
    Path { path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("{0}")]
    Git(String),
}

impl From<git2::Error> for OfflineError {
    fn from(error: git2::Error) -> Self {
        Self::Git(error.message().to_owned())
    }
}

/// Validates a folder, or one file, as if it were committed where it lies: folders above it, up to the
/// root of its repository, name namespaces and hold ignore files too. Blocks.
///
/// # Errors
/// When the path cannot be read. What is wrong in it is part of the answer.
pub fn validate(path: &Path) -> Result<Validated, OfflineError> {
    let full = path.canonicalize().map_err(|error| OfflineError::Path {
        path: path.to_path_buf(),
        error,
    })?;
    let is_file = full.is_file();
    let folder = if is_file { full.parent().unwrap_or(&full) } else { &full };
    let root = folder
        .ancestors()
        .find(|above| above.join(".git").exists())
        .unwrap_or(folder);
    let within = folder
        .strip_prefix(root)
        .unwrap_or(Path::new(""))
        .to_string_lossy()
        .into_owned();

    let odb = Odb::new()?;
    odb.add_new_mempack_backend(1)?;
    let repo = Repository::from_odb(odb)?;
    let mut tree = if is_file {
        one_file(&repo, &full)?
    } else {
        import::folder(&repo, folder, Take::Manifests)?.0
    };
    // The folders above, each with its ignore file and the one folder on the way.
    let mut at = folder;
    while at != root {
        let (Some(above), Some(name)) = (at.parent(), at.file_name()) else {
            break;
        };
        let mut builder = repo.treebuilder(None)?;
        builder.insert(name, tree, FileMode::Tree.into())?;
        if let Ok(rules) = std::fs::read(above.join(crate::ignore::FILE)) {
            builder.insert(crate::ignore::FILE, repo.blob(&rules)?, FileMode::Blob.into())?;
        }
        tree = builder.write()?;
        at = above;
    }

    let place = Place {
        path: folder.to_path_buf(),
        shown: path.display().to_string(),
        reference: String::new(),
        branch: String::new(),
        folder: within.clone(),
    };
    let mut rendered = Rendered::default();
    rendered
        .turn_to_tree(&place, &repo, &Cache::default(), tree)
        .map_err(|error| OfflineError::Git(error.to_string()))?;
    let mut problems = rendered.index.problems();
    let shown = if is_file {
        path.parent().unwrap_or(Path::new(""))
    } else {
        path
    };
    for position in problems.iter_mut().filter_map(|problem| problem.position.as_mut()) {
        let below = Path::new(&*position.file)
            .strip_prefix(&within)
            .unwrap_or(Path::new(&*position.file));
        let name = if shown == Path::new(".") {
            below.to_path_buf()
        } else {
            shown.join(below)
        };
        position.file = Arc::from(name.to_string_lossy());
    }
    Ok(Validated {
        files: rendered.index.files(),
        objects: rendered.index.len(),
        problems,
    })
}

fn one_file(repo: &Repository, path: &Path) -> Result<Oid, OfflineError> {
    let bytes = std::fs::read(path).map_err(|error| OfflineError::Path {
        path: path.to_path_buf(),
        error,
    })?;
    let mut builder = repo.treebuilder(None)?;
    if let Some(name) = path.file_name() {
        builder.insert(name, repo.blob(&bytes)?, FileMode::Blob.into())?;
    }
    Ok(builder.write()?)
}
