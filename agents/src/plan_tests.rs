use jiff::Timestamp;
use proptest::prelude::*;
use schemas::{Object, Uid};
use serde_json::{Value, json};

use super::*;
use crate::{
    backoff::Backoff,
    memory::{Trouble, TroubleKind},
    runtime::Exit,
};

fn now() -> Now {
    Now {
        wall: "2026-01-01T00:10:00Z".parse().expect("it is a time"),
        monotonic: Duration::from_secs(1000),
    }
}

fn pod(spec: Value) -> Pod {
    let object = Object::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ns", "uid": "uid-1"},
        "spec": spec,
    }));
    Pod::read(object.expect("it is an object")).expect("it is a pod")
}

fn one(policy: &str) -> Pod {
    pod(json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i:1"}]}))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).expect("it is a time")
}

fn running() -> Life {
    Life::Running { started: at(10) }
}

fn exited(code: i32) -> Life {
    Life::Exited(Exit {
        code,
        started: Some(at(10)),
        finished: at(20),
        oom_killed: false,
        error: None,
    })
}

fn container(pod: &Pod, name: &str, attempt: u32, life: Life) -> Container {
    Container {
        id: format!("{name}-{attempt}").into(),
        pod: Uid::from("uid-1"),
        key: pod.key.clone(),
        name: name.into(),
        attempt,
        role: pod.role(name),
        address: None,
        spec_hash: if name == INFRA {
            "".into()
        } else {
            pod.spec_hash(name).into()
        },
        image_id: "sha256:1".into(),
        joins: (pod.needs_infra() && name != INFRA).then(|| format!("{INFRA}-0").into()),
        life,
        message: None,
    }
}

fn look(pod: &Pod, wish: Wish, containers: &[Container], memory: &Memory) -> Plan {
    plan(&View {
        pod,
        wish,
        containers,
        memory,
        now: now(),
    })
}

/// A plan in short: `ensure a`, `create a.0`, `stop a-0|s-0`, `remove a-0`.
fn short(plan: &Plan) -> Vec<String> {
    plan.steps
        .iter()
        .map(|step| match &step.action {
            Action::Ensure { container } => format!("ensure {container}"),
            Action::Create { container, attempt } => format!("create {container}.{attempt}"),
            Action::Start { container, attempt } => format!("start {container}.{attempt}"),
            Action::PostStart { container, attempt } => format!("hook {container}.{attempt}"),
            Action::Stop { waves, .. } => {
                let waves: Vec<String> = waves.iter().map(|wave| wave.join(",")).collect();
                format!("stop {}", waves.join("|"))
            }
            Action::Remove { id } => format!("remove {id}"),
        })
        .collect()
}

#[test]
fn a_pod_of_one_container() {
    let cases: &[(&str, Vec<Life>, &[&str])] = &[
        ("Always", vec![], &["ensure a", "create a.0", "start a.0"]),
        ("Always", vec![Life::Created], &["start a.0"]),
        ("Always", vec![running()], &[]),
        ("Always", vec![exited(0)], &["ensure a", "create a.1", "start a.1"]),
        ("OnFailure", vec![exited(1)], &["ensure a", "create a.1", "start a.1"]),
        ("OnFailure", vec![exited(0)], &[]),
        ("Never", vec![exited(1)], &[]),
        ("Always", vec![exited(1), running()], &[]),
        ("Always", vec![exited(1), exited(1), running()], &["remove a-0"]),
        (
            "Always",
            vec![exited(1), exited(1)],
            &["ensure a", "create a.2", "start a.2", "remove a-0"],
        ),
    ];
    for (policy, lives, expected) in cases {
        let pod = one(policy);
        let containers: Vec<_> = lives
            .iter()
            .enumerate()
            .map(|(n, life)| container(&pod, "a", n as u32, life.clone()))
            .collect();
        let found = look(&pod, Wish::Run, &containers, &Memory::default());
        assert_eq!(short(&found), *expected, "{policy} {lives:?}");
    }
}

#[test]
fn back_off_waits_and_says_so() {
    let pod = one("Always");
    let mut memory = Memory::default();
    memory.entry("a").restart = Backoff {
        failures: 3,
        until: now().monotonic + Duration::from_secs(7),
    };
    let found = look(&pod, Wish::Run, &[container(&pod, "a", 2, exited(1))], &memory);
    assert_eq!(short(&found), [""; 0]);
    assert_eq!(found.waiting["a"].reason, "CrashLoopBackOff");
    assert_eq!(
        found.waiting["a"].message.as_deref(),
        Some("back-off 20s restarting failed container=a pod=p_ns")
    );
    assert_eq!(found.requeue_after, Some(Duration::from_secs(7)));

    let mut memory = Memory::default();
    let mut backoff = Backoff::default();
    backoff.fail(now().monotonic);
    backoff.fail(now().monotonic);
    memory.entry("a").trouble = Some(Trouble {
        kind: TroubleKind::Pull,
        message: "no".into(),
        backoff,
    });
    let found = look(&pod, Wish::Run, &[], &memory);
    assert_eq!(found.waiting["a"].reason, "ImagePullBackOff");
    assert_eq!(found.requeue_after, Some(Duration::from_secs(20)));
}

#[test]
fn only_a_changed_spec_replaces_a_container() {
    let old = one("Always");
    let new = pod(json!({"restartPolicy": "Always", "containers": [{"name": "a", "image": "i:2"}]}));
    let before = container(&old, "a", 0, running());
    assert_eq!(
        short(&look(
            &new,
            Wish::Run,
            std::slice::from_ref(&before),
            &Memory::default()
        )),
        ["stop a-0"]
    );
    let stopped = Container {
        life: exited(0),
        ..before
    };
    assert_eq!(
        short(&look(&new, Wish::Run, &[stopped], &Memory::default())),
        ["ensure a", "create a.1", "start a.1"]
    );
    // A change beside the containers replaces nothing.
    let tolerant = pod(json!({
        "restartPolicy": "Always", "containers": [{"name": "a", "image": "i:1"}], "tolerations": [{"key": "k"}]
    }));
    assert_eq!(
        short(&look(
            &tolerant,
            Wish::Run,
            &[container(&old, "a", 0, running())],
            &Memory::default()
        )),
        [""; 0]
    );
}

#[test]
fn several_containers_share_a_network_and_come_in_order() {
    let pod = pod(json!({
        "restartPolicy": "Always",
        "initContainers": [
            {"name": "i", "image": "i:1"},
            {"name": "s", "image": "i:1", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["t"]}}},
        ],
        "containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}],
    }));
    let infra = |life| container(&pod, INFRA, 0, life);
    let c = |name: &str, life| container(&pod, name, 0, life);
    let empty = Memory::default();
    let steps = |containers: &[Container], memory: &Memory| short(&look(&pod, Wish::Run, containers, memory));
    assert_eq!(
        steps(&[], &empty),
        [
            "ensure _infra",
            "create _infra.0",
            "start _infra.0",
            "ensure i",
            "create i.0",
            "start i.0"
        ]
    );
    assert_eq!(steps(&[infra(running()), c("i", running())], &empty), [""; 0]);
    let with_i = [infra(running()), c("i", exited(0))];
    assert_eq!(steps(&with_i, &empty), ["ensure s", "create s.0", "start s.0"]);
    let with_s = [infra(running()), c("i", exited(0)), c("s", running())];
    assert_eq!(steps(&with_s, &empty), [""; 0], "the sidecar has not started up");
    let mut started = Memory::default();
    started.entry("s").checks = Some((
        "s-0".into(),
        crate::memory::Checks {
            started: true,
            ready: true,
        },
    ));
    assert_eq!(
        steps(&with_s, &started),
        [
            "ensure a",
            "create a.0",
            "start a.0",
            "ensure b",
            "create b.0",
            "start b.0"
        ]
    );
    let whole = [
        infra(running()),
        c("i", exited(0)),
        c("s", running()),
        c("a", running()),
        c("b", running()),
    ];
    assert_eq!(steps(&whole, &started), [""; 0]);
    // A pruned init container is not run again beside its pod.
    assert_eq!(
        steps(
            &[
                infra(running()),
                c("s", running()),
                c("a", running()),
                c("b", running())
            ],
            &started
        ),
        [""; 0]
    );
    // Without its network, the whole pod starts over.
    let lost = [
        infra(exited(137)),
        c("i", exited(0)),
        c("s", running()),
        c("a", running()),
        c("b", running()),
    ];
    assert_eq!(
        steps(&lost, &started),
        [
            "stop a-0,b-0|s-0",
            "ensure _infra",
            "create _infra.1",
            "start _infra.1",
            "ensure i",
            "create i.1",
            "start i.1",
            "remove _infra-0"
        ]
    );
    let end = short(&look(&pod, Wish::End(Duration::from_secs(5)), &whole, &empty));
    assert_eq!(end[0], "stop a-0,b-0|s-0|_infra-0");
    assert_eq!(end.len(), 6);
}

