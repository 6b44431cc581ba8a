//! Ports in an order that nobody can foresee, and transaction ids that nobody has to remember.

use core::net::{IpAddr, SocketAddr};

use gimlet_machine::Rng;
use gimlet_stun::TransactionId;
use sha2::{Digest, Sha256};

/// NATs hand out ports from here on.
pub(crate) const PORT_FIRST: u16 = 1_024;

/// How many ports that makes.
pub(crate) const PORTS: u32 = (1 << 16) - PORT_FIRST as u32;

/// Where the peer's NAT may have put its mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// One step after the other from the newest port, the nearest first.
    Ahead {
        /// The newest port that was seen.
        newest: u16,
        /// From one to the next.
        step: i16,
        /// So many of the first come in any order.
        shuffled: u16,
    },
    /// In a block around what samples showed. The samples' own range comes first: all of it is in the block,
    /// and a port of the block is as good as any other.
    Block {
        /// The range of the samples.
        first: u16,
        last: u16,
        /// The widest that the block may be around them.
        lowest: u16,
        highest: u16,
    },
    /// Anywhere.
    Anywhere,
}

impl Ports {
    /// A block of `pool` ports that holds `first` to `last`, wherever it begins.
    pub(crate) fn block(first: u16, last: u16, pool: u32) -> Self {
        let pool = u16::try_from(pool - 1).unwrap_or(u16::MAX);
        let lowest = last.saturating_sub(pool).max(PORT_FIRST).min(first);
        Ports::Block { first, last, lowest, highest: first.saturating_add(pool).max(last) }
    }

    /// The port to try as number `index`; `None` when all have been tried.
    pub(crate) fn nth(&self, order: Order, index: u32) -> Option<u16> {
        match *self {
            Ports::Ahead { newest, step, shuffled } => {
                let shuffled = u32::from(shuffled);
                let index = if index < shuffled { order.permute(shuffled, index) } else { index };
                if index >= PORTS {
                    return None;
                }
                let from = i64::from(newest.max(PORT_FIRST) - PORT_FIRST);
                let offset = (from + i64::from(step) * i64::from(index + 1)).rem_euclid(i64::from(PORTS));
                Some(port(PORT_FIRST, u32::try_from(offset).ok()?))
            }
            Ports::Block { first, last, lowest, highest } => {
                let (inner, below) = (u32::from(last - first) + 1, u32::from(first - lowest));
                if index < inner {
                    return Some(port(first, order.permute(inner, index)));
                }
                let outer = below + u32::from(highest - last);
                let place = (index - inner < outer).then(|| order.permute(outer, index - inner))?;
                Some(if place < below { port(lowest, place) } else { port(last, place - below + 1) })
            }
            Ports::Anywhere => (index < PORTS).then(|| port(PORT_FIRST, order.permute(PORTS, index))),
        }
    }
}

/// The port `offset` above `first`; the callers stay below 2¹⁶.
fn port(first: u16, offset: u32) -> u16 {
    debug_assert!(u16::try_from(u32::from(first) + offset).is_ok(), "ports end at 65,535");
    first.wrapping_add(offset as u16)
}

/// The rounds of the permutation: four make a permutation of a function that looks random (Luby and Rackoff).
const ROUNDS: usize = 4;

/// A secret order of any range of numbers. It is computed, not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order([u64; ROUNDS]);

impl Order {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self(core::array::from_fn(|_| rng.u64()))
    }

    /// Which of `0..count` comes as number `index`; each comes once.
    ///
    /// A Feistel network permutes the smallest power of four that holds `count`; what falls outside is
    /// permuted again until it falls inside, which keeps the order one to one.
    pub(crate) fn permute(self, count: u32, index: u32) -> u32 {
        debug_assert!(index < count && count <= 1 << 16, "the caller stays in range");
        let half = (u32::BITS - (count - 1).leading_zeros()).div_ceil(2);
        let mask = (1 << half) - 1;
        let mut place = index;
        loop {
            let (mut left, mut right) = (place >> half, place & mask);
            for key in self.0 {
                (left, right) = (right, left ^ (mix(key, right) & mask));
            }
            place = left << half | right;
            if place < count {
                return place;
            }
        }
    }
}

/// A number that depends on every bit of both (the finisher of `SplitMix64`).
fn mix(key: u64, value: u32) -> u32 {
    let mut z = key ^ u64::from(value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 32) as u32
}

/// What transaction ids are made of: nobody who does not know it can answer a probe that it has not seen.
#[derive(Clone)]
pub(crate) struct Secret([u8; 32]);

