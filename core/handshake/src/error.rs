//! What can be wrong with what a peer said.

use core::error::Error;
use core::fmt;

use crate::{AGENT_MAX, HELLO_MAX};

/// Why bytes are not a hello, or a hello cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloError {
    /// The first bytes are something else's.
    NotAHello,
    /// Ends before its last field.
    Truncated,
    /// Longer than [`HELLO_MAX`].
    TooLong {
        /// Its length. Bytes.
        length: usize,
    },
    /// The agent string is longer than [`AGENT_MAX`].
    AgentTooLong {
        /// Its length. Bytes.
        length: usize,
    },
    /// The agent string is not UTF-8, or holds control characters.
    AgentIllegible,
    /// The oldest version is newer than the newest.
    Versions {
        /// The oldest version claimed.
        oldest: u16,
        /// The newest version claimed.
        newest: u16,
    },
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAHello => f.write_str("the first message is no hello: the peer runs something else"),
            Self::Truncated => f.write_str("the hello ends early"),
            Self::TooLong { length } => {
                write!(f, "a hello of {length} bytes is over the limit of {HELLO_MAX}")
            }
            Self::AgentTooLong { length } => {
                write!(f, "an agent name of {length} bytes is over the limit of {AGENT_MAX}: shorten it")
            }
            Self::AgentIllegible => f.write_str("the agent name is not plain UTF-8 text"),
            Self::Versions { oldest, newest } => {
                write!(f, "versions {oldest} to {newest} are no range: the oldest comes first")
            }
        }
    }
}

impl Error for HelloError {}

/// Why a peer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its first message is no hello, or a broken one.
    Malformed(HelloError),
    /// It speaks nothing as new as our oldest version.
    PeerTooOld {
        /// The newest version it speaks.
        newest: u16,
        /// The oldest version we speak.
        required: u16,
    },
    /// It demands a version newer than our newest.
    WeAreTooOld {
        /// The newest version we speak.
        newest: u16,
        /// The oldest version it speaks.
        required: u16,
    },
    /// No hello came within [`crate::HELLO_WAIT`].
    Silent,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "the peer's hello is malformed: {error}"),
            Self::PeerTooOld { newest, required } => write!(
                f,
                "the peer speaks version {newest} at most and we need {required} or later: update the peer"
            ),
            Self::WeAreTooOld { newest, required } => write!(
                f,
                "the peer needs version {required} or later and we speak {newest} at most: update this node"
            ),
            Self::Silent => write!(
                f,
                "the peer sent no hello for {} seconds: it runs something else, or is overloaded; try again later",
                crate::HELLO_WAIT.as_secs()
            ),
        }
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Malformed(error) => Some(error),
            Self::PeerTooOld { .. } | Self::WeAreTooOld { .. } | Self::Silent => None,
        }
    }
}

/// Why bytes are not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeError {
    /// A field or a claimed length reaches past the end.
    Truncated,
    /// No variant has this number.
    UnknownVariant {
        /// Which enumeration.
        of: &'static str,
        /// The number.
        number: u32,
    },
    /// A flag that is neither 0 nor 1.
    NotAFlag(u8),
    /// A string that is not UTF-8.
    NotUtf8,
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => {
                f.write_str("the envelope ends early: a field or a claimed length reaches past it")
            }
            Self::UnknownVariant { of, number } => {
                write!(
                    f,
                    "{of} number {number} is unknown: the sender speaks a later version, or no envelope at all"
                )
            }
            Self::NotAFlag(byte) => write!(f, "a flag is {byte:#04x}, neither 0 nor 1"),
            Self::NotUtf8 => f.write_str("a string is not UTF-8"),
        }
    }
}

impl Error for EnvelopeError {}
