//! When a node runs short of memory, disk or process ids: pure.
//!
//! The signals and their default thresholds are those of
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/>.

use std::{fmt, str::FromStr, time::Duration};

use schemas::quantity::Quantity;

use crate::runtime::{Machine, Space};

/// A pressure stays for this long after its cause is gone, so that pods do not come and go with it.
const STAYS: Duration = Duration::from_secs(300);

/// How little of something is too little.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    Absolute(u64),
    /// Of the whole.
    Percent(f64),
}

impl Amount {
    fn of(self, whole: u64) -> u64 {
        match self {
            Self::Absolute(amount) => amount,
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a percentage of bytes need not be exact"
            )]
            Self::Percent(percent) => (whole as f64 * percent / 100.0) as u64,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(amount) if amount % (1 << 20) == 0 && *amount > 0 => write!(f, "{}Mi", amount >> 20),
            Self::Absolute(amount) => write!(f, "{amount}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// From where on a node is under pressure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    pub memory_available: Amount,
    /// Of the file system with the pods' volumes.
    pub node_available: Amount,
    pub node_inodes: Amount,
    /// Of the file system with the engine's images.
    pub image_available: Amount,
    pub image_inodes: Amount,
    pub pid_available: Amount,
}

impl Default for Thresholds {
    /// Those of Kubernetes; for process ids, which have none there, one in ten.
    fn default() -> Self {
        Self {
            memory_available: Amount::Absolute(100 << 20),
            node_available: Amount::Percent(10.0),
            node_inodes: Amount::Percent(5.0),
            image_available: Amount::Percent(15.0),
            image_inodes: Amount::Percent(5.0),
            pid_available: Amount::Percent(10.0),
        }
    }
}

/// Why thresholds cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    #[error("{0:?} is not SIGNAL<AMOUNT, as in memory.available<100Mi")]
    Malformed(String),
    #[error(
        "there is no signal {0:?}; there are memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree and pid.available"
    )]
    Unknown(String),
    #[error("{0:?} is neither a quantity (100Mi) nor a percentage (10%)")]
    Amount(String),
}

impl FromStr for Thresholds {
    type Err = ThresholdError;

    /// `memory.available<100Mi,nodefs.available<10%`; what is not named keeps its default.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut thresholds = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let malformed = || ThresholdError::Malformed(part.to_owned());
            let (signal, amount) = part.split_once('<').ok_or_else(malformed)?;
            let wrong = || ThresholdError::Amount(amount.trim().to_owned());
            let slot = match signal.trim() {
                "memory.available" => &mut thresholds.memory_available,
                "nodefs.available" => &mut thresholds.node_available,
                "nodefs.inodesFree" => &mut thresholds.node_inodes,
                "imagefs.available" => &mut thresholds.image_available,
                "imagefs.inodesFree" => &mut thresholds.image_inodes,
                "pid.available" => &mut thresholds.pid_available,
                other => return Err(ThresholdError::Unknown(other.to_owned())),
            };
            *slot = match amount.trim().strip_suffix('%') {
                Some(percent) => {
                    let percent: f64 = percent.parse().map_err(|_| wrong())?;
                    if !(0.0..=100.0).contains(&percent) {
                        return Err(wrong());
                    }
                    Amount::Percent(percent)
                }
                None => {
                    let quantity: Quantity = amount.trim().parse().map_err(|_| wrong())?;
                    Amount::Absolute(u64::try_from(quantity.value()).map_err(|_| wrong())?)
                }
            };
        }
        Ok(thresholds)
    }
}

/// One kind of pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Memory,
    Disk,
    Pid,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Disk, Self::Pid];
}

/// The first cause of each kind of pressure that a machine is under, as a person reads it. What is not
/// known is no pressure.
pub(crate) fn causes(machine: &Machine, thresholds: &Thresholds) -> [Option<String>; 3] {
    let short = |signal: &str, left: u64, whole: u64, threshold: Amount| {
        (left < threshold.of(whole))
            .then(|| format!("{signal} is {} of {}, less than {threshold}", size(left), size(whole)))
    };
    let count = |signal: &str, left: u64, whole: u64, threshold: Amount| {
        // Some file systems do not count.
        (whole > 0 && left < threshold.of(whole))
            .then(|| format!("{signal} is {left} of {whole}, less than {threshold}"))
    };
    let disk = |name: &str, space: &Option<Space>, available: Amount, inodes: Amount| {
        let space = space.as_ref()?;
        short(&format!("{name}.available"), space.bytes_free, space.bytes, available)
            .or_else(|| count(&format!("{name}.inodesFree"), space.inodes_free, space.inodes, inodes))
    };
    let memory = machine.memory_available.zip(machine.usage).and_then(|(left, usage)| {
        short(
            "memory.available",
            left,
            left + usage.memory,
            thresholds.memory_available,
        )
    });
    let node = disk(
        "nodefs",
        &machine.node_space,
        thresholds.node_available,
        thresholds.node_inodes,
    );
    let image = || {
        disk(
            "imagefs",
            &machine.image_space,
            thresholds.image_available,
            thresholds.image_inodes,
        )
    };
    let pids = machine.pids.as_ref().and_then(|pids| {
        let left = pids.most.saturating_sub(pids.used);
        count("pid.available", left, pids.most, thresholds.pid_available)
    });
    [memory, node.or_else(image), pids]
}

