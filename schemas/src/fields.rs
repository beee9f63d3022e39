//! The field table: what Towline does with each field of each kind.
//!
//! Validation, JSON Schemas, OpenAPI and the documentation come from this one table. A field that no
//! row names is not acted on: an object that sets it to something other than its default gets a
//! warning, never silence. A row that refuses a field makes that an error, where running without it
//! would not be what the manifest says.

mod accounts;
mod batch;
mod objects;
mod pod;
mod storage;
mod workloads;

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use serde_json::Value;

use crate::{
    Kind,
    kind::{KINDS, Support},
    validate::{Fault, Findings, path::At},
};

/// What Towline does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Acted on. So is everything under it, but for what rows below it say; where such rows are
    /// implemented ones, only they are.
    Implemented,
    /// Accepted: leaving it without effect changes nothing that is worth a warning.
    Harmless,
    /// A warning unless it holds its default.
    Ignored,
    /// An error unless it holds its default.
    Refused,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The path, `spec.template.spec.containers[*].image`; relative in the parts that kinds share.
    pub path: &'static str,
    pub treatment: Treatment,
    /// For implemented fields what it does; for the others what to know or to do instead.
    pub about: &'static str,
    /// Values, as JSON, that an unimplemented field may hold without a word, beside null and empty.
    pub defaults: &'static [&'static str],
}

const fn implemented(path: &'static str, about: &'static str) -> Field {
    Field {
        path,
        treatment: Treatment::Implemented,
        about,
        defaults: &[],
    }
}

const fn harmless(path: &'static str, about: &'static str) -> Field {
    Field {
        path,
        treatment: Treatment::Harmless,
        about,
        defaults: &[],
    }
}

const fn ignored(path: &'static str, about: &'static str, defaults: &'static [&'static str]) -> Field {
    Field {
        path,
        treatment: Treatment::Ignored,
        about,
        defaults,
    }
}

const fn refused(path: &'static str, about: &'static str, defaults: &'static [&'static str]) -> Field {
    Field {
        path,
        treatment: Treatment::Refused,
        about,
        defaults,
    }
}

/// A part of the table and where it hangs.
struct Part {
    prefix: String,
    rows: &'static [Field],
}

/// A row with its whole path.
#[derive(Clone, Debug)]
pub struct Row {
    pub path: String,
    pub field: Field,
}

/// All rows of a kind, in the order of the table. Empty for kinds that are stored only.
#[must_use]
pub fn rows(kind: Kind) -> Vec<Row> {
    parts(kind)
        .iter()
        .flat_map(|part| {
            part.rows.iter().map(|field| Row {
                path: join(&part.prefix, field.path),
                field: *field,
            })
        })
        .collect()
}

fn join(prefix: &str, path: &str) -> String {
    match (prefix, path) {
        ("", path) => path.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, path) => format!("{prefix}.{path}"),
    }
}

fn parts(kind: Kind) -> Vec<Part> {
    let part = |rows| Part {
        prefix: String::new(),
        rows,
    };
    let mut parts = vec![part(objects::META)];
    match kind {
        Kind::Namespace => parts.push(part(objects::NAMESPACE)),
        Kind::ConfigMap => parts.push(part(objects::CONFIG_MAP)),
        Kind::Secret => parts.push(part(objects::SECRET)),
        Kind::PriorityClass => parts.push(part(objects::PRIORITY_CLASS)),
        Kind::Pod => pod_parts("spec", &mut parts),
        Kind::ReplicaSet | Kind::ReplicationController => workload_parts(objects::REPLICA_SET, &mut parts),
        Kind::Deployment => workload_parts(objects::DEPLOYMENT, &mut parts),
        Kind::DaemonSet => workload_parts(workloads::DAEMON_SET, &mut parts),
        Kind::Job => workload_parts(batch::JOB, &mut parts),
        Kind::CronJob => {
            parts.push(part(batch::CRON_JOB));
            parts.push(Part {
                prefix: "spec.jobTemplate".to_owned(),
                rows: batch::JOB,
            });
            template_parts("spec.jobTemplate.spec.template", &mut parts);
        }
        Kind::PodDisruptionBudget => parts.push(part(workloads::DISRUPTION_BUDGET)),
        Kind::HorizontalPodAutoscaler => parts.push(part(workloads::AUTOSCALER)),
        Kind::PersistentVolumeClaim => parts.push(part(storage::CLAIM)),
        Kind::PersistentVolume => parts.push(part(storage::VOLUME)),
        Kind::StorageClass => parts.push(part(storage::CLASS)),
        Kind::ResourceQuota => parts.push(part(accounts::QUOTA)),
        Kind::LimitRange => parts.push(part(accounts::RANGE)),
        Kind::ServiceAccount => parts.push(part(accounts::ACCOUNT)),
        Kind::StatefulSet => {
            workload_parts(workloads::STATEFUL_SET, &mut parts);
            parts.push(Part {
                prefix: "spec.volumeClaimTemplates[*]".to_owned(),
                rows: storage::CLAIM,
            });
        }
        _ => return Vec::new(),
    }
    parts
}

