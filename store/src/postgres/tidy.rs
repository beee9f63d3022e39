//! Removing what is too old: one bounded step in one transaction.

use tokio_postgres::types::ToSql;

use crate::log::{LogError, Tidy};

use super::{
    connect::{Session, meaning, reading},
    signed,
    stage::FENCE,
};

const CHANGES: &str = "delete from changes where version in (
    select version from changes
    where version <= (select version from progress) - $1::bigint and at < $2
    order by version limit $3)";
/// Revisions go from the oldest on, so that those kept are consecutive.
const REVISIONS: &str = "delete from revisions where number in (
    select number from revisions
    where number < (select min(number) from revisions
        where at >= $2 or number > (select max(number) from revisions) - greatest($1::bigint, 1))
    order by number limit $3)";
const DESIRED: &str = "delete from desired where ctid = any (array(
    select ctid from desired
    where to_revision is not null and to_revision <= (select min(number) from revisions) limit $1))";
const AUDIT: &str = "delete from audit where id in (select id from audit where at < $1 order by at limit $2)";
const DELIVERIES: &str = "delete from deliveries where at < $1";
const HEALTHY: &str = "delete from healthy where ctid = any (array(
    select ctid from healthy h where not exists (
        select from desired d where d.kind = h.kind and d.namespace = h.namespace and d.name = h.name) limit $1))";
/// A part of the bodies each time: who is not referred to goes.
const BODIES: &str = "with part as (select id from bodies where id > $1 order by id limit $2),
    unused as (delete from bodies b where b.id in (select id from part)
        and not exists (select from objects o where o.body = b.id)
        and not exists (select from changes c where c.old_body = b.id)
        and not exists (select from desired d where d.content = b.id))
    select id from part order by id desc limit 1";

/// Runs one statement in a transaction of its own, if the epoch is ours.
pub(super) async fn in_transaction(
    session: &mut Session,
    epoch: u64,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<u64, LogError> {
    let transaction = session.client.transaction().await.map_err(reading)?;
    let failed = |error| failed(error, epoch);
    transaction.execute(FENCE, &[&signed(epoch)]).await.map_err(failed)?;
    let rows = transaction.execute(sql, params).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(rows)
}

fn failed(error: tokio_postgres::Error, epoch: u64) -> LogError {
    match error.as_db_error().and_then(meaning) {
        Some(LogError::Fenced { found, .. }) => LogError::Fenced { ours: epoch, found },
        _ => reading(error),
    }
}

/// True: there is more to do of what this step counts.
pub(super) async fn step(
    session: &mut Session,
    epoch: u64,
    tidy: &Tidy,
    swept: &mut Vec<u8>,
) -> Result<bool, LogError> {
    let limit = i64::from(tidy.limit);
    let transaction = session.client.transaction().await.map_err(reading)?;
    let failed = |error| failed(error, epoch);
    let work: [(&str, &[&(dyn ToSql + Sync)]); 6] = [
        (CHANGES, &[&signed(tidy.keep_changes), &tidy.changes_before, &limit]),
        (
            REVISIONS,
            &[&signed(tidy.keep_revisions), &tidy.revisions_before, &limit],
        ),
        (DESIRED, &[&limit]),
        (AUDIT, &[&tidy.audit_before, &limit]),
        (DELIVERIES, &[&tidy.deliveries_before]),
        (HEALTHY, &[&limit]),
    ];
    transaction.execute(FENCE, &[&signed(epoch)]).await.map_err(failed)?;
    let mut more = false;
    for (sql, params) in work {
        let rows = transaction.execute(sql, params).await.map_err(failed)?;
        more |= rows >= u64::from(tidy.limit);
    }
    let row = transaction
        .query_opt(BODIES, &[&*swept, &limit])
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    // At the end it begins again.
    *swept = row.map(|row| row.get(0)).unwrap_or_default();
    Ok(more)
}
