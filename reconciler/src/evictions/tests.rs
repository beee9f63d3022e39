use k8s_openapi::api::core::v1::Toleration;
use serde_json::Value;

use super::*;

#[test]
fn a_pod_leaves_when_the_first_of_its_tolerations_ends() {
    let second = Duration::from_secs;
    let now = Now {
        wall: jiff::Timestamp::UNIX_EPOCH,
        monotonic: second(1_000),
    };
    let taint = |key: &str| Taint {
        key: key.to_owned(),
        effect: "NoExecute".to_owned(),
        ..Taint::default()
    };
    let seen: FxHashMap<String, Duration> = [("a".to_owned(), second(900)), ("b".to_owned(), second(950))]
        .into_iter()
        .collect();
    let table: [(Value, &[&str], Option<u64>); 9] = [
        (json!([]), &["a"], Some(1_000)),
        (json!([{"key": "a", "operator": "Exists"}]), &["a"], None),
        (json!([{"operator": "Exists"}]), &["a", "b"], None),
        (
            json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 300}]),
            &["a"],
            Some(1_200),
        ),
        (
            json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 300}]),
            &["a", "b"],
            Some(1_000),
        ),
        (
            json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 300},
                {"key": "b", "operator": "Exists", "tolerationSeconds": 100}]),
            &["a", "b"],
            Some(1_050),
        ),
        // Of several for one taint the shortest counts.
        (
            json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 300},
                {"operator": "Exists", "tolerationSeconds": 50}]),
            &["a"],
            Some(950),
        ),
        (
            json!([{"key": "a", "operator": "Exists", "tolerationSeconds": -5}]),
            &["a"],
            Some(900),
        ),
        (
            json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]),
            &["a"],
            Some(1_000),
        ),
    ];
    for (tolerations, taints, expected) in table {
        let tolerations: Vec<Toleration> = serde_json::from_value(tolerations.clone()).expect("they are valid");
        let spec = PodSpec {
            tolerations: Some(tolerations.clone()),
            ..PodSpec::default()
        };
        let taints: Vec<Taint> = taints.iter().map(|key| taint(key)).collect();
        assert_eq!(
            leaves_at(&spec, &taints, &seen, now),
            expected.map(second),
            "{tolerations:?} on {taints:?}"
        );
    }
}
