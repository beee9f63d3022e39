//! One ReplicaSet of a Deployment, as it is and as it shall be.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetSpec, ReplicaSetStatus};
use schemas::{Body, Object, ObjectError, labels};
use serde_json::Value;
use store::Write;

use crate::plan::replace_of;

#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) object: Arc<Object>,
    pub(super) spec: Arc<ReplicaSetSpec>,
    pub(super) status: ReplicaSetStatus,
    /// How many it shall have.
    pub(super) replicas: i32,
    pub(super) min_ready_seconds: i32,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Set {
    pub(super) fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let spec = object.spec::<ReplicaSetSpec>()?;
        Ok(Self {
            status: object.status()?,
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            annotations: object.meta.annotations.as_deref().cloned().unwrap_or_default(),
            object: object.clone(),
            spec,
        })
    }

    /// Orders by age, the oldest first.
    pub(super) fn age(&self) -> (Option<Timestamp>, String) {
        let created = self.object.meta.creation_timestamp.as_ref().map(|time| time.0);
        (created, self.object.name().to_owned())
    }

    /// How many it was told to have when it was looked at.
    pub(super) fn was(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// Available replicas, and never more than it shall have: those above are about to go.
    pub(super) fn available(&self) -> i32 {
        self.status.available_replicas.unwrap_or(0).min(self.replicas)
    }

    /// Pods that count against the surge: what it shall have, or what it still has if that is more.
    pub(super) fn size(&self) -> i32 {
        self.replicas.max(self.status.replicas)
    }

    pub(super) fn number(&self, annotation: &str) -> Option<i64> {
        self.annotations.get(annotation)?.parse().ok()
    }

    pub(super) fn revision(&self) -> i64 {
        self.number(labels::REVISION).unwrap_or(0)
    }

    pub(super) fn scale_to(&mut self, replicas: i32, desired: i32, surge: i32) {
        self.replicas = replicas.max(0);
        self.annotations
            .insert(labels::DESIRED_REPLICAS.to_owned(), desired.to_string());
        self.annotations
            .insert(labels::MAX_REPLICAS.to_owned(), (desired + surge).to_string());
    }

    /// From how many to how many it goes, if it does.
    pub(super) fn scaled(&self) -> Option<(i32, i32)> {
        (self.was() != self.replicas).then(|| (self.was(), self.replicas))
    }

    /// The write that makes it as it shall be; none if it is so.
    pub(super) fn write(&self) -> Option<Write> {
        let mut object = Object::clone(&self.object);
        let was = object.meta.annotations.as_deref().cloned().unwrap_or_default();
        let min_ready_was = self.spec.min_ready_seconds.unwrap_or(0);
        if was == self.annotations && self.was() == self.replicas && min_ready_was == self.min_ready_seconds {
            return None;
        }
        object.meta.annotations = Some(self.annotations.clone().into());
        if self.was() != self.replicas || min_ready_was != self.min_ready_seconds {
            let mut body = object.body.value();
            if let Some(Value::Object(spec)) = body.get_mut("spec") {
                spec.insert("replicas".to_owned(), self.replicas.into());
                if self.min_ready_seconds > 0 {
                    spec.insert("minReadySeconds".to_owned(), self.min_ready_seconds.into());
                } else {
                    spec.remove("minReadySeconds");
                }
            }
            object.body = Body::new(body);
        }
        Some(replace_of(&self.object, object))
    }
}
