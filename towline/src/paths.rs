//! Where things lie when nobody says otherwise.

use std::path::{Path, PathBuf};

/// The data directory: the one asked for, `/var/lib/towline` for root (its private Postgres runs as
/// another user, which must be able to reach it), else the user's own.
pub(crate) fn data_dir(asked: Option<&Path>) -> PathBuf {
    if let Some(dir) = asked {
        return dir.to_owned();
    }
    if nix::unistd::geteuid().is_root() {
        return "/var/lib/towline".into();
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| home.join(".local/share"))
        .join("towline")
}
