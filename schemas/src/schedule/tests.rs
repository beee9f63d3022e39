use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{Schedule, ScheduleError, zone};

fn at(text: &str) -> Timestamp {
    text.parse().expect("it is a time")
}

#[test]
fn the_next_start_is_the_one_that_cron_means() {
    let table = [
        // Steps, ranges, lists and names.
        ("*/15 * * * *", "2026-03-02T10:00:00Z", "2026-03-02T10:15:00Z"),
        ("*/15 * * * *", "2026-03-02T10:59:59Z", "2026-03-02T11:00:00Z"),
        ("20-35/15 * * * *", "2026-03-02T10:20:00Z", "2026-03-02T10:35:00Z"),
        ("5/20 * * * *", "2026-03-02T10:26:00Z", "2026-03-02T10:45:00Z"),
        ("0 9,17 * * *", "2026-03-02T09:00:00Z", "2026-03-02T17:00:00Z"),
        ("0 0 * feb-MAR *", "2026-04-01T00:00:00Z", "2027-02-01T00:00:00Z"),
        ("30 8 ? * MON-fri", "2026-03-06T09:00:00Z", "2026-03-09T08:30:00Z"),
        ("0 0 31 * *", "2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"),
        ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 29 feb ?", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"),
        // Both days restricted: one of them is enough.
        ("0 0 13 * fri", "2026-03-01T00:00:00Z", "2026-03-06T00:00:00Z"),
        ("0 0 13 * fri", "2026-04-11T00:00:00Z", "2026-04-13T00:00:00Z"),
        // A star with a step restricts.
        ("0 0 */31 * mon", "2026-03-03T00:00:00Z", "2026-03-09T00:00:00Z"),
        // Only one restricted: it alone decides.
        ("0 0 * * mon", "2026-03-03T00:00:00Z", "2026-03-09T00:00:00Z"),
        ("0 0 ? * 0", "2026-03-03T00:00:00Z", "2026-03-08T00:00:00Z"),
        // Words.
        ("@yearly", "2026-03-03T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("@annually", "2026-03-03T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("@monthly", "2026-03-03T00:00:00Z", "2026-04-01T00:00:00Z"),
        ("@weekly", "2026-03-03T00:00:00Z", "2026-03-08T00:00:00Z"),
        ("@daily", "2026-03-03T00:00:00Z", "2026-03-04T00:00:00Z"),
        ("@midnight", "2026-03-03T12:00:00Z", "2026-03-04T00:00:00Z"),
        ("@hourly", "2026-03-03T12:00:01Z", "2026-03-03T13:00:00Z"),
        ("@every 1h30m", "2026-03-03T12:00:01.7Z", "2026-03-03T13:30:01Z"),
        ("@every 90s", "2026-03-03T12:00:00Z", "2026-03-03T12:01:30Z"),
        ("@every 0.5m1500ms", "2026-03-03T12:00:00Z", "2026-03-03T12:00:31Z"),
    ];
    for (schedule, after, next) in table {
        let read = Schedule::parse(schedule).expect(schedule);
        let utc = zone(None).expect("there is one");
        assert_eq!(read.next(at(after), &utc), Some(at(next)), "{schedule} after {after}");
        assert_eq!(
            read.latest(at(after), at(next), &utc),
            Some(at(next)),
            "{schedule} up to {next}"
        );
    }
}

#[test]
fn clocks_that_are_put_forward_and_back_skip_and_repeat() {
    let table = [
        // Berlin skips 02:00 to 03:00 on 29 March 2026 …
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-03-28T02:00:00Z",
            "2026-03-30T00:30:00Z",
        ),
        (
            "Europe/Berlin",
            "*/30 * * * *",
            "2026-03-29T00:30:00Z",
            "2026-03-29T01:00:00Z",
        ),
        (
            "Europe/Berlin",
            "0 3 * * *",
            "2026-03-28T12:00:00Z",
            "2026-03-29T01:00:00Z",
        ),
        // … and has 02:00 to 03:00 twice on 25 October.
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-10-24T12:00:00Z",
            "2026-10-25T00:30:00Z",
        ),
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:30:00Z",
        ),
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-10-25T01:30:00Z",
            "2026-10-26T01:30:00Z",
        ),
        // In order of time, not of what the clock shows.
        (
            "Europe/Berlin",
            "15,45 2 * * *",
            "2026-10-25T00:15:00Z",
            "2026-10-25T00:45:00Z",
        ),
        (
            "Europe/Berlin",
            "15,45 2 * * *",
            "2026-10-25T00:45:00Z",
            "2026-10-25T01:15:00Z",
        ),
        (
            "Europe/Berlin",
            "0 * * * *",
            "2026-10-25T00:00:00Z",
            "2026-10-25T01:00:00Z",
        ),
        (
            "America/New_York",
            "30 2 11 mar ?",
            "2012-03-11T05:00:00Z",
            "2013-03-11T06:30:00Z",
        ),
        (
            "America/New_York",
            "0 1 * * *",
            "2012-11-04T04:00:00Z",
            "2012-11-04T05:00:00Z",
        ),
        (
            "America/New_York",
            "0 1 * * *",
            "2012-11-04T05:00:00Z",
            "2012-11-04T06:00:00Z",
        ),
        (
            "America/New_York",
            "0 1 * * *",
            "2012-11-04T06:00:00Z",
            "2012-11-05T06:00:00Z",
        ),
        // A day without a midnight.
        (
            "America/Sao_Paulo",
            "0 0 * * *",
            "2018-11-03T12:00:00Z",
            "2018-11-05T02:00:00Z",
        ),
        // A day that is not there at all.
        (
            "Pacific/Apia",
            "0 12 30 12 *",
            "2011-12-01T00:00:00Z",
            "2012-12-29T22:00:00Z",
        ),
        (
            "Asia/Kolkata",
            "0 0 * * *",
            "2026-03-03T00:00:00Z",
            "2026-03-03T18:30:00Z",
        ),
    ];
    for (name, schedule, after, next) in table {
        let read = Schedule::parse(schedule).expect(schedule);
        let zone = zone(Some(name)).expect(name);
        assert_eq!(
            read.next(at(after), &zone),
            Some(at(next)),
            "{schedule} in {name} after {after}"
        );
    }
}

