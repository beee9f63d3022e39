//! Pods that are alike: what they ask for, read once, and where those that are placed run.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
};

use k8s_openapi::api::core::v1::PodSpec;
use rustc_hash::FxHashMap;
use schemas::{ContentHash, Kind, Object, Part, priority::Priorities};
use serde_json::{Map, Value};

use super::{
    node::image_name,
    resources::Request,
    terms::{OWN_LABELS, Peer, Terms},
};

/// The number of a group. None is used twice.
pub(super) type GroupId = u32;

/// At most so many bodies are remembered as read.
const REMEMBERED: usize = 20_000;

/// All of a pod's spec that matters to where it goes.
#[derive(Debug)]
pub(super) struct Shape {
    id: u32,
    /// Trimmed to what matters here, and without a choice of one node by name.
    pub(super) spec: PodSpec,
    pub(super) request: Request,
    pub(super) priority: i32,
    pub(super) may_preempt: bool,
    pub(super) images: Vec<Arc<str>>,
}

/// What one body asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) shape: Arc<Shape>,
    /// The one node that it may run on.
    pub(super) pin: Option<Arc<str>>,
    /// Claims of its volumes, by name.
    pub(super) claims: Vec<Claim>,
    pub(super) gated: bool,
    /// Asks for another scheduler.
    pub(super) foreign: bool,
}

/// A claim that a pod's volume names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Named(Arc<str>),
    /// Made for the pod: its name is the pod's, a dash and this.
    Own(Arc<str>),
}

/// How many pods of a group are on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) all: u32,
    /// Those of them that are being deleted.
    pub(super) ending: u32,
}

/// Pods of one shape that look the same to others.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) shape: Arc<Shape>,
    pub(super) peer: Arc<Peer>,
    pub(super) terms: Arc<Terms>,
    pub(super) placed: FxHashMap<u32, Count>,
    /// Pods that are of it, placed or not.
    members: usize,
}

/// All groups that have pods.
#[derive(Debug, Default)]
pub(super) struct Groups {
    all: FxHashMap<GroupId, Group>,
    by_looks: FxHashMap<(u32, Arc<Peer>), GroupId>,
    by_namespace: FxHashMap<Arc<str>, BTreeSet<GroupId>>,
    /// Groups whose pods care where others are.
    concerned: BTreeSet<GroupId>,
    shapes: FxHashMap<ContentHash, Weak<Shape>>,
    asked: FxHashMap<ContentHash, Arc<Asked>>,
    next: GroupId,
    next_shape: u32,
    /// Selectors name labels that pods of one template do not share.
    own_labels_matter: bool,
    /// That has become known just now.
    news: bool,
}

impl Groups {
    pub(super) fn get(&self, id: GroupId) -> Option<&Group> {
        self.all.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.all.get_mut(&id)
    }

