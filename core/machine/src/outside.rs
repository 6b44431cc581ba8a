//! What a machine asks of its driver besides time and datagrams: further sockets, and connections.
//!
//! A relay needs a socket for each client, a hole puncher needs many for a moment, and a network that
//! drops UDP is left by a TCP connection. A machine says so by [`Request`]; its driver, which decides
//! nothing, does it and says how it went by [`Answer`]. What flows through a bound socket are ordinary
//! datagrams, with the socket's address as `local`. What flows through a connection are [`Answer::Received`]
//! and [`Request::Write`].
//!
//! ```text
//!   Bind    ──► Bound ──────────────────────────────► Close, or Closed
//!           └─► Closed
//!   Connect ──► Connected ──► Received, Write, Written ──► Close, or Closed
//!           └─► Closed
//! ```

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::FourTuple;

/// Names a socket or a connection. The machine that asks for one chooses it, and never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// Something that the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Bind a UDP socket. It is answered with [`Answer::Bound`] or [`Answer::Closed`].
    Bind {
        /// Its name from here on.
        id: SocketId,
        /// Where; port 0 stands for any that is free.
        local: SocketAddr,
    },
    /// Open a TCP connection. It is answered with [`Answer::Connected`] or [`Answer::Closed`].
    Connect {
        /// Its name from here on.
        id: SocketId,
        /// Our address; unspecified: any that can reach `remote`.
        local: IpAddr,
        /// Who listens.
        remote: SocketAddr,
    },
    /// Write to a connection. The driver keeps what the network does not take yet, and says by
    /// [`Answer::Written`] what it took: a machine that limits the difference limits the driver's memory.
    Write {
        /// Which connection.
        id: SocketId,
        /// What to write.
        bytes: Bytes,
    },
    /// Close a socket, or a connection when everything written to it has left. There is no answer. Closing what
    /// is not open is harmless.
    Close {
        /// Which.
        id: SocketId,
    },
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The socket is bound: datagrams arrive at it and may leave from it.
    Bound {
        /// Which.
        id: SocketId,
        /// The address that paths call `local`.
        local: SocketAddr,
    },
    /// The connection stands.
    Connected {
        /// Which.
        id: SocketId,
        /// Its two ends.
        flow: FourTuple,
    },
    /// Bytes came through a connection, at least one.
    Received {
        /// Which.
        id: SocketId,
        /// The next bytes of the stream.
        bytes: &'a [u8],
    },
    /// The network took bytes from a connection.
    Written {
        /// Which.
        id: SocketId,
        /// How many since the last time.
        len: usize,
    },
    /// It could not be opened, or is open no more. The last word about this id, unless the machine had closed it
    /// itself.
    Closed {
        /// Which.
        id: SocketId,
        /// Why.
        why: CloseReason,
    },
}

/// Why there is no socket, or no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// The driver opens none of this kind.
    Unsupported,
    /// The driver, or the system, has as many open as it can have.
    TooMany,
    /// Somebody else has the address, or the host does not.
    AddressUnavailable,
    /// Nobody listens there.
    Refused,
    /// The host or its network cannot be reached, or does not answer.
    Unreachable,
    /// The peer has written everything and closed.
    Ended,
    /// The peer or something in between broke the connection off.
    Reset,
    /// The system gave another reason.
    Failed,
}

impl Request {
    /// Which socket or connection it is about.
    pub const fn id(&self) -> SocketId {
        match self {
            Request::Bind { id, .. }
            | Request::Connect { id, .. }
            | Request::Write { id, .. }
            | Request::Close { id } => *id,
        }
    }

    /// What a driver answers that opens nothing: `None` where no answer is due.
    pub const fn refusal(&self, why: CloseReason) -> Option<Answer<'static>> {
        match self {
            Request::Bind { id, .. } | Request::Connect { id, .. } => Some(Answer::Closed { id: *id, why }),
            Request::Write { .. } | Request::Close { .. } => None,
        }
    }
}

impl Answer<'_> {
    /// Which socket or connection it is about.
    pub const fn id(&self) -> SocketId {
        match self {
            Answer::Bound { id, .. }
            | Answer::Connected { id, .. }
            | Answer::Received { id, .. }
            | Answer::Written { id, .. }
            | Answer::Closed { id, .. } => *id,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CloseReason::Unsupported => "this driver opens no such sockets",
            CloseReason::TooMany => "too many sockets are open",
            CloseReason::AddressUnavailable => "the address is not to be had",
            CloseReason::Refused => "nobody listens there",
            CloseReason::Unreachable => "the host cannot be reached",
            CloseReason::Ended => "the peer closed the connection",
            CloseReason::Reset => "the connection was broken off",
            CloseReason::Failed => "the system refused",
        })
    }
}

impl core::error::Error for CloseReason {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_opens_something_is_owed_an_answer() {
        let id = SocketId(7);
        let bind = Request::Bind { id, local: "192.0.2.1:0".parse().unwrap() };
        let why = CloseReason::Unsupported;
        assert_eq!(bind.refusal(why), Some(Answer::Closed { id, why }));
        assert_eq!(Request::Close { id }.refusal(why), None);
        assert_eq!(Request::Write { id, bytes: Bytes::new() }.refusal(why), None);
    }
}
