//! Relays: an allocation on each configured TURN server, and whom it lets through.
//!
//! A relay that was asked for an address at birth can carry data from the first moment; asked when a
//! direct path has failed, it would come a minute late. Its addresses become candidates of every ICE
//! agent (RFC 8445 §5.1.1.2). In the other direction, the addresses that peers name become permissions
//! (RFC 8656 §9), and the path on which a connection sends becomes a channel (§12).
//!
//! Which permissions and channels are wanted is not kept but computed, from agents and connections,
//! whenever one of them has changed.

use alloc::collections::BTreeSet;
use core::net::{IpAddr, SocketAddr};

use gimlet_ice::{Agent, Candidate};
use gimlet_machine::{Buf, Deadline, FourTuple, Input, Instant, Machine, Path, Rng, Transmit, Verdict};
use gimlet_stun::AddressFamily;
use gimlet_turn::{
    AllocationState, Client, ClientConfig, ClientCounters, ClientEvent, Failure, Families, LongTerm,
    PeerError, WRAP_MAX,
};

use crate::config::Config;
use crate::error::ConfigError;
use crate::event::Progress;
use crate::gather::can_reach;
use crate::node::Node;

/// Relays of one node. Beyond: a [`ConfigError`].
pub const TURN_SERVERS_MAX: usize = 4;

/// Addresses of one peer that a relay is asked to let through, so that a peer that names many leaves
/// room for others ([`gimlet_turn::PERMISSIONS_MAX`]). Beyond: the peer is not heard from there.
pub const PERMITTED_PER_PEER_MAX: usize = 8;

/// Our clients of relays.
#[derive(Debug)]
pub(crate) struct Relays {
    clients: Vec<Relay>,
    /// Agents or connections have changed since permissions and channels were last looked at.
    stale: bool,
    /// The node has closed, and everything was given back.
    released: bool,
}

/// One client, and what it was asked for.
#[derive(Debug)]
struct Relay {
    client: Client,
    permitted: BTreeSet<IpAddr>,
    bound: BTreeSet<SocketAddr>,
    /// Asking again would get the same answer.
    hopeless: bool,
}

/// Whom relays are to let through at a moment.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Where a connection sends: the flow to the relay, and the peer.
    channels: BTreeSet<(FourTuple, SocketAddr)>,
    /// Where agents expect peers.
    peers: BTreeSet<IpAddr>,
}

impl Relays {
    /// Asks every configured relay that one of our sockets can reach. The others stay unused, as STUN
    /// servers do.
    pub(crate) fn new(now: Instant, rng: &Rng, config: &Config) -> Result<Relays, ConfigError> {
        if config.turn_servers.len() > TURN_SERVERS_MAX {
            return Err(ConfigError::TooManyTurnServers(config.turn_servers.len()));
        }
        let mut clients = Vec::new();
        for (nth, server) in config.turn_servers.iter().enumerate() {
            let credentials = LongTerm::new(server.username.as_bytes(), server.password.as_bytes())
                .ok_or(ConfigError::TurnCredentials(server.address))?;
            let local = config.local_addresses.iter().find(|local| can_reach(**local, server.address));
            let Some(local) = local else { continue };
            let flow = FourTuple::new(*local, server.address);
            if clients.iter().any(|relay: &Relay| relay.client.relay() == flow) {
                // A relay knows a client by its flow alone (RFC 8656 §3.2): a second name cannot be used on it.
                continue;
            }
            let rng = rng.fork_nth("client", nth as u64);
            let client = Client::new(rng, flow, credentials, ClientConfig::default());
            let mut relay =
                Relay { client, permitted: BTreeSet::new(), bound: BTreeSet::new(), hopeless: false };
            relay.ask(now);
            clients.push(relay);
        }
        Ok(Relays { clients, stale: false, released: false })
    }

    /// Asks relays again that failed, where that can help: a connection starts.
    pub(crate) fn ask_again(&mut self, now: Instant) {
        for relay in &mut self.clients {
            if relay.client.state() == AllocationState::Failed && !relay.hopeless && !self.released {
                relay.ask(now);
            }
        }
    }

