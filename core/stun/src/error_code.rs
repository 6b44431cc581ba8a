//! Why a request was refused (RFC 8489 §14.8).

use core::fmt;

/// Go to another server: ALTERNATE-SERVER (RFC 8489 §10).
pub const TRY_ALTERNATE: u16 = 300;
/// The request is malformed, or lacks what authentication needs.
pub const BAD_REQUEST: u16 = 400;
/// The credentials are missing or wrong.
pub const UNAUTHENTICATED: u16 = 401;
/// The request is authentic and not allowed (RFC 8656 §19).
pub const FORBIDDEN: u16 = 403;
/// A comprehension-required attribute is unknown: UNKNOWN-ATTRIBUTES lists it.
pub const UNKNOWN_ATTRIBUTE: u16 = 420;
/// The allocation is not there, or is already there (RFC 8656 §19).
pub const ALLOCATION_MISMATCH: u16 = 437;
/// The nonce is no longer good: the response carries another.
pub const STALE_NONCE: u16 = 438;
/// The address family is not served (RFC 8656 §19).
pub const ADDRESS_FAMILY_NOT_SUPPORTED: u16 = 440;
/// These are not the credentials that made the allocation (RFC 8656 §19).
pub const WRONG_CREDENTIALS: u16 = 441;
/// REQUESTED-TRANSPORT is not served (RFC 8656 §19).
pub const UNSUPPORTED_TRANSPORT_PROTOCOL: u16 = 442;
/// The peer's address family is not the allocation's (RFC 8656 §19).
pub const PEER_ADDRESS_FAMILY_MISMATCH: u16 = 443;
/// The user has enough allocations (RFC 8656 §19).
pub const ALLOCATION_QUOTA_REACHED: u16 = 486;
/// Both agents think they have the same role (RFC 8445 §16.2).
pub const ROLE_CONFLICT: u16 = 487;
/// Temporary trouble at the server.
pub const SERVER_ERROR: u16 = 500;
/// The server has no address left to relay from (RFC 8656 §19).
pub const INSUFFICIENT_CAPACITY: u16 = 508;

/// The value of ERROR-CODE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode<'a> {
    /// 300 to 699.
    pub code: u16,
    /// For people, in the server's language; as much of it as is UTF-8.
    pub reason: &'a str,
}

impl<'a> ErrorCode<'a> {
    /// Reads the attribute's value. `None`: too short, a class outside 3 to 6, or a number above 99.
    /// The reserved bits in front may be anything (RFC 8489 §14.8).
    pub(crate) fn read(value: &'a [u8]) -> Option<Self> {
        let (&[_, _, class, number], reason) = value.split_first_chunk()?;
        let class = class & 0b111;
        let in_range = (3..=6).contains(&class) && number <= 99;
        let code = u16::from(class) * 100 + u16::from(number);
        in_range.then(|| ErrorCode { code, reason: valid_prefix(reason) })
    }

    /// The four bytes in front of the reason phrase.
    pub(crate) fn head(code: u16) -> [u8; 4] {
        assert!((300..700).contains(&code), "an error code is between 300 and 699, not {code}");
        [0, 0, (code / 100) as u8, (code % 100) as u8]
    }
}

impl fmt::Display for ErrorCode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.reason)
    }
}

/// As much of `bytes` as is UTF-8: text that only people read should not sink a message.
pub(crate) fn valid_prefix(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}
