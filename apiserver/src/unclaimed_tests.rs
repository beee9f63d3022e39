use http::{Method, StatusCode};
use schemas::node::{Order, SessionRequest, Unclaimed};
use serde_json::{Value, json};

use crate::control_harness::Harness;

const POD: &str = r#"{"key": {"kind": "Pod", "namespace": "shop", "name": "p"}, "uid": "u1", "containers": ["c"]}"#;

#[tokio::test]
async fn an_order_travels_to_the_agent_and_its_answer_back() {
    let harness = Harness::start().await;
    let (a, admin) = (harness.node("a").await, harness.admin().await);
    let pod: Value = serde_json::from_str(POD).expect("a pod");
    let beat = |pods: Value| json!({"status": null, "unclaimed_pods": pods});
    a.ok("/towline/v1/nodes/a/heartbeat", beat(json!([pod]))).await;

    let list = || async {
        let (_, text) = admin.call(Method::GET, "/towline/v1/unclaimed", "").await;
        serde_json::from_str::<Value>(&text).expect("a list")
    };
    let wanted =
        json!([{"node": "a", "namespace": "shop", "name": "p", "uid": "u1", "containers": ["c"], "kept": false}]);
    assert_eq!(list().await, wanted);
    let (_, status) = admin.call(Method::GET, "/towline/v1/status", "").await;
    let status: Value = serde_json::from_str(&status).expect("a status");
    assert_eq!(status["unclaimed"], wanted);

    let order = "/towline/v1/unclaimed?node=a&uid=u1&order=keep";
    let (code, text) = admin.call(Method::POST, order, "").await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE, "nobody listens: {text}");
    for (query, code) in [
        ("node=a&uid=u1", StatusCode::BAD_REQUEST),
        ("node=a&uid=u1&order=eat", StatusCode::BAD_REQUEST),
        ("uid=u1&order=keep", StatusCode::BAD_REQUEST),
    ] {
        let (found, text) = admin
            .call(Method::POST, &format!("/towline/v1/unclaimed?{query}"), "")
            .await;
        assert_eq!(found, code, "{query}: {text}");
    }
    let (code, _) = a.call(Method::POST, order, "").await;
    assert_eq!(code, StatusCode::FORBIDDEN, "an agent gives no orders");

    let mut requests = a.lines("/towline/v1/nodes/a/sessions").await;
    let ordered = {
        let admin = admin.clone();
        tokio::spawn(async move { admin.call(Method::POST, order, "").await })
    };
    let SessionRequest::Settle { id, uid, order } = requests.json().await else {
        panic!("not an order");
    };
    assert_eq!((&*uid.0, order), ("u1", Order::Keep));
    let mut kept: Unclaimed = serde_json::from_str(POD).expect("a pod");
    kept.kept = true;
    let body = serde_json::to_string(&kept).expect("JSON");
    let path = format!("/towline/v1/nodes/a/sessions/{id}");
    let (code, text) = a.call(Method::POST, &path, body).await;
    assert!(code.is_success(), "{text}");
    let (code, text) = ordered.await.expect("it ends");
    assert_eq!(code, StatusCode::OK, "{text}");
    assert_eq!(serde_json::from_str::<Unclaimed>(&text).expect("the pod"), kept);

    a.ok("/towline/v1/nodes/a/heartbeat", beat(json!([]))).await;
    assert_eq!(list().await, json!([]));
}
