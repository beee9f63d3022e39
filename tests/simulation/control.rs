//! The server as agents see it, in memory: whichever life of it is the current one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use agents::{
    ControlPlane,
    control::{ControlError, Resume, SessionAnswer},
};
use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use schemas::{
    Key, Kind, Object, Uid,
    node::{
        Fate, Frame, Gone, Heartbeat, Identity, Missing, PodReport, Registered, Registration, SessionRequest, Stats,
        Term, Told,
    },
    now::Clock,
};
use serde_json::json;
use store::{Class, Op, Scope, Store, Write};
use tokio_util::sync::CancellationToken;

/// What of the server the nodes reach.
#[derive(Default)]
pub(crate) struct Plane {
    /// The current life, its number, and what ends its streams.
    pub(crate) life: Mutex<Option<(Store, u64, CancellationToken)>>,
}

/// One node's way to the server.
pub(crate) struct NodeControl {
    pub(crate) node: Arc<str>,
    pub(crate) plane: Arc<Plane>,
    pub(crate) clock: Arc<dyn Clock>,
    /// No packet comes through.
    pub(crate) cut: AtomicBool,
    /// Ends the open streams.
    pub(crate) streams: Mutex<CancellationToken>,
    /// The next frame is sent twice, the next answer to a report gets lost.
    pub(crate) repeats: AtomicBool,
    pub(crate) loses: AtomicBool,
}

fn away() -> ControlError {
    ControlError::Unreachable {
        server: "simulation".to_owned(),
        message: "it is away".to_owned(),
    }
}

impl NodeControl {
    fn enter(&self) -> Result<(Store, u64, CancellationToken), ControlError> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(away());
        }
        self.plane.life.lock().clone().ok_or_else(away)
    }

    /// Waits for a write, unless its server dies: then nobody answers.
    async fn write(&self, class: Class, writes: Vec<Write>) -> Result<(), ControlError> {
        let (store, _, over) = self.enter()?;
        tokio::select! {
            biased;
            () = over.cancelled() => Err(away()),
            answers = store.write(class, writes) => {
                let lost = answers.iter().any(|answer| matches!(answer, Err(store::WriteError::Unavailable(_))));
                if lost { Err(away()) } else { Ok(()) }
            }
        }
    }
}

/// The pods of a node, as a stream tells of them.
fn pods(store: &Store, node: &str) -> (u64, BTreeMap<Uid, Arc<Object>>) {
    let view = store.view();
    let pods = view.on_node(node).filter(|pod| pod.kind == Kind::Pod);
    (view.version(), pods.map(|pod| (pod.uid(), pod.clone())).collect())
}

#[async_trait]
impl ControlPlane for NodeControl {
    async fn identify(&self, proposed: &Identity) -> Result<Identity, ControlError> {
        Ok(Identity {
            machine_id: proposed.machine_id.clone(),
            agent: format!("agent-of-{}", self.node).into(),
        })
    }

