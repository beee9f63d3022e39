//! Making a batch durable: rows to columns, columns to a few statements, one transaction.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use schemas::{Body, Key, Object};
use tokio_postgres::{Client, Statement, types::ToSql};

use crate::{
    judge::{Row, Touched},
    log::{Batch, LogError},
    notes::Note,
};

use super::{
    connect::Session,
    pipeline::{Call, run},
    seal::{ContentId, Sealer},
    signed,
};

/// Bits of `changes.touched`.
pub(super) mod bit {
    pub(crate) const META: i16 = 1;
    pub(crate) const BODY: i16 = 2;
    pub(crate) const NODE: i16 = 4;
    pub(crate) const STATUS: i16 = 8;
    pub(crate) const CREATED: i16 = 16;
    pub(crate) const REMOVED: i16 = 32;
}

/// What a packed status starts with in the database; no JSON text starts so.
pub(super) const PACKED: u8 = 1;

const ADVANCE: &str = "select advance($1, $2, $3)";
const BODIES: &str =
    "insert into bodies (id, sealed) select * from unnest($1::bytea[], $2::bytea[]) on conflict do nothing";
const DELETE_OBJECTS: &str = "delete from objects where id = any($1)";
const DELETE_STATES: &str = "delete from states where id = any($1)";
const INSERT_OBJECTS: &str = "insert into objects (id, kind, namespace, name, uid, meta, body)
    select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[])";
const INSERT_STATES: &str = "insert into states (id, version, node, status)
    select * from unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[])";
const UPDATE_OBJECTS: &str = "update objects set meta = u.meta, body = u.body
    from unnest($1::bigint[], $2::bytea[], $3::bytea[]) u (id, meta, body) where objects.id = u.id";
const UPDATE_VERSIONS: &str = "update states set version = u.version
    from unnest($1::bigint[], $2::bigint[]) u (id, version) where states.id = u.id";
const UPDATE_STATES: &str = "update states set version = u.version, node = u.node, status = u.status
    from unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[]) u (id, version, node, status)
    where states.id = u.id";
const CHANGES: &str = "insert into changes
    (version, at, object, touched, kind, old_version, old_meta, old_body, old_node, old_status)
    select v, $2, o, t, k, ov, om, ob, n, s from unnest($1::bigint[], $3::bigint[], $4::smallint[], $5::text[],
        $6::bigint[], $7::bytea[], $8::bytea[], $9::text[], $10::bytea[]) u (v, o, t, k, ov, om, ob, n, s)";

/// One statement with its parameters.
pub(super) struct Step {
    pub(super) sql: &'static str,
    pub(super) params: Vec<Box<dyn ToSql + Sync + Send>>,
}

macro_rules! step {
    ($sql:expr $(, $param:expr)* $(,)?) => {
        $crate::postgres::commit::Step { sql: $sql, params: vec![$(Box::new($param)),*] }
    };
}
pub(super) use step;

pub(super) async fn commit(session: &mut Session, sealer: &Sealer, epoch: u64, batch: &Batch) -> Result<(), LogError> {
    transact(session, epoch, steps(sealer, epoch, batch)?).await
}

/// Runs statements as one transaction, sent in one go.
pub(super) async fn transact(session: &mut Session, epoch: u64, steps: Vec<Step>) -> Result<(), LogError> {
    let mut prepared = Vec::with_capacity(steps.len());
    for step in &steps {
        prepared.push(session.statement(step.sql).await?);
    }
    let client = &session.client;
    let mut calls: Vec<Call<'_>> = Vec::with_capacity(steps.len() + 2);
    // A plan made when the tables were small must not turn into a scan of them when they are large:
    // every join here is by key.
    calls.push(Box::pin(client.batch_execute(
        "begin; set local enable_hashjoin = off; set local enable_mergejoin = off",
    )));
    for (step, statement) in steps.iter().zip(prepared) {
        calls.push(Box::pin(execute(client, statement, step)));
    }
    calls.push(Box::pin(client.batch_execute("commit")));
    run(calls).await.map_err(|error| match error {
        LogError::Fenced { found, .. } => LogError::Fenced { ours: epoch, found },
        error => error,
    })
}

async fn execute(client: &Client, statement: Statement, step: &Step) -> Result<(), tokio_postgres::Error> {
    let params = step.params.iter().map(|param| &**param as &(dyn ToSql + Sync));
    client.execute_raw(&statement, params).await.map(|_| ())
}

