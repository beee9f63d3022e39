//! Measures what the node and its containers use, and tells the server: beside the versioned rows, since
//! figures are old as soon as they are there. Pressures of the node follow from the same look.

use std::{collections::HashMap, sync::Arc, time::Duration};

use schemas::{
    Uid,
    node::{PodStats, Stats, Used},
};
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    agent::{Agent, Message},
    connection::Admission,
    control::ControlPlane,
    entry::Claim,
    host::Host,
    observed::INFRA,
    pressure,
    runtime::{ContainerId, Usage},
};

/// How often the node is measured.
const INTERVAL: Duration = Duration::from_secs(15);
/// Figures that hardly move are told again after this long.
const AGAIN: Duration = Duration::from_secs(60);

/// A container that runs.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pod: Uid,
    name: Arc<str>,
    id: ContainerId,
}

impl Agent {
    /// The running containers of the node's pods, those of a pod together.
    pub(crate) fn running(&self) -> Vec<Running> {
        let ours = self.entries.iter().filter(|(_, entry)| entry.claim == Claim::Held);
        let all = ours.flat_map(|(uid, entry)| entry.containers.iter().map(move |container| (uid, container)));
        all.filter(|(_, container)| container.is_running() && *container.name != *INFRA)
            .map(|(uid, container)| Running {
                pod: uid.clone(),
                name: container.name.clone(),
                id: container.id.clone(),
            })
            .collect()
    }
}

pub(crate) struct Sampler {
    pub host: Arc<Host>,
    pub control: Arc<dyn ControlPlane>,
    pub tell: UnboundedSender<Message>,
    pub admission: Admission,
    pub shutdown: CancellationToken,
}

/// What was read at one moment of the monotonic clock.
#[derive(Debug, Default)]
struct Reading {
    at: Duration,
    node: Option<Usage>,
    containers: HashMap<ContainerId, Usage>,
}

impl Sampler {
    pub(crate) async fn run(self) {
        // Nodes that started together do not measure together.
        let first = Instant::now() + INTERVAL.mul_f64(crate::chance::part());
        let mut tick = tokio::time::interval_at(first, INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before: Option<Reading> = None;
        let mut told: Option<(Duration, Stats)> = None;
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => {}
                () = self.shutdown.cancelled() => return,
            }
            let measured = tokio::select! {
                biased;
                measured = self.measure() => measured,
                () = self.shutdown.cancelled() => return,
            };
            // An engine that is away: nothing is known.
            let Some((running, reading)) = measured else {
                before = None;
                continue;
            };
            let stats = before.as_ref().and_then(|before| stats(before, &reading, &running));
            let at = reading.at;
            before = Some(reading);
            let Some(stats) = stats.filter(|_| self.admission.is_given()) else {
                continue;
            };
            let worth = told.as_ref().is_none_or(|(then, said)| {
                at.saturating_sub(*then) >= AGAIN.saturating_sub(INTERVAL / 2) || moved(said, &stats)
            });
            if !worth {
                continue;
            }
            let sent = tokio::select! {
                biased;
                sent = self.control.stats(&stats) => sent,
                () = self.shutdown.cancelled() => return,
            };
            match sent {
                Ok(()) => told = Some((at, stats)),
                // The next ones are better anyway.
                Err(error) => tracing::debug!(%error, "figures were not told"),
            }
        }
    }

    /// Reads the machine and every running container.
    async fn measure(&self) -> Option<(Vec<Running>, Reading)> {
        let machine = self.host.runtime.machine(self.host.state.dir()).await.ok()?;
        let monotonic = self.host.clock.now().monotonic;
        let causes = pressure::causes(&machine, &self.host.thresholds);
        if self.host.pressures.write().note(causes, monotonic) {
            let _ = self.tell.send(Message::NodeChanged);
        }
        let (reply, running) = oneshot::channel();
        let _ = self.tell.send(Message::ListRunning { reply });
        let running = running.await.ok()?;
        let ids: Vec<ContainerId> = running.iter().map(|container| container.id.clone()).collect();
        let usages = self.host.runtime.usage(&ids).await.ok()?;
        let known = ids.into_iter().zip(usages);
        let reading = Reading {
            at: self.host.clock.now().monotonic,
            node: machine.usage,
            containers: known.filter_map(|(id, usage)| Some((id, usage?))).collect(),
        };
        Some((running, reading))
    }
}

