//! Rules for a pod's spec, wherever it stands.

use std::collections::{BTreeSet, HashSet};

use super::{
    container::{self, Pod, Role},
    finding::{Fault, Findings},
    meta::{is_dns_label, labels_map},
    path::At,
    scheduling,
};
use crate::{
    Kind,
    labels::{is_dns_subdomain, is_label_key, is_label_value},
};

/// What the object around a pod's spec asks of it.
pub(super) struct Rules<'a> {
    pub(super) kind: Kind,
    /// The restart policies that are allowed.
    pub(super) restart: &'a [&'a str],
    /// Volumes that come from templates of claims.
    pub(super) claims: &'a [&'a str],
}

/// Checks a pod's spec.
pub(super) fn check<'v>(spec: &At<'_, 'v>, rules: &Rules<'v>, findings: &mut Findings) {
    let mut volumes = volumes(spec, findings);
    volumes.extend(rules.claims);
    let pod = Pod {
        volumes,
        host_network: spec.flag("hostNetwork"),
    };
    containers(spec, &pod, findings);
    if let Some(policy) = spec.get("restartPolicy")
        && let Some(text) = policy.value.as_str()
        && !rules.restart.contains(&text)
    {
        findings.error(
            Fault::NotSupported,
            policy.path(),
            format!(
                "{} is not allowed in a {}: {}",
                policy.shown(),
                rules.kind,
                rules.restart.join(", ")
            ),
        );
    }
    findings.in_range(spec, "terminationGracePeriodSeconds", 0..=i64::MAX);
    findings.in_range(spec, "activeDeadlineSeconds", 1..=i64::from(i32::MAX));
    if let Some(selector) = spec.get("nodeSelector") {
        labels_map(&selector, findings);
    }
    for key in ["hostname", "subdomain"] {
        if let Some(field) = spec.get(key)
            && field
                .value
                .as_str()
                .is_some_and(|text| !text.is_empty() && !is_dns_label(text))
        {
            findings.invalid(
                &field,
                "is not a DNS label: at most 63 lower-case letters, digits and '-'",
            );
        }
    }
    for key in ["nodeName", "serviceAccountName", "priorityClassName"] {
        if let Some(field) = spec.get(key)
            && field
                .value
                .as_str()
                .is_some_and(|text| !text.is_empty() && !is_dns_subdomain(text))
        {
            findings.invalid(&field, "is not the name of an object");
        }
    }
    tolerations(spec, findings);
    dns(spec, findings);
    for alias in spec.items("hostAliases") {
        if let Some(ip) = alias.get("ip")
            && ip
                .value
                .as_str()
                .is_some_and(|text| text.parse::<std::net::IpAddr>().is_err())
        {
            findings.invalid(&ip, "is not an IP address");
        }
        if let Some(names) = alias.get("hostnames") {
            for name in names.elements() {
                if name.value.as_str().is_some_and(|text| !is_dns_subdomain(text)) {
                    findings.invalid(&name, "is not a host name");
                }
            }
        }
    }
    scheduling::check(spec, findings);
    if let Some(context) = spec.get("securityContext") {
        for key in ["runAsUser", "runAsGroup", "fsGroup"] {
            findings.in_range(&context, key, 0..=i64::from(i32::MAX));
        }
        if context.flag("runAsNonRoot") && context.int("runAsUser") == Some(0) {
            findings.error(
                Fault::Invalid,
                context.path_to("runAsUser"),
                "0 is root, which runAsNonRoot forbids",
            );
        }
        for sysctl in context.items("sysctls") {
            if sysctl.text("name").is_some_and(str::is_empty) {
                findings.required(&sysctl, "name", "is required");
            }
        }
    }
}