fn steps(sealer: &Sealer, epoch: u64, batch: &Batch) -> Result<Vec<Step>, LogError> {
    let mut steps = vec![step!(
        ADVANCE,
        signed(epoch),
        signed(batch.number),
        signed(batch.version)
    )];
    let mut bodies = Bodies::default();
    for row in &batch.rows {
        if let (Some(new), true) = (&row.new, row.touched.body) {
            bodies.add(sealer, &new.body)?;
        }
    }
    for note in &batch.notes {
        if let Note::Revision { write, staged: false } = note {
            for row in &write.put {
                bodies.add_content(sealer, row)?;
            }
        }
    }
    bodies.steps(&mut steps);
    if !batch.rows.is_empty() {
        object_steps(&mut steps, sealer, &batch.rows)?;
        steps.push(changes(sealer, batch)?);
    }
    super::notes::steps(&mut steps, sealer, batch)?;
    Ok(steps)
}

/// Each content once, in the order of ids, so that concurrent batches could not deadlock.
#[derive(Default)]
pub(super) struct Bodies {
    sealed: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Bodies {
    fn add(&mut self, sealer: &Sealer, body: &Body) -> Result<(), LogError> {
        let id = sealer.content_id(body.hash());
        if !self.sealed.contains_key(&id[..]) {
            let text = json(body.packed())?;
            self.sealed.insert(id.into(), sealer.seal("body", &id, &text));
        }
        Ok(())
    }

    pub(super) fn steps(self, steps: &mut Vec<Step>) {
        if !self.sealed.is_empty() {
            let (ids, sealed): (Vec<_>, Vec<_>) = self.sealed.into_iter().unzip();
            steps.push(step!(BODIES, ids, sealed));
        }
    }

    pub(super) fn add_content(&mut self, sealer: &Sealer, row: &crate::DesiredRow) -> Result<(), LogError> {
        let id = sealer.content_id(row.hash);
        if !self.sealed.contains_key(&id[..]) {
            let text = json(&*row.content)?;
            self.sealed.insert(id.into(), sealer.seal("body", &id, &text));
        }
        Ok(())
    }
}

/// What a batch makes of one object in the end.
struct End<'a> {
    existed: bool,
    new: Option<&'a Object>,
    key: &'a Key,
    touched: Touched,
}

