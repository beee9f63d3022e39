//! Reading what the database holds.

use std::{pin::pin, sync::Arc, time::Instant};

use futures::TryStreamExt as _;
use jiff::Timestamp;
use rustc_hash::{FxHashMap, FxHashSet};
use schemas::{Body, ContentHash, Key, Kind, Object, Packed, Unit, node::Incarnation, shared::SharedMap};
use serde::de::DeserializeOwned;
use tokio_postgres::{Row, types::ToSql};

use crate::{
    desired::{Confirmation, Desired, DesiredRow, Mark, Revision},
    log::{Loaded, LogError},
    notes::Notes,
    watch::Change,
    write::AuditLine,
};

use super::{
    commit::{PACKED, bit},
    connect::{Session, reading},
    notes::KeptMark,
    seal::Sealer,
    signed, unsigned,
};

type Bodies = FxHashMap<Vec<u8>, Arc<Body>>;

pub(super) async fn load(
    session: &Session,
    sealer: &Sealer,
    epoch: u64,
    max_changes: usize,
) -> Result<Loaded, LogError> {
    let row = session
        .client
        .query_one(
            "select c.id, c.incarnation, p.batch, p.version from cluster c, progress p",
            &[],
        )
        .await
        .map_err(reading)?;
    let version = unsigned(row.get(3));
    let start = Instant::now();
    let bodies = bodies(session, sealer).await?;
    tracing::debug!(bodies = bodies.len(), elapsed = ?start.elapsed(), "loaded bodies");
    let objects = objects(session, sealer, &bodies).await?;
    tracing::debug!(objects = objects.len(), elapsed = ?start.elapsed(), "loaded objects");
    let changes = changes(session, sealer, &bodies, &objects, version, max_changes).await?;
    tracing::debug!(changes = changes.len(), elapsed = ?start.elapsed(), "loaded the change log");
    Ok(Loaded {
        cluster: row.get::<_, &str>(0).into(),
        incarnation: Incarnation(row.get::<_, &str>(1).into()),
        epoch,
        batch: unsigned(row.get(2)),
        version,
        objects,
        changes,
        notes: notes(session, sealer).await?,
    })
}

/// Runs a query and hands each row on as it comes, so that no second copy of all of them is held.
async fn each(
    session: &Session,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
    mut take: impl FnMut(&Row) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let rows = session
        .client
        .query_raw(sql, params.iter().copied())
        .await
        .map_err(reading)?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(reading)? {
        take(&row)?;
    }
    Ok(())
}

async fn bodies(session: &Session, sealer: &Sealer) -> Result<Bodies, LogError> {
    let mut bodies = Bodies::default();
    let used = "select id, sealed from bodies where id in
        (select body from objects union select old_body from changes where old_body is not null)";
    each(session, used, &[], |row| {
        let id: Vec<u8> = row.get(0);
        let plain = sealer.open("body", &id, row.get(1))?;
        bodies.insert(id, Body::new(parse("a body", &plain)?));
        Ok(())
    })
    .await?;
    Ok(bodies)
}

async fn objects(session: &Session, sealer: &Sealer, bodies: &Bodies) -> Result<Vec<(u64, Object)>, LogError> {
    let mut objects = Vec::new();
    let all = "select id, kind, meta, body, version, node, status from objects join states using (id) order by id";
    each(session, all, &[], |row| {
        let id = unsigned(row.get(0));
        let object = Object {
            kind: kind(row.get(1))?,
            meta: meta(sealer, id, row.get(2))?,
            body: body(bodies, row.get(3))?,
            version: unsigned(row.get(4)),
            node: row.get::<_, Option<&str>>(5).map(Into::into),
            status: status(row.get(6))?,
        };
        objects.push((id, object));
        Ok(())
    })
    .await?;
    Ok(objects)
}

