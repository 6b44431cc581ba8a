//! The twenty bytes in front of every message (RFC 8489 §5).

use core::fmt;

use gimlet_machine::Rng;

/// The constant that tells STUN from the protocols it shares a port with (RFC 8489 §5).
pub const MAGIC_COOKIE: u32 = 0x2112_A442;

/// Type, length, cookie and transaction id. Bytes.
pub const HEADER_LEN: usize = 20;

/// Asks the demultiplexer's question, whether these bytes are a STUN message, without walking the
/// attributes: two zero bits in front, the cookie, and a length that is a multiple of four and fits
/// (RFC 8489 §6.3, RFC 7983 §7).
///
/// ```
/// assert!(gimlet_stun::is_stun(b"\x00\x01\x00\x00\x21\x12\xa4\x42twelve bytes"));
/// assert!(!gimlet_stun::is_stun(b"\x00\x01\x00\x04\x21\x12\xa4\x42twelve bytes"));
/// ```
#[inline]
pub fn is_stun(bytes: &[u8]) -> bool {
    let Some((&[t0, _, l0, l1, c0, c1, c2, c3, ..], body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    t0 & 0xc0 == 0
        && u32::from_be_bytes([c0, c1, c2, c3]) == MAGIC_COOKIE
        && length.is_multiple_of(4)
        && length == body.len()
}

/// What a message is for (RFC 8489 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Wants an answer.
    Request = 0b00,
    /// Wants none.
    Indication = 0b01,
    /// The answer to a request that was carried out.
    Success = 0b10,
    /// The answer to a request that was not; carries ERROR-CODE.
    Error = 0b11,
}

/// What is asked for: a number of 12 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(pub u16);

impl Method {
    /// "Where do I come from?" (RFC 8489 §6); also ICE's connectivity check.
    pub const BINDING: Method = Method(0x001);
    /// TURN: reserve a relayed address (RFC 8656 §7).
    pub const ALLOCATE: Method = Method(0x003);
    /// TURN: keep or drop an allocation (RFC 8656 §8).
    pub const REFRESH: Method = Method(0x004);
    /// TURN: client to peer, an indication (RFC 8656 §11).
    pub const SEND: Method = Method(0x006);
    /// TURN: peer to client, an indication (RFC 8656 §11).
    pub const DATA: Method = Method(0x007);
    /// TURN: let a peer's packets in (RFC 8656 §10).
    pub const CREATE_PERMISSION: Method = Method(0x008);
    /// TURN: a short header for one peer (RFC 8656 §12).
    pub const CHANNEL_BIND: Method = Method(0x009);
    /// The largest number that fits the type field.
    pub const MAX: Method = Method(0xfff);
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Method::BINDING => f.write_str("Binding"),
            Method::ALLOCATE => f.write_str("Allocate"),
            Method::REFRESH => f.write_str("Refresh"),
            Method::SEND => f.write_str("Send"),
            Method::DATA => f.write_str("Data"),
            Method::CREATE_PERMISSION => f.write_str("CreatePermission"),
            Method::CHANNEL_BIND => f.write_str("ChannelBind"),
            Method(other) => write!(f, "Method({other:#05x})"),
        }
    }
}

/// Ties an answer to its request: 96 bits that an attacker off the path cannot guess.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub [u8; 12]);

impl TransactionId {
    /// Draws a new one. RFC 8489 §5 wants it uniform and cryptographically random.
    pub fn random(rng: &mut Rng) -> Self {
        Self(rng.bytes())
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionId({self})")
    }
}

/// The first two bytes: the class's two bits sit between the method's (RFC 8489 figure 3).
///
/// ```text
///   M11 M10 M9 M8 M7 C1 M6 M5 M4 C0 M3 M2 M1 M0
/// ```
pub(crate) const fn message_type(class: Class, method: Method) -> u16 {
    debug_assert!(method.0 <= Method::MAX.0, "a method has 12 bits");
    let (class, method) = (class as u16, method.0);
    (method & 0xf80) << 2 | (class & 0b10) << 7 | (method & 0x070) << 1 | (class & 0b01) << 4 | method & 0x00f
}

/// The class of a message type.
pub(crate) const fn class_of(message_type: u16) -> Class {
    match (message_type >> 8 & 1 == 1, message_type >> 4 & 1 == 1) {
        (false, false) => Class::Request,
        (false, true) => Class::Indication,
        (true, false) => Class::Success,
        (true, true) => Class::Error,
    }
}

/// The method of a message type.
pub(crate) const fn method_of(message_type: u16) -> Method {
    Method(message_type & 0x000f | message_type >> 1 & 0x0070 | message_type >> 2 & 0x0f80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_and_method_survives_the_interleaving() {
        for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
            for method in 0..=Method::MAX.0 {
                let packed = message_type(class, Method(method));
                assert!(packed < 1 << 14);
                assert_eq!((class_of(packed), method_of(packed)), (class, Method(method)));
            }
        }
    }

    #[test]
    fn binding_types_are_the_ones_everybody_knows() {
        assert_eq!(message_type(Class::Request, Method::BINDING), 0x0001);
        assert_eq!(message_type(Class::Indication, Method::BINDING), 0x0011);
        assert_eq!(message_type(Class::Success, Method::BINDING), 0x0101);
        assert_eq!(message_type(Class::Error, Method::BINDING), 0x0111);
    }
}
