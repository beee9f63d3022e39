//! `git push` to the built-in repository: judged before it is accepted, followed after.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use harness::{
    Cluster, Options, Repository, have_docker,
    manifests::{WEB_1, config_map, deployment},
    run, run_any, wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A cluster whose built-in repository begins with one ConfigMap.
fn builtin(folder: &Path) -> anyhow::Result<Cluster> {
    fs::create_dir_all(folder.join("namespaces/shop"))?;
    fs::write(
        folder.join("namespaces/shop/settings.yaml"),
        config_map("settings", "a", "1"),
    )?;
    Cluster::start_with(Options {
        builtin: true,
        seed: Some(folder.to_owned()),
        ..Options::default()
    })
}

#[test]
fn what_is_printed_is_all_that_a_push_needs() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let seed = tempfile::tempdir()?;
    let cluster = builtin(seed.path())?;
    let printed = cluster.printed();
    let found = |head: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(head));
        line.unwrap_or_else(|| panic!("no line begins with {head:?} in\n{printed}"))
            .to_owned()
    };
    assert_eq!(
        found("ready: export KUBECONFIG="),
        cluster.kubeconfig().display().to_string()
    );
    // As a person would, in a repository of their own.
    let work = Repository::init(&cluster.dir.path().join("work"))?;
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        command.current_dir(&work.dir).args(["-c", line]);
        command.env_remove("GIT_SSL_CAINFO").env("GIT_TERMINAL_PROMPT", "0");
        command
    };
    run(&mut shell(&found("to push: ")))?;
    let token = cluster.data().join("admin-token");
    assert!(printed.contains(&token.display().to_string()), "{printed}");
    let askpass = cluster.dir.path().join("askpass");
    fs::write(&askpass, format!("#!/bin/sh\ncat {}\n", token.display()))?;
    fs::set_permissions(&askpass, fs::Permissions::from_mode(0o755))?;
    let line = "git fetch --quiet towline && git checkout --quiet -B main towline/main";
    run(shell(line).env("GIT_ASKPASS", &askpass))?;
    work.write("namespaces/shop/more.yaml", &config_map("more", "a", "1"))?;
    work.commit("More")?;
    let (code, said) = run_any(shell("git push towline main").env("GIT_ASKPASS", &askpass))?;
    assert!(code == 0 && said.contains("remote: converged"), "{code} {said}");
    Ok(())
}

fn tip(repository: &Repository) -> anyhow::Result<String> {
    Ok(repository
        .git(&["ls-remote", "origin", "refs/heads/main"])?
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}

#[test]
fn a_push_is_judged_and_its_rollout_is_shown() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let seed = tempfile::tempdir()?;
    let cluster = builtin(seed.path())?;
    let repository = &cluster.repository;
    let first = tip(repository)?;

    // A broken manifest changes nothing, not even the ref.
    repository.write(
        "namespaces/shop/web.yaml",
        &deployment("web", 1, WEB_1).replace("replicas:", "replicsa:"),
    )?;
    repository.commit("Misspell a field")?;
    let (code, said) = repository.git_any(&["push", "origin", "main"])?;
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("remote: error: namespaces/shop/web.yaml:6:3: "), "{said}");
    assert!(said.contains("replicas"), "a suggestion\n{said}");
    assert_eq!(tip(repository)?, first);

    // So it is for a push by path, which the hook in the repository sees.
    let bare = cluster.data().join("git/towline.git").display().to_string();
    let (code, said) = repository.git_any(&["push", &bare, "main"])?;
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("remote: error: namespaces/shop/web.yaml:6:3: "), "{said}");
    assert_eq!(tip(repository)?, first);

    // The mended one streams its rollout until the pods are ready.
    repository.write("namespaces/shop/web.yaml", &deployment("web", 1, WEB_1))?;
    let mended = repository.commit("Spell it right")?;
    let (code, said) = repository.git_any(&["push", "origin", "main"])?;
    assert_eq!(code, 0, "{said}");
    let remote: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("remote: "))
        .map(str::trim)
        .collect();
    assert_eq!(remote.last(), Some(&"converged"), "{said}");
    assert!(
        remote.iter().any(|line| line.contains("web")),
        "it tells of the Deployment\n{said}"
    );
    assert_eq!(cluster.running()?.len(), 1);
    cluster.wait_status(&mended, "converged");

    // By path, too.
    repository.write("namespaces/shop/settings.yaml", &config_map("settings", "a", "2"))?;
    repository.commit("Change a setting")?;
    let (code, said) = repository.git_any(&["push", &bare, "main"])?;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("remote: converged"), "{said}");
    assert_eq!(cluster.get(&["configmap", "settings", "-n", "shop"])?["data"]["a"], "2");
    Ok(())
}

#[test]
fn what_is_not_the_users_is_refused() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let seed = tempfile::tempdir()?;
    let mut cluster = builtin(seed.path())?;
    let first = tip(&cluster.repository)?;

    for (refspec, words) in [
        ("HEAD:refs/heads/towline/status", "written by Towline itself"),
        ("HEAD:refs/heads/towline/other", "written by Towline itself"),
        (":refs/heads/main", "cannot be deleted"),
    ] {
        let (code, said) = cluster.repository.git_any(&["push", "--force", "origin", refspec])?;
        assert_ne!(code, 0, "{refspec}\n{said}");
        assert!(said.contains(words), "{refspec}\n{said}");
    }
    assert_eq!(tip(&cluster.repository)?, first);

    // A branch that is not followed may be pushed, and rolls nothing out.
    let (code, said) = cluster
        .repository
        .git_any(&["push", "origin", "HEAD:refs/heads/draft"])?;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("only refs/heads/main is followed"), "{said}");

    // A wrong password is a 401, and git says so.
    let url = format!("https://towline:wrong@{}/git/towline.git", cluster.listen());
    let (code, said) = cluster.repository.git_any(&["ls-remote", &url])?;
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("Authentication failed") || said.contains("401"), "{said}");

    // A server that hangs is a refusal that says so within the limit, and so is one that is gone.
    let bare = cluster.data().join("git/towline.git").display().to_string();
    cluster
        .repository
        .write("namespaces/shop/settings.yaml", &config_map("settings", "a", "2"))?;
    cluster.repository.commit("Change a setting")?;
    let server = Pid::from_raw(cluster.pid());
    kill(server, Signal::SIGSTOP)?;
    let start = Instant::now();
    let pushed = cluster.repository.git_any(&["push", &bare, "main"]);
    let took = start.elapsed();
    kill(server, Signal::SIGCONT)?;
    let (code, said) = pushed?;
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("no answer in 10 s"), "{said}");
    assert!(took < Duration::from_secs(15), "{took:?}");

    cluster.kill()?;
    let start = Instant::now();
    let (code, said) = cluster.repository.git_any(&["push", &bare, "main"])?;
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("could not be checked, so it is refused"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());

    // When it is back, the same push goes through.
    cluster.launch()?;
    assert_eq!(tip(&cluster.repository)?, first);
    let (code, said) = cluster.repository.git_any(&["push", "origin", "main"])?;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("remote: converged"), "{said}");
    wait("the setting", Duration::from_secs(10), || {
        match cluster.get(&["configmap", "settings", "-n", "shop"]) {
            Ok(object) if object["data"]["a"] == "2" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    Ok(())
}
