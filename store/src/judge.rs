//! Judging: a batch of writes against the copy and what the batch did before.
//!
//! Pure. One write that fails fails alone; those that are accepted get consecutive versions.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use schemas::{Key, Kind, Object, Packed, Uid};

use crate::{
    Op, Write, WriteError,
    admission::Admission,
    copy::{Entry, Objects},
    intern::Interner,
    quota::{Ledger, is_of_quota},
};

/// Which parts of an object a row changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub meta: bool,
    pub body: bool,
    pub node: bool,
    pub status: bool,
}

/// One accepted write: what the log makes durable and the copy then takes.
#[derive(Clone, Debug)]
pub struct Row {
    pub version: u64,
    /// Names the object's row in the log: the version at which it was created.
    pub id: u64,
    pub key: Key,
    /// None: the object is new.
    pub old: Option<Arc<Object>>,
    /// None: the object is removed.
    pub new: Option<Arc<Object>>,
    pub touched: Touched,
}

/// Judges one batch.
pub(crate) struct Judge<'a> {
    objects: &'a Objects,
    interner: &'a mut Interner,
    admission: Option<&'a mut Admission>,
    /// Ranges of limits that the batch wrote.
    ranges: Vec<Key>,
    /// What the batch did so far; None: removed.
    done: FxHashMap<Key, Option<Entry>>,
    /// Uids that the batch took (true) or freed (false).
    uids: FxHashMap<Uid, bool>,
    /// Of namespaces that the batch looked at: what quotas have counted; None: there are none.
    ledgers: FxHashMap<Arc<str>, Option<Ledger>>,
    version: u64,
    rows: Vec<Row>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(objects: &'a Objects, interner: &'a mut Interner, admission: Option<&'a mut Admission>) -> Self {
        Self {
            version: objects.version(),
            objects,
            interner,
            admission,
            ranges: Vec::new(),
            done: FxHashMap::default(),
            uids: FxHashMap::default(),
            ledgers: FxHashMap::default(),
            rows: Vec::new(),
        }
    }

    /// The rows that were accepted, in the order of their versions.
    pub(crate) fn finish(self) -> Vec<Row> {
        self.rows
    }

    /// Accepts or refuses one write. A write that changes nothing is accepted without a row.
    pub(crate) fn judge(&mut self, write: Write) -> Result<Arc<Object>, WriteError> {
        let Write { op, uid, version } = write;
        match op {
            Op::Create(object) => self.create(object),
            Op::Replace(object) => {
                let key = self.interner.key(&object);
                let entry = self.expect(&key, uid.as_ref(), version)?;
                self.replace(key, entry, object, None)
            }
            Op::Retire { object, status } => {
                let key = self.interner.key(&object);
                let entry = self.expect(&key, uid.as_ref(), version)?;
                self.replace(key, entry, object, Some(status))
            }
            Op::Status { key, status } => {
                let entry = self.expect(&key, uid.as_ref(), version)?;
                self.status(key, entry, status)
            }
            Op::Bind { key, node, status } => {
                let entry = self.expect(&key, uid.as_ref(), version)?;
                self.bind(key, entry, &node, status)
            }
            Op::Remove { key } => {
                let entry = self.expect(&key, uid.as_ref(), version)?;
                if !finalizers(&entry.object).is_empty() {
                    return Err(conflict(key, "it still has finalizers; remove them first"));
                }
                let mut last = Object::clone(&entry.object);
                last.version = self.version + 1;
                self.accept_removal(key, entry);
                Ok(Arc::new(last))
            }
        }
    }

    fn current(&self, key: &Key) -> Option<Entry> {
        match self.done.get(key) {
            Some(done) => done.clone(),
            None => self.objects.entry(key).cloned(),
        }
    }

    /// The object as it is now, if it is there and the preconditions hold.
    fn expect(&self, key: &Key, uid: Option<&Uid>, version: Option<u64>) -> Result<Entry, WriteError> {
        let entry = self.current(key).ok_or_else(|| WriteError::NotFound(key.clone()))?;
        let found = entry.object.uid();
        if let Some(uid) = uid
            && *uid != found
        {
            return Err(conflict(
                key.clone(),
                format!("its uid is {found}, the write is for {uid}"),
            ));
        }
        if let Some(version) = version
            && version != entry.object.version
        {
            return Err(conflict(
                key.clone(),
                format!(
                    "it is at version {}, the write was made against {version}; read it again",
                    entry.object.version
                ),
            ));
        }
        Ok(entry)
    }

    fn create(&mut self, mut object: Object) -> Result<Arc<Object>, WriteError> {
        let key = self.interner.key(&object);
        well_formed(&key, &object)?;
        if self.current(&key).is_some() {
            return Err(WriteError::AlreadyExists(key));
        }
        let uid = object.uid();
        let taken = match self.uids.get(&uid) {
            Some(taken) => *taken,
            None => self.objects.has_uid(&uid),
        };
        if taken {
            return Err(invalid(key, format!("the uid {uid} belongs to another object")));
        }
        self.admit(&key, &mut object)?;
        self.within_quotas(&key, None, &object)?;
        let generation = object.kind.info().generation.then_some(1);
        if object.meta.generation != generation {
            object.meta.generation = generation;
        }
        self.interner.object(&mut object);
        let id = self.version + 1;
        let touched = Touched {
            meta: true,
            body: true,
            node: object.node.is_some(),
            status: object.status.is_some(),
        };
        self.uids.insert(uid, true);
        Ok(self.accept(key, id, None, object, touched))
    }

    /// Makes of a new object what the accounts and the ranges of limits of its namespace say.
    fn admit(&mut self, key: &Key, object: &mut Object) -> Result<(), WriteError> {
        let (Some(space), true) = (&key.namespace, schemas::admission::concerns(key.kind)) else {
            return Ok(());
        };
        if self.admission.is_none() {
            return Ok(());
        }
        let account = match key.kind {
            Kind::Pod => self.current(&schemas::admission::account_of(object)),
            _ => None,
        };
        let account = account.map(|entry| entry.object);
        let mut ranges: Vec<Key> = self
            .objects
            .list(Kind::LimitRange, Some(space), None)
            .map(|it| it.key())
            .collect();
        ranges.extend(
            self.ranges
                .iter()
                .filter(|range| range.namespace.as_ref() == Some(space))
                .cloned(),
        );
        ranges.sort();
        ranges.dedup();
        let ranges: Vec<_> = ranges
            .iter()
            .filter_map(|range| Some(self.current(range)?.object))
            .collect();
        let Some(admission) = &mut self.admission else {
            return Ok(());
        };
        let admitted = admission.admit(space, object, account.as_ref(), &ranges);
        admitted.map_err(|reason| WriteError::Forbidden {
            key: key.clone(),
            reason,
        })
    }

    /// Replaces an object; its status stays unless one is given.
    fn replace(
        &mut self,
        key: Key,
        entry: Entry,
        mut object: Object,
        status: Option<Packed>,
    ) -> Result<Arc<Object>, WriteError> {
        if status.is_some() && !key.kind.info().status {
            return Err(invalid(key, "this kind has no status"));
        }
        let old = &entry.object;
        let uid = object.uid();
        if uid.0.is_empty() {
            object.meta.uid = old.meta.uid.clone();
        } else if uid != old.uid() {
            return Err(conflict(key, format!("its uid is {}, the write has {uid}", old.uid())));
        }
        well_formed(&key, &object)?;
        // What is as it was is not touched, so that it stays one value in memory with what it was.
        if object.meta.creation_timestamp != old.meta.creation_timestamp {
            object.meta.creation_timestamp = old.meta.creation_timestamp.clone();
        }
        if old.is_deleting() && !object.is_deleting() {
            // A deletion once begun is never taken back.
            object.meta.deletion_timestamp = old.meta.deletion_timestamp.clone();
            object.meta.deletion_grace_period_seconds = old.meta.deletion_grace_period_seconds;
        }
        object.node.clone_from(&old.node);
        object.status = status.or_else(|| old.status.clone());
        let body = object.body.hash() != old.body.hash();
        let generation = if object.kind.info().generation {
            Some(old.meta.generation.unwrap_or(1) + i64::from(body))
        } else {
            old.meta.generation
        };
        if object.meta.generation != generation {
            object.meta.generation = generation;
        }
        let meta = object.meta != old.meta;
        let status = object.status != old.status;
        match (meta, body || status) {
            (false, false) => return Ok(entry.object),
            (false, true) => object.meta = old.meta.clone(),
            (true, _) => self.interner.meta(&mut object.meta),
        }
        if body {
            let old = old.clone();
            self.within_quotas(&key, Some(&old), &object)?;
        }
        if ends_with_this(&entry.object, &object) {
            object.version = self.version + 1;
            self.accept_removal(key, entry);
            return Ok(Arc::new(object));
        }
        object.body = if body {
            self.interner.body(object.body)
        } else {
            entry.object.body.clone()
        };
        let touched = Touched {
            meta,
            body,
            status,
            ..Touched::default()
        };
        Ok(self.accept(key, entry.id, Some(entry.object), object, touched))
    }

    fn status(&mut self, key: Key, entry: Entry, status: Packed) -> Result<Arc<Object>, WriteError> {
        if !key.kind.info().status {
            return Err(invalid(key, "this kind has no status"));
        }
        if entry.object.status.as_ref() == Some(&status) {
            return Ok(entry.object);
        }
        let mut object = Object::clone(&entry.object);
        object.status = Some(status);
        let touched = Touched {
            status: true,
            ..Touched::default()
        };
        Ok(self.accept(key, entry.id, Some(entry.object), object, touched))
    }

    fn bind(&mut self, key: Key, entry: Entry, node: &str, status: Option<Packed>) -> Result<Arc<Object>, WriteError> {
        if key.kind != Kind::Pod {
            return Err(invalid(key, "only a pod is bound to a node"));
        }
        if node.is_empty() || node.contains('\0') {
            return Err(invalid(key, format!("{node:?} is no name of a node")));
        }
        if let Some(bound) = &entry.object.node {
            return Err(conflict(key, format!("it is bound to node {bound} already")));
        }
        if entry.object.is_deleting() {
            return Err(conflict(key, "it is being deleted"));
        }
        let mut object = Object::clone(&entry.object);
        object.node = Some(self.interner.name(node));
        let touched = Touched {
            node: true,
            status: status.is_some(),
            ..Touched::default()
        };
        if let Some(status) = status {
            object.status = Some(status);
        }
        Ok(self.accept(key, entry.id, Some(entry.object), object, touched))
    }

    fn accept(
        &mut self,
        key: Key,
        id: u64,
        old: Option<Arc<Object>>,
        mut object: Object,
        touched: Touched,
    ) -> Arc<Object> {
        self.version += 1;
        object.version = self.version;
        let object = Arc::new(object);
        self.book(&key, old.as_deref(), Some(&object));
        self.done.insert(
            key.clone(),
            Some(Entry {
                id,
                object: object.clone(),
            }),
        );
        self.rows.push(Row {
            version: self.version,
            id,
            key,
            old,
            new: Some(object.clone()),
            touched,
        });
        object
    }

    /// What the quotas of a namespace have counted, this batch included.
    fn ledger(&mut self, namespace: &Arc<str>) -> &mut Option<Ledger> {
        let objects = self.objects;
        let fresh = || objects.ledger(namespace).cloned();
        self.ledgers.entry(namespace.clone()).or_insert_with(fresh)
    }

    /// Each write is judged after those before it in its batch, so that none is let in twice.
    fn within_quotas(&mut self, key: &Key, old: Option<&Object>, new: &Object) -> Result<(), WriteError> {
        let Some(space) = &key.namespace else { return Ok(()) };
        let Some(ledger) = self.ledger(space) else {
            return Ok(());
        };
        let forbidden = |reason| WriteError::Forbidden {
            key: key.clone(),
            reason,
        };
        ledger.admit(old, new).map_err(forbidden)
    }

    fn book(&mut self, key: &Key, old: Option<&Object>, new: Option<&Arc<Object>>) {
        if key.kind == Kind::LimitRange {
            self.ranges.push(key.clone());
        }
        let Some(space) = &key.namespace else { return };
        if is_of_quota(key.kind, old, new.map(|new| &**new)) {
            let there = self.objects.in_namespace(space);
            let there = there.filter(|object| object.key() != *key && !self.done.contains_key(&object.key()));
            let made = self.done.values().flatten().map(|entry| &entry.object);
            let made = made.filter(|object| object.namespace() == &**space && object.key() != *key);
            let ledger = Ledger::count(there.chain(made).chain(new));
            self.ledgers.insert(space.clone(), Some(ledger));
        } else if let Some(ledger) = self.ledger(space) {
            ledger.charge(old, new.map(|new| &**new));
        }
    }

    fn accept_removal(&mut self, key: Key, entry: Entry) {
        self.version += 1;
        self.uids.insert(entry.object.uid(), false);
        self.book(&key, Some(&entry.object), None);
        self.done.insert(key.clone(), None);
        self.rows.push(Row {
            version: self.version,
            id: entry.id,
            key,
            old: Some(entry.object),
            new: None,
            touched: Touched::default(),
        });
    }
}

