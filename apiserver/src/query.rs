//! Queries and percent-encoding.

use std::str::FromStr;

use crate::status::ApiError;

/// The pairs of a query, decoded, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
            })
            .collect();
        Self(pairs)
    }

    /// The first value of a parameter, also when it is empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter, unless it is empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A switch: `true`, `1` or nothing behind the name turn it on.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("false" | "0" | "False" | "FALSE" | "f" | "F") => Ok(false),
            Some("" | "true" | "1" | "True" | "TRUE" | "t" | "T") => Ok(true),
            Some(other) => Err(ApiError::bad_request(format!(
                "the query parameter {name} must be true or false, not {other:?}"
            ))),
        }
    }

    /// A number, or anything else that is read from text.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::bad_request(format!("the query parameter {name} is not valid: {text:?}"))),
        }
    }
}

/// Reads `%41` as `A`. What is no valid escape stays as it is; bytes that are no UTF-8 are replaced.
#[must_use]
pub fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_broken_ones_kept() {
        for (text, decoded) in [
            ("a%3Db", "a=b"),
            ("a%2", "a%2"),
            ("%zz%41", "%zzA"),
            ("%+1", "%+1"),
            ("%C3%A9", "é"),
            ("%FF", "\u{fffd}"),
        ] {
            assert_eq!(decode(text), decoded, "{text}");
        }
    }

    #[test]
    fn flags_and_numbers_refuse_what_they_cannot_read() {
        let query = Query::parse("watch=1&follow&limit=x&labelSelector=a%3Db+c&watch=0&empty=");
        assert!(query.flag("watch").expect("a flag"));
        assert!(query.flag("follow").expect("a flag"));
        assert!(!query.flag("absent").expect("a flag"));
        assert!(query.flag("limit").is_err());
        assert!(query.parsed::<u32>("limit").is_err());
        assert_eq!(query.parsed::<u32>("empty").expect("nothing"), None);
        assert_eq!(query.text("labelSelector"), Some("a=b c"));
        assert_eq!(query.all("watch").collect::<Vec<_>>(), ["1", "0"]);
    }
}
