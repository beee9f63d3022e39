//! `POST rollback?kind=&name=&namespace=&to=COMMIT`: puts an object's document back to its last healthy
//! content, or to that of a commit, as a commit. Answers with what was written.

use http::StatusCode;
use schemas::{
    Key,
    restore::{Restore, Target, Why},
};
use store::{DesiredRow, Mark};

use crate::{
    control::Front,
    exchange::{self, Response},
    explain,
    identity::Identity,
    query::Query,
    status::ApiError,
};

/// So many earlier places of a declaration are looked at for an older commit.
const PLACES: usize = 50;

pub(crate) async fn answer(front: &Front, identity: &Identity, query: &Query) -> Result<Response, ApiError> {
    let key = explain::asked(query)?;
    // What was pushed a moment ago counts.
    front.source.look_and_wait().await?;
    let row = front.store.desired().rows.get(&key).cloned();
    let row = row.ok_or_else(|| undeclared(front, &key))?;
    let to = match query.text("to") {
        Some(text) => {
            let earlier = front.store.declarations(&key, PLACES).await?;
            Target::Revision {
                text: text.to_owned(),
                files: files(&row, &earlier),
            }
        }
        None => last_healthy(&row, &front.store.healthy(&key)).ok_or_else(|| {
            conflict(format!(
                "no other content of {key} is known to have been healthy: name a commit to go back to, --to COMMIT"
            ))
        })?,
    };
    let asked = Restore {
        key: key.clone(),
        file: row.file.to_string(),
        to,
        why: Why::Asked {
            by: identity.user.clone(),
        },
    };
    let restored = front.source.restore(asked).await?;
    let detail = format!("{} on {}, from {}", restored.commit, restored.branch, restored.from);
    front.audit(identity, "rollback", &key.to_string(), detail).await;
    Ok(exchange::json(StatusCode::OK, &restored))
}

/// The newest content that was healthy and is not the one that is declared now.
fn last_healthy(row: &DesiredRow, healthy: &[Mark]) -> Option<Target> {
    let mut known = healthy.iter().filter(|mark| !mark.commit.0.is_empty());
    let mark = known.find(|mark| mark.content != row.hash)?;
    Some(Target::Content {
        commit: mark.commit.clone(),
        file: mark.file.to_string(),
        hash: mark.content,
    })
}

/// The files that have declared an object, the newest first.
fn files(row: &DesiredRow, earlier: &[DesiredRow]) -> Vec<String> {
    let mut files = vec![row.file.to_string()];
    for row in earlier {
        if !files.iter().any(|known| **known == *row.file) {
            files.push(row.file.to_string());
        }
    }
    files
}

fn undeclared(front: &Front, key: &Key) -> ApiError {
    let owner = front.store.get(key).and_then(|object| {
        let owner = object.controller()?;
        Some(format!("{}/{}", owner.kind.to_lowercase(), owner.name))
    });
    let message = match owner {
        Some(owner) => format!("git does not declare {key}: it comes from {owner}, roll that back"),
        None => format!("git does not declare {key}: there is no document to put back"),
    };
    ApiError::new(StatusCode::NOT_FOUND, "NotFound", message)
}

fn conflict(message: String) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "Conflict", message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use schemas::{ContentHash, Kind, Unit};
    use serde_json::json;

    use super::*;

    fn row(content: u8, file: &str) -> DesiredRow {
        DesiredRow {
            unit: Unit("shop".into()),
            key: Key::namespaced(Kind::Deployment, "shop", "web"),
            hash: ContentHash([content; 32]),
            content: Arc::new(json!({})),
            file: file.into(),
            line: 1,
            commit: "c".into(),
        }
    }

    #[test]
    fn it_goes_back_to_the_newest_other_content_that_was_healthy() {
        let mark = |content: u8, commit: &str| Mark {
            content: ContentHash([content; 32]),
            commit: commit.into(),
            file: "old.yaml".into(),
            line: 1,
        };
        for (marks, commit) in [
            (vec![], None),
            (vec![mark(3, "c3")], None),
            (vec![mark(2, "c2"), mark(1, "c1")], Some("c2")),
            (vec![mark(3, "c3"), mark(1, "c1")], Some("c1")),
            // Of marks of an earlier version it is not known where they were declared.
            (vec![mark(2, ""), mark(1, "c1")], Some("c1")),
        ] {
            let target = last_healthy(&row(3, "web.yaml"), &marks);
            let found = match &target {
                Some(Target::Content { commit, file, .. }) if file == "old.yaml" => Some(&*commit.0),
                _ => None,
            };
            assert_eq!(found, commit, "{marks:?}");
        }
        assert_eq!(
            files(
                &row(3, "b.yaml"),
                &[row(3, "b.yaml"), row(2, "a.yaml"), row(1, "b.yaml")]
            ),
            ["b.yaml", "a.yaml"]
        );
    }
}
