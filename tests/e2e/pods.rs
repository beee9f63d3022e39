//! What a pod's spec says, as its containers find it on real Docker.

use std::time::{Duration, Instant};

use harness::{
    Cluster, PATIENCE, have_docker, have_kubectl,
    manifests::{WEB_1, config_map, deployment},
    run_any, wait,
};
use serde_json::Value;

const SETTINGS: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello, colour: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {password: s3cret}
";

const FULL: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: full
  labels: {app: full}
spec:
  terminationGracePeriodSeconds: 20
  hostAliases:
    - {ip: 192.0.2.7, hostnames: [far.example]}
  initContainers:
    - name: first
      image: towline.local/busybox:1
      command: [sh, -c, "echo first > /work/order"]
      volumeMounts: [{name: work, mountPath: /work}]
    - name: second
      image: towline.local/busybox:1
      command: [sh, -c, "echo second >> /work/order"]
      volumeMounts: [{name: work, mountPath: /work}]
  containers:
    - name: main
      image: towline.local/busybox:1
      command: [sh, -c]
      args:
        - |
          trap 'echo got TERM; exit 0' TERM
          cat /work/order
          env | sort
          echo "hostname $(hostname)"
          cat /etc/hosts /etc/resolv.conf
          echo 'args $(GREETING) $$(GREETING)'
          echo ready
          while true; do sleep 0.2; done
      env:
        - {name: LITERAL, value: plain}
        - {name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: greeting}}}
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
        - {name: ABSENT, valueFrom: {configMapKeyRef: {name: settings, key: absent, optional: true}}}
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        - {name: ADDRESS, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: JOINED, value: "$(GREETING)-$(LITERAL)-$(UNKNOWN)-$$(LITERAL)"}
      envFrom:
        - {prefix: FROM_, configMapRef: {name: settings}}
      resources:
        requests: {cpu: 50m, memory: 16Mi}
        limits: {cpu: 500m, memory: 32Mi}
      volumeMounts: [{name: work, mountPath: /work}]
    - name: side
      image: towline.local/web:1
      command: [sh, -c, "trap 'exit 0' TERM; httpd -p 8080 -h /www; while true; do sleep 0.2; done"]
      ports: [{containerPort: 8080, hostPort: HOSTPORT}]
  volumes:
    - {name: work, emptyDir: {}}
"#;

