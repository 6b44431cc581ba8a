//! Our relays: those that are configured, and those of the public nodes that we are connected to.
//!
//! A configured relay is asked for an address at birth; a public node's when a connection to another peer starts,
//! which costs it nothing until then, and is given back when no connection has needed it for a while. Relayed
//! addresses become candidates of every ICE agent (RFC 8445 §5.1.1.2). In the other direction, the addresses that
//! peers name become permissions (RFC 8656 §9), and the path on which a connection sends becomes a channel (§12).
//!
//! Which permissions and channels are wanted is not kept but computed, from agents and connections,
//! whenever one of them has changed.

use core::net::SocketAddr;
use core::time::Duration;

use gimlet_handshake::Capabilities;
use gimlet_ice::{Candidate, CandidateKind};
use gimlet_machine::{
    Buf, Deadline, FourTuple, Input, Instant, Machine, Path, PeerId, Rng, Transmit, Verdict,
};
use gimlet_turn::{
    Client, ClientConfig, ClientCounters, ClientEvent, Families, LongTerm, Transport, WRAP_MAX,
};

use crate::config::{Config, Paths, TurnTransport};
use crate::error::ConfigError;
use crate::event::Progress;
use crate::gather::can_reach;
use crate::node::Node;
use crate::relay::{Origin, Relay, Wanted, is_final, peers_of};
use crate::relay_pass::RelayPass;
use crate::relay_stream::{RelayStream, Trust, is_stream_flow, stream_flow};
use crate::timer::Timer;

/// Relays of one node. Configured ones beyond: a [`ConfigError`]. Those of public nodes beyond: not used, and
/// counted.
pub const TURN_SERVERS_MAX: usize = 4;

/// How long an allocation on a public node's relay is kept when no connection needs it any more: the next one may
/// begin soon, and an allocation that is there saves a round trip.
pub const RELAY_IDLE: Duration = Duration::from_secs(60);

/// Our clients of relays.
#[derive(Debug)]
pub(crate) struct Relays {
    pub(crate) clients: Vec<Relay>,
    rng: Rng,
    /// How many clients there have been.
    born: u64,
    /// Agents or connections have changed since permissions and channels were last looked at.
    stale: bool,
    /// The node has closed, and everything was given back.
    released: bool,
}

/// Why a pass is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PassError {
    /// Name, password or challenge are none.
    Unusable,
    /// There are [`TURN_SERVERS_MAX`] relays.
    TooMany,
}

impl Relays {
    /// Asks every configured relay that one of our sockets can reach. The others stay unused, as STUN
    /// servers do.
    pub(crate) fn new(now: Instant, rng: Rng, config: &Config) -> Result<Relays, ConfigError> {
        if config.turn_servers.len() > TURN_SERVERS_MAX {
            return Err(ConfigError::TooManyTurnServers(config.turn_servers.len()));
        }
        let mut relays = Relays { clients: Vec::new(), rng, born: 0, stale: false, released: false };
        for server in &config.turn_servers {
            let credentials = LongTerm::new(server.username.as_bytes(), server.password.as_bytes())
                .ok_or(ConfigError::TurnCredentials(server.address))?;
            let local = config.local_addresses.iter().find(|local| can_reach(**local, server.address));
            let stream = match &server.transport {
                TurnTransport::Udp => None,
                TurnTransport::Tcp => Some(RelayStream::new(server.address, None)),
                TurnTransport::Tls(tls) => {
                    let trust = Trust::new(tls).ok_or(ConfigError::TurnServerName(server.address))?;
                    Some(RelayStream::new(server.address, Some(trust)))
                }
            };
            let flow = match (&stream, local) {
                (Some(_), _) => stream_flow(server.address),
                (None, Some(local)) => FourTuple::new(*local, server.address),
                (None, None) => continue,
            };
            // A relay knows a client by its flow alone (RFC 8656 §3.2): a second name cannot be used on it.
            if config.paths == Paths::DirectOnly || relays.on_flow(flow).is_some() {
                continue;
            }
            let families = if server.address.is_ipv4() { Families::V4 } else { Families::V6 };
            let transport = if stream.is_some() { Transport::Stream } else { Transport::Datagram };
            let client = relays.new_client(flow, credentials, transport);
            let mut relay = Relay::new(client, Origin::Configured, families);
            if let Some(stream) = stream {
                relay = relay.over(stream);
            }
            relay.ask(now);
            relays.clients.push(relay);
        }
        Ok(relays)
    }

