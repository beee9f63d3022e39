//! The vocabulary of Towline: kinds, ids, objects, selectors, quantities, defaulting and validation.
//!
//! Nothing here does I/O, reads a clock or spawns anything; time and ids come in as arguments.

pub mod id;
pub mod kind;
pub mod node;
pub mod now;
pub mod object;
pub mod report;

pub use id::{Commit, ContentHash, Key, Uid, Unit};
pub use kind::{Kind, KindInfo};
pub use now::Now;
pub use object::{Body, Object, ObjectError};
