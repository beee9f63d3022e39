//! The class `local`: there from the start, and the default.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemas::{Body, Key, Kind, Now, Object, defaulting, storage};
use serde_json::{Map, Value, json};
use store::{Class, Op, Write};

use crate::{ids::Ids, plan::Plan};

/// The default class, if it is there.
#[derive(Clone, Debug)]
pub struct World {
    pub class: Option<Arc<Object>>,
}

/// The key of the class that is made.
#[must_use]
pub fn key() -> Key {
    Key::cluster(Kind::StorageClass, storage::DEFAULT_CLASS)
}

#[must_use]
pub fn plan(world: &World, now: Now, ids: &mut Ids) -> Plan {
    let mut plan = Plan::default();
    if world.class.is_none() {
        let create = Write::new(Op::Create(fresh(now, ids)));
        plan.write(Class::Controller, "making the default storage class", create);
    }
    plan
}

fn fresh(now: Now, ids: &mut Ids) -> Object {
    let mut value = json!({
        "provisioner": storage::PROVISIONER, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
    });
    defaulting::default_object(Kind::StorageClass, &mut value);
    let body = match value {
        Value::Object(body) => body,
        _ => Map::new(),
    };
    let default = BTreeMap::from([(storage::IS_DEFAULT_CLASS.to_owned(), "true".to_owned())]);
    Object {
        kind: Kind::StorageClass,
        meta: ObjectMeta {
            name: Some(storage::DEFAULT_CLASS.to_owned()),
            uid: Some(ids.uid().to_string()),
            creation_timestamp: Some(Time(now.wall)),
            annotations: Some(default),
            ..ObjectMeta::default()
        },
        body: Body::new(body),
        node: None,
        status: None,
        version: 0,
    }
}

/// Whether claims without a class get this one.
#[must_use]
pub fn is_default(class: &Object) -> bool {
    class.annotation(storage::IS_DEFAULT_CLASS) == Some("true")
}

/// Whether a claim of this class waits for its first pod.
#[must_use]
pub fn waits_for_consumer(class: &Object) -> bool {
    class.body.value().get("volumeBindingMode").and_then(Value::as_str) == Some("WaitForFirstConsumer")
}

/// Whether volumes of this class are made by the system.
#[must_use]
pub fn is_provisioned(class: &Object) -> bool {
    class.body.value().get("provisioner").and_then(Value::as_str) == Some(storage::PROVISIONER)
}
