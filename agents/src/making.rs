//! Making containers: the image, the request, the container, its start.

use std::{path::Path, time::Duration};

use crate::{
    execute::{Execution, Failure, Update},
    image::{self, PullPolicy},
    memory::TroubleKind,
    observed::{self, Container, INFRA},
    pause,
    runtime::{ContainerId, CreateRequest, Exit, Life, Network, RuntimeError},
    subpath,
    translate::{self, Inputs},
    volumes, watch,
};

/// What Docker says when the address of a start is still another container's.
const ADDRESS_HELD: &str = "Address already in use";
/// How long to wait before the next try, and how often to try: 5 s in all.
const ADDRESS_PAUSE: Duration = Duration::from_millis(50);
const ADDRESS_TRIES: u32 = 100;

impl<F: Fn(Update) + Send + Sync> Execution<F> {
    pub(crate) async fn ensure(&mut self, name: &str, again: bool) -> Result<(), Failure> {
        if name == INFRA {
            return self.ensure_infra_image().await;
        }
        let spec = self.spec(name)?;
        let reference = spec.image.clone().unwrap_or_default();
        if !image::is_valid(&reference) {
            let message = format!(
                "Failed to apply default image tag {reference:?}: couldn't parse image reference {reference:?}: invalid reference format"
            );
            self.event(true, "InspectFailed", message.clone(), Some(name));
            return Err(self.trouble(name, TroubleKind::ImageName, message));
        }
        let policy = image::policy(&spec);
        let runtime = self.host.runtime.clone();
        if policy != PullPolicy::Always || again {
            let found = self.host.images.find(&*runtime, &reference).await;
            match found.map_err(|error| self.refused(name, &error))? {
                Some(_) => {
                    let message = format!("Container image \"{reference}\" already present on machine");
                    self.event(false, "Pulled", message, Some(name));
                    return Ok(());
                }
                None if policy == PullPolicy::Never => {
                    let message = format!("Container image \"{reference}\" is not present with pull policy of Never");
                    self.event(true, "ErrImageNeverPull", message.clone(), Some(name));
                    return Err(self.trouble(name, TroubleKind::NeverPull, message));
                }
                None => {}
            }
        }
        self.pull(name, &reference).await
    }

    async fn pull(&mut self, name: &str, reference: &str) -> Result<(), Failure> {
        self.event(false, "Pulling", format!("Pulling image \"{reference}\""), Some(name));
        let credentials = image::credentials(&self.pod, &self.host.objects.read(), reference);
        let began = self.host.clock.now().monotonic;
        let layers = parking_lot::Mutex::new(std::collections::BTreeSet::new());
        let host = self.host.clone();
        let progress = |progress: crate::runtime::Progress| {
            if let Some(layer) = progress.layer
                && progress.status.ends_with("complete")
            {
                layers.lock().insert(layer);
            }
        };
        let pulled = tokio::select! {
            biased;
            pulled = host.runtime.pull(reference, credentials, host.pull_idle, &progress) => pulled,
            () = self.cancel.cancelled() => return Err(Failure::Cancelled),
        };
        if let Err(error) = pulled {
            if error.is_unreachable() {
                return Err(Failure::Unreachable);
            }
            let message = format!("Failed to pull image \"{reference}\": {error}");
            self.event(true, "Failed", message.clone(), Some(name));
            self.event(true, "Failed", "Error: ErrImagePull".to_owned(), Some(name));
            return Err(self.trouble(name, TroubleKind::Pull, message));
        }
        self.host.images.forget();
        let found = self.host.images.find(&*host.runtime, reference).await;
        let image = found.map_err(|error| self.refused(name, &error))?;
        let took = self.host.clock.now().monotonic.saturating_sub(began);
        let size = image.map_or(0, |image| image.size);
        let message = format!(
            "Successfully pulled image \"{reference}\" in {:.3}s. Image size: {size} bytes.",
            took.as_secs_f64()
        );
        self.event(false, "Pulled", message, Some(name));
        Ok(())
    }

    async fn ensure_infra_image(&mut self) -> Result<(), Failure> {
        let runtime = self.host.runtime.clone();
        let found = self.host.images.find(&*runtime, pause::IMAGE).await;
        if found.map_err(|error| self.refused(INFRA, &error))?.is_some() {
            return Ok(());
        }
        let architecture = self
            .host
            .info
            .read()
            .as_ref()
            .map(|info| info.architecture.clone())
            .unwrap_or_default();
        let Some(tar) = pause::tar(&architecture) else {
            let message = format!("pods of several containers cannot run on the architecture {architecture:?}");
            return Err(self.trouble(INFRA, TroubleKind::Create, message));
        };
        let changes: Vec<String> = pause::CHANGES.iter().map(|change| (*change).to_owned()).collect();
        let imported = runtime.import(pause::IMAGE, tar, &changes).await;
        imported.map_err(|error| self.refused(INFRA, &error))
    }

