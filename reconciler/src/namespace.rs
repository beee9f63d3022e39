//! Namespaces: `default` exists from the start; deleting one deletes what is in it, then itself. One that
//! was made because manifests use it, an *implicit* one, goes once they use it no longer and it is empty.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemas::{Body, Key, Kind, Meta, Now, Object, Shared, admission, apply, defaulting, labels};
use serde_json::{Value, json};
use store::{Class, Op, Write};

use crate::{
    ids::Ids,
    owners,
    plan::{Plan, replace_of, status_of},
    release,
};

/// The namespace that is always there.
pub const DEFAULT: &str = "default";
/// How much of a namespace's contents one look takes in.
pub const AT_ONCE: usize = 500;

/// One Namespace and, while it is being deleted, some of what is in it.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub name: Arc<str>,
    pub namespace: Option<Arc<Object>>,
    pub manifests: Manifests,
    /// At most [`AT_ONCE`] objects; none of them means that it is empty.
    pub contents: Vec<Arc<Object>>,
    pub lacks: Lacks,
}

/// What every namespace has, as far as this one lacks it.
#[derive(Clone, Debug, Default)]
pub struct Lacks {
    /// The account `default`.
    pub account: bool,
    /// The authority's certificate, and the ConfigMap in its place that holds another one.
    pub root_ca: Option<(Arc<str>, Option<Arc<Object>>)>,
}

/// What the newest revision says of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manifests {
    /// The source cannot be read, or was never: nothing follows from what it does not say.
    #[default]
    Unknown,
    Declare,
    /// They declare objects in it, and not the Namespace.
    Use,
    Nothing,
}

const SOURCE: &str = "namespace-controller";

/// Whether it was made because manifests use it.
#[must_use]
pub fn is_implicit(namespace: &Object) -> bool {
    namespace.annotation(labels::IMPLICIT).is_some()
}

/// Whether an object comes and goes with others, and keeps no namespace.
#[must_use]
pub fn is_companion(object: &Object) -> bool {
    matches!(
        object.kind,
        Kind::Event | Kind::Lease | Kind::Endpoints | Kind::EndpointSlice
    ) || (is_fixture(&object.key()) && !release::is_managed(object))
}

/// Whether every namespace has one of this name: the account `default`, and the authority's certificate.
#[must_use]
pub fn is_fixture(key: &Key) -> bool {
    match key.kind {
        Kind::ServiceAccount => &*key.name == admission::DEFAULT_ACCOUNT,
        Kind::ConfigMap => &*key.name == admission::ROOT_CA,
        _ => false,
    }
}

/// Makes `default`; empties and removes what is being deleted.
#[must_use]
pub fn plan(world: &World, now: Now, ids: &mut Ids) -> Plan {
    let mut plan = Plan::default();
    let Some(namespace) = &world.namespace else {
        if &*world.name == DEFAULT {
            let create = Write::new(Op::Create(fresh(DEFAULT, now, ids)));
            plan.write(Class::Controller, "making the default namespace", create);
        }
        return plan;
    };
    if !namespace.is_deleting() {
        furnish(&mut plan, world, now, ids);
        leave_to_itself(&mut plan, world, namespace, now);
        return plan;
    }
    if namespace
        .status
        .as_ref()
        .is_none_or(|status| status.word("phase") != Some("Terminating"))
    {
        let status = status_of(namespace, json!({"phase": "Terminating"}));
        plan.write(Class::Controller, "the namespace is being deleted", status);
        // The version that was seen is gone now; the change leads to the next look.
        return plan;
    }
    if world.contents.is_empty() {
        let finalizers = namespace.meta.finalizers.iter().flatten();
        match finalizers.cloned().reduce(|all, one| format!("{all}, {one}")) {
            Some(finalizers) => {
                let message = format!("waits for the finalizers {finalizers} to be removed");
                plan.wait(namespace.key(), "Finalizers", message);
            }
            None => {
                let remove = Write::new(Op::Remove { key: namespace.key() });
                let remove = remove.uid(namespace.uid()).version(namespace.version);
                plan.write(Class::Controller, "the namespace is empty", remove);
            }
        }
        return plan;
    }
    let writes: Vec<Write> = world
        .contents
        .iter()
        .filter_map(|object| owners::delete(object, None, now))
        .collect();
    if writes.is_empty() {
        let message = format!("{} or more objects in it are still being deleted", world.contents.len());
        plan.wait(namespace.key(), "Contents", message);
    }
    plan.writes(Class::Controller, "deleting the contents of a namespace", writes);
    plan
}

/// Puts in what every namespace has.
fn furnish(plan: &mut Plan, world: &World, now: Now, ids: &mut Ids) {
    let leaves = world.manifests == Manifests::Nothing
        && world.namespace.as_ref().is_some_and(|namespace| is_implicit(namespace))
        && world.contents.is_empty()
        && *world.name != *DEFAULT;
    if leaves {
        return;
    }
    if world.lacks.account {
        let create = Write::new(Op::Create(account(&world.name, now, ids)));
        plan.write(Class::Controller, "making the default account of a namespace", create);
    }
    if let Some((pem, live)) = &world.lacks.root_ca {
        let write = match live {
            None => Write::new(Op::Create(root_ca(&world.name, pem, now, ids))),
            Some(live) => {
                let mut object = Object::clone(live);
                object.body = root_ca_body(pem);
                replace_of(live, object)
            }
        };
        plan.write(
            Class::Controller,
            "telling a namespace the authority's certificate",
            write,
        );
    }
}

