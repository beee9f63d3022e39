//! What waits to be written, by class.

use std::sync::Arc;

use schemas::{Object, Packed};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Class, Op, Unavailable, Write, WriteError,
    ask::{Ask, Told},
    log::Tidy,
    staging::StageAsk,
};

/// How many jobs of one class wait before their callers do.
const WAITING: usize = 4096;
/// What each class may take of a batch before the classes above it take the rest, so that none
/// starves: one part in this many.
const SHARE: usize = 8;

pub(crate) type Answers = Vec<Result<Arc<Object>, WriteError>>;

/// One thing to write and who waits for it.
pub(crate) enum Job {
    Objects {
        writes: Vec<Write>,
        bytes: usize,
        reply: oneshot::Sender<Answers>,
    },
    Note {
        ask: Ask,
        reply: oneshot::Sender<Result<Told, Unavailable>>,
    },
    Tidy {
        tidy: Tidy,
        reply: oneshot::Sender<Result<bool, Unavailable>>,
    },
    Stage {
        ask: StageAsk,
        reply: oneshot::Sender<Result<bool, Unavailable>>,
    },
}

impl Job {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Objects { reply, .. } => reply.is_closed(),
            Self::Note { reply, .. } => reply.is_closed(),
            Self::Tidy { reply, .. } | Self::Stage { reply, .. } => reply.is_closed(),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Objects { writes, .. } => writes.len(),
            Self::Note { .. } | Self::Tidy { .. } | Self::Stage { .. } => 1,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Objects { bytes, .. } => *bytes,
            Self::Note { .. } | Self::Tidy { .. } | Self::Stage { .. } => 256,
        }
    }

    pub(crate) fn refuse(self, why: &Unavailable) {
        // Whoever stopped waiting needs no answer.
        match self {
            Self::Objects { writes, reply, .. } => {
                let answers = writes.iter().map(|_| Err(why.clone().into())).collect();
                let _ = reply.send(answers);
            }
            Self::Note { reply, .. } => {
                let _ = reply.send(Err(why.clone()));
            }
            Self::Tidy { reply, .. } | Self::Stage { reply, .. } => {
                let _ = reply.send(Err(why.clone()));
            }
        }
    }
}

/// The senders' side.
#[derive(Clone)]
pub(crate) struct Sender {
    classes: [mpsc::Sender<Job>; 4],
}

/// The writer's side.
pub(crate) struct Queue {
    classes: [mpsc::Receiver<Job>; 4],
    /// The first job of each class that did not fit any more.
    left: [Option<Job>; 4],
}

/// How much one batch takes.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    pub rows: usize,
    pub bytes: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            rows: 1000,
            bytes: 2 * 1024 * 1024,
        }
    }
}

pub(crate) fn queue() -> (Sender, Queue) {
    let (a, a_out) = mpsc::channel(WAITING);
    let (b, b_out) = mpsc::channel(WAITING);
    let (c, c_out) = mpsc::channel(WAITING);
    let (d, d_out) = mpsc::channel(WAITING);
    let sender = Sender { classes: [a, b, c, d] };
    let queue = Queue {
        classes: [a_out, b_out, c_out, d_out],
        left: [None, None, None, None],
    };
    (sender, queue)
}

impl Sender {
    /// Waits while too much waits already. An error: the writer is gone.
    pub(crate) async fn send(&self, class: Class, job: Job) -> Result<(), Unavailable> {
        self.classes[class as usize]
            .send(job)
            .await
            .map_err(|_| Unavailable("the writer has stopped".into()))
    }
}

impl Queue {
    /// Waits until there is something to take. False: every sender is gone.
    pub(crate) async fn wait(&mut self) -> bool {
        if self.left.iter().any(Option::is_some) {
            return true;
        }
        let [a, b, c, d] = &mut self.classes;
        let (class, job) = tokio::select! {
            biased;
            Some(job) = a.recv() => (0, job),
            Some(job) = b.recv() => (1, job),
            Some(job) = c.recv() => (2, job),
            Some(job) = d.recv() => (3, job),
            else => return false,
        };
        self.left[class] = Some(job);
        true
    }

    /// Takes one batch's worth without waiting: a share of each class, then the rest in their order.
    /// What nobody waits for any more is dropped.
    pub(crate) fn take(&mut self, limits: BatchLimits) -> Vec<Job> {
        let mut jobs = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        for part in [SHARE, 1] {
            for class in 0..self.classes.len() {
                let mut shared = 0;
                while rows < limits.rows && bytes < limits.bytes && shared < limits.rows / part {
                    let Some(job) = self.next(class) else { break };
                    if rows > 0 && bytes + job.bytes() > limits.bytes {
                        self.left[class] = Some(job);
                        break;
                    }
                    shared += job.rows();
                    rows += job.rows();
                    bytes += job.bytes();
                    jobs.push(job);
                }
            }
        }
        jobs
    }

    fn next(&mut self, class: usize) -> Option<Job> {
        loop {
            let job = match self.left[class].take() {
                Some(job) => job,
                None => self.classes[class].try_recv().ok()?,
            };
            if !job.is_abandoned() {
                return Some(job);
            }
        }
    }

    /// Takes nothing new in; what waits stays.
    pub(crate) fn close(&mut self) {
        self.classes.iter_mut().for_each(mpsc::Receiver::close);
    }
}

/// About how many bytes a write makes durable.
pub(crate) fn weight(write: &Write) -> usize {
    let status = |status: &Option<Packed>| status.as_ref().map_or(0, |status| status.bytes().len());
    match &write.op {
        // A body is text in the database, about three times what it is here.
        Op::Create(new) | Op::Replace(new) => 600 + 3 * new.body.packed().bytes().len() + status(&new.status),
        Op::Retire {
            object: new,
            status: said,
        } => 600 + 3 * new.body.packed().bytes().len() + said.bytes().len(),
        Op::Status { status, .. } => 100 + status.bytes().len(),
        Op::Bind { status: new, .. } => 100 + status(new),
        Op::Remove { .. } => 1000,
    }
}
