//! Volumes outlive pods, go with their PersistentVolume, and are missed when somebody removes them.

use schemas::{
    Object,
    storage::{self, DockerVolume},
};
use serde_json::json;

use crate::{
    harness::{deleting, object, pod},
    world::{World, pass, uid},
};

const VOLUME: &str = "towline-v";

fn volume() -> Object {
    let docker = DockerVolume {
        name: VOLUME.to_owned(),
        node: "node".into(),
    };
    object(json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": "v", "uid": "uid-v", "finalizers": [storage::DOCKER_VOLUME]},
        "spec": {"csi": storage::source(&docker), "persistentVolumeReclaimPolicy": "Delete"},
    }))
}

fn claim() -> Object {
    object(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "test", "uid": "uid-c"}, "spec": {"volumeName": "v"},
    }))
}

fn user(name: &str) -> Object {
    let spec = json!({
        "containers": [{"name": "app", "image": "app:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    });
    pod(name, spec)
}

/// Ends a pod, and tells whether the next one missed its volume.
async fn next(world: &World, before: usize) -> bool {
    let (old, new) = (format!("p{before}"), format!("p{}", before + 1));
    world.control.put(vec![deleting(&user(&old), 1)]);
    world.ended(&old).await;
    world.control.remove(&[uid(&old)]);
    world.control.put(vec![user(&new)]);
    world.ready(before + 1..before + 2).await;
    let reports = world.control.reports();
    let mut events = reports
        .iter()
        .filter(|report| report.uid == uid(&new))
        .flat_map(|report| &report.events);
    events.any(|event| event.reason == "VolumeLost" && event.message.contains(VOLUME))
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_was_removed_by_hand_is_missed() {
    let mut world = World::of(vec![volume(), claim(), user("p0")]).await;
    world.ready(0..1).await;
    assert_eq!(world.runtime.volumes(), [VOLUME]);
    assert!(!next(&world, 0).await, "it was there");
    world.restart().await;
    world.runtime.lose_volume(VOLUME);
    assert!(next(&world, 1).await, "it was not there");
    assert!(!next(&world, 2).await, "once is enough");

    let mut gone = deleting(&volume(), 0);
    gone.version = 9;
    world.control.put(vec![deleting(&user("p3"), 1)]);
    world.ended("p3").await;
    world.control.put(vec![gone]);
    pass(10).await;
    assert_eq!(world.runtime.volumes(), [""; 0]);
    assert!(!world.state().join("volumes/uid-v").exists(), "nothing of it is kept");
}
