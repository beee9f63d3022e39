//! `towline server` and `towline agent` as processes of their own: neither's end ends a container.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use harness::{
    Agent, Cluster, Container, Options, PATIENCE, have_docker, have_kubectl,
    manifests::{WEB_1, config_map, deployment},
    run_any, wait,
};

#[test]
fn server_and_agent_live_and_die_apart() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let mut cluster = Cluster::start_with(Options {
        server_only: true,
        ..Options::default()
    })?;
    let mut agent = Agent::start(&cluster, "agent-1")?;
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 2, WEB_1))?;
    cluster.repository.commit("Add web")?;
    cluster.sync(0);
    let running = cluster.wait_running(2);

    // The agent is killed: the pods run on, and the next agent adopts them.
    agent.kill()?;
    assert_eq!(cluster.running()?, running);
    agent.launch()?;
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 3, WEB_1))?;
    cluster.repository.commit("One more")?;
    cluster.sync(0);
    let three = cluster.wait_running(3);
    assert!(
        running.iter().all(|container| three.contains(container)),
        "{running:?}\n{three:?}"
    );

    // Another machine does not get the node's name, and neither does a second agent of this one; it
    // touches nothing.
    let request = cluster.dir.path().join("request");
    fs::write(&request, "nothing")?;
    let token = fs::read_to_string(cluster.data().join("join-token"))?;
    let path = format!("/towline/v1/nodes/{}/certificate?machine=another", cluster.node_name());
    let (code, said) = run_any(
        Command::new("kubectl")
            .args(["--kubeconfig", "/dev/null", "--token", token.trim(), "--server"])
            .arg(format!("https://{}", cluster.listen()))
            .arg("--certificate-authority")
            .arg(cluster.data().join("ca.pem"))
            .args(["create", "--raw", &path, "--filename"])
            .arg(&request),
    )?;
    assert!(code == 1 && said.contains("held by another machine"), "{said}");
    let mut second = Agent::start(&cluster, "agent-2")?;
    wait("the second agent to be refused", PATIENCE, || {
        if second.log().contains("held by another agent of this machine") {
            Ok(())
        } else {
            Err(second.log())
        }
    });
    second.kill()?;
    assert_eq!(cluster.containers()?, three);

    // The server is killed: a container that ends is started again by the agent alone.
    cluster.kill()?;
    let victim = three[0].clone();
    cluster.docker(&["kill", &victim.id])?;
    let pod = |container: &Container| container.name.rsplit_once('.').map(|(pod, _)| pod.to_owned());
    let after = wait("the agent to start another", PATIENCE, || {
        let now = cluster.running().map_err(|error| error.to_string())?;
        if now.len() == 3 && !now.contains(&victim) {
            Ok(now)
        } else {
            Err(format!("{now:#?}\n{}", agent.log()))
        }
    });
    assert!(
        three[1..].iter().all(|container| after.contains(container)),
        "{three:?}\n{after:?}"
    );
    assert!(
        after.iter().any(|container| pod(container) == pod(&victim)),
        "{victim:?}\n{after:?}"
    );

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
        if counts == ["0", "0", "1"] {
            Ok(())
        } else {
            Err(format!("{counts:?}"))
        }
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

/// kubectl with no more than a client certificate, or with nothing at all.
fn as_node(cluster: &Cluster, files: Option<(&str, &str)>, arguments: &[&str]) -> anyhow::Result<(i32, String)> {
    let mut command = Command::new("kubectl");
    command
        .args(["--kubeconfig", "/dev/null", "--server"])
        .arg(format!("https://{}", cluster.listen()))
        .arg("--certificate-authority")
        .arg(cluster.data().join("ca.pem"))
        .stdin(Stdio::null());
    if let Some((certificate, key)) = files {
        command.args(["--client-certificate", certificate, "--client-key", key]);
    }
    run_any(command.args(arguments))
}

