//! Numbers that a manifest may give as a count or as a share of something.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What becomes of a share that is no whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    Up,
    Down,
}

/// A number, or a percentage of `whole`; never below 0.
#[must_use]
pub(crate) fn of(value: &IntOrString, whole: i32, round: Round) -> i32 {
    let part = match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let scaled = percent * i64::from(whole);
            let rounded = match round {
                Round::Up => (scaled + 99).div_euclid(100),
                Round::Down => scaled.div_euclid(100),
            };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    };
    part.max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_as_asked_and_counts_taken_as_they_are() {
        let share = |text: &str| IntOrString::String(text.to_owned());
        for (value, whole, round, expected) in [
            (IntOrString::Int(2), 5, Round::Up, 2),
            (IntOrString::Int(-1), 5, Round::Up, 0),
            (share("50%"), 5, Round::Up, 3),
            (share("50%"), 5, Round::Down, 2),
            (share("0%"), 5, Round::Up, 0),
            (share("100%"), 5, Round::Down, 5),
            (share("150%"), 4, Round::Down, 6),
            (share("x"), 5, Round::Up, 0),
            (share("1%"), i32::MAX, Round::Up, 21_474_837),
        ] {
            assert_eq!(of(&value, whole, round), expected, "{value:?} of {whole}");
        }
    }
}