impl Secret {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self(rng.bytes())
    }

    /// The id of the probe from `local` to `remote` in round `round`. It is a function of the path, so an
    /// answer proves that it comes from where the probe went and arrives from where it left.
    pub(crate) fn id(&self, round: u32, local: SocketAddr, remote: SocketAddr) -> TransactionId {
        let mut digest = Sha256::new();
        digest.update(self.0);
        digest.update(round.to_be_bytes());
        for end in [local, remote] {
            let ip = match end.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            digest.update(ip.octets());
            digest.update(end.port().to_be_bytes());
        }
        let digest: [u8; 32] = digest.finalize().into();
        TransactionId(core::array::from_fn(|nth| digest[nth]))
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use gimlet_machine::Rng;
    use proptest::prelude::*;

    #[test]
    fn a_predicted_window_goes_round_in_the_range_of_ports() {
        let order = Order::new(&mut Rng::from_u64(1));
        let ports = |newest, step| {
            let ports = Ports::Ahead { newest, step, shuffled: 0 };
            (0..3).map(|nth| ports.nth(order, nth).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(ports(40_000, 2), [40_002, 40_004, 40_006]);
        assert_eq!(ports(65_534, 1), [65_535, 1_024, 1_025]);
        assert_eq!(ports(1_025, -1), [1_024, 65_535, 65_534]);
        let shuffled = Ports::Ahead { newest: 40_000, step: 1, shuffled: 32 };
        let all: BTreeSet<u16> = (0..32).filter_map(|nth| shuffled.nth(order, nth)).collect();
        assert_eq!(all, (40_001..=40_032).collect());
        assert_ne!(shuffled.nth(order, 0).zip(shuffled.nth(order, 1)), Some((40_001, 40_002)));
    }

    #[test]
    fn a_block_is_tried_from_the_inside() {
        let (ports, order) = (Ports::block(10_100, 10_499, 512), Order::new(&mut Rng::from_u64(1)));
        let all: Vec<u16> = (0..).map_while(|nth| ports.nth(order, nth)).collect();
        let inner: BTreeSet<u16> = all[..400].iter().copied().collect();
        assert_eq!(inner, (10_100..=10_499).collect());
        // Wherever a block of 512 lies around the samples, all of it is tried in the end.
        assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), (9_988..=10_611).collect());
        assert_eq!(all.len(), 624, "each once");
    }

    #[test]
    fn ids_differ_by_path_direction_and_round() {
        let secret = Secret::new(&mut Rng::from_u64(1));
        let (a, b): (SocketAddr, SocketAddr) =
            ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:1".parse().unwrap());
        let ids = [secret.id(0, a, b), secret.id(0, b, a), secret.id(1, a, b)];
        assert!(ids[0] != ids[1] && ids[0] != ids[2]);
        assert_eq!(secret.id(0, a, b), ids[0]);
        assert_ne!(Secret::new(&mut Rng::from_u64(2)).id(0, a, b), ids[0]);
    }

    proptest! {
        #[test]
        fn an_order_is_a_permutation_of_any_range(count in 1_u32..3_000, seed in any::<u64>()) {
            let order = Order::new(&mut Rng::from_u64(seed));
            let seen: BTreeSet<u32> = (0..count).map(|index| order.permute(count, index)).collect();
            prop_assert_eq!(seen, (0..count).collect());
        }

        #[test]
        fn every_port_comes_once_and_none_is_reserved(
            first in 1_024_u16..=u16::MAX, spread in 0_u16..4_096, seed in any::<u64>(),
        ) {
            let order = Order::new(&mut Rng::from_u64(seed));
            let last = first.saturating_add(spread);
            let pool = (u32::from(last - first) + 1).next_power_of_two().max(512);
            let ports = Ports::block(first, last, pool);
            let all: Vec<u16> = (0..).map_while(|nth| ports.nth(order, nth)).collect();
            let set: BTreeSet<u16> = all.iter().copied().collect();
            prop_assert_eq!(set.len(), all.len());
            prop_assert!(set.iter().all(|port| *port >= PORT_FIRST));
            prop_assert!((first..=last).all(|port| set.contains(&port)));
            prop_assert!(all.len() >= (pool as usize).min(usize::from(u16::MAX - first)));
        }
    }

    #[test]
    fn the_whole_range_is_in_the_order_once() {
        let order = Order::new(&mut Rng::from_u64(9));
        let all: BTreeSet<u16> = (0..PORTS).filter_map(|nth| Ports::Anywhere.nth(order, nth)).collect();
        assert_eq!((all.len(), all.first(), all.last()), (64_512, Some(&1_024), Some(&65_535)));
        assert_eq!(Ports::Anywhere.nth(order, PORTS), None);
    }

    #[test]
    fn two_secrets_give_orders_that_have_little_in_common() {
        let [a, b] = [1, 2].map(|seed| Order::new(&mut Rng::from_u64(seed)));
        let first: BTreeSet<u32> = (0..1_024).map(|nth| a.permute(PORTS, nth)).collect();
        let common = (0..1_024).filter(|nth| first.contains(&b.permute(PORTS, *nth))).count();
        // 16 are expected by chance.
        assert!((4..40).contains(&common), "{common}");
    }
}
