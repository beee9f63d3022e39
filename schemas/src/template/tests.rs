use jiff::Timestamp;
use serde_json::json;

use super::*;

fn template(value: Value) -> PodTemplateSpec {
    serde_json::from_value(value).expect("it is valid")
}

fn plain() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}})
}

#[test]
fn templates_are_compared_after_defaulting() {
    let base = template(plain());
    let mut written_out = plain();
    defaulting::default_template(&mut written_out);
    let mut hashed = plain();
    hashed["metadata"]["labels"][labels::POD_TEMPLATE_HASH] = "abc".into();
    let mut empties = plain();
    empties["spec"]["volumes"] = json!([]);
    empties["spec"]["nodeSelector"] = json!({});
    empties["metadata"]["annotations"] = json!({});
    for (name, other) in [("written out", written_out), ("hashed", hashed), ("empties", empties)] {
        let other = template(other);
        assert!(equal(&base, &other), "{name}");
        assert_eq!(
            pod_template_hash(&base, None),
            pod_template_hash(&other, None),
            "{name}"
        );
    }

    let change = |pointer: &str, field: &str, value: Value| {
        let mut changed = plain();
        changed.pointer_mut(pointer).expect("it is there")[field] = value;
        template(changed)
    };
    for other in [
        change("/spec/containers/0", "image", json!("web:2")),
        change("/metadata/labels", "tier", json!("x")),
        change("/spec", "terminationGracePeriodSeconds", json!(5)),
        change("/spec", "containers", json!([])),
    ] {
        assert!(!equal(&base, &other));
        assert_ne!(pod_template_hash(&base, None), pod_template_hash(&other, None));
    }
}

#[test]
fn an_empty_selector_is_not_a_missing_one() {
    let term = |selector: Value| {
        let mut value = plain();
        value["spec"]["affinity"] = json!({"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [selector],
        }});
        template(value)
    };
    let missing = term(json!({"topologyKey": "k"}));
    let empty = term(json!({"topologyKey": "k", "namespaceSelector": {}}));
    assert!(!equal(&missing, &empty));
}

#[test]
fn a_hash_is_stable_short_and_moves_on_after_a_collision() {
    let base = template(plain());
    let hash = pod_template_hash(&base, None);
    assert_eq!(hash.len(), 10);
    assert!(hash.bytes().all(|byte| ALPHABET.contains(&byte)));
    assert_eq!(hash, pod_template_hash(&base, None));
    assert_ne!(hash, pod_template_hash(&base, Some(1)));
    assert_ne!(pod_template_hash(&base, Some(1)), pod_template_hash(&base, Some(2)));
}

#[test]
fn names_fit_into_a_label() {
    assert_eq!(random_suffix([0, 1, 26, 27, 255]), "bc9bq");
    assert_eq!(generated_name("web-", "bc9bh"), "web-bc9bh");
    let long = generated_name(&"x".repeat(80), "bc9bh");
    assert_eq!(long.len(), 63);
    assert!(long.ends_with("xbc9bh"));
}

#[test]
fn pods_share_the_body_of_their_template() {
    let mut value = plain();
    value["metadata"]["annotations"] = json!({"a": "b"});
    value["spec"]["nodeName"] = "n1".into();
    let template = template(value);
    let owner = Object::from_value(json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "web-1", "namespace": "shop", "uid": "u-rs"}, "spec": {},
    }))
    .expect("it is valid");
    let now = Now {
        wall: Timestamp::UNIX_EPOCH,
        monotonic: std::time::Duration::ZERO,
    };
    let body = pod_body(&template);
    let one = pod_from_template(&template, &body, &owner, "web-1-aaaaa", &"u1".into(), now);
    let two = pod_from_template(&template, &body, &owner, "web-1-bbbbb", &"u2".into(), now);
    assert!(Arc::ptr_eq(&one.body, &two.body));
    assert_eq!(one.controller().map(|owner| owner.uid.as_str()), Some("u-rs"));
    assert_eq!(one.meta.generate_name.as_deref(), Some("web-1-"));
    assert_eq!(one.namespace(), "shop");
    assert_eq!(one.label("app"), Some("web"));
    assert_eq!(one.annotation("a"), Some("b"));
    assert_eq!(one.node.as_deref(), Some("n1"));
    let written = one.to_value();
    assert_eq!(written["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    let mut again = written.clone();
    defaulting::default_object(Kind::Pod, &mut again);
    assert_eq!(again, written, "the pod is defaulted already");
}
