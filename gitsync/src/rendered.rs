//! The state of the newest commit that was looked at, and looks at other commits beside it.

use std::{collections::BTreeMap, sync::Arc};

use git2::{Oid, Repository};
use jiff::Timestamp;
use rustc_hash::FxHashSet;
use schemas::Key;
use store::Desired;

use crate::{
    index::Index,
    parsed::Cache,
    revise::{Book, CommitInfo, NO_COMMIT, Revised, revise},
    source::{Place, SourceError, Unrelated},
    tree::{self, Dir},
};

/// A commit's manifests, and the newest revision turned to be asked by file.
#[derive(Clone, Default)]
pub(crate) struct Rendered {
    pub(crate) commit: Option<Oid>,
    pub(crate) index: Arc<Index>,
    pub(crate) book: Book,
    dir: Option<Arc<Dir>>,
}

/// What else a revision depends on.
pub(crate) struct Against<'a> {
    pub(crate) desired: &'a Desired,
    /// Commits of the confirmations that the store keeps.
    pub(crate) confirmed: &'a [schemas::Commit],
    pub(crate) at: Timestamp,
}

impl Rendered {
    /// Moves on to a commit and answers with the objects that were touched on the way. After an error
    /// everything is as before.
    pub(crate) fn turn_to(
        &mut self,
        place: &Place,
        repo: &Repository,
        cache: &Cache,
        commit: Oid,
    ) -> Result<FxHashSet<Key>, SourceError> {
        let dir = place.scan(repo, commit, self.dir.as_ref())?;
        let touched = self.take_over(place, repo, cache, dir)?;
        self.commit = Some(commit);
        Ok(touched)
    }

    /// As [`Self::turn_to`], to a tree that no commit has yet.
    pub(crate) fn turn_to_tree(
        &mut self,
        place: &Place,
        repo: &Repository,
        cache: &Cache,
        tree: Oid,
    ) -> Result<(), SourceError> {
        let dir = tree::scan(repo, tree, &place.folder, self.dir.as_ref())
            .map_err(|error| place.unreadable(&error.message()))?;
        match dir {
            Some(dir) => self.take_over(place, repo, cache, dir).map(|_| ()),
            None => Err(place.unreadable(&"the folder is not there")),
        }
    }

    fn take_over(
        &mut self,
        place: &Place,
        repo: &Repository,
        cache: &Cache,
        dir: Arc<Dir>,
    ) -> Result<FxHashSet<Key>, SourceError> {
        let mut gone = Vec::new();
        let mut entries = BTreeMap::new();
        for change in tree::changes(self.dir.as_ref(), Some(&dir), &place.folder) {
            match change.new {
                Some(entry) => {
                    entries.insert(change.path, entry);
                }
                None => gone.push(change.path),
            }
        }
        let parsed = cache
            .parse(repo, &entries)
            .map_err(|error| place.unreadable(&error.message()))?;
        let mut touched = FxHashSet::default();
        if !gone.is_empty() || !parsed.is_empty() {
            let index = Arc::make_mut(&mut self.index);
            for path in gone {
                index.remove(&path, &mut touched);
            }
            for file in parsed {
                index.put(file, &mut touched);
            }
            index.settle();
        }
        self.dir = Some(dir);
        Ok(touched)
    }

    /// The revision that this commit asks for, against the newest one.
    pub(crate) fn revise(
        &self,
        place: &Place,
        repo: &Repository,
        info: &CommitInfo,
        touched: &FxHashSet<Key>,
        against: &Against<'_>,
    ) -> Result<Revised, SourceError> {
        let Against { desired, confirmed, at } = against;
        if self.index.is_empty() && !desired.rows.is_empty() {
            return Err(SourceError::Empty {
                commit: info.commit.clone(),
                folder: place.folder.clone(),
            });
        }
        let keep = self
            .keep(place, repo, info, desired, confirmed)
            .map(|unrelated| unrelated.to_string());
        Ok(revise(&self.index, &self.book, touched, desired, info, keep, *at))
    }

    /// Whether the commit's history gives no leave to delete.
    fn keep(
        &self,
        place: &Place,
        repo: &Repository,
        info: &CommitInfo,
        desired: &Desired,
        confirmed: &[schemas::Commit],
    ) -> Option<Unrelated> {
        let before = desired.source_error.as_deref().and_then(Unrelated::from_text);
        let base = before
            .map(|unrelated| unrelated.base)
            .or_else(|| desired.commit.clone())?;
        let said = info.confirm_trailer.as_deref().is_some_and(|word| word.trim() == "all")
            || confirmed.contains(&info.commit);
        let related = self.commit.is_some_and(|tip| place.related(repo, tip, &base));
        (!desired.rows.is_empty() && &*base.0 != NO_COMMIT && !said && !related).then_some(Unrelated { base })
    }
}
