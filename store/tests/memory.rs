//! The suite on the log in memory, and what happens when that log fails.

mod suite;

use std::{sync::Arc, time::Duration};

use store::{
    Class, MemoryLog, Office, Op, Options, Scope, Store, Write, WriteError,
    log::{Fault, Log},
};
use suite::{create, key, open, set_status};

struct Fresh(Arc<MemoryLog>);

impl Fresh {
    fn log(&self) -> Arc<dyn Log> {
        self.0.clone()
    }
}

async fn fresh() -> Fresh {
    Fresh(Arc::new(MemoryLog::default()))
}

suite!(fresh);

async fn start() -> (Arc<MemoryLog>, Store) {
    let log = Arc::new(MemoryLog::default());
    let store = open(log.clone()).await;
    create(&store, "a").await;
    (log, store)
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_asked_after_the_outcome() {
    for fault in [Fault::LostBefore, Fault::LostAfter] {
        let (log, store) = start().await;
        let version = store.version();
        let mut watch = store.watch(Scope::all(), None).expect("now");
        log.inject([fault]);
        let pod = set_status(&store, "a", "Running").await.expect("written once");
        assert_eq!(pod.version, version + 1, "{fault:?}");
        assert_eq!(suite::until(&mut watch, version + 1).await.len(), 1);
        assert!(store.is_writable());
        let reopened = open(log).await;
        assert_eq!(reopened.version(), version + 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_leaves_no_trace() {
    let (log, store) = start().await;
    let version = store.version();
    log.inject([Fault::Refused]);
    let refused = set_status(&store, "a", "Running").await;
    assert!(matches!(refused, Err(WriteError::Invalid { .. })), "{refused:?}");
    assert_eq!(store.version(), version);
    assert_eq!(
        set_status(&store, "a", "Running").await.expect("written").version,
        version + 1
    );
}

#[tokio::test(start_paused = true)]
async fn one_row_that_the_log_refuses_fails_alone() {
    let (log, store) = start().await;
    log.refuse(key("bad"));
    let version = store.version();
    let names = ["b", "c", "bad", "d", "e", "f", "g"];
    let writes = names.map(|name| Write::new(Op::Create(suite::pod(name, "i"))));
    let answers = store.write(Class::User, writes.into()).await;
    for (name, answer) in names.iter().zip(&answers) {
        match answer {
            Err(WriteError::Invalid { key, reason }) => {
                assert_eq!((&*key.name, *name), ("bad", "bad"));
                assert!(reason.contains("the database refuses it"), "{reason}");
            }
            answer => assert!(answer.is_ok() && *name != "bad", "{name}: {answer:?}"),
        }
    }
    assert_eq!(store.version(), version + 6, "versions stay consecutive");
    let reopened = open(log).await;
    assert_eq!(reopened.version(), store.version());
    assert!(reopened.get(&key("g")).is_some() && reopened.get(&key("bad")).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_closed_in_doubt_says_so() {
    for (fault, words) in [(Some(Fault::LostBefore), "is not known"), (None, "nothing was written")] {
        let (log, store) = start().await;
        log.inject(fault);
        log.set_away(true);
        let write = tokio::spawn({
            let store = store.clone();
            async move { set_status(&store, "a", "Running").await }
        });
        store
            .office()
            .wait_for(|office| *office == Office::Away)
            .await
            .expect("told");
        store.close().await;
        let answer = write.await.expect("it ends");
        match answer {
            Err(WriteError::Unavailable(why)) => {
                assert!(why.0.contains(words) && !why.0.contains("leads"), "{fault:?}: {why}");
            }
            answer => panic!("{fault:?}: {answer:?}"),
        }
        assert_eq!(*store.office().borrow(), Office::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_log_away_writes_fail_in_time_and_reads_go_on() {
    let (log, store) = start().await;
    log.set_away(true);
    let started = tokio::time::Instant::now();
    let refused = set_status(&store, "a", "Running").await;
    assert!(matches!(refused, Err(WriteError::Unavailable(_))), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(!store.is_writable());
    assert!(store.get(&key("a")).is_some());
    // Once that is known, nobody waits for it.
    let started = tokio::time::Instant::now();
    let refused = store.first_delivery("generic", "1").await;
    assert!(refused.is_err());
    assert!(started.elapsed() < Duration::from_millis(10));

    log.set_away(false);
    store
        .office()
        .wait_for(|office| *office == Office::Leading)
        .await
        .expect("told");
    let pod = set_status(&store, "a", "Running again").await.expect("written");
    assert_eq!(pod.status, Some(suite::status("Running again")));
}

#[tokio::test(start_paused = true)]
async fn an_idle_writer_notices_that_the_log_is_away() {
    let (log, store) = start().await;
    log.set_away(true);
    store
        .office()
        .wait_for(|office| *office == Office::Away)
        .await
        .expect("told");
    log.set_away(false);
    store
        .office()
        .wait_for(|office| *office == Office::Leading)
        .await
        .expect("told");
}

#[tokio::test(start_paused = true)]
async fn a_restored_database_is_a_new_incarnation() {
    let (log, store) = start().await;
    let backup = log.backup();
    create(&store, "b").await;
    let incarnation = store.incarnation();
    let mut watch = store.watch(Scope::all(), None).expect("now");
    log.restore(backup);
    let refused = set_status(&store, "a", "Running").await;
    assert!(matches!(refused, Err(WriteError::Unavailable(_))), "{refused:?}");
    assert_ne!(store.incarnation(), incarnation);
    assert!(store.get(&key("b")).is_none(), "the copy is what the database holds");
    assert!(watch.next().await.is_none(), "watchers must list again");
    create(&store, "b").await;
}

#[tokio::test]
async fn a_database_restored_while_nobody_ran_is_a_new_incarnation() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = Arc::new(MemoryLog::default());
    let open = async || {
        let watermark = Some(folder.path().join("watermark"));
        Store::open_with(
            log.clone(),
            Options {
                watermark,
                ..Options::default()
            },
        )
        .await
        .expect("it opens")
    };
    let store = open().await;
    create(&store, "a").await;
    let incarnation = store.incarnation();
    store.close().await;
    let backup = log.backup();
    let store = open().await;
    assert_eq!(store.incarnation(), incarnation, "a restart is no restore");
    assert!(store.first_delivery("generic", "1").await.expect("asked"));
    store.close().await;
    log.restore(backup);
    let store = open().await;
    assert_ne!(store.incarnation(), incarnation);
    store.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_fenced_commit_writes_nothing() {
    let (log, store) = start().await;
    log.inject([Fault::Fenced]);
    let refused = set_status(&store, "a", "Running").await;
    assert!(matches!(refused, Err(WriteError::Unavailable(_))), "{refused:?}");
    assert_eq!(*store.office().borrow(), Office::Lost);
    let refused = store
        .write_one(Class::User, Write::new(Op::Remove { key: key("a") }))
        .await;
    assert!(matches!(refused, Err(WriteError::Unavailable(_))), "{refused:?}");
    assert!(open(log).await.get(&key("a")).is_some_and(|pod| pod.status.is_none()));
}

#[tokio::test]
async fn a_view_may_be_taken_while_another_is_held() {
    let (_log, store) = start().await;
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..200 {
                set_status(&store, "a", &n.to_string()).await.expect("written");
            }
        })
    };
    let reader = tokio::task::spawn_blocking({
        let store = store.clone();
        move || {
            for _ in 0..2000 {
                let outer = store.view();
                assert!(store.version() >= outer.version());
            }
        }
    });
    writer.await.expect("no deadlock");
    reader.await.expect("no deadlock");
}