/// Walks the change log from the present into the past: each row says what its change undid.
async fn changes(
    session: &Session,
    sealer: &Sealer,
    bodies: &Bodies,
    objects: &[(u64, Object)],
    version: u64,
    max: usize,
) -> Result<Vec<(Timestamp, Change)>, LogError> {
    let place: FxHashMap<u64, usize> = objects.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
    let mut states: FxHashMap<u64, Arc<Object>> = FxHashMap::default();
    let mut changes: Vec<(Timestamp, Change)> = Vec::new();
    let mut next = version;
    let mut whole = true;
    let newest = "select version, at, object, touched, kind, old_version, old_meta, old_body, old_node, old_status
        from changes order by version desc limit $1";
    let limit = i64::try_from(max).unwrap_or(i64::MAX);
    each(session, newest, &[&limit], |row| {
        let found = unsigned(row.get(0));
        // Behind a hole nothing can be told for sure: watches from before it must list again.
        if !whole || found != next {
            whole = false;
            return Ok(());
        }
        let id = unsigned(row.get(2));
        let touched: i16 = row.get(3);
        let removed = touched & bit::REMOVED != 0;
        let new = if removed {
            None
        } else {
            let known = states.remove(&id).or_else(|| {
                let (_, object) = &objects[*place.get(&id)?];
                Some(Arc::new(object.clone()))
            });
            match known {
                Some(known) if known.version == found => Some(known),
                _ => {
                    whole = false;
                    return Ok(());
                }
            }
        };
        let old = if touched & bit::CREATED != 0 {
            None
        } else {
            let was_meta = touched & bit::META != 0;
            let mut old = match &new {
                Some(new) => Object::clone(new),
                None => Object {
                    kind: kind(row.get(4))?,
                    meta: meta(sealer, id, row.get(6))?,
                    body: body(bodies, row.get(7))?,
                    node: None,
                    status: None,
                    version: 0,
                },
            };
            old.version = unsigned(row.get(5));
            if was_meta && !removed {
                old.meta = meta(sealer, id, row.get(6))?;
            }
            if touched & bit::BODY != 0 && !removed {
                old.body = body(bodies, row.get(7))?;
            }
            if touched & bit::NODE != 0 {
                old.node = row.get::<_, Option<&str>>(8).map(Into::into);
            }
            if touched & bit::STATUS != 0 {
                old.status = status(row.get(9))?;
            }
            Some(Arc::new(old))
        };
        if let Some(old) = &old {
            states.insert(id, old.clone());
        }
        changes.push((
            row.get(1),
            Change {
                version: found,
                old,
                new,
            },
        ));
        next = found.saturating_sub(1);
        Ok(())
    })
    .await?;
    changes.reverse();
    Ok(changes)
}

async fn notes(session: &Session, sealer: &Sealer) -> Result<Notes, LogError> {
    let mut notes = Notes {
        desired: Arc::new(desired_at(session, sealer, None).await?.unwrap_or_default()),
        ..Notes::default()
    };
    each(
        session,
        "select kind, namespace, name, content, sealed from healthy",
        &[],
        |row| {
            let kept = sealer.open("healthy", row.get(3), row.get(4))?;
            let kept = match <[u8; 32]>::try_from(kept.as_slice()) {
                // Marks were but a hash once; where the content was declared is not known of these.
                Ok(hash) => KeptMark {
                    mark: Mark {
                        content: ContentHash(hash),
                        commit: "".into(),
                        file: "".into(),
                        line: 0,
                    },
                    number: 0,
                },
                Err(_) => parse("a mark", &kept)?,
            };
            let key = key(row.get(0), row.get(1), row.get(2))?;
            notes.healthy.entry(key).or_default().put(kept.number, &kept.mark);
            Ok(())
        },
    )
    .await?;
    each(
        session,
        "select commit, keys, who, at from confirmations order by id",
        &[],
        |row| {
            notes.confirmations.push(Confirmation {
                commit: row.get::<_, &str>(0).into(),
                keys: parse("a confirmation", row.get::<_, &str>(1).as_bytes())?,
                who: row.get(2),
                at: row.get(3),
            });
            Ok(())
        },
    )
    .await?;
    each(session, "select name, sealed from secrets", &[], |row| {
        let name: String = row.get(0);
        let value = sealer.open("secret", name.as_bytes(), row.get(1))?;
        notes.secrets.insert(name, value);
        Ok(())
    })
    .await?;
    each(session, "select source, id, at from deliveries", &[], |row| {
        notes.deliveries.insert((row.get(0), row.get(1)), row.get(2));
        Ok(())
    })
    .await?;
    each(session, "select name, sealed from documents", &[], |row| {
        let name: String = row.get(0);
        let value = sealer.open("document", name.as_bytes(), row.get(1))?;
        notes.documents.insert(name, parse("a document", &value)?);
        Ok(())
    })
    .await?;
    Ok(notes)
}

