//! The fields of the objects that kubectl's generators send: Jobs and Pods with all that they hold.
//!
//! What git declares is not written through the API, so that these are all kinds whose bodies are read.
//! Names and numbers are those of the documented wire format.

use super::{
    Fields,
    Holds::{
        Count, Inline, IntOrText, Message, Messages, Number, Numbers, Quantities, Quantity, Skip, Switch, Text, Texts,
        TextsByName,
    },
};

/// The message of a kind of object, if it is one of these.
pub(super) fn message(kind: &str) -> Option<Fields> {
    match kind {
        "Job" => Some(JOB),
        "Pod" => Some(POD),
        _ => None,
    }
}

const JOB: Fields = &[
    (1, "metadata", Message(META)),
    (2, "spec", Message(JOB_SPEC)),
    (3, "status", Skip),
];
const POD: Fields = &[
    (1, "metadata", Message(META)),
    (2, "spec", Message(POD_SPEC)),
    (3, "status", Skip),
];
const META: Fields = &[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (4, "selfLink", Skip),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (7, "generation", Skip),
    (8, "creationTimestamp", Skip),
    (11, "labels", TextsByName),
    (12, "annotations", TextsByName),
    (13, "ownerReferences", Messages(OWNER)),
    (14, "finalizers", Texts),
    (17, "managedFields", Skip),
];
const OWNER: Fields = &[
    (1, "kind", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "controller", Switch),
    (7, "blockOwnerDeletion", Switch),
];
const JOB_SPEC: Fields = &[
    (1, "parallelism", Number),
    (2, "completions", Number),
    (3, "activeDeadlineSeconds", Number),
    (4, "selector", Message(SELECTOR)),
    (5, "manualSelector", Switch),
    (6, "template", Message(TEMPLATE)),
    (7, "backoffLimit", Number),
    (8, "ttlSecondsAfterFinished", Number),
    (9, "completionMode", Text),
    (10, "suspend", Switch),
    (12, "backoffLimitPerIndex", Number),
    (13, "maxFailedIndexes", Number),
    (14, "podReplacementPolicy", Text),
    (15, "managedBy", Text),
];
const SELECTOR: Fields = &[
    (1, "matchLabels", TextsByName),
    (2, "matchExpressions", Messages(REQUIREMENT)),
];
const REQUIREMENT: Fields = &[(1, "key", Text), (2, "operator", Text), (3, "values", Texts)];
const TEMPLATE: Fields = &[(1, "metadata", Message(META)), (2, "spec", Message(POD_SPEC))];
const POD_SPEC: Fields = &[
    (1, "volumes", Messages(VOLUME)),
    (2, "containers", Messages(CONTAINER)),
    (3, "restartPolicy", Text),
    (4, "terminationGracePeriodSeconds", Number),
    (5, "activeDeadlineSeconds", Number),
    (6, "dnsPolicy", Text),
    (7, "nodeSelector", TextsByName),
    (8, "serviceAccountName", Text),
    (9, "serviceAccount", Text),
    (10, "nodeName", Text),
    (11, "hostNetwork", Switch),
    (12, "hostPID", Switch),
    (13, "hostIPC", Switch),
    (14, "securityContext", Message(POD_SECURITY)),
    (15, "imagePullSecrets", Messages(NAMED)),
    (16, "hostname", Text),
    (17, "subdomain", Text),
    (19, "schedulerName", Text),
    (20, "initContainers", Messages(CONTAINER)),
    (21, "automountServiceAccountToken", Switch),
    (22, "tolerations", Messages(TOLERATION)),
    (23, "hostAliases", Messages(HOST_ALIAS)),
    (24, "priorityClassName", Text),
    (25, "priority", Number),
    (26, "dnsConfig", Message(DNS)),
    (27, "shareProcessNamespace", Switch),
    (29, "runtimeClassName", Text),
    (30, "enableServiceLinks", Switch),
    (31, "preemptionPolicy", Text),
    (35, "setHostnameAsFQDN", Switch),
    (37, "hostUsers", Switch),
];
const NAMED: Fields = &[(1, "name", Text)];
const TOLERATION: Fields = &[
    (1, "key", Text),
    (2, "operator", Text),
    (3, "value", Text),
    (4, "effect", Text),
    (5, "tolerationSeconds", Number),
];
const HOST_ALIAS: Fields = &[(1, "ip", Text), (2, "hostnames", Texts)];
const NAME_AND_VALUE: Fields = &[(1, "name", Text), (2, "value", Text)];
const DNS: Fields = &[
    (1, "nameservers", Texts),
    (2, "searches", Texts),
    (3, "options", Messages(NAME_AND_VALUE)),
];
const SECCOMP: Fields = &[(1, "type", Text), (2, "localhostProfile", Text)];
const POD_SECURITY: Fields = &[
    (2, "runAsUser", Number),
    (3, "runAsNonRoot", Switch),
    (4, "supplementalGroups", Numbers),
    (5, "fsGroup", Number),
    (6, "runAsGroup", Number),
    (7, "sysctls", Messages(NAME_AND_VALUE)),
    (9, "fsGroupChangePolicy", Text),
    (10, "seccompProfile", Message(SECCOMP)),
];
const CAPABILITIES: Fields = &[(1, "add", Texts), (2, "drop", Texts)];
const SECURITY: Fields = &[
    (1, "capabilities", Message(CAPABILITIES)),
    (2, "privileged", Switch),
    (4, "runAsUser", Number),
    (5, "runAsNonRoot", Switch),
    (6, "readOnlyRootFilesystem", Switch),
    (7, "allowPrivilegeEscalation", Switch),
    (8, "runAsGroup", Number),
    (9, "procMount", Text),
    (11, "seccompProfile", Message(SECCOMP)),
];
const CONTAINER: Fields = &[
    (1, "name", Text),
    (2, "image", Text),
    (3, "command", Texts),
    (4, "args", Texts),
    (5, "workingDir", Text),
    (6, "ports", Messages(PORT)),
    (7, "env", Messages(ENV)),
    (8, "resources", Message(RESOURCES)),
    (9, "volumeMounts", Messages(MOUNT)),
    (10, "livenessProbe", Message(PROBE)),
    (11, "readinessProbe", Message(PROBE)),
    (12, "lifecycle", Message(LIFECYCLE)),
    (13, "terminationMessagePath", Text),
    (14, "imagePullPolicy", Text),
    (15, "securityContext", Message(SECURITY)),
    (16, "stdin", Switch),
    (17, "stdinOnce", Switch),
    (18, "tty", Switch),
    (19, "envFrom", Messages(ENV_FROM)),
    (20, "terminationMessagePolicy", Text),
    (22, "startupProbe", Message(PROBE)),
    (24, "restartPolicy", Text),
];
const PORT: Fields = &[
    (1, "name", Text),
    (2, "hostPort", Count),
    (3, "containerPort", Count),
    (4, "protocol", Text),
    (5, "hostIP", Text),
];
const FIELD: Fields = &[(1, "apiVersion", Text), (2, "fieldPath", Text)];
const RESOURCE_FIELD: Fields = &[
    (1, "containerName", Text),
    (2, "resource", Text),
    (3, "divisor", Quantity),
];
const KEY_OF: Fields = &[(1, "", Inline(NAMED)), (2, "key", Text), (3, "optional", Switch)];
const ENV: Fields = &[
    (1, "name", Text),
    (2, "value", Text),
    (3, "valueFrom", Message(ENV_VALUE)),
];
const ENV_VALUE: Fields = &[
    (1, "fieldRef", Message(FIELD)),
    (2, "resourceFieldRef", Message(RESOURCE_FIELD)),
    (3, "configMapKeyRef", Message(KEY_OF)),
    (4, "secretKeyRef", Message(KEY_OF)),
];
const ALL_OF: Fields = &[(1, "", Inline(NAMED)), (2, "optional", Switch)];
const ENV_FROM: Fields = &[
    (1, "prefix", Text),
    (2, "configMapRef", Message(ALL_OF)),
    (3, "secretRef", Message(ALL_OF)),
];
const RESOURCES: Fields = &[(1, "limits", Quantities), (2, "requests", Quantities)];
const MOUNT: Fields = &[
    (1, "name", Text),
    (2, "readOnly", Switch),
    (3, "mountPath", Text),
    (4, "subPath", Text),
    (5, "mountPropagation", Text),
    (6, "subPathExpr", Text),
    (7, "recursiveReadOnly", Text),
];
const EXEC: Fields = &[(1, "command", Texts)];
const HTTP_GET: Fields = &[
    (1, "path", Text),
    (2, "port", IntOrText),
    (3, "host", Text),
    (4, "scheme", Text),
    (5, "httpHeaders", Messages(NAME_AND_VALUE)),
];
const TCP: Fields = &[(1, "port", IntOrText), (2, "host", Text)];
const GRPC: Fields = &[(1, "port", Count), (2, "service", Text)];
const CHECK: Fields = &[
    (1, "exec", Message(EXEC)),
    (2, "httpGet", Message(HTTP_GET)),
    (3, "tcpSocket", Message(TCP)),
    (4, "grpc", Message(GRPC)),
];
const PROBE: Fields = &[
    (1, "", Inline(CHECK)),
    (2, "initialDelaySeconds", Count),
    (3, "timeoutSeconds", Count),
    (4, "periodSeconds", Count),
    (5, "successThreshold", Count),
    (6, "failureThreshold", Count),
    (7, "terminationGracePeriodSeconds", Number),
];
const SLEEP: Fields = &[(1, "seconds", Count)];
const HANDLER: Fields = &[
    (1, "exec", Message(EXEC)),
    (2, "httpGet", Message(HTTP_GET)),
    (3, "tcpSocket", Message(TCP)),
    (4, "sleep", Message(SLEEP)),
];
const LIFECYCLE: Fields = &[(1, "postStart", Message(HANDLER)), (2, "preStop", Message(HANDLER))];
const VOLUME: Fields = &[(1, "name", Text), (2, "", Inline(VOLUME_SOURCE))];
const VOLUME_SOURCE: Fields = &[
    (1, "hostPath", Message(HOST_PATH)),
    (2, "emptyDir", Message(EMPTY_DIR)),
    (6, "secret", Message(SECRET_VOLUME)),
    (10, "persistentVolumeClaim", Message(CLAIM)),
    (16, "downwardAPI", Message(DOWNWARD)),
    (19, "configMap", Message(CONFIG_MAP_VOLUME)),
    (26, "projected", Message(PROJECTED)),
];
const HOST_PATH: Fields = &[(1, "path", Text), (2, "type", Text)];
const EMPTY_DIR: Fields = &[(1, "medium", Text), (2, "sizeLimit", Quantity)];
const CLAIM: Fields = &[(1, "claimName", Text), (2, "readOnly", Switch)];
const ITEM: Fields = &[(1, "key", Text), (2, "path", Text), (3, "mode", Number)];
const SECRET_VOLUME: Fields = &[
    (1, "secretName", Text),
    (2, "items", Messages(ITEM)),
    (3, "defaultMode", Number),
    (4, "optional", Switch),
];
const CONFIG_MAP_VOLUME: Fields = &[
    (1, "", Inline(NAMED)),
    (2, "items", Messages(ITEM)),
    (3, "defaultMode", Number),
    (4, "optional", Switch),
];
const DOWNWARD_FILE: Fields = &[
    (1, "path", Text),
    (2, "fieldRef", Message(FIELD)),
    (3, "resourceFieldRef", Message(RESOURCE_FIELD)),
    (4, "mode", Number),
];
const DOWNWARD: Fields = &[(1, "items", Messages(DOWNWARD_FILE)), (2, "defaultMode", Number)];
const PROJECTED: Fields = &[(1, "sources", Messages(PROJECTION)), (2, "defaultMode", Number)];
const PROJECTED_OBJECT: Fields = &[
    (1, "", Inline(NAMED)),
    (2, "items", Messages(ITEM)),
    (4, "optional", Switch),
];
const TOKEN: Fields = &[
    (1, "audience", Text),
    (2, "expirationSeconds", Number),
    (3, "path", Text),
];
const DOWNWARD_ITEMS: Fields = &[(1, "items", Messages(DOWNWARD_FILE))];
const PROJECTION: Fields = &[
    (1, "secret", Message(PROJECTED_OBJECT)),
    (2, "downwardAPI", Message(DOWNWARD_ITEMS)),
    (3, "configMap", Message(PROJECTED_OBJECT)),
    (4, "serviceAccountToken", Message(TOKEN)),
];
