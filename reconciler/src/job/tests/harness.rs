//! One Job in a simulated cluster: its controller with its book, and a kubelet that is the test.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use schemas::{Key, Kind, Object, Uid, defaulting};
use serde_json::{Value, json};

use crate::{
    job::{self, Declared, World, book::Book},
    plan::Plan,
    pods::{condition, is_active, phase},
    simulation::Simulation,
};

pub(super) struct Cluster {
    pub(super) sim: Simulation,
    pub(super) book: Book,
    pub(super) declared: Option<Declared>,
    pub(super) failure: Option<String>,
    pub(super) tries: u32,
    /// What the book has seen.
    known: BTreeMap<Key, Arc<Object>>,
}

/// A Job named `j` with one container; `spec` is merged over its defaults.
pub(super) fn job(spec: Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "a"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
    });
    json_patch::merge(&mut job["spec"], &spec);
    job
}

impl Cluster {
    pub(super) fn new(spec: Value) -> Self {
        let mut cluster = Self {
            sim: Simulation::new(),
            book: Book::default(),
            declared: None,
            failure: None,
            tries: 0,
            known: BTreeMap::new(),
        };
        cluster.put(spec);
        cluster
    }

    /// Makes the Job, or changes its spec.
    pub(super) fn put(&mut self, spec: Value) {
        let mut value = job(spec);
        defaulting::default_object(Kind::Job, &mut value);
        defaulting::identify_job(&mut value, "job-uid");
        let mut object = Object::from_value(value).expect("it is valid");
        object.meta.uid = Some("job-uid".into());
        let old = self.sim.objects.get(&object.key());
        object.meta.generation = Some(old.map_or(1, |old| old.meta.generation.unwrap_or(1) + 1));
        object.status = old.map_or_else(|| Some(json!({}).into()), |old| old.status.clone());
        self.sim.insert(object);
    }

    pub(super) fn job(&self) -> Arc<Object> {
        self.sim.get(Kind::Job, "j")
    }

    pub(super) fn status(&self) -> Value {
        self.job().status_value().unwrap_or_default()
    }

