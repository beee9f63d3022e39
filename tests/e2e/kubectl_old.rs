//! The kubectl that Debian ships, 1.20: it reads, and what it cannot do it says.

use std::process::Command;

use harness::{
    Cluster, PATIENCE, have_docker,
    manifests::{WEB_1, deployment},
    old_kubectl, run, run_any, wait,
};

#[test]
fn an_old_kubectl_reads_and_says_what_it_cannot_do() -> anyhow::Result<()> {
    if !have_docker() {
        return Ok(());
    }
    let Some((program, minor)) = old_kubectl() else {
        return Ok(());
    };
    let cluster = Cluster::start()?;
    let talking = deployment("web", 2, WEB_1).replace(
        "          image:",
        "          command: [\"sh\", \"-c\", \"echo here I am; exec httpd -f -p 8080\"]\n          image:",
    );
    cluster.repository.write("namespaces/shop/web.yaml", &talking)?;
    cluster.repository.commit("Begin")?;
    cluster.sync(0);
    let kubectl = |line: &str| {
        let mut command = Command::new(&program);
        command.args(line.split_whitespace()).args(["-n", "shop"]);
        command.env("KUBECONFIG", cluster.kubeconfig());
        command
    };
    let pods = run(&mut kubectl("get pods -o name"))?;
    let pod = pods.lines().next().unwrap_or_default();
    let node = cluster.node_name();

    for (line, words) in [
        ("get pods", "NAME                   READY   STATUS    RESTARTS   AGE"),
        ("get pods -o wide", node.as_str()),
        ("get deployments", "2/2     2            2"),
        ("get deployment web -o yaml", "availableReplicas: 2"),
        ("get all", "replicaset.apps/web-"),
        ("get nodes -o wide", "Ready"),
        ("get events", "ScalingReplicaSet"),
        ("get pods -l app=web --sort-by=.metadata.name", "web-"),
        (
            "describe deployment web",
            "2 desired | 2 updated | 2 total | 2 available | 0 unavailable",
        ),
        (&format!("describe {pod}"), "Started container web"),
        (&format!("describe node {node}"), "Non-terminated Pods"),
        ("logs deployment/web --tail=1", "here I am"),
        (&format!("logs {pod}"), "here I am"),
        (
            "wait --for=condition=Available deployment/web --timeout=10s",
            "condition met",
        ),
        (
            "wait --for=condition=Ready pod -l app=web --timeout=10s",
            "condition met",
        ),
        ("rollout status deployment/web --timeout=10s", "successfully rolled out"),
        ("rollout history deployment/web", "REVISION"),
        ("api-resources", "deployments"),
        ("explain deployment.spec.replicas", "replicas"),
        ("version", "v1.33"),
    ] {
        let said = run(&mut kubectl(line))?;
        assert!(
            said.contains(words),
            "kubectl 1.{minor} {line}: {words:?} is missing in\n{said}"
        );
    }

    // A wait for an end: it holds until the pod has gone.
    let mut deleting = kubectl(&format!("delete {pod} --wait=false"));
    run(&mut deleting)?;
    let said = run(&mut kubectl(&format!("wait --for=delete {pod} --timeout=30s")))?;
    assert!(said.contains("condition met"), "{said}");
    cluster.sync(0);

    // What it cannot do ends at once, with a reason: its own, or the server's.
    for (line, words) in [
        ("delete deployment web", "namespaces/shop/web.yaml"),
        ("scale deployment web --replicas=5", "namespaces/shop/web.yaml"),
        ("set image deployment/web web=web:2", "namespaces/shop/web.yaml"),
        ("create configmap more --from-literal=a=b", "namespaces/shop"),
        ("get deployment nobody", "not found"),
    ] {
        let (code, said) = run_any(&mut kubectl(line))?;
        assert!(
            code != 0 && said.contains(words),
            "kubectl 1.{minor} {line}: {code}, {said}"
        );
    }
    if minor < 23 {
        for (line, words) in [
            (
                "wait --for=jsonpath={.status.readyReplicas}=2 deployment/web --timeout=10s",
                "unrecognized condition",
            ),
            ("events", "unknown command"),
        ] {
            let (code, said) = run_any(&mut kubectl(line))?;
            assert!(
                code != 0 && said.contains(words),
                "kubectl 1.{minor} {line}: {code}, {said}"
            );
        }
    }

    // A watch ends with the pod that takes the place of the one that goes.
    wait("both pods", PATIENCE, || {
        let said = run(&mut kubectl("get pods --no-headers")).map_err(|error| error.to_string())?;
        let ready = said.lines().filter(|line| line.contains("1/1")).count();
        if ready == 2 { Ok(()) } else { Err(said) }
    });
    Ok(())
}
