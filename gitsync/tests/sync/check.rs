//! Verdicts on pushes, with objects in quarantine as git keeps them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use gitsync::{PushCheck, Update, Verdict};

use crate::harness::*;

const ZERO: &str = "0000000000000000000000000000000000000000";

/// Pushes from a clone into the watched repository, whose hook keeps what it was told and refuses.
async fn push(world: &World, change: impl FnOnce(&Repo), spec: &str) -> Verdict {
    let hook = world.repo.dir.join(".git/hooks/pre-receive");
    let told = world.root.path().join("told");
    let kept = world.repo.dir.join(".git/objects/kept-quarantine");
    let script = format!(
        "#!/bin/sh\ncat > {}\ncp -r \"$GIT_QUARANTINE_PATH\" {}\nexit 1\n",
        told.display(),
        kept.display()
    );
    fs::write(&hook, script).expect("a hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("executable");
    let _ = fs::remove_dir_all(&kept);
    let clone = Repo {
        dir: world.root.path().join("clone"),
    };
    let _ = fs::remove_dir_all(&clone.dir);
    world.repo.git(&[
        "clone",
        "-q",
        &world.repo.dir.to_string_lossy(),
        &clone.dir.to_string_lossy(),
    ]);
    change(&clone);
    assert!(
        !clone.try_git(&["push", "-q", "-f", "origin", spec]).0,
        "the hook refuses"
    );
    let text = fs::read_to_string(&told).expect("the hook ran");
    let updates = text
        .lines()
        .map(|line| {
            let parts: Vec<_> = line.split(' ').collect();
            Update {
                old: parts[0].into(),
                new: parts[1].into(),
                refname: parts[2].into(),
            }
        })
        .collect();
    let objects: Vec<PathBuf> = vec![kept, world.repo.dir.join(".git/objects")];
    let object_dirs = objects.into_iter().filter(|dir| dir.exists()).collect();
    world.sync.check_push(PushCheck { object_dirs, updates }).await
}

/// Fails unless a line of the verdict holds `part`.
fn tells(verdict: &Verdict, part: &str) {
    assert!(
        verdict.lines.iter().any(|line| line.contains(part)),
        "{part:?}: {verdict:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_push_is_accepted_and_summed_up() {
    let world = World::new(two_shops).await;
    world.look().await;
    let verdict = push(
        &world,
        |clone| {
            clone.write("namespaces/a/one.yaml", &config("one", "2"));
            clone.write("namespaces/a/new.yaml", &config("new", "1"));
            clone.git(&["rm", "-q", "namespaces/b/two.yaml"]);
            clone.commit("Good");
        },
        "main",
    )
    .await;
    assert!(verdict.accepted, "{verdict:?}");
    assert!(
        verdict.lines[0].ends_with("1 to create, 1 to update, 1 to delete"),
        "{verdict:?}"
    );
    assert!(verdict.commit.is_some());
    assert_eq!(world.store.desired().rows.len(), 4, "a check changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_error_refuses_and_an_older_one_does_not() {
    let world = World::new(|repo| {
        two_shops(repo);
        repo.write(
            "namespaces/b/old.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: old\ndta: {}\n",
        );
        repo.commit("Broken already");
    })
    .await;
    world.look().await;
    let verdict = push(
        &world,
        |clone| {
            clone.write(
                "namespaces/a/bad.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: bad\n  nmespace: a\n",
            );
            clone.commit("Bad");
        },
        "main",
    )
    .await;
    assert!(!verdict.accepted);
    assert!(
        verdict.lines[0].starts_with("error: namespaces/a/bad.yaml:5:3: "),
        "{verdict:?}"
    );
    tells(&verdict, "warning: not new: namespaces/b/old.yaml:5:1");

    // The older error has moved by a line; the push does not add it.
    let verdict = push(
        &world,
        |clone| {
            clone.write(
                "namespaces/b/old.yaml",
                "# note\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: old\ndta: {}\n",
            );
            clone.write("namespaces/a/one.yaml", &config("one", "2"));
            clone.commit("Unrelated");
        },
        "main",
    )
    .await;
    assert!(verdict.accepted, "{verdict:?}");
    tells(&verdict, "warning: not new: namespaces/b/old.yaml:6:1");
    tells(&verdict, "held: b stays");

    let verdict = push(
        &world,
        |clone| {
            clone.write("namespaces/a/again.yaml", &config("one", "2"));
            clone.commit("Duplicate");
        },
        "main",
    )
    .await;
    assert!(!verdict.accepted);
    tells(&verdict, "declared at namespaces/a/again.yaml:1 already");
}

#[tokio::test(flavor = "multi_thread")]
async fn references_are_judged_by_name() {
    let world = World::new(two_shops).await;
    world.look().await;
    for (spec, accepted, part) in [
        ("main:refs/heads/towline/status", false, "written by Towline itself"),
        ("main:refs/towline/x", false, "written by Towline itself"),
        ("main:refs/heads/feature", true, "is not followed"),
        (":refs/heads/main", false, "cannot be deleted"),
    ] {
        world.repo.git(&["config", "receive.denyDeleteCurrent", "ignore"]);
        let verdict = push(&world, |_| {}, spec).await;
        assert_eq!(verdict.accepted, accepted, "{spec}: {verdict:?}");
        assert!(verdict.lines[0].contains(part), "{spec}: {verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_tree_and_an_unrelated_history_are_told() {
    let world = World::new(two_shops).await;
    world.look().await;
    let verdict = push(
        &world,
        |clone| {
            clone.git(&["rm", "-rq", "."]);
            clone.commit("Nothing left");
        },
        "main",
    )
    .await;
    assert!(!verdict.accepted);
    tells(&verdict, "not read as an order to delete");
    let verdict = push(
        &world,
        |clone| {
            clone.git(&["checkout", "-q", "--orphan", "fresh"]);
            clone.git(&["rm", "-q", "--cached", "namespaces/b/two.yaml"]);
            clone.git(&["clean", "-fdq"]);
            clone.commit("Fresh");
        },
        "fresh:main",
    )
    .await;
    assert!(verdict.accepted, "{verdict:?}");
    tells(&verdict, "warning: the branch was pushed to a history unrelated");
    assert!(
        verdict.lines.iter().any(|line| line.ends_with("0 to delete")),
        "{verdict:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_object_folders_of_the_repository_are_read() {
    let world = World::new(two_shops).await;
    world.look().await;
    let head = world.repo.head();
    let verdict = world
        .sync
        .check_push(PushCheck {
            object_dirs: vec!["/etc".into()],
            updates: vec![Update {
                old: ZERO.into(),
                new: head.to_string(),
                refname: "refs/heads/main".into(),
            }],
        })
        .await;
    assert!(!verdict.accepted);
    assert!(verdict.lines[0].contains("/etc is no object folder"), "{verdict:?}");
}
