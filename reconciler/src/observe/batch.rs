//! Worlds of Jobs and CronJobs.

use std::sync::Arc;

use schemas::{Key, Kind, Now, Object, Uid};
use store::View;

use super::controlled;
use crate::{cronjob, index::Index, job};

/// A CronJob with its Jobs.
pub(crate) fn cron_job(view: &View<'_>, key: &Key, now: Now) -> Option<cronjob::World> {
    let cron_job = view.get(key)?.clone();
    let name = cronjob::due_name(&cron_job, now);
    Some(cronjob::World {
        jobs: controlled(view, &cron_job.uid(), Kind::Job),
        named: name.and_then(|name| view.get(&Key::namespaced(Kind::Job, key.ns(), &name)).cloned()),
        failure: None,
        cron_job,
    })
}

/// A Job with the pods that still matter to it.
pub(crate) fn job(view: &View<'_>, index: &Index, key: &Key, now: Now) -> Option<job::World> {
    let job = view.get(key)?.clone();
    let uid = job.uid();
    let declared = index.desired.rows.get(key).map(|row| job::Declared {
        content: row.hash,
        released: index.released.content(key) == Some(row.hash),
    });
    Some(job::World {
        pods: job_pods(view, index, &uid),
        strays: index
            .strays(Kind::Pod, key.ns())
            .filter_map(|stray| view.get(stray).cloned())
            .collect(),
        seen: index.jobs.seen(&uid, now),
        failure: None,
        tries: 0,
        declared,
        job,
    })
}

/// The pods of a Job that have not ended, or are not counted yet. The view may be ahead of the index.
pub(super) fn job_pods(view: &View<'_>, index: &Index, job: &Uid) -> Vec<Arc<Object>> {
    let pods = index.jobs.pods(job).filter_map(|pod| view.get(pod));
    pods.filter(|pod| pod.controller().is_some_and(|owner| *owner.uid == *job.0))
        .cloned()
        .collect()
}
