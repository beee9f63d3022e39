//! Docker as a runtime, over its API.

mod cgroups;
mod create;
mod event;
mod found;
mod machine;
mod measuring;
mod network;
mod pull;
mod volume;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bollard::{
    API_DEFAULT_VERSION, Docker as Client,
    container::LogOutput,
    errors::Error,
    exec::{CreateExecOptions, StartExecResults},
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions,
        ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListNetworksOptions, LogsOptionsBuilder,
        RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
    },
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use parking_lot::Mutex;

use crate::runtime::{
    ContainerId, CreateRequest, Credentials, ExecResult, Found, Image, LogRequest, Machine, NetworkFound, NetworkSpec,
    Progress, Runtime, RuntimeError, RuntimeEvent, RuntimeInfo, Usage, VolumeFound, VolumeSpec,
};
use cgroups::Cgroups;
use volume::VolumeError;

/// How long Docker may take to begin an answer. Starts on a loaded disk take their time.
const ANSWER: Duration = Duration::from_secs(120);
/// Containers looked at together when the whole node is looked at.
const LOOKS: usize = 8;
/// What is kept of a command's output.
const OUTPUT: usize = 10 * 1024;

/// A Docker engine. The connection is made when it is first needed, and again after the engine was
/// away, because a new engine may speak another version.
pub struct Docker {
    endpoint: String,
    client: Mutex<Option<Client>>,
    /// The kernel's figures, where the engine is on this machine.
    cgroups: Option<Arc<Cgroups>>,
    /// The engine's own directory.
    root: Mutex<PathBuf>,
}

impl Docker {
    /// An engine behind a Unix socket (`unix:///var/run/docker.sock`, or a path) or a TCP address.
    #[must_use]
    pub fn new(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            client: Mutex::new(None),
            cgroups: (!is_remote(endpoint)).then(|| Arc::new(Cgroups::new(Path::new("/sys/fs/cgroup")))),
            root: Mutex::new("/var/lib/docker".into()),
        }
    }

    /// Measures containers by asking the engine alone, as for one whose control groups cannot be seen.
    #[must_use]
    pub fn asking(mut self) -> Self {
        self.cgroups = None;
        self
    }

    async fn client(&self) -> Result<Client, RuntimeError> {
        if let Some(client) = self.client.lock().clone() {
            return Ok(client);
        }
        let endpoint = &self.endpoint;
        let timeout = ANSWER.as_secs();
        let client = if is_remote(endpoint) {
            Client::connect_with_http(endpoint, timeout, API_DEFAULT_VERSION)
        } else {
            Client::connect_with_unix(endpoint, timeout, API_DEFAULT_VERSION)
        };
        let client = match client {
            Ok(client) => client.negotiate_version().await,
            Err(error) => Err(error),
        }
        .map_err(|error| self.unreachable(&error))?;
        *self.client.lock() = Some(client.clone());
        Ok(client)
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> RuntimeError {
        *self.client.lock() = None;
        RuntimeError::Unreachable {
            endpoint: self.endpoint.clone(),
            message: error.to_string(),
        }
    }

    /// Puts an error of the client into the words of the seam. `about` is the container, image or
    /// network in question.
    fn error(&self, error: Error, about: &str) -> RuntimeError {
        match error {
            Error::DockerResponseServerError { status_code, message } => refusal(status_code, message, about),
            Error::DockerStreamError { error } => RuntimeError::Refused(error),
            Error::IOError { .. }
            | Error::HyperResponseError { .. }
            | Error::HyperLegacyError { .. }
            | Error::HttpClientError { .. }
            | Error::SocketNotFoundError(_)
            | Error::RequestTimeoutError => self.unreachable(&error),
            other => RuntimeError::Refused(other.to_string()),
        }
    }
}

/// Whether an engine may be on another machine.
fn is_remote(endpoint: &str) -> bool {
    endpoint.starts_with("tcp://") || endpoint.starts_with("http://")
}

