//! What is said of a pod, and when: at once what somebody may be waiting for, the rest a little later.

use std::{cmp::Reverse, time::Duration};

use schemas::{
    Uid,
    node::{NodeEvent, PodReport},
};

use crate::{
    agent::Agent,
    entry::{Claim, Digest},
    observed,
    plan::{Plan, Wish},
    pod::Pod,
    status::{self, Facts},
};

/// What is not urgent waits this long for more of it.
const LAZY_REPORT: Duration = Duration::from_secs(1);

impl Agent {
    /// Computes the pod's status and reports it: at once when somebody may be waiting for it.
    pub(crate) fn report(&mut self, uid: &Uid, plan: &Plan) {
        let now = self.host.clock.now();
        let Some(entry) = self.entries.get_mut(uid) else { return };
        if entry.claim == Claim::Gone {
            return;
        }
        let pod_ip = self.host.address(&entry.pod);
        let images = &self.host.images;
        let status = status::status(
            &entry.view(now),
            &Facts {
                plan,
                pod_ip,
                host_ip: self.host.host_ip,
                before: &entry.status(),
                image_name: &|id| images.display(id),
            },
        );
        let digest = Digest::of(&status);
        for (name, waiting) in &plan.waiting {
            let attempt = observed::latest(&entry.containers, name).map(|container| container.attempt);
            let memory = entry.memory.entry(name);
            if waiting.reason == "CrashLoopBackOff" && memory.told_backoff != attempt {
                memory.told_backoff = attempt;
                let key = &entry.pod.key;
                let message = format!(
                    "Back-off restarting failed container {name} in pod {}_{}",
                    key.name,
                    key.ns()
                );
                entry.events.push(back_off(&entry.pod, name, message));
            }
        }
        let deleting = entry.wish() != Wish::Run;
        let terminated = plan.ended && deleting && entry.busy.is_none();
        let urgent = entry.said.as_ref() != Some(&digest) || (terminated && !entry.said_ended);
        let changed = entry.set_status(&status);
        let due = entry.report_at.is_some_and(|at| at <= now.monotonic);
        if !(urgent || due) {
            if (changed || !entry.events.is_empty()) && entry.report_at.is_none() {
                let at = now.monotonic + LAZY_REPORT;
                entry.report_at = Some(at);
                self.timers.push(Reverse((at, uid.clone())));
            }
            return;
        }
        entry.said = Some(digest);
        entry.report_at = None;
        entry.said_ended = terminated;
        let report = PodReport {
            key: entry.pod.key.clone(),
            uid: uid.clone(),
            status: entry.status_value(),
            terminated,
            events: std::mem::take(&mut entry.events),
        };
        if self.host.state.dir().is_some() {
            // What was said of probes and times must outlive this process.
            let mut object = entry.pod.object.clone();
            object.status = Some(report.status.clone().into());
            self.host.state.save(&entry.incarnation, &object);
        }
        self.reporter.push(report);
    }
}

pub(crate) fn back_off(pod: &Pod, container: &str, message: String) -> NodeEvent {
    let list = if pod.init().iter().any(|spec| spec.name == container) {
        "initContainers"
    } else {
        "containers"
    };
    NodeEvent {
        warning: true,
        reason: "BackOff".to_owned(),
        message,
        field_path: Some(format!("spec.{list}{{{container}}}")),
    }
}
