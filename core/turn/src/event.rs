//! What owners learn.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use gimlet_machine::FourTuple;
use gimlet_stun::{AddressFamily, FramingError, Icmp};

use crate::server::RelayId;

/// What a [`Client`](crate::Client) tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The server relays for us.
    Allocated(Allocated),
    /// The server forgot the allocation, or its time ran out; another is being asked for, and peers
    /// will be permitted again by themselves. Relayed addresses may change.
    Expired,
    /// The owner's release is done.
    Released,
    /// There is no allocation and nothing more is tried.
    Failed {
        /// Why.
        cause: Failure,
    },
    /// The server sent us to another. Over datagrams the client is on its way already; over a stream
    /// it waits for [`Client::reconnected`](crate::Client::reconnected).
    Redirected {
        /// Where to.
        server: SocketAddr,
    },
    /// The peer's datagrams come through from now on. Said once, not at each refresh.
    PermissionInstalled {
        /// From any port of this address.
        peer: IpAddr,
    },
    /// The server does not relay to this peer, and we no longer ask for it.
    PermissionRefused {
        /// Which.
        peer: IpAddr,
        /// The server's reason: 403 and 443 are final.
        code: u16,
    },
    /// Datagrams to this peer cost four bytes from now on. Said once, not at each refresh.
    ChannelBound {
        /// Which.
        peer: SocketAddr,
        /// 0x4000 to 0x4FFF.
        number: u16,
    },
    /// The server binds no channel to this peer; datagrams go as Send indications.
    ChannelRefused {
        /// Which.
        peer: SocketAddr,
        /// The server's reason.
        code: u16,
    },
    /// A datagram came through a stream. Over datagrams it is passed in place and there is no event.
    Received {
        /// Who sent it to our relayed address.
        peer: SocketAddr,
        /// What it said.
        datagram: Vec<u8>,
    },
    /// A router told the server that our datagrams do not reach the peer (RFC 8656 §11.6). Nobody
    /// signed it: a hint, not a fact.
    PeerUnreachable {
        /// Which.
        peer: SocketAddr,
        /// What the router said.
        icmp: Icmp,
    },
}

/// What the server gave us (RFC 8656 §7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// Our IPv4 address at the server.
    pub relayed_v4: Option<SocketAddr>,
    /// Our IPv6 address at the server.
    pub relayed_v6: Option<SocketAddr>,
    /// Our own address as the server sees it: a server-reflexive candidate for free.
    pub mapped: SocketAddr,
    /// How long the allocation lasts unless it is refreshed, which happens by itself.
    pub lifetime: Duration,
    /// The family of a dual allocation that the server did not give, and its reason.
    pub refused: Option<(AddressFamily, u16)>,
}

/// Why there is no allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server does not answer.
    TimedOut,
    /// 401 to a signed request: name or password is wrong (RFC 8489 §9.2.5).
    BadCredentials,
    /// 438 again and again: the server's nonces are stale when they are new.
    StaleNonces,
    /// The nonce promises PASSWORD-ALGORITHMS and they are not there: somebody between us and the
    /// server wants a weaker signature (RFC 8489 §9.2.1).
    BidDown,
    /// The server offers only password algorithms that we do not know.
    NoAlgorithm,
    /// The answer lacks what it is there for.
    Incomplete,
    /// The answer depends on an attribute that is unknown here.
    UnknownAttribute {
        /// The first one.
        kind: u16,
    },
    /// The server refused, with this error code.
    Refused {
        /// 300 to 699.
        code: u16,
    },
    /// Servers send us round in circles, too far, or to another address family (RFC 8489 §10).
    Redirects,
    /// The stream carries something else.
    Framing(FramingError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::TimedOut => {
                f.write_str("no answer: is the relay's address right, does the network let it through?")
            }
            Failure::BadCredentials => f.write_str("the relay does not know this name or password"),
            Failure::StaleNonces => f.write_str("the relay rejects its own nonces: its clock jumps"),
            Failure::BidDown => f.write_str("the relay's challenge was weakened on the way: use TLS"),
            Failure::NoAlgorithm => f.write_str("the relay wants password algorithms that are unknown here"),
            Failure::Incomplete => f.write_str("the relay's answer is incomplete: use another relay"),
            Failure::UnknownAttribute { kind } => {
                write!(f, "the answer depends on attribute {kind:#06x}, which is unknown here")
            }
            Failure::Refused { code: 486 } => f.write_str("this user has all the allocations it may have"),
            Failure::Refused { code: 508 } => f.write_str("the relay is full: use another, or try later"),
            Failure::Refused { code } => write!(f, "the relay refused with error {code}"),
            Failure::Redirects => f.write_str("relays send us to each other: name one that takes us"),
            Failure::Framing(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for Failure {}

/// What a [`Server`](crate::Server) tells, and what it asks of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// Open a UDP socket for one client. Answer with [`Server::relay_opened`](crate::Server::relay_opened)
    /// or [`Server::relay_failed`](crate::Server::relay_failed) within
    /// [`OPEN_WAIT`](crate::OPEN_WAIT).
    OpenRelay {
        /// Names the socket from here on.
        id: RelayId,
        /// Who asks, and on which of our addresses: a client that reached it can most likely reach another
        /// port of it.
        client: FourTuple,
        /// Bind it to an address of this family.
        family: AddressFamily,
        /// Clients must be told an even port (RFC 8656 §7.2, EVEN-PORT): a socket with an odd one is
        /// refused.
        even: bool,
    },
    /// Close the socket. Also said for one that opened too late.
    CloseRelay {
        /// Which.
        id: RelayId,
        /// The address given in [`Server::relay_opened`](crate::Server::relay_opened).
        local: SocketAddr,
    },
    /// A client has its relayed addresses.
    Allocated {
        /// Who.
        client: FourTuple,
        /// By which name.
        username: Vec<u8>,
    },
    /// A client's relayed addresses are gone.
    Released {
        /// Who.
        client: FourTuple,
        /// By which name.
        username: Vec<u8>,
        /// Bytes relayed to peers, and from peers.
        relayed: (u64, u64),
    },
}