fn containers(spec: &At<'_, '_>, pod: &Pod<'_>, findings: &mut Findings) {
    if spec.items("containers").next().is_none() && spec.value.get("containers").is_none_or(serde_json::Value::is_array)
    {
        findings.required(spec, "containers", "needs at least one container");
    }
    let mut names = HashSet::new();
    let mut host_ports = HashSet::new();
    let lists = [
        ("initContainers", Role::Init),
        ("containers", Role::Main),
        ("ephemeralContainers", Role::Ephemeral),
    ];
    for (list, role) in lists {
        for at in spec.items(list) {
            container::check(&at, role, pod, findings);
            if let Some(name) = at.text("name")
                && !names.insert(name)
            {
                findings.error(
                    Fault::Duplicate,
                    at.path_to("name"),
                    format!("{name:?} stands twice: each container of a pod needs its own name"),
                );
            }
            if role == Role::Main {
                for port in at.items("ports") {
                    let place = (
                        port.int("hostPort").unwrap_or(0),
                        port.text("protocol").unwrap_or("TCP"),
                        port.text("hostIP").unwrap_or(""),
                        at.text("name").unwrap_or(""),
                    );
                    let taken = host_ports.iter().any(|&(host, protocol, ip, name)| {
                        (host, protocol, ip) == (place.0, place.1, place.2) && name != place.3
                    });
                    if place.0 != 0 && taken {
                        findings.error(
                            Fault::Duplicate,
                            port.path_to("hostPort"),
                            format!("{} is taken by another container of the pod", place.0),
                        );
                    }
                    host_ports.insert(place);
                }
            }
            if let Some(context) = at.get("securityContext") {
                for key in ["runAsUser", "runAsGroup"] {
                    findings.in_range(&context, key, 0..=i64::from(i32::MAX));
                }
                if context.flag("runAsNonRoot") && context.int("runAsUser") == Some(0) {
                    findings.error(
                        Fault::Invalid,
                        context.path_to("runAsUser"),
                        "0 is root, which runAsNonRoot forbids",
                    );
                }
                if context.flag("privileged")
                    && context.value.get("allowPrivilegeEscalation") == Some(&serde_json::Value::Bool(false))
                {
                    findings.error(
                        Fault::Invalid,
                        context.path_to("allowPrivilegeEscalation"),
                        "cannot be false in a privileged container",
                    );
                }
            }
        }
    }
}

const SOURCES: [&str; 31] = [
    "emptyDir",
    "hostPath",
    "configMap",
    "secret",
    "downwardAPI",
    "projected",
    "persistentVolumeClaim",
    "ephemeral",
    "image",
    "nfs",
    "csi",
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "iscsi",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
    "local",
];

fn volumes<'v>(spec: &At<'_, 'v>, findings: &mut Findings) -> BTreeSet<&'v str> {
    let mut names = BTreeSet::new();
    for volume in spec.items("volumes") {
        if let Some(name) = volume.text("name") {
            if !is_dns_label(name) {
                findings.error(
                    Fault::Invalid,
                    volume.path_to("name"),
                    format!("{name:?} is not a volume's name: at most 63 lower-case letters, digits and '-'"),
                );
            }
            if !names.insert(name) {
                findings.error(
                    Fault::Duplicate,
                    volume.path_to("name"),
                    format!("{name:?} stands twice"),
                );
            }
        }
        let sources: Vec<&str> = SOURCES.into_iter().filter(|source| volume.has(source)).collect();
        match sources[..] {
            [] => findings.error(
                Fault::Required,
                volume.path(),
                "needs a source such as emptyDir: {}, configMap, secret or hostPath",
            ),
            [_] => {}
            [..] => findings.error(
                Fault::Forbidden,
                volume.path(),
                format!("takes one source, found {}", sources.join(", ")),
            ),
        }
        volume_source(&volume, findings);
    }
    names
}