/// The account `default` of a namespace.
#[must_use]
pub fn account(namespace: &str, now: Now, ids: &mut Ids) -> Object {
    let key = Key::namespaced(Kind::ServiceAccount, namespace, admission::DEFAULT_ACCOUNT);
    made(&key, Body::new(serde_json::Map::new()), now, ids)
}

fn root_ca(namespace: &str, pem: &str, now: Now, ids: &mut Ids) -> Object {
    let key = Key::namespaced(Kind::ConfigMap, namespace, admission::ROOT_CA);
    made(&key, root_ca_body(pem), now, ids)
}

/// The content of the ConfigMap with the authority's certificate.
#[must_use]
pub(crate) fn root_ca_body(pem: &str) -> Arc<Body> {
    let mut body = serde_json::Map::new();
    body.insert("data".to_owned(), json!({"ca.crt": pem}));
    Body::new(body)
}

fn made(key: &Key, body: Arc<Body>, now: Now, ids: &mut Ids) -> Object {
    Object {
        kind: key.kind,
        meta: Shared::new(Meta {
            name: Some(key.name.clone()),
            namespace: key.namespace.clone(),
            uid: Some(ids.uid().0),
            creation_timestamp: Some(Time(now.wall)),
            ..Meta::default()
        }),
        body,
        node: None,
        status: None,
        version: 0,
    }
}

/// What becomes of a namespace that no manifest declares.
fn leave_to_itself(plan: &mut Plan, world: &World, namespace: &Object, now: Now) {
    match world.manifests {
        Manifests::Use if release::is_managed(namespace) => match disowned(namespace, now) {
            Ok(object) => plan.write(
                Class::Git,
                "its manifest is gone; it stays because manifests use it",
                replace_of(namespace, object),
            ),
            Err(why) => plan.wait(namespace.key(), "Invalid", why),
        },
        Manifests::Nothing if is_implicit(namespace) && *world.name != *DEFAULT => {
            if world.contents.is_empty() {
                let deletion = owners::delete(namespace, None, now).into_iter().collect();
                plan.writes(Class::Git, "no manifest uses the namespace any more", deletion);
                return;
            }
            // What is on its way out is waited for.
            let stays = |object: &&Arc<Object>| {
                !object.is_deleting() && object.controller().is_none() && !release::is_managed(object)
            };
            let mut stay = world.contents.iter().filter(stays);
            if let Some(first) = stay.next() {
                let more = match stay.count() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let message = format!(
                    "no manifest uses it any more; it stays because it holds {}{more}, which no manifest declares",
                    first.key()
                );
                plan.note(SOURCE, namespace, "NamespaceKept", message.clone());
                plan.wait(namespace.key(), "Kept", message);
            }
        }
        _ => {}
    }
}

/// The namespace without what its manifest declared, as an implicit one.
fn disowned(namespace: &Object, now: Now) -> Result<Object, String> {
    let bare = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name()}});
    let live = namespace.to_value();
    let applied = apply::apply(Some(&live), &bare, labels::MANAGER, Kind::Namespace, now.wall, true);
    let mut value = applied.map_err(|error| error.to_string())?.object;
    if let Some(entries) = value["metadata"]["managedFields"].as_array_mut() {
        entries.retain(|entry| entry["manager"] != labels::MANAGER || entry["operation"] != "Apply");
    }
    value["metadata"]["annotations"][labels::IMPLICIT] = "true".into();
    Object::from_value(value).map_err(|error| error.to_string())
}

/// A new Namespace that is made because manifests use it.
#[must_use]
pub fn implicit(name: &str, now: Now, ids: &mut Ids) -> Object {
    let mut namespace = fresh(name, now, ids);
    namespace.meta.annotations = Some([(labels::IMPLICIT.to_owned(), "true".to_owned())].into());
    namespace
}

/// A new Namespace.
#[must_use]
pub fn fresh(name: &str, now: Now, ids: &mut Ids) -> Object {
    let mut value = json!({"metadata": {"name": name}});
    defaulting::default_object(Kind::Namespace, &mut value);
    let status = defaulting::initial_status(Kind::Namespace, &value);
    let body = match value {
        Value::Object(mut body) => {
            body.remove("metadata");
            body
        }
        _ => serde_json::Map::new(),
    };
    Object {
        kind: Kind::Namespace,
        meta: Shared::new(Meta {
            name: Some(name.into()),
            uid: Some(ids.uid().0),
            creation_timestamp: Some(Time(now.wall)),
            labels: Some([(labels::NAMESPACE_NAME.to_owned(), name.to_owned())].into()),
            ..Meta::default()
        }),
        body: Body::new(body),
        node: None,
        status: status.map(Into::into),
        version: 0,
    }
}

/// The kinds of a namespace's contents, those first that make others: what they make would come again.
pub fn order() -> impl Iterator<Item = Kind> {
    const MAKERS: [Kind; 7] = [
        Kind::CronJob,
        Kind::Deployment,
        Kind::DaemonSet,
        Kind::StatefulSet,
        Kind::Job,
        Kind::ReplicaSet,
        Kind::ReplicationController,
    ];
    let others = schemas::kind::KINDS
        .iter()
        .filter(|info| info.namespaced && !MAKERS.contains(&info.kind));
    MAKERS.into_iter().chain(others.map(|info| info.kind))
}

/// The key of a namespace.
#[must_use]
pub fn key(name: &str) -> Key {
    Key::cluster(Kind::Namespace, name)
}

#[cfg(test)]
mod tests;
