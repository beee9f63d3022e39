//! How the parts of an object merge: one table for server-side apply and strategic merge patches.
//!
//! The table lists what differs from the rule for everything else: objects merge field by field,
//! lists are replaced as a whole. It follows the list and map types that the upstream API reference
//! of v1.33 documents for each field.

use serde_json::{Map, Value};

use crate::Kind;

/// What stands at a place in an object, as far as merging cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nothing below has a rule of its own.
    Plain,
    Root(Kind),
    Meta,
    Spec(Kind),
    Status(Kind),
    Template,
    JobTemplate,
    PodSpec,
    Container,
    Resources,
    EnvVar,
    EnvSource,
    Affinity,
    NodeAffinity,
    SpreadConstraint,
    Ingress,
}

/// How one field merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// An object with known fields, or any scalar or list without a rule.
    Struct(Shape),
    /// An object with known fields that server-side apply owns as a whole.
    AtomicStruct,
    /// An object of free keys, each owned by itself.
    Map,
    /// An object of free keys that server-side apply owns as a whole.
    AtomicMap,
    /// A list of objects that are told apart by keys.
    Keyed {
        shape: Shape,
        /// The keys in server-side apply.
        keys: &'static [&'static str],
        /// The key in strategic merge patches; none where they replace the list.
        merge_key: Option<&'static str>,
    },
    /// A list that strategic merge patches merge by a key and server-side apply owns as a whole.
    PatchKeyed { shape: Shape, merge_key: &'static str },
    /// A list of distinct scalars, each owned by itself.
    Set,
}

const PLAIN: Merge = Merge::Struct(Shape::Plain);

const fn by(shape: Shape, keys: &'static [&'static str]) -> Merge {
    Merge::Keyed {
        shape,
        keys,
        merge_key: Some(keys[0]),
    }
}

