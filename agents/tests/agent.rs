//! The agent on a fake runtime with a server in memory, faults included.

mod harness;

use std::{sync::Arc, time::Duration};

use agents::{
    fake::{Behaviour, FakeOptions, FakeRuntime, Op},
    memory_control::MemoryControl,
    runtime::{Found, Life, RuntimeError},
};
use harness::{Agent, TokioClock, deleting, is_ready, object, on_runtime, options, phase, pod, waits};
use schemas::{
    Key, Kind, Object, Uid,
    node::{LogOptions, SessionRequest},
};
use serde_json::{Value, json};

const RANGE: &str = "10.88.0.0/24";

struct World {
    runtime: Arc<FakeRuntime>,
    control: Arc<MemoryControl>,
    clock: Arc<TokioClock>,
}

impl World {
    fn new(fake: FakeOptions) -> Self {
        let clock = TokioClock::new();
        Self {
            runtime: FakeRuntime::new(fake, clock.clone()),
            control: MemoryControl::new("cluster-1"),
            clock,
        }
    }

    async fn agent(&self, state: Option<&std::path::Path>) -> Agent {
        let options = options(RANGE, state.map(Into::into));
        on_runtime(self.runtime.clone(), &self.control, self.clock.clone(), options).await
    }

    async fn running(&self, names: &[String]) {
        let uids: Vec<Uid> = names.iter().map(|name| format!("uid-{name}").as_str().into()).collect();
        self.control
            .until("all pods run and are ready", |all| {
                uids.iter().all(|uid| {
                    all.get(uid)
                        .is_some_and(|report| phase(report) == "Running" && is_ready(report))
                })
            })
            .await;
    }

    fn alive(&self) -> Vec<Found> {
        self.runtime
            .containers()
            .into_iter()
            .filter(|found| matches!(found.life, Life::Running { .. }))
            .collect()
    }
}

fn simple() -> Value {
    json!({"containers": [{"name": "app", "image": "app:1"}]})
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("p{n}")).collect()
}

fn pods(range: std::ops::Range<usize>) -> Vec<Object> {
    names(range).iter().map(|name| pod(name, simple())).collect()
}

