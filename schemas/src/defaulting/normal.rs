//! Brings an object into its one form before defaulting: nulls out, quantities canonical, a Secret's
//! plain text in its `data`.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::{each, with};
use crate::{Kind, quantity::Quantity};

/// Brings an object into the form that the API stores, without adding any default: drops nulls,
/// writes quantities canonically, and moves a Secret's `stringData` into its `data`.
pub fn normalize(kind: Kind, object: &mut Value) {
    drop_nulls(object);
    let Value::Object(object) = object else { return };
    if kind == Kind::Secret {
        encode_secret(object);
    }
    match kind {
        Kind::Pod => with(object, "spec", pod_quantities),
        Kind::Deployment | Kind::ReplicaSet | Kind::DaemonSet | Kind::Job | Kind::ReplicationController => {
            with(object, "spec", |spec| with(spec, "template", template_quantities))
        }
        Kind::StatefulSet => with(object, "spec", |spec| {
            with(spec, "template", template_quantities);
            each(spec, "volumeClaimTemplates", |claim| {
                with(claim, "spec", claim_quantities)
            });
        }),
        Kind::CronJob => with(object, "spec", |spec| {
            with(spec, "jobTemplate", |job| {
                with(job, "spec", |spec| with(spec, "template", template_quantities));
            });
        }),
        Kind::PersistentVolumeClaim => with(object, "spec", claim_quantities),
        Kind::PersistentVolume => with(object, "spec", |spec| amounts(spec, "capacity")),
        Kind::ResourceQuota => with(object, "spec", |spec| amounts(spec, "hard")),
        Kind::LimitRange => with(object, "spec", |spec| {
            each(spec, "limits", |limit| {
                for field in ["default", "defaultRequest", "max", "min", "maxLimitRequestRatio"] {
                    amounts(limit, field);
                }
            });
        }),
        Kind::HorizontalPodAutoscaler => with(object, "spec", |spec| each(spec, "metrics", metric_quantities)),
        _ => {}
    }
}

/// The same for a pod template by itself.
pub(super) fn normalize_template(template: &mut Value) {
    drop_nulls(template);
    if let Value::Object(template) = template {
        template_quantities(template);
    }
}

/// Drops null fields. Nulls in lists stay: they are for validation to report.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn encode_secret(object: &mut Map<String, Value>) {
    let Some(Value::Object(plain)) = object.get("stringData") else {
        return;
    };
    let mut encoded = Map::new();
    for (key, value) in plain {
        let Value::String(text) = value else {
            // Left as it is, for validation to report.
            return;
        };
        encoded.insert(key.clone(), STANDARD.encode(text).into());
    }
    object.remove("stringData");
    match object.get_mut("data") {
        Some(Value::Object(data)) => data.extend(encoded),
        Some(_) => {}
        None if encoded.is_empty() => {}
        None => {
            object.insert("data".to_owned(), Value::Object(encoded));
        }
    }
}

fn template_quantities(template: &mut Map<String, Value>) {
    with(template, "spec", pod_quantities);
}

fn pod_quantities(spec: &mut Map<String, Value>) {
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, field, |container| {
            with(container, "resources", resource_quantities);
            each(container, "env", |env| {
                with(env, "valueFrom", |source| {
                    with(source, "resourceFieldRef", |reference| amount(reference, "divisor"));
                });
            });
        });
    }
    with(spec, "resources", resource_quantities);
    amounts(spec, "overhead");
    each(spec, "volumes", |volume| {
        with(volume, "emptyDir", |dir| amount(dir, "sizeLimit"));
        with(volume, "downwardAPI", downward_quantities);
        with(volume, "projected", |projected| {
            each(projected, "sources", |source| {
                with(source, "downwardAPI", downward_quantities)
            });
        });
        with(volume, "ephemeral", |ephemeral| {
            with(ephemeral, "volumeClaimTemplate", |claim| {
                with(claim, "spec", claim_quantities)
            });
        });
    });
}

fn downward_quantities(volume: &mut Map<String, Value>) {
    each(volume, "items", |item| {
        with(item, "resourceFieldRef", |reference| amount(reference, "divisor"));
    });
}

fn claim_quantities(spec: &mut Map<String, Value>) {
    with(spec, "resources", resource_quantities);
}

fn resource_quantities(resources: &mut Map<String, Value>) {
    amounts(resources, "limits");
    amounts(resources, "requests");
}

fn metric_quantities(metric: &mut Map<String, Value>) {
    for source in ["resource", "containerResource", "pods", "object", "external"] {
        with(metric, source, |source| {
            with(source, "target", |target| {
                amount(target, "value");
                amount(target, "averageValue");
            });
        });
    }
}

fn amounts(map: &mut Map<String, Value>, field: &str) {
    with(map, field, |amounts| amounts.values_mut().for_each(canonical));
}

fn amount(map: &mut Map<String, Value>, field: &str) {
    if let Some(value) = map.get_mut(field) {
        canonical(value);
    }
}

fn canonical(value: &mut Value) {
    let parsed = match value {
        Value::String(text) => text.parse::<Quantity>(),
        Value::Number(number) => number.to_string().parse(),
        _ => return,
    };
    if let Ok(quantity) = parsed {
        *value = quantity.to_string().into();
    }
}
