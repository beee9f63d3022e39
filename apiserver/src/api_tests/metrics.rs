//! What nodes and pods use, as `kubectl top` asks for it.

use schemas::node::{PodStats, Stats, Used};
use serde_json::{Value, json};

use super::*;

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";

/// Two nodes, one of which has told what it and its pods use; a pod on each.
async fn bench() -> Bench {
    let bench = Bench::start().await;
    for node in ["a", "b"] {
        bench
            .put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "uid": node, "labels": {"zone": node}}}))
            .await;
        bench.pod(&format!("web-{node}"), Some(node)).await;
    }
    let used = |cpu, memory| Used { cpu, memory };
    let stats = Stats {
        window_millis: 15_000,
        node: Some(used(1_500_000_000, 3 << 30)),
        pods: vec![PodStats {
            uid: "uid-web-a".into(),
            containers: vec![("c".into(), used(250_000_000, 2 << 20)), ("d".into(), used(0, 1024))],
        }],
    };
    bench.store.usages().note("a", stats, bench.api.clock.now());
    bench
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list");
    items
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

#[tokio::test]
async fn what_was_told_is_served_by_name_and_by_selector() {
    let bench = bench().await;
    let (code, nodes) = bench.json(get(&format!("{METRICS}/nodes"))).await;
    assert_eq!(code, 200, "{nodes}");
    assert_eq!(
        (nodes["kind"].as_str(), names(&nodes)),
        (Some("NodeMetricsList"), vec!["a"])
    );
    let node = &nodes["items"][0];
    assert_eq!(node["usage"], json!({"cpu": "1500000000n", "memory": "3145728Ki"}));
    assert_eq!(
        (&node["window"], &node["metadata"]["labels"]["zone"]),
        (&json!("15.000s"), &json!("a"))
    );

    let (_, pod) = bench.json(get(&format!("{METRICS}/namespaces/shop/pods/web-a"))).await;
    assert_eq!(
        pod["containers"],
        json!([
            {"name": "c", "usage": {"cpu": "250000000n", "memory": "2048Ki"}},
            {"name": "d", "usage": {"cpu": "0n", "memory": "1Ki"}},
        ])
    );
    for (query, found) in [
        ("pods", vec!["web-a"]),
        ("namespaces/shop/pods", vec!["web-a"]),
        ("namespaces/other/pods", vec![]),
        ("pods?labelSelector=app%3Dweb-a", vec!["web-a"]),
        ("pods?labelSelector=app%3Dweb-b", vec![]),
        ("pods?fieldSelector=metadata.name%3Dweb-a", vec!["web-a"]),
        ("nodes?labelSelector=zone%3Db", vec![]),
    ] {
        let (_, list) = bench.json(get(&format!("{METRICS}/{query}"))).await;
        assert_eq!(names(&list), found, "{query}");
    }
    for (path, code) in [
        ("namespaces/shop/pods/web-b", 404),
        ("namespaces/shop/pods/nobody", 404),
        ("nodes/b", 404),
        ("deployments", 404),
    ] {
        let (found, answer) = bench.json(get(&format!("{METRICS}/{path}"))).await;
        assert_eq!(found, code, "{path}: {answer}");
    }
    let (code, _) = bench.json(ask(Method::DELETE, &format!("{METRICS}/nodes/a"))).await;
    assert_eq!(code, 405);
    let agent = get(&format!("{METRICS}/pods")).by(Some(Identity::new("system:node:a", [NODES])));
    let (code, answer) = bench.json(agent).await;
    assert_eq!(code, 403);
    assert!(
        answer["message"]
            .as_str()
            .is_some_and(|why| why.contains("\"metrics.k8s.io\""))
    );
}

#[tokio::test]
async fn the_group_is_discovered() {
    let bench = bench().await;
    let (_, groups) = bench.json(get("/apis")).await;
    let group = groups["groups"]
        .as_array()
        .and_then(|groups| groups.iter().find(|group| group["name"] == "metrics.k8s.io"))
        .expect("it is there");
    assert_eq!(group["preferredVersion"]["groupVersion"], "metrics.k8s.io/v1beta1");
    let (_, resources) = bench.json(get(METRICS)).await;
    let kinds: Vec<(&str, bool)> = resources["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|resource| Some((resource["kind"].as_str()?, resource["namespaced"].as_bool()?)))
        .collect();
    assert_eq!(kinds, [("NodeMetrics", false), ("PodMetrics", true)]);
}
