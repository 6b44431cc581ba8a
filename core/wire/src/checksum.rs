//! The Internet checksum: RFC 1071 in full, RFC 1624 by difference.

use core::net::IpAddr;
use core::ops::Add;

/// A ones'-complement sum under way. Parts may be added in any order as long as each starts on an
/// even offset of the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Nothing added yet.
    pub const fn new() -> Self {
        Self(0)
    }

    /// Resumes from a checksum found in a packet, to [`Sum::replace`] parts of what it covers.
    pub const fn from_checksum(checksum: u16) -> Self {
        Self(!checksum as u64)
    }

    /// Adds `bytes`, padded with a zero byte if their number is odd (RFC 1071 §4.1).
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        // Four bytes at a time: 2^16 ≡ 1 modulo 2^16 - 1, so wider words fold to the same sum
        // (RFC 1071 §2(C)).
        let (words, tail) = bytes.as_chunks::<4>();
        for word in words {
            self = self.wide(u64::from(u32::from_be_bytes(*word)));
        }
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        self.wide(u64::from(u32::from_be_bytes(last)))
    }

    /// Adds one 16-bit word.
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        self.wide(word as u64)
    }

    /// Takes `old` out and puts `new` in: eqn. 3 of RFC 1624, which is right where subtracting from
    /// the finished checksum is wrong (its §3: the two zeros of ones' complement).
    #[must_use]
    #[inline]
    pub const fn replace(self, old: u16, new: u16) -> Self {
        self.wide(!old as u64).wide(new as u64)
    }

    /// [`Sum::replace`] for a 32-bit field on an even offset.
    #[must_use]
    #[inline]
    pub const fn replace_u32(self, old: u32, new: u32) -> Self {
        // Both halves at once, as in `bytes`.
        self.wide(!old as u64).wide(new as u64)
    }

    /// [`Sum::replace_u32`] for a field at any offset; only whether `offset` is odd matters. Its middle
    /// bytes share a word then and its outer bytes are halves of their neighbours': each byte
    /// counts for the other half of a word (RFC 1071 §2(B)).
    #[must_use]
    #[inline]
    pub const fn replace_u32_at(self, offset: usize, old: u32, new: u32) -> Self {
        if offset & 1 == 0 {
            self.replace_u32(old, new)
        } else {
            // Rotating by a byte multiplies by 2^8 modulo 2^32 - 1, and so modulo 2^16 - 1.
            self.replace_u32(old.rotate_left(8), new.rotate_left(8))
        }
    }

    /// [`Sum::replace`] for the byte at `offset`.
    #[must_use]
    #[inline]
    pub const fn replace_u8_at(self, offset: usize, old: u8, new: u8) -> Self {
        let shift = if offset & 1 == 0 { 8 } else { 0 };
        self.replace((old as u16) << shift, (new as u16) << shift)
    }

    /// Adds the pseudo-header over which TCP and UDP compute their checksums, and ICMPv6 its own: addresses,
    /// protocol, and the length of what follows the IP headers (RFC 9293 §3.1, RFC 8200 §8.1).
    #[must_use]
    pub fn pseudo_header(self, source: IpAddr, destination: IpAddr, protocol: u8, length: u32) -> Self {
        let sum = self.wide(u64::from(protocol)).wide(u64::from(length));
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                sum.bytes(&source.octets()).bytes(&destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                sum.bytes(&source.octets()).bytes(&destination.octets())
            }
            // No packet has one address of each kind; as IPv6 would write them, the sum is defined anyway.
            (source, destination) => {
                let wide = |address: IpAddr| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                };
                sum.bytes(&wide(source)).bytes(&wide(destination))
            }
        }
    }

    /// The checksum to store in the packet.
    #[inline]
    pub const fn finish(self) -> u16 {
        // Both halves are added to each other, and their carry comes back in from the other half's sum.
        let sum = (self.0.wrapping_add(self.0.rotate_left(32)) >> 32) as u32;
        let sum = (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16;
        !sum
    }

    #[inline]
    const fn wide(self, word: u64) -> Self {
        // End-around carry keeps the sum exact for any number of additions.
        let (sum, carry) = self.0.overflowing_add(word);
        Self(sum + carry as u64)
    }
}

impl Add for Sum {
    type Output = Self;
    /// The sum over what both cover.
    #[inline]
    fn add(self, other: Self) -> Self {
        self.wide(other.0)
    }
}

