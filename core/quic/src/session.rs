//! One connection, or the reservation of one.

use std::fmt;
use std::net::SocketAddr;

use gimlet_machine::{Instant, Path, PeerId};
use quinn_proto::{Connection, ConnectionHandle};

use crate::silence::Silence;
use crate::state::Phase;
use crate::tls::{Refusal, peer_of};

/// Paths on which one connection listens. On overflow the oldest that is not sent on is forgotten.
pub(crate) const ADMITTED_MAX: usize = 16;
/// Paths that the peer of a listening connection may be seen on at a time: where it is, where it
/// was, and what a middlebox makes of it. On overflow the oldest is forgotten.
pub(crate) const ROAMING_MAX: usize = 4;

/// How a connection came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// We dial.
    Dialed,
    /// We wait for a peer that was announced.
    Expected,
    /// A stranger came while we listened.
    Stranger,
}

/// A connection with the paths beneath it: what a [`ConnectionId`](crate::ConnectionId) names.
/// Nothing of it is visible from outside.
pub struct Session {
    pub(crate) origin: Origin,
    pub(crate) phase: Phase,
    /// Pinned from the start, or learned from the handshake.
    pub(crate) peer: Option<PeerId>,
    pub(crate) refusal: Refusal,
    pub(crate) link: Option<Link>,
    pub(crate) routes: Routes,
    /// The entry in the table of deadlines.
    pub(crate) deadline: Option<Instant>,
    /// Whether it waits for its turn to send.
    pub(crate) queued: bool,
    /// Whether the owner has learned of it, and so must learn of its end.
    pub(crate) announced: bool,
    pub(crate) silence: Silence,
    /// The latest datagram for it arrived then.
    pub(crate) heard: Instant,
}

/// quinn-proto's half.
pub(crate) struct Link {
    pub(crate) handle: ConnectionHandle,
    pub(crate) connection: Connection,
}

impl Session {
    pub(crate) fn new(origin: Origin, peer: Option<PeerId>, routes: Routes, refusal: Refusal) -> Self {
        Self {
            origin,
            phase: Phase::AwaitingInitial,
            peer,
            refusal,
            link: None,
            routes,
            deadline: None,
            queued: false,
            announced: origin != Origin::Stranger,
            silence: Silence::default(),
            heard: Instant::ZERO,
        }
    }

    /// The TLS handshake begins.
    pub(crate) fn begin(&mut self, handle: ConnectionHandle, connection: Connection) {
        assert!(self.link.is_none(), "a session carries one connection");
        self.phase = self.phase.begin().expect("only a reservation begins");
        self.link = Some(Link { handle, connection });
    }

    /// The handshake is over; returns who is there.
    pub(crate) fn establish(&mut self) -> Option<PeerId> {
        self.phase = self.phase.establish()?;
        let identity = self.link.as_ref()?.connection.crypto_session().peer_identity()?;
        let chain = identity.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().ok()?;
        let shown = peer_of(chain.first()?)?;
        debug_assert!(self.peer.is_none_or(|pinned| pinned == shown), "the verifier pinned the peer");
        self.peer = Some(shown);
        self.announced = true;
        Some(shown)
    }

    /// One end closed. False if it was over already.
    pub(crate) fn end(&mut self) -> bool {
        let Some(next) = self.phase.end() else { return false };
        self.phase = next;
        true
    }

