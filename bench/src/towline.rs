//! Towline: the real binary, from a ref update or a `git push` to containers.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use bollard::{
    API_DEFAULT_VERSION, Docker,
    query_parameters::{EventsOptions, ListContainersOptions},
};
use futures::StreamExt;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Arguments, IMAGE, IMAGE_2, PATIENCE, process::run};

pub(crate) struct Towline {
    binary: PathBuf,
    docker: Docker,
    socket: PathBuf,
    dir: TempDir,
    port: u16,
    /// Changes go through `git push` to the built-in repository.
    push: bool,
    child: Child,
    round: usize,
}

impl Towline {
    /// Starts `towline up` with more `flags`; with `push` on the built-in repository, else on a local one.
    pub(crate) async fn start(binary: &Path, socket: &Path, push: bool, flags: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("towline-bench-").tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
        let docker = Docker::connect_with_unix(&socket.display().to_string(), 120, API_DEFAULT_VERSION)?
            .negotiate_version()
            .await?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        if !push {
            init(&dir.path().join("repo"))?;
        }
        let child = launch(binary, socket, dir.path(), port, push, flags)?;
        let mut towline = Self {
            binary: binary.to_owned(),
            docker,
            socket: socket.to_owned(),
            dir,
            port,
            push,
            child,
            round: 0,
        };
        towline.ready()?;
        if push {
            let ca = towline.data().join("ca.pem");
            run(Command::new("git")
                .arg("-c")
                .arg(format!("http.sslCAInfo={}", ca.display()))
                .args(["clone", "--quiet"])
                .arg(format!(
                    "https://towline:{}@127.0.0.1:{port}/git/towline.git",
                    towline.token()?
                ))
                .arg(towline.repo()))?;
            towline.git(&["config", "http.sslCAInfo", &ca.display().to_string()])?;
            identify(&towline.repo())?;
            towline.git(&["checkout", "--quiet", "-B", "main"])?;
            base(&towline.repo())?;
        }
        Ok(towline)
    }

    fn ready(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let asked = Command::new(&self.binary)
                .arg("status")
                .arg("--data-dir")
                .arg(self.data())
                .output()?;
            if asked.status.success() {
                return Ok(());
            }
            anyhow::ensure!(
                begin.elapsed() < PATIENCE && self.child.try_wait()?.is_none(),
                "towline up is not ready; its log:\n{}",
                fs::read_to_string(self.dir.path().join("up.log")).unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A folder that goes with it.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    fn token(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.data().join("admin-token"))?.trim().to_owned())
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(Command::new("git").arg("-C").arg(self.repo()).args(arguments))
    }

    fn label(&self) -> anyhow::Result<String> {
        let id = fs::read_to_string(self.data().join("cluster-id"))?;
        Ok(format!("dev.towline.cluster={}", id.trim()))
    }

    /// Makes a commit without moving the branch that is followed; `publish` moves it.
    pub(crate) fn prepare(&self, message: &str) -> anyhow::Result<String> {
        self.git(&["add", "--all"])?;
        let tree = self.git(&["write-tree"])?;
        let parent = self.git(&["rev-parse", "--verify", "--quiet", "refs/heads/main"]);
        let mut arguments = vec!["commit-tree", tree.trim(), "-m", message];
        if let Ok(parent) = &parent {
            arguments.extend(["-p", parent.trim()]);
        }
        Ok(self.git(&arguments)?.trim().to_owned())
    }

