//! A Deployment whose `replicas` changed, or that is paused: sets are scaled in proportion.

use schemas::labels;

use super::{Rollout, Set};

impl Rollout<'_> {
    /// `replicas` changed since a set that runs was last scaled.
    pub(super) fn was_scaled(&self) -> bool {
        self.sets.iter().filter(|set| set.was() > 0).any(|set| {
            set.number(labels::DESIRED_REPLICAS)
                .is_some_and(|then| then != i64::from(self.replicas))
        })
    }

    /// Scales what runs to the new size without moving the rollout on.
    pub(super) fn scale(&mut self) {
        let (replicas, surge) = (self.replicas, self.max_surge);
        if let Some(only) = self.only_one() {
            self.sets[only].scale_to(replicas, replicas, surge);
            return;
        }
        if let Some(new) = self.new.filter(|new| self.is_saturated(&self.sets[*new])) {
            for (_, set) in self.sets.iter_mut().enumerate().filter(|(at, _)| *at != new) {
                set.scale_to(0, replicas, surge);
            }
            return;
        }
        if self.is_recreate() {
            return;
        }
        self.share();
    }

    /// The set that takes the whole change: the only one that runs, or, if none does, the newest.
    fn only_one(&self) -> Option<usize> {
        let running: Vec<usize> = (0..self.sets.len()).filter(|at| self.sets[*at].replicas > 0).collect();
        match running.as_slice() {
            [] => self.new.or_else(|| self.sets.len().checked_sub(1)),
            [one] => Some(*one),
            _ => None,
        }
    }

    fn is_saturated(&self, set: &Set) -> bool {
        set.replicas == self.replicas
            && set.number(labels::DESIRED_REPLICAS) == Some(i64::from(self.replicas))
            && set.status.available_replicas.unwrap_or(0) == self.replicas
    }

    /// Shares the change out in proportion to the sets' sizes; the largest takes what rounding left.
    fn share(&mut self) {
        let all: i32 = self.sets.iter().map(|set| set.replicas).sum();
        let allowed = if self.replicas > 0 {
            self.replicas + self.max_surge
        } else {
            0
        };
        let change = allowed - all;
        let mut order: Vec<usize> = (0..self.sets.len()).filter(|at| self.sets[*at].replicas > 0).collect();
        // Larger ones first; of the same size the newer when growing, the older when shrinking. The
        // sets stand by age.
        order.sort_by_key(|at| {
            let age = i64::try_from(*at).unwrap_or(0);
            (-self.sets[*at].replicas, if change > 0 { -age } else { age })
        });
        let (replicas, surge) = (self.replicas, self.max_surge);
        let mut left = change;
        for at in &order {
            let set = &mut self.sets[*at];
            let mut by = 0;
            if left != 0 {
                let then = set
                    .number(labels::MAX_REPLICAS)
                    .filter(|then| *then > 0)
                    .unwrap_or(i64::from(all.max(1)));
                let scaled = (f64::from(set.replicas) * f64::from(allowed) / then as f64).round() as i32;
                by = scaled - set.replicas;
                by = if change > 0 {
                    by.clamp(0, left.max(0))
                } else {
                    by.clamp(left.min(0), 0)
                };
            }
            left -= by;
            set.scale_to(set.replicas + by, replicas, surge);
        }
        if left != 0
            && let Some(largest) = order.first()
        {
            let set = &mut self.sets[*largest];
            set.scale_to(set.replicas + left, replicas, surge);
        }
    }
}
