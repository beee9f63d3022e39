//! Reads cron's notation.

use jiff::SignedDuration;

use super::{Fields, Schedule, ScheduleError};

/// One of the five fields: its name in messages, its range, and the names of its values.
struct Field {
    name: &'static str,
    low: u8,
    high: u8,
    names: &'static [&'static str],
    hint: &'static str,
}

const fn field(name: &'static str, low: u8, high: u8) -> Field {
    Field {
        name,
        low,
        high,
        names: &[],
        hint: "",
    }
}

const FIELDS: [Field; 5] = [
    field("minute", 0, 59),
    field("hour", 0, 23),
    field("day of month", 1, 31),
    Field {
        name: "month",
        low: 1,
        high: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
        hint: " or a name such as jan",
    },
    Field {
        name: "day of week",
        low: 0,
        high: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
        hint: " or a name such as mon",
    },
];

pub(super) fn schedule(text: &str) -> Result<Schedule, ScheduleError> {
    let text = text.trim();
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        return Err(ScheduleError::TimeZone);
    }
    let text = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => text,
    };
    if let Some(period) = text.strip_prefix("@every ") {
        return every(period.trim()).map(Schedule::Every);
    }
    if text.starts_with('@') {
        return Err(ScheduleError::Word(text.to_owned()));
    }
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = parts[..] else {
        return Err(ScheduleError::Fields(parts.len()));
    };
    let (minutes, _) = bits(minutes, &FIELDS[0])?;
    let (hours, _) = bits(hours, &FIELDS[1])?;
    let (days, any_day) = bits(days, &FIELDS[2])?;
    let (months, _) = bits(months, &FIELDS[3])?;
    let (weekdays, any_weekday) = bits(weekdays, &FIELDS[4])?;
    // No bit lies above the field's range, so that the narrower types hold them all.
    Ok(Schedule::Fields(Fields {
        minutes,
        hours: u32::try_from(hours).unwrap_or_default(),
        days: u32::try_from(days).unwrap_or_default(),
        months: u16::try_from(months).unwrap_or_default(),
        weekdays: u8::try_from(weekdays).unwrap_or_default(),
        any_day,
        any_weekday,
    }))
}

/// The values of a field, and whether it is a plain `*` or `?`.
fn bits(text: &str, field: &Field) -> Result<(u64, bool), ScheduleError> {
    let (mut all, mut any) = (0, false);
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let star = matches!(range, "*" | "?");
        let (low, high) = match range.split_once('-') {
            _ if star => (field.low, field.high),
            Some((low, high)) => (value(low, field)?, value(high, field)?),
            // A single value with a step goes on to the end.
            None if step.is_some() => (value(range, field)?, field.high),
            None => (value(range, field)?, value(range, field)?),
        };
        if low > high {
            return Err(ScheduleError::Range {
                field: field.name,
                text: range.to_owned(),
            });
        }
        let step = match step {
            None => 1,
            Some(digits) => number(digits)
                .filter(|step| *step > 0)
                .ok_or_else(|| ScheduleError::Step {
                    field: field.name,
                    text: digits.to_owned(),
                })?,
        };
        any |= star && step == 1;
        for bit in (low..=high).step_by(usize::from(step)) {
            all |= 1 << bit;
        }
    }
    Ok((all, any))
}

fn value(text: &str, field: &Field) -> Result<u8, ScheduleError> {
    let named = field.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let named = named.and_then(|at| u8::try_from(at).ok()).map(|at| at + field.low);
    named
        .or_else(|| number(text))
        .filter(|value| (field.low..=field.high).contains(value))
        .ok_or_else(|| ScheduleError::Number {
            field: field.name,
            text: text.to_owned(),
            names: field.hint,
            low: field.low,
            high: field.high,
        })
}

fn number(text: &str) -> Option<u8> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A step may be larger than any field is long.
    plain.then(|| {
        text.parse::<u32>()
            .map_or(u8::MAX, |number| u8::try_from(number).unwrap_or(u8::MAX))
    })
}

/// A span such as `1h30m` or `1.5h`, in whole seconds, one at least.
fn every(text: &str) -> Result<SignedDuration, ScheduleError> {
    let wrong = || ScheduleError::Every(text.to_owned());
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|letter: char| !(letter.is_ascii_digit() || letter == '.'))
            .ok_or_else(wrong)?;
        let unit = rest[digits..]
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .map_or(rest.len(), |length| digits + length);
        let amount: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let size = match &rest[digits..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(wrong()),
        };
        seconds += amount * size;
        rest = &rest[unit..];
    }
    // A hundred years are enough, and fit every calculation.
    let fits = (1.0..=3.2e9).contains(&seconds);
    let whole = SignedDuration::try_from_secs_f64(seconds.trunc()).ok().filter(|_| fits);
    whole.ok_or_else(wrong)
}