fn size(bytes: u64) -> String {
    format!("{}Mi", bytes >> 20)
}

/// The pressures of a node, each with its cause, for as long as they stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressures {
    /// The cause, and when (monotonic) it was last seen.
    under: [Option<(String, Duration)>; 3],
}

impl Pressures {
    /// Takes what a look found. Tells whether a pressure came or went.
    pub(crate) fn note(&mut self, causes: [Option<String>; 3], now: Duration) -> bool {
        let mut changed = false;
        for (slot, cause) in self.under.iter_mut().zip(causes) {
            let was = slot.is_some();
            match (cause, slot.as_mut()) {
                (Some(_), Some((_, seen))) => *seen = now,
                (Some(cause), None) => *slot = Some((cause, now)),
                (None, Some((_, seen))) if now.saturating_sub(*seen) < STAYS => {}
                (None, _) => *slot = None,
            }
            changed |= was != slot.is_some();
        }
        changed
    }

    /// Why there is this pressure, if there is.
    pub(crate) fn cause(&self, kind: Kind) -> Option<&str> {
        self.under[kind as usize].as_ref().map(|(cause, _)| cause.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Pids, Usage};

    const GIB: u64 = 1 << 30;

    fn machine() -> Machine {
        let space = Space {
            bytes: 100 * GIB,
            bytes_free: 50 * GIB,
            inodes: 1000,
            inodes_free: 500,
        };
        Machine {
            usage: Some(Usage {
                cpu: 0,
                memory: 3 * GIB,
            }),
            memory_available: Some(GIB),
            node_space: Some(space.clone()),
            image_space: Some(space),
            pids: Some(Pids { used: 500, most: 32768 }),
        }
    }

    /// Which kinds are there, as letters, and the text of all causes.
    fn look(change: impl FnOnce(&mut Machine)) -> (String, String) {
        let mut machine = machine();
        change(&mut machine);
        let causes = causes(&machine, &Thresholds::default());
        let letters = causes.iter().zip("MDP".chars()).filter(|(cause, _)| cause.is_some());
        (
            letters.map(|(_, letter)| letter).collect(),
            causes.into_iter().flatten().collect(),
        )
    }

    #[test]
    fn pressures_begin_at_the_thresholds() {
        let space = |machine: &mut Machine, image: bool, free: u64, inodes: u64| {
            let space = if image {
                &mut machine.image_space
            } else {
                &mut machine.node_space
            };
            let space = space.as_mut().expect("it is known");
            (space.bytes_free, space.inodes_free) = (free, inodes);
        };
        assert_eq!(look(|_| {}).0, "");
        assert_eq!(look(|m| m.memory_available = Some(100 << 20)).0, "");
        let (kinds, cause) = look(|m| m.memory_available = Some(99 << 20));
        assert_eq!(
            (kinds.as_str(), cause.as_str()),
            ("M", "memory.available is 99Mi of 3171Mi, less than 100Mi")
        );
        assert_eq!(look(|m| space(m, false, 10 * GIB, 50)).0, "");
        assert_eq!(look(|m| space(m, false, 10 * GIB - 1, 50)).0, "D");
        assert_eq!(look(|m| space(m, false, 10 * GIB, 49)).0, "D");
        assert_eq!(look(|m| space(m, true, 15 * GIB, 50)).0, "");
        let (kinds, cause) = look(|m| space(m, true, 14 * GIB, 50));
        assert_eq!(
            (kinds.as_str(), cause.as_str()),
            ("D", "imagefs.available is 14336Mi of 102400Mi, less than 15%")
        );
        assert_eq!(look(|m| m.pids.as_mut().expect("known").used = 30_000).0, "P");
        assert_eq!(look(|m| m.node_space.as_mut().expect("known").inodes = 0).0, "");
        let unknown = Machine::default();
        assert_eq!(causes(&unknown, &Thresholds::default()), [None, None, None]);
    }

    #[test]
    fn a_pressure_stays_for_a_while_after_its_cause() {
        let mut pressures = Pressures::default();
        let cause = |text: &str| [None, Some(text.to_owned()), None];
        let at = Duration::from_secs;
        assert!(!pressures.note([None, None, None], at(0)));
        assert!(pressures.note(cause("a"), at(10)));
        assert!(!pressures.note(cause("b"), at(25)), "figures alone are no news");
        assert_eq!(pressures.cause(Kind::Disk), Some("a"));
        assert_eq!(pressures.cause(Kind::Memory), None);
        assert!(!pressures.note([None, None, None], at(324)));
        assert!(pressures.note([None, None, None], at(325)));
        assert_eq!(pressures.cause(Kind::Disk), None);
    }

    #[test]
    fn thresholds_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<Thresholds>();
        assert_eq!(read(""), Ok(Thresholds::default()));
        let found = read("memory.available<1Gi, imagefs.available<0%").expect("it is right");
        assert_eq!(found.memory_available, Amount::Absolute(GIB));
        assert_eq!(found.image_available, Amount::Percent(0.0));
        assert_eq!(found.node_available, Amount::Percent(10.0));
        for wrong in [
            "memory.available",
            "disk<5%",
            "memory.available<x",
            "nodefs.available<101%",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
