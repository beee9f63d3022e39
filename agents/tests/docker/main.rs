//! Agents on a real Docker engine. Each test has its own range, and removes what it made.

#![allow(clippy::print_stderr, reason = "what was skipped must be seen")]

#[path = "../harness/mod.rs"]
mod harness;

mod images;
mod measuring;
mod node;
mod pods;
