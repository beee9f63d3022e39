//! What becomes a commit: the table that divides the API into what is written directly and what only
//! git may change.

use serde_json::Value;

use crate::{Kind, Object, labels};

/// How a request would change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Create,
    Update,
    Delete,
}

/// The part of an object that a request writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The object itself.
    Whole,
    Status,
    Scale,
    Binding,
    Eviction,
    Token,
    Finalize,
    EphemeralContainers,
}

impl Part {
    /// The sub-resource of a URL; none for names that are not written to.
    #[must_use]
    pub fn of_sub_resource(name: Option<&str>) -> Option<Self> {
        Some(match name {
            None => Self::Whole,
            Some("status") => Self::Status,
            Some("scale") => Self::Scale,
            Some("binding") => Self::Binding,
            Some("eviction") => Self::Eviction,
            Some("token") => Self::Token,
            Some("finalize") => Self::Finalize,
            Some("ephemeralcontainers") => Self::EphemeralContainers,
            Some(_) => return None,
        })
    }
}

/// What is known of the object that a request writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// A manifest of the newest revision declares it, or (a Namespace) objects in it.
    pub declared: bool,
    /// It has, before the request, an owner that controls it.
    pub controlled: bool,
    /// A manifest declares it or did: the release applied fields of it.
    pub was_declared: bool,
    /// Of a node: the request changes nothing but its cordon, labels, annotations and taints.
    pub only_scheduling: bool,
}

/// Why a write is refused outright: neither the API nor git takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nodes register themselves, and their specs are theirs.
    NodeIsItsOwn,
}

impl Refusal {
    /// What is wrong and what to do, as the end of a sentence.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NodeIsItsOwn => {
                "nodes register themselves; of a node only labels, annotations, taints and spec.unschedulable change here"
            }
        }
    }
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WritePolicy {
    /// Into the store, at once.
    Direct,
    /// Into the repository, as a commit; the API alone does not change it.
    ThroughGit,
    Refused(Refusal),
}

/// Where a write goes. What a manifest declares is git's whatever its kind; a controller's object is
/// not declared, so the two never meet.
#[must_use]
pub fn write_policy(kind: Kind, verb: Verb, part: Part, facts: Facts) -> WritePolicy {
    use WritePolicy::{Direct, Refused, ThroughGit};
    match part {
        Part::Status | Part::Binding | Part::Eviction | Part::Token | Part::Finalize | Part::EphemeralContainers => {
            return Direct;
        }
        // The replicas of a declared object stand in its manifest.
        Part::Scale if facts.controlled && !facts.declared => return Direct,
        Part::Scale => return ThroughGit,
        Part::Whole => {}
    }
    match kind {
        Kind::Event | Kind::Lease => Direct,
        Kind::Node => match verb {
            Verb::Delete => Direct,
            Verb::Update if facts.only_scheduling => Direct,
            Verb::Create | Verb::Update => Refused(Refusal::NodeIsItsOwn),
        },
        _ if facts.declared => ThroughGit,
        _ if facts.controlled => Direct,
        Kind::Pod | Kind::Job => Direct,
        // One that no manifest uses: left from an earlier time, and with no other way out.
        Kind::Namespace if verb == Verb::Delete => Direct,
        // Made for a pod's claim template, or for a claim: nothing of it stands in git.
        Kind::PersistentVolumeClaim | Kind::PersistentVolume if verb != Verb::Create && !facts.was_declared => Direct,
        _ => ThroughGit,
    }
}

/// Whether git declares this object, or did: the manager `towline` has applied fields of it.
#[must_use]
pub fn was_declared(object: &Object) -> bool {
    let entries = object.meta.managed_fields.iter();
    let entries = entries.flat_map(|entries| entries.part().items());
    let mut entries = entries.filter(|entry| entry.get("subresource").is_none_or(|name| name.is("")));
    entries.any(|entry| entry.has("manager", labels::MANAGER) && entry.has("operation", "Apply"))
}