/// The parts of a kind that makes pods from the template at `spec.template`.
fn workload_parts(own: &'static [Field], parts: &mut Vec<Part>) {
    parts.push(Part {
        prefix: String::new(),
        rows: own,
    });
    template_parts("spec.template", parts);
}

/// The parts of a pod template that stands at `template`.
fn template_parts(template: &str, parts: &mut Vec<Part>) {
    parts.push(Part {
        prefix: template.to_owned(),
        rows: objects::TEMPLATE,
    });
    pod_parts(&format!("{template}.spec"), parts);
}

/// The parts of a pod's spec that stands at `spec`.
fn pod_parts(spec: &str, parts: &mut Vec<Part>) {
    let mut add = |prefix: String, rows| parts.push(Part { prefix, rows });
    add(spec.to_owned(), pod::SPEC);
    for list in ["initContainers", "containers"] {
        let container = format!("{spec}.{list}[*]");
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            add(format!("{container}.{probe}"), pod::PROBE);
        }
        for hook in ["postStart", "preStop"] {
            add(format!("{container}.lifecycle.{hook}"), pod::HOOK);
        }
        add(container, pod::CONTAINER);
    }
}

/// The rows of a kind as a tree, for one walk over an object.
#[derive(Debug, Default)]
pub(crate) struct Branch {
    field: Option<Field>,
    keys: HashMap<Box<str>, Branch>,
    items: Option<Box<Branch>>,
}

impl Branch {
    fn insert(&mut self, prefix: &str, field: Field) {
        let mut branch = self;
        for part in prefix
            .split('.')
            .chain(field.path.split('.'))
            .filter(|part| !part.is_empty())
        {
            let (key, is_list) = part.strip_suffix("[*]").map_or((part, false), |key| (key, true));
            branch = branch.keys.entry(key.into()).or_default();
            if is_list {
                branch = branch.items.get_or_insert_default();
            }
        }
        branch.field = Some(field);
    }

    pub(crate) fn field(&self) -> Option<Field> {
        self.field
    }

    pub(crate) fn below(&self, key: &str) -> Option<&Branch> {
        self.keys.get(key)
    }

    /// The branch of a list's items, or this one where there is no list.
    pub(crate) fn in_items(&self) -> &Branch {
        self.items.as_deref().unwrap_or(self)
    }

    /// Whether the rows below say what is acted on. Where they say only what is not, the rest is.
    pub(crate) fn lists_all(&self) -> bool {
        self.keys.values().any(|below| {
            below
                .field
                .is_none_or(|row| matches!(row.treatment, Treatment::Implemented | Treatment::Harmless))
        })
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.keys.is_empty() && self.items.is_none()
    }
}

static TREES: LazyLock<BTreeMap<Kind, Branch>> = LazyLock::new(|| {
    KINDS
        .iter()
        .filter(|info| info.support == Support::Acted)
        .map(|info| {
            let mut tree = Branch::default();
            for part in parts(info.kind) {
                for field in part.rows {
                    tree.insert(&part.prefix, *field);
                }
            }
            (info.kind, tree)
        })
        .collect()
});