#[test]
fn a_nodes_certificate_sees_its_own_nodes_objects_only() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = Cluster::start_with(Options {
        server_only: true,
        ..Options::default()
    })?;
    let agent = Agent::start(&cluster, "agent-1")?;
    let node = cluster.node_name();
    // A pod here that names one ConfigMap, a pod of another node, and a Secret that nobody names.
    let pod = |name: &str, node: &str, rest: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: {node}\n  \
             terminationGracePeriodSeconds: 1\n  containers:\n    - name: c\n      image: {WEB_1}\n{rest}"
        )
    };
    let names = "      envFrom: [{configMapRef: {name: named}}]\n";
    cluster
        .repository
        .write("namespaces/shop/here.yaml", &pod("here", &node, names))?;
    cluster
        .repository
        .write("namespaces/shop/there.yaml", &pod("there", "elsewhere", ""))?;
    cluster
        .repository
        .write("namespaces/shop/named.yaml", &config_map("named", "a", "1"))?;
    cluster
        .repository
        .write("namespaces/shop/other.yaml", &config_map("other", "a", "1"))?;
    cluster.repository.commit("Pods here and there")?;
    cluster.wait_running(1);

    let (certificate, key) = agent.credentials(&cluster)?;
    let file = |name: &str, text: &str| -> anyhow::Result<String> {
        let path = cluster.dir.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let (certificate, key) = (file("node.crt", &certificate)?, file("node.key", &key)?);
    let files = Some((&*certificate, &*key));
    let own = format!("spec.nodeName={node}");
    for (arguments, code, words) in [
        (
            vec!["get", "pods", "-A", "--field-selector", &own, "-o", "name"],
            0,
            "pod/here",
        ),
        (vec!["get", "pod", "here", "-n", "shop", "-o", "name"], 0, "pod/here"),
        (vec!["get", "node", &node, "-o", "name"], 0, &*node),
        (
            vec!["get", "configmap", "named", "-n", "shop", "-o", "name"],
            0,
            "configmap/named",
        ),
        (vec!["get", "pods", "-A"], 1, "Forbidden"),
        (vec!["get", "pod", "there", "-n", "shop"], 1, "Forbidden"),
        (vec!["get", "configmap", "other", "-n", "shop"], 1, "Forbidden"),
        (vec!["get", "secrets", "-n", "shop"], 1, "Forbidden"),
        (vec!["get", "nodes"], 1, "Forbidden"),
        (vec!["get", "deployments", "-n", "shop"], 1, "Forbidden"),
        (
            vec!["delete", "pod", "there", "-n", "shop", "--wait=false"],
            1,
            "Forbidden",
        ),
        (vec!["get", "--raw", "/towline/v1/status"], 1, "Forbidden"),
        (
            vec!["get", "--raw", "/towline/v1/nodes/elsewhere/stream"],
            1,
            "Forbidden",
        ),
    ] {
        let (got, said) = as_node(&cluster, files, &arguments)?;
        assert!(
            got == code && said.contains(words),
            "{arguments:?}: {got}, not {code} {words}\n{said}"
        );
    }
    // Who shows nothing is asked who they are: kubectl does that after a 401.
    let (code, said) = as_node(&cluster, None, &["get", "--raw", "/api/v1/pods"])?;
    assert!(code == 1 && said.contains("Please enter Username"), "{said}");
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
    assert!(
        stranger.log().contains("401") || stranger.log().contains("Unauthorized"),
        "{}",
        stranger.log()
    );
    fs::write(cluster.data().join("join-token"), token)?;

    cluster.stop()?;
    let agent = Agent::start(&cluster, "agent-1")?;
    wait("the agent to wait", PATIENCE, || {
        if agent.log().contains("waiting for the server") {
            Ok(())
        } else {
            Err(agent.log())
        }
    });
    cluster.launch()?;
    wait("the node to be ready", PATIENCE, || {
        let nodes = cluster.kubectl(&["get", "nodes"]).map_err(|error| error.to_string())?;
        if nodes.contains(" Ready ") {
            Ok(())
        } else {
            Err(format!("{nodes}\n{}", agent.log()))
        }
    });
    Ok(())
}

#[test]
fn an_agent_installed_anew_gets_its_name_and_its_containers_back() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = Cluster::start_with(Options {
        server_only: true,
        ..Options::default()
    })?;
    let mut agent = Agent::start(&cluster, "agent-1")?;
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 2, WEB_1))?;
    cluster.repository.commit("Add web")?;
    cluster.sync(0);
    let running = cluster.wait_running(2);

    agent.kill()?;
    fs::remove_dir_all(cluster.dir.path().join("agent-1"))?;
    agent.launch()?;
    wait("the former agent to be alive for the server", PATIENCE, || {
        if agent.log().contains("held by another agent of this machine") {
            Ok(())
        } else {
            Err(agent.log())
        }
    });
    // 50 s after the former one was last heard of.
    wait("the new agent to take over", PATIENCE * 2, || {
        if agent.log().contains("connected to the server") {
            Ok(())
        } else {
            Err(agent.log())
        }
    });
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
    let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"])?;
    assert_eq!(nodes.lines().count(), 1, "{nodes}");
    Ok(())
}
