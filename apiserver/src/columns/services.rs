//! Kinds of the network.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, Column, NAME, SELECTOR,
    access::{Shown, age_of, body, each, joined, labels, number, plain, selector, status, text as string},
    cells::row,
    text,
};

/// How many endpoints a cell names before it only counts the rest.
const SHOWN: usize = 3;

pub(super) const SERVICE: &[Column] = &[
    NAME,
    text("Type", "How the service is reached."),
    text("Cluster-IP", "The service's address in the cluster."),
    text("External-IP", "Addresses from outside."),
    text("Port(s)", "The ports, with their node ports."),
    AGE,
    SELECTOR,
];
pub(super) const ENDPOINTS: &[Column] = &[NAME, text("Endpoints", "The first addresses."), AGE];
pub(super) const ENDPOINT_SLICE: &[Column] = &[
    NAME,
    text("AddressType", "What kind of addresses these are."),
    text("Ports", "The ports of all endpoints."),
    text("Endpoints", "The first addresses."),
    AGE,
];
pub(super) const INGRESS: &[Column] = &[
    NAME,
    text("Class", "Which controller serves it."),
    text("Hosts", "The host names of its rules."),
    text("Address", "Where it is reached."),
    text("Ports", "The ports it is reached on."),
    AGE,
];
pub(super) const NETWORK_POLICY: &[Column] = &[NAME, text("Pod-Selector", "The pods that it is about."), AGE];

/// The addresses of a load balancer.
fn balancer<'a>(object: &'a Shown<'_>) -> Vec<&'a str> {
    each(status(object, "/loadBalancer/ingress"))
        .filter_map(|point| string(point.get("ip")).or_else(|| string(point.get("hostname"))))
        .collect()
}

pub(super) fn service(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let kind = string(body(object, "/spec/type")).unwrap_or("ClusterIP");
    let external: Vec<&str> = each(body(object, "/spec/externalIPs"))
        .filter_map(Value::as_str)
        .collect();
    let outside = match kind {
        "ExternalName" => string(body(object, "/spec/externalName"))
            .unwrap_or("<none>")
            .to_owned(),
        "LoadBalancer" => {
            let mut all = balancer(object);
            all.extend(&external);
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                joined(all)
            }
        }
        _ => joined(external),
    };
    let ports = each(body(object, "/spec/ports")).map(|port| {
        let protocol = string(port.get("protocol")).unwrap_or("TCP");
        match (number(port.get("port")), number(port.get("nodePort"))) {
            (port, 0) => format!("{port}/{protocol}"),
            (port, node) => format!("{port}:{node}/{protocol}"),
        }
    });
    row![
        object.name(),
        kind,
        string(body(object, "/spec/clusterIP")).unwrap_or("<none>"),
        outside,
        joined(ports),
        age_of(object, now),
        labels(body(object, "/spec/selector")),
    ]
}

/// The first few of a list and how many more there are.
fn first_of(all: &[String]) -> String {
    if all.len() <= SHOWN {
        return joined(all);
    }
    format!("{} + {} more...", all[..SHOWN].join(","), all.len() - SHOWN)
}

pub(super) fn endpoints(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in each(body(object, "/subsets")) {
        let ports: Vec<i64> = each(subset.get("ports")).map(|port| number(port.get("port"))).collect();
        for address in each(subset.get("addresses")).filter_map(|address| string(address.get("ip"))) {
            if ports.is_empty() {
                all.push(address.to_owned());
            }
            all.extend(ports.iter().map(|port| format!("{address}:{port}")));
        }
    }
    row![object.name(), first_of(&all), age_of(object, now)]
}

pub(super) fn endpoint_slice(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = each(body(object, "/ports"))
        .map(|port| port.get("port").map_or_else(|| "*".to_owned(), plain))
        .collect();
    let addresses: Vec<String> = each(body(object, "/endpoints"))
        .flat_map(|endpoint| each(endpoint.get("addresses")))
        .map(plain)
        .collect();
    let or_unset = |text: String| if text == "<none>" { "<unset>".to_owned() } else { text };
    row![
        object.name(),
        string(body(object, "/addressType")).unwrap_or(""),
        or_unset(first_of(&ports)),
        or_unset(first_of(&addresses)),
        age_of(object, now),
    ]
}

pub(super) fn ingress(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let hosts: Vec<&str> = each(body(object, "/spec/rules"))
        .filter_map(|rule| string(rule.get("host")))
        .collect();
    let tls = each(body(object, "/spec/tls")).next().is_some();
    row![
        object.name(),
        string(body(object, "/spec/ingressClassName")).unwrap_or("<none>"),
        if hosts.is_empty() {
            "*".to_owned()
        } else {
            joined(hosts)
        },
        balancer(object).join(","),
        if tls { "80, 443" } else { "80" },
        age_of(object, now),
    ]
}

pub(super) fn network_policy(object: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    row![
        object.name(),
        selector(body(object, "/spec/podSelector")),
        age_of(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_shows_its_ports_and_addresses() {
        for (spec, status, outside, ports) in [
            (
                json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}),
                json!({}),
                "<none>",
                "80/TCP,53/UDP",
            ),
            (
                json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}),
                json!({}),
                "<none>",
                "80:30080/TCP",
            ),
            (json!({"type": "LoadBalancer"}), json!({}), "<pending>", "<none>"),
            (
                json!({"type": "LoadBalancer", "externalIPs": ["1.2.3.4"]}),
                json!({"loadBalancer": {"ingress": [{"hostname": "a.example"}]}}),
                "a.example,1.2.3.4",
                "<none>",
            ),
            (
                json!({"type": "ExternalName", "externalName": "b.example"}),
                json!({}),
                "b.example",
                "<none>",
            ),
        ] {
            let object = schemas::Object::from_value(json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec, "status": status,
            }))
            .expect("a service");
            let cells = service(&Shown::from(&object), Timestamp::UNIX_EPOCH);
            assert_eq!(cells[3], outside, "{spec}");
            assert_eq!(cells[4], ports, "{spec}");
        }
    }

    #[test]
    fn many_endpoints_are_counted() {
        let all: Vec<String> = (0..5).map(|n| n.to_string()).collect();
        assert_eq!(first_of(&all), "0,1,2 + 2 more...");
        assert_eq!(first_of(&all[..3]), "0,1,2");
        assert_eq!(first_of(&[]), "<none>");
    }
}
