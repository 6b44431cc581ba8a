//! Where in a table a flow belongs: a keyed hash for keys that strangers choose.

use siphasher::sip::SipHasher13;

use crate::flow::key::FlowKey;

/// A universal hash of flow keys, with finishing steps that spread neighbours.
///
/// The first part is NH (RFC 4418 §2.2, which gives the proof): two keys that were chosen without knowing
/// the secret meet with a chance of 2^-32, whatever they are. It takes five multiplications that do not wait for
/// each other, a fraction of what SipHash-1-3 takes, and a table looks a flow up for every segment. What
/// SipHash gives beyond that, that whoever sees hashes learns nothing from them, is not needed here: nobody
/// sees them. The table bounds the harm of what timing may tell, by bounding probes and changing the secret.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowHash {
    halves: [u32; 10],
    spread: [u64; 2],
}

impl FlowHash {
    /// A hash that nobody knows who does not know `secret`.
    pub(crate) fn new(secret: [u64; 2]) -> Self {
        let sip = SipHasher13::new_with_keys(secret[0], secret[1]);
        let nth = |n: usize| sip.hash(&(n as u64).to_le_bytes());
        // Odd numbers can be multiplied with and undone, so nothing is lost by it.
        Self { halves: core::array::from_fn(|n| nth(n) as u32), spread: [nth(10) | 1, nth(11) | 1] }
    }

    /// The hash of `key`: all of its bits are good, the upper ones best.
    #[inline]
    pub(crate) fn of(&self, key: &FlowKey) -> u64 {
        let keys = &self.halves;
        let pair = |nth: usize, left: u32, right: u32| {
            let (left, right) = (left.wrapping_add(keys[nth]), right.wrapping_add(keys[nth + 1]));
            u64::from(left).wrapping_mul(u64::from(right))
        };
        let half = |wide: u128, nth: u32| (wide >> (nth * 32)) as u32;
        let sum = pair(0, half(key.client, 0), half(key.client, 1))
            .wrapping_add(pair(2, half(key.client, 2), half(key.client, 3)))
            .wrapping_add(pair(4, half(key.server, 0), half(key.server, 1)))
            .wrapping_add(pair(6, half(key.server, 2), half(key.server, 3)))
            .wrapping_add(pair(8, key.ports, key.network));
        let sum = (sum ^ (sum >> 32)).wrapping_mul(self.spread[0]);
        (sum ^ (sum >> 29)).wrapping_mul(self.spread[1])
    }
}
