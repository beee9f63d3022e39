//! One decision: a node for a pod, or room made for it, or why there is none.

use std::{collections::BTreeMap, sync::Arc};

use schemas::{Now, Object};

use super::{
    choose::Against,
    class::Class,
    cluster::{Cluster, Decided, Outstanding},
    group::Asked,
    message::{self, NO_NODES, Range},
    preempt::{self, Victims},
    topology::NOWHERE,
    waiting::{Lot, Why},
};
use crate::pods;

/// Why a pod of this plan's round did not fit, for those like it that come next.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    round: u64,
    message: Arc<str>,
    why: Why,
    /// Why preemption did not help either.
    hopeless: Option<Arc<str>>,
}

/// What a round of decisions comes to.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) binds: Vec<(Arc<Object>, Arc<str>)>,
    /// Who has to go, for whom, from where.
    pub(super) victims: Vec<(Arc<Object>, Arc<Object>, Arc<str>)>,
    /// What is said of pods that stay, by number: the last word counts.
    pub(super) said: BTreeMap<u32, Said>,
}

/// What is said of a pod that waits.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) pod: Arc<Object>,
    /// Reason and message of its condition; none where that stays as it is.
    pub(super) why: Option<(&'static str, Arc<str>)>,
    /// The node that room is made on.
    pub(super) nominated: Option<Arc<str>>,
}

/// A pod that is being tried.
struct Try {
    at: u32,
    pod: Arc<Object>,
    asked: Arc<Asked>,
    lot: Lot,
    range: Range,
    /// Where room was made for it.
    nominated: Option<u32>,
}

impl Cluster {
    /// Tries one pod.
    pub(super) fn decide(&mut self, at: u32, round: &mut Round, now: Now) {
        let Some(pod) = self.board.pod(at) else { return };
        let (object, asked, group) = (pod.object.clone(), pod.asked.clone(), pod.group);
        let nominated = (pod.nominated != NOWHERE).then_some(pod.nominated);
        if asked.gated {
            self.queue.hold(at);
            let why = Some((
                "SchedulingGated",
                "Scheduling is blocked due to non-empty scheduling gates".into(),
            ));
            self.say(at, object, why, None, round);
            return;
        }
        let alone = asked.pin.is_some() || !asked.claims.is_empty();
        let mut attempt = Try {
            at,
            pod: object,
            lot: Lot {
                group,
                own: alone.then_some(at),
            },
            range: Range::default(),
            nominated,
            asked,
        };
        // Its own claim to a node must not be in its way.
        self.board.dismiss(at);
        if let Some(name) = &attempt.asked.pin {
            let known = self.board.find(name).filter(|node| self.board.seat(*node).is_some());
            attempt.range.pin = Some(known);
        }
        let board = &self.board;
        let place = |other: u32| board.pod(other).map(|pod| pod.node).filter(|node| *node != NOWHERE);
        match self.volumes.reach(&attempt.asked.claims, &attempt.pod, at, place) {
            Ok(reach) if reach.is_free() => {}
            Ok(reach) => {
                let seats = board.seats();
                let nodes = seats.filter(|(node, _, facts)| reach.holds(*node, facts));
                attempt.range.volumes = Some(nodes.map(|(node, _, _)| node).collect());
            }
            Err(sentence) => {
                self.fail_for_volumes(&attempt, &sentence, round, now);
                return;
            }
        }
        let Some(mut class) = self.take_class(group) else {
            return;
        };
        match self.find(&mut class, &attempt) {
            Some(node) => self.bind(&attempt, node, round, now),
            None => self.fail(&mut class, &attempt, round, now),
        }
        self.put_class(group, class);
    }

    /// The node that room was made on, if it is free now; else the best one.
    fn find(&self, class: &mut Class, attempt: &Try) -> Option<u32> {
        let nodes = attempt.range.nodes();
        if let Some(node) = attempt.nominated
            && let Some((seat, _)) = self.board.seat(node)
            && nodes.as_ref().is_none_or(|nodes| nodes.contains(&node))
        {
            let used = self.board.used_for(seat, class.shape.priority);
            if class.against(&self.board, node, &used, &[]).is_none() {
                return Some(node);
            }
        }
        class.choose(&self.board, nodes.as_deref())
    }

    fn bind(&mut self, attempt: &Try, node: u32, round: &mut Round, now: Now) {
        self.board.place(attempt.at, node);
        self.queue.placed(attempt.at, attempt.lot, now.monotonic);
        self.held.insert(attempt.at);
        round.said.remove(&attempt.at);
        let name = self.board.nodes[node as usize].name.clone();
        round.binds.push((attempt.pod.clone(), name));
        self.outstanding.push(Outstanding {
            pod: attempt.pod.clone(),
            what: Decided::Bound,
        });
    }

    fn fail_for_volumes(&mut self, attempt: &Try, sentence: &str, round: &mut Round, now: Now) {
        let nodes = self.board.known();
        let message = if nodes == 0 {
            NO_NODES.to_owned()
        } else {
            format!(
                "{} preemption: {}",
                message::whole(nodes, sentence),
                preempt::helpless(nodes)
            )
        };
        let why = Why {
            volumes: true,
            nodes: nodes == 0,
            ..Why::default()
        };
        self.park(attempt, message.into(), why, None, round, now);
    }

