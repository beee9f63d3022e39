//! From a value to bytes.

use jiff::Timestamp;
use serde_json::{Number, Value};

use super::{tag, words};

/// A shorter run of digits is not worth a token of its own.
const HEX_FROM: usize = 16;

pub(super) fn value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(tag::NULL),
        Value::Bool(false) => out.push(tag::FALSE),
        Value::Bool(true) => out.push(tag::TRUE),
        Value::Number(found) => number(out, found),
        Value::String(found) => text(out, found),
        Value::Array(items) => {
            out.push(tag::LIST);
            counted(out, |out| items.iter().for_each(|item| self::value(out, item)));
        }
        Value::Object(map) => {
            out.push(tag::MAP);
            counted(out, |out| {
                for (name, item) in map {
                    text(out, name);
                    self::value(out, item);
                }
            });
        }
    }
}

/// Writes the length of what `write` writes before it.
fn counted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    // Most are shorter than 128 bytes: their length is one byte.
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out[start] = short,
        _ => {
            let mut head = Vec::with_capacity(10);
            varint(&mut head, length as u64);
            out.splice(start..=start, head);
        }
    }
}

fn number(out: &mut Vec<u8>, number: &Number) {
    if let Some(int) = number.as_i64() {
        match u8::try_from(int) {
            Ok(small) if small < 32 => out.push(tag::SMALL | small),
            _ => {
                out.push(tag::INT);
                varint(out, ((int << 1) ^ (int >> 63)).cast_unsigned());
            }
        }
    } else if let Some(big) = number.as_u64() {
        out.push(tag::BIG);
        varint(out, big);
    } else {
        out.push(tag::FLOAT);
        // A number is one of the three.
        out.extend_from_slice(&number.as_f64().unwrap_or_default().to_le_bytes());
    }
}

pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    if let Some(number) = words::number(text) {
        match u8::try_from(number) {
            Ok(first) if first < 0x80 => out.push(tag::FIRST | first),
            _ => {
                out.push(tag::WORD);
                varint(out, u64::from(number));
            }
        }
        return;
    }
    if let Some(seconds) = time(text) {
        out.push(tag::TIME);
        out.extend_from_slice(&seconds.to_le_bytes());
        return;
    }
    if let Some(id) = uuid(text) {
        out.push(tag::UUID);
        out.extend_from_slice(&id);
        return;
    }
    let digits = text.bytes().rev().take_while(|byte| is_hex(*byte)).count() & !1;
    if digits >= HEX_FROM {
        let (head, tail) = text.split_at(text.len() - digits);
        out.push(tag::HEX);
        self::text(out, head);
        varint(out, (digits / 2) as u64);
        let tail = tail.as_bytes();
        out.extend(tail.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])));
        return;
    }
    match u8::try_from(text.len()) {
        Ok(length) if length < 32 => out.push(tag::SHORT | length),
        _ => {
            out.push(tag::TEXT);
            varint(out, text.len() as u64);
        }
    }
    out.extend_from_slice(text.as_bytes());
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A time in whole seconds, written as the API writes it.
fn time(text: &str) -> Option<u32> {
    if text.len() != 20 || !text.ends_with('Z') || !text.starts_with(['1', '2']) {
        return None;
    }
    let time: Timestamp = text.parse().ok()?;
    let seconds = u32::try_from(time.as_second()).ok()?;
    (time.to_string() == text).then_some(seconds)
}

/// A UUID in lower case.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut id = [0; 16];
    let mut digits = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
        } else if is_hex(*byte) {
            id[digits / 2] |= digit(*byte) << (4 * (1 - digits % 2));
            digits += 1;
        } else {
            return None;
        }
    }
    Some(id)
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => byte.wrapping_sub(b'a' - 10),
    }
}
