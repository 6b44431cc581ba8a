//! The node: children on one set of sockets, and the verbs of its owner.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::SocketAddr;

use gimlet_handshake::{Capabilities, Hello, Role};
use gimlet_ice::{Agent, PairReport};
use gimlet_machine::FourTuple;
use gimlet_machine::{
    Answer, Arena, Buf, Deadline, Input, Instant, Machine, Path, PeerId, Queue, Request, Rng, Timers,
    Transmit, Verdict,
};
use gimlet_quic::{ConnectionId, Endpoint};
use gimlet_stun::{Client, Server};

use crate::config::Config;
use crate::embedded::Embedded;
use crate::error::{ConfigError, NodeCounters};
use crate::event::{Event, Progress};
use crate::gather::Gathering;
use crate::nat::Nat;
use crate::peer::{Ice, Peer};
use crate::relay_stream::is_stream_flow;
use crate::relays::Relays;
use crate::requests::{Owner, Requests};
use crate::sequence::Sequences;
use crate::stream_relays::Held;
use crate::streams::Streams;
use crate::ticket::{Ticket, TicketError};
use crate::timer::Timer;

/// Events waiting for the owner. A driver drains after every input, and one input makes only a few;
/// beyond, progress is dropped and counted.
pub const EVENTS_MAX: usize = 4_096;

/// State events waiting for the owner. When all peers are lost at once, each with all its streams,
/// that many are told: 1,024 peers with 511 streams that wake a reader and a writer. Beyond, events
/// are dropped and counted.
pub const STATE_EVENTS_MAX: usize = 1 << 20;

/// Peers that connected and that nobody has accepted; beyond, the oldest loses its place in the
/// queue (its connection stays).
pub const ACCEPT_QUEUE_MAX: usize = 1_024;

/// The machine that an application drives. See the crate's documentation.
#[derive(Debug)]
pub struct Node {
    pub(crate) config: Config,
    /// What we say to every peer first.
    pub(crate) hello: Hello,
    pub(crate) rng: Rng,
    pub(crate) children: Children,
    pub(crate) peers: BTreeMap<PeerId, Peer>,
    /// Whose a QUIC connection is, attempts included.
    pub(crate) connections: BTreeMap<ConnectionId, PeerId>,
    pub(crate) streams: Streams,
    pub(crate) sequences: Sequences,
    pub(crate) timers: Timers<Timer>,
    pub(crate) out: Outbox,
    pub(crate) counters: NodeCounters,
    pub(crate) closing: Closing,
}

/// What is on its way out.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    /// The application has closed the node; nothing new starts.
    pub(crate) node: bool,
    /// Peers whose links await delivery.
    pub(crate) links: BTreeSet<PeerId>,
}

/// The machines inside.
#[derive(Debug)]
pub(crate) struct Children {
    pub(crate) quic: Endpoint,
    pub(crate) stun: Client,
    pub(crate) server: Server,
    pub(crate) ice: Arena<Ice>,
    pub(crate) gathering: Gathering,
    pub(crate) relays: Relays,
    pub(crate) nat: Nat,
    /// The relay that we are, if we are one.
    pub(crate) embedded: Option<Embedded>,
}

/// What waits for the owner.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) events: Queue<Event>,
    pub(crate) accepted: Queue<PeerId>,
    pub(crate) requests: Requests,
    /// A datagram that turned up while streams were filled.
    pub(crate) held: Option<Held>,
}

