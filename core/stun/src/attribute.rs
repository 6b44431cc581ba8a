//! Attribute types, and the walk over attributes.
//!
//! The numbers are IANA's "STUN Attributes" registry. Below 0x8000 an attribute is
//! comprehension-required: a receiver that does not know it must not act on the message
//! (RFC 8489 §14).

use core::fmt;

/// MAPPED-ADDRESS (RFC 8489 §14.1).
pub const MAPPED_ADDRESS: u16 = 0x0001;
/// CHANGE-REQUEST (RFC 5780 §7.2).
pub const CHANGE_REQUEST: u16 = 0x0003;
/// USERNAME (RFC 8489 §14.3).
pub const USERNAME: u16 = 0x0006;
/// MESSAGE-INTEGRITY (RFC 8489 §14.5).
pub const MESSAGE_INTEGRITY: u16 = 0x0008;
/// ERROR-CODE (RFC 8489 §14.8).
pub const ERROR_CODE: u16 = 0x0009;
/// UNKNOWN-ATTRIBUTES (RFC 8489 §14.13).
pub const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
/// CHANNEL-NUMBER (RFC 8656 §18.1).
pub const CHANNEL_NUMBER: u16 = 0x000C;
/// LIFETIME (RFC 8656 §18.2).
pub const LIFETIME: u16 = 0x000D;
/// XOR-PEER-ADDRESS (RFC 8656 §18.3).
pub const XOR_PEER_ADDRESS: u16 = 0x0012;
/// DATA (RFC 8656 §18.4).
pub const DATA: u16 = 0x0013;
/// REALM (RFC 8489 §14.9).
pub const REALM: u16 = 0x0014;
/// NONCE (RFC 8489 §14.10).
pub const NONCE: u16 = 0x0015;
/// XOR-RELAYED-ADDRESS (RFC 8656 §18.5).
pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
/// REQUESTED-ADDRESS-FAMILY (RFC 8656 §18.6).
pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
/// EVEN-PORT (RFC 8656 §18.7).
pub const EVEN_PORT: u16 = 0x0018;
/// REQUESTED-TRANSPORT (RFC 8656 §18.8).
pub const REQUESTED_TRANSPORT: u16 = 0x0019;
/// DONT-FRAGMENT (RFC 8656 §18.9).
pub const DONT_FRAGMENT: u16 = 0x001A;
/// MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.6).
pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
/// PASSWORD-ALGORITHM (RFC 8489 §14.12).
pub const PASSWORD_ALGORITHM: u16 = 0x001D;
/// USERHASH (RFC 8489 §14.4).
pub const USERHASH: u16 = 0x001E;
/// XOR-MAPPED-ADDRESS (RFC 8489 §14.2).
pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// RESERVATION-TOKEN (RFC 8656 §18.10).
pub const RESERVATION_TOKEN: u16 = 0x0022;
/// PRIORITY (RFC 8445 §16.1).
pub const PRIORITY: u16 = 0x0024;
/// USE-CANDIDATE (RFC 8445 §16.1).
pub const USE_CANDIDATE: u16 = 0x0025;
/// PADDING (RFC 5780 §7.6).
pub const PADDING: u16 = 0x0026;
/// RESPONSE-PORT (RFC 5780 §7.5).
pub const RESPONSE_PORT: u16 = 0x0027;
/// ADDITIONAL-ADDRESS-FAMILY (RFC 8656 §18.11).
pub const ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8000;
/// ADDRESS-ERROR-CODE (RFC 8656 §18.12).
pub const ADDRESS_ERROR_CODE: u16 = 0x8001;
/// PASSWORD-ALGORITHMS (RFC 8489 §14.11).
pub const PASSWORD_ALGORITHMS: u16 = 0x8002;
/// ALTERNATE-DOMAIN (RFC 8489 §14.16).
pub const ALTERNATE_DOMAIN: u16 = 0x8003;
/// ICMP (RFC 8656 §18.13).
pub const ICMP: u16 = 0x8004;
/// SOFTWARE (RFC 8489 §14.14).
pub const SOFTWARE: u16 = 0x8022;
/// ALTERNATE-SERVER (RFC 8489 §14.15).
pub const ALTERNATE_SERVER: u16 = 0x8023;
/// FINGERPRINT (RFC 8489 §14.7).
pub const FINGERPRINT: u16 = 0x8028;
/// ICE-CONTROLLED (RFC 8445 §16.1).
pub const ICE_CONTROLLED: u16 = 0x8029;
/// ICE-CONTROLLING (RFC 8445 §16.1).
pub const ICE_CONTROLLING: u16 = 0x802A;
/// RESPONSE-ORIGIN (RFC 5780 §7.3).
pub const RESPONSE_ORIGIN: u16 = 0x802B;
/// OTHER-ADDRESS (RFC 5780 §7.4).
pub const OTHER_ADDRESS: u16 = 0x802C;

