//! Measuring containers: from the kernel where its figures can be read, else by asking the engine.

use std::{path::Path, time::Duration};

use bollard::{models::ContainerStatsResponse, query_parameters::StatsOptionsBuilder};
use futures::{StreamExt, stream};

use super::{Docker, machine};
use crate::runtime::{ContainerId, Machine, RuntimeError, Usage};

/// Containers that the engine is asked about at the same time.
const ASKED: usize = 4;
/// How long all of these questions may take; what is not answered by then is not known this time.
const PATIENCE: Duration = Duration::from_secs(10);

impl Docker {
    pub(super) async fn measure(&self, ids: &[ContainerId]) -> Result<Vec<Option<Usage>>, RuntimeError> {
        let mut usages = self.read(ids).await;
        let unread: Vec<usize> = (0..ids.len()).filter(|at| usages[*at].is_none()).collect();
        if unread.is_empty() {
            return Ok(usages);
        }
        let client = self.client().await?;
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut answers = stream::iter(unread)
            .map(|at| {
                let mut stats = client.stats(&ids[at], Some(options.clone())).boxed();
                async move { (at, stats.next().await) }
            })
            .buffer_unordered(ASKED);
        let all = async {
            // A container that ended in the meantime is not known, and no error.
            while let Some((at, answer)) = answers.next().await {
                usages[at] = answer.and_then(Result::ok).and_then(usage);
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::debug!("the engine was too slow to tell what every container uses");
        }
        Ok(usages)
    }

    /// Reads the control groups of these containers, which takes a few system calls each.
    async fn read(&self, ids: &[ContainerId]) -> Vec<Option<Usage>> {
        let nothing = vec![None; ids.len()];
        let Some(groups) = self.cgroups.clone() else {
            return nothing;
        };
        let ids = ids.to_vec();
        let read = tokio::task::spawn_blocking(move || {
            groups.keep(&ids);
            ids.iter().map(|id| groups.usage(id)).collect()
        });
        read.await.unwrap_or(nothing)
    }

    pub(super) async fn look_at_machine(&self, data: Option<&Path>) -> Machine {
        if self.cgroups.is_none() {
            return Machine::default();
        }
        let (data, root) = (data.map(Path::to_owned), self.root.lock().clone());
        // A file system behind a network can take its time.
        let looked = tokio::task::spawn_blocking(move || machine::read(data.as_deref(), &root));
        looked.await.unwrap_or_default()
    }
}

fn usage(stats: ContainerStatsResponse) -> Option<Usage> {
    let memory = stats.memory_stats?;
    let cache = memory.stats.as_ref().and_then(|stats| {
        let named = |name: &str| stats.get(name).copied();
        named("total_inactive_file").or_else(|| named("inactive_file"))
    });
    Some(Usage {
        cpu: stats.cpu_stats?.cpu_usage?.total_usage?,
        memory: memory.usage?.saturating_sub(cache.unwrap_or(0)),
    })
}
