//! Fields that belong to one variant of an object and must go when it turns into another.
//!
//! Defaults are nobody's fields, so pruning does not find them: a Deployment that turns to `Recreate`
//! would keep the `rollingUpdate` that defaulting once added, and be invalid.

use serde_json::{Map, Value};

use super::FieldSet;
use crate::{Kind, structure::item_key};

/// Drops what the variants that `object` has become do not have, unless it is declared: then it is for
/// validation to report.
pub(super) fn drop_foreign(kind: Kind, object: &mut Value, declared: &FieldSet) {
    let declared_spec = declared.children.get("f:spec");
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    match kind {
        Kind::Deployment => strategy(spec, "strategy", declared_spec),
        Kind::DaemonSet | Kind::StatefulSet => strategy(spec, "updateStrategy", declared_spec),
        Kind::Service => service(spec, declared_spec),
        _ => {}
    }
    match kind {
        Kind::Pod => volumes(spec, declared_spec),
        Kind::CronJob => {
            let path = ["jobTemplate", "spec", "template", "spec"];
            inside(spec, declared_spec, &path, volumes);
        }
        _ => inside(spec, declared_spec, &["template", "spec"], volumes),
    }
}

fn inside(
    map: &mut Map<String, Value>,
    declared: Option<&FieldSet>,
    path: &[&str],
    change: fn(&mut Map<String, Value>, Option<&FieldSet>),
) {
    match path.split_first() {
        None => change(map, declared),
        Some((field, rest)) => {
            if let Some(Value::Object(inner)) = map.get_mut(*field) {
                inside(inner, below(declared, field), rest, change);
            }
        }
    }
}

fn strategy(spec: &mut Map<String, Value>, field: &str, declared: Option<&FieldSet>) {
    let declared = below(declared, field);
    if let Some(Value::Object(strategy)) = spec.get_mut(field)
        && strategy.get("type").is_some_and(|kind| *kind != "RollingUpdate")
    {
        drop_undeclared(strategy, &["rollingUpdate"], declared);
    }
}

fn service(spec: &mut Map<String, Value>, declared: Option<&FieldSet>) {
    let kind = spec
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("ClusterIP")
        .to_owned();
    if kind != "LoadBalancer" {
        drop_undeclared(spec, &["allocateLoadBalancerNodePorts"], declared);
    }
    let outside = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    if outside {
        return;
    }
    drop_undeclared(spec, &["externalTrafficPolicy", "healthCheckNodePort"], declared);
    if kind == "ExternalName" {
        let fields = [
            "clusterIP",
            "clusterIPs",
            "internalTrafficPolicy",
            "ipFamilies",
            "ipFamilyPolicy",
        ];
        drop_undeclared(spec, &fields, declared);
    }
    let declared = below(declared, "ports");
    if let Some(Value::Array(ports)) = spec.get_mut("ports") {
        for port in ports.iter_mut().filter_map(Value::as_object_mut) {
            let item = item_key(port, &["port", "protocol"]);
            let declared = item.and_then(|key| declared?.children.get(&format!("k:{key}")));
            drop_undeclared(port, &["nodePort"], declared);
        }
    }
}

/// A volume without a source is an empty folder; once it has a source it is not one any more.
fn volumes(spec: &mut Map<String, Value>, declared: Option<&FieldSet>) {
    let declared = below(declared, "volumes");
    if let Some(Value::Array(volumes)) = spec.get_mut("volumes") {
        for volume in volumes
            .iter_mut()
            .filter_map(Value::as_object_mut)
            .filter(|volume| volume.len() > 2)
        {
            let item = item_key(volume, &["name"]);
            let declared = item.and_then(|key| declared?.children.get(&format!("k:{key}")));
            drop_undeclared(volume, &["emptyDir"], declared);
        }
    }
}

fn below<'a>(set: Option<&'a FieldSet>, field: &str) -> Option<&'a FieldSet> {
    set?.children.get(&format!("f:{field}"))
}

fn drop_undeclared(map: &mut Map<String, Value>, fields: &[&str], declared: Option<&FieldSet>) {
    for field in fields {
        if below(declared, field).is_none() {
            map.remove(*field);
        }
    }
}
