//! Which start is due.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJobSpec, CronJobStatus};
use schemas::{Now, Object};

use super::{MANY, Timetable};

/// A clock that was set back by more than this was wrong before; one that was set back by less waits
/// until it is as late as it was.
const STEP: SignedDuration = SignedDuration::from_hours(1);

/// A start that is due.
pub(super) struct Due {
    pub(super) at: Timestamp,
    /// Starts since the last one, this one included, counted up to a limit.
    pub(super) missed: usize,
    /// The last start lies far ahead of the clock.
    pub(super) clock_went_back: bool,
}

/// The latest start since the last one (or since the CronJob was made) for which it is not too late.
///
/// A start before the last one is never made again: after a small step back of the clock those times
/// come twice. A last start that lies far ahead was of a wrong clock, and would keep the CronJob from
/// starting for as long as the clock was wrong by; then starts are counted from now on, and the names
/// of the Jobs keep one from being made twice.
pub(super) fn due(
    cron_job: &Object,
    spec: &CronJobSpec,
    status: &CronJobStatus,
    timetable: &Timetable,
    now: Now,
) -> Option<Due> {
    let created = cron_job.meta.creation_timestamp.as_ref().map(|time| time.0);
    let last = status.last_schedule_time.as_ref().map(|time| time.0);
    let mut since = last.or(created).unwrap_or(now.wall);
    let clock_went_back = since.duration_since(now.wall) > STEP;
    if clock_went_back {
        // Not later than a minute ago: the start of this very minute is still due.
        since = now.wall - SignedDuration::from_secs(60);
        since = created
            .filter(|created| *created <= now.wall)
            .map_or(since, |created| since.max(created));
    }
    if let Some(deadline) = spec.starting_deadline_seconds {
        let earliest = now
            .wall
            .saturating_sub(SignedDuration::from_secs(deadline))
            .unwrap_or(since);
        since = since.max(earliest);
    }
    let (schedule, zone) = (&timetable.schedule, &timetable.zone);
    let at = schedule.latest(since, now.wall, zone)?;
    Some(Due {
        at,
        missed: schedule.count(since, now.wall, zone, MANY + 1),
        clock_went_back,
    })
}
