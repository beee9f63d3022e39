use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rustc_hash::FxHashSet;
use schemas::{Kind, report::Severity};

use super::*;
use crate::parsed::ParsedFile;

/// What is at a path after a commit.
#[derive(Clone, Debug)]
enum Content {
    Absent,
    /// Names and values of ConfigMaps.
    Good(BTreeMap<&'static str, u8>),
    /// The same, and then something that no one can read.
    Broken(BTreeMap<&'static str, u8>),
}

const PATHS: [&str; 5] = [
    "namespaces/a/x.yaml",
    "namespaces/a/y.yaml",
    "namespaces/b/x.yaml",
    "namespaces/b/y.yaml",
    "apps/z.yaml",
];

const NAMES: [&str; 3] = ["one", "two", "three"];

fn content() -> impl Strategy<Value = Content> {
    let objects = || proptest::collection::btree_map(proptest::sample::select(&NAMES[..]), 0..2_u8, 0..3);
    prop_oneof![
        2 => Just(Content::Absent),
        4 => objects().prop_map(Content::Good),
        1 => objects().prop_map(Content::Broken),
    ]
}

fn text(content: &Content) -> Option<String> {
    let (objects, end) = match content {
        Content::Absent => return None,
        Content::Good(objects) => (objects, ""),
        Content::Broken(objects) => (objects, "---\napiVersion: v1\nkind: [\n"),
    };
    let documents = objects.iter().map(|(name, value)| {
        format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  v: \"{value}\"\n")
    });
    Some(documents.collect::<String>() + end)
}

/// The store's side: a revision applied to the one before.
fn apply(desired: &Desired, write: &RevisionWrite) -> Desired {
    let mut after = desired.clone();
    after.revision += 1;
    after.commit = Some(write.commit.clone());
    after.units.clone_from(&write.units);
    after.problems.clone_from(&write.problems);
    after.source_error.clone_from(&write.source_error);
    for key in &write.drop {
        after.rows.remove(key);
    }
    for row in &write.put {
        after.rows.insert(row.key.clone(), Arc::new(row.clone()));
    }
    after
}

fn info(number: usize) -> CommitInfo {
    CommitInfo {
        commit: format!("{number:040x}").as_str().into(),
        author: "Ann".into(),
        subject: "Change".into(),
        confirm_trailer: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Over any history of good and broken files: a held unit does not move, what is sound is exactly
    /// as declared, nothing is dropped that a broken file may declare, and the way does not matter.
    #[test]
    fn only_what_is_broken_is_held(commits in proptest::collection::vec(proptest::collection::vec((0..PATHS.len(), content()), 1..4), 1..8)) {
        let mut index = Index::default();
        let mut desired = Desired::default();
        let mut book = Book::read(&desired, &index);
        let mut last = BTreeMap::new();
        for (number, changes) in commits.iter().enumerate() {
            let mut touched = FxHashSet::default();
            for (path, content) in changes {
                last.insert(PATHS[*path], content.clone());
                match text(content) {
                    Some(text) => index.put(Arc::new(ParsedFile::read(PATHS[*path], text.as_bytes())), &mut touched),
                    None => index.remove(PATHS[*path], &mut touched),
                }
            }
            let at = Timestamp::UNIX_EPOCH;
            let revised = revise(&index, &book, &touched, &desired, &info(number + 1), None, at);
            let scratch = revise(&index, &Book::read(&desired, &index), &FxHashSet::default(), &desired, &info(number + 1), None, at);
            prop_assert_eq!(&revised.write.put, &scratch.write.put);
            prop_assert_eq!(&revised.write.drop, &scratch.write.drop);
            prop_assert_eq!(&revised.write.units, &scratch.write.units);
            prop_assert_eq!(&revised.write.problems, &scratch.write.problems);

            let after = apply(&desired, &revised.write);
            let held: BTreeSet<&Unit> = after.units.iter().filter(|(_, at)| at.held.is_some()).map(|(unit, _)| unit).collect();
            let broken: Vec<&str> = last.iter().filter(|(_, content)| matches!(content, Content::Broken(_))).map(|(path, _)| *path).collect();
            for path in &broken {
                if let Some(namespace) = path.strip_prefix("namespaces/") {
                    prop_assert!(held.contains(&Unit(namespace[..1].into())), "{} holds its folder's unit", path);
                }
                for row in desired.rows.values().filter(|row| &*row.file == *path) {
                    prop_assert!(held.contains(&row.unit), "{} holds what it fed", path);
                }
            }
            for (key, row) in desired.rows.iter() {
                if held.contains(&row.unit) {
                    prop_assert_eq!(after.rows.get(key), Some(row), "a held unit does not move");
                } else if !after.rows.contains_key(key) {
                    for path in &broken {
                        let mentioned = matches!(&last[path], Content::Broken(objects) if objects.contains_key(&*key.name));
                        prop_assert!(!mentioned, "{} was dropped, but {} mentions it", key, path);
                    }
                }
            }
            for key in index.keys().filter(|key| !held.contains(&Unit::of(key))) {
                let declared = index.declaration(key).map(|(file, manifest)| (file, manifest.hash, manifest.line));
                let row = after.rows.get(key).map(|row| (&row.file, row.hash, row.line));
                prop_assert_eq!(row, declared, "{} is as it is declared", key);
            }
            if after.problems.iter().all(|problem| problem.severity != Severity::Error) {
                prop_assert_eq!(after.rows.keys().collect::<BTreeSet<_>>(), index.keys().collect::<BTreeSet<_>>());
                prop_assert!(after.units.values().all(|at| at.may_delete && at.commit == info(number + 1).commit));
            }
            book.follow(&desired, &revised.write, revised.pending, after.revision);
            desired = after;
        }
    }
}

#[test]
fn a_namespace_stays_while_something_has_to_stay_in_it() {
    let mut touched = FxHashSet::default();
    let mut index = Index::default();
    let one = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: one\n";
    let put = |index: &mut Index, path: &str, text: &str, touched: &mut FxHashSet<Key>| {
        index.put(Arc::new(ParsedFile::read(path, text.as_bytes())), touched);
    };
    put(
        &mut index,
        "namespaces/a/ns.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n",
        &mut touched,
    );
    put(&mut index, "namespaces/a/one.yaml", one, &mut touched);
    put(
        &mut index,
        "namespaces/b/two.yaml",
        &one.replace("one", "two"),
        &mut touched,
    );
    let empty = Desired::default();
    let first = revise(
        &index,
        &Book::default(),
        &touched,
        &empty,
        &info(1),
        None,
        Timestamp::UNIX_EPOCH,
    );
    let desired = apply(&empty, &first.write);
    index.remove("namespaces/a/ns.yaml", &mut touched);
    index.remove("namespaces/a/one.yaml", &mut touched);
    put(&mut index, "namespaces/b/one.yaml", one, &mut touched);
    put(&mut index, "namespaces/b/two.yaml", "broken: [", &mut touched);
    let book = Book::read(&desired, &index);
    let second = revise(&index, &book, &touched, &desired, &info(2), None, Timestamp::UNIX_EPOCH);
    assert_eq!(second.write.drop, []);
    assert!(second.pending.contains(&Key::cluster(Kind::Namespace, "a")));
    put(
        &mut index,
        "namespaces/b/two.yaml",
        &one.replace("one", "two"),
        &mut touched,
    );
    let third = revise(&index, &book, &touched, &desired, &info(3), None, Timestamp::UNIX_EPOCH);
    assert_eq!(third.write.drop.len(), 2);
}

#[test]
fn a_broken_source_keeps_every_row_and_deletes_nothing() {
    let mut touched = FxHashSet::default();
    let mut index = Index::default();
    index.put(
        Arc::new(ParsedFile::read(
            "one.yaml",
            b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: one\n",
        )),
        &mut touched,
    );
    let empty = Desired::default();
    let first = revise(
        &index,
        &Book::default(),
        &touched,
        &empty,
        &info(1),
        None,
        Timestamp::UNIX_EPOCH,
    );
    let desired = apply(&empty, &first.write);
    let write = broken(&desired, "the branch is gone".into(), Timestamp::UNIX_EPOCH);
    let after = apply(&desired, &write);
    assert_eq!(after.rows, desired.rows);
    assert_eq!(after.commit, desired.commit);
    assert!(after.units.values().all(|at| !at.may_delete));
    let held = |at: &UnitAt| at.held.as_deref() == Some("the branch is gone");
    assert!(after.units.values().all(held), "{:?}", after.units);
    assert_eq!(after.source_error.as_deref(), Some("the branch is gone"));
}

#[test]
fn what_an_unrelated_history_lacks_is_held_at_the_commit_that_has_it() {
    let file = |path: &str, name: &str| {
        let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n");
        Arc::new(ParsedFile::read(path, text.as_bytes()))
    };
    let mut touched = FxHashSet::default();
    let mut index = Index::default();
    for (path, name) in [
        ("namespaces/a/one.yaml", "one"),
        ("namespaces/b/two.yaml", "two"),
        ("namespaces/c/three.yaml", "three"),
        ("namespaces/c/four.yaml", "four"),
    ] {
        index.put(file(path, name), &mut touched);
    }
    let at = Timestamp::UNIX_EPOCH;
    let empty = Desired::default();
    let first = revise(&index, &Book::default(), &touched, &empty, &info(1), None, at);
    let desired = apply(&empty, &first.write);
    let book = Book::read(&desired, &index);
    touched.clear();
    index.remove("namespaces/b/two.yaml", &mut touched);
    index.remove("namespaces/c/four.yaml", &mut touched);
    let why = Some("unrelated".to_owned());
    let second = revise(&index, &book, &touched, &desired, &info(2), why.clone(), at);
    assert!(second.write.drop.is_empty());
    for (unit, commit, held) in [("a", 2, None), ("b", 1, why.clone()), ("c", 2, why)] {
        let found = &second.write.units[&Unit(unit.into())];
        assert_eq!((&found.commit, &found.held), (&info(commit).commit, &held), "{unit}");
    }
}