    fn new_client(&mut self, flow: FourTuple, credentials: LongTerm, transport: Transport) -> Client {
        let rng = self.rng.fork_nth("client", self.born);
        self.born += 1;
        Client::new(rng, flow, credentials, ClientConfig { transport, ..ClientConfig::default() })
    }

    /// Takes a pass that `from` gave us, to whom `flow` leads. `needed`: a connection waits for what comes of it.
    fn learn(
        &mut self,
        now: Instant,
        from: PeerId,
        flow: FourTuple,
        pass: &RelayPass,
        needed: bool,
    ) -> Result<(), PassError> {
        let credentials = pass.credentials().ok_or(PassError::Unusable)?;
        let challenge = pass.challenge();
        let known = self.clients.iter().position(|relay| relay.is_from(from));
        // A connection that sends through the relay on another flow keeps it.
        let known = known.filter(|at| {
            let relay = &self.clients[*at];
            relay.client.relay() == flow || relay.is_used()
        });
        let at = if let Some(at) = known {
            self.clients[at].client.renew(now, credentials, &challenge).map_err(|_| PassError::Unusable)?;
            at
        } else {
            self.clients.retain(|relay| !relay.is_from(from));
            if self.on_flow(flow).is_some() {
                return Ok(());
            }
            if self.clients.len() >= TURN_SERVERS_MAX {
                return Err(PassError::TooMany);
            }
            let mut client = self.new_client(flow, credentials.clone(), Transport::Datagram);
            client.renew(now, credentials, &challenge).map_err(|_| PassError::Unusable)?;
            let origin = Origin::Learnt { from, policy: pass.policy(), gone: false };
            self.clients.push(Relay::new(client, origin, pass.families(flow.remote)));
            self.clients.len() - 1
        };
        let relay = &mut self.clients[at];
        relay.hopeless = false;
        relay.origin = Origin::Learnt { from, policy: pass.policy(), gone: false };
        if needed {
            relay.ask_again(now);
        }
        self.mark_stale();
        Ok(())
    }

    /// The link to `peer` has ended; it may be back.
    pub(crate) fn on_link_lost(&mut self, peer: PeerId, may_return: bool) {
        for relay in &mut self.clients {
            if let Origin::Learnt { from, gone, .. } = &mut relay.origin
                && *from == peer
            {
                *gone = !may_return;
            }
        }
        self.mark_stale();
    }

    /// Asks relays that have nothing for us, where that can help: a connection starts.
    pub(crate) fn ask_again(&mut self, now: Instant) {
        if self.released {
            return;
        }
        for relay in &mut self.clients {
            relay.ask_again(now);
        }
        self.mark_stale();
    }

    /// Gives back what public nodes gave us: no connection needs it.
    pub(crate) fn release_idle(&mut self, now: Instant) {
        for relay in self.clients.iter_mut().filter(|relay| relay.is_learnt() && !relay.is_over()) {
            relay.release(now);
        }
    }

    /// Gives back what nothing uses at public nodes that are gone, and then forgets them.
    fn sweep(&mut self, now: Instant) {
        for relay in self.clients.iter_mut().filter(|relay| relay.is_gone() && !relay.is_used()) {
            relay.release(now);
        }
        self.clients.retain(|relay| !(relay.is_gone() && relay.is_over()));
    }

    /// Allocations that were reached from sockets that are gone are asked for anew from another one; a server
    /// knows a client by its flow alone (RFC 8656 §3.2). Returns the addresses that are lost with them.
    pub(crate) fn move_from(
        &mut self,
        now: Instant,
        gone: &[SocketAddr],
        locals: &[SocketAddr],
    ) -> Vec<SocketAddr> {
        let mut lost = Vec::new();
        for relay in &mut self.clients {
            let FourTuple { local, remote } = relay.client.relay();
            let ip = relay.stream.as_ref().and_then(|stream| stream.local());
            let left = |gone: &SocketAddr| gone.ip() == ip.unwrap_or(local.ip());
            let leaves = match ip {
                Some(ip) => gone.iter().any(left) && !locals.iter().any(|heir| heir.ip() == ip),
                None => gone.contains(&local),
            };
            if !leaves || self.released {
                continue;
            }
            lost.extend(relay.candidates().map(|candidate| candidate.address));
            if let Some(stream) = &mut relay.stream {
                relay.client.disconnected();
                stream.reopen(now, remote);
                continue;
            }
            if let Some(heir) = locals.iter().find(|heir| can_reach(**heir, remote)) {
                relay.client.reconnected(now, FourTuple::new(*heir, remote));
            }
        }
        lost
    }

