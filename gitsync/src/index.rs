//! What a commit declares, kept up from one commit to the next at the cost of what changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use rustc_hash::{FxBuildHasher, FxHashSet};
use schemas::{
    Key,
    report::{Position, Problem, Severity},
    rollout,
};

use crate::{
    autoscaled::Autoscaled,
    dependencies::{Declarations, Dependencies},
    parsed::{Manifest, ParsedFile},
};

/// Every file of a commit, and where each object is declared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    files: BTreeMap<Arc<str>, Arc<ParsedFile>>,
    /// Objects of the files that did not fail.
    declared: HashMap<Key, Places, FxBuildHasher>,
    /// Files with a problem, warnings included.
    troubled: BTreeSet<Arc<str>>,
    failed: BTreeSet<Arc<str>>,
    /// Objects that are declared more than once.
    duplicates: BTreeSet<Key>,
    dependencies: Dependencies,
    autoscaled: Autoscaled,
}

/// The place of a declaration: a file, and the number of the object in it. Nearly always there is one.
#[derive(Clone, Debug)]
enum Places {
    One(Arc<ParsedFile>, usize),
    Many(Vec<(Arc<ParsedFile>, usize)>),
}

impl Places {
    fn list(&self) -> Vec<(&Arc<ParsedFile>, usize)> {
        match self {
            Self::One(file, at) => vec![(file, *at)],
            Self::Many(places) => places.iter().map(|(file, at)| (file, *at)).collect(),
        }
    }
}

impl Index {
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Puts a file in the place of the one at its path, and adds every object that either declares to
    /// `dirty`.
    pub(crate) fn put(&mut self, file: Arc<ParsedFile>, dirty: &mut FxHashSet<Key>) {
        self.remove(&file.file, dirty);
        if !file.problems.is_empty() {
            self.troubled.insert(file.file.clone());
        }
        if file.failure.is_some() {
            self.failed.insert(file.file.clone());
            self.dependencies.unsettle();
        } else {
            for (at, object) in file.objects.iter().enumerate() {
                dirty.insert(object.key.clone());
                self.declare(&object.key, &file, at);
                self.dependencies.put(&file.file, object);
                self.autoscaled.put(object);
            }
            self.settle_replicas(&file);
        }
        self.files.insert(file.file.clone(), file);
    }

    pub(crate) fn remove(&mut self, path: &str, dirty: &mut FxHashSet<Key>) {
        let Some(file) = self.files.remove(path) else { return };
        self.troubled.remove(path);
        if self.failed.remove(path) {
            self.dependencies.unsettle();
            return;
        }
        for object in &file.objects {
            dirty.insert(object.key.clone());
            self.retract(&object.key, path);
            self.dependencies.remove(&object.key);
            self.autoscaled.remove(object);
        }
        self.settle_replicas(&file);
    }

    fn settle_replicas(&mut self, file: &ParsedFile) {
        let mut autoscaled = std::mem::take(&mut self.autoscaled);
        for object in &file.objects {
            autoscaled.settle(object, |key| self.declaration(key).map(|(_, manifest)| manifest));
        }
        self.autoscaled = autoscaled;
    }

    fn declare(&mut self, key: &Key, file: &Arc<ParsedFile>, at: usize) {
        let place = (file.clone(), at);
        match self.declared.get_mut(key) {
            None => {
                self.declared.insert(key.clone(), Places::One(place.0, place.1));
                return;
            }
            Some(places) => {
                let mut list: Vec<_> = places.list().into_iter().map(|(file, at)| (file.clone(), at)).collect();
                list.push(place);
                list.sort_by(|a, b| (&a.0.file, a.1).cmp(&(&b.0.file, b.1)));
                *places = Places::Many(list);
            }
        }
        self.duplicates.insert(key.clone());
    }

