//! `GET explain?kind=&name=&namespace=`: which field and commit is behind each container that was
//! replaced, and what each pod waits for.
//!
//! [`changes`] and [`waiting`] compute it from what was looked up here.

pub mod changes;
#[cfg(test)]
mod tests;
pub mod waiting;

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;
use jiff::Timestamp;
use schemas::{
    Key, Kind, Object, Part, Unit,
    origin::{Author, Question},
    report::Outcome,
};
use serde::{Deserialize, Serialize};
use store::{DesiredRow, View};

use crate::{
    control::Front,
    exchange::{self, Response},
    query::Query,
    status::ApiError,
};
use changes::Change;
use waiting::Waiting;

/// So many changes of a declaration are looked at.
const CHANGES: usize = 10;
/// So many warnings are told.
const WARNINGS: usize = 10;
/// Owners of owners are followed this far.
const CHAIN: usize = 5;

/// Why an object is as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub object: Key,
    /// Where git declares it, or the object that it comes from.
    pub declared: Option<Declared>,
    /// How far the declared object has come, and why no further.
    pub outcome: Option<Outcome>,
    pub reason: String,
    /// How many pods there are, of the newest template and of older ones.
    pub pods: Pods,
    /// Newest first.
    pub changes: Vec<Change>,
    /// Containers that ended and were started anew in the same pod.
    pub restarts: Vec<Restart>,
    pub waiting: Vec<Waiting>,
    /// What went wrong in the last hour, newest first.
    pub warnings: Vec<Warning>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Declared {
    pub object: Key,
    pub file: Arc<str>,
    pub line: u32,
    /// Who wrote its newest content.
    pub by: Option<Author>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pods {
    pub new: usize,
    pub old: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    pub pod: Arc<str>,
    pub container: String,
    pub times: i32,
    /// How it ended last: `Error`, `OOMKilled`, `Completed`.
    pub reason: String,
    pub exit_code: i32,
    pub message: Option<String>,
    pub at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    pub object: String,
    pub reason: String,
    pub message: String,
    pub count: i64,
    pub at: Option<Timestamp>,
}

/// What was looked up about an object.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) key: Key,
    /// The declared object that it comes from, itself included.
    pub(crate) root: Option<Key>,
    pub(crate) live: Option<Arc<Object>>,
    pub(crate) root_live: Option<Arc<Object>>,
    /// ReplicaSets or ControllerRevisions.
    pub(crate) sets: Vec<Arc<Object>>,
    pub(crate) pods: Vec<Arc<Object>>,
    /// The nodes that these pods are on.
    pub(crate) nodes: BTreeMap<Arc<str>, Arc<Object>>,
    pub(crate) warnings: Vec<Warning>,
}

/// The object that a query names by `kind`, `name` and `namespace`.
pub(crate) fn asked(query: &Query) -> Result<Key, ApiError> {
    let (word, name) = (query.get("kind").unwrap_or_default(), query.text("name"));
    let Some(kind) = Kind::of_word(word) else {
        return Err(ApiError::bad_request(format!("there is no kind {word:?}")));
    };
    let Some(name) = name else {
        return Err(ApiError::bad_request("name the object: KIND/NAME"));
    };
    Ok(if kind.info().namespaced {
        Key::namespaced(kind, query.text("namespace").unwrap_or("default"), name)
    } else {
        Key::cluster(kind, name)
    })
}

pub(crate) async fn answer(front: &Front, query: &Query) -> Result<Response, ApiError> {
    let key = asked(query)?;
    if !is_explained(key.kind) {
        return Err(ApiError::bad_request(format!(
            "{} has no containers: explain a Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob or Pod",
            key.kind.a()
        )));
    }
    let seen = look(front, &key)?;
    let rows = match &seen.root {
        Some(root) => distinct(front.store.declarations(root, 4 * CHANGES).await?),
        None => Vec::new(),
    };
    let mut changes = match (&seen.root, rows.is_empty()) {
        (Some(root), false) => changes::of_rows(root.kind, &rows, &seen.sets),
        _ => changes::of_sets(&seen.sets),
    };
    changes.truncate(CHANGES);
    let by = credit(front, &seen, &rows, &mut changes).await;
    let report = front.store.reports().borrow().clone();
    let report = report.as_ref().zip(seen.root.as_ref());
    let report = report.and_then(|(report, root)| report.units.get(&Unit::of(root))?.objects.get(root));
    let desired = front.store.desired();
    let held = seen
        .root
        .as_ref()
        .and_then(|root| desired.units.get(&Unit::of(root))?.held.clone());
    let now = front.clock.now().wall;
    let explanation = Explanation {
        declared: seen.root.as_ref().zip(rows.first()).map(|(root, row)| Declared {
            object: root.clone(),
            file: row.file.clone(),
            line: row.line,
            by,
        }),
        outcome: report.map(|report| report.outcome),
        reason: report.map(|report| report.reason.clone()).unwrap_or_default(),
        pods: waiting::count(&seen),
        changes,
        restarts: waiting::restarts(&seen.pods),
        waiting: waiting::all(&seen, report.map(|report| &**report), held.as_deref(), now),
        warnings: seen.warnings,
        object: seen.key,
    };
    Ok(exchange::json(StatusCode::OK, &explanation))
}

fn is_explained(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Deployment
            | Kind::ReplicaSet
            | Kind::ReplicationController
            | Kind::StatefulSet
            | Kind::DaemonSet
            | Kind::Job
            | Kind::CronJob
            | Kind::Pod
    )
}

/// Rows of one content follow each other when only their place changed: the newest place counts.
fn distinct(mut rows: Vec<DesiredRow>) -> Vec<DesiredRow> {
    rows.dedup_by(|older, newer| older.hash == newer.hash);
    rows
}

