use schemas::{Commit, ContentHash, Unit, labels};
use serde_json::{Value, json};
use store::{Desired, Op, UnitAt};

use super::*;
use crate::simulation::Simulation;

struct Release {
    sim: Simulation,
    desired: Desired,
    finished: BTreeMap<Key, Finished>,
}

impl Release {
    fn new(objects: &[Value]) -> Self {
        let mut release = Self {
            sim: Simulation::new(),
            desired: Desired::default(),
            finished: BTreeMap::new(),
        };
        release.declare(objects);
        release
    }

    fn declare(&mut self, objects: &[Value]) {
        self.desired.revision += 1;
        self.desired.commit = Some(Commit::from("0123456789abcdef"));
        self.desired.rows.clear();
        for object in objects {
            let kind: Kind = object["kind"].as_str().expect("there").parse().expect("known");
            let name = object["metadata"]["name"].as_str().expect("there");
            let key = match object["metadata"]["namespace"].as_str() {
                Some(space) => Key::namespaced(kind, space, name),
                None => Key::cluster(kind, name),
            };
            let unit = Unit::of(&key);
            let at = UnitAt {
                commit: Commit::from("c"),
                held: None,
                may_delete: true,
            };
            self.desired.units.insert(unit.clone(), at);
            let row = DesiredRow {
                unit,
                hash: ContentHash::of(object),
                content: Arc::new(object.clone()),
                file: "f".into(),
                line: 1,
                commit: Commit::from("c"),
                key: key.clone(),
            };
            self.desired.rows.insert(key, Arc::new(row));
        }
    }

    fn world(&self) -> World {
        let live = self.sim.objects.clone().into_iter().collect();
        let namespaces = self.sim.objects.iter().filter(|(key, _)| key.kind == Kind::Namespace);
        let managed = self
            .sim
            .objects
            .values()
            .filter(|object| is_managed(object) && !object.is_deleting());
        let mut totals = BTreeMap::new();
        managed
            .clone()
            .for_each(|object| *totals.entry(Unit::of(&object.key())).or_insert(0) += 1);
        let mut scaled = autoscaling::Scaled::default();
        for scaler in self.sim.all(Kind::HorizontalPodAutoscaler) {
            scaled.take(None, Some(&scaler));
        }
        let undeclared = budget::World {
            undeclared: managed
                .filter(|object| !self.desired.rows.contains_key(&object.key()))
                .cloned()
                .collect(),
            totals,
            ..budget::World::default()
        };
        let rows = self.desired.rows.keys();
        World {
            scaled: rows.filter(|key| scaled.contains(key)).cloned().collect(),
            rows: self.desired.rows.values().cloned().collect(),
            live,
            finished: self.finished.clone(),
            namespaces: namespaces
                .map(|(key, object)| (key.name.clone(), object.clone()))
                .collect(),
            bad: BTreeMap::new(),
            gate: None,
            blockers: BTreeMap::new(),
            desired: Arc::new(self.desired.clone()),
            behind: None,
            deletions: Arc::new(budget::judge(&self.desired, &undeclared, self.sim.now)),
        }
    }

    fn go(&mut self) -> Plan {
        let plan = plan(&self.world(), self.sim.now, &mut self.sim.ids);
        self.sim.apply(&plan);
        for step in &plan.steps {
            if let Step::Remember(note) = step {
                match &note.finished {
                    Some(finished) => drop(self.finished.insert(note.key.clone(), finished.clone())),
                    None => drop(self.finished.remove(&note.key)),
                }
            }
        }
        plan
    }

    /// Releases until nothing is left to do.
    fn settle(&mut self) -> Plan {
        self.go();
        let last = self.go();
        assert!(last.is_empty(), "a released state leaves an empty plan: {last:?}");
        last
    }
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "a"}, "data": data})
}

fn web(image: &str, app: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "a"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": app}}, "template": {
            "metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn bare(image: &str, command: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}, "spec": {
        "containers": [{"name": "c", "image": image, "command": [command]}]}})
}

