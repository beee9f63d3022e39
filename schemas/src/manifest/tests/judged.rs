//! Tables of objects and what is said of them.

use super::{super::*, KUBECTL, one, problems};

/// A Deployment with one line of it replaced.
fn deployment(from: &str, to: &str) -> String {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  labels: {app: web}\nspec:\n  replicas: 2\n  \
                selector:\n    matchLabels: {app: web}\n  template:\n    metadata:\n      labels: {app: web}\n    spec:\n      \
                containers:\n      - name: web\n        image: web:1\n        resources: {}\n";
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

#[test]
fn wrong_deployments_say_what_and_where() {
    let table: &[(&str, &str, &str, &str)] = &[
        (
            "replicas: 2",
            "replicsa: 2",
            "7:3",
            "spec.replicsa: there is no such field: did you mean replicas?",
        ),
        (
            "replicas: 2",
            "replicas: two",
            "7:3",
            "takes a whole number, found a text",
        ),
        ("replicas: 2", "replicas: \"2\"", "7:3", "write it without quotes"),
        ("replicas: 2", "replicas: -1", "7:3", "-1 must be from 0"),
        ("replicas: 2", "replicas: 2.5", "7:3", "2.5 is not a whole number"),
        ("replicas: 2", "replicas: 99999999999", "7:3", "does not fit 32 bits"),
        (
            "replicas: 2",
            "strategy: {type: recreate}",
            "7:14",
            "did you mean Recreate?",
        ),
        (
            "replicas: 2",
            "strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}",
            "7:30",
            "may not stand with the type Recreate",
        ),
        (
            "replicas: 2",
            "strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0%}}",
            "7:43",
            "nothing could be replaced",
        ),
        (
            "replicas: 2",
            "strategy: {rollingUpdate: {maxSurge: 1.5}}",
            "7:30",
            "takes a whole number or a text",
        ),
        (
            "replicas: 2",
            "strategy: {rollingUpdate: {maxSurge: many}}",
            "7:30",
            "a percentage such as 25%",
        ),
        (
            "replicas: 2",
            "progressDeadlineSeconds: 0",
            "7:3",
            "must be more than minReadySeconds",
        ),
        (
            "matchLabels: {app: web}",
            "matchLabels: {app: other}",
            "11:5",
            "do not match spec.selector (app=other)",
        ),
        ("matchLabels: {app: web}", "matchLabels: {}", "8:3", "must not be empty"),
        (
            "matchLabels: {app: web}",
            "matchExpressions: [{key: app, operator: in, values: [web]}]",
            "9:35",
            "did you mean In?",
        ),
        (
            "matchLabels: {app: web}",
            "matchExpressions: [{key: app, operator: In}]",
            "9:24",
            "is required with the operators",
        ),
        (
            "labels: {app: web}\nspec",
            "labels: {app: \"a b\"}\nspec",
            "5:12",
            "\"a b\" is not a label's value",
        ),
        (
            "labels: {app: web}\nspec",
            "labels: {app: 5}\nspec",
            "5:12",
            "takes a text, found the number 5: put it in quotes",
        ),
        (
            "labels: {app: web}\nspec",
            "labels: {-app: x}\nspec",
            "5:12",
            "the key must be",
        ),
        (
            "labels: {app: web}\nspec",
            "annotations: [a]\nspec",
            "5:3",
            "takes a mapping, found a list",
        ),
        (
            "name: web\n  labels",
            "name: Web_1\n  labels",
            "4:3",
            "\"Web_1\" must be at most 253 lower-case",
        ),
        (
            "name: web\n  labels",
            "generateName: web-\n  labels",
            "3:1",
            "metadata.name: is required: a declared object has a fixed name",
        ),
        ("containers:", "container:", "14:7", "did you mean containers?"),
        (
            "- name: web\n        image: web:1",
            "- name: web",
            "15:9",
            "containers[0].image: is required",
        ),
        (
            "- name: web\n        image: web:1",
            "- image: web:1",
            "15:9",
            "containers[0].name: is required",
        ),
        (
            "- name: web\n",
            "- name: Web\n",
            "15:9",
            "\"Web\" is not a container's name",
        ),
        ("image: web:1", "image: Web:1", "16:9", "must be in lower case"),
        ("image: web:1", "image: 'web: 1'", "16:9", "holds a space"),
        ("image: web:1", "image: [web]", "16:9", "takes a text, found a list"),
        (
            "image: web:1",
            "image: web:1\n        imagePullPolicy: always",
            "17:9",
            "did you mean Always?",
        ),
        (
            "image: web:1",
            "image: web:1\n        env: [{name: A, value: 5}]",
            "17:25",
            "takes a text, found the number 5",
        ),
        (
            "image: web:1",
            "image: web:1\n        env: [{name: A, value: yes}]",
            "17:25",
            "found the boolean true: put it in quotes",
        ),
        (
            "image: web:1",
            "image: web:1\n        env: [{name: A=B}]",
            "17:16",
            "is not the name of a variable",
        ),
        (
            "image: web:1",
            "image: web:1\n        env: {A: B}",
            "17:9",
            "takes a list, found a mapping",
        ),
        (
            "image: web:1",
            "image: web:1\n        env: [{name: A, valueFrom: {}}]",
            "17:25",
            "takes exactly one of configMapKeyRef",
        ),
        (
            "image: web:1",
            "image: web:1\n        env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.x}}}]",
            "17:48",
            "is not a field that a variable can take",
        ),
        (
            "image: web:1",
            "image: web:1\n        envFrom: [{}]",
            "17:19",
            "takes exactly one of configMapRef and secretRef",
        ),
        (
            "image: web:1",
            "image: web:1\n        ports: [{containerPort: 70000}]",
            "17:18",
            "70000 must be from 1 to 65535",
        ),
        (
            "image: web:1",
            "image: web:1\n        ports: [{containerPort: 80, protocol: tcp}]",
            "17:37",
            "did you mean TCP?",
        ),
        (
            "image: web:1",
            "image: web:1\n        ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}]",
            "17:65",
            "stands twice among the ports",
        ),
        (
            "image: web:1",
            "image: web:1\n        ports: [{hostPort: 80}]",
            "17:17",
            "containerPort: is required",
        ),
        (
            "image: web:1",
            "image: web:1\n        volumeMounts: [{name: data, mountPath: /data}]",
            "17:25",
            "the pod has no volume \"data\"",
        ),
        (
            "image: web:1",
            "image: web:1\n        command: sleep 5",
            "17:9",
            "takes a list, found a text",
        ),
        (
            "image: web:1",
            "image: web:1\n        command: [sleep, 5]",
            "17:26",
            "command[1]: takes a text, found the number 5",
        ),
        (
            "image: web:1",
            "image: web:1\n      - name: web\n        image: web:2",
            "17:9",
            "\"web\" stands twice",
        ),
        (
            "image: web:1",
            "image: web:1\n        livenessProbe: {grpc: {port: 80}}",
            "17:25",
            "is not supported yet",
        ),
        (
            "resources: {}",
            "resources: {requests: {cpu: lots}}",
            "17:32",
            "is not a quantity",
        ),
        (
            "resources: {}",
            "resources: {requests: {cpus: 1}}",
            "17:32",
            "did you mean cpu?",
        ),
        (
            "resources: {}",
            "resources: {requests: {cpu: 2}, limits: {cpu: 500m}}",
            "17:32",
            "is more than the limit of 500m",
        ),
        (
            "resources: {}",
            "resources: {limits: {memory: -1Gi}}",
            "17:30",
            "must not be negative",
        ),
        (
            "spec:\n      containers",
            "spec:\n      restartPolicy: Never\n      containers",
            "14:7",
            "is not allowed in a Deployment: Always",
        ),
        (
            "spec:\n      containers",
            "spec:\n      runtimeClassName: gvisor\n      containers",
            "14:7",
            "is not supported yet",
        ),
        (
            "spec:\n      containers",
            "spec:\n      dnsPolicy: None\n      containers",
            "13:5",
            "needs a name server",
        ),
        (
            "spec:\n      containers",
            "spec:\n      tolerations: [{key: a, operator: Has}]\n      containers",
            "14:30",
            "is not one of its values: Exists, Equal",
        ),
        (
            "spec:\n      containers",
            "spec:\n      volumes: [{name: a}]\n      containers",
            "14:17",
            "needs a source such as emptyDir",
        ),
        (
            "spec:\n      containers",
            "spec:\n      volumes: [{name: a, nfs: {server: s, path: /p}}]\n      containers",
            "14:27",
            "mount it on the node",
        ),
        (
            "spec:\n      containers",
            "spec:\n      volumes: [{name: a, emptyDir: {}, secret: {secretName: s}}]\n      containers",
            "14:17",
            "takes one source, found emptyDir, secret",
        ),
        (
            "spec:\n      containers",
            "spec:\n      volumes: [{name: a, configMap: {}}]\n      containers",
            "14:27",
            "configMap.name: is required",
        ),
        (
            "spec:\n      containers",
            "spec:\n      hostname: a.b\n      containers",
            "14:7",
            "is not a DNS label",
        ),
        (
            "spec:\n      containers",
            "spec:\n      hostAliases: [{ip: 1.2.3, hostnames: [a]}]\n      containers",
            "14:22",
            "is not an IP address",
        ),
    ];
    let mut wrong = Vec::new();
    for (from, to, place, part) in table {
        let found = problems("a.yaml", &deployment(from, to));
        let fits = found.len() == 1 && found[0].starts_with(&format!("{place} error ")) && found[0].contains(part);
        if !fits {
            wrong.push(format!("{to}\n   wanted {place} … {part}\n   found  {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_not_acted_on_is_a_warning() {
    let table: &[(&str, &str, &str)] = &[
        (
            "image: web:1",
            "image: web:1\n        livenessProbe: {tcpSocket: {port: 80}, terminationGracePeriodSeconds: 5}",
            "the pod's own period",
        ),
        (
            "image: web:1",
            "image: web:1\n        terminationMessagePolicy: FallbackToLogsOnError",
            "is not acted on yet",
        ),
        (
            "image: web:1",
            "image: web:1\n        securityContext: {procMount: Unmasked}",
            "is not acted on yet",
        ),
        (
            "spec:\n      containers",
            "spec:\n      setHostnameAsFQDN: true\n      containers",
            "the short one",
        ),
        (
            "spec:\n      containers",
            "spec:\n      hostUsers: false\n      containers",
            "set up in the Docker daemon",
        ),
        (
            "spec:\n      containers",
            "spec:\n      volumes: [{name: a, emptyDir: {sizeLimit: 1Gi}}]\n      containers",
            "may grow past it",
        ),
    ];
    for (from, to, part) in table {
        let text = deployment(from, to);
        let found = problems("a.yaml", &text);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(" warning ") && found[0].contains(part), "{found:#?}");
        assert_eq!(
            parse("a.yaml", text.as_bytes(), None).objects.len(),
            1,
            "a warning keeps the object"
        );
    }
    let silent: &[(&str, &str)] = &[
        (
            "image: web:1",
            "image: web:1\n        securityContext: {seccompProfile: {type: RuntimeDefault}, appArmorProfile: {type: RuntimeDefault}, procMount: Default}",
        ),
        (
            "image: web:1",
            "image: web:1\n        livenessProbe:\n        lifecycle: {}\n        readinessProbe: {httpGet: {path: /, port: 80, scheme: HTTP}}",
        ),
        (
            "spec:\n      containers",
            "spec:\n      affinity: {}\n      initContainers: []\n      setHostnameAsFQDN: false\n      containers",
        ),
        (
            "spec:\n      containers",
            "spec:\n      volumes: [{name: a, emptyDir: {}}, {name: b, hostPath: {path: /b}}]\n      containers",
        ),
    ];
    for (from, to) in silent {
        assert_eq!(problems("a.yaml", &deployment(from, to)), Vec::<String>::new(), "{to}");
    }
}

#[test]
fn kinds_that_are_only_stored_say_so_once() {
    one(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n",
        "1:1",
        "a Service is stored, and not yet acted on",
    );
    let wrong: &[(&str, &str)] = &[
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: 1web}\nspec: {ports: [{port: 80}]}",
            "must be at most 63",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 0}]}",
            "0 must be from 1 to 65535",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 1}, {port: 2, name: b}]}",
            "more than one port",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: Nodeport, ports: [{port: 1}]}",
            "did you mean NodePort?",
        ),
        (
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: a}\nspec: {schedule: daily, jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}}}",
            "is no schedule",
        ),
        (
            "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: {template: {spec: {containers: [{name: a, image: a}]}}}",
            "OnFailure or Never",
        ),
        (
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: a}\nrules: [{verbs: [get], resources: [pods]}]",
            "the core group",
        ),
        (
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: a}\nspec: {accessModes: [ReadWriteOnce]}",
            "requests.storage",
        ),
        (
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: a}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: -1Gi}}}",
            "must be more than 0",
        ),
        (
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: a}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 0}}}",
            "must be more than 0",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: a, resources: {limits: {memory: 1Mi}}}]}",
            "less than 6Mi",
        ),
        (
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: a}\nspec: {serviceName: a, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a, volumeMounts: [{name: dta, mountPath: /d}]}]}}, volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}",
            "did you mean data?",
        ),
    ];
    for (text, part) in wrong {
        let errors: Vec<String> = problems("a.yaml", text)
            .into_iter()
            .filter(|problem| problem.contains(" error "))
            .collect();
        assert_eq!(errors.len(), 1, "{text}\n{errors:#?}");
        assert!(errors[0].contains(part), "{text}\n{errors:#?}");
    }
}

