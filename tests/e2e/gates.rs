//! Waves and dependencies: who waits for whom, who is never stuck, and how a person ends it.

use harness::{
    Cluster, PATIENCE, have_docker,
    manifests::{WEB_1, config_map, deployment},
    run_any, wait,
};

/// A manifest with one annotation more.
fn annotated(manifest: &str, annotation: &str) -> String {
    manifest.replacen(
        "metadata:\n",
        &format!("metadata:\n  annotations:\n    {annotation}\n"),
        1,
    )
}

fn waits(cluster: &Cluster, word: &str) {
    wait(&format!("{word} in the status"), PATIENCE, || {
        let said = cluster.towline(&["status"]).map_err(|error| error.to_string())?;
        if said.contains(word) { Ok(()) } else { Err(said) }
    });
}

#[test]
fn a_stuck_wave_holds_later_ones_until_a_newer_commit_or_a_word() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let repository = &cluster.repository;
    let late = |value: &str| annotated(&config_map("late", "a", value), "towline.dev/wave: \"1\"");
    let there = |name: &str| cluster.get(&["configmap", name, "-n", "shop"]).is_ok();

    // The first wave has an image that nobody has; what is removed stays as well.
    repository.write("namespaces/shop/old.yaml", &config_map("old", "a", "1"))?;
    repository.commit("Something to remove later")?;
    cluster.sync(0);
    repository.remove("namespaces/shop/old.yaml")?;
    repository.write(
        "namespaces/shop/web.yaml",
        &deployment("web", 1, "towline.local/none:1"),
    )?;
    repository.write("namespaces/shop/late.yaml", &late("1"))?;
    repository.commit("A stuck first wave")?;
    waits(&cluster, "Wave: waits for Deployment shop/web");
    assert!(there("old") && !there("late"), "creates come before deletes");

    // A newer commit takes over at once: nothing waits for the old content.
    repository.write("namespaces/shop/web.yaml", &deployment("web", 1, WEB_1))?;
    let mended = repository.commit("An image that is there")?;
    cluster.sync(0);
    cluster.wait_status(&mended, "converged");
    assert!(there("late") && !there("old"));

    // A person lets one commit pass, and only the newest.
    repository.write(
        "namespaces/shop/web.yaml",
        &deployment("web", 1, "towline.local/none:2"),
    )?;
    repository.write("namespaces/shop/late.yaml", &late("2"))?;
    let stuck = repository.commit("Stuck again")?;
    waits(&cluster, "Wave: waits for Deployment shop/web");
    let (code, said) = run_any(&mut cluster.command(&["sync", "--skip-gates", &mended]))?;
    assert!(code != 0 && said.contains("not the newest commit"), "{code} {said}");
    cluster.towline(&["sync", "--skip-gates", &stuck[..10]])?;
    wait("the later wave", PATIENCE, || {
        let live = cluster.get(&["configmap", "late", "-n", "shop"]);
        let live = live.map_err(|error| error.to_string())?;
        if live["data"]["a"] == "2" {
            Ok(())
        } else {
            Err(live.to_string())
        }
    });
    Ok(())
}

#[test]
fn dependencies_are_checked_where_they_are_written_and_hold_nothing_else() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let repository = &cluster.repository;
    let depends =
        |name: &str, on: &str| annotated(&config_map(name, "a", "1"), &format!("towline.dev/depends-on: {on}"));
    repository.write("namespaces/shop/web.yaml", &depends("web", "ConfigMap/databse"))?;
    repository.write("namespaces/shop/database.yaml", &config_map("database", "a", "1"))?;
    repository.write("namespaces/ring/a.yaml", &depends("a", "ConfigMap/b"))?;
    repository.write("namespaces/ring/b.yaml", &depends("b", "ConfigMap/a"))?;
    repository.write("namespaces/free/map.yaml", &config_map("free", "a", "1"))?;
    let (code, said) = run_any(
        std::process::Command::new(harness::binary("towline"))
            .arg("validate")
            .arg(&repository.dir),
    )?;
    assert_eq!(code, 1, "{said}");
    for part in [
        "namespaces/shop/web.yaml:5:5: error: ConfigMap shop/web depends on ConfigMap shop/databse",
        "did you mean \"database\"?",
        "namespaces/ring/a.yaml:5:5: error: these depend on each other in a circle",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }

    repository.commit("Dependencies that lead nowhere")?;
    cluster.sync(3);
    let there = |space: &str, name: &str| cluster.get(&["configmap", name, "-n", space]).is_ok();
    assert!(there("free", "free"), "another namespace is not held");
    assert!(!there("shop", "web") && !there("ring", "a"));

    repository.write("namespaces/shop/web.yaml", &depends("web", "ConfigMap/database"))?;
    repository.write("namespaces/ring/b.yaml", &config_map("b", "a", "1"))?;
    repository.commit("Dependencies that lead somewhere")?;
    cluster.sync(0);
    assert!(there("shop", "web") && there("ring", "a"));
    Ok(())
}
