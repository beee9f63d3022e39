//! The files that a server leaves in its data directory for people and for other commands.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::Context;

/// Makes the data directory. Others may pass through it (the private Postgres runs as another user)
/// but not list it.
pub(crate) fn make_data_dir(dir: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(dir)
        .with_context(|| format!("the data directory {} cannot be made", dir.display()))
}

/// Makes a folder that its owner alone can enter, or makes it so.
pub(crate) fn make_private(dir: &Path) -> anyhow::Result<()> {
    let make = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
    };
    make().with_context(|| format!("the folder {} cannot be made private", dir.display()))
}

/// Writes a file whole or not at all, readable by its owner alone.
pub(crate) fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let draft = path.with_extension("new");
    let put = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    put().with_context(|| format!("{} cannot be written", path.display()))
}

/// Takes a file away, if it is there.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file could not be removed");
    }
}
