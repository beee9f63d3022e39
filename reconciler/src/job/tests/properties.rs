//! Over random interleavings of looks, crashes after any write, ends, deletions and time, a Job counts
//! each pod once, keeps to its parallelism, and each index succeeds once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use schemas::labels;
use serde_json::json;

use super::harness::Cluster;
use crate::{job::tracking::is_tracked, pods::is_active};

#[derive(Clone, Debug)]
enum Act {
    Look,
    /// Only so many writes of the plan are made, then the process starts anew.
    Crash(usize),
    /// A plan is made, then something else happens before it is carried out.
    Late(Box<Act>),
    Run(usize),
    Succeed(usize),
    Fail(usize),
    Delete(usize),
    Reap,
    Pass(u64),
    Parallelism(u32),
    Suspend(bool),
}

fn act() -> impl Strategy<Value = Act> {
    let leaf = prop_oneof![
        4 => Just(Act::Look),
        2 => (0usize..8).prop_map(Act::Crash),
        2 => any::<usize>().prop_map(Act::Run),
        3 => any::<usize>().prop_map(Act::Succeed),
        2 => any::<usize>().prop_map(Act::Fail),
        1 => any::<usize>().prop_map(Act::Delete),
        1 => Just(Act::Reap),
        1 => (1u64..700).prop_map(Act::Pass),
        1 => (0u32..5).prop_map(Act::Parallelism),
        1 => any::<bool>().prop_map(Act::Suspend),
    ];
    leaf.prop_recursive(1, 4, 1, |leaf| leaf.prop_map(|act| Act::Late(Box::new(act))))
}

struct Model {
    cluster: Cluster,
    indexed: bool,
    per_index: bool,
    completions: u32,
    parallelism: u32,
    suspended: bool,
    /// Uids of pods that ended one way or the other while they were still to be counted.
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
    /// The index of each pod that succeeded.
    won: BTreeMap<String, Vec<String>>,
}

impl Model {
    fn spec(&self) -> serde_json::Value {
        let mut spec = json!({
            "completions": self.completions, "parallelism": self.parallelism, "suspend": self.suspended,
            "completionMode": if self.indexed { "Indexed" } else { "NonIndexed" },
        });
        if self.per_index {
            spec["backoffLimitPerIndex"] = 1_000.into();
        } else {
            spec["backoffLimit"] = 1_000.into();
        }
        spec
    }

    fn pick(&self, at: usize) -> Option<std::sync::Arc<schemas::Object>> {
        let active = self.cluster.active();
        (!active.is_empty()).then(|| active[at % active.len()].clone())
    }

    fn end(&mut self, at: usize, code: i32) {
        let Some(pod) = self.pick(at) else { return };
        self.cluster.end(&pod, code);
        let uid = pod.uid().to_string();
        if code == 0 {
            self.succeeded.insert(uid.clone());
            let index = pod.annotation(labels::JOB_COMPLETION_INDEX).unwrap_or("none");
            self.won.entry(index.to_owned()).or_default().push(uid);
        } else {
            self.failed.insert(uid);
        }
    }

    fn step(&mut self, act: &Act) {
        match act {
            Act::Look => drop(self.cluster.look()),
            Act::Crash(writes) => {
                let plan = self.cluster.plan();
                self.cluster
                    .sim
                    .carry_out(&plan, *writes)
                    .expect("nothing came between");
                self.cluster.restart();
            }
            Act::Late(act) => {
                let plan = self.cluster.plan();
                self.step(act);
                // What was overtaken is refused; what was not goes through.
                let _ = self.cluster.sim.carry_out(&plan, usize::MAX);
            }
            Act::Run(at) => {
                if let Some(pod) = self.pick(*at) {
                    self.cluster.run(&pod);
                }
            }
            Act::Succeed(at) => self.end(*at, 0),
            Act::Fail(at) => self.end(*at, 1),
            Act::Delete(at) => {
                if let Some(pod) = self.pick(*at) {
                    self.cluster.delete(&pod);
                    self.failed.insert(pod.uid().to_string());
                }
            }
            Act::Reap => self.cluster.reap(),
            Act::Pass(seconds) => self.cluster.pass(*seconds),
            Act::Parallelism(parallelism) => {
                self.parallelism = *parallelism;
                self.cluster.put(self.spec());
            }
            Act::Suspend(suspended) => {
                self.suspended = *suspended;
                self.cluster.put(self.spec());
            }
        }
    }

    fn counted(&self, list: &str) -> usize {
        let status = self.cluster.status();
        let number = status[list].as_u64().unwrap_or(0);
        let waiting = status["uncountedTerminatedPods"][list].as_array().map_or(0, Vec::len);
        usize::try_from(number).expect("it is small")
            + if self.indexed && list == "succeeded" {
                0
            } else {
                waiting
            }
    }

    /// What holds after each step, whatever has happened.
    fn check(&self) {
        let successes = if self.indexed {
            self.won.len()
        } else {
            self.succeeded.len()
        };
        assert!(self.counted("succeeded") <= successes, "{}", self.cluster.status());
        assert!(self.counted("failed") <= self.failed.len(), "{}", self.cluster.status());
        for (index, won) in self.won.iter().filter(|_| self.indexed) {
            assert_eq!(won.len(), 1, "index {index} has succeeded more than once");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_job_counts_each_pod_once(
        indexed in any::<bool>(), per_index in any::<bool>(), completions in 1u32..6, parallelism in 1u32..4,
        acts in proptest::collection::vec(act(), 1..60),
    ) {
        let mut model = Model {
            cluster: Cluster::new(json!({})),
            indexed, per_index: per_index && indexed, completions, parallelism,
            suspended: false,
            succeeded: BTreeSet::new(),
            failed: BTreeSet::new(),
            won: BTreeMap::new(),
        };
        model.cluster.put(model.spec());
        let mut most = parallelism as usize;
        for act in &acts {
            let before = model.cluster.active().len();
            let adds = matches!(act, Act::Look | Act::Crash(_) | Act::Late(_));
            model.step(act);
            model.check();
            // Late plans may still be of a time with more.
            most = if matches!(act, Act::Late(_)) { most.max(model.parallelism as usize) } else { model.parallelism as usize };
            let active = model.cluster.active().len();
            prop_assert!(
                active <= before || (adds && active <= most),
                "{active} pods are active, {most} may be"
            );
        }
        // Left to itself it ends, and every end was counted once.
        model.parallelism = parallelism;
        model.suspended = false;
        model.cluster.put(model.spec());
        for _ in 0..400 {
            model.cluster.look();
            model.check();
            if model.cluster.holds("Complete").is_some() {
                break;
            }
            if model.cluster.active().is_empty() {
                model.cluster.pass(600);
            }
            model.cluster.reap();
            while !model.cluster.active().is_empty() && model.cluster.holds("SuccessCriteriaMet").is_none() {
                model.end(0, 0);
            }
        }
        prop_assert!(model.cluster.holds("Complete").is_some(), "{}", model.cluster.status());
        let successes = if model.indexed { completions as usize } else { model.succeeded.len() };
        prop_assert_eq!(model.counted("succeeded"), successes);
        prop_assert_eq!(model.counted("failed"), model.failed.len(), "{}", model.cluster.status());
        if model.indexed {
            prop_assert_eq!(model.won.len(), completions as usize);
        }
        let left = model.cluster.pods();
        prop_assert!(left.iter().all(|pod| !is_tracked(pod) && !is_active(pod)));
    }
}
