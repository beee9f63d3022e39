//! A JSON value in few bytes: what a status costs while nobody looks at it.
//!
//! A status of a running pod is 4 kB as a tree of values, 1 kB as text and a quarter of that here:
//! words that the API repeats are numbers ([`words`]), times, ids and digests are binary, and lists and
//! objects carry their length, so that one field is found without reading the rest.

mod de;
mod part;
mod words;
mod write;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;

pub use part::Part;

/// A JSON value, packed and shared. Two are equal when their values are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Packed(Arc<[u8]>);

/// Bytes that no [`Packed`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no packed value; a newer version of Towline may have written them")]
pub struct NotPacked;

/// What each token starts with.
mod tag {
    pub(super) const NULL: u8 = 0x00;
    pub(super) const FALSE: u8 = 0x01;
    pub(super) const TRUE: u8 = 0x02;
    /// A zigzag varint.
    pub(super) const INT: u8 = 0x03;
    /// A varint: an integer that an `i64` does not hold.
    pub(super) const BIG: u8 = 0x04;
    /// Eight bytes.
    pub(super) const FLOAT: u8 = 0x05;
    /// A length and UTF-8.
    pub(super) const TEXT: u8 = 0x06;
    /// The number of a word behind the first 128.
    pub(super) const WORD: u8 = 0x07;
    /// Seconds since 1970 in four bytes: `2026-01-02T03:04:05Z`.
    pub(super) const TIME: u8 = 0x08;
    /// A text, a count, and this many bytes that read as lower-case hexadecimal digits.
    pub(super) const HEX: u8 = 0x09;
    /// Sixteen bytes.
    pub(super) const UUID: u8 = 0x0a;
    /// A length and the items.
    pub(super) const LIST: u8 = 0x0b;
    /// A length and the entries: a text and a value each.
    pub(super) const MAP: u8 = 0x0c;
    /// Integers from 0 to 31.
    pub(super) const SMALL: u8 = 0x20;
    /// Texts of less than 32 bytes.
    pub(super) const SHORT: u8 = 0x40;
    /// The first 128 words.
    pub(super) const FIRST: u8 = 0x80;
}

/// How deep lists and objects may be in each other; JSON text is not read deeper either.
const DEPTH: usize = 128;

impl Packed {
    /// Packs what serializes as JSON.
    pub fn of<T: Serialize>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_value(value).map(Self::from)
    }

    /// Takes bytes that [`Packed::bytes`] gave out earlier.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotPacked> {
        let mut rest = bytes;
        part::check(&mut rest, DEPTH)
            .filter(|()| rest.is_empty())
            .ok_or(NotPacked)?;
        Ok(Self(bytes.into()))
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The whole value, for looking at without unpacking it.
    #[must_use]
    pub fn part(&self) -> Part<'_> {
        Part::new(&self.0)
    }

    /// A field of an object, by names with slashes between them: `spec/replicas`. Numbers are places
    /// in lists.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<Part<'_>> {
        self.part().at(path)
    }

    /// A text at a path, if it is a word: no time, id or digest.
    #[must_use]
    pub fn word(&self, path: &str) -> Option<&str> {
        self.at(path)?.word()
    }

    #[must_use]
    pub fn value(&self) -> Value {
        self.part().value()
    }

    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        self.part().parse()
    }
}

impl From<&Value> for Packed {
    fn from(value: &Value) -> Self {
        let mut bytes = Vec::with_capacity(256);
        write::value(&mut bytes, value);
        Self(bytes.into())
    }
}

impl From<Value> for Packed {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl From<Arc<Value>> for Packed {
    fn from(value: Arc<Value>) -> Self {
        Self::from(&*value)
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.part().fmt(f)
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.part().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests;
