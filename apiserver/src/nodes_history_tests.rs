use std::sync::Arc;

use schemas::{
    Kind,
    node::{Fate, Frame, Position, Term, Told},
};
use serde_json::json;
use store::MemoryLog;

use crate::{
    control_harness::{Client, FakeSource, Harness, Lines, key, pod},
    webhooks::Secrets,
};

const STREAM: &str = "/towline/v1/nodes/a/stream";

async fn server(log: &Arc<MemoryLog>) -> Harness {
    Harness::on(log.clone(), FakeSource::default(), Secrets::default()).await
}

/// The position of a snapshot and whether it goes on from where the agent was; none for another frame.
async fn snapshot(lines: &mut Lines) -> Option<(Position, bool)> {
    match lines.json().await {
        Frame::Snapshot {
            incarnation,
            term,
            version,
            continues,
            ..
        } => Some((
            Position {
                incarnation,
                term,
                version,
            },
            continues,
        )),
        _ => None,
    }
}

fn path(at: &Position, whole: bool) -> String {
    format!(
        "{STREAM}?incarnation={}&term={}&version={}&whole={whole}",
        at.incarnation.0, at.term.0, at.version
    )
}

/// What the server says of pods that were last seen at a position.
async fn fates<const N: usize>(client: &Client, pods: [(&str, Option<&Position>); N]) -> [Fate; N] {
    let missing: Vec<_> = pods
        .iter()
        .map(|(name, seen)| json!({"key": key(Kind::Pod, name), "uid": format!("uid-{name}"), "seen": seen}))
        .collect();
    let told = client.ok("/towline/v1/nodes/a/missing", json!(missing)).await;
    let told: Vec<Told> = serde_json::from_value(told).expect("the fates");
    std::array::from_fn(|at| told[at].fate)
}

#[tokio::test]
async fn a_server_that_takes_over_goes_on_with_the_history() {
    let log = Arc::new(MemoryLog::default());
    let first = server(&log).await;
    for name in ["p", "q"] {
        first.create(pod(name, "a", json!({}))).await;
    }
    let a = first.node("a").await;
    let (at, continues) = snapshot(&mut a.lines(STREAM).await).await.expect("a snapshot");
    assert!(!continues, "there was nothing to go on from");
    first.store.close().await;

    let second = server(&log).await;
    let a = second.node("a").await;
    second.remove(&key(Kind::Pod, "p")).await;
    assert!(
        snapshot(&mut a.lines(&path(&at, false)).await).await.is_none(),
        "a delta"
    );
    let (next, continues) = snapshot(&mut a.lines(&path(&at, true)).await)
        .await
        .expect("a snapshot");
    assert!(continues && next.term != at.term && next.incarnation == at.incarnation);
    let forged = Position {
        term: Term("another".into()),
        ..at.clone()
    };
    assert_eq!(
        fates(&a, [("p", Some(&at)), ("p", None), ("q", Some(&at)), ("never", None)]).await,
        [Fate::Deleted, Fate::Deleted, Fate::Bound, Fate::Unknown]
    );
    assert_eq!(
        fates(&a, [("never", Some(&forged)), ("long-ago", Some(&at))]).await,
        [Fate::Unknown, Fate::Deleted]
    );
}

#[tokio::test]
async fn a_database_that_was_put_back_unnoticed_vouches_for_nothing_that_it_has_not_seen() {
    let log = Arc::new(MemoryLog::default());
    let first = server(&log).await;
    first.create(pod("p", "a", json!({}))).await;
    let a = first.node("a").await;
    snapshot(&mut a.lines(STREAM).await).await.expect("a snapshot");
    let backup = log.backup();
    first.create(pod("q", "a", json!({}))).await;
    let (at, _) = snapshot(&mut a.lines(STREAM).await).await.expect("a snapshot");
    first.store.close().await;

    // The same incarnation: nothing beside the database says how far it had come.
    let restored = Arc::new(MemoryLog::default());
    restored.restore(backup);
    let second = server(&restored).await;
    let a = second.node("a").await;
    for beyond in [false, true] {
        if beyond {
            for number in 0..20 {
                second.create(pod(&format!("r{number}"), "b", json!({}))).await;
            }
            assert!(second.store.version() > at.version);
        }
        let (next, continues) = snapshot(&mut a.lines(&path(&at, false)).await)
            .await
            .expect("a snapshot");
        assert_eq!(next.incarnation, at.incarnation);
        assert!(!continues, "beyond: {beyond}");
        assert_eq!(
            fates(&a, [("q", Some(&at)), ("q", None), ("p", Some(&at))]).await,
            [Fate::Unknown, Fate::Unknown, Fate::Bound]
        );
    }
}

#[tokio::test]
async fn a_stream_over_another_life_of_the_store_says_nothing_is_gone() {
    let log = Arc::new(MemoryLog::default());
    let harness = server(&log).await;
    let a = harness.node("a").await;
    let backup = log.backup();
    harness.create(pod("p", "a", json!({}))).await;
    let mut lines = a.lines(STREAM).await;
    let (at, _) = snapshot(&mut lines).await.expect("a snapshot");
    log.restore(backup);
    // The next write finds out; which of the store's signals wakes the stream first is chance.
    while harness.store.incarnation() == at.incarnation {
        let line = store::AuditLine {
            at: jiff::Timestamp::UNIX_EPOCH,
            user: "test".into(),
            verb: "look".into(),
            resource: "nothing".into(),
            code: 200,
            detail: String::new(),
        };
        let _ = harness.store.audit(vec![line]).await;
    }
    let (next, continues) = snapshot(&mut lines).await.expect("no delta");
    assert!(next.incarnation != at.incarnation && !continues);
}
