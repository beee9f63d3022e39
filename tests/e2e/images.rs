//! Images from a real registry on loopback: pulled, missing, forbidden to pull, and there at last.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use harness::{
    Cluster, PATIENCE, have, have_docker, have_kubectl,
    manifests::{WEB_1, config_map, deployment},
    wait,
};
use tempfile::TempDir;

/// Debian's `docker-registry` on a port and a folder of its own.
struct Registry {
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Registry {
    fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("towline-registry-").tempdir()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let config = dir.path().join("config.yml");
        let data = dir.path().join("data");
        fs::write(
            &config,
            format!(
                "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
                data.display()
            ),
        )?;
        let log = File::create(dir.path().join("log"))?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let registry = Self { dir, port, child };
        wait("the registry to listen", PATIENCE, || {
            TcpStream::connect(("127.0.0.1", port))
                .map(|_| ())
                .map_err(|_| fs::read_to_string(registry.dir.path().join("log")).unwrap_or_default())
        });
        Ok(registry)
    }

    fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/towline-test/{name}", self.port)
    }

    /// Puts the tests' web image there, and nowhere else.
    fn push(&self, cluster: &Cluster, name: &str) -> anyhow::Result<String> {
        let image = self.image(name);
        cluster.docker(&["tag", WEB_1, &image])?;
        cluster.docker(&["push", "--quiet", &image])?;
        cluster.docker(&["rmi", &image])?;
        Ok(image)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn events(cluster: &Cluster) -> anyhow::Result<String> {
    cluster.kubectl(&[
        "get",
        "events",
        "-n",
        "shop",
        "-o",
        "jsonpath={range .items[*]}{.involvedObject.name} {.reason} {.message}{'\\n'}{end}",
    ])
}

/// Waits until the reasons for which pods of `app` wait contain `reason`.
fn wait_reason(cluster: &Cluster, app: &str, reason: &str) {
    let selector = format!("app={app}");
    let path = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}";
    wait(&format!("{app} to wait for {reason}"), PATIENCE, || {
        let said = cluster
            .kubectl(&["get", "pods", "-n", "shop", "-l", &selector, "-o", path])
            .map_err(|error| error.to_string())?;
        if said.contains(reason) {
            Ok(())
        } else {
            Err(format!("{said}\n{}", events(cluster).unwrap_or_default()))
        }
    });
}

#[test]
fn images_are_pulled_as_their_policy_says() -> anyhow::Result<()> {
    if !have_docker() || !have_kubectl() || !have("docker-registry", &["--version"]) {
        return Ok(());
    }
    let registry = Registry::start()?;
    let cluster = Cluster::start()?;
    let there = registry.push(&cluster, "there:1")?;
    let later = registry.image("later:1");
    let never = deployment("never", 1, &registry.image("never:1"))
        .replace("          image:", "          imagePullPolicy: Never\n          image:");
    cluster
        .repository
        .write("namespaces/shop/there.yaml", &deployment("there", 1, &there))?;
    cluster
        .repository
        .write("namespaces/shop/later.yaml", &deployment("later", 1, &later))?;
    cluster.repository.write("namespaces/shop/never.yaml", &never)?;
    cluster
        .repository
        .write("namespaces/other/settings.yaml", &config_map("settings", "a", "1"))?;
    cluster.repository.commit("Three images")?;

    let running = cluster.wait_running(1);
    assert_eq!(running[0].image, there);
    wait_reason(&cluster, "never", "ErrImageNeverPull");
    wait_reason(&cluster, "later", "ImagePullBackOff");
    let said = events(&cluster)?;
    let told = |app: &str, words: &str| said.lines().any(|line| line.starts_with(app) && line.contains(words));
    assert!(told("there-", &format!("Pulling Pulling image \"{there}\"")), "{said}");
    assert!(told("there-", "Pulled Successfully pulled image"), "{said}");
    assert!(told("later-", "Failed"), "{said}");
    assert!(
        told("later-", "not found") || told("later-", "unknown"),
        "the registry's own words\n{said}"
    );
    assert!(told("never-", "ErrImageNeverPull"), "{said}");
    assert!(!told("never-", "Pulling"), "{said}");
    let pods = cluster.kubectl(&["get", "pods", "-n", "shop"])?;
    assert!(pods.contains("ErrImageNeverPull"), "{pods}");

    // The image appears: the next try finds it, without a commit.
    registry.push(&cluster, "later:1")?;
    let running = cluster.wait_running(2);
    assert!(running.iter().any(|container| container.image == later), "{running:?}");
    // So does the one that must not be pulled, once somebody has put it onto the node.
    let never = registry.image("never:1");
    cluster.docker(&["tag", WEB_1, &never])?;
    cluster.wait_running(3);
    cluster.sync(0);

    cluster.repository.remove("namespaces/shop")?;
    cluster.repository.commit("Remove them")?;
    cluster.wait_running(0);
    for image in [&there, &later, &never] {
        let _ = cluster.docker(&["rmi", "--force", image]);
    }
    Ok(())
}
