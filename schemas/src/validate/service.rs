//! Rules for Services, Ingresses and NetworkPolicies.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    container::{PORT_NAME_RULE, is_port_name},
    finding::{Fault, Findings},
    meta::{is_dns_label, label_selector, labels_map},
    path::At,
};
use crate::labels::is_dns_subdomain;

pub(super) fn service(object: &At<'_, '_>, findings: &mut Findings) {
    let Some(spec) = object.get("spec") else {
        findings.required(object, "spec", "is required");
        return;
    };
    let external = spec.text("type") == Some("ExternalName");
    let headless = spec.text("clusterIP") == Some("None");
    if external && !spec.text("externalName").is_some_and(is_dns_subdomain) {
        findings.required(&spec, "externalName", "must be a DNS name for the type ExternalName");
    }
    if let Some(ip) = spec.get("clusterIP")
        && ip
            .value
            .as_str()
            .is_some_and(|text| !matches!(text, "" | "None") && text.parse::<std::net::IpAddr>().is_err())
    {
        findings.invalid(&ip, "is neither an IP address nor None");
    }
    if let Some(selector) = spec.get("selector") {
        labels_map(&selector, findings);
    }
    let ports: Vec<_> = spec.items("ports").collect();
    if ports.is_empty() && !external && !headless {
        findings.required(&spec, "ports", "needs at least one port");
    }
    let mut names = HashSet::new();
    let mut places = HashSet::new();
    for port in &ports {
        findings.in_range(port, "port", 1..=65_535);
        findings.in_range(port, "nodePort", 0..=65_535);
        match port.text("name") {
            None | Some("") if ports.len() > 1 => {
                findings.required(port, "name", "is required where there is more than one port");
            }
            Some(name) if !name.is_empty() => {
                if let Some(field) = port.get("name") {
                    if !is_dns_label(name) {
                        findings.invalid(
                            &field,
                            "is not the name of a port: at most 63 lower-case letters, digits and '-'",
                        );
                    } else if !names.insert(name) {
                        findings.error(
                            Fault::Duplicate,
                            field.path(),
                            format!("{name:?} stands twice among the ports"),
                        );
                    }
                }
            }
            _ => {}
        }
        let place = (port.int("port"), port.text("protocol").unwrap_or("TCP"));
        if place.0.is_some() && !places.insert(place) {
            findings.error(
                Fault::Duplicate,
                port.path_to("port"),
                "stands twice with the same protocol",
            );
        }
        if let Some(target) = port.get("targetPort") {
            match target.value {
                Value::Number(number) if !number.as_i64().is_some_and(|number| (1..=65_535).contains(&number)) => {
                    findings.invalid(&target, "must be from 1 to 65535");
                }
                Value::String(name) if !is_port_name(name) => findings.invalid(&target, PORT_NAME_RULE),
                _ => {}
            }
        }
    }
}

pub(super) fn ingress(object: &At<'_, '_>, findings: &mut Findings) {
    let Some(spec) = object.get("spec") else {
        findings.required(object, "spec", "is required");
        return;
    };
    if spec.items("rules").next().is_none() && !spec.has("defaultBackend") {
        findings.error(Fault::Required, spec.path(), "needs rules or a defaultBackend");
    }
    if let Some(default) = spec.get("defaultBackend") {
        backend(&default, findings);
    }
    for rule in spec.items("rules") {
        if let Some(host) = rule.get("host")
            && host
                .value
                .as_str()
                .is_some_and(|text| !text.is_empty() && !is_dns_subdomain(text.strip_prefix("*.").unwrap_or(text)))
        {
            findings.invalid(&host, "is not a host name");
        }
        let Some(http) = rule.get("http") else { continue };
        for path in http.items("paths") {
            if path.text("pathType") != Some("ImplementationSpecific")
                && !path.text("path").is_some_and(|text| text.starts_with('/'))
            {
                findings.required(&path, "path", "must be an absolute path");
            }
            if let Some(at) = path.get("backend") {
                backend(&at, findings);
            }
        }
    }
}

fn backend(at: &At<'_, '_>, findings: &mut Findings) {
    if at.has("service") == at.has("resource") {
        findings.error(Fault::Required, at.path(), "takes exactly one of service and resource");
    }
    if let Some(service) = at.get("service") {
        match service.get("port") {
            None => findings.required(&service, "port", "is required"),
            Some(port) => {
                if port.has("name") == port.has("number") {
                    findings.error(Fault::Required, port.path(), "takes exactly one of name and number");
                }
                findings.in_range(&port, "number", 1..=65_535);
            }
        }
    }
}

pub(super) fn network_policy(object: &At<'_, '_>, findings: &mut Findings) {
    let Some(spec) = object.get("spec") else { return };
    if let Some(selector) = spec.get("podSelector") {
        label_selector(&selector, findings);
    }
}
