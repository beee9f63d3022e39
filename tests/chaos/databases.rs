//! One database under servers that go on running: it is set back under one, and shared by two.

use std::{fs, process::Stdio};

use harness::{
    Cluster, Options, PATIENCE, Postgres, have_docker, run_any,
    scene::{declare_web, with_web_and},
    wait,
};

fn over(postgres: &Postgres) -> Options {
    Options {
        flags: vec!["--database-url".to_owned(), postgres.url()],
        ..Options::default()
    }
}

#[test]
fn a_database_put_back_under_a_running_server_is_a_new_life() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let postgres = Postgres::start()?;
    let (cluster, running) = with_web_and(2, over(&postgres))?;
    let server = cluster.pid();
    postgres.stop()?;
    postgres.keep()?;
    postgres.launch()?;
    let commit = declare_web(&cluster, 3, "One more")?;
    cluster.sync(0);
    cluster.wait_running(3);
    // A client that watches from the newest version on.
    let list = cluster.get(&["pods", "-n", "shop"])?;
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let path = format!("/api/v1/namespaces/shop/pods?watch=1&timeoutSeconds=300&resourceVersion={version}");
    let mut watch = cluster.kubectl_command(&["get", "--raw", &path]);
    let watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;

    postgres.stop()?;
    postgres.put_back()?;
    postgres.launch()?;
    let seen = watch.wait_with_output()?;
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(
        seen.contains("\"code\":410"),
        "a watcher is told to list again:\n{seen}"
    );
    cluster.sync(0);
    cluster.wait_status(&commit, "converged");
    assert_eq!(cluster.pid(), server, "the server went on");
    // The pod that the older copy lacks is made anew; its container stays, for a person to decide on.
    let after = cluster.wait_running(4);
    assert!(
        running.iter().all(|container| after.contains(container)),
        "{running:?}\n{after:?}"
    );
    let pods = cluster.kubectl(&["get", "pods", "-n", "shop", "--no-headers"])?;
    assert_eq!(pods.matches("1/1").count(), 3, "{pods}");
    Ok(())
}

#[test]
fn an_agent_that_lost_how_far_it_was_removes_nothing_of_a_database_put_back() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let postgres = Postgres::start()?;
    let (mut cluster, running) = with_web_and(2, over(&postgres))?;
    cluster.stop()?;
    postgres.stop()?;
    postgres.keep()?;
    postgres.launch()?;
    cluster.launch()?;
    declare_web(&cluster, 3, "One more")?;
    cluster.sync(0);
    let before = cluster.wait_running(3);

    cluster.stop()?;
    postgres.stop()?;
    postgres.put_back()?;
    postgres.launch()?;
    fs::remove_file(cluster.data().join("watermark"))?;
    fs::remove_file(cluster.data().join("agent/head.json"))?;
    cluster.launch()?;
    cluster.sync(0);
    // Nobody can vouch for the third: it keeps running beside the one that is made anew.
    let after = cluster.wait_running(4);
    assert!(
        before.iter().all(|container| after.contains(container)),
        "{before:?}\n{after:?}"
    );
    assert!(running.iter().all(|container| after.contains(container)));
    Ok(())
}

#[test]
fn of_two_servers_on_one_database_one_leads() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let postgres = Postgres::start()?;
    let (mut first, running) = with_web_and(2, over(&postgres))?;
    // The second one has the key of the database, and the same repository.
    let second = Cluster::beside(&first, over(&postgres))?;
    let status = first.wait_end(PATIENCE);
    assert!(!status.success(), "{status}");
    let said = first.whole_log();
    assert!(said.contains("another server leads with this database now"), "{said}");

    let commit = declare_web(&second, 3, "One more")?;
    second.sync(0);
    wait("three pods, each once", PATIENCE, || {
        let (_, pods) = run_any(&mut second.kubectl_command(&["get", "pods", "-n", "shop", "--no-headers"]))
            .map_err(|error| error.to_string())?;
        if pods.lines().count() == 3 { Ok(()) } else { Err(pods) }
    });
    let history = second.towline(&["history"])?;
    assert_eq!(history.matches(&commit[..10]).count(), 1, "recorded once:\n{history}");
    let now = first.running()?;
    assert!(
        running.iter().all(|container| now.contains(container)),
        "{running:?}\n{now:?}"
    );
    Ok(())
}
