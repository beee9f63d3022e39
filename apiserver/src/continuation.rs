//! Where a list that is read in pages goes on.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use schemas::{Key, Kind, node::Incarnation};
use serde::{Deserialize, Serialize};

use crate::status::ApiError;

/// What a continue token holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Continuation {
    /// The version of the first page. All pages name it: a watch from there sees every change that
    /// happened between the pages.
    #[serde(rename = "v")]
    pub version: u64,
    #[serde(rename = "i")]
    pub incarnation: Incarnation,
    #[serde(rename = "ns")]
    namespace: Option<String>,
    #[serde(rename = "n")]
    name: String,
}

impl Continuation {
    /// Goes on behind `last`.
    #[must_use]
    pub(crate) fn after(last: &Key, version: u64, incarnation: Incarnation) -> Self {
        Self {
            version,
            incarnation,
            namespace: last.namespace.as_deref().map(str::to_owned),
            name: last.name.to_string(),
        }
    }

    /// The key that the page before ended with.
    #[must_use]
    pub(crate) fn key(&self, kind: Kind) -> Key {
        Key {
            kind,
            namespace: self.namespace.as_deref().map(Into::into),
            name: self.name.as_str().into(),
        }
    }

    #[must_use]
    pub(crate) fn token(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a token.
    ///
    /// # Errors
    /// A 400 for what is no token, a 410 for one of another life of the store.
    pub(crate) fn read(token: &str, incarnation: &Incarnation) -> Result<Self, ApiError> {
        let read = BASE64_URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok())
            .ok_or_else(|| ApiError::bad_request("continue key is not valid: it is not one of this server's tokens"))?;
        if read.incarnation != *incarnation {
            return Err(ApiError::expired(
                "The provided continue parameter is too old: the store was restored since; list again without it",
            ));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_others_are_refused() {
        let life = Incarnation("a".into());
        for key in [
            Key::namespaced(Kind::Pod, "shop", "web-1"),
            Key::cluster(Kind::Node, "n"),
        ] {
            let continuation = Continuation::after(&key, 7, life.clone());
            let read = Continuation::read(&continuation.token(), &life).expect("a token");
            assert_eq!(read, continuation);
            assert_eq!(read.key(key.kind), key);
        }
        let token = Continuation::after(&Key::cluster(Kind::Node, "n"), 7, life).token();
        let other = Incarnation("b".into());
        for (token, code) in [(token.as_str(), 410), ("nonsense", 400), ("e30", 400), ("", 400)] {
            let error = Continuation::read(token, &other).expect_err("it is not valid");
            assert_eq!(error.code.as_u16(), code, "{token}");
        }
    }
}
