//! Words that the API repeats. A word's number is in databases: words are added at the end and never
//! moved or taken out.

use std::sync::LazyLock;

use rustc_hash::FxHashMap;

/// The number of a word.
pub(super) fn number(text: &str) -> Option<u16> {
    static NUMBERS: LazyLock<FxHashMap<&'static str, u16>> = LazyLock::new(|| {
        let numbered = WORDS.iter().zip(0..);
        numbered.map(|(word, number)| (*word, number)).collect()
    });
    NUMBERS.get(text).copied()
}

/// The first 128 cost one byte each: the status of a pod and what every body has. The others cost two
/// or three.
#[rustfmt::skip]
pub(super) const WORDS: &[&str] = &[
    // The status of a pod.
    "", "phase", "conditions", "type", "status", "lastProbeTime", "lastTransitionTime", "reason", "message",
    "True", "False", "Unknown", "observedGeneration", "PodScheduled", "Initialized", "ContainersReady", "Ready",
    "PodReadyToStartContainers", "containerStatuses", "initContainerStatuses", "name", "image", "imageID",
    "containerID", "ready", "started", "restartCount", "state", "lastState", "running", "waiting", "terminated",
    "startedAt", "finishedAt", "exitCode", "signal", "hostIP", "hostIPs", "ip", "podIP", "podIPs", "qosClass",
    "startTime", "Pending", "Running", "Succeeded", "Failed", "Guaranteed", "Burstable", "BestEffort",
    "ContainerCreating", "PodInitializing", "CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull",
    "CreateContainerConfigError", "Completed", "Error", "OOMKilled", "ContainersNotReady", "PodCompleted",
    "Unschedulable", "docker://", "sha256:", "nominatedNodeName", "ephemeralContainerStatuses", "Terminated",
    // What most bodies have.
    "metadata", "spec", "labels", "annotations", "namespace", "containers", "initContainers", "env", "value",
    "valueFrom", "ports", "containerPort", "hostPort", "protocol", "TCP", "UDP", "resources", "requests", "limits",
    "cpu", "memory", "command", "args", "volumeMounts", "mountPath", "readOnly", "volumes",
    "terminationMessagePath", "/dev/termination-log", "terminationMessagePolicy", "File", "imagePullPolicy",
    "IfNotPresent", "Always", "Never", "OnFailure", "restartPolicy", "terminationGracePeriodSeconds", "dnsPolicy",
    "ClusterFirst", "serviceAccountName", "serviceAccount", "default", "schedulerName", "default-scheduler",
    "tolerations", "key", "operator", "Exists", "Equal", "effect", "NoExecute", "NoSchedule", "tolerationSeconds",
    "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "securityContext", "app",
    "pod-template-hash", "data", "kind", "apiVersion",
    // From here on two bytes and more. Pods, once more.
    "PreferNoSchedule", "nodeSelector", "affinity", "nodeAffinity", "podAffinity", "podAntiAffinity",
    "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution",
    "nodeSelectorTerms", "matchExpressions", "matchFields", "matchLabels", "values", "In", "NotIn", "DoesNotExist",
    "Gt", "Lt", "weight", "preference", "podAffinityTerm", "topologyKey", "kubernetes.io/hostname",
    "topologySpreadConstraints", "maxSkew", "whenUnsatisfiable", "DoNotSchedule", "ScheduleAnyway", "labelSelector",
    "minDomains", "nodeAffinityPolicy", "nodeTaintsPolicy", "matchLabelKeys", "hostname", "subdomain", "hostNetwork",
    "hostPID", "hostIPC", "hostAliases", "shareProcessNamespace", "enableServiceLinks", "preemptionPolicy",
    "PreemptLowerPriority", "priority", "priorityClassName", "imagePullSecrets", "runtimeClassName", "overhead",
    "activeDeadlineSeconds", "automountServiceAccountToken", "readinessGates", "conditionType", "dnsConfig",
    "nameservers", "searches", "options", "setHostnameAsFQDN", "livenessProbe", "readinessProbe", "startupProbe",
    "httpGet", "tcpSocket", "exec", "grpc", "path", "port", "scheme", "HTTP", "HTTPS", "httpHeaders", "host",
    "initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold", "lifecycle",
    "preStop", "postStart", "stopSignal", "workingDir", "stdin", "stdinOnce", "tty", "envFrom", "configMapRef",
    "secretRef", "configMapKeyRef", "secretKeyRef", "fieldRef", "fieldPath", "resourceFieldRef", "resource",
    "containerName", "divisor", "optional", "prefix", "metadata.name", "metadata.namespace", "metadata.uid",
    "status.podIP", "status.hostIP", "spec.nodeName", "v1", "subPath", "subPathExpr", "mountPropagation",
    "configMap", "secret", "secretName", "items", "mode", "defaultMode", "emptyDir", "medium", "Memory", "sizeLimit",
    "hostPath", "Directory", "DirectoryOrCreate", "FileOrCreate", "Socket", "projected", "sources", "downwardAPI",
    "serviceAccountToken", "expirationSeconds", "audience", "persistentVolumeClaim", "claimName", "ephemeral-storage",
    "hugepages-2Mi", "pods", "runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup", "fsGroupChangePolicy",
    "supplementalGroups", "capabilities", "add", "drop", "ALL", "privileged", "allowPrivilegeEscalation",
    "readOnlyRootFilesystem", "seccompProfile", "RuntimeDefault", "Unconfined", "seLinuxOptions", "sysctls",
    "FallbackToLogsOnError", "ClusterFirstWithHostNet", "None", "Default", "resizePolicy", "allocatedResources",
    "resize", "volumeDevices", "devicePath", "nodeName",
    // Workloads.
    "replicas", "selector", "template", "strategy", "rollingUpdate", "RollingUpdate", "Recreate", "OnDelete",
    "maxSurge", "maxUnavailable", "25%", "minReadySeconds", "progressDeadlineSeconds", "revisionHistoryLimit",
    "paused", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas", "fullyLabeledReplicas",
    "collisionCount", "lastUpdateTime", "Available", "Progressing", "ReplicaFailure", "MinimumReplicasAvailable",
    "MinimumReplicasUnavailable", "NewReplicaSetAvailable", "NewReplicaSetCreated", "FoundNewReplicaSet",
    "ReplicaSetUpdated", "ProgressDeadlineExceeded", "DeploymentPaused", "DeploymentResumed", "FailedCreate",
    "currentReplicas", "currentRevision", "updateRevision", "serviceName", "podManagementPolicy", "OrderedReady",
    "Parallel", "partition", "updateStrategy", "volumeClaimTemplates", "persistentVolumeClaimRetentionPolicy",
    "whenDeleted", "whenScaled", "Retain", "Delete", "desiredNumberScheduled", "currentNumberScheduled",
    "numberMisscheduled", "numberReady", "numberAvailable", "numberUnavailable", "updatedNumberScheduled",
    "completions", "parallelism", "backoffLimit", "backoffLimitPerIndex", "completionMode", "Indexed", "NonIndexed",
    "ttlSecondsAfterFinished", "suspend", "podFailurePolicy", "manualSelector", "active", "succeeded", "failed",
    "completionTime", "uncountedTerminatedPods", "Complete", "Suspended", "schedule", "timeZone",
    "concurrencyPolicy", "Allow", "Forbid", "Replace", "startingDeadlineSeconds", "successfulJobsHistoryLimit",
    "failedJobsHistoryLimit", "jobTemplate", "lastScheduleTime", "lastSuccessfulTime",
    // Events.
    "involvedObject", "uid", "resourceVersion", "source", "component", "firstTimestamp", "lastTimestamp", "count",
    "eventTime", "series", "lastObservedTime", "reportingComponent", "reportingInstance", "related", "action",
    "Normal", "Warning", "Scheduled", "FailedScheduling", "SuccessfulCreate", "SuccessfulDelete",
    "ScalingReplicaSet", "Pulling", "Pulled", "Created", "Started", "Killing", "BackOff", "Unhealthy", "Evicted",
    "Preempted", "Pod", "Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "Job", "CronJob", "Node", "Service",
    "ConfigMap", "Secret", "Namespace", "Event", "apps/v1", "batch/v1", "towline",
    // Nodes.
    "capacity", "allocatable", "addresses", "address", "InternalIP", "Hostname", "nodeInfo", "daemonEndpoints",
    "kubeletEndpoint", "Port", "images", "names", "sizeBytes", "architecture", "amd64", "arm64", "operatingSystem",
    "linux", "osImage", "kernelVersion", "containerRuntimeVersion", "kubeletVersion", "kubeProxyVersion",
    "machineID", "systemUUID", "bootID", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable",
    "lastHeartbeatTime", "unschedulable", "taints", "timeAdded", "podCIDR", "podCIDRs", "volumesAttached",
    "volumesInUse", "runtimeHandlers", "features", "config", "UnclaimedContainers",
    // Metadata and who set what.
    "manager", "operation", "Apply", "Update", "time", "fieldsType", "FieldsV1", "fieldsV1", "subresource",
    "f:metadata", "f:labels", "f:annotations", "f:spec", "f:status", "f:replicas", "f:selector", "f:template",
    "f:containers", "f:data", "f:type", "f:ports", "f:strategy", "f:image", "f:name", "f:env", "f:resources",
    "f:value", "f:requests", "f:limits", "f:cpu", "f:memory", "f:matchLabels", "f:app", "f:restartPolicy", ".",
    "generation", "generateName", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "finalizers", "ownerReferences", "controller", "blockOwnerDeletion", "managedFields", "kubernetes",
    // Services, storage, policy.
    "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "IPv4", "IPv6", "SingleStack", "sessionAffinity",
    "ClientIP", "internalTrafficPolicy", "externalTrafficPolicy", "Cluster", "Local", "targetPort", "nodePort",
    "loadBalancer", "ingress", "externalName", "NodePort", "LoadBalancer", "ExternalName", "endpoints",
    "serving", "terminating", "addressType", "targetRef", "accessModes", "ReadWriteOnce", "ReadOnlyMany",
    "ReadWriteMany", "storage", "storageClassName", "volumeMode", "Filesystem", "volumeName", "Bound", "hard", "used",
    "scaleTargetRef", "minReplicas", "maxReplicas", "metrics", "averageUtilization", "minAvailable",
    "currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods", "stringData", "immutable", "Opaque",
    "Terminating", "Active", "kubernetes.io/metadata.name",
];