#[test]
fn defaults_bring_no_findings() {
    let extra = "      volumes: [{name: a, emptyDir: {}}, {name: b, hostPath: {path: /b}}, {name: c, configMap: {name: c}}, \
                 {name: d, secret: {secretName: s}}, {name: e, projected: {sources: [{configMap: {name: c}}]}}, \
                 {name: f, downwardAPI: {items: [{path: p, fieldRef: {fieldPath: metadata.labels}}]}}]\n      \
                 initContainers: [{name: init, image: web, restartPolicy: Always}]\n      securityContext: {runAsUser: 5}\n";
    let container = "image: web:1\n        readinessProbe: {httpGet: {port: 80}}\n        lifecycle: {preStop: {httpGet: {port: 80}}}\n        \
                     env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]\n        volumeMounts: [{name: a, mountPath: /a}]";
    let text = format!("{}{extra}", deployment("image: web:1", container));
    let parsed = parse("a.yaml", text.as_bytes(), None);
    assert_eq!(parsed.problems, []);
    for object in parsed
        .objects
        .iter()
        .chain(&parse("b.yaml", KUBECTL.as_bytes(), None).objects)
    {
        let mut content = Value::clone(&object.content);
        crate::defaulting::default_object(object.key.kind, &mut content);
        assert_eq!(validate::object(object.key.kind, &content), [], "{content:#}");
    }
}
