//! What the store keeps beside objects: revisions, marks, confirmations, secrets, documents, the audit.

use std::{future::Future, sync::Arc};

use schemas::{Key, report::Report};
use serde_json::Value;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    AuditLine, Class, Confirmation, Desired, DesiredRow, Mark, Revision, RevisionWrite, Store, Unavailable,
    ask::{Ask, Told},
    gone, log,
    notes::Note,
    queue::Job,
};

impl Store {
    /// Records a revision, all of it or nothing. A large one is written ahead in parts that nobody
    /// sees, so that the transaction that makes it count is always small.
    pub async fn record(&self, revision: RevisionWrite) -> Result<Arc<Desired>, Unavailable> {
        let mut preparing = self.inner.preparing.lock().await;
        *preparing += 1;
        let write = Arc::new(revision);
        let staged = self.stage(&write, *preparing).await?;
        match self.ask(Class::Git, Ask::Revision(write, staged)).await? {
            Told::Revision(desired) => Ok(desired),
            _ => Err(gone()),
        }
    }

    /// The newest desired state.
    #[must_use]
    pub fn desired(&self) -> Arc<Desired> {
        self.inner.shared.notes.read().desired.clone()
    }

    /// Wakes when a revision was recorded; the value is its number. "Look again", nothing more.
    #[must_use]
    pub fn desired_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.shared.revision.subscribe()
    }

    /// The desired state as of an earlier revision, if it is still kept.
    pub async fn desired_at(&self, revision: u64) -> Result<Option<Desired>, Unavailable> {
        self.asking(self.inner.log.desired_at(revision)).await
    }

    /// Recorded revisions, newest first.
    pub async fn revisions(&self, limit: usize) -> Result<Vec<Revision>, Unavailable> {
        self.asking(self.inner.log.revisions(limit)).await
    }

    /// What an object was declared as, newest first: one row for each content and place, as far as
    /// revisions are kept. It reads through all that was ever declared: for a person's question.
    pub async fn declarations(&self, key: &Key, limit: usize) -> Result<Vec<DesiredRow>, Unavailable> {
        self.asking(self.inner.log.declarations(key, limit)).await
    }

    /// Audit lines, newest first.
    pub async fn audited(&self, limit: usize) -> Result<Vec<AuditLine>, Unavailable> {
        self.asking(self.inner.log.audited(limit)).await
    }

    async fn asking<T>(&self, answer: impl Future<Output = Result<T, log::LogError>>) -> Result<T, Unavailable> {
        match tokio::time::timeout(self.inner.pace.answer, answer).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(Unavailable(error.to_string())),
            Err(_) => Err(Unavailable("the database does not answer".into())),
        }
    }

    /// The latest report of the reconcilers; rebuilt after a start.
    #[must_use]
    pub fn reports(&self) -> tokio::sync::watch::Receiver<Option<Arc<Report>>> {
        self.inner.shared.reports.subscribe()
    }

    pub fn publish_report(&self, report: Arc<Report>) {
        self.inner.shared.reports.send_replace(Some(report));
    }

    /// Notes that these contents are the newest with which their objects have been healthy. Each object
    /// is named once at most. A few contents are remembered for each declared object.
    pub async fn mark_healthy(&self, mut marks: Vec<(Key, Mark)>) -> Result<(), Unavailable> {
        {
            let known = self.inner.shared.notes.read();
            let is_news = |key: &Key, mark: &Mark| {
                let newest = known.last_healthy(key);
                newest.is_none_or(|newest| newest.content != mark.content)
            };
            marks.retain(|(key, mark)| is_news(key, mark));
        }
        if marks.is_empty() {
            return Ok(());
        }
        self.ask(Class::Controller, Ask::Healthy(marks)).await.map(|_| ())
    }

    /// Whether an object has been healthy with this content, as far as that is remembered.
    #[must_use]
    pub fn was_healthy(&self, key: &Key, content: schemas::ContentHash) -> bool {
        self.inner.shared.notes.read().was_healthy(key, content)
    }

    /// The newest content with which an object was healthy.
    #[must_use]
    pub fn last_healthy(&self, key: &Key) -> Option<Mark> {
        self.inner.shared.notes.read().last_healthy(key).cloned()
    }

    /// The contents with which an object was healthy, the newest first.
    #[must_use]
    pub fn healthy(&self, key: &Key) -> Vec<Mark> {
        let notes = self.inner.shared.notes.read();
        let marks = notes.healthy.get(key);
        marks
            .map(|marks| marks.iter().rev().cloned().collect())
            .unwrap_or_default()
    }

    /// Confirms a set of deletions by its digest.
    pub async fn confirm_deletes(&self, confirmation: Confirmation) -> Result<(), Unavailable> {
        let notes = vec![Note::Confirmation(confirmation)];
        self.ask(Class::User, Ask::Notes(notes)).await.map(|_| ())
    }

    /// Every confirmation that is kept; a set is confirmed when one of them contains it.
    #[must_use]
    pub fn confirmations(&self) -> Vec<Confirmation> {
        self.inner.shared.notes.read().confirmations.clone()
    }

    /// Wakes when a set of deletions was confirmed; the value is how many confirmations are kept.
    #[must_use]
    pub fn confirmation_changes(&self) -> tokio::sync::watch::Receiver<usize> {
        self.inner.shared.confirmations.subscribe()
    }

    /// A small secret (keys, the certificate authority), encrypted at rest.
    pub async fn secret(&self, name: &str) -> Result<Option<Vec<u8>>, Unavailable> {
        Ok(self.inner.shared.notes.read().secrets.get(name).cloned())
    }

    /// Keeps a small secret unless one of that name is there; returns the one that is kept.
    pub async fn secret_or(&self, name: &str, value: Vec<u8>) -> Result<Vec<u8>, Unavailable> {
        let name = name.to_owned();
        match self.ask(Class::User, Ask::SecretOr { name, value }).await? {
            Told::Secret(kept) => Ok(kept),
            _ => Err(gone()),
        }
    }

    /// A small durable document of some part of Towline, by its name.
    #[must_use]
    pub fn document(&self, name: &str) -> Option<Value> {
        self.inner.shared.notes.read().documents.get(name).cloned()
    }

    /// Documents whose names begin so, by the rest of their names.
    #[must_use]
    pub fn documents(&self, prefix: &str) -> Vec<(String, Value)> {
        let notes = self.inner.shared.notes.read();
        let from = notes.documents.range(prefix.to_owned()..);
        from.map_while(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone())))
            .collect()
    }

    /// Wakes when a document was put or removed.
    #[must_use]
    pub fn document_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.shared.documents.subscribe()
    }

    /// Replaces a document, or removes it. The last one to write wins.
    pub async fn put_document(&self, name: &str, value: Option<Value>) -> Result<(), Unavailable> {
        if self.document(name) == value {
            return Ok(());
        }
        let name = name.to_owned();
        let notes = vec![Note::Document { name, value }];
        self.ask(Class::Git, Ask::Notes(notes)).await.map(|_| ())
    }

    /// Remembers a webhook delivery; false if it was known already.
    pub async fn first_delivery(&self, source: &str, id: &str) -> Result<bool, Unavailable> {
        let delivery = Note::Delivery {
            source: source.to_owned(),
            id: id.to_owned(),
            at: self.inner.clock.now().wall,
        };
        match self.ask(Class::User, Ask::Delivery(delivery)).await? {
            Told::First(first) => Ok(first),
            _ => Err(gone()),
        }
    }

    /// Appends audit lines.
    pub async fn audit(&self, lines: Vec<AuditLine>) -> Result<(), Unavailable> {
        let notes = lines.into_iter().map(Note::Audit).collect();
        self.ask(Class::User, Ask::Notes(notes)).await.map(|_| ())
    }

    async fn ask(&self, class: Class, ask: Ask) -> Result<Told, Unavailable> {
        let asked = Instant::now();
        let (reply, answer) = oneshot::channel();
        let job = Job::Note { ask, reply };
        self.in_time(asked, self.inner.queue.send(class, job)).await??;
        self.in_time(asked, answer).await?.map_err(|_| gone())?
    }

    /// Waits for a step of work that is a transaction of its own.
    pub(crate) async fn side_job(
        &self,
        class: Class,
        job: impl FnOnce(oneshot::Sender<Result<bool, Unavailable>>) -> Job,
    ) -> Result<bool, Unavailable> {
        let asked = Instant::now();
        let (reply, answer) = oneshot::channel();
        self.in_time(asked, self.inner.queue.send(class, job(reply))).await??;
        self.in_time(asked, answer).await?.map_err(|_| gone())?
    }
}
