//! The core against a model that is too simple to be wrong: a list of objects, searched in full.

use std::sync::Arc;

use proptest::prelude::*;
use schemas::{Key, Kind, Object, Uid};
use serde_json::{Value, json};

use crate::{
    Change, Op, RingLimits, Scope, Write, WriteError,
    copy::Objects,
    intern::Interner,
    judge::{Judge, Row},
    ring::{Behind, Ring},
};

/// One write in few numbers.
#[derive(Clone, Debug)]
struct Toss {
    op: u8,
    name: u8,
    uid: u8,
    body: u8,
    owner: u8,
    node: u8,
    version: Option<u8>,
}

fn toss() -> impl Strategy<Value = Toss> {
    let version = prop_oneof![3 => Just(None), 1 => (0u8..40).prop_map(Some)];
    (0u8..7, 0u8..5, 0u8..7, 0u8..3, 0u8..3, 0u8..3, version).prop_map(|(op, name, uid, body, owner, node, version)| {
        Toss {
            op,
            name,
            uid,
            body,
            owner,
            node,
            version,
        }
    })
}

impl Toss {
    fn key(&self) -> Key {
        Key::namespaced(
            Kind::Pod,
            if self.name.is_multiple_of(2) { "a" } else { "b" },
            &format!("p{}", self.name),
        )
    }

    fn object(&self) -> Object {
        let key = self.key();
        let mut meta = json!({"name": &*key.name, "namespace": key.ns(), "uid": format!("u{}", self.uid)});
        if self.owner > 0 {
            let owner =
                json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "o", "uid": format!("o{}", self.owner)});
            meta["ownerReferences"] = json!([owner]);
        }
        if self.body == 2 {
            meta["finalizers"] = json!(["towline.dev/f"]);
        }
        if self.node == 2 {
            meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let value =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"hostname": self.body.to_string()}});
        Object::from_value(value).expect("a pod")
    }

    fn write(&self) -> Write {
        let status: Arc<Value> = Arc::new(json!({"phase": self.body}));
        let mut write = Write::new(match self.op {
            0 => Op::Create(self.object()),
            1 | 2 => Op::Replace(self.object()),
            6 => Op::Retire {
                object: self.object(),
                status: status.into(),
            },
            3 => Op::Status {
                key: self.key(),
                status: status.into(),
            },
            4 => Op::Bind {
                key: self.key(),
                node: format!("n{}", self.node).as_str().into(),
                status: (self.body > 0).then(|| status.into()),
            },
            _ => Op::Remove { key: self.key() },
        });
        write.version = self.version.map(u64::from);
        if self.owner == 2 {
            write.uid = Some(Uid::from(format!("u{}", self.uid).as_str()));
        }
        write
    }
}

#[derive(Clone, Debug, Default)]
struct Model {
    version: u64,
    objects: Vec<Object>,
}

impl Model {
    /// True: accepted, with or without a change.
    fn write(&mut self, write: &Write) -> bool {
        let (key, create) = match &write.op {
            Op::Create(object) => (object.key(), true),
            Op::Replace(object) | Op::Retire { object, .. } => (object.key(), false),
            Op::Status { key, .. } | Op::Bind { key, .. } | Op::Remove { key } => (key.clone(), false),
        };
        let at = self.objects.iter().position(|object| object.key() == key);
        if create {
            let Op::Create(object) = &write.op else { unreachable!() };
            let taken = self.objects.iter().any(|other| other.uid() == object.uid());
            if at.is_some() || taken {
                return false;
            }
            let mut object = object.clone();
            object.meta.generation = Some(1);
            self.version += 1;
            object.version = self.version;
            self.objects.push(object);
            return true;
        }
        let Some(at) = at else { return false };
        let old = self.objects[at].clone();
        if write.uid.as_ref().is_some_and(|uid| *uid != old.uid())
            || write.version.is_some_and(|version| version != old.version)
        {
            return false;
        }
        let mut new = old.clone();
        match &write.op {
            Op::Create(_) => unreachable!(),
            Op::Replace(object) | Op::Retire { object, .. } => {
                if object.uid() != old.uid() {
                    return false;
                }
                new.meta = object.meta.clone();
                new.body = object.body.clone();
                if let Op::Retire { status, .. } = &write.op {
                    new.status = Some(status.clone());
                }
                new.meta.generation = old.meta.generation;
                if new.body.value() != old.body.value() {
                    new.meta.generation = old.meta.generation.map(|generation| generation + 1);
                }
                if old.is_deleting() && !new.is_deleting() {
                    new.meta.deletion_timestamp = old.meta.deletion_timestamp.clone();
                }
                let had = old
                    .meta
                    .finalizers
                    .as_ref()
                    .is_some_and(|finalizers| !finalizers.is_empty());
                if new.is_deleting() && had && new.meta.finalizers.is_none() {
                    self.objects.remove(at);
                    self.version += 1;
                    return true;
                }
            }
            Op::Status { status, .. } => new.status = Some(status.clone()),
            Op::Bind { node, status, .. } => {
                if old.node.is_some() || old.is_deleting() {
                    return false;
                }
                new.node = Some(node.clone());
                new.status = status.clone().or(old.status.clone());
            }
            Op::Remove { .. } => {
                if old.meta.finalizers.is_some() {
                    return false;
                }
                self.objects.remove(at);
                self.version += 1;
                return true;
            }
        }
        if new.to_value() != old.to_value() {
            self.version += 1;
            new.version = self.version;
            self.objects[at] = new;
        }
        true
    }

