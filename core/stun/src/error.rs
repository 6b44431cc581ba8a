//! What can be wrong, each with its cause and what to do about it.

use core::fmt;

/// Why bytes are not an acceptable message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Fewer bytes than a header.
    TooShort {
        /// How many there are.
        len: usize,
    },
    /// The two bits in front are not zero, or the cookie is not there: another protocol
    /// (RFC 8489 §5).
    NotStun,
    /// The length field is no multiple of four, or not the number of bytes that follow.
    WrongLength {
        /// What the header says.
        declared: usize,
        /// What follows it.
        actual: usize,
    },
    /// An attribute ends behind the message.
    AttributeOverrun {
        /// Its type.
        kind: u16,
    },
    /// More attributes than [`ATTRIBUTES_MAX`](crate::ATTRIBUTES_MAX).
    TooManyAttributes,
    /// MESSAGE-INTEGRITY is not 20 bytes, or MESSAGE-INTEGRITY-SHA256 not 16 to 32 in steps of four
    /// (RFC 8489 §14.5–14.6).
    IntegrityLength {
        /// Which of the two.
        kind: u16,
        /// How long it is.
        len: usize,
    },
    /// Something follows FINGERPRINT (RFC 8489 §14.7).
    FingerprintNotLast,
    /// FINGERPRINT is not four bytes, or not the checksum of the message: damaged, or not STUN
    /// (RFC 8489 §14.7).
    WrongFingerprint,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::TooShort { len } => {
                write!(f, "{len} bytes are fewer than a STUN header: wait for more, or offer them elsewhere")
            }
            ParseError::NotStun => f.write_str("not STUN: offer the bytes to another protocol"),
            ParseError::WrongLength { declared, actual } => {
                write!(f, "the header announces {declared} bytes and {actual} follow: truncated or padded")
            }
            ParseError::AttributeOverrun { kind } => {
                write!(f, "attribute {kind:#06x} ends behind the message: drop the message")
            }
            ParseError::TooManyAttributes => {
                write!(f, "more than {} attributes: drop the message", crate::ATTRIBUTES_MAX)
            }
            ParseError::IntegrityLength { kind, len } => {
                write!(f, "integrity attribute {kind:#06x} cannot be {len} bytes long: drop the message")
            }
            ParseError::FingerprintNotLast => {
                f.write_str("an attribute follows FINGERPRINT: drop the message")
            }
            ParseError::WrongFingerprint => {
                f.write_str("FINGERPRINT does not match: damaged on the way, or not STUN")
            }
        }
    }
}

impl core::error::Error for ParseError {}

/// Why a message is not authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegrityError {
    /// It carries no integrity attribute.
    Missing,
    /// The integrity attribute was made with another key, or over another message.
    Mismatch,
}

impl fmt::Display for IntegrityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IntegrityError::Missing => "the message is not signed: the sender must add MESSAGE-INTEGRITY",
            IntegrityError::Mismatch => "the signature does not match: compare the passwords of both sides",
        })
    }
}

impl core::error::Error for IntegrityError {}

/// Why a request was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// [`REQUESTS_MAX`](crate::REQUESTS_MAX) requests are under way or have answers that nobody has
    /// polled.
    TooMany,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::TooMany => {
                let max = crate::client::REQUESTS_MAX;
                write!(f, "{max} requests are under way: poll events, cancel one, or wait")
            }
        }
    }
}

impl core::error::Error for RequestError {}
