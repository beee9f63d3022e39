//! The loop: something says "look"; fetch, render, revise, record. One path for start-up, events and
//! the periodic look.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use git2::Oid;
use rustc_hash::FxHashSet;
use schemas::Key;
use store::{Desired, RevisionWrite};
use tokio::{task, time};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, info_span, warn};

use crate::{
    Shared,
    notice::Notice,
    remote::Fetcher,
    rendered::{Against, Rendered},
    revise::{Book, broken},
    source::{Reader, SourceError, Unrelated, commit_of},
};

/// How a look ended.
enum Looked {
    Done,
    /// Something that passes stood in the way: look again soon.
    Again,
}

/// What a look found to write.
enum Prepared {
    Nothing,
    Revision {
        before: Arc<Desired>,
        write: Box<RevisionWrite>,
        /// `None`: the source is broken, and what is pending stays as it is.
        pending: Option<FxHashSet<Key>>,
    },
}

/// How many fetches in a row must fail before a revision says so: a remote that is away for a moment
/// is not news.
const FAILURES: u32 = 3;

pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let span = info_span!("gitsync", source = %shared.options.source, branch = %shared.options.branch);
    let done = shutdown.clone();
    let looking = async {
        let mut looker = Looker::new(shared);
        loop {
            let pause = looker.look().await;
            looker.wait(pause).await;
        }
    };
    tokio::select! {
        () = done.cancelled() => {}
        () = looking.instrument(span) => {}
    }
}

struct Looker {
    shared: Arc<Shared>,
    /// Away while a blocking thread uses it.
    reader: Option<Reader>,
    fetcher: Option<Fetcher>,
    notice: Option<Notice>,
    changes: tokio::sync::watch::Receiver<u64>,
    failed_fetches: u32,
    back_off: Duration,
}

const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
const LAST_BACK_OFF: Duration = Duration::from_secs(10);

impl Looker {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            reader: Some(Reader::new(shared.place.clone())),
            fetcher: Fetcher::of(&shared.options, &shared.place),
            notice: None,
            changes: shared.store.desired_changes(),
            failed_fetches: 0,
            back_off: FIRST_BACK_OFF,
            shared,
        }
    }

    /// Looks once; answers how long to wait for a reason to look again.
    async fn look(&mut self) -> Duration {
        let ticket = self.shared.requested.load(Ordering::SeqCst);
        let mut looked = self.look_once().await;
        if self.watch_files() {
            // What happened before the watch began was told to no one.
            looked = self.look_once().await;
        }
        self.shared.finished.send_replace(ticket);
        match looked {
            Looked::Done => {
                self.back_off = FIRST_BACK_OFF;
                self.shared.options.poll().mul_f64(rand::random_range(0.9..=1.1))
            }
            Looked::Again => {
                let pause = self.back_off;
                self.back_off = (self.back_off * 2).min(LAST_BACK_OFF);
                pause
            }
        }
    }

    async fn wait(&mut self, pause: Duration) {
        tokio::select! {
            () = time::sleep(pause) => {}
            () = self.shared.look.notified() => {}
            changed = self.changes.changed() => {
                if changed.is_err() {
                    // The store is closing; the shutdown ends this task.
                    time::sleep(pause).await;
                }
            }
        }
    }

    /// Watches a local repository's files, if it does not yet; true when it began to.
    fn watch_files(&mut self) -> bool {
        let Some(reader) = &mut self.reader else { return false };
        if self.fetcher.is_some() {
            return false;
        }
        if reader.reopened() {
            self.notice = None;
        }
        if self.notice.is_some() {
            return false;
        }
        let Ok(git_dir) = reader.repo().map(|repo| repo.commondir().to_path_buf()) else {
            return false;
        };
        let shared = self.shared.clone();
        match Notice::watch(&git_dir, move || shared.look.notify_one()) {
            Ok(notice) => {
                self.notice = Some(notice);
                true
            }
            Err(error) => {
                debug!(%error, "file events are not to be had; the periodic look goes on");
                false
            }
        }
    }

    async fn look_once(&mut self) -> Looked {
        let mut fetch_error = None;
        if let Some(fetcher) = &mut self.fetcher {
            match fetcher.fetch().await {
                Ok(()) => self.failed_fetches = 0,
                Err(error) => {
                    self.failed_fetches += 1;
                    warn!(%error, "fetch failed");
                    fetch_error = Some(error);
                }
            }
        }
        let lasting = self.failed_fetches >= FAILURES;
        let Some(mut reader) = self.reader.take() else {
            return Looked::Again;
        };
        let shared = self.shared.clone();
        let prepared = task::spawn_blocking(move || {
            let prepared = match &fetch_error {
                Some(error) if lasting => prepare_broken(&shared, error),
                // What the mirror holds still counts while the remote is away for a moment.
                Some(error) => {
                    shared.condition(|conditions| conditions.source = Some(error.to_string()));
                    prepare_tip(&shared, &mut reader).unwrap_or(Prepared::Nothing)
                }
                None => prepare(&shared, &mut reader),
            };
            (reader, prepared)
        });
        let prepared = match prepared.await {
            Ok((reader, prepared)) => {
                self.reader = Some(reader);
                prepared
            }
            Err(error) => {
                // A panic below: begin anew with a fresh reader and a fresh state.
                warn!(%error, "a look broke off");
                self.reader = Some(Reader::new(self.shared.place.clone()));
                *self.shared.rendered.write() = Rendered::default();
                return Looked::Again;
            }
        };
        let recorded = self.record(prepared).await;
        match (self.failed_fetches, recorded) {
            (0, recorded) => recorded,
            _ => Looked::Again,
        }
    }

    async fn record(&mut self, prepared: Prepared) -> Looked {
        let Prepared::Revision { before, write, pending } = prepared else {
            return Looked::Done;
        };
        let span = info_span!("revision", commit = %write.commit);
        let (put, dropped) = (write.put.len(), write.drop.len());
        match self
            .shared
            .store
            .record((*write).clone())
            .instrument(span.clone())
            .await
        {
            Ok(after) => {
                let _in = span.enter();
                let mut rendered = self.shared.rendered.write();
                let pending = pending.unwrap_or_else(|| rendered.book.pending.clone());
                if rendered.book.revision == before.revision {
                    rendered.book.follow(&before, &write, pending, after.revision);
                }
                info!(
                    revision = after.revision,
                    put,
                    dropped,
                    problems = write.problems.len(),
                    "recorded"
                );
                Looked::Done
            }
            Err(error) => {
                warn!(%error, commit = %write.commit, "the revision is not recorded yet");
                Looked::Again
            }
        }
    }
}

