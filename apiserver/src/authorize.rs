//! Who may do what: administrators everything, a node's agent its own node's objects.

use schemas::{Kind, Object, selector::FieldSelector};
use store::Store;

use crate::{
    identity::Identity,
    metrics, nodes_mirror,
    path::{Resource, Sub, Verb},
    query::Query,
    status::ApiError,
};

/// Whether `identity` may do this.
///
/// # Errors
/// A 403 in Kubernetes' words.
pub(crate) fn check(
    store: &Store,
    identity: &Identity,
    verb: Verb,
    resource: &Resource,
    query: &Query,
) -> Result<(), ApiError> {
    let reason = match identity.node() {
        _ if identity.is_administrator() => return Ok(()),
        None => None,
        Some(node) => match check_node(store, node, verb, resource, query) {
            Ok(()) => return Ok(()),
            Err(reason) => Some(reason),
        },
    };
    let group = resource.kind.info().group;
    Err(refusal(identity, verb, resource, group, reason.as_deref()))
}

/// Whether `identity` may read what nodes and pods use.
///
/// # Errors
/// A 403 in Kubernetes' words.
pub(crate) fn check_metrics(identity: &Identity, verb: Verb, resource: &Resource) -> Result<(), ApiError> {
    if identity.is_administrator() {
        return Ok(());
    }
    Err(refusal(identity, verb, resource, metrics::GROUP, None))
}

fn refusal(identity: &Identity, verb: Verb, resource: &Resource, group: &str, reason: Option<&str>) -> ApiError {
    let info = resource.kind.info();
    let what = match resource.sub {
        Some(sub) => format!("{}/{}", info.plural, sub.word()),
        None => info.plural.to_owned(),
    };
    let place = match &resource.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let subject = match &resource.name {
        Some(name) => format!("{} {name:?}", info.resource()),
        None => info.resource(),
    };
    let mut message = format!(
        "{subject} is forbidden: User {:?} cannot {} resource {what:?} in API group {:?} {place}",
        identity.user,
        verb.word(),
        group,
    );
    if let Some(reason) = reason {
        message.push_str(": ");
        message.push_str(reason);
    }
    ApiError::forbidden(message).about(resource.kind, resource.name.as_deref().unwrap_or(""))
}

fn check_node(store: &Store, node: &str, verb: Verb, resource: &Resource, query: &Query) -> Result<(), String> {
    let own = |field: &str| {
        query
            .text("fieldSelector")
            .and_then(|text| FieldSelector::parse(text, resource.kind).ok())
            .is_some_and(|fields| fields.required(field) == Some(node))
    };
    let named = resource.name.is_some();
    match (resource.kind, verb, resource.sub) {
        (Kind::Node, Verb::Get | Verb::Watch, None) if resource.name.as_deref() == Some(node) => Ok(()),
        (Kind::Node, Verb::Get | Verb::Update | Verb::Patch, Some(Sub::Status))
            if resource.name.as_deref() == Some(node) =>
        {
            Ok(())
        }
        (Kind::Node, Verb::List | Verb::Watch, None) if !named && own("metadata.name") => Ok(()),
        (Kind::Node, ..) => Err(format!("node {node:?} may use its own Node object only")),
        (Kind::Pod, Verb::Get | Verb::Watch, None | Some(Sub::Status)) if named => {
            let bound = store
                .view()
                .get(&resource.key())
                .is_some_and(|pod| pod.node.as_deref() == Some(node));
            if bound {
                Ok(())
            } else {
                Err(format!("no relationship found between node {node:?} and this object"))
            }
        }
        (Kind::Pod, Verb::List | Verb::Watch, None) if own("spec.nodeName") => Ok(()),
        (Kind::Pod, Verb::List | Verb::Watch, None) => Err(format!(
            "can only list/watch pods with field selector spec.nodeName={node}"
        )),
        (Kind::ConfigMap | Kind::Secret, Verb::Get | Verb::Watch, None) if named => {
            let key = resource.key();
            let view = store.view();
            let used = view.on_node(node).any(|pod: &std::sync::Arc<Object>| {
                pod.namespace() == key.ns() && nodes_mirror::needs(pod).contains(&key)
            });
            if used {
                Ok(())
            } else {
                Err(format!("no relationship found between node {node:?} and this object"))
            }
        }
        _ => Err("agents use the node stream for everything else".to_owned()),
    }
}
