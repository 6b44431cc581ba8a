//! The two addresses and two ports of a server that helps with NAT behaviour discovery
//! (RFC 5780 §6).

use core::net::SocketAddr;

use crate::discovery::is_other;
use crate::message::ChangeRequest;

/// A server's four faces: two addresses times two ports. The owner receives on all four and sends
/// from the one that an answer's path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faces {
    primary: SocketAddr,
    other: SocketAddr,
}

impl Faces {
    /// The faces made of both addresses with both ports. `None` if they are not four that clients can
    /// tell apart: the two have to differ in address and in port and be of one family, and neither
    /// may be unspecified, multicast or without a port (RFC 5780 §7.4).
    ///
    /// Clients send to these addresses, so they are the ones that the outside knows: a server behind
    /// a NAT of its own cannot be one of this kind.
    pub fn new(primary: SocketAddr, other: SocketAddr) -> Option<Self> {
        (is_other(primary, other) && is_other(other, primary)).then_some(Self { primary, other })
    }

    /// All four.
    pub const fn addresses(&self) -> [SocketAddr; 4] {
        let (primary, other) = (self.primary, self.other);
        let (first, second) = (primary.ip(), other.ip());
        [primary, SocketAddr::new(first, other.port()), SocketAddr::new(second, primary.port()), other]
    }

    /// The face that differs in both from `local`; `None` if `local` is none of the four.
    pub(super) fn opposite(&self, local: SocketAddr) -> Option<SocketAddr> {
        self.addresses().contains(&local).then(|| self.turn(local, true, true))
    }

    /// The face that answers a request which arrived at `local` and asks for `change`.
    pub(super) fn answering(&self, local: SocketAddr, change: ChangeRequest) -> SocketAddr {
        debug_assert!(self.addresses().contains(&local), "only a face is asked to change");
        self.turn(local, change.address, change.port)
    }

    fn turn(&self, local: SocketAddr, address: bool, port: bool) -> SocketAddr {
        let is_primary_ip = (local.ip() == self.primary.ip()) != address;
        let is_primary_port = (local.port() == self.primary.port()) != port;
        let ip = if is_primary_ip { self.primary.ip() } else { self.other.ip() };
        let port = if is_primary_port { self.primary.port() } else { self.other.port() };
        SocketAddr::new(ip, port)
    }
}
