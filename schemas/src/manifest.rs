//! Manifests: files of YAML or JSON to declared objects, with every problem and its place.
//!
//! [`parse`] does all that one file allows: syntax, kinds, names and namespaces, and everything of
//! [`crate::validate`]. What needs several files, such as [`duplicates`], is the caller's to ask for.
//! An object with an error is not among the objects; its warnings come beside it.

mod json;
mod scalar;
mod tree;
mod yaml;

use std::{
    collections::HashMap,
    path::{Component, Path},
    sync::Arc,
};

use serde_json::{Map, Value};

use self::tree::{Content, Document, Node, Place};
use crate::{
    ContentHash, Key, Kind,
    kind::{KINDS, Support},
    labels, older,
    report::{Position, Problem, Severity},
    rollout,
    validate::{self, Fault, FieldPath, structure::suggestion},
};

/// The largest file that is read. Kubernetes itself takes objects of about a megabyte.
pub const MOST_BYTES: usize = 8 << 20;

/// How many problems of one file are told; the rest is counted.
const MOST_PROBLEMS: usize = 200;

/// Lists in lists are followed this deep.
const MOST_LISTS: usize = 4;

/// An object as the repository declares it.
#[derive(Clone, Debug)]
pub struct Declared {
    pub key: Key,
    /// `apiVersion`, `kind`, `metadata` with its namespace, and the rest as it is written; without
    /// nulls, `status` and what only the server sets. No default is added.
    pub content: Arc<Value>,
    /// The hash of `content`.
    pub hash: ContentHash,
    pub file: Arc<str>,
    /// Where the object begins, from 1.
    pub line: u32,
    pub column: u32,
    /// What must have been healthy before this object is released.
    pub depends_on: Vec<Key>,
    /// The line and column where that is written.
    pub depends_at: (u32, u32),
}

impl Declared {
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            file: self.file.clone(),
            line: self.line,
            column: self.column,
        }
    }
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Parsed {
    pub objects: Vec<Declared>,
    pub problems: Vec<Problem>,
}

impl Parsed {
    /// Whether any problem is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// Whether a file of this name is a manifest by its ending.
#[must_use]
pub fn is_manifest(file: &str) -> bool {
    Path::new(file)
        .extension()
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| {
            ["yaml", "yml", "json"]
                .iter()
                .any(|known| ending.eq_ignore_ascii_case(known))
        })
}

/// The namespace that a file's folder names: the folder below the innermost `namespaces/`.
#[must_use]
pub fn folder_namespace(file: &str) -> Option<&str> {
    let mut parts = Path::new(file).parent()?.components().rev();
    let mut below = None;
    loop {
        let Component::Normal(part) = parts.next()? else {
            continue;
        };
        let part = part.to_str()?;
        if part == "namespaces" {
            return below;
        }
        below = Some(part);
    }
}

/// Reads a file. `file` is its path from the root of the repository, for positions;
/// `default_namespace` is the one that its folder names, if any.
#[must_use]
pub fn parse(file: &str, bytes: &[u8], default_namespace: Option<&str>) -> Parsed {
    let mut reading = Reading {
        file: file.into(),
        folder: default_namespace,
        parsed: Parsed::default(),
        untold: 0,
    };
    match documents(file, bytes) {
        Ok(documents) => {
            for document in &documents {
                reading.document(document);
            }
        }
        Err((place, message)) => reading.problem(Severity::Error, Some(place), None, message),
    }
    let mut parsed = reading.parsed;
    for problem in duplicates(&parsed.objects) {
        parsed.problems.push(problem);
    }
    parsed.problems.sort_by(|left, right| {
        left.position
            .cmp(&right.position)
            .then(right.severity.cmp(&left.severity))
    });
    if reading.untold > 0 {
        parsed.problems.push(Problem {
            severity: Severity::Error,
            position: None,
            object: None,
            message: format!("{file} has {} more problems, which are not shown", reading.untold),
        });
    }
    parsed
}

/// Where the field at `path` of the object at `line` of the file stands now. For callers that find
/// something long after the file was read.
#[must_use]
pub fn locate(declared: &Declared, bytes: &[u8], path: &FieldPath) -> Option<Position> {
    fn find(node: &Node, at: Place) -> Option<&Node> {
        if node.place == at {
            return Some(node);
        }
        match &node.get("items")?.node.content {
            Content::List(items) => items.iter().find_map(|item| find(item, at)),
            _ => None,
        }
    }
    let at = Place {
        line: declared.line,
        column: declared.column,
    };
    let documents = documents(&declared.file, bytes).ok()?;
    let node = documents
        .iter()
        .filter_map(|document| document.root.as_ref())
        .find_map(|root| find(root, at))?;
    let place = node.locate(path);
    Some(Position {
        file: declared.file.clone(),
        line: place.line,
        column: place.column,
    })
}

