//! Whose containers may be removed. This errs on the side of keeping.
//!
//! A pod that the server says is gone was deleted. A pod that a snapshot merely lacks was deleted only
//! if the snapshot goes on from where the agent was; when it lacks more than 30 % of the node's pods,
//! that too is asked about first. What the server cannot answer for stays as it is, unclaimed, until
//! the server has the pod again or a person decides.
//!
//! An agent that is killed anywhere in between goes on from the claims on disk: a pod is unclaimed there
//! before it is asked about, so that no answer is needed for keeping it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use schemas::{
    Key, Uid,
    node::{Fate, Incarnation, Missing, Order, Position, Told, Unclaimed},
};

use crate::{
    agent::{Agent, Message},
    connection::Jitter,
    control::{ControlError, SessionRefusal},
    entry::{Claim, Entry},
    observed::{Container, INFRA},
    pod::Pod,
    state::{Claims, Head},
};

/// More than this part of a node's pods (in percent) does not vanish in one look unasked.
const MANY_PERCENT: usize = 30;

/// What is kept of disputed pods beyond their entries.
#[derive(Debug, Default)]
pub(crate) struct Disputes {
    /// Unclaimed, and a person said that they stay.
    kept: BTreeSet<Uid>,
    /// To be removed, but all that is left of them are containers that were not seen yet.
    leaving: BTreeSet<Uid>,
    /// Under question.
    asked: BTreeSet<Uid>,
    /// The server does not know these; it is asked again with its next snapshot.
    unknown: BTreeSet<Uid>,
    /// The claims on disk.
    saved: Claims,
}

impl Disputes {
    /// The server comes with a new state: what it did not know before it may know now.
    pub(crate) fn ask_again(&mut self) {
        self.unknown.clear();
    }
}

impl Agent {
    /// Judges the pods that a snapshot at `at` lacks. `held` is how many pods were the server's before
    /// it, and `complete` says that it goes on from where this agent was.
    pub(crate) fn absent(
        &mut self,
        named: &BTreeSet<Uid>,
        held: usize,
        complete: bool,
        before: Option<&Head>,
        at: &Position,
    ) {
        let mut ordered = Vec::new();
        let mut absent = Vec::new();
        for (uid, entry) in &self.entries {
            if named.contains(uid) || entry.claim != Claim::Held {
                continue;
            }
            if entry.pod.object.is_deleting() {
                // It was marked before, so somebody wanted this.
                ordered.push(uid.clone());
            } else {
                absent.push(uid.clone());
            }
        }
        for uid in ordered {
            self.let_go(&uid);
        }
        let many = absent.len() * 100 > held * MANY_PERCENT;
        if many {
            tracing::warn!(
                node = &*self.host.node_name,
                absent = absent.len(),
                held,
                "over {MANY_PERCENT} % of this node's pods vanished at once; asking the server about each"
            );
        }
        for uid in absent {
            let Some(entry) = self.entries.get_mut(&uid) else {
                continue;
            };
            let of = |incarnation: &Incarnation| entry.incarnation == *incarnation;
            if complete && !many && of(&at.incarnation) {
                self.let_go(&uid);
            } else {
                let seen = before.map(|head| &head.at).filter(|seen| of(&seen.incarnation));
                entry.claim = Claim::Unclaimed { seen: seen.cloned() };
            }
        }
    }

