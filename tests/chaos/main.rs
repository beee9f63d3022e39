//! Faults on real parts: what is killed, stopped, restored or taken away.

mod databases;
mod docker;
mod kills;
mod postgres;
