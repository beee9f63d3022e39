use http::Method;
use schemas::{
    Key, Kind, Unit,
    report::{HeldDeletions, Report, UnitReport},
};
use serde_json::Value;
use store::{RevisionWrite, UnitAt};

use super::*;
use crate::{
    control::{Looked, Unconfirmed},
    control_harness::{FakeSource, Harness, Lines, config, key},
    webhooks::Secrets,
};

const COMMIT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

async fn record(harness: &Harness, commit: &str) {
    let at = UnitAt {
        commit: commit.into(),
        held: None,
        may_delete: true,
    };
    let write = RevisionWrite {
        base: harness.store.desired().revision,
        commit: commit.into(),
        author: "a".into(),
        subject: "s".into(),
        at: jiff::Timestamp::UNIX_EPOCH,
        units: [(Unit("shop".into()), at)].into(),
        put: Vec::new(),
        drop: Vec::new(),
        problems: Vec::new(),
        confirm_trailer: None,
        source_error: None,
    };
    harness.store.record(write).await.expect("it is recorded");
}

fn publish(harness: &Harness, commit: &str, outcome: Outcome, held: Option<HeldDeletions>) {
    let unit = UnitReport {
        commit: commit.into(),
        outcome,
        reason: String::new(),
        objects: Default::default(),
        removing: Vec::new(),
    };
    harness.store.publish_report(Arc::new(Report {
        commit: Some(commit.into()),
        revision: harness.store.desired().revision,
        confirmations: *harness.store.confirmation_changes().borrow(),
        outcome,
        units: [(Unit("shop".into()), unit)].into(),
        nodes: Default::default(),
        problems: Vec::new(),
        held_deletions: held.map(Arc::new),
        source_error: None,
    }));
}

fn push_of(reference: &str, new: &str) -> String {
    json!({"updates": [{"old": "0".repeat(40), "new": new, "ref": reference}]}).to_string()
}

#[test]
fn towlines_own_branches_are_reserved() {
    for (reference, reserved) in [
        ("refs/heads/towline/status", true),
        ("refs/heads/towline", true),
        ("refs/heads/towliner", false),
        ("refs/heads/main", false),
        ("refs/tags/towline/status", false),
    ] {
        assert_eq!(is_reserved(reference), reserved, "{reference}");
    }
}

#[tokio::test]
async fn a_push_is_judged() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let objects = folder.path().join("repo.git/objects");
    std::fs::create_dir_all(objects.join("tmp_objdir-1")).expect("a folder");
    let source = FakeSource {
        repository: Some(folder.path().join("repo.git")),
        ..FakeSource::default()
    };
    let harness = Harness::with(source, Secrets::default()).await;
    let admin = harness.admin().await;
    let with = |quarantine: &std::path::Path, alternate: &std::path::Path| {
        json!({
            "updates": [{"old": "0".repeat(40), "new": COMMIT, "ref": "refs/heads/main"}],
            "quarantine": {"path": quarantine, "objectDirectory": quarantine, "alternates": [alternate]},
        })
        .to_string()
    };
    let inside = objects.join("tmp_objdir-1");
    let outside = objects.join("../..");
    for (body, code, says) in [
        (push_of("refs/heads/main", COMMIT), 200, "refs/heads/main is not valid"),
        (
            push_of("refs/heads/towline/status", COMMIT),
            200,
            "written by Towline itself",
        ),
        (with(&inside, &objects), 200, "refs/heads/main is not valid"),
        (with(&outside, &objects), 400, "not an object folder"),
        (with(&inside, &outside), 400, "not an object folder"),
        ("{}".to_owned(), 400, "not the description of a push"),
    ] {
        let (found, text) = admin.call(Method::POST, "/towline/v1/push/check", body.clone()).await;
        assert_eq!(found.as_u16(), code, "{body}: {text}");
        assert!(text.contains(says), "{body}: {text}");
    }
}

#[tokio::test]
async fn a_rollout_streams_until_it_has_ended() {
    let harness = Harness::start().await;
    record(&harness, &"b".repeat(40)).await;
    let admin = harness.admin().await;
    let response = admin
        .post("/towline/v1/push/rollout", push_of("refs/heads/main", COMMIT))
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut lines = Lines::new(response);
    record(&harness, COMMIT).await;
    assert_eq!(
        lines.next().await.as_deref(),
        Some("aaaaaaaaaa is recorded and sets nothing new")
    );
    publish(&harness, COMMIT, Outcome::Progressing, None);
    publish(&harness, COMMIT, Outcome::Converged, None);
    assert_eq!(lines.next().await.as_deref(), Some("converged"));
    assert_eq!(lines.next().await, None);
    assert_eq!(harness.source.looks.load(std::sync::atomic::Ordering::SeqCst), 1);

    for (reference, new, says) in [
        ("refs/heads/other", COMMIT, "only refs/heads/main is followed"),
        ("refs/heads/main", &*"0".repeat(40), "was deleted"),
    ] {
        let path = "/towline/v1/push/rollout";
        let (_, text) = admin.call(Method::POST, path, push_of(reference, new)).await;
        assert!(text.contains(says), "{text}");
    }
}

