//! Which outside address and port a new mapping gets.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use gimlet_machine::Rng;

use super::behaviour::{PORT_FIRST, PortAllocation};

/// Inside addresses that one NAT tells apart. Further ones get no mappings.
pub(super) const SUBSCRIBERS_MAX: usize = 65_536;

/// Tries at random before the search goes on upward from the last one.
const RANDOM_TRIES: usize = 32;

/// The allocator's memory.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    allocation: PortAllocation,
    outside: Vec<IpAddr>,
    rng: Rng,
    /// The previous port of a sequential allocation.
    cursor: Option<u16>,
    /// Inside addresses in the order of their first mapping: it decides their outside address
    /// ("paired" pooling, RFC 4787 REQ-2) and their block.
    subscribers: BTreeMap<IpAddr, usize>,
}

impl Ports {
    pub(super) fn new(rng: Rng, allocation: PortAllocation, outside: Vec<IpAddr>) -> Self {
        Self { allocation, outside, rng, cursor: None, subscribers: BTreeMap::new() }
    }

    pub(super) fn outside(&self) -> &[IpAddr] {
        &self.outside
    }

    /// Forgets who had which address and block, as a power cut would. The dice roll on.
    pub(super) fn reboot(&mut self) {
        self.cursor = None;
        self.subscribers.clear();
    }

    /// The endpoint that a port-preserving NAT would like to give `inside`, if it is one.
    pub(super) fn preferred(&mut self, inside: SocketAddr) -> Option<SocketAddr> {
        match self.allocation {
            PortAllocation::Preserving => Some(SocketAddr::new(self.address(inside.ip())?.0, inside.port())),
            PortAllocation::Sequential { .. } | PortAllocation::Random | PortAllocation::Block { .. } => None,
        }
    }

    /// A free outside endpoint for `inside`, or `None` if there is none.
    pub(super) fn allocate(
        &mut self,
        inside: SocketAddr,
        is_taken: impl Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let (address, nth) = self.address(inside.ip())?;
        let is_free = |port: u16| !is_taken(SocketAddr::new(address, port));
        let port = match self.allocation {
            PortAllocation::Preserving if is_free(inside.port()) => Some(inside.port()),
            PortAllocation::Preserving => {
                upward(inside.port().max(PORT_FIRST), PORT_FIRST, u16::MAX, is_free)
            }
            PortAllocation::Sequential { step } => {
                let start = self.advance(step.max(1));
                let port = upward(start, PORT_FIRST, u16::MAX, is_free);
                self.cursor = port.or(self.cursor);
                port
            }
            PortAllocation::Random => self.random(PORT_FIRST, u16::MAX, is_free),
            PortAllocation::Block { first, size } => {
                let size = u64::from(size.max(1));
                let first = u64::from(first) + nth as u64 * size;
                let last = first + size - 1;
                let (first, last) = (u16::try_from(first).ok()?, u16::try_from(last).ok()?);
                self.random(first, last, is_free)
            }
        };
        port.map(|port| SocketAddr::new(address, port))
    }

    /// The outside address that is paired with an inside address, and how many inside addresses
    /// came to it earlier.
    fn address(&mut self, inside: IpAddr) -> Option<(IpAddr, usize)> {
        let same_family: Vec<IpAddr>;
        let pool = match self.outside.as_slice() {
            [only] => std::slice::from_ref(only),
            several => {
                same_family = several.iter().copied().filter(|ip| ip.is_ipv4() == inside.is_ipv4()).collect();
                &same_family
            }
        };
        if pool.is_empty() {
            return None;
        }
        let newcomer = self.subscribers.len();
        if newcomer >= SUBSCRIBERS_MAX && !self.subscribers.contains_key(&inside) {
            return None;
        }
        let nth = *self.subscribers.entry(inside).or_insert(newcomer);
        Some((pool[nth % pool.len()], nth / pool.len()))
    }

    /// The next port of a sequential allocation.
    fn advance(&mut self, step: u16) -> u16 {
        let range = u32::from(u16::MAX - PORT_FIRST) + 1;
        let offset = match self.cursor {
            Some(cursor) => (u32::from(cursor - PORT_FIRST) + u32::from(step)) % range,
            None => self.rng.below(u64::from(range)) as u32,
        };
        PORT_FIRST + offset as u16
    }

