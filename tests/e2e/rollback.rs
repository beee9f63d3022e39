//! `towline rollback`: a document goes back, as a commit on the branch or beside it.

use harness::{
    Cluster, Options, have_docker,
    manifests::{WEB_1, WEB_2, config_map, deployment},
    run_any,
};
use serde_json::Value;

#[test]
fn a_document_goes_back_to_what_was_healthy() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let cluster = Cluster::start_with(Options {
        builtin: true,
        ..Options::default()
    })?;
    let repository = &cluster.repository;
    let file = "namespaces/back/web.yaml";
    let both = |map: &str, image: &str| {
        format!(
            "{}---\n# The page\n{}",
            config_map("map", "a", map),
            deployment("web", 1, image)
        )
    };
    let push = |text: &str, subject: &str| -> anyhow::Result<String> {
        repository.git(&["pull", "--quiet", "--rebase", "origin", "main"])?;
        repository.write(file, text)?;
        let commit = repository.commit(subject)?;
        repository.git(&["push", "--quiet", "origin", "HEAD:main"])?;
        Ok(commit)
    };
    let first = push(&both("1", WEB_1), "The first page")?;
    cluster.sync(0);
    push(&both("2", WEB_2), "The second page")?;
    cluster.sync(0);
    push(&both("3", "towline.local/none:1"), "No page")?;

    let said = cluster.towline(&["rollback", "deploy/web", "-n", "back", "-o", "json"])?;
    let told: Value = serde_json::from_str(&said)?;
    assert_eq!(
        (&told["branch"], &told["refused"]),
        (&"main".into(), &Value::Null),
        "{told}"
    );
    cluster.sync(0);
    repository.git(&["pull", "--quiet", "--rebase", "origin", "main"])?;
    let now = std::fs::read_to_string(repository.dir.join(file))?;
    assert_eq!(now, both("3", WEB_2), "the other document stays");
    assert_eq!(repository.git(&["rev-parse", "HEAD"])?.trim(), told["commit"], "{told}");
    let running = cluster.running()?;
    assert!(
        running.iter().any(|container| format!("{container:?}").contains(WEB_2)),
        "{running:#?}"
    );

    let said = cluster.towline(&["rollback", "deploy/web", "-n", "back", "--to", &first[..10]])?;
    assert!(
        said.starts_with(&format!("deploy/web is as it was at {}", &first[..10])),
        "{said}"
    );
    cluster.sync(0);
    repository.git(&["pull", "--quiet", "--rebase", "origin", "main"])?;
    assert_eq!(std::fs::read_to_string(repository.dir.join(file))?, both("3", WEB_1));

    for (object, more, fault) in [
        ("deploy/nobody", "", "git does not declare Deployment back/nobody"),
        ("deploy/web", "0123456789", "names no commit"),
        ("deploy/web", &first[..10], "already as it was"),
    ] {
        let mut words = vec!["rollback", object, "-n", "back"];
        if !more.is_empty() {
            words.extend(["--to", more]);
        }
        let (code, said) = run_any(&mut cluster.command(&words))?;
        assert!(code == 2 && said.contains(fault), "{object} {more}: {code} {said}");
    }
    Ok(())
}
