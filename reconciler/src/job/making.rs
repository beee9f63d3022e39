//! The pods of a Job.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    batch::v1::JobSpec,
    core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, PodTemplateSpec},
};
use schemas::{Body, ContentHash, Now, Object, labels, template};
use serde_json::Value;
use store::{Class, Op, Write};

use super::{
    Look, SOURCE, World,
    census::{Failures, Member, State},
    policy::{self, Judgement},
    scale::Slot,
};
use crate::{ids::Ids, plan::Plan};

/// The variable that tells a pod of an indexed Job which one it is.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// Makes pods in batches of 1, 2, 4, …: a fault that hits them all is met once.
pub(super) fn make(plan: &mut Plan, look: &Look<'_>, slots: &[Slot], now: Now, ids: &mut Ids) {
    if slots.is_empty() {
        return;
    }
    let (world, spec) = (look.world, look.spec);
    let job = &*world.job;
    let pods = Pods::of(spec, look.census.indexed);
    // The numbers of pods that were made before and of those that are there: a look that is repeated
    // because the outcome of the first is not known gives the same names, and makes no second pod.
    let open = |member: &&Member<'_>| member.state != State::Succeeded && !look.census.has_failed(member);
    let there = look.census.members.iter().filter(open).count();
    let before = look.tally.succeeded + look.tally.failed + there;
    let mut left = slots;
    let mut size = 1;
    let mut nth = before;
    while !left.is_empty() {
        let (batch, rest) = left.split_at(size.min(left.len()));
        let mut writes = Vec::with_capacity(batch.len());
        for slot in batch {
            let suffix = if world.tries < 2 {
                suffix(job, slot, nth)
            } else {
                // Those names are taken by pods that do not count.
                ids.suffix()
            };
            nth += 1;
            let pod = pods.pod(world, spec, slot, &suffix, &ids.uid(), now);
            plan.note(SOURCE, job, "SuccessfulCreate", format!("Created pod: {}", pod.name()));
            writes.push(Write::new(Op::Create(pod)));
        }
        plan.writes(Class::Controller, "making pods", writes);
        left = rest;
        size *= 2;
    }
}

fn suffix(job: &Object, slot: &Slot, nth: usize) -> String {
    let generation = job.meta.generation.unwrap_or(1);
    let text = format!("{}/{generation}/{:?}/{nth}", job.uid(), slot.index);
    let [a, b, c, d, e, ..] = ContentHash::of_bytes(text.as_bytes()).0;
    template::random_suffix([a, b, c, d, e])
}

/// What the pods of one Job have in common.
struct Pods {
    template: PodTemplateSpec,
    body: Arc<Body>,
}

impl Pods {
    fn of(spec: &JobSpec, indexed: bool) -> Self {
        let mut template = spec.template.clone();
        if indexed && let Some(pod) = &mut template.spec {
            let lists = [Some(&mut pod.containers), pod.init_containers.as_mut()];
            lists.into_iter().flatten().flatten().for_each(tell_index);
        }
        Self {
            body: template::pod_body(&template),
            template,
        }
    }

    fn pod(&self, world: &World, spec: &JobSpec, slot: &Slot, suffix: &str, uid: &schemas::Uid, now: Now) -> Object {
        let job = &*world.job;
        let base = match slot.index {
            None => format!("{}-", job.name()),
            Some(index) => indexed_base(job.name(), index),
        };
        let name = template::generated_name(&base, suffix);
        let body = match slot.index {
            None => self.body.clone(),
            Some(index) => {
                let mut body = self.body.value();
                if let Some(Value::Object(spec)) = body.get_mut("spec") {
                    spec.insert("hostname".to_owned(), format!("{}-{index}", job.name()).into());
                }
                Body::new(body)
            }
        };
        let mut pod = template::pod_from_template(&self.template, &body, job, &name, uid, now);
        pod.meta.generate_name = Some(base.into());
        pod.meta
            .finalizers
            .get_or_insert_default()
            .push(labels::JOB_TRACKING.to_owned());
        if let Some(index) = slot.index {
            let annotations = pod.meta.annotations.get_or_insert_default();
            annotations.insert(labels::JOB_COMPLETION_INDEX.to_owned(), index.to_string());
            if spec.backoff_limit_per_index.is_some() {
                count_failures(annotations, spec, slot.replaces.as_deref());
            }
            let labels = pod.meta.labels.get_or_insert_default();
            labels.insert(labels::JOB_COMPLETION_INDEX.to_owned(), index.to_string());
        }
        pod
    }
}

/// The beginning of the name of a pod with an index, cut so that the index stays in it.
pub(super) fn indexed_base(job: &str, index: u32) -> String {
    const ROOM: usize = 63 - 5;
    let end = format!("-{index}-");
    let mut cut = job.len().min(ROOM.saturating_sub(end.len()));
    while !job.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{end}", &job[..cut])
}

fn count_failures(annotations: &mut BTreeMap<String, String>, spec: &JobSpec, replaced: Option<&Object>) {
    let mut failures = replaced.map(Failures::of).unwrap_or_default();
    if let Some(replaced) = replaced {
        match policy::judge(spec.pod_failure_policy.as_ref(), replaced) {
            Judgement::Ignore => failures.ignored += 1,
            _ => failures.counted += 1,
        }
    }
    annotations.insert(labels::JOB_INDEX_FAILURE_COUNT.to_owned(), failures.counted.to_string());
    if failures.ignored > 0 {
        annotations.insert(
            labels::JOB_INDEX_IGNORED_FAILURE_COUNT.to_owned(),
            failures.ignored.to_string(),
        );
    }
}

/// The variable's value is a field of the pod, so that all pods share one list of containers.
fn tell_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    env.push(EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: format!("metadata.labels['{}']", labels::JOB_COMPLETION_INDEX),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    });
}
