//! The seam under the store: what makes a batch durable.

/// Why the log could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    #[error("another server leads (epoch {found}, ours was {ours})")]
    Fenced { ours: u64, found: u64 },
    /// The batch may or may not be durable: reconnect, check the epoch and read the change log.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(String),
    #[error("the database cannot be reached: {0}")]
    Away(String),
    #[error("the database holds something this version cannot read: {0}")]
    Foreign(String),
}

/// A durable log of batches.
pub trait Log: Send + Sync + 'static {}

/// A log in memory, for tests and simulation.
#[derive(Debug, Default)]
pub struct MemoryLog {}

impl Log for MemoryLog {}
