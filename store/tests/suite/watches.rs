//! What watches see.

use std::sync::Arc;

use schemas::Kind;
use store::{Class, Op, Scope, Write, log::Log};

use super::{create, key, open, set_status, shown, status, until};

pub(crate) async fn watches_see_their_scope_in_order(log: Arc<dyn Log>) {
    let store = open(log).await;
    let start = store.version();
    let mut all = store.watch(Scope::all(), None).expect("now");
    let mut other = store.watch(Scope::kinds(&[Kind::ConfigMap]), None).expect("now");
    let mut space = store
        .watch(Scope::kinds(&[Kind::Pod]).in_namespace("shop"), Some(start))
        .expect("now");
    let mut elsewhere = store
        .watch(Scope::kinds(&[Kind::Pod]).in_namespace("else"), Some(start))
        .expect("now");
    create(&store, "a").await;
    for n in 0..5 {
        set_status(&store, "a", &n.to_string()).await.expect("written");
    }
    store
        .write_one(Class::User, Write::new(Op::Remove { key: key("a") }))
        .await
        .expect("removed");
    let end = store.version();
    let seen = until(&mut all, end).await;
    assert_eq!(
        seen.iter().map(|change| change.version).collect::<Vec<_>>(),
        (start + 1..=end).collect::<Vec<_>>()
    );
    assert!(seen[0].old.is_none() && seen[6].new.is_none());
    assert_eq!(
        seen[6].old.as_ref().and_then(|pod| pod.status.clone()),
        Some(status("4"))
    );
    assert_eq!(shown(&until(&mut space, end).await), shown(&seen));
    assert_eq!(other.ready().map(|changes| changes.len()), Some(0));
    assert_eq!(other.seen(), end);
    assert_eq!(elsewhere.ready().map(|changes| changes.len()), Some(0));
    let gone = store
        .watch(Scope::all(), Some(end + 1))
        .expect_err("it is not there yet");
    assert_eq!((gone.asked, gone.newest), (end + 1, end));
}

pub(crate) async fn a_node_watch_sees_its_pods(log: Arc<dyn Log>) {
    let store = open(log).await;
    let mut n1 = store.watch(Scope::node("n1"), None).expect("now");
    let mut n2 = store.watch(Scope::node("n2"), None).expect("now");
    for (name, node) in [("a", "n1"), ("b", "n2")] {
        create(&store, name).await;
        let op = Op::Bind {
            key: key(name),
            node: node.into(),
            status: Some(status("Pending")),
        };
        store.write_one(Class::Controller, Write::new(op)).await.expect("bound");
    }
    store
        .write_one(Class::User, Write::new(Op::Remove { key: key("a") }))
        .await
        .expect("removed");
    let end = store.version();
    let seen = until(&mut n1, end).await;
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[0].new.as_ref().is_some_and(|pod| pod.name() == "a") && seen[1].new.is_none());
    let seen = until(&mut n2, end - 1).await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    // The same from the past.
    let mut late = store.watch(Scope::node("n1"), Some(end - 5)).expect("kept");
    assert_eq!(until(&mut late, end).await.len(), 2);
}
