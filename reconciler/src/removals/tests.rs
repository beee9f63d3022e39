use std::sync::Arc;

use schemas::Kind;
use serde_json::json;
use store::{Change, Class, MemoryLog, Op, Scope, Store, Watch, Write};

use super::*;

struct Shop {
    store: Store,
    watch: Watch,
    removals: Removals,
}

fn key(kind: Kind, name: &str) -> Key {
    Key::namespaced(kind, "a", name)
}

fn object(kind: Kind, name: &str, owner: Option<(Kind, &str)>) -> Object {
    let owners = owner.map(|(kind, name)| {
        json!([{"apiVersion": kind.info().api_version(), "kind": kind.to_string(), "name": name, "uid": name, "controller": true}])
    });
    let value = json!({
        "apiVersion": kind.info().api_version(), "kind": kind.to_string(),
        "metadata": {"name": name, "namespace": "a", "uid": name, "ownerReferences": owners},
        "spec": {},
    });
    Object::from_value(value).expect("it is valid")
}

impl Shop {
    /// A Deployment `d` with its set `r` and that one's pod `p`, all of them taken in.
    async fn open() -> Self {
        let store = Store::open(Arc::new(MemoryLog::default())).await.expect("memory opens");
        let watch = store.watch(Scope::default(), None).expect("from now on");
        let shop = Self {
            store,
            watch,
            removals: Removals::default(),
        };
        for object in [
            object(Kind::Deployment, "d", None),
            object(Kind::ReplicaSet, "r", Some((Kind::Deployment, "d"))),
            object(Kind::Pod, "p", Some((Kind::ReplicaSet, "r"))),
        ] {
            shop.write(Op::Create(object)).await;
        }
        shop
    }

    async fn write(&self, op: Op) {
        self.store
            .write_one(Class::Controller, Write::new(op))
            .await
            .expect("it is possible");
    }

    async fn remove(&self, kind: Kind, name: &str) {
        self.write(Op::Remove { key: key(kind, name) }).await;
    }

    fn follow(&mut self) -> bool {
        let view = self.store.view();
        let live = view.get(&key(Kind::Deployment, "d")).expect("it is there").clone();
        self.removals.add(&view, &live)
    }

    /// Takes in what has changed; whether a removal ended.
    fn take(&mut self) -> bool {
        let changes: Vec<Change> = self.watch.ready().expect("it keeps up");
        let view = self.store.view();
        let mut ended = false;
        for change in &changes {
            ended |= self.removals.take(&view, change.old.as_ref(), change.new.as_ref());
        }
        ended
    }

    fn going(&self) -> Vec<Key> {
        self.removals.keys().cloned().collect()
    }
}

#[tokio::test]
async fn a_removal_ends_with_the_last_of_what_the_object_owned() {
    let mut shop = Shop::open().await;
    shop.take();
    assert!(shop.follow());
    assert!(!shop.follow(), "it is followed already");
    for (kind, name, ends) in [
        (Kind::Deployment, "d", false),
        (Kind::ReplicaSet, "r", false),
        (Kind::Pod, "p", true),
    ] {
        assert_eq!(shop.going(), [key(Kind::Deployment, "d")]);
        shop.remove(kind, name).await;
        assert_eq!(shop.take(), ends, "{kind} {name}");
    }
    assert_eq!(shop.going(), []);
    assert!(shop.removals.parts.is_empty());
}

#[tokio::test]
async fn what_comes_late_is_waited_for_as_well() {
    let mut shop = Shop::open().await;
    shop.take();
    shop.follow();
    shop.remove(Kind::Deployment, "d").await;
    shop.remove(Kind::ReplicaSet, "r").await;
    // Made by a controller that had not seen the end of its set.
    shop.write(Op::Create(object(Kind::Pod, "late", Some((Kind::ReplicaSet, "r")))))
        .await;
    shop.remove(Kind::Pod, "p").await;
    assert!(!shop.take());
    shop.remove(Kind::Pod, "late").await;
    assert!(shop.take());
}

#[tokio::test]
async fn a_view_that_is_ahead_hides_nothing() {
    let mut shop = Shop::open().await;
    shop.take();
    // The set is gone from the view before its end is taken in, and the pod names only the set.
    shop.remove(Kind::ReplicaSet, "r").await;
    shop.follow();
    shop.remove(Kind::Deployment, "d").await;
    assert!(!shop.take());
    assert_eq!(shop.going(), [key(Kind::Deployment, "d")]);
    shop.remove(Kind::Pod, "p").await;
    assert!(shop.take());
}

#[tokio::test]
async fn what_is_orphaned_is_not_waited_for_and_what_is_declared_again_neither() {
    let mut shop = Shop::open().await;
    shop.take();
    shop.follow();
    shop.write(Op::Replace(object(Kind::ReplicaSet, "r", None))).await;
    shop.take();
    assert_eq!(shop.going(), [key(Kind::Deployment, "d")]);
    shop.remove(Kind::Deployment, "d").await;
    assert!(shop.take(), "the set and its pod stay");
    assert!(shop.removals.parts.is_empty());

    let mut shop = Shop::open().await;
    shop.take();
    shop.follow();
    shop.removals.forget(&key(Kind::Deployment, "d"));
    assert_eq!(shop.going(), []);
    assert!(shop.removals.parts.is_empty());
}