    pub(crate) async fn create(&mut self, name: &str, attempt: u32) -> Result<(), Failure> {
        let request = self.request(name, attempt).await?;
        let runtime = self.host.runtime.clone();
        let mut made = runtime.create(&request).await;
        if matches!(made, Err(RuntimeError::NoSuchImage(_))) {
            // The image went since it was last seen.
            self.host.images.forget();
            self.ensure(name, true).await?;
            made = runtime.create(&request).await;
        }
        let container = match made {
            Ok(id) => self.container(&request, name, attempt, id),
            // It was made before, by a process that ended before it could tell.
            Err(RuntimeError::NameInUse(_)) => {
                let found = runtime.inspect(&request.name).await;
                let found = found.map_err(|error| self.refused(name, &error))?;
                let ours = Container::read(&found, self.host.clock.now().monotonic).filter(|container| {
                    container.pod == self.pod.uid && *container.name == *name && container.attempt == attempt
                });
                match ours {
                    Some(container) => container,
                    None => {
                        let message = format!("the container name {:?} is in use by another container", request.name);
                        return Err(self.trouble(name, TroubleKind::Create, message));
                    }
                }
            }
            Err(error) => return Err(self.refused(name, &error)),
        };
        self.seen(container);
        (self.tell)(Update::Cleared { container: name.into() });
        if name != INFRA {
            self.event(false, "Created", format!("Created container: {name}"), Some(name));
        }
        Ok(())
    }

    fn container(&self, request: &CreateRequest, name: &str, attempt: u32, id: ContainerId) -> Container {
        let address = match &request.network {
            Some(Network::Bridge { address, .. }) => Some(*address),
            _ => None,
        };
        Container {
            id,
            pod: self.pod.uid.clone(),
            key: self.pod.key.clone(),
            name: name.into(),
            attempt,
            role: self.pod.role(name),
            address,
            spec_hash: if name == INFRA {
                "".into()
            } else {
                self.pod.spec_hash(name).into()
            },
            image_id: self.host.images.id(&request.image),
            joins: match &request.network {
                Some(Network::Join(infra)) => Some(infra.clone()),
                _ => None,
            },
            life: Life::Created,
            meddling: None,
            message: None,
        }
    }

    async fn request(&mut self, name: &str, attempt: u32) -> Result<CreateRequest, Failure> {
        let host = self.host.clone();
        let pod = self.pod.clone();
        let Some(owner) = host.owner.get() else {
            return Err(self.trouble(name, TroubleKind::Create, "the cluster is not known yet"));
        };
        let infra = observed::latest(&self.containers, INFRA)
            .filter(|infra| infra.is_running())
            .map(|c| c.id.clone());
        let holds_network = name == INFRA || !pod.needs_infra();
        let (network, address) = if pod.host_network() {
            (Network::Host, None)
        } else if holds_network {
            let address = host
                .allocate(&pod.uid)
                .map_err(|error| self.trouble(name, TroubleKind::Create, error.to_string()))?;
            let network = host.network.name.clone();
            (Network::Bridge { network, address }, Some(address))
        } else {
            match &infra {
                Some(id) => (Network::Join(id.clone()), None),
                None => return Err(self.trouble(name, TroubleKind::Create, "the pod's network is not there")),
            }
        };
        let mut files = host.pod_files(&pod).map_err(|error| {
            self.trouble(
                name,
                TroubleKind::Volume,
                format!("cannot write the pod's files: {error}"),
            )
        })?;
        // A container in the network of another gets `hosts` and the like from there, so the same files
        // are mounted over them again; `hostname` comes with the namespace.
        let place = host.place(&pod);
        if name == INFRA {
            let objects = host.objects.read();
            let empty = std::collections::BTreeMap::new();
            let inputs = Inputs {
                pod: &pod,
                attempt,
                owner,
                objects: &objects,
                place: &place,
                network,
                address,
                files,
                volumes: &empty,
                image_user: "",
                infra: None,
            };
            return Ok(translate::infra(&inputs, pause::IMAGE));
        }
        let spec = self.spec(name)?;
        let dir = host.pod_dir(&pod.uid);
        let claimed = self.mount_claims(name).await?;
        let volumes = {
            let objects = host.objects.read();
            volumes::prepare(&pod, &objects, &place, dir.as_deref(), claimed)
        };
        let volumes = volumes.map_err(|error| {
            let message = error.to_string();
            self.event(true, "FailedMount", message.clone(), None);
            self.trouble(name, TroubleKind::Volume, message)
        })?;
        let target = spec
            .termination_message_path
            .as_deref()
            .unwrap_or("/dev/termination-log");
        match host.termination_file(&pod, name, attempt, target) {
            Ok(bind) => files.extend(bind),
            Err(error) => {
                let message = format!("cannot make the termination message file: {error}");
                return Err(self.trouble(name, TroubleKind::Volume, message));
            }
        }
        let image = host
            .images
            .find(&*host.runtime, spec.image.as_deref().unwrap_or(""))
            .await;
        let image_user = image.ok().flatten().map(|image| image.user.clone()).unwrap_or_default();
        let request = {
            let objects = host.objects.read();
            let inputs = Inputs {
                pod: &pod,
                attempt,
                owner,
                objects: &objects,
                place: &place,
                network,
                address,
                files,
                volumes: &volumes,
                image_user: &image_user,
                infra: infra.as_deref(),
            };
            translate::container(&inputs, &spec)
        };
        let mut request = request.map_err(|error| {
            let message = error.to_string();
            self.event(true, "Failed", format!("Error: {message}"), Some(name));
            self.trouble(name, TroubleKind::Config, message)
        })?;
        self.pin(&mut request, name)?;
        Ok(request)
    }

