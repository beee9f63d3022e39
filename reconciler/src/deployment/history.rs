//! New sets, numbers of revisions, and the end of old sets.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemas::{Body, Kind, Meta, Now, Object, Shared, defaulting, labels};
use serde_json::{Map, Value, json};
use store::Write;

use super::{Rollout, annotate};
use crate::ids::Ids;

const HISTORY: i32 = 10;

impl Rollout<'_> {
    /// The number of the current revision: above that of every old set.
    fn revision(&self) -> i64 {
        let latest = self.old().map(|(_, set)| set.revision()).max().unwrap_or(0);
        let own = self.new.map_or(0, |new| self.sets[new].revision());
        own.max(latest + 1)
    }

    /// Gives the new set its number, annotations and `minReadySeconds`. A set that comes back (a
    /// rollback) moves on to a new number and remembers the old one.
    pub(super) fn number_revisions(&mut self) {
        let revision = self.revision();
        let min_ready = self.spec.min_ready_seconds.unwrap_or(0);
        let passed_on = self.passed_on();
        let Some(new) = self.new else { return };
        let set = &mut self.sets[new];
        set.min_ready_seconds = min_ready;
        set.annotations.extend(passed_on);
        let was = set.revision();
        if was < revision {
            set.annotations
                .insert(labels::REVISION.to_owned(), revision.to_string());
            if was > 0 {
                let history = set.annotations.entry(labels::REVISION_HISTORY.to_owned()).or_default();
                if !history.is_empty() {
                    history.push(',');
                }
                history.push_str(&was.to_string());
            }
        }
    }

    /// The Deployment's annotations that its sets carry too.
    fn passed_on(&self) -> BTreeMap<String, String> {
        const OWN: [&str; 5] = [
            labels::LAST_APPLIED,
            labels::REVISION,
            labels::REVISION_HISTORY,
            labels::DESIRED_REPLICAS,
            labels::MAX_REPLICAS,
        ];
        let all = self.object.meta.annotations.iter().flatten();
        all.filter(|(name, _)| !OWN.contains(&name.as_str()) && !name.starts_with("towline.dev/"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// The write that gives the Deployment its revision number, if it lacks it.
    pub(super) fn deployment_write(&self) -> Option<Write> {
        annotate(self.object, &[(labels::REVISION, self.revision().to_string())])
    }

    /// A ReplicaSet for the current template.
    pub(super) fn new_set(&self, ids: &mut Ids, now: Now) -> Option<Object> {
        let name = super::set_name(self.object)?;
        let hash = name.rsplit_once('-')?.1.to_owned();
        let spec = self.object.body.at("spec")?.value();
        let mut template = spec.get("template")?.clone();
        let labelled = template.as_object_mut()?;
        let meta = labelled.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if !meta["labels"].is_object() {
            meta["labels"] = json!({});
        }
        meta["labels"][labels::POD_TEMPLATE_HASH] = hash.clone().into();
        let mut selector = spec.get("selector")?.clone();
        if !selector["matchLabels"].is_object() {
            selector["matchLabels"] = json!({});
        }
        selector["matchLabels"][labels::POD_TEMPLATE_HASH] = hash.into();
        let labels = meta["labels"].clone();
        let mut value = json!({"spec": {
            "replicas": self.new_replicas(),
            "selector": selector,
            "template": template,
        }});
        if let Some(seconds) = self.spec.min_ready_seconds.filter(|seconds| *seconds > 0) {
            value["spec"]["minReadySeconds"] = seconds.into();
        }
        defaulting::default_object(Kind::ReplicaSet, &mut value);
        let status = defaulting::initial_status(Kind::ReplicaSet, &value);
        let Value::Object(body) = value else { return None };
        let mut annotations = self.passed_on();
        annotations.insert(labels::REVISION.to_owned(), self.revision().to_string());
        annotations.insert(labels::DESIRED_REPLICAS.to_owned(), self.replicas.to_string());
        annotations.insert(
            labels::MAX_REPLICAS.to_owned(),
            (self.replicas + self.max_surge).to_string(),
        );
        Some(Object {
            kind: Kind::ReplicaSet,
            meta: Shared::new(Meta {
                name: Some(name.into()),
                namespace: self.object.meta.namespace.clone(),
                uid: Some(ids.uid().0),
                creation_timestamp: Some(Time(now.wall)),
                labels: serde_json::from_value(labels).ok(),
                annotations: Some(annotations.into()),
                owner_references: Some(vec![self.object.as_controller()].into()),
                ..Meta::default()
            }),
            body: Body::new(body),
            node: None,
            status: status.map(Into::into),
            version: 0,
        })
    }

    /// Old sets without pods that the history limit does not keep, the lowest revision first.
    pub(super) fn beyond_history(&self) -> Vec<&Object> {
        let limit = usize::try_from(self.spec.revision_history_limit.unwrap_or(HISTORY)).unwrap_or(0);
        let mut old: Vec<_> = self.old().map(|(_, set)| set).collect();
        old.retain(|set| !set.object.is_deleting());
        old.sort_by_key(|set| set.revision());
        let count = old.len().saturating_sub(limit);
        let empty = |set: &&super::Set| {
            set.replicas == 0
                && set.was() == 0
                && set.status.replicas == 0
                && set.status.observed_generation >= set.object.meta.generation
        };
        old.into_iter()
            .take(count)
            .filter(empty)
            .map(|set| &*set.object)
            .collect()
    }
}
