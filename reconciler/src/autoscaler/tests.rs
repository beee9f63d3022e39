use std::{sync::Arc, time::Duration};

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use proptest::prelude::*;
use schemas::{Kind, node::Used};
use serde_json::{Value, json};
use store::usage::{ContainerUsage, Sample};

use super::{
    Memory, Pod, World,
    behavior::{Behavior, Bounds},
    plan, replicas,
};
use crate::{plan::Plan, pods::condition_in, simulation::Simulation};

/// Whole numbers of a thousandth of a core.
const MILLI: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

struct Case {
    sim: Simulation,
    pods: Vec<Pod>,
    memory: Memory,
    failure: Option<String>,
}

fn deployment(replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "a"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "w"}}, "template": {
            "metadata": {"labels": {"app": "w"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    })
}

fn autoscaler(spec: Value) -> Value {
    let mut value = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "namespace": "a"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1, "maxReplicas": 100,
        },
    });
    for (field, part) in spec.as_object().into_iter().flatten() {
        value["spec"][field] = part.clone();
    }
    value
}

fn cpu(percent: i64) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {
        "type": "Utilization", "averageUtilization": percent}}})
}

/// How a pod stands in a case.
#[derive(Clone, Copy, Debug)]
enum State {
    Ready,
    /// It has been up for long, and was ready once.
    Unready,
    /// It was started this many seconds ago and became ready just now.
    Young(i64),
    Pending,
    Failed,
    Deleting,
}

impl Case {
    fn new(current: i32, spec: Value) -> Self {
        let mut sim = Simulation::new();
        sim.put(deployment(current));
        sim.put(autoscaler(spec));
        Self {
            sim,
            pods: Vec::new(),
            memory: Memory::default(),
            failure: None,
        }
    }

    /// Adds a pod that requests 1000m and 100 MiB in its one container, and what it uses: thousandths of a
    /// core and mebibytes.
    fn pod(mut self, state: State, used: Option<(u64, u64)>) -> Self {
        let now = self.sim.now;
        let ago = |seconds: i64| (now.wall - jiff::SignedDuration::from_secs(seconds)).to_string();
        let (ready, started, turned) = match state {
            State::Ready | State::Failed | State::Deleting => ("True", 3600, 3500),
            State::Unready => ("False", 3600, 100),
            State::Young(age) => ("True", age, 5),
            State::Pending => ("False", 3600, 3600),
        };
        let phase = match state {
            State::Pending => "Pending",
            State::Failed => "Failed",
            _ => "Running",
        };
        let name = format!("p{}", self.pods.len());
        let mut pod = self.sim.put(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a"},
            "spec": {"containers": [{"name": "c", "image": "i",
                "resources": {"requests": {"cpu": "1", "memory": "100Mi"}}}]},
        }));
        let changed = Arc::make_mut(&mut pod);
        changed.status = Some(
            json!({
                "phase": phase, "startTime": ago(started),
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": ago(turned)}],
            })
            .into(),
        );
        if matches!(state, State::Deleting) {
            changed.meta.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now.wall));
        }
        let seconds = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
        self.pods.push(Pod {
            object: pod,
            ready_since: (ready == "True").then(|| now.monotonic.saturating_sub(seconds(turned))),
            usage: used.map(|(cpu, memory)| Sample {
                at: now.wall,
                received: now.monotonic,
                window: Duration::from_secs(15),
                figures: [ContainerUsage {
                    name: "c".into(),
                    used: Used {
                        cpu: cpu * MILLI,
                        memory: memory * MIB,
                    },
                }]
                .into(),
            }),
        });
        self
    }

    fn pods(mut self, count: usize, used: (u64, u64)) -> Self {
        for _ in 0..count {
            self = self.pod(State::Ready, Some(used));
        }
        self
    }

    fn look(&mut self) -> Plan {
        let target = self.sim.all(Kind::Deployment).into_iter().next();
        let world = World {
            autoscaler: self.sim.get(Kind::HorizontalPodAutoscaler, "h"),
            target: target.ok_or_else(|| "there is no Deployment a/web".to_owned()),
            pods: self.pods.clone(),
            rivals: Vec::new(),
            memory: self.memory.clone(),
            failure: self.failure.clone(),
        };
        let plan = plan(&world, self.sim.now);
        self.sim.apply(&plan);
        if let Some(memory) = &plan.memory {
            self.memory = memory.clone();
        }
        plan
    }

    fn pass(&mut self, seconds: u64) {
        self.sim.now.monotonic += Duration::from_secs(seconds);
        self.sim.now.wall += Duration::from_secs(seconds);
    }

    fn replicas(&self) -> i32 {
        replicas(&self.sim.get(Kind::Deployment, "web"))
    }

    fn status(&self) -> Value {
        let autoscaler = self.sim.get(Kind::HorizontalPodAutoscaler, "h");
        autoscaler.status_value().unwrap_or_default()
    }

    fn reason(&self, condition: &str) -> String {
        let status = self.status();
        let told = condition_in(&status, condition).map(|it| format!("{} {}", it["status"], it["reason"]));
        told.unwrap_or_default().replace('"', "")
    }
}