    /// The pod fits nowhere: makes room for it, or says why that is of no use.
    fn fail(&mut self, class: &mut Class, attempt: &Try, round: &mut Round, now: Now) {
        let remembers = attempt.range.nodes().is_none();
        let known = class
            .failed
            .take()
            .filter(|failed| remembers && failed.round == self.rounds);
        let mut failed = known.unwrap_or_else(|| {
            let (message, why) = message::unfit(&self.board, class, &attempt.range);
            Failed {
                round: self.rounds,
                message: message.into(),
                why,
                hopeless: None,
            }
        });
        let (message, why) = (failed.message.clone(), failed.why);
        if self.board.known() == 0 {
            self.park(attempt, message, why, None, round, now);
            return;
        }
        let also = |sentence: &str| format!("{message} preemption: {sentence}").into();
        if !class.shape.may_preempt {
            let message = also("not eligible due to preemptionPolicy=Never.");
            self.park(attempt, message, why, None, round, now);
        } else if let Some(node) = attempt.nominated.filter(|node| self.is_being_cleared(class, *node)) {
            let message = also("not eligible due to a terminating pod on the nominated node.");
            self.park(attempt, message, why, Some(node), round, now);
        } else if let Some(hopeless) = &failed.hopeless {
            let message = also(hopeless);
            self.park(attempt, message, why, None, round, now);
        } else {
            let only = attempt.range.nodes();
            match preempt::preempt(&self.board, class, &self.budgets, only.as_deref()) {
                Ok((node, victims)) => {
                    self.clear(attempt, node, &victims, round, now);
                    self.park(attempt, message, why, Some(node), round, now);
                }
                Err(sentence) => {
                    let whole = also(&sentence);
                    failed.hopeless = Some(sentence.into());
                    self.park(attempt, whole, why, None, round, now);
                }
            }
        }
        class.failed = remembers.then_some(failed);
    }

    /// Whether pods that had to go for a pod of this class are still on their way out.
    fn is_being_cleared(&self, class: &Class, node: u32) -> bool {
        let Some((seat, _)) = self.board.seat(node) else {
            return false;
        };
        let used = self.board.used_for(seat, class.shape.priority);
        let for_good = match class.against(&self.board, node, &used, &[]) {
            Some(Against::Refused(_)) => true,
            Some(Against::Full(shortages)) => shortages.iter().any(|it| it.for_good),
            Some(Against::Pods(block)) => !block.is_by_pods(),
            None => false,
        };
        !for_good
            && seat.pods.iter().filter_map(|pod| self.board.pod(*pod)).any(|pod| {
                pod.ending
                    && pod.asked.shape.priority < class.shape.priority
                    && (!pod.object.is_deleting() || was_preempted(&pod.object))
            })
    }

    /// Sends those away who are in the way.
    fn clear(&mut self, attempt: &Try, node: u32, victims: &Victims, round: &mut Round, now: Now) {
        let name = self.board.nodes[node as usize].name.clone();
        for at in &victims.pods {
            let Some(victim) = self.board.pod(*at).map(|pod| pod.object.clone()) else {
                continue;
            };
            self.board.end(*at, true);
            self.budgets.spend(&victim);
            round.victims.push((victim.clone(), attempt.pod.clone(), name.clone()));
            self.outstanding.push(Outstanding {
                pod: victim,
                what: Decided::Going,
            });
        }
        // Room that was made there for less important pods is lost to them: they look elsewhere.
        let priority = attempt.asked.shape.priority;
        let nominated = self.board.nodes[node as usize].nominated.clone();
        for lost in nominated.iter().filter(|it| it.priority < priority) {
            self.board.dismiss(lost.pod);
            self.queue.wake_pod(lost.pod, now.monotonic);
            if let Some(pod) = self.board.pod(lost.pod).map(|pod| pod.object.clone()) {
                let why = round.said.get(&lost.pod).and_then(|said| said.why.clone());
                self.say(lost.pod, pod, why, None, round);
            }
        }
    }

    fn park(
        &mut self,
        attempt: &Try,
        message: Arc<str>,
        why: Why,
        nominated: Option<u32>,
        round: &mut Round,
        now: Now,
    ) {
        if let Some(node) = nominated {
            self.board.nominate(attempt.at, node);
        }
        let pin = attempt.asked.pin.clone();
        let seen = self.board.log.end();
        self.queue.park(attempt.at, attempt.lot, why, pin, seen, now.monotonic);
        let nominated = nominated.map(|node| self.board.nodes[node as usize].name.clone());
        let why = Some(("Unschedulable", message));
        self.say(attempt.at, attempt.pod.clone(), why, nominated, round);
    }

    /// Keeps what was said until it is confirmed.
    pub(super) fn await_said(&mut self, round: &Round) {
        for said in round.said.values() {
            if super::cluster::nominated(&said.pod).as_deref() != said.nominated.as_deref() {
                self.outstanding.push(Outstanding {
                    pod: said.pod.clone(),
                    what: Decided::Room(said.nominated.clone()),
                });
            }
            if let Some((_, message)) = &said.why {
                self.outstanding.push(Outstanding {
                    pod: said.pod.clone(),
                    what: Decided::Said(message.clone()),
                });
            }
        }
    }

    fn say(
        &mut self,
        at: u32,
        pod: Arc<Object>,
        why: Option<(&'static str, Arc<str>)>,
        nominated: Option<Arc<str>>,
        round: &mut Round,
    ) {
        self.held.insert(at);
        round.said.insert(at, Said { pod, why, nominated });
    }
}

/// A pod that goes because it had to make room.
fn was_preempted(pod: &Object) -> bool {
    pods::condition(pod, "DisruptionTarget")
        .is_some_and(|it| it["status"] == "True" && it["reason"] == super::PREEMPTED)
}
