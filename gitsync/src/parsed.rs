//! One file, parsed: its objects, its problems and what it may feed.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZero,
    sync::Arc,
    thread,
};

use git2::{Oid, Repository};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use schemas::{
    ContentHash, Key, Unit,
    manifest::{self, Declared, folder_namespace},
    report::{Position, Problem, Severity},
};
use serde_json::Value;

use crate::tree::Entry;

/// A file that was read. Immutable; one blob at one path gives one of them.
#[derive(Debug)]
pub(crate) struct ParsedFile {
    pub(crate) file: Arc<str>,
    pub(crate) objects: Vec<Manifest>,
    pub(crate) problems: Vec<Problem>,
    /// Set when the file has an error: then none of its objects counts.
    pub(crate) failure: Option<Failure>,
}

/// One declared object.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) key: Key,
    pub(crate) hash: ContentHash,
    pub(crate) content: Arc<Value>,
    pub(crate) line: u32,
    pub(crate) column: u32,
    /// What must have been healthy before it is released, and the line and column where that is written.
    pub(crate) depends_on: Vec<Key>,
    pub(crate) depends_at: (u32, u32),
}

/// What is known of a file that could not be read.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The first error, with its position, for whatever the file holds up.
    pub(crate) reason: String,
    /// The unit that its folder names.
    pub(crate) unit: Option<Unit>,
    /// For an overlay, its folder with a slash at the end: it stands for all files below.
    pub(crate) folder: Option<Arc<str>>,
    /// Every word of it that could be the name of an object. An object whose declaration moved into
    /// a broken file is found by them.
    words: FxHashSet<Box<str>>,
}

impl Failure {
    pub(crate) fn mentions(&self, name: &str) -> bool {
        self.words.contains(name)
    }
}

impl ParsedFile {
    pub(crate) fn read(path: &str, bytes: &[u8]) -> Self {
        let file: Arc<str> = path.into();
        let namespace = folder_namespace(path);
        let manifest::Parsed { objects, problems } = manifest::parse(path, bytes, namespace);
        let failure = problems
            .iter()
            .find(|problem| problem.severity == Severity::Error)
            .map(|problem| Failure {
                reason: describe(problem),
                unit: namespace.map(|name| Unit(name.into())),
                folder: None,
                words: words(bytes),
            });
        Self {
            file,
            objects: objects.into_iter().map(Manifest::from).collect(),
            problems,
            failure,
        }
    }

    fn overlay(path: &str, inputs: &[Vec<u8>]) -> Self {
        let mut all = FxHashSet::default();
        for bytes in inputs {
            all.extend(words(bytes));
        }
        let message = "kustomize overlays are not rendered yet; commit what `kubectl kustomize` prints, \
                       or list the folder in .towlineignore";
        let mut parsed = Self::failed(path.into(), 1, 1, message.into(), folder_namespace(path), all);
        if let Some(failure) = &mut parsed.failure {
            let folder = path
                .rsplit_once('/')
                .map_or(String::new(), |(folder, _)| format!("{folder}/"));
            failure.folder = Some(folder.into());
        }
        parsed
    }

    fn warned(path: &str, message: &str) -> Self {
        let file: Arc<str> = path.into();
        Self {
            objects: Vec::new(),
            problems: vec![Problem {
                severity: Severity::Warning,
                position: Some(Position {
                    file: file.clone(),
                    line: 1,
                    column: 1,
                }),
                object: None,
                message: message.into(),
            }],
            failure: None,
            file,
        }
    }

    fn failed(
        file: Arc<str>,
        line: u32,
        column: u32,
        message: String,
        namespace: Option<&str>,
        words: FxHashSet<Box<str>>,
    ) -> Self {
        let problem = Problem {
            severity: Severity::Error,
            position: Some(Position {
                file: file.clone(),
                line,
                column,
            }),
            object: None,
            message,
        };
        Self {
            file,
            objects: Vec::new(),
            failure: Some(Failure {
                reason: describe(&problem),
                unit: namespace.map(|name| Unit(name.into())),
                folder: None,
                words,
            }),
            problems: vec![problem],
        }
    }
}

impl From<Declared> for Manifest {
    fn from(declared: Declared) -> Self {
        Self {
            key: declared.key,
            hash: declared.hash,
            content: declared.content,
            line: declared.line,
            column: declared.column,
            depends_on: declared.depends_on,
            depends_at: declared.depends_at,
        }
    }
}

