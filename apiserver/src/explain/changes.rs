//! What was changed of a workload, and whether that replaces containers. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use schemas::{
    Kind, Object, Part, defaulting,
    diff::{self, FieldChange},
    labels,
    origin::Author,
    replaced::replaced,
    template,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::DesiredRow;

/// One change of a workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Who made it; none where git does not declare the object, or has the commit no longer.
    pub by: Option<Author>,
    pub file: Option<Arc<str>>,
    pub effect: Effect,
    /// The containers that were replaced, in every pod.
    pub containers: Vec<String>,
    pub fields: Vec<Field>,
    /// The ReplicaSet or ControllerRevision that it led to.
    pub set: Option<Set>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// The object was declared, for the first time as far as revisions are kept.
    Made,
    Replaced,
    /// Containers go on; pods that are made from now on have it.
    NewPods,
    /// From the next run of the schedule on.
    NextRun,
    /// Nothing was replaced.
    InPlace,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    #[serde(flatten)]
    pub change: FieldChange,
    /// The line in the file, from 1.
    pub line: Option<u32>,
    pub by: Option<Author>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    pub kind: Kind,
    pub name: Arc<str>,
    pub revision: i64,
    /// When it was made first.
    pub since: Option<Timestamp>,
}

/// The changes from each content to the one before, `rows` and answer newest first.
pub(crate) fn of_rows(kind: Kind, rows: &[DesiredRow], sets: &[Arc<Object>]) -> Vec<Change> {
    let changes = rows.iter().enumerate().map(|(at, row)| {
        let older = rows.get(at + 1);
        let (effect, containers, fields) = match older {
            Some(older) => between(kind, &older.content, &row.content),
            None => (Effect::Made, Vec::new(), Vec::new()),
        };
        Change {
            by: None,
            file: Some(row.file.clone()),
            effect,
            containers,
            fields,
            set: set_of(&row.content, sets),
        }
    });
    changes.collect()
}

/// The same for an object that git does not declare, by the templates that it has had.
pub(crate) fn of_sets(sets: &[Arc<Object>]) -> Vec<Change> {
    let mut known: Vec<(Set, Value)> = sets
        .iter()
        .filter_map(|set| {
            let mut template = serde_json::to_value(template_of(set)?).ok()?;
            if let Some(Value::Object(labels)) = template.pointer_mut("/metadata/labels") {
                labels.remove(labels::POD_TEMPLATE_HASH);
            }
            Some((described(set), json!({"spec": {"template": template}})))
        })
        .collect();
    known.sort_by_key(|(set, _)| std::cmp::Reverse(set.revision));
    let changes = known.iter().enumerate().map(|(at, (set, content))| {
        let (effect, containers, fields) = match known.get(at + 1) {
            // Templates are alike in all kinds that keep them.
            Some((_, older)) => between(Kind::Deployment, older, content),
            None => (Effect::Made, Vec::new(), Vec::new()),
        };
        Change {
            by: None,
            file: None,
            effect,
            containers,
            fields,
            set: Some(set.clone()),
        }
    });
    changes.collect()
}

/// What a change came to: both sides are compared with their defaults, as the controllers do.
fn between(kind: Kind, old: &Value, new: &Value) -> (Effect, Vec<String>, Vec<Field>) {
    let replaced = replaced(kind, old, new);
    let (mut old, mut new) = (old.clone(), new.clone());
    defaulting::default_object(kind, &mut old);
    defaulting::default_object(kind, &mut new);
    let changes = diff::fields(&old, &new);
    let touches = |path: &str| changes.iter().any(|change| change.path.starts_with(path));
    let on_delete = new.pointer("/spec/updateStrategy/type").and_then(Value::as_str) == Some("OnDelete");
    let effect = match kind {
        Kind::CronJob if touches("spec.jobTemplate") => Effect::NextRun,
        Kind::ReplicaSet | Kind::ReplicationController if touches("spec.template") => Effect::NewPods,
        _ if replaced.is_some() && on_delete => Effect::NewPods,
        _ if replaced.is_some() => Effect::Replaced,
        _ => Effect::InPlace,
    };
    let containers = match (effect, replaced) {
        (Effect::Replaced, Some(replaced)) => replaced.containers,
        _ => Vec::new(),
    };
    let fields = changes.into_iter().map(|change| Field {
        change,
        line: None,
        by: None,
    });
    (effect, containers, fields.collect())
}

/// The set of a content's template.
fn set_of(content: &Value, sets: &[Arc<Object>]) -> Option<Set> {
    let wanted = content.pointer("/spec/template")?;
    let wanted: PodTemplateSpec = serde_json::from_value(wanted.clone()).ok()?;
    let same = |set: &&Arc<Object>| template_of(set).is_some_and(|own| template::equal(&own, &wanted));
    sets.iter().find(same).map(|set| described(set))
}

fn template_of(set: &Object) -> Option<PodTemplateSpec> {
    let path = match set.kind {
        Kind::ControllerRevision => "data/spec/template",
        _ => "spec/template",
    };
    set.body.at(path)?.parse().ok()
}

fn described(set: &Object) -> Set {
    Set {
        kind: set.kind,
        name: set.name().into(),
        revision: revision(set),
        since: set.meta.creation_timestamp.as_ref().map(|time| time.0),
    }
}

/// The number of a ReplicaSet or ControllerRevision in its workload's history.
pub(crate) fn revision(set: &Object) -> i64 {
    match set.kind {
        Kind::ControllerRevision => set.body.at("revision").and_then(Part::int).unwrap_or(0),
        _ => set
            .annotation(labels::REVISION)
            .and_then(|number| number.parse().ok())
            .unwrap_or(0),
    }
}