#[tokio::test]
async fn a_sync_ends_with_its_outcome() {
    let harness = Harness::start().await;
    let admin = harness.admin().await;
    let path = "/towline/v1/sync?wait=true";
    let last = |text: &str| -> Value {
        let line = text.lines().last().expect("a line");
        serde_json::from_str(line).expect("JSON")
    };
    let (_, text) = admin.call(Method::POST, path, "").await;
    assert_eq!(last(&text)["outcome"], "held", "no rollout has failed: {text}");
    *harness.source.looked.lock() = Some(Looked {
        head: Some(COMMIT.into()),
        problem: None,
    });
    record(&harness, COMMIT).await;
    for (outcome, word) in [
        (Outcome::Converged, "converged"),
        (Outcome::Failed, "failed"),
        (Outcome::Held, "held"),
    ] {
        publish(&harness, COMMIT, outcome, None);
        let (_, text) = admin.call(Method::POST, path, "").await;
        let last = last(&text);
        assert_eq!(
            (&last["type"], &last["outcome"], &last["commit"]),
            (&"outcome".into(), &word.into(), &COMMIT.into())
        );
    }
    publish(&harness, COMMIT, Outcome::Progressing, None);
    let (_, text) = admin
        .call(Method::POST, "/towline/v1/sync?wait=true&timeout=0", "")
        .await;
    assert_eq!(last(&text)["outcome"], "progressing", "{text}");
    let (code, _) = admin.call(Method::POST, "/towline/v1/sync", "").await;
    assert_eq!(code, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn only_the_deletions_that_wait_can_be_confirmed() {
    let harness = Harness::start().await;
    let admin = harness.admin().await;
    let confirm = async |commit: &str| {
        let path = format!("/towline/v1/sync?confirm-deletes={commit}");
        admin.call(Method::POST, &path, "").await.0.as_u16()
    };
    *harness.source.looked.lock() = Some(Looked {
        head: Some(COMMIT.into()),
        problem: None,
    });
    assert_eq!(confirm(COMMIT).await, 409);
    let held = HeldDeletions {
        commit: COMMIT.into(),
        objects: vec![key(Kind::Pod, "p")],
        since: jiff::Timestamp::UNIX_EPOCH,
        reason: "over the budget".into(),
    };
    publish(&harness, COMMIT, Outcome::Held, Some(held.clone()));
    assert_eq!(confirm(&"b".repeat(40)).await, 409);
    assert_eq!(confirm("aaa").await, 409);
    assert_eq!(harness.store.confirmations(), []);
    assert_eq!(confirm(&COMMIT[..10]).await, 202);
    let confirmed = harness.store.confirmations();
    assert_eq!(confirmed[0].keys, held.objects);
    assert_eq!(confirmed[0].who, "admin");
}

#[tokio::test]
async fn what_an_unrelated_history_lacks_can_be_confirmed_with_all_that_is_in_it() {
    let harness = Harness::start().await;
    let admin = harness.admin().await;
    *harness.source.looked.lock() = Some(Looked {
        head: Some(COMMIT.into()),
        problem: None,
    });
    let space = Key::cluster(Kind::Namespace, "shop");
    *harness.source.unconfirmed.lock() = Some(Unconfirmed {
        commit: COMMIT.into(),
        objects: vec![space.clone()],
    });
    harness.create(config("ConfigMap", "inside")).await;
    record(&harness, COMMIT).await;
    publish(&harness, COMMIT, Outcome::Held, None);
    let path = |commit: &str| format!("/towline/v1/sync?wait=true&timeout=0&confirm-deletes={commit}");
    let (code, text) = admin.call(Method::POST, &path(&"b".repeat(40)), "").await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert!(text.contains(COMMIT), "it names the commit that waits: {text}");
    let (_, text) = admin.call(Method::POST, &path(&COMMIT[..10]), "").await;
    let said = format!("2 deletions of {} confirmed", &COMMIT[..10]);
    assert!(text.lines().next().is_some_and(|line| line.contains(&said)), "{text}");
    let confirmed = harness.store.confirmations();
    assert_eq!(confirmed[0].keys, [space, key(Kind::ConfigMap, "inside")]);
}

#[tokio::test]
async fn the_command_line_reads_status_history_and_plans() {
    let harness = Harness::start().await;
    record(&harness, COMMIT).await;
    publish(&harness, COMMIT, Outcome::Converged, None);
    let admin = harness.admin().await;
    for (path, code, pointer, value) in [
        ("status", 200, "/report/outcome", json!("converged")),
        ("status", 200, "/commit", json!(COMMIT)),
        ("history", 200, "/0/commit", json!(COMMIT)),
        ("history?limit=x", 400, "/reason", json!("BadRequest")),
        ("plan?head=main", 200, "/head", json!("main")),
        ("plan?head=nothing", 404, "/reason", json!("NotFound")),
        ("nothing", 404, "/reason", json!("NotFound")),
        ("sync", 405, "/reason", json!("MethodNotAllowed")),
    ] {
        let (found, text) = admin.call(Method::GET, &format!("/towline/v1/{path}"), "").await;
        assert_eq!(found.as_u16(), code, "{path}: {text}");
        let body: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(body.pointer(pointer), Some(&value), "{path}: {text}");
    }
}