    /// Groups of a namespace, in the order they came.
    pub(super) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = (GroupId, &Group)> {
        let ids = self.by_namespace.get(namespace).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.all.get(id)?)))
    }

    pub(super) fn concerned(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.concerned.iter().filter_map(|id| Some((*id, self.all.get(id)?)))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.all.iter().map(|(id, group)| (*id, group))
    }

    /// What a pod asks for. Each body is read once.
    pub(super) fn read(&mut self, pod: &Object, priorities: &Priorities) -> Result<Arc<Asked>, serde_json::Error> {
        if let Some(asked) = self.asked.get(&pod.body.hash()) {
            return Ok(asked.clone());
        }
        let spec = pod
            .body
            .at("spec")
            .map_or_else(|| Value::Object(Map::new()), Part::value);
        let spec = &spec;
        let (mut trimmed, pin) = trim(spec);
        let priority = priorities.of(spec);
        trimmed.insert("priority".to_owned(), priority.value.into());
        trimmed.insert("preemptionPolicy".to_owned(), priority.policy.into());
        let trimmed = Value::Object(trimmed);
        let hash = ContentHash::of(&trimmed);
        let known = self.shapes.get(&hash).and_then(Weak::upgrade);
        let shape = match known {
            Some(shape) => shape,
            None => {
                self.next_shape += 1;
                let shape = Arc::new(Shape::new(self.next_shape, serde_json::from_value(trimmed)?));
                if self.shapes.len() > REMEMBERED {
                    self.shapes.retain(|_, shape| shape.strong_count() > 0);
                }
                self.shapes.insert(hash, Arc::downgrade(&shape));
                shape
            }
        };
        let scheduler = spec.get("schedulerName").and_then(Value::as_str).unwrap_or("");
        let gates = spec.get("schedulingGates").and_then(Value::as_array);
        let asked = Arc::new(Asked {
            shape,
            pin,
            claims: claims(spec),
            gated: gates.is_some_and(|gates| !gates.is_empty()),
            foreign: !matches!(scheduler, "" | super::NAME),
        });
        if self.asked.len() >= REMEMBERED {
            self.asked.clear();
        }
        self.asked.insert(pod.body.hash(), asked.clone());
        Ok(asked)
    }

    /// Whether it has become known just now that labels matter which pods of one template do not
    /// share: all pods must be looked at again.
    pub(super) fn take_news_of_own_labels(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Forgets what was read: what it was read with has changed.
    pub(super) fn forget_read(&mut self) {
        self.asked.clear();
    }

    /// Counts a pod in; its group is made if it is the first.
    pub(super) fn join(&mut self, shape: &Arc<Shape>, pod: &Object, axis: &mut dyn FnMut(&str) -> usize) -> GroupId {
        let looks = (shape.id, Arc::new(self.peer(pod)));
        if let Some(id) = self.by_looks.get(&looks) {
            if let Some(group) = self.all.get_mut(id) {
                group.members += 1;
            }
            return *id;
        }
        let peer = looks.1.clone();
        let terms = Arc::new(Terms::of(&shape.spec, &peer, axis));
        self.next += 1;
        let id = self.next;
        if terms.names_own_labels && !self.own_labels_matter {
            self.own_labels_matter = true;
            self.news = true;
        }
        if terms.concern_others() {
            self.concerned.insert(id);
        }
        self.by_namespace.entry(peer.namespace.clone()).or_default().insert(id);
        self.by_looks.insert(looks, id);
        let group = Group {
            shape: shape.clone(),
            peer,
            terms,
            placed: FxHashMap::default(),
            members: 1,
        };
        self.all.insert(id, group);
        id
    }

    /// Counts a pod out; true if it was the last of its group, which is gone then.
    pub(super) fn leave(&mut self, id: GroupId) -> bool {
        let Some(group) = self.all.get_mut(&id) else {
            return false;
        };
        group.members -= 1;
        if group.members > 0 {
            return false;
        }
        if let Some(group) = self.all.remove(&id) {
            self.concerned.remove(&id);
            if let Some(ids) = self.by_namespace.get_mut(&group.peer.namespace) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_namespace.remove(&group.peer.namespace);
                }
            }
            self.by_looks.remove(&(group.shape.id, group.peer));
        }
        true
    }

    /// Whether a pod still looks as its group does.
    pub(super) fn looks_like(&self, id: GroupId, shape: &Shape, pod: &Object) -> bool {
        self.all
            .get(&id)
            .is_some_and(|group| group.shape.id == shape.id && *group.peer == self.peer(pod))
    }

    fn peer(&self, pod: &Object) -> Peer {
        let mut labels = pod.meta.labels.as_deref().cloned().unwrap_or_default();
        if !self.own_labels_matter {
            for label in OWN_LABELS {
                labels.remove(label);
            }
        }
        let spread = [Kind::ReplicaSet, Kind::ReplicationController, Kind::StatefulSet];
        let owner = pod
            .controller()
            .filter(|owner| spread.iter().any(|kind| kind.info().name == owner.kind));
        Peer {
            namespace: pod.namespace().into(),
            labels,
            owner: owner.map(|owner| owner.uid.as_str().into()),
        }
    }
}

impl Shape {
    fn new(id: u32, spec: PodSpec) -> Self {
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let images = containers.map(|container| image_name(container.image.as_deref().unwrap_or("")).as_str().into());
        Self {
            id,
            request: Request::of(&spec),
            priority: spec.priority.unwrap_or(0),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
            images: images.collect(),
            spec,
        }
    }
}

/// The parts of a spec that matter, without a choice of one node by name, which comes beside.
fn trim(spec: &Value) -> (Map<String, Value>, Option<Arc<str>>) {
    const WHOLE: [&str; 5] = [
        "overhead",
        "hostNetwork",
        "nodeSelector",
        "tolerations",
        "topologySpreadConstraints",
    ];
    const PARTS: [&str; 4] = ["image", "resources", "ports", "restartPolicy"];
    let mut trimmed = Map::new();
    for field in WHOLE {
        if let Some(value) = spec.get(field).filter(|value| !value.is_null()) {
            trimmed.insert(field.to_owned(), value.clone());
        }
    }
    for list in ["containers", "initContainers"] {
        let Some(containers) = spec.get(list).and_then(Value::as_array) else {
            continue;
        };
        let each = containers.iter().map(|container| {
            let parts = PARTS
                .iter()
                .filter_map(|part| Some(((*part).to_owned(), container.get(*part)?.clone())));
            Value::Object(parts.chain([("name".to_owned(), "".into())]).collect())
        });
        trimmed.insert(list.to_owned(), each.collect());
    }
    let mut pin = None;
    if let Some(affinity) = spec.get("affinity").filter(|affinity| !affinity.is_null()) {
        let mut affinity = affinity.clone();
        pin = unpin(&mut affinity);
        trimmed.insert("affinity".to_owned(), affinity);
    }
    (trimmed, pin)
}

