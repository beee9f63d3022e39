//! Typed values straight from packed bytes.

use serde::{
    Deserializer,
    de::{DeserializeSeed, IntoDeserializer as _, MapAccess, SeqAccess, Visitor},
    forward_to_deserialize_any,
};
use serde_json::{Error, Value};

use super::{Part, part::Token};

pub(super) struct Reader<'a>(pub(super) Part<'a>);

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.token() {
            Token::Null => visitor.visit_unit(),
            Token::Bool(bool) => visitor.visit_bool(bool),
            Token::Int(int) => visitor.visit_i64(int),
            Token::Big(big) => visitor.visit_u64(big),
            Token::Float(float) => visitor.visit_f64(float),
            Token::Text(text) => visitor.visit_str(&text),
            Token::List(_) => visitor.visit_seq(Items(self.0.items())),
            Token::Map(_) => visitor.visit_map(Entries {
                entries: self.0.entries(),
                value: None,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.token() {
            Token::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        Value::deserialize_enum(self.0.value(), name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<I>(I);

impl<'de, 'a, I: Iterator<Item = Part<'a>>> SeqAccess<'de> for Items<I> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|part| seed.deserialize(Reader(part))).transpose()
    }
}

struct Entries<'a, I> {
    entries: I,
    value: Option<Part<'a>>,
}

impl<'de, 'a, I: Iterator<Item = (std::borrow::Cow<'a, str>, Part<'a>)>> MapAccess<'de> for Entries<'a, I> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, part)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(part);
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.value.take() {
            Some(part) => seed.deserialize(Reader(part)),
            None => Err(serde::de::Error::custom("a value was asked for before its name")),
        }
    }
}
