//! The pod range of a node, and who has which address in it.

use std::{collections::HashMap, fmt, net::Ipv4Addr, str::FromStr};

use schemas::Uid;

/// An IPv4 network, `10.88.0.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    base: u32,
    prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("{0:?} is not an IPv4 range; write it as 10.88.0.0/24")]
    Malformed(String),
    #[error("the pod range {0} must have a prefix between /8 and /28")]
    Size(Range),
    #[error("the pod range {range} overlaps {other}; choose another with --pod-range")]
    Taken { range: Range, other: String },
    #[error("the pod range {0} has no free address left")]
    Full(Range),
}

impl Range {
    fn mask(prefix: u8) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
    }

    fn last(self) -> u32 {
        self.base | !Self::mask(self.prefix)
    }

    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        (self.base..=self.last()).contains(&address)
    }

    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.base <= other.last() && other.base <= self.last()
    }

    /// The first address: the bridge itself.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// The last sixteenth of the range: the corner to which the runtime's own allocation keeps.
    #[must_use]
    pub fn dynamic(self) -> Self {
        let prefix = self.prefix + 4;
        Self {
            base: self.last() & Self::mask(prefix),
            prefix,
        }
    }

    /// # Errors
    /// When the range is too small for a corner of its own, or absurdly large.
    pub fn checked(self) -> Result<Self, RangeError> {
        if (8..=28).contains(&self.prefix) {
            Ok(self)
        } else {
            Err(RangeError::Size(self))
        }
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || RangeError::Malformed(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let address: Ipv4Addr = address.parse().map_err(|_| malformed())?;
        let prefix: u8 = prefix.parse().map_err(|_| malformed())?;
        if prefix > 32 {
            return Err(malformed());
        }
        Ok(Self {
            base: u32::from(address) & Self::mask(prefix),
            prefix,
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

/// The addresses of a node's pods. An address is a pod's until the pod is deleted.
#[derive(Debug)]
pub(crate) struct Pool {
    range: Range,
    of_pod: HashMap<Uid, Ipv4Addr>,
    of_address: HashMap<Ipv4Addr, Uid>,
    /// Where the search for a free one begins, so that an address is not given out again at once.
    next: u32,
}

impl Pool {
    #[must_use]
    pub(crate) fn new(range: Range) -> Self {
        Self {
            range,
            of_pod: HashMap::new(),
            of_address: HashMap::new(),
            next: range.base + 2,
        }
    }

    /// Notes that a pod has an address, as its containers' labels say. The first claim stands.
    pub(crate) fn claim(&mut self, pod: &Uid, address: Ipv4Addr) -> bool {
        if self.of_pod.get(pod) == Some(&address) {
            return true;
        }
        if !self.range.contains(address) || self.of_address.contains_key(&address) || self.of_pod.contains_key(pod) {
            return false;
        }
        self.of_pod.insert(pod.clone(), address);
        self.of_address.insert(address, pod.clone());
        true
    }

    #[must_use]
    pub(crate) fn of(&self, pod: &Uid) -> Option<Ipv4Addr> {
        self.of_pod.get(pod).copied()
    }

    /// The pod's address: the one it has, or a free one.
    ///
    /// # Errors
    /// When every address is taken.
    pub(crate) fn allocate(&mut self, pod: &Uid) -> Result<Ipv4Addr, RangeError> {
        if let Some(address) = self.of(pod) {
            return Ok(address);
        }
        let (first, end) = (self.range.base + 2, self.range.dynamic().base);
        for offset in 0..end - first {
            let candidate = first + (self.next - first + offset) % (end - first);
            let address = Ipv4Addr::from(candidate);
            if !self.of_address.contains_key(&address) {
                self.next = candidate + 1;
                self.of_pod.insert(pod.clone(), address);
                self.of_address.insert(address, pod.clone());
                return Ok(address);
            }
        }
        Err(RangeError::Full(self.range))
    }

    pub(crate) fn release(&mut self, pod: &Uid) {
        if let Some(address) = self.of_pod.remove(pod) {
            self.of_address.remove(&address);
        }
    }
}

/// Checks a pod range against the routes of the host and the networks of the runtime. `routes` is the
/// text of `/proc/net/route`; the default route and the agent's own bridge do not count.
///
/// # Errors
/// When something else uses a part of the range.
pub(crate) fn check(
    range: Range,
    routes: &str,
    bridge: &str,
    networks: &[(String, String)],
    own: &str,
) -> Result<(), RangeError> {
    let range = range.checked()?;
    for (name, subnet) in networks {
        if name != own && subnet.parse::<Range>().is_ok_and(|subnet| range.overlaps(subnet)) {
            return Err(RangeError::Taken {
                range,
                other: format!("the Docker network {name:?} ({subnet})"),
            });
        }
    }
    for line in routes.lines().skip(1) {
        let mut fields = line.split_whitespace();
        let (Some(device), Some(target)) = (fields.next(), fields.next()) else {
            continue;
        };
        let Some(mask) = fields.nth(5) else { continue };
        let (Ok(target), Ok(mask)) = (u32::from_str_radix(target, 16), u32::from_str_radix(mask, 16)) else {
            continue;
        };
        let prefix = mask.count_ones().min(32) as u8;
        if prefix == 0 || device == bridge {
            continue;
        }
        let route = Range {
            base: target.swap_bytes(),
            prefix,
        };
        if range.overlaps(route) {
            return Err(RangeError::Taken {
                range,
                other: format!("the host's route to {route} through {device}"),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().expect("it is a range")
    }

    #[test]
    fn parts_of_a_range() {
        let pods = range("10.88.0.7/24");
        assert_eq!(pods.to_string(), "10.88.0.0/24");
        assert_eq!(pods.gateway(), Ipv4Addr::new(10, 88, 0, 1));
        assert_eq!(pods.dynamic().to_string(), "10.88.0.240/28");
        assert!(pods.overlaps(range("10.88.0.128/25")) && !pods.overlaps(range("10.88.1.0/24")));
        for bad in ["10.88.0.0", "10.88.0.0/33", "x/24", "10.88.0/24"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
        assert!(range("10.0.0.0/29").checked().is_err());
    }

    #[test]
    fn an_address_belongs_to_its_pod_until_released_and_is_not_reused_at_once() {
        let mut pool = Pool::new(range("10.88.0.0/28"));
        let a = pool.allocate(&"a".into()).expect("there is room");
        assert_eq!(pool.allocate(&"a".into()).expect("it has one"), a);
        pool.release(&"a".into());
        let b = pool.allocate(&"b".into()).expect("there is room");
        assert_ne!(a, b);
        assert!(!pool.claim(&"c".into(), b), "the first claim stands");
        assert!(
            !pool.claim(&"c".into(), Ipv4Addr::new(10, 88, 1, 1)),
            "outside the range"
        );
        let mut taken = vec![b];
        while let Ok(address) = pool.allocate(&format!("p{}", taken.len()).as_str().into()) {
            assert!(!taken.contains(&address) && !pool.range.dynamic().contains(address));
            taken.push(address);
        }
        // 16 addresses less the network, the gateway and the dynamic corner (one).
        assert_eq!(taken.len(), 13);
    }

    #[test]
    fn a_range_that_is_in_use_is_refused() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            tl-own\t0000580A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let docker = [
            ("bridge".to_owned(), "172.17.0.0/16".to_owned()),
            ("own".to_owned(), "10.88.0.0/24".to_owned()),
        ];
        let check = |text: &str| check(range(text), routes, "tl-own", &docker, "own");
        assert!(check("10.88.0.0/24").is_ok());
        assert!(check("10.99.0.0/24").is_ok());
        let taken = check("192.0.2.128/25").expect_err("eth0 has it");
        assert!(taken.to_string().contains("eth0"), "{taken}");
        let taken = check("172.17.4.0/24").expect_err("Docker has it");
        assert!(taken.to_string().contains("bridge"), "{taken}");
    }
}
