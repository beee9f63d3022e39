//! What became of a batch, and how the writer finds its log again.

use std::sync::atomic::Ordering;

use schemas::Now;
use tokio::time::{Instant, timeout};

use crate::{
    Unavailable,
    log::{Batch, Loaded, LogError, Standing},
    office::{Office, millis},
    state::state_of,
    writer::Writer,
};

/// What became of a batch.
pub(crate) enum Fate {
    Committed,
    /// The log is there and takes this batch as it is never.
    Refused(String),
    Failed(Unavailable),
}

/// How an attempt to reach the log again ended.
pub(crate) enum Recovery {
    Same(Standing),
    /// The database was another one, or an older state of ours; the copy is now what it holds.
    Replaced,
    Lost,
    /// The store is being closed, and the log is still away.
    GaveUp,
}

impl Writer {
    /// Commits, whatever it takes to learn whether it was.
    pub(crate) async fn commit(&mut self, batch: &Batch) -> Fate {
        let started = Instant::now();
        let mut in_doubt = false;
        loop {
            let asked = self.clock.now();
            let result = timeout(self.pace.commit, self.log.commit(self.epoch, batch)).await;
            let error = match result {
                Ok(Ok(())) => {
                    self.renewed(asked);
                    return Fate::Committed;
                }
                Ok(Err(error)) => error,
                Err(_) => LogError::Unknown("the commit took too long".into()),
            };
            in_doubt |= matches!(error, LogError::Unknown(_));
            match error {
                LogError::Fenced { ours, found } if found > ours => {
                    return Fate::Failed(self.lose(ours, found));
                }
                LogError::Refused(why) => {
                    tracing::debug!(batch = batch.number, why, "the database refused a batch");
                    return Fate::Refused(why);
                }
                error => tracing::warn!(batch = batch.number, %error, "the connection to the log is lost"),
            }
            match self.recover().await {
                Recovery::Lost => return Fate::Failed(Unavailable("another server leads now".into())),
                Recovery::Replaced => {
                    return Fate::Failed(Unavailable(
                        "the database was put back to an older state; look again".into(),
                    ));
                }
                Recovery::GaveUp => {
                    return Fate::Failed(Unavailable(if in_doubt {
                        "the server ends while the database is away; whether this was written is not known".into()
                    } else {
                        "the server ends while the database is away; nothing was written".into()
                    }));
                }
                Recovery::Same(standing) if standing.batch == batch.number => return Fate::Committed,
                // It was not committed, and the copy has not moved: the batch is as good as before,
                // if anyone still waits for it.
                Recovery::Same(_) if started.elapsed() < self.pace.answer => in_doubt = false,
                Recovery::Same(_) => {
                    return Fate::Failed(Unavailable("the database was away; nothing was written".into()));
                }
            }
        }
    }

    /// Reaches the log again, however long it takes, and compares it with the copy.
    pub(crate) async fn recover(&mut self) -> Recovery {
        self.standpoint.is_away(true);
        let mut pause = self.pace.retry.0;
        let mut said = false;
        let recovery = loop {
            match self.recover_once().await {
                Ok(recovery) => break recovery,
                Err(error) if !said => {
                    said = true;
                    tracing::warn!(%error, "the log is away; writes are refused until it is back");
                }
                Err(error) => tracing::debug!(%error, "the log is still away"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.closing.cancelled() => {
                    self.gave_up = true;
                    return Recovery::GaveUp;
                }
            }
            pause = (pause * 2).min(self.pace.retry.1);
        };
        if !matches!(recovery, Recovery::Lost) {
            self.standpoint.is_away(false);
            tracing::info!(epoch = self.epoch, "the log is back");
        }
        recovery
    }

    async fn recover_once(&mut self) -> Result<Recovery, LogError> {
        let asked = self.clock.now();
        let standing = match timeout(self.pace.commit, self.log.recover(self.epoch)).await {
            Ok(Ok(standing)) => standing,
            Ok(Err(LogError::Fenced { ours, found })) if found > ours => {
                self.lose(ours, found);
                return Ok(Recovery::Lost);
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(LogError::Away("it does not answer".into())),
        };
        self.epoch = standing.epoch;
        let (cluster, incarnation, version) = {
            let state = self.shared.read();
            (
                state.cluster.clone(),
                state.incarnation.clone(),
                state.objects.version(),
            )
        };
        if standing.cluster != cluster {
            return Err(LogError::Foreign(format!(
                "it is the database of cluster {}, ours is {cluster}",
                standing.cluster
            )));
        }
        // The copy is at batch n; a commit of unknown outcome makes it n or n + 1.
        let ours = standing.incarnation == incarnation
            && (standing.batch == self.batch && standing.version == version
                || standing.batch == self.batch + 1 && standing.version >= version);
        if ours {
            self.renewed(asked);
            return Ok(Recovery::Same(standing));
        }
        tracing::error!(
            ours = version,
            found = standing.version,
            "the database is not where it was left; taking a new incarnation and loading it anew"
        );
        let loaded = self.log.reload(self.epoch, self.ring.max_rows).await?;
        self.replace(loaded);
        self.renewed(asked);
        Ok(Recovery::Replaced)
    }

    fn replace(&mut self, loaded: Loaded) {
        self.epoch = loaded.epoch;
        self.batch = loaded.batch;
        self.staging.dirty = true;
        let now = self.clock.now();
        let (mut state, notes) = state_of(loaded, &mut self.interner, self.ring, now);
        self.shared.write(|old| {
            state.life = old.life + 1;
            *old = state;
        });
        self.shared.wakes.wake_all();
        self.shared.replace_notes(notes);
    }

    /// Asks whether this server still leads.
    pub(crate) async fn renew(&mut self) {
        let asked = self.clock.now();
        let result = timeout(self.pace.commit, self.log.renew(self.epoch)).await;
        match result {
            Ok(Ok(())) => self.renewed(asked),
            Ok(Err(LogError::Fenced { ours, found })) if found > ours => {
                self.lose(ours, found);
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the log is away");
                // What it finds is acted on there; no batch waits for it.
                self.recover().await;
            }
            Err(_) => {
                tracing::warn!("the log does not answer");
                self.recover().await;
            }
        }
    }

    /// The lease counts from before the question was asked.
    fn renewed(&self, asked: Now) {
        self.standpoint
            .renewed
            .store(millis(asked.monotonic), Ordering::Relaxed);
    }

    pub(crate) fn lose(&self, ours: u64, found: u64) -> Unavailable {
        tracing::error!(ours, found, "another server leads; this one writes nothing more");
        self.standpoint.office.send_replace(Office::Lost);
        Unavailable(format!("another server leads (epoch {found}, ours was {ours})"))
    }
}