impl Node {
    /// A node that speaks from `config.local_addresses`. It is quiet until told to do something,
    /// except for asking `config.stun_servers` who we are and `config.turn_servers` for addresses.
    pub fn new(now: Instant, config: Config) -> Result<Node, ConfigError> {
        if config.local_addresses.is_empty() {
            return Err(ConfigError::NoLocalAddress);
        }
        let rng = Rng::from_seed(config.seed);
        let mut quic = Endpoint::new(rng.fork("quic"), quic_config(&config))
            .map_err(|error| ConfigError::Quic(error.to_string()))?;
        quic.listen(config.public);
        let children = Children {
            quic,
            stun: Client::new(rng.fork("stun"), gimlet_stun::ClientConfig::default()),
            server: Server::new(gimlet_stun::ServerConfig::default()),
            ice: Arena::new(),
            gathering: Gathering::new(),
            nat: Nat::new(),
            relays: Relays::new(now, rng.fork("turn"), &config)?,
            embedded: Embedded::new(&rng, &config)?,
        };
        let mut node = Node {
            hello: hello(&config)?,
            rng: rng.fork("node"),
            children,
            peers: BTreeMap::new(),
            connections: BTreeMap::new(),
            streams: Streams::new(),
            sequences: Sequences::new(),
            timers: Timers::new(),
            out: Outbox {
                events: Queue::new(STATE_EVENTS_MAX),
                accepted: Queue::new(ACCEPT_QUEUE_MAX),
                requests: Requests::new(),
                held: None,
            },
            counters: NodeCounters::default(),
            closing: Closing::default(),
            config,
        };
        node.gather_from_configured(now);
        node.settle(now);
        Ok(node)
    }

    /// Our own name.
    pub fn peer_id(&self) -> PeerId {
        self.config.identity.peer_id()
    }

    /// A ticket for this node at `addresses`, good until `expires` (seconds since the Unix epoch).
    pub fn ticket(&self, addresses: &[SocketAddr], expires: u64) -> Result<Ticket, TicketError> {
        Ticket::issue(&self.config.identity, addresses, expires)
    }

    /// The wall clock at `now`: seconds since the Unix epoch, as the driver set it.
    pub fn unix_seconds(&self, now: Instant) -> u64 {
        (self.config.outside.unix_time_at_origin + now.since(Instant::ZERO)).as_secs()
    }

    /// The path that data to `peer` takes.
    pub fn path(&self, peer: PeerId) -> Option<Path> {
        self.children.quic.path(self.peers.get(&peer)?.link.as_ref()?.connection)
    }

    /// The smoothed round-trip time to `peer`.
    pub fn rtt(&self, peer: PeerId) -> Option<core::time::Duration> {
        self.children.quic.rtt(self.peers.get(&peer)?.link.as_ref()?.connection)
    }

    /// What the peer called itself in its hello.
    pub fn agent(&self, peer: PeerId) -> Option<&str> {
        Some(self.peers.get(&peer)?.link.as_ref()?.hello()?.agent())
    }

    /// Peers that are connected, in the order of their ids.
    pub fn connected_peers(&self) -> impl Iterator<Item = PeerId> {
        self.peers.iter().filter(|(_, peer)| peer.open_link().is_some()).map(|(id, _)| *id)
    }

    /// Every candidate pair that is being tried towards `peer`, or was tried last: why it is direct,
    /// or not.
    pub fn pairs(&self, peer: PeerId) -> impl Iterator<Item = PairReport<'_>> {
        let living = self.children.ice.iter().filter(move |(_, ice)| ice.peer == peer);
        let last = self.peers.get(&peer).and_then(|entry| entry.last_agent.as_deref());
        living.map(|(_, ice)| &ice.agent).chain(last).flat_map(Agent::pairs)
    }

    /// Our addresses as STUN servers saw them: socket, server, mapped address.
    pub fn reflexive_addresses(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr, SocketAddr)> {
        self.children.gathering.mapped()
    }

    /// What was dropped or refused.
    pub fn counters(&self) -> &NodeCounters {
        &self.counters
    }

    /// What the QUIC room dropped or refused.
    pub fn quic_counters(&self) -> &gimlet_quic::EndpointCounters {
        self.children.quic.counters()
    }

    /// What the clients of relays did not use, one set of counters for each relay.
    pub fn relay_counters(&self) -> impl Iterator<Item = &gimlet_turn::ClientCounters> {
        self.children.relays.counters()
    }

    pub(crate) fn tell(&mut self, event: Event) {
        let crowded = self.out.events.len() >= EVENTS_MAX;
        if crowded && matches!(event, Event::Progress { .. }) {
            self.counters.progress_dropped += 1;
            return;
        }
        // Session verbs find the state even without the event.
        if self.out.events.push(event).is_err() {
            self.counters.events_dropped += 1;
        }
    }

    pub(crate) fn progress(&mut self, peer: PeerId, step: Progress) {
        self.tell(Event::Progress { peer, step });
    }
}

