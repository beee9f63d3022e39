//! ControllerRevisions: the templates that a DaemonSet or a StatefulSet has had, by number.
//!
//! A revision is found by its template, compared after defaulting by the running version. Its hash
//! only names it, so that another version's hash replaces no pod.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/>

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{api::core::v1::PodTemplateSpec, apimachinery::pkg::apis::meta::v1::Time};
use rustc_hash::FxHashSet;
use schemas::{Body, Kind, Meta, Now, Object, Part, Shared, labels, template};
use serde::Deserialize;
use serde_json::{Map, json};
use store::{Op, Write};

use crate::{
    ids::Ids,
    owners,
    plan::{replace_of, status_of},
    pods,
};

/// What a ControllerRevision holds.
#[derive(Deserialize)]
struct Content {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    template: PodTemplateSpec,
}

/// The revision of the template that an owner has now.
#[derive(Debug)]
pub(crate) struct Current {
    /// The label of its pods. Several, where revisions of an earlier version turn out to be the same
    /// template; the first is for new pods.
    pub(crate) marks: Vec<String>,
    /// The name of the object.
    pub(crate) name: String,
    /// Makes it, or moves it on to the newest number after a rollback.
    pub(crate) write: Option<Write>,
}

/// Another template has the name that the revision would get: the owner counts a collision and takes
/// another name.
#[derive(Debug)]
pub(crate) struct Taken;

impl Current {
    pub(crate) fn mark(&self) -> &str {
        self.marks.first().map_or("", String::as_str)
    }

    /// Whether a pod is of the current template.
    pub(crate) fn is_of(&self, pod: &Object) -> bool {
        mark_of(pod).is_some_and(|mark| self.marks.iter().any(|own| own == mark))
    }
}

/// Which revision a pod says it is of.
pub(crate) fn mark_of(pod: &Object) -> Option<&str> {
    pod.label(labels::CONTROLLER_REVISION_HASH)
}

/// The name that the revision of a template gets.
pub(crate) fn name(owner: &Object, template: &PodTemplateSpec) -> String {
    format!("{}-{}", owner.name(), hash(owner, template))
}

fn hash(owner: &Object, template: &PodTemplateSpec) -> String {
    let collisions = owner
        .status
        .as_ref()
        .and_then(|status| status.at("collisionCount")?.int());
    template::pod_template_hash(template, collisions.and_then(|count| i32::try_from(count).ok()))
}

pub(crate) fn number(revision: &Object) -> i64 {
    revision.body.at("revision").and_then(Part::int).unwrap_or(0)
}

/// What pods of a revision carry: its name for a StatefulSet, its hash alone for a DaemonSet.
pub(crate) fn mark(owner: &Object, revision: &Object) -> String {
    if owner.kind == Kind::StatefulSet {
        return revision.name().to_owned();
    }
    let hash = revision.label(hash_label(owner));
    hash.unwrap_or_else(|| revision.name()).to_owned()
}

/// The template of a revision.
pub(crate) fn template(revision: &Object) -> Option<PodTemplateSpec> {
    let content = revision.body.typed::<Content>().ok()?;
    Some(content.data.spec.template.clone())
}

fn is_of_template(revision: &Object, wanted: &PodTemplateSpec) -> bool {
    let content = revision.body.typed::<Content>();
    content.is_ok_and(|content| template::equal(&content.data.spec.template, wanted))
}

fn hash_label(owner: &Object) -> &'static str {
    match owner.kind {
        Kind::StatefulSet => labels::REVISION_HASH,
        _ => labels::CONTROLLER_REVISION_HASH,
    }
}