    async fn register(&self, registration: &Registration) -> Result<Registered, ControlError> {
        let (store, ..) = self.enter()?;
        let key = Key::cluster(Kind::Node, &self.node);
        let mut status = registration.status.clone();
        if !status.is_object() {
            status = json!({});
        }
        reconciler::pods::set_condition(
            &mut status,
            json!({"type": "Ready", "status": "True", "reason": "AgentReady"}),
        );
        store.heartbeats().beat(&self.node, self.clock.now().monotonic);
        let uid = format!("uid-{}", self.node);
        if store.get(&key).is_none() {
            let node = Object::from_value(json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": &*self.node, "uid": uid, "labels": registration.labels},
                "spec": {}, "status": status,
            }));
            let node = node.map_err(|error| ControlError::Malformed(error.to_string()))?;
            self.write(Class::Controller, vec![Write::new(Op::Create(node))])
                .await?;
        } else {
            let status = status.into();
            self.write(Class::Status, vec![Write::new(Op::Status { key, status })])
                .await?;
        }
        Ok(Registered {
            cluster: store.cluster(),
            uid: uid.as_str().into(),
            incarnation: store.incarnation(),
        })
    }

    async fn stream(
        &self,
        resume: Option<Resume>,
    ) -> Result<BoxStream<'static, Result<Frame, ControlError>>, ControlError> {
        let (store, number, over) = self.enter()?;
        let term = Term(format!("term-{number}").into());
        let mut watch = store.watch(Scope::node(&self.node), None).map_err(|_| away())?;
        let (version, mut sent) = pods(&store, &self.node);
        let (out, frames) = tokio::sync::mpsc::unbounded_channel();
        let snapshot = Frame::Snapshot {
            cluster: store.cluster(),
            incarnation: store.incarnation(),
            term: term.clone(),
            version,
            // The log in memory never loses what was committed: each life goes on from the one before.
            continues: resume.is_some_and(|resume| resume.at.version <= version),
            objects: sent.values().map(|pod| Object::clone(pod)).collect(),
        };
        let _ = out.send(Ok(snapshot));
        let (node, cut) = (self.node.clone(), self.streams.lock().clone());
        let repeats = self.repeats.swap(false, Ordering::SeqCst);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = over.cancelled() => return,
                    () = cut.cancelled() => return,
                    changes = watch.next() => if changes.is_none() { return },
                }
                let (version, now) = pods(&store, &node);
                let differs = |uid: &Uid, pod: &Arc<Object>| {
                    sent.get(uid)
                        .is_none_or(|known| known.meta != pod.meta || known.body.hash() != pod.body.hash())
                };
                let put: Vec<Object> = now
                    .iter()
                    .filter(|(uid, pod)| differs(uid, pod))
                    .map(|(_, pod)| Object::clone(pod))
                    .collect();
                let gone: Vec<Gone> = sent
                    .iter()
                    .filter(|(uid, _)| !now.contains_key(*uid))
                    .map(|(uid, pod)| Gone {
                        key: pod.key(),
                        uid: uid.clone(),
                    })
                    .collect();
                sent = now;
                if put.is_empty() && gone.is_empty() {
                    continue;
                }
                let delta = Frame::Delta {
                    term: term.clone(),
                    version,
                    put,
                    gone,
                };
                for _ in 0..=u8::from(repeats) {
                    if out.send(Ok(delta.clone())).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(tokio_stream::wrappers::UnboundedReceiverStream::new(frames).boxed())
    }

    async fn report(&self, reports: &[PodReport]) -> Result<(), ControlError> {
        let (store, ..) = self.enter()?;
        let mut writes = Vec::new();
        for report in reports {
            let Some(pod) = store.get(&report.key) else { continue };
            if pod.uid() != report.uid || pod.node.as_deref() != Some(&*self.node) {
                continue;
            }
            let free = pod.meta.finalizers.as_ref().is_none_or(|names| names.is_empty());
            if report.terminated && pod.is_deleting() && free {
                writes.push(Write::new(Op::Remove { key: pod.key() }).uid(pod.uid()));
                continue;
            }
            let mut status = report.status.clone();
            let kept = pod.status_value().unwrap_or_default();
            for condition in kept["conditions"].as_array().into_iter().flatten() {
                let said = status["conditions"].as_array();
                if !said.is_some_and(|said| said.iter().any(|one| one["type"] == condition["type"])) {
                    reconciler::pods::set_condition(&mut status, condition.clone());
                }
            }
            writes.push(
                Write::new(Op::Status {
                    key: pod.key(),
                    status: status.into(),
                })
                .uid(pod.uid()),
            );
            if report.terminated && pod.is_deleting() {
                let mut stopped = Object::clone(&pod);
                stopped.meta.deletion_grace_period_seconds = Some(0);
                writes.push(Write::new(Op::Replace(stopped)).uid(pod.uid()));
            }
        }
        if !writes.is_empty() {
            self.write(Class::Status, writes).await?;
        }
        if self.loses.swap(false, Ordering::SeqCst) {
            return Err(away());
        }
        Ok(())
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), ControlError> {
        let (store, ..) = self.enter()?;
        store.heartbeats().beat(&self.node, self.clock.now().monotonic);
        let key = Key::cluster(Kind::Node, &self.node);
        let Some(node) = store.get(&key) else {
            return Err(ControlError::Refused {
                what: "a heartbeat",
                status: 404,
                message: "no such node".to_owned(),
            });
        };
        let mut status = heartbeat
            .status
            .clone()
            .or_else(|| node.status_value())
            .unwrap_or_default();
        reconciler::pods::set_condition(
            &mut status,
            json!({"type": "Ready", "status": "True", "reason": "AgentReady"}),
        );
        let status = status.into();
        if node.status.as_ref() != Some(&status) {
            self.write(Class::Status, vec![Write::new(Op::Status { key, status })])
                .await?;
        }
        Ok(())
    }

    async fn stats(&self, _stats: &Stats) -> Result<(), ControlError> {
        self.enter().map(|_| ())
    }

    async fn fates(&self, missing: &[Missing]) -> Result<Vec<Told>, ControlError> {
        let (store, ..) = self.enter()?;
        let fate = |missing: &Missing| match store.get(&missing.key).filter(|pod| pod.uid() == missing.uid) {
            Some(_) => Fate::Bound,
            // Nothing that was ever committed is lost here.
            None => Fate::Deleted,
        };
        Ok(missing
            .iter()
            .map(|one| Told {
                uid: one.uid.clone(),
                fate: fate(one),
            })
            .collect())
    }

    async fn sessions(&self) -> Result<BoxStream<'static, Result<SessionRequest, ControlError>>, ControlError> {
        self.enter()?;
        Ok(futures::stream::pending().boxed())
    }

    async fn answer(&self, _id: &str, _answer: SessionAnswer) -> Result<(), ControlError> {
        self.enter().map(|_| ())
    }
}
