//! The claims of a StatefulSet's pods: made before their pod, kept or given up by the policy.
//!
//! A claim is deleted by garbage collection alone: it is owned by the set, so that it goes with it, or
//! by a pod that is about to go.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::apps::v1::StatefulSetSpec,
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
};
use schemas::{Body, Kind, Meta, Object, Part, Shared, defaulting, labels};
use serde_json::{Map, Value, json};
use store::{Op, Write};

use super::{Acts, Row, identity};
use crate::{ids::Ids, plan::replace_of};

/// The names of the templates of claims.
pub fn templates(spec: &StatefulSetSpec) -> impl Iterator<Item = &str> {
    let all = spec.volume_claim_templates.iter().flatten();
    all.filter_map(|claim| claim.metadata.name.as_deref())
}

/// The name of the claim that a template makes for an ordinal.
#[must_use]
pub fn name(template: &str, set: &str, ordinal: i64) -> String {
    format!("{template}-{}", identity::pod_name(set, ordinal))
}

/// Whether a claim of this name could be one of the set's.
#[must_use]
pub fn may_belong(claim: &str, set: &str) -> bool {
    let Some((rest, digits)) = claim.rsplit_once('-') else {
        return false;
    };
    !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && rest
            .strip_suffix(set)
            .is_some_and(|template| template.len() > 1 && template.ends_with('-'))
}

/// The names of all claims that a look at a set needs.
pub fn names(set: &Object, pods: &[std::sync::Arc<Object>]) -> Vec<String> {
    let Ok(spec) = set.spec::<StatefulSetSpec>() else {
        return Vec::new();
    };
    let templates: Vec<&str> = templates(&spec).collect();
    if templates.is_empty() {
        return Vec::new();
    }
    let start = identity::start(&spec);
    let count = i64::try_from(identity::replicas(&spec)).unwrap_or(0);
    let there = pods.iter().filter_map(|pod| identity::ordinal(set.name(), pod.name()));
    let beyond = there.filter(|ordinal| *ordinal < start || *ordinal >= start + count);
    let ordinals: Vec<i64> = (start..start + count).chain(beyond).collect();
    let of = |ordinal: i64| {
        templates
            .iter()
            .map(move |template| name(template, set.name(), ordinal))
    };
    ordinals.into_iter().flat_map(of).collect()
}

/// What becomes of claims.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Retention {
    /// Claims go with the set.
    with_set: bool,
    /// Claims go with a pod that is scaled away.
    with_pod: bool,
}

impl Row<'_> {
    fn retention(&self) -> Retention {
        let policy = self.spec.persistent_volume_claim_retention_policy.as_ref();
        let deletes = |word: Option<&String>| word.map(String::as_str) == Some("Delete");
        Retention {
            with_set: deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
            with_pod: deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
        }
    }

    /// Gives the claims of all pods the owners that the policy wants.
    pub(super) fn keep_claims(&self, acts: &mut Acts) {
        let retention = self.retention();
        let own_set = retention.with_set.then(|| self.set.as_controller());
        for at in 0..self.seats.len() {
            self.own_claims(self.ordinal(at), own_set.as_ref(), acts);
        }
        for pod in &self.condemned {
            let Some(ordinal) = identity::ordinal(self.set.name(), pod.name()) else {
                continue;
            };
            let own_pod = retention.with_pod.then(|| pod.as_controller());
            self.own_claims(ordinal, own_pod.as_ref().or(own_set.as_ref()), acts);
        }
    }

    fn own_claims(&self, ordinal: i64, owner: Option<&OwnerReference>, acts: &mut Acts) {
        let pod = identity::pod_name(self.set.name(), ordinal);
        for template in templates(self.spec) {
            let Some(claim) = self.world.claims.get(&name(template, self.set.name(), ordinal)) else {
                continue;
            };
            let ours = |reference: &OwnerReference| {
                *reference.uid == *self.set.uid().0
                    || (reference.kind == Kind::Pod.info().name && reference.name == pod)
            };
            let all = claim.meta.owner_references.as_deref().cloned().unwrap_or_default();
            let mut wanted: Vec<OwnerReference> = all.iter().filter(|it| !ours(it)).cloned().collect();
            // Somebody else's claim stays somebody else's.
            let controlled = wanted.iter().any(|reference| reference.controller == Some(true));
            wanted.extend(owner.filter(|_| !controlled).cloned());
            if wanted != all && !claim.is_deleting() {
                let mut changed = Object::clone(claim);
                changed.meta.owner_references = (!wanted.is_empty()).then(|| wanted.into());
                acts.claims.push(replace_of(claim, changed));
            }
        }
    }

    /// Makes the claims that the pod of an ordinal lacks. False if one of them is on its way out: its
    /// pod waits until it is gone and another one can be made.
    pub(super) fn make_claims(&self, ordinal: i64, acts: &mut Acts, ids: &mut Ids) -> Result<Vec<String>, String> {
        let mut made = Vec::new();
        for (at, template) in templates(self.spec).enumerate() {
            let name = name(template, self.set.name(), ordinal);
            match self.world.claims.get(&name) {
                Some(claim) if claim.is_deleting() => return Err(name),
                Some(_) => {}
                None => {
                    acts.claims.push(Write::new(Op::Create(self.claim(at, &name, ids))));
                    made.push(name);
                }
            }
        }
        Ok(made)
    }

    fn claim(&self, at: usize, name: &str, ids: &mut Ids) -> Object {
        let spec = self.set.body.at(&format!("spec/volumeClaimTemplates/{at}/spec"));
        let mut value = json!({"spec": spec.map(Part::value)});
        defaulting::default_object(Kind::PersistentVolumeClaim, &mut value);
        let body = match value {
            Value::Object(body) => body,
            _ => Map::new(),
        };
        let meta = self
            .spec
            .volume_claim_templates
            .iter()
            .flatten()
            .nth(at)
            .map(|claim| &claim.metadata);
        let mut labels: BTreeMap<String, String> = meta.and_then(|meta| meta.labels.clone()).unwrap_or_default();
        labels.extend(self.spec.selector.match_labels.clone().unwrap_or_default());
        let owner = self.retention().with_set.then(|| self.set.as_controller());
        Object {
            kind: Kind::PersistentVolumeClaim,
            meta: Shared::new(Meta {
                name: Some(name.into()),
                namespace: self.set.meta.namespace.clone(),
                uid: Some(ids.uid().0),
                creation_timestamp: Some(Time(self.now.wall)),
                labels: Some(labels.into()),
                annotations: meta.and_then(|meta| meta.annotations.clone()).map(Into::into),
                finalizers: Some(vec![labels::PVC_PROTECTION.to_owned()].into()),
                owner_references: owner.map(|owner| vec![owner].into()),
                ..Meta::default()
            }),
            body: Body::new(body),
            node: None,
            status: Some(json!({"phase": "Pending"}).into()),
            version: 0,
        }
    }

    pub(super) fn ordinal(&self, at: usize) -> i64 {
        self.start + i64::try_from(at).unwrap_or(0)
    }
}