/// Type and length. Bytes.
pub(crate) const ATTRIBUTE_HEADER_LEN: usize = 4;

/// Every comprehension-required type that this codec can read.
const REQUIRED: [u16; 26] = [
    MAPPED_ADDRESS,
    CHANGE_REQUEST,
    USERNAME,
    MESSAGE_INTEGRITY,
    ERROR_CODE,
    UNKNOWN_ATTRIBUTES,
    CHANNEL_NUMBER,
    LIFETIME,
    XOR_PEER_ADDRESS,
    DATA,
    REALM,
    NONCE,
    XOR_RELAYED_ADDRESS,
    REQUESTED_ADDRESS_FAMILY,
    EVEN_PORT,
    REQUESTED_TRANSPORT,
    DONT_FRAGMENT,
    MESSAGE_INTEGRITY_SHA256,
    PASSWORD_ALGORITHM,
    USERHASH,
    XOR_MAPPED_ADDRESS,
    RESERVATION_TOKEN,
    PRIORITY,
    USE_CANDIDATE,
    PADDING,
    RESPONSE_PORT,
];

/// Whether a receiver that does not know `kind` must refuse the message (RFC 8489 §14).
pub const fn is_comprehension_required(kind: u16) -> bool {
    kind < 0x8000
}

/// Whether this codec can read `kind`, a comprehension-required type.
pub(crate) fn is_known_required(kind: u16) -> bool {
    REQUIRED.binary_search(&kind).is_ok()
}

/// One attribute, as it stands in the message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The type: one of the constants of this module, or one that we do not know.
    pub kind: u16,
    /// The value, without padding.
    pub value: &'a [u8],
}

impl fmt::Debug for Attribute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}({} bytes)", self.kind, self.value.len())
    }
}

/// Takes one attribute off the front of `bytes` together with its padding, whose content means
/// nothing (RFC 8489 §14). `None`: it does not fit.
#[inline]
pub(crate) fn split_attribute(bytes: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let (&[k0, k1, l0, l1], body) = bytes.split_first_chunk::<ATTRIBUTE_HEADER_LEN>()?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let value = body.get(..length)?;
    let rest = body.get(length.next_multiple_of(4)..)?;
    Some((Attribute { kind: u16::from_be_bytes([k0, k1]), value }, rest))
}

/// The attributes of a run of bytes, in order. Ends at the first that does not fit; in the bytes of
/// a parsed message none is like that.
#[derive(Clone, Debug)]
pub(crate) struct Run<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Run<'a> {
    type Item = Attribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<Attribute<'a>> {
        let (attribute, rest) = split_attribute(self.0)?;
        self.0 = rest;
        Some(attribute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_types_are_sorted_and_all_comprehension_required() {
        assert!(REQUIRED.is_sorted());
        assert!(REQUIRED.iter().all(|kind| is_comprehension_required(*kind)));
        assert!(!is_known_required(0x0002), "RESPONSE-ADDRESS of RFC 3489 is reserved");
    }
}
