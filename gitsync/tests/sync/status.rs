//! What the status branch says, and when.

use schemas::{
    Kind,
    report::{ObjectReport, Outcome},
};
use serde_json::json;
use std::sync::Arc;

use crate::harness::*;

fn show(repo: &Repo, path: &str) -> String {
    repo.try_git(&["show", &format!("towline/status:{path}")]).1
}

fn message(repo: &Repo) -> String {
    repo.try_git(&["log", "-1", "--format=%B", "towline/status"]).1
}

fn count(repo: &Repo) -> String {
    repo.try_git(&["rev-list", "--count", "towline/status"]).1
}

/// Waits until something stands in the way of the status branch, and says what.
async fn told(world: &World) -> String {
    let mut conditions = world.sync.conditions();
    let told = tokio::time::timeout(LIMIT, conditions.wait_for(|now| now.status.is_some()))
        .await
        .expect("told");
    told.expect("open").status.clone().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_becomes_files_and_trailers() {
    let world = World::new(|repo| {
        two_shops(repo);
        repo.write("namespaces/a/web.yaml", &deployment("web", "web:1", 1));
        repo.commit("Web");
    })
    .await;
    world.look().await;
    let web = key(Kind::Deployment, "a", "web");
    world.report(&[(&web, Outcome::Failed, "ImagePullBackOff: no <such> image | web:1")]);
    let head = world.repo.head();
    world
        .status("the first status", |repo| message(repo).contains("Outcome: failed"))
        .await;
    let text = message(&world.repo);
    assert!(
        text.starts_with(&format!("Failed at {} [skip ci]\n", head.short())),
        "{text}"
    );
    assert!(
        text.contains(&format!(
            "\nSource-Commit: {head}\nOutcome: failed\nCluster: {}",
            world.store.cluster()
        )),
        "{text}"
    );
    assert_eq!(
        world
            .repo
            .git(&["ls-tree", "-r", "--name-only", "towline/status"])
            .lines()
            .collect::<Vec<_>>(),
        [
            "STATUS.md",
            "status/_cluster/namespace/a.yaml",
            "status/_cluster/namespace/b.yaml",
            "status/a/configmap/one.yaml",
            "status/a/deployment/web.yaml",
            "status/b/configmap/two.yaml",
        ]
    );
    let file = show(&world.repo, "status/a/deployment/web.yaml");
    for part in [
        "kind: Deployment",
        "namespace: a",
        "file: namespaces/a/web.yaml",
        "outcome: failed",
        &format!("commit: {head}"),
    ] {
        assert!(file.contains(part), "{part} in {file}");
    }
    let summary = show(&world.repo, "STATUS.md");
    for part in [
        "| failed | 1 |",
        "| converged | 4 |",
        "| all | 5 |",
        "no &lt;such> image \\| web:1",
        "`namespaces/a/web.yaml:1`",
    ] {
        assert!(summary.contains(part), "{part} in {summary}");
    }
    assert_eq!(
        world.repo.git(&["log", "-1", "--format=%an <%ae>", "towline/status"]),
        "Towline <towline@localhost>"
    );

    // A deleted object's file goes; what is broken shows with its place.
    world.repo.remove("namespaces/a/web.yaml");
    world.repo.write(
        "namespaces/b/two.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: two\ndta: {}\n",
    );
    let desired = world.commit("Remove and break").await;
    world.report(&[]);
    world
        .status("the second status", |repo| message(repo).contains("Outcome: held"))
        .await;
    assert!(
        message(&world.repo).contains(&format!("Unit-Behind: b@{head}")),
        "{}",
        message(&world.repo)
    );
    assert!(
        !world
            .repo
            .git(&["ls-tree", "-r", "--name-only", "towline/status"])
            .contains("deployment")
    );
    assert!(
        show(&world.repo, "STATUS.md").contains("error: `namespaces/b/two.yaml:5:1`"),
        "{}",
        show(&world.repo, "STATUS.md")
    );
    assert_eq!(
        world.store.desired().revision,
        desired.revision,
        "a status commit never triggers a sync"
    );
    assert_eq!(count(&world.repo), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_alone_is_not_worth_telling() {
    let world = World::new(two_shops).await;
    world.look().await;
    let mut report = (*world.report(&[])).clone();
    let node = |time: &str, ready: &str| ObjectReport {
        outcome: Outcome::Converged,
        reason: String::new(),
        position: None,
        status: json!({"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": time}]}),
        stale: false,
        gated: false,
    };
    report
        .nodes
        .insert("n1".into(), node("2026-01-01T00:00:00Z", "True").into());
    world.store.publish_report(Arc::new(report.clone()));
    world
        .status("the node", |repo| show(repo, "status/nodes/n1.yaml").contains("Ready"))
        .await;
    let before = count(&world.repo);
    report
        .nodes
        .insert("n1".into(), node("2026-01-01T00:00:10Z", "True").into());
    world.store.publish_report(Arc::new(report.clone()));
    report
        .nodes
        .insert("n1".into(), node("2026-01-01T00:00:10Z", "False").into());
    world.store.publish_report(Arc::new(report));
    world
        .status("the change", |repo| {
            show(repo, "status/nodes/n1.yaml").contains("False")
        })
        .await;
    let after: u32 = count(&world.repo).parse().expect("a number");
    assert_eq!(after, before.parse::<u32>().expect("a number") + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_report_is_committed_once_over_a_restart() {
    let mut world = World::new(two_shops).await;
    world.look().await;
    world.report(&[]);
    world.status("the first", |repo| count(repo) == "1").await;
    world.restart();
    world.repo.write("namespaces/a/one.yaml", &config("one", "2"));
    world.commit("Two").await;
    world.report(&[]);
    world
        .status("the second", |repo| message(repo).contains(&*repo.head().0))
        .await;
    assert_eq!(count(&world.repo), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_branch_is_left_alone() {
    let world = World::new(|repo| {
        two_shops(repo);
        repo.git(&["checkout", "-q", "--orphan", "towline/status"]);
        repo.git(&["rm", "-rqf", "."]);
        repo.commit("Converged\n\nCluster: someone-else");
        repo.git(&["checkout", "-q", "main"]);
    })
    .await;
    world.look().await;
    world.report(&[]);
    let text = told(&world).await;
    assert!(text.contains("another cluster (someone-else)"), "{text}");
    assert_eq!(count(&world.repo), "1");
    assert_eq!(world.store.desired().rows.len(), 4, "a sync does not care");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_commits_are_not_written_over() {
    let world = World::new(|repo| {
        two_shops(repo);
        repo.git(&["branch", "towline/status"]);
    })
    .await;
    world.look().await;
    world.report(&[]);
    let text = told(&world).await;
    assert!(text.contains("not Towline's"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_wait_while_the_branch_cannot_be_written() {
    let world = World::new(two_shops).await;
    world.look().await;
    world.report(&[]);
    world.status("the first", |repo| count(repo) == "1").await;
    // A lock that someone left behind: every update of the reference is refused.
    let lock = world.repo.dir.join(".git/refs/heads/towline/status.lock");
    std::fs::write(&lock, "").expect("locked");
    world.repo.write("namespaces/a/one.yaml", &config("one", "2"));
    world.commit("Two").await;
    world.report(&[]);
    let mut conditions = world.sync.conditions();
    tokio::time::timeout(LIMIT, conditions.wait_for(|now| now.status.is_some()))
        .await
        .expect("told")
        .expect("open");
    world.repo.write("namespaces/a/one.yaml", &config("one", "3"));
    world.commit("A sync goes on").await;
    assert_eq!(world.store.desired().commit, Some(world.repo.head()));
    std::fs::remove_file(&lock).expect("unlocked");
    world.report(&[]);
    world.status("all of them", |repo| count(repo) == "3").await;
    tokio::time::timeout(LIMIT, conditions.wait_for(|now| now.status.is_none()))
        .await
        .expect("cleared")
        .expect("open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_or_moved_branch_is_written_anew() {
    let world = World::new(two_shops).await;
    world.look().await;
    world.report(&[]);
    world.status("the first", |repo| count(repo) == "1").await;
    world.repo.git(&["branch", "-qD", "towline/status"]);
    world.repo.write("namespaces/a/one.yaml", &config("one", "2"));
    world.commit("Two").await;
    world.report(&[]);
    world
        .status("the branch", |repo| message(repo).contains(&*repo.head().0))
        .await;
    assert_eq!(count(&world.repo), "1");
    assert!(show(&world.repo, "status/b/configmap/two.yaml").contains("outcome: converged"));
    // Someone commits on top, keeping to the cluster: the next status stands on that.
    let note = world.repo.git(&[
        "commit-tree",
        "-p",
        "towline/status",
        "-m",
        "A note",
        "towline/status^{tree}",
    ]);
    world.repo.git(&["update-ref", "refs/heads/towline/status", &note]);
    world.repo.write("namespaces/a/one.yaml", &config("one", "3"));
    world.commit("Three").await;
    world.report(&[]);
    world
        .status("on top", |repo| message(repo).contains(&*repo.head().0))
        .await;
    assert_eq!(world.repo.git(&["rev-parse", "towline/status^"]), note);
}
