//! From a commit to running containers and back to a status commit.

use harness::{Cluster, have_docker, have_kubectl};

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: towline.local/web:1
";

#[test]
fn a_commit_becomes_containers_and_then_a_status_commit() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    cluster.repository.write("namespaces/shop/web.yaml", WEB)?;
    let commit = cluster.repository.commit("Add web")?;

    let containers = cluster.wait_running(2);
    assert!(
        containers
            .iter()
            .all(|container| container.image == "towline.local/web:1")
    );
    cluster.sync(0);
    let message = cluster.wait_status(&commit, "converged");
    assert!(message.contains("[skip ci]"), "{message}");
    let status = cluster.repository.status_file("status/shop/deployment/web.yaml")?;
    assert!(status.contains("availableReplicas: 2"), "{status}");

    let pods = cluster.kubectl(&["get", "pods", "--namespace", "shop"])?;
    assert_eq!(pods.matches("1/1").count(), 2, "{pods}");
    cluster.kubectl(&[
        "rollout",
        "status",
        "deployment/web",
        "--namespace",
        "shop",
        "--timeout=10s",
    ])?;
    Ok(())
}
