//! Opening a store again, and while another one is open.

use std::sync::Arc;

use store::{Office, Retention, Scope, WriteError, log::Log};

use super::{create, everything, key, open, set_status, until};

pub(crate) async fn a_restart_changes_nothing(log: Arc<dyn Log>) {
    let store = open(log.clone()).await;
    create(&store, "a").await;
    set_status(&store, "a", "Running").await.expect("written");
    let before = (
        store.version(),
        store.cluster(),
        store.incarnation(),
        everything(&store),
    );
    store.close().await;
    let refused = set_status(&store, "a", "late").await;
    assert!(matches!(refused, Err(WriteError::Unavailable(_))), "{refused:?}");
    assert!(!store.is_writable());
    let store = open(log).await;
    assert_eq!(
        (
            store.version(),
            store.cluster(),
            store.incarnation(),
            everything(&store)
        ),
        before
    );
    assert!(store.is_writable());
    create(&store, "b").await;
}

pub(crate) async fn a_watch_resumes_over_a_restart(log: Arc<dyn Log>) {
    let store = open(log.clone()).await;
    let start = store.version();
    create(&store, "a").await;
    set_status(&store, "a", "1").await.expect("written");
    let end = store.version();
    store.close().await;
    let again = open(log).await;
    let mut watch = again.watch(Scope::all(), Some(start + 1)).expect("still kept");
    let seen = until(&mut watch, end).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].old.as_ref().map(|pod| pod.version), Some(start + 1));
    set_status(&again, "a", "2").await.expect("written");
    assert_eq!(until(&mut watch, end + 1).await.len(), 1);
}

pub(crate) async fn a_second_store_fences_the_first(log: Arc<dyn Log>) {
    let first = open(log.clone()).await;
    create(&first, "a").await;
    let second = open(log).await;
    let refused = set_status(&first, "a", "stale").await;
    assert!(matches!(refused, Err(WriteError::Unavailable(_))), "{refused:?}");
    let mut office = first.office();
    office.wait_for(|office| *office == Office::Lost).await.expect("told");
    assert!(!first.is_writable());
    assert!(second.get(&key("a")).is_some_and(|pod| pod.status.is_none()));
    set_status(&second, "a", "fresh").await.expect("the second leads");
}

pub(crate) async fn a_fenced_look_for_what_is_old_ends_the_leader(log: Arc<dyn Log>) {
    let first = open(log.clone()).await;
    let second = open(log).await;
    let refused = first.tidy(&Retention::default()).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(*first.office().borrow(), Office::Lost);
    second.tidy(&Retention::default()).await.expect("the second leads");
}
