use std::time::Duration;

use schemas::{ContentHash, labels};
use serde_json::json;

use super::harness::Cluster;
use crate::{job::Declared, plan::Step};

#[test]
fn a_finished_job_is_kept_as_long_as_it_says() {
    let mut forever = Cluster::new(json!({}));
    forever.settle();
    forever.end_all(0);
    forever.settle();
    forever.pass(1_000_000);
    assert_eq!(forever.look().requeue_after, None);

    let mut cluster = Cluster::new(json!({"ttlSecondsAfterFinished": 60}));
    cluster.settle();
    cluster.end_all(0);
    assert_eq!(cluster.settle().requeue_after, Some(Duration::from_secs(60)));
    cluster.pass(20);
    cluster.restart();
    assert_eq!(cluster.settle().requeue_after, Some(Duration::from_secs(40)));
    cluster.pass(40);
    let plan = cluster.look();
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::Remember(_))));
    let job = cluster.job();
    assert!(job.is_deleting());
    assert_eq!(
        job.meta.finalizers.as_deref(),
        Some(&vec![labels::FOREGROUND_DELETION.to_owned()])
    );
    assert!(cluster.look().is_empty());
}

#[test]
fn of_a_declared_job_it_is_remembered_first_how_it_ended() {
    let mut cluster = Cluster::new(json!({"ttlSecondsAfterFinished": 0, "backoffLimit": 0}));
    let content = ContentHash::of_bytes(b"it");
    cluster.declared = Some(Declared {
        content,
        released: false,
    });
    cluster.settle();
    cluster.end_all(3);
    let plan = cluster.settle();
    assert!(!cluster.job().is_deleting(), "its newest content is yet to be released");
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(1)));
    cluster.declared = Some(Declared {
        content,
        released: true,
    });
    let plan = cluster.look();
    let Some(Step::Remember(note)) = plan.steps.first() else {
        panic!("{:?}", plan.steps);
    };
    let finished = note.finished.as_ref().expect("it is remembered");
    assert_eq!((finished.content, finished.succeeded), (content, false));
    assert!(
        finished.reason.starts_with("BackoffLimitExceeded: "),
        "{}",
        finished.reason
    );
    assert!(cluster.job().is_deleting());
}
