//! Versions of kinds beside the one that is kept: manifests and clients may still speak them.
//!
//! What comes in one of them is made the kept version at the edge, and what is asked for in one is made
//! it there; nothing else knows of them.

use serde_json::{Map, Value, json};

use crate::{Kind, kind::KINDS};

/// Kinds with an older version.
const OLDER: &[(Kind, &str)] = &[(Kind::HorizontalPodAutoscaler, "v1")];

/// The kind that an older version of a manifest names.
#[must_use]
pub fn find(api_version: &str, kind: &str) -> Option<Kind> {
    let (group, version) = api_version.split_once('/')?;
    let mut older = OLDER.iter().map(|(older, version)| (older.info(), *version));
    let found = older.find(|(info, older)| info.name == kind && info.group == group && *older == version);
    found.map(|(info, _)| info.kind)
}

/// The kind that an older URL names.
#[must_use]
pub fn of_resource(group: &str, version: &str, plural: &str) -> Option<Kind> {
    let info = KINDS.iter().find(|info| info.group == group && info.plural == plural)?;
    OLDER.contains(&(info.kind, version)).then_some(info.kind)
}

/// Makes an object of an older version one of the version that is kept; any other stays as it is.
pub fn make_current(object: &mut Value) {
    let word = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(kind) = find(&word("apiVersion"), &word("kind")) {
        object["apiVersion"] = kind.info().api_version().into();
        if kind == Kind::HorizontalPodAutoscaler {
            autoscaler_current(object);
        }
    }
}

/// Makes what is answered for a kind one of its older version: an object, or a list of them.
pub fn make_older(kind: Kind, answer: &mut Value) {
    let info = kind.info();
    let Some((_, version)) = OLDER.iter().find(|(older, _)| *older == kind) else {
        return;
    };
    let older = format!("{}/{version}", info.group);
    let is_kept = |value: &Value| value["apiVersion"] == *info.api_version();
    if is_kept(answer) && answer["kind"] == format!("{}List", info.name) {
        answer["apiVersion"] = older.as_str().into();
        // The items of a list name neither kind nor version.
        answer["items"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .for_each(autoscaler_older);
    } else if is_kept(answer) && answer["kind"] == info.name {
        answer["apiVersion"] = older.into();
        autoscaler_older(answer);
    }
}

/// The one metric of `autoscaling/v1` becomes one of many.
fn autoscaler_current(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(percent) = spec.remove("targetCPUUtilizationPercentage").filter(|it| !it.is_null()) {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        spec.insert("metrics".to_owned(), json!([metric]));
    }
}

fn autoscaler_older(object: &mut Value) {
    let percent = |list: Option<Value>, part: &str| {
        let metrics = list.as_ref().and_then(Value::as_array)?;
        let cpu = metrics.iter().find(|metric| metric["resource"]["name"] == "cpu")?;
        cpu["resource"][part].get("averageUtilization").cloned()
    };
    let mut part = |part: &str, change: &dyn Fn(&mut Map<String, Value>)| {
        if let Some(part) = object.get_mut(part).and_then(Value::as_object_mut) {
            change(part);
        }
    };
    part("spec", &|spec| {
        if let Some(percent) = percent(spec.remove("metrics"), "target") {
            spec.insert("targetCPUUtilizationPercentage".to_owned(), percent);
        }
        spec.remove("behavior");
    });
    part("status", &|status| {
        if let Some(percent) = percent(status.remove("currentMetrics"), "current") {
            status.insert("currentCPUUtilizationPercentage".to_owned(), percent);
        }
        status.remove("conditions");
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_of_v1_is_one_of_v2_and_back() {
        let older = json!({
            "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50},
        });
        let mut value = older.clone();
        make_current(&mut value);
        assert_eq!(value["apiVersion"], "autoscaling/v2");
        assert_eq!(
            value["spec"],
            json!({"maxReplicas": 3, "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]})
        );
        let current = value.clone();
        make_current(&mut value);
        assert_eq!(value, current, "it is current already");
        value["status"] = json!({"conditions": [], "currentReplicas": 2, "currentMetrics": [{
            "type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7}}}]});
        let mut list = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscalerList", "items": [value]});
        make_older(Kind::HorizontalPodAutoscaler, &mut value);
        assert_eq!(value["spec"], older["spec"]);
        assert_eq!(value["apiVersion"], older["apiVersion"]);
        assert_eq!(
            value["status"],
            json!({"currentReplicas": 2, "currentCPUUtilizationPercentage": 7})
        );
        make_older(Kind::HorizontalPodAutoscaler, &mut list);
        assert_eq!(list["apiVersion"], "autoscaling/v1");
        assert_eq!(list["items"][0]["spec"], older["spec"]);
        let mut status = json!({"apiVersion": "v1", "kind": "Status"});
        make_older(Kind::HorizontalPodAutoscaler, &mut status);
        assert_eq!(status, json!({"apiVersion": "v1", "kind": "Status"}));
    }

    #[test]
    fn other_versions_are_not_older_ones() {
        assert_eq!(
            find("autoscaling/v1", "HorizontalPodAutoscaler"),
            Some(Kind::HorizontalPodAutoscaler)
        );
        assert_eq!(find("autoscaling/v2beta2", "HorizontalPodAutoscaler"), None);
        assert_eq!(find("apps/v1", "Deployment"), None);
        assert_eq!(
            of_resource("autoscaling", "v1", "horizontalpodautoscalers"),
            Some(Kind::HorizontalPodAutoscaler)
        );
        assert_eq!(of_resource("autoscaling", "v2", "horizontalpodautoscalers"), None);
        assert_eq!(of_resource("apps", "v1", "deployments"), None);
    }
}
