//! Which files of a commit are manifests: its trees, read by object id.
//!
//! A folder whose tree and rules are the same as before is taken over whole, so that a look at a new
//! commit reads only the folders that the commit changed.

use std::{collections::BTreeMap, sync::Arc};

use git2::{ObjectType, Oid, Repository};

use crate::ignore::{self, Rules};

/// One folder of the repository, with what counts in it.
#[derive(Debug)]
pub(crate) struct Dir {
    id: Oid,
    /// The rules that were handed down to it, before its own ignore file.
    rules: Arc<Rules>,
    files: BTreeMap<Box<str>, Entry>,
    /// Folders without a manifest are here too, so that they are not read again.
    dirs: BTreeMap<Box<str>, Arc<Dir>>,
}

/// One file that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Manifest(Oid),
    /// The file that makes its folder an overlay, and every manifest-like file in that folder.
    Overlay {
        file: Oid,
        inputs: Vec<Oid>,
    },
    /// A symbolic link with a manifest's name, or one to a folder.
    Link(Oid),
    /// A manifest, or a folder with manifests, whose name is no UTF-8; it is known by its escaped name.
    BadName(Oid),
    /// A submodule.
    Submodule(Oid),
}

/// A file that differs between two commits; `None` where it is not there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// From the root of the repository.
    pub(crate) path: String,
    pub(crate) new: Option<Entry>,
}

const OVERLAYS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Deeper nesting than any real repository has is refused, so that a made-up one costs no stack.
const DEPTH: usize = 100;

const MODE_LINK: i32 = 0o120_000;

/// Whether a file's name is that of a manifest. Hidden files belong to tools, as hidden folders do.
pub(crate) fn is_manifest(name: &str) -> bool {
    !name.starts_with('.') && schemas::manifest::is_manifest(name)
}

/// Reads what counts of `tree` below `folder` (empty: everything). `None` when there is no such folder.
pub(crate) fn scan(
    repo: &Repository,
    tree: Oid,
    folder: &str,
    before: Option<&Arc<Dir>>,
) -> Result<Option<Arc<Dir>>, git2::Error> {
    let mut rules = Arc::new(Rules::default());
    let mut id = tree;
    let mut path = String::new();
    for part in folder.split('/').filter(|part| !part.is_empty()) {
        let tree = repo.find_tree(id)?;
        rules = own_rules(repo, &tree, &path, &rules)?;
        match tree.get_name(part) {
            Some(entry) if entry.kind() == Some(ObjectType::Tree) => id = entry.id(),
            _ => return Ok(None),
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
    }
    let root = repo.find_tree(tree)?;
    let reading = Reading { repo, root: &root };
    reading.folder(id, &path, &rules, before).map(Some)
}

/// One look at a commit's trees.
struct Reading<'a> {
    repo: &'a Repository,
    /// The whole repository: links lead anywhere in it.
    root: &'a git2::Tree<'a>,
}

/// The rules within a folder: those handed down, then its own ignore file's.
fn own_rules(
    repo: &Repository,
    tree: &git2::Tree<'_>,
    path: &str,
    above: &Arc<Rules>,
) -> Result<Arc<Rules>, git2::Error> {
    match tree.get_name(ignore::FILE) {
        Some(entry) if entry.kind() == Some(ObjectType::Blob) => {
            let blob = repo.find_blob(entry.id())?;
            Ok(Arc::new(above.with(path, &String::from_utf8_lossy(blob.content()))))
        }
        _ => Ok(above.clone()),
    }
}

