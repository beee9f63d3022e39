//! Taking in what the runtime shows: whole looks at the node, events, and its going away.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use schemas::Uid;

use crate::{
    agent::Agent,
    entry::Entry,
    inspecting::Question,
    meddling::Meddling,
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
        for container in found.iter().filter_map(|found| Container::read(found, now.monotonic)) {
            there.insert(container.id.clone());
            if let Some(address) = container.address {
                self.host.pool.lock().claim(&container.pod, address);
            }
            match self.entries.get_mut(&container.pod) {
                Some(entry) => {
                    let pod = container.pod.clone();
                    // Since the list was asked for, nothing else was heard of the pod.
                    let sure = entry.touched <= as_of;
                    self.found(&pod, container, sure);
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

    /// Takes in a container as the runtime shows it. `sure` says that this is newer than all that is known.
    fn found(&mut self, pod: &Uid, container: Container, sure: bool) {
        let now = self.host.clock.now();
        let Some(entry) = self.entries.get_mut(pod) else { return };
        let known = entry.containers.iter().find(|known| known.id == container.id);
        if let Some(exit) = known
            .and_then(Container::exit)
            .filter(|_| container.is_running())
            .cloned()
        {
            if known.is_some_and(Container::is_alive) {
                return;
            }
            if sure {
                entry.revive(container, &exit, now);
            } else {
                let id = container.id.clone();
                self.inspect(pod, &id);
            }
            return;
        }
        // The runtime's stamp of a start is a little off the agent's own; that is no news.
        let same = |known: &Container| {
            std::mem::discriminant(&known.life) == std::mem::discriminant(&container.life)
                && Meddling::is_like(known.meddling, container.meddling)
        };
        let id = container.id.clone();
        if !known.is_some_and(same) && entry.see(container, now) {
            self.read_last_words(pod, &id);
        }
    }

    pub(crate) fn inspected(&mut self, question: &Question, found: Option<&Found>) {
        self.asked.remove(&question.id);
        let monotonic = self.host.clock.now().monotonic;
        let Some(container) = found.and_then(|found| Container::read(found, monotonic)) else {
            return;
        };
        let touches = self.touches.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(entry) = self.entries.get_mut(&question.pod) else {
            return;
        };
        let Some(known) = entry.containers.iter().find(|known| known.id == question.id) else {
            return;
        };
        let more = known.exit().zip(container.exit()).is_some();
        entry.touched = touches;
        if more {
            // The events told that it ended; this tells how.
            entry.see(container, self.host.clock.now());
        } else {
            self.found(&question.pod, container, question.of_dead);
        }
        self.dirty.insert(question.pod.clone());
    }

    /// Asks the runtime how a container is now.
    fn inspect(&mut self, pod: &Uid, id: &ContainerId) {
        let Some(entry) = self.entries.get(pod) else { return };
        let known = entry.containers.iter().find(|known| known.id == *id);
        self.asked.insert(id.clone());
        // It fails only at the end, when nobody wants to know any more.
        let _ = self.questions.send(Question {
            pod: pod.clone(),
            id: id.clone(),
            of_dead: known.is_some_and(|known| known.exit().is_some()),
        });
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
                let pod = self.with_container(&id, |entry, mut container| {
                    if container.life == Life::Created {
                        container.life = Life::Running { started: at };
                        entry.see(container, now);
                        return false;
                    }
                    container.exit().is_some()
                });
                if let Some((pod, true)) = pod {
                    self.inspect(&pod, &id);
                }
            }
            RuntimeEvent::Changed { id } => {
                let pod = self.with_container(&id, |_, container| container.is_running());
                if let Some((pod, true)) = pod {
                    self.inspect(&pod, &id);
                }
            }
            RuntimeEvent::Died { id, code, at } => {
                let open = self.asked.contains(&id);
                let pod = self.with_container(&id, |entry, mut container| {
                    let started = match &container.life {
                        Life::Running { started } => Some(*started),
                        _ => None,
                    };
                    if container.exit().is_some() {
                        let again = open || container.is_alive();
                        container.meddling = None;
                        entry.see(container, now);
                        return (false, again);
                    }
                    container.meddling = None;
                    container.life = Life::Exited(Exit {
                        code,
                        started: started.or(Some(at)),
                        finished: at,
                        oom_killed: false,
                        error: None,
                    });
                    // A container that was killed may have been so for lack of memory; only the runtime knows.
                    (entry.see(container, now), code == 137)
                });
                let Some((pod, (ended, unclear))) = pod else { return };
                if ended {
                    self.read_last_words(&pod, &id);
                }
                if unclear {
                    self.inspect(&pod, &id);
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
        let touches = self.touches.fetch_add(1, Ordering::Relaxed) + 1;
        for (uid, entry) in &mut self.entries {
            let found = entry.containers.iter().find(|container| container.id == *id).cloned();
            if let Some(container) = found {
                entry.touched = touches;
                let result = change(entry, container);
                self.dirty.insert(uid.clone());
                return Some((uid.clone(), result));
            }
        }
        None
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
