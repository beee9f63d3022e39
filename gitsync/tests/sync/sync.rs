//! From a commit to a revision.

use std::time::Instant;

use schemas::{Kind, Unit};
use store::Fault;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_becomes_rows_with_their_places() {
    let world = World::new(|repo| {
        two_shops(repo);
        repo.write(
            "apps/web.json",
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"web","namespace":"b"}}"#,
        );
        repo.write(
            "list.yml",
            &format!("{}---\n{}", config("east", "1"), config("west", "2")),
        );
        repo.write(".hidden/no.yaml", "not: a manifest\n");
        repo.write(".ci.yaml", "not: a manifest\n");
        repo.write("charts/no.yaml", "not: a manifest\n");
        repo.write(".towlineignore", "charts/\n");
        repo.commit("More");
    })
    .await;
    let desired = world.look().await;
    assert_eq!(desired.problems, [], "{:?}", desired.problems);
    assert_eq!(
        names(&desired),
        [
            "Namespace a",
            "Namespace b",
            "ConfigMap a/one",
            "ConfigMap b/two",
            "ConfigMap b/web",
            "ConfigMap default/east",
            "ConfigMap default/west"
        ]
    );
    assert_eq!(desired.commit, Some(world.repo.head()));
    let row = &desired.rows[&map("default", "west")];
    assert_eq!((&*row.file, row.line), ("list.yml", 8));
    assert!(
        desired
            .units
            .values()
            .all(|at| at.commit == world.repo.head() && at.held.is_none() && at.may_delete)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_records_only_what_it_changed() {
    let world = World::new(two_shops).await;
    let first = world.look().await;
    world.repo.write("namespaces/a/one.yaml", &config("one", "changed"));
    let second = world.commit("Change one").await;
    assert_eq!(second.revision, first.revision + 1);
    assert_eq!(value(&second, &map("a", "one")), Some("changed"));
    assert_eq!(second.rows[&map("a", "one")].commit, world.repo.head());
    assert_eq!(
        second.rows[&map("b", "two")],
        first.rows[&map("b", "two")],
        "an untouched row keeps its commit"
    );
    assert_eq!(
        second.units[&Unit("b".into())].commit,
        world.repo.head(),
        "and its unit moves on"
    );
    let history = world.store.revisions(10).await.expect("the history");
    assert_eq!(
        (history[0].changed, history[0].dropped, &*history[0].subject),
        (1, 0, "Change one")
    );
    assert_eq!(history[0].author, "Ann <ann@example.org>");

    // Content that moves keeps the commit that it came with.
    world
        .repo
        .git(&["mv", "namespaces/b/two.yaml", "namespaces/b/moved.yaml"]);
    let third = world.commit("Move two").await;
    let row = &third.rows[&map("b", "two")];
    assert_eq!(
        (&*row.file, &row.commit),
        ("namespaces/b/moved.yaml", &first.rows[&map("b", "two")].commit)
    );

    world.repo.remove("namespaces/a/one.yaml");
    let fourth = world.commit("Remove one").await;
    assert!(!fourth.rows.contains_key(&map("a", "one")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_noticed_without_being_told() {
    let world = World::new(two_shops).await;
    world.look().await;
    let mut changes = world.store.desired_changes();
    world.repo.write("namespaces/a/one.yaml", &config("one", "noticed"));
    world.repo.git(&["add", "-A"]);
    let before = changes.borrow_and_update().to_owned();
    let began = Instant::now();
    world.repo.git(&["commit", "-qm", "Notice me"]);
    tokio::time::timeout(LIMIT, changes.wait_for(|revision| *revision > before))
        .await
        .expect("noticed")
        .expect("open");
    println!(
        "from the start of `git commit` to the recorded revision: {:?}",
        began.elapsed()
    );
    assert_eq!(value(&world.store.desired(), &map("a", "one")), Some("noticed"));
    assert!(
        began.elapsed().as_secs() < 4,
        "the periodic look did it, not the notice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_changes_nothing() {
    let mut world = World::new(two_shops).await;
    let before = world.look().await;
    world.restart();
    let after = world.look().await;
    assert_eq!(after.revision, before.revision);
    // What happened in between is found.
    world.repo.remove("namespaces/b/two.yaml");
    world.repo.commit("Remove two");
    world.restart();
    assert!(!world.look().await.rows.contains_key(&map("b", "two")));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_path_counts() {
    let world = World::with(
        |repo| {
            repo.write("deploy/prod/one.yaml", &config("one", "1"));
            repo.write("deploy/test/two.yaml", &config("two", "1"));
            repo.write("deploy/.towlineignore", "skip.yaml\n");
            repo.write("deploy/prod/skip.yaml", "nonsense");
            repo.commit("First");
        },
        |options| options.path = "/deploy/prod/".into(),
    )
    .await;
    let desired = world.look().await;
    assert_eq!(names(&desired), ["ConfigMap default/one"]);
    assert_eq!(&*desired.rows[&map("default", "one")].file, "deploy/prod/one.yaml");
    assert_eq!(desired.problems, []);

    // Rules that change count for folders that do not.
    world.repo.write("deploy/.towlineignore", "\n");
    let desired = world.commit("No rules").await;
    assert_eq!(
        desired.problems[0].position.as_ref().map(|at| &*at.file),
        Some("deploy/prod/skip.yaml")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fix_moves_a_held_unit_on_and_a_revert_costs_no_parse() {
    let world = World::new(two_shops).await;
    world.look().await;
    world.repo.write(
        "namespaces/b/two.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: [\n",
    );
    world.commit("Break").await;
    world.repo.git(&["revert", "--no-edit", "HEAD"]);
    let desired = world.look().await;
    assert_eq!(desired.problems, []);
    assert!(
        desired
            .units
            .values()
            .all(|at| at.held.is_none() && at.commit == world.repo.head())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_manifests() {
    let world = World::with(
        |repo| {
            for at in 0..10_000 {
                let name = format!("app-{at}");
                repo.write(
                    &format!("namespaces/team-{}/{name}.yaml", at / 100),
                    &deployment(&name, "app:1", 1),
                );
            }
            repo.commit("Many");
        },
        |_| {},
    )
    .await;
    let began = Instant::now();
    let desired = world.look().await;
    println!("first look at 10,000 manifests: {:?}", began.elapsed());
    assert_eq!(desired.rows.len(), 10_000, "{:?}", desired.problems.first());
    for round in 2..7 {
        world.repo.write(
            "namespaces/team-42/app-4242.yaml",
            &deployment("app-4242", &format!("app:{round}"), 1),
        );
        world.repo.git(&["add", "-A"]);
        let tree = world.repo.git(&["write-tree"]);
        let commit = world.repo.git(&["commit-tree", "-p", "main", "-m", "One", &tree]);
        let mut changes = world.store.desired_changes();
        let before = *changes.borrow_and_update();
        let began = Instant::now();
        world.repo.git(&["update-ref", "refs/heads/main", &commit]);
        let updated = began.elapsed();
        tokio::time::timeout(LIMIT, changes.wait_for(|revision| *revision > before))
            .await
            .expect("noticed")
            .expect("open");
        println!(
            "one of 10,000 changed: {updated:?} for git update-ref, {:?} in all to the recorded revision",
            began.elapsed()
        );
        let desired = world.store.desired();
        assert_eq!(desired.commit, Some(world.repo.head()));
        assert_eq!(
            desired.rows[&key(Kind::Deployment, "team-42", "app-4242")].commit,
            world.repo.head()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_loses_nothing() {
    let world = World::new(two_shops).await;
    world.look().await;
    world.log.inject([Fault::Refused, Fault::LostBefore, Fault::LostAfter]);
    world.repo.write("namespaces/a/one.yaml", &config("one", "2"));
    world.repo.remove("namespaces/b/two.yaml");
    world.repo.commit("While it is away");
    world.sync.look();
    let recorded = || world.store.desired().commit == Some(world.repo.head());
    until("the revision", recorded, || {
        format!("{:?}", world.store.desired().commit)
    })
    .await;
    let desired = world.store.desired();
    assert_eq!(value(&desired, &map("a", "one")), Some("2"));
    assert!(!desired.rows.contains_key(&map("b", "two")));
}
