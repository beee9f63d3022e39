//! Every label, annotation, finalizer and taint name that Towline reads or writes, and the syntax of
//! labels.

// Labels.

/// Set by the Deployment controller on ReplicaSets and their pods: which template they are of.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Set on pods of DaemonSets and StatefulSets: the name of their `ControllerRevision`.
pub const CONTROLLER_REVISION_HASH: &str = "controller-revision-hash";
/// On ControllerRevisions of StatefulSets: what tells their names apart.
pub const REVISION_HASH: &str = "controller.kubernetes.io/hash";
pub const STATEFULSET_POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// The ordinal of a pod of a StatefulSet.
pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
pub const JOB_CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
/// The older spelling of [`JOB_NAME`], still set beside it.
pub const LEGACY_JOB_NAME: &str = "job-name";
/// The older spelling of [`JOB_CONTROLLER_UID`], still set beside it.
pub const LEGACY_JOB_CONTROLLER_UID: &str = "controller-uid";
/// A label and an annotation on pods of indexed Jobs.
pub const JOB_COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// On pods of Jobs whose indexes fail by themselves: how often the index had failed before.
pub const JOB_INDEX_FAILURE_COUNT: &str = "batch.kubernetes.io/job-index-failure-count";
/// The same for failures that the failure policy said to ignore.
pub const JOB_INDEX_IGNORED_FAILURE_COUNT: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// On every Namespace: its own name, so that selectors can name it.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
pub const HOSTNAME: &str = "kubernetes.io/hostname";
pub const OS: &str = "kubernetes.io/os";
pub const ARCH: &str = "kubernetes.io/arch";
pub const ZONE: &str = "topology.kubernetes.io/zone";
pub const REGION: &str = "topology.kubernetes.io/region";
/// What follows this prefix is a role of the node, as `kubectl get nodes` shows it.
pub const NODE_ROLE_PREFIX: &str = "node-role.kubernetes.io/";
/// On EndpointSlices: the Service that they belong to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const ENDPOINT_SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const APP_NAME: &str = "app.kubernetes.io/name";
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

// Annotations.

/// On Deployments and ReplicaSets: the number of the rollout.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// On a ReplicaSet: the earlier revisions that it also was, separated by commas.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// On a ReplicaSet: the Deployment's `replicas` when this set was last scaled.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// On a ReplicaSet: `replicas` plus the surge when this set was last scaled.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
/// On a Job: the time of the CronJob's schedule that it was made for.
pub const CRON_JOB_SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// On a Job that a person made from a CronJob: `manual`.
pub const CRON_JOB_INSTANTIATE: &str = "cronjob.kubernetes.io/instantiate";
/// On a pod: pods of lower cost are deleted first when a ReplicaSet is scaled in.
pub const POD_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Written into the template by `kubectl rollout restart`.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// Written by client-side `kubectl apply`.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Names the container that `kubectl logs` and `kubectl exec` take when none is given.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The wave of a release that an object belongs to: a whole number, 0 where it is missing. These three
/// are read by [`crate::rollout`].
pub const WAVE: &str = "towline.dev/wave";
/// Objects that must have been healthy first: `Kind/name` or `Kind/namespace/name`, separated by commas.
pub const DEPENDS_ON: &str = "towline.dev/depends-on";
/// What a failed rollout of this object leads to: `revert`.
pub const ON_FAILURE: &str = "towline.dev/on-failure";

/// On a Node: names the machine that holds the name.
pub const MACHINE: &str = "towline.dev/machine-id";
/// On a Node: the id of the agent that holds the name.
pub const AGENT: &str = "towline.dev/agent-id";

/// On a Namespace that no manifest declares and that was made because manifests use it.
pub const IMPLICIT: &str = "towline.dev/implicit";

// Finalizers.

/// Keeps an owner until all that it owns (and blocks its deletion) is gone.
pub const FOREGROUND_DELETION: &str = "foregroundDeletion";
/// Keeps an owner until what it owned has no reference to it any more.
pub const ORPHAN: &str = "orphan";
/// In `spec.finalizers` of a Namespace: keeps it until its contents are gone.
pub const NAMESPACE_FINALIZER: &str = "kubernetes";
pub const PVC_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// On pods of a Job: keeps a finished pod until it was counted.
pub const JOB_TRACKING: &str = "batch.kubernetes.io/job-tracking";

// Taints of nodes.

pub const TAINT_NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const TAINT_UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub const TAINT_UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub const TAINT_MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
pub const TAINT_DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
pub const TAINT_PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
pub const TAINT_NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";

/// The field manager of the release: it owns the fields that manifests declare.
pub const MANAGER: &str = "towline";

/// Labels of Docker containers.
pub mod docker {
    /// The id of the cluster: a container without it, or with another's, is never touched.
    pub const CLUSTER: &str = "dev.towline.cluster";
    pub const NODE_UID: &str = "dev.towline.node-uid";
    pub const POD_UID: &str = "dev.towline.pod-uid";
    pub const POD_NAMESPACE: &str = "dev.towline.pod-namespace";
    pub const POD_NAME: &str = "dev.towline.pod-name";
    /// Of a volume: the name of the PersistentVolume that it is behind.
    pub const VOLUME: &str = "dev.towline.volume";
    /// Of a volume: the uid of that PersistentVolume.
    pub const VOLUME_UID: &str = "dev.towline.volume-uid";
    /// The container's name in the pod.
    pub const CONTAINER: &str = "dev.towline.container";
    /// Counts the container's starts, from 0.
    pub const ATTEMPT: &str = "dev.towline.attempt";
    /// The pod's address, held until the pod is deleted.
    pub const ADDRESS: &str = "dev.towline.address";
    /// `infra`, `init`, `main` or `single`: how the container takes part in its pod.
    pub const ROLE: &str = "dev.towline.role";
    /// Names the stored spec that the container was made from.
    pub const SPEC_HASH: &str = "dev.towline.spec-hash";
}

/// Whether `text` may be a label's value: at most 63 letters, digits, `-`, `_` and `.`, with a letter
/// or digit at both ends; or empty.
#[must_use]
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}

/// Whether `text` may be the key of a label or an annotation: `name` or `prefix.example/name`.
#[must_use]
pub fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        None => is_name_part(text),
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_name_part(name),
    }
}

/// Whether `text` is a DNS subdomain: labels of lower-case letters, digits and `-`, separated by
/// dots, at most 253 characters. The names of most objects are.
#[must_use]
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            let bytes = label.as_bytes();
            let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            edge(bytes.first())
                && edge(bytes.last())
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        })
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_syntax() {
        for good in ["a", "A-b_c.d", "0", "", &"x".repeat(63)] {
            assert!(is_label_value(good), "{good:?}");
        }
        for bad in ["-a", "a-", "a b", "ä", &"x".repeat(64), "a/b"] {
            assert!(!is_label_value(bad), "{bad:?}");
        }
        for good in ["app", "app.kubernetes.io/name", "a/b", "Upper"] {
            assert!(is_label_key(good), "{good:?}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "Upper.example/a", "a..b/c"] {
            assert!(!is_label_key(bad), "{bad:?}");
        }
    }
}
