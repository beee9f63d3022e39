//! Rules for one container.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::{
    finding::{Fault, Findings},
    meta::is_dns_label,
    path::At,
};
use crate::{
    labels::{is_dns_subdomain, is_label_key},
    quantity::Quantity,
};

/// What a container needs to know of its pod.
pub(super) struct Pod<'v> {
    pub(super) volumes: BTreeSet<&'v str>,
    pub(super) host_network: bool,
}

/// Which of the lists of a pod a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Main,
    Init,
    Ephemeral,
}

pub(super) fn check(at: &At<'_, '_>, role: Role, pod: &Pod<'_>, findings: &mut Findings) {
    name(at, findings);
    match at.text("image") {
        Some(image) => image_reference(image, at, findings),
        None if at.has("image") => {}
        None => findings.required(at, "image", "is required"),
    }
    ports(at, pod, findings);
    environment(at, findings);
    if let Some(resources) = at.get("resources") {
        resource_requirements(&resources, findings);
    }
    mounts(at, pod, findings);
    let sidecar = role == Role::Init && at.text("restartPolicy") == Some("Always");
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe_at) = at.get(probe) else { continue };
        if role == Role::Init && !sidecar || role == Role::Ephemeral {
            findings.forbidden(
                &probe_at,
                "may not stand on a container that runs before the others, or beside them",
            );
            continue;
        }
        check_probe(&probe_at, probe, at, findings);
    }
    if let Some(lifecycle) = at.get("lifecycle") {
        if role == Role::Init && !sidecar {
            findings.forbidden(&lifecycle, "may not stand on an init container");
        }
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = lifecycle.get(hook) {
                one_handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], at, findings);
            }
        }
    }
    if let Some(policy) = at.get("restartPolicy") {
        if role != Role::Init {
            findings.forbidden(
                &policy,
                "may stand on init containers only; the pod has its own restartPolicy",
            );
        } else if policy.value.as_str().is_some_and(|text| text != "Always") {
            findings.error(
                Fault::NotSupported,
                policy.path(),
                format!("{} is not its one value: Always", policy.shown()),
            );
        }
    }
}

fn name(at: &At<'_, '_>, findings: &mut Findings) {
    let Some(name) = at.text("name") else { return };
    if let Some(field) = at.get("name")
        && !is_dns_label(name)
    {
        findings.invalid(
            &field,
            "is not a container's name: at most 63 lower-case letters, digits and '-', with a letter or digit at both ends",
        );
    }
}

fn image_reference(image: &str, at: &At<'_, '_>, findings: &mut Findings) {
    let Some(field) = at.get("image") else { return };
    if image.is_empty() {
        findings.required(at, "image", "is required");
    } else if image.trim() != image || image.contains(char::is_whitespace) {
        findings.invalid(&field, "holds a space");
    } else {
        let rest = image.rsplit_once('/').map_or(image, |(_, name)| name);
        let repository = rest.split(['@', ':']).next().unwrap_or("");
        if repository.is_empty() || repository.contains(|letter: char| letter.is_ascii_uppercase()) {
            findings.invalid(
                &field,
                "is not an image: its repository must be in lower case, as in registry.example/name:tag",
            );
        } else if rest.ends_with([':', '@']) {
            findings.invalid(&field, "is not an image: its tag is empty");
        }
    }
}

/// The name of a port: at most 15 lower-case letters, digits and `-`, with a letter among them.
pub(super) fn is_port_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

pub(super) const PORT_NAME_RULE: &str =
    "is not the name of a port: at most 15 lower-case letters, digits and single '-', with a letter among them";

