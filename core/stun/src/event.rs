//! What the owner of a machine learns.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use gimlet_machine::FourTuple;

use crate::client::RequestId;

/// What became of a request. Every request ends in exactly one of these, unless it was cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The server answered.
    Answered {
        /// Which request.
        id: RequestId,
        /// Where it went.
        path: FourTuple,
        /// Our address as the server sees it.
        mapped: SocketAddr,
        /// The round-trip time; `None` if the request was sent more than once, because then nobody
        /// knows which copy was answered (RFC 8489 §6.2.1, Karn's algorithm).
        rtt: Option<Duration>,
    },
    /// There is no answer, or no usable one.
    Failed {
        /// Which request.
        id: RequestId,
        /// Where it went.
        path: FourTuple,
        /// Why.
        cause: Failure,
    },
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered.
    TimedOut,
    /// Nobody answered with the right signature, though somebody tried (RFC 8489 §9.1.4).
    Unauthentic,
    /// The server refused, with this error code.
    Refused {
        /// 300 to 699: see [`error_code`](crate::error_code).
        code: u16,
    },
    /// The answer has a comprehension-required attribute that we do not know
    /// (RFC 8489 §6.3.3–6.3.4).
    UnknownAttribute {
        /// The first one.
        kind: u16,
    },
    /// The answer lacks what it is there for: an address or an error code.
    Incomplete,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::TimedOut => f.write_str("no answer: is the server's address right, is UDP let through?"),
            Failure::Unauthentic => f.write_str("no answer with the right signature: compare the passwords"),
            Failure::Refused { code } => write!(f, "the server refused with error {code}"),
            Failure::UnknownAttribute { kind } => {
                write!(f, "the answer depends on attribute {kind:#06x}, which is unknown here")
            }
            Failure::Incomplete => f.write_str("the answer names no address: use another server"),
        }
    }
}

impl core::error::Error for Failure {}

/// A server has nothing to tell: this type has no values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {}
