//! What a plain YAML scalar means to kubectl: the YAML 1.1 words for booleans, octal numbers with a
//! leading zero, underscores in numbers.

use serde_json::{Number, Value};

/// The value of an unquoted scalar. `Err` where JSON has no such value.
pub(super) fn plain(text: &str) -> Result<Value, &'static str> {
    let Some(first) = text.bytes().next() else {
        return Ok(Value::Null);
    };
    match first {
        b'~' | b'n' | b'N' | b'y' | b'Y' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' => Ok(word(text)),
        b'0'..=b'9' | b'+' | b'-' | b'.' => number(text),
        _ => Ok(Value::String(text.to_owned())),
    }
}

fn word(text: &str) -> Value {
    match text {
        "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        _ => Value::String(text.to_owned()),
    }
}

fn number(text: &str) -> Result<Value, &'static str> {
    if matches!(
        text,
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF"
    ) {
        return Err("not-a-number and infinity cannot be written in JSON: put the value in quotes if it is a text");
    }
    let cleaned;
    let digits = if text.contains('_') {
        cleaned = text.replace('_', "");
        &cleaned
    } else {
        text
    };
    if let Some(value) = integer(digits) {
        return Ok(value);
    }
    if is_float(digits)
        && let Ok(float) = digits.parse::<f64>()
    {
        return Ok(float_value(float).unwrap_or_else(|| Value::String(text.to_owned())));
    }
    Ok(Value::String(text.to_owned()))
}

/// A float as JSON has it; a whole number in range becomes an integer, as it does on its way
/// through kubectl.
pub(super) fn float_value(float: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if float.fract() == 0.0 && float.abs() < EXACT {
        // The bound above keeps the cast exact.
        #[allow(clippy::cast_possible_truncation)]
        return Some(Value::Number(Number::from(float as i64)));
    }
    Number::from_f64(float).map(Value::Number)
}

fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let bytes = digits.as_bytes();
    if !bytes.first()?.is_ascii_digit() {
        return None;
    }
    let (radix, digits) = match bytes {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        let signed = 0_i64.checked_sub_unsigned(magnitude)?;
        Some(Value::Number(signed.into()))
    } else {
        Some(Value::Number(magnitude.into()))
    }
}

/// `[-+]? ( '.' digits | digits [ '.' digits? ] ) [ (e|E) [-+]? digits ]`
fn is_float(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let digits = |mut from: usize| {
        while bytes.get(from).is_some_and(u8::is_ascii_digit) {
            from += 1;
        }
        from
    };
    let whole = digits(at);
    if whole == at {
        if bytes.get(at) != Some(&b'.') {
            return false;
        }
        let fraction = digits(at + 1);
        if fraction == at + 1 {
            return false;
        }
        at = fraction;
    } else {
        at = whole;
        if bytes.get(at) == Some(&b'.') {
            at = digits(at + 1);
        }
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(bytes.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        let exponent = digits(at);
        if exponent == at {
            return false;
        }
        at = exponent;
    }
    at == bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_mean_what_kubectl_reads() {
        let table = [
            ("", json!(null)),
            ("~", json!(null)),
            ("null", json!(null)),
            ("nullify", json!("nullify")),
            ("yes", json!(true)),
            ("on", json!(true)),
            ("y", json!(true)),
            ("Off", json!(false)),
            ("n", json!(false)),
            ("oN", json!("oN")),
            ("0755", json!(493)),
            ("0o755", json!(493)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("08", json!(8)),
            ("-010", json!(-8)),
            ("1_000", json!(1000)),
            ("1.0", json!(1)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("1e3", json!(1000)),
            ("1e", json!("1e")),
            ("1.2.3", json!("1.2.3")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("100m", json!("100m")),
            ("12E", json!("12E")),
            ("-", json!("-")),
            (".", json!(".")),
            ("--5", json!("--5")),
            ("+5", json!(5)),
            ("0x-5", json!("0x-5")),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("2006-01-02", json!("2006-01-02")),
            ("22:30", json!("22:30")),
            ("plain words", json!("plain words")),
        ];
        for (text, value) in table {
            assert_eq!(plain(text), Ok(value), "{text:?}");
        }
        assert!(plain(".inf").is_err());
        assert!(plain(".NaN").is_err());
        assert_eq!(plain("1e400"), Ok(json!("1e400")), "out of range stays a text");
    }
}
