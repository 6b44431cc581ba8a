//! Addresses as three plain numbers, and a map keyed by them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{IpAddr, SocketAddr};

/// A map that is looked up for every packet. Nobody hostile picks the addresses of a simulation, so
/// the hash need not be keyed. It is never iterated: its order means nothing.
pub(crate) type PackedMap<K, V> = HashMap<K, V, BuildHasherDefault<Fold>>;

/// An address, with a port and a tag of its owner's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Packed {
    high: u64,
    low: u64,
    /// From the top: the tag, the family, the port.
    rest: u64,
}

impl Packed {
    pub(crate) fn address(ip: IpAddr, tag: u32) -> Self {
        let (bits, family) = match ip {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), 4),
            IpAddr::V6(ip) => (ip.to_bits(), 6),
        };
        let rest = u64::from(tag) << 32 | family << 16;
        Self { high: (bits >> 64) as u64, low: bits as u64, rest }
    }

    pub(crate) fn endpoint(at: SocketAddr) -> Self {
        let mut packed = Self::address(at.ip(), 0);
        packed.rest |= u64::from(at.port());
        packed
    }
}

/// Folds each number into the state with one wide multiplication.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fold(u64);

impl Hasher for Fold {
    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio: an odd number without pattern (Knuth, TAOCP 6.4).
        const PHI: u128 = 0x9e37_79b9_7f4a_7c15;
        let wide = u128::from(self.0.rotate_left(23) ^ number) * PHI;
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::hash::BuildHasher as _;

    #[test]
    fn different_addresses_ports_and_tags_pack_differently() {
        let ips = ["0.0.0.0", "::", "10.0.0.1", "10.0.0.2", "::10.0.0.1", "2001:db8::1", "::1:0:0:0:1"];
        let mut seen = BTreeSet::new();
        for ip in ips.map(|ip| ip.parse::<IpAddr>().unwrap()) {
            for tag in [0, 1, u32::MAX] {
                seen.insert(format!("{:?}", Packed::address(ip, tag)));
            }
            for port in [1, u16::MAX] {
                seen.insert(format!("{:?}", Packed::endpoint(SocketAddr::new(ip, port))));
            }
        }
        assert_eq!(seen.len(), ips.len() * 5);
    }

    #[test]
    fn neighbouring_endpoints_spread_over_the_buckets() {
        let buckets: BTreeSet<u64> = (0..4_096u32)
            .map(|nth| {
                let at = SocketAddr::from(((0x0a00_0000 + nth / 64).to_be_bytes(), (nth % 64) as u16));
                BuildHasherDefault::<Fold>::default().hash_one(Packed::endpoint(at)) >> 52
            })
            .collect();
        // Thrown at random, 4,096 balls leave about 37 % of as many buckets empty.
        assert!(buckets.len() > 2_400, "{} of 4,096 buckets", buckets.len());
    }
}
