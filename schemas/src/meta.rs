//! An object's metadata as it is kept: names and maps that many objects have in common are one value.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};

use crate::{Packed, Shared};

/// `metadata` without `resourceVersion`, which is the object's own version. The fields are those of
/// the API; what replicas have in common is shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    pub name: Option<Arc<str>>,
    pub namespace: Option<Arc<str>>,
    pub uid: Option<Arc<str>>,
    pub generate_name: Option<Arc<str>>,
    pub creation_timestamp: Option<Time>,
    pub deletion_timestamp: Option<Time>,
    pub deletion_grace_period_seconds: Option<i64>,
    pub generation: Option<i64>,
    pub labels: Option<Shared<BTreeMap<String, String>>>,
    pub annotations: Option<Shared<BTreeMap<String, String>>>,
    pub finalizers: Option<Shared<Vec<String>>>,
    pub owner_references: Option<Shared<Vec<OwnerReference>>>,
    /// Who set which field: a list of entries, packed.
    pub managed_fields: Option<Packed>,
}

impl Meta {
    /// Who set which field.
    #[must_use]
    pub fn managed_fields(&self) -> Vec<ManagedFieldsEntry> {
        // It was made from such a list.
        self.managed_fields
            .as_ref()
            .and_then(|packed| packed.parse().ok())
            .unwrap_or_default()
    }

    pub fn set_managed_fields(&mut self, entries: Option<Vec<ManagedFieldsEntry>>) {
        self.managed_fields = entries.and_then(|entries| Packed::of(&entries).ok());
    }
}

impl From<ObjectMeta> for Meta {
    fn from(meta: ObjectMeta) -> Self {
        let mut own = Self {
            name: meta.name.map(Into::into),
            namespace: meta.namespace.map(Into::into),
            uid: meta.uid.map(Into::into),
            generate_name: meta.generate_name.map(Into::into),
            creation_timestamp: meta.creation_timestamp,
            deletion_timestamp: meta.deletion_timestamp,
            deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
            generation: meta.generation,
            labels: meta.labels.map(Into::into),
            annotations: meta.annotations.map(Into::into),
            finalizers: meta.finalizers.map(Into::into),
            owner_references: meta.owner_references.map(Into::into),
            managed_fields: None,
        };
        own.set_managed_fields(meta.managed_fields);
        own
    }
}

impl From<ObjectMeta> for Shared<Meta> {
    fn from(meta: ObjectMeta) -> Self {
        Self::new(meta.into())
    }
}

impl From<&Meta> for ObjectMeta {
    fn from(meta: &Meta) -> Self {
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        Self {
            name: text(&meta.name),
            namespace: text(&meta.namespace),
            uid: text(&meta.uid),
            generate_name: text(&meta.generate_name),
            creation_timestamp: meta.creation_timestamp.clone(),
            deletion_timestamp: meta.deletion_timestamp.clone(),
            deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
            generation: meta.generation,
            labels: meta.labels.as_deref().cloned(),
            annotations: meta.annotations.as_deref().cloned(),
            finalizers: meta.finalizers.as_deref().cloned(),
            owner_references: meta.owner_references.as_deref().cloned(),
            managed_fields: meta.managed_fields.is_some().then(|| meta.managed_fields()),
            resource_version: None,
            self_link: None,
        }
    }
}

/// Metadata with the version that the object is at, as the API writes it.
pub struct Versioned<'a>(pub &'a Meta, pub u64);

impl Serialize for Versioned<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(meta, version) = self;
        let mut map = serializer.serialize_map(None)?;
        // In the order of the names, so that the text is the same as that of a JSON value.
        entry(&mut map, "annotations", meta.annotations.as_ref())?;
        entry(&mut map, "creationTimestamp", meta.creation_timestamp.as_ref())?;
        entry(
            &mut map,
            "deletionGracePeriodSeconds",
            meta.deletion_grace_period_seconds.as_ref(),
        )?;
        entry(&mut map, "deletionTimestamp", meta.deletion_timestamp.as_ref())?;
        entry(&mut map, "finalizers", meta.finalizers.as_ref())?;
        entry(&mut map, "generateName", meta.generate_name.as_ref())?;
        entry(&mut map, "generation", meta.generation.as_ref())?;
        entry(&mut map, "labels", meta.labels.as_ref())?;
        entry(&mut map, "managedFields", meta.managed_fields.as_ref())?;
        entry(&mut map, "name", meta.name.as_ref())?;
        entry(&mut map, "namespace", meta.namespace.as_ref())?;
        entry(&mut map, "ownerReferences", meta.owner_references.as_ref())?;
        if *version > 0 {
            map.serialize_entry("resourceVersion", &version.to_string())?;
        }
        entry(&mut map, "uid", meta.uid.as_ref())?;
        map.end()
    }
}

fn entry<M: SerializeMap, T: Serialize>(map: &mut M, name: &'static str, value: Option<&T>) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(name, value),
        None => Ok(()),
    }
}

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Versioned(self, 0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ObjectMeta::deserialize(deserializer).map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn metadata_reads_and_writes_as_the_api_does() {
        let full = json!({
            "annotations": {"a": "b"}, "creationTimestamp": "2026-01-02T03:04:05Z",
            "deletionGracePeriodSeconds": 30, "deletionTimestamp": "2026-01-02T03:04:35Z",
            "finalizers": ["x/y"], "generateName": "web-", "generation": 3, "labels": {"app": "web"},
            "managedFields": [{"apiVersion": "apps/v1", "fieldsType": "FieldsV1", "manager": "kubectl",
                "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}],
            "name": "web-1", "namespace": "shop",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u",
                "controller": true}],
            "uid": "0",
        });
        for value in [full, json!({}), json!({"name": "a"})] {
            let theirs: ObjectMeta = serde_json::from_value(value.clone()).expect("metadata");
            let ours: Meta = serde_json::from_value(value.clone()).expect("metadata");
            assert_eq!(ours, Meta::from(theirs.clone()));
            assert_eq!(ObjectMeta::from(&ours), theirs);
            assert_eq!(serde_json::to_value(&ours).expect("JSON"), value);
            // The text is that of a value with sorted keys.
            let text = serde_json::to_string(&Versioned(&ours, 7)).expect("JSON");
            let read: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(read.to_string(), text);
            assert_eq!(read["resourceVersion"], "7");
        }
    }
}