fn hello(config: &Config) -> Result<Hello, ConfigError> {
    let peer = Capabilities::DATAGRAMS | Capabilities::INTRODUCTION;
    let (role, capabilities) = if config.public {
        let relay = if config.relay.is_some() { Capabilities::RELAY } else { Capabilities::NONE };
        (Role::Public, peer | Capabilities::INTRODUCER | Capabilities::STUN | relay)
    } else {
        (Role::Peer, peer)
    };
    Hello::new(role, capabilities, &config.agent).map_err(|error| ConfigError::Agent(error.to_string()))
}

fn quic_config(config: &Config) -> gimlet_quic::Config {
    let mut quic = gimlet_quic::Config::new(
        config.outside.origin,
        config.outside.unix_time_at_origin,
        config.outside.provider.clone(),
        config.identity.secret(),
    );
    // Room for a successor beside each connection: a peer that was restarted replaces its old one, and
    // the old one drains for a while. Peers beyond the limit are refused when they are known.
    quic.limits.connections_max = config.limits.peers_max.saturating_mul(2);
    quic
}

impl Machine for Node {
    type Path = FourTuple;
    type Event = Event;

    fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        let verdict = self.demux(now, input);
        if verdict == Verdict::Consumed {
            self.settle(now);
        }
        verdict
    }

    fn handle_timeout(&mut self, now: Instant) {
        let Children { quic, stun, server, ice, relays, embedded, .. } = &mut self.children;
        relays.handle_timeout(now);
        if let Some(embedded) = embedded {
            embedded.handle_timeout(now);
        }
        quic.handle_timeout(now);
        stun.handle_timeout(now);
        server.handle_timeout(now);
        for (_, ice) in ice.iter_mut() {
            ice.agent.handle_timeout(now);
        }
        while let Some(timer) = self.timers.pop(now) {
            self.on_timer(now, timer);
        }
        self.settle(now);
    }

    fn poll_event(&mut self) -> Option<Event> {
        let now = self.streams.touched;
        if self.out.events.is_empty() && self.streams.is_dirty() {
            // Commands since the last drain share one flush. What it tells must be told before the
            // owner moves on to datagrams.
            self.flush(now);
            self.settle(now);
        }
        while self.out.events.is_empty() && self.settle_written(now) {}
        self.out.events.pop()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        loop {
            let transmit = self.write_next(now, out);
            // What comes of writing may be another datagram: a path that is silent is asked.
            if transmit.is_some() || !self.settle_written(now) {
                return transmit;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let Children { quic, stun, server, ice, relays, embedded, .. } = &self.children;
        let own = [quic.poll_timeout(), stun.poll_timeout(), server.poll_timeout(), self.timers.deadline()];
        let turn = [relays.poll_timeout(), embedded.as_ref().and_then(Embedded::poll_timeout)];
        let turn = turn.into_iter().chain([relays.poll_write_timeout(self.streams.touched)]);
        let agents = ice.iter().map(|(_, ice)| ice.agent.poll_timeout());
        Deadline::earliest(own.into_iter().chain(turn).chain(agents))
    }

    fn poll_request(&mut self) -> Option<Request> {
        // What is written goes ahead of the end of its connection.
        self.fill_streams();
        self.children.relays.poll_write().or_else(|| self.out.requests.poll())
    }

    fn handle_answer(&mut self, now: Instant, answer: Answer<'_>) {
        let id = answer.id();
        // Nobody's: we have closed it meanwhile, and the driver hears so next.
        let Some(owner) = self.out.requests.owner(id) else { return };
        if matches!(answer, Answer::Closed { .. }) {
            self.out.requests.forget(id);
        }
        match owner {
            Owner::Relay(relay) => self.on_relay_answer(now, relay, &answer),
            Owner::Witness => self.on_witness_answer(now, &answer),
            Owner::Sample => self.on_sample_answer(now, &answer),
            Owner::Punch(id) => self.on_punch_answer(now, id, &answer),
            Owner::RelayStream => self.on_stream_answer(now, &answer),
        }
        self.settle(now);
    }
}

impl Node {
    fn write_next(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        if let Some(transmit) = self.children.server.poll_transmit(now, out) {
            return Some(transmit);
        }
        if let Some(embedded) = &mut self.children.embedded
            && let Some(transmit) = embedded.poll_transmit(now, out)
        {
            return Some(transmit);
        }
        // Before what is to be wrapped: the permission leaves ahead of the data that needs it.
        if let Some(transmit) = self.children.relays.poll_transmit(now, out) {
            return Some(transmit);
        }
        if let Some(transmit) = self.out.take_held(out) {
            return Some(transmit);
        }
        while let Some(transmit) = self.poll_ice(now, out) {
            if let Some(transmit) = self.put_on_wire(now, transmit, out) {
                return Some(transmit);
            }
        }
        if let Some(transmit) = self.children.stun.poll_transmit(now, out) {
            return Some(transmit);
        }
        self.streams.touched = now;
        while let Some(transmit) = self.poll_quic(now, out) {
            if let Some(transmit) = self.put_on_wire(now, transmit, out) {
                return Some(transmit);
            }
        }
        if self.let_relays_go(now) {
            return self.children.relays.poll_transmit(now, out);
        }
        None
    }

    /// Acts on what writing a datagram brought about: it made room, ended something, or broke a silence of the
    /// peer's. Says whether there was anything.
    pub(crate) fn settle_written(&mut self, now: Instant) -> bool {
        let Some(event) = self.children.quic.poll_event() else { return false };
        self.on_quic(now, event);
        self.flush(now);
        self.settle(now);
        true
    }

    pub(crate) fn poll_ice(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Path>> {
        let Children { ice, relays, .. } = &mut self.children;
        ice.iter_mut().find_map(|(_, ice)| ice.agent.poll_transmit(now, &mut relays.leave_room(out)))
    }

    pub(crate) fn poll_quic(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Path>> {
        let Children { quic, relays, .. } = &mut self.children;
        quic.poll_transmit(now, &mut relays.leave_room(out))
    }

    /// What was written for a path becomes what leaves on our socket. `None`: it cannot leave, and `out` is
    /// empty again.
    pub(crate) fn put_on_wire(
        &mut self,
        now: Instant,
        transmit: Transmit<Path>,
        out: &mut Buf<'_>,
    ) -> Option<Transmit<FourTuple>> {
        let wrapped = if transmit.path.is_direct() {
            Some(transmit)
        } else {
            self.children.relays.wrap(now, transmit, out)
        };
        let Some(Transmit { path, ecn, segment }) = wrapped else {
            self.counters.relay_unsent += 1;
            out.truncate(0);
            return None;
        };
        let path = path.on_wire();
        if is_stream_flow(path) {
            let written = self.children.relays.write_datagrams(path, out.as_slice());
            self.counters.relay_backlog_dropped += u64::from(!written);
            out.truncate(0);
            return None;
        }
        Some(Transmit { path, ecn, segment })
    }

    /// Gives up what relays hold for us, once everybody has been told goodbye; whether that was news.
    pub(crate) fn let_relays_go(&mut self, now: Instant) -> bool {
        let news = self.has_said_goodbye() && self.children.relays.release(now);
        if news {
            self.settle(now);
        }
        news
    }

    /// Whether the node is closing and has nobody left to talk to.
    pub(crate) fn has_said_goodbye(&self) -> bool {
        self.closing.node
            && self.peers.values().all(|peer: &Peer| peer.link.is_none() && peer.attempt.is_none())
    }
}