/// Scales at once, as far as it likes, in both directions.
fn at_once() -> Value {
    let all = json!([{"type": "Percent", "value": 10_000, "periodSeconds": 15}]);
    json!({
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": all},
        "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]},
    })
}

#[test]
fn replicas_follow_the_metrics() {
    let average = |resource: &str, amount: &str| {
        json!({"type": "Resource", "resource": {"name": resource, "target": {
            "type": "AverageValue", "averageValue": amount}}})
    };
    let container = |name: &str| {
        json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": name, "target": {
            "type": "Utilization", "averageUtilization": 50}}})
    };
    for (what, metrics, pods, used, expected) in [
        ("twice the load, twice the pods", json!([cpu(50)]), 3, (1000, 10), 6),
        (
            "half the load, half the pods, rounded up",
            json!([cpu(50)]),
            3,
            (250, 10),
            2,
        ),
        ("within the tolerance, above", json!([cpu(50)]), 3, (549, 10), 3),
        ("within the tolerance, below", json!([cpu(50)]), 3, (451, 10), 3),
        ("just beyond the tolerance", json!([cpu(50)]), 3, (560, 10), 4),
        ("the average amount", json!([average("cpu", "200m")]), 2, (500, 10), 5),
        ("memory by amount", json!([average("memory", "50Mi")]), 2, (0, 100), 4),
        ("one container", json!([container("c")]), 2, (1000, 10), 4),
        (
            "the metric that needs most",
            json!([cpu(50), average("memory", "10Mi")]),
            2,
            (500, 50),
            10,
        ),
        ("nothing used", json!([cpu(50)]), 4, (0, 0), 1),
    ] {
        let spec = json!({"metrics": metrics, "behavior": at_once()});
        let mut case = Case::new(i32::try_from(pods).expect("few"), spec).pods(pods, used);
        case.look();
        assert_eq!(case.replicas(), expected, "{what}: {:#}", case.status());
        assert_eq!(case.reason("ScalingActive"), "True ValidMetricFound", "{what}");
    }
}

#[test]
fn what_is_not_known_holds_back_and_never_pushes() {
    use State::{Deleting, Failed, Pending, Ready, Unready, Young};
    for (what, current, pods, expected) in [
        (
            "a missing pod counts as idle on the way up",
            2,
            vec![(Ready, Some(1000)), (Ready, None)],
            2,
        ),
        (
            "and as busy on the way down",
            4,
            vec![
                (Ready, Some(100)),
                (Ready, Some(100)),
                (Ready, Some(100)),
                (Ready, None),
            ],
            3,
        ),
        (
            "a pending pod counts as idle on the way up",
            3,
            vec![(Ready, Some(1000)), (Ready, Some(1000)), (Pending, None)],
            4,
        ),
        (
            "and not at all on the way down",
            3,
            vec![(Ready, Some(250)), (Ready, Some(250)), (Pending, None)],
            1,
        ),
        (
            "the CPU of a start counts as none",
            2,
            vec![(Ready, Some(500)), (Young(60), Some(4000))],
            2,
        ),
        (
            "a pod that was ready once counts although it is not now",
            2,
            vec![(Ready, Some(1000)), (Unready, Some(1000))],
            4,
        ),
        (
            "what failed or goes is not counted",
            2,
            vec![
                (Ready, Some(1000)),
                (Failed, Some(9000)),
                (Deleting, Some(9000)),
                (Ready, Some(1000)),
            ],
            4,
        ),
    ] {
        let mut case = Case::new(current, json!({"metrics": [cpu(50)], "behavior": at_once()}));
        for (state, used) in pods {
            case = case.pod(state, used.map(|cpu| (cpu, 10)));
        }
        case.look();
        assert_eq!(case.replicas(), expected, "{what}: {:#}", case.status());
    }
}

