//! Fields that take one of a few words, by the type that they stand in.

/// A type's name without its prefix (`apps.v1` of `io.k8s.api.apps.v1.…`), a field, and its words.
pub(crate) struct Choice {
    pub(crate) of: &'static str,
    pub(crate) field: &'static str,
    pub(crate) values: &'static [&'static str],
}

const fn choice(of: &'static str, field: &'static str, values: &'static [&'static str]) -> Choice {
    Choice { of, field, values }
}

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const POLICIES: &[&str] = &["Cluster", "Local"];
const PREEMPTION: &[&str] = &["PreemptLowerPriority", "Never"];
const ROLLING_OR_ON_DELETE: &[&str] = &["RollingUpdate", "OnDelete"];
const MODES: &[&str] = &["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Filesystem", "Block"];
const INCLUSION: &[&str] = &["Honor", "Ignore"];
const EFFECTS: &[&str] = &["", "NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(crate) const CHOICES: &[Choice] = &[
    choice(
        "core.v1.Container",
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
    ),
    choice(
        "core.v1.Container",
        "terminationMessagePolicy",
        &["File", "FallbackToLogsOnError"],
    ),
    choice("core.v1.ContainerPort", "protocol", PROTOCOLS),
    choice("core.v1.EmptyDirVolumeSource", "medium", &["", "Memory"]),
    choice("core.v1.HTTPGetAction", "scheme", &["HTTP", "HTTPS"]),
    choice(
        "core.v1.HostPathVolumeSource",
        "type",
        &[
            "",
            "DirectoryOrCreate",
            "Directory",
            "FileOrCreate",
            "File",
            "Socket",
            "CharDevice",
            "BlockDevice",
        ],
    ),
    choice(
        "core.v1.LimitRangeItem",
        "type",
        &["Container", "Pod", "PersistentVolumeClaim"],
    ),
    choice(
        "core.v1.NodeSelectorRequirement",
        "operator",
        &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"],
    ),
    choice("core.v1.PersistentVolumeClaimSpec", "accessModes", MODES),
    choice("core.v1.PersistentVolumeClaimSpec", "volumeMode", VOLUME_MODES),
    choice("core.v1.PersistentVolumeSpec", "accessModes", MODES),
    choice(
        "core.v1.PersistentVolumeSpec",
        "persistentVolumeReclaimPolicy",
        &["Retain", "Delete", "Recycle"],
    ),
    choice("core.v1.PersistentVolumeSpec", "volumeMode", VOLUME_MODES),
    choice(
        "core.v1.PodSecurityContext",
        "fsGroupChangePolicy",
        &["OnRootMismatch", "Always"],
    ),
    choice(
        "core.v1.PodSpec",
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    ),
    choice("core.v1.PodSpec", "preemptionPolicy", PREEMPTION),
    choice("core.v1.PodSpec", "restartPolicy", &["Always", "OnFailure", "Never"]),
    choice(
        "core.v1.SeccompProfile",
        "type",
        &["RuntimeDefault", "Unconfined", "Localhost"],
    ),
    choice("core.v1.ServicePort", "protocol", PROTOCOLS),
    choice("core.v1.ServiceSpec", "externalTrafficPolicy", POLICIES),
    choice("core.v1.ServiceSpec", "internalTrafficPolicy", POLICIES),
    choice(
        "core.v1.ServiceSpec",
        "ipFamilyPolicy",
        &["SingleStack", "PreferDualStack", "RequireDualStack"],
    ),
    choice("core.v1.ServiceSpec", "sessionAffinity", &["None", "ClientIP"]),
    choice(
        "core.v1.ServiceSpec",
        "type",
        &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"],
    ),
    choice("core.v1.Taint", "effect", EFFECTS),
    choice("core.v1.Toleration", "effect", EFFECTS),
    choice("core.v1.Toleration", "operator", &["Exists", "Equal"]),
    choice("core.v1.TopologySpreadConstraint", "nodeAffinityPolicy", INCLUSION),
    choice("core.v1.TopologySpreadConstraint", "nodeTaintsPolicy", INCLUSION),
    choice(
        "core.v1.TopologySpreadConstraint",
        "whenUnsatisfiable",
        &["DoNotSchedule", "ScheduleAnyway"],
    ),
    choice("apps.v1.DaemonSetUpdateStrategy", "type", ROLLING_OR_ON_DELETE),
    choice("apps.v1.DeploymentStrategy", "type", &["RollingUpdate", "Recreate"]),
    choice(
        "apps.v1.StatefulSetSpec",
        "podManagementPolicy",
        &["OrderedReady", "Parallel"],
    ),
    choice("apps.v1.StatefulSetUpdateStrategy", "type", ROLLING_OR_ON_DELETE),
    choice(
        "batch.v1.CronJobSpec",
        "concurrencyPolicy",
        &["Allow", "Forbid", "Replace"],
    ),
    choice(
        "autoscaling.v2.HPAScalingRules",
        "selectPolicy",
        &["Max", "Min", "Disabled"],
    ),
    choice("autoscaling.v2.HPAScalingPolicy", "type", &["Pods", "Percent"]),
    choice(
        "autoscaling.v2.MetricSpec",
        "type",
        &["Resource", "ContainerResource", "Pods", "Object", "External"],
    ),
    choice("batch.v1.JobSpec", "completionMode", &["NonIndexed", "Indexed"]),
    choice(
        "batch.v1.JobSpec",
        "podReplacementPolicy",
        &["TerminatingOrFailed", "Failed"],
    ),
    choice(
        "batch.v1.PodFailurePolicyRule",
        "action",
        &["FailJob", "FailIndex", "Ignore", "Count"],
    ),
    choice(
        "batch.v1.PodFailurePolicyOnExitCodesRequirement",
        "operator",
        &["In", "NotIn"],
    ),
    choice(
        "batch.v1.PodFailurePolicyOnPodConditionsPattern",
        "status",
        &["True", "False", "Unknown"],
    ),
    choice(
        "meta.v1.LabelSelectorRequirement",
        "operator",
        &["In", "NotIn", "Exists", "DoesNotExist"],
    ),
    choice(
        "networking.v1.HTTPIngressPath",
        "pathType",
        &["Exact", "Prefix", "ImplementationSpecific"],
    ),
    choice("networking.v1.NetworkPolicySpec", "policyTypes", &["Ingress", "Egress"]),
    choice(
        "policy.v1.PodDisruptionBudgetSpec",
        "unhealthyPodEvictionPolicy",
        &["IfHealthyBudget", "AlwaysAllow"],
    ),
    choice("rbac.v1.Subject", "kind", &["User", "Group", "ServiceAccount"]),
    choice("scheduling.v1.PriorityClass", "preemptionPolicy", PREEMPTION),
    choice("storage.v1.StorageClass", "reclaimPolicy", &["Delete", "Retain"]),
    choice(
        "storage.v1.StorageClass",
        "volumeBindingMode",
        &["Immediate", "WaitForFirstConsumer"],
    ),
];