    /// Mounts the parts of volumes that the container asks for where nothing can move them any more.
    fn pin(&mut self, request: &mut CreateRequest, name: &str) -> Result<(), Failure> {
        let dir = self.host.pod_dir(&self.pod.uid);
        let parts = request.binds.iter_mut().filter(|bind| !bind.sub_path.is_empty());
        for (number, bind) in parts.enumerate() {
            let sub = std::mem::take(&mut bind.sub_path);
            let Some(dir) = &dir else {
                bind.source = format!("{}/{sub}", bind.source);
                continue;
            };
            let target = dir.join("subpaths").join(name).join(number.to_string());
            if let Err(error) = subpath::pin(Path::new(&bind.source), &sub, &target) {
                let message = format!("mount at {:?}: {error}", bind.target);
                self.event(true, "FailedMount", message.clone(), None);
                return Err(self.trouble(name, TroubleKind::Volume, message));
            }
            bind.source = target.to_string_lossy().into_owned();
        }
        Ok(())
    }

    pub(crate) async fn start(&mut self, name: &str, attempt: u32) -> Result<(), Failure> {
        let known = self
            .containers
            .iter()
            .find(|container| *container.name == *name && container.attempt == attempt);
        let Some(mut container) = known.cloned() else {
            return Err(self.trouble(name, TroubleKind::Create, "the container to start is not there"));
        };
        let mut started = self.host.runtime.start(&container.id).await;
        if let Err(RuntimeError::Refused(message)) = &started
            && message.contains(&self.host.network.name)
            && message.contains("not found")
            && watch::ensure_network(&self.host).await.is_ok()
        {
            // Somebody removed the unused network, as a prune does.
            started = self.host.runtime.start(&container.id).await;
        }
        // Docker gives the address of a container back a moment after it has said that it ended: the
        // next one of the same pod comes before that, which is no failure of its own.
        let mut tries = 0;
        while let Err(RuntimeError::Refused(message)) = &started
            && message.contains(ADDRESS_HELD)
            && tries < ADDRESS_TRIES
        {
            tries += 1;
            tokio::select! {
                biased;
                () = tokio::time::sleep(ADDRESS_PAUSE) => {}
                () = self.cancel.cancelled() => return Err(Failure::Cancelled),
            }
            started = self.host.runtime.start(&container.id).await;
        }
        match started {
            Ok(()) => {
                if container.life == Life::Created {
                    container.life = Life::Running {
                        started: self.host.clock.now().wall,
                    };
                }
                // The event first: whoever hears that it runs hears all of it.
                if name != INFRA {
                    self.event(false, "Started", format!("Started container {name}"), Some(name));
                }
                self.seen(container);
                Ok(())
            }
            Err(error) if error.is_unreachable() => Err(Failure::Unreachable),
            Err(RuntimeError::NoSuchContainer(_)) => {
                (self.tell)(Update::Gone(container.id));
                Err(Failure::Told)
            }
            Err(error) => {
                // What the runtime has of it tells more: it may have an exit code.
                let found = self.host.runtime.inspect(&container.id).await.ok();
                container.life = match found.map(|found| found.life) {
                    Some(Life::Exited(exit)) => Life::Exited(Exit {
                        error: exit.error.or_else(|| Some(error.to_string().into())),
                        ..exit
                    }),
                    _ => Life::Exited(Exit {
                        code: 128,
                        started: None,
                        finished: self.host.clock.now().wall,
                        oom_killed: false,
                        error: Some(error.to_string().into()),
                    }),
                };
                self.seen(container);
                self.event(true, "Failed", format!("Error: {error}"), Some(name));
                Err(Failure::Told)
            }
        }
    }
}