#[test]
fn a_namespace_comes_first_and_one_that_nobody_declares_is_made() {
    let mut release = Release::new(&[map("c", json!({"a": "1"}))]);
    let plan = release.go();
    let Some(Step::Write { writes, .. }) = plan.steps.first() else {
        panic!("it writes")
    };
    let kinds: Vec<_> = writes
        .iter()
        .map(|write| match &write.op {
            Op::Create(object) => object.kind,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, [Kind::Namespace, Kind::ConfigMap]);
    assert!(
        !is_managed(&release.sim.objects[&Key::cluster(Kind::Namespace, "a")]),
        "no row owns it"
    );
    assert_eq!(plan.notes[0].reason, "NamespaceCreated");
    assert!(release.go().is_empty());
}

#[test]
fn removed_fields_go_and_those_of_others_stay() {
    let mut release = Release::new(&[map("c", json!({"a": "1", "b": "2"}))]);
    release.settle();
    let live = release.sim.get(Kind::ConfigMap, "c");
    let mut touched = Object::clone(&live);
    touched.meta.annotations = Some([("other".to_owned(), "x".to_owned())].into());
    release.sim.objects.insert(touched.key(), Arc::new(touched));
    release.declare(&[map("c", json!({"b": "3"}))]);
    release.settle();
    let live = release.sim.get(Kind::ConfigMap, "c");
    assert_eq!(live.body.value()["data"], json!({"b": "3"}));
    assert_eq!(live.annotation("other"), Some("x"));
}

#[test]
fn what_is_no_longer_declared_goes_after_what_is_new() {
    let mut release = Release::new(&[map("old", json!({}))]);
    release.settle();
    release.declare(&[map("new", json!({}))]);
    let plan = release.go();
    assert_eq!(plan.steps.len(), 2);
    let Step::Write { writes, .. } = &plan.steps[1] else {
        panic!("it writes")
    };
    assert!(matches!(&writes[0].op, Op::Remove { key } if &*key.name == "old"));
    assert!(release.go().is_empty());
}

#[test]
fn deletions_wait_until_everything_is_released() {
    let mut release = Release::new(&[map("old", json!({}))]);
    release.settle();
    release.declare(&[map("new", json!({}))]);
    let mut world = release.world();
    world.behind = Some(Behind {
        first: Key::namespaced(Kind::ConfigMap, "a", "late"),
        count: 1,
    });
    assert_eq!(plan(&world, release.sim.now, &mut release.sim.ids).steps.len(), 1);
}

#[test]
fn an_immutable_selector_waits_with_words() {
    let mut release = Release::new(&[web("i", "x")]);
    release.settle();
    release.declare(&[web("i", "y")]);
    let plan = release.go();
    assert!(plan.is_empty());
    assert_eq!(plan.waiting[0].1.word, "Immutable");
}

#[test]
fn a_pod_changes_its_image_in_place_and_is_made_anew_for_the_rest() {
    let mut release = Release::new(&[bare("one", "run")]);
    release.settle();
    let uid = release.sim.get(Kind::Pod, "p").uid();
    release.declare(&[bare("two", "run")]);
    release.settle();
    assert_eq!(release.sim.get(Kind::Pod, "p").uid(), uid);
    release.declare(&[bare("two", "walk")]);
    let plan = release.go();
    assert_eq!(plan.waiting[0].1.word, "Replaced");
    release.settle();
    assert_ne!(release.sim.get(Kind::Pod, "p").uid(), uid);
}

fn job(image: &str, parallelism: u32) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "a"}, "spec": {
        "parallelism": parallelism, "completions": 9, "template": {
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}}}})
}

#[test]
fn a_job_takes_over_what_it_can_and_is_replaced_for_the_rest_once_its_pods_are_gone() {
    let mut release = Release::new(&[job("one", 1)]);
    release.settle();
    let first = release.sim.get(Kind::Job, "j");
    assert_eq!(first.label(labels::JOB_NAME), Some("j"));
    release.declare(&[job("one", 3)]);
    release.settle();
    let changed = release.sim.get(Kind::Job, "j");
    assert_eq!(changed.uid(), first.uid());
    assert_eq!(changed.body.value()["spec"]["parallelism"], 3);

    release.declare(&[job("two", 3)]);
    let plan = release.go();
    assert_eq!(plan.waiting[0].1.word, "Replaced");
    assert!(
        plan.waiting[0].1.message.starts_with("spec.template changed"),
        "{:?}",
        plan.waiting
    );
    assert_eq!(plan.notes[0].reason, "Replaced");
    let leaving = release.sim.get(Kind::Job, "j");
    assert!(leaving.is_deleting(), "its pods go first");
    let plan = release.go();
    assert_eq!(plan.waiting[0].1.word, "Terminating");
    assert!(plan.notes.is_empty());
    release.sim.objects.remove(&leaving.key());
    release.settle();
    let second = release.sim.get(Kind::Job, "j");
    assert_ne!(second.uid(), first.uid());
    assert_eq!(
        second.body.value()["spec"]["selector"]["matchLabels"][labels::JOB_CONTROLLER_UID],
        second.uid().to_string()
    );
}

