//! Where in a table a flow belongs: a keyed hash for keys that strangers choose.

use siphasher::sip::SipHasher13;

use crate::flow::key::FlowKey;

/// A universal hash of flow keys, with a step that spreads neighbours.
///
/// The first part is NH, the hash of UMAC (RFC 4418 §5): two keys that were chosen without knowing the secret meet
/// with a chance of 2^-32, whatever they are. It takes five multiplications that do not wait for
/// each other, a fraction of what SipHash-1-3 takes, and a table looks a flow up for every segment. What
/// SipHash gives beyond that, that whoever sees hashes learns nothing from them, is not needed here: nobody
/// sees them. The table bounds the harm of what timing may tell, by bounding probes and changing the secret.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowHash {
    halves: [u32; 10],
    spread: u64,
    /// What the constant parts of every IPv4 key come to.
    mapped: u64,
}

impl FlowHash {
    /// A hash that nobody knows who does not know `secret`.
    pub(crate) fn new(secret: [u64; 2]) -> Self {
        let sip = SipHasher13::new_with_keys(secret[0], secret[1]);
        let nth = |n: usize| sip.hash(&(n as u64).to_le_bytes());
        let halves = core::array::from_fn(|n| nth(n) as u32);
        // An odd number can be multiplied with and undone, so nothing is lost by it.
        let hash = Self { halves, spread: nth(10) | 1, mapped: 0 };
        let mapped = core::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().to_bits();
        Self { mapped: hash.upper(mapped, mapped), ..hash }
    }

    /// The hash of `key`: all of its bits are good, the upper ones best.
    #[inline]
    pub(crate) fn of(&self, key: &FlowKey) -> u64 {
        let upper = if key.is_v6() { self.upper(key.client, key.server) } else { self.mapped };
        let sum = self
            .pair(0, key.client as u32, key.server as u32)
            .wrapping_add(self.pair(2, key.ports, key.network))
            .wrapping_add(upper);
        (sum ^ (sum >> 32)).wrapping_mul(self.spread)
    }

    /// The part of the sum over the upper 96 bits of both addresses, which are constant in IPv4.
    #[inline]
    fn upper(&self, client: u128, server: u128) -> u64 {
        let half = |wide: u128, nth: u32| (wide >> (nth * 32)) as u32;
        self.pair(4, half(client, 1), half(client, 2))
            .wrapping_add(self.pair(6, half(client, 3), half(server, 3)))
            .wrapping_add(self.pair(8, half(server, 1), half(server, 2)))
    }

    #[inline]
    fn pair(&self, nth: usize, left: u32, right: u32) -> u64 {
        let (left, right) = (left.wrapping_add(self.halves[nth]), right.wrapping_add(self.halves[nth + 1]));
        u64::from(left).wrapping_mul(u64::from(right))
    }
}
