//! Contents with which a rollout failed and whose manifest asks for a revert: they are kept, reverted
//! once at most, and not released again.

use std::{collections::BTreeMap, sync::Arc};

use schemas::{
    ContentHash, Key, Kind, Now,
    report::{ObjectReport, Outcome},
    restore::{BAD_CONTENTS, BadContent, Reverted},
    rollout::{self, OnFailure},
};
use store::{DesiredRow, Mark, Store};

/// The word of the reason why such a content is not released.
pub(crate) const BAD: &str = "BadContent";

/// Everything that is kept, by object and content.
pub(crate) type Bad = BTreeMap<(Key, ContentHash), Arc<BadContent>>;

/// What is kept in the store.
pub(crate) fn kept(store: &Store) -> Bad {
    let documents = store.documents(BAD_CONTENTS).into_iter();
    documents
        .filter_map(|(_, value)| {
            let bad: BadContent = serde_json::from_value(value).ok()?;
            Some(((bad.key.clone(), bad.content), Arc::new(bad)))
        })
        .collect()
}

/// The objects of which something else is kept now.
pub(crate) fn changed(old: &Bad, new: &Bad) -> Vec<Key> {
    let differs = |entry: &&(Key, ContentHash)| old.get(*entry) != new.get(*entry);
    let mut keys: Vec<Key> = old
        .keys()
        .chain(new.keys())
        .filter(differs)
        .map(|(key, _)| key.clone())
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Whether a failed rollout of this content is to be reverted: its manifest says so, it has never been
/// healthy, and another content has, of which it is known where it is declared.
pub(crate) fn is_revertible(row: &DesiredRow, healthy: &[Mark]) -> bool {
    rollout::on_failure(&row.content) == Some(OnFailure::Revert)
        && healthy.iter().all(|mark| mark.content != row.hash)
        && healthy.iter().any(|mark| !mark.commit.0.is_empty())
}

/// The content of a rollout that has failed for good. A Deployment has its progress deadline; the other
/// kinds have failed once they have stalled for long enough.
pub(crate) fn given_up(row: &DesiredRow, report: &ObjectReport, now: Now) -> Option<BadContent> {
    if report.outcome != Outcome::Failed || report.stale {
        return None;
    }
    let failed = match row.key.kind {
        Kind::Deployment => report.reason.starts_with("ProgressDeadlineExceeded"),
        // How a Job ends is no rollout.
        kind => rollout::rolls_out(kind),
    };
    failed.then(|| BadContent {
        key: row.key.clone(),
        content: row.hash,
        commit: row.commit.clone(),
        file: row.file.to_string(),
        reason: report.reason.clone(),
        since: now.wall,
        reverted: Reverted::Pending,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use schemas::{Unit, labels};
    use serde_json::{Value, json};

    use super::*;

    fn row(kind: Kind, on_failure: Option<&str>) -> DesiredRow {
        let annotations = on_failure.map_or_else(|| json!({}), |word| json!({labels::ON_FAILURE: word}));
        DesiredRow {
            unit: Unit("a".into()),
            key: Key::namespaced(kind, "a", "web"),
            hash: ContentHash([2; 32]),
            content: Arc::new(json!({"metadata": {"annotations": annotations}})),
            file: "web.yaml".into(),
            line: 1,
            commit: "c2".into(),
        }
    }

    #[test]
    fn a_content_is_revertible_that_was_never_healthy_where_another_was() {
        let mark = |content: u8, commit: &str| Mark {
            content: ContentHash([content; 32]),
            commit: commit.into(),
            file: "web.yaml".into(),
            line: 1,
        };
        for (on_failure, healthy, revertible) in [
            (Some("revert"), vec![mark(1, "c1")], true),
            (None, vec![mark(1, "c1")], false),
            (Some("revert"), vec![], false),
            (Some("revert"), vec![mark(1, "")], false),
            (Some("revert"), vec![mark(2, "c2"), mark(1, "c1")], false),
        ] {
            let row = row(Kind::Deployment, on_failure);
            assert_eq!(is_revertible(&row, &healthy), revertible, "{on_failure:?} {healthy:?}");
        }
    }

    #[test]
    fn rollouts_fail_and_jobs_do_not() {
        let now = Now {
            wall: jiff::Timestamp::UNIX_EPOCH,
            monotonic: Duration::ZERO,
        };
        let deadline = "ProgressDeadlineExceeded: no progress";
        for (kind, outcome, reason, stale, failed) in [
            (Kind::Deployment, Outcome::Failed, deadline, false, true),
            (Kind::Deployment, Outcome::Failed, deadline, true, false),
            (
                Kind::Deployment,
                Outcome::Failed,
                "ImagePullBackOff: it may still come",
                false,
                false,
            ),
            (Kind::Deployment, Outcome::Progressing, deadline, false, false),
            (
                Kind::StatefulSet,
                Outcome::Failed,
                "CrashLoopBackOff: 3 times",
                false,
                true,
            ),
            (Kind::Job, Outcome::Failed, "BackoffLimitExceeded", false, false),
        ] {
            let report = ObjectReport {
                outcome,
                reason: reason.to_owned(),
                position: None,
                status: Value::Null,
                stale,
                gated: false,
            };
            let found = given_up(&row(kind, Some("revert")), &report, now);
            assert_eq!(found.is_some(), failed, "{kind} {outcome:?} {reason}");
            let bad = found.map(|bad| (bad.content, bad.reverted));
            assert!(bad.is_none_or(|bad| bad == (ContentHash([2; 32]), Reverted::Pending)));
        }
    }

    #[test]
    fn those_are_looked_at_of_which_something_else_is_kept() {
        let row = row(Kind::Deployment, None);
        let bad = |reason: &str| -> Bad {
            let bad = BadContent {
                key: row.key.clone(),
                content: row.hash,
                commit: row.commit.clone(),
                file: row.file.to_string(),
                reason: reason.to_owned(),
                since: jiff::Timestamp::UNIX_EPOCH,
                reverted: Reverted::Pending,
            };
            BTreeMap::from([((row.key.clone(), row.hash), Arc::new(bad))])
        };
        assert_eq!(changed(&Bad::new(), &bad("a")), std::slice::from_ref(&row.key));
        assert_eq!(changed(&bad("a"), &bad("b")), std::slice::from_ref(&row.key));
        assert_eq!(changed(&bad("a"), &bad("a")), []);
    }
}