    /// Whether a relay may still give us an address.
    pub(crate) fn is_pending(&self) -> bool {
        self.clients.iter().any(Relay::is_pending)
    }

    /// Allocations that exist, or are being asked for or given back.
    pub(crate) fn allocations(&self) -> usize {
        self.clients.iter().filter(|relay| !relay.is_over()).count()
    }

    pub(crate) fn counters(&self) -> impl Iterator<Item = &ClientCounters> {
        self.clients.iter().map(|relay| relay.client.counters())
    }

    /// Our addresses at relays.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = Candidate> {
        self.clients.iter().flat_map(Relay::candidates)
    }

    /// Those of them that peers are told: nothing new is to begin at a public node that is gone.
    pub(crate) fn offered(&self) -> impl Iterator<Item = Candidate> {
        self.clients.iter().filter(|relay| !relay.is_gone()).flat_map(Relay::candidates)
    }

    /// Agents or connections have changed: [`Node::tell_relays`] looks at what they need.
    pub(crate) fn mark_stale(&mut self) {
        self.stale = !self.clients.is_empty();
    }

    /// A loan of `out` that leaves room for a relay's headers, if a relay may be on the way.
    pub(crate) fn leave_room<'b>(&self, out: &'b mut Buf<'_>) -> Buf<'b> {
        if !self.clients.iter().any(|relay| relay.client.state().is_allocated()) {
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
        // What comes from a public node whose relay is not in use is the node's own.
        let takes = |relay: &&mut Relay| relay.stream.is_none() && !relay.is_over();
        let Some(relay) = self.on_flow(path).filter(takes) else {
            return Verdict::NotMine;
        };
        relay.client.handle_input(now, Input { path: Path::Direct(path), ecn, bytes })
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for relay in &mut self.clients {
            relay.client.handle_timeout(now);
            if let Some(stream) = &mut relay.stream {
                stream.handle_timeout(now);
            }
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<(FourTuple, ClientEvent)> {
        self.clients.iter_mut().find_map(|relay| {
            let event = relay.client.poll_event()?;
            match event {
                ClientEvent::Allocated(_) => {
                    relay.hopeless = false;
                    relay.stream.iter_mut().for_each(|stream| stream.on_of_use());
                }
                ClientEvent::Failed { cause } => {
                    relay.hopeless = is_final(cause);
                    // What does not serve us is not held on to.
                    relay.stream.iter_mut().for_each(|stream| stream.stop());
                }
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
        let mut datagrams = self.clients.iter_mut().filter(|relay| relay.stream.is_none());
        let transmit = datagrams.find_map(|relay| relay.client.poll_transmit(now, out))?;
        Some(Transmit { path: transmit.path.on_wire(), ecn: transmit.ecn, segment: transmit.segment })
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        Deadline::earliest(self.clients.iter().flat_map(|relay| {
            [relay.client.poll_timeout(), relay.stream.as_ref().and_then(|stream| stream.poll_timeout())]
        }))
    }

    /// Gives everything back; says whether there is anything to do that had not been done.
    pub(crate) fn release(&mut self, now: Instant) -> bool {
        if self.is_released() {
            return false;
        }
        self.released = true;
        for relay in &mut self.clients {
            relay.release(now);
        }
        true
    }

    /// Whether nothing is left to give back. The relays' answers are not awaited: an allocation whose
    /// release is lost ends by itself (RFC 8656 §3.2).
    pub(crate) fn is_released(&self) -> bool {
        self.released || self.clients.is_empty()
    }

    pub(crate) fn on_flow(&mut self, flow: FourTuple) -> Option<&mut Relay> {
        self.clients.iter_mut().find(|relay| relay.client.relay() == flow)
    }
}

impl Node {
    /// A public node relays for us.
    pub(crate) fn on_pass(&mut self, now: Instant, from: PeerId, pass: &RelayPass) {
        // Whoever reaches a public node needs no relay to do so.
        if self.config.paths == Paths::DirectOnly || self.config.public || self.closing.node {
            return;
        }
        let link = self.peers.get(&from).and_then(|entry| entry.open_link());
        let relays = |capabilities: Capabilities| capabilities.contains(Capabilities::RELAY);
        let link = link.filter(|link| link.hello().is_some_and(|hello| relays(hello.capabilities())));
        let path = link.and_then(|link| self.children.quic.path(link.connection));
        let Some(Path::Direct(flow)) = path else { return self.counters.refused_passes += 1 };
        let needed = !self.children.ice.is_empty();
        match self.children.relays.learn(now, from, flow, pass, needed) {
            Ok(()) => {}
            Err(PassError::Unusable) => self.counters.refused_passes += 1,
            Err(PassError::TooMany) => self.counters.relays_over_limit += 1,
        }
    }

    /// Tells relays whom to let through, if that may have changed, and how long they are needed.
    pub(crate) fn tell_relays(&mut self, now: Instant) {
        if !core::mem::take(&mut self.children.relays.stale) || self.children.relays.released {
            return;
        }
        let mut wanted = Wanted::default();
        // Those of agents, and those to public nodes that are reached no other way.
        for connection in self.connections.keys() {
            if let Some(Path::Relayed { relay, peer }) = self.children.quic.path(*connection) {
                wanted.channels.insert((relay, peer));
                wanted.peers.insert(peer.ip());
            }
        }
        for (_, ice) in self.children.ice.iter() {
            wanted.peers.extend(peers_of(&ice.agent));
        }
        let relays = &mut self.children.relays;
        let refused: u64 = relays.clients.iter_mut().map(|relay| relay.bring_in_line(now, &wanted)).sum();
        self.counters.relay_peers_over_limit += refused;
        relays.sweep(now);
        let holds = relays.clients.iter().any(|relay| relay.is_learnt() && !relay.is_over());
        if !holds || !self.children.ice.is_empty() {
            self.timers.clear(Timer::RelayIdle);
        } else if self.timers.at(Timer::RelayIdle).is_none() {
            self.timers.set(Timer::RelayIdle, now + RELAY_IDLE);
        }
    }

    /// Whether data to `peer` crosses a relay: one of ours, or one of the peer's.
    pub fn is_relayed(&self, peer: PeerId) -> bool {
        let Some(path) = self.path(peer) else { return false };
        let link = self.peers.get(&peer).and_then(|entry| entry.link.as_ref());
        let agent =
            link.and_then(|link| link.ice).and_then(|id| self.children.ice.get(id)).map(|ice| &ice.agent);
        let theirs = |candidate: &Candidate| {
            candidate.kind == CandidateKind::Relayed && candidate.address == path.peer_address()
        };
        !path.is_direct() || agent.is_some_and(|agent| agent.remote_candidates().any(theirs))
    }

    pub(crate) fn on_turn(&mut self, now: Instant, flow: FourTuple, event: ClientEvent) {
        let server = flow.remote;
        if let ClientEvent::Received { peer, mut datagram } = event {
            let input = Input::new(Path::Relayed { relay: flow, peer }, &mut datagram);
            // Counted there, if it is nobody's.
            let _ = self.demux_inner(now, input);
            return;
        }
        // What ended may be one that is gone.
        self.children.relays.mark_stale();
        match event {
            ClientEvent::Allocated(allocated) => {
                // What the relay saw of us is a server-reflexive candidate for free (RFC 8445 §5.1.1.2), if it
                // saw a datagram.
                let mapped = allocated.mapped;
                if !is_stream_flow(flow) && self.children.gathering.remember(now, flow, mapped) {
                    self.progress(self.peer_id(), Progress::Reflexive { local: flow.local, mapped });
                }
                for relayed in allocated.relayed_v4.into_iter().chain(allocated.relayed_v6) {
                    self.progress(self.peer_id(), Progress::Relay { server, relayed });
                }
                self.detour_all(now);
            }
            ClientEvent::Failed { cause } => {
                self.progress(self.peer_id(), Progress::RelayFailed { server, cause });
            }
            ClientEvent::Expired | ClientEvent::Released => {}
            ClientEvent::Redirected { server } => {
                // Over UDP the client is on its way already.
                if let Some(relay) = self.children.relays.on_flow(flow)
                    && let Some(stream) = &mut relay.stream
                {
                    stream.reopen(now, server);
                }
                return;
            }
            // Peers that a relay refuses are reached otherwise or not at all; ICE finds out.
            ClientEvent::PermissionInstalled { .. }
            | ClientEvent::PermissionRefused { .. }
            | ClientEvent::ChannelBound { .. }
            | ClientEvent::ChannelRefused { .. }
            | ClientEvent::Received { .. }
            | ClientEvent::PeerUnreachable { .. } => return,
        }
        self.drop_lost_relays(now);
        self.trickle_all(now);
    }
}
