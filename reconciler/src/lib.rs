//! The reconcilers: observe, plan, act.
//!
//! Each controller is a module with a pure `plan`: a small world in, ordered steps with reasons out.
//! One [`execute`](execute::execute) turns steps into writes, and one driver runs them all: a queue of
//! keys, back-off for each, a periodic look at everything. Kubernetes' documented semantics of v1.33
//! are the specification.

pub mod autoscaler;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
mod distrust;
mod driver;
pub mod events;
pub mod evictions;
pub mod execute;
mod failures;
mod faults;
pub mod finished;
pub mod garbage;
pub mod ids;
mod index;
pub mod job;
pub mod namespace;
pub mod nodes;
mod observe;
mod owners;
pub mod plan;
pub mod pod_garbage;
pub mod pods;
pub mod queue;
pub mod quota;
pub mod release;
mod released;
mod removals;
pub mod replicaset;
pub mod report;
mod revision;
pub mod scheduler;
mod settling;
mod share;
#[cfg(test)]
mod simulation;
pub mod statefulset;
pub mod volumes;

use std::{sync::Arc, time::Duration};

use schemas::now::Clock;
use store::Store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use release::budget::digest;

/// How the reconcilers run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where ids come from. Two servers must not share one; a test wants a fixed one.
    pub seed: u64,
    /// How often everything is looked at although nothing changed.
    pub full_look: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: rand::random(),
            full_look: Duration::from_secs(300),
        }
    }
}

/// Starts the reconcilers on a task of their own. They end with `shutdown`, after what is being
/// written; the handle waits for that. `clock` must be the one that the store was opened with:
/// heartbeats are compared with it.
pub async fn start(
    store: Store,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
    options: Options,
) -> JoinHandle<()> {
    let driver = driver::Driver::new(store, clock, options);
    tokio::spawn(driver.run(shutdown))
}
