//! What a batch is made of: each write by itself, and the caller that waits for its answer.

use std::{ops::Range, sync::Arc};

use schemas::Object;
use tokio::sync::oneshot;

use crate::{
    Unavailable, Write, WriteError,
    ask::{Ask, Told},
    queue::{Answers, Job},
};

/// What one unit asks for.
pub(crate) enum What {
    Write(Write),
    Ask(Ask),
}

/// What became of one unit.
pub(crate) enum Outcome {
    Write(Result<Arc<Object>, WriteError>),
    Ask(Result<Told, Unavailable>),
}

/// A caller, and its answers so far.
enum Caller {
    Objects(oneshot::Sender<Answers>, Answers),
    Note(
        oneshot::Sender<Result<Told, Unavailable>>,
        Option<Result<Told, Unavailable>>,
    ),
}

/// The jobs of one turn, taken apart.
pub(crate) struct Units {
    callers: Vec<Caller>,
    /// With the place of each one's caller.
    units: Vec<(usize, What)>,
    settled: usize,
}

impl Units {
    pub(crate) fn of(jobs: Vec<Job>) -> Self {
        let mut callers = Vec::with_capacity(jobs.len());
        let mut units = Vec::new();
        for job in jobs {
            let caller = callers.len();
            match job {
                Job::Objects { writes, reply, .. } => {
                    callers.push(Caller::Objects(reply, Vec::with_capacity(writes.len())));
                    units.extend(writes.into_iter().map(|write| (caller, What::Write(write))));
                }
                Job::Note { ask, reply } => {
                    callers.push(Caller::Note(reply, None));
                    units.push((caller, What::Ask(ask)));
                }
                Job::Tidy { .. } | Job::Stage { .. } => {}
            }
        }
        Self {
            callers,
            units,
            settled: 0,
        }
    }

    pub(crate) fn all(&self) -> Range<usize> {
        0..self.units.len()
    }

    pub(crate) fn part(&self, range: Range<usize>) -> impl Iterator<Item = &What> {
        self.units[range].iter().map(|(_, what)| what)
    }

    /// Notes the outcomes of the units that follow on the last ones settled.
    pub(crate) fn settle(&mut self, outcomes: impl IntoIterator<Item = Outcome>) {
        for outcome in outcomes {
            let Some((caller, _)) = self.units.get(self.settled) else {
                return;
            };
            self.settled += 1;
            match (&mut self.callers[*caller], outcome) {
                (Caller::Objects(_, answers), Outcome::Write(answer)) => answers.push(answer),
                (Caller::Note(_, answer), Outcome::Ask(told)) => *answer = Some(told),
                // A unit is judged as what it is.
                _ => {}
            }
        }
    }

    /// Nothing that is not settled yet was written.
    pub(crate) fn fail(&mut self, why: &Unavailable) {
        let rest: Vec<Outcome> = self.units[self.settled..]
            .iter()
            .map(|(_, what)| match what {
                What::Write(_) => Outcome::Write(Err(why.clone().into())),
                What::Ask(_) => Outcome::Ask(Err(why.clone())),
            })
            .collect();
        self.settle(rest);
    }

    /// Answers every caller.
    pub(crate) fn answer(self) {
        for caller in self.callers {
            // Whoever stopped waiting needs no answer.
            match caller {
                Caller::Objects(reply, answers) => drop(reply.send(answers)),
                Caller::Note(reply, Some(told)) => drop(reply.send(told)),
                Caller::Note(..) => {}
            }
        }
    }
}

impl Outcome {
    /// The same after the batch failed: what was refused on its own merits was refused for these, the
    /// rest was not written.
    pub(crate) fn failed(self, why: &Unavailable) -> Self {
        match self {
            Self::Write(answer) => Self::Write(answer.and_then(|_| Err(why.clone().into()))),
            Self::Ask(told) => Self::Ask(told.and_then(|_| Err(why.clone()))),
        }
    }

    /// The same after the database refused this very unit.
    pub(crate) fn refused(self, why: &str) -> Self {
        let reason = format!("the database refuses it: {why}");
        match self {
            Self::Write(Ok(object)) => {
                let key = object.key();
                tracing::error!(kind = %key.kind, namespace = key.ns(), name = %key.name, why, "the database refused a write");
                Self::Write(Err(WriteError::Invalid { key, reason }))
            }
            Self::Ask(Ok(_)) => {
                tracing::error!(why, "the database refused a record");
                Self::Ask(Err(Unavailable(reason)))
            }
            failed => failed,
        }
    }
}
