//! Numbers that count bytes and wrap.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};

/// A sequence number (RFC 9293 §3.4): arithmetic modulo 2^32, and an order that holds for numbers less than
/// half the circle apart. It has no `Ord`, because that order is not total.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SeqNumber(pub u32);

impl SeqNumber {
    /// How far `self` is ahead of `other`, or behind it if negative.
    pub const fn distance(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    /// Whether `self` comes before `other`.
    pub const fn before(self, other: Self) -> bool {
        self.distance(other) < 0
    }

    /// Whether `self` comes after `other`.
    pub const fn after(self, other: Self) -> bool {
        self.distance(other) > 0
    }

    /// Whether `self` lies in the window of `len` numbers that begins at `start`.
    pub const fn within(self, start: Self, len: u32) -> bool {
        self.0.wrapping_sub(start.0) < len
    }

    /// The later of two.
    #[must_use]
    pub const fn later(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }
}

impl Add<u32> for SeqNumber {
    type Output = Self;
    fn add(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl AddAssign<u32> for SeqNumber {
    fn add_assign(&mut self, bytes: u32) {
        *self = *self + bytes;
    }
}

impl Sub<u32> for SeqNumber {
    type Output = Self;
    fn sub(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }
}

impl Sub for SeqNumber {
    type Output = u32;
    /// The offset between two spaces, modulo 2^32.
    fn sub(self, other: Self) -> u32 {
        self.0.wrapping_sub(other.0)
    }
}

impl fmt::Debug for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_order_goes_around_the_circle() {
        let (old, new) = (SeqNumber(0xffff_fff0), SeqNumber(0x10));
        assert!(old.before(new) && new.after(old) && !new.before(old));
        assert_eq!((new - old, new.distance(old), old.distance(new)), (0x20, 0x20, -0x20));
        assert_eq!((old.later(new), new.later(old)), (new, new));
    }

    #[test]
    fn a_window_begins_at_its_start_and_ends_before_its_end() {
        let start = SeqNumber(0xffff_ffff);
        assert!(start.within(start, 1) && (start + 1).within(start, 2));
        assert!(!start.within(start, 0) && !(start + 2).within(start, 2) && !(start - 1).within(start, 2));
    }

    proptest! {
        #[test]
        fn distance_undoes_addition(start: u32, ahead in 1..i32::MAX) {
            let (start, ahead_by) = (SeqNumber(start), ahead.cast_unsigned());
            prop_assert_eq!((start + ahead_by).distance(start), ahead);
            prop_assert!(start.before(start + ahead_by));
            prop_assert_eq!(start + ahead_by - ahead_by, start);
        }
    }
}
