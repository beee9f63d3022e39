//! The Jobs of a CronJob.

use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::{api::batch::v1::CronJobSpec, apimachinery::pkg::apis::meta::v1::Time};
use schemas::{Kind, Now, Object, ObjectError, defaulting, labels};
use serde_json::json;

use crate::ids::Ids;

/// The name of the Job of a start: the same however often it is looked at.
pub(super) fn name(cron_job: &Object, at: Timestamp) -> String {
    format!("{}-{}", cron_job.name(), at.as_second().div_euclid(60))
}

/// The Job of a start.
pub(super) fn job(
    cron_job: &Object,
    spec: &CronJobSpec,
    at: Timestamp,
    zone: &TimeZone,
    now: Now,
    ids: &mut Ids,
) -> Result<Object, ObjectError> {
    let template = &spec.job_template;
    let meta = template.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(labels::CRON_JOB_SCHEDULED.to_owned(), shown(at, zone));
    let info = Kind::Job.info();
    let mut value = json!({
        "apiVersion": info.api_version(),
        "kind": info.name,
        "metadata": {
            "name": name(cron_job, at),
            "namespace": cron_job.namespace(),
            "labels": meta.labels.unwrap_or_default(),
            "annotations": annotations,
            "ownerReferences": [cron_job.as_controller()],
        },
        "spec": template.spec,
    });
    let uid = ids.uid();
    defaulting::default_object(Kind::Job, &mut value);
    defaulting::identify_job(&mut value, &uid.0);
    let status = defaulting::initial_status(Kind::Job, &value);
    let mut job = Object::from_value(value)?;
    job.meta.uid = Some(uid.0);
    job.meta.creation_timestamp = Some(Time(now.wall));
    job.status = status.map(Into::into);
    Ok(job)
}

/// The time of a start as people read it in its time zone.
fn shown(at: Timestamp, zone: &TimeZone) -> String {
    let at = at.to_zoned(zone.clone());
    if at.offset().is_zero() {
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}
