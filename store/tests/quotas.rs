//! Quotas hold within a batch, and what they have counted is what is there.

use std::sync::Arc;

use proptest::prelude::*;
use schemas::{Key, Kind, Object, quantity::Quantity};
use serde_json::{Value, json};
use store::{Class, MemoryLog, Op, Store, Write, WriteError};

fn pod(name: &str, cpu: &str) -> Object {
    let resources = match cpu {
        "" => json!({}),
        cpu => json!({"requests": {"cpu": cpu}}),
    };
    object(
        "Pod",
        name,
        json!({"containers": [{"name": "c", "image": "i", "resources": resources}]}),
    )
}

fn object(kind: &str, name: &str, spec: Value) -> Object {
    let value = json!({"apiVersion": "v1", "kind": kind, "spec": spec,
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{kind}-{name}")}});
    Object::from_value(value).expect("it is an object")
}

fn key(kind: Kind, name: &str) -> Key {
    Key::namespaced(kind, "shop", name)
}

fn counted(store: &Store, quota: &str) -> Option<Vec<Quantity>> {
    store.view().counted(&key(Kind::ResourceQuota, quota)).map(|it| it.used)
}

#[tokio::test]
async fn a_batch_admits_no_more_than_there_is_room_for() {
    let store = Store::open(Arc::new(MemoryLog::default())).await.expect("opens");
    // The quota comes with the batch that it limits: it counts from there on.
    let quota = object(
        "ResourceQuota",
        "q",
        json!({"hard": {"pods": "3", "requests.cpu": "1"}}),
    );
    let mut writes = vec![Write::new(Op::Create(pod("p0", "250m"))), Write::new(Op::Create(quota))];
    writes.extend((1..6).map(|number| Write::new(Op::Create(pod(&format!("p{number}"), "500m")))));
    writes.push(Write::new(Op::Create(pod("small", "250m"))));
    writes.push(Write::new(Op::Create(pod("more", "250m"))));
    let answers = store.write(Class::Controller, writes).await;
    let made: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(made, [true, true, true, false, false, false, false, true, false]);
    let said = answers[3].as_ref().expect_err("no room").to_string();
    assert_eq!(
        said,
        "pods \"p2\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=750m, limited: requests.cpu=1"
    );
    let said = answers[8].as_ref().expect_err("no room").to_string();
    assert_eq!(
        said,
        "pods \"more\" is forbidden: exceeded quota: q, requested: pods=1,requests.cpu=250m, used: pods=3,requests.cpu=1, limited: pods=3,requests.cpu=1"
    );
    let silent = store
        .write_one(Class::User, Write::new(Op::Create(pod("silent", ""))))
        .await;
    let said = silent.expect_err("it must say what it needs").to_string();
    assert_eq!(
        said,
        "pods \"silent\" is forbidden: failed quota: q: must specify requests.cpu for: c"
    );
    // What ends gives its part back.
    let status = json!({"phase": "Succeeded"}).into();
    let ended = Write::new(Op::Status {
        key: key(Kind::Pod, "p1"),
        status,
    });
    let more = Write::new(Op::Create(pod("more", "500m")));
    let answers = store.write(Class::Controller, vec![ended, more]).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

/// What a step does, by two numbers: its kind and the object.
fn step(what: u8, which: u8) -> Write {
    let name = format!("o{}", which % 6);
    let quota = |hard: Value| object("ResourceQuota", &name, json!({"hard": hard}));
    let status = |phase: &str| json!({"phase": phase}).into();
    Write::new(match what % 9 {
        0 | 1 => Op::Create(pod(&name, "100m")),
        2 => Op::Create(quota(
            json!({"pods": "3", "count/pods": "5", "requests.cpu": "1", "configmaps": "1"}),
        )),
        3 => Op::Replace(quota(json!({"pods": "4", "resourcequotas": "3"}))),
        4 => Op::Status {
            key: key(Kind::Pod, &name),
            status: status("Succeeded"),
        },
        5 => Op::Status {
            key: key(Kind::Pod, &name),
            status: status("Running"),
        },
        6 => Op::Remove {
            key: key(Kind::Pod, &name),
        },
        7 => Op::Remove {
            key: key(Kind::ResourceQuota, &name),
        },
        _ => Op::Create(object("ConfigMap", &name, json!({}))),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_is_counted_is_what_is_there(batches in prop::collection::vec(prop::collection::vec((0u8..9, 0u8..6), 1..8), 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let log = Arc::new(MemoryLog::default());
            let store = Store::open(log.clone()).await.expect("opens");
            for batch in &batches {
                let before = counted_all(&store);
                let writes = batch.iter().map(|(what, which)| step(*what, *which)).collect();
                let answers = store.write(Class::User, writes).await;
                let forbidden = answers.iter().any(|it| matches!(it, Err(WriteError::Forbidden { .. })));
                assert!(!forbidden || !before.is_empty() || batch.iter().any(|(what, _)| matches!(what % 9, 2 | 3)));
            }
            let kept = counted_all(&store);
            store.close().await;
            let anew = Store::open(log).await.expect("opens");
            assert_eq!(kept, counted_all(&anew), "{batches:?}");
        });
    }
}

fn counted_all(store: &Store) -> Vec<Option<Vec<Quantity>>> {
    let quotas = store.list(Kind::ResourceQuota, Some("shop")).items;
    quotas.iter().map(|quota| counted(store, quota.name())).collect()
}

#[tokio::test]
async fn new_pods_are_held_to_the_accounts_and_ranges_of_their_namespace() {
    let options = store::Options {
        admission: true,
        ..store::Options::default()
    };
    let log = Arc::new(MemoryLog::default());
    let store = Store::open_with(log, options).await.expect("opens");
    let account = object("ServiceAccount", "default", json!(null));
    let range = object(
        "LimitRange",
        "r",
        json!({"limits": [{"type": "Container", "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}, "default": {"cpu": "1"}}]}),
    );
    let create = |object: Object| Write::new(Op::Create(object));
    let mut plain = pod("plain", "");
    plain.status = Some(json!({"phase": "Pending", "qosClass": "BestEffort"}).into());
    let like = |name: &str| {
        let mut like = plain.clone();
        like.meta.name = Some(name.into());
        like.meta.uid = Some(name.into());
        create(like)
    };
    // What comes earlier in the batch counts.
    let writes = vec![
        like("early"),
        create(account),
        like("bare"),
        create(range.clone()),
        like("plain"),
        create(pod("large", "2")),
    ];
    let answers = store.write(Class::Controller, writes).await;
    let said = answers[0].as_ref().expect_err("there is no account").to_string();
    assert_eq!(
        said,
        "pods \"early\" is forbidden: error looking up service account shop/default: serviceaccount \"default\" not found"
    );
    let cpu = |at: usize| {
        answers[at].as_ref().expect("made").body.part().value()["spec"]["containers"][0]["resources"].clone()
    };
    assert_eq!(cpu(2), json!({}));
    assert_eq!(cpu(4), json!({"limits": {"cpu": "1"}, "requests": {"cpu": "100m"}}));
    let quality = answers[4].as_ref().expect("made").status_value().unwrap_or_default();
    assert_eq!(quality["qosClass"], "Burstable");
    let said = answers[5].as_ref().expect_err("too large").to_string();
    assert_eq!(
        said,
        "pods \"large\" is forbidden: maximum cpu usage per Container is 1, but request is 2"
    );
    // Without the range, the same body is let in as it is.
    let gone = Write::new(Op::Remove { key: range.key() });
    let answers = store.write(Class::Controller, vec![gone, like("again")]).await;
    let again = answers[1].as_ref().expect("made").body.part().value();
    assert_eq!(again["spec"]["containers"][0]["resources"], json!({}));
}
