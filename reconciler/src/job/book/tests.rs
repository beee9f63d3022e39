use std::{sync::Arc, time::Duration};

use schemas::{Object, labels};
use serde_json::{Value, json};

use super::{Book, Seen};
use crate::simulation::start;

fn pod(name: &str, tracked: bool, status: Value) -> Arc<Object> {
    let finalizers = if tracked {
        json!([labels::JOB_TRACKING])
    } else {
        json!([])
    };
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "a", "uid": name, "finalizers": finalizers, "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "job", "controller": true}]},
        "spec": {"containers": []}, "status": status});
    Arc::new(Object::from_value(pod).expect("it is valid"))
}

fn ended(phase: &str, at: &str) -> Value {
    json!({"phase": phase, "containerStatuses": [{"state": {"terminated": {"finishedAt": at}}}]})
}

fn take(book: &mut Book, old: Option<&Arc<Object>>, new: Option<&Arc<Object>>) {
    let key = new.or(old).expect("one is there").key();
    book.take_pod(|_| true, &key, old, new, start());
}

fn seen(book: &Book) -> Seen {
    book.seen(&"job".into(), start())
}

#[test]
fn only_pods_that_still_matter_are_kept() {
    let mut book = Book::default();
    let running = pod("p", true, json!({"phase": "Running"}));
    let done = pod("p", true, ended("Succeeded", "2026-11-24T12:00:00Z"));
    let counted = pod("p", false, ended("Succeeded", "2026-11-24T12:00:00Z"));
    let kept = |book: &Book| book.pods(&"job".into()).count();
    take(&mut book, None, Some(&running));
    assert_eq!(kept(&book), 1);
    take(&mut book, Some(&running), Some(&done));
    assert_eq!(kept(&book), 1);
    take(&mut book, Some(&done), Some(&counted));
    assert_eq!(kept(&book), 0);
    assert!(seen(&book).ended.is_empty());
    take(&mut book, None, Some(&running));
    take(&mut book, Some(&running), None);
    assert_eq!(kept(&book), 0);
    // Of a Job that is gone there is nothing to keep.
    let mut book = Book::default();
    book.take_pod(|_| false, &running.key(), None, Some(&running), start());
    assert_eq!(kept(&book), 0);
}

#[test]
fn failures_before_a_success_do_not_count_in_whatever_order_they_are_met() {
    let at = |second: u32| format!("2026-11-24T11:59:{second:02}Z");
    let pods = [
        pod("a", false, ended("Failed", &at(10))),
        pod("b", false, ended("Succeeded", &at(20))),
        pod("c", false, ended("Failed", &at(30))),
        pod("d", true, ended("Failed", &at(50))),
    ];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        let mut book = Book::default();
        order
            .into_iter()
            .for_each(|at: usize| take(&mut book, None, Some(&pods[at])));
        let seen = seen(&book);
        assert_eq!((seen.failures, seen.since_failure.as_secs()), (2, 10), "{order:?}");
        assert_eq!(seen.ended.get(&"d".into()), Some(&Duration::from_secs(10)));
        assert_eq!(seen.ended.len(), 1);
    }
}

#[test]
fn many_failures_are_kept_as_a_few() {
    let mut book = Book::default();
    for number in 0..1_000 {
        take(
            &mut book,
            None,
            Some(&pod(
                &format!("p{number}"),
                false,
                ended("Failed", "2026-11-24T11:59:00Z"),
            )),
        );
    }
    assert_eq!(seen(&book).failures, super::backoff::STEPS);
}