#[test]
fn what_cannot_be_said_is_a_condition_and_changes_nothing() {
    let custom = json!({"type": "Pods", "pods": {"metric": {"name": "x"}, "target": {"type": "AverageValue", "averageValue": "1"}}});
    let other = json!({"type": "Resource", "resource": {"name": "gpu", "target": {"type": "Utilization", "averageUtilization": 1}}});
    let missing = json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "d", "target": {
        "type": "Utilization", "averageUtilization": 50}}});
    for (metrics, used, expected) in [
        (json!([cpu(50)]), None, "False FailedGetResourceMetric"),
        (json!([custom]), Some((500, 10)), "False FailedGetPodsMetric"),
        (json!([other]), Some((500, 10)), "False FailedGetResourceMetric"),
        (
            json!([missing]),
            Some((500, 10)),
            "False FailedGetContainerResourceMetric",
        ),
        // Less would do by what is known; but not all is known.
        (json!([cpu(50), custom]), Some((10, 10)), "False FailedGetPodsMetric"),
        // More is needed whatever the other says.
        (json!([cpu(50), custom]), Some((1000, 10)), "True ValidMetricFound"),
    ] {
        let spec = json!({"metrics": metrics, "behavior": at_once()});
        let mut case = Case::new(2, spec).pod(State::Ready, used).pod(State::Ready, used);
        let first = case.look();
        assert_eq!(case.reason("ScalingActive"), expected, "{metrics}");
        let active = expected.starts_with("True");
        assert_eq!(case.replicas(), if active { 4 } else { 2 }, "{metrics}");
        assert_eq!(first.notes.iter().any(|note| note.warning), !active, "{metrics}");
        let again = case.look();
        assert!(
            active || (again.is_empty() && again.notes.is_empty()),
            "{metrics}: it is told once"
        );
    }
}

#[test]
fn pods_without_requests_have_no_utilization() {
    let mut case = Case::new(1, json!({"metrics": [cpu(50)]})).pods(1, (500, 10));
    let pod = Arc::make_mut(&mut case.pods[0].object);
    let body = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
    pod.body = schemas::Body::new(body.as_object().expect("it is one").clone());
    case.look();
    let status = case.status();
    let active = condition_in(&status, "ScalingActive").expect("it is told");
    let message = active["message"].as_str().expect("it is text");
    assert!(message.contains("container c of pod p0 requests no cpu"), "{message}");
}

#[test]
fn bounds_zero_and_missing_targets() {
    let mut case = Case::new(7, json!({"maxReplicas": 5}));
    case.look();
    assert_eq!(
        (case.replicas(), case.reason("AbleToScale")),
        (5, "True SucceededRescale".into())
    );
    let mut case = Case::new(2, json!({"minReplicas": 3}));
    let plan = case.look();
    assert_eq!(case.replicas(), 3);
    assert_eq!(plan.notes[0].reason, "SuccessfulRescale");
    assert!(
        plan.notes[0].message.contains("New size: 3"),
        "{}",
        plan.notes[0].message
    );
    assert!(case.status()["lastScaleTime"].is_string());
    let mut case = Case::new(0, json!({"minReplicas": 3}));
    case.look();
    assert_eq!(
        (case.replicas(), case.reason("ScalingActive")),
        (0, "False ScalingDisabled".into())
    );
    let mut case = Case::new(1, json!({}));
    case.sim.objects.retain(|key, _| key.kind != Kind::Deployment);
    let plan = case.look();
    assert_eq!(case.reason("AbleToScale"), "False FailedGetScale");
    assert!(plan.notes[0].warning);
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(15)));
}

