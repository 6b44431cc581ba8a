//! What we ask of the driver: sockets, each with the child that wanted it.

use alloc::collections::BTreeMap;
use core::net::{IpAddr, SocketAddr};

use gimlet_machine::{Id, Queue, Request, SocketId};
use gimlet_turn::RelayId;

use crate::peer::Ice;

/// Sockets and connections open or being opened at once. Beyond: refused, as the driver would.
pub const SOCKETS_MAX: usize = 4_096;

/// Who asked for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The relay that we are, for a client.
    Relay(RelayId),
    /// A public node, to answer STUN on a second port.
    Witness,
    /// Finding out what our NAT does.
    Sample,
    /// A punch of this agent.
    Punch(Id<Ice>),
    /// One of our relays, which is spoken to over TCP or TLS; the one that has this socket.
    RelayStream,
}

/// Allots the names of sockets and remembers whose they are.
#[derive(Debug)]
pub(crate) struct Requests {
    named: u64,
    owners: BTreeMap<SocketId, Owner>,
    /// A socket is bound once and closed once. Whoever is closed before the driver has heard of it leaves
    /// nothing here, so that no more can wait than the driver has open and is yet to open.
    waiting: Queue<Request>,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self { named: 0, owners: BTreeMap::new(), waiting: Queue::new(2 * SOCKETS_MAX) }
    }

    /// Asks for a UDP socket at `local`. `None`: there are too many.
    pub(crate) fn bind(&mut self, owner: Owner, local: SocketAddr) -> Option<SocketId> {
        let id = SocketId(self.named);
        self.ask(owner, Request::Bind { id, local })
    }

    /// Asks for a connection to `remote`. `None`: there are too many.
    pub(crate) fn connect(&mut self, owner: Owner, local: IpAddr, remote: SocketAddr) -> Option<SocketId> {
        let id = SocketId(self.named);
        self.ask(owner, Request::Connect { id, local, remote })
    }

    fn ask(&mut self, owner: Owner, request: Request) -> Option<SocketId> {
        if self.owners.len() >= SOCKETS_MAX {
            return None;
        }
        let id = request.id();
        self.waiting.push(request).ok()?;
        self.named += 1;
        self.owners.insert(id, owner);
        Some(id)
    }

    /// Closes a socket and forgets it.
    pub(crate) fn close(&mut self, id: SocketId) {
        if self.owners.remove(&id).is_none() {
            return;
        }
        let before = self.waiting.len();
        self.waiting.retain(|request| request.id() != id);
        if self.waiting.len() == before {
            let full = self.waiting.push(Request::Close { id }).is_err();
            debug_assert!(!full, "each socket that the driver has is closed once");
        }
    }

    /// The driver has closed it: there is nothing more to ask.
    pub(crate) fn forget(&mut self, id: SocketId) {
        self.owners.remove(&id);
    }

    /// Whose socket it is; `None`: nobody's any more.
    pub(crate) fn owner(&self, id: SocketId) -> Option<Owner> {
        self.owners.get(&id).copied()
    }

    pub(crate) fn poll(&mut self) -> Option<Request> {
        self.waiting.pop()
    }

    /// Sockets open or being opened.
    pub(crate) fn sockets(&self) -> usize {
        self.owners.len()
    }

    /// Whether the driver has not heard everything yet.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}