impl Reading<'_> {
    fn folder(
        &self,
        id: Oid,
        path: &str,
        above: &Arc<Rules>,
        before: Option<&Arc<Dir>>,
    ) -> Result<Arc<Dir>, git2::Error> {
        let repo = self.repo;
        if let Some(before) = before
            && before.id == id
            && before.rules == *above
        {
            return Ok(before.clone());
        }
        if path.bytes().filter(|byte| *byte == b'/').count() > DEPTH {
            return Err(git2::Error::from_str("its folders are nested too deep"));
        }
        let tree = repo.find_tree(id)?;
        let rules = own_rules(repo, &tree, path, above)?;
        let mut dir = Dir {
            id,
            rules: above.clone(),
            files: BTreeMap::new(),
            dirs: BTreeMap::new(),
        };
        for name in OVERLAYS {
            let Some(entry) = tree.get_name(name) else { continue };
            if entry.kind() == Some(ObjectType::Blob) && !rules.ignores(&join(path, name), false) {
                let mut inputs = Vec::new();
                manifest_like(repo, &tree, 0, &mut inputs)?;
                dir.files.insert(
                    name.into(),
                    Entry::Overlay {
                        file: entry.id(),
                        inputs,
                    },
                );
                return Ok(Arc::new(dir));
            }
        }
        for entry in &tree {
            let Ok(name) = entry.name() else {
                if !entry.name_bytes().starts_with(b".") && self.is_wanted(&entry)? {
                    let name = entry.name_bytes().escape_ascii().to_string();
                    if !rules.ignores(&join(path, &name), entry.kind() == Some(ObjectType::Tree)) {
                        dir.files.insert(name.into(), Entry::BadName(entry.id()));
                    }
                }
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let full = join(path, name);
            match entry.kind() {
                Some(ObjectType::Tree) if !rules.ignores(&full, true) => {
                    let before = before.and_then(|before| before.dirs.get(name));
                    let child = self.folder(entry.id(), &full, &rules, before)?;
                    dir.dirs.insert(name.into(), child);
                }
                Some(ObjectType::Blob) if is_manifest(name) && !rules.ignores(&full, false) => {
                    let found = match entry.filemode() {
                        MODE_LINK => Entry::Link(entry.id()),
                        _ => Entry::Manifest(entry.id()),
                    };
                    dir.files.insert(name.into(), found);
                }
                Some(ObjectType::Blob)
                    if entry.filemode() == MODE_LINK
                        && !rules.ignores(&full, true)
                        && self.leads_to_folder(entry.id(), path) =>
                {
                    dir.files.insert(name.into(), Entry::Link(entry.id()));
                }
                Some(ObjectType::Commit) if !rules.ignores(&full, true) => {
                    dir.files.insert(name.into(), Entry::Submodule(entry.id()));
                }
                _ => {}
            }
        }
        Ok(Arc::new(dir))
    }

    /// Whether an entry with a name that cannot be read would count under a better one.
    fn is_wanted(&self, entry: &git2::TreeEntry<'_>) -> Result<bool, git2::Error> {
        Ok(match entry.kind() {
            Some(ObjectType::Blob) => is_manifest(&String::from_utf8_lossy(entry.name_bytes())),
            Some(ObjectType::Tree) => {
                let mut inside = Vec::new();
                manifest_like(self.repo, &self.repo.find_tree(entry.id())?, 0, &mut inside)?;
                !inside.is_empty()
            }
            _ => false,
        })
    }

    /// Whether a symbolic link in the folder `path` leads to a folder of the repository.
    fn leads_to_folder(&self, link: Oid, path: &str) -> bool {
        let Ok(target) = self.repo.find_blob(link) else {
            return false;
        };
        let Ok(target) = std::str::from_utf8(target.content()) else {
            return false;
        };
        if target.starts_with('/') {
            return false;
        }
        let mut steps: Vec<&str> = Vec::new();
        for step in path.split('/').chain(target.split('/')) {
            match step {
                "" | "." => {}
                ".." if steps.pop().is_none() => return false,
                ".." => {}
                step => steps.push(step),
            }
        }
        let to = steps.join("/");
        let found = if to.is_empty() {
            return true;
        } else {
            self.root.get_path(std::path::Path::new(&to))
        };
        found.is_ok_and(|entry| entry.kind() == Some(ObjectType::Tree))
    }
}

/// Every file below a folder that could be a manifest.
fn manifest_like(
    repo: &Repository,
    tree: &git2::Tree<'_>,
    depth: usize,
    found: &mut Vec<Oid>,
) -> Result<(), git2::Error> {
    if depth > DEPTH {
        return Err(git2::Error::from_str("its folders are nested too deep"));
    }
    for entry in tree {
        match entry.kind() {
            Some(ObjectType::Tree) => manifest_like(repo, &repo.find_tree(entry.id())?, depth + 1, found)?,
            Some(ObjectType::Blob) if entry.name().is_ok_and(is_manifest) => found.push(entry.id()),
            _ => {}
        }
    }
    Ok(())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}/{name}")
    }
}

/// What differs from `old` to `new`, both at `path`. Folders that are one and the same cost nothing.
pub(crate) fn changes(old: Option<&Arc<Dir>>, new: Option<&Arc<Dir>>, path: &str) -> Vec<Change> {
    let mut found = Vec::new();
    compare(old, new, path, &mut found);
    found
}

fn compare(old: Option<&Arc<Dir>>, new: Option<&Arc<Dir>>, path: &str, found: &mut Vec<Change>) {
    if let (Some(old), Some(new)) = (old, new)
        && Arc::ptr_eq(old, new)
    {
        return;
    }
    let no_files = BTreeMap::new();
    let no_dirs = BTreeMap::new();
    let (old_files, old_dirs) = old.map_or((&no_files, &no_dirs), |dir| (&dir.files, &dir.dirs));
    let (new_files, new_dirs) = new.map_or((&no_files, &no_dirs), |dir| (&dir.files, &dir.dirs));
    for name in old_files.keys().filter(|name| !new_files.contains_key(*name)) {
        found.push(Change {
            path: join(path, name),
            new: None,
        });
    }
    for (name, entry) in new_files {
        if old_files.get(name) != Some(entry) {
            found.push(Change {
                path: join(path, name),
                new: Some(entry.clone()),
            });
        }
    }
    for (name, dir) in old_dirs.iter().filter(|(name, _)| !new_dirs.contains_key(*name)) {
        compare(Some(dir), None, &join(path, name), found);
    }
    for (name, dir) in new_dirs {
        compare(old_dirs.get(name), Some(dir), &join(path, name), found);
    }
}
