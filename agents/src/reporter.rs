//! Reports on their way to the server: the newest of each pod, sent as soon as the one before has
//! arrived. While a batch is under way, or the server is away, news of the same pod take each other's
//! place.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use schemas::{Uid, node::PodReport};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{Admission, Jitter},
    control::{ControlError, ControlPlane},
};

/// Reports in one batch, at most.
const BATCH: usize = 500;
/// Events kept for a pod while the server is away.
const EVENTS: usize = 50;

#[derive(Debug, Default)]
pub(crate) struct Reporter {
    pending: Mutex<BTreeMap<Uid, PodReport>>,
    wake: Notify,
}

impl Reporter {
    pub(crate) fn push(&self, report: PodReport) {
        let mut pending = self.pending.lock();
        match pending.entry(report.uid.clone()) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(report);
            }
            std::collections::btree_map::Entry::Occupied(mut occupied) => {
                let mut events = std::mem::take(&mut occupied.get_mut().events);
                events.extend(report.events);
                events.drain(..events.len().saturating_sub(EVENTS));
                occupied.insert(PodReport { events, ..report });
            }
        }
        drop(pending);
        self.wake.notify_one();
    }

    fn take(&self, most: usize) -> Vec<PodReport> {
        let mut pending = self.pending.lock();
        if pending.len() <= most {
            return std::mem::take(&mut *pending).into_values().collect();
        }
        let mut batch = Vec::with_capacity(most);
        while batch.len() < most
            && let Some((_, report)) = pending.pop_first()
        {
            batch.push(report);
        }
        batch
    }

    /// Puts back what did not arrive; what is newer stands.
    fn put_back(&self, batch: Vec<PodReport>) {
        let mut pending = self.pending.lock();
        for mut report in batch {
            match pending.get_mut(&report.uid) {
                Some(newer) => {
                    report.events.append(&mut newer.events);
                    newer.events = report.events;
                    newer.terminated |= report.terminated;
                }
                None => {
                    pending.insert(report.uid.clone(), report);
                }
            }
        }
    }

    /// Sends until the shutdown.
    pub(crate) async fn run(
        self: Arc<Self>,
        control: Arc<dyn ControlPlane>,
        admission: Admission,
        shutdown: CancellationToken,
    ) {
        let mut jitter = Jitter::new(Duration::from_millis(100), Duration::from_secs(5));
        // So many are sent one by one.
        let mut alone = 0_usize;
        loop {
            tokio::select! {
                biased;
                () = admission.given() => {}
                () = shutdown.cancelled() => return,
            }
            let batch = self.take(if alone > 0 { 1 } else { BATCH });
            alone = alone.saturating_sub(1);
            if batch.is_empty() {
                tokio::select! {
                    biased;
                    () = self.wake.notified() => continue,
                    () = shutdown.cancelled() => return,
                }
            }
            let sent = tokio::select! {
                biased;
                sent = control.report(&batch) => sent,
                () = shutdown.cancelled() => return,
            };
            match sent {
                Ok(()) => jitter.reset(),
                // Another agent has the name for now, or the server is overrun.
                Err(ControlError::Refused { status, .. })
                    if (400..500).contains(&status) && status != 409 && status != 429 =>
                {
                    if batch.len() > 1 {
                        // One of them may be to blame: each goes by itself.
                        tracing::warn!(
                            reports = batch.len(),
                            status,
                            "the server refused a batch of pod reports"
                        );
                        alone = batch.len();
                        self.put_back(batch);
                        continue;
                    }
                    // It would be refused again; the pod is reported anew when it changes.
                    for report in batch {
                        tracing::error!(
                            namespace = report.key.ns(),
                            name = &*report.key.name,
                            status,
                            "the server refused the report of a pod"
                        );
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "pod reports wait");
                    self.put_back(batch);
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(jitter.next()) => {}
                        () = shutdown.cancelled() => return,
                    }
                }
            }
        }
    }
}
