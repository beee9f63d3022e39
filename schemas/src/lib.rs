//! The vocabulary of Towline: kinds, ids, objects, selectors, quantities, defaulting and validation.
//!
//! Nothing here does I/O, reads a clock or spawns anything; time and ids come in as arguments.

pub mod apply;
pub mod defaulting;
pub mod deletion;
pub mod event;
pub mod fields;
pub mod health;
pub mod id;
pub mod jsonschema;
pub mod kind;
pub mod labels;
pub mod manifest;
pub mod node;
pub mod now;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod priority;
pub mod quantity;
pub mod report;
pub mod selector;
mod structure;
pub mod template;
pub mod validate;
pub mod writable;

pub use id::{Commit, ContentHash, Key, Uid, Unit};
pub use kind::{Kind, KindInfo};
pub use now::Now;
pub use object::{Body, Object, ObjectError};
