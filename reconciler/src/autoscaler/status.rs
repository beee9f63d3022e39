//! The status of an autoscaler: replicas, metrics and conditions.

use schemas::{Now, Object};
use serde_json::{Value, json};
use store::Class;

use super::measure::{Fault, Proposal};
use crate::{
    plan::{Plan, status_of},
    pods::{blank, condition_in, set_condition, stamp},
};

/// A status in the making.
pub(super) struct Status<'a> {
    object: &'a Object,
    value: Value,
    now: Now,
}

impl<'a> Status<'a> {
    pub(super) fn of(object: &'a Object, now: Now) -> Self {
        Self {
            object,
            value: blank(object.status.as_ref()),
            now,
        }
    }

    /// Sets a condition; true when that says something new.
    pub(super) fn conclude(&mut self, kind: &str, holds: bool, reason: &str, message: &str) -> bool {
        let value = if holds { "True" } else { "False" };
        let before = self.object.status_value().unwrap_or(Value::Null);
        let news = condition_in(&before, kind)
            .is_none_or(|said| said["status"] != value || said["reason"] != reason || said["message"] != message);
        let condition = json!({
            "type": kind, "status": value, "reason": reason, "message": message,
            "lastTransitionTime": stamp(self.now.wall),
        });
        set_condition(&mut self.value, condition);
        news
    }

    pub(super) fn replicas(&mut self, current: i32, desired: i32) {
        self.value["currentReplicas"] = current.into();
        self.value["desiredReplicas"] = desired.into();
    }

    /// The figures of each metric, in their order; of one that says nothing, none.
    pub(super) fn metrics(&mut self, answers: &[Result<Proposal, Fault>]) {
        let figures = answers.iter().map(|answer| match answer {
            Ok(proposal) => proposal.status.clone(),
            Err(_) => json!({"type": ""}),
        });
        self.value["currentMetrics"] = figures.collect();
    }

    pub(super) fn scaled(&mut self) {
        self.value["lastScaleTime"] = stamp(self.now.wall).into();
    }

    /// Adds the write, if there is something new.
    pub(super) fn write(self, plan: &mut Plan) {
        if self.object.status != Some((&self.value).into()) {
            let write = status_of(self.object, self.value);
            plan.write(Class::Status, "telling how an autoscaler stands", write);
        }
    }
}
