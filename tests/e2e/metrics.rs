//! `kubectl top`, and a node that runs short of disk: measured on real containers.

use std::time::Duration;

use harness::{
    Cluster, Options, PATIENCE, have_docker, have_kubectl,
    manifests::{WEB_1, deployment},
    wait,
};

/// A pod that keeps one core busy, half of the time, and one that sleeps.
const BUSY: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: busy
  labels: {app: busy}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: loop
      image: towline.local/busybox:1
      command: [sh, -c, 'while true; do :; done']
      resources: {limits: {cpu: 300m}}
    - name: sleep
      image: towline.local/busybox:1
      command: [sleep, '3600']
";

/// The number in a column such as `123m` or `45Mi`.
fn number(word: &str) -> u64 {
    let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[test]
fn kubectl_top_shows_what_nodes_and_pods_use() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    cluster.repository.write("namespaces/shop/busy.yaml", BUSY)?;
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 2, WEB_1))?;
    cluster.repository.commit("Add a busy pod")?;
    cluster.sync(0);

    // Two looks of 15 s each tell what is used.
    let lines = wait("every container to have figures", PATIENCE, || {
        let top = cluster
            .kubectl(&["top", "pod", "-n", "shop", "--containers", "--no-headers"])
            .map_err(|error| error.to_string())?;
        let lines: Vec<Vec<String>> = top
            .lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect();
        if lines.len() == 4 {
            Ok(lines)
        } else {
            Err(format!("{top}\n{}", cluster.log()))
        }
    });
    let busy = wait(
        "the busy container to be seen at its limit",
        Duration::from_secs(90),
        || {
            let top = cluster
                .kubectl(&["top", "pod", "busy", "-n", "shop", "--containers", "--no-headers"])
                .map_err(|error| error.to_string())?;
            let line = top
                .lines()
                .find(|line| line.contains("loop"))
                .unwrap_or_default()
                .to_owned();
            let cpu = number(line.split_whitespace().nth(2).unwrap_or_default());
            // A loaded machine gives less than the limit, and no machine gives more.
            if (30..=330).contains(&cpu) { Ok(line) } else { Err(top) }
        },
    );
    assert!(busy.starts_with("busy"), "{busy}");
    assert!(
        lines.iter().any(|line| line[0] == "busy" && line[1] == "sleep"),
        "{lines:?}"
    );

    let selected = cluster.kubectl(&["top", "pod", "-n", "shop", "-l", "app=web", "--no-headers"])?;
    assert_eq!(selected.lines().count(), 2, "{selected}");
    let all = cluster.kubectl(&["top", "pod", "-A", "--sort-by=cpu", "--no-headers"])?;
    assert!(all.lines().next().is_some_and(|line| line.contains("busy")), "{all}");
    let node = cluster.kubectl(&["top", "node", "--no-headers"])?;
    let words: Vec<&str> = node.split_whitespace().collect();
    assert_eq!(words.first(), Some(&&*cluster.node_name()), "{node}");
    assert!(number(words[1]) > 0 && number(words[3]) > 0, "{node}");
    let resources = cluster.kubectl(&["api-resources", "--api-group", "metrics.k8s.io"])?;
    assert!(
        resources.contains("NodeMetrics") && resources.contains("PodMetrics"),
        "{resources}"
    );
    Ok(())
}

#[test]
fn a_node_under_pressure_takes_no_new_pods() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let mut cluster = Cluster::start_with(Options {
        // No disk has so much left.
        flags: ["--pressure", "nodefs.available<100%"].map(str::to_owned).to_vec(),
        ..Options::default()
    })?;
    let node = cluster.node_name();
    cluster.kubectl(&["wait", "node", &node, "--for=condition=DiskPressure", "--timeout=60s"])?;
    wait("the node to be tainted", PATIENCE, || {
        let found = cluster
            .kubectl(&["get", "node", &node, "-o", "jsonpath={.spec.taints}"])
            .map_err(|error| error.to_string())?;
        if found.contains("disk-pressure") {
            Ok(())
        } else {
            Err(found)
        }
    });
    let described = cluster.kubectl(&["describe", "node", &node])?;
    assert!(described.contains("nodefs.available is"), "{described}");
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 1, WEB_1))?;
    cluster.repository.commit("Add web")?;
    wait("the pod to wait and to say why", PATIENCE, || {
        let found = cluster
            .kubectl(&[
                "get",
                "pods",
                "-n",
                "shop",
                "-o",
                "jsonpath={.items[*].status.conditions}",
            ])
            .map_err(|error| error.to_string())?;
        if found.contains("disk-pressure") {
            Ok(())
        } else {
            Err(found)
        }
    });
    assert_eq!(cluster.running()?.len(), 0);
    cluster.stop()?;
    Ok(())
}
