//! Prints how fast the store writes and loads, on a private Postgres with durable commits.
//!
//! `cargo run -p store --example throughput -- 20000` uses 20,000 pods.
#![allow(clippy::print_stdout, reason = "it prints its result")]

use std::{sync::Arc, time::Instant};

use schemas::{Key, Kind, Object, Packed};
use serde_json::json;
use store::{
    Class, MasterKey, Op, Options, PostgresLog, PrivateOptions, PrivatePostgres, Store, Write, postgres::Settings,
};

fn pod(n: usize) -> Object {
    let replica = n / 10;
    let value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("web-{replica}-7c5ddbdf54-{n}"), "namespace": format!("team-{}", replica % 100),
            "uid": format!("00000000-0000-4000-8000-{n:012}"), "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"app": format!("web-{replica}"), "pod-template-hash": "7c5ddbdf54"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("web-{replica}-7c5ddbdf54"),
                "uid": format!("00000000-0000-4000-9000-{replica:012}"), "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {
            "containers": [{"name": "web", "image": format!("registry.example.org/team/web:{replica}"),
                "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                "env": [{"name": "A", "value": "some text"}, {"name": "B", "value": "some more text"}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "imagePullPolicy": "IfNotPresent"}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default", "schedulerName": "default-scheduler",
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        },
    });
    Object::from_value(value).expect("a pod")
}

fn key(n: usize) -> Key {
    let replica = n / 10;
    Key::namespaced(
        Kind::Pod,
        &format!("team-{}", replica % 100),
        &format!("web-{replica}-7c5ddbdf54-{n}"),
    )
}

fn status(n: usize, phase: &str) -> Packed {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-02T03:04:05Z"});
    json!({
        "phase": phase, "podIP": format!("10.{}.{}.{}", n / 65536 % 256, n / 256 % 256, n % 256), "hostIP": "192.168.0.1",
        "qosClass": "Burstable", "startTime": "2026-01-02T03:04:05Z",
        "conditions": [condition("Ready"), condition("Initialized"), condition("ContainersReady"), condition("PodScheduled")],
        "containerStatuses": [{"name": "web", "ready": true, "started": true, "restartCount": 0, "image": "web:1",
            "imageID": "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "containerID": format!("docker://{n:064}"), "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}}],
    })
    .into()
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("");
    line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

async fn measure(what: &str, store: &Store, class: Class, count: usize, write: impl Fn(usize) -> Op) {
    let start = Instant::now();
    for first in (0..count).step_by(5000) {
        let writes = (first..count.min(first + 5000)).map(|n| Write::new(write(n))).collect();
        let failed = store.write(class, writes).await.into_iter().find_map(Result::err);
        assert!(failed.is_none(), "{failed:?}");
    }
    let took = start.elapsed();
    println!(
        "{what:24} {count:7} rows {took:10.2?} {:8.0} rows/s, {}",
        count as f64 / took.as_secs_f64(),
        memory()
    );
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let count = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(10_000);
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let start = Instant::now();
    let postgres = PrivatePostgres::start(PrivateOptions::new(folder.path())).await?;
    println!("a new private Postgres in {:.2?}", start.elapsed());
    let open = async || -> Result<Store, Box<dyn std::error::Error>> {
        let log = PostgresLog::connect(Settings::new(postgres.connection()), &MasterKey::new([1; 32])).await?;
        Ok(Store::open_with(Arc::new(log), Options::default()).await?)
    };
    let store = open().await?;
    measure("create", &store, Class::Controller, count, |n| Op::Create(pod(n))).await;
    measure("bind", &store, Class::Controller, count, |n| Op::Bind {
        key: key(n),
        node: format!("node-{}", n / 30).as_str().into(),
        status: None,
    })
    .await;
    measure("status", &store, Class::Status, count, |n| Op::Status {
        key: key(n),
        status: status(n, "Running"),
    })
    .await;
    measure("status again", &store, Class::Status, count, |n| Op::Status {
        key: key(n),
        status: status(n + 1, "Running"),
    })
    .await;
    let start = Instant::now();
    for n in 0..200 {
        let op = Op::Status {
            key: key(n),
            status: status(n + 2, "Running"),
        };
        store.write_one(Class::User, Write::new(op)).await?;
    }
    println!("one by one: {:.0} rows/s", 200.0 / start.elapsed().as_secs_f64());
    let start = Instant::now();
    let listed = store.list(Kind::Pod, None).items.len();
    println!("a list of {listed} in {:.2?}", start.elapsed());
    store.close().await;
    drop(store);
    let start = Instant::now();
    let store = open().await?;
    println!("loaded in {:.2?}, {}", start.elapsed(), memory());
    measure("delete", &store, Class::Controller, count, |n| Op::Remove {
        key: key(n),
    })
    .await;
    store.close().await;
    postgres.stop().await;
    Ok(())
}
