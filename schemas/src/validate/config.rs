//! Rules for ConfigMaps and Secrets.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    container::{CONFIG_KEY_RULE, is_config_key},
    finding::{Fault, Findings},
    path::At,
};
use crate::Kind;

/// The most that one ConfigMap or Secret may hold.
const MOST_BYTES: usize = 1 << 20;

pub(super) fn check(kind: Kind, object: &At<'_, '_>, findings: &mut Findings) {
    let mut keys = HashSet::new();
    let mut bytes = 0;
    let maps = if kind == Kind::Secret {
        ["data", "stringData"]
    } else {
        ["data", "binaryData"]
    };
    for name in maps {
        let Some(map) = object.get(name) else { continue };
        for (key, value) in map.entries() {
            if !is_config_key(key) {
                findings.error(Fault::Invalid, value.path(), format!("the key {CONFIG_KEY_RULE}"));
            }
            // In a Secret, stringData is written over data.
            if !keys.insert(key) && kind == Kind::ConfigMap {
                findings.error(Fault::Duplicate, value.path(), "the key stands in data as well");
            }
            let length = value.value.as_str().map_or(0, str::len);
            bytes += if name == "data" && kind == Kind::Secret || name == "binaryData" {
                length / 4 * 3
            } else {
                length
            };
        }
    }
    if bytes > MOST_BYTES {
        findings.error(
            Fault::Invalid,
            object.path(),
            format!("the data is {bytes} bytes long; at most {MOST_BYTES} are allowed"),
        );
    }
    if kind == Kind::Secret {
        required_keys(object, &keys, findings);
    }
}

/// The keys that each well-known type of Secret must have.
fn required_keys(object: &At<'_, '_>, keys: &HashSet<&str>, findings: &mut Findings) {
    let wanted: &[&str] = match object.text("type") {
        Some("kubernetes.io/dockerconfigjson") => &[".dockerconfigjson"],
        Some("kubernetes.io/dockercfg") => &[".dockercfg"],
        Some("kubernetes.io/tls") => &["tls.crt", "tls.key"],
        Some("kubernetes.io/ssh-auth") => &["ssh-privatekey"],
        Some("kubernetes.io/basic-auth") => {
            if !keys.contains("username") && !keys.contains("password") {
                findings.required(
                    object,
                    "data",
                    "needs username or password for the type kubernetes.io/basic-auth",
                );
            }
            &[]
        }
        _ => &[],
    };
    for key in wanted {
        if !keys.contains(key) {
            findings.required(object, "data", &format!("needs the key {key} for this type of Secret"));
        }
    }
    let docker = object
        .value
        .pointer("/stringData/.dockerconfigjson")
        .and_then(Value::as_str);
    if docker.is_some_and(|text| serde_json::from_str::<Value>(text).is_err())
        && let Some(map) = object.get("stringData")
    {
        findings.error(Fault::Invalid, map.path_to(".dockerconfigjson"), "is not JSON");
    }
}
