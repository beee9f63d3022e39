//! Holding what is broken, and only that.

use schemas::{Commit, Kind, Unit, report::Severity};
use store::Desired;

use crate::harness::*;

const BROKEN: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: [\n";

fn held(desired: &Desired) -> Vec<&str> {
    desired
        .units
        .iter()
        .filter(|(_, at)| at.held.is_some())
        .map(|(unit, _)| &*unit.0)
        .collect()
}

fn at<'a>(desired: &'a Desired, unit: &str) -> &'a Commit {
    &desired.units[&Unit(unit.into())].commit
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_holds_its_unit_and_no_other() {
    let world = World::new(two_shops).await;
    let first = world.look().await;
    world.repo.write(
        "namespaces/b/two.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: two\ndta: {}\n",
    );
    world.repo.write("namespaces/b/three.yaml", &config("three", "3"));
    world.repo.write("namespaces/a/one.yaml", &config("one", "new"));
    let second = world.commit("Break b").await;
    assert_eq!(held(&second), ["b"]);
    assert_eq!(at(&second, "b"), at(&first, "b"), "a held unit stays at its commit");
    assert_eq!(at(&second, "a"), &world.repo.head());
    assert_eq!(value(&second, &map("a", "one")), Some("new"), "another unit goes on");
    assert_eq!(value(&second, &map("b", "two")), Some("2"), "with its old rows");
    assert!(!second.rows.contains_key(&map("b", "three")), "and without new ones");
    assert!(!second.units[&Unit("b".into())].may_delete);
    let problem = &second.problems[0];
    let position = problem.position.as_ref().expect("it has a place");
    assert_eq!(
        (&*position.file, position.line, position.column),
        ("namespaces/b/two.yaml", 5, 1),
        "{problem:?}"
    );
    assert_eq!(problem.severity, Severity::Error);

    // What was held back comes with the fix, though the fix does not touch it.
    world.repo.write("namespaces/b/two.yaml", &config("two", "fixed"));
    let third = world.commit("Fix b").await;
    assert_eq!(held(&third), [""; 0]);
    assert_eq!(value(&third, &map("b", "two")), Some("fixed"));
    assert_eq!(value(&third, &map("b", "three")), Some("3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_holds_every_unit_that_it_fed() {
    let both = |a: &str| {
        format!(
            "{}---\n{}",
            config("east", a).replace("name: east", "name: east\n  namespace: a"),
            config("west", "1").replace("name: west", "name: west\n  namespace: b")
        )
    };
    let world = World::new(|repo| {
        two_shops(repo);
        repo.write("apps/both.yaml", &both("1"));
        repo.commit("Both");
    })
    .await;
    world.look().await;
    world
        .repo
        .write("apps/both.yaml", &format!("{}---\n{BROKEN}", both("2")));
    let second = world.commit("Break").await;
    assert_eq!(held(&second), ["a", "b"]);
    assert_eq!(
        value(&second, &map("a", "east")),
        Some("1"),
        "no part of a broken file is applied"
    );
    // Deleting the broken file is a way out, too.
    world.repo.remove("apps/both.yaml");
    let third = world.commit("Give up").await;
    assert_eq!(held(&third), [""; 0]);
    assert_eq!(third.problems, []);
    assert!(!third.rows.contains_key(&map("a", "east")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_fed_nothing_known_stops_every_deletion() {
    let world = World::new(two_shops).await;
    world.look().await;
    world.repo.write("new.yaml", BROKEN);
    world.repo.write("namespaces/a/more.yaml", &config("more", "1"));
    world.repo.remove("namespaces/b/two.yaml");
    let second = world.commit("Break").await;
    assert_eq!(held(&second), [""; 0], "no unit is held");
    assert!(second.rows.contains_key(&map("a", "more")), "creates go on");
    assert!(second.rows.contains_key(&map("b", "two")), "and nothing is deleted");
    assert!(second.units.values().all(|at| !at.may_delete));
    world.repo.write("new.yaml", &config("new", "1"));
    let third = world.commit("Fix").await;
    assert!(!third.rows.contains_key(&map("b", "two")));
    assert!(third.units.values().all(|at| at.may_delete));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_stays_while_the_unit_that_it_moves_to_is_held() {
    let world = World::new(two_shops).await;
    world.look().await;
    world
        .repo
        .git(&["mv", "namespaces/a/one.yaml", "namespaces/b/one.yaml"]);
    world.repo.write("namespaces/b/two.yaml", BROKEN);
    world.repo.write("namespaces/a/more.yaml", &config("more", "1"));
    let second = world.commit("Move into a broken unit").await;
    assert_eq!(held(&second), ["b"]);
    assert!(second.rows.contains_key(&map("a", "one")), "not deleted from a");
    assert!(!second.rows.contains_key(&map("b", "one")), "not created in b");
    assert!(second.rows.contains_key(&map("a", "more")), "and a goes on");
    assert!(
        second
            .problems
            .iter()
            .any(|problem| problem.message.contains("it moves to b")),
        "{:?}",
        second.problems
    );
    world.repo.write("namespaces/b/two.yaml", &config("two", "2"));
    let third = world.commit("Fix").await;
    assert!(!third.rows.contains_key(&map("a", "one")));
    assert!(third.rows.contains_key(&map("b", "one")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_stays_while_its_new_file_cannot_be_read() {
    let world = World::new(two_shops).await;
    world.look().await;
    // The whole namespace a is gone, and its object is in a file of b that does not parse.
    world.repo.remove("namespaces/a");
    world
        .repo
        .write("namespaces/b/one.yaml", &format!("{}  broken: [\n", config("one", "1")));
    let second = world.commit("Move, broken").await;
    assert_eq!(held(&second), ["b"]);
    assert_eq!(
        names(&second),
        ["Namespace a", "Namespace b", "ConfigMap a/one", "ConfigMap b/two"]
    );
    world.repo.write("namespaces/b/one.yaml", &config("one", "1"));
    let third = world.commit("Fix").await;
    assert_eq!(names(&third), ["Namespace b", "ConfigMap b/one", "ConfigMap b/two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_an_error_with_both_places_and_holds_its_unit() {
    let world = World::new(two_shops).await;
    world.look().await;
    world.repo.write("namespaces/b/zwei.yaml", &config("two", "other"));
    let second = world.commit("Twice").await;
    assert_eq!(held(&second), ["b"]);
    assert_eq!(value(&second, &map("b", "two")), Some("2"));
    let problem = &second.problems[0];
    assert_eq!(
        problem.position.as_ref().map(|at| &*at.file),
        Some("namespaces/b/zwei.yaml")
    );
    assert!(problem.message.contains("namespaces/b/two.yaml:1"), "{problem:?}");
    world.repo.remove("namespaces/b/two.yaml");
    let third = world.commit("Once").await;
    assert_eq!(held(&third), [""; 0]);
    assert_eq!(value(&third, &map("b", "two")), Some("other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlay_is_reported_and_holds_what_it_covers() {
    let world = World::new(two_shops).await;
    world.look().await;
    world
        .repo
        .write("namespaces/b/kustomization.yaml", "resources: [two.yaml]\n");
    let second = world.commit("Overlay").await;
    assert_eq!(held(&second), ["b"]);
    assert!(
        second.rows.contains_key(&map("b", "two")),
        "its inputs are not read as deleted"
    );
    assert!(
        second.problems[0].message.contains("kustomize"),
        "{:?}",
        second.problems
    );
    world.repo.remove("namespaces/b/kustomization.yaml");
    let plain = world.commit("Plain again").await;
    assert_eq!(held(&plain), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_commit_may_be_broken() {
    let world = World::new(|repo| {
        repo.write("namespaces/a/one.yaml", &config("one", "1"));
        repo.write("namespaces/b/two.yaml", BROKEN);
        repo.commit("Broken from the start");
    })
    .await;
    let desired = world.look().await;
    assert_eq!(held(&desired), ["b"]);
    assert_eq!(names(&desired), ["ConfigMap a/one"]);
    assert!(
        at(&desired, "b").0.bytes().all(|digit| digit == b'0'),
        "it is at no commit yet"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_outlives_a_restart() {
    let mut world = World::new(two_shops).await;
    world.look().await;
    world.repo.write("namespaces/b/two.yaml", BROKEN);
    world.repo.remove("namespaces/b/ns.yaml");
    let before = world.commit("Break").await;
    world.restart();
    let after = world.look().await;
    assert_eq!(after.revision, before.revision);
    assert!(after.rows.contains_key(&schemas::Key::cluster(Kind::Namespace, "b")));
    world.repo.write("namespaces/b/two.yaml", &config("two", "2"));
    let fixed = world.commit("Fix").await;
    assert!(
        !fixed.rows.contains_key(&schemas::Key::cluster(Kind::Namespace, "b")),
        "what was held back is done"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_the_place_of_a_manifest_holds_what_it_declared() {
    let world = World::new(two_shops).await;
    let before = world.look().await;
    let file = world.repo.dir.join("namespaces/a/one.yaml");
    let aside = world.repo.dir.join("one.txt");
    std::fs::rename(&file, &aside).expect("moved");
    std::os::unix::fs::symlink("../../one.txt", &file).expect("linked");
    let held = world.commit("A link instead").await;
    assert_eq!(held.rows, before.rows, "nothing goes");
    let reason = held.units[&schemas::Unit("a".into())].held.clone();
    assert!(
        reason
            .as_ref()
            .is_some_and(|reason| reason.contains("symbolic links are not followed")),
        "{reason:?}"
    );
    std::fs::remove_file(&file).expect("removed");
    std::fs::rename(&aside, &file).expect("moved");
    let back = world.commit("The manifest again").await;
    assert_eq!(back.units[&schemas::Unit("a".into())].held, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_text_and_links_to_folders_are_told() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::new(two_shops).await;
    let shop = world.repo.dir.join("namespaces/a");
    let bad = |name: &[u8]| shop.join(std::ffi::OsStr::from_bytes(name));
    std::fs::write(bad(b"\xff\xfe.yaml"), config("lost", "1")).expect("written");
    std::fs::write(bad(b"\xff.md"), "no manifest").expect("written");
    std::fs::create_dir(bad(b"\xfd")).expect("made");
    std::fs::write(bad(b"\xfd/x.yaml"), config("lost", "2")).expect("written");
    std::os::unix::fs::symlink("../../namespaces", shop.join("loop")).expect("linked");
    std::os::unix::fs::symlink("one.yaml", shop.join("readme")).expect("linked");
    let desired = world.commit("Odd names").await;
    let mut told: Vec<String> = desired
        .problems
        .iter()
        .map(|problem| {
            let file = problem.position.as_ref().map_or("", |at| &at.file);
            format!("{file}: {}", problem.message)
        })
        .collect();
    told.sort();
    assert_eq!(told.len(), 3, "{told:#?}");
    for (told, words) in told.iter().zip([
        "namespaces/a/\\xfd: this name is no UTF-8",
        "namespaces/a/\\xff\\xfe.yaml: this name is no UTF-8",
        "namespaces/a/loop: symbolic links are not followed",
    ]) {
        assert!(told.starts_with(words), "{told}");
    }
    let offline = gitsync::validate(&world.repo.dir).expect("it can be read");
    assert_eq!(offline.problems.len(), 3, "{:#?}", offline.problems);
}
