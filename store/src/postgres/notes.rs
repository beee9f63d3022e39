//! The part of a batch that is not of objects.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemas::{ContentHash, Key};
use serde::{Deserialize, Serialize};

use crate::{
    DesiredRow, Mark, RevisionWrite,
    log::{Batch, LogError},
    notes::Note,
};

use super::{
    commit::{Step, json, step, text},
    seal::Sealer,
    signed,
};

const REVISION: &str = "insert into revisions (number, commit, author, subject, at, units, problems, confirm_trailer,
    source_error, changed, dropped) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const DESIRED_END: &str = "update desired d set to_revision = $1
    from unnest($2::text[], $3::text[], $4::text[]) u (kind, namespace, name)
    where d.kind = u.kind and d.namespace = u.namespace and d.name = u.name and d.to_revision is null";
const DESIRED_BEGIN: &str = "insert into desired (from_revision, unit, kind, namespace, name, content, file, line, commit)
    select $1, * from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::int[], $9::text[])";
const STAGED: &str = "select staged($1, $2)";
const HEALTHY: &str = "insert into healthy (kind, namespace, name, content, sealed)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bytea[])
    on conflict (kind, namespace, name, content) do update set sealed = excluded.sealed";
const UNMARKED: &str = "delete from healthy h
    using unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) u (kind, namespace, name, content)
    where h.kind = u.kind and h.namespace = u.namespace and h.name = u.name and h.content = u.content";
const FORGOTTEN: &str =
    "delete from healthy h using unnest($1::text[], $2::text[], $3::text[]) u (kind, namespace, name)
    where h.kind = u.kind and h.namespace = u.namespace and h.name = u.name";
const CONFIRMATION: &str =
    "insert into confirmations (commit, keys, who, at) values ($1, $2, $3, $4) on conflict do nothing";
const SECRET: &str = "insert into secrets (name, sealed) values ($1, $2)
    on conflict (name) do update set sealed = excluded.sealed";
const DELIVERY: &str = "insert into deliveries (source, id, at) values ($1, $2, $3) on conflict do nothing";
const AUDIT: &str = "insert into audit (at, username, verb, resource, code, detail)
    select * from unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[])";
const DOCUMENT: &str = "insert into documents (name, sealed) values ($1, $2)
    on conflict (name) do update set sealed = excluded.sealed";
const NO_DOCUMENT: &str = "delete from documents where name = $1";

pub(super) fn steps(steps: &mut Vec<Step>, sealer: &Sealer, batch: &Batch) -> Result<(), LogError> {
    let mut marks = Marked::default();
    let mut audit = (
        Vec::<Timestamp>::new(),
        Vec::<String>::new(),
        Vec::<String>::new(),
        Vec::<String>::new(),
        Vec::<i32>::new(),
        Vec::<String>::new(),
    );
    for note in &batch.notes {
        match note {
            Note::Revision { write, staged } => {
                if !write.drop.is_empty() {
                    std::mem::take(&mut marks).steps(steps, sealer)?;
                }
                revision_steps(steps, sealer, write, *staged)?;
            }
            Note::Healthy { key, mark, number } => drop(marks.0.insert((key, mark.content), Some((mark, *number)))),
            Note::Unmarked { key, content } => drop(marks.0.insert((key, *content), None)),
            Note::Confirmation(confirmation) => steps.push(step!(
                CONFIRMATION,
                confirmation.commit.to_string(),
                text(&confirmation.keys)?,
                clean(&confirmation.who),
                confirmation.at
            )),
            Note::Secret { name, value } => steps.push(step!(
                SECRET,
                name.clone(),
                sealer.seal("secret", name.as_bytes(), value)
            )),
            Note::Delivery { source, id, at } => steps.push(step!(DELIVERY, clean(source), clean(id), *at)),
            Note::Audit(line) => {
                audit.0.push(line.at);
                audit.1.push(clean(&line.user));
                audit.2.push(clean(&line.verb));
                audit.3.push(clean(&line.resource));
                audit.4.push(i32::from(line.code));
                audit.5.push(clean(&line.detail));
            }
            Note::Document { name, value: None } => steps.push(step!(NO_DOCUMENT, name.clone())),
            Note::Document {
                name,
                value: Some(value),
            } => steps.push(step!(
                DOCUMENT,
                name.clone(),
                sealer.seal("document", name.as_bytes(), &json(value)?)
            )),
        }
    }
    marks.steps(steps, sealer)?;
    if !audit.0.is_empty() {
        steps.push(step!(AUDIT, audit.0, audit.1, audit.2, audit.3, audit.4, audit.5));
    }
    Ok(())
}

