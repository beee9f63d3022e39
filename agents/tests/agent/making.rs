//! What stands in the way of making a container: images, and what its environment names.

use agents::fake::FakeOptions;
use serde_json::{Value, json};

use crate::{
    harness::{is_ready, object, phase, pod, waits},
    world::{World, pods},
};

/// A node without images, and these pods.
async fn bare(pods: Vec<schemas::Object>) -> World {
    let mut world = World::new(FakeOptions {
        all_images: false,
        ..FakeOptions::default()
    });
    world.control.put(pods);
    world.start().await;
    world
}

fn one(container: Value) -> Value {
    json!({"containers": [container]})
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_backs_off_until_it_can_be_pulled() {
    let world = bare(pods(0..1)).await;
    world
        .until("the pull failed", "p0", |report| waits(report) == "ErrImagePull")
        .await;
    let report = world
        .until("the pull is backed off", "p0", |report| {
            waits(report) == "ImagePullBackOff"
        })
        .await;
    assert_eq!(phase(&report), "Pending");
    world.runtime.add_to_registry("app:1");
    world.until("it runs", "p0", is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn bad_image_names_and_the_policy_never_say_so() {
    let world = bare(vec![
        pod("name", one(json!({"name": "app", "image": "Bad Name"}))),
        pod(
            "never",
            one(json!({"name": "app", "image": "app:1", "imagePullPolicy": "Never"})),
        ),
    ])
    .await;
    for (name, reason) in [("name", "InvalidImageName"), ("never", "ErrImageNeverPull")] {
        world.until(reason, name, |report| waits(report) == reason).await;
    }
    assert_eq!(world.runtime.count("pull"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_is_waited_for_and_then_used() {
    let mut world = World::new(FakeOptions::default());
    world.runtime.keep_requests();
    let spec = one(json!({
        "name": "app", "image": "app:1",
        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "a"}}}, {"name": "B", "value": "x-$(A)"}],
    }));
    world.control.put(vec![pod("p0", spec)]);
    world.start().await;
    world
        .until("it waits", "p0", |report| waits(report) == "CreateContainerConfigError")
        .await;
    world.control.put(vec![object(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "test", "uid": "uid-c"}, "data": {"a": "1"},
    }))]);
    world.until("it runs", "p0", is_ready).await;
    let id = world.container("p0", "app").id;
    assert_eq!(world.runtime.request(&id).expect("kept").env, ["A=1", "B=x-1"]);
}