/// Keys that are declared more than once: an error for each place after the first, naming both.
#[must_use]
pub fn duplicates(objects: &[Declared]) -> Vec<Problem> {
    let mut seen: HashMap<&Key, &Declared> = HashMap::with_capacity(objects.len());
    let mut problems = Vec::new();
    for object in objects {
        match seen.get(&object.key) {
            None => {
                seen.insert(&object.key, object);
            }
            Some(first) => problems.push(Problem {
                severity: Severity::Error,
                position: Some(object.position()),
                object: Some(object.key.clone()),
                message: format!(
                    "{} is declared twice, first in {} on line {}: remove one of them or rename it",
                    object.key, first.file, first.line
                ),
            }),
        }
    }
    problems
}

fn documents(file: &str, bytes: &[u8]) -> Result<Vec<Document>, (Place, String)> {
    let start = Place { line: 1, column: 1 };
    if bytes.len() > MOST_BYTES {
        return Err((
            start,
            format!(
                "the file is {} bytes long; at most {MOST_BYTES} are read: split it",
                bytes.len()
            ),
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count();
        let last = good.rsplit(|byte| *byte == b'\n').next().unwrap_or(good);
        let column = String::from_utf8_lossy(last).chars().count();
        let place = Place {
            line: u32::try_from(line).unwrap_or(u32::MAX).saturating_add(1),
            column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
        };
        (place, "the file is not UTF-8 text".to_owned())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_json = Path::new(file)
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    Ok(if is_json { json::read(text) } else { yaml::read(text) })
}

struct Reading<'a> {
    file: Arc<str>,
    folder: Option<&'a str>,
    parsed: Parsed,
    untold: usize,
}

impl Reading<'_> {
    fn problem(&mut self, severity: Severity, place: Option<Place>, object: Option<Key>, message: String) {
        if self.parsed.problems.len() >= MOST_PROBLEMS {
            // What is not told must still be an error.
            self.untold += usize::from(severity == Severity::Error);
            return;
        }
        self.parsed.problems.push(Problem {
            severity,
            position: place.map(|place| Position {
                file: self.file.clone(),
                line: place.line,
                column: place.column,
            }),
            object,
            message,
        });
    }

    fn error(&mut self, place: Place, message: impl Into<String>) {
        self.problem(Severity::Error, Some(place), None, message.into());
    }

    fn document(&mut self, document: &Document) {
        for flaw in &document.flaws {
            self.error(flaw.place, flaw.message.clone());
        }
        if let Some(root) = &document.root
            && !root.is_null()
        {
            self.node(root, None, document.flaws.is_empty(), MOST_LISTS);
        }
    }

    /// One object or list. `of` is the apiVersion and kind that a list gives its items; an object of
    /// a document that is not `sound` is looked at, and not declared.
    fn node(&mut self, node: &Node, of: Option<(&str, &str)>, sound: bool, lists: usize) {
        if !matches!(node.content, Content::Map(_)) {
            self.error(
                node.place,
                "this is not a manifest: a mapping with apiVersion and kind is expected",
            );
            return;
        }
        let mut names = [of.map(|of| of.0), of.map(|of| of.1)];
        for (slot, key) in ["apiVersion", "kind"].into_iter().enumerate() {
            match node.get(key) {
                Some(entry) if !entry.node.is_null() => match node.text(key) {
                    Some(text) if !text.is_empty() => names[slot] = Some(text),
                    _ => {
                        self.error(entry.place, format!("{key} must be a text"));
                        return;
                    }
                },
                _ => {}
            }
        }
        let (api_version, kind) = match names {
            [Some(api_version), Some(kind)] => (api_version, kind),
            [None, None] => {
                self.error(
                    node.place,
                    "this is not a manifest: apiVersion and kind are missing. Move it out of the path, or list it in .towlineignore",
                );
                return;
            }
            [None, Some(kind)] => {
                let hint = KINDS
                    .iter()
                    .find(|info| info.name == kind)
                    .map_or(String::new(), |info| {
                        format!(": for a {kind} it is {}", info.api_version())
                    });
                self.error(node.place, format!("apiVersion is missing{hint}"));
                return;
            }
            [Some(_), None] => {
                self.error(node.place, "kind is missing");
                return;
            }
        };
        if let Some(items) = list_items(node, kind) {
            self.list(items, api_version, kind, sound, lists);
            return;
        }
        match known(api_version, kind) {
            Ok(kind) => self.object(node, kind, sound),
            Err(message) => {
                let place = node
                    .get("kind")
                    .or_else(|| node.get("apiVersion"))
                    .map_or(node.place, |entry| entry.place);
                self.error(place, message);
            }
        }
    }

    fn list(&mut self, items: &Node, api_version: &str, kind: &str, sound: bool, lists: usize) {
        let Content::List(items_here) = &items.content else {
            if !items.is_null() {
                self.error(items.place, "items must be a list");
            }
            return;
        };
        if lists == 0 {
            self.error(
                items.place,
                "lists in lists are not followed any deeper: write the objects out",
            );
            return;
        }
        let item_kind = kind.strip_suffix("List").unwrap_or(kind);
        let of = (!item_kind.is_empty()).then_some((api_version, item_kind));
        for item in items_here {
            self.node(item, of, sound, lists - 1);
        }
    }

    fn object(&mut self, node: &Node, kind: Kind, sound: bool) {
        let info = kind.info();
        let mut content = node.to_value();
        older::make_current(&mut content);
        validate::normalize(kind, &mut content);
        let Value::Object(map) = &mut content else { return };
        map.insert("apiVersion".into(), info.api_version().into());
        map.insert("kind".into(), info.name.into());
        let contradiction = if info.namespaced {
            self.fill_namespace(map)
        } else {
            None
        };
        let name = map
            .get("metadata")
            .and_then(|meta| meta.get("name"))
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty());
        let namespace = map
            .get("metadata")
            .and_then(|meta| meta.get("namespace"))
            .and_then(Value::as_str);
        let key = name.map(|name| Key {
            kind,
            namespace: if info.namespaced {
                namespace.map(Into::into)
            } else {
                None
            },
            name: name.into(),
        });
        let mut broken = !sound;
        if let Some(message) = contradiction {
            broken = true;
            let place = node.locate(&FieldPath::of("metadata.namespace"));
            self.problem(Severity::Error, Some(place), key.clone(), message);
        }
        for finding in validate::object(kind, &content) {
            broken |= finding.is_error();
            let place = if finding.fault == Fault::Required && finding.path.segments().len() == 1 {
                node.place
            } else {
                node.locate(&finding.path)
            };
            self.problem(finding.severity, Some(place), key.clone(), finding.to_string());
        }
        if info.support == Support::Served {
            broken = true;
            let place = node.get("kind").map_or(node.place, |entry| entry.place);
            self.problem(
                Severity::Error,
                Some(place),
                key.clone(),
                format!("a {kind} is written by Towline itself and cannot be declared: remove it"),
            );
        }
        if let (Some(key), false) = (key, broken) {
            let depends_on = rollout::depends_on(&key, &content);
            let place = match depends_on.is_empty() {
                true => node.place,
                false => node.locate(&FieldPath::of_keys(&["metadata", "annotations", labels::DEPENDS_ON])),
            };
            self.parsed.objects.push(Declared {
                key,
                depends_on,
                depends_at: (place.line, place.column),
                hash: ContentHash::of(&content),
                content: Arc::new(content),
                file: self.file.clone(),
                line: node.place.line,
                column: node.place.column,
            });
        }
    }

    /// Fills the namespace in; returns what contradicts the folder.
    fn fill_namespace(&self, object: &mut Map<String, Value>) -> Option<String> {
        let meta = object.get_mut("metadata")?.as_object_mut()?;
        match meta.get("namespace") {
            Some(Value::String(written)) if !written.is_empty() => {
                let folder = self.folder?;
                (written != folder).then(|| {
                    format!(
                        "metadata.namespace is {written:?}, and the folder says {folder:?}: remove the line, or move the \
                         file to namespaces/{written}/"
                    )
                })
            }
            // Of another type: validation reports it.
            Some(other) if !other.is_string() => None,
            _ => {
                meta.insert("namespace".into(), self.folder.unwrap_or("default").into());
                None
            }
        }
    }
}

