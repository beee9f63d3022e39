//! Revisions and desired rows.

use std::{collections::BTreeMap, sync::Arc};

use schemas::{Commit, ContentHash, Key, Kind, Unit};
use serde_json::json;
use store::{
    DesiredRow, RevisionWrite, UnitAt,
    log::{Log, Stage},
};

use super::open;

pub(crate) fn row(name: &str, text: &str, commit: &str) -> DesiredRow {
    let content = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"},
        "data": {"text": text}});
    DesiredRow {
        unit: Unit("shop".into()),
        key: Key::namespaced(Kind::ConfigMap, "shop", name),
        hash: ContentHash::of(&content),
        content: Arc::new(content),
        file: format!("{name}.yaml").as_str().into(),
        line: 1,
        commit: commit.into(),
    }
}

pub(crate) fn revision(base: u64, commit: &str, put: Vec<DesiredRow>, drop: Vec<Key>) -> RevisionWrite {
    let at = UnitAt {
        commit: commit.into(),
        held: None,
        may_delete: true,
    };
    RevisionWrite {
        base,
        commit: commit.into(),
        author: "Ada <ada@example.org>".into(),
        subject: format!("Change to {commit}"),
        at: "2026-01-02T03:04:05Z".parse().expect("a time"),
        units: BTreeMap::from([(Unit("shop".into()), at)]),
        put,
        drop,
        problems: Vec::new(),
        confirm_trailer: None,
        source_error: None,
    }
}

pub(crate) async fn revisions_are_differences(log: Arc<dyn Log>) {
    let store = open(log.clone()).await;
    let mut changes = store.desired_changes();
    let first = revision(0, "c1", vec![row("a", "1", "c1"), row("b", "1", "c1")], Vec::new());
    let desired = store.record(first).await.expect("recorded");
    assert_eq!((desired.revision, desired.rows.len()), (1, 2));
    changes.wait_for(|number| *number == 1).await.expect("woken");
    let stale = store.record(revision(0, "c0", Vec::new(), Vec::new())).await;
    assert!(stale.is_err());
    let mut second = revision(1, "c2", vec![row("a", "2", "c2")], vec![row("b", "", "").key]);
    second.source_error = Some("it is away".into());
    store.record(second).await.expect("recorded");
    let now = store.desired();
    assert_eq!(
        now.rows
            .values()
            .map(|row| row.content["data"]["text"].clone())
            .collect::<Vec<_>>(),
        [json!("2")]
    );
    store.close().await;

    let store = open(log).await;
    let loaded = store.desired();
    assert_eq!(
        (loaded.revision, &loaded.commit, &loaded.units),
        (2, &Some(Commit::from("c2")), &now.units)
    );
    assert_eq!(loaded.rows, now.rows);
    assert_eq!(loaded.source_error.as_deref(), Some("it is away"));
    let lines = store.revisions(10).await.expect("read");
    assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(
        (lines[0].changed, lines[0].dropped, lines[0].author.as_str()),
        (1, 1, "Ada <ada@example.org>")
    );
    let earlier = store.desired_at(1).await.expect("read").expect("kept");
    assert_eq!(earlier.rows, desired.rows);
    assert_eq!(
        store.desired_at(9).await.expect("read").map(|found| found.revision),
        None
    );
    store
        .record(revision(2, "c3", vec![row("b", "1", "c3")], Vec::new()))
        .await
        .expect("recorded");
    assert_eq!(store.desired().rows.len(), 2);

    let declared = |rows: Vec<store::DesiredRow>| {
        let texts = rows
            .iter()
            .map(|row| format!("{} {}", row.commit, row.content["data"]["text"]));
        texts.collect::<Vec<_>>()
    };
    let of = |name: &str| row(name, "1", "c1").key;
    let all = store.declarations(&of("a"), 9).await.expect("read");
    let was = ["c2 \"2\"", "c1 \"1\""];
    assert_eq!(
        declared(all),
        was,
        "newest first, each with the commit that declared it"
    );
    let newest = store.declarations(&of("a"), 1).await.expect("read");
    assert_eq!(declared(newest), &was[..1]);
    assert!(store.declarations(&of("never"), 9).await.expect("read").is_empty());
}

pub(crate) async fn a_large_revision_is_recorded_whole(log: Arc<dyn Log>) {
    let store = open(log.clone()).await;
    let name = |n: usize| format!("c{n:05}");
    let put = (0..2500).map(|n| row(&name(n), "1", "c1")).collect();
    let first = store
        .record(revision(0, "c1", put, Vec::new()))
        .await
        .expect("recorded");
    assert_eq!((first.revision, first.rows.len()), (1, 2500));
    let put = (1000..2200).map(|n| row(&name(n), "2", "c2")).collect();
    let drop = (0..1000).map(|n| row(&name(n), "", "").key).collect();
    let second = store.record(revision(1, "c2", put, drop)).await.expect("recorded");
    assert_eq!(second.rows.len(), 1500);
    // One that is small follows on one that was not.
    let third = store
        .record(revision(2, "c3", vec![row("c00000", "3", "c3")], Vec::new()))
        .await
        .expect("recorded");
    store.close().await;

    let store = open(log).await;
    assert_eq!(store.desired().rows, third.rows);
    for (number, then) in [(1, first), (2, second)] {
        let kept = store.desired_at(number).await.expect("read").expect("kept");
        assert_eq!(kept.rows, then.rows, "revision {number}");
    }
}

pub(crate) async fn what_was_staged_and_never_recorded_is_never_seen(log: Arc<dyn Log>) {
    let store = open(log.clone()).await;
    let before = store
        .record(revision(
            0,
            "c1",
            vec![row("a", "1", "c1"), row("b", "1", "c1")],
            Vec::new(),
        ))
        .await
        .expect("recorded");
    store.close().await;
    // A server dies between the parts of a large revision.
    let epoch = log.take_office(0).await.expect("it leads").epoch;
    let stage = Stage {
        write: Arc::new(revision(
            1,
            "c2",
            vec![row("a", "2", "c2"), row("z", "2", "c2")],
            vec![row("b", "", "").key],
        )),
        put: 0..2,
        drop: 0..1,
    };
    log.stage(epoch, &stage).await.expect("staged");

    let store = open(log.clone()).await;
    assert_eq!(store.desired().rows, before.rows);
    let after = store
        .record(revision(1, "c3", vec![row("c", "3", "c3")], Vec::new()))
        .await
        .expect("recorded");
    assert_eq!(after.rows.len(), 3);
    store.close().await;
    let store = open(log).await;
    assert_eq!(
        store.desired().rows,
        after.rows,
        "what was staged for another commit is not of this one"
    );
    let earlier = store.desired_at(1).await.expect("read").expect("kept");
    assert_eq!(earlier.rows, before.rows);
}
