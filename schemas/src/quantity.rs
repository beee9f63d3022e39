//! Amounts of resources: the quantity grammar of Kubernetes with exact arithmetic.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>

use std::{
    cmp::Ordering,
    fmt,
    ops::{Add, Sub},
    str::FromStr,
};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::{Deserialize, Serialize};

/// An amount, exact to the nano. Compares by value: `1Gi` equals `1024Mi`.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// In billionths. Capped, so that sums stay far from overflow.
    nano: i128,
    format: Format,
}

/// The family of suffixes that an amount is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `m`, `k`, `M`, …: powers of 1000.
    Decimal,
    /// `Ki`, `Mi`, …: powers of 1024.
    Binary,
    /// `e3`, `e6`, …
    Exponent,
}

/// What is wrong with the text of a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("{0:?} is not a quantity: write a number with an optional suffix, such as 500m, 1.5 or 64Mi")]
    Number(String),
    #[error(
        "{0:?} is not a quantity: its suffix must be one of n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei, or an exponent such as e3"
    )]
    Suffix(String),
}

const NANO: i128 = 1_000_000_000;
/// The cap of amounts with binary suffixes: 2⁶³−1 units.
const BINARY_CAP: i128 = i64::MAX as i128 * NANO;
/// The cap of all others: 10²⁸ units.
const CAP: i128 = 10i128.pow(28) * NANO;
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    pub const ZERO: Self = Self {
        nano: 0,
        format: Format::Decimal,
    };

    /// `value` whole units.
    #[must_use]
    pub fn from_value(value: i64) -> Self {
        Self::new(i128::from(value) * NANO, Format::Decimal)
    }

    /// `milli` thousandths.
    #[must_use]
    pub fn from_milli(milli: i64) -> Self {
        Self::new(i128::from(milli) * 1_000_000, Format::Decimal)
    }

    /// `bytes` bytes, written with binary suffixes.
    #[must_use]
    pub fn from_bytes(bytes: i64) -> Self {
        Self::new(i128::from(bytes) * NANO, Format::Binary)
    }

    fn new(nano: i128, format: Format) -> Self {
        let cap = if format == Format::Binary { BINARY_CAP } else { CAP };
        Self {
            nano: nano.clamp(-cap, cap),
            format,
        }
    }

    /// In whole units, rounded away from zero.
    #[must_use]
    pub fn value(self) -> i64 {
        saturate(round_out(self.nano, NANO))
    }

    /// In thousandths, rounded away from zero; at most what an `i64` holds.
    #[must_use]
    pub fn milli(self) -> i64 {
        saturate(round_out(self.nano, 1_000_000))
    }

    /// In billionths, exactly.
    #[must_use]
    pub fn nano(self) -> i128 {
        self.nano
    }

    #[must_use]
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    #[must_use]
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// Division that rounds away from zero.
fn round_out(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by == 0 {
        quotient
    } else {
        quotient + value.signum()
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    /// Reads a quantity. What is more precise than a billionth is rounded away from zero; what is larger
    /// than 2⁶³−1 with a binary suffix, or than 10²⁸ with another, is capped.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number_error = || QuantityError::Number(text.to_owned());
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(number_error());
        }
        let (format, decimal, binary) = read_suffix(suffix).ok_or_else(|| QuantityError::Suffix(text.to_owned()))?;
        let nano = scaled(whole, fraction, decimal + 9, binary);
        Ok(Self::new(if negative { -nano } else { nano }, format))
    }
}

/// The format, the power of ten and the power of 1024 that a suffix stands for.
fn read_suffix(suffix: &str) -> Option<(Format, i32, u32)> {
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Format::Decimal, *power, 0));
    }
    if let Some(index) = BINARY.iter().position(|name| *name == suffix) {
        return Some((Format::Binary, 0, index as u32 + 1));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // An exponent beyond these bounds gives the cap or the smallest step anyway.
    let power = digits.parse::<i32>().unwrap_or(1000).min(1000);
    Some((
        Format::Exponent,
        if exponent.starts_with('-') { -power } else { power },
        0,
    ))
}

