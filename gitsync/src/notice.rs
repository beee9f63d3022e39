//! Noticing that a local repository changed: file events that say "look", and nothing more.

use std::path::{Component, Path};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// Watches the references of a repository for as long as it lives.
pub(crate) struct Notice {
    _watcher: RecommendedWatcher,
}

impl Notice {
    /// Calls `look` for every change below `refs`, and of `packed-refs` and `HEAD`, but for those of
    /// Towline's own references.
    ///
    /// # Errors
    /// When the folder is not there or the machine allows no more watches; the periodic look then
    /// does its work alone.
    pub(crate) fn watch(git_dir: &Path, look: impl Fn() + Send + 'static) -> notify::Result<Self> {
        let root = git_dir.to_path_buf();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error of the watcher may have cost events: look, to be sure.
            if event.is_err() || event.is_ok_and(|event| tells(&root, &event)) {
                look();
            }
        })?;
        watcher.watch(git_dir, RecursiveMode::NonRecursive)?;
        watcher.watch(&git_dir.join("refs"), RecursiveMode::Recursive)?;
        Ok(Self { _watcher: watcher })
    }
}

fn tells(root: &Path, event: &Event) -> bool {
    !matches!(event.kind, EventKind::Access(_))
        && (event.need_rescan() || event.paths.iter().any(|path| is_reference(root, path)))
}

fn is_reference(root: &Path, path: &Path) -> bool {
    if path.extension().is_some_and(|extension| extension == "lock") {
        return false;
    }
    // A path elsewhere is the watched folder's own, under another spelling: it may be gone.
    let Ok(below) = path.strip_prefix(root) else {
        return true;
    };
    let mut parts = below.components().filter_map(|part| match part {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    match parts.next() {
        None => true,
        Some("packed-refs" | "HEAD") => true,
        Some("refs") => match (parts.next(), parts.next()) {
            (Some("heads"), Some("towline")) | (Some("towline"), _) => false,
            (Some("heads") | None, _) => true,
            _ => false,
        },
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_references_tell() {
        let root = Path::new("/r.git");
        for (path, tells) in [
            ("/r.git/refs/heads/main", true),
            ("/r.git/refs/heads/release/prod", true),
            ("/r.git/packed-refs", true),
            ("/r.git/HEAD", true),
            ("/r.git", true),
            ("/r.git/refs/heads/main.lock", false),
            ("/r.git/refs/heads/towline/status", false),
            ("/r.git/refs/tags/v1", false),
            ("/r.git/index", false),
            ("/r.git/objects/12", false),
        ] {
            assert_eq!(is_reference(root, Path::new(path)), tells, "{path}");
        }
    }
}
