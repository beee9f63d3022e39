//! Rules for what a pod's spec says about where it may go.

use std::collections::HashSet;

use super::{
    finding::{Fault, Findings},
    meta::{is_dns_label, label_selector},
    path::At,
};
use crate::labels::is_label_key;

/// Checks affinity, spread and gates of a pod's spec.
pub(super) fn check(spec: &At<'_, '_>, findings: &mut Findings) {
    if let Some(affinity) = spec.get("affinity") {
        if let Some(node) = affinity.get("nodeAffinity") {
            node_affinity(&node, findings);
        }
        for key in ["podAffinity", "podAntiAffinity"] {
            if let Some(pods) = affinity.get(key) {
                pod_affinity(&pods, findings);
            }
        }
    }
    spread(spec, findings);
    let mut names = HashSet::new();
    for gate in spec.items("schedulingGates") {
        let Some(name) = gate.text("name") else { continue };
        if !is_label_key(name)
            && let Some(field) = gate.get("name")
        {
            findings.invalid(&field, "is not a qualified name such as example.com/gate");
        }
        if !names.insert(name) {
            findings.error(Fault::Duplicate, gate.path_to("name"), format!("{name:?} stands twice"));
        }
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn node_affinity(affinity: &At<'_, '_>, findings: &mut Findings) {
    if let Some(required) = affinity.get(REQUIRED) {
        node_selector(&required, findings);
    }
    for preferred in affinity.items(PREFERRED) {
        findings.in_range(&preferred, "weight", 1..=100);
        if let Some(term) = preferred.get("preference") {
            node_selector_term(&term, findings);
        }
    }
}

/// Checks a node selector: that of a pod or that of a volume.
pub(super) fn node_selector(selector: &At<'_, '_>, findings: &mut Findings) {
    if selector.items("nodeSelectorTerms").next().is_none() {
        findings.required(selector, "nodeSelectorTerms", "needs at least one term");
    }
    for term in selector.items("nodeSelectorTerms") {
        node_selector_term(&term, findings);
    }
}

fn node_selector_term(term: &At<'_, '_>, findings: &mut Findings) {
    for requirement in term.items("matchExpressions") {
        if let Some(key) = requirement.get("key")
            && key.value.as_str().is_some_and(|key| !is_label_key(key))
        {
            findings.invalid(&key, "is not the key of a label");
        }
        values(&requirement, findings);
    }
    for requirement in term.items("matchFields") {
        if let Some(key) = requirement.get("key")
            && key.value.as_str().is_some_and(|key| key != "metadata.name")
        {
            findings.invalid(&key, "is no field that nodes are chosen by: use metadata.name");
        }
        let count = requirement.items("values").count();
        match requirement.text("operator") {
            Some("In" | "NotIn") if count != 1 => {
                findings.required(&requirement, "values", "takes exactly one value here");
            }
            Some("In" | "NotIn") | None => {}
            Some(_) => {
                if let Some(operator) = requirement.get("operator") {
                    findings.invalid(&operator, "may not stand in matchFields: use In or NotIn");
                }
            }
        }
    }
}

/// The values that go with an operator.
fn values(requirement: &At<'_, '_>, findings: &mut Findings) {
    let count = requirement.items("values").count();
    match requirement.text("operator") {
        Some("In" | "NotIn") if count == 0 => {
            findings.required(requirement, "values", "is required with the operators In and NotIn");
        }
        Some("Exists" | "DoesNotExist") if count > 0 => {
            if let Some(at) = requirement.get("values") {
                findings.forbidden(&at, "may not stand with the operators Exists and DoesNotExist");
            }
        }
        Some("Gt" | "Lt") => {
            let number = requirement
                .items("values")
                .next()
                .and_then(|value| value.value.as_str().map(|text| text.parse::<i64>().is_ok()));
            if count != 1 || number != Some(true) {
                findings.required(
                    requirement,
                    "values",
                    "takes exactly one whole number, as text, with the operators Gt and Lt",
                );
            }
        }
        _ => {}
    }
}

fn pod_affinity(affinity: &At<'_, '_>, findings: &mut Findings) {
    for term in affinity.items(REQUIRED) {
        pod_term(&term, findings);
    }
    for preferred in affinity.items(PREFERRED) {
        findings.in_range(&preferred, "weight", 1..=100);
        if let Some(term) = preferred.get("podAffinityTerm") {
            pod_term(&term, findings);
        }
    }
}

fn pod_term(term: &At<'_, '_>, findings: &mut Findings) {
    topology_key(term, findings);
    for key in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = term.get(key) {
            label_selector(&selector, findings);
        }
    }
    for namespace in term.items("namespaces") {
        if namespace.value.as_str().is_some_and(|name| !is_dns_label(name)) {
            findings.invalid(&namespace, "is not the name of a namespace");
        }
    }
    label_keys(term, &["matchLabelKeys", "mismatchLabelKeys"], findings);
}

fn topology_key(of: &At<'_, '_>, findings: &mut Findings) {
    match of.text("topologyKey") {
        Some("") => findings.required(of, "topologyKey", "is required, such as kubernetes.io/hostname"),
        Some(key) if !is_label_key(key) => {
            if let Some(field) = of.get("topologyKey") {
                findings.invalid(&field, "is not the key of a label");
            }
        }
        _ => {}
    }
}

/// Keys of the pod's own labels: each once, beside a selector that does not name them itself.
fn label_keys(of: &At<'_, '_>, lists: &[&str], findings: &mut Findings) {
    let selector = of.get("labelSelector");
    let mut seen: HashSet<&str> = HashSet::new();
    if let Some(selector) = &selector {
        let labels = selector.value.get("matchLabels").and_then(|labels| labels.as_object());
        seen.extend(labels.into_iter().flatten().map(|(key, _)| key.as_str()));
        seen.extend(selector.items("matchExpressions").filter_map(|it| it.text("key")));
    }
    for list in lists {
        for key in of.items(list) {
            let Some(text) = key.value.as_str() else { continue };
            if selector.is_none() {
                findings.forbidden(&key, "may not stand without a labelSelector");
            } else if !is_label_key(text) {
                findings.invalid(&key, "is not the key of a label");
            } else if !seen.insert(text) {
                findings.invalid(&key, "stands in the selector or in one of the lists already");
            }
        }
    }
}

fn spread(spec: &At<'_, '_>, findings: &mut Findings) {
    let mut seen = HashSet::new();
    for constraint in spec.items("topologySpreadConstraints") {
        findings.in_range(&constraint, "maxSkew", 1..=i64::MAX);
        findings.in_range(&constraint, "minDomains", 1..=i64::MAX);
        topology_key(&constraint, findings);
        if let Some(selector) = constraint.get("labelSelector") {
            label_selector(&selector, findings);
        }
        label_keys(&constraint, &["matchLabelKeys"], findings);
        let when = constraint.text("whenUnsatisfiable");
        if when == Some("ScheduleAnyway")
            && let Some(field) = constraint.get("minDomains")
        {
            findings.invalid(&field, "takes whenUnsatisfiable: DoNotSchedule");
        }
        let place = (constraint.text("topologyKey"), when);
        if place.0.is_some() && !seen.insert(place) {
            findings.error(
                Fault::Duplicate,
                constraint.path_to("topologyKey"),
                "stands twice with the same whenUnsatisfiable",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{Kind, validate};

    fn errors(spec: Value) -> Vec<String> {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i:1"}]},
        });
        for (field, value) in spec.as_object().into_iter().flatten() {
            pod["spec"][field] = value.clone();
        }
        let found = validate::object(Kind::Pod, &pod);
        found.iter().map(ToString::to_string).collect()
    }

    fn node(term: Value) -> Value {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}})
    }

    fn near(term: Value) -> Value {
        json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    }

    fn spread(extra: Value) -> Value {
        let mut constraint = json!({
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "x"}},
        });
        for (field, value) in extra.as_object().into_iter().flatten() {
            constraint[field] = value.clone();
        }
        json!({"topologySpreadConstraints": [constraint]})
    }

    #[test]
    fn what_kubernetes_lets_in_is_let_in_without_a_word() {
        let selector = json!({"matchLabels": {"app": "x"}});
        let table = [
            node(json!({"matchExpressions": [
                {"key": "disk", "operator": "In", "values": ["ssd"]}, {"key": "cores", "operator": "Gt", "values": ["8"]},
                {"key": "gpu", "operator": "DoesNotExist"}]})),
            node(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]})),
            near(
                json!({"topologyKey": "zone", "labelSelector": selector, "namespaceSelector": {}, "namespaces": ["a"],
                "matchLabelKeys": ["rev"], "mismatchLabelKeys": ["tenant"]}),
            ),
            json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 100, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": selector}}]}}}),
            spread(
                json!({"minDomains": 2, "nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor", "matchLabelKeys": ["rev"]}),
            ),
            json!({"schedulingGates": [{"name": "example.com/a"}, {"name": "b"}], "priorityClassName": "high"}),
        ];
        for spec in table {
            assert_eq!(errors(spec.clone()), Vec::<String>::new(), "{spec}");
        }
    }

    #[test]
    fn what_it_does_not_let_in_is_an_error_with_its_place() {
        let term = |extra: Value| {
            let mut term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}});
            for (field, value) in extra.as_object().into_iter().flatten() {
                term[field] = value.clone();
            }
            near(term)
        };
        let expression = |operator: &str, values: Value| {
            node(json!({"matchExpressions": [{"key": "k", "operator": operator, "values": values}]}))
        };
        let weight = |weight: i64| {
            json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": weight, "podAffinityTerm": {"topologyKey": "zone"}}]}}})
        };
        let table = [
            (
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}}),
                "needs at least one term",
            ),
            (expression("In", json!([])), "values: is required"),
            (expression("Exists", json!(["x"])), "may not stand with the operators"),
            (expression("Gt", json!(["many"])), "exactly one whole number"),
            (expression("Lt", json!(["1", "2"])), "exactly one whole number"),
            (expression("Like", json!(["x"])), "is not one of its values"),
            (
                node(json!({"matchFields": [{"key": "metadata.namespace", "operator": "In", "values": ["n"]}]})),
                "use metadata.name",
            ),
            (
                node(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n", "m"]}]})),
                "exactly one value",
            ),
            (
                node(json!({"matchFields": [{"key": "metadata.name", "operator": "Exists"}]})),
                "use In or NotIn",
            ),
            (term(json!({"topologyKey": ""})), "topologyKey: is required"),
            (term(json!({"topologyKey": "a b"})), "is not the key of a label"),
            (term(json!({"namespaces": ["A"]})), "is not the name of a namespace"),
            (term(json!({"matchLabelKeys": ["app"]})), "stands in the selector"),
            (
                term(json!({"matchLabelKeys": ["a"], "mismatchLabelKeys": ["a"]})),
                "one of the lists already",
            ),
            (
                near(json!({"topologyKey": "zone", "matchLabelKeys": ["a"]})),
                "without a labelSelector",
            ),
            (weight(0), "must be from 1 to 100"),
            (weight(101), "must be from 1 to 100"),
            (spread(json!({"maxSkew": 0})), "must be 1 or more"),
            (spread(json!({"topologyKey": ""})), "topologyKey: is required"),
            (
                spread(json!({"minDomains": 1, "whenUnsatisfiable": "ScheduleAnyway"})),
                "takes whenUnsatisfiable: DoNotSchedule",
            ),
            (spread(json!({"nodeTaintsPolicy": "Maybe"})), "is not one of its values"),
            (
                json!({"schedulingGates": [{"name": "a"}, {"name": "a"}]}),
                "stands twice",
            ),
            (json!({"schedulingGates": [{"name": "a b"}]}), "is not a qualified name"),
            (json!({"preemptionPolicy": "Always"}), "is not one of its values"),
        ];
        for (spec, part) in table {
            let found = errors(spec.clone());
            assert!(found.len() == 1 && found[0].contains(part), "{spec}: {found:#?}");
        }
        let mut twice = spread(json!({}));
        let first = twice["topologySpreadConstraints"][0].clone();
        twice["topologySpreadConstraints"]
            .as_array_mut()
            .expect("a list")
            .push(first);
        assert!(errors(twice)[0].contains("stands twice with the same whenUnsatisfiable"));
    }

    #[test]
    fn classes_of_priority_keep_to_their_range() {
        let class = |name: &str, value: i64| {
            let value = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value});
            validate::object(Kind::PriorityClass, &value).len()
        };
        assert_eq!(class("high", 1_000_000_000), 0);
        assert_eq!(class("high", 1_000_000_001), 1);
        assert_eq!(class("system-mine", 1), 1);
        assert_eq!(class("system-node-critical", 2_000_001_000), 0);
        assert_eq!(class("system-node-critical", 1), 1);
    }
}
