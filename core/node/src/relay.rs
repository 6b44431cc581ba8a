//! One relay: our client of it, where we know it from, and whom it lets through.

use alloc::collections::BTreeSet;
use core::net::{IpAddr, SocketAddr};

use gimlet_ice::{Agent, Candidate};
use gimlet_machine::{FourTuple, Instant, PeerId};
use gimlet_stun::AddressFamily;
use gimlet_turn::{AllocationState, Client, Failure, Families, PeerError, PeerPolicy};

/// Addresses of one peer that a relay is asked to let through, so that a peer that names many leaves
/// room for others ([`gimlet_turn::PERMISSIONS_MAX`]). Beyond: the peer is not heard from there.
pub const PERMITTED_PER_PEER_MAX: usize = 8;

/// One client, and what it was asked for.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) client: Client,
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
        Self { client, origin, families, permitted, bound, hopeless: false }
    }

    pub(crate) fn ask(&mut self, now: Instant) {
        // Asked for only when there is none.
        let asked = self.client.allocate(now, self.families);
        debug_assert!(asked.is_ok(), "one client has one allocation");
    }

    /// Asks if there is nothing yet and that can help: a connection starts.
    pub(crate) fn ask_again(&mut self, now: Instant) {
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
        self.permitted.clear();
        self.bound.clear();
    }

    /// Whether there is no allocation, and none is being asked for or given back.
    pub(crate) fn is_over(&self) -> bool {
        matches!(
            self.client.state(),
            AllocationState::Idle | AllocationState::Released | AllocationState::Failed
        )
    }

    /// Whether this may still give us an address.
    pub(crate) fn is_pending(&self) -> bool {
        match self.client.state() {
            AllocationState::Allocating
            | AllocationState::Clearing
            | AllocationState::Waiting
            | AllocationState::Moving => true,
            AllocationState::Idle
            | AllocationState::Allocated
            | AllocationState::Refreshing
            | AllocationState::Deleting
            | AllocationState::Released
            | AllocationState::Failed => false,
        }
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
        relayed.map(|it| Candidate::relayed(it, client.relay(), client.mapped()))
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