/// `whole.fraction × 10^decimal × 1024^binary`, rounded up and capped. The digits are taken one by one,
/// so that no length of input overflows.
fn scaled(whole: &str, fraction: &str, decimal: i32, binary: u32) -> i128 {
    let digits = whole.trim_start_matches('0').bytes().map(|b| i128::from(b - b'0'));
    let mut mantissa: i128 = 0;
    for digit in digits {
        mantissa = mantissa * 10 + digit;
        if mantissa > CAP {
            // Larger than the cap even in billionths; only a negative power could bring it back.
            if decimal >= 0 {
                return CAP;
            }
            return wide(whole, fraction, decimal);
        }
    }
    let mut power = decimal;
    let mut inexact = false;
    for digit in fraction.bytes().map(|b| i128::from(b - b'0')) {
        if mantissa > i128::MAX / 4096 / 10 {
            inexact |= digit != 0;
            continue;
        }
        mantissa = mantissa * 10 + digit;
        power -= 1;
    }
    if mantissa == 0 {
        return i128::from(inexact);
    }
    // First the power of two while the mantissa has room, then the power of ten.
    for _ in 0..binary {
        match mantissa.checked_mul(1024) {
            Some(product) => mantissa = product,
            None => {
                inexact |= mantissa % 10 != 0;
                mantissa = (mantissa / 10).saturating_mul(1024);
                power += 1;
            }
        }
    }
    while power > 0 {
        if mantissa > CAP {
            return CAP;
        }
        mantissa *= 10;
        power -= 1;
    }
    while power < 0 && mantissa > 0 {
        inexact |= mantissa % 10 != 0;
        mantissa /= 10;
        power += 1;
    }
    mantissa.saturating_add(i128::from(inexact)).min(CAP)
}

/// A number with more digits than fit, under a negative exponent: shift the point in the text.
fn wide(whole: &str, fraction: &str, decimal: i32) -> i128 {
    let shift = usize::try_from(-decimal).unwrap_or(usize::MAX);
    if shift >= whole.len() {
        let zeros = "0".repeat((shift - whole.len()).min(64));
        return scaled("", &format!("{zeros}{whole}{fraction}"), 0, 0);
    }
    let (whole, moved) = whole.split_at(whole.len() - shift);
    scaled(whole, &format!("{moved}{fraction}"), 0, 0)
}

impl fmt::Display for Quantity {
    /// The canonical form: the largest suffix of its family that leaves no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let small = self.nano.abs() < 1024 * NANO;
        if self.format == Format::Binary && !small {
            let mut mantissa = round_out(self.nano, NANO);
            let mut suffix = "";
            for name in BINARY {
                if mantissa % 1024 != 0 {
                    break;
                }
                mantissa /= 1024;
                suffix = name;
            }
            return write!(f, "{mantissa}{suffix}");
        }
        let mut mantissa = self.nano;
        let mut power = -9;
        while mantissa % 1000 == 0 && power < 18 {
            mantissa /= 1000;
            power += 3;
        }
        if self.format == Format::Exponent {
            return if power == 0 {
                write!(f, "{mantissa}")
            } else {
                write!(f, "{mantissa}e{power}")
            };
        }
        let suffix = DECIMAL.iter().find(|(_, p)| *p == power).map_or("", |(name, _)| name);
        write!(f, "{mantissa}{suffix}")
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Add for Quantity {
    type Output = Self;

    /// The sum, written as `self` is, or as `other` where `self` is zero.
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self::new(self.nano + other.nano, format)
    }
}

impl Sub for Quantity {
    type Output = Self;

    /// The difference, written as `self` is, or as `other` where `self` is zero.
    fn sub(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self::new(self.nano - other.nano, format)
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, |sum, quantity| sum + quantity)
    }
}

impl TryFrom<&ApiQuantity> for Quantity {
    type Error = QuantityError;

