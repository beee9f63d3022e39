//! What containers use, from the kernel and from the engine.

use std::time::{Duration, Instant};

use agents::{Docker, Runtime, runtime::ContainerId};
use serde_json::json;

use crate::{
    harness::pod,
    node::{Node, id, shell, socket},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_and_the_engine_tell_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start("agents-usage", "10.213.17.0/24", dir.path()).await;
    let spec = json!({"containers": [shell("while :; do :; done")]});
    node.control.put(vec![pod("busy", spec)]);
    let report = node.ready("busy").await;
    let ids: Vec<ContainerId> = vec![id(&report, 0).into(), "nobody".into()];
    let (reads, asks) = (Docker::new(&socket()), Docker::new(&socket()).asking());
    let mut last = 0;
    for runtime in [&reads, &asks, &reads, &asks] {
        let began = Instant::now();
        let usage = loop {
            let found = runtime.usage(&ids).await.expect("the engine answers");
            assert_eq!((found.len(), found[1]), (2, None));
            let usage = found[0].expect("it runs");
            // The counts are the same, whoever is asked, so each is past the one before.
            if usage.cpu > last {
                break usage;
            }
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{usage:?} is not past {last}"
            );
        };
        assert!((1 << 10..1 << 30).contains(&usage.memory), "{usage:?}");
        last = usage.cpu;
    }
    let machine = reads.machine(Some(dir.path())).await.expect("it is this one");
    assert!(
        machine
            .usage
            .is_some_and(|usage| usage.cpu > last && usage.memory > 1 << 20)
    );
    assert!(machine.image_space.is_some() && machine.node_space.is_some() && machine.pids.is_some());
}