    fn sorted(&self) -> Vec<Value> {
        let mut objects: Vec<&Object> = self.objects.iter().collect();
        objects.sort_by_key(|object| object.key());
        objects.into_iter().map(Object::to_value).collect()
    }
}

fn judge(
    objects: &Objects,
    interner: &mut Interner,
    batch: &[Toss],
) -> (Vec<Row>, Vec<Result<Arc<Object>, WriteError>>) {
    let mut judge = Judge::new(objects, interner, None);
    let answers = batch.iter().map(|toss| judge.judge(toss.write())).collect();
    (judge.finish(), answers)
}

proptest! {
    #[test]
    fn batches_do_what_single_writes_would(batches in prop::collection::vec(prop::collection::vec(toss(), 1..8), 1..16)) {
        let mut objects = Objects::default();
        let mut interner = Interner::default();
        let mut model = Model::default();
        for batch in &batches {
            let (rows, answers) = judge(&objects, &mut interner, batch);
            for (toss, answer) in batch.iter().zip(&answers) {
                let expected = model.write(&toss.write());
                prop_assert_eq!(answer.is_ok(), expected, "{:?}: {:?}", toss, answer);
            }
            for (n, row) in rows.iter().enumerate() {
                prop_assert_eq!(row.version, objects.version() + 1 + n as u64);
            }
            for row in &rows {
                objects.apply(row);
            }
            prop_assert_eq!(objects.version(), model.version);
            let kept: Vec<Value> = objects.list(Kind::Pod, None, None).map(|pod| pod.to_value()).collect();
            prop_assert_eq!(kept, model.sorted());
        }
        // The indexes say what a search in full says.
        let sorted = model.sorted();
        let names = |pods: Vec<&Arc<Object>>| pods.iter().map(|pod| pod.to_value()).collect::<Vec<_>>();
        for n in 0..4 {
            let node = format!("n{n}");
            let expected: Vec<Value> = sorted.iter().filter(|pod| pod["spec"]["nodeName"] == node.as_str()).cloned().collect();
            prop_assert_eq!(names(objects.on_node(&node).collect()), expected);
            let owner = format!("o{n}");
            let expected: Vec<Value> = sorted
                .iter()
                .filter(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == owner.as_str())
                .cloned()
                .collect();
            prop_assert_eq!(names(objects.owned_by(&Uid::from(owner.as_str())).collect()), expected);
        }
        for namespace in ["a", "b", "c"] {
            let expected: Vec<Value> = sorted.iter().filter(|pod| pod["metadata"]["namespace"] == namespace).cloned().collect();
            prop_assert_eq!(names(objects.list(Kind::Pod, Some(namespace), None).collect()), expected);
        }
        for pod in &model.objects {
            prop_assert_eq!(objects.by_uid(&pod.uid()).map(|found| found.to_value()), Some(pod.to_value()));
        }
        for n in 0..7 {
            let uid = Uid::from(format!("u{n}").as_str());
            prop_assert_eq!(objects.has_uid(&uid), model.objects.iter().any(|pod| pod.uid() == uid));
        }
    }

    #[test]
    fn a_lane_reads_what_a_scan_would(
        tosses in prop::collection::vec(toss(), 1..120),
        after in 0u64..60,
        min_rows in 1usize..40,
        limit in 1usize..10,
    ) {
        let mut objects = Objects::default();
        let mut interner = Interner::default();
        let mut ring = Ring::new(0, RingLimits { age: std::time::Duration::ZERO, min_rows, max_rows: 1000 });
        let mut all: Vec<Change> = Vec::new();
        for (n, toss) in tosses.iter().enumerate() {
            let (rows, _) = judge(&objects, &mut interner, std::slice::from_ref(toss));
            rows.iter().for_each(|row| objects.apply(row));
            let changes: Vec<Change> = rows.iter().map(Row::change).collect();
            all.extend(changes.iter().cloned());
            ring.push(changes, n as i64);
            ring.trim(n as i64 + 1);
        }
        prop_assert_eq!(ring.newest(), objects.version());
        prop_assert!(ring.newest() - ring.oldest() >= (min_rows as u64).min(ring.newest()));
        let scopes = [
            Scope::all(),
            Scope::all().in_namespace("a"),
            Scope::kinds(&[Kind::Pod]),
            Scope::kinds(&[Kind::Node, Kind::Pod]).in_namespace("b"),
            Scope::kinds(&[Kind::Node]),
            Scope::node("n1"),
            Scope::node("n2").in_namespace("a"),
        ];
        for scope in scopes {
            let expected: Vec<u64> = all
                .iter()
                .filter(|change| change.version > after && scope.sees(change))
                .map(|change| change.version)
                .collect();
            let mut seen = after;
            let mut found = Vec::new();
            let result = loop {
                match ring.read(&scope, seen, limit) {
                    Ok((changes, through)) => {
                        if changes.is_empty() && through >= ring.newest() {
                            break Ok(());
                        }
                        prop_assert!(through > seen);
                        found.extend(changes.iter().map(|change| change.version));
                        seen = through;
                    }
                    Err(Behind) => break Err(Behind),
                }
            };
            match result {
                Ok(()) => prop_assert_eq!(found, expected, "{:?}", scope),
                // Only who asks for what was dropped is turned away.
                Err(Behind) => prop_assert!(after < ring.oldest(), "{:?}", scope),
            }
        }
    }
}
