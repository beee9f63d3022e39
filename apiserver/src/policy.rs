//! What may be written here, and what only through git.

use http::StatusCode;
use schemas::{
    Key, Kind, Object, Unit,
    writable::{self, Facts, Part, WritePolicy},
};
use store::{Desired, Store};

use crate::{
    path::{Sub, Verb},
    status::ApiError,
};

/// One write, as the table of what becomes a commit sees it.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub verb: Verb,
    pub key: &'a Key,
    pub sub: Option<Sub>,
    /// The object as it is, if it is there.
    pub live: Option<&'a Object>,
    /// The object as it would be; none for a deletion.
    pub new: Option<&'a Object>,
}

/// Whether a write may be done directly.
///
/// # Errors
/// A 403 that names the file to edit, or the folder to put one in.
pub(crate) fn check(store: &Store, attempt: Attempt<'_>) -> Result<(), ApiError> {
    let desired = store.desired();
    match policy(&desired, attempt) {
        WritePolicy::Direct => Ok(()),
        WritePolicy::ThroughGit => Err(refusal(
            attempt.key,
            &where_to_edit(&desired, attempt.verb, attempt.key),
        )),
        WritePolicy::Refused(why) => Err(refusal(attempt.key, why.reason())),
    }
}

fn policy(desired: &Desired, attempt: Attempt<'_>) -> WritePolicy {
    let part = match attempt.sub {
        None => Part::Whole,
        // A sub-resource that the table does not know is not written to.
        Some(sub) => Part::of_sub_resource(Some(sub.word())).unwrap_or(Part::Whole),
    };
    let verb = match attempt.verb {
        Verb::Create => writable::Verb::Create,
        Verb::Delete | Verb::DeleteCollection => writable::Verb::Delete,
        _ => writable::Verb::Update,
    };
    let only_scheduling = match (attempt.key.kind, attempt.live, attempt.new) {
        (Kind::Node, Some(live), Some(new)) => writable::only_scheduling(&live.to_value(), &new.to_value()),
        _ => false,
    };
    let facts = Facts {
        declared: desired.rows.contains_key(attempt.key) || is_used(desired, attempt.key),
        controlled: attempt.live.is_some_and(|live| live.controller().is_some()),
        was_declared: attempt.live.is_some_and(writable::was_declared),
        only_scheduling,
    };
    writable::write_policy(attempt.key.kind, verb, part, facts)
}

/// Whether manifests declare objects in this Namespace. `default` is always there.
fn is_used(desired: &Desired, key: &Key) -> bool {
    key.kind == Kind::Namespace && (&*key.name == "default" || desired.units.contains_key(&Unit::of(key)))
}

/// The sentence that says where to change an object instead.
#[must_use]
pub(crate) fn where_to_edit(desired: &Desired, verb: Verb, key: &Key) -> String {
    if let Some(row) = desired.rows.get(key) {
        let what = match verb {
            Verb::Delete | Verb::DeleteCollection => "remove it there",
            _ => "change it there",
        };
        let back = match verb {
            Verb::Delete | Verb::DeleteCollection => String::new(),
            // `kubectl rollout undo` is such a change.
            _ if matches!(key.kind, Kind::Deployment | Kind::DaemonSet | Kind::StatefulSet) => format!(
                " (to go back: towline rollback {}/{} -n {})",
                key.kind.info().singular(),
                key.name,
                key.ns()
            ),
            _ => String::new(),
        };
        return format!(
            "it is declared in {}:{}; {what}, commit and push{back}",
            row.file, row.line
        );
    }
    let folder = match Unit::of(key) {
        unit if &*unit.0 == Unit::CLUSTER => "cluster/".to_owned(),
        unit => format!("namespaces/{unit}/"),
    };
    match verb {
        Verb::Delete | Verb::DeleteCollection if &*key.name == "default" && key.kind == Kind::Namespace => {
            "this namespace is always there".to_owned()
        }
        Verb::Delete | Verb::DeleteCollection if is_used(desired, key) => {
            format!(
                "only git changes it, as manifests declare objects in it: remove those under {folder}, commit and push"
            )
        }
        Verb::Create => format!("only git creates it: add a manifest under {folder}, commit and push"),
        _ => format!("only git changes it, and no manifest declares it: add one under {folder}, commit and push"),
    }
}

