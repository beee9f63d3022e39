//! A HorizontalPodAutoscaler on real load: up with it, down after it, and left alone by git in between.

use std::time::Duration;

use harness::{
    Cluster, PATIENCE, have_docker, have_kubectl,
    manifests::{WEB_1, deployment},
    run_any, wait,
};

/// Metrics come every 15 s, and a pod's first ones do not count: a loaded machine needs a few of them.
const SCALES: Duration = Duration::from_secs(240);

/// Busy for as long as there is a file.
const WORK: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: work
spec:
  replicas: 1
  selector: {matchLabels: {app: work}}
  template:
    metadata: {labels: {app: work}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: loop
          image: towline.local/busybox:1
          command: [sh, -c, 'while true; do if [ -e /busy ]; then :; else sleep 0.2; fi; done']
          resources: {requests: {cpu: 50m}, limits: {cpu: 400m}}
";

const AUTOSCALER: &str = "\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: work
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: work}
  minReplicas: 1
  maxReplicas: 3
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}
  behavior:
    scaleDown: {stabilizationWindowSeconds: 15}
";

fn wait_replicas(cluster: &Cluster, count: i64) {
    wait(&format!("{count} replicas"), SCALES, || {
        let found = cluster
            .get(&["deployment", "work", "-n", "shop"])
            .map_err(|error| error.to_string())?;
        if found["spec"]["replicas"] == count && found["status"]["readyReplicas"] == count {
            return Ok(());
        }
        let autoscaler = cluster.kubectl(&["get", "hpa", "work", "-n", "shop", "-o", "yaml"]);
        let top = cluster.kubectl(&["top", "pods", "-n", "shop"]);
        Err(format!("{found:#}\n{autoscaler:?}\n{top:?}"))
    });
}

#[test]
fn an_autoscaler_follows_the_load_and_no_sync_undoes_it() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    cluster.repository.write("namespaces/shop/work.yaml", WORK)?;
    cluster.repository.write("namespaces/shop/hpa.yaml", AUTOSCALER)?;
    cluster.repository.commit("Add work")?;
    cluster.sync(0);
    let first = cluster.wait_running(1).remove(0);
    let status = cluster.towline(&["status"])?;
    assert!(
        status.contains("spec.replicas belongs to"),
        "a declared number is told of:\n{status}"
    );

    cluster.docker(&["exec", &first.id, "touch", "/busy"])?;
    wait_replicas(&cluster, 3);
    let table = cluster.kubectl(&["get", "hpa", "-n", "shop", "--no-headers"])?;
    assert!(table.contains("Deployment/work") && table.contains("/50%"), "{table}");
    let told = cluster.kubectl(&["describe", "hpa", "work", "-n", "shop"])?;
    for word in ["ScalingActive", "ValidMetricFound", "SuccessfulRescale", "New size: 3"] {
        assert!(told.contains(word), "{word} in\n{told}");
    }

    // The object is released anew, with its one replica; and so is another one.
    let labelled = WORK.replace("  name: work\n", "  name: work\n  labels: {team: a}\n");
    cluster.repository.write("namespaces/shop/work.yaml", &labelled)?;
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 1, WEB_1))?;
    cluster.repository.commit("Label work, add web")?;
    cluster.sync(0);
    let found = cluster.get(&["deployment", "work", "-n", "shop"])?;
    assert_eq!(found["metadata"]["labels"]["team"], "a", "{found:#}");
    assert_eq!(found["spec"]["replicas"], 3, "{found:#}");
    let running = cluster.wait_running(4);
    assert!(running.contains(&first), "{running:?}");

    cluster.docker(&["exec", &first.id, "rm", "/busy"])?;
    wait_replicas(&cluster, 1);

    // Without the autoscaler the number is git's again.
    cluster.repository.write(
        "namespaces/shop/work.yaml",
        &labelled.replace("replicas: 1", "replicas: 2"),
    )?;
    cluster.repository.remove("namespaces/shop/hpa.yaml")?;
    cluster.repository.commit("No autoscaler")?;
    cluster.sync(0);
    wait_replicas(&cluster, 2);
    Ok(())
}

#[test]
fn kubectl_autoscale_names_the_file_and_its_manifest_is_taken() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 1, WEB_1))?;
    cluster.repository.commit("Add web")?;
    cluster.sync(0);
    let autoscale = [
        "autoscale",
        "deployment",
        "web",
        "-n",
        "shop",
        "--min=2",
        "--max=3",
        "--cpu-percent=70",
    ];
    let (code, said) = run_any(&mut cluster.kubectl_command(&autoscale))?;
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("namespaces/shop/"), "it says where to write it:\n{said}");
    let manifest = cluster.kubectl(&[&autoscale[..], &["--dry-run=client", "-o", "yaml"]].concat())?;
    cluster.repository.write("namespaces/shop/hpa.yaml", &manifest)?;
    cluster.repository.commit("Scale web")?;
    cluster.sync(0);
    wait("the fewest replicas", PATIENCE, || {
        let found = cluster
            .get(&["deployment", "web", "-n", "shop"])
            .map_err(|error| error.to_string())?;
        if found["spec"]["replicas"] == 2 {
            Ok(())
        } else {
            Err(format!("{found:#}"))
        }
    });
    let older = cluster.kubectl(&[
        "get",
        "--raw",
        "/apis/autoscaling/v1/namespaces/shop/horizontalpodautoscalers/web",
    ])?;
    assert!(older.contains("\"targetCPUUtilizationPercentage\":70"), "{older}");
    Ok(())
}