fn ports(at: &At<'_, '_>, pod: &Pod<'_>, findings: &mut Findings) {
    let mut names = HashSet::new();
    let mut places = HashSet::new();
    for port in at.items("ports") {
        findings.in_range(&port, "containerPort", 1..=65_535);
        findings.in_range(&port, "hostPort", 0..=65_535);
        if let Some(name) = port.get("name")
            && let Some(text) = name.value.as_str()
        {
            if !is_port_name(text) {
                findings.invalid(&name, PORT_NAME_RULE);
            } else if !names.insert(text) {
                findings.error(
                    Fault::Duplicate,
                    name.path(),
                    format!("{text:?} stands twice among the ports"),
                );
            }
        }
        if let (Some(host), Some(container)) = (port.int("hostPort"), port.int("containerPort")) {
            if pod.host_network
                && host != 0
                && host != container
                && let Some(field) = port.get("hostPort")
            {
                findings.invalid(&field, "must be the containerPort, as the pod is on the host's network");
            }
            let place = (
                host,
                port.text("protocol").unwrap_or("TCP"),
                port.text("hostIP").unwrap_or(""),
            );
            if host != 0 && !places.insert(place) {
                findings.error(
                    Fault::Duplicate,
                    port.path_to("hostPort"),
                    format!("{host} is taken twice"),
                );
            }
        }
        if let Some(address) = port.get("hostIP")
            && address
                .value
                .as_str()
                .is_some_and(|text| !text.is_empty() && text.parse::<std::net::IpAddr>().is_err())
        {
            findings.invalid(&address, "is not an IP address");
        }
    }
}

fn environment(at: &At<'_, '_>, findings: &mut Findings) {
    let mut seen = HashMap::new();
    for (index, variable) in at.items("env").enumerate() {
        let name = variable.text("name").unwrap_or("");
        if let Some(field) = variable.get("name") {
            if name.is_empty() || name.contains('=') || name.chars().any(char::is_control) {
                findings.invalid(
                    &field,
                    "is not the name of a variable: it must not be empty nor hold '=' or control characters",
                );
            } else if let Some(first) = seen.insert(name, index) {
                findings.warn(
                    Fault::Duplicate,
                    field.path(),
                    format!("{name:?} stands twice (first as env[{first}]); the last one wins"),
                );
            }
        }
        if let Some(source) = variable.get("valueFrom") {
            if variable.text("value").is_some_and(|value| !value.is_empty()) {
                findings.error(Fault::Invalid, source.path(), "may not stand beside a value");
            }
            value_source(&source, findings);
        }
    }
    for source in at.items("envFrom") {
        let both = ["configMapRef", "secretRef"];
        let count = both.iter().filter(|key| source.has(key)).count();
        if count != 1 {
            findings.error(
                Fault::Required,
                source.path(),
                "takes exactly one of configMapRef and secretRef",
            );
        }
        for key in both {
            if let Some(reference) = source.get(key) {
                object_name(&reference, findings);
            }
        }
    }
}

/// A reference by name, which must be there and be a DNS name.
fn object_name(reference: &At<'_, '_>, findings: &mut Findings) {
    match reference.text("name") {
        None | Some("") => findings.required(reference, "name", "is required"),
        Some(name) => {
            if let Some(field) = reference.get("name")
                && !is_dns_subdomain(name)
            {
                findings.invalid(&field, "is not the name of an object");
            }
        }
    }
}

const FIELDS: [&str; 10] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.labels",
    "metadata.annotations",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.podIP",
    "status.podIPs",
];

fn value_source(source: &At<'_, '_>, findings: &mut Findings) {
    let kinds = ["configMapKeyRef", "secretKeyRef", "fieldRef", "resourceFieldRef"];
    if kinds.iter().filter(|key| source.has(key)).count() != 1 {
        findings.error(
            Fault::Required,
            source.path(),
            format!("takes exactly one of {}", kinds.join(", ")),
        );
    }
    for key in &kinds[..2] {
        if let Some(reference) = source.get(key) {
            object_name(&reference, findings);
            match reference.text("key") {
                Some(key) if !is_config_key(key) => {
                    if let Some(field) = reference.get("key") {
                        findings.invalid(&field, CONFIG_KEY_RULE);
                    }
                }
                _ => {}
            }
        }
    }
    if let Some(field) = source.get("fieldRef") {
        field_reference(&field, &FIELDS, findings);
    }
    if let Some(field) = source.get("resourceFieldRef") {
        resource_reference(&field, findings);
    }
}

