//! What has replicas that an autoscaler may set.

use crate::Kind;

/// The kinds, for people.
pub const SCALABLE: &str =
    "an autoscaler scales a Deployment, ReplicaSet or StatefulSet of apps/v1, or a ReplicationController of v1";

/// The kind that a reference to a target names, if it can be scaled. A reference without an `apiVersion`
/// is one into the core group.
#[must_use]
pub fn scalable(api_version: &str, kind: &str) -> Option<Kind> {
    let api_version = if api_version.is_empty() { "v1" } else { api_version };
    Kind::find(api_version, kind).filter(|kind| {
        matches!(
            kind,
            Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::ReplicationController
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_what_has_replicas_in_its_own_version() {
        for (api_version, kind, found) in [
            ("apps/v1", "Deployment", Some(Kind::Deployment)),
            ("apps/v1", "StatefulSet", Some(Kind::StatefulSet)),
            ("apps/v1", "ReplicaSet", Some(Kind::ReplicaSet)),
            ("v1", "ReplicationController", Some(Kind::ReplicationController)),
            ("", "ReplicationController", Some(Kind::ReplicationController)),
            ("", "Deployment", None),
            ("apps/v1", "DaemonSet", None),
            ("extensions/v1beta1", "Deployment", None),
            ("apps/v1", "", None),
        ] {
            assert_eq!(scalable(api_version, kind), found, "{kind} of {api_version}");
        }
    }
}