/// The Internet checksum of `bytes` (RFC 1071). Over a packet that contains its own right checksum
/// it is 0.
///
/// ```
/// // The worked example of RFC 1071 §3: these bytes sum to 0xddf2.
/// assert_eq!(gimlet_wire::checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
/// ```
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::new().bytes(bytes).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 read literally: 16-bit words, one at a time, carry folded at once.
    fn literal(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn rfc_1624_section_4_example_gives_zero_not_minus_zero() {
        // The sum 0xdd2f was checked, the field 0x5555 becomes 0x3285.
        assert_eq!(Sum::from_checksum(0xdd2f).replace(0x5555, 0x3285).finish(), 0x0000);
    }

    #[test]
    fn minus_zero_becomes_zero_when_nothing_changes() {
        // Both verify; RFC 1624 §3 says which of the two comes out.
        assert_eq!(Sum::from_checksum(0xffff).replace(0x1234, 0x1234).finish(), 0x0000);
        assert_eq!(Sum::from_checksum(0x0000).replace_u32(0, 0).finish(), 0x0000);
    }

    #[test]
    fn a_field_on_an_odd_offset_is_summed_with_its_bytes_exchanged() {
        // Window scale first, timestamps behind it without padding: TSval begins at byte 5.
        let options = [3, 3, 7, 8, 10, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 1, 1, 1];
        let (old, new) = (0x1122_3344_u32, 0x1122_3344_u32.wrapping_add(0x7fff_fc18));
        assert_eq!(options[5..9], old.to_be_bytes());
        assert_eq!(Sum::from_checksum(0x35c7).replace_u32_at(5, old, new).finish(), 0x1d4b);
        assert_eq!(Sum::from_checksum(0x35c7).replace_u32_at(4, old, new).finish(), 0xb9ae, "the trap");
    }

    #[test]
    fn the_carry_of_the_last_fold_is_folded_too() {
        // Adding to a finished checksum loses it for the eight values below 8.
        for checksum in 0..=u16::MAX {
            let echo_reply = Sum::from_checksum(checksum).replace(0x0800, 0x0000).finish();
            let (plain, carry) = checksum.overflowing_add(0x0800);
            // The two zeros: a sum that comes out as minus zero is written as zero.
            let expected = plain + u16::from(carry);
            assert_eq!(echo_reply, if expected == 0xffff { 0 } else { expected }, "{checksum:04x}");
        }
    }

    #[test]
    fn the_largest_sums_fold_to_sixteen_bits() {
        for sum in [u64::MAX, u64::MAX - 1, 0xffff_ffff_0000_0000, 0x0000_ffff_ffff_ffff, 0x1_ffff, 0x1_0000]
        {
            let mut literal = sum;
            while literal > 0xffff {
                literal = (literal & 0xffff) + (literal >> 16);
            }
            assert_eq!(Sum(sum).finish(), !(literal as u16), "{sum:x}");
        }
    }

    proptest! {
        #[test]
        fn the_fast_sum_is_the_literal_sum(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(checksum(&bytes), literal(&bytes));
        }

        #[test]
        fn an_incremental_update_equals_a_full_sum(
            bytes in prop::collection::vec(any::<u8>(), 8..64), at in 0usize..5, new in any::<u32>(),
        ) {
            let before = checksum(&bytes);
            let mut after = bytes.clone();
            after[at..at + 4].copy_from_slice(&new.to_be_bytes());
            let old = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            let updated = Sum::from_checksum(before).replace_u32_at(at, old, new).finish();
            // The two zeros of ones' complement are the same sum; only an all-zero packet has one
            // that incremental update cannot see.
            prop_assert!(updated == checksum(&after) || after.iter().all(|byte| *byte == 0));
        }

        #[test]
        fn an_incremental_update_of_a_byte_equals_a_full_sum(
            mut bytes in prop::collection::vec(any::<u8>(), 8..64), at in 0usize..8, new in 1u8..,
        ) {
            let sum = Sum::from_checksum(checksum(&bytes)).replace_u8_at(at, bytes[at], new);
            bytes[at] = new;
            prop_assert_eq!(sum.finish(), checksum(&bytes));
        }

        #[test]
        fn a_packet_with_its_own_checksum_sums_to_zero(
            mut bytes in prop::collection::vec(any::<u8>(), 2..64),
        ) {
            bytes[..2].fill(0);
            let sum = checksum(&bytes);
            bytes[..2].copy_from_slice(&sum.to_be_bytes());
            prop_assert_eq!(checksum(&bytes), 0);
        }
    }
}