    /// Whether data may flow, or flowed.
    pub(crate) fn was_established(&self) -> bool {
        match self.phase {
            Phase::AwaitingInitial | Phase::AwaitingHandshake => false,
            Phase::Established | Phase::AwaitingDrain | Phase::Drained => self.announced,
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("origin", &self.origin)
            .field("phase", &self.phase)
            .field("peer", &self.peer)
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

/// Where a connection's datagrams come from and go to, and which synthetic address stands for it.
#[derive(Debug)]
pub(crate) enum Routes {
    /// The owner says which paths. quinn-proto sees one address and never notices a change.
    Pinned {
        address: SocketAddr,
        admitted: Vec<Path>,
        /// `None`: nothing is sent yet.
        send: Option<Path>,
    },
    /// The peer decides. Each path has an address of its own, and quinn-proto's connection
    /// migration (RFC 9000 §9) decides which one is current: it moves only for the
    /// highest-numbered authentic packet, challenges the new path, and returns if that fails.
    Roaming { current: SocketAddr, known: Vec<(SocketAddr, Path)> },
}

impl Routes {
    /// No path yet; `address` stands for the peer for good.
    pub(crate) fn pinned(address: SocketAddr) -> Self {
        Routes::Pinned { address, admitted: Vec::new(), send: None }
    }

    /// Under which address quinn-proto shall see a datagram from `path`; `None` if the path is not
    /// this connection's.
    pub(crate) fn address_from(&self, path: &Path) -> Option<SocketAddr> {
        match self {
            Routes::Pinned { address, admitted, .. } => admitted.contains(path).then_some(*address),
            Routes::Roaming { known, .. } => {
                known.iter().find(|(_, known)| known == path).map(|(address, _)| *address)
            }
        }
    }

    /// Where a datagram goes that quinn-proto addressed to `address`.
    pub(crate) fn path_to(&self, address: SocketAddr) -> Option<Path> {
        match self {
            Routes::Pinned { send, .. } => *send,
            Routes::Roaming { known, .. } => {
                known.iter().find(|(known, _)| *known == address).map(|(_, path)| *path)
            }
        }
    }

    /// Whether data may go anywhere.
    pub(crate) fn can_send(&self) -> bool {
        match self {
            Routes::Pinned { send, .. } => send.is_some(),
            Routes::Roaming { .. } => true,
        }
    }

    /// Where data goes at present.
    pub(crate) fn send_path(&self) -> Option<Path> {
        match self {
            Routes::Pinned { send, .. } => *send,
            Routes::Roaming { current, .. } => self.path_to(*current),
        }
    }

    /// All paths on which the connection listens.
    pub(crate) fn paths(&self) -> impl Iterator<Item = Path> + '_ {
        let (admitted, known) = match self {
            Routes::Pinned { admitted, .. } => (&admitted[..], &[][..]),
            Routes::Roaming { known, .. } => (&[][..], &known[..]),
        };
        admitted.iter().copied().chain(known.iter().map(|(_, path)| *path))
    }

    /// Listens on `path` too; returns a path that had to make room. `address` stands for `path` if
    /// the peer roams.
    pub(crate) fn admit(&mut self, path: Path, address: SocketAddr) -> Option<Path> {
        if self.address_from(&path).is_some() {
            return None;
        }
        match self {
            Routes::Pinned { admitted, send, .. } => {
                admitted.push(path);
                let spare = admitted.iter().position(|path| Some(*path) != *send)?;
                (admitted.len() > ADMITTED_MAX).then(|| admitted.remove(spare))
            }
            Routes::Roaming { current, known } => {
                known.push((address, path));
                let spare = known.iter().position(|(address, _)| address != current)?;
                (known.len() > ROAMING_MAX).then(|| known.remove(spare).1)
            }
        }
    }

    /// Stops listening on `path`, unless data goes there.
    pub(crate) fn dismiss(&mut self, path: &Path) {
        if self.send_path() == Some(*path) {
            return;
        }
        match self {
            Routes::Pinned { admitted, .. } => admitted.retain(|admitted| admitted != path),
            Routes::Roaming { known, .. } => known.retain(|(_, known)| known != path),
        }
    }

    /// The owner takes over: data goes to `path`, which is admitted already.
    pub(crate) fn pin(&mut self, path: Path) {
        match self {
            Routes::Pinned { send, .. } => *send = Some(path),
            Routes::Roaming { current, known } => {
                let admitted = known.iter().map(|(_, path)| *path).collect();
                *self = Routes::Pinned { address: *current, admitted, send: Some(path) };
            }
        }
    }

    /// quinn-proto sends to `address` from here on; returns the path if that is a change.
    pub(crate) fn follow(&mut self, address: SocketAddr) -> Option<Path> {
        match self {
            Routes::Pinned { .. } => None,
            Routes::Roaming { current, .. } if *current == address => None,
            Routes::Roaming { current, .. } => {
                *current = address;
                self.path_to(address)
            }
        }
    }
}