/// Bare pods that end, each by its own policy.
const ENDING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: good}
spec:
  restartPolicy: Never
  containers: [{name: c, image: "towline.local/busybox:1", command: [sh, -c, "exit 0"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: bad}
spec:
  restartPolicy: Never
  containers: [{name: c, image: "towline.local/busybox:1", command: [sh, -c, "exit 3"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  restartPolicy: OnFailure
  containers:
    - name: c
      image: towline.local/busybox:1
      command: [sh, -c, "if [ -e /work/been ]; then exit 0; fi; touch /work/been; exit 1"]
      volumeMounts: [{name: work, mountPath: /work}]
  volumes: [{name: work, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: stuck}
spec:
  restartPolicy: Never
  initContainers: [{name: i, image: "towline.local/busybox:1", command: [sh, -c, "exit 4"]}]
  containers: [{name: c, image: "towline.local/busybox:1", command: [sh, -c, "exit 0"]}]
"#;

fn pod(cluster: &Cluster, name: &str) -> anyhow::Result<Value> {
    cluster.get(&["pod", name, "-n", "shop"])
}

fn wait_phase(cluster: &Cluster, name: &str, phase: &str) -> Value {
    wait(&format!("pod {name} to be {phase}"), PATIENCE, || {
        let pod = pod(cluster, name).map_err(|error| error.to_string())?;
        if pod["status"]["phase"] == phase {
            Ok(pod)
        } else {
            Err(format!("{:#}\n{}", pod["status"], cluster.log()))
        }
    })
}

#[test]
fn a_container_finds_what_its_spec_says() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    cluster.repository.write("namespaces/shop/settings.yaml", SETTINGS)?;
    cluster.repository.write(
        "namespaces/shop/full.yaml",
        &FULL.replace("HOSTPORT", &port.to_string()),
    )?;
    cluster.repository.commit("A pod with everything")?;
    cluster.sync(0);
    let status = wait_phase(&cluster, "full", "Running")["status"].clone();
    let address = status["podIP"].as_str().unwrap_or_default().to_owned();
    let said = wait("the pod to have said all", PATIENCE, || {
        let said = cluster
            .kubectl(&["logs", "full", "-c", "main", "-n", "shop"])
            .map_err(|error| error.to_string())?;
        if said.lines().any(|line| line == "ready") {
            Ok(said)
        } else {
            Err(said)
        }
    });
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["first", "second"], "init containers run in order\n{said}");
    for line in [
        "LITERAL=plain",
        "GREETING=hello",
        "PASSWORD=s3cret",
        "POD=full",
        "NAMESPACE=shop",
        &format!("ADDRESS={address}"),
        "JOINED=hello-plain-$(UNKNOWN)-$(LITERAL)",
        "FROM_greeting=hello",
        "FROM_colour=blue",
        "hostname full",
        &format!("{address}\tfull"),
        "192.0.2.7\tfar.example",
        "args hello $(GREETING)",
    ] {
        assert!(lines.contains(&line), "{line:?} is missing in\n{said}");
    }
    assert!(!said.contains("ABSENT="), "{said}");
    assert!(lines.iter().any(|line| line.starts_with("nameserver ")), "{said}");

    // Limits, as Docker has them.
    let containers = cluster.containers()?;
    let id = |name: &str| {
        let label = |container: &&harness::Container| {
            let format = "{{index .Config.Labels \"dev.towline.container\"}}";
            cluster
                .docker(&["inspect", "--format", format, &container.id])
                .is_ok_and(|found| found.trim() == name)
        };
        containers
            .iter()
            .find(label)
            .map(|container| container.id.clone())
            .unwrap_or_default()
    };
    let main = id("main");
    let format = "{{.HostConfig.Memory}} {{.HostConfig.CpuQuota}}/{{.HostConfig.CpuPeriod}} {{.HostConfig.NanoCpus}} {{.HostConfig.RestartPolicy.Name}}";
    let limits = cluster.docker(&["inspect", "--format", format, &main])?;
    assert!(limits.starts_with(&format!("{} ", 32 * 1024 * 1024)), "{limits}");
    assert!(
        limits.contains("50000/100000") || limits.contains(" 500000000 "),
        "{limits}"
    );
    assert!(
        limits.trim().ends_with("no") || limits.trim().ends_with(' '),
        "{limits}"
    );

    // The containers of a pod share its network: the page of one is on the other's loopback; and the
    // host's port leads to it.
    let page = cluster.docker(&["exec", &main, "wget", "-q", "-O-", "http://127.0.0.1:8080/"])?;
    assert!(page.contains("hello from web 1"), "{page}");
    let page = cluster.docker(&[
        "run",
        "--rm",
        "--network",
        "host",
        "towline.local/busybox:1",
        "wget",
        "-q",
        "-O-",
        &format!("http://127.0.0.1:{port}/"),
    ])?;
    assert!(page.contains("hello from web 1"), "{page}");

    // SIGTERM is heard, and answered at once: the grace period is not waited out.
    let mut follow = cluster.kubectl_command(&["logs", "-f", "full", "-c", "main", "-n", "shop", "--tail=1"]);
    let follow = std::thread::spawn(move || run_any(&mut follow));
    let start = Instant::now();
    cluster.repository.remove("namespaces/shop/full.yaml")?;
    cluster.repository.commit("Remove it")?;
    cluster.wait_running(0);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    let (_, heard) = follow.join().map_err(|_| anyhow::anyhow!("the follower broke"))??;
    assert!(heard.contains("got TERM"), "{heard}");
    Ok(())
}

#[test]
fn bare_pods_end_as_their_policy_says() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    cluster.repository.write("namespaces/shop/ending.yaml", ENDING)?;
    cluster.repository.commit("Pods that end")?;
    for (name, phase, code, restarts) in [
        ("good", "Succeeded", 0, 0),
        ("bad", "Failed", 3, 0),
        ("again", "Succeeded", 0, 1),
    ] {
        let pod = wait_phase(&cluster, name, phase);
        let container = &pod["status"]["containerStatuses"][0];
        assert_eq!(container["state"]["terminated"]["exitCode"], code, "{container:#}");
        assert_eq!(container["restartCount"], restarts, "{container:#}");
    }
    let stuck = wait_phase(&cluster, "stuck", "Failed");
    let container = &stuck["status"]["initContainerStatuses"][0];
    assert_eq!(container["state"]["terminated"]["exitCode"], 4, "{container:#}");
    let table = cluster.kubectl(&["get", "pods", "-n", "shop"])?;
    for (name, word) in [
        ("good", "Completed"),
        ("bad", "Error"),
        ("again", "Completed"),
        ("stuck", "Init:"),
    ] {
        assert!(
            table.lines().any(|line| line.starts_with(name) && line.contains(word)),
            "{name} {word}\n{table}"
        );
    }
    Ok(())
}

#[test]
fn containers_of_others_are_untouched_and_unclaimed_ones_are_kept_and_told() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let mut cluster = Cluster::start()?;
    cluster
        .repository
        .write("namespaces/shop/web.yaml", &deployment("web", 1, WEB_1))?;
    cluster
        .repository
        .write("namespaces/shop/settings.yaml", &config_map("settings", "a", "1"))?;
    cluster.repository.commit("Add web")?;
    cluster.sync(0);
    let running = cluster.wait_running(1);

    // A stranger's container, and one with this node's labels whose pod nobody knows.
    let stranger = format!("towline-test-stranger-{}", cluster.pid());
    let unclaimed = format!("towline-test-unclaimed-{}", cluster.pid());
    cluster.docker(&["run", "-d", "--name", &stranger, "towline.local/web:1"])?;
    let labels = cluster.docker(&["inspect", "--format", "{{json .Config.Labels}}", &running[0].id])?;
    let labels: serde_json::Map<String, Value> = serde_json::from_str(&labels)?;
    let mut arguments = vec![
        "run".to_owned(),
        "-d".to_owned(),
        "--name".to_owned(),
        unclaimed.clone(),
    ];
    for (name, value) in &labels {
        let value = match name.as_str() {
            "dev.towline.pod-uid" => "00000000-0000-4000-8000-000000000000",
            "dev.towline.pod-name" => "nobody",
            // Of another network, so that it takes no pod's address.
            "dev.towline.address" => "",
            _ => value.as_str().unwrap_or_default(),
        };
        arguments.extend(["--label".to_owned(), format!("{name}={value}")]);
    }
    arguments.push("towline.local/web:1".to_owned());
    cluster.docker(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;

    cluster.stop()?;
    cluster.launch()?;
    wait("the node to tell of it", PATIENCE, || {
        let told = cluster
            .kubectl(&["describe", "nodes"])
            .map_err(|error| error.to_string())?;
        let line = told.lines().find(|line| line.contains("UnclaimedContainers"));
        if line.is_some_and(|line| line.contains("True")) {
            Ok(())
        } else {
            Err(format!("{told}\n{}", cluster.log()))
        }
    });
    cluster.repository.remove("namespaces/shop/web.yaml")?;
    cluster.repository.commit("Remove web")?;
    wait("web's container to go and the others to stay", PATIENCE, || {
        let left = cluster.running().map_err(|error| error.to_string())?;
        let names: Vec<&str> = left.iter().map(|container| &*container.name).collect();
        if names == [&*unclaimed] {
            Ok(())
        } else {
            Err(format!("{names:?}\n{}", cluster.log()))
        }
    });
    let state = cluster.docker(&["inspect", "--format", "{{.State.Running}}", &stranger])?;
    cluster.docker(&["rm", "-f", &stranger])?;
    assert_eq!(state.trim(), "true");
    Ok(())
}
