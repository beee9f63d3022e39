//! Pods: the status that people know, from the states of the containers.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, Column, NAME,
    access::{Shown, age_of, body, condition, each, number, status as field, text as string, time},
    cells::row,
    text, wide,
};
use crate::age;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Ready", "How many containers are ready, of how many."),
    text("Status", "The phase, or what keeps the pod from it."),
    text("Restarts", "How often containers were restarted, and when last."),
    AGE,
    wide("IP", "The pod's address."),
    wide("Node", "The node that runs the pod."),
    wide("Nominated Node", "The node that is being cleared for the pod."),
    wide("Readiness Gates", "How many readiness gates hold, of how many."),
];

/// What the table says of a pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PodStatus {
    pub ready: usize,
    pub containers: usize,
    pub reason: String,
    pub restarts: i64,
    pub restarted: Option<Timestamp>,
}

/// A container's state in one word; None where it runs or nothing is known.
fn stopped(state: &Value) -> Option<String> {
    if let Some(waiting) = state.get("waiting") {
        return string(waiting.get("reason")).map(str::to_owned);
    }
    let terminated = state.get("terminated")?;
    let signal = number(terminated.get("signal"));
    Some(match string(terminated.get("reason")) {
        Some(reason) => reason.to_owned(),
        None if signal != 0 => format!("Signal:{signal}"),
        None => format!("ExitCode:{}", number(terminated.get("exitCode"))),
    })
}

fn is_running(container: &Value) -> bool {
    container.pointer("/state/running").is_some()
}

fn is_ready(container: &Value) -> bool {
    container.get("ready").and_then(Value::as_bool) == Some(true)
}

/// Counts restarts and remembers the latest.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += number(container.get("restartCount"));
        let finished = time(container.pointer("/lastState/terminated/finishedAt"));
        self.last = self.last.max(finished);
    }
}

