use serde_json::Value;

use super::*;

fn object(value: Value) -> Arc<Object> {
    Arc::new(Object::from_value(value).expect("it is valid"))
}

fn pod(ready: bool) -> Arc<Object> {
    object(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a", "uid": "p"},
        "spec": {"nodeName": "n", "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    }))
}

fn budget(policy: Option<&str>, status: Value) -> Arc<Object> {
    let mut value = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": "a", "uid": "b", "generation": 2},
        "spec": {"minAvailable": 2, "selector": {}},
        "status": {"observedGeneration": 2, "disruptionsAllowed": 1, "currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 3},
    });
    if let Some(policy) = policy {
        value["spec"]["unhealthyPodEvictionPolicy"] = policy.into();
    }
    for (field, part) in status.as_object().into_iter().flatten() {
        value["status"][field] = part.clone();
    }
    object(value)
}

fn now() -> Now {
    Now {
        wall: jiff::Timestamp::UNIX_EPOCH,
        monotonic: std::time::Duration::ZERO,
    }
}

#[test]
fn a_budget_is_asked_in_kubernetes_order() {
    let short = json!({"disruptionsAllowed": 0, "currentHealthy": 1});
    let table = [
        ("room", None, json!({}), true, "takes"),
        (
            "exhausted",
            None,
            json!({"disruptionsAllowed": 0, "currentHealthy": 2}),
            true,
            "needs 2 healthy pods and has 2",
        ),
        (
            "not counted yet",
            None,
            json!({"observedGeneration": 1}),
            true,
            "still being processed",
        ),
        (
            "a pod that is not ready, enough others",
            None,
            json!({"disruptionsAllowed": 0, "currentHealthy": 2}),
            false,
            "free",
        ),
        (
            "a pod that is not ready, too few others",
            None,
            short.clone(),
            false,
            "needs 2 healthy pods and has 1",
        ),
        (
            "the same, by the other policy",
            Some("AlwaysAllow"),
            short.clone(),
            false,
            "free",
        ),
        (
            "which is for pods that are not ready",
            Some("AlwaysAllow"),
            short,
            true,
            "needs 2 healthy pods and has 1",
        ),
        (
            "nothing is desired",
            None,
            json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0}),
            false,
            "needs 0 healthy pods",
        ),
    ];
    for (case, policy, status, ready, expected) in table {
        let found = match take_one(&budget(policy, status), &pod(ready), now()) {
            Ok(Verdict::Free) => "free".to_owned(),
            Ok(Verdict::Takes(..)) => "takes".to_owned(),
            Err(error) => {
                assert_eq!(error.code, StatusCode::TOO_MANY_REQUESTS, "{case}");
                let told = error.to_value();
                assert!(
                    told["details"].get("retryAfterSeconds").is_none(),
                    "{case}: client-go would wait in silence: {told}"
                );
                let response = error.response();
                assert!(!response.headers().contains_key(http::header::RETRY_AFTER), "{case}");
                error.to_value()["details"]["causes"][0]["message"].to_string()
            }
        };
        assert!(found.contains(expected), "{case}: {found}");
    }
}

#[test]
fn the_last_disruption_ends_the_condition() {
    let Ok(Verdict::Takes(_, status)) = take_one(&budget(None, json!({})), &pod(true), now()) else {
        panic!("there is room")
    };
    assert_eq!(status["disruptionsAllowed"], 0);
    assert_eq!(status["disruptedPods"]["p"], "1970-01-01T00:00:00Z");
    assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");
    let more = json!({"disruptionsAllowed": 2});
    let Ok(Verdict::Takes(_, status)) = take_one(&budget(None, more), &pod(true), now()) else {
        panic!("there is room")
    };
    assert_eq!(status["disruptionsAllowed"], 1);
    assert!(status.get("conditions").is_none());
}
