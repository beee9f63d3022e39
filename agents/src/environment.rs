//! The environment of a container: literals, references and `$(NAME)`.

use std::collections::{BTreeMap, HashMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::{Container as ContainerSpec, EnvVarSource, ResourceFieldSelector};
use schemas::{Key, Kind, Object, Part, Shared, quantity::Quantity};
use serde_json::Value;

use crate::{pod::Pod, resources};

/// What in a spec cannot be resolved now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{kind} {namespace:?}/{name:?} not found")]
    Missing {
        kind: Kind,
        namespace: String,
        name: String,
    },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    MissingKey {
        kind: Kind,
        namespace: String,
        name: String,
        key: String,
    },
    #[error("{0}")]
    Invalid(String),
}

/// Facts of the node and the pod that references name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub node_name: String,
    pub host_ip: String,
    pub pod_ip: String,
    /// In thousandths, the default for a CPU limit that is not set.
    pub allocatable_cpu_milli: i64,
    /// In bytes.
    pub allocatable_memory: i64,
    /// The lowest score that a process here may be given: below its own only with a capability.
    pub least_oom_score: i64,
}

/// The objects that an agent knows, by key.
pub(crate) type Objects = HashMap<Key, Object>;

/// The data of a ConfigMap or a Secret, decoded.
///
/// # Errors
/// When the object is not known; the caller decides whether that matters.
pub(crate) fn data(
    objects: &Objects,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Result<BTreeMap<String, Vec<u8>>, ConfigError> {
    let object = objects
        .get(&Key::namespaced(kind, namespace, name))
        .ok_or_else(|| ConfigError::Missing {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })?;
    let body = object.body.value();
    let entries = |field: &str| body.get(field).and_then(Value::as_object).into_iter().flatten();
    let mut data = BTreeMap::new();
    for (key, value) in entries("data") {
        let text = value.as_str().unwrap_or_default();
        let bytes = if kind == Kind::Secret {
            decode(text)
        } else {
            text.as_bytes().to_vec()
        };
        data.insert(key.clone(), bytes);
    }
    for (key, value) in entries("binaryData") {
        data.insert(key.clone(), decode(value.as_str().unwrap_or_default()));
    }
    for (key, value) in entries("stringData") {
        data.insert(key.clone(), value.as_str().unwrap_or_default().as_bytes().to_vec());
    }
    Ok(data)
}

fn decode(text: &str) -> Vec<u8> {
    let compact: String = text.split_whitespace().collect();
    STANDARD.decode(compact).unwrap_or_default()
}

/// A field of the pod by its path, `metadata.labels['app']` and the like.
///
/// # Errors
/// When there is no such field.
pub(crate) fn field(pod: &Pod, place: &Place, path: &str) -> Result<String, ConfigError> {
    let meta = &pod.object.meta;
    let all = |map: &Option<Shared<BTreeMap<String, String>>>| {
        let lines: Vec<String> = map
            .iter()
            .flatten()
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect();
        lines.join("\n")
    };
    let subscript = |prefix: &str| {
        path.strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix("['"))
            .and_then(|rest| rest.strip_suffix("']"))
    };
    let at = |map: &Option<Shared<BTreeMap<String, String>>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
    };
    Ok(match path {
        "metadata.name" => pod.key.name.to_string(),
        "metadata.namespace" => pod.key.ns().to_owned(),
        "metadata.uid" => pod.uid.to_string(),
        "metadata.labels" => all(&meta.labels),
        "metadata.annotations" => all(&meta.annotations),
        "spec.nodeName" => place.node_name.clone(),
        "spec.serviceAccountName" => pod
            .spec
            .service_account_name
            .clone()
            .unwrap_or_else(|| "default".to_owned()),
        "status.hostIP" | "status.hostIPs" => place.host_ip.clone(),
        "status.podIP" | "status.podIPs" => place.pod_ip.clone(),
        _ => match (subscript("metadata.labels"), subscript("metadata.annotations")) {
            (Some(key), _) => at(&meta.labels, key),
            (_, Some(key)) => at(&meta.annotations, key),
            _ => return Err(ConfigError::Invalid(format!("there is no field {path:?} to refer to"))),
        },
    })
}

/// A request or limit as a number, divided and rounded up. A limit that is not set is what the node
/// can give.
///
/// # Errors
/// When the container or the resource is not there, or the divisor is zero.
pub(crate) fn resource_field(
    pod: &Pod,
    container: &str,
    place: &Place,
    selector: &ResourceFieldSelector,
) -> Result<String, ConfigError> {
    let name = selector
        .container_name
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or(container);
    let invalid = |what: String| ConfigError::Invalid(what);
    let (spec, _) = pod
        .container(name)
        .ok_or_else(|| invalid(format!("there is no container {name:?}")))?;
    let (side, resource) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| invalid(format!("{:?} is not a resource", selector.resource)))?;
    let node = match resource {
        "cpu" => Quantity::from_milli(place.allocatable_cpu_milli),
        "memory" => Quantity::from_value(place.allocatable_memory),
        _ => Quantity::ZERO,
    };
    let amount = match side {
        "limits" => resources::limit(spec, resource).unwrap_or(node),
        "requests" => resources::request(spec, resource).unwrap_or(Quantity::ZERO),
        _ => return Err(invalid(format!("{:?} is not a resource", selector.resource))),
    };
    let divisor = match &selector.divisor {
        Some(divisor) => Quantity::try_from(divisor).map_err(|error| invalid(error.to_string()))?,
        None => Quantity::ZERO,
    };
    let divisor = if divisor.is_zero() {
        1_000_000_000
    } else {
        divisor.nano()
    };
    if divisor < 0 {
        return Err(invalid("a divisor must be above zero".to_owned()));
    }
    let (amount, rest) = (amount.nano() / divisor, amount.nano() % divisor);
    Ok((amount + i128::from(rest > 0)).to_string())
}

