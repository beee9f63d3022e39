//! Any order of deletions, backups put back, lost change logs and restarts: only what was deleted goes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use schemas::Uid;

use crate::{
    harness::pod,
    world::{World, pass, simple, uid},
};

#[derive(Clone, Debug)]
enum Happening {
    Create(usize),
    Delete(usize),
    Backup,
    PutBack { noticed: bool },
    Expire,
    ServerRestarts,
    Cut,
    AgentRestarts,
    AgentStops,
    AgentStarts,
    Time,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (0_usize..6).prop_map(Happening::Create),
        3 => (0_usize..6).prop_map(Happening::Delete),
        1 => Just(Happening::Backup),
        2 => any::<bool>().prop_map(|noticed| Happening::PutBack { noticed }),
        2 => Just(Happening::Expire),
        1 => Just(Happening::ServerRestarts),
        1 => Just(Happening::Cut),
        2 => Just(Happening::AgentRestarts),
        1 => Just(Happening::AgentStops),
        1 => Just(Happening::AgentStarts),
        3 => Just(Happening::Time),
    ]
}

fn name(pod: usize) -> String {
    format!("p{pod}")
}

/// The pods that have a container which runs, and how many each has.
fn running(world: &World) -> BTreeMap<Uid, usize> {
    let mut all = BTreeMap::new();
    for found in world.alive() {
        let uid = found.labels["dev.towline.pod-uid"].as_str().into();
        *all.entry(uid).or_insert(0) += 1;
    }
    all
}

async fn play(happenings: &[Happening]) -> Result<(), TestCaseError> {
    let mut world = World::of(Vec::new()).await;
    let mut up = true;
    let mut backup = world.control.backup();
    // Deleted in some history or other, and what each history still has to remove.
    let mut deleted: BTreeSet<Uid> = BTreeSet::new();
    let mut seen: BTreeSet<Uid> = BTreeSet::new();
    for happening in happenings {
        match happening {
            Happening::Create(n) => world.control.put(vec![pod(&name(*n), simple())]),
            Happening::Delete(n) if world.control.has(&uid(&name(*n))) => {
                deleted.insert(uid(&name(*n)));
                world.control.remove(&[uid(&name(*n))]);
            }
            Happening::Backup => backup = world.control.backup(),
            Happening::PutBack { noticed } => world.control.restore(&backup, *noticed),
            Happening::Expire => world.control.expire(),
            Happening::ServerRestarts => world.control.restart(),
            Happening::Cut => world.control.cut(),
            Happening::AgentRestarts if up => world.restart().await,
            Happening::AgentStops if up => {
                world.stop().await;
                up = false;
            }
            Happening::AgentStarts if !up => {
                world.start().await;
                up = true;
            }
            Happening::Time => pass(20).await,
            _ => {}
        }
        let now = running(&world);
        for uid in &seen {
            prop_assert!(
                now.contains_key(uid) || deleted.contains(uid),
                "{uid} was removed without an order"
            );
        }
        prop_assert!(now.values().all(|count| *count == 1), "multiplied: {now:?}");
        seen.extend(now.into_keys());
    }
    if !up {
        world.start().await;
    }
    pass(90).await;
    let now = running(&world);
    let told: BTreeSet<Uid> = world
        .control
        .heartbeat_seen()
        .map(|beat| beat.unclaimed_pods.into_iter().map(|pod| pod.uid).collect())
        .unwrap_or_default();
    for n in 0..6 {
        let uid = uid(&name(n));
        let (bound, runs) = (world.control.has(&uid), now.contains_key(&uid));
        prop_assert!(!bound || runs, "{uid} is bound and does not run");
        prop_assert!(
            bound || !runs || told.contains(&uid),
            "{uid} runs, and nobody is told why"
        );
        prop_assert!(
            !(bound && told.contains(&uid)),
            "{uid} is bound and told to be unclaimed"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn only_what_was_deleted_goes(happenings in prop::collection::vec(happening(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(play(&happenings))?;
    }
}