/// Everything between the fetch and the record. Blocks.
fn prepare(shared: &Shared, reader: &mut Reader) -> Prepared {
    let first = prepare_tip(shared, reader);
    let tried = match first {
        // A repack can take files away under an open repository: opening it anew cures that.
        Err(SourceError::Unreadable { .. }) => {
            reader.close();
            prepare_tip(shared, reader)
        }
        other => other,
    };
    match tried {
        Ok(prepared) => {
            shared.condition(|conditions| conditions.source = None);
            prepared
        }
        Err(error @ SourceError::Unborn { .. }) if shared.store.desired().revision == 0 => {
            shared.condition(|conditions| conditions.source = Some(error.to_string()));
            Prepared::Nothing
        }
        Err(error) => prepare_broken(shared, &error),
    }
}

fn prepare_broken(shared: &Shared, error: &SourceError) -> Prepared {
    shared.condition(|conditions| conditions.source = Some(error.to_string()));
    let desired = shared.store.desired();
    let mut text = error.to_string();
    // The other condition must outlive this one.
    if let Some(unrelated) = desired.source_error.as_deref().and_then(Unrelated::from_text) {
        text = format!("{text}; also, {unrelated}");
    }
    if desired.source_error.as_deref() == Some(&text) {
        return Prepared::Nothing;
    }
    warn!(error = %text, "the source cannot be read");
    let write = Box::new(broken(&desired, text, shared.clock.now().wall));
    Prepared::Revision {
        before: desired,
        write,
        pending: None,
    }
}

fn prepare_tip(shared: &Shared, reader: &mut Reader) -> Result<Prepared, SourceError> {
    let place = reader.place().clone();
    let repo = reader.repo()?;
    let tip = place.tip(repo)?;
    let desired = shared.store.desired();
    let mut rendered = shared.rendered.write();
    if up_to_date(&rendered, &desired, tip) {
        return Ok(Prepared::Nothing);
    }
    let info = place.info(repo, tip)?;
    let touched = rendered.turn_to(&place, repo, &shared.cache, tip)?;
    if rendered.book.revision == desired.revision && desired.revision > 0 {
        rendered.book.pending.extend(touched);
    } else {
        rendered.book = Book::read(&desired, &rendered.index);
    }
    let confirmed: Vec<_> = shared
        .store
        .confirmations()
        .into_iter()
        .map(|confirmation| confirmation.commit)
        .collect();
    let against = Against {
        desired: &desired,
        confirmed: &confirmed,
        at: shared.clock.now().wall,
    };
    let revised = rendered.revise(&place, repo, &info, &FxHashSet::default(), &against)?;
    if !revised.differs(&desired) {
        rendered.book.pending = revised.pending;
        return Ok(Prepared::Nothing);
    }
    Ok(Prepared::Revision {
        write: Box::new(revised.write),
        pending: Some(revised.pending),
        before: desired,
    })
}

/// The commit is the one recorded, and nothing else could have changed what it means.
fn up_to_date(rendered: &Rendered, desired: &Desired, tip: Oid) -> bool {
    rendered.commit == Some(tip)
        && rendered.book.revision == desired.revision
        && desired.commit == Some(commit_of(tip))
        && desired.source_error.is_none()
}