fn finalizers(object: &Object) -> &[String] {
    object.meta.finalizers.as_deref().map(Vec::as_slice).unwrap_or_default()
}

/// A replacement that takes the last finalizer off an object in deletion ends it, unless it is a pod
/// whose grace period still runs.
fn ends_with_this(old: &Object, new: &Object) -> bool {
    let grace = new.meta.deletion_grace_period_seconds.unwrap_or(0);
    new.is_deleting()
        && !finalizers(old).is_empty()
        && finalizers(new).is_empty()
        && (new.kind != Kind::Pod || grace == 0 || new.node.is_none())
}

/// What the log could not keep, or the copy not find again, is refused here.
fn well_formed(key: &Key, object: &Object) -> Result<(), WriteError> {
    let info = key.kind.info();
    let uid = object.uid();
    let reason = if key.name.is_empty() {
        "it has no name"
    } else if uid.0.is_empty() {
        "it has no uid"
    } else if info.namespaced && key.ns().is_empty() {
        "it has no namespace, and its kind needs one"
    } else if !info.namespaced && key.namespace.is_some() {
        "it has a namespace, and its kind has none"
    } else if [&*key.name, key.ns(), &*uid.0, object.node.as_deref().unwrap_or("")]
        .iter()
        .any(|text| text.contains('\0'))
    {
        "a name, a uid or a node contains a zero byte"
    } else {
        return Ok(());
    };
    Err(invalid(key.clone(), reason))
}

fn conflict(key: Key, reason: impl Into<String>) -> WriteError {
    WriteError::Conflict {
        key,
        reason: reason.into(),
    }
}

fn invalid(key: Key, reason: impl Into<String>) -> WriteError {
    WriteError::Invalid {
        key,
        reason: reason.into(),
    }
}

impl Row {
    #[must_use]
    pub fn change(&self) -> crate::Change {
        crate::Change {
            version: self.version,
            old: self.old.clone(),
            new: self.new.clone(),
        }
    }
}