/// `metadata.labels['x']` and the like.
pub(super) fn field_reference(at: &At<'_, '_>, fields: &[&str], findings: &mut Findings) {
    let Some(path) = at.text("fieldPath") else { return };
    let Some(field) = at.get("fieldPath") else { return };
    let keyed = path
        .strip_suffix("']")
        .and_then(|path| path.split_once("['"))
        .filter(|(map, key)| matches!(*map, "metadata.labels" | "metadata.annotations") && is_label_key(key));
    if path == "status.hostIPs" || keyed.is_some() {
        return;
    }
    let whole_map = matches!(path, "metadata.labels" | "metadata.annotations");
    if !fields.contains(&path) || whole_map && fields.len() == FIELDS.len() {
        findings.error(
            Fault::NotSupported,
            field.path(),
            format!(
                "{} is not a field that a variable can take: {}, metadata.labels['KEY'], metadata.annotations['KEY']",
                field.shown(),
                fields
                    .iter()
                    .filter(|field| !matches!(**field, "metadata.labels" | "metadata.annotations"))
                    .copied()
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        );
    }
}

pub(super) fn resource_reference(at: &At<'_, '_>, findings: &mut Findings) {
    let Some(field) = at.get("resource") else { return };
    let Some(text) = field.value.as_str() else { return };
    let known = ["limits.", "requests."].iter().any(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| {
            matches!(rest, "cpu" | "memory" | "ephemeral-storage") || rest.starts_with("hugepages-")
        })
    });
    if !known {
        findings.error(
            Fault::NotSupported,
            field.path(),
            format!("{} is not one of limits.cpu, limits.memory, limits.ephemeral-storage, requests.cpu, requests.memory, requests.ephemeral-storage", field.shown()),
        );
    }
    if let Some(divisor) = at.get("divisor") {
        read_quantity(&divisor, findings);
    }
}

