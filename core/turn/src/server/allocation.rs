//! What a server keeps for one client.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use gimlet_machine::{FourTuple, Instant};
use gimlet_stun::{AddressFamily, TransactionId};

use super::gate::Signer;
use super::meter::Meter;
use crate::client::{CHANNEL_LIFETIME, PERMISSION_LIFETIME};
use crate::state::{ServedState, ServedStep};

/// One client's relayed addresses, and what may pass through them.
#[derive(Clone, Debug)]
pub(crate) struct Allocation {
    pub(super) client: FourTuple,
    pub(super) signer: Signer,
    pub(super) state: ServedState,
    /// The Allocate that made it: when it is repeated, so is the answer (RFC 8656 §7.2).
    pub(super) transaction: TransactionId,
    pub(super) lifetime: Duration,
    pub(super) expires: Instant,
    pub(super) v4: Leg,
    pub(super) v6: Leg,
    /// The client wants even ports.
    pub(super) even: bool,
    /// Sorted by address.
    permissions: Vec<(IpAddr, Instant)>,
    /// Sorted by number.
    channels: Vec<Channel>,
    pub(super) meter: Meter,
}

/// One relayed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leg {
    /// Not asked for.
    Unwanted,
    /// Awaits the owner.
    Opening,
    /// Relays.
    Open { local: SocketAddr, public: SocketAddr },
    /// Asked for and not to be had.
    Refused(u16),
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    until: Instant,
}

impl Allocation {
    pub(super) const fn new(
        client: FourTuple,
        signer: Signer,
        transaction: TransactionId,
        lifetime: Duration,
        expires: Instant,
        (v4, v6): (Leg, Leg),
        even: bool,
    ) -> Self {
        Self {
            client,
            signer,
            state: ServedState::Opening,
            transaction,
            lifetime,
            expires,
            v4,
            v6,
            even,
            permissions: Vec::new(),
            channels: Vec::new(),
            meter: Meter::new(Instant::ZERO, u64::MAX),
        }
    }

    /// Moves the graph, if it can.
    pub(super) fn step(&mut self, step: ServedStep) -> bool {
        let next = self.state.after(step);
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }

    /// The leg of this family, if it awaits its socket.
    pub(super) fn opening(&mut self, family: AddressFamily) -> Option<&mut Leg> {
        let leg = match family {
            AddressFamily::V4 => &mut self.v4,
            AddressFamily::V6 => &mut self.v6,
        };
        Some(leg).filter(|leg| **leg == Leg::Opening)
    }

    pub(super) const fn leg(&self, family: AddressFamily) -> Leg {
        match family {
            AddressFamily::V4 => self.v4,
            AddressFamily::V6 => self.v6,
        }
    }

    /// The socket from which `peer` is reached.
    pub(super) fn local_for(&self, peer: SocketAddr) -> Option<SocketAddr> {
        match self.leg(AddressFamily::of(peer)) {
            Leg::Open { local, .. } => Some(local),
            Leg::Unwanted | Leg::Opening | Leg::Refused(_) => None,
        }
    }

    /// Both legs that are open: their families and sockets.
    pub(super) fn open_legs(&self) -> impl Iterator<Item = (AddressFamily, SocketAddr, SocketAddr)> {
        [(AddressFamily::V4, self.v4), (AddressFamily::V6, self.v6)].into_iter().filter_map(
            |(family, leg)| match leg {
                Leg::Open { local, public } => Some((family, local, public)),
                Leg::Unwanted | Leg::Opening | Leg::Refused(_) => None,
            },
        )
    }

    pub(super) fn is_permitted(&self, now: Instant, peer: IpAddr) -> bool {
        let found = self.permissions.binary_search_by_key(&peer, |(ip, _)| *ip);
        found.is_ok_and(|at| self.permissions[at].1 > now)
    }

    /// How many permissions there would be with `peers` among them.
    pub(super) fn permissions_with(&mut self, now: Instant, peers: &[IpAddr]) -> usize {
        self.permissions.retain(|(_, until)| *until > now);
        let new = peers.iter().filter(|peer| !self.is_permitted(now, **peer)).count();
        self.permissions.len() + new
    }

    /// RFC 8656 §9.
    pub(super) fn permit(&mut self, now: Instant, peer: IpAddr) {
        let until = now + PERMISSION_LIFETIME;
        match self.permissions.binary_search_by_key(&peer, |(ip, _)| *ip) {
            Ok(at) => self.permissions[at].1 = until,
            Err(at) => self.permissions.insert(at, (peer, until)),
        }
    }

    /// Whether number and peer may belong together: neither belongs to another (RFC 8656 §12.2).
    pub(super) fn may_bind(&mut self, now: Instant, number: u16, peer: SocketAddr) -> bool {
        self.channels.retain(|channel| channel.until > now);
        self.channels.iter().all(|channel| (channel.number == number) == (channel.peer == peer))
    }

    /// How many channels there would be with `number` among them.
    pub(super) fn channels_with(&self, number: u16) -> usize {
        self.channels.len() + usize::from(!self.channels.iter().any(|channel| channel.number == number))
    }

    pub(super) fn bind(&mut self, now: Instant, number: u16, peer: SocketAddr) {
        let bound = Channel { number, peer, until: now + CHANNEL_LIFETIME };
        match self.channels.binary_search_by_key(&number, |channel| channel.number) {
            Ok(at) => self.channels[at] = bound,
            Err(at) => self.channels.insert(at, bound),
        }
    }

    /// The peer of a channel.
    pub(super) fn peer_of(&self, now: Instant, number: u16) -> Option<SocketAddr> {
        let at = self.channels.binary_search_by_key(&number, |channel| channel.number).ok()?;
        Some(self.channels[at]).filter(|channel| channel.until > now).map(|channel| channel.peer)
    }

    /// The channel of a peer.
    pub(super) fn channel_of(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let mut all = self.channels.iter();
        all.find(|channel| channel.peer == peer && channel.until > now).map(|channel| channel.number)
    }
}
