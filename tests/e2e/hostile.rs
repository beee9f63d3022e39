//! Files that are made to cost: deep nesting and bombs. Each is refused quickly, with its place, by a
//! push and by a sync, and leaves the server as it was.

use std::time::{Duration, Instant};

use harness::{Cluster, Options, have_docker, manifests::config_map};

/// Far less than what any of these would cost if it were read as it stands, and enough for a machine
/// that has other things to do.
const QUICK: Duration = Duration::from_secs(8);

/// Name, content, the place that is named, and words of the reason.
fn files() -> Vec<(&'static str, String, &'static str, &'static str)> {
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n";
    let bomb = |join: &dyn Fn(usize) -> String| {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            text.push_str(&join(level));
        }
        text
    };
    let aliases = |level: usize| vec![format!("*a{}", level - 1); 10].join(", ");
    let mut steps = String::from(head);
    for depth in 1..2_000 {
        steps.push_str(&format!("{}a:\n", " ".repeat(depth)));
    }
    vec![
        (
            "flow.yaml",
            format!("{head}  a: {}", "[".repeat(200_000)),
            "flow.yaml:5:",
            "nested",
        ),
        (
            "closed.yaml",
            format!("{head}  a: {}{}\n", "[".repeat(50_000), "]".repeat(50_000)),
            "closed.yaml:5:",
            "nested",
        ),
        ("steps.yaml", steps, "steps.yaml:", "nested"),
        (
            "dashes.yaml",
            format!("{head}  a:\n    {}x\n", "- ".repeat(100_000)),
            "dashes.yaml:",
            "nested",
        ),
        (
            "deep.json",
            format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)),
            "deep.json:1:",
            "nested",
        ),
        (
            "lists.yaml",
            bomb(&|level| format!("a{level}: &a{level} [{}]\n", aliases(level))),
            "lists.yaml:",
            "aliases",
        ),
        (
            "merges.yaml",
            {
                let mut text = String::from("a0: &a0 {k0: x, k1: x, k2: x}\n");
                for level in 1..40 {
                    let before = level - 1;
                    text.push_str(&format!("a{level}: &a{level} {{l: *a{before}, r: *a{before}}}\n"));
                }
                text
            },
            "merges.yaml:",
            "aliases",
        ),
        (
            "text.yaml",
            format!(
                "a: &a \"{}\"\nb: [{}]\n",
                "x".repeat(100_000),
                vec!["*a"; 5_000].join(", ")
            ),
            "text.yaml:2:",
            "aliases",
        ),
        (
            "itself.yaml",
            format!("{head}  a: &a [*a]\n"),
            "itself.yaml:5:",
            "alias",
        ),
    ]
}

#[test]
fn a_push_of_a_hostile_file_is_refused_quickly_with_its_place() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let seed = tempfile::tempdir()?;
    std::fs::create_dir_all(seed.path().join("namespaces/good"))?;
    std::fs::write(seed.path().join("namespaces/good/a.yaml"), config_map("a", "a", "1"))?;
    let cluster = Cluster::start_with(Options {
        builtin: true,
        seed: Some(seed.path().to_owned()),
        ..Options::default()
    })?;
    let repository = &cluster.repository;
    for (name, text, place, words) in files() {
        repository.write(&format!("namespaces/bad/{name}"), &text)?;
        repository.commit(name)?;
        let start = Instant::now();
        let (code, said) = repository.git_any(&["push", "origin", "main"])?;
        let took = start.elapsed();
        let shown: String = said.chars().take(2_000).collect();
        assert!(
            code != 0 && said.contains(place) && said.contains(words),
            "{name}: {code}\n{shown}"
        );
        assert!(said.contains("refused"), "{name}\n{shown}");
        assert!(said.len() < 20_000, "{name}: {} bytes are no message", said.len());
        assert!(took < QUICK, "{name} took {took:?}");
        repository.git(&["reset", "--quiet", "--hard", "HEAD~1"])?;
    }
    // And the server goes on.
    repository.write("namespaces/good/a.yaml", &config_map("a", "a", "2"))?;
    repository.commit("Go on")?;
    repository.git(&["push", "--quiet", "origin", "main"])?;
    cluster.sync(0);
    assert_eq!(cluster.get(&["configmap", "a", "-n", "good"])?["data"]["a"], "2");
    Ok(())
}

#[test]
fn a_sync_of_a_hostile_file_holds_its_namespace_alone_and_quickly() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let repository = &cluster.repository;
    for namespace in ["good", "bad"] {
        repository.write(&format!("namespaces/{namespace}/a.yaml"), &config_map("a", "a", "0"))?;
    }
    repository.commit("Begin")?;
    cluster.sync(0);
    for (round, (name, text, place, words)) in files().into_iter().enumerate() {
        let file = format!("namespaces/bad/{name}");
        let value = (round + 1).to_string();
        repository.write(&file, &text)?;
        repository.write("namespaces/bad/a.yaml", &config_map("a", "a", &value))?;
        repository.write("namespaces/good/a.yaml", &config_map("a", "a", &value))?;
        repository.commit(name)?;
        let start = Instant::now();
        let said = cluster.sync(3);
        let took = start.elapsed();
        let shown: String = said.chars().take(2_000).collect();
        assert!(said.contains(place) && said.contains(words), "{name}\n{shown}");
        assert!(took < QUICK, "{name} took {took:?}");
        assert_eq!(
            cluster.get(&["configmap", "a", "-n", "good"])?["data"]["a"],
            *value,
            "{name}"
        );
        assert_eq!(
            cluster.get(&["configmap", "a", "-n", "bad"])?["data"]["a"],
            "0",
            "{name}"
        );
        // Unread, the file holds its namespace; the next one takes its place.
        repository.remove(&file)?;
    }
    repository.commit("Mend it")?;
    cluster.sync(0);
    Ok(())
}
