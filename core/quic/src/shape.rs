//! What can be told from a datagram's first bytes, without keys (RFC 8999).

use crate::cid::CID_LEN;
use crate::engine::VERSION;

/// A client's first datagram is padded to this many bytes (RFC 9000 §14.1).
pub(crate) const INITIAL_LEN_MIN: usize = 1_200;

/// The outside of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape<'a> {
    /// Begins with an Initial packet of our version.
    Initial,
    /// Begins with another long header: of our version, or a Version Negotiation packet.
    Long,
    /// A short header, for the connection with this id.
    Short(&'a [u8]),
}

impl<'a> Shape<'a> {
    /// `None`: not QUIC, or a version that we do not speak. We never clear the fixed bit and so
    /// never offer to receive packets without it (RFC 9287 §3), which keeps QUIC apart from its
    /// neighbours on the socket (RFC 9443 §3).
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Self> {
        const LONG: u8 = 0x80;
        const FIXED: u8 = 0x40;
        const TYPE: u8 = 0x30;
        let first = *bytes.first()?;
        if first & FIXED == 0 {
            return None;
        }
        if first & LONG == 0 {
            return bytes.get(1..=CID_LEN).map(Shape::Short);
        }
        let version = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?);
        match version {
            VERSION if first & TYPE == 0 => Some(Shape::Initial),
            VERSION | 0 => Some(Shape::Long),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_could_have_been_sent_looks_like_quic() {
        let short = [0x40, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 99];
        assert_eq!(Shape::of(&short), Some(Shape::Short(&short[1..13])));
        assert_eq!(Shape::of(&[0xc0, 0, 0, 0, 1, 8]), Some(Shape::Initial));
        assert_eq!(Shape::of(&[0xe0, 0, 0, 0, 1, 8]), Some(Shape::Long));
        assert_eq!(Shape::of(&[0xc0, 0, 0, 0, 0, 8]), Some(Shape::Long));
        for foreign in
            [&[][..], &[0x40, 1], &[0xc0, 0, 0], &[0xc0, 0xff, 0, 0, 29], &[0x80, 0, 0, 0, 1], &[0; 40]]
        {
            assert_eq!(Shape::of(foreign), None, "{foreign:?}");
        }
    }
}
