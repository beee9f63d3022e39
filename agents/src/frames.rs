//! Taking in what the server says: snapshots and what changed since.

use std::{collections::BTreeSet, sync::Arc};

use schemas::{
    Key, Kind, Object, Uid,
    node::{Frame, Gone, Incarnation, Position},
};

use crate::{
    agent::Agent,
    entry::{Claim, Entry},
    memory::TroubleKind,
    observed::Owner,
    pod::Pod,
    state::{Head, Known, Saved},
    volumes,
};

impl Agent {
    pub(crate) fn frame(&mut self, frame: Frame) {
        self.heard = true;
        let (term, version) = match frame {
            Frame::Snapshot {
                cluster,
                incarnation,
                term,
                version,
                continues,
                objects,
            } => {
                let at = Position {
                    incarnation,
                    term,
                    version,
                };
                if self.know_cluster(&cluster)
                    && let Err(error) = self.host.state.save_identity(&self.host.node_uid, Some(&cluster))
                {
                    tracing::error!(node = &*self.host.node_name, %error, "the agent may not find its containers again");
                }
                self.foreign = self.host.owner.get().is_none_or(|owner| owner.cluster != cluster);
                if self.foreign {
                    tracing::error!(
                        node = &*self.host.node_name, %cluster,
                        "the server is of another cluster than this agent's state directory; nothing it says is followed"
                    );
                    return;
                }
                self.disputes.ask_again();
                self.snapshot(&cluster, at, continues, objects);
                self.settle_disputes();
                return;
            }
            Frame::Delta {
                term,
                version,
                put,
                gone,
            } => {
                let Some(incarnation) = self.followed() else { return };
                for object in put {
                    self.put(object, &incarnation);
                }
                self.gone(gone);
                (term, version)
            }
            Frame::Bookmark { term, version } => (term, version),
        };
        if let Some(incarnation) = self.followed()
            && let Some(cluster) = self.head.as_ref().map(|head| head.cluster.clone())
        {
            let at = Position {
                incarnation,
                term,
                version,
            };
            self.set_head(&cluster, at);
        }
        self.settle_disputes();
    }

    /// The incarnation of the stream, if there is one to follow.
    fn followed(&self) -> Option<Incarnation> {
        let head = self.head.as_ref().filter(|_| !self.foreign)?;
        Some(head.at.incarnation.clone())
    }

    /// Notes how far the server's history is applied, after everything that came with it.
    fn set_head(&mut self, cluster: &Arc<str>, at: Position) {
        let head = Head::moved(self.head.as_ref(), cluster, at);
        if self.head.as_ref() == Some(&head) {
            return;
        }
        if self.keep_claims() {
            self.host.state.save_head(&head);
        }
        self.head = Some(head);
    }

    /// Takes up what was saved by the process before.
    pub(crate) fn restore(&mut self, saved: Saved) {
        let Some(cluster) = &saved.cluster else { return };
        self.know_cluster(cluster);
        for Known { incarnation, object } in saved.known {
            if object.kind == Kind::Pod {
                if let Some(uid) = self.put_pod(object, &incarnation, false)
                    && let Some(ip) = self.entries.get(&uid).and_then(|entry| entry.status().pod_ip)
                    && let Ok(ip) = ip.parse()
                {
                    self.host.pool.lock().claim(&uid, ip);
                }
            } else {
                self.host.objects.write().insert(object.key(), object);
            }
        }
        self.restore_claims(saved.claims);
        self.head = saved.head;
    }

    /// Takes this cluster for its own, once and for all. Tells whether it was not known before.
    fn know_cluster(&mut self, cluster: &Arc<str>) -> bool {
        let owner = Owner {
            cluster: cluster.clone(),
            node_uid: self.host.node_uid.clone(),
        };
        let new = self.host.owner.set(owner).is_ok();
        if new {
            self.owner_known.notify_one();
        }
        new
    }

    fn snapshot(&mut self, cluster: &Arc<str>, at: Position, continues: bool, objects: Vec<Object>) {
        let before = self.head.clone();
        let complete = continues
            && before
                .as_ref()
                .is_some_and(|head| head.at.incarnation == at.incarnation && at.version >= head.high);
        let held = self.entries.values().filter(|entry| entry.claim == Claim::Held).count();
        let mut named: BTreeSet<Uid> = BTreeSet::new();
        let mut keys = std::collections::HashSet::new();
        let mut pods = Vec::new();
        for object in objects {
            if object.kind == Kind::Pod {
                named.insert(object.uid());
                pods.push(object);
            } else {
                keys.insert(object.key());
                self.put(object, &at.incarnation);
            }
        }
        for pod in pods {
            let uid = self.put_pod(pod, &at.incarnation, true);
            // The store may have lost what was last reported of it.
            if let Some(entry) = uid.and_then(|uid| self.entries.get_mut(&uid)) {
                let stored = entry.pod.object.status.as_ref();
                if stored != Some(&entry.status_value().into()) && !entry.containers.is_empty() {
                    entry.said = None;
                }
                entry.said_ended = false;
            }
        }
        self.absent(&named, held, complete, before.as_ref(), &at);
        if complete {
            let unnamed: Vec<Key> = self
                .host
                .objects
                .read()
                .keys()
                .filter(|key| !keys.contains(*key))
                .cloned()
                .collect();
            for key in unnamed {
                self.forget_object(&key);
            }
        }
        self.set_head(cluster, at);
    }

