//! The vocabulary of Towline: kinds, ids, objects, selectors, quantities, defaulting and validation.
//!
//! Nothing here does I/O, reads a clock or spawns anything; time and ids come in as arguments.

pub mod apply;
mod cow;
pub mod defaulting;
pub mod deletion;
pub mod diff;
pub mod event;
pub mod fields;
pub mod health;
pub mod id;
pub mod indexes;
pub mod jsonschema;
pub mod kind;
pub mod labels;
pub mod manifest;
pub mod meta;
pub mod node;
pub mod now;
pub mod object;
pub mod older;
pub mod openapi;
pub mod origin;
pub mod packed;
pub mod patch;
pub mod quantity;
pub mod quota;
pub mod replaced;
pub mod report;
pub mod restore;
pub mod rollout;
pub mod scale;
pub mod schedule;
pub mod selector;
pub mod shared;
pub mod storage;
mod structure;
pub mod template;
pub mod validate;
pub mod writable;

pub use cow::Shared;
pub use id::{Commit, ContentHash, Key, Uid, Unit};
pub use kind::{Kind, KindInfo};
pub use meta::Meta;
pub use now::Now;
pub use object::{Body, Object, ObjectError};
pub use packed::{Packed, Part};
