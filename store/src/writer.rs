//! The one writer: judges what waits, commits it as a batch, and only then lets anyone see it.

use std::sync::{Arc, atomic::Ordering};

use schemas::{Now, now::Clock};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Change, Unavailable,
    ask::{Told, judge_note},
    intern::Interner,
    judge::Judge,
    log::{Batch, Loaded, Log, LogError, Standing},
    notes::Note,
    office::{Office, Pace, Standpoint, millis},
    queue::{Answers, Job, Queue},
    ring::RingLimits,
    shared::Shared,
    state::state_of,
    watermark::{Mark, Watermark},
};

pub(crate) struct Writer {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) standpoint: Arc<Standpoint>,
    pub(crate) interner: Interner,
    pub(crate) epoch: u64,
    pub(crate) batch: u64,
    pub(crate) pace: Pace,
    pub(crate) ring: RingLimits,
    pub(crate) watermark: Option<Watermark>,
    pub(crate) closing: CancellationToken,
}

/// An answer that waits for the commit.
enum Pending {
    Objects(oneshot::Sender<Answers>, Answers),
    Note(oneshot::Sender<Result<Told, Unavailable>>, Result<Told, Unavailable>),
}

/// What became of a batch.
enum Fate {
    Committed,
    Failed(Unavailable),
}

/// How an attempt to reach the log again ended.
enum Recovery {
    Same(Standing),
    /// The database was another one, or an older state of ours; the copy is now what it holds.
    Replaced,
    Lost,
}

impl Writer {
    pub(crate) async fn run(mut self, mut queue: Queue) {
        let closing = self.closing.clone();
        let mut open = true;
        loop {
            if self.office() == Office::Lost {
                break;
            }
            let more = if open {
                tokio::select! {
                    biased;
                    () = closing.cancelled() => {
                        // What is in the queue is still written; nothing new comes in.
                        queue.close();
                        open = false;
                        continue;
                    }
                    more = timeout(self.pace.renew, queue.wait()) => more,
                }
            } else {
                Ok(queue.wait().await)
            };
            match more {
                Ok(true) => self.turn(&mut queue).await,
                Ok(false) => break,
                Err(_) => self.renew().await,
            }
            self.mark(false).await;
        }
        self.mark(true).await;
        let lost = self.office() == Office::Lost;
        let why = Unavailable(if lost {
            "another server leads now; ask it".into()
        } else {
            "the store is closed".into()
        });
        if !lost {
            self.standpoint.office.send_replace(Office::Closed);
        }
        queue.close();
        while queue.wait().await {
            for job in queue.take(self.pace.batch) {
                job.refuse(&why);
            }
        }
    }

    /// Notes how far the database is known to have come.
    async fn mark(&mut self, now: bool) {
        if let Some(watermark) = &mut self.watermark {
            let incarnation = self.shared.read().incarnation.0.to_string();
            let batch = self.batch;
            watermark.note(Mark { incarnation, batch }, now).await;
        }
    }

    fn office(&self) -> Office {
        *self.standpoint.office.borrow()
    }

    async fn turn(&mut self, queue: &mut Queue) {
        let mut jobs = queue.take(self.pace.batch);
        // A step of tidying is a transaction of its own, after the writes.
        let tidies: Vec<Job> = jobs.extract_if(.., |job| matches!(job, Job::Tidy { .. })).collect();
        if !jobs.is_empty() {
            self.write(jobs).await;
        }
        for job in tidies {
            self.tidy(job).await;
        }
    }

    async fn write(&mut self, jobs: Vec<Job>) {
        let now = self.clock.now();
        let (batch, pending) = self.judge(jobs, now);
        if batch.rows.is_empty() && batch.notes.is_empty() {
            pending.into_iter().for_each(|pending| pending.answer(None));
            self.standpoint.moved();
            return;
        }
        match self.commit(&batch).await {
            Fate::Committed => {
                self.apply(&batch, now);
                pending.into_iter().for_each(|pending| pending.answer(None));
            }
            Fate::Failed(why) => pending.into_iter().for_each(|pending| pending.answer(Some(&why))),
        }
    }

    fn judge(&mut self, jobs: Vec<Job>, now: Now) -> (Batch, Vec<Pending>) {
        let state = self.shared.read();
        let known = self.shared.notes.read();
        let mut judge = Judge::new(&state.objects, &mut self.interner);
        let mut notes = Vec::new();
        let mut pending = Vec::with_capacity(jobs.len());
        for job in jobs {
            match job {
                Job::Objects { writes, reply, .. } => {
                    let answers = writes.into_iter().map(|write| judge.judge(write)).collect();
                    pending.push(Pending::Objects(reply, answers));
                }
                Job::Note { ask, reply } => {
                    pending.push(Pending::Note(reply, judge_note(ask, &known, &mut notes)));
                }
                Job::Tidy { .. } => {}
            }
        }
        let rows = judge.finish();
        let batch = Batch {
            number: self.batch + 1,
            version: state.objects.version() + rows.len() as u64,
            at: now.wall,
            rows,
            notes,
        };
        (batch, pending)
    }

