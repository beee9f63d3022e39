//! What the runtime in memory does when it is asked.

use std::{collections::BTreeMap, path::Path, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{Behaviour, FakeRuntime, Made, Op, image};
use crate::runtime::{
    ContainerId, CreateRequest, Credentials, ExecResult, Found, Image, Life, LogRequest, Machine, Network,
    NetworkFound, NetworkSpec, Progress, Runtime, RuntimeError, RuntimeEvent, RuntimeInfo, Usage, VolumeFound,
    VolumeSpec,
};

async fn take(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn carries(found: &Found, labels: &BTreeMap<String, String>) -> bool {
    labels.iter().all(|(name, value)| found.labels.get(name) == Some(value))
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn list(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Found>, RuntimeError> {
        let state = self.enter(Some(Op::List))?;
        Ok(state
            .containers
            .values()
            .map(Made::show)
            .filter(|found| carries(found, labels))
            .collect())
    }

    async fn inspect(&self, id: &str) -> Result<Found, RuntimeError> {
        let state = self.enter(None)?;
        let found = state
            .containers
            .values()
            .find(|made| *made.found.id == *id || *made.found.name == *id);
        found
            .map(Made::show)
            .ok_or_else(|| RuntimeError::NoSuchContainer(id.to_owned()))
    }

    async fn create(&self, request: &CreateRequest) -> Result<ContainerId, RuntimeError> {
        take(self.options.create).await;
        let mut state = self.enter(Some(Op::Create))?;
        state.counted("create");
        if state.containers.values().any(|made| *made.found.name == *request.name) {
            return Err(RuntimeError::NameInUse(request.name.clone()));
        }
        if !self.options.all_images && !state.images.contains_key(&request.image) {
            return Err(RuntimeError::NoSuchImage(request.image.clone()));
        }
        state.next += 1;
        let id: ContainerId = format!("fake{:08}", state.next).into();
        if state.keep_requests {
            state.requests.insert(id.clone(), request.clone());
        }
        state.containers.insert(
            id.clone(),
            Made::new(Found {
                id: id.clone(),
                name: request.name.as_str().into(),
                image: request.image.as_str().into(),
                image_id: format!("sha256:{}", request.image).into(),
                labels: request.labels.clone(),
                joins: match &request.network {
                    Some(Network::Join(infra)) => Some(infra.clone()),
                    _ => None,
                },
                life: Life::Created,
            }),
        );
        Ok(id)
    }

    async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        take(self.options.start).await;
        let now = self.clock.now().wall;
        let mut state = self.enter(Some(Op::Start))?;
        state.counted("start");
        let Some(container) = state.containers.get_mut(id) else {
            return Err(RuntimeError::NoSuchContainer(id.to_owned()));
        };
        container.found.life = Life::Running { started: now };
        let image = container.found.image.to_string();
        state.tell(RuntimeEvent::Started { id: id.into(), at: now });
        if let Some(Behaviour::Ends { after, code }) = state.behaviours.get(&image).copied() {
            let this = self.this.clone();
            let id = id.to_owned();
            drop(state);
            tokio::spawn(async move {
                take(after).await;
                if let Some(this) = this.upgrade() {
                    this.exit(&id, code, false);
                }
            });
        }
        Ok(())
    }

    async fn stop(&self, id: &str, _grace: Duration) -> Result<(), RuntimeError> {
        take(self.options.stop).await;
        let running = {
            let mut state = self.enter(Some(Op::Stop))?;
            state.counted("stop");
            state
                .containers
                .get(id)
                .is_some_and(|made| matches!(made.found.life, Life::Running { .. }))
        };
        if running {
            self.exit(id, 143, false);
        }
        Ok(())
    }

    async fn remove(&self, id: &str, _force: bool) -> Result<(), RuntimeError> {
        let mut state = self.enter(Some(Op::Remove))?;
        state.counted("remove");
        state.requests.remove(id);
        if state.containers.remove(id).is_some() {
            state.tell(RuntimeEvent::Destroyed { id: id.into() });
        }
        Ok(())
    }

    async fn exec(&self, _id: &str, _command: &[String], _limit: Duration) -> Result<ExecResult, RuntimeError> {
        let mut state = self.enter(Some(Op::Exec))?;
        Ok(state.execs.pop_front().unwrap_or(ExecResult {
            code: 0,
            output: String::new(),
        }))
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        let state = self.enter(None)?;
        Ok(match state.images.get(reference) {
            Some(image) => Some(image.clone()),
            None => self.options.all_images.then(|| image(reference)),
        })
    }

    async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        Ok(self.enter(None)?.images.values().cloned().collect())
    }

    async fn pull(
        &self,
        reference: &str,
        _credentials: Option<Credentials>,
        _idle: Duration,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        let mut state = self.enter(Some(Op::Pull))?;
        state.counted("pull");
        progress(Progress {
            status: "Pulling".to_owned(),
            layer: None,
            current: None,
            total: None,
        });
        match state.pullable.get(reference).cloned() {
            Some(image) => {
                state.images.insert(reference.to_owned(), image);
                state.tell(RuntimeEvent::Images);
                Ok(())
            }
            None if self.options.all_images => Ok(()),
            None => Err(RuntimeError::Pull(format!("manifest for {reference} not found"))),
        }
    }

    async fn import(&self, reference: &str, _tar: Bytes, _changes: &[String]) -> Result<(), RuntimeError> {
        let mut state = self.enter(None)?;
        let image = image(reference);
        state.images.insert(reference.to_owned(), image);
        Ok(())
    }

    async fn events(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> Result<BoxStream<'static, RuntimeEvent>, RuntimeError> {
        let mut state = self.enter(None)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        state.listeners.push(sender);
        // Events carry only ids; whoever listens knows its own.
        let _ = labels;
        Ok(UnboundedReceiverStream::new(receiver).boxed())
    }

    async fn logs(
        &self,
        id: &str,
        request: &LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, RuntimeError>>, RuntimeError> {
        let state = self.enter(None)?;
        let made = state
            .containers
            .get(id)
            .ok_or_else(|| RuntimeError::NoSuchContainer(id.to_owned()))?;
        let lines: Vec<_> = (1..=3)
            .map(|line| Ok(Bytes::from(format!("{} line {line}\n", made.found.name))))
            .collect();
        let skip = request
            .tail
            .map_or(0, |tail| lines.len().saturating_sub(usize::try_from(tail).unwrap_or(0)));
        Ok(stream::iter(lines).skip(skip).boxed())
    }

    async fn networks(&self) -> Result<Vec<NetworkFound>, RuntimeError> {
        Ok(self.enter(None)?.networks.clone())
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<(), RuntimeError> {
        self.enter(None)?.networks.push(NetworkFound {
            name: spec.name.clone(),
            id: spec.name.clone(),
            subnets: vec![spec.subnet.clone()],
            labels: spec.labels.clone(),
        });
        Ok(())
    }

    async fn remove_network(&self, name: &str) -> Result<(), RuntimeError> {
        self.enter(None)?.networks.retain(|network| network.name != name);
        Ok(())
    }

    async fn ensure_volume(&self, spec: &VolumeSpec) -> Result<VolumeFound, RuntimeError> {
        let mut state = self.enter(None)?;
        let path = format!("/fake/volumes/{}", spec.name);
        match state.volumes.get(&spec.name) {
            Some(labels) if *labels != spec.labels => Err(RuntimeError::NameInUse(spec.name.clone())),
            Some(_) => Ok(VolumeFound { path, fresh: false }),
            None => {
                state.volumes.insert(spec.name.clone(), spec.labels.clone());
                Ok(VolumeFound { path, fresh: true })
            }
        }
    }

    async fn remove_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<(), RuntimeError> {
        let mut state = self.enter(None)?;
        if state.volumes.get(name).is_some_and(|own| own != labels) {
            return Err(RuntimeError::Refused(format!(
                "the volume {name} is not the one that was meant"
            )));
        }
        state.volumes.remove(name);
        Ok(())
    }

    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        drop(self.enter(None)?);
        Ok(RuntimeInfo {
            version: "0.0.0-fake".to_owned(),
            api_version: "1.41".to_owned(),
            kernel: "fake".to_owned(),
            os_image: "fake".to_owned(),
            architecture: "amd64".to_owned(),
            cpus: self.options.cpus,
            memory: self.options.memory,
            live_restore: true,
            root: String::new(),
        })
    }

    async fn usage(&self, ids: &[ContainerId]) -> Result<Vec<Option<Usage>>, RuntimeError> {
        let state = self.enter(None)?;
        let now = self.clock.now().monotonic;
        let of = |id: &ContainerId| {
            let made = state.containers.get(id)?;
            let load = state.loads.get(&*made.found.image).copied().unwrap_or_default();
            Some(load.usage(now))
        };
        Ok(ids.iter().map(of).collect())
    }

    async fn machine(&self, _data: Option<&Path>) -> Result<Machine, RuntimeError> {
        let state = self.enter(None)?;
        let usage = state.node_load.usage(self.clock.now().monotonic);
        let all = u64::try_from(self.options.memory).unwrap_or(0);
        let mut machine = state.machine.clone().unwrap_or_else(|| Machine {
            memory_available: Some(all.saturating_sub(usage.memory)),
            ..Machine::default()
        });
        machine.usage = Some(usage);
        Ok(machine)
    }
}