    /// Whether a relay may still give us an address.
    pub(crate) fn is_pending(&self) -> bool {
        self.clients.iter().any(|relay| match relay.client.state() {
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
        })
    }

    /// Allocations that exist, or are being asked for or given back.
    pub(crate) fn allocations(&self) -> usize {
        let over = |state| {
            matches!(state, AllocationState::Idle | AllocationState::Released | AllocationState::Failed)
        };
        self.clients.iter().filter(|relay| !over(relay.client.state())).count()
    }

    pub(crate) fn counters(&self) -> impl Iterator<Item = &ClientCounters> {
        self.clients.iter().map(|relay| relay.client.counters())
    }

    /// Our addresses at relays.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = Candidate> {
        self.clients.iter().filter_map(|Relay { client, .. }| {
            let address =
                [AddressFamily::V4, AddressFamily::V6].into_iter().find_map(|it| client.relayed(it))?;
            Some(Candidate::relayed(address, client.relay(), client.mapped()))
        })
    }

    /// Agents or connections have changed: [`Node::tell_relays`] looks at what they need.
    pub(crate) fn mark_stale(&mut self) {
        self.stale = !self.clients.is_empty();
    }

    /// A loan of `out` that leaves room for a relay's headers, if there are relays.
    pub(crate) fn leave_room<'b>(&self, out: &'b mut Buf<'_>) -> Buf<'b> {
        if self.clients.is_empty() {
            return out.reborrow();
        }
        let segments = out.segments_max();
        let limit = out.remaining().saturating_sub(segments.saturating_mul(WRAP_MAX));
        Buf::new(out.vec()).with_limit(limit).with_segments_max(segments)
    }

    /// Turns what was written for a relayed path into what its relay expects.
    pub(crate) fn wrap(
        &mut self,
        now: Instant,
        transmit: Transmit<Path>,
        out: &mut Buf<'_>,
    ) -> Option<Transmit<Path>> {
        let relay = self.on_flow(transmit.path.on_wire())?;
        relay.client.wrap(now, transmit, out).ok()
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<Path> {
        let Input { path, ecn, bytes } = input;
        let Some(relay) = self.on_flow(path) else { return Verdict::NotMine };
        relay.client.handle_input(now, Input { path: Path::Direct(path), ecn, bytes })
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for relay in &mut self.clients {
            relay.client.handle_timeout(now);
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<(FourTuple, ClientEvent)> {
        self.clients.iter_mut().find_map(|relay| {
            let event = relay.client.poll_event()?;
            match event {
                ClientEvent::Allocated(_) => relay.hopeless = false,
                ClientEvent::Failed { cause } => relay.hopeless = is_final(cause),
                ClientEvent::Expired
                | ClientEvent::Released
                | ClientEvent::Redirected { .. }
                | ClientEvent::PermissionInstalled { .. }
                | ClientEvent::PermissionRefused { .. }
                | ClientEvent::ChannelBound { .. }
                | ClientEvent::ChannelRefused { .. }
                | ClientEvent::Received { .. }
                | ClientEvent::PeerUnreachable { .. } => {}
            }
            Some((relay.client.relay(), event))
        })
    }

    pub(crate) fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        let transmit = self.clients.iter_mut().find_map(|relay| relay.client.poll_transmit(now, out))?;
        Some(Transmit { path: transmit.path.on_wire(), ecn: transmit.ecn, segment: transmit.segment })
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        Deadline::earliest(self.clients.iter().map(|relay| relay.client.poll_timeout()))
    }

    /// Gives everything back; says whether there is anything to do that had not been done.
    pub(crate) fn release(&mut self, now: Instant) -> bool {
        if self.is_released() {
            return false;
        }
        self.released = true;
        for relay in &mut self.clients {
            relay.client.release(now);
        }
        true
    }

    /// Whether nothing is left to give back. The relays' answers are not awaited: an allocation whose
    /// release is lost ends by itself (RFC 8656 §3.2).
    pub(crate) fn is_released(&self) -> bool {
        self.released || self.clients.is_empty()
    }

    /// Brings permissions and channels in line with `wanted`; returns how many found no room.
    fn bring_in_line(&mut self, now: Instant, wanted: &Wanted) -> u64 {
        self.clients.iter_mut().map(|relay| relay.bring_in_line(now, wanted)).sum()
    }

    fn on_flow(&mut self, flow: FourTuple) -> Option<&mut Relay> {
        self.clients.iter_mut().find(|relay| relay.client.relay() == flow)
    }
}

impl Relay {
    fn ask(&mut self, now: Instant) {
        let families = if self.client.relay().remote.is_ipv4() { Families::V4 } else { Families::V6 };
        // Asked for only when there is none.
        let asked = self.client.allocate(now, families);
        debug_assert!(asked.is_ok(), "one client has one allocation");
    }

    fn bring_in_line(&mut self, now: Instant, wanted: &Wanted) -> u64 {
        let flow = self.client.relay();
        let channels = wanted.channels.iter().filter(|(on, _)| *on == flow);
        let channels: BTreeSet<SocketAddr> = channels.map(|(_, peer)| *peer).collect();
        let serves = |peer: &&IpAddr| peer.is_ipv4() == flow.remote.is_ipv4();
        let peers: BTreeSet<IpAddr> = wanted.peers.iter().filter(serves).copied().collect();
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
const fn is_final(cause: Failure) -> bool {
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
fn peers_of(agent: &Agent) -> Vec<IpAddr> {
    let candidates = agent.remote_candidates();
    let mut all: Vec<_> = candidates.map(|it| (it.kind.type_preference(), it.address.ip())).collect();
    all.sort_unstable();
    let mut seen = BTreeSet::new();
    let first = all.into_iter().map(|(_, ip)| ip).filter(|ip| seen.insert(*ip));
    first.take(PERMITTED_PER_PEER_MAX).collect()
}

impl Node {
    /// Tells relays whom to let through, if that may have changed.
    pub(crate) fn tell_relays(&mut self, now: Instant) {
        if !core::mem::take(&mut self.children.relays.stale) || self.children.relays.released {
            return;
        }
        let mut wanted = Wanted::default();
        for (_, ice) in self.children.ice.iter() {
            if let Some(Path::Relayed { relay, peer }) =
                ice.connection.and_then(|it| self.children.quic.path(it))
            {
                wanted.channels.insert((relay, peer));
                wanted.peers.insert(peer.ip());
            }
            wanted.peers.extend(peers_of(&ice.agent));
        }
        self.counters.relay_peers_over_limit += self.children.relays.bring_in_line(now, &wanted);
    }

    pub(crate) fn on_turn(&mut self, now: Instant, flow: FourTuple, event: &ClientEvent) {
        let server = flow.remote;
        match event {
            ClientEvent::Allocated(allocated) => {
                // What the relay saw of us is a server-reflexive candidate for free (RFC 8445 §5.1.1.2).
                let mapped = allocated.mapped;
                if self.children.gathering.remember(now, flow, mapped) {
                    self.progress(self.peer_id(), Progress::Reflexive { local: flow.local, mapped });
                }
                if let Some(relayed) = allocated.relayed_v4.or(allocated.relayed_v6) {
                    self.progress(self.peer_id(), Progress::Relay { server, relayed });
                }
            }
            ClientEvent::Failed { cause } => {
                self.progress(self.peer_id(), Progress::RelayFailed { server, cause: *cause });
            }
            // Peers that a relay refuses are reached otherwise or not at all; ICE finds out.
            ClientEvent::Expired
            | ClientEvent::Released
            | ClientEvent::Redirected { .. }
            | ClientEvent::PermissionInstalled { .. }
            | ClientEvent::PermissionRefused { .. }
            | ClientEvent::ChannelBound { .. }
            | ClientEvent::ChannelRefused { .. }
            | ClientEvent::Received { .. }
            | ClientEvent::PeerUnreachable { .. } => return,
        }
        self.trickle_all(now);
    }
}