    /// Starts the change: a ref update, or a push that goes on in the background.
    fn publish(&self, commit: &str) -> anyhow::Result<Option<Child>> {
        self.git(&["update-ref", "refs/heads/main", commit])?;
        if !self.push {
            return Ok(None);
        }
        let child = Command::new("git")
            .arg("-C")
            .arg(self.repo())
            .args(["push", "--quiet", "origin", "main"])
            .env_remove("GIT_SSL_CAINFO")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Some(child))
    }

    /// From the change to all replicas running, and to all of them Ready.
    pub(crate) async fn run(&mut self, replicas: usize) -> anyhow::Result<(Duration, Duration)> {
        let name = self.write(replicas, IMAGE)?;
        let commit = self.prepare("Add")?;
        let ready = self.watch_ready(&name, IMAGE, replicas)?;
        let mut events = self.starts()?;
        let start = Instant::now();
        let push = self.publish(&commit)?;
        for _ in 0..replicas {
            tokio::time::timeout(PATIENCE, events.next())
                .await
                .context("containers do not start")?
                .context("Docker's events ended")?;
        }
        let running = start.elapsed();
        let at = ready.recv_timeout(PATIENCE).context("pods do not get Ready")?;
        if let Some(mut push) = push {
            push.wait()?;
        }
        self.clear(&name).await?;
        Ok((running, at.duration_since(start)))
    }

    /// From the change of the image to all replicas Ready with the new one.
    pub(crate) async fn roll(&mut self, replicas: usize) -> anyhow::Result<Duration> {
        let name = self.write(replicas, IMAGE)?;
        let first = self.watch_ready(&name, IMAGE, replicas)?;
        let commit = self.prepare("Add")?;
        self.publish(&commit)?;
        first.recv_timeout(PATIENCE).context("pods do not get Ready")?;
        let text = fs::read_to_string(self.file(&name))?.replace(IMAGE, IMAGE_2);
        fs::write(self.file(&name), text)?;
        let commit = self.prepare("Roll")?;
        let ready = self.watch_ready(&name, IMAGE_2, replicas)?;
        let start = Instant::now();
        self.publish(&commit)?;
        let at = ready.recv_timeout(PATIENCE).context("the rollout does not end")?;
        self.clear(&name).await?;
        Ok(at.duration_since(start))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.repo().join(format!("namespaces/bench/{name}.yaml"))
    }

    fn write(&mut self, replicas: usize, image: &str) -> anyhow::Result<String> {
        self.round += 1;
        let name = format!("web-{}", self.round);
        let file = self.file(&name);
        fs::create_dir_all(file.parent().context("a file lies in a folder")?)?;
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n        - name: web\n          image: {image}\n"
        );
        fs::write(file, text)?;
        Ok(name)
    }

    /// Takes the Deployment away and waits until its containers are gone.
    async fn clear(&self, name: &str) -> anyhow::Result<()> {
        fs::remove_file(self.file(name))?;
        let commit = self.prepare("Remove")?;
        if let Some(mut push) = self.publish(&commit)? {
            push.wait()?;
        }
        let begin = Instant::now();
        loop {
            let filters = HashMap::from([("label".to_owned(), vec![self.label()?])]);
            let options = ListContainersOptions {
                all: true,
                filters: Some(filters),
                ..ListContainersOptions::default()
            };
            let left = self.docker.list_containers(Some(options)).await?.len();
            if left == 0 {
                return Ok(());
            }
            anyhow::ensure!(begin.elapsed() < PATIENCE, "{left} containers do not go");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Docker's own word that a container of this cluster has started.
    fn starts(&self) -> anyhow::Result<std::pin::Pin<Box<dyn futures::Stream<Item = ()> + Send>>> {
        let filters = HashMap::from([
            ("label".to_owned(), vec![self.label()?]),
            ("event".to_owned(), vec!["start".to_owned()]),
        ]);
        let options = EventsOptions {
            filters: Some(filters),
            ..EventsOptions::default()
        };
        let stream = self
            .docker
            .events(Some(options))
            .filter_map(async |event| event.ok().map(|_| ()));
        Ok(Box::pin(stream))
    }

    /// Watches pods through the API, and says when `replicas` of `name` are Ready with `image`.
    fn watch_ready(&self, name: &str, image: &'static str, replicas: usize) -> anyhow::Result<mpsc::Receiver<Instant>> {
        let mut child = Command::new("curl")
            .args(["--silent", "--no-buffer", "--cacert"])
            .arg(self.data().join("ca.pem"))
            .arg("--header")
            .arg(format!("Authorization: Bearer {}", self.token()?))
            .arg(format!(
                "https://127.0.0.1:{}/api/v1/namespaces/bench/pods?watch=true&labelSelector=app%3D{name}",
                self.port
            ))
            .stdout(Stdio::piped())
            .spawn()
            .context("curl does not start")?;
        let out = child.stdout.take().context("curl has an output")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut ready: HashMap<String, bool> = HashMap::new();
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let Ok(event) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                let pod = &event["object"];
                let is_ready = pod["status"]["conditions"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
                let fits = event["type"] != "DELETED" && pod["spec"]["containers"][0]["image"] == image;
                ready.insert(pod["metadata"]["name"].to_string(), is_ready && fits);
                if ready.values().filter(|ready| **ready).count() >= replicas {
                    let _ = sender.send(Instant::now());
                    break;
                }
            }
            let _ = child.kill();
            let _ = child.wait();
        });
        Ok(receiver)
    }

    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        self.child.wait()?;
        let identity: Value = serde_json::from_str(&fs::read_to_string(self.data().join("agent/identity.json"))?)?;
        let label = format!(
            "label=dev.towline.node-uid={}",
            identity["node_uid"].as_str().unwrap_or("none")
        );
        let host = format!("unix://{}", self.socket.display());
        // A run that broke off leaves its containers.
        let left = run(Command::new("docker").args([
            "-H",
            &host,
            "ps",
            "-aq",
            "--filter",
            &format!("label={}", self.label()?),
        ]))?;
        for container in left.split_whitespace() {
            run(Command::new("docker").args(["-H", &host, "rm", "-f", container]))?;
        }
        let networks = run(Command::new("docker").args(["-H", &host, "network", "ls", "-q", "--filter", &label]))?;
        for network in networks.split_whitespace() {
            run(Command::new("docker").args(["-H", &host, "network", "rm", network]))?;
        }
        Ok(())
    }
}

