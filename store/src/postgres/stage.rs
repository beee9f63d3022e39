//! Parts of a large revision, ahead of it.

use crate::{log::LogError, staging::Stage};

use super::{
    commit::{Bodies, step, transact},
    connect::Session,
    notes,
    seal::Sealer,
    signed,
    tidy::in_transaction,
};

pub(super) const FENCE: &str = "select fence($1)";
/// How many rows one step takes back at most.
const LIMIT: i64 = 2000;
const UNBEGIN: &str = "delete from desired where ctid = any (array(
    select ctid from desired where from_revision > (select coalesce(max(number), 0) from revisions) limit $1))";
const UNEND: &str = "update desired set to_revision = null where ctid = any (array(
    select ctid from desired where to_revision > (select coalesce(max(number), 0) from revisions) limit $1))";

/// Writes a part of a revision, in one transaction.
pub(super) async fn stage(session: &mut Session, sealer: &Sealer, epoch: u64, stage: &Stage) -> Result<(), LogError> {
    let mut steps = vec![step!(FENCE, signed(epoch))];
    let mut bodies = Bodies::default();
    for row in stage.put() {
        bodies.add_content(sealer, row)?;
    }
    bodies.steps(&mut steps);
    notes::desired_steps(&mut steps, sealer, stage.write.base + 1, stage.put(), stage.drop());
    transact(session, epoch, steps).await
}

/// Takes back a part of what was staged for revisions that never came. True: there is more.
pub(super) async fn unstage(session: &mut Session, epoch: u64) -> Result<bool, LogError> {
    // What was to begin goes first: only one row of an object may be without an end.
    for sql in [UNBEGIN, UNEND] {
        if in_transaction(session, epoch, sql, &[&LIMIT]).await? >= LIMIT.unsigned_abs() {
            return Ok(true);
        }
    }
    Ok(false)
}
