//! What the owner learns.

use std::fmt;
use std::time::Duration;

use gimlet_machine::{Bytes, Direction, Path, PeerId};
use quinn_proto::{ConnectionError, TransportErrorCode};

use crate::{ConnectionId, StreamId};

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is over: the peer proved that it holds the key `peer`, and data flows. At the
    /// end that dialed this comes half a round trip before the other end has checked *our* key.
    Connected {
        /// Which connection.
        id: ConnectionId,
        /// Who is there.
        peer: PeerId,
        /// Whether we dialed.
        dialed: bool,
    },
    /// The connection failed or was closed by the peer; comes at most once. What had arrived may
    /// still be read until [`Event::Drained`] is polled: read it now.
    Lost {
        /// Which connection.
        id: ConnectionId,
        /// Who was there, or was to be there.
        peer: Option<PeerId>,
        /// Why.
        cause: Cause,
    },
    /// Nothing more will be heard of this connection, and its id is stale. Comes once for every
    /// connection, last.
    Drained {
        /// Which connection.
        id: ConnectionId,
    },
    /// The peer of a connection accepted by listening moved to another path, and we follow it.
    Moved {
        /// Which connection.
        id: ConnectionId,
        /// Where its packets go from here on.
        path: Path,
    },
    /// What was sent wanted an answer, and two round trips or a probe timeout (RFC 9002 §6.2) passed without
    /// any: the path may be dead. Told once for each silence; data that arrives ends it.
    Silent {
        /// Which connection.
        id: ConnectionId,
        /// How long nothing has been heard since something was first sent.
        since: Duration,
    },
    /// The peer opened streams; take them with `accept`.
    StreamOpened {
        /// Which connection.
        id: ConnectionId,
        /// Of which kind.
        direction: Direction,
    },
    /// The peer lets us open more streams.
    StreamsAvailable {
        /// Which connection.
        id: ConnectionId,
        /// Of which kind.
        direction: Direction,
    },
    /// The stream has bytes, an end or an error to read.
    Readable {
        /// Which connection.
        id: ConnectionId,
        /// Which stream.
        stream: StreamId,
    },
    /// A stream that took no bytes takes some again.
    Writable {
        /// Which connection.
        id: ConnectionId,
        /// Which stream.
        stream: StreamId,
    },
    /// Everything written to the stream, its end included, was acknowledged.
    Finished {
        /// Which connection.
        id: ConnectionId,
        /// Which stream.
        stream: StreamId,
    },
    /// The peer wants no more of the stream (STOP_SENDING, RFC 9000 §19.5).
    Stopped {
        /// Which connection.
        id: ConnectionId,
        /// Which stream.
        stream: StreamId,
        /// The peer's code.
        code: u64,
    },
    /// Datagrams arrived; take them with `receive_datagram`.
    DatagramReceived {
        /// Which connection.
        id: ConnectionId,
    },
    /// After a refusal there is room for datagrams again.
    DatagramsWritable {
        /// Which connection.
        id: ConnectionId,
    },
}

/// Why a connection was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The peer's application closed it.
    Closed {
        /// The code it gave.
        code: u64,
        /// The reason it gave, not necessarily text.
        reason: Bytes,
    },
    /// Whoever answered does not hold the key that we asked for.
    WrongPeer,
    /// The peer declined: it does not expect us, or has no room.
    Refused,
    /// Nothing was heard for the idle timeout.
    TimedOut,
    /// The peer does not know this connection any more: it was restarted (RFC 9000 §10.3).
    Reset,
    /// The peer speaks no QUIC version that we speak.
    VersionMismatch,
    /// One end broke the protocol.
    Protocol {
        /// RFC 9000 §20.1; 0x100 and more are TLS alerts.
        code: u64,
        /// What it said about it.
        reason: String,
        /// Whether it was the peer that complained about us.
        by_peer: bool,
    },
}

/// The peer's TLS stack said `access_denied` (RFC 8446 §6.2), which is how ours refuses a peer.
const ACCESS_DENIED: u64 = 0x100 + 49;

impl Cause {
    /// `None`: we closed it ourselves.
    pub(crate) fn from_quinn(error: ConnectionError, wrong_peer: bool) -> Option<Self> {
        if wrong_peer {
            return Some(Cause::WrongPeer);
        }
        Some(match error {
            ConnectionError::ApplicationClosed(close) => {
                Cause::Closed { code: close.error_code.into_inner(), reason: close.reason }
            }
            ConnectionError::ConnectionClosed(close) => match u64::from(close.error_code) {
                ACCESS_DENIED => Cause::Refused,
                _ if close.error_code == TransportErrorCode::CONNECTION_REFUSED => Cause::Refused,
                code => {
                    let reason = String::from_utf8_lossy(&close.reason).into_owned();
                    Cause::Protocol { code, reason, by_peer: true }
                }
            },
            ConnectionError::TransportError(error) => {
                Cause::Protocol { code: error.code.into(), reason: error.reason, by_peer: false }
            }
            ConnectionError::VersionMismatch => Cause::VersionMismatch,
            ConnectionError::Reset => Cause::Reset,
            ConnectionError::TimedOut => Cause::TimedOut,
            ConnectionError::CidsExhausted => {
                unreachable!("connection ids of 12 bytes do not run out")
            }
            ConnectionError::LocallyClosed => return None,
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Closed { code, reason } if reason.is_empty() => {
                write!(f, "closed by the peer (code {code})")
            }
            Cause::Closed { code, reason } => {
                write!(f, "closed by the peer (code {code}): {}", String::from_utf8_lossy(reason))
            }
            Cause::WrongPeer => f.write_str("somebody else answered: the key is not the one we asked for"),
            Cause::Refused => f.write_str("refused: the peer does not expect us, or has no room"),
            Cause::TimedOut => f.write_str("timed out: nothing was heard from the peer"),
            Cause::Reset => f.write_str("reset: the peer was restarted"),
            Cause::VersionMismatch => f.write_str("the peer speaks no common QUIC version"),
            Cause::Protocol { code, reason, by_peer } => {
                let who = if *by_peer { "the peer" } else { "our side" };
                write!(f, "protocol error 0x{code:x} noticed by {who}: {reason}")
            }
        }
    }
}
