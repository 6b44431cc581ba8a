//! The Internet checksum: RFC 1071 in full, RFC 1624 by difference.

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
    pub const fn replace(self, old: u16, new: u16) -> Self {
        self.wide(!old as u64).wide(new as u64)
    }

    /// [`Sum::replace`] for a 32-bit field on an even offset.
    #[must_use]
    pub const fn replace_u32(self, old: u32, new: u32) -> Self {
        self.replace((old >> 16) as u16, (new >> 16) as u16).replace(old as u16, new as u16)
    }

    /// The checksum to store in the packet.
    pub const fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    const fn wide(self, word: u64) -> Self {
        // End-around carry keeps the sum exact for any number of additions.
        let (sum, carry) = self.0.overflowing_add(word);
        Self(sum + carry as u64)
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

    proptest! {
        #[test]
        fn the_fast_sum_is_the_literal_sum(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(checksum(&bytes), literal(&bytes));
        }

        #[test]
        fn an_incremental_update_equals_a_full_sum(
            bytes in prop::collection::vec(any::<u8>(), 8..64), at in 0usize..3, new in any::<u32>(),
        ) {
            let (before, at) = (checksum(&bytes), at * 2);
            let mut after = bytes.clone();
            after[at..at + 4].copy_from_slice(&new.to_be_bytes());
            let old = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            let updated = Sum::from_checksum(before).replace_u32(old, new).finish();
            // The two zeros of ones' complement are the same sum; only an all-zero packet has one
            // that incremental update cannot see.
            prop_assert!(updated == checksum(&after) || after.iter().all(|byte| *byte == 0));
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
