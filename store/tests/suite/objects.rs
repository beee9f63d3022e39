//! Writing objects, with and without preconditions.

use std::sync::Arc;

use schemas::{Kind, Object, Uid};
use store::{Class, Op, Write, WriteError, log::Log};

use super::{create, key, open, pod, set_status, status};

pub(crate) async fn objects_are_written_and_read(log: Arc<dyn Log>) {
    let store = open(log).await;
    let start = store.version();
    let a = create(&store, "a").await;
    assert_eq!(a.version, start + 1);
    assert_eq!(a.meta.generation, Some(1));
    let b = create(&store, "b").await;
    assert_eq!(b.version, start + 2);
    // The two share one body, though they were written apart.
    assert!(Arc::ptr_eq(&a.body, &b.body));

    let mut changed = Object::clone(&a);
    changed.body = pod("a", "j").body;
    changed.status = Some(status("ignored"));
    let replaced = store
        .write_one(Class::User, Write::new(Op::Replace(changed)).version(a.version))
        .await
        .expect("it is replaced");
    assert_eq!(replaced.meta.generation, Some(2));
    assert_eq!(replaced.status, None);
    let same = store
        .write_one(Class::User, Write::new(Op::Replace(Object::clone(&replaced))))
        .await
        .expect("nothing to do");
    assert_eq!(same.version, replaced.version);
    assert_eq!(store.version(), start + 3);

    set_status(&store, "a", "Running").await.expect("it has a status");
    let bind = |node: &str| {
        Write::new(Op::Bind {
            key: key("a"),
            node: node.into(),
            status: None,
        })
    };
    store.write_one(Class::Controller, bind("n1")).await.expect("bound");
    let again = store.write_one(Class::Controller, bind("n2")).await;
    assert!(matches!(again, Err(WriteError::Conflict { .. })), "{again:?}");
    let found = store.get(&key("a")).expect("it is there");
    assert_eq!(found.node.as_deref(), Some("n1"));
    assert_eq!(found.status, Some(status("Running")));
    assert_eq!(found.meta.generation, Some(2));

    let list = store.list(Kind::Pod, Some("shop"));
    assert_eq!(list.version, store.version());
    assert_eq!(list.items.iter().map(|pod| pod.name()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(store.list(Kind::Pod, Some("sho")).items.is_empty());
    assert_eq!(store.view().on_node("n1").count(), 1);
    assert_eq!(
        store
            .view()
            .by_uid(&"uid-b".into())
            .map(|pod| pod.name().to_owned())
            .as_deref(),
        Some("b")
    );
    let page = store.view().list_after(Kind::Pod, None, &key("a")).count();
    assert_eq!(page, 1);

    // A name is free again within the same call.
    let answers = store
        .write(
            Class::User,
            vec![
                Write::new(Op::Remove { key: key("a") }),
                Write::new(Op::Create(pod("a", "k"))),
            ],
        )
        .await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(store.view().on_node("n1").count(), 0);

    // The last finalizer holds an object that is being deleted, and lets it go.
    let mut held = pod("held", "i");
    held.meta.finalizers = Some(vec!["towline.dev/test".to_owned()].into());
    let held = store
        .write_one(Class::User, Write::new(Op::Create(held)))
        .await
        .expect("created");
    let refused = store
        .write_one(Class::User, Write::new(Op::Remove { key: key("held") }))
        .await;
    assert!(matches!(refused, Err(WriteError::Conflict { .. })), "{refused:?}");
    let mut deleting = Object::clone(&held);
    deleting.meta.deletion_timestamp = deleting.meta.creation_timestamp.clone();
    deleting.meta.deletion_grace_period_seconds = Some(0);
    store
        .write_one(Class::User, Write::new(Op::Replace(deleting.clone())))
        .await
        .expect("marked");
    deleting.meta.finalizers = None;
    store
        .write_one(Class::User, Write::new(Op::Replace(deleting)))
        .await
        .expect("let go");
    assert!(store.get(&key("held")).is_none());
}

pub(crate) async fn one_failed_precondition_fails_one_write(log: Arc<dyn Log>) {
    let store = open(log).await;
    let a = create(&store, "a").await;
    let missing = Op::Status {
        key: key("nobody"),
        status: status("x"),
    };
    let mut nameless = pod("x", "i");
    nameless.meta.uid = None;
    let mut stolen = pod("y", "i");
    stolen.meta.uid = Some("uid-a".into());
    let answers = store
        .write(
            Class::User,
            vec![
                Write::new(Op::Create(pod("a", "i"))),
                Write::new(Op::Status {
                    key: key("a"),
                    status: status("1"),
                })
                .version(a.version + 7),
                Write::new(Op::Status {
                    key: key("a"),
                    status: status("1"),
                })
                .uid(Uid::from("other")),
                Write::new(missing),
                Write::new(Op::Create(nameless)),
                Write::new(Op::Create(stolen)),
                Write::new(Op::Status {
                    key: key("a"),
                    status: status("2"),
                })
                .version(a.version)
                .uid(a.uid()),
                // The write before moved it on within the batch.
                Write::new(Op::Status {
                    key: key("a"),
                    status: status("3"),
                })
                .version(a.version),
            ],
        )
        .await;
    use WriteError::{AlreadyExists, Conflict, Invalid, NotFound};
    assert!(matches!(&answers[0], Err(AlreadyExists(_))), "{answers:?}");
    assert!(matches!(&answers[1], Err(Conflict { .. })), "{answers:?}");
    assert!(matches!(&answers[2], Err(Conflict { .. })), "{answers:?}");
    assert!(matches!(&answers[3], Err(NotFound(_))), "{answers:?}");
    assert!(matches!(&answers[4], Err(Invalid { .. })), "{answers:?}");
    assert!(matches!(&answers[5], Err(Invalid { .. })), "{answers:?}");
    assert!(
        matches!(&answers[6], Ok(pod) if pod.version == a.version + 1),
        "{answers:?}"
    );
    assert!(matches!(&answers[7], Err(Conflict { .. })), "{answers:?}");
    assert_eq!(store.version(), a.version + 1);
}
