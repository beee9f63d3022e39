//! Looking into packed bytes.

use std::{borrow::Cow, fmt, fmt::Write as _};

use jiff::Timestamp;
use serde::{
    Serialize, Serializer,
    de::DeserializeOwned,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Map, Number, Value};

use super::{de, tag, words};

/// One value within a packed one. Reading a field of it unpacks nothing else.
#[derive(Clone, Copy)]
pub struct Part<'a>(&'a [u8]);

/// One token, read.
pub(super) enum Token<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Big(u64),
    Float(f64),
    Text(Cow<'a, str>),
    List(&'a [u8]),
    Map(&'a [u8]),
}

impl<'a> Part<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes were checked when they came in, so what cannot be read does not occur; it would read
    /// as null.
    pub(super) fn token(self) -> Token<'a> {
        let mut rest = self.0;
        token(&mut rest).unwrap_or(Token::Null)
    }

    /// A field of an object.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Part<'a>> {
        self.entries().find(|(found, _)| found == name).map(|(_, part)| part)
    }

    /// As [`super::Packed::at`].
    #[must_use]
    pub fn at(self, path: &str) -> Option<Part<'a>> {
        let mut part = self;
        for name in path.split('/') {
            part = match part.0.first() {
                Some(&tag::LIST) => part.items().nth(name.parse().ok()?)?,
                _ => part.get(name)?,
            };
        }
        Some(part)
    }

    /// The items of a list; none for anything else.
    pub fn items(self) -> impl Iterator<Item = Part<'a>> + use<'a> {
        let mut rest = match self.token() {
            Token::List(items) => items,
            _ => &[],
        };
        std::iter::from_fn(move || next(&mut rest))
    }

    /// The entries of an object; none for anything else.
    pub fn entries(self) -> impl Iterator<Item = (Cow<'a, str>, Part<'a>)> + use<'a> {
        let mut rest = match self.token() {
            Token::Map(entries) => entries,
            _ => &[],
        };
        std::iter::from_fn(move || {
            let Token::Text(name) = token(&mut rest)? else {
                return None;
            };
            Some((name, next(&mut rest)?))
        })
    }

    #[must_use]
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self.token() {
            Token::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text, if it is a word: no time, id or digest.
    #[must_use]
    pub fn word(self) -> Option<&'a str> {
        match self.token() {
            Token::Text(Cow::Borrowed(text)) => Some(text),
            _ => None,
        }
    }

    #[must_use]
    pub fn int(self) -> Option<i64> {
        match self.token() {
            Token::Int(int) => Some(int),
            _ => None,
        }
    }

    #[must_use]
    pub fn bool(self) -> Option<bool> {
        match self.token() {
            Token::Bool(bool) => Some(bool),
            _ => None,
        }
    }

    /// Whether this is the text `text`.
    #[must_use]
    pub fn is(self, text: &str) -> bool {
        self.text().is_some_and(|found| found == text)
    }

    /// Whether this is an object with the text `text` in a field.
    #[must_use]
    pub fn has(self, name: &str, text: &str) -> bool {
        self.get(name).is_some_and(|found| found.is(text))
    }

    #[must_use]
    pub fn value(self) -> Value {
        match self.token() {
            Token::Null => Value::Null,
            Token::Bool(bool) => Value::Bool(bool),
            Token::Int(int) => int.into(),
            Token::Big(big) => big.into(),
            Token::Float(float) => Number::from_f64(float).map_or(Value::Null, Value::Number),
            Token::Text(text) => Value::String(text.into_owned()),
            Token::List(_) => Value::Array(self.items().map(Part::value).collect()),
            Token::Map(_) => Value::Object(self.map()),
        }
    }

    /// The entries of an object as values; none for anything else.
    #[must_use]
    pub fn map(self) -> Map<String, Value> {
        self.entries()
            .map(|(name, part)| (name.into_owned(), part.value()))
            .collect()
    }

    pub fn parse<T: DeserializeOwned>(self) -> Result<T, serde_json::Error> {
        T::deserialize(de::Reader(self))
    }
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value().fmt(f)
    }
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.token() {
            Token::Null => serializer.serialize_unit(),
            Token::Bool(bool) => serializer.serialize_bool(bool),
            Token::Int(int) => serializer.serialize_i64(int),
            Token::Big(big) => serializer.serialize_u64(big),
            Token::Float(float) => serializer.serialize_f64(float),
            Token::Text(text) => serializer.serialize_str(&text),
            Token::List(_) => {
                let mut list = serializer.serialize_seq(None)?;
                self.items().try_for_each(|item| list.serialize_element(&item))?;
                list.end()
            }
            Token::Map(_) => {
                let mut map = serializer.serialize_map(None)?;
                self.entries()
                    .try_for_each(|(name, item)| map.serialize_entry(&*name, &item))?;
                map.end()
            }
        }
    }
}