/// `file:line:column: message`, for people.
pub(crate) fn describe(problem: &Problem) -> String {
    match &problem.position {
        Some(at) => format!("{}:{}:{}: {}", at.file, at.line, at.column, problem.message),
        None => problem.message.clone(),
    }
}

fn words(bytes: &[u8]) -> FxHashSet<Box<str>> {
    let bytes = &bytes[..bytes.len().min(manifest::MOST_BYTES)];
    String::from_utf8_lossy(bytes)
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.'))
        .filter(|word| !word.is_empty() && word.len() <= 253)
        .map(Into::into)
        .collect()
}

/// Parsed files by blob and path (which includes the namespace that the folder names), so that the
/// check of a push, the sync after it and a revert parse a file once.
#[derive(Default)]
pub(crate) struct Cache {
    generations: Mutex<Generations>,
}

type Generation = HashMap<(Oid, Arc<str>), Arc<ParsedFile>>;

/// Two generations: what was used since the young one began, and the one before it.
#[derive(Default)]
struct Generations {
    young: Generation,
    old: Generation,
}

/// How many files a generation holds before it becomes the old one.
const GENERATION: usize = 20_000;

impl Cache {
    fn get(&self, id: Oid, path: &str) -> Option<Arc<ParsedFile>> {
        let mut generations = self.generations.lock();
        let key = (id, Arc::<str>::from(path));
        if let Some(found) = generations.young.get(&key) {
            return Some(found.clone());
        }
        let found = generations.old.remove(&key)?;
        generations.young.insert(key, found.clone());
        Some(found)
    }

    fn put(&self, id: Oid, parsed: &Arc<ParsedFile>) {
        let mut generations = self.generations.lock();
        if generations.young.len() >= GENERATION {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert((id, parsed.file.clone()), parsed.clone());
    }

    /// Reads and parses several files, on all processors when there are many.
    pub(crate) fn parse(
        &self,
        repo: &Repository,
        entries: &BTreeMap<String, Entry>,
    ) -> Result<Vec<Arc<ParsedFile>>, git2::Error> {
        let mut parsed = Vec::with_capacity(entries.len());
        let mut fresh = Vec::new();
        for (path, entry) in entries {
            match entry {
                Entry::Manifest(id) => match self.get(*id, path) {
                    Some(found) => parsed.push(found),
                    None => fresh.push((*id, path.as_str(), repo.find_blob(*id)?.content().to_vec())),
                },
                Entry::Overlay { inputs, .. } => {
                    let mut contents = Vec::with_capacity(inputs.len());
                    for id in inputs {
                        contents.push(repo.find_blob(*id)?.content().to_vec());
                    }
                    parsed.push(Arc::new(ParsedFile::overlay(path, &contents)));
                }
                Entry::Link(_) => {
                    let message = "symbolic links are not followed; commit the manifest itself here";
                    parsed.push(Arc::new(ParsedFile::warned(path, message)));
                }
                Entry::BadName(_) => {
                    let message = "this name is no UTF-8 text, so nothing here is read; rename it";
                    parsed.push(Arc::new(ParsedFile::warned(path, message)));
                }
                Entry::Submodule(_) => {
                    let message =
                        "submodules are not read; commit the manifests themselves, or list it in .towlineignore";
                    parsed.push(Arc::new(ParsedFile::warned(path, message)));
                }
            }
        }
        for (id, file) in parse_all(&fresh) {
            self.put(id, &file);
            parsed.push(file);
        }
        Ok(parsed)
    }
}

fn parse_all(files: &[(Oid, &str, Vec<u8>)]) -> Vec<(Oid, Arc<ParsedFile>)> {
    let one = |(id, path, bytes): &(Oid, &str, Vec<u8>)| (*id, Arc::new(ParsedFile::read(path, bytes)));
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    if files.len() < 200 || threads < 2 {
        return files.iter().map(one).collect();
    }
    thread::scope(|scope| {
        let workers: Vec<_> = files
            .chunks(files.len().div_ceil(threads))
            .map(|chunk| scope.spawn(move || chunk.iter().map(one).collect::<Vec<_>>()))
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| match worker.join() {
                Ok(files) => files,
                // A panic of the parser is a bug of ours: it ends this look as it would on one thread.
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}
