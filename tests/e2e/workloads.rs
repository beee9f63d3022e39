//! DaemonSets, ReplicationControllers and disruption budgets on real Docker.

use std::time::{Duration, Instant};

use harness::{
    Cluster, PATIENCE, have_docker, have_kubectl,
    manifests::{WEB_1, WEB_2, deployment},
    run_any, wait,
};

fn workload(version: &str, kind: &str, name: &str, rest: &str, image: &str) -> String {
    format!(
        r#"
apiVersion: {version}
kind: {kind}
metadata: {{name: {name}}}
spec:
  {rest}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: {name}, image: "{image}"}}]
"#
    )
}

#[test]
fn a_daemon_set_and_a_replication_controller_run_and_change() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let daemon = |image| {
        workload(
            "apps/v1",
            "DaemonSet",
            "each",
            "selector: {matchLabels: {app: each}}",
            image,
        )
    };
    let controller = |replicas: u32| {
        let rest = format!("replicas: {replicas}\n  selector: {{app: old}}");
        workload("v1", "ReplicationController", "old", &rest, WEB_1)
    };
    cluster.repository.write("namespaces/shop/each.yaml", &daemon(WEB_1))?;
    cluster.repository.write("namespaces/shop/old.yaml", &controller(2))?;
    cluster.repository.commit("One on each node, and two")?;
    cluster.sync(0);
    let before = cluster.wait_running(3);
    let of = |name: &str| format!(".{name}-");
    let each: Vec<_> = before.iter().filter(|one| one.name.contains(&of("each"))).collect();
    assert_eq!(each.len(), 1, "one node, one pod: {before:?}");

    cluster.repository.write("namespaces/shop/each.yaml", &daemon(WEB_2))?;
    cluster.repository.write("namespaces/shop/old.yaml", &controller(1))?;
    cluster.repository.commit("The next version, and one")?;
    cluster.sync(0);
    let after = cluster.wait_running(2);
    let images = |name: &str| -> Vec<&str> {
        let found = after.iter().filter(|one| one.name.contains(&of(name)));
        found.map(|one| one.image.as_str()).collect()
    };
    assert_eq!((images("each"), images("old")), (vec![WEB_2], vec![WEB_1]), "{after:?}");
    let old = after.iter().find(|one| one.name.contains(&of("old")));
    assert!(
        old.is_some_and(|old| before.contains(old)),
        "what stays is not restarted"
    );
    Ok(())
}

#[test]
fn a_node_is_drained_as_far_as_a_budget_permits() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let budget = |least: u32| {
        format!(
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: web}}\nspec:\n  minAvailable: {least}\n  selector: {{matchLabels: {{app: web}}}}\n"
        )
    };
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 2, WEB_1))?;
    cluster.repository.write("namespaces/shop/budget.yaml", &budget(2))?;
    cluster.repository.commit("Two, and both are needed")?;
    cluster.sync(0);
    let before = cluster.wait_running(2);
    let node = cluster.node_name();
    let drain = |timeout: &str| run_any(&mut cluster.kubectl_command(&["drain", &node, "--timeout", timeout]));
    let begun = Instant::now();
    let (code, said) = drain("4s")?;
    assert!(code == 1 && said.contains("disruption budget"), "{said}");
    assert!(said.contains("will retry after 5s"), "it says that it waits: {said}");
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(30),
        "its time limit holds, not {took:?}: {said}"
    );
    assert_eq!(cluster.running()?, before, "nothing was ended");

    cluster.repository.write("namespaces/shop/budget.yaml", &budget(0))?;
    cluster.repository.commit("None is needed")?;
    wait("the budget to permit it", PATIENCE, || match drain("20s") {
        Ok((0, _)) => Ok(()),
        Ok((_, said)) => Err(said),
        Err(error) => Err(error.to_string()),
    });
    cluster.wait_running(0);
    cluster.kubectl(&["uncordon", &node])?;
    cluster.wait_running(2);
    Ok(())
}