#[test]
fn the_network_that_a_container_joined_tells_whether_it_counts() {
    let pod = pod(json!({
        "restartPolicy": "Always", "containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}],
    }));
    let joined = |name: &str, attempt, network: Option<&str>| Container {
        joins: network.map(Into::into),
        ..container(&pod, name, attempt, running())
    };
    let infra = [
        container(&pod, INFRA, 0, exited(137)),
        container(&pod, INFRA, 1, running()),
    ];
    let cases: &[(&str, [Container; 2], &[&str])] = &[
        (
            "of the network that is",
            [joined("a", 0, Some("_infra-1")), joined("b", 0, Some("_infra-1"))],
            &["remove _infra-0"],
        ),
        (
            "of the one before",
            [joined("a", 0, Some("_infra-0")), joined("b", 0, Some("_infra-1"))],
            &["stop a-0", "ensure a", "create a.1", "start a.1", "remove _infra-0"],
        ),
        (
            "a runtime that does not say",
            [joined("a", 0, None), joined("b", 0, None)],
            &["remove _infra-0"],
        ),
    ];
    for (name, containers, expected) in cases {
        let all: Vec<Container> = infra.iter().chain(containers).cloned().collect();
        assert_eq!(
            short(&look(&pod, Wish::Run, &all, &Memory::default())),
            *expected,
            "{name}"
        );
    }
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let spec = |policy: &str| {
        pod(json!({
            "restartPolicy": policy,
            "initContainers": [{"name": "i", "image": "i:1"}],
            "containers": [{"name": "a", "image": "i:1"}],
        }))
    };
    let never = spec("Never");
    let infra = |pod: &Pod| container(pod, INFRA, 0, running());
    let found = look(
        &never,
        Wish::Run,
        &[infra(&never), container(&never, "i", 0, exited(1))],
        &Memory::default(),
    );
    assert_eq!(short(&found), ["stop _infra-0"]);
    let always = spec("Always");
    let found = look(
        &always,
        Wish::Run,
        &[infra(&always), container(&always, "i", 0, exited(1))],
        &Memory::default(),
    );
    assert_eq!(short(&found), ["ensure i", "create i.1", "start i.1"]);
}