impl Drop for Towline {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.stop();
        }
    }
}

fn init(repo: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(repo)?;
    run(Command::new("git")
        .arg("-C")
        .arg(repo)
        .args(["init", "--quiet", "--initial-branch=main"]))?;
    identify(repo)?;
    base(repo)?;
    run(Command::new("git").arg("-C").arg(repo).args(["add", "--all"]))?;
    run(Command::new("git")
        .arg("-C")
        .arg(repo)
        .args(["commit", "--quiet", "-m", "Begin"]))?;
    Ok(())
}

/// What always stays: a repository that declares nothing at all would hold its last deletion.
fn base(repo: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(repo.join("namespaces/bench"))?;
    fs::write(
        repo.join("namespaces/bench/base.yaml"),
        manifest(0, 0).replace("settings-0", "base"),
    )?;
    Ok(())
}

fn identify(repo: &Path) -> anyhow::Result<()> {
    for (key, value) in [("user.name", "Bench"), ("user.email", "bench@example.com")] {
        run(Command::new("git").arg("-C").arg(repo).args(["config", key, value]))?;
    }
    Ok(())
}

fn launch(binary: &Path, socket: &Path, dir: &Path, port: u16, push: bool, flags: &[&str]) -> anyhow::Result<Child> {
    let log = File::create(dir.join("up.log"))?;
    let mut command = Command::new(binary);
    command
        .arg("up")
        // How full the disk of this machine is, is not what is measured.
        .args(["--pressure", "nodefs.available<1%,imagefs.available<1%"])
        .arg("--data-dir")
        .arg(dir.join("data"))
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"))
        .args(["--pod-range", "10.202.2.0/24", "--node-name", "bench", "--docker"])
        .arg(socket)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    if !push {
        command.arg("--repo").arg(dir.join("repo"));
    }
    command.spawn().context("towline does not start")
}

/// From a one-file commit in a large repository to the recorded revision, as the API shows it.
pub(crate) async fn notice_to_desired(arguments: &Arguments) -> anyhow::Result<Vec<Duration>> {
    let mut towline = Towline::start(&arguments.towline, &arguments.docker, false, &[]).await?;
    towline.fill(arguments.manifests)?;
    let commit = towline.prepare("Fill")?;
    towline.publish(&commit)?;
    towline.recorded(&commit)?;
    let mut rounds = Vec::new();
    for round in 1..=arguments.rounds {
        let file = towline.repo().join("namespaces/team-0/settings-0.yaml");
        fs::write(file, manifest(0, round))?;
        let commit = towline.prepare("Change one")?;
        let start = Instant::now();
        towline.publish(&commit)?;
        towline.recorded(&commit)?;
        rounds.push(start.elapsed());
    }
    towline.stop()?;
    Ok(rounds)
}

pub(crate) fn manifest(index: usize, round: usize) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings-{index}\ndata:\n  round: \"{round}\"\n")
}

impl Towline {
    /// Writes a large repository: that many manifests in a hundred namespaces.
    pub(crate) fn fill(&self, manifests: usize) -> anyhow::Result<()> {
        for index in 0..manifests {
            let file = self
                .repo()
                .join(format!("namespaces/team-{}/settings-{index}.yaml", index % 100));
            fs::create_dir_all(file.parent().context("a file lies in a folder")?)?;
            fs::write(file, manifest(index, 0))?;
        }
        Ok(())
    }

    /// Commits what was written, pushes it, and waits until it is recorded.
    pub(crate) fn push_all(&self, message: &str) -> anyhow::Result<()> {
        let commit = self.prepare(message)?;
        self.git(&["update-ref", "refs/heads/main", &commit])?;
        self.git(&["push", "--quiet", "origin", "main"])?;
        self.recorded(&commit)
    }

    /// Waits until the newest revision is `commit`'s, asking over and over on one connection.
    fn recorded(&self, commit: &str) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let text = run(Command::new("curl")
                .args(["--silent", "--cacert"])
                .arg(self.data().join("ca.pem"))
                .arg("--header")
                .arg(format!("Authorization: Bearer {}", self.token()?))
                .arg(format!("https://127.0.0.1:{}/towline/v1/history?limit=1", self.port)))?;
            if text.contains(commit) {
                return Ok(());
            }
            anyhow::ensure!(begin.elapsed() < PATIENCE, "{commit} is not recorded: {text}");
        }
    }
}