fn volume_source(volume: &At<'_, '_>, findings: &mut Findings) {
    if let Some(directory) = volume.get("emptyDir") {
        if let Some(limit) = directory.get("sizeLimit")
            && container::read_quantity(&limit, findings).is_some_and(crate::quantity::Quantity::is_negative)
        {
            findings.invalid(&limit, "must not be negative");
        }
        if directory.text("medium") != Some("Memory")
            && let Some(limit) = directory.get("sizeLimit")
        {
            findings.warn(
                Fault::NotActedOn,
                limit.path(),
                "is not acted on yet for a directory on disk: it may grow past it",
            );
        }
    }
    if let Some(path) = volume.get("hostPath")
        && let Some(text) = path.text("path")
        && (!text.starts_with('/') || text.split('/').any(|part| part == ".."))
        && let Some(field) = path.get("path")
    {
        findings.invalid(&field, "must be an absolute path without '..'");
    }
    for (source, name) in [
        ("configMap", "name"),
        ("secret", "secretName"),
        ("persistentVolumeClaim", "claimName"),
    ] {
        let Some(source) = volume.get(source) else { continue };
        if source.text(name).is_none_or(str::is_empty)
            && !matches!(source.value.get(name), Some(value) if !value.is_string())
        {
            findings.required(&source, name, "is required");
        }
        findings.in_range(&source, "defaultMode", 0..=0o777);
        items(&source, findings);
    }
    if let Some(source) = volume.get("projected") {
        findings.in_range(&source, "defaultMode", 0..=0o777);
        for part in source.items("sources") {
            for key in ["configMap", "secret"] {
                if let Some(part) = part.get(key) {
                    items(&part, findings);
                }
            }
        }
    }
    if let Some(source) = volume.get("downwardAPI") {
        findings.in_range(&source, "defaultMode", 0..=0o777);
        for item in source.items("items") {
            relative_path(&item, findings);
            if let Some(field) = item.get("resourceFieldRef") {
                container::resource_reference(&field, findings);
            }
        }
    }
}

fn items(source: &At<'_, '_>, findings: &mut Findings) {
    for item in source.items("items") {
        findings.in_range(&item, "mode", 0..=0o777);
        relative_path(&item, findings);
    }
}

fn relative_path(item: &At<'_, '_>, findings: &mut Findings) {
    if let Some(path) = item.get("path")
        && path.value.as_str().is_some_and(|text| {
            text.is_empty() || text.starts_with('/') || text.split('/').any(|part| part.starts_with(".."))
        })
    {
        findings.invalid(&path, "must be a relative path without '..'");
    }
}

fn tolerations(spec: &At<'_, '_>, findings: &mut Findings) {
    for toleration in spec.items("tolerations") {
        let key = toleration.text("key").unwrap_or("");
        let exists = toleration.text("operator") == Some("Exists");
        if key.is_empty() && !exists {
            findings.error(
                Fault::Invalid,
                toleration.path_to("operator"),
                "must be Exists where there is no key, which tolerates everything",
            );
        }
        if let Some(field) = toleration.get("key")
            && !key.is_empty()
            && !is_label_key(key)
        {
            findings.invalid(&field, "is not the key of a taint");
        }
        if let Some(value) = toleration.get("value") {
            let text = value.value.as_str().unwrap_or("");
            if exists && !text.is_empty() {
                findings.invalid(&value, "may not stand with the operator Exists");
            } else if !is_label_value(text) {
                findings.invalid(&value, "is not the value of a taint");
            }
        }
        if toleration.has("tolerationSeconds") && toleration.text("effect") != Some("NoExecute") {
            findings.error(
                Fault::Invalid,
                toleration.path_to("tolerationSeconds"),
                "takes the effect NoExecute: other effects evict nothing",
            );
        }
    }
}

fn dns(spec: &At<'_, '_>, findings: &mut Findings) {
    let config = spec.get("dnsConfig");
    let servers = config.as_ref().map_or(0, |config| config.items("nameservers").count());
    if spec.text("dnsPolicy") == Some("None") && servers == 0 {
        findings.error(
            Fault::Required,
            spec.path_to("dnsConfig"),
            "needs a name server, as dnsPolicy is None",
        );
    }
    let Some(config) = config else { return };
    if servers > 3 {
        findings.error(Fault::Invalid, config.path_to("nameservers"), "takes at most 3");
    }
    for server in config.items("nameservers") {
        if server
            .value
            .as_str()
            .is_some_and(|text| text.parse::<std::net::IpAddr>().is_err())
        {
            findings.invalid(&server, "is not an IP address");
        }
    }
    if config.items("searches").count() > 32 {
        findings.error(Fault::Invalid, config.path_to("searches"), "takes at most 32");
    }
    for option in config.items("options") {
        if option.text("name").is_none_or(str::is_empty) {
            findings.required(&option, "name", "is required");
        }
    }
}
