use serde_json::json;

use super::*;

fn object(kind: Kind, name: &str, body: Value) -> Object {
    let mut value = json!({"apiVersion": kind.info().api_version(), "kind": kind.info().name,
        "metadata": {"name": name, "namespace": "a"}});
    json_patch::merge(&mut value, &body);
    Object::from_value(value).expect("it is an object")
}

fn pod(spec: Value) -> Object {
    object(Kind::Pod, "p", json!({"spec": spec}))
}

fn account(body: Value) -> Object {
    object(Kind::ServiceAccount, "default", body)
}

fn range(limits: Value) -> Vec<Arc<Object>> {
    vec![Arc::new(object(
        Kind::LimitRange,
        "r",
        json!({"spec": {"limits": limits}}),
    ))]
}

fn admitted(pod: &Object, account: &Object, ranges: &[Arc<Object>]) -> Result<Value, String> {
    let rules = Rules {
        account: Some(account),
        ranges,
    };
    let body = admit(pod, rules)?.unwrap_or_else(|| pod.body.clone());
    Ok(body.part().value()["spec"].clone())
}

#[test]
fn pull_secrets_come_from_the_account_where_the_pod_has_none() {
    let account = account(json!({"imagePullSecrets": [{"name": "s"}], "automountServiceAccountToken": false}));
    for (own, given) in [(json!([]), "s"), (json!([{"name": "o"}]), "o")] {
        let pod = pod(json!({"containers": [], "imagePullSecrets": own}));
        let spec = admitted(&pod, &account, &[]).expect("admitted");
        assert_eq!(spec["imagePullSecrets"][0]["name"], given);
    }
}

#[test]
fn an_account_that_is_not_there_is_named() {
    let pod = pod(json!({"containers": [], "serviceAccountName": "robot"}));
    let rules = Rules {
        account: None,
        ranges: &[],
    };
    assert_eq!(
        admit(&pod, rules).expect_err("it is refused"),
        "error looking up service account a/robot: serviceaccount \"robot\" not found"
    );
}

#[test]
fn defaults_go_where_nothing_is_said() {
    let ranges = range(json!([{"type": "Container",
        "default": {"cpu": "500m", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}]));
    let quiet = account(json!({"automountServiceAccountToken": false}));
    let pod = pod(json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]}));
    let spec = admitted(&pod, &quiet, &ranges).expect("admitted");
    assert_eq!(
        spec["containers"][0]["resources"],
        json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "100m"}})
    );
}

#[test]
fn too_little_and_too_much_is_refused_in_known_words() {
    let quiet = account(json!({"automountServiceAccountToken": false}));
    let one = |kind: &str, rule: Value| {
        let mut item = json!({"type": kind});
        json_patch::merge(&mut item, &rule);
        range(json!([item]))
    };
    let asks = |resources: Value| pod(json!({"containers": [{"name": "c", "resources": resources}]}));
    for (ranges, resources, words) in [
        (
            one("Container", json!({"min": {"cpu": "100m"}})),
            json!({"requests": {"cpu": "50m"}}),
            "minimum cpu usage per Container is 100m, but request is 50m",
        ),
        (
            one("Container", json!({"min": {"cpu": "100m"}})),
            json!({}),
            "minimum cpu usage per Container is 100m.  No request is specified",
        ),
        (
            one("Container", json!({"max": {"memory": "1Gi"}})),
            json!({"limits": {"memory": "2Gi"}}),
            "maximum memory usage per Container is 1Gi, but limit is 2Gi",
        ),
        (
            one("Pod", json!({"max": {"memory": "1Gi"}})),
            json!({"requests": {"memory": "1Gi"}}),
            "maximum memory usage per Pod is 1Gi.  No limit is specified",
        ),
        (
            one("Container", json!({"maxLimitRequestRatio": {"cpu": "2"}})),
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "250m"}}),
            "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
        ),
        (
            one("Container", json!({"max": {"cpu": "1"}, "min": {"memory": "1Mi"}})),
            json!({"limits": {"cpu": "2"}}),
            "[minimum memory usage per Container is 1Mi.  No request is specified, maximum cpu usage per Container is 1, but limit is 2]",
        ),
    ] {
        assert_eq!(
            admitted(&asks(resources.clone()), &quiet, &ranges),
            Err(words.to_owned()),
            "{resources}"
        );
    }
    let fits = one(
        "Container",
        json!({"min": {"cpu": "100m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "4"}}),
    );
    assert!(
        admitted(
            &asks(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "250m"}})),
            &quiet,
            &fits
        )
        .is_ok()
    );

    let claims = one(
        "PersistentVolumeClaim",
        json!({"min": {"storage": "1Gi"}, "max": {"storage": "5Gi"}}),
    );
    for (storage, fault) in [
        ("2Gi", None),
        (
            "512Mi",
            Some("minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 512Mi"),
        ),
        (
            "6Gi",
            Some("maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi"),
        ),
    ] {
        let claim = object(
            Kind::PersistentVolumeClaim,
            "c",
            json!({"spec": {"resources": {"requests": {"storage": storage}}}}),
        );
        let rules = Rules {
            account: None,
            ranges: &claims,
        };
        assert_eq!(admit(&claim, rules).err().as_deref(), fault, "{storage}");
    }
}
