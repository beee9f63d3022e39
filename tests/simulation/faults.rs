//! What goes wrong, and what people do meanwhile: one thing a turn.

use std::{sync::atomic::Ordering, time::Duration};

use rand::Rng;
use schemas::{Key, Kind};
use store::Fault;

use crate::world::World;

/// Does one thing; in a run that is not rough, nothing that makes a ready pod unready.
pub(crate) async fn one(world: &mut World) {
    let number = world.rng.random_range(0..world.nodes.len());
    let chance = world.rng.random_range(0..if world.rough { 16 } else { 13 });
    let said = match chance {
        0 => {
            world.declared.image += 1;
            let taken = world.declare().await;
            format!("image {}: {taken}", world.declared.image)
        }
        1 => {
            world.declared.replicas = world.rng.random_range(1..8);
            let taken = world.declare().await;
            format!("{} replicas: {taken}", world.declared.replicas)
        }
        2 => {
            world.declared.members = world.rng.random_range(1..4);
            world.declared.jobs = world.rng.random_range(1..3).max(world.declared.jobs);
            let taken = world.declare().await;
            format!("{:?}: {taken}", world.declared)
        }
        3 => {
            // A deletion above the budget, or its end.
            let few = world.declared.maps == 10;
            world.declared.maps = if few { 2 } else { 10 };
            let maps = (2..10).map(|number| Key::namespaced(Kind::ConfigMap, "conf", &format!("map-{number}")));
            world.watcher.lock().budgeted = maps.collect();
            let taken = world.declare().await;
            format!("{} maps: {taken}", world.declared.maps)
        }
        4 | 5 => {
            world.kill_server();
            "the server is killed".to_owned()
        }
        6 | 7 => {
            let after = world.rng.random_range(0..12);
            world.doom_server(after);
            format!("the server dies after {after} more commits")
        }
        8 => {
            let faults = [Fault::Refused, Fault::LostBefore, Fault::LostAfter];
            let fault = faults[world.rng.random_range(0..faults.len())];
            world.log.inject([fault]);
            format!("{fault:?}")
        }
        9 => {
            world.restart_agent(number).await;
            format!("the agent of node {number} starts anew")
        }
        10 => {
            let node = &world.nodes[number].control;
            node.repeats.store(true, Ordering::SeqCst);
            std::mem::take(&mut *node.streams.lock()).cancel();
            format!("the stream of node {number} breaks, and the next one says all twice")
        }
        11 => {
            world.nodes[number].control.loses.store(true, Ordering::SeqCst);
            format!("an answer to node {number} gets lost")
        }
        12 => {
            let by = world.rng.random_range(-7200..7200);
            world.time.ahead.fetch_add(by, Ordering::SeqCst);
            format!("the wall clock jumps by {by} s")
        }
        13 => {
            let control = &world.nodes[number].control;
            let cut = !control.cut.load(Ordering::SeqCst);
            control.cut.store(cut, Ordering::SeqCst);
            if cut {
                std::mem::take(&mut *control.streams.lock()).cancel();
            }
            format!("node {number} is cut off: {cut}")
        }
        14 => {
            let runtime = world.nodes[number].runtime.clone();
            let all = runtime.containers();
            match all.get(world.rng.random_range(0..all.len().max(1))) {
                Some(found) => {
                    runtime.exit(&found.id, 1, false);
                    format!("{} ends on node {number}", found.name)
                }
                None => "nothing to end".to_owned(),
            }
        }
        _ => {
            world.log.set_away(true);
            let time = Duration::from_millis(world.rng.random_range(1..20_000));
            world.pass(time).await;
            world.log.set_away(false);
            format!("the database was away for {time:?}")
        }
    };
    world.faults.push(said);
}

/// Everything works again.
pub(crate) async fn cease(world: &mut World) {
    world.faults.push("faults cease".to_owned());
    world.log.set_away(false);
    for node in &world.nodes {
        node.control.cut.store(false, Ordering::SeqCst);
    }
    world.declared.maps = 10;
    world.pass(Duration::from_secs(1)).await;
}