/// Takes the choice of one node by name out of a required node affinity, where all terms make the
/// same one: pods of a DaemonSet differ in nothing else.
fn unpin(affinity: &mut Value) -> Option<Arc<str>> {
    const REQUIRED: &str = "/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let required = affinity.pointer_mut(REQUIRED)?;
    let terms = required.get_mut("nodeSelectorTerms")?.as_array_mut()?;
    let mut names = terms.iter().map(|term| {
        let fields = term.get("matchFields")?.as_array()?;
        let [field] = fields.as_slice() else { return None };
        let [name] = field.get("values")?.as_array()?.as_slice() else {
            return None;
        };
        let by_name = field.get("key")? == "metadata.name" && field.get("operator")? == "In";
        by_name.then_some(name.as_str()?)
    });
    let first: Arc<str> = names.next()??.into();
    if !names.all(|name| name == Some(&*first)) {
        return None;
    }
    let free = |term: &Value| {
        let expressions = term.get("matchExpressions").and_then(Value::as_array);
        expressions.is_none_or(Vec::is_empty)
    };
    if terms.iter().any(free) {
        // One term asks for nothing but the name.
        if let Some(node) = affinity.get_mut("nodeAffinity").and_then(Value::as_object_mut) {
            node.remove("requiredDuringSchedulingIgnoredDuringExecution");
        }
    } else {
        for term in terms {
            if let Some(term) = term.as_object_mut() {
                term.remove("matchFields");
            }
        }
    }
    Some(first)
}

fn claims(spec: &Value) -> Vec<Claim> {
    let volumes = spec.get("volumes").and_then(Value::as_array);
    let claim = |volume: &Value| {
        if let Some(claim) = volume.get("persistentVolumeClaim") {
            return Some(Claim::Named(claim.get("claimName")?.as_str()?.into()));
        }
        volume.get("ephemeral").filter(|it| !it.is_null())?;
        Some(Claim::Own(volume.get("name")?.as_str()?.into()))
    };
    volumes.into_iter().flatten().filter_map(claim).collect()
}

/// How many pods of each group are on each node, for those that count pods.
impl Group {
    pub(super) fn arrive(&mut self, node: u32, ending: bool) {
        let count = self.placed.entry(node).or_default();
        count.all += 1;
        count.ending += u32::from(ending);
    }

    pub(super) fn depart(&mut self, node: u32, ending: bool) {
        if let Some(count) = self.placed.get_mut(&node) {
            count.all = count.all.saturating_sub(1);
            count.ending = count.ending.saturating_sub(u32::from(ending));
            if count.all == 0 {
                self.placed.remove(&node);
            }
        }
    }

    pub(super) fn end(&mut self, node: u32, ending: bool) {
        if let Some(count) = self.placed.get_mut(&node) {
            count.ending = if ending {
                count.ending + 1
            } else {
                count.ending.saturating_sub(1)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_choice_of_one_node_is_taken_out_and_the_rest_stays() {
        let term = |name: &str, expressions: Value| {
            let mut term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
            if !expressions.is_null() {
                term["matchExpressions"] = expressions;
            }
            term
        };
        let affinity = |terms: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
        let ssd = json!([{"key": "disk", "operator": "In", "values": ["ssd"]}]);
        let table = [
            (
                affinity(json!([term("a", Value::Null)])),
                Some("a"),
                json!({"nodeAffinity": {}}),
            ),
            (
                affinity(json!([term("a", ssd.clone())])),
                Some("a"),
                affinity(json!([{"matchExpressions": ssd}])),
            ),
            (
                affinity(json!([term("a", Value::Null), term("b", Value::Null)])),
                None,
                affinity(json!([term("a", Value::Null), term("b", Value::Null)])),
            ),
            (
                affinity(json!([term("a", Value::Null), {"matchExpressions": ssd}])),
                None,
                affinity(json!([term("a", Value::Null), {"matchExpressions": ssd}])),
            ),
        ];
        for (mut affinity, pin, rest) in table {
            assert_eq!(unpin(&mut affinity).as_deref(), pin);
            assert_eq!(affinity, rest);
        }
    }

    #[test]
    fn bodies_that_differ_in_what_does_not_matter_have_one_shape() {
        let pod = |spec: Value| {
            let value =
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}, "spec": spec});
            Object::from_value(value).expect("it is valid")
        };
        let mut groups = Groups::default();
        let priorities = Priorities::default();
        let mut read = |spec: Value| groups.read(&pod(spec), &priorities).expect("it is readable");
        let one = read(json!({"hostname": "db-0", "containers": [{"name": "c", "image": "i", "env": []}]}));
        let two = read(
            json!({"hostname": "db-1", "containers": [{"name": "c", "image": "i"}], "volumes": [
            {"name": "v", "persistentVolumeClaim": {"claimName": "data-db-1"}}]}),
        );
        let other = read(json!({"containers": [{"name": "c", "image": "j"}]}));
        assert!(Arc::ptr_eq(&one.shape, &two.shape));
        assert!(!Arc::ptr_eq(&one.shape, &other.shape));
        assert_eq!(two.claims, vec![Claim::Named("data-db-1".into())]);
    }
}
