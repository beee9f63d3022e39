//! The pods of the ordinals that there shall be: made, waited for, mended.

use std::time::Duration;

use schemas::Object;
use store::{Op, Write};

use super::{Acts, BURST, Row, SOURCE, identity, is_running_and_ready};
use crate::{
    ids::Ids,
    plan::{Plan, replace_of},
    pods::{is_finished, phase},
    revision,
};

impl Row<'_> {
    /// Makes what is missing. With ordered pods it stops at the first that is missing or not yet
    /// available: those after it wait.
    pub(super) fn keep_replicas(&self, acts: &mut Acts, plan: &mut Plan, ids: &mut Ids) {
        for (at, pod) in self.seats.iter().enumerate() {
            if acts.pods.len() >= BURST {
                acts.stops = true;
                return;
            }
            let waits = match pod {
                None => self.make(at, acts, plan, ids),
                Some(pod) if is_finished(pod) => self.end(pod, acts, plan),
                Some(pod) => self.tend(at, pod, acts, plan, ids),
            };
            if waits && self.is_ordered() {
                acts.stops = true;
                return;
            }
        }
    }

    /// Makes the pod of a place, of the old revision below the partition.
    fn make(&self, at: usize, acts: &mut Acts, plan: &mut Plan, ids: &mut Ids) -> bool {
        let (set, ordinal) = (self.set, self.ordinal(at));
        let name = identity::pod_name(set.name(), ordinal);
        match self.make_claims(ordinal, acts, ids) {
            Ok(made) => {
                for claim in made {
                    let message = format!("create Claim {claim} Pod {name} in StatefulSet {} success", set.name());
                    plan.note(SOURCE, set, "SuccessfulCreate", message);
                }
            }
            Err(claim) => {
                let message = format!("pod {name} waits until its claim {claim}, which is being deleted, is gone");
                plan.wait(set.key(), "ClaimTerminating", message);
                return true;
            }
        }
        let mut old = None;
        if self.rolls() && at < self.partition() && !self.update.marks.contains(&self.current) {
            let revisions = &self.world.revisions;
            let found = revisions.iter().find(|revision| revision.name() == self.current);
            old = found.and_then(|found| revision::template(found));
        }
        let (template, mark) = match &old {
            Some(template) => (template, self.current.as_str()),
            None => (&self.spec.template, self.update.mark()),
        };
        let pod = identity::pod(set, self.spec, template, ordinal, mark, &ids.uid(), self.now);
        acts.pods.push(Write::new(Op::Create(pod)));
        let message = format!("create Pod {name} in StatefulSet {} successful", set.name());
        plan.note(SOURCE, set, "SuccessfulCreate", message);
        true
    }

    /// A pod that has ended makes way for another one.
    fn end(&self, pod: &Object, acts: &mut Acts, plan: &mut Plan) -> bool {
        if pod.is_deleting() {
            return true;
        }
        let until = self.world.not_before.get(&pod.uid()).copied().unwrap_or_default();
        let wait = until.saturating_sub(self.now.monotonic);
        if !wait.is_zero() {
            plan.look_again(wait);
            return true;
        }
        let set = self.set;
        let told = |how: &str| {
            let (space, name) = (set.namespace(), set.name());
            format!("StatefulSet {space}/{name} is recreating {how} Pod {}", pod.name())
        };
        if phase(pod) == "Failed" {
            plan.warn(SOURCE, set, "RecreatingFailedPod", told("failed"));
        } else {
            plan.note(SOURCE, set, "RecreatingTerminatedPod", told("terminated"));
        }
        self.remove(pod, acts, plan);
        true
    }

    /// Looks after a pod that is there. True: those after it wait for it.
    fn tend(&self, at: usize, pod: &Object, acts: &mut Acts, plan: &mut Plan, ids: &mut Ids) -> bool {
        let ordinal = self.ordinal(at);
        if pod.is_deleting() {
            return true;
        }
        if phase(pod) == "Pending"
            && let Err(claim) = self.make_claims(ordinal, acts, ids)
        {
            let message = format!("pod {} waits for its claim {claim}, which is being deleted", pod.name());
            plan.wait(self.set.key(), "ClaimTerminating", message);
        }
        if !is_running_and_ready(pod) {
            // A pod of an older template that does not work would hold up the template that mends it.
            let one_goes = self.world.pods.iter().any(|pod| pod.is_deleting());
            if self.is_ordered() && self.is_outdated(at, pod) && !one_goes {
                self.remove(pod, acts, plan);
            }
            return true;
        }
        if self.ripens(pod) != Some(Duration::ZERO) {
            return true;
        }
        let missing = identity::missing_labels(pod, ordinal);
        if !missing.is_empty() {
            let mut mended = pod.clone();
            let labels = mended.meta.labels.get_or_insert_default();
            labels.extend(missing.into_iter().map(|(label, value)| (label.to_owned(), value)));
            acts.pods.push(replace_of(pod, mended));
        }
        false
    }
}