/// What becomes of marks in a batch; the last word on each counts.
#[derive(Default)]
struct Marked<'a>(BTreeMap<(&'a Key, ContentHash), Option<(&'a Mark, u64)>>);

/// A mark as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptMark {
    pub(super) mark: Mark,
    pub(super) number: u64,
}

impl Marked<'_> {
    fn steps(self, steps: &mut Vec<Step>, sealer: &Sealer) -> Result<(), LogError> {
        let mut put = (Keys::default(), Vec::<Vec<u8>>::new(), Vec::<Vec<u8>>::new());
        let mut end = (Keys::default(), Vec::<Vec<u8>>::new());
        for ((key, content), mark) in self.0 {
            let id = sealer.content_id(content);
            match mark {
                Some((mark, number)) => {
                    let kept = KeptMark {
                        mark: mark.clone(),
                        number,
                    };
                    put.0.add(key);
                    put.1.push(id.into());
                    put.2.push(sealer.seal("healthy", &id, &json(&kept)?));
                }
                None => {
                    end.0.add(key);
                    end.1.push(id.into());
                }
            }
        }
        if !put.1.is_empty() {
            let (keys, ids, sealed) = put;
            steps.push(step!(HEALTHY, keys.kinds, keys.namespaces, keys.names, ids, sealed));
        }
        if !end.1.is_empty() {
            let (keys, ids) = end;
            steps.push(step!(UNMARKED, keys.kinds, keys.namespaces, keys.names, ids));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Keys {
    kinds: Vec<&'static str>,
    namespaces: Vec<String>,
    names: Vec<String>,
}

impl Keys {
    fn add(&mut self, key: &Key) {
        self.kinds.push(key.kind.info().name);
        self.namespaces.push(key.ns().to_owned());
        self.names.push(key.name.to_string());
    }
}

fn revision_steps(steps: &mut Vec<Step>, sealer: &Sealer, write: &RevisionWrite, staged: bool) -> Result<(), LogError> {
    let line = write.line();
    let number = signed(line.number);
    if !write.drop.is_empty() {
        let mut gone = Keys::default();
        write.drop.iter().for_each(|key| gone.add(key));
        steps.push(step!(FORGOTTEN, gone.kinds, gone.namespaces, gone.names));
    }
    if staged {
        steps.push(step!(
            STAGED,
            number,
            i64::try_from(write.put.len()).unwrap_or(i64::MAX)
        ));
    } else {
        desired_steps(steps, sealer, line.number, &write.put, &write.drop);
    }
    steps.push(step!(
        REVISION,
        number,
        line.commit.to_string(),
        clean(&line.author),
        clean(&line.subject),
        line.at,
        text(&line.units)?,
        text(&write.problems)?,
        write.confirm_trailer.as_deref().map(clean),
        write.source_error.as_deref().map(clean),
        count(line.changed),
        count(line.dropped)
    ));
    Ok(())
}

/// Rows that begin and end with a revision. An object's earlier row ends before its next one begins.
pub(super) fn desired_steps(steps: &mut Vec<Step>, sealer: &Sealer, revision: u64, put: &[DesiredRow], drop: &[Key]) {
    let number = signed(revision);
    let mut ended = Keys::default();
    drop.iter().for_each(|key| ended.add(key));
    put.iter().for_each(|row| ended.add(&row.key));
    if !ended.kinds.is_empty() {
        steps.push(step!(DESIRED_END, number, ended.kinds, ended.namespaces, ended.names));
    }
    if !put.is_empty() {
        let mut keys = Keys::default();
        put.iter().for_each(|row| keys.add(&row.key));
        let contents: Vec<Vec<u8>> = put.iter().map(|row| sealer.content_id(row.hash).into()).collect();
        let lines: Vec<i32> = put.iter().map(|row| count(row.line)).collect();
        steps.push(step!(
            DESIRED_BEGIN,
            number,
            put.iter().map(|row| row.unit.to_string()).collect::<Vec<_>>(),
            keys.kinds,
            keys.namespaces,
            keys.names,
            contents,
            put.iter().map(|row| clean(&row.file)).collect::<Vec<_>>(),
            lines,
            put.iter().map(|row| row.commit.to_string()).collect::<Vec<_>>(),
        ));
    }
}

fn count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// PostgreSQL's text knows no zero byte, and a user agent may send one.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
