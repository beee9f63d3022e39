//! Settling: a container that nobody probes counts as ready the instant it starts, and may end the next.
//!
//! `Ready` and `Available` are as Kubernetes has them. What Towline itself concludes from a fresh start,
//! that a rollout has converged and that pods which work may go, waits a little.

use std::time::Duration;

use k8s_openapi::api::core::v1::PodSpec;
use schemas::Object;

use crate::pods;

/// So long must containers without a readiness probe have been up before their object is told as
/// converged.
const FIRST: Duration = Duration::from_secs(3);
/// So long must a pod have been up that has crashed before. It is less than a stall's pause, so that
/// one that crashes again and again goes on to stall.
const AFTER_CRASH: Duration = Duration::from_secs(10);
/// So long must a pod of a new template have been up, without a readiness probe, before a rollout
/// counts on it. What ends at once has ended by then; the pods of a healthy rollout wait for it side
/// by side, so that it costs one such time for each round and not for each pod.
const STEP: Duration = Duration::from_millis(500);

/// When (monotonic) an object with this pod may be told as converged; `since` is when the pod was
/// first seen ready, after its last restart.
pub(crate) fn converges_at(pod: &Object, since: Duration) -> Duration {
    since + wait(pod, FIRST)
}

/// When (monotonic) a rollout counts on a ready pod.
pub(crate) fn steady_at(pod: &Object, since: Duration) -> Duration {
    since + wait(pod, STEP)
}

fn wait(pod: &Object, unprobed: Duration) -> Duration {
    if pods::restarts(pod) > 0 {
        AFTER_CRASH
    } else if is_probed(pod) {
        Duration::ZERO
    } else {
        unprobed
    }
}

/// Every container has a readiness probe: being ready says something.
fn is_probed(pod: &Object) -> bool {
    let spec = pod.spec::<PodSpec>();
    spec.is_ok_and(|spec| {
        spec.containers
            .iter()
            .all(|container| container.readiness_probe.is_some())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(containers: Value, restarts: i32) -> Object {
        Object::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a", "uid": "u"},
            "spec": {"containers": containers},
            "status": {"containerStatuses": [{
                "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": restarts,
            }]},
        }))
        .expect("it is valid")
    }

    #[test]
    fn what_nobody_probes_and_what_has_crashed_settles_first() {
        let probed = json!({"name": "a", "image": "i", "readinessProbe": {"tcpSocket": {"port": 80}}});
        let plain = json!({"name": "b", "image": "i"});
        let since = Duration::from_secs(100);
        for (containers, restarts, converges, steady) in [
            (json!([probed]), 0, Duration::ZERO, Duration::ZERO),
            (json!([plain]), 0, FIRST, STEP),
            (json!([probed, plain]), 0, FIRST, STEP),
            (json!([probed]), 1, AFTER_CRASH, AFTER_CRASH),
            (json!([plain]), 7, AFTER_CRASH, AFTER_CRASH),
        ] {
            let pod = pod(containers.clone(), restarts);
            assert_eq!(converges_at(&pod, since), since + converges, "{containers} {restarts}");
            assert_eq!(steady_at(&pod, since), since + steady, "{containers} {restarts}");
        }
    }
}
