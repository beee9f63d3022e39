use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    tests::{container, exited, look, pod, running, short},
    *,
};
use crate::meddling::Meddling;

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
                    if found.meddling.take() != Some(Meddling::Revived) {
                        found.life = exited(143);
                    }
                }
            }
            Action::Remove { id } => containers.retain(|known| known.id != *id),
            Action::Unpause { id } | Action::Reconnect { id, .. } => {
                let found = containers.iter_mut().find(|known| known.id == *id);
                found.expect("it is there").meddling = None;
            }
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
        found in prop::collection::vec((0_usize..7, 0_u32..4, lives(), any::<bool>(), 0_u32..4, any::<bool>()), 0..12),
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
        for (name, attempt, life, changed, network, by_hand) in found {
            let name = &names[name % names.len()];
            if containers.iter().any(|known| *known.name == **name && known.attempt == attempt) {
                continue;
            }
            let mut made = container(&pod, name, attempt, life);
            made.joins = made.joins.map(|_| format!("{INFRA}-{network}").into());
            if changed && name != INFRA {
                made.spec_hash = "other".into();
            }
            if by_hand {
                made.address = matches!(made.role, Role::Infra | Role::Single).then_some([10, 0, 0, 2].into());
                made.meddling = match (&made.life, made.address) {
                    (Life::Created, _) => None,
                    (Life::Running { .. }, Some(_)) => Some(Meddling::Detached),
                    (Life::Running { .. }, None) => Some(Meddling::Paused { since: Duration::ZERO }),
                    (Life::Exited(_), _) => Some(Meddling::Revived),
                };
            }
            containers.push(made);
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
        for container in &containers {
            prop_assert!(container.meddling.is_none(), "{container:?}");
            let newer = containers.iter().any(|c| c.name == container.name && c.attempt > container.attempt);
            prop_assert!(!(newer && container.is_running()), "{} runs beside a newer one", container.id);
        }
        // What ran as it should goes on running, unless it lost its network or its pod has ended.
        let infra_ran = !pod.needs_infra() || observed::latest(&before, INFRA).is_some_and(Container::is_running);
        if infra_ran && policy == "Always" && inits.is_empty() {
            for container in before.iter().filter(|c| c.is_running() && *c.spec_hash == *pod.spec_hash(&c.name)) {
                let current = !pod.needs_infra() || observed::latest(&before, INFRA).is_some_and(|infra| container.joins.as_ref() == Some(&infra.id));
                let newest = !before.iter().any(|c| c.name == container.name && c.attempt > container.attempt);
                if current && newest && container.role != Role::Infra {
                    prop_assert!(containers.iter().any(|c| c.id == container.id && c.is_running()), "{} was ended", container.id);
                }
            }
        }
    }
}
