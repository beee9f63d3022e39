//! What became of pods that a snapshot lacked, as far as this server can vouch for it.

use std::collections::HashSet;

use http::StatusCode;
use schemas::{
    Kind, Object, Uid,
    node::{Fate, Missing, Told},
    report,
};
use store::{AuditLine, Scope, Store};

use crate::{
    control::Front,
    exchange::{self, Call, Response},
    status::ApiError,
};

/// Pods that are named in the audit line of a question; the rest is counted.
const NAMED: usize = 10;

/// Answers from a fresh look, after a commit that only the leader can make.
pub(crate) async fn answer(front: &Front, node: &str, call: &mut Call) -> Result<Response, ApiError> {
    let body = call.take_body(exchange::MAX_BODY).await?;
    let missing: Vec<Missing> = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body is not a list of missing pods: {error}")))?;
    // Whether this server still leads shows when it writes.
    let line = AuditLine {
        at: front.clock.now().wall,
        user: format!("system:node:{node}"),
        verb: "ask".to_owned(),
        resource: format!("nodes/{node}/missing"),
        code: StatusCode::OK.as_u16(),
        detail: named(&missing),
    };
    front.store.audit(vec![line]).await?;
    let history = front.histories.current(&front.store).await?;
    let removed = removed(&front.store, node);
    let view = front.store.view();
    if *view.incarnation() != history.incarnation {
        return Err(ApiError::unavailable(
            "the store has just begun another life; ask again".to_owned(),
        ));
    }
    let newest = view.version();
    let told: Vec<Told> = missing
        .into_iter()
        .map(|missing| {
            let held = missing.seen.is_some_and(|seen| history.holds(&seen, newest));
            let stored = view.by_uid(&missing.uid).map(|pod| &**pod);
            Told {
                fate: judge(stored, node, held || removed.contains(&missing.uid)),
                uid: missing.uid,
            }
        })
        .collect();
    let unknown = told.iter().filter(|told| told.fate == Fate::Unknown).count();
    tracing::info!(
        node,
        asked = told.len(),
        unknown,
        "an agent asked about pods that a snapshot lacked"
    );
    Ok(exchange::json(StatusCode::OK, &told))
}

/// `was_here` says that this history had the pod: then its absence is a deletion.
fn judge(stored: Option<&Object>, node: &str, was_here: bool) -> Fate {
    match stored {
        Some(pod) if pod.kind == Kind::Pod && pod.node.as_deref() == Some(node) => Fate::Bound,
        None if was_here => Fate::Deleted,
        _ => Fate::Unknown,
    }
}

/// The pods of a node whose deletion the change log still has.
fn removed(store: &Store, node: &str) -> HashSet<Uid> {
    let mut removed = HashSet::new();
    // The oldest version moves on; one that has just gone is no reason to fail.
    let watch = (0..3).find_map(|_| store.watch(Scope::node(node), Some(store.oldest())).ok());
    let Some(mut watch) = watch else { return removed };
    while let Some(changes) = watch.ready().filter(|changes| !changes.is_empty()) {
        let gone = changes.into_iter().filter(|change| change.new.is_none());
        removed.extend(gone.filter_map(|change| Some(change.old?.uid())));
    }
    removed
}

fn named(missing: &[Missing]) -> String {
    let names: Vec<String> = missing
        .iter()
        .take(NAMED)
        .map(|pod| format!("{} {}", pod.key, pod.uid))
        .collect();
    let rest = report::rest(names.len(), missing.len());
    let rest = rest.map(|rest| format!(" {rest}")).unwrap_or_default();
    format!("{} pods: {}{rest}", missing.len(), names.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_here_is_said_to_be_deleted() {
        let pod = |node: &str| {
            Object::from_value(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "u"},
                "spec": {"containers": [], "nodeName": node},
            }))
            .expect("a pod")
        };
        for (stored, was_here, fate) in [
            (Some(pod("a")), false, Fate::Bound),
            (Some(pod("a")), true, Fate::Bound),
            (Some(pod("b")), true, Fate::Unknown),
            (None, true, Fate::Deleted),
            (None, false, Fate::Unknown),
        ] {
            assert_eq!(judge(stored.as_ref(), "a", was_here), fate, "{stored:?} {was_here}");
        }
    }
}
