//! Bad manifests: each is refused or held with its place, hurts nothing else, and is forgotten once
//! it is mended.

use std::time::Duration;

use harness::{
    Cluster, have_docker,
    manifests::{WEB_1, config_map, deployment},
};

/// Writes `text` beside a good namespace and expects a held sync that names `place` and `words`.
fn held(text: &str, place: &str, words: &str) -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    cluster
        .repository
        .write("namespaces/good/settings.yaml", &config_map("settings", "a", "1"))?;
    cluster
        .repository
        .write("namespaces/bad/settings.yaml", &config_map("settings", "a", "1"))?;
    cluster.repository.commit("Begin")?;
    cluster.sync(0);

    cluster
        .repository
        .write("namespaces/good/settings.yaml", &config_map("settings", "a", "2"))?;
    cluster.repository.write("namespaces/bad/broken.yaml", text)?;
    let broken = cluster.repository.commit("Break it")?;
    let said = cluster.sync(3);
    assert!(said.contains(place) && said.contains(words), "{place} {words}\n{said}");
    let message = cluster.wait_status(&broken, "held");
    assert!(message.contains("Unit-Behind: bad@"), "{message}");
    let summary = cluster.repository.status_file("STATUS.md")?;
    assert!(summary.contains(place), "{summary}");
    // The broken namespace keeps what it had; the good one has moved on.
    assert_eq!(cluster.get(&["configmap", "settings", "-n", "bad"])?["data"]["a"], "1");
    assert_eq!(cluster.get(&["configmap", "settings", "-n", "good"])?["data"]["a"], "2");

    cluster.repository.remove("namespaces/bad/broken.yaml")?;
    let mended = cluster.repository.commit("Mend it")?;
    cluster.sync(0);
    cluster.wait_status(&mended, "converged");
    Ok(())
}

#[test]
fn broken_yaml_is_held_with_its_place() -> anyhow::Result<()> {
    held(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x\n",
        "namespaces/bad/broken.yaml:",
        "not valid YAML",
    )
}

#[test]
fn an_unknown_field_is_held_with_a_suggestion() -> anyhow::Result<()> {
    let text = deployment("web", 1, WEB_1).replace("replicas:", "replicsa:");
    held(&text, "namespaces/bad/broken.yaml:6:", "replicas")
}

#[test]
fn a_duplicate_is_held_and_names_both_places() -> anyhow::Result<()> {
    held(
        &config_map("settings", "a", "9"),
        "namespaces/bad/broken.yaml:",
        "namespaces/bad/settings.yaml",
    )
}

#[test]
fn a_missing_image_fails_and_the_mended_commit_converges() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    cluster.repository.write(
        "namespaces/shop/web.yaml",
        &deployment("web", 1, "127.0.0.1:9/nothing/here:1"),
    )?;
    let broken = cluster.repository.commit("Use an image that is not there")?;
    cluster.wait_status(&broken, "failed");
    let said = cluster.sync(1);
    assert!(said.contains("ImagePull"), "{said}");

    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 1, WEB_1))?;
    let mended = cluster.repository.commit("Use one that is")?;
    cluster.sync(0);
    cluster.wait_status(&mended, "converged");
    Ok(())
}

#[test]
fn a_container_that_exits_at_once_fails_the_rollout() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let text = deployment("web", 1, WEB_1).replace(
        "          image:",
        "          command: [\"sh\", \"-c\", \"echo gone; exit 3\"]\n          image:",
    );
    cluster.repository.write("namespaces/shop/web.yaml", &text)?;
    let broken = cluster.repository.commit("Exit at once")?;
    // Three crashes with back-off of 10 s and 20 s between them, then 30 s without a cure.
    cluster.wait_status_within(&broken, "failed", Duration::from_secs(120));
    let summary = cluster.repository.status_file("STATUS.md")?;
    assert!(summary.contains("CrashLoopBackOff"), "{summary}");
    Ok(())
}
