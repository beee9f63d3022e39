use k8s_openapi::api::batch::v1::{PodFailurePolicy, SuccessPolicy};
use schemas::{Object, indexes::Indexes};
use serde_json::{Value, json};

use super::{Judgement, is_enough, judge};

fn pod(status: Value) -> Object {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": []}, "status": status});
    Object::from_value(pod).expect("it is valid")
}

fn ended(main: i32, init: i32) -> Object {
    let container = |name: &str, code: i32| {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": code}}})
    };
    pod(
        json!({"phase": "Failed", "containerStatuses": [container("main", main)],
        "initContainerStatuses": [container("init", init)],
        "conditions": [{"type": "DisruptionTarget", "status": "True"}, {"type": "Ready", "status": "False"}]}),
    )
}

#[test]
fn rules_match_codes_and_conditions() {
    let on = |codes: Value| json!({"onExitCodes": codes});
    let when = |patterns: Value| json!({"onPodConditions": patterns});
    for (rule, pod, matches) in [
        (on(json!({"operator": "In", "values": [3]})), ended(3, 0), true),
        (on(json!({"operator": "In", "values": [3]})), ended(4, 0), false),
        (on(json!({"operator": "In", "values": [3]})), ended(0, 3), true),
        (on(json!({"operator": "NotIn", "values": [3]})), ended(4, 0), true),
        (on(json!({"operator": "NotIn", "values": [3]})), ended(3, 0), false),
        // Success is never a failure that matches.
        (on(json!({"operator": "NotIn", "values": [3]})), ended(0, 0), false),
        (
            on(json!({"containerName": "main", "operator": "In", "values": [3]})),
            ended(0, 3),
            false,
        ),
        (
            on(json!({"containerName": "init", "operator": "In", "values": [3]})),
            ended(0, 3),
            true,
        ),
        (
            on(json!({"operator": "In", "values": [3]})),
            pod(json!({"phase": "Failed"})),
            false,
        ),
        (
            when(json!([{"type": "DisruptionTarget", "status": "True"}])),
            ended(1, 0),
            true,
        ),
        (
            when(json!([{"type": "DisruptionTarget", "status": ""}])),
            ended(1, 0),
            true,
        ),
        (
            when(json!([{"type": "DisruptionTarget", "status": "False"}])),
            ended(1, 0),
            false,
        ),
        (
            when(json!([{"type": "Other", "status": "True"}, {"type": "Ready", "status": "False"}])),
            ended(1, 0),
            true,
        ),
        (when(json!([{"type": "Other", "status": "True"}])), ended(1, 0), false),
    ] {
        let mut rule = rule;
        rule["action"] = "Ignore".into();
        let policy: PodFailurePolicy = serde_json::from_value(json!({"rules": [rule]})).expect("it is one");
        let expected = if matches { Judgement::Ignore } else { Judgement::Count };
        assert_eq!(judge(Some(&policy), &pod), expected, "{policy:?}");
    }
    assert_eq!(judge(None, &ended(1, 0)), Judgement::Count);
}

#[test]
fn success_policies_count_the_indexes_that_they_name() {
    for (rules, succeeded, enough) in [
        (json!([{"succeededIndexes": "0-2"}]), "0,1", None),
        (json!([{"succeededIndexes": "0-2"}]), "0-2", Some(0)),
        (
            json!([{"succeededIndexes": "0-2", "succeededCount": 2}]),
            "1,2,5",
            Some(0),
        ),
        (json!([{"succeededIndexes": "0-2", "succeededCount": 2}]), "2,5-9", None),
        (json!([{"succeededCount": 4}]), "2,5-7", Some(0)),
        (json!([{"succeededCount": 9}, {"succeededIndexes": "7"}]), "7", Some(1)),
    ] {
        let policy: SuccessPolicy = serde_json::from_value(json!({"rules": rules})).expect("it is one");
        let found = is_enough(Some(&policy), &Indexes::parse(succeeded).expect("it is one"));
        let expected = enough.map(|at| format!("Matched rules at index {at}"));
        assert_eq!(found, expected, "{rules} {succeeded}");
    }
    assert_eq!(is_enough(None, &Indexes::parse("0-9").expect("it is one")), None);
}