    fn forget_object(&mut self, key: &Key) {
        self.host.objects.write().remove(key);
        self.host.state.forget(key, "");
    }

    fn put(&mut self, object: Object, incarnation: &Incarnation) {
        if object.kind == Kind::Pod {
            self.put_pod(object, incarnation, true);
            return;
        }
        let key = object.key();
        if key.kind == Kind::PersistentVolume {
            // Also one that is known already: the process before may have ended while it removed it.
            self.volume_changed(&object);
        }
        let changed = self
            .host
            .objects
            .read()
            .get(&key)
            .is_none_or(|known| known.version != object.version || known.body.hash() != object.body.hash());
        if !changed {
            return;
        }
        self.host.state.save(incarnation, &object);
        self.host.objects.write().insert(key.clone(), object);
        self.config_changed(&key);
    }

    /// A ConfigMap, a Secret or a claim came or changed: who waited for it tries again, who has it mounted
    /// sees it.
    fn config_changed(&mut self, key: &Key) {
        let mut refresh = Vec::new();
        for (uid, entry) in &mut self.entries {
            if key.namespace.is_some() && entry.pod.key.namespace != key.namespace {
                continue;
            }
            for memory in entry.memory.containers.iter_mut().map(|(_, memory)| memory) {
                let waits = |kind| matches!(kind, TroubleKind::Config | TroubleKind::Volume | TroubleKind::Pull);
                if memory.trouble.as_ref().is_some_and(|trouble| waits(trouble.kind)) {
                    memory.trouble = None;
                    self.dirty.insert(uid.clone());
                }
            }
            if entry.pod.spec.volumes.is_some() && !entry.containers.is_empty() {
                refresh.push(entry.pod.clone());
            }
        }
        for pod in refresh {
            self.refresh_volumes(&pod);
        }
    }

    fn refresh_volumes(&self, pod: &Pod) {
        if let Some(dir) = self.host.pod_dir(&pod.uid) {
            volumes::refresh(pod, &self.host.objects.read(), &self.host.place(pod), &dir);
        }
    }

    fn put_pod(&mut self, object: Object, incarnation: &Incarnation, save: bool) -> Option<Uid> {
        let pod = match Pod::read(object) {
            Ok(pod) => Arc::new(pod),
            Err(error) => {
                tracing::error!(%error, "the server sent a pod that cannot be read");
                return None;
            }
        };
        let uid = pod.uid.clone();
        if save && self.host.state.dir().is_some() {
            let mut object = pod.object.clone();
            if let Some(entry) = self.entries.get(&uid) {
                object.status = Some(entry.status_value().into());
            }
            self.host.state.save(incarnation, &object);
        }
        self.dirty.insert(uid.clone());
        match self.entries.get_mut(&uid) {
            Some(entry) => {
                let meta_changed = entry.pod.object.meta != pod.object.meta;
                entry.pod = pod.clone();
                entry.incarnation = incarnation.clone();
                // The server's newest word counts, whatever was said before: a database that was put back
                // has pods again that were deleted.
                entry.claim = Claim::Held;
                if meta_changed && pod.spec.volumes.is_some() {
                    self.refresh_volumes(&pod);
                }
            }
            None => {
                let mut entry = Entry::new(pod, incarnation.clone());
                let now = self.host.clock.now();
                let strays: Vec<_> = self.strays.values().filter(|stray| stray.pod == uid).cloned().collect();
                for stray in strays {
                    self.strays.remove(&stray.id);
                    entry.see(stray, now);
                }
                self.entries.insert(uid.clone(), Box::new(entry));
            }
        }
        Some(uid)
    }

    /// What the server says is gone was deleted, so this is an order.
    fn gone(&mut self, gone: Vec<Gone>) {
        for Gone { key, uid } in gone {
            if key.kind == Kind::Pod {
                self.let_go(&uid);
            } else {
                self.volume_gone(&uid);
                self.forget_object(&key);
            }
        }
    }
}