/// Lets the agent come to rest.
async fn rest() {
    tokio::time::sleep(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn runs_what_is_bound_and_ends_what_is_deleted() {
    let world = World::new(FakeOptions::default());
    world.control.put(pods(0..3));
    let agent = world.agent(None).await;
    world.running(&names(0..3)).await;
    let report = world.control.report("uid-p0").expect("it was reported");
    let status = &report.status["containerStatuses"][0];
    assert_eq!(status["restartCount"], 0);
    assert!(
        status["containerID"]
            .as_str()
            .is_some_and(|id| id.starts_with("docker://"))
    );
    assert!(
        report.status["podIP"]
            .as_str()
            .is_some_and(|ip| ip.starts_with("10.88.0."))
    );
    let reasons: Vec<&str> = report.events.iter().map(|event| event.reason.as_str()).collect();
    assert_eq!(
        reasons,
        ["Pulled", "Created", "Started"],
        "one report carries the start and its events"
    );
    let mut ips: Vec<_> = names(0..3)
        .iter()
        .map(|name| world.control.report(&format!("uid-{name}")).expect("reported").status["podIP"].clone())
        .map(|ip| ip.to_string())
        .collect();
    ips.sort();
    ips.dedup();
    assert_eq!(ips.len(), 3, "addresses are not shared");

    world.control.put(vec![deleting(&pod("p1", simple()), 5)]);
    world
        .control
        .until("p1 has ended", |all| {
            all.get(&"uid-p1".into()).is_some_and(|report| report.terminated)
        })
        .await;
    assert_eq!(world.alive().len(), 2);
    world.control.remove(&["uid-p1".into()]);
    rest().await;
    assert_eq!(world.runtime.containers().len(), 2);
    agent.stop().await;
    assert_eq!(world.alive().len(), 2, "containers outlive their agent");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ends_comes_back_later_and_later() {
    let world = World::new(FakeOptions::default());
    world.runtime.set_behaviour(
        "app:1",
        Behaviour::Ends {
            after: Duration::from_millis(100),
            code: 3,
        },
    );
    world.control.put(pods(0..1));
    let agent = world.agent(None).await;
    let uid = Uid::from("uid-p0");
    world
        .control
        .until("it waits", |all| {
            all.get(&uid).is_some_and(|report| waits(report) == "CrashLoopBackOff")
        })
        .await;
    let report = world.control.report("uid-p0").expect("reported");
    let status = &report.status["containerStatuses"][0];
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(status["lastState"]["terminated"]["reason"], "Error");
    assert_eq!(status["restartCount"], 1, "the first restart comes at once");
    assert_eq!(phase(&report), "Running");
    // 10 s + 20 s + 40 s later there have been three more.
    tokio::time::sleep(Duration::from_secs(75)).await;
    assert_eq!(world.runtime.count("start"), 5);
    assert!(
        world.runtime.containers().len() <= 2,
        "one dead container is kept, older ones are not"
    );
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn restart_policies_decide_the_phase() {
    let world = World::new(FakeOptions::default());
    for (image, code) in [("good:1", 0), ("bad:1", 1)] {
        world.runtime.set_behaviour(
            image,
            Behaviour::Ends {
                after: Duration::from_millis(10),
                code,
            },
        );
    }
    let spec =
        |policy: &str, image: &str| json!({"restartPolicy": policy, "containers": [{"name": "app", "image": image}]});
    world.control.put(vec![
        pod("never-good", spec("Never", "good:1")),
        pod("never-bad", spec("Never", "bad:1")),
        pod("failure-good", spec("OnFailure", "good:1")),
        pod("failure-bad", spec("OnFailure", "bad:1")),
    ]);
    let agent = world.agent(None).await;
    world
        .control
        .until("the phases are right", |all| {
            let is = |name: &str, wanted: &str| all.get(&name.into()).is_some_and(|report| phase(report) == wanted);
            is("uid-never-good", "Succeeded")
                && is("uid-never-bad", "Failed")
                && is("uid-failure-good", "Succeeded")
                && all
                    .get(&"uid-failure-bad".into())
                    .is_some_and(|report| waits(report) == "CrashLoopBackOff")
        })
        .await;
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_backs_off_until_it_can_be_pulled() {
    let world = World::new(FakeOptions {
        all_images: false,
        ..FakeOptions::default()
    });
    world.control.put(pods(0..1));
    let agent = world.agent(None).await;
    let uid = Uid::from("uid-p0");
    let is = |reason: &'static str| {
        move |all: &std::collections::HashMap<Uid, schemas::node::PodReport>| {
            all.get(&Uid::from("uid-p0"))
                .is_some_and(|report| waits(report) == reason)
        }
    };
    world.control.until("the pull failed", is("ErrImagePull")).await;
    world
        .control
        .until("the pull is backed off", is("ImagePullBackOff"))
        .await;
    assert_eq!(phase(&world.control.report("uid-p0").expect("reported")), "Pending");
    world.runtime.add_to_registry("app:1");
    world
        .control
        .until("it runs", |all| all.get(&uid).is_some_and(is_ready))
        .await;
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn bad_image_names_and_the_policy_never_say_so() {
    let world = World::new(FakeOptions {
        all_images: false,
        ..FakeOptions::default()
    });
    world.control.put(vec![
        pod("name", json!({"containers": [{"name": "app", "image": "Bad Name"}]})),
        pod(
            "never",
            json!({"containers": [{"name": "app", "image": "app:1", "imagePullPolicy": "Never"}]}),
        ),
    ]);
    let agent = world.agent(None).await;
    world
        .control
        .until("both wait", |all| {
            let is = |name: &str, wanted: &str| all.get(&name.into()).is_some_and(|report| waits(report) == wanted);
            is("uid-name", "InvalidImageName") && is("uid-never", "ErrImageNeverPull")
        })
        .await;
    assert_eq!(world.runtime.count("pull"), 0);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_is_waited_for_and_then_used() {
    let world = World::new(FakeOptions::default());
    world.runtime.keep_requests();
    let spec = json!({"containers": [{
        "name": "app", "image": "app:1",
        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "a"}}}, {"name": "B", "value": "x-$(A)"}],
    }]});
    world.control.put(vec![pod("p0", spec)]);
    let agent = world.agent(None).await;
    let uid = Uid::from("uid-p0");
    world
        .control
        .until("it waits", |all| {
            all.get(&uid)
                .is_some_and(|report| waits(report) == "CreateContainerConfigError")
        })
        .await;
    world.control.put(vec![object(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "test", "uid": "uid-c"}, "data": {"a": "1"},
    }))]);
    world
        .control
        .until("it runs", |all| all.get(&uid).is_some_and(is_ready))
        .await;
    let id = world.alive()[0].id.clone();
    assert_eq!(world.runtime.request(&id).expect("kept").env, ["A=1", "B=x-1"]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_adopts_what_runs_also_without_a_server() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(FakeOptions::default());
    world.control.put(pods(0..3));
    let agent = world.agent(Some(dir.path())).await;
    world.running(&names(0..3)).await;
    let before = world.runtime.containers();
    let address = world.control.report("uid-p0").expect("reported").status["podIP"].clone();
    agent.stop().await;

    world.control.set_away(true);
    let agent = world.agent(Some(dir.path())).await;
    rest().await;
    assert_eq!(world.runtime.containers(), before, "nothing was touched");
    // Without a server, the agent goes on with what it last knew.
    let crashed = before
        .iter()
        .find(|found| found.labels.values().any(|value| value == "p0"))
        .expect("p0 runs");
    world.runtime.exit(&crashed.id, 1, false);
    rest().await;
    assert_eq!(world.alive().len(), 3, "it was restarted");
    assert_eq!(world.runtime.count("create"), 4);
    world.control.set_away(false);
    let uid = Uid::from("uid-p0");
    world
        .control
        .until("the restart is reported", |all| {
            all.get(&uid)
                .is_some_and(|report| report.status["containerStatuses"][0]["restartCount"] == 1)
        })
        .await;
    assert_eq!(
        world.control.report("uid-p0").expect("reported").status["podIP"],
        address,
        "the address stays"
    );
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_deleted_while_the_agent_was_away_are_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(FakeOptions::default());
    world.control.put(pods(0..10));
    let agent = world.agent(Some(dir.path())).await;
    world.running(&names(0..10)).await;
    agent.stop().await;
    world.control.remove(&["uid-p0".into(), "uid-p1".into()]);
    let agent = world.agent(Some(dir.path())).await;
    rest().await;
    assert_eq!(world.runtime.containers().len(), 8);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_another_history_does_not_know_stay_and_are_reported() {
    let world = World::new(FakeOptions::default());
    world.control.put(pods(0..4));
    let agent = world.agent(None).await;
    world.running(&names(0..4)).await;
    world.control.forget(&["uid-p0".into()], "second", 50);
    rest().await;
    // A second snapshot of the new history is no proof either: it never had the pod.
    world.control.forget(&[], "second", 60);
    rest().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.alive().len(), 4);
    let unclaimed = world.control.heartbeat_seen().expect("it beats").unclaimed;
    assert_eq!(unclaimed, ["test/p0/app"]);
    // Declared again, it is claimed again, and is still the same container.
    world.control.put(pods(0..1));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.control.heartbeat_seen().expect("it beats").unclaimed, [""; 0]);
    assert_eq!(world.runtime.count("create"), 4);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_older_snapshot_of_the_same_history_removes_nothing() {
    let world = World::new(FakeOptions::default());
    world.control.put(pods(0..4));
    let agent = world.agent(None).await;
    world.running(&names(0..4)).await;
    world.control.forget(&["uid-p0".into()], "first", 1);
    rest().await;
    assert_eq!(world.alive().len(), 4);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn most_of_a_node_does_not_vanish_unasked() {
    let world = World::new(FakeOptions::default());
    world.control.put(pods(0..20));
    let agent = world.agent(None).await;
    world.running(&names(0..20)).await;
    let uids = |range: std::ops::Range<usize>| {
        names(range)
            .iter()
            .map(|name| Uid::from(format!("uid-{name}").as_str()))
            .collect::<Vec<_>>()
    };
    world.control.remove(&uids(0..10));
    rest().await;
    assert_eq!(world.alive().len(), 20, "half of the node is kept");
    world.control.remove(&uids(10..12));
    rest().await;
    assert_eq!(world.alive().len(), 18, "a few are followed");
    // Marked one by one, any number may go.
    let marked: Vec<Object> = pods(12..20).iter().map(|pod| deleting(pod, 1)).collect();
    world.control.put(marked);
    world.control.remove(&uids(12..20));
    rest().await;
    assert_eq!(world.alive().len(), 10);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_means_unknown_and_live_restore_restarts_nothing() {
    let world = World::new(FakeOptions::default());
    world.control.put(pods(0..5));
    let agent = world.agent(None).await;
    world.running(&names(0..5)).await;
    let before = world.runtime.containers();
    let said = world.control.reports().len();
    world.runtime.set_away(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.control.reports().len(), said, "nothing is said of pods");
    let status = world.control.heartbeat_seen();
    world.runtime.set_away(false);
    rest().await;
    assert_eq!(world.runtime.containers(), before);
    assert_eq!(world.control.reports().len(), said);
    assert!(status.is_some());
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_live_restore_each_container_is_replaced_once() {
    let world = World::new(FakeOptions::default());
    world.control.put(pods(0..5));
    let agent = world.agent(None).await;
    world.running(&names(0..5)).await;
    world.runtime.stop_engine();
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.runtime.set_away(false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.alive().len(), 5);
    assert_eq!(world.runtime.count("create"), 10);
    for name in names(0..5) {
        let report = world.control.report(&format!("uid-{name}")).expect("reported");
        assert!(is_ready(&report));
        assert_eq!(report.status["containerStatuses"][0]["restartCount"], 1);
    }
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_the_middle_is_tried_again() {
    let world = World::new(FakeOptions::default());
    world
        .runtime
        .fail_next(Op::Create, RuntimeError::Refused("no space left on device".to_owned()));
    world
        .runtime
        .fail_next(Op::Start, RuntimeError::Refused("port is already allocated".to_owned()));
    world.control.put(pods(0..1));
    let agent = world.agent(None).await;
    let uid = Uid::from("uid-p0");
    world
        .control
        .until("it is told", |all| {
            all.get(&uid)
                .is_some_and(|report| waits(report) == "CreateContainerError")
        })
        .await;
    world
        .control
        .until("it runs", |all| all.get(&uid).is_some_and(is_ready))
        .await;
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_is_not_touched() {
    let world = World::new(FakeOptions::default());
    let foreign = |id: &str, labels: &[(&str, &str)]| Found {
        id: id.into(),
        name: id.into(),
        image: "x".into(),
        image_id: "x".into(),
        created: jiff::Timestamp::UNIX_EPOCH,
        labels: labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        life: Life::Running {
            started: jiff::Timestamp::UNIX_EPOCH,
        },
    };
    world.runtime.put(foreign("plain", &[]));
    world.runtime.put(foreign(
        "other-cluster",
        &[("dev.towline.cluster", "other"), ("dev.towline.pod-uid", "uid-p9")],
    ));
    world.control.put(pods(0..2));
    let first = world.agent(None).await;
    world.running(&names(0..2)).await;
    // A second agent, of another cluster, on the same engine.
    let other = MemoryControl::new("cluster-2");
    other.put(pods(5..6));
    let second = on_runtime(
        world.runtime.clone(),
        &other,
        world.clock.clone(),
        options("10.89.0.0/24", None),
    )
    .await;
    other
        .until("its pod runs", |all| all.get(&"uid-p5".into()).is_some_and(is_ready))
        .await;
    other.put(vec![deleting(&pod("p5", simple()), 1)]);
    other
        .until("its pod has ended", |all| {
            all.get(&"uid-p5".into()).is_some_and(|report| report.terminated)
        })
        .await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let mut left: Vec<String> = world.alive().iter().map(|found| found.id.to_string()).collect();
    left.sort();
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(left.contains(&"plain".to_owned()) && left.contains(&"other-cluster".to_owned()));
    first.stop().await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn logs_of_now_and_before() {
    let world = World::new(FakeOptions::default());
    world.control.put(pods(0..1));
    let agent = world.agent(None).await;
    world.running(&names(0..1)).await;
    let first = world.alive()[0].clone();
    world.runtime.exit(&first.id, 1, true);
    let uid = Uid::from("uid-p0");
    world
        .control
        .until("it was restarted", |all| {
            all.get(&uid)
                .is_some_and(|report| is_ready(report) && report.status["containerStatuses"][0]["restartCount"] == 1)
        })
        .await;
    let ask = |id: &'static str, options: LogOptions| {
        let control = world.control.clone();
        async move {
            let request = SessionRequest::Logs {
                id: id.to_owned(),
                pod: Key::namespaced(Kind::Pod, "test", "p0"),
                uid: "uid-p0".into(),
                options,
            };
            let answer = control.ask(id, request).await.expect("an agent listens");
            answer.map(|bytes| String::from_utf8(bytes).expect("it is text"))
        }
    };
    let now = ask(
        "1",
        LogOptions {
            tail_lines: Some(1),
            ..LogOptions::default()
        },
    )
    .await
    .expect("there is a log");
    assert!(now.contains(".1 line 3") && now.lines().count() == 1, "{now}");
    let before = ask(
        "2",
        LogOptions {
            previous: true,
            limit_bytes: Some(10),
            ..LogOptions::default()
        },
    )
    .await
    .expect("there is one");
    assert_eq!(before.len(), 10);
    let refused = ask(
        "3",
        LogOptions {
            container: Some("x".to_owned()),
            ..LogOptions::default()
        },
    )
    .await;
    assert_eq!(refused.expect_err("there is no such container").status, 400);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn probes_gate_readiness_and_end_what_is_not_alive() {
    let world = World::new(FakeOptions::default());
    let spec = json!({"containers": [{
        "name": "app", "image": "app:1",
        "readinessProbe": {"exec": {"command": ["ready"]}, "periodSeconds": 1},
        "livenessProbe": {"exec": {"command": ["alive"]}, "periodSeconds": 5, "failureThreshold": 1, "initialDelaySeconds": 60},
    }]});
    let bad = || agents::runtime::ExecResult {
        code: 1,
        output: "no".to_owned(),
    };
    world.runtime.next_exec(bad());
    world.control.put(vec![pod("p0", spec)]);
    let agent = world.agent(None).await;
    let uid = Uid::from("uid-p0");
    world
        .control
        .until("it runs, not ready", |all| {
            all.get(&uid)
                .is_some_and(|report| phase(report) == "Running" && !is_ready(report))
        })
        .await;
    world
        .control
        .until("it is ready", |all| all.get(&uid).is_some_and(is_ready))
        .await;
    tokio::time::sleep(Duration::from_secs(59)).await;
    // The next commands are a mixture of both probes; enough of them fail for both.
    for _ in 0..12 {
        world.runtime.next_exec(bad());
    }
    world
        .control
        .until("it was restarted", |all| {
            all.get(&uid)
                .is_some_and(|report| report.status["containerStatuses"][0]["restartCount"] == 1)
        })
        .await;
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_several_containers_starts_in_order_and_ends_whole() {
    let world = World::new(FakeOptions::default());
    world.runtime.set_behaviour(
        "init:1",
        Behaviour::Ends {
            after: Duration::from_secs(2),
            code: 0,
        },
    );
    world.runtime.keep_requests();
    let spec = json!({
        "initContainers": [{"name": "setup", "image": "init:1"}],
        "containers": [{"name": "a", "image": "app:1"}, {"name": "b", "image": "app:1"}],
    });
    world.control.put(vec![pod("p0", spec.clone())]);
    let agent = world.agent(None).await;
    world.running(&names(0..1)).await;
    let report = world.control.report("uid-p0").expect("reported");
    assert_eq!(
        report.status["initContainerStatuses"][0]["state"]["terminated"]["reason"],
        "Completed"
    );
    assert_eq!(world.alive().len(), 3, "the network and two containers");
    world.control.put(vec![deleting(&pod("p0", spec), 5)]);
    let uid = Uid::from("uid-p0");
    world
        .control
        .until("it has ended", |all| {
            all.get(&uid).is_some_and(|report| report.terminated)
        })
        .await;
    assert!(world.runtime.containers().is_empty());
    agent.stop().await;
}