/// The rule for `field` of an object of `shape`.
pub(crate) fn rule(shape: Shape, field: &str) -> Merge {
    match (shape, field) {
        (Shape::Root(_), "metadata") => Merge::Struct(Shape::Meta),
        (Shape::Root(kind), "spec") => Merge::Struct(Shape::Spec(kind)),
        (Shape::Root(kind), "status") => Merge::Struct(Shape::Status(kind)),
        (Shape::Root(Kind::ConfigMap | Kind::Secret), "data" | "binaryData" | "stringData") => Merge::Map,
        (Shape::Root(Kind::ServiceAccount), "secrets") => by(Shape::Plain, &["name"]),
        (Shape::Root(Kind::Event), "involvedObject" | "related") => Merge::AtomicStruct,
        (Shape::Root(Kind::StorageClass), "parameters") => Merge::Map,

        (Shape::Meta, "labels" | "annotations") => Merge::Map,
        (Shape::Meta, "finalizers") => Merge::Set,
        (Shape::Meta, "ownerReferences") => by(Shape::Plain, &["uid"]),

        (Shape::Spec(Kind::Pod), _) => rule(Shape::PodSpec, field),
        (
            Shape::Spec(
                Kind::Deployment
                | Kind::ReplicaSet
                | Kind::DaemonSet
                | Kind::StatefulSet
                | Kind::Job
                | Kind::ReplicationController,
            ),
            "template",
        ) => Merge::Struct(Shape::Template),
        (Shape::Spec(Kind::CronJob), "jobTemplate") => Merge::Struct(Shape::JobTemplate),
        (Shape::Spec(Kind::Service | Kind::ReplicationController), "selector") => Merge::AtomicMap,
        (Shape::Spec(Kind::NetworkPolicy), "podSelector") => Merge::AtomicStruct,
        (Shape::Spec(_), "selector") => Merge::AtomicStruct,
        (Shape::Spec(Kind::Service), "ports") => by(Shape::Plain, &["port", "protocol"]),
        (Shape::Spec(Kind::PersistentVolumeClaim), "resources") => Merge::Struct(Shape::Resources),
        (Shape::Spec(Kind::PersistentVolumeClaim), "dataSource") => Merge::AtomicStruct,
        (Shape::Spec(Kind::PersistentVolume), "capacity") => Merge::Map,
        (Shape::Spec(Kind::ResourceQuota), "hard") => Merge::Map,
        (Shape::Spec(Kind::ResourceQuota), "scopeSelector") => Merge::AtomicStruct,
        (Shape::Spec(Kind::Node), "podCIDRs") => Merge::Set,
        (Shape::Spec(Kind::Node), "taints") => Merge::PatchKeyed {
            shape: Shape::Plain,
            merge_key: "key",
        },
        (Shape::Spec(Kind::Ingress), "defaultBackend") => Merge::Struct(Shape::Ingress),
        (Shape::Ingress, "resource") => Merge::AtomicStruct,

        (Shape::Status(Kind::Ingress | Kind::NetworkPolicy), _) => PLAIN,
        (Shape::Status(_), "conditions") => by(Shape::Plain, &["type"]),
        (Shape::Status(Kind::Pod), "podIPs") => by(Shape::Plain, &["ip"]),
        (Shape::Status(Kind::Node), "addresses") => by(Shape::Plain, &["type"]),
        (Shape::Status(_), "capacity" | "allocatable" | "hard" | "used") => Merge::Map,

        (Shape::Template | Shape::JobTemplate, "metadata") => Merge::Struct(Shape::Meta),
        (Shape::Template, "spec") => Merge::Struct(Shape::PodSpec),
        (Shape::JobTemplate, "spec") => Merge::Struct(Shape::Spec(Kind::Job)),

        (Shape::PodSpec, "containers" | "initContainers" | "ephemeralContainers") => by(Shape::Container, &["name"]),
        (Shape::PodSpec, "volumes" | "imagePullSecrets" | "schedulingGates" | "resourceClaims") => {
            by(Shape::Plain, &["name"])
        }
        (Shape::PodSpec, "hostAliases") => by(Shape::Plain, &["ip"]),
        (Shape::PodSpec, "topologySpreadConstraints") => {
            by(Shape::SpreadConstraint, &["topologyKey", "whenUnsatisfiable"])
        }
        (Shape::PodSpec, "nodeSelector") => Merge::AtomicMap,
        (Shape::PodSpec, "overhead") => Merge::Map,
        (Shape::PodSpec, "affinity") => Merge::Struct(Shape::Affinity),
        (Shape::Affinity, "nodeAffinity") => Merge::Struct(Shape::NodeAffinity),
        (Shape::Spec(Kind::PersistentVolume), "nodeAffinity") => Merge::Struct(Shape::NodeAffinity),
        (Shape::NodeAffinity, "required" | "requiredDuringSchedulingIgnoredDuringExecution") => Merge::AtomicStruct,
        (Shape::SpreadConstraint, "labelSelector") => Merge::AtomicStruct,

        (Shape::Container, "env") => by(Shape::EnvVar, &["name"]),
        (Shape::Container, "ports") => by(Shape::Plain, &["containerPort", "protocol"]),
        (Shape::Container, "volumeMounts") => by(Shape::Plain, &["mountPath"]),
        (Shape::Container, "volumeDevices") => by(Shape::Plain, &["devicePath"]),
        (Shape::Container | Shape::PodSpec, "resources") => Merge::Struct(Shape::Resources),
        (Shape::Resources, "limits" | "requests") => Merge::Map,
        (Shape::Resources, "claims") => Merge::Keyed {
            shape: Shape::Plain,
            keys: &["name"],
            merge_key: None,
        },
        (Shape::EnvVar, "valueFrom") => Merge::Struct(Shape::EnvSource),
        (Shape::EnvSource, "configMapKeyRef" | "secretKeyRef" | "fieldRef" | "resourceFieldRef") => Merge::AtomicStruct,

        _ => PLAIN,
    }
}

/// The value that a key of a list has where an item leaves it out.
pub(crate) fn key_default(key: &str) -> Option<Value> {
    (key == "protocol").then(|| Value::from("TCP"))
}

/// An item's keys as one text, the same for every order and default; none if one is missing.
pub(crate) fn item_key(item: &Map<String, Value>, keys: &[&str]) -> Option<String> {
    let mut found = Map::new();
    for key in keys {
        let value = match item.get(*key) {
            None | Some(Value::Null) => key_default(key)?,
            Some(value) => value.clone(),
        };
        found.insert((*key).to_owned(), value);
    }
    Some(Value::Object(found).to_string())
}
