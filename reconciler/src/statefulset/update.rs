//! Rolling updates: pods of an old template go, from the highest ordinal down to the partition.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Acts, BURST, Row};
use crate::{
    plan::Plan,
    share::{self, Round},
};

impl Row<'_> {
    /// How many pods may be unavailable at once: at least one, or nothing could move.
    fn max_unavailable(&self) -> usize {
        let rolling = self.spec.update_strategy.as_ref();
        let rolling = rolling.and_then(|strategy| strategy.rolling_update.as_ref());
        let asked = rolling.and_then(|rolling| rolling.max_unavailable.clone());
        let whole = i32::try_from(self.seats.len()).unwrap_or(i32::MAX);
        let most = share::of(&asked.unwrap_or(IntOrString::Int(1)), whole, Round::Up);
        usize::try_from(most).unwrap_or(1).max(1)
    }

    /// Removes what is outdated, as far as availability allows. A pod that is not available costs
    /// none; but once as many of the new ones as may be away are away, all below wait for them.
    pub(super) fn roll(&self, acts: &mut Acts, plan: &mut Plan) {
        if !self.rolls() {
            return;
        }
        let most = self.max_unavailable();
        let is_away = |at: &usize| self.seats[*at].is_none_or(|pod| !self.is_available(pod));
        let mut away = (0..self.seats.len()).filter(is_away).count();
        let mut passed = 0;
        for at in (self.partition()..self.seats.len()).rev() {
            if passed >= most || acts.pods.len() >= BURST {
                return;
            }
            let available = !is_away(&at);
            let outdated = self.seats[at].filter(|pod| !pod.is_deleting() && self.is_outdated(at, pod));
            match outdated {
                None => passed += usize::from(!available),
                Some(pod) if !available => {
                    self.remove(pod, acts, plan);
                    passed += 1;
                }
                Some(pod) if away < most => {
                    self.remove(pod, acts, plan);
                    away += 1;
                    passed += 1;
                }
                // Others are away already. One further down may be outdated itself: then it goes first.
                Some(_) => {}
            }
        }
    }
}
