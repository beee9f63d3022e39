use std::time::Duration;

use http::{Method, StatusCode};
use schemas::node::{Identity, Registered};
use serde_json::{Value, json};

use crate::control_harness::{Client, Harness};

fn registration(machine: &str, agent: &str) -> Value {
    json!({"name": "a", "machine_id": machine, "agent": agent, "labels": {}, "pod_range": "", "status": {}})
}

async fn refused(client: &Client, path: &str, body: Value) -> String {
    let path = format!("/towline/v1/nodes/a/{path}");
    let (code, text) = client.call(Method::POST, &path, body.to_string()).await;
    assert_eq!(code, StatusCode::CONFLICT, "{path}: {text}");
    text
}

async fn ok(client: &Client, path: &str, body: Value) -> Value {
    client.ok(&format!("/towline/v1/nodes/a/{path}"), body).await
}

#[tokio::test]
async fn a_name_belongs_to_the_machine_that_beats() {
    let harness = Harness::start().await;
    let a = harness.node("a").await;
    let other = registration("m2", "a2");
    refused(&a, "register", other.clone()).await;
    harness.clock.advance(Duration::from_secs(40));
    ok(&a, "heartbeat", json!({"status": null})).await;
    harness.clock.advance(Duration::from_secs(40));
    refused(&a, "register", other.clone()).await;

    harness.clock.advance(Duration::from_secs(10));
    let registered: Registered = serde_json::from_value(ok(&a, "register", other).await).expect("an answer");
    let node = harness.store.list(schemas::Kind::Node, None).items[0].clone();
    assert_eq!(registered.uid, node.uid());

    let mut misnamed = registration("m2", "a2");
    misnamed["name"] = "b".into();
    let refused = a
        .call(Method::POST, "/towline/v1/nodes/a/register", misnamed.to_string())
        .await;
    assert_eq!(refused.0, StatusCode::FORBIDDEN, "{}", refused.1);
}

#[tokio::test]
async fn a_second_agent_of_a_machine_is_refused_until_the_first_is_silent() {
    let harness = Harness::start().await;
    let client = harness.node("a").await;
    let (first, second) = (client.as_agent("a1"), client.as_agent("a2"));
    ok(&first, "register", registration("machine-a", "a1")).await;
    let why = refused(&second, "register", registration("machine-a", "a2")).await;
    assert!(
        why.contains("another data directory") && why.contains("--node-name"),
        "{why}"
    );
    // Neither may it speak for the node without having registered.
    refused(&second, "heartbeat", json!({"status": {"capacity": {"cpu": "99"}}})).await;
    refused(&second, "status", json!([])).await;
    let (code, _) = second.call(Method::GET, "/towline/v1/nodes/a/stream", "").await;
    assert_eq!(code, StatusCode::CONFLICT);

    // One that lost its state is told who it is once the former one is silent, and not before.
    let nobody = json!({"machine_id": "machine-a", "agent": "a3"});
    refused(&client, "identity", nobody.clone()).await;
    harness.clock.advance(Duration::from_secs(50));
    let identity: Identity = serde_json::from_value(ok(&client, "identity", nobody).await).expect("an identity");
    assert_eq!(&*identity.agent, "a1");

    ok(&second, "register", registration("machine-a", "a2")).await;
    let why = refused(&first, "heartbeat", json!({"status": null})).await;
    assert!(why.contains("register again"), "{why}");
    refused(&first, "register", registration("machine-a", "a1")).await;
    ok(&second, "heartbeat", json!({"status": null})).await;
}