/// Whether `key` may be a key of a ConfigMap's or a Secret's data.
pub(super) fn is_config_key(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= 253
        && key != "."
        && !key.starts_with("..")
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

pub(super) const CONFIG_KEY_RULE: &str =
    "is not a key of data: at most 253 letters, digits, '-', '_' and '.', and not starting with '..'";

/// Reads a quantity, and reports one that cannot be read.
pub(super) fn read_quantity(at: &At<'_, '_>, findings: &mut Findings) -> Option<Quantity> {
    let text = match at.value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    match text.parse::<Quantity>() {
        Ok(quantity) => Some(quantity),
        Err(error) => {
            findings.error(Fault::Invalid, at.path(), error.to_string());
            None
        }
    }
}

/// Docker makes no container with less memory.
const LEAST_MEMORY: i64 = 6 << 20;

/// Checks `requests` and `limits`, and that no request is over its limit.
fn resource_requirements(at: &At<'_, '_>, findings: &mut Findings) {
    let mut amounts: [BTreeMap<&str, Quantity>; 2] = [BTreeMap::new(), BTreeMap::new()];
    for (slot, key) in ["limits", "requests"].into_iter().enumerate() {
        let Some(list) = at.get(key) else { continue };
        for (name, amount) in list.entries() {
            let known = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
            if !known && !name.contains('/') {
                let near = super::structure::suggestion(name, ["cpu", "memory", "ephemeral-storage"].into_iter());
                let hint = near.map_or_else(
                    || "cpu, memory, ephemeral-storage, or a name with a domain such as example.com/gpu".to_owned(),
                    |near| format!("did you mean {near}?"),
                );
                findings.error(
                    Fault::Invalid,
                    amount.path(),
                    format!("there is no such resource: {hint}"),
                );
            }
            let Some(quantity) = read_quantity(&amount, findings) else {
                continue;
            };
            if quantity.is_negative() {
                findings.invalid(&amount, "must not be negative");
            } else if (key, name) == ("limits", "memory") && (1..LEAST_MEMORY).contains(&quantity.value()) {
                findings.invalid(&amount, "is too little: Docker starts no container with less than 6Mi");
            }
            amounts[slot].insert(name, quantity);
        }
    }
    let [limits, requests] = amounts;
    for (name, request) in requests {
        if let Some(limit) = limits.get(name)
            && request > *limit
            && let Some(list) = at.get("requests")
            && let Some(field) = list.get(name)
        {
            findings.error(
                Fault::Invalid,
                field.path(),
                format!("{} is more than the limit of {limit}", field.shown()),
            );
        }
    }
}

fn mounts(at: &At<'_, '_>, pod: &Pod<'_>, findings: &mut Findings) {
    let mut paths = HashSet::new();
    for mount in at.items("volumeMounts") {
        if let Some(name) = mount.get("name")
            && let Some(text) = name.value.as_str()
            && !pod.volumes.contains(text)
        {
            let hint = super::structure::suggestion(text, pod.volumes.iter().copied());
            let hint = hint.map_or_else(
                || "add it to spec.volumes".to_owned(),
                |near| format!("did you mean {near}?"),
            );
            findings.error(
                Fault::NotFound,
                name.path(),
                format!("the pod has no volume {text:?}: {hint}"),
            );
        }
        if let Some(path) = mount.get("mountPath")
            && let Some(text) = path.value.as_str()
        {
            if text.is_empty() {
                findings.required(&mount, "mountPath", "is required");
            } else if text.contains(':') {
                findings.invalid(&path, "must not hold ':'");
            } else if !text.starts_with('/') {
                findings.invalid(&path, "must be an absolute path");
            } else if !paths.insert(text.trim_end_matches('/')) {
                findings.error(Fault::Duplicate, path.path(), format!("{text:?} is mounted twice"));
            }
        }
        for key in ["subPath", "subPathExpr"] {
            if let Some(path) = mount.get(key)
                && path
                    .value
                    .as_str()
                    .is_some_and(|text| text.starts_with('/') || text.split('/').any(|part| part == ".."))
            {
                findings.invalid(&path, "must be a relative path without '..'");
            }
        }
        if mount.has("subPath") && mount.has("subPathExpr") {
            findings.error(
                Fault::Invalid,
                mount.path_to("subPathExpr"),
                "may not stand beside subPath",
            );
        }
    }
}

fn check_probe(at: &At<'_, '_>, name: &str, container: &At<'_, '_>, findings: &mut Findings) {
    one_handler(at, &["exec", "httpGet", "tcpSocket", "grpc"], container, findings);
    for key in ["initialDelaySeconds", "terminationGracePeriodSeconds"] {
        findings.in_range(at, key, 0..=i64::MAX);
    }
    for key in ["periodSeconds", "timeoutSeconds", "failureThreshold"] {
        findings.in_range(at, key, 1..=i64::MAX);
    }
    let most = if name == "readinessProbe" { i64::MAX } else { 1 };
    findings.in_range(at, "successThreshold", 1..=most);
}

fn one_handler(at: &At<'_, '_>, handlers: &[&str], container: &At<'_, '_>, findings: &mut Findings) {
    if handlers.iter().filter(|key| at.has(key)).count() != 1 {
        findings.error(
            Fault::Required,
            at.path(),
            format!("takes exactly one of {}", handlers.join(", ")),
        );
    }
    for key in handlers {
        let Some(handler) = at.get(key) else { continue };
        if *key == "exec" && handler.items("command").next().is_none() {
            findings.required(&handler, "command", "is required");
        }
        let Some(port) = handler.get("port") else { continue };
        match port.value {
            Value::Number(number) if !number.as_i64().is_some_and(|number| (1..=65_535).contains(&number)) => {
                findings.invalid(&port, "must be from 1 to 65535");
            }
            Value::String(name) if !container.items("ports").any(|port| port.text("name") == Some(name)) => {
                findings.error(
                    Fault::NotFound,
                    port.path(),
                    format!("the container has no port named {name:?}"),
                );
            }
            _ => {}
        }
    }
}
