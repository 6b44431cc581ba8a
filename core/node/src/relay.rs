//! One relay: our client of it, where we know it from, and whom it lets through.

use alloc::collections::BTreeSet;
use core::net::{IpAddr, SocketAddr};

use gimlet_ice::{Agent, Candidate};
use gimlet_machine::{Buf, FourTuple, Instant, Machine, PeerId};
use gimlet_stun::AddressFamily;
use gimlet_turn::{AllocationState, Client, Failure, Families, PeerError, PeerPolicy};

use crate::relay_stream::RelayStream;

/// Addresses of one peer that a relay is asked to let through, so that a peer that names many leaves
/// room for others ([`gimlet_turn::PERMISSIONS_MAX`]). Beyond: the peer is not heard from there.
pub const PERMITTED_PER_PEER_MAX: usize = 8;

/// The local preference (RFC 8445 §5.1.2.1) of an address on a relay that we speak to over TCP: below any over UDP,
/// because one lost segment holds up everything behind it.
const TCP_PREFERENCE: u16 = 0x3fff;

/// The same over TLS, which encrypts everything once more.
const TLS_PREFERENCE: u16 = 0x1fff;

/// One client, and what it was asked for.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) client: Client,
    /// Its connection; `None`: it is spoken to over UDP.
    pub(crate) stream: Option<Box<RelayStream>>,
    pub(crate) origin: Origin,
    families: Families,
    permitted: BTreeSet<IpAddr>,
    bound: BTreeSet<SocketAddr>,
    /// Asking again would get the same answer.
    pub(crate) hopeless: bool,
}

/// Where we know a relay from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// The application named it. We ask at birth and keep what we get.
    Configured,
    /// A public node that we are connected to is one. We ask when a connection starts.
    Learnt {
        /// Which node.
        from: PeerId,
        /// Whom it lets through: asking for others costs a round trip.
        policy: PeerPolicy,
        /// The link to it has ended for good: no more connections begin here.
        gone: bool,
    },
}

/// Whom relays are to let through at a moment.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Where a connection sends: the flow to the relay, and the peer.
    pub(crate) channels: BTreeSet<(FourTuple, SocketAddr)>,
    /// Where agents expect peers.
    pub(crate) peers: BTreeSet<IpAddr>,
}

impl Relay {
    pub(crate) fn new(client: Client, origin: Origin, families: Families) -> Self {
        let (permitted, bound) = (BTreeSet::new(), BTreeSet::new());
        Self { client, stream: None, origin, families, permitted, bound, hopeless: false }
    }

    /// The same relay over this connection.
    pub(crate) fn over(mut self, stream: RelayStream) -> Self {
        self.stream = Some(Box::new(stream));
        self
    }

    /// Asks for an allocation, or for the connection on which to ask.
    pub(crate) fn ask(&mut self, now: Instant) {
        if let Some(stream) = self.stream.as_mut().filter(|stream| !stream.is_open()) {
            return stream.start(now);
        }
        // Asked for only when there is none.
        let asked = self.client.allocate(now, self.families);
        debug_assert!(asked.is_ok(), "one client has one allocation");
    }

    /// Asks if there is nothing yet and that can help: a connection starts.
    pub(crate) fn ask_again(&mut self, now: Instant) {
        if self.stream.as_ref().is_some_and(|stream| !stream.is_open()) {
            if !self.hopeless {
                self.ask(now);
            }
            return;
        }
        let may = match (self.client.state(), &self.origin) {
            (_, Origin::Learnt { gone: true, .. }) => false,
            (AllocationState::Failed, _) => !self.hopeless,
            (AllocationState::Idle | AllocationState::Released, Origin::Learnt { .. }) => true,
            (
                AllocationState::Idle
                | AllocationState::Released
                | AllocationState::Allocating
                | AllocationState::Clearing
                | AllocationState::Waiting
                | AllocationState::Moving
                | AllocationState::Allocated
                | AllocationState::Refreshing
                | AllocationState::Deleting,
                _,
            ) => false,
        };
        if may {
            self.ask(now);
        }
    }

    /// Gives the allocation back, if that is not under way already.
    pub(crate) fn release(&mut self, now: Instant) {
        if self.client.state() != AllocationState::Deleting {
            self.client.release(now);
        }
        if self.stream.is_some() {
            // The last request leaves, and the end of the connection is the answer.
            self.write_requests(now);
            self.stream.iter_mut().for_each(|stream| stream.stop());
            self.client.disconnected();
        }
        self.permitted.clear();
        self.bound.clear();
    }

    /// Whether there is no allocation, and none is being asked for or given back.
    pub(crate) fn is_over(&self) -> bool {
        let idle = self.stream.as_ref().is_none_or(|stream| stream.is_idle());
        let over = matches!(
            self.client.state(),
            AllocationState::Idle | AllocationState::Released | AllocationState::Failed
        );
        idle && over
    }

    /// Whether this may still give us an address.
    pub(crate) fn is_pending(&self) -> bool {
        if let Some(stream) = self.stream.as_ref().filter(|stream| !stream.is_open()) {
            return stream.is_opening();
        }
        self.client.state().is_pending()
    }