fn refusal(key: &Key, why: &str) -> ApiError {
    let name = if key.name.is_empty() {
        String::new()
    } else {
        format!(" {:?}", &*key.name)
    };
    ApiError::new(
        StatusCode::FORBIDDEN,
        "Forbidden",
        format!("{}{name} is forbidden: {why}", key.kind.info().resource()),
    )
    .about(key.kind, &key.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn attempt(verb: Verb, key: &Key) -> Attempt<'_> {
        Attempt {
            verb,
            key,
            sub: None,
            live: None,
            new: None,
        }
    }

    #[test]
    fn facts_are_read_from_the_objects() {
        let desired = Desired::default();
        let owned = Object::from_value(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "a", "namespace": "n", "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u", "controller": true}]},
        }))
        .expect("a replica set");
        let node = |spec: serde_json::Value| {
            let value = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}, "spec": spec});
            Object::from_value(value).expect("a node")
        };
        let plain = node(json!({"podCIDR": "10.0.0.0/24"}));
        let cordoned = node(json!({"podCIDR": "10.0.0.0/24", "unschedulable": true, "taints": []}));
        let moved = node(json!({"podCIDR": "10.0.1.0/24"}));
        let (set, node_key) = (
            Key::namespaced(Kind::ReplicaSet, "n", "a"),
            Key::cluster(Kind::Node, "a"),
        );
        let change = |live, new| Attempt {
            live: Some(live),
            new: Some(new),
            ..attempt(Verb::Patch, &node_key)
        };
        for (direct, attempt) in [
            (
                true,
                Attempt {
                    live: Some(&owned),
                    ..attempt(Verb::Delete, &set)
                },
            ),
            (
                false,
                Attempt {
                    new: Some(&owned),
                    ..attempt(Verb::Create, &set)
                },
            ),
            (
                true,
                Attempt {
                    sub: Some(Sub::Status),
                    ..attempt(Verb::Update, &set)
                },
            ),
            (
                false,
                Attempt {
                    sub: Some(Sub::Scale),
                    ..attempt(Verb::Update, &set)
                },
            ),
            (true, change(&plain, &cordoned)),
            (false, change(&plain, &moved)),
        ] {
            let found = policy(&desired, attempt) == WritePolicy::Direct;
            assert_eq!(found, direct, "{:?} {} {:?}", attempt.verb, attempt.key, attempt.sub);
        }
    }

    #[test]
    fn a_refusal_says_where_to_edit() {
        let mut desired = Desired::default();
        let key = Key::namespaced(Kind::Deployment, "shop", "web");
        let without = where_to_edit(&desired, Verb::Create, &key);
        assert!(without.contains("namespaces/shop/"), "{without}");
        let content = std::sync::Arc::new(json!({}));
        desired.rows.insert(
            key.clone(),
            std::sync::Arc::new(store::DesiredRow {
                unit: Unit::of(&key),
                key: key.clone(),
                hash: schemas::ContentHash::of(&content),
                content,
                file: "namespaces/shop/web.yaml".into(),
                line: 12,
                commit: "0123".into(),
            }),
        );
        let error = refusal(&key, &where_to_edit(&desired, Verb::Delete, &key));
        assert_eq!(error.code, StatusCode::FORBIDDEN);
        assert_eq!(
            error.message,
            "deployments.apps \"web\" is forbidden: it is declared in namespaces/shop/web.yaml:12; remove it there, commit and push"
        );
        assert_eq!(policy(&desired, attempt(Verb::Delete, &key)), WritePolicy::ThroughGit);
    }
}
