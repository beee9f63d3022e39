//! Removes what is too old, in small steps between the writes.

use std::{sync::Weak, time::Duration};

use jiff::Timestamp;
use schemas::{Kind, Object};
use tokio_util::sync::CancellationToken;

use crate::{Class, Inner, Op, Store, Unavailable, Write, WriteError, log::Tidy, queue::Job};

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Changes younger than this, and at least `changes` of them.
    pub change_age: Duration,
    pub changes: u64,
    /// Revisions younger than this, and at least `revisions` of them.
    pub revision_age: Duration,
    pub revisions: u64,
    pub events: Duration,
    pub audit: Duration,
    pub deliveries: Duration,
    /// The pause between two looks.
    pub every: Duration,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Default for Retention {
    fn default() -> Self {
        Self {
            change_age: HOUR / 4,
            changes: 100_000,
            revision_age: HOUR * 24 * 30,
            revisions: 100,
            events: HOUR,
            audit: HOUR * 24 * 90,
            deliveries: HOUR * 24 * 7,
            every: Duration::from_secs(60),
        }
    }
}

/// How many rows one step removes at most: such a step takes a few milliseconds.
const STEP: u32 = 2000;

impl Retention {
    /// What is too old at a time.
    #[must_use]
    pub fn tidy(&self, at: Timestamp) -> Tidy {
        let before = |age: Duration| at.saturating_sub(age).unwrap_or(Timestamp::MIN);
        Tidy {
            changes_before: before(self.change_age),
            keep_changes: self.changes,
            revisions_before: before(self.revision_age),
            keep_revisions: self.revisions,
            audit_before: before(self.audit),
            deliveries_before: before(self.deliveries),
            limit: STEP,
        }
    }

    /// Whether an event was last heard of before the time that events are kept.
    #[must_use]
    pub fn is_expired(&self, event: &Object, at: Timestamp) -> bool {
        let last = ["lastTimestamp", "eventTime", "series/lastObservedTime"]
            .into_iter()
            .filter_map(|field| event.body.at(field)?.text()?.parse::<Timestamp>().ok())
            .chain(event.meta.creation_timestamp.as_ref().map(|time| time.0))
            .max();
        let oldest = at.saturating_sub(self.events).unwrap_or(Timestamp::MIN);
        last.is_some_and(|last| last < oldest)
    }
}

/// Looks now and then, until the store is gone or closed.
pub(crate) async fn run(store: Weak<Inner>, retention: Retention, closing: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(retention.every) => {}
            () = closing.cancelled() => return,
        }
        let Some(inner) = store.upgrade() else { return };
        if let Err(error) = (Store { inner }).tidy(&retention).await {
            tracing::warn!(%error, "not all that is too old was removed; it goes at the next look");
        }
    }
}

impl Store {
    /// Removes what is too old now. The store does so by itself; tests call it too.
    pub async fn tidy(&self, retention: &Retention) -> Result<(), Unavailable> {
        let at = self.inner.clock.now().wall;
        let expired: Vec<Write> = {
            let view = self.view();
            let events = view.list(Kind::Event, None);
            events
                .filter(|event| retention.is_expired(event, at))
                .map(|event| Write::new(Op::Remove { key: event.key() }).version(event.version))
                .collect()
        };
        for answer in self.write(Class::Status, expired).await {
            // An event that was heard of again meanwhile, or that has finalizers, stays.
            if let Err(WriteError::Unavailable(why)) = answer {
                return Err(why);
            }
        }
        while self
            .side_job(Class::Status, |reply| Job::Tidy {
                tidy: retention.tidy(at),
                reply,
            })
            .await?
        {}
        Ok(())
    }
}
