//! A log in memory, for tests and simulation, with faults on demand.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
};

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use schemas::{Key, Object, node::Incarnation};

use crate::{
    desired::{Desired, DesiredRow, Revision},
    log::{Batch, Loaded, Log, LogError, Standing, Tidy},
    notes::{Note, Notes},
    staging::Stage,
    watch::Change,
    write::AuditLine,
};

/// What goes wrong at the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written, and the log says so.
    Refused,
    /// The connection is lost before the commit.
    LostBefore,
    /// The connection is lost after the commit and before the answer.
    LostAfter,
    /// Another server took office meanwhile.
    Fenced,
}

/// A log in memory. Opening a second store on it fences the first.
#[derive(Default)]
pub struct MemoryLog {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    database: Database,
    faults: VecDeque<Fault>,
    away: bool,
}

/// All that a [`MemoryLog`] holds; taken as a backup and put back by tests.
#[derive(Clone, Default)]
pub struct Database {
    incarnation: u64,
    epoch: u64,
    batch: u64,
    version: u64,
    objects: BTreeMap<u64, Arc<Object>>,
    changes: VecDeque<(Timestamp, Change)>,
    notes: Notes,
    revisions: Vec<(Revision, Arc<Desired>)>,
    audit: Vec<AuditLine>,
    /// Rows of a revision that is yet to come.
    staged: usize,
    /// Objects that it refuses to keep.
    refused: BTreeSet<Key>,
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.lock();
        write!(f, "MemoryLog(version {})", inner.database.version)
    }
}

impl MemoryLog {
    /// The next commits meet these faults, one each.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner.lock().faults.extend(faults);
    }

    /// Refuses each batch that touches this object from now on.
    pub fn refuse(&self, key: Key) {
        self.inner.lock().database.refused.insert(key);
    }

    /// Takes the log away or gives it back.
    pub fn set_away(&self, away: bool) {
        self.inner.lock().away = away;
    }

    /// A backup of everything.
    #[must_use]
    pub fn backup(&self) -> Database {
        self.inner.lock().database.clone()
    }

    /// Puts a backup back, as a restore does. The connection of an open store is lost by it.
    pub fn restore(&self, database: Database) {
        let mut inner = self.inner.lock();
        inner.database = database;
        inner.faults.push_back(Fault::LostBefore);
    }

    fn with<T>(
        &self,
        epoch: Option<u64>,
        act: impl FnOnce(&mut Database) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let mut inner = self.inner.lock();
        if inner.away {
            return Err(LogError::Away("it was taken away".into()));
        }
        if let Some(ours) = epoch
            && inner.database.epoch != ours
        {
            let found = inner.database.epoch;
            return Err(LogError::Fenced { ours, found });
        }
        act(&mut inner.database)
    }
}

impl Database {
    fn incarnation(&self) -> Incarnation {
        Incarnation(format!("memory-{}", self.incarnation).into())
    }