/// The desired state as of a revision, or of the newest.
pub(super) async fn desired_at(
    session: &Session,
    sealer: &Sealer,
    revision: Option<u64>,
) -> Result<Option<Desired>, LogError> {
    let revision = revision.map(signed);
    let head = session
        .client
        .query_opt(
            "select number, commit, units, problems, confirm_trailer, source_error from revisions
             where $1::bigint is null or number = $1 order by number desc limit 1",
            &[&revision],
        )
        .await
        .map_err(reading)?;
    let Some(head) = head else { return Ok(None) };
    let number: i64 = head.get(0);
    let mut rows: SharedMap<Key, Arc<DesiredRow>> = SharedMap::new();
    let mut contents: FxHashMap<Vec<u8>, (ContentHash, Arc<serde_json::Value>)> = FxHashMap::default();
    let mut names: FxHashSet<Arc<str>> = FxHashSet::default();
    // Commits, files and units repeat in most rows.
    let mut share = |name: &str| -> Arc<str> {
        if let Some(known) = names.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        names.insert(name.clone());
        name
    };
    each(
        session,
        "select d.kind, d.namespace, d.name, d.unit, d.file, d.line, d.commit, d.content, b.sealed
         from desired d join bodies b on b.id = d.content
         where d.from_revision <= $1 and (d.to_revision is null or d.to_revision > $1)",
        &[&number],
        |row| {
            let id: Vec<u8> = row.get(7);
            let (hash, content) = match contents.get(&id) {
                Some(known) => known.clone(),
                None => {
                    let plain = sealer.open("body", &id, row.get(8))?;
                    let content: serde_json::Value = parse("a desired content", &plain)?;
                    let known = (ContentHash::of(&content), Arc::new(content));
                    contents.insert(id, known.clone());
                    known
                }
            };
            let key = key(row.get(0), row.get(1), row.get(2))?;
            let desired = DesiredRow {
                unit: Unit(share(row.get(3))),
                key: key.clone(),
                hash,
                content,
                file: share(row.get(4)),
                line: u32::try_from(row.get::<_, i32>(5)).unwrap_or(0),
                commit: schemas::Commit(share(row.get(6))),
            };
            rows.insert(key, Arc::new(desired));
            Ok(())
        },
    )
    .await?;
    Ok(Some(Desired {
        revision: unsigned(number),
        commit: Some(head.get::<_, &str>(1).into()),
        units: parse("the units of a revision", head.get::<_, &str>(2).as_bytes())?,
        rows,
        problems: parse("the problems of a revision", head.get::<_, &str>(3).as_bytes())?,
        confirm_trailer: head.get(4),
        source_error: head.get(5),
    }))
}

