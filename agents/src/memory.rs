//! What an agent remembers of a pod beyond what its runtime shows: back-off, trouble and checks.

use std::sync::Arc;

use crate::{backoff::Backoff, runtime::ContainerId};

/// Memory of one pod, by container name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// A list, since a pod has few containers and a node may be one of thousands in a process.
    pub containers: Vec<(Arc<str>, ContainerMemory)>,
}

impl Memory {
    pub(crate) fn entry(&mut self, container: &str) -> &mut ContainerMemory {
        let position = self.containers.iter().position(|(name, _)| **name == *container);
        let position = position.unwrap_or_else(|| {
            self.containers.reserve_exact(1);
            self.containers.push((container.into(), ContainerMemory::default()));
            self.containers.len() - 1
        });
        &mut self.containers[position].1
    }

    #[must_use]
    pub(crate) fn get(&self, container: &str) -> Option<&ContainerMemory> {
        self.containers
            .iter()
            .find(|(name, _)| **name == *container)
            .map(|(_, memory)| memory)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerMemory {
    /// Restarts of a container that ended.
    pub restart: Backoff,
    /// Why the container could not be made.
    pub trouble: Option<Trouble>,
    /// The highest attempt ever seen.
    pub attempt: Option<u32>,
    /// The attempt whose back-off was told as an event.
    pub told_backoff: Option<u32>,
    /// What the probes say, of this container id.
    pub checks: Option<(ContainerId, Checks)>,
    /// This container must end, because a probe or a hook failed.
    pub condemned: Option<(ContainerId, Arc<str>)>,
}

/// What probes found of one running container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checks {
    /// The startup probe passed, or there is none.
    pub started: bool,
    /// The readiness probe passes, or there is none.
    pub ready: bool,
}

/// What stands in the way of making a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub kind: TroubleKind,
    pub message: Arc<str>,
    pub backoff: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TroubleKind {
    /// The pull failed.
    Pull,
    /// The policy is `Never`, and the image is not here.
    NeverPull,
    /// The image's name is not valid.
    ImageName,
    /// A ConfigMap, a Secret, a key or a value is missing or not valid.
    Config,
    /// The runtime refused to make it.
    Create,
    /// A volume could not be prepared.
    Volume,
}

impl Trouble {
    /// The reason, as `kubectl get pods` shows it.
    #[must_use]
    pub(crate) fn reason(&self) -> &'static str {
        match self.kind {
            TroubleKind::Pull if self.backoff.failures <= 1 => "ErrImagePull",
            TroubleKind::Pull => "ImagePullBackOff",
            TroubleKind::NeverPull => "ErrImageNeverPull",
            TroubleKind::ImageName => "InvalidImageName",
            TroubleKind::Config => "CreateContainerConfigError",
            TroubleKind::Create => "CreateContainerError",
            TroubleKind::Volume => "ContainerCreating",
        }
    }
}
