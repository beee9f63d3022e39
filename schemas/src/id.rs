//! Names of things: keys, unique ids, commits, units and content hashes.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Kind;

/// Names one object: its kind, its namespace (none for cluster-scoped kinds) and its name.
///
/// Keys order by kind, then namespace, then name: the order of lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub kind: Kind,
    pub namespace: Option<Arc<str>>,
    pub name: Arc<str>,
}

impl Key {
    #[must_use]
    pub fn namespaced(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    #[must_use]
    pub fn cluster(kind: Kind, name: &str) -> Self {
        Self {
            kind,
            namespace: None,
            name: name.into(),
        }
    }

    /// The namespace, or the empty string for a cluster-scoped object.
    #[must_use]
    pub fn ns(&self) -> &str {
        self.namespace.as_deref().unwrap_or("")
    }
}

impl fmt::Display for Key {
    /// `Deployment shop/web`, or `Node worker-1` for a cluster-scoped kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// An object's unique id, as in `metadata.uid`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(pub Arc<str>);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// A git commit's object id, 40 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Commit(pub Arc<str>);

impl Commit {
    /// The first ten digits, as shown to people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..10).unwrap_or(&self.0)
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Commit {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// What is held or moved on together: a namespace with its `Namespace` object, or `_cluster` for
/// objects that have none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Unit(pub Arc<str>);

impl Unit {
    /// The name of the unit of cluster-scoped objects. No namespace can have it: `_` is not a DNS label.
    pub const CLUSTER: &'static str = "_cluster";

    /// The unit that an object belongs to. A `Namespace` belongs to the unit of its own name.
    #[must_use]
    pub fn of(key: &Key) -> Self {
        match (&key.namespace, key.kind) {
            (Some(namespace), _) => Self(namespace.clone()),
            (None, Kind::Namespace) => Self(key.name.clone()),
            (None, _) => Self(Self::CLUSTER.into()),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 of a body's canonical JSON. It names content; it never decides whether two contents are
/// the same for a rollout.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// The hash of `value`'s canonical form: serde_json with sorted keys and no white space.
    #[must_use]
    pub fn of(value: &serde_json::Value) -> Self {
        let mut hasher = Sha256::new();
        // Writing JSON values into a hasher cannot fail: every map key is a string.
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        hasher.update(&bytes);
        Self(hasher.finalize().into())
    }

    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({})", &hex::encode(&self.0[..6]))
    }
}

impl FromStr for ContentHash {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for ContentHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
