//! How fast, and how far, an autoscaler may go.
//!
//! <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#configurable-scaling-behavior>

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};
use schemas::quantity::Quantity;

use super::memory::Memory;

/// How far a metric may be off before anything is done.
const TOLERANCE: f64 = 0.1;
/// For how long the highest recommendation holds when less is needed.
const DOWN_WINDOW: Duration = Duration::from_secs(300);
const PERIOD: Duration = Duration::from_secs(15);

/// The rules for both directions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Behavior {
    pub(super) up: Rules,
    pub(super) down: Rules,
}

/// The rules for one direction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    window: Duration,
    select: Select,
    policies: Vec<Policy>,
    pub(super) tolerance: f64,
}

/// Which of the policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Select {
    /// The one that allows the largest change.
    Most,
    Least,
    /// None: no change in this direction.
    Disabled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    amount: Amount,
    period: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amount {
    Pods(i64),
    Percent(i64),
}

/// The fewest and the most replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) least: i32,
    pub(super) most: i32,
}

/// What becomes of a recommendation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) replicas: i32,
    /// Why an earlier recommendation holds instead, if one does.
    pub(super) stabilized: Option<&'static str>,
    /// What keeps the number from being what it would be.
    pub(super) limit: Option<&'static str>,
}

impl Behavior {
    /// What is written, filled up with what is documented to hold otherwise.
    pub(super) fn of(written: Option<&HorizontalPodAutoscalerBehavior>) -> Self {
        let up = written.and_then(|written| written.scale_up.as_ref());
        let down = written.and_then(|written| written.scale_down.as_ref());
        Self {
            up: Rules::of(up, Duration::ZERO, &[Amount::Pods(4), Amount::Percent(100)]),
            down: Rules::of(down, DOWN_WINDOW, &[Amount::Percent(100)]),
        }
    }

    /// What of a recommendation may be done now; it joins the memory.
    pub(super) fn settle(
        &self,
        recommended: i32,
        current: i32,
        bounds: Bounds,
        memory: &mut Memory,
        now: Duration,
    ) -> Settled {
        let lowest = memory.recommended(self.up.window, now).fold(recommended, i32::min);
        let highest = memory.recommended(self.down.window, now).fold(recommended, i32::max);
        memory.recommend(recommended, now);
        let stable = current.max(lowest).min(highest);
        let stabilized = (stable != recommended).then_some(if recommended >= current {
            "ScaleUpStabilized"
        } else {
            "ScaleDownStabilized"
        });
        let (replicas, limit) = self.limited(stable, current, bounds, memory, now);
        Settled {
            replicas,
            stabilized,
            limit,
        }
    }

    fn limited(
        &self,
        wanted: i32,
        current: i32,
        bounds: Bounds,
        memory: &Memory,
        now: Duration,
    ) -> (i32, Option<&'static str>) {
        if wanted > current {
            let fastest = self.up.ceiling(current, memory, now).max(current);
            let most = fastest.min(bounds.most);
            let reason = if fastest < bounds.most {
                "ScaleUpLimit"
            } else {
                "TooManyReplicas"
            };
            (wanted.min(most), (wanted > most).then_some(reason))
        } else if wanted < current {
            let fastest = self.down.floor(current, memory, now).min(current);
            let least = fastest.max(bounds.least);
            let reason = if fastest > bounds.least {
                "ScaleDownLimit"
            } else {
                "TooFewReplicas"
            };
            (wanted.max(least), (wanted < least).then_some(reason))
        } else {
            (wanted, None)
        }
    }
}

impl Rules {
    fn of(written: Option<&HPAScalingRules>, window: Duration, policies: &[Amount]) -> Self {
        let seconds = |seconds: i32| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let given = written.and_then(|written| written.policies.as_ref());
        let given = given.filter(|given| !given.is_empty()).map(|given| {
            let policies = given.iter().map(|policy| Policy {
                amount: match policy.type_.as_str() {
                    "Percent" => Amount::Percent(policy.value.into()),
                    _ => Amount::Pods(policy.value.into()),
                },
                period: seconds(policy.period_seconds),
            });
            policies.collect()
        });
        let standing = || {
            let policies = policies.iter().map(|amount| Policy {
                amount: *amount,
                period: PERIOD,
            });
            policies.collect()
        };
        let tolerance = written.and_then(|written| written.tolerance.as_ref());
        let tolerance = tolerance.and_then(|amount| amount.0.parse::<Quantity>().ok());
        Self {
            window: written
                .and_then(|written| written.stabilization_window_seconds)
                .map_or(window, seconds),
            select: match written.and_then(|written| written.select_policy.as_deref()) {
                Some("Disabled") => Select::Disabled,
                Some("Min") => Select::Least,
                _ => Select::Most,
            },
            policies: given.unwrap_or_else(standing),
            tolerance: tolerance.map_or(TOLERANCE, |tolerance| tolerance.nano() as f64 / 1e9),
        }
    }

    /// The most replicas that there may be now.
    fn ceiling(&self, current: i32, memory: &Memory, now: Duration) -> i32 {
        let allowed = self.policies.iter().map(|policy| {
            let before = memory.before(current, policy.period, now);
            match policy.amount {
                Amount::Pods(pods) => before + pods,
                // Rounded up, so that a small share of a few pods is a pod.
                Amount::Percent(share) => before + (before * share + 99).div_euclid(100),
            }
        });
        let chosen = match self.select {
            Select::Disabled => None,
            Select::Most => allowed.max(),
            Select::Least => allowed.min(),
        };
        chosen.map_or(current, saturate)
    }

    /// The fewest replicas that there may be now.
    fn floor(&self, current: i32, memory: &Memory, now: Duration) -> i32 {
        let allowed = self.policies.iter().map(|policy| {
            let before = memory.before(current, policy.period, now);
            match policy.amount {
                Amount::Pods(pods) => before - pods,
                Amount::Percent(share) => before * (100 - share) / 100,
            }
        });
        let chosen = match self.select {
            Select::Disabled => None,
            Select::Most => allowed.min(),
            Select::Least => allowed.max(),
        };
        chosen.map_or(current, saturate)
    }
}

fn saturate(replicas: i64) -> i32 {
    i32::try_from(replicas.max(0)).unwrap_or(i32::MAX)
}