    /// The reason of a condition that holds.
    pub(super) fn holds(&self, kind: &str) -> Option<String> {
        let job = self.job();
        let condition = condition(&job, kind).filter(|condition| condition["status"] == "True")?;
        Some(condition["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// Shows the book what has changed, as the driver's watch does.
    fn catch_up(&mut self) {
        let all = self.sim.objects.clone();
        let there: Vec<Uid> = all.values().map(|object| object.uid()).collect();
        let keys: std::collections::BTreeSet<Key> = all.keys().chain(self.known.keys()).cloned().collect();
        for key in keys {
            let (old, new) = (self.known.get(&key), all.get(&key));
            let same = match (old, new) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                (None, None) => true,
                _ => false,
            };
            if same {
                continue;
            }
            match key.kind {
                Kind::Pod => self
                    .book
                    .take_pod(|uid| there.contains(uid), &key, old, new, self.sim.now),
                Kind::Job => self.book.take_job(old, new, self.sim.now),
                _ => {}
            }
        }
        self.known = all;
    }

    /// The process ends and another one begins: what was in memory is gone, and its clock starts anew.
    pub(super) fn restart(&mut self) {
        self.book = Book::default();
        self.known.clear();
        self.sim.now.monotonic = Duration::from_secs(3);
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.catch_up();
        self.sim.now = self.sim.now.after(Duration::from_secs(seconds));
    }

    pub(super) fn plan(&mut self) -> Plan {
        self.catch_up();
        let job = self.job();
        let pods: Vec<Arc<Object>> = self
            .book
            .pods(&job.uid())
            .filter_map(|key| self.sim.objects.get(key).cloned())
            .collect();
        let strays = self
            .sim
            .all(Kind::Pod)
            .into_iter()
            .filter(|pod| pod.controller().is_none());
        let world = World {
            seen: self.book.seen(&job.uid(), self.sim.now),
            pods,
            strays: strays.collect(),
            failure: self.failure.clone(),
            tries: self.tries,
            declared: self.declared,
            job,
        };
        job::plan(&world, self.sim.now, &mut self.sim.ids)
    }

    /// Looks once and carries the plan out.
    pub(super) fn look(&mut self) -> Plan {
        for _ in 0..4 {
            let plan = self.plan();
            let done = self.sim.carry_out(&plan, usize::MAX);
            self.tries = if done.is_ok() { 0 } else { self.tries + 1 };
            if done.is_ok() {
                return plan;
            }
        }
        panic!("the plan is refused each time");
    }

    /// Looks until nothing is left to do; the last plan.
    pub(super) fn settle(&mut self) -> Plan {
        for _ in 0..50 {
            let plan = self.look();
            if plan.is_empty() || !self.sim.objects.contains_key(&Key::namespaced(Kind::Job, "a", "j")) {
                return plan;
            }
        }
        panic!("it does not settle: {}", self.status());
    }

    pub(super) fn pods(&self) -> Vec<Arc<Object>> {
        self.sim.all(Kind::Pod)
    }

    pub(super) fn active(&self) -> Vec<Arc<Object>> {
        self.pods().into_iter().filter(|pod| is_active(pod)).collect()
    }

    /// The active pod of an index.
    pub(super) fn of_index(&self, index: u32) -> Arc<Object> {
        let mut active = self.active().into_iter();
        let wanted = index.to_string();
        active
            .find(|pod| pod.annotation(schemas::labels::JOB_COMPLETION_INDEX) == Some(&wanted))
            .unwrap_or_else(|| panic!("no pod of index {index} is active"))
    }

    /// Puts an active pod on a node and lets it run.
    pub(super) fn run(&mut self, pod: &Object) {
        let mut pod = Object::clone(&self.sim.objects[&pod.key()]);
        pod.node = Some("n".into());
        pod.status = Some(
            json!({"phase": "Running", "containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {}}}]})
            .into(),
        );
        self.sim.insert(pod);
    }

    /// Ends a pod with an exit code.
    pub(super) fn end(&mut self, pod: &Object, code: i32) {
        let mut pod = Object::clone(&self.sim.objects[&pod.key()]);
        pod.node.get_or_insert_with(|| "n".into());
        let mut status = json!({"phase": if code == 0 { "Succeeded" } else { "Failed" }, "containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "finishedAt": crate::pods::stamp(self.sim.now.wall)}}}]});
        if let Some(conditions) = pod.status_value().map(|status| status["conditions"].clone()) {
            status["conditions"] = conditions;
        }
        pod.status = Some(status.into());
        self.sim.insert(pod);
    }

    pub(super) fn end_all(&mut self, code: i32) {
        for pod in self.active() {
            self.end(&pod, code);
        }
    }

    /// Somebody deletes a pod.
    pub(super) fn delete(&mut self, pod: &Object) {
        let pod = self.sim.objects[&pod.key()].clone();
        let mut plan = Plan::default();
        let write = crate::owners::delete(&pod, None, self.sim.now);
        plan.writes(store::Class::User, "a test deletes", write.into_iter().collect());
        self.sim.apply(&plan);
    }

    /// The agent ends what is being deleted.
    pub(super) fn reap(&mut self) {
        for pod in self.pods().into_iter().filter(|pod| pod.is_deleting()) {
            if phase(&pod) != "Succeeded" && phase(&pod) != "Failed" {
                self.end(&pod, 137);
            }
            let mut pod = Object::clone(&self.sim.objects[&pod.key()]);
            if pod.meta.finalizers.as_ref().is_none_or(|names| names.is_empty()) {
                self.sim.objects.remove(&pod.key());
            } else {
                pod.meta.deletion_grace_period_seconds = Some(0);
                self.sim.insert(pod);
            }
        }
    }
}

/// The reasons of a plan's events.
pub(super) fn reasons(plan: &Plan) -> Vec<&str> {
    plan.notes.iter().map(|note| note.reason.as_str()).collect()
}