#[test]
fn ended_pods_and_lost_containers_are_left_alone() {
    let mut ended = one("Always");
    ended.object.status = Some(json!({"phase": "Failed"}).into());
    assert_eq!(short(&look(&ended, Wish::Run, &[], &Memory::default())), [""; 0]);
    let never = one("Never");
    let mut memory = Memory::default();
    memory.entry("a").attempt = Some(0);
    assert_eq!(
        short(&look(&never, Wish::Run, &[], &memory)),
        [""; 0],
        "it ran and was removed by hand"
    );
    let always = one("Always");
    assert_eq!(
        short(&look(&always, Wish::Run, &[], &memory)),
        ["ensure a", "create a.1", "start a.1"]
    );
    let gone = look(&always, Wish::End(Duration::ZERO), &[], &memory);
    assert!(gone.ended && gone.steps.is_empty());
}

/// Does what a plan says to a list of containers.
fn apply(pod: &Pod, containers: &mut Vec<Container>, plan: &Plan) {
    for step in &plan.steps {
        match &step.action {
            Action::Ensure { .. } | Action::PostStart { .. } => {}
            Action::Create {
                container: name,
                attempt,
            } => {
                assert!(
                    !containers
                        .iter()
                        .any(|known| known.name == *name && known.attempt == *attempt),
                    "{name}.{attempt} is made twice"
                );
                let mut made = container(pod, name, *attempt, Life::Created);
                if made.joins.is_some() {
                    made.joins = observed::latest(containers, INFRA).map(|infra| infra.id.clone());
                }
                containers.push(made);
            }
            Action::Start {
                container: name,
                attempt,
            } => {
                let init = pod.init().iter().any(|spec| spec.name == **name && !is_sidecar(spec));
                let found = containers
                    .iter_mut()
                    .find(|known| known.name == *name && known.attempt == *attempt);
                let found = found.expect("what is started was made");
                found.life = if init { exited(0) } else { running() };
            }
            Action::Stop { waves, .. } => {
                for id in waves.iter().flatten() {
                    let found = containers
                        .iter_mut()
                        .find(|known| known.id == *id)
                        .expect("it is there");
                    found.life = exited(143);
                }
            }
            Action::Remove { id } => containers.retain(|known| known.id != *id),
        }
    }
}