    fn retract(&mut self, key: &Key, path: &str) {
        let Some(places) = self.declared.remove(key) else {
            return;
        };
        let mut rest: Vec<_> = places
            .list()
            .into_iter()
            .filter(|(file, _)| *file.file != *path)
            .map(|(file, at)| (file.clone(), at))
            .collect();
        if rest.len() < 2 {
            self.duplicates.remove(key);
        }
        let rest = match rest.pop() {
            None => return,
            Some((file, at)) if rest.is_empty() => Places::One(file, at),
            Some(last) => {
                rest.push(last);
                Places::Many(rest)
            }
        };
        self.declared.insert(key.clone(), rest);
    }

    /// The one declaration of an object, if there is exactly one and its file is sound.
    pub(crate) fn declaration(&self, key: &Key) -> Option<(&Arc<str>, &Manifest)> {
        match self.declared.get(key)? {
            Places::One(file, at) => file.objects.get(*at).map(|object| (&file.file, object)),
            Places::Many(_) => None,
        }
    }

    /// Whether a sound file declares it, be it more than once.
    pub(crate) fn declares(&self, key: &Key) -> bool {
        self.declared.contains_key(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.declared.keys()
    }

    pub(crate) fn failed(&self) -> impl Iterator<Item = &Arc<ParsedFile>> {
        self.failed.iter().filter_map(|path| self.files.get(path))
    }

    pub(crate) fn duplicates(&self) -> impl Iterator<Item = &Key> {
        self.duplicates.iter()
    }

    /// What is wrong with a duplicate, at every place but the first.
    pub(crate) fn duplicate(&self, key: &Key) -> Vec<Problem> {
        let places = self.declared.get(key).map(Places::list).unwrap_or_default();
        let positions: Vec<Position> = places
            .iter()
            .filter_map(|(file, at)| {
                file.objects.get(*at).map(|object| Position {
                    file: file.file.clone(),
                    line: object.line,
                    column: object.column,
                })
            })
            .collect();
        let Some((first, others)) = positions.split_first() else {
            return Vec::new();
        };
        others
            .iter()
            .map(|position| Problem {
                severity: Severity::Error,
                position: Some(position.clone()),
                object: Some(key.clone()),
                message: format!(
                    "{key} is declared at {}:{} already; keep one of them",
                    first.file, first.line
                ),
            })
            .collect()
    }

    /// Judges what manifests depend on, if that may have changed. To be called after files were put or
    /// removed.
    pub(crate) fn settle(&mut self) {
        if self.dependencies.is_dirty() {
            let problems = self.dependencies.settled(self);
            self.dependencies.settle(problems);
        }
    }

    /// What is wrong with what manifests depend on, by the dependent.
    pub(crate) fn misled(&self) -> impl Iterator<Item = (&Key, &Problem)> {
        self.dependencies.problems()
    }

    /// Every problem, in the order of positions.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self
            .troubled
            .iter()
            .filter_map(|path| self.files.get(path))
            .flat_map(|file| file.problems.iter().cloned())
            .chain(self.duplicates.iter().flat_map(|key| self.duplicate(key)))
            .chain(self.misled().map(|(_, problem)| problem.clone()))
            .chain(self.autoscaled.problems(|key| {
                let (file, manifest) = self.declaration(key)?;
                Some(Position {
                    file: file.clone(),
                    line: manifest.line,
                    column: manifest.column,
                })
            }))
            .collect();
        problems.sort_by(|a, b| (&a.position, &a.object, &a.message).cmp(&(&b.position, &b.object, &b.message)));
        problems
    }

    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// Objects of every sound file, declared once or more.
    pub(crate) fn len(&self) -> usize {
        self.declared.len()
    }
}

impl Declarations for Index {
    fn may_declare(&self, key: &Key) -> bool {
        self.declares(key)
            || self
                .failed()
                .filter_map(|file| file.failure.as_ref())
                .any(|failure| failure.mentions(&key.name))
    }

    fn wave(&self, key: &Key) -> Option<i64> {
        self.declaration(key)
            .map(|(_, manifest)| rollout::wave(&manifest.content))
    }

    fn neighbours(&self, key: &Key) -> Vec<Arc<str>> {
        self.declared
            .keys()
            .filter(|other| other.kind == key.kind && other.namespace == key.namespace)
            .map(|other| other.name.clone())
            .collect()
    }
}
