//! The tree of the status branch in memory: a change rewrites the folders above it and nothing else.

use std::collections::BTreeMap;

use git2::{FileMode, ObjectType, Oid, Repository};

/// A folder of the status branch.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    entries: BTreeMap<String, Entry>,
    /// Its tree, unless something below changed.
    id: Option<Oid>,
}

#[derive(Debug)]
enum Entry {
    File(Oid),
    Folder(Folder),
}

impl Folder {
    /// Reads a whole tree.
    pub(crate) fn read(repo: &Repository, tree: Oid) -> Result<Self, git2::Error> {
        let mut folder = Self {
            entries: BTreeMap::new(),
            id: Some(tree),
        };
        for entry in &repo.find_tree(tree)? {
            let read = match entry.kind() {
                Some(ObjectType::Tree) => Entry::Folder(Self::read(repo, entry.id())?),
                Some(ObjectType::Blob) => Entry::File(entry.id()),
                _ => continue,
            };
            folder.entries.insert(entry.name()?.to_owned(), read);
        }
        Ok(folder)
    }

    /// Puts a file; true if that changed anything.
    pub(crate) fn put(&mut self, path: &str, blob: Oid) -> bool {
        let changed = match path.split_once('/') {
            None => match self.entries.insert(path.to_owned(), Entry::File(blob)) {
                Some(Entry::File(before)) => before != blob,
                _ => true,
            },
            Some((first, rest)) => {
                let entry = self
                    .entries
                    .entry(first.to_owned())
                    .or_insert_with(|| Entry::Folder(Self::default()));
                if matches!(entry, Entry::File(_)) {
                    *entry = Entry::Folder(Self::default());
                }
                match entry {
                    Entry::Folder(folder) => folder.put(rest, blob),
                    Entry::File(_) => false,
                }
            }
        };
        if changed {
            self.id = None;
        }
        changed
    }

    /// Takes a file away, and with it the folders that it leaves empty; true if it was there.
    pub(crate) fn remove(&mut self, path: &str) -> bool {
        let changed = match path.split_once('/') {
            None => self.entries.remove(path).is_some(),
            Some((first, rest)) => {
                let Some(Entry::Folder(folder)) = self.entries.get_mut(first) else {
                    return false;
                };
                let changed = folder.remove(rest);
                if folder.entries.is_empty() {
                    self.entries.remove(first);
                }
                changed
            }
        };
        if changed {
            self.id = None;
        }
        changed
    }

    /// The path of every file.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect("", &mut found);
        found
    }

    fn collect(&self, above: &str, found: &mut Vec<String>) {
        for (name, entry) in &self.entries {
            match entry {
                Entry::File(_) => found.push(format!("{above}{name}")),
                Entry::Folder(folder) => folder.collect(&format!("{above}{name}/"), found),
            }
        }
    }

    /// Writes the folders that changed; answers with the whole tree.
    pub(crate) fn write(&mut self, repo: &Repository) -> Result<Oid, git2::Error> {
        if let Some(id) = self.id {
            return Ok(id);
        }
        let mut builder = repo.treebuilder(None)?;
        for (name, entry) in &mut self.entries {
            match entry {
                Entry::File(id) => builder.insert(name.as_str(), *id, FileMode::Blob.into())?,
                Entry::Folder(folder) => builder.insert(name.as_str(), folder.write(repo)?, FileMode::Tree.into())?,
            };
        }
        let id = builder.write()?;
        self.id = Some(id);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read_and_written_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let repo = Repository::init_bare(dir.path()).expect("a repository");
        let blob = |text: &str| repo.blob(text.as_bytes()).expect("a blob");
        let mut folder = Folder::default();
        assert!(folder.put("a/b/c.yaml", blob("1")));
        assert!(folder.put("a/d.yaml", blob("2")));
        assert!(!folder.put("a/d.yaml", blob("2")));
        let first = folder.write(&repo).expect("written");
        assert_eq!(
            Folder::read(&repo, first).expect("read").paths(),
            ["a/b/c.yaml", "a/d.yaml"]
        );
        assert!(folder.remove("a/b/c.yaml"));
        assert!(!folder.remove("a/b/c.yaml"));
        assert_eq!(folder.paths(), ["a/d.yaml"]);
        assert_ne!(folder.write(&repo).expect("written"), first);
        folder.put("a/b/c.yaml", blob("1"));
        assert_eq!(
            folder.write(&repo).expect("written"),
            first,
            "the same files give the same tree"
        );
    }
}