/// The next value, skipped over.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Part<'a>> {
    let start = *rest;
    token(rest)?;
    Some(Part(&start[..start.len() - rest.len()]))
}

fn token<'a>(rest: &mut &'a [u8]) -> Option<Token<'a>> {
    let first = byte(rest)?;
    Some(match first {
        tag::NULL => Token::Null,
        tag::FALSE => Token::Bool(false),
        tag::TRUE => Token::Bool(true),
        tag::INT => {
            let zigzag = varint(rest)?;
            Token::Int((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()))
        }
        tag::BIG => Token::Big(varint(rest)?),
        tag::FLOAT => Token::Float(f64::from_le_bytes(take(rest, 8)?.try_into().ok()?)),
        tag::LIST => Token::List(counted(rest)?),
        tag::MAP => Token::Map(counted(rest)?),
        0x20..0x40 => Token::Int(i64::from(first & !tag::SMALL)),
        _ => Token::Text(text(first, rest)?),
    })
}

fn text<'a>(first: u8, rest: &mut &'a [u8]) -> Option<Cow<'a, str>> {
    let word = |number| {
        words::WORDS
            .get(usize::try_from(number).ok()?)
            .copied()
            .map(Cow::Borrowed)
    };
    match first {
        tag::FIRST.. => word(u64::from(first & !tag::FIRST)),
        tag::WORD => word(varint(rest)?),
        0x40..0x60 => {
            let bytes = take(rest, usize::from(first & !tag::SHORT))?;
            std::str::from_utf8(bytes).ok().map(Cow::Borrowed)
        }
        tag::TEXT => std::str::from_utf8(counted(rest)?).ok().map(Cow::Borrowed),
        tag::TIME => {
            let seconds = u32::from_le_bytes(take(rest, 4)?.try_into().ok()?);
            Some(Timestamp::from_second(seconds.into()).ok()?.to_string().into())
        }
        tag::UUID => {
            let mut text = String::with_capacity(36);
            for (at, byte) in take(rest, 16)?.iter().enumerate() {
                if matches!(at, 4 | 6 | 8 | 10) {
                    text.push('-');
                }
                let _ = write!(text, "{byte:02x}");
            }
            Some(text.into())
        }
        tag::HEX => {
            let head = byte(rest)?;
            // A head is a plain text, so that hostile bytes cannot nest.
            if head == tag::HEX {
                return None;
            }
            let mut text = text(head, rest)?.into_owned();
            for byte in counted(rest)? {
                text.push(HEX[usize::from(byte >> 4)]);
                text.push(HEX[usize::from(byte & 15)]);
            }
            Some(text.into())
        }
        _ => None,
    }
}

const HEX: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
];

/// Whether one whole value is at the start; `rest` is then what follows it.
pub(super) fn check(rest: &mut &[u8], depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    match token(rest)? {
        Token::List(mut items) => {
            while !items.is_empty() {
                check(&mut items, depth)?;
            }
        }
        Token::Map(mut entries) => {
            while !entries.is_empty() {
                let Token::Text(_) = token(&mut entries)? else {
                    return None;
                };
                check(&mut entries, depth)?;
            }
        }
        _ => {}
    }
    Some(())
}

fn counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(rest)?).ok()?;
    take(rest, length)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    Some(*first)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let next = byte(rest)?;
        number |= u64::from(next & 0x7f) << shift;
        if next < 0x80 {
            return Some(number);
        }
    }
    None
}