/// Reads what the table says from the pod's status.
#[must_use]
pub(super) fn status(pod: &Shown<'_>) -> PodStatus {
    let sidecars: Vec<&str> = each(body(pod, "/spec/initContainers"))
        .filter(|init| string(init.get("restartPolicy")) == Some("Always"))
        .filter_map(|init| string(init.get("name")))
        .collect();
    let containers = each(body(pod, "/spec/containers")).count() + sidecars.len();
    let inits = each(body(pod, "/spec/initContainers")).count();

    let phase = string(field(pod, "/phase")).unwrap_or("Pending");
    let mut reason = string(field(pod, "/reason")).unwrap_or(phase).to_owned();
    let gated = each(field(pod, "/conditions")).any(|condition| {
        string(condition.get("type")) == Some("PodScheduled")
            && string(condition.get("reason")) == Some("SchedulingGated")
    });
    if gated {
        reason = "SchedulingGated".to_owned();
    }

    let mut ready = 0;
    let (mut of_inits, mut of_containers, mut of_sidecars) =
        (Restarts::default(), Restarts::default(), Restarts::default());
    let mut initializing = false;
    for (index, init) in each(field(pod, "/initContainerStatuses")).enumerate() {
        let sidecar = string(init.get("name")).is_some_and(|name| sidecars.contains(&name));
        of_inits.add(init);
        if sidecar {
            of_sidecars.add(init);
        }
        let state = init.get("state").unwrap_or(&Value::Null);
        let terminated = state.get("terminated");
        if terminated.is_some_and(|ended| number(ended.get("exitCode")) == 0) {
            continue;
        }
        if sidecar && init.get("started").and_then(Value::as_bool) == Some(true) {
            ready += usize::from(is_ready(init));
            continue;
        }
        reason = match stopped(state) {
            Some(word) if terminated.is_some() || word != "PodInitializing" => format!("Init:{word}"),
            _ => format!("Init:{index}/{inits}"),
        };
        initializing = true;
        break;
    }

    let restarts = if initializing && condition(pod, "Initialized") != Some("True") {
        of_inits
    } else {
        let mut running = false;
        let statuses: Vec<&Value> = each(field(pod, "/containerStatuses")).collect();
        // The first container has the last word.
        for container in statuses.iter().rev() {
            of_containers.add(container);
            if let Some(word) = container.get("state").and_then(stopped) {
                reason = word;
            } else if is_ready(container) && is_running(container) {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" && running {
            let whole = condition(pod, "Ready") == Some("True");
            reason = if whole { "Running" } else { "NotReady" }.to_owned();
        }
        of_containers.count += of_sidecars.count;
        of_containers.last = of_containers.last.max(of_sidecars.last);
        of_containers
    };

    if pod.is_deleting() {
        if string(field(pod, "/reason")) == Some("NodeLost") {
            reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            reason = "Terminating".to_owned();
        }
    }
    PodStatus {
        ready,
        containers,
        reason,
        restarts: restarts.count,
        restarted: restarts.last,
    }
}

pub(super) fn cells(pod: &Shown<'_>, now: Timestamp) -> Vec<Value> {
    let status = status(pod);
    let restarts = match status.restarted {
        Some(last) if status.restarts > 0 => {
            format!("{} ({} ago)", status.restarts, age::since(Some(last), now))
        }
        _ => status.restarts.to_string(),
    };
    let gates: Vec<&str> = each(body(pod, "/spec/readinessGates"))
        .filter_map(|gate| string(gate.get("conditionType")))
        .collect();
    let gates = if gates.is_empty() {
        "<none>".to_owned()
    } else {
        let hold = gates.iter().filter(|gate| condition(pod, gate) == Some("True")).count();
        format!("{hold}/{}", gates.len())
    };
    row![
        pod.name(),
        format!("{}/{}", status.ready, status.containers),
        status.reason,
        restarts,
        age_of(pod, now),
        string(field(pod, "/podIP")).unwrap_or("<none>"),
        pod.node.as_deref().unwrap_or("<none>"),
        string(field(pod, "/nominatedNodeName")).unwrap_or("<none>"),
        gates,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: Value, status: Value) -> schemas::Object {
        schemas::Object::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec, "status": status,
        }))
        .expect("a pod")
    }

    #[test]
    fn the_status_is_the_one_that_people_know() {
        let one = json!({"containers": [{"name": "c"}]});
        let two = json!({"containers": [{"name": "c"}, {"name": "d"}]});
        let init = json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
        let sidecar = json!({
            "containers": [{"name": "c"}], "initContainers": [{"name": "i", "restartPolicy": "Always"}],
        });
        let running = json!({"name": "c", "ready": true, "state": {"running": {}}});
        let crash = json!({
            "name": "c", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        });
        let done = json!({"name": "c", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        for (spec, status_value, reason, ready, restarts) in [
            (&one, json!({"phase": "Pending"}), "Pending", "0/1", 0),
            (
                &one,
                json!({"phase": "Pending", "containerStatuses": [
                    {"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}]}),
                "ContainerCreating",
                "0/1",
                0,
            ),
            (
                &one,
                json!({"phase": "Running", "containerStatuses": [running]}),
                "Running",
                "1/1",
                0,
            ),
            (
                &one,
                json!({"phase": "Running", "containerStatuses": [crash]}),
                "CrashLoopBackOff",
                "0/1",
                3,
            ),
            (
                &one,
                json!({"phase": "Succeeded", "containerStatuses": [done]}),
                "Completed",
                "0/1",
                0,
            ),
            (
                &one,
                json!({"phase": "Failed", "containerStatuses": [
                    {"name": "c", "state": {"terminated": {"exitCode": 1, "signal": 9}}}]}),
                "Signal:9",
                "0/1",
                0,
            ),
            (
                &two,
                json!({"phase": "Running", "containerStatuses": [running, done]}),
                "NotReady",
                "1/2",
                0,
            ),
            (
                &one,
                json!({"phase": "Failed", "reason": "Evicted"}),
                "Evicted",
                "0/1",
                0,
            ),
            (
                &init,
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 0}}},
                    {"name": "j", "state": {"running": {}}}]}),
                "Init:1/2",
                "0/1",
                2,
            ),
            (
                &init,
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}),
                "Init:ImagePullBackOff",
                "0/1",
                0,
            ),
            (
                &init,
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "state": {"terminated": {"exitCode": 2}}}]}),
                "Init:ExitCode:2",
                "0/1",
                0,
            ),
            (
                &sidecar,
                json!({"phase": "Running", "containerStatuses": [running], "initContainerStatuses": [
                    {"name": "i", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}]}),
                "Running",
                "2/2",
                1,
            ),
        ] {
            let status = status(&Shown::from(&pod(spec.clone(), status_value.clone())));
            assert_eq!(status.reason, reason, "{status_value}");
            assert_eq!(
                format!("{}/{}", status.ready, status.containers),
                ready,
                "{status_value}"
            );
            assert_eq!(status.restarts, restarts, "{status_value}");
        }
    }

    #[test]
    fn a_deleted_pod_is_terminating_until_it_has_ended() {
        for (phase, reason) in [("Running", "Terminating"), ("Succeeded", "Succeeded")] {
            let mut pod = pod(json!({"containers": [{"name": "c"}]}), json!({"phase": phase}));
            pod.meta.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                Timestamp::UNIX_EPOCH,
            ));
            assert_eq!(status(&Shown::from(&pod)).reason, reason);
        }
    }

    #[test]
    fn restarts_say_when_the_last_one_was() {
        let pod = pod(
            json!({"containers": [{"name": "c"}]}),
            json!({"phase": "Running", "containerStatuses": [{
                "name": "c", "ready": true, "restartCount": 4, "state": {"running": {}},
                "lastState": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z"}}}]}),
        );
        let now = "2026-01-01T00:05:00Z".parse().expect("a time");
        assert_eq!(cells(&Shown::from(&pod), now)[3], "4 (5m ago)");
    }
}