/// What is used, from two readings. A container that was not there the first time has no figures yet.
fn stats(before: &Reading, after: &Reading, running: &[Running]) -> Option<Stats> {
    let elapsed = after.at.checked_sub(before.at).filter(|elapsed| !elapsed.is_zero())?;
    let used = |before: Option<&Usage>, after: Option<&Usage>| {
        let (before, after) = (before?, after?);
        // A count that fell began anew.
        let cpu = after.cpu.checked_sub(before.cpu)?;
        Some(Used {
            cpu: u64::try_from(u128::from(cpu) * 1_000_000_000 / elapsed.as_nanos()).ok()?,
            memory: after.memory,
        })
    };
    let mut pods: Vec<PodStats> = Vec::new();
    for container in running {
        let (before, after) = (
            before.containers.get(&container.id),
            after.containers.get(&container.id),
        );
        let Some(used) = used(before, after) else { continue };
        let figures = (container.name.clone(), used);
        match pods.last_mut().filter(|pod| pod.uid == container.pod) {
            Some(pod) => pod.containers.push(figures),
            None => pods.push(PodStats {
                uid: container.pod.clone(),
                containers: vec![figures],
            }),
        }
    }
    Some(Stats {
        window_millis: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        node: used(before.node.as_ref(), after.node.as_ref()),
        pods,
    })
}

/// Whether figures differ by more than a few hundredths, or are of other containers.
fn moved(told: &Stats, now: &Stats) -> bool {
    let far = |a: u64, b: u64, least: u64| a.abs_diff(b) > (a.max(b) / 50).max(least);
    let used = |a: &Used, b: &Used| far(a.cpu, b.cpu, 1_000_000) || far(a.memory, b.memory, 1 << 18);
    let node = match (&told.node, &now.node) {
        (Some(a), Some(b)) => used(a, b),
        (a, b) => a.is_some() != b.is_some(),
    };
    let pods = || {
        let same = |a: &PodStats, b: &PodStats| {
            a.uid == b.uid
                && a.containers.len() == b.containers.len()
                && a.containers
                    .iter()
                    .zip(&b.containers)
                    .all(|((a, one), (b, other))| a == b && !used(one, other))
        };
        told.pods.len() != now.pods.len() || !told.pods.iter().zip(&now.pods).all(|(a, b)| same(a, b))
    };
    node || pods()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(seconds: u64, node: u64, containers: &[(&str, u64, u64)]) -> Reading {
        Reading {
            at: Duration::from_secs(seconds),
            node: Some(Usage { cpu: node, memory: 5 }),
            containers: containers
                .iter()
                .map(|(id, cpu, memory)| {
                    let usage = Usage {
                        cpu: *cpu,
                        memory: *memory,
                    };
                    ((*id).into(), usage)
                })
                .collect(),
        }
    }

    fn running(all: &[(&str, &str)]) -> Vec<Running> {
        all.iter()
            .map(|(pod, id)| Running {
                pod: (*pod).into(),
                name: format!("c-{id}").into(),
                id: (*id).into(),
            })
            .collect()
    }

    #[test]
    fn rates_come_from_two_readings() {
        const SECOND: u64 = 1_000_000_000;
        let before = reading(10, 0, &[("a", 0, 1), ("b", 4 * SECOND, 1), ("d", 1, 1)]);
        let after = reading(
            20,
            20 * SECOND,
            &[("a", 5 * SECOND, 7), ("b", SECOND, 8), ("c", 1, 1), ("d", 1, 1)],
        );
        let running = running(&[("p", "a"), ("p", "b"), ("p", "d"), ("q", "c")]);
        let found = stats(&before, &after, &running).expect("time has passed");
        assert_eq!(found.window_millis, 10_000);
        assert_eq!(found.node.expect("it is known").cpu, 2 * SECOND);
        // `b` began anew, `c` was not there before.
        let figures: Vec<(&str, u64, u64)> = found.pods[0]
            .containers
            .iter()
            .map(|(name, used)| (&**name, used.cpu, used.memory))
            .collect();
        assert_eq!(figures, [("c-a", SECOND / 2, 7), ("c-d", 0, 1)]);
        assert_eq!(found.pods.len(), 1);
        assert!(stats(&after, &after, &running).is_none());
    }

    #[test]
    fn figures_that_hardly_move_are_no_news() {
        let of = |cpu: u64, memory: u64, name: &str| Stats {
            window_millis: 15_000,
            node: None,
            pods: vec![PodStats {
                uid: "u".into(),
                containers: vec![(name.into(), Used { cpu, memory })],
            }],
        };
        let told = of(500_000_000, 100 << 20, "c");
        for (now, news) in [
            (of(509_000_000, 101 << 20, "c"), false),
            (of(515_000_000, 100 << 20, "c"), true),
            (of(500_000_000, 103 << 20, "c"), true),
            (of(500_000_000, 100 << 20, "d"), true),
        ] {
            assert_eq!(moved(&told, &now), news, "{now:?}");
        }
    }
}