#[test]
fn of_two_autoscalers_of_one_target_none_acts() {
    let mut case = Case::new(2, json!({"minReplicas": 3}));
    let world = World {
        autoscaler: case.sim.get(Kind::HorizontalPodAutoscaler, "h"),
        target: Ok(case.sim.get(Kind::Deployment, "web")),
        pods: Vec::new(),
        rivals: vec![schemas::Key::namespaced(Kind::HorizontalPodAutoscaler, "a", "other")],
        memory: Memory::default(),
        failure: None,
    };
    let plan = plan(&world, case.sim.now);
    case.sim.apply(&plan);
    assert_eq!(
        (case.replicas(), case.reason("ScalingActive")),
        (2, "False AmbiguousSelector".into())
    );
}

#[test]
fn a_refused_change_is_told_before_it_is_tried_again() {
    let mut case = Case::new(2, json!({"minReplicas": 3}));
    case.failure = Some("no".into());
    let plan = case.look();
    assert_eq!(plan.steps.len(), 2);
    assert_eq!(case.reason("AbleToScale"), "False FailedUpdateScale");
    assert!(plan.memory.is_none(), "nothing was changed that could be remembered");
}

#[test]
fn by_default_up_is_quick_and_down_waits_for_five_minutes() {
    let mut case = Case::new(1, json!({"metrics": [cpu(50)]})).pods(1, (1_000_000, 10));
    case.look();
    assert_eq!(case.replicas(), 5, "four pods, or twice as many, in 15 s");
    assert_eq!(case.reason("ScalingLimited"), "True ScaleUpLimit");
    case.look();
    assert_eq!(case.replicas(), 5, "within the same period");
    case.pass(15);
    case.look();
    assert_eq!(case.replicas(), 10);
    // The load ends.
    case.pods.clear();
    let mut case = case.pods(10, (0, 10));
    for second in (15..=285).step_by(15) {
        case.pass(15);
        case.look();
        assert_eq!(
            (case.replicas(), case.reason("AbleToScale")),
            (10, "True ScaleDownStabilized".into()),
            "{second}"
        );
    }
    case.pass(15);
    case.look();
    assert_eq!(
        (case.replicas(), case.reason("ScalingLimited")),
        (1, "True TooFewReplicas".into())
    );
}

#[test]
fn a_server_that_takes_over_scales_nothing_down_at_once() {
    let mut case = Case::new(8, json!({"metrics": [cpu(50)]})).pods(8, (0, 10));
    case.look();
    assert_eq!(case.replicas(), 8);
    case.memory = Memory::default();
    case.pass(200);
    case.look();
    case.pass(200);
    case.look();
    assert_eq!(case.replicas(), 8, "another 300 s begin with the takeover");
    case.pass(100);
    case.look();
    assert_eq!(case.replicas(), 1);
}

fn behavior(value: Value) -> Behavior {
    let written: HorizontalPodAutoscalerBehavior = serde_json::from_value(value).expect("it is one");
    Behavior::of(Some(&written))
}

