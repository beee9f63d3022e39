//! A source that breaks is never an order to delete.

use std::fs;

use store::Confirmation;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_branch_changes_nothing_and_says_so() {
    let world = World::new(two_shops).await;
    let first = world.look().await;
    world.repo.git(&["checkout", "-q", "-b", "other"]);
    world.repo.git(&["branch", "-qD", "main"]);
    let second = world.look().await;
    assert_eq!(second.rows, first.rows);
    assert_eq!(second.commit, first.commit);
    assert!(
        second
            .source_error
            .as_deref()
            .is_some_and(|text| text.contains("has no branch main")),
        "{:?}",
        second.source_error
    );
    assert!(second.units.values().all(|at| !at.may_delete));
    assert_eq!(world.sync.conditions().borrow().source, second.source_error);
    let again = world.look().await;
    assert_eq!(again.revision, second.revision, "it is told once");
    world.repo.git(&["branch", "main", "other"]);
    let third = world.look().await;
    assert_eq!((third.source_error.clone(), &third.rows), (None, &first.rows));
    assert!(third.units.values().all(|at| at.may_delete));
    assert_eq!(world.sync.conditions().borrow().source, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_repository_comes_back() {
    let world = World::new(two_shops).await;
    let first = world.look().await;
    let away = world.root.path().join("away");
    fs::rename(&world.repo.dir, &away).expect("moved");
    let second = world.look().await;
    assert_eq!(second.rows, first.rows);
    assert!(
        second
            .source_error
            .as_deref()
            .is_some_and(|text| text.contains("cannot be read")),
        "{:?}",
        second.source_error
    );
    fs::rename(&away, &world.repo.dir).expect("moved back");
    assert_eq!(world.look().await.source_error, None);
    // And it is watched again.
    let mut changes = world.store.desired_changes();
    let before = *changes.borrow_and_update();
    world.repo.write("namespaces/a/one.yaml", &config("one", "back"));
    world.repo.commit("Back");
    tokio::time::timeout(LIMIT, changes.wait_for(|revision| *revision > before))
        .await
        .expect("noticed")
        .expect("open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_or_empty_folder_is_no_order_to_delete() {
    let world = World::with(
        |repo| {
            repo.write("deploy/one.yaml", &config("one", "1"));
            repo.write("README.md", "hello\n");
            repo.commit("First");
        },
        |options| options.path = "deploy".into(),
    )
    .await;
    let first = world.look().await;
    world.repo.git(&["mv", "deploy", "elsewhere"]);
    let second = world.commit("Folder gone").await;
    assert_eq!(second.rows, first.rows);
    assert!(
        second
            .source_error
            .as_deref()
            .is_some_and(|text| text.contains("no folder \"deploy\"")),
        "{:?}",
        second.source_error
    );
    world.repo.write("deploy/README.md", "no manifests\n");
    let third = world.commit("Folder empty").await;
    assert_eq!(third.rows, first.rows);
    assert!(
        third
            .source_error
            .as_deref()
            .is_some_and(|text| text.contains("no manifest under")),
        "{:?}",
        third.source_error
    );
    world.repo.write("deploy/two.yaml", &config("two", "1"));
    let fourth = world.commit("Folder back").await;
    assert_eq!(
        (fourth.source_error.clone(), names(&fourth)),
        (None, vec!["ConfigMap default/two".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_without_a_commit_waits() {
    let world = World::new(|_| {}).await;
    let desired = world.look().await;
    assert_eq!((desired.revision, desired.source_error.clone()), (0, None));
    assert!(
        world
            .sync
            .conditions()
            .borrow()
            .source
            .as_deref()
            .is_some_and(|text| text.contains("no commit yet"))
    );
    two_shops(&world.repo);
    assert_eq!(world.look().await.rows.len(), 4);
}

/// Replaces the branch by a history with no commit in common, which lacks `two`.
fn force_push(repo: &Repo, message: &str) {
    repo.git(&["checkout", "-q", "--orphan", "fresh"]);
    repo.remove("namespaces/b/two.yaml");
    repo.write("namespaces/a/one.yaml", &config("one", "fresh"));
    repo.commit(message);
    repo.git(&["branch", "-qM", "fresh", "main"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unrelated_history_deletes_nothing_until_someone_says_so() {
    let mut world = World::new(two_shops).await;
    let first = world.look().await;
    let old = world.repo.head();
    force_push(&world.repo, "Fresh");
    let second = world.look().await;
    assert!(second.rows.contains_key(&map("b", "two")), "nothing is deleted");
    assert_eq!(value(&second, &map("a", "one")), Some("fresh"), "and the rest goes on");
    assert!(
        second
            .source_error
            .as_deref()
            .is_some_and(|text| text.contains(&*old.0)),
        "{:?}",
        second.source_error
    );
    assert_eq!(first.source_error, None);

    // It stays so over further commits, other faults and a restart.
    world.repo.remove("namespaces/b/ns.yaml");
    world.commit("More of it").await;
    world.repo.git(&["branch", "-qm", "main", "gone"]);
    world.look().await;
    world.restart();
    world.look().await;
    world.repo.git(&["branch", "-qm", "gone", "main"]);
    let third = world.look().await;
    assert_eq!(third.rows.len(), 4, "{:?}", names(&third));

    world.repo.git(&[
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "I mean it\n\nConfirm-Deletes: all",
    ]);
    let fourth = world.look().await;
    assert_eq!(names(&fourth), ["Namespace a", "ConfigMap a/one"]);
    assert_eq!(
        (fourth.source_error.as_deref(), fourth.confirm_trailer.as_deref()),
        (None, Some("all"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unrelated_history_can_be_confirmed_or_undone() {
    let world = World::new(two_shops).await;
    world.look().await;
    let old = world.repo.head();
    force_push(&world.repo, "Fresh");
    world.look().await;
    // Undone.
    world.repo.git(&["reset", "-q", "--hard", &old.0]);
    let undone = world.look().await;
    assert_eq!(
        (undone.source_error.as_deref(), value(&undone, &map("a", "one"))),
        (None, Some("1"))
    );
    // Confirmed.
    world.repo.git(&["branch", "-qm", "main", "old"]);
    force_push(&world.repo, "Fresh again");
    world.look().await;
    let asked = world.sync.unconfirmed().expect("it waits for a word");
    assert_eq!(asked.commit, world.repo.head());
    let lost: Vec<String> = asked.objects.iter().map(ToString::to_string).collect();
    assert_eq!(lost, ["ConfigMap b/two"]);
    let confirmation = Confirmation {
        commit: asked.commit,
        keys: asked.objects,
        who: "ann".into(),
        at: "2026-01-01T00:00:00Z".parse().expect("a time"),
    };
    world.store.confirm_deletes(confirmation).await.expect("kept");
    let confirmed = world.look().await;
    assert_eq!(world.sync.unconfirmed(), None, "it goes on from here");
    assert_eq!(confirmed.source_error, None);
    assert!(!confirmed.rows.contains_key(&map("b", "two")));
}