    fn try_from(quantity: &ApiQuantity) -> Result<Self, Self::Error> {
        quantity.0.parse()
    }
}

impl From<Quantity> for ApiQuantity {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    /// Reads text or a plain number, as the API does.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            other => return Err(serde::de::Error::custom(QuantityError::Number(other.to_string()))),
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn amounts_are_read_exactly() {
        for (text, nano) in [
            ("0", 0),
            ("1", NANO),
            ("+1", NANO),
            ("-1", -NANO),
            ("100m", NANO / 10),
            ("1u", 1000),
            ("5n", 5),
            ("0.5Gi", 536_870_912 * NANO),
            ("1e3", 1000 * NANO),
            ("1E3", 1000 * NANO),
            ("1e-3", NANO / 1000),
            ("2E", 2_000_000_000_000_000_000 * NANO),
            ("1.", NANO),
            (".5", NANO / 2),
            ("1.5k", 1500 * NANO),
            ("1Ki", 1024 * NANO),
            ("0.1n", 1),
            ("-0.1n", -1),
            ("1.0000000001", NANO + 1),
            ("12E", 12_000_000_000_000_000_000 * NANO),
            ("8Ei", BINARY_CAP),
            ("1e400", CAP),
            ("1e-400", 1),
            ("0e400", 0),
            ("123456789012345678901234567890123456789012345678901234567890", CAP),
            ("100000000000000000000000000000000000000000e-40", 10 * NANO),
        ] {
            assert_eq!(q(text).nano(), nano, "{text}");
        }
    }

    #[test]
    fn bad_text_is_refused() {
        for text in [
            "", "-", "+", ".", "1.2.3", "m", "1ki", "1mi", "1 Gi", "1e", "1e+", "1Kim", "0x1", "1,5", "1K", "ten",
            "１", "1e1.5", "--1",
        ] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_written_canonically() {
        for (text, canonical) in [
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1024Mi", "1Gi"),
            ("0.5Gi", "512Mi"),
            ("1000k", "1M"),
            ("1e3", "1e3"),
            ("1000e3", "1e6"),
            ("1e1", "10"),
            ("0Mi", "0"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("1023.5Ki", "1048064"),
            ("-2048Ki", "-2Mi"),
            ("0.0000000001", "1n"),
            ("12E", "12E"),
            ("9223372036854775808Ki", "9223372036854775807"),
        ] {
            assert_eq!(q(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn parts_round_away_from_zero() {
        assert_eq!(q("1.1").value(), 2);
        assert_eq!(q("-1.1").value(), -2);
        assert_eq!(q("100u").milli(), 1);
        assert_eq!(q("2").milli(), 2000);
        assert_eq!(q("8E").milli(), i64::MAX);
    }

    #[test]
    fn sums_keep_the_family_of_suffixes() {
        assert_eq!((q("1Gi") + q("512Mi")).to_string(), "1536Mi");
        assert_eq!((Quantity::ZERO + q("1Gi")).to_string(), "1Gi");
        assert_eq!((q("1") - q("250m")).to_string(), "750m");
        assert!(q("1Gi") > q("1G"));
        assert_eq!(q("1Gi"), q("1024Mi"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nano in -1_000_000_000_000_000_000_000_000i128..1_000_000_000_000_000_000_000_000, format in 0..2) {
            let format = if format == 0 { Format::Decimal } else { Format::Exponent };
            let quantity = Quantity::new(nano, format);
            let text = quantity.to_string();
            prop_assert_eq!(text.parse::<Quantity>(), Ok(quantity), "{}", text);
            prop_assert_eq!(q(&text).to_string(), text);
        }

        #[test]
        fn bytes_are_read_back(bytes in any::<i64>()) {
            let quantity = Quantity::from_bytes(bytes);
            prop_assert_eq!(q(&quantity.to_string()), quantity);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[+-]?[0-9.]{0,50}[a-zA-Z]{0,3}[-+]?[0-9]{0,12}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
