//! The watcher on real repositories, over a store in memory.

// Measurements are for whoever runs the tests.
#![allow(clippy::print_stdout)]

mod check;
mod harness;
mod hold;
mod origin;
mod plan;
mod remote;
mod restore;
mod source;
mod ssh;
mod status;
mod sync;
