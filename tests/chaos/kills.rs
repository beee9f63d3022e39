//! `kill -9` of the server, of its Postgres and of both: nothing acknowledged is lost and no
//! container is restarted.

use harness::{
    Cluster, PATIENCE, have_docker,
    manifests::{WEB_1, WEB_2, deployment},
    scene::{declare_web, with_web},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[test]
fn a_clean_restart_adopts_every_container() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let (mut cluster, running) = with_web(2)?;
    cluster.stop()?;
    assert_eq!(cluster.running()?, running, "containers stay when towline ends");
    cluster.launch()?;
    cluster.sync(0);
    assert_eq!(cluster.containers()?, running);
    Ok(())
}

#[test]
fn kill_9_of_the_server_restarts_nothing() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let (mut cluster, running) = with_web(2)?;
    let postgres = cluster.postgres_pid()?;
    cluster.kill()?;
    cluster.launch()?;
    assert_eq!(
        cluster.postgres_pid()?,
        postgres,
        "the Postgres that was still alive is adopted"
    );
    cluster.sync(0);
    assert_eq!(cluster.containers()?, running);

    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 3, WEB_1))?;
    cluster.repository.commit("One more")?;
    cluster.sync(0);
    let after = cluster.wait_running(3);
    assert!(
        running.iter().all(|container| after.contains(container)),
        "{running:?}\n{after:?}"
    );
    Ok(())
}

#[test]
fn kill_9_of_postgres_loses_nothing() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let (cluster, running) = with_web(2)?;
    let before = cluster.postgres_pid()?;
    kill(Pid::from_raw(before), Signal::SIGKILL)?;
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 3, WEB_1))?;
    let commit = cluster.repository.commit("One more, while the database is away")?;
    cluster.sync(0);
    let after = cluster.wait_running(3);
    assert!(
        running.iter().all(|container| after.contains(container)),
        "{running:?}\n{after:?}"
    );
    assert_ne!(cluster.postgres_pid()?, before);
    cluster.wait_status(&commit, "converged");
    Ok(())
}

#[test]
fn kill_9_of_both_in_mid_rollout_ends_in_the_declared_state() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let (mut cluster, _) = with_web(3)?;
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 3, WEB_2))?;
    let commit = cluster.repository.commit("Roll out web 2")?;
    wait("the rollout to begin", PATIENCE, || {
        let running = cluster.running().map_err(|error| error.to_string())?;
        if running.iter().any(|container| container.image == WEB_2) {
            Ok(())
        } else {
            Err(format!("{running:?}"))
        }
    });
    let postgres = cluster.postgres_pid()?;
    cluster.kill()?;
    kill(Pid::from_raw(postgres), Signal::SIGKILL)?;
    cluster.launch()?;
    cluster.sync(0);
    let running = cluster.wait_running(3);
    assert!(running.iter().all(|container| container.image == WEB_2), "{running:?}");
    cluster.wait_status(&commit, "converged");
    Ok(())
}

#[test]
fn kill_9_at_many_moments_of_a_first_rollout_leaves_no_double_and_no_orphan() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let mut cluster = Cluster::start()?;
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 4, WEB_1))?;
    cluster.repository.commit("Add web")?;
    for seen in 0..3 {
        wait("the next container", PATIENCE, || {
            let count = cluster.containers().map_err(|error| error.to_string())?.len();
            if count > seen { Ok(()) } else { Err(count.to_string()) }
        });
        cluster.kill()?;
        cluster.launch()?;
    }
    cluster.sync(0);
    cluster.wait_running(4);
    let pods = cluster.kubectl(&["get", "pods", "-n", "shop", "--no-headers"])?;
    assert_eq!(pods.lines().count(), 4, "{pods}");
    Ok(())
}

/// The moments in the life of a commit after which nothing may be lost or done twice.
#[derive(Clone, Copy, Debug)]
enum Moment {
    RefUpdated,
    Recorded,
    Released,
}

#[test]
fn kill_9_between_ref_update_record_and_release_loses_and_doubles_nothing() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let (mut cluster, mut running) = with_web(1)?;
    let mut replicas = 1;
    for moment in [Moment::RefUpdated, Moment::Recorded, Moment::Released] {
        replicas += 1;
        let before = cluster.whole_log().len();
        if matches!(moment, Moment::RefUpdated) {
            // It cannot even look at the ref.
            cluster.freeze()?;
        }
        let commit = declare_web(&cluster, replicas, "One more")?;
        wait(&format!("{moment:?}"), PATIENCE, || {
            let log = cluster.whole_log();
            let reached = match moment {
                Moment::RefUpdated => true,
                Moment::Recorded => log[before..].contains("recorded"),
                Moment::Released => {
                    let web = cluster
                        .get(&["deployment", "web", "-n", "shop"])
                        .map_err(|error| error.to_string())?;
                    web["spec"]["replicas"] == replicas
                }
            };
            if reached { Ok(()) } else { Err(log[before..].to_owned()) }
        });
        cluster.kill()?;
        cluster.launch()?;
        cluster.sync(0);
        let after = cluster.wait_running(replicas as usize);
        assert!(
            running.iter().all(|container| after.contains(container)),
            "{moment:?}: {running:?}\n{after:?}"
        );
        let history = cluster.towline(&["history"])?;
        assert_eq!(history.matches(&commit[..10]).count(), 1, "{moment:?}:\n{history}");
        running = after;
    }
    Ok(())
}