/// The rows of a kind as a tree; none for kinds that are stored only.
pub(crate) fn tree(kind: Kind) -> Option<&'static Branch> {
    TREES.get(&kind)
}

/// Reports what Towline does not act on.
pub(crate) fn check(kind: Kind, object: &At<'_, '_>, findings: &mut Findings) {
    match kind.info().support {
        Support::Served => {}
        Support::Stored => findings.warn(
            Fault::NotActedOn,
            object.path(),
            format!("{} is stored, and not yet acted on", kind.a()),
        ),
        Support::Acted => {
            if let Some(tree) = tree(kind) {
                walk(tree, object, findings);
            }
        }
    }
}

fn walk(branch: &Branch, at: &At<'_, '_>, findings: &mut Findings) {
    if let Some(items) = &branch.items {
        for item in at.elements() {
            walk(items, &item, findings);
        }
        return;
    }
    for (key, field) in at.entries() {
        let below = branch.keys.get(key);
        match below.and_then(|below| below.field) {
            Some(row) => match row.treatment {
                Treatment::Harmless => {}
                Treatment::Implemented => {
                    if let Some(below) = below
                        && !below.is_leaf()
                    {
                        walk(below, &field, findings);
                    }
                }
                Treatment::Ignored | Treatment::Refused => {
                    if !holds_default(field.value, row.defaults) {
                        report(row, &field, findings);
                    }
                }
            },
            None => match below {
                Some(below) => walk(below, &field, findings),
                None => {
                    if branch.lists_all() && !is_empty(field.value) {
                        findings.warn(Fault::NotActedOn, field.path(), "is not acted on yet: it has no effect");
                    }
                }
            },
        }
    }
}

fn report(row: Field, at: &At<'_, '_>, findings: &mut Findings) {
    if row.treatment == Treatment::Refused {
        findings.error(
            Fault::NotActedOn,
            at.path(),
            format!(
                "is not supported yet, and the object would not run as it says: {}",
                row.about
            ),
        );
    } else {
        findings.warn(
            Fault::NotActedOn,
            at.path(),
            format!("is not acted on yet: {}", row.about),
        );
    }
}

/// Null, the empty text, list or mapping, false, or a mapping or list of nothing but such values.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

/// Where a row lists defaults, only these and the truly empty pass: `false` is something to say where
/// the default is `true`.
fn holds_default(value: &Value, defaults: &[&str]) -> bool {
    if defaults.is_empty() {
        return is_empty(value);
    }
    let blank = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    blank
        || defaults
            .iter()
            .any(|default| serde_json::from_str::<Value>(default).is_ok_and(|default| default == *value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::structure::{SHAPES, Shape};

    /// The shape that a row's path leads to.
    fn resolve(kind: Kind, path: &str) -> Option<Shape> {
        let root = SHAPES.root(kind);
        let mut shape = None;
        for part in path.split('.') {
            let (key, is_list) = part.strip_suffix("[*]").map_or((part, false), |key| (key, true));
            let of = match shape {
                None => root,
                Some(Shape::Struct(index)) => &SHAPES.structs[index],
                Some(_) => return None,
            };
            let mut found = of.fields.get(key)?.clone();
            if is_list {
                let Shape::List(inner) = found else { return None };
                found = *inner;
            }
            shape = Some(found);
        }
        shape
    }

    #[test]
    fn every_row_names_a_field_that_exists_and_says_something() {
        for info in KINDS {
            let mut seen = std::collections::HashSet::new();
            for row in rows(info.kind) {
                assert!(
                    resolve(info.kind, &row.path).is_some(),
                    "{} has no {}",
                    info.name,
                    row.path
                );
                assert!(!row.field.about.is_empty(), "{}", row.path);
                assert!(seen.insert(row.path.clone()), "{} stands twice", row.path);
                for default in row.field.defaults {
                    assert!(serde_json::from_str::<Value>(default).is_ok(), "{default} is not JSON");
                }
            }
            assert_eq!(
                rows(info.kind).is_empty(),
                info.support != Support::Acted,
                "{}: rows are there exactly for what is acted on",
                info.name
            );
        }
    }
}
