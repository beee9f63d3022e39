//! Faults of the repository: none is an order to delete.

use std::fs;

use harness::{
    Cluster, PATIENCE, have_docker,
    manifests::{WEB_1, config_map, deployment},
    run_any,
    scene::with_web,
    wait,
};

/// Waits until `towline status` speaks of `words`.
fn wait_said(cluster: &Cluster, words: &str) {
    wait(&format!("the status to say {words:?}"), PATIENCE, || {
        let said = cluster.towline(&["status"]).map_err(|error| error.to_string())?;
        if said.contains(words) { Ok(()) } else { Err(said) }
    });
}

#[test]
fn a_deleted_branch_deletes_nothing() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let (cluster, running) = with_web(2)?;
    cluster.repository.git(&["checkout", "--quiet", "-b", "elsewhere"])?;
    cluster.repository.git(&["branch", "--quiet", "-D", "main"])?;
    wait_said(&cluster, "main");
    wait_said(&cluster, "source:");
    assert_eq!(cluster.running()?, running);

    cluster.repository.git(&["checkout", "--quiet", "-b", "main"])?;
    cluster.sync(0);
    assert_eq!(cluster.running()?, running);
    Ok(())
}

#[test]
fn a_repository_that_vanishes_deletes_nothing() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let (cluster, running) = with_web(2)?;
    let aside = cluster.dir.path().join("aside");
    fs::rename(&cluster.repository.dir, &aside)?;
    wait_said(&cluster, "source:");
    assert_eq!(cluster.running()?, running);
    fs::rename(&aside, &cluster.repository.dir)?;
    cluster.sync(0);
    assert_eq!(cluster.running()?, running);
    Ok(())
}

#[test]
fn a_force_push_to_unrelated_history_deletes_nothing() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let (cluster, running) = with_web(2)?;
    cluster.repository.git(&["checkout", "--quiet", "--orphan", "other"])?;
    cluster.repository.git(&["rm", "-r", "-f", "--quiet", "."])?;
    cluster
        .repository
        .write("namespaces/shop/settings.yaml", &config_map("settings", "a", "1"))?;
    let commit = cluster.repository.commit("Another history")?;
    cluster
        .repository
        .git(&["branch", "--quiet", "--force", "main", "other"])?;
    wait_said(&cluster, "unrelated");
    let said = cluster.sync(3);
    assert!(said.contains("confirm-deletes"), "{said}");
    assert_eq!(cluster.running()?, running);

    // The word for another commit is not taken, and the answer names the one that waits.
    let (code, said) = run_any(&mut cluster.command(&["sync", "--confirm-deletes", &"1".repeat(40)]))?;
    assert!(code == 2 && said.contains(&commit), "{code} {said}");
    let (code, said) = run_any(&mut cluster.command(&["sync", "--wait", "--confirm-deletes", &commit[..10]]))?;
    assert!(code == 0 && said.contains("confirmed"), "{code} {said}");
    cluster.wait_status(&commit, "converged");
    assert_eq!(cluster.wait_running(0), []);
    let maps = cluster.kubectl(&["get", "configmaps", "-n", "shop", "-o", "name"])?;
    // The authority's certificate is in every namespace.
    assert_eq!(maps.trim(), "configmap/kube-root-ca.crt\nconfigmap/settings");
    Ok(())
}

#[test]
fn a_folder_that_vanishes_is_held_until_confirmed() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 1, WEB_1))?;
    for number in 0..6 {
        cluster.repository.write(
            &format!("namespaces/shop/settings-{number}.yaml"),
            &config_map(&format!("settings-{number}"), "a", "1"),
        )?;
    }
    cluster
        .repository
        .write("namespaces/other/settings.yaml", &config_map("settings", "a", "1"))?;
    cluster.repository.commit("Begin")?;
    cluster.sync(0);
    let running = cluster.wait_running(1);

    cluster.repository.remove("namespaces/shop")?;
    let gone = cluster.repository.commit("Lose a folder")?;
    let said = cluster.sync(3);
    assert!(said.contains("confirm-deletes"), "{said}");
    assert_eq!(cluster.running()?, running);

    cluster.towline(&["sync", "--confirm-deletes", &gone])?;
    cluster.wait_running(0);
    cluster.sync(0);
    cluster.wait_status(&gone, "converged");
    Ok(())
}

#[test]
fn an_object_that_moves_is_not_deleted_while_its_new_namespace_is_broken() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    cluster
        .repository
        .write("namespaces/a/web.yaml", &deployment("web", 1, WEB_1))?;
    cluster
        .repository
        .write("namespaces/b/settings.yaml", &config_map("settings", "a", "1"))?;
    cluster.repository.commit("Begin")?;
    cluster.sync(0);
    let running = cluster.wait_running(1);

    cluster
        .repository
        .git(&["mv", "namespaces/a/web.yaml", "namespaces/b/web.yaml"])?;
    cluster.repository.write("namespaces/b/broken.yaml", "kind: [")?;
    cluster.repository.commit("Move web and break b")?;
    cluster.sync(3);
    assert_eq!(cluster.running()?, running);

    cluster.repository.remove("namespaces/b/broken.yaml")?;
    let mended = cluster.repository.commit("Mend b")?;
    cluster.sync(0);
    cluster.wait_status(&mended, "converged");
    wait("web to have moved", PATIENCE, || {
        let pods = cluster
            .kubectl(&["get", "pods", "--all-namespaces", "--no-headers"])
            .map_err(|error| error.to_string())?;
        let moved = pods.lines().count() == 1 && pods.starts_with("b ");
        if moved { Ok(()) } else { Err(pods) }
    });
    Ok(())
}
