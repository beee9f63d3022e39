//! `towline server` and `towline agent` as processes of their own: neither's end ends a container.

use std::{fs, time::Duration};

use harness::{
    Agent, Cluster, Container, Options, PATIENCE, have_docker,
    manifests::{WEB_1, deployment},
    wait,
};

#[test]
fn server_and_agent_live_and_die_apart() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let mut cluster = Cluster::start_with(Options {
        server_only: true,
        ..Options::default()
    })?;
    let mut agent = Agent::start(&cluster, "agent-1")?;
    cluster.repository.write("namespaces/shop/web.yaml", &deployment("web", 2, WEB_1))?;
    cluster.repository.commit("Add web")?;
    cluster.sync(0);
    let running = cluster.wait_running(2);

    // The agent is killed: the pods run on, and the next agent adopts them.
    agent.kill()?;
    assert_eq!(cluster.running()?, running);
    agent.launch()?;
    cluster.repository.write("namespaces/shop/web.yaml", &deployment("web", 3, WEB_1))?;
    cluster.repository.commit("One more")?;
    cluster.sync(0);
    let three = cluster.wait_running(3);
    assert!(running.iter().all(|container| three.contains(container)), "{running:?}\n{three:?}");

    // Another agent with the node's name is refused, and touches nothing.
    let mut second = Agent::start(&cluster, "agent-2")?;
    let status = second.wait_end(Duration::from_secs(20));
    assert!(!status.success(), "{}", second.log());
    assert!(second.log().contains("held by another machine"), "{}", second.log());
    assert_eq!(cluster.containers()?, three);

    // The server is killed: a container that ends is started again by the agent alone.
    cluster.kill()?;
    let victim = three[0].clone();
    cluster.docker(&["kill", &victim.id])?;
    let pod = |container: &Container| container.name.rsplit_once(['.', '_', '-']).map(|(pod, _)| pod.to_owned());
    let after = wait("the agent to start another", PATIENCE, || {
        let now = cluster.running().map_err(|error| error.to_string())?;
        if now.len() == 3 && !now.contains(&victim) { Ok(now) } else { Err(format!("{now:#?}\n{}", agent.log())) }
    });
    assert!(three[1..].iter().all(|container| after.contains(container)), "{three:?}\n{after:?}");
    assert!(after.iter().any(|container| pod(container) == pod(&victim)), "{victim:?}\n{after:?}");

    // It comes back: nothing is restarted, and the restart is known.
    cluster.launch()?;
    cluster.sync(0);
    assert_eq!(cluster.running()?, after);
    wait("the restart to be counted", PATIENCE, || {
        let path = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
        let counts = cluster
            .kubectl(&["get", "pods", "-n", "shop", "-o", path])
            .map_err(|error| error.to_string())?;
        let mut counts: Vec<&str> = counts.split_whitespace().collect();
        counts.sort_unstable();
        if counts == ["0", "0", "1"] { Ok(()) } else { Err(format!("{counts:?}")) }
    });

    // Both at once.
    let before = cluster.running()?;
    agent.kill()?;
    cluster.kill()?;
    cluster.launch()?;
    agent.launch()?;
    cluster.sync(0);
    assert_eq!(cluster.running()?, before);
    Ok(())
}

#[test]
fn an_agent_needs_the_token_and_waits_for_its_server() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let mut cluster = Cluster::start_with(Options {
        server_only: true,
        ..Options::default()
    })?;
    let token = fs::read_to_string(cluster.data().join("join-token"))?;
    fs::write(cluster.data().join("join-token"), "guess\n")?;
    let mut stranger = Agent::start(&cluster, "stranger")?;
    let status = stranger.wait_end(Duration::from_secs(20));
    assert!(!status.success(), "{}", stranger.log());
    assert!(stranger.log().contains("401") || stranger.log().contains("Unauthorized"), "{}", stranger.log());
    fs::write(cluster.data().join("join-token"), token)?;

    cluster.stop()?;
    let agent = Agent::start(&cluster, "agent-1")?;
    wait("the agent to wait", PATIENCE, || {
        if agent.log().contains("waiting for the server") { Ok(()) } else { Err(agent.log()) }
    });
    cluster.launch()?;
    wait("the node to be ready", PATIENCE, || {
        let nodes = cluster.kubectl(&["get", "nodes"]).map_err(|error| error.to_string())?;
        if nodes.contains(" Ready ") { Ok(()) } else { Err(format!("{nodes}\n{}", agent.log())) }
    });
    Ok(())
}
