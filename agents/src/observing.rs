//! Taking in what the runtime shows: whole looks at the node, events, and its going away.

use std::collections::BTreeSet;

use schemas::Uid;

use crate::{
    agent::{Agent, Message},
    entry::Entry,
    node_status,
    observed::Container,
    runtime::{ContainerId, Exit, Found, Life, RuntimeEvent},
    volumes,
};

impl Agent {
    pub(crate) fn runtime_away(&mut self) {
        if self.runtime_there {
            tracing::warn!(
                node = &*self.host.node_name,
                "the container runtime is away; nothing is known of containers until it is back"
            );
        }
        self.runtime_there = false;
        self.node_changed();
    }

    pub(crate) fn node_changed(&mut self) {
        let info = self.host.info.read().clone();
        let images = self.host.image_list.read();
        let status = node_status::status(&self.host, info.as_ref(), self.runtime_there, &images);
        self.face.set_status(status);
    }

    /// A look at the whole node: what is there, and what is not any more.
    pub(crate) fn looked(&mut self, found: Vec<Found>, as_of: u64) {
        let now = self.host.clock.now();
        let was_away = !self.runtime_there;
        self.runtime_there = true;
        let mut there: BTreeSet<ContainerId> = BTreeSet::new();
        self.strays.clear();
        for container in found.iter().filter_map(Container::read) {
            there.insert(container.id.clone());
            if let Some(address) = container.address {
                self.host.pool.lock().claim(&container.pod, address);
            }
            match self.entries.get_mut(&container.pod) {
                Some(entry) => {
                    // Restarts behind our back do not happen: the runtime's own policy is off.
                    let pod = container.pod.clone();
                    let known = entry.containers.iter().find(|known| known.id == container.id);
                    // The runtime's stamp of a start is a little off the agent's own; that is no news.
                    let same = |known: &Container| {
                        std::mem::discriminant(&known.life) == std::mem::discriminant(&container.life)
                    };
                    let changed = !known.is_some_and(same);
                    if changed && entry.see(container.clone(), now) {
                        self.read_last_words(&pod, &container.id);
                    }
                    self.dirty.insert(pod);
                }
                None => {
                    self.strays.insert(container.id.clone(), container);
                }
            }
        }
        for (uid, entry) in &mut self.entries {
            if entry.busy.is_some() || entry.touched > as_of {
                continue;
            }
            let before = entry.containers.len();
            entry.containers.retain(|container| there.contains(&container.id));
            if entry.containers.len() != before || was_away {
                self.dirty.insert(uid.clone());
            }
        }
        if was_away {
            self.dirty.extend(self.entries.keys().cloned());
            self.node_changed();
            self.sweep();
        }
        self.end_leaving();
        self.forget_empty();
        self.settle_disputes();
    }

    /// Removes the directories of pods that ended while no agent was there.
    fn sweep(&self) {
        let Some(pods) = self.host.state.dir().map(|dir| dir.join("pods")) else {
            return;
        };
        for entry in std::fs::read_dir(pods).into_iter().flatten().flatten() {
            let uid = Uid::from(entry.file_name().to_string_lossy().as_ref());
            let known = self.entries.contains_key(&uid) || self.strays.values().any(|stray| stray.pod == uid);
            if !known {
                tokio::task::spawn_blocking(move || volumes::remove(&entry.path()));
            }
        }
    }

    pub(crate) fn runtime_event(&mut self, event: RuntimeEvent) {
        let now = self.host.clock.now();
        match event {
            RuntimeEvent::Images => {
                self.host.images.forget();
            }
            RuntimeEvent::Started { id, at } => {
                self.with_container(&id, |entry, mut container| {
                    if container.life == Life::Created {
                        container.life = Life::Running { started: at };
                        entry.see(container, now);
                    }
                });
            }
            RuntimeEvent::Died { id, code, at } => {
                let pod = self.with_container(&id, |entry, mut container| {
                    let started = match &container.life {
                        Life::Running { started } => Some(*started),
                        _ => None,
                    };
                    if matches!(container.life, Life::Exited(_)) {
                        return false;
                    }
                    container.life = Life::Exited(Exit {
                        code,
                        started: started.or(Some(at)),
                        finished: at,
                        oom_killed: false,
                        error: None,
                    });
                    entry.see(container, now)
                });
                if let Some((pod, true)) = pod {
                    self.read_last_words(&pod, &id);
                    if code == 137 {
                        self.inspect_exit(pod, id);
                    }
                }
            }
            RuntimeEvent::Destroyed { id } => {
                self.strays.remove(&id);
                self.with_container(&id, |entry, _| entry.lose(&id));
                self.forget_empty();
                self.tell_unclaimed();
            }
        }
    }

    /// Applies `change` to the entry of a container, and marks its pod to be looked at.
    fn with_container<R>(
        &mut self,
        id: &ContainerId,
        change: impl FnOnce(&mut Entry, Container) -> R,
    ) -> Option<(Uid, R)> {
        for (uid, entry) in &mut self.entries {
            let found = entry.containers.iter().find(|container| container.id == *id).cloned();
            if let Some(container) = found {
                let result = change(entry, container);
                self.dirty.insert(uid.clone());
                return Some((uid.clone(), result));
            }
        }
        None
    }

    /// A container that was killed may have been so for lack of memory; only the runtime knows.
    fn inspect_exit(&self, pod: Uid, id: ContainerId) {
        let host = self.host.clone();
        let tell = self.tell.clone();
        tokio::spawn(async move {
            if let Ok(found) = host.runtime.inspect(&id).await {
                let _ = tell.send(Message::Inspected {
                    pod,
                    found: Box::new(found),
                });
            }
        });
    }

    /// Reads what a container left in its termination message file.
    pub(crate) fn read_last_words(&mut self, pod: &Uid, id: &ContainerId) {
        let Some(entry) = self.entries.get_mut(pod) else { return };
        let Some(container) = entry.containers.iter_mut().find(|container| container.id == *id) else {
            return;
        };
        let Some(path) = self.host.termination_path(pod, &container.name, container.attempt) else {
            return;
        };
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|file| {
            use std::io::Read;
            file.take(4096).read_to_string(&mut text)
        });
        if read.is_ok() && !text.is_empty() {
            container.message = Some(text.into());
        }
    }
}