#[test]
fn policies_limit_what_happens_in_their_period() {
    let pods = |value: i32| json!({"type": "Pods", "value": value, "periodSeconds": 60});
    let percent = |value: i32| json!({"type": "Percent", "value": value, "periodSeconds": 60});
    for (up, down, wanted, expected, limit) in [
        (json!([pods(2)]), json!([]), 50, 12, Some("ScaleUpLimit")),
        (json!([pods(2), percent(50)]), json!([]), 50, 15, Some("ScaleUpLimit")),
        (json!([percent(1)]), json!([]), 50, 11, Some("ScaleUpLimit")),
        (json!([percent(900)]), json!([]), 50, 40, Some("TooManyReplicas")),
        (json!([]), json!([pods(2)]), 1, 8, Some("ScaleDownLimit")),
        (json!([]), json!([pods(2), percent(50)]), 1, 5, Some("ScaleDownLimit")),
        (json!([]), json!([percent(100)]), 1, 3, Some("TooFewReplicas")),
        (json!([]), json!([percent(100)]), 4, 4, None),
    ] {
        let rules = behavior(json!({
            "scaleUp": {"policies": up},
            "scaleDown": {"policies": down, "stabilizationWindowSeconds": 0},
        }));
        let bounds = Bounds { least: 3, most: 40 };
        let mut memory = Memory::default();
        let at = Duration::from_secs(1000);
        let settled = rules.settle(wanted, 10, bounds, &mut memory, at);
        assert_eq!((settled.replicas, settled.limit), (expected, limit), "{up} {down}");
        // What has changed within the period counts, and no longer after it.
        memory.change(expected - 10, at);
        let later = rules.settle(wanted, expected, bounds, &mut memory, at + Duration::from_secs(59));
        if limit.is_some_and(|limit| limit.starts_with("Scale")) {
            assert_eq!(later.replicas, expected, "{up} {down}");
        }
        let after = rules.settle(wanted, expected, bounds, &mut memory, at + Duration::from_secs(61));
        assert!(limit.is_none_or(|limit| limit.starts_with("Too")) || after.replicas != expected);
    }
    let least = behavior(json!({"scaleUp": {"selectPolicy": "Min", "policies": [pods(1), percent(100)]}}));
    let most = Bounds { least: 1, most: 99 };
    let settle = |rules: &Behavior, wanted| rules.settle(wanted, 10, most, &mut Memory::default(), Duration::ZERO);
    assert_eq!(settle(&least, 50).replicas, 11);
    let never = behavior(json!({"scaleDown": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0}}));
    assert_eq!(settle(&never, 1).replicas, 10);
}

#[test]
fn a_window_upwards_takes_the_lowest_recommendation() {
    let rules = behavior(json!({"scaleUp": {"stabilizationWindowSeconds": 60}}));
    let bounds = Bounds { least: 1, most: 99 };
    let mut memory = Memory::default();
    let at = Duration::from_secs(1000);
    memory.begin(2, at);
    let first = rules.settle(5, 2, bounds, &mut memory, at + Duration::from_secs(15));
    assert_eq!((first.replicas, first.stabilized), (2, Some("ScaleUpStabilized")));
    let later = rules.settle(6, 2, bounds, &mut memory, at + Duration::from_secs(61));
    assert_eq!((later.replicas, later.stabilized), (5, Some("ScaleUpStabilized")));
}

proptest! {
    /// Whatever the load, rules and history: within the bounds, in the direction of what is recommended,
    /// and a second look at the same time changes nothing more.
    #[test]
    fn a_look_stays_within_bounds_and_settles(
        current in 1..60i32,
        bounds in (1..20i32, 0..40i32),
        used in prop::collection::vec(prop::option::of(0..3000u64), 1..12),
        looks in prop::collection::vec(1..200u64, 1..6),
        target in 1..200i64,
    ) {
        let (least, most) = (bounds.0, bounds.0 + bounds.1);
        let spec = json!({"minReplicas": least, "maxReplicas": most, "metrics": [cpu(target)]});
        let mut case = Case::new(current, spec);
        for used in &used {
            case = case.pod(State::Ready, used.map(|cpu| (cpu, 1)));
        }
        for seconds in looks {
            let before = case.replicas();
            case.look();
            let after = case.replicas();
            prop_assert!((least..=most).contains(&after), "{after} of {least} to {most}");
            // Up at most by the default rules, once within the bounds.
            if (least..=most).contains(&before) {
                prop_assert!(after <= (before + 4).max(before * 2));
            }
            let status = case.status();
            prop_assert_eq!(&status["desiredReplicas"], &json!(after));
            if after == before {
                prop_assert!(case.look().is_empty(), "a second look at the same time has nothing to do");
            }
            case.pass(seconds);
        }
    }
}