/// Finds or makes the revision of the owner's template. `named` is whatever has the name that a new
/// one would get.
///
/// # Errors
/// When the name is another template's.
pub(crate) fn current(
    owner: &Object,
    template: &PodTemplateSpec,
    revisions: &[Arc<Object>],
    named: Option<&Arc<Object>>,
    now: Now,
    ids: &mut Ids,
) -> Result<Current, Taken> {
    let last = revisions.iter().map(|revision| number(revision)).max().unwrap_or(0);
    let mut same: Vec<&Arc<Object>> = revisions
        .iter()
        .filter(|revision| !revision.is_deleting() && is_of_template(revision, template))
        .collect();
    same.sort_by_key(|revision| std::cmp::Reverse(number(revision)));
    if let Some(found) = same.first() {
        let moves = number(found) < last;
        let number = if moves { last + 1 } else { last };
        return Ok(Current {
            name: found.name().to_owned(),
            marks: same.iter().map(|revision| mark(owner, revision)).collect(),
            write: moves.then(|| replace_of(found, numbered(found, number))),
        });
    }
    if named.is_some() {
        return Err(Taken);
    }
    let object = fresh(owner, template, last + 1, now, ids);
    Ok(Current {
        name: object.name().to_owned(),
        marks: vec![mark(owner, &object)],
        write: Some(Write::new(Op::Create(object))),
    })
}

fn numbered(revision: &Object, number: i64) -> Object {
    let mut body = revision.body.value();
    body.insert("revision".to_owned(), number.into());
    Object {
        body: Body::new(body),
        ..revision.clone()
    }
}

fn fresh(owner: &Object, template: &PodTemplateSpec, number: i64, now: Now, ids: &mut Ids) -> Object {
    let mut content = owner.body.at("spec/template").map(Part::value).unwrap_or_default();
    if let Some(content) = content.as_object_mut() {
        // It is a patch: applied to the owner, it puts the whole template back.
        content.insert("$patch".to_owned(), "replace".into());
    }
    let mut body = Map::new();
    body.insert("data".to_owned(), json!({"spec": {"template": content}}));
    body.insert("revision".to_owned(), number.into());
    let meta = template.metadata.as_ref();
    let mut labels: BTreeMap<String, String> = meta.and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(hash_label(owner).to_owned(), hash(owner, template));
    let passed_on = owner
        .meta
        .annotations
        .iter()
        .flatten()
        .filter(|(key, _)| key.as_str() != labels::LAST_APPLIED && !key.starts_with("towline.dev/"));
    let annotations: BTreeMap<String, String> = passed_on.map(|(key, value)| (key.clone(), value.clone())).collect();
    Object {
        kind: Kind::ControllerRevision,
        meta: Shared::new(Meta {
            name: Some(name(owner, template).into()),
            namespace: owner.meta.namespace.clone(),
            uid: Some(ids.uid().0),
            creation_timestamp: Some(Time(now.wall)),
            labels: Some(labels.into()),
            annotations: (!annotations.is_empty()).then(|| annotations.into()),
            owner_references: Some(vec![owner.as_controller()].into()),
            ..Meta::default()
        }),
        body: Body::new(body),
        node: None,
        status: None,
        version: 0,
    }
}

/// The status that counts one more collision of a revision's name.
pub(crate) fn collided(owner: &Object) -> Write {
    let mut status = pods::blank(owner.status.as_ref());
    let count = status["collisionCount"].as_i64().unwrap_or(0);
    status["collisionCount"] = (count + 1).into();
    status_of(owner, status)
}

/// The writes that end revisions beyond the history limit, the oldest first. Those that pods are of
/// stay, and so do those in `kept`.
pub(crate) fn beyond_history(
    owner: &Object,
    revisions: &[Arc<Object>],
    pods: &[Arc<Object>],
    kept: &[&str],
    limit: Option<i32>,
    now: Now,
) -> Vec<Write> {
    const HISTORY: i32 = 10;
    let limit = usize::try_from(limit.unwrap_or(HISTORY)).unwrap_or(0);
    let used: FxHashSet<&str> = pods.iter().filter_map(|pod| mark_of(pod)).collect();
    let mut old: Vec<&Arc<Object>> = revisions
        .iter()
        .filter(|revision| {
            let mark = mark(owner, revision);
            !revision.is_deleting() && !kept.contains(&mark.as_str()) && !used.contains(mark.as_str())
        })
        .collect();
    old.sort_by_key(|revision| number(revision));
    let count = old.len().saturating_sub(limit);
    old.into_iter()
        .take(count)
        .filter_map(|revision| owners::delete(revision, None, now))
        .collect()
}