/// The items of a list object: `List`, or the list of a kind such as `DeploymentList`.
fn list_items<'a>(node: &'a Node, kind: &str) -> Option<&'a Node> {
    let item = kind.strip_suffix("List")?;
    let entry = node.get("items")?;
    (item.is_empty() || node.get("metadata").is_none_or(|meta| meta.node.get("name").is_none())).then_some(&entry.node)
}

fn known(api_version: &str, kind: &str) -> Result<Kind, String> {
    if let Some(kind) = Kind::find(api_version, kind).or_else(|| older::find(api_version, kind)) {
        return Ok(kind);
    }
    if let Some(info) = KINDS.iter().find(|info| info.name == kind)
        && is_kubernetes_group(group_of(api_version))
    {
        return Err(format!(
            "there is no {kind} in {api_version:?}: its apiVersion is {}",
            info.api_version()
        ));
    }
    let same_group = KINDS
        .iter()
        .filter(|info| info.api_version() == api_version)
        .map(|info| info.name);
    if let Some(near) = suggestion(kind, same_group) {
        return Err(format!(
            "there is no kind {kind:?} in {api_version}: did you mean {near}?"
        ));
    }
    Err(format!(
        "Towline does not know the kind {kind:?} of {api_version:?}. Such documents are reported, not applied: move the \
         file out of the path, or list it in .towlineignore"
    ))
}

fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn is_kubernetes_group(group: &str) -> bool {
    matches!(group, "" | "apps" | "batch" | "autoscaling" | "policy" | "extensions") || group.ends_with(".k8s.io")
}

#[cfg(test)]
mod tests;
