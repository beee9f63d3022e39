//! The `scale` sub-resource.

use http::StatusCode;
use schemas::{Kind, Object, Part, selector::Selector};
use serde_json::{Value, json};
use store::Store;

use crate::{
    exchange::{self, Response},
    path::Resource,
    read,
    status::ApiError,
};

/// An object's `Scale`.
#[must_use]
pub(crate) fn of(object: &Object) -> Value {
    let wanted = object.body.at("spec/replicas").and_then(Part::int).unwrap_or(1);
    let there = object
        .status
        .as_ref()
        .and_then(|status| status.at("replicas")?.int())
        .unwrap_or(0);
    let raw = object.body.at("spec/selector").map(Part::value).unwrap_or_default();
    let selector = if object.kind == Kind::ReplicationController {
        serde_json::from_value(raw)
            .ok()
            .map(|labels| Selector::of_labels(&labels))
    } else {
        serde_json::from_value(raw)
            .ok()
            .and_then(|selector| Selector::from_label_selector(&selector).ok())
    };
    let mut value = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": object.name(),
            "namespace": object.namespace(),
            "uid": object.uid(),
            "resourceVersion": object.version.to_string(),
            "creationTimestamp": object.meta.creation_timestamp,
        },
        "spec": {"replicas": wanted},
        "status": {"replicas": there},
    });
    if let Some(selector) = selector {
        value["status"]["selector"] = selector.to_string().into();
    }
    value
}

/// `GET …/scale`
pub(crate) fn get(store: &Store, resource: &Resource) -> Result<Response, ApiError> {
    Ok(exchange::json(StatusCode::OK, &of(&*read::find(store, resource)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_names_wanted_there_and_selector() {
        let object = Object::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "w", "namespace": "a"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "w"}}}, "status": {"replicas": 2},
        }))
        .expect("a deployment");
        let scale = of(&object);
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"]["replicas"], 2);
        assert_eq!(scale["status"]["selector"], "app=w");
    }
}