/// Whether the change from `old` to `new`, both nodes as the API writes them, is one that people may
/// make: cordon, labels, annotations, taints.
#[must_use]
pub fn only_scheduling(old: &Value, new: &Value) -> bool {
    fn rest(node: &Value) -> (Option<Value>, Option<&Value>) {
        let mut spec = node.get("spec").cloned();
        if let Some(fields) = spec.as_mut().and_then(Value::as_object_mut) {
            fields.remove("taints");
            fields.remove("unschedulable");
            if fields.is_empty() {
                spec = None;
            }
        }
        (spec, node.pointer("/metadata/name"))
    }
    rest(old) == rest(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use WritePolicy::{Direct, Refused, ThroughGit};
    use serde_json::json;

    #[test]
    fn the_table_divides_the_api() {
        let none = Facts::default();
        let declared = Facts { declared: true, ..none };
        let controlled = Facts {
            controlled: true,
            ..none
        };
        let released = Facts {
            was_declared: true,
            ..none
        };
        let cordon = Facts {
            only_scheduling: true,
            ..none
        };
        let refused = Refused(Refusal::NodeIsItsOwn);
        let table = [
            (Kind::Deployment, Verb::Create, Part::Whole, none, ThroughGit),
            (Kind::Deployment, Verb::Update, Part::Whole, declared, ThroughGit),
            (Kind::Deployment, Verb::Delete, Part::Whole, declared, ThroughGit),
            (Kind::Deployment, Verb::Update, Part::Scale, declared, ThroughGit),
            (Kind::Deployment, Verb::Update, Part::Status, declared, Direct),
            (Kind::ReplicaSet, Verb::Delete, Part::Whole, controlled, Direct),
            (Kind::ReplicaSet, Verb::Update, Part::Scale, controlled, Direct),
            (Kind::ReplicaSet, Verb::Create, Part::Whole, none, ThroughGit),
            (Kind::Pod, Verb::Create, Part::Whole, none, Direct),
            (Kind::Pod, Verb::Delete, Part::Whole, controlled, Direct),
            (Kind::Pod, Verb::Delete, Part::Whole, declared, ThroughGit),
            (Kind::Pod, Verb::Create, Part::Eviction, declared, Direct),
            (Kind::Pod, Verb::Create, Part::Binding, none, Direct),
            (Kind::Job, Verb::Create, Part::Whole, none, Direct),
            (Kind::Job, Verb::Update, Part::Whole, declared, ThroughGit),
            (Kind::Event, Verb::Create, Part::Whole, none, Direct),
            (Kind::Lease, Verb::Update, Part::Whole, none, Direct),
            (Kind::Node, Verb::Update, Part::Whole, cordon, Direct),
            (Kind::Node, Verb::Update, Part::Whole, none, refused),
            (Kind::Node, Verb::Create, Part::Whole, none, refused),
            (Kind::Node, Verb::Delete, Part::Whole, none, Direct),
            (Kind::Namespace, Verb::Delete, Part::Whole, none, Direct),
            (Kind::Namespace, Verb::Delete, Part::Whole, declared, ThroughGit),
            (Kind::Namespace, Verb::Create, Part::Whole, none, ThroughGit),
            (Kind::Secret, Verb::Create, Part::Whole, none, ThroughGit),
            (Kind::ServiceAccount, Verb::Create, Part::Token, declared, Direct),
            (Kind::PersistentVolumeClaim, Verb::Create, Part::Whole, none, ThroughGit),
            (Kind::PersistentVolumeClaim, Verb::Delete, Part::Whole, none, Direct),
            (
                Kind::PersistentVolumeClaim,
                Verb::Delete,
                Part::Whole,
                declared,
                ThroughGit,
            ),
            (
                Kind::PersistentVolumeClaim,
                Verb::Delete,
                Part::Whole,
                released,
                ThroughGit,
            ),
            (Kind::PersistentVolume, Verb::Update, Part::Whole, none, Direct),
        ];
        for (kind, verb, part, facts, policy) in table {
            assert_eq!(
                write_policy(kind, verb, part, facts),
                policy,
                "{verb:?} {kind} {part:?} {facts:?}"
            );
        }
    }

    #[test]
    fn a_cordon_is_all_that_people_change_of_a_node() {
        let node = |spec: Value| json!({"metadata": {"name": "n"}, "spec": spec});
        let plain = node(json!({"podCIDR": "10.0.0.0/24"}));
        let cordoned = node(json!({"podCIDR": "10.0.0.0/24", "unschedulable": true, "taints": [{"key": "a"}]}));
        let moved = node(json!({"podCIDR": "10.0.1.0/24"}));
        assert!(only_scheduling(&plain, &cordoned));
        assert!(!only_scheduling(&plain, &moved));
        assert!(only_scheduling(
            &json!({"metadata": {"name": "n"}}),
            &node(json!({"unschedulable": true}))
        ));
    }
}
