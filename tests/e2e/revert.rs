//! `towline.dev/on-failure: revert`: a failed rollout goes back by a commit, once, and stays back.

use std::{process::Command, time::Duration};

use harness::{
    Cluster, Options, PATIENCE, binary, have_docker,
    manifests::{WEB_1, WEB_2, config_map, deployment},
    run_any, wait,
};

fn web(image: &str) -> String {
    deployment("web", 1, image)
        .replacen(
            "metadata:\n",
            "metadata:\n  annotations:\n    towline.dev/on-failure: revert\n",
            1,
        )
        .replacen("spec:\n", "spec:\n  progressDeadlineSeconds: 5\n", 1)
}

fn late(value: &str) -> String {
    config_map("late", "a", value).replacen(
        "metadata:\n",
        "metadata:\n  annotations:\n    towline.dev/wave: \"1\"\n",
        1,
    )
}

#[test]
fn a_failed_rollout_is_reverted_once_and_held_from_then_on() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let mut cluster = Cluster::start_with(Options {
        builtin: true,
        flags: vec!["--push-wait".to_owned(), "0".to_owned()],
        ..Options::default()
    })?;
    let push = |cluster: &Cluster, image: &str, value: &str, subject: &str| -> anyhow::Result<()> {
        let repository = &cluster.repository;
        repository.git(&["pull", "--quiet", "--rebase", "origin", "main"])?;
        repository.write("namespaces/back/web.yaml", &web(image))?;
        repository.write("namespaces/back/late.yaml", &late(value))?;
        repository.commit(subject)?;
        repository.git(&["push", "--quiet", "origin", "HEAD:main"])?;
        Ok(())
    };
    let reverts = |cluster: &Cluster| -> anyhow::Result<usize> {
        cluster.repository.git(&["fetch", "--quiet", "origin", "main"])?;
        let log = cluster.repository.git(&["log", "--format=%B", "origin/main"])?;
        Ok(log.matches("Reverted-Content: ").count())
    };
    let container = |cluster: &Cluster| -> anyhow::Result<Vec<String>> {
        let running = cluster.running()?;
        let own = running
            .into_iter()
            .filter(|container| container.name.contains("web") && container.image == WEB_1);
        Ok(own.map(|container| container.id).collect())
    };

    push(&cluster, WEB_1, "1", "A page")?;
    cluster.sync(0);
    let old = container(&cluster)?;
    assert!(!old.is_empty(), "{:#?}", cluster.running()?);

    // The later wave waits for what fails, and goes on once it is back.
    push(&cluster, "towline.local/none:1", "2", "A bad page")?;
    wait("the revert", PATIENCE, || match reverts(&cluster) {
        Ok(1) => Ok(()),
        other => Err(format!(
            "{other:?} {}",
            cluster.towline(&["status"]).unwrap_or_default()
        )),
    });
    cluster.sync(0);
    let log = cluster
        .repository
        .git(&["log", "-1", "--format=%s%n%b", "origin/main"])?;
    assert!(log.starts_with("Revert Deployment back/web to "), "{log}");
    assert!(log.contains("ProgressDeadlineExceeded"), "{log}");
    assert_eq!(
        cluster
            .repository
            .git(&["diff", "--name-only", "origin/main~1", "origin/main"])?
            .trim(),
        "namespaces/back/web.yaml"
    );
    let live = cluster.get(&["configmap", "late", "-n", "back"])?;
    assert_eq!(live["data"]["a"], "2", "the later wave went on");
    assert_eq!(container(&cluster)?, old, "what worked was not touched");

    // The same content again is held, and so it is after a kill.
    push(&cluster, "towline.local/none:1", "2", "The bad page again")?;
    let said = cluster.sync(3);
    let told = cluster.towline(&["status"])?;
    assert!(
        told.contains("BadContent: this content has failed at"),
        "{said}\n{told}"
    );
    assert!(told.contains("push another one"), "{told}");
    cluster.kill()?;
    cluster.launch()?;
    wait("the same after a kill", Duration::from_secs(60), || {
        let told = cluster.towline(&["status"]).map_err(|error| error.to_string())?;
        if told.contains("BadContent") { Ok(()) } else { Err(told) }
    });
    assert_eq!(reverts(&cluster)?, 1, "each content is reverted once");
    assert_eq!(container(&cluster)?, old);

    push(&cluster, WEB_2, "3", "A better page")?;
    cluster.sync(0);
    let running = cluster.running()?;
    assert!(running.iter().any(|container| container.image == WEB_2), "{running:#?}");
    assert_eq!(reverts(&cluster)?, 1);

    // What the annotation may say is checked where it is written.
    let folder = tempfile::tempdir()?;
    let shop = folder.path().join("namespaces/shop");
    std::fs::create_dir_all(&shop)?;
    std::fs::write(shop.join("web.yaml"), web(WEB_1).replace(": revert", ": undo"))?;
    let (code, said) = run_any(Command::new(binary("towline")).arg("validate").arg(folder.path()))?;
    assert!(
        code == 1 && said.contains("namespaces/shop/web.yaml:5:5: error"),
        "{code} {said}"
    );
    Ok(())
}
