//! The one writer: judges what waits, commits it as a batch, and only then lets anyone see it.

use std::{future::Future, ops::Range, sync::Arc};

use schemas::{Kind, Now, now::Clock};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    Change, Unavailable,
    admission::Admission,
    ask::judge_note,
    intern::Interner,
    judge::{Judge, Row},
    log::{Batch, Log, LogError},
    notes::Note,
    office::{Office, Pace, Standpoint},
    queue::{Job, Queue},
    recovery::Fate,
    ring::RingLimits,
    shared::Shared,
    staging::{StageAsk, Staging},
    units::{Outcome, Units, What},
    watermark::{Mark, Watermark},
};

pub(crate) struct Writer {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) standpoint: Arc<Standpoint>,
    pub(crate) interner: Interner,
    pub(crate) admission: Option<Admission>,
    pub(crate) staging: Staging,
    pub(crate) epoch: u64,
    pub(crate) batch: u64,
    pub(crate) pace: Pace,
    pub(crate) ring: RingLimits,
    pub(crate) watermark: Option<Watermark>,
    pub(crate) closing: CancellationToken,
    /// It was closed while the log was away: what waits is not written any more.
    pub(crate) gave_up: bool,
}

impl Writer {
    pub(crate) async fn run(mut self, mut queue: Queue) {
        let closing = self.closing.clone();
        let mut open = true;
        while self.office() != Office::Lost && !self.gave_up {
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
            "the store is closed; nothing was written".into()
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
        // A step of tidying or staging is a transaction of its own, after the writes.
        let is_side = |job: &mut Job| matches!(job, Job::Tidy { .. } | Job::Stage { .. });
        let sides: Vec<Job> = jobs.extract_if(.., is_side).collect();
        if !jobs.is_empty() {
            self.write(jobs).await;
        }
        for job in sides {
            self.side(job).await;
        }
    }

    /// Writes all units in as few batches as the log accepts: one that it refuses is halved until the
    /// refused unit stands alone, so that one bad row fails nobody else.
    async fn write(&mut self, jobs: Vec<Job>) {
        let mut units = Units::of(jobs);
        let mut parts: Vec<Range<usize>> = vec![units.all()];
        while let Some(part) = parts.pop() {
            let now = self.clock.now();
            let (batch, outcomes) = self.judge(units.part(part.clone()), now);
            if batch.rows.is_empty() && batch.notes.is_empty() {
                units.settle(outcomes);
                self.standpoint.moved();
                continue;
            }
            match self.commit(&batch).await {
                Fate::Committed => {
                    self.apply(&batch, now);
                    units.settle(outcomes);
                }
                Fate::Refused(_) if part.len() > 1 => {
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
                Fate::Refused(why) => units.settle(outcomes.into_iter().map(|outcome| outcome.refused(&why))),
                Fate::Failed(why) => {
                    units.settle(outcomes.into_iter().map(|outcome| outcome.failed(&why)));
                    units.fail(&why);
                    break;
                }
            }
        }
        units.answer();
    }

    fn judge<'a>(&mut self, units: impl Iterator<Item = &'a What>, now: Now) -> (Batch, Vec<Outcome>) {
        let state = self.shared.read();
        let known = self.shared.notes.read();
        let mut judge = Judge::new(&state.objects, &mut self.interner, self.admission.as_mut());
        let mut notes = Vec::new();
        let outcomes = units
            .map(|unit| match unit {
                What::Write(write) => Outcome::Write(judge.judge(write.clone())),
                What::Ask(ask) => Outcome::Ask(judge_note(ask.clone(), &known, &self.staging, &mut notes)),
            })
            .collect();
        let rows = judge.finish();
        let batch = Batch {
            number: self.batch + 1,
            version: state.objects.version() + rows.len() as u64,
            at: now.wall,
            rows,
            notes,
        };
        (batch, outcomes)
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
            let gone = |row: &&Row| row.key.kind == Kind::Node && state.objects.get(&row.key).is_none();
            for row in batch.rows.iter().filter(gone) {
                self.shared.heartbeats.forget(&row.key.name);
            }
        });
        self.shared.wakes.wake(&changes);
        if batch
            .notes
            .iter()
            .any(|note| matches!(note, Note::Revision { staged: true, .. }))
        {
            self.staging.dirty = false;
        }
        self.shared.take_notes(&batch.notes);
        self.standpoint.moved();
    }

    /// Does what is a transaction of its own beside the batches.
    async fn side(&mut self, job: Job) {
        let log = self.log.clone();
        let epoch = self.epoch;
        match job {
            Job::Tidy { tidy, reply } => {
                let answer = self.beside(log.tidy(epoch, &tidy)).await;
                if answer.is_ok() {
                    let before = tidy.deliveries_before;
                    let mut notes = self.shared.notes.write();
                    notes.deliveries.retain(|_, at| *at >= before);
                }
                let _ = reply.send(answer);
            }
            Job::Stage { ask, reply } => {
                let answer = match ask {
                    StageAsk::Begin(number) => {
                        self.staging.number = number;
                        let more = match self.staging.dirty {
                            true => self.beside(log.unstage(epoch)).await,
                            false => Ok(false),
                        };
                        self.staging.dirty &= !matches!(more, Ok(false));
                        more
                    }
                    StageAsk::Part(number, _) if number != self.staging.number => {
                        Err(Unavailable("another revision is being prepared".into()))
                    }
                    StageAsk::Part(_, stage) => {
                        self.staging.dirty = true;
                        self.beside(log.stage(epoch, &stage)).await.map(|()| true)
                    }
                };
                let _ = reply.send(answer);
            }
            Job::Objects { .. } | Job::Note { .. } => {}
        }
        self.standpoint.moved();
    }

    /// Waits for a transaction beside the batches and acts on how it failed.
    async fn beside<T>(&mut self, work: impl Future<Output = Result<T, LogError>>) -> Result<T, Unavailable> {
        let asked = self.clock.now();
        let error = match timeout(self.pace.commit, work).await {
            Ok(Ok(done)) => {
                // It was fenced by the epoch as every commit is.
                self.renewed(asked);
                return Ok(done);
            }
            Ok(Err(error)) => error,
            Err(_) => LogError::Unknown("it took too long".into()),
        };
        let why = Unavailable(error.to_string());
        match error {
            LogError::Fenced { ours, found } if found > ours => return Err(self.lose(ours, found)),
            LogError::Refused(_) => {}
            error => {
                tracing::warn!(%error, "the connection to the log is lost");
                // What it finds is acted on there; the work is asked for again.
                self.recover().await;
            }
        }
        Err(why)
    }
}