    fn load(&self, max_changes: usize) -> Loaded {
        let skip = self.changes.len().saturating_sub(max_changes);
        Loaded {
            cluster: "memory".into(),
            incarnation: self.incarnation(),
            epoch: self.epoch,
            batch: self.batch,
            version: self.version,
            objects: self
                .objects
                .iter()
                .map(|(id, object)| (*id, Object::clone(object)))
                .collect(),
            changes: self.changes.range(skip..).cloned().collect(),
            notes: self.notes.clone(),
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), LogError> {
        if batch.number != self.batch + 1 {
            return Err(LogError::Refused(format!(
                "batch {} does not follow batch {}",
                batch.number, self.batch
            )));
        }
        if let Some(row) = batch.rows.iter().find(|row| self.refused.contains(&row.key)) {
            return Err(LogError::Refused(format!("a row of {} breaks a rule", row.key)));
        }
        for note in &batch.notes {
            if let Note::Revision { write, staged: true } = note
                && self.staged != write.put.len() + write.drop.len()
            {
                return Err(LogError::Refused("not all rows of the revision are staged".into()));
            }
            if matches!(note, Note::Revision { .. }) {
                self.staged = 0;
            }
        }
        self.batch = batch.number;
        self.version = batch.version;
        for row in &batch.rows {
            match &row.new {
                Some(new) => self.objects.insert(row.id, new.clone()),
                None => self.objects.remove(&row.id),
            };
            self.changes.push_back((batch.at, row.change()));
        }
        for note in &batch.notes {
            self.notes.apply(note);
            match note {
                Note::Revision { write, .. } => self.revisions.push((write.line(), self.notes.desired.clone())),
                Note::Audit(line) => self.audit.push(line.clone()),
                _ => {}
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn take_office(&self, max_changes: usize) -> Result<Loaded, LogError> {
        self.with(None, |database| {
            database.epoch += 1;
            Ok(database.load(max_changes))
        })
    }

    async fn commit(&self, epoch: u64, batch: &Batch) -> Result<(), LogError> {
        let fault = {
            let mut inner = self.inner.lock();
            let fault = inner.faults.pop_front();
            if fault == Some(Fault::Fenced) {
                inner.database.epoch += 1;
            }
            fault
        };
        match fault {
            Some(Fault::Refused) => return Err(LogError::Refused("a fault was injected".into())),
            Some(Fault::LostBefore) => return Err(LogError::Unknown("lost before the commit".into())),
            Some(Fault::LostAfter | Fault::Fenced) | None => {}
        }
        self.with(Some(epoch), |database| database.commit(batch))?;
        match fault {
            Some(Fault::LostAfter) => Err(LogError::Unknown("lost after the commit".into())),
            _ => Ok(()),
        }
    }

    async fn renew(&self, epoch: u64) -> Result<(), LogError> {
        self.with(Some(epoch), |_| Ok(()))
    }

    async fn recover(&self, epoch: u64) -> Result<Standing, LogError> {
        self.with(None, |database| {
            // A database restored to an older state has an older epoch of ours, or of none.
            if database.epoch > epoch {
                return Err(LogError::Fenced {
                    ours: epoch,
                    found: database.epoch,
                });
            }
            database.epoch = epoch + 1;
            Ok(Standing {
                epoch: database.epoch,
                cluster: "memory".into(),
                incarnation: database.incarnation(),
                batch: database.batch,
                version: database.version,
            })
        })
    }

    async fn reload(&self, epoch: u64, max_changes: usize) -> Result<Loaded, LogError> {
        self.with(Some(epoch), |database| {
            database.incarnation += 1;
            Ok(database.load(max_changes))
        })
    }

    async fn stage(&self, epoch: u64, stage: &Stage) -> Result<(), LogError> {
        self.with(Some(epoch), |database| {
            if stage.write.base != database.notes.desired.revision {
                return Err(LogError::Refused("it does not follow on the newest revision".into()));
            }
            database.staged += stage.put().len() + stage.drop().len();
            Ok(())
        })
    }

    async fn unstage(&self, epoch: u64) -> Result<bool, LogError> {
        self.with(Some(epoch), |database| {
            database.staged = 0;
            Ok(false)
        })
    }

    async fn tidy(&self, epoch: u64, tidy: &Tidy) -> Result<bool, LogError> {
        self.with(Some(epoch), |database| {
            let keep = usize::try_from(tidy.keep_changes).unwrap_or(usize::MAX);
            while database.changes.len() > keep
                && database
                    .changes
                    .front()
                    .is_some_and(|(at, _)| *at < tidy.changes_before)
            {
                database.changes.pop_front();
            }
            let keep = usize::try_from(tidy.keep_revisions).unwrap_or(usize::MAX);
            while database.revisions.len() > keep && database.revisions[0].0.at < tidy.revisions_before {
                database.revisions.remove(0);
            }
            database.audit.retain(|line| line.at >= tidy.audit_before);
            database.notes.deliveries.retain(|_, at| *at >= tidy.deliveries_before);
            Ok(false)
        })
    }

    async fn revisions(&self, limit: usize) -> Result<Vec<Revision>, LogError> {
        self.with(None, |database| {
            let newest = database.revisions.iter().rev().take(limit);
            Ok(newest.map(|(line, _)| line.clone()).collect())
        })
    }

    async fn desired_at(&self, revision: u64) -> Result<Option<Desired>, LogError> {
        self.with(None, |database| {
            let found = database.revisions.iter().find(|(line, _)| line.number == revision);
            Ok(found.map(|(_, desired)| Desired::clone(desired)))
        })
    }

    async fn declarations(&self, key: &Key, limit: usize) -> Result<Vec<DesiredRow>, LogError> {
        self.with(None, |database| {
            let mut found: Vec<DesiredRow> = Vec::new();
            let mut declared = false;
            for (_, desired) in &database.revisions {
                let row = desired.rows.get(key);
                if let Some(row) = row.filter(|row| !declared || found.last() != Some(&***row)) {
                    found.push(DesiredRow::clone(row));
                }
                declared = row.is_some();
            }
            found.reverse();
            found.truncate(limit);
            Ok(found)
        })
    }

    async fn audited(&self, limit: usize) -> Result<Vec<AuditLine>, LogError> {
        self.with(None, |database| {
            Ok(database.audit.iter().rev().take(limit).cloned().collect())
        })
    }
}