#[test]
fn what_is_no_schedule_is_told_with_its_part() {
    for (text, words) in [
        ("", "this one has 0"),
        ("* * * *", "this one has 4"),
        ("* * * * * *", "this one has 6"),
        ("60 * * * *", "the minute \"60\" is not a number from 0 to 59"),
        ("* 24 * * *", "the hour \"24\""),
        ("* * 0 * *", "the day of month \"0\" is not a number from 1 to 31"),
        (
            "* * * 13 *",
            "the month \"13\" is not a number or a name such as jan from 1 to 12",
        ),
        ("* * * * 7", "the day of week \"7\""),
        ("a * * * *", "\"a\""),
        ("-1 * * * *", "\"\""),
        ("1- * * * *", "\"\""),
        ("*/0 * * * *", "the step \"0\" of the minute"),
        ("*/x * * * *", "the step \"x\""),
        (
            "30-10 * * * *",
            "the range \"30-10\" of the minute ends before it starts",
        ),
        ("1,,2 * * * *", "\"\""),
        ("@sometimes", "there is no @sometimes"),
        ("@every", "there is no @every"),
        ("@every 5", "\"5\" is no span"),
        ("@every 10ms", "\"10ms\" is no span"),
        ("@every 1d", "\"1d\" is no span"),
        ("@every -1h", "\"-1h\" is no span"),
        ("TZ=UTC * * * * *", "timeZone"),
        ("CRON_TZ=UTC * * * * *", "timeZone"),
        ("* * * * ä", "\"ä\""),
    ] {
        let error = Schedule::parse(text).expect_err(text);
        assert!(error.to_string().contains(words), "{text}: {error}");
    }
    assert_eq!(Schedule::parse("CRON_TZ=UTC * * * * *"), Err(ScheduleError::TimeZone));
}

#[test]
fn a_schedule_without_a_date_never_fires() {
    let utc = zone(None).expect("there is one");
    for (text, never) in [
        ("0 0 31 2 *", true),
        ("0 0 30,31 feb ?", true),
        ("0 0 31 4,6,9,11 *", true),
        ("0 0 29 2 *", false),
        ("0 0 31 2,3 *", false),
        // Any Monday of February will do.
        ("0 0 31 2 mon", false),
        ("0 0 */31 2 *", false),
        ("@every 1h", false),
    ] {
        let schedule = Schedule::parse(text).expect(text);
        assert_eq!(schedule.never_fires(), never, "{text}");
        let next = schedule.next(at("2026-01-01T00:00:00Z"), &utc);
        assert_eq!(next.is_none(), never, "{text}");
        let latest = schedule.latest(at("2010-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"), &utc);
        assert_eq!(latest.is_none(), never, "{text}");
    }
}

#[test]
fn zones_are_known_without_the_host() {
    for good in [
        None,
        Some("Etc/UTC"),
        Some("Europe/Berlin"),
        Some("America/Argentina/Buenos_Aires"),
    ] {
        assert!(zone(good).is_ok(), "{good:?}");
    }
    for bad in [
        "",
        "Local",
        "local",
        "Europe/Atlantis",
        "../etc/passwd",
        "Europe/Berlin ",
    ] {
        assert!(zone(Some(bad)).is_err(), "{bad}");
    }
}

#[test]
fn missed_starts_are_counted_up_to_a_limit() {
    let utc = zone(None).expect("there is one");
    let each = Schedule::parse("* * * * *").expect("it is one");
    let after = at("2026-03-03T00:00:00Z");
    assert_eq!(each.count(after, after, &utc, 101), 0);
    assert_eq!(each.count(after, at("2026-03-03T00:05:30Z"), &utc, 101), 5);
    assert_eq!(each.count(after, at("2026-03-04T00:00:00Z"), &utc, 101), 101);
    let every = Schedule::parse("@every 10m").expect("it is one");
    assert_eq!(every.latest(after, at("2026-03-03T00:09:59Z"), &utc), None);
    assert_eq!(
        every.latest(after, at("2026-03-03T01:05:00Z"), &utc),
        Some(at("2026-03-03T01:00:00Z"))
    );
}

proptest! {
    /// Stepping from start to start meets every start once, and looking back from between two of them
    /// finds the earlier one.
    #[test]
    fn looking_forward_and_back_agree(
        minute in 0u8..60, step in 1u8..20, hour in 0u8..24, wide in any::<bool>(),
        name in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
        start in 1_700_000_000i64..1_900_000_000, ahead in 0i64..400_000,
    ) {
        let hours = if wide { "*".to_owned() } else { hour.to_string() };
        let schedule = Schedule::parse(&format!("{minute}/{step} {hours} * * *")).expect("it is one");
        let zone = zone(Some(name)).expect("it is one");
        let after = Timestamp::from_second(start).expect("it is one");
        let until = after + SignedDuration::from_secs(ahead);
        let mut last = None;
        let mut now = after;
        while let Some(next) = schedule.next(now, &zone).filter(|next| *next <= until) {
            prop_assert!(next > now);
            last = Some(next);
            now = next;
        }
        prop_assert_eq!(schedule.latest(after, until, &zone), last);
    }
}