fn object_steps(steps: &mut Vec<Step>, sealer: &Sealer, rows: &[Row]) -> Result<(), LogError> {
    let mut place: FxHashMap<u64, usize> = FxHashMap::default();
    let mut ends: Vec<(u64, End<'_>)> = Vec::new();
    for row in rows {
        let at = *place.entry(row.id).or_insert_with(|| {
            let end = End {
                existed: row.old.is_some(),
                new: None,
                key: &row.key,
                touched: Touched::default(),
            };
            ends.push((row.id, end));
            ends.len() - 1
        });
        let end = &mut ends[at].1;
        end.new = row.new.as_deref();
        end.touched.meta |= row.touched.meta;
        end.touched.body |= row.touched.body;
        end.touched.node |= row.touched.node;
        end.touched.status |= row.touched.status;
    }

    let mut removed = Vec::new();
    let mut made = Wide::default();
    let mut made_states = Narrow::default();
    let mut wide = Wide::default();
    let mut narrow = Narrow::default();
    let mut moved = Narrow::default();
    for (id, end) in ends {
        match (end.existed, end.new) {
            (true, None) => removed.push(signed(id)),
            (false, None) => {}
            (false, Some(new)) => {
                made.add(sealer, id, end.key, new)?;
                made_states.add(id, new);
            }
            (true, Some(new)) => {
                if end.touched.meta || end.touched.body {
                    wide.add(sealer, id, end.key, new)?;
                }
                if end.touched.node || end.touched.status {
                    narrow.add(id, new);
                } else {
                    moved.ids.push(signed(id));
                    moved.versions.push(signed(new.version));
                }
            }
        }
    }
    // A name may be free again: what goes, goes first.
    if !removed.is_empty() {
        steps.push(step!(DELETE_OBJECTS, removed.clone()));
        steps.push(step!(DELETE_STATES, removed));
    }
    if !made.ids.is_empty() {
        steps.push(step!(
            INSERT_OBJECTS,
            made.ids,
            made.kinds,
            made.namespaces,
            made.names,
            made.uids,
            made.metas,
            made.bodies
        ));
        steps.push(step!(
            INSERT_STATES,
            made_states.ids,
            made_states.versions,
            made_states.nodes,
            made_states.statuses
        ));
    }
    if !wide.ids.is_empty() {
        steps.push(step!(UPDATE_OBJECTS, wide.ids, wide.metas, wide.bodies));
    }
    if !narrow.ids.is_empty() {
        steps.push(step!(
            UPDATE_STATES,
            narrow.ids,
            narrow.versions,
            narrow.nodes,
            narrow.statuses
        ));
    }
    if !moved.ids.is_empty() {
        steps.push(step!(UPDATE_VERSIONS, moved.ids, moved.versions));
    }
    Ok(())
}

/// Columns of `objects`.
#[derive(Default)]
struct Wide {
    ids: Vec<i64>,
    kinds: Vec<&'static str>,
    namespaces: Vec<String>,
    names: Vec<String>,
    uids: Vec<String>,
    metas: Vec<Vec<u8>>,
    bodies: Vec<Vec<u8>>,
}

impl Wide {
    fn add(&mut self, sealer: &Sealer, id: u64, key: &Key, object: &Object) -> Result<(), LogError> {
        self.ids.push(signed(id));
        self.kinds.push(key.kind.info().name);
        self.namespaces.push(key.ns().to_owned());
        self.names.push(key.name.to_string());
        self.uids.push(object.uid().to_string());
        self.metas.push(meta(sealer, id, object)?);
        self.bodies.push(sealer.content_id(object.body.hash()).into());
        Ok(())
    }
}

/// Columns of `states`.
#[derive(Default)]
struct Narrow {
    ids: Vec<i64>,
    versions: Vec<i64>,
    nodes: Vec<Option<String>>,
    statuses: Vec<Option<Vec<u8>>>,
}

impl Narrow {
    fn add(&mut self, id: u64, object: &Object) {
        self.ids.push(signed(id));
        self.versions.push(signed(object.version));
        self.nodes.push(object.node.as_deref().map(str::to_owned));
        self.statuses.push(status(object));
    }
}

fn changes(sealer: &Sealer, batch: &Batch) -> Result<Step, LogError> {
    let count = batch.rows.len();
    let mut versions = Vec::with_capacity(count);
    let mut objects = Vec::with_capacity(count);
    let mut touched = Vec::with_capacity(count);
    let mut kinds: Vec<Option<&'static str>> = Vec::with_capacity(count);
    let mut old_versions: Vec<Option<i64>> = Vec::with_capacity(count);
    let mut metas: Vec<Option<Vec<u8>>> = Vec::with_capacity(count);
    let mut bodies: Vec<Option<Vec<u8>>> = Vec::with_capacity(count);
    let mut nodes: Vec<Option<String>> = Vec::with_capacity(count);
    let mut statuses: Vec<Option<Vec<u8>>> = Vec::with_capacity(count);
    for row in &batch.rows {
        let mut bits = 0;
        let (mut was_meta, mut was_body, mut was_node, mut was_status) = (None, None, None, None);
        if let Some(old) = &row.old {
            let removed = row.new.is_none();
            if removed {
                bits |= bit::REMOVED;
            }
            if removed || row.touched.meta {
                bits |= bit::META;
                was_meta = Some(meta(sealer, row.id, old)?);
            }
            if removed || row.touched.body {
                bits |= bit::BODY;
                let id: ContentId = sealer.content_id(old.body.hash());
                was_body = Some(Vec::from(id));
            }
            if removed || row.touched.node {
                bits |= bit::NODE;
                was_node = old.node.as_deref().map(str::to_owned);
            }
            if removed || row.touched.status {
                bits |= bit::STATUS;
                was_status = status(old);
            }
        } else {
            bits |= bit::CREATED;
        }
        versions.push(signed(row.version));
        objects.push(signed(row.id));
        touched.push(bits);
        // The object's own row says what kind it is, as long as there is one.
        kinds.push((bits & bit::REMOVED != 0).then_some(row.key.kind.info().name));
        old_versions.push(row.old.as_ref().map(|old| signed(old.version)));
        metas.push(was_meta);
        bodies.push(was_body);
        nodes.push(was_node);
        statuses.push(was_status);
    }
    Ok(step!(
        CHANGES,
        versions,
        batch.at,
        objects,
        touched,
        kinds,
        old_versions,
        metas,
        bodies,
        nodes,
        statuses
    ))
}

fn meta(sealer: &Sealer, id: u64, object: &Object) -> Result<Vec<u8>, LogError> {
    Ok(sealer.seal("meta", &id.to_le_bytes(), &json(&object.meta)?))
}

fn status(object: &Object) -> Option<Vec<u8>> {
    let packed = object.status.as_ref()?.bytes();
    Some([&[PACKED], packed].concat())
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, LogError> {
    serde_json::to_vec(value).map_err(|error| LogError::Refused(error.to_string()))
}

pub(super) fn text(value: &impl serde::Serialize) -> Result<String, LogError> {
    serde_json::to_string(value).map_err(|error| LogError::Refused(error.to_string()))
}
