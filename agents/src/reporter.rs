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

    fn take(&self) -> Vec<PodReport> {
        let mut pending = self.pending.lock();
        if pending.len() <= BATCH {
            return std::mem::take(&mut *pending).into_values().collect();
        }
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH
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
        loop {
            tokio::select! {
                biased;
                () = admission.given() => {}
                () = shutdown.cancelled() => return,
            }
            let batch = self.take();
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
                    // The same batch would be refused again; each pod is reported anew when it changes.
                    tracing::error!(
                        reports = batch.len(),
                        status,
                        "the server refused a batch of pod reports"
                    );
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