fn lives() -> impl Strategy<Value = Life> {
    prop_oneof![Just(Life::Created), Just(running()), Just(exited(0)), Just(exited(1))]
}

proptest! {
    #[test]
    fn an_applied_plan_leaves_an_empty_one(
        policy in prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")],
        mains in 1_usize..4,
        inits in prop::collection::vec(any::<bool>(), 0..3),
        found in prop::collection::vec((0_usize..7, 0_u32..4, lives(), any::<bool>(), 0_u32..4), 0..12),
        end in any::<bool>(),
    ) {
        let mut names: Vec<String> = Vec::new();
        let main: Vec<Value> = (0..mains).map(|n| { names.push(format!("m{n}")); json!({"name": format!("m{n}"), "image": "i:1"}) }).collect();
        let init: Vec<Value> = inits.iter().enumerate().map(|(n, sidecar)| {
            names.push(format!("i{n}"));
            let mut spec = json!({"name": format!("i{n}"), "image": "i:1"});
            if *sidecar { spec["restartPolicy"] = "Always".into(); }
            spec
        }).collect();
        let pod = pod(json!({"restartPolicy": policy, "containers": main, "initContainers": init}));
        names.push(INFRA.to_owned());
        let mut containers: Vec<Container> = Vec::new();
        for (name, attempt, life, changed, network) in found {
            let name = &names[name % names.len()];
            if containers.iter().any(|known| *known.name == **name && known.attempt == attempt) {
                continue;
            }
            let mut made = container(&pod, name, attempt, life);
            made.joins = made.joins.map(|_| format!("{INFRA}-{network}").into());
            if changed && name != INFRA {
                made.spec_hash = "other".into();
            }
            containers.push(made);
        }
        // Only the newest attempt of a container can be alive.
        let newest: Vec<(Arc<str>, u32)> = containers.iter().map(|c| (c.name.clone(), c.attempt)).collect();
        for container in &mut containers {
            if newest.iter().any(|(name, attempt)| *name == container.name && *attempt > container.attempt) {
                container.life = exited(1);
            }
        }
        let wish = if end { Wish::End(Duration::from_secs(1)) } else { Wish::Run };
        let memory = Memory::default();
        let before = containers.clone();
        let mut last = Plan::default();
        for _ in 0..30 {
            last = look(&pod, wish, &containers, &memory);
            if last.steps.is_empty() {
                break;
            }
            apply(&pod, &mut containers, &last);
        }
        prop_assert!(last.steps.is_empty(), "there is no end to it: {:?} {containers:#?}", short(&last));
        if end {
            prop_assert!(last.ended && containers.is_empty());
            return Ok(());
        }
        // What ran as it should goes on running, unless it lost its network or its pod has ended.
        let infra_ran = !pod.needs_infra() || before.iter().any(|c| c.role == Role::Infra && c.is_running());
        if infra_ran && policy == "Always" && inits.is_empty() {
            for container in before.iter().filter(|c| c.is_running() && *c.spec_hash == *pod.spec_hash(&c.name)) {
                let current = !pod.needs_infra() || observed::latest(&before, INFRA).is_some_and(|infra| container.joins.as_ref() == Some(&infra.id));
                if current && container.role != Role::Infra {
                    prop_assert!(containers.iter().any(|c| c.id == container.id && c.is_running()), "{} was ended", container.id);
                }
            }
        }
    }
}