    /// Whether a public node told us of it.
    pub(crate) fn is_learnt(&self) -> bool {
        matches!(self.origin, Origin::Learnt { .. })
    }

    /// Whether `peer` told us of it.
    pub(crate) fn is_from(&self, peer: PeerId) -> bool {
        matches!(self.origin, Origin::Learnt { from, .. } if from == peer)
    }

    /// Whether nothing new is to begin here.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.origin, Origin::Learnt { gone: true, .. })
    }

    /// Whether a connection sends through it.
    pub(crate) fn is_used(&self) -> bool {
        !self.bound.is_empty()
    }

    /// Our addresses there.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = Candidate> {
        let client = &self.client;
        let relayed = [AddressFamily::V4, AddressFamily::V6].into_iter().filter_map(|it| client.relayed(it));
        let preference_max = match &self.stream {
            None => u16::MAX,
            Some(stream) if stream.is_secured_by_tls() => TLS_PREFERENCE,
            Some(_) => TCP_PREFERENCE,
        };
        relayed.map(move |it| {
            let candidate = Candidate::relayed(it, client.relay(), client.mapped());
            let preference = candidate.local_preference().min(preference_max);
            candidate.with_local_preference(preference)
        })
    }

    /// Hands requests of the client to its connection.
    pub(crate) fn write_requests(&mut self, now: Instant) {
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.is_open()) else { return };
        let mut bytes = Vec::new();
        while self.client.poll_transmit(now, &mut Buf::new(&mut bytes)).is_some() {
            stream.write(&bytes);
        }
    }

    /// Whether the relay is worth asking to let `peer` through: it can reach it, and its policy does not forbid
    /// it. Other clients of the same relay are where the relay itself is.
    fn serves(&self, peer: IpAddr) -> bool {
        let family = match self.families {
            Families::V4 => peer.is_ipv4(),
            Families::V6 => peer.is_ipv6(),
            Families::Both => true,
        };
        let admitted = match &self.origin {
            Origin::Configured => true,
            Origin::Learnt { policy, .. } => policy.admits_ip(peer) || self.relays_at(peer),
        };
        family && admitted
    }

    fn relays_at(&self, ip: IpAddr) -> bool {
        let family = if ip.is_ipv4() { AddressFamily::V4 } else { AddressFamily::V6 };
        self.client.relayed(family).is_some_and(|relayed| relayed.ip() == ip)
    }

    /// Brings permissions and channels in line with `wanted`; returns how many found no room.
    pub(crate) fn bring_in_line(&mut self, now: Instant, wanted: &Wanted) -> u64 {
        let flow = self.client.relay();
        let channels = wanted.channels.iter().filter(|(on, _)| *on == flow);
        let channels: BTreeSet<SocketAddr> = channels.map(|(_, peer)| *peer).collect();
        let peers: BTreeSet<IpAddr> =
            wanted.peers.iter().filter(|peer| self.serves(**peer)).copied().collect();
        for peer in self.bound.difference(&channels) {
            self.client.unbind_channel(now, *peer);
        }
        self.bound.retain(|peer| channels.contains(peer));
        for peer in self.permitted.difference(&peers) {
            self.client.forbid(now, *peer);
        }
        self.permitted.retain(|peer| peers.contains(peer));

        let mut refused = 0;
        // Connections first: they have the older claim.
        for peer in channels {
            if !self.bound.contains(&peer) {
                match self.client.bind_channel(now, peer) {
                    Ok(_) => _ = self.bound.insert(peer),
                    // Without a channel, data goes as Send indications.
                    Err(PeerError::TooMany | PeerError::Family) => refused += 1,
                }
            }
        }
        for peer in peers {
            if !self.permitted.contains(&peer) {
                match self.client.permit(now, peer) {
                    Ok(()) => _ = self.permitted.insert(peer),
                    Err(PeerError::TooMany | PeerError::Family) => refused += 1,
                }
            }
        }
        refused
    }
}

/// Whether asking again with the same credentials is of no use.
pub(crate) const fn is_final(cause: Failure) -> bool {
    match cause {
        Failure::BadCredentials
        | Failure::BidDown
        | Failure::NoAlgorithm
        | Failure::UnknownAttribute { .. } => true,
        Failure::TimedOut
        | Failure::StaleNonces
        | Failure::Incomplete
        | Failure::Refused { .. }
        | Failure::Redirects
        | Failure::Framing(_) => false,
    }
}

/// Where `agent` expects its peer, most likely reachable from a relay first.
pub(crate) fn peers_of(agent: &Agent) -> Vec<IpAddr> {
    let candidates = agent.remote_candidates();
    let mut all: Vec<_> = candidates.map(|it| (it.kind.type_preference(), it.address.ip())).collect();
    all.sort_unstable();
    let mut seen = BTreeSet::new();
    let first = all.into_iter().map(|(_, ip)| ip).filter(|ip| seen.insert(*ip));
    first.take(PERMITTED_PER_PEER_MAX).collect()
}