/// What an object was declared as, newest first.
pub(super) async fn declarations(
    session: &Session,
    sealer: &Sealer,
    key: &Key,
    limit: usize,
) -> Result<Vec<DesiredRow>, LogError> {
    let mut found = Vec::new();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (kind, namespace, name): (&str, &str, &str) = (key.kind.info().name, key.ns(), &key.name);
    // What is staged for a revision that is not recorded yet does not count.
    let sql = "select d.unit, d.file, d.line, d.commit, d.content, b.sealed
        from desired d join bodies b on b.id = d.content
        where d.kind = $1 and d.namespace = $2 and d.name = $3
            and d.from_revision <= (select max(number) from revisions)
        order by d.from_revision desc limit $4";
    each(session, sql, &[&kind, &namespace, &name, &limit], |row| {
        let id: Vec<u8> = row.get(4);
        let content: serde_json::Value = parse("a desired content", &sealer.open("body", &id, row.get(5))?)?;
        found.push(DesiredRow {
            unit: Unit(row.get::<_, &str>(0).into()),
            key: key.clone(),
            hash: ContentHash::of(&content),
            content: Arc::new(content),
            file: row.get::<_, &str>(1).into(),
            line: u32::try_from(row.get::<_, i32>(2)).unwrap_or(0),
            commit: row.get::<_, &str>(3).into(),
        });
        Ok(())
    })
    .await?;
    Ok(found)
}

pub(super) async fn revisions(session: &Session, limit: usize) -> Result<Vec<Revision>, LogError> {
    let mut lines = Vec::new();
    each(
        session,
        "select number, commit, author, subject, at, units, changed, dropped from revisions
         order by number desc limit $1",
        &[&i64::try_from(limit).unwrap_or(i64::MAX)],
        |row| {
            let count = |at: usize| u32::try_from(row.get::<_, i32>(at)).unwrap_or(0);
            lines.push(Revision {
                number: unsigned(row.get(0)),
                commit: row.get::<_, &str>(1).into(),
                author: row.get(2),
                subject: row.get(3),
                at: row.get(4),
                units: parse("the units of a revision", row.get::<_, &str>(5).as_bytes())?,
                changed: count(6),
                dropped: count(7),
            });
            Ok(())
        },
    )
    .await?;
    Ok(lines)
}

pub(super) async fn audited(session: &Session, limit: usize) -> Result<Vec<AuditLine>, LogError> {
    let mut lines = Vec::new();
    each(
        session,
        "select at, username, verb, resource, code, detail from audit order by id desc limit $1",
        &[&i64::try_from(limit).unwrap_or(i64::MAX)],
        |row| {
            lines.push(AuditLine {
                at: row.get(0),
                user: row.get(1),
                verb: row.get(2),
                resource: row.get(3),
                code: u16::try_from(row.get::<_, i32>(4)).unwrap_or(0),
                detail: row.get(5),
            });
            Ok(())
        },
    )
    .await?;
    Ok(lines)
}

fn kind(name: Option<&str>) -> Result<Kind, LogError> {
    let name = name.unwrap_or("");
    name.parse()
        .map_err(|error| LogError::Foreign(format!("{error}; a newer version of Towline wrote it")))
}

fn key(kind_name: &str, namespace: &str, name: &str) -> Result<Key, LogError> {
    Ok(Key {
        kind: kind(Some(kind_name))?,
        namespace: (!namespace.is_empty()).then(|| namespace.into()),
        name: name.into(),
    })
}

fn meta<T: DeserializeOwned>(sealer: &Sealer, id: u64, sealed: Option<&[u8]>) -> Result<T, LogError> {
    let plain = sealer.open("meta", &id.to_le_bytes(), sealed.unwrap_or_default())?;
    parse("metadata", &plain)
}

fn body(bodies: &Bodies, id: Option<&[u8]>) -> Result<Arc<Body>, LogError> {
    id.and_then(|id| bodies.get(id))
        .cloned()
        .ok_or_else(|| LogError::Foreign("the body of an object is missing".into()))
}

fn status(stored: Option<&[u8]>) -> Result<Option<Packed>, LogError> {
    let Some(stored) = stored else { return Ok(None) };
    match stored.split_first() {
        Some((&PACKED, packed)) => Packed::from_bytes(packed)
            .map(Some)
            .map_err(|error| LogError::Foreign(format!("a status cannot be read: {error}"))),
        _ => parse("a status", stored).map(Some),
    }
}

fn parse<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, LogError> {
    serde_json::from_slice(text).map_err(|error| LogError::Foreign(format!("{what} cannot be read: {error}")))
}