    /// The pod was deleted: its containers go.
    pub(crate) fn let_go(&mut self, uid: &Uid) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.claim = Claim::Gone;
        if self.runtime_there && entry.containers.is_empty() && entry.busy.is_none() {
            // There is nothing left to remove, and so nothing to remember.
            self.drop_pod(uid);
        } else {
            self.dirty.insert(uid.clone());
        }
    }

    fn claims(&self) -> Claims {
        let mut claims = Claims {
            gone: self.disputes.leaving.clone(),
            kept: self.disputes.kept.clone(),
            ..Claims::default()
        };
        for (uid, entry) in &self.entries {
            match &entry.claim {
                Claim::Held => {}
                Claim::Gone => {
                    claims.gone.insert(uid.clone());
                }
                Claim::Unclaimed { seen } => {
                    claims.unclaimed.insert(uid.clone(), seen.clone());
                }
            }
        }
        claims
    }

    /// Brings the claims on disk into line; tells whether they are.
    pub(crate) fn keep_claims(&mut self) -> bool {
        let claims = self.claims();
        if claims == self.disputes.saved {
            return true;
        }
        let saved = self.host.state.save_claims(&claims);
        if saved {
            self.disputes.saved = claims;
        }
        saved
    }

    /// Takes up the claims of the process before.
    pub(crate) fn restore_claims(&mut self, claims: Claims) {
        for uid in &claims.gone {
            match self.entries.get_mut(uid) {
                Some(entry) => entry.claim = Claim::Gone,
                None => {
                    self.disputes.leaving.insert(uid.clone());
                }
            }
        }
        for (uid, seen) in &claims.unclaimed {
            if let Some(entry) = self.entries.get_mut(uid) {
                entry.claim = Claim::Unclaimed { seen: seen.clone() };
            }
        }
        self.disputes.kept.clone_from(&claims.kept);
        self.disputes.saved = claims;
    }

    /// After a look at the whole node: containers whose pod is not known, but is known to be deleted,
    /// go.
    pub(crate) fn end_leaving(&mut self) {
        for uid in std::mem::take(&mut self.disputes.leaving) {
            self.end_stray(&uid);
        }
    }

    /// Forgets unclaimed pods of which nothing is left.
    pub(crate) fn forget_empty(&mut self) {
        let empty = |entry: &Entry| entry.is_unclaimed() && entry.containers.is_empty() && entry.busy.is_none();
        let forgotten: Vec<Uid> = self
            .entries
            .iter()
            .filter(|(_, entry)| empty(entry))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in forgotten {
            self.drop_pod(&uid);
        }
        let (entries, strays) = (&self.entries, &self.strays);
        self.disputes
            .kept
            .retain(|uid| entries.contains_key(uid) || strays.values().any(|stray| stray.pod == *uid));
    }

    /// Makes an entry of containers whose pod is not known, so that they end in order.
    fn end_stray(&mut self, uid: &Uid) {
        let containers: Vec<Container> = self
            .strays
            .values()
            .filter(|stray| stray.pod == *uid)
            .cloned()
            .collect();
        let Some(key) = containers.first().map(|container| container.key.clone()) else {
            return;
        };
        match Pod::left_over(uid, &key, &containers) {
            Ok(pod) => {
                let incarnation = Incarnation("".into());
                let mut entry = Entry::new(Arc::new(pod), incarnation);
                entry.claim = Claim::Gone;
                let now = self.host.clock.now();
                for container in containers {
                    self.strays.remove(&container.id);
                    entry.see(container, now);
                }
                self.entries.insert(uid.clone(), Box::new(entry));
                self.dirty.insert(uid.clone());
            }
            Err(error) => {
                tracing::error!(namespace = key.ns(), name = &*key.name, %error, "containers whose labels make no sense stay");
            }
        }
    }

    /// Keeps the claims, asks about what is disputed, and tells what stays unclaimed.
    pub(crate) fn settle_disputes(&mut self) {
        self.keep_claims();
        self.ask();
        self.tell_unclaimed();
    }

    /// Asks the server about every pod that is disputed and not yet under question.
    fn ask(&mut self) {
        if !self.heard || self.foreign {
            return;
        }
        let known = &self.disputes;
        let is_open =
            |uid: &Uid| !known.asked.contains(uid) && !known.unknown.contains(uid) && !known.kept.contains(uid);
        let mut missing: BTreeMap<Uid, Missing> = BTreeMap::new();
        let mut note = |uid: &Uid, key: &Key, seen: Option<&Position>| {
            if is_open(uid) && !missing.contains_key(uid) {
                let about = Missing {
                    key: key.clone(),
                    uid: uid.clone(),
                    seen: seen.cloned(),
                };
                missing.insert(uid.clone(), about);
            }
        };
        for (uid, entry) in &self.entries {
            if let Claim::Unclaimed { seen } = &entry.claim {
                note(uid, &entry.pod.key, seen.as_ref());
            }
        }
        for stray in self.strays.values() {
            note(&stray.pod, &stray.key, None);
        }
        if missing.is_empty() {
            return;
        }
        self.disputes.asked.extend(missing.keys().cloned());
        let missing: Vec<Missing> = missing.into_values().collect();
        let (control, tell, shutdown) = (self.control.clone(), self.tell.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            let mut jitter = Jitter::new(Duration::from_millis(200), Duration::from_secs(10));
            let told = loop {
                let told = tokio::select! {
                    biased;
                    told = control.fates(&missing) => told,
                    () = shutdown.cancelled() => return,
                };
                match told {
                    Ok(told) => break told,
                    // A server that does not know the question does not know the answer.
                    Err(ControlError::Refused { status: 404 | 405, .. }) => break Vec::new(),
                    Err(error) => tracing::debug!(%error, "a question about missing pods waits"),
                }
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(jitter.next()) => {}
                    () = shutdown.cancelled() => return,
                }
            };
            let asked = missing.into_iter().map(|missing| missing.uid).collect();
            let _ = tell.send(Message::Fates { asked, told });
        });
    }

    /// The server's answers. A pod that it has named again in the meantime is not disputed any more.
    pub(crate) fn fates(&mut self, asked: &[Uid], told: Vec<Told>) {
        let told: BTreeMap<Uid, Fate> = told.into_iter().map(|told| (told.uid, told.fate)).collect();
        for uid in asked {
            self.disputes.asked.remove(uid);
            let fate = told.get(uid).copied().unwrap_or(Fate::Unknown);
            let entry = self.entries.get_mut(uid).filter(|entry| entry.is_unclaimed());
            match (fate, entry) {
                (Fate::Bound, Some(entry)) => {
                    entry.claim = Claim::Held;
                    self.dirty.insert(uid.clone());
                }
                (Fate::Deleted, Some(_)) => self.let_go(uid),
                (Fate::Deleted, None) => self.end_stray(uid),
                (Fate::Unknown, Some(entry)) => {
                    tracing::error!(
                        namespace = entry.pod.key.ns(),
                        name = &*entry.pod.key.name,
                        node = &*self.host.node_name,
                        "the server does not know this pod and cannot say that it was deleted; its containers stay until a person decides (towline unclaimed)"
                    );
                    self.disputes.unknown.insert(uid.clone());
                }
                // A pod whose containers alone are known here comes with the stream.
                (Fate::Bound | Fate::Unknown, None) => {
                    self.disputes.unknown.insert(uid.clone());
                }
            }
        }
        self.settle_disputes();
    }

    /// Carries out what a person decided about an unclaimed pod.
    pub(crate) fn settle(&mut self, uid: &Uid, order: Order) -> Result<Unclaimed, SessionRefusal> {
        let Some(mut pod) = self.unclaimed().remove(uid) else {
            return Err(SessionRefusal {
                status: 404,
                message: format!("node {} has no unclaimed pod with the uid {uid}", self.host.node_name),
            });
        };
        match order {
            Order::Keep => {
                self.disputes.kept.insert(uid.clone());
                pod.kept = true;
            }
            Order::Remove => {
                self.disputes.kept.remove(uid);
                if self.entries.contains_key(uid) {
                    self.let_go(uid);
                } else {
                    self.end_stray(uid);
                }
            }
        }
        tracing::info!(
            namespace = pod.key.ns(),
            name = &*pod.key.name,
            node = &*self.host.node_name,
            ?order,
            "a person decided about an unclaimed pod"
        );
        if !self.keep_claims() {
            return Err(SessionRefusal {
                status: 500,
                message:
                    "the decision could not be written to the agent's state directory; it may not outlive the agent"
                        .to_owned(),
            });
        }
        self.tell_unclaimed();
        Ok(pod)
    }

    /// Every pod whose containers are here without the server's having it.
    fn unclaimed(&self) -> BTreeMap<Uid, Unclaimed> {
        let mut all: BTreeMap<Uid, Unclaimed> = BTreeMap::new();
        let disputed = self
            .entries
            .values()
            .filter(|entry| entry.is_unclaimed())
            .flat_map(|entry| &entry.containers);
        for container in disputed.chain(self.strays.values()) {
            let pod = all.entry(container.pod.clone()).or_insert_with(|| Unclaimed {
                key: container.key.clone(),
                uid: container.pod.clone(),
                containers: Vec::new(),
                kept: self.disputes.kept.contains(&container.pod),
            });
            let name = container.name.to_string();
            if name != INFRA && !pod.containers.contains(&name) {
                pod.containers.push(name);
            }
        }
        all
    }

    /// Tells the server of unclaimed pods; those under question are not known to be so yet.
    pub(crate) fn tell_unclaimed(&mut self) {
        let mut all: Vec<Unclaimed> = self.unclaimed().into_values().collect();
        all.retain(|pod| !self.disputes.asked.contains(&pod.uid));
        all.sort_by(|a, b| (&a.key, &a.uid).cmp(&(&b.key, &b.uid)));
        self.face.set_unclaimed(all);
    }
}
