//! Taking in what the server says: snapshots and what changed since.
//!
//! This is where it is decided whose containers may be removed, so it errs on the side of keeping.

use std::{collections::BTreeMap, sync::Arc};

use schemas::{
    Key, Kind, Object, Uid,
    node::{Frame, Gone, Incarnation, NodeEvent},
};

use crate::{
    agent::Agent,
    entry::{Claim, Entry},
    memory::TroubleKind,
    observed::Owner,
    pod::Pod,
    state::{Head, Known},
    volumes,
};

/// Fewer pods than this may vanish at once without a question.
const FEW: usize = 5;

impl Agent {
    pub(crate) fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Snapshot {
                cluster,
                incarnation,
                version,
                objects,
            } => self.snapshot(cluster, incarnation, version, objects),
            Frame::Delta { version, put, gone } => {
                let Some(mut head) = self.head.clone() else { return };
                for object in put {
                    self.put(object, &head.incarnation);
                }
                self.gone(gone);
                head.version = version;
                self.set_head(head);
            }
            Frame::Bookmark { version } => {
                if let Some(mut head) = self.head.clone() {
                    head.version = version;
                    self.set_head(head);
                }
            }
        }
        self.tell_unclaimed();
    }

    fn set_head(&mut self, head: Head) {
        if self.head.as_ref() != Some(&head) {
            self.host.state.save_identity(&self.host.node_uid, Some(&head));
            self.head = Some(head);
        }
    }

    /// Takes up what was saved by the process before.
    pub(crate) fn restore(&mut self, head: Option<Head>, known: Vec<Known>) {
        let Some(head) = head else { return };
        self.know_cluster(&head.cluster);
        for Known { incarnation, object } in known {
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
        self.head = Some(head);
    }

    fn know_cluster(&mut self, cluster: &Arc<str>) {
        let owner = Owner {
            cluster: cluster.clone(),
            node_uid: self.host.node_uid.clone(),
        };
        if self.host.owner.set(owner).is_ok() {
            self.owner_known.notify_one();
        }
    }

    fn snapshot(&mut self, cluster: Arc<str>, incarnation: Incarnation, version: u64, objects: Vec<Object>) {
        self.know_cluster(&cluster);
        let ours = self.host.owner.get().is_some_and(|owner| owner.cluster == cluster);
        if !ours {
            tracing::error!(
                node = &*self.host.node_name, %cluster,
                "the server is of another cluster than this agent's state directory; nothing it says is followed"
            );
            return;
        }
        let complete = self
            .head
            .as_ref()
            .is_none_or(|head| head.incarnation == incarnation && version >= head.version);
        let mut named: BTreeMap<Uid, ()> = BTreeMap::new();
        let mut keys = std::collections::HashSet::new();
        let mut pods = Vec::new();
        for object in objects {
            if object.kind == Kind::Pod {
                named.insert(object.uid(), ());
                pods.push(object);
            } else {
                keys.insert(object.key());
                self.put(object, &incarnation);
            }
        }
        for pod in pods {
            let uid = self.put_pod(pod, &incarnation, true);
            // The store may have lost what was last reported of it.
            if let Some(entry) = uid.and_then(|uid| self.entries.get_mut(&uid)) {
                let stored = entry.pod.object.status.as_deref();
                if stored != Some(&entry.status_value()) && !entry.containers.is_empty() {
                    entry.said = None;
                }
                entry.said_ended = false;
            }
        }
        let missing: Vec<Uid> = self
            .entries
            .keys()
            .filter(|uid| !named.contains_key(*uid))
            .cloned()
            .collect();
        let mut vanished = Vec::new();
        for uid in missing {
            let Some(entry) = self.entries.get_mut(&uid) else {
                continue;
            };
            match entry.claim {
                Claim::Gone => {}
                // Deleted while nobody was connected, in the same history: seen deleted.
                Claim::Held if complete && entry.incarnation == incarnation => vanished.push(uid),
                _ => {
                    tracing::warn!(
                        namespace = entry.pod.key.ns(),
                        name = &*entry.pod.key.name,
                        "the server does not know this pod, but never said that it was deleted; its containers stay"
                    );
                    entry.claim = Claim::Unclaimed;
                }
            }
        }
        self.vanish(vanished);
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
                self.host.objects.write().remove(&key);
                self.host.state.forget(&key, "");
            }
        }
        self.set_head(Head {
            cluster,
            incarnation,
            version,
        });
    }

    fn put(&mut self, object: Object, incarnation: &Incarnation) {
        if object.kind == Kind::Pod {
            self.put_pod(object, incarnation, true);
            return;
        }
        let key = object.key();
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

    /// A ConfigMap or Secret came or changed: who waited for it tries again, who has it mounted sees it.
    fn config_changed(&mut self, key: &Key) {
        let mut refresh = Vec::new();
        for (uid, entry) in &mut self.entries {
            if entry.pod.key.namespace != key.namespace {
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
                object.status = Some(Arc::new(entry.status_value()));
            }
            self.host.state.save(incarnation, &object);
        }
        self.dirty.insert(uid.clone());
        match self.entries.get_mut(&uid) {
            Some(entry) => {
                let meta_changed = entry.pod.object.meta != pod.object.meta;
                entry.pod = pod.clone();
                entry.incarnation = incarnation.clone();
                if entry.claim == Claim::Unclaimed {
                    entry.claim = Claim::Held;
                }
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

    fn gone(&mut self, gone: Vec<Gone>) {
        let mut vanished = Vec::new();
        for Gone { key, uid } in gone {
            if key.kind == Kind::Pod {
                match self.entries.get_mut(&uid) {
                    // It was marked before, so somebody wanted this.
                    Some(entry) if entry.pod.object.is_deleting() => {
                        entry.claim = Claim::Gone;
                        self.dirty.insert(uid);
                    }
                    Some(_) => vanished.push(uid),
                    None => {}
                }
            } else {
                self.host.objects.write().remove(&key);
                self.host.state.forget(&key, "");
            }
        }
        self.vanish(vanished);
    }

    /// Pods that are not there any more, without having been marked before. A few are followed; most
    /// of a node is more likely a fault than a wish, so their containers stay until somebody says so.
    fn vanish(&mut self, vanished: Vec<Uid>) {
        let marked = |entry: &Entry| entry.pod.object.is_deleting();
        let alive = self.entries.values().filter(|entry| entry.claim == Claim::Held).count();
        let sudden = vanished
            .iter()
            .filter(|uid| {
                self.entries
                    .get(*uid)
                    .is_some_and(|entry| !marked(entry) && !entry.containers.is_empty())
            })
            .count();
        let ask = sudden > FEW && sudden * 10 > alive * 3;
        if ask {
            tracing::error!(
                node = &*self.host.node_name,
                sudden,
                alive,
                "over 30 % of this node's pods vanished at once; their containers stay until the pods are deleted one by one or declared again"
            );
        }
        for uid in vanished {
            let Some(entry) = self.entries.get_mut(&uid) else {
                continue;
            };
            if ask && !marked(entry) {
                entry.claim = Claim::Unclaimed;
                entry.events.push(NodeEvent {
                    warning: true,
                    reason: "Unclaimed".to_owned(),
                    message: "Most pods of the node vanished at once; the containers of this one stay.".to_owned(),
                    field_path: None,
                });
            } else {
                entry.claim = Claim::Gone;
            }
            self.dirty.insert(uid);
        }
    }
}
