//! How many finished Jobs are kept.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJobSpec;
use schemas::Object;

use super::{World, end};

/// Finished Jobs beyond the limits, the oldest first.
pub(super) fn beyond(world: &World, spec: &CronJobSpec) -> Vec<Arc<Object>> {
    let mut beyond = Vec::new();
    for (kind, limit) in [
        ("Complete", spec.successful_jobs_history_limit.unwrap_or(3)),
        ("Failed", spec.failed_jobs_history_limit.unwrap_or(1)),
    ] {
        let limit = usize::try_from(limit).unwrap_or(0);
        let mut jobs: Vec<&Arc<Object>> = world
            .jobs
            .iter()
            .filter(|job| end(job) == Some(kind) && !job.is_deleting())
            .collect();
        jobs.sort_by_cached_key(|job| (started(job), job.name().to_owned()));
        let too_many = jobs.len().saturating_sub(limit);
        beyond.extend(jobs.into_iter().take(too_many).cloned());
    }
    beyond
}

fn started(job: &Object) -> Option<Timestamp> {
    let shown = job.status.as_ref().and_then(|status| status.at("startTime")?.text());
    let created = job.meta.creation_timestamp.as_ref().map(|time| time.0);
    shown.and_then(|shown| shown.parse().ok()).or(created)
}