    /// Commits, whatever it takes to learn whether it was.
    async fn commit(&mut self, batch: &Batch) -> Fate {
        let started = Instant::now();
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
            match error {
                LogError::Fenced { ours, found } if found > ours => {
                    return Fate::Failed(self.lose(ours, found));
                }
                LogError::Refused(why) => {
                    tracing::error!(batch = batch.number, why, "the database refused a batch");
                    return Fate::Failed(Unavailable(why));
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
                Recovery::Same(standing) if standing.batch == batch.number => return Fate::Committed,
                // It was not committed, and the copy has not moved: the batch is as good as before,
                // if anyone still waits for it.
                Recovery::Same(_) if started.elapsed() < self.pace.answer => {}
                Recovery::Same(_) => {
                    return Fate::Failed(Unavailable("the database was away; nothing was written".into()));
                }
            }
        }
    }

    /// Reaches the log again, however long it takes, and compares it with the copy.
    async fn recover(&mut self) -> Recovery {
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
                () = self.closing.cancelled() => return Recovery::Lost,
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
        let now = self.clock.now();
        let (mut state, notes) = state_of(loaded, &mut self.interner, self.ring, now);
        let (revision, confirmations) = (notes.desired.revision, notes.confirmations.len());
        self.shared.write(|old| {
            state.life = old.life + 1;
            *old = state;
        });
        *self.shared.notes.write() = notes;
        self.shared.wakes.wake_all();
        self.shared.revision.send_replace(revision);
        self.shared.confirmations.send_replace(confirmations);
        self.shared.documents.send_modify(|count| *count += 1);
    }

    fn apply(&mut self, batch: &Batch, now: Now) {
        self.batch = batch.number;
        let changes: Vec<Change> = batch.rows.iter().map(|row| row.change()).collect();
        let at = i64::try_from(now.monotonic.as_millis()).unwrap_or(i64::MAX);
        self.shared.write(|state| {
            for row in &batch.rows {
                state.objects.apply(row);
            }
            state.ring.push(changes.iter().cloned(), at);
            state.ring.trim(at);
        });
        self.shared.wakes.wake(&changes);
        if !batch.notes.is_empty() {
            let (revision, confirmations) = {
                let mut notes = self.shared.notes.write();
                batch.notes.iter().for_each(|note| notes.apply(note));
                (notes.desired.revision, notes.confirmations.len())
            };
            self.shared.revision.send_if_modified(|seen| {
                let newer = *seen != revision;
                *seen = revision;
                newer
            });
            let document = |note: &Note| matches!(note, Note::Document { .. });
            if batch.notes.iter().any(document) {
                self.shared.documents.send_modify(|count| *count += 1);
            }
            self.shared.confirmations.send_if_modified(|seen| {
                let more = *seen != confirmations;
                *seen = confirmations;
                more
            });
        }
        self.standpoint.moved();
    }

    async fn renew(&mut self) {
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

    async fn tidy(&mut self, job: Job) {
        let Job::Tidy { tidy, reply } = job else { return };
        let result = timeout(self.pace.commit, self.log.tidy(self.epoch, &tidy)).await;
        let answer = match result {
            Ok(Ok(more)) => {
                let before = tidy.deliveries_before;
                let mut notes = self.shared.notes.write();
                notes.deliveries.retain(|_, at| *at >= before);
                Ok(more)
            }
            Ok(Err(error)) => Err(Unavailable(error.to_string())),
            Err(_) => Err(Unavailable("tidying took too long".into())),
        };
        self.standpoint.moved();
        let _ = reply.send(answer);
    }

    /// The lease counts from before the question was asked.
    fn renewed(&self, asked: Now) {
        self.standpoint
            .renewed
            .store(millis(asked.monotonic), Ordering::Relaxed);
    }

    fn lose(&self, ours: u64, found: u64) -> Unavailable {
        tracing::error!(ours, found, "another server leads; this one writes nothing more");
        self.standpoint.office.send_replace(Office::Lost);
        Unavailable(format!("another server leads (epoch {found}, ours was {ours})"))
    }
}

impl Pending {
    fn answer(self, failed: Option<&Unavailable>) {
        // Whoever stopped waiting needs no answer.
        match self {
            Self::Objects(reply, answers) => {
                let answers = match failed {
                    None => answers,
                    // What was refused was refused on its own merits; the rest was not written.
                    Some(why) => answers
                        .into_iter()
                        .map(|answer| answer.and_then(|_| Err(why.clone().into())))
                        .collect(),
                };
                let _ = reply.send(answers);
            }
            Self::Note(reply, answer) => {
                let answer = match failed {
                    None => answer,
                    Some(why) => Err(why.clone()),
                };
                let _ = reply.send(answer);
            }
        }
    }
}
