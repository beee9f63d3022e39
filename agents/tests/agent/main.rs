//! The agent on a fake runtime with a server in memory, faults included.

#[path = "../harness/mod.rs"]
mod harness;

mod adopting;
mod claims;
mod clocks;
mod engine;
mod histories;
mod joining;
mod making;
mod running;
mod sampling;
mod sessions;
mod world;