impl Docker {
    fn volume_error(&self, error: VolumeError, name: &str) -> RuntimeError {
        match error {
            VolumeError::Foreign => RuntimeError::Refused(format!(
                "there is a Docker volume {name} that is not this cluster's; rename or remove it"
            )),
            VolumeError::Docker(error) => self.error(error, name),
        }
    }
}

fn refusal(status: u16, message: String, about: &str) -> RuntimeError {
    match status {
        404 if message.contains("No such image") || message.contains("no such image") => {
            RuntimeError::NoSuchImage(about.to_owned())
        }
        404 if message.contains("No such container") || message.contains("no such container") => {
            RuntimeError::NoSuchContainer(about.to_owned())
        }
        409 if message.contains("already in use by container") || message.contains("already exists") => {
            RuntimeError::NameInUse(about.to_owned())
        }
        _ => RuntimeError::Refused(message),
    }
}

fn label_filter(labels: &BTreeMap<String, String>) -> HashMap<String, Vec<String>> {
    let labels = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    HashMap::from([("label".to_owned(), labels)])
}

#[async_trait]
impl Runtime for Docker {
    async fn list(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Found>, RuntimeError> {
        let client = self.client().await?;
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&label_filter(labels))
            .build();
        let listed = client
            .list_containers(Some(options))
            .await
            .map_err(|error| self.error(error, "list"))?;
        let looks = stream::iter(listed.into_iter().filter_map(|summary| summary.id)).map(|id| async move {
            match self.inspect(&id).await {
                Ok(found) => Ok(Some(found)),
                // It went between the list and the look.
                Err(RuntimeError::NoSuchContainer(_)) => Ok(None),
                Err(error) => Err(error),
            }
        });
        looks
            .buffer_unordered(LOOKS)
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await
    }

    async fn inspect(&self, id: &str) -> Result<Found, RuntimeError> {
        let client = self.client().await?;
        let found = client
            .inspect_container(id, None::<InspectContainerOptions>)
            .await
            .map_err(|error| self.error(error, id))?;
        Ok(found::read(found))
    }

    async fn create(&self, request: &CreateRequest) -> Result<ContainerId, RuntimeError> {
        let client = self.client().await?;
        let options = CreateContainerOptionsBuilder::default().name(&request.name).build();
        match client.create_container(Some(options), create::body(request)).await {
            Ok(created) => Ok(created.id.into()),
            Err(error) => Err(match self.error(error, &request.name) {
                RuntimeError::NoSuchImage(_) => RuntimeError::NoSuchImage(request.image.clone()),
                other => other,
            }),
        }
    }

