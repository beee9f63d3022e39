//! The class `local`: there from the start, and the default.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemas::{Body, Key, Kind, Meta, Now, Object, Part, Shared, defaulting, storage};
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
    Object {
        kind: Kind::StorageClass,
        meta: Shared::new(Meta {
            name: Some(storage::DEFAULT_CLASS.into()),
            uid: Some(ids.uid().0),
            creation_timestamp: Some(Time(now.wall)),
            annotations: Some([(storage::IS_DEFAULT_CLASS.to_owned(), "true".to_owned())].into()),
            ..Meta::default()
        }),
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
    class.body.at("volumeBindingMode").and_then(Part::word) == Some("WaitForFirstConsumer")
}

/// Whether volumes of this class are made by the system.
#[must_use]
pub fn is_provisioned(class: &Object) -> bool {
    class.body.at("provisioner").and_then(Part::word) == Some(storage::PROVISIONER)
}
