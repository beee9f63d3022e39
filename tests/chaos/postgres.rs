//! A Postgres that is stopped, and one that is restored from an older copy.

use std::process::Command;

use harness::{
    PATIENCE, have_docker, run,
    scene::{declare_web, with_web},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

#[test]
fn a_stopped_postgres_is_started_again() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let (cluster, running) = with_web(1)?;

    // SIGINT is Postgres' fast shutdown.
    kill(Pid::from_raw(cluster.postgres_pid()?), Signal::SIGINT)?;
    // Reads go on from the copy in memory.
    cluster.kubectl(&["get", "pods", "-n", "shop"])?;
    let commit = declare_web(&cluster, 2, "One more")?;
    cluster.sync(0);
    let after = cluster.wait_running(2);
    assert!(after.contains(&running[0]), "{running:?}\n{after:?}");
    cluster.wait_status(&commit, "converged");
    Ok(())
}

#[test]
fn a_database_restored_from_an_older_copy_ends_in_the_declared_state() -> anyhow::Result<()> {
    restored(false)
}

/// Nothing beside the database says how far it had come, so the agent is who finds out.
#[test]
fn a_database_restored_onto_another_machine_ends_in_the_declared_state() -> anyhow::Result<()> {
    restored(true)
}

fn restored(alone: bool) -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let (mut cluster, running) = with_web(2)?;

    let data = cluster.data().join("postgres");
    let copy = cluster.dir.path().join("postgres-copy");
    cluster.stop()?;
    run(Command::new("cp").arg("-a").arg(&data).arg(&copy))?;
    cluster.launch()?;
    let commit = declare_web(&cluster, 3, "One more")?;
    cluster.sync(0);
    cluster.wait_running(3);

    cluster.stop()?;
    run(Command::new("rm").arg("-rf").arg(&data))?;
    run(Command::new("cp").arg("-a").arg(&copy).arg(&data))?;
    if alone {
        std::fs::remove_file(cluster.data().join("watermark"))?;
    }
    cluster.launch()?;
    cluster.sync(0);
    cluster.wait_status(&commit, "converged");
    // The pod that the older copy does not know is made anew. Its old container is not taken for an
    // orphan, because what named it may come back: it keeps running and is reported.
    let after = cluster.wait_running(4);
    assert!(
        running.iter().all(|container| after.contains(container)),
        "{running:?}\n{after:?}"
    );
    let pods = cluster.kubectl(&["get", "pods", "-n", "shop", "--no-headers"])?;
    assert_eq!(pods.matches("1/1").count(), 3, "{pods}");
    wait("the unclaimed container to be reported", PATIENCE, || {
        let nodes = cluster
            .kubectl(&["get", "nodes", "-o", "yaml"])
            .map_err(|error| error.to_string())?;
        if nodes.contains("UnclaimedContainers") {
            Ok(())
        } else {
            Err(nodes)
        }
    });
    // A restart of the agent in between changes nothing; a person decides.
    cluster.stop()?;
    cluster.launch()?;
    let left = wait("the unclaimed pod to be listed", PATIENCE, || {
        let listed = cluster
            .towline(&["unclaimed", "-o", "json"])
            .map_err(|error| error.to_string())?;
        let listed: Vec<Value> = serde_json::from_str(&listed).map_err(|error| error.to_string())?;
        match listed.as_slice() {
            [pod] => Ok(pod.clone()),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(cluster.towline(&["status"])?.contains("towline unclaimed"));
    let target = format!("{}/{}", cluster.node_name(), left["uid"].as_str().unwrap_or_default());
    cluster.towline(&["unclaimed", "--remove", &target])?;
    let after = cluster.wait_running(3);
    assert!(
        running.iter().all(|container| after.contains(container)),
        "{running:?}\n{after:?}"
    );
    let listed = cluster.towline(&["unclaimed"])?;
    assert!(listed.contains("belongs to a pod"), "{listed}");
    Ok(())
}