#[test]
fn a_job_that_ended_and_is_not_kept_runs_again_only_when_its_manifest_changes() {
    let mut release = Release::new(&[job("one", 1)]);
    release.settle();
    let live = release.sim.get(Kind::Job, "j");
    let done = Finished {
        content: release.desired.rows[&live.key()].hash,
        succeeded: true,
        reason: "Complete".to_owned(),
    };
    release.finished.insert(live.key(), done.clone());
    // It is on its way out, then gone: neither leads to anything.
    let plan = release.go();
    assert!(plan.is_empty() && plan.waiting.is_empty(), "{plan:?}");
    release.sim.objects.remove(&live.key());
    let plan = release.go();
    assert!(plan.is_empty() && plan.waiting.is_empty(), "{plan:?}");

    release.declare(&[job("two", 1)]);
    release.settle();
    assert_eq!(release.sim.all(Kind::Job).len(), 1);
    assert!(
        release.finished.is_empty(),
        "that the earlier content ran says nothing any more"
    );

    release.finished.insert(live.key(), done);
    release.declare(&[]);
    release.settle();
    assert!(release.finished.is_empty(), "declared anew it runs anew");
}

#[test]
fn a_later_wave_waits_at_the_gate() {
    let mut late = map("late", json!({}));
    late["metadata"]["annotations"] = json!({"towline.dev/wave": "2"});
    let mut release = Release::new(&[map("early", json!({})), late]);
    let mut world = release.world();
    world.gate = Some(waves::Gate {
        wave: 0,
        waits_for: Key::namespaced(Kind::ConfigMap, "a", "early"),
    });
    let plan = plan(&world, release.sim.now, &mut release.sim.ids);
    assert_eq!(plan.waiting.len(), 1);
    assert_eq!(plan.waiting[0].1.word, "Wave");
    release.settle();
    assert!(
        release
            .sim
            .objects
            .contains_key(&Key::namespaced(Kind::ConfigMap, "a", "late"))
    );
}

#[test]
fn what_git_never_declared_is_never_deleted() {
    let mut release = Release::new(&[map("mine", json!({}))]);
    release.sim.put(map("theirs", json!({})));
    release.settle();
    release.declare(&[map("other", json!({}))]);
    release.settle();
    assert!(
        release
            .sim
            .objects
            .contains_key(&Key::namespaced(Kind::ConfigMap, "a", "theirs"))
    );
    assert!(
        !release
            .sim
            .objects
            .contains_key(&Key::namespaced(Kind::ConfigMap, "a", "mine"))
    );
}

#[test]
fn an_object_that_declares_nothing_but_its_name_is_managed_all_the_same() {
    let space = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let bare = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "a"}});
    let mut release = Release::new(&[space("a"), bare]);
    release.settle();
    for object in release.sim.objects.values() {
        assert!(is_managed(object), "{}", object.to_value());
    }
    release.declare(&[space("b")]);
    release.settle();
    assert!(release.sim.objects[&Key::cluster(Kind::Namespace, "a")].is_deleting());
    assert!(
        !release
            .sim
            .objects
            .contains_key(&Key::namespaced(Kind::ConfigMap, "a", "c"))
    );
}

#[test]
fn an_autoscaler_has_the_replicas_to_itself() {
    let scaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "a"},
        "spec": {"minReplicas": 1, "maxReplicas": 9, "scaleTargetRef": {
            "apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    });
    let replicas =
        |release: &Release| release.sim.get(Kind::Deployment, "web").body.value()["spec"]["replicas"].clone();
    let scale = |release: &mut Release, replicas: i64| {
        let mut value = release.sim.get(Kind::Deployment, "web").to_value();
        value["spec"]["replicas"] = replicas.into();
        release.sim.put(value);
    };
    let mut release = Release::new(&[web("i:1", "web"), scaler.clone()]);
    release.go();
    assert_eq!(replicas(&release), 2, "it starts with what is declared");
    release.settle();
    scale(&mut release, 7);
    release.settle();
    assert_eq!(replicas(&release), 7);
    let mut fewer = web("i:2", "web");
    fewer["spec"]["replicas"] = 3.into();
    release.declare(&[fewer.clone(), scaler.clone()]);
    release.settle();
    assert_eq!(replicas(&release), 7, "another number in a manifest changes nothing");

    release
        .sim
        .objects
        .remove(&Key::namespaced(Kind::Deployment, "a", "web"));
    release.settle();
    assert_eq!(replicas(&release), 3, "a new object starts with what is declared");
    scale(&mut release, 5);
    release.settle();
    assert_eq!(replicas(&release), 5);

    release.declare(&[fewer]);
    release.go();
    release.settle();
    assert_eq!(
        replicas(&release),
        3,
        "without the autoscaler the manifest counts again"
    );
}
