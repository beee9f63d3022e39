//! A Deployment's status: counts, and the conditions Available, Progressing and ReplicaFailure.

use std::time::Duration;

use schemas::{Now, Object};
use serde_json::{Value, json};

use super::{Rollout, World};
use crate::pods::{self, condition, condition_in, set_condition, stamp};

/// A deadline that is none.
const NEVER: i32 = i32::MAX;
const DEADLINE: i32 = 600;

/// The status as it will be.
pub(super) struct Draft {
    status: Value,
    at: String,
}

impl Draft {
    pub(super) fn of(object: &Object, now: Now) -> Self {
        Self {
            status: object
                .status_value()
                .filter(Value::is_object)
                .unwrap_or_else(|| json!({})),
            at: stamp(now.wall),
        }
    }

    /// The new status, if it says something new.
    pub(super) fn changed(self, object: &Object) -> Option<Value> {
        (object.status != Some((&self.status).into())).then_some(self.status)
    }

    fn progressing(&mut self, status: &str, reason: &str, message: String) {
        self.set("Progressing", status, reason, message);
    }

    fn set(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let condition = json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastUpdateTime": self.at, "lastTransitionTime": self.at,
        });
        set_condition(&mut self.status, condition);
    }

    fn reason(&self, kind: &str) -> Option<&str> {
        condition_in(&self.status, kind)?["reason"].as_str()
    }

    /// A pause stops the clock of the deadline, its end starts it anew.
    pub(super) fn note_pause(&mut self, paused: bool) {
        let was = self.reason("Progressing") == Some("DeploymentPaused");
        if paused && !was {
            self.progressing("Unknown", "DeploymentPaused", "the Deployment is paused".to_owned());
        } else if !paused && was {
            self.progressing("Unknown", "DeploymentResumed", "the Deployment is resumed".to_owned());
        }
    }

    pub(super) fn created(&mut self, set: &str) {
        self.progressing("True", "NewReplicaSetCreated", format!("made new replica set {set:?}"));
    }

    /// An existing set has the current template.
    pub(super) fn found(&mut self, set: &str) {
        if condition_in(&self.status, "Progressing").is_none() {
            self.progressing(
                "True",
                "FoundNewReplicaSet",
                format!("found replica set {set:?} with this template"),
            );
        }
    }

    pub(super) fn collided(&mut self) {
        let count = self.status["collisionCount"].as_i64().unwrap_or(0);
        self.status["collisionCount"] = (count + 1).into();
    }

    /// Counts, and draws conclusions. Returns whether the rollout is complete, and when to look again
    /// for its deadline.
    pub(super) fn finish(&mut self, rollout: &Rollout, world: &World, now: Now) -> (bool, Option<Duration>) {
        let old = self.status.clone();
        let before = |field: &str| old[field].as_i64().unwrap_or(0);
        let sum = |of: fn(&super::Set) -> i32| rollout.sets.iter().map(of).sum::<i32>();
        let replicas = sum(|set| set.status.replicas);
        let ready = sum(|set| set.status.ready_replicas.unwrap_or(0));
        let available = sum(|set| set.status.available_replicas.unwrap_or(0));
        let updated = rollout.new.map_or(0, |new| rollout.sets[new].status.replicas);
        let unavailable = (sum(|set| set.replicas) - available).max(0);
        self.status["observedGeneration"] = rollout.object.meta.generation.unwrap_or(1).into();
        for (field, count) in [
            ("replicas", replicas),
            ("updatedReplicas", updated),
            ("readyReplicas", ready),
            ("availableReplicas", available),
            ("unavailableReplicas", unavailable),
        ] {
            pods::count(&mut self.status, field, count.into());
        }
        self.availability(available >= rollout.replicas - rollout.max_unavailable);
        self.failure(rollout);

        let all_new = rollout.new.is_some() && updated == replicas;
        let complete = all_new && updated == rollout.replicas && available == rollout.replicas;
        let deadline = rollout.spec.progress_deadline_seconds.unwrap_or(DEADLINE);
        if rollout.spec.paused == Some(true) {
            return (complete, None);
        }
        let name = rollout.new.map_or("", |new| rollout.sets[new].object.name());
        let done = self.reason("Progressing") == Some("NewReplicaSetAvailable");
        if complete {
            if !done {
                self.progressing(
                    "True",
                    "NewReplicaSetAvailable",
                    format!("replica set {name:?} is available in full"),
                );
            }
            return (true, None);
        }
        if deadline == NEVER || (done && all_new) {
            return (false, None);
        }
        let moved = i64::from(updated) > before("updatedReplicas")
            || i64::from(replicas - updated) < before("replicas") - before("updatedReplicas")
            || i64::from(ready) > before("readyReplicas")
            || i64::from(available) > before("availableReplicas");
        if moved {
            self.progressing(
                "True",
                "ReplicaSetUpdated",
                format!("replica set {name:?} is progressing"),
            );
        }
        let deadline = Duration::from_secs(u64::try_from(deadline).unwrap_or(0));
        let written = condition(rollout.object, "Progressing");
        let fresh = condition_in(&self.status, "Progressing").map(|it| &it["lastUpdateTime"])
            != written.as_ref().map(|it| &it["lastUpdateTime"]);
        let since = world.progress_seen.filter(|_| !fresh).unwrap_or(now.monotonic);
        let waited = now.monotonic.saturating_sub(since);
        if waited < deadline {
            return (false, Some(deadline - waited));
        }
        if self.reason("Progressing") != Some("ProgressDeadlineExceeded") {
            let message = format!("replica set {name:?} made no progress for {} s", deadline.as_secs());
            self.progressing("False", "ProgressDeadlineExceeded", message);
        }
        (false, None)
    }

    fn availability(&mut self, enough: bool) {
        let (status, reason, message) = if enough {
            ("True", "MinimumReplicasAvailable", "enough replicas are available")
        } else {
            (
                "False",
                "MinimumReplicasUnavailable",
                "fewer replicas are available than the rollout may leave",
            )
        };
        if self.reason("Available") != Some(reason) {
            self.set("Available", status, reason, message.to_owned());
        }
    }

    /// Passes a set's failure on, and drops it when it is over.
    fn failure(&mut self, rollout: &Rollout) {
        let failing = rollout
            .sets
            .iter()
            .find_map(|set| condition(&set.object, "ReplicaFailure").filter(|it| it["status"] == "True"));
        match failing {
            Some(found) => {
                let same =
                    condition_in(&self.status, "ReplicaFailure").is_some_and(|own| own["message"] == found["message"]);
                if !same {
                    let text = |field: &str| found[field].as_str().unwrap_or("").to_owned();
                    self.set("ReplicaFailure", "True", &text("reason"), text("message"));
                }
            }
            None => {
                if let Some(list) = self.status["conditions"].as_array_mut() {
                    list.retain(|condition| condition["type"] != "ReplicaFailure");
                }
            }
        }
    }
}
