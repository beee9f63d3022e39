//! Volumes of claims on real Docker: they outlive pods, go with their claims, and are missed when they
//! are gone.

use harness::{Cluster, PATIENCE, have_docker, have_kubectl, wait};

fn manifest(replicas: u32) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db}}
spec:
  serviceName: db
  replicas: {replicas}
  persistentVolumeClaimRetentionPolicy: {{whenDeleted: Delete, whenScaled: Retain}}
  selector: {{matchLabels: {{app: db}}}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: db
          image: towline.local/busybox:1
          command: [sh, -c, "trap 'exit 0' TERM; while true; do sleep 0.1; done"]
          readinessProbe: {{exec: {{command: [sh, -c, "echo $HOSTNAME >> /data/been"]}}, periodSeconds: 1}}
          volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
    - metadata: {{name: data}}
      spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
"#
    )
}

/// Waits until a pod that is not this one is ready; its uid and its container.
fn ready(cluster: &Cluster, pod: &str, before: &str) -> (String, String) {
    wait(
        &format!("{pod} to be ready, and to be another than {before:?}"),
        PATIENCE,
        || {
            let path = "-o=jsonpath={.metadata.uid} {.status.conditions[?(@.type=='Ready')].status} {.status.containerStatuses[0].containerID}";
            let text = cluster
                .kubectl(&["get", "pod", pod, "-n", "shop", path])
                .map_err(|error| error.to_string())?;
            match text.split(' ').collect::<Vec<_>>()[..] {
                [uid, "True", id] if uid != before => {
                    Ok((uid.to_owned(), id.trim_start_matches("docker://").to_owned()))
                }
                _ => {
                    let events = cluster
                        .kubectl(&["get", "events,pvc,pv", "-n", "shop"])
                        .unwrap_or_default();
                    Err(format!("{text}\n{events}\n{}", cluster.log()))
                }
            }
        },
    )
}

/// Docker's volume behind a claim.
fn volume(cluster: &Cluster, claim: &str) -> anyhow::Result<String> {
    let path = "-o=jsonpath={.spec.volumeName}";
    let volume = cluster.kubectl(&["get", "pvc", claim, "-n", "shop", path])?;
    let label = format!("label=dev.towline.volume={volume}");
    Ok(cluster
        .docker(&["volume", "ls", "-q", "--filter", &label])?
        .trim()
        .to_owned())
}

#[test]
fn a_stateful_sets_volumes_outlive_its_pods_and_go_with_it() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let declare = |replicas, message: &str| -> anyhow::Result<()> {
        cluster
            .repository
            .write("namespaces/shop/db.yaml", &manifest(replicas))?;
        cluster.repository.commit(message)?;
        cluster.sync(0);
        Ok(())
    };
    // Something that stays: an empty folder is no order to delete.
    cluster.repository.write(
        "namespaces/other/settings.yaml",
        &harness::manifests::config_map("settings", "a", "1"),
    )?;
    declare(2, "A database")?;
    let (first, container) = ready(&cluster, "db-0", "");
    cluster.docker(&["exec", &container, "sh", "-c", "echo kept > /data/file"])?;
    cluster.kubectl(&["delete", "pod", "db-0", "-n", "shop"])?;
    let (_, container) = ready(&cluster, "db-0", &first);
    assert_eq!(cluster.docker(&["exec", &container, "cat", "/data/file"])?, "kept\n");

    // Somebody removes the volume of a pod that is not there now: the next one says so.
    let (second, _) = ready(&cluster, "db-1", "");
    declare(1, "A smaller database")?;
    cluster.wait_running(1);
    let lost = volume(&cluster, "data-db-1")?;
    let kept = volume(&cluster, "data-db-0")?;
    assert!(!lost.is_empty() && lost != kept, "{lost:?} {kept:?}");
    wait("the volume to be removed by hand", PATIENCE, || {
        cluster
            .docker(&["volume", "rm", &lost])
            .map_err(|error| error.to_string())
    });
    declare(2, "A larger database")?;
    ready(&cluster, "db-1", &second);
    wait("an event about the lost volume", PATIENCE, || {
        let events = cluster
            .kubectl(&["get", "events", "-n", "shop", "--field-selector=reason=VolumeLost"])
            .map_err(|error| error.to_string())?;
        if events.contains("db-1") && events.contains(&lost) && !events.contains(&kept) {
            Ok(())
        } else {
            Err(events)
        }
    });

    // The claims go with the set, and Docker's volumes with the claims.
    cluster.repository.remove("namespaces/shop/db.yaml")?;
    let gone = cluster.repository.commit("No database")?;
    // Claims are data: however few go, somebody must say that it is meant.
    let said = cluster.sync(3);
    assert!(said.contains("data-db-0"), "the claims are named:\n{said}");
    cluster.towline(&["sync", "--confirm-deletes", &gone])?;
    wait("the volumes to go", PATIENCE, || {
        let label = "label=dev.towline.volume-uid";
        let all = cluster
            .docker(&["volume", "ls", "-q", "--filter", label])
            .map_err(|error| error.to_string())?;
        if [&lost, &kept].iter().all(|volume| !all.contains(volume.as_str())) {
            Ok(())
        } else {
            let claims = cluster.kubectl(&["get", "pvc,pv,pods", "-A"]).unwrap_or_default();
            Err(format!("{all}\n{claims}\n{}", cluster.log()))
        }
    });
    Ok(())
}
