//! A real kubectl against a real cluster: what people type every day.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
};

use harness::{
    Cluster, PATIENCE, have_docker, have_kubectl,
    manifests::{WEB_1, WEB_2, config_map, deployment},
    run_any, wait,
};

/// The words of the first line.
fn header(table: &str) -> String {
    table
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// A kubectl that goes on; its lines come in as they are said.
struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: RefCell<Vec<String>>,
}

impl Running {
    fn start(cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = cluster
            .kubectl_command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (send, lines) = channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if send.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self {
            child,
            lines,
            seen: RefCell::default(),
        })
    }

    /// Waits until `count` lines have contained `words`.
    fn wait_lines(&self, count: usize, words: &str) {
        wait(&format!("{count} lines with {words:?}"), PATIENCE, || {
            let mut seen = self.seen.borrow_mut();
            seen.extend(self.lines.try_iter());
            let found = seen.iter().filter(|line| line.contains(words)).count();
            if found >= count { Ok(()) } else { Err(seen.join("\n")) }
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster with a Deployment of two pods, one that crashes, and one object of each further kind.
fn start() -> anyhow::Result<Cluster> {
    let cluster = Cluster::start()?;
    let crashing = deployment("crash", 1, WEB_1).replace(
        "          image:",
        "          command: [\"sh\", \"-c\", \"echo last words; exit 3\"]\n          image:",
    );
    let others = "\
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {password: s3cret}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
";
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 2, WEB_1))?;
    cluster.repository.write("namespaces/shop/crash.yaml", &crashing)?;
    cluster
        .repository
        .write("namespaces/shop/settings.yaml", &config_map("settings", "a", "1"))?;
    cluster.repository.write("namespaces/shop/others.yaml", others)?;
    cluster.repository.commit("Begin")?;
    let (code, said) = run_any(&mut cluster.kubectl_command(&[
        "-n",
        "shop",
        "wait",
        "--for=create",
        "deployment/web",
        "--timeout=30s",
    ]))?;
    anyhow::ensure!(code == 0, "{said}\n{}", cluster.log());
    cluster.kubectl(&[
        "-n",
        "shop",
        "wait",
        "--for=condition=Available",
        "deployment/web",
        "--timeout=60s",
    ])?;
    Ok(cluster)
}

#[test]
fn kubectl_reads_all_there_is() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = start()?;
    let node = cluster.node_name();
    let shop = |line: &str| {
        let arguments: Vec<&str> = ["-n", "shop"].into_iter().chain(line.split_whitespace()).collect();
        cluster.kubectl(&arguments)
    };

    for (arguments, columns) in [
        ("get pods", "NAME READY STATUS RESTARTS AGE"),
        (
            "get pods -o wide",
            "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES",
        ),
        ("get pods -A", "NAMESPACE NAME READY STATUS RESTARTS AGE"),
        ("get deployments", "NAME READY UP-TO-DATE AVAILABLE AGE"),
        (
            "get deployments -o wide",
            "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR",
        ),
        ("get replicasets", "NAME DESIRED CURRENT READY AGE"),
        ("get configmaps", "NAME DATA AGE"),
        ("get secrets", "NAME TYPE DATA AGE"),
        ("get services", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE"),
        ("get namespaces", "NAME STATUS AGE"),
        ("get nodes", "NAME STATUS ROLES AGE VERSION"),
        (
            "get nodes -o wide",
            "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME",
        ),
        ("get events", "LAST SEEN TYPE REASON OBJECT MESSAGE"),
    ] {
        let table = shop(arguments)?;
        assert_eq!(header(&table), columns, "{arguments}\n{table}");
        assert!(table.lines().count() > 1, "{arguments}\n{table}");
    }

    let pods = shop("get pods -l app=web -o name")?;
    let pods: Vec<&str> = pods.lines().collect();
    assert_eq!(pods.len(), 2, "{pods:?}");
    for (arguments, words) in [
        ("get deployment web -o yaml".to_owned(), "availableReplicas: 2"),
        ("get all -o name".to_owned(), "replicaset.apps/web-"),
        (
            format!("get pods --field-selector spec.nodeName={node} -o name"),
            pods[0],
        ),
        ("get pods -l app!=web -o name".to_owned(), "pod/crash-"),
        ("get pods --chunk-size=1 -o name".to_owned(), pods[1]),
        ("get pods --sort-by=.metadata.name".to_owned(), "web-"),
        (
            "describe deployment web".to_owned(),
            "2 desired | 2 updated | 2 total | 2 available | 0 unavailable",
        ),
        ("describe deployment web".to_owned(), "ScalingReplicaSet"),
        (format!("describe {}", pods[0]), "Started container web"),
        (format!("describe {}", pods[0]), &node),
        (format!("describe {}", pods[0]), "Scheduled"),
        (
            format!("describe node {node}"),
            "Non-terminated Pods:          (3 in total)",
        ),
        (format!("describe node {node}"), "Container Runtime Version"),
        ("describe configmap settings".to_owned(), "settings"),
        ("describe secret keys".to_owned(), "6 bytes"),
        (
            "rollout status deployment/web --timeout=10s".to_owned(),
            "successfully rolled out",
        ),
        ("rollout history deployment/web".to_owned(), "REVISION"),
        (
            "wait --for=condition=Ready pod -l app=web --timeout=10s".to_owned(),
            "condition met",
        ),
        (
            "wait --for=jsonpath={.status.readyReplicas}=2 deployment/web --timeout=10s".to_owned(),
            "condition met",
        ),
        ("api-resources".to_owned(), "deployments"),
        ("api-resources --api-group=apps -o name".to_owned(), "replicasets.apps"),
        (
            "explain deployment.spec.replicas".to_owned(),
            "FIELD: replicas <integer>",
        ),
        ("explain pods.spec.containers".to_owned(), "<[]Container>"),
        ("auth can-i delete pods".to_owned(), "yes"),
        ("version".to_owned(), "Server Version: v1.33"),
        ("events --for deployment/web".to_owned(), "ScalingReplicaSet"),
    ] {
        let said = shop(&arguments)?;
        assert!(said.contains(words), "{arguments}: {words:?} is missing in\n{said}");
    }
    assert!(!shop("describe secret keys")?.contains("s3cret"));

    // Of the container that crashed, in the table and in its own words.
    wait("the crash to show", PATIENCE, || {
        let table = shop("get pods -l app=crash").map_err(|error| error.to_string())?;
        if table.contains("CrashLoopBackOff") {
            Ok(())
        } else {
            Err(table)
        }
    });
    let crashed = shop("get pods -l app=crash -o name")?;
    wait("the last words", PATIENCE, || {
        let said = shop(&format!("logs --previous {}", crashed.trim())).map_err(|error| error.to_string())?;
        if said == "last words\n" { Ok(()) } else { Err(said) }
    });
    let described = shop(&format!("describe {}", crashed.trim()))?;
    assert!(described.contains("Exit Code:    3"), "{described}");
    assert!(described.contains("Back-off"), "{described}");

    // What is not there, and who may not ask.
    let (code, said) = run_any(&mut cluster.kubectl_command(&["-n", "shop", "get", "pod", "nobody"]))?;
    assert!(
        code == 1 && said.contains("Error from server (NotFound): pods \"nobody\" not found"),
        "{said}"
    );
    let (code, said) = run_any(&mut cluster.kubectl_command(&["--token=guess", "get", "pods"]))?;
    assert!(
        code == 1 && said.contains("Unauthorized") || said.contains("logged in"),
        "{said}"
    );
    Ok(())
}

#[test]
fn kubectl_follows_and_deletes_and_git_decides() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = start()?;
    let node = cluster.node_name();
    let pods = |selector: &str| -> anyhow::Result<Vec<String>> {
        let said = cluster.kubectl(&["-n", "shop", "get", "pods", "-l", selector, "-o", "name"])?;
        Ok(said.lines().map(str::to_owned).collect())
    };

    // A followed log goes on as the container speaks.
    let talking = deployment("talk", 1, WEB_1).replace(
        "          image:",
        "          command: [\"sh\", \"-c\", \"while true; do date +tick-%s; sleep 0.2; done\"]\n          image:",
    );
    cluster.repository.write("namespaces/shop/talk.yaml", &talking)?;
    cluster.repository.remove("namespaces/shop/crash.yaml")?;
    cluster.repository.commit("Talk")?;
    cluster.sync(0);
    let follow = Running::start(&cluster, &["-n", "shop", "logs", "-f", "deploy/talk", "--tail=1"])?;
    follow.wait_lines(4, "tick-");
    drop(follow);

    // A watch shows a rollout as it happens; `rollout status` ends when it has.
    let watch = Running::start(
        &cluster,
        &["-n", "shop", "get", "deployment", "web", "-w", "-o", "name"],
    )?;
    watch.wait_lines(1, "deployment.apps/web");
    let table = Running::start(
        &cluster,
        &["-n", "shop", "get", "pods", "-l", "app=web", "--watch-only"],
    )?;
    let before = pods("app=web")?;
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 2, WEB_2))?;
    cluster.repository.commit("Roll out web 2")?;
    cluster.sync(0);
    let said = cluster.kubectl(&["-n", "shop", "rollout", "status", "deployment/web", "--timeout=30s"])?;
    assert!(said.contains("successfully rolled out"), "{said}");
    watch.wait_lines(3, "deployment.apps/web");
    table.wait_lines(2, "Pending");
    table.wait_lines(2, "Terminating");
    let victim = wait("the old pods to have gone", PATIENCE, || match pods("app=web") {
        Ok(after) if after.len() == 2 && before.iter().all(|pod| !after.contains(pod)) => Ok(after[0].clone()),
        other => Err(format!("{other:?}")),
    });

    // An owned pod can be deleted: the command returns when it has gone, and another takes its place.
    let said = cluster.kubectl(&["-n", "shop", "delete", &victim, "--timeout=30s"])?;
    assert!(said.contains("deleted"), "{said}");
    assert!(!pods("app=web")?.contains(&victim));
    cluster.sync(0);
    cluster.wait_running(3);

    // What git declares is git's: each refusal names the file to edit.
    for arguments in [
        vec!["delete", "deployment", "web"],
        vec!["delete", "configmap", "settings"],
        vec!["scale", "deployment", "web", "--replicas=5"],
        vec!["set", "image", "deployment/web", "web=towline.local/web:1"],
        vec!["label", "deployment", "web", "a=b"],
        vec!["rollout", "restart", "deployment/web"],
    ] {
        let all: Vec<&str> = ["-n", "shop"].into_iter().chain(arguments).collect();
        let (code, said) = run_any(&mut cluster.kubectl_command(&all))?;
        assert!(
            code == 1 && said.contains("Forbidden") || said.contains("forbidden"),
            "{all:?}\n{said}"
        );
        let file = if said.contains("settings") {
            "namespaces/shop/settings.yaml"
        } else {
            "namespaces/shop/web.yaml"
        };
        assert!(said.contains(file), "{all:?}\n{said}");
    }
    let (code, said) = run_any(&mut cluster.kubectl_command(&["-n", "shop", "create", "configmap", "other"]))?;
    assert!(
        code == 1 && said.contains("namespaces/shop"),
        "the folder to put it\n{said}"
    );
    assert_eq!(
        cluster.get(&["deployment", "web", "-n", "shop"])?["spec"]["replicas"],
        2
    );

    // A cordoned node takes no new pod.
    let said = cluster.kubectl(&["cordon", &node])?;
    assert!(said.contains("cordoned"), "{said}");
    let nodes = cluster.kubectl(&["get", "nodes"])?;
    assert!(nodes.contains("Ready,SchedulingDisabled"), "{nodes}");
    let victim = pods("app=talk")?.remove(0);
    cluster.kubectl(&["-n", "shop", "delete", &victim, "--timeout=30s"])?;
    wait("a pod that does not fit", PATIENCE, || {
        let said = cluster
            .kubectl(&[
                "-n",
                "shop",
                "get",
                "events",
                "--field-selector",
                "reason=FailedScheduling",
            ])
            .map_err(|error| error.to_string())?;
        if said.contains("0/1 nodes are available: 1 node(s) were unschedulable") {
            Ok(())
        } else {
            Err(said)
        }
    });
    cluster.kubectl(&["uncordon", &node])?;
    cluster.sync(0);
    cluster.wait_running(3);

    // A bare pod of the API, from its making to its end.
    let said = cluster.kubectl(&[
        "-n",
        "shop",
        "run",
        "bare",
        "--image=towline.local/web:1",
        "--restart=Never",
    ])?;
    assert!(said.contains("pod/bare created"), "{said}");
    cluster.kubectl(&[
        "-n",
        "shop",
        "wait",
        "--for=condition=Ready",
        "pod/bare",
        "--timeout=30s",
    ])?;
    cluster.kubectl(&[
        "-n",
        "shop",
        "delete",
        "pod",
        "bare",
        "--grace-period=1",
        "--timeout=30s",
    ])?;
    cluster.wait_running(3);
    Ok(())
}
