use k8s_openapi::api::core::v1::{PodSpec, PodStatus};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn status() -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-02T03:04:05Z"});
    json!({
        "phase": "Running", "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}], "hostIP": "192.168.0.1",
        "hostIPs": [{"ip": "192.168.0.1"}], "qosClass": "Burstable", "startTime": "2026-01-02T03:04:05Z",
        "conditions": [condition("Ready"), condition("Initialized"), condition("ContainersReady"),
            condition("PodScheduled"), condition("PodReadyToStartContainers")],
        "containerStatuses": [{"name": "web", "ready": true, "started": true, "restartCount": 0, "image": "web:1",
            "imageID": "docker-pullable://team/web@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "containerID": "docker://f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}}],
    })
}

#[test]
fn a_status_is_small_and_whole() {
    let value = status();
    let packed = Packed::from(&value);
    let (text, bytes) = (value.to_string().len(), packed.bytes().len());
    assert!(bytes * 3 < text && bytes < 320, "{bytes} bytes for {text} of text");
    assert_eq!(packed.value(), value);
    assert_eq!(serde_json::to_value(&packed).expect("JSON"), value);
    assert_eq!(Packed::from_bytes(packed.bytes()), Ok(packed.clone()));
    let typed: PodStatus = packed.parse().expect("a status");
    assert_eq!(typed, serde_json::from_value(value).expect("a status"));
}

#[test]
fn one_field_is_found() {
    let packed = Packed::from(status());
    assert_eq!(packed.word("phase"), Some("Running"));
    assert_eq!(packed.word("podIPs/0/ip"), Some("10.1.2.3"));
    assert_eq!(packed.word("startTime"), None, "a time is no word");
    assert!(
        packed
            .at("startTime")
            .is_some_and(|time| time.is("2026-01-02T03:04:05Z"))
    );
    let ready = packed
        .at("conditions")
        .into_iter()
        .flat_map(Part::items)
        .find(|it| it.has("type", "Ready"));
    assert_eq!(ready.and_then(|it| it.get("status")?.word()), Some("True"));
    assert_eq!(
        packed.at("containerStatuses/0/restartCount").and_then(Part::int),
        Some(0)
    );
    assert_eq!(packed.at("containerStatuses/0/ready").and_then(Part::bool), Some(true));
    for nowhere in ["x", "phase/x", "podIPs/1", "podIPs/ip", "conditions/0/x", ""] {
        assert!(packed.at(nowhere).is_none(), "{nowhere}");
    }
}

#[test]
fn every_form_of_text_and_number_comes_back() {
    let texts = [
        "",
        "phase",
        "f:memory",
        "x",
        "a text that is longer than thirty-one bytes",
        "ü😀\0",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.5Z",
        "2026-02-30T03:04:05Z",
        "1969-12-31T23:59:59Z",
        "2106-02-07T06:28:16Z",
        "0123456789abcdef",
        "0123456789abcdefa",
        "xyz0123456789abcdef",
        "0123456789ABCDEF",
        "abc",
        "00000000-0000-4000-8000-00000000000f",
        "00000000-0000-4000-8000-00000000000F",
        "00000000-0000-4000-8000-00000000000-",
        "sha256:0123456789abcdef0",
        "2026-01-02T03:04:05Z0123456789abcdef",
    ];
    for text in texts {
        assert_eq!(Packed::from(json!(text)).value(), json!(text));
        assert_eq!(Packed::from(json!({text: [text]})).value(), json!({text: [text]}));
    }
    let numbers = [
        json!(0),
        json!(31),
        json!(32),
        json!(-1),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(0.5),
        json!(1.0),
        json!(-1e300),
    ];
    for number in numbers {
        assert_eq!(Packed::from(&number).value(), number);
    }
    let long: Vec<u32> = (0..500).collect();
    assert_eq!(Packed::from(json!(long)).parse::<Vec<u32>>().expect("numbers"), long);
}

#[test]
fn types_read_as_they_do_from_text() {
    let spec = json!({
        "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m", "memory": 5}},
            "livenessProbe": {"httpGet": {"port": "web"}}, "readinessProbe": {"tcpSocket": {"port": 80}}}],
        "tolerations": null,
    });
    for value in [spec, json!({"containers": [{"name": 5}]}), json!({}), json!([])] {
        let ours = Packed::from(&value)
            .parse::<PodSpec>()
            .map_err(|error| error.to_string());
        let theirs = serde_json::from_value::<PodSpec>(value).map_err(|error| error.to_string());
        assert_eq!(ours, theirs);
    }
}

#[test]
fn the_words_keep_their_numbers() {
    let unique: std::collections::BTreeSet<_> = words::WORDS.iter().collect();
    assert_eq!(unique.len(), words::WORDS.len(), "a word stands there twice");
    // Add words at the end; change this count, and never the hash of those before.
    let known = &words::WORDS[..KNOWN];
    assert_eq!(crate::ContentHash::of(&json!(known)).to_string(), HASH);
}

const KNOWN: usize = 566;
const HASH: &str = "9daa05c73d82dc14f253929ec987f5ce41f259e01c172d20a1182efef230aade";

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "[0-9a-f-]{0,40}".prop_map(Value::from),
        proptest::sample::select(words::WORDS).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map(".{0,12}", inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_value_comes_back(value in any_value()) {
        let packed = Packed::from(&value);
        prop_assert_eq!(packed.value(), value.clone());
        prop_assert_eq!(serde_json::to_string(&packed).expect("JSON"), value.to_string());
        prop_assert!(Packed::from_bytes(packed.bytes()).is_ok());
    }

    #[test]
    fn foreign_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(packed) = Packed::from_bytes(&bytes) {
            let _ = packed.value();
        }
    }
}