    async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        let client = self.client().await?;
        client
            .start_container(id, None)
            .await
            .map_err(|error| self.error(error, id))
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        // The answer comes when the container has ended, so it may take the whole grace.
        let client = self.client().await?.with_timeout(grace + ANSWER);
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        match client
            .stop_container(id, Some(options))
            .await
            .map_err(|error| self.error(error, id))
        {
            Err(RuntimeError::NoSuchContainer(_)) => Ok(()),
            other => other,
        }
    }

    async fn remove(&self, id: &str, force: bool) -> Result<(), RuntimeError> {
        let client = self.client().await?;
        let options = RemoveContainerOptionsBuilder::default().v(true).force(force).build();
        match client.remove_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            // Somebody else is removing it at this moment.
            Err(Error::DockerResponseServerError {
                status_code: 409,
                message,
            }) if message.contains("in progress") => Ok(()),
            Err(error) => Err(self.error(error, id)),
        }
    }

    async fn exec(&self, id: &str, command: &[String], limit: Duration) -> Result<ExecResult, RuntimeError> {
        let client = self.client().await?;
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..Default::default()
        };
        let run = async {
            let exec = client.create_exec(id, options).await?;
            let mut output = Vec::new();
            if let StartExecResults::Attached { output: mut stream, .. } = client.start_exec(&exec.id, None).await? {
                while let Some(chunk) = stream.next().await {
                    let chunk = chunk?.into_bytes();
                    let room = OUTPUT.saturating_sub(output.len());
                    output.extend_from_slice(&chunk[..chunk.len().min(room)]);
                }
            }
            let ended = client.inspect_exec(&exec.id).await?;
            Ok(ExecResult {
                code: ended.exit_code.unwrap_or(-1),
                output: String::from_utf8_lossy(&output).into_owned(),
            })
        };
        match tokio::time::timeout(limit, run).await {
            Ok(result) => result.map_err(|error| self.error(error, id)),
            Err(_) => Err(RuntimeError::Refused(format!(
                "command {:?} timed out after {} s",
                command.first().map_or("", String::as_str),
                limit.as_secs()
            ))),
        }
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        let client = self.client().await?;
        match client.inspect_image(reference).await {
            Ok(image) => Ok(Some(Image {
                id: image.id.unwrap_or_default().into(),
                tags: image.repo_tags.unwrap_or_default(),
                digests: image.repo_digests.unwrap_or_default(),
                size: image.size.unwrap_or(0),
                user: image.config.and_then(|config| config.user).unwrap_or_default(),
            })),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(self.error(error, reference)),
        }
    }

    async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        let client = self.client().await?;
        let options = ListImagesOptionsBuilder::default().build();
        let images = client
            .list_images(Some(options))
            .await
            .map_err(|error| self.error(error, "images"))?;
        let named = |names: Vec<String>| names.into_iter().filter(|name| !name.starts_with("<none>")).collect();
        Ok(images
            .into_iter()
            .map(|image| Image {
                id: image.id.into(),
                tags: named(image.repo_tags),
                digests: named(image.repo_digests),
                size: image.size,
                user: String::new(),
            })
            .collect())
    }

    async fn pull(
        &self,
        reference: &str,
        credentials: Option<Credentials>,
        idle: Duration,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        let client = self.client().await?;
        pull::pull(&client, reference, credentials, idle, progress)
            .await
            .map_err(|error| match error {
                pull::Failure::Idle => RuntimeError::PullStalled {
                    image: reference.to_owned(),
                    idle,
                },
                pull::Failure::Client(error) => match self.error(error, reference) {
                    RuntimeError::Refused(message) => RuntimeError::Pull(message),
                    other => other,
                },
            })
    }

    async fn import(&self, reference: &str, tar: Bytes, changes: &[String]) -> Result<(), RuntimeError> {
        let client = self.client().await?;
        let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(repository)
            .tag(tag)
            .changes(changes.to_vec())
            .build();
        let mut answer = client.create_image(Some(options), Some(bollard::body_full(tar)), None);
        while let Some(step) = answer.next().await {
            step.map_err(|error| self.error(error, reference))?;
        }
        Ok(())
    }

    async fn events(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> Result<BoxStream<'static, RuntimeEvent>, RuntimeError> {
        // A fresh client: the engine may have been replaced by one of another version.
        *self.client.lock() = None;
        let client = self.client().await?;
        // The request is sent when the stream is first read; asking from this moment on leaves no gap.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wanted = [
            "start", "die", "destroy", "pull", "tag", "untag", "delete", "import", "load",
        ];
        let filters = HashMap::from([("type", vec!["container", "image"]), ("event", wanted.to_vec())]);
        let options = EventsOptionsBuilder::default()
            .since(&format!("{}.{:09}", since.as_secs(), since.subsec_nanos()))
            .filters(&filters)
            .build();
        let labels = labels.clone();
        let events = client
            .events(Some(options))
            .take_while(|event| std::future::ready(event.is_ok()))
            .filter_map(move |event| std::future::ready(event.ok().and_then(|event| event::meaning(event, &labels))));
        Ok(events.boxed())
    }

    async fn logs(
        &self,
        id: &str,
        request: &LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, RuntimeError>>, RuntimeError> {
        let client = self.client().await?;
        let mut options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .follow(request.follow)
            .timestamps(request.timestamps);
        if let Some(tail) = request.tail {
            options = options.tail(&tail.max(0).to_string());
        }
        if let Some(since) = request.since {
            options = options.since(i32::try_from(since.as_second()).unwrap_or(i32::MAX));
        }
        let endpoint = self.endpoint.clone();
        let about = id.to_owned();
        let mut lines = client.logs(id, Some(options.build())).boxed();
        // The first line tells whether there is a log at all; it is read here, so that a container
        // that is not there is an error of the request and not an empty log.
        let first = match tokio::time::timeout(Duration::from_millis(200), lines.next()).await {
            Ok(Some(Err(error))) => return Err(self.error(error, id)),
            Ok(first) => first,
            Err(_) => None,
        };
        let bytes = stream::iter(first).chain(lines).map(move |line| match line {
            Ok(line) => Ok(LogOutput::into_bytes(line)),
            Err(error) => Err(RuntimeError::Unreachable {
                endpoint: endpoint.clone(),
                message: format!("the log of {about} broke off: {error}"),
            }),
        });
        Ok(bytes.boxed())
    }

    async fn networks(&self) -> Result<Vec<NetworkFound>, RuntimeError> {
        let client = self.client().await?;
        let networks = client
            .list_networks(None::<ListNetworksOptions>)
            .await
            .map_err(|error| self.error(error, "networks"))?;
        Ok(networks.into_iter().map(network::found).collect())
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<(), RuntimeError> {
        let client = self.client().await?;
        match client.create_network(network::request(spec)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error(error, &spec.name)),
        }
    }

    async fn remove_network(&self, name: &str) -> Result<(), RuntimeError> {
        let client = self.client().await?;
        match client.remove_network(name).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(self.error(error, name)),
        }
    }

    async fn ensure_volume(&self, spec: &VolumeSpec) -> Result<VolumeFound, RuntimeError> {
        let client = self.client().await?;
        volume::ensure(&client, spec)
            .await
            .map_err(|error| self.volume_error(error, &spec.name))
    }

    async fn remove_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<(), RuntimeError> {
        let client = self.client().await?;
        volume::remove(&client, name, labels)
            .await
            .map_err(|error| self.volume_error(error, name))
    }

    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        let client = self.client().await?;
        let info = client.info().await.map_err(|error| self.error(error, "info"))?;
        let version = client.version().await.map_err(|error| self.error(error, "version"))?;
        if let Some(root) = &info.docker_root_dir {
            *self.root.lock() = root.into();
        }
        Ok(RuntimeInfo {
            version: version.version.unwrap_or_default(),
            api_version: version.api_version.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            os_image: info.operating_system.unwrap_or_default(),
            architecture: version.arch.unwrap_or_default(),
            cpus: info.ncpu.unwrap_or(0),
            memory: info.mem_total.unwrap_or(0),
            live_restore: info.live_restore_enabled.unwrap_or(false),
            root: info.docker_root_dir.unwrap_or_default(),
        })
    }

    async fn usage(&self, ids: &[ContainerId]) -> Result<Vec<Option<Usage>>, RuntimeError> {
        self.measure(ids).await
    }

    async fn machine(&self, data: Option<&Path>) -> Result<Machine, RuntimeError> {
        Ok(self.look_at_machine(data).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let cases = [
            (404, "No such image: a:1", RuntimeError::NoSuchImage("x".into())),
            (404, "No such container: x", RuntimeError::NoSuchContainer("x".into())),
            (
                409,
                "Conflict. The container name \"/x\" is already in use by container \"ab\".",
                RuntimeError::NameInUse("x".into()),
            ),
            (
                409,
                "network with name x already exists",
                RuntimeError::NameInUse("x".into()),
            ),
            (500, "boom", RuntimeError::Refused("boom".into())),
            (
                404,
                "network y not found",
                RuntimeError::Refused("network y not found".into()),
            ),
        ];
        for (status, message, expected) in cases {
            let found = refusal(status, message.to_owned(), "x");
            assert_eq!(found.to_string(), expected.to_string(), "{status} {message}");
        }
    }
}