/// The environment of a container, in the order in which it is given; a later entry of the same name
/// wins.
///
/// # Errors
/// When something that it refers to, and that is not optional, is not there.
pub(crate) fn environment(
    pod: &Pod,
    container: &ContainerSpec,
    objects: &Objects,
    place: &Place,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: String, value: String| match env.iter_mut().find(|(known, _)| *known == name) {
        Some(entry) => entry.1 = value,
        None => env.push((name, value)),
    };
    for (name, value) in services(pod, objects) {
        set(name, value);
    }
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or("");
        let (kind, name, optional) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(reference), _) => (Kind::ConfigMap, &reference.name, reference.optional),
            (_, Some(reference)) => (Kind::Secret, &reference.name, reference.optional),
            _ => continue,
        };
        match data(objects, kind, pod.key.ns(), name) {
            Ok(entries) => {
                for (key, value) in entries {
                    // What cannot be the name of a variable is left out, as upstream does.
                    if is_variable_name(&key) {
                        set(format!("{prefix}{key}"), String::from_utf8_lossy(&value).into_owned());
                    }
                }
            }
            Err(_) if optional == Some(true) => {}
            Err(error) => return Err(error),
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => Some(expand(value, &|name| {
                env.iter()
                    .rev()
                    .find(|(known, _)| known == name)
                    .map(|(_, v)| v.clone())
            })),
            (_, Some(source)) => from_source(pod, container, objects, place, source)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            match env.iter_mut().find(|(known, _)| *known == variable.name) {
                Some(entry) => entry.1 = value,
                None => env.push((variable.name.clone(), value)),
            }
        }
    }
    Ok(env)
}

fn from_source(
    pod: &Pod,
    container: &ContainerSpec,
    objects: &Objects,
    place: &Place,
    source: &EnvVarSource,
) -> Result<Option<String>, ConfigError> {
    let keyed = |kind: Kind, name: &str, key: &str, optional: Option<bool>| {
        let found = data(objects, kind, pod.key.ns(), name).and_then(|mut data| {
            data.remove(key).ok_or_else(|| ConfigError::MissingKey {
                kind,
                namespace: pod.key.ns().to_owned(),
                name: name.to_owned(),
                key: key.to_owned(),
            })
        });
        match found {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(_) if optional == Some(true) => Ok(None),
            Err(error) => Err(error),
        }
    };
    if let Some(reference) = &source.config_map_key_ref {
        keyed(Kind::ConfigMap, &reference.name, &reference.key, reference.optional)
    } else if let Some(reference) = &source.secret_key_ref {
        keyed(Kind::Secret, &reference.name, &reference.key, reference.optional)
    } else if let Some(reference) = &source.field_ref {
        field(pod, place, &reference.field_path).map(Some)
    } else if let Some(reference) = &source.resource_field_ref {
        resource_field(pod, &container.name, place, reference).map(Some)
    } else {
        Ok(Some(String::new()))
    }
}

/// `FOO_SERVICE_HOST` and `FOO_SERVICE_PORT` for each service of the namespace that has an address.
fn services(pod: &Pod, objects: &Objects) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    if pod.spec.enable_service_links == Some(false) {
        return variables;
    }
    let mut services: Vec<&Object> = objects
        .values()
        .filter(|object| object.kind == Kind::Service && object.namespace() == pod.key.ns())
        .collect();
    services.sort_by(|a, b| a.name().cmp(b.name()));
    for service in services {
        let Some(spec) = service.body.at("spec").map(Part::value) else {
            continue;
        };
        let address = spec["clusterIP"].as_str().unwrap_or("");
        let Some(ports) = spec["ports"].as_array().filter(|ports| !ports.is_empty()) else {
            continue;
        };
        if address.is_empty() || address == "None" {
            continue;
        }
        let name = service.name().to_uppercase().replace('-', "_");
        variables.push((format!("{name}_SERVICE_HOST"), address.to_owned()));
        variables.push((format!("{name}_SERVICE_PORT"), ports[0]["port"].to_string()));
        for port in ports {
            if let Some(port_name) = port["name"].as_str().filter(|name| !name.is_empty()) {
                let port_name = port_name.to_uppercase().replace('-', "_");
                variables.push((format!("{name}_SERVICE_PORT_{port_name}"), port["port"].to_string()));
            }
        }
    }
    variables
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && c != '=')
}

/// Replaces `$(NAME)` by what `value` gives for it. `$$` is a single `$`; what is not known, and what
/// is not closed, stays as it is.
#[must_use]
pub(crate) fn expand(text: &str, value: &dyn Fn(&str) -> Option<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value(name) {
                Some(found) => result.push_str(&found),
                None => {
                    result.push_str("$(");
                    result.push_str(name);
                    result.push(')');
                }
            }
            rest = after;
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    result
}
