//! Names of streams.

use std::fmt;

use gimlet_machine::Direction;
use quinn_proto::{Dir, Side, VarInt};

/// Names a stream within its connection, as on the wire (RFC 9000 §2.1): the two low bits say who
/// opened it and whether it is unidirectional.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// The id with this number, if it fits the 62 bits that the wire has.
    pub const fn from_u64(number: u64) -> Option<Self> {
        if number < 1 << 62 { Some(Self(number)) } else { None }
    }

    /// The number on the wire.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Which ways bytes flow.
    pub const fn direction(self) -> Direction {
        if self.0 & 0b10 == 0 { Direction::Bidirectional } else { Direction::Unidirectional }
    }

    /// Whether the end that dialed opened it.
    pub const fn is_dialers(self) -> bool {
        self.0 & 0b01 == 0
    }

    /// How many streams of the same kind were opened before it.
    pub const fn index(self) -> u64 {
        self.0 >> 2
    }

    pub(crate) fn from_quinn(id: quinn_proto::StreamId) -> Self {
        Self(id.into())
    }

    pub(crate) fn to_quinn(self) -> quinn_proto::StreamId {
        let side = if self.is_dialers() { Side::Client } else { Side::Server };
        quinn_proto::StreamId::new(side, to_dir(self.direction()), self.index())
    }

    /// Whether the end `side` may write to it.
    pub(crate) fn is_writable_by(self, side: Side) -> bool {
        self.direction() == Direction::Bidirectional || self.is_dialers() == side.is_client()
    }

    /// Whether the end `side` may read from it.
    pub(crate) fn is_readable_by(self, side: Side) -> bool {
        self.direction() == Direction::Bidirectional || self.is_dialers() != side.is_client()
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({})", self.0)
    }
}

pub(crate) fn to_dir(direction: Direction) -> Dir {
    match direction {
        Direction::Unidirectional => Dir::Uni,
        Direction::Bidirectional => Dir::Bi,
    }
}

pub(crate) fn from_dir(dir: Dir) -> Direction {
    match dir {
        Dir::Uni => Direction::Unidirectional,
        Dir::Bi => Direction::Bidirectional,
    }
}

/// A code for the wire. 32 bits always fit its 62.
pub(crate) fn to_code(code: u32) -> VarInt {
    VarInt::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_low_bits_say_who_opened_it_and_which_way_it_flows() {
        let theirs = StreamId::from_u64(3).unwrap();
        assert_eq!((theirs.direction(), theirs.is_dialers()), (Direction::Unidirectional, false));
        assert!(theirs.is_writable_by(Side::Server) && !theirs.is_writable_by(Side::Client));
        assert!(theirs.is_readable_by(Side::Client) && !theirs.is_readable_by(Side::Server));
        for number in [0, 1, 2, 3, 4_000_001] {
            let id = StreamId::from_u64(number).unwrap();
            assert_eq!(StreamId::from_quinn(id.to_quinn()), id);
        }
        assert_eq!(StreamId::from_u64(1 << 62), None);
    }
}
