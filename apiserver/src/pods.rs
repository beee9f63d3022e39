//! What is done to pods through sub-resources: binding. Evictions are in [`crate::eviction`].

use http::StatusCode;
use schemas::{Key, Kind};
use serde_json::{Value, json};
use store::{Class, Op, Write};

use crate::{
    admit::{self, WriteOptions},
    api::Api,
    exchange::{self, Call, Response},
    path::Resource,
    read,
    status::{ApiError, Cause},
};

/// The answer to a sub-resource that was done.
pub(crate) fn success() -> Response {
    exchange::json(
        StatusCode::CREATED,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    )
}

/// `POST …/pods/NAME/binding`
pub(crate) async fn bind(api: &Api, resource: &Resource, mut call: Call) -> Result<Response, ApiError> {
    let options = WriteOptions::of(&call)?;
    let body = admit::read_body(&mut call).await?;
    let pod = read::find(&api.store, resource)?;
    let node = body.pointer("/target/name").and_then(Value::as_str).unwrap_or("");
    let kind = body.pointer("/target/kind").and_then(Value::as_str).unwrap_or("Node");
    if node.is_empty() || kind != "Node" {
        let cause = Cause {
            reason: "FieldValueRequired",
            field: "target".into(),
            message: "must name a Node".into(),
        };
        return Err(ApiError::invalid(Kind::Pod, pod.name(), vec![cause]));
    }
    if api.store.get(&Key::cluster(Kind::Node, node)).is_none() {
        return Err(ApiError::not_found(Kind::Node, node));
    }
    if options.dry_run {
        return Ok(success());
    }
    let mut status = pod.status_value().unwrap_or_else(|| json!({}));
    set_scheduled(&mut status, &api.clock.now().wall.to_string());
    let op = Op::Bind {
        key: pod.key(),
        node: node.into(),
        status: Some(status.into()),
    };
    api.store.write_one(Class::User, Write::new(op).uid(pod.uid())).await?;
    Ok(success())
}

/// Sets the condition `PodScheduled`.
fn set_scheduled(status: &mut Value, at: &str) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": at,
    });
    set_condition(status, condition);
}

/// Puts a condition into a status, in the place of one of its type.
pub(crate) fn set_condition(status: &mut Value, condition: Value) {
    let Some(status) = status.as_object_mut() else {
        return;
    };
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    match conditions.iter_mut().find(|found| found["type"] == condition["type"]) {
        Some(found) => *found = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_is_set_once() {
        let mut status = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]});
        set_scheduled(&mut status, "2026-01-01T00:00:00Z");
        assert_eq!(status["conditions"].as_array().map(Vec::len), Some(1));
        assert_eq!(status["conditions"][0]["status"], "True");
        let mut empty = json!({});
        set_scheduled(&mut empty, "2026-01-01T00:00:00Z");
        assert_eq!(empty["conditions"][0]["type"], "PodScheduled");
    }
}
