//! A Docker Engine that is stopped and started: unknown is never gone.

use harness::{
    Cluster, Engine, Options, PATIENCE, have_docker, have_engine,
    manifests::{WEB_1, deployment},
    wait,
};

fn restart(live_restore: bool) -> anyhow::Result<()> {
    if !have_docker() || !have_engine() {
        return Ok(());
    }
    let mut engine = Engine::start(live_restore)?;
    let cluster = Cluster::start_with(Options {
        docker: Some(engine.socket()),
        ..Options::default()
    })?;
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 2, WEB_1))?;
    let commit = cluster.repository.commit("Add web")?;
    cluster.sync(0);
    let before = cluster.wait_running(2);

    engine.stop()?;
    let pods = cluster.kubectl(&["get", "pods", "-n", "shop", "--no-headers"])?;
    assert_eq!(
        pods.lines().count(),
        2,
        "an engine that is away takes no pod away:\n{pods}"
    );
    engine.launch()?;

    if live_restore {
        cluster.sync(0);
        assert_eq!(cluster.containers()?, before, "live-restore: nothing is restarted");
    } else {
        // Each was ended by the engine: one new container each, the dead one kept for its log.
        wait("each container to be replaced once", PATIENCE, || {
            let all = cluster.containers().map_err(|error| error.to_string())?;
            let running = all.iter().filter(|container| container.state == "running").count();
            if running == 2 && all.len() == 4 {
                Ok(())
            } else {
                Err(format!("{all:#?}\n{}", cluster.log()))
            }
        });
        cluster.sync(0);
    }
    cluster.wait_status(&commit, "converged");
    drop(cluster);
    Ok(())
}

#[test]
fn with_live_restore_a_restart_of_docker_restarts_nothing() -> anyhow::Result<()> {
    restart(true)
}

#[test]
fn without_live_restore_each_container_is_replaced_once() -> anyhow::Result<()> {
    restart(false)
}
