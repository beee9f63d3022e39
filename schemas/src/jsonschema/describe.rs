//! Short descriptions of kinds and fields.

use std::collections::HashMap;

use super::{inner_struct, type_at};
use crate::{
    Kind,
    fields::{self, Branch, Treatment},
    kind::Support,
    validate::{SERVER_METADATA, structure::SHAPES},
};

/// A description by type and field.
pub(crate) type Descriptions = HashMap<(usize, &'static str), String>;

/// What the field table says of the fields of these kinds. Where kinds share a type, the first that
/// says something is taken.
pub(crate) fn descriptions(kinds: &[Kind]) -> Descriptions {
    let mut descriptions = Descriptions::new();
    for kind in kinds {
        let root = SHAPES.root_index(*kind);
        let of = type_at(root);
        for (field, about) in [
            ("apiVersion", "The API group and version of the kind."),
            ("kind", "The kind of object."),
            ("metadata", "Name, namespace, labels and annotations."),
            ("spec", "What is wanted."),
            (
                "status",
                "What was observed. Written by the system; dropped from manifests.",
            ),
        ] {
            if let Some((name, _)) = of.fields.get_key_value(field) {
                descriptions
                    .entry((root, name.as_str()))
                    .or_insert_with(|| about.to_owned());
            }
        }
        server_fields(root, &mut descriptions);
        if let Some(tree) = fields::tree(*kind) {
            walk(root, tree, true, &mut descriptions);
        }
    }
    descriptions
}

fn server_fields(root: usize, descriptions: &mut Descriptions) {
    let Some(meta) = type_at(root).fields.get("metadata").and_then(inner_struct) else {
        return;
    };
    for field in SERVER_METADATA {
        if let Some((name, _)) = type_at(meta).fields.get_key_value(field) {
            descriptions
                .entry((meta, name.as_str()))
                .or_insert_with(|| "Set by the server; dropped from manifests.".to_owned());
        }
    }
}

fn walk(index: usize, branch: &Branch, top: bool, descriptions: &mut Descriptions) {
    for (name, shape) in &type_at(index).fields {
        let below = branch.below(name);
        let about = match below.and_then(Branch::field) {
            Some(row) => Some(match row.treatment {
                Treatment::Implemented | Treatment::Harmless => row.about.to_owned(),
                Treatment::Ignored => format!("Not acted on yet: {}.", row.about),
                Treatment::Refused => format!("Not supported yet: {}.", row.about),
            }),
            None if below.is_none() && !top && branch.lists_all() => {
                Some("Not acted on yet: it has no effect.".to_owned())
            }
            None => None,
        };
        if let Some(about) = about {
            descriptions.entry((index, name.as_str())).or_insert(about);
        }
        if let Some(below) = below
            && let Some(inner) = inner_struct(shape)
        {
            let below = below.in_items();
            if !below.is_leaf() {
                walk(inner, below, false, descriptions);
            }
        }
    }
}

/// What a kind is, in a sentence or two.
pub(crate) fn about_kind(kind: Kind) -> String {
    let about = match kind {
        Kind::Namespace => "A scope for names; deleting it deletes what is in it.",
        Kind::ConfigMap => "Settings by key, for pods to read as variables or files.",
        Kind::Secret => "Secret values by key, for pods to read as variables or files.",
        Kind::Pod => "Containers that run together on one node.",
        Kind::Node => "A Docker host that runs pods.",
        Kind::Event => "Something that happened to an object.",
        Kind::Service => "A stable address for a set of pods.",
        Kind::ServiceAccount => "An identity for what runs in pods.",
        Kind::Endpoints => "The addresses behind a Service, in the old form.",
        Kind::PersistentVolume => "A piece of storage.",
        Kind::PersistentVolumeClaim => "A request for a piece of storage.",
        Kind::ReplicationController => "A number of equal pods, in the old form.",
        Kind::ResourceQuota => "How much a namespace may use.",
        Kind::LimitRange => "Defaults and bounds for the resources of a namespace's pods.",
        Kind::ReplicaSet => "A number of equal pods.",
        Kind::Deployment => "A number of equal pods, replaced step by step when their template changes.",
        Kind::DaemonSet => "One pod on each node.",
        Kind::StatefulSet => "Pods with stable names and storage.",
        Kind::ControllerRevision => "A former state of a StatefulSet or DaemonSet.",
        Kind::Job => "Pods that run to completion.",
        Kind::CronJob => "Jobs on a schedule.",
        Kind::HorizontalPodAutoscaler => "Scales a workload by its load.",
        Kind::PodDisruptionBudget => "How many pods may be down on purpose at once.",
        Kind::EndpointSlice => "Addresses behind a Service.",
        Kind::Lease => "A claim that its holder renews.",
        Kind::PriorityClass => "A named priority for pods.",
        Kind::StorageClass => "A way to make volumes.",
        Kind::Ingress => "Routes for HTTP from outside to Services.",
        Kind::NetworkPolicy => "Which connections pods may make and take.",
        Kind::Role => "Rights in a namespace.",
        Kind::RoleBinding => "Gives rights in a namespace to users and service accounts.",
        Kind::ClusterRole => "Rights in all namespaces or on what has none.",
        Kind::ClusterRoleBinding => "Gives rights everywhere to users and service accounts.",
    };
    if kind.info().support == Support::Stored {
        format!("{about} Stored, and not yet acted on.")
    } else {
        about.to_owned()
    }
}
