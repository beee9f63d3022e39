//! Which nodes a DaemonSet's pods belong on.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec, Toleration};
use schemas::{
    Object,
    labels::{
        TAINT_DISK_PRESSURE, TAINT_MEMORY_PRESSURE, TAINT_NETWORK_UNAVAILABLE, TAINT_NOT_READY, TAINT_PID_PRESSURE,
        TAINT_UNREACHABLE, TAINT_UNSCHEDULABLE,
    },
};

use crate::scheduler::{filter, node::Facts};

/// What a node is to a DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It shall have a pod.
    Runs,
    /// It gets no new pod; one that is there stays.
    Stays,
    /// It shall have none.
    Leaves,
}

/// What a template asks of a node.
pub struct Rules {
    spec: PodSpec,
    tolerations: Vec<Toleration>,
}

/// The field by which a pod names the node that it is meant for.
pub(super) const NAME_FIELD: &str = "metadata.name";

impl Rules {
    #[must_use]
    pub fn of(template: &PodTemplateSpec) -> Self {
        let spec = template.spec.as_ref();
        let asked = PodSpec {
            node_name: spec.and_then(|spec| spec.node_name.clone()),
            node_selector: spec.and_then(|spec| spec.node_selector.clone()),
            affinity: spec.and_then(|spec| spec.affinity.clone()),
            ..PodSpec::default()
        };
        Self {
            spec: asked,
            tolerations: tolerations(spec),
        }
    }

    #[must_use]
    pub fn judge(&self, node: &Facts) -> Verdict {
        let named = self.spec.node_name.as_deref().filter(|name| !name.is_empty());
        if named.is_some_and(|name| *name != *node.name) {
            return Verdict::Leaves;
        }
        let selected = self
            .spec
            .node_selector
            .iter()
            .flatten()
            .all(|(key, value)| node.labels.get(key) == Some(value));
        let required = self.spec.affinity.as_ref().and_then(|affinity| {
            affinity
                .node_affinity
                .as_ref()?
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
        let wanted = required.is_none_or(|any| {
            any.node_selector_terms
                .iter()
                .any(|term| filter::term_holds(term, node))
        });
        if !selected || !wanted {
            return Verdict::Leaves;
        }
        let hostile = |effect: &str| {
            let mut taints = node.taints.iter().filter(|taint| taint.effect == effect);
            taints.any(|taint| !filter::tolerates(&self.tolerations, taint))
        };
        if hostile("NoExecute") {
            Verdict::Leaves
        } else if hostile("NoSchedule") {
            Verdict::Stays
        } else {
            Verdict::Runs
        }
    }
}

/// The tolerations of a pod of this template, with those that every pod of a DaemonSet has: it is to
/// run on a node that is in trouble or cordoned, too.
pub(super) fn tolerations(spec: Option<&PodSpec>) -> Vec<Toleration> {
    let mut all = spec.and_then(|spec| spec.tolerations.clone()).unwrap_or_default();
    let mut own = vec![
        (TAINT_NOT_READY, "NoExecute"),
        (TAINT_UNREACHABLE, "NoExecute"),
        (TAINT_DISK_PRESSURE, "NoSchedule"),
        (TAINT_MEMORY_PRESSURE, "NoSchedule"),
        (TAINT_PID_PRESSURE, "NoSchedule"),
        (TAINT_UNSCHEDULABLE, "NoSchedule"),
    ];
    if spec.and_then(|spec| spec.host_network) == Some(true) {
        own.push((TAINT_NETWORK_UNAVAILABLE, "NoSchedule"));
    }
    for (key, effect) in own {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        let same = |other: &&mut Toleration| {
            other.key == toleration.key && other.effect == toleration.effect && other.operator == toleration.operator
        };
        match all.iter_mut().find(same) {
            // Without an end, whatever the template says.
            Some(other) => *other = toleration,
            None => all.push(toleration),
        }
    }
    all
}

/// The node that a pod is on or, before it is bound, meant for.
pub(super) fn target(pod: &Object) -> Option<Cow<'_, str>> {
    if let Some(node) = &pod.node {
        return Some(Cow::Borrowed(node));
    }
    let required = "spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    pod.body.at(required)?.items().find_map(|term| {
        term.get("matchFields")?.items().find_map(|field| {
            let mut names = field.get("values")?.items();
            let only = names.next().filter(|_| names.next().is_none())?;
            (field.has("key", NAME_FIELD) && field.has("operator", "In")).then(|| only.text())?
        })
    })
}
