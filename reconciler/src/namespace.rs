//! Namespaces: `default` exists from the start; deleting one deletes what is in it, then itself.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemas::{Body, Key, Kind, Now, Object, defaulting, labels};
use serde_json::{Value, json};
use store::{Class, Op, Write};

use crate::{
    ids::Ids,
    owners,
    plan::{Plan, status_of},
};

/// The namespace that is always there.
pub const DEFAULT: &str = "default";
/// How much of a namespace's contents one look takes in.
pub const AT_ONCE: usize = 500;

/// One Namespace and, while it is being deleted, some of what is in it.
#[derive(Clone, Debug)]
pub struct World {
    pub name: Arc<str>,
    pub namespace: Option<Arc<Object>>,
    /// At most [`AT_ONCE`] objects; none of them means that it is empty.
    pub contents: Vec<Arc<Object>>,
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
        return plan;
    }
    if namespace
        .status
        .as_ref()
        .is_none_or(|status| status["phase"] != "Terminating")
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
        meta: ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(ids.uid().to_string()),
            creation_timestamp: Some(Time(now.wall)),
            labels: Some(BTreeMap::from([(labels::NAMESPACE_NAME.to_owned(), name.to_owned())])),
            ..ObjectMeta::default()
        },
        body: Body::new(body),
        node: None,
        status: status.map(Arc::new),
        version: 0,
    }
}

/// The key of a namespace.
#[must_use]
pub fn key(name: &str) -> Key {
    Key::cluster(Kind::Namespace, name)
}

#[cfg(test)]
mod tests;