/// Asks git who wrote what, and tells who wrote the newest content.
async fn credit(front: &Front, seen: &Seen, rows: &[DesiredRow], changes: &mut [Change]) -> Option<Author> {
    let root = seen.root.as_ref()?;
    let questions: Vec<Question> = rows
        .iter()
        .zip(changes.iter())
        .enumerate()
        .map(|(at, (row, change))| Question {
            key: root.clone(),
            file: row.file.clone(),
            commit: row.commit.clone(),
            since: rows.get(at + 1).map(|older| older.commit.clone()),
            fields: change.fields.iter().map(|field| field.change.clone()).collect(),
        })
        .collect();
    // Without git the fields are told all the same.
    let origins = match front.source.origins(questions).await {
        Ok(origins) => origins,
        Err(error) => {
            tracing::warn!(%error, "who wrote a manifest could not be found out");
            return None;
        }
    };
    let by = origins.first().and_then(|origin| origin.by.clone());
    for (change, origin) in changes.iter_mut().zip(origins) {
        change.by = origin.by;
        for (field, origin) in change.fields.iter_mut().zip(origin.fields) {
            field.by = origin.by;
            field.line = origin.line;
        }
    }
    by
}

fn look(front: &Front, key: &Key) -> Result<Seen, ApiError> {
    let desired = front.store.desired();
    let view = front.store.view();
    let live = view.get(key).cloned();
    if live.is_none() && !desired.rows.contains_key(key) {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "NotFound", missing(&view, key)));
    }
    let mut root = None;
    let mut root_live = None;
    let mut at = Some((key.clone(), live.clone()));
    for _ in 0..CHAIN {
        let Some((key, object)) = at.take() else { break };
        if desired.rows.contains_key(&key) {
            (root, root_live) = (Some(key), object);
            break;
        }
        let owner = object.as_ref().and_then(|object| {
            let owner = view.by_uid(&object.controller()?.uid.as_str().into())?;
            Some((owner.key(), Some(owner.clone())))
        });
        at = owner;
    }
    let of = root_live.as_ref().or(live.as_ref());
    let sets = of.map(|object| sets(&view, object)).unwrap_or_default();
    let mut pods = Vec::new();
    if let Some(live) = &live {
        pods_of(&view, live, CHAIN, &mut pods);
    }
    pods.sort_by_key(|pod| pod.key());
    let nodes = pods
        .iter()
        .filter_map(|pod| {
            let node = pod.node.clone()?;
            let object = view.get(&Key::cluster(Kind::Node, &node))?.clone();
            Some((node, object))
        })
        .collect();
    let mut about: Vec<Key> = pods.iter().map(|pod| pod.key()).collect();
    about.extend(sets.iter().map(|set| set.key()));
    about.extend([Some(key.clone()), root.clone()].into_iter().flatten());
    let warnings = warnings(&view, key.ns(), &about);
    Ok(Seen {
        key: key.clone(),
        root,
        live,
        root_live,
        sets,
        pods,
        nodes,
        warnings,
    })
}

fn missing(view: &View<'_>, key: &Key) -> String {
    let other = view.list(key.kind, None).find(|object| *object.name() == *key.name);
    match other {
        Some(other) if key.namespace.is_some() => format!(
            "there is no {key}; there is one in the namespace {0}: -n {0}",
            other.namespace()
        ),
        _ => format!("there is no {key}"),
    }
}

/// The templates that a workload has had.
fn sets(view: &View<'_>, object: &Object) -> Vec<Arc<Object>> {
    let kind = match object.kind {
        Kind::Deployment => Kind::ReplicaSet,
        Kind::DaemonSet | Kind::StatefulSet => Kind::ControllerRevision,
        _ => return Vec::new(),
    };
    let owned = view.owned_by(&object.uid());
    owned.filter(|owned| owned.kind == kind).cloned().collect()
}

fn pods_of(view: &View<'_>, object: &Arc<Object>, depth: usize, found: &mut Vec<Arc<Object>>) {
    if object.kind == Kind::Pod {
        found.push(object.clone());
        return;
    }
    if depth == 0 {
        return;
    }
    for owned in view.owned_by(&object.uid()) {
        if owned.kind != Kind::ControllerRevision {
            pods_of(view, owned, depth - 1, found);
        }
    }
}

fn warnings(view: &View<'_>, namespace: &str, about: &[Key]) -> Vec<Warning> {
    let is_about = |event: &Object| {
        let word = |path: &str| event.body.at(path).and_then(Part::text);
        let (kind, name) = (word("involvedObject/kind"), word("involvedObject/name"));
        about
            .iter()
            .any(|key| kind.as_deref() == Some(key.kind.info().name) && name.as_deref() == Some(&*key.name))
    };
    let mut found: Vec<Warning> = view
        .list(Kind::Event, Some(namespace))
        .filter(|event| event.body.at("type").is_some_and(|kind| kind.is("Warning")) && is_about(event))
        .map(|event| {
            let word = |path: &str| {
                event
                    .body
                    .at(path)
                    .and_then(Part::text)
                    .unwrap_or_default()
                    .into_owned()
            };
            Warning {
                object: format!("{}/{}", word("involvedObject/kind"), word("involvedObject/name")),
                reason: word("reason"),
                message: word("message"),
                count: event.body.at("count").and_then(Part::int).unwrap_or(1),
                at: word("lastTimestamp").parse().ok(),
            }
        })
        .collect();
    found.sort_by_key(|warning| std::cmp::Reverse(warning.at));
    found.truncate(WARNINGS);
    found
}
