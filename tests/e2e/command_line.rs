//! The command line: what it prints for scripts, and how it ends.

use std::{
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use harness::{
    Cluster, Options, binary,
    manifests::{WEB_1, WEB_2, config_map, deployment},
    run, run_any,
};
use serde_json::Value;

/// What a command says on standard error, and its exit code, where its output goes to `out`.
fn run_any_to(mut command: Command, out: impl Into<Stdio>) -> anyhow::Result<(i32, String)> {
    let ended = command.stdout(out).stderr(Stdio::piped()).output()?;
    Ok((
        ended.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&ended.stderr).into_owned(),
    ))
}

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
    assert_eq!(run_any(&mut towline(&["schema", "nothing"]))?.0, 2);
    // Output that cannot be written is told; a reader that has gone is no fault.
    for command in [
        &["schema", "deploy"][..],
        &["completions", "bash"],
        &["validate", &path],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full")?;
        let (code, said) = run_any_to(towline(command), full)?;
        assert!(
            code == 2 && said.contains("the output cannot be written"),
            "{command:?}: {code} {said}"
        );
    }
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    assert_eq!(
        run_any_to(towline(&["completions", "bash"]), writer)?,
        (0, String::new())
    );
    for flags in [
        &["--node-name", "A Node"][..],
        &["--pod-range", "10.0.0.0/30"],
        &["--webhook-github-secret", "/nope"],
        &["--seed", "/nope"],
        &["--status-branch", "main"],
    ] {
        let data = folder.path().join("data");
        let (code, said) = run_any(towline(&["up", "--data-dir", &data.display().to_string()]).args(flags))?;
        assert!(
            code == 2 && !data.exists(),
            "{flags:?} is refused before anything is made: {code} {said}"
        );
    }
    // No kubeconfig is not a rollout that failed.
    let (code, said) = run_any(&mut towline(&["sync", "--wait", "--data-dir", &path]))?;
    assert!(code == 2 && said.contains("no kubeconfig"), "{code} {said}");
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
    assert!(code == 2 && said.contains("nowhere"), "{said}");
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

    // A second server on the same data directory is refused and changes nothing there.
    let (code, said) = run_any(towline(&["server", "--listen", "127.0.0.1:0", "--data-dir"]).arg(cluster.data()))?;
    assert!(code == 2 && said.contains("in use by another towline"), "{code} {said}");
    cluster.towline(&["status"])?;
    // Nobody else may read what the repository holds.
    for folder in ["git", "gitsync", "agent", "postgres"] {
        if let Ok(found) = std::fs::metadata(cluster.data().join(folder)) {
            assert_eq!(found.permissions().mode() & 0o077, 0, "{folder}");
        }
    }

    cluster.stop()?;
    let (code, said) = run_any(&mut cluster.command(&["sync", "--wait"]))?;
    assert_eq!(code, 5, "{said}");
    Ok(())
}