    fn random(&mut self, first: u16, last: u16, is_free: impl Fn(u16) -> bool) -> Option<u16> {
        let range = u64::from(last - first) + 1;
        let mut port = first;
        for _ in 0..RANDOM_TRIES {
            port = first + self.rng.below(range) as u16;
            if is_free(port) {
                return Some(port);
            }
        }
        upward(port, first, last, is_free)
    }
}

/// The first free port from `start` upward, going round once from `last` to `first`.
fn upward(start: u16, first: u16, last: u16, is_free: impl Fn(u16) -> bool) -> Option<u16> {
    (start..=last).chain(first..start).find(|port| is_free(*port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const OUTSIDE: [u8; 4] = [203, 0, 113, 1];

    fn inside(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 168, 1, host], port))
    }

    fn ports(allocation: PortAllocation) -> Ports {
        Ports::new(Rng::from_u64(1), allocation, vec![OUTSIDE.into()])
    }

    /// The ports of `count` mappings in a row for one inside endpoint.
    fn run(allocation: PortAllocation, count: usize) -> Vec<u16> {
        let (mut ports, mut taken) = (ports(allocation), BTreeSet::new());
        (0..count)
            .map(|_| {
                let outside = ports.allocate(inside(2, 5_000), |at| taken.contains(&at)).unwrap();
                assert!(taken.insert(outside), "a taken port was handed out");
                outside.port()
            })
            .collect()
    }

    #[test]
    fn preserving_keeps_the_port_and_goes_upward_when_it_is_taken() {
        assert_eq!(run(PortAllocation::Preserving, 3), [5_000, 5_001, 5_002]);
        let low = ports(PortAllocation::Preserving).allocate(inside(2, 53), |_| false).unwrap();
        assert_eq!(low.port(), 53);
        let taken_low =
            ports(PortAllocation::Preserving).allocate(inside(2, 53), |at| at.port() == 53).unwrap();
        assert_eq!(taken_low.port(), PORT_FIRST);
    }

    #[test]
    fn sequential_advances_by_its_step_and_wraps_into_the_allowed_range() {
        let run = run(PortAllocation::Sequential { step: 20_000 }, 5);
        for pair in run.windows(2) {
            let ahead = (u32::from(pair[1]) + 64_512 - u32::from(pair[0])) % 64_512;
            assert_eq!((ahead, pair[1] >= PORT_FIRST), (20_000, true), "{run:?}");
        }
    }

    #[test]
    fn random_spreads_over_the_whole_range() {
        let run = run(PortAllocation::Random, 1_000);
        assert!(run.iter().all(|port| *port >= PORT_FIRST));
        let low_half = run.iter().filter(|port| **port < 33_280).count();
        assert!((400..600).contains(&low_half), "{low_half} of 1,000 in the lower half");
    }

    #[test]
    fn a_block_belongs_to_one_inside_address_and_can_run_dry() {
        let allocation = PortAllocation::Block { first: 10_000, size: 64 };
        let (mut ports, mut taken) = (ports(allocation), BTreeSet::new());
        for host in [7, 3] {
            for _ in 0..64 {
                let outside = ports.allocate(inside(host, 5_000), |at| taken.contains(&at)).unwrap();
                assert!(taken.insert(outside));
                let nth = u16::from(host == 3);
                assert!((10_000 + nth * 64..10_064 + nth * 64).contains(&outside.port()));
            }
            assert_eq!(ports.allocate(inside(host, 5_000), |at| taken.contains(&at)), None);
        }
    }

    #[test]
    fn an_inside_address_keeps_its_outside_address_of_the_same_family() {
        let pool = vec![[203, 0, 113, 1].into(), "2001:db8::1".parse().unwrap(), [203, 0, 113, 2].into()];
        let mut ports = Ports::new(Rng::from_u64(1), PortAllocation::Random, pool);
        let mut outside = |host| ports.allocate(inside(host, 5_000), |_| false).unwrap().ip().to_string();
        assert_eq!([outside(1), outside(2), outside(1)], ["203.0.113.1", "203.0.113.2", "203.0.113.1"]);
    }
}
