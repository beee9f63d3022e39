//! The command line: what it prints for scripts, and how it ends.

use std::process::Command;

use harness::{
    Cluster, Options, binary,
    manifests::{WEB_1, WEB_2, config_map, deployment},
    run, run_any,
};
use serde_json::Value;

fn towline(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("towline"));
    command
        .args(arguments)
        .env_remove("KUBECONFIG")
        .env_remove("TOWLINE_DATA_DIR");
    command
}

#[test]
fn what_needs_no_server() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().display().to_string();
    let shop = folder.path().join("namespaces/shop");
    std::fs::create_dir_all(&shop)?;
    std::fs::write(shop.join("web.yaml"), deployment("web", 1, WEB_1))?;
    let (code, said) = run_any(&mut towline(&["validate", &path]))?;
    assert_eq!(code, 0, "{said}");

    // Every error of every file, with its place.
    std::fs::write(
        shop.join("bad.yaml"),
        deployment("bad", 1, WEB_1).replace("replicas:", "replicsa:"),
    )?;
    std::fs::write(shop.join("worse.yaml"), "kind: [\n")?;
    let (code, said) = run_any(&mut towline(&["validate", &path]))?;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("namespaces/shop/bad.yaml:6:3: error: "), "{said}");
    assert!(said.contains("namespaces/shop/worse.yaml:"), "{said}");
    let (code, said) = run_any(&mut towline(&["validate", &path, "-o", "json"]))?;
    assert_eq!(code, 1, "{said}");
    serde_json::from_str::<Value>(&said)?;

    let schema: Value = serde_json::from_str(&run(&mut towline(&["schema", "deploy"]))?)?;
    assert!(!schema["definitions"]["io.k8s.api.apps.v1.Deployment"].is_null());
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            run(&mut towline(&["completions", shell]))?.contains("confirm-deletes"),
            "{shell}"
        );
    }
    assert_eq!(run_any(&mut towline(&["schema", "nothing"]))?.0, 1);
    assert_eq!(run_any(&mut towline(&["nonsense"]))?.0, 2);
    // Nobody listens there.
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(
        &kubeconfig,
        "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n\
         clusters: [{name: a, cluster: {server: 'https://127.0.0.1:9', certificate-authority-data: ''}}]\n\
         users: [{name: a, user: {token: a}}]\n",
    )?;
    let (code, said) = run_any(&mut towline(&[
        "status",
        "--kubeconfig",
        &kubeconfig.display().to_string(),
    ]))?;
    assert_ne!(code, 0, "{said}");
    Ok(())
}

#[test]
fn plan_status_and_history() -> anyhow::Result<()> {
    // No agent: a Deployment is not needed to see what a plan says of one.
    let mut cluster = Cluster::start_with(Options {
        server_only: true,
        ..Options::default()
    })?;
    let repository = &cluster.repository;
    repository.write("namespaces/shop/web.yaml", &deployment("web", 1, WEB_1))?;
    repository.write("namespaces/shop/old.yaml", &config_map("old", "a", "1"))?;
    let first = repository.commit("Begin")?;
    let (code, said) = run_any(&mut cluster.command(&["sync", "--wait", "--timeout", "3"]))?;
    assert_eq!(code, 6, "no node, so no outcome in time\n{said}");

    repository.git(&["checkout", "--quiet", "-b", "draft"])?;
    repository.write("namespaces/shop/web.yaml", &deployment("web", 2, WEB_2))?;
    repository.write("namespaces/shop/new.yaml", &config_map("new", "a", "1"))?;
    repository.remove("namespaces/shop/old.yaml")?;
    repository.commit("Draft")?;
    let plan = cluster.towline(&["plan", "--head", "draft"])?;
    for words in ["web", "replicas", WEB_1, WEB_2, "new", "old"] {
        assert!(plan.contains(words), "{words}\n{plan}");
    }
    serde_json::from_str::<Value>(&cluster.towline(&["plan", "--head", "draft", "-o", "json"])?)?;
    let (code, said) = run_any(&mut cluster.command(&["plan", "--head", "nowhere"]))?;
    assert!(code == 1 && said.contains("nowhere"), "{said}");
    let plan = cluster.towline(&["plan"])?;
    assert!(!plan.contains("replicas"), "the branch itself changes nothing\n{plan}");

    let status: Value = serde_json::from_str(&cluster.towline(&["status", "-o", "json"])?)?;
    assert_eq!(status["commit"], *first, "{status:#}");
    assert!(
        cluster
            .towline(&["status", "-o", "yaml"])?
            .contains(&format!("commit: {first}"))
    );
    let history = cluster.towline(&["history"])?;
    assert!(
        history.contains(&first[..7]) && history.contains("A Tester"),
        "{history}"
    );
    let kubeconfig = cluster.towline(&["kubeconfig"])?;
    assert!(kubeconfig.contains(&cluster.listen()), "{kubeconfig}");

    cluster.kill()?;
    let (code, said) = run_any(&mut cluster.command(&["status"]))?;
    assert_eq!(code, 5, "{said}");
    Ok(())
}
