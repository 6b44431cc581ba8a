use std::net::SocketAddr;
use std::time::Duration;

use gimlet_conformance::laws::{Side, Subject};
use gimlet_machine::{
    Answer, Buf, Counters as _, Deadline, Direction, FourTuple, Input, Instant, Machine, PeerId, Request,
    Rng, Session as _, Transmit, Verdict,
};
use gimlet_node::{Config, Event, Identity, Node, RelayConfig, Stream, TurnServer, TurnTransport};
use gimlet_sim::seeded_provider;
use gimlet_turn::ClientCounters;

/// A node, whom it knows, and the stream that its application holds. With a relay, B is public and relays, and A
/// is a peer that uses it; without one, both are public.
struct Host<const RELAY: bool> {
    node: Node,
    other: PeerId,
    stream: Option<Stream>,
}

impl<const RELAY: bool> Machine for Host<RELAY> {
    type Path = FourTuple;
    type Event = Event;

    fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        self.node.handle_input(now, input)
    }
    fn handle_timeout(&mut self, now: Instant) {
        self.node.handle_timeout(now);
    }
    fn poll_event(&mut self) -> Option<Event> {
        self.node.poll_event()
    }
    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        self.node.poll_transmit(now, out)
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        self.node.poll_timeout()
    }
    fn poll_request(&mut self) -> Option<Request> {
        self.node.poll_request()
    }
    fn handle_answer(&mut self, now: Instant, answer: Answer<'_>) {
        self.node.handle_answer(now, answer);
    }
}

/// The path numbers from here on lead to sockets that a relay asked for.
const RELAYED: u8 = 240;
/// The port of the first.
const RELAYED_PORT: u16 = 40_000;

fn identity(side: Side) -> Identity {
    Identity::from_secret([if side == Side::A { 1 } else { 2 }; 32])
}

impl<const RELAY: bool> Host<RELAY> {
    fn use_stream(&mut self, now: Instant, which: u16) -> Option<()> {
        let (node, peer, text) = (&mut self.node, self.other, vec![which as u8; usize::from(which)]);
        match which % 8 {
            0 => self.stream = node.open(now, peer, Direction::Bidirectional).ok()?,
            1 => self.stream = node.accept_stream(now, peer).ok()?,
            2 | 3 => drop(node.send(now, self.stream?, &text).ok()?),
            4 | 5 => drop(node.receive(now, self.stream?).ok()?),
            6 => node.finish(now, self.stream?).ok()?,
            _ => node.abandon(now, self.stream?, u32::from(which)),
        }
        Some(())
    }
}

impl<const RELAY: bool> Subject for Host<RELAY> {
    type Machine = Self;
    /// What QUIC keeps for some strangers in mid-handshake, what STUN holds, and events; and what waits in a
    /// relay for the driver, which is its larger limit.
    const HEAP_MAX: usize = if RELAY { 6 << 20 } else { 3 << 20 };

    fn build(seed: u64, side: Side) -> Self {
        let rng = Rng::from_u64(seed);
        let (origin, epoch) = (std::time::Instant::now(), Duration::from_secs(1_700_000_000));
        let addresses = vec![super::socket(side)];
        let provider = seeded_provider(rng.fork("tls"));
        let mut config =
            Config::new(identity(side), rng.fork("node").bytes(), addresses, origin, epoch, provider);
        config.public = !RELAY || side == Side::B;
        config.relay = (RELAY && side == Side::B).then(RelayConfig::default);
        // A stranger's address: what comes from there, noise for the most part, goes to TURN first.
        let server = TurnServer {
            address: super::flow(side, 3).remote,
            transport: TurnTransport::Udp,
            username: "alice".into(),
            password: "her password".into(),
        };
        config.turn_servers.extend(Some(server).filter(|_| !RELAY));
        let node = Node::new(Instant::ZERO, config).expect("the configuration is complete");
        Host { node, other: identity(side.other()).peer_id(), stream: None }
    }
    fn path(side: Side, n: u8) -> FourTuple {
        let flow = super::flow(side, n);
        // Where the laws' driver binds what a relay asks for.
        let port =
            if RELAY && n >= RELAYED { RELAYED_PORT + u16::from(n - RELAYED) } else { flow.local.port() };
        FourTuple::new(SocketAddr::new(flow.local.ip(), port), flow.remote)
    }
    fn arrives(_: Side, path: FourTuple) -> Option<FourTuple> {
        super::arrives(path)
    }
    fn introduce(now: Instant, a: &mut Self, b: &mut Self) {
        let ticket = b.node.ticket(&[super::socket(Side::B)], 1_700_003_600).expect("one address");
        a.node.add_ticket(now, &ticket).expect("a fresh ticket");
    }
    fn command(now: Instant, host: &mut Self, _: Side, which: u16) {
        let peer = host.other;
        match which % 16 {
            0 => drop(host.node.connect(now, peer)),
            1 => drop(host.node.accept(now)),
            2 => drop(host.node.send_datagram(now, peer, &vec![0; usize::from(which % 1_000)])),
            3 => drop(host.node.receive_datagram(now, peer)),
            4 if which > 50_000 => host.node.close(now, peer),
            5 if which > 60_000 => host.node.close_all(now),
            // Nobody is there, but a relay is asked for an address in case.
            6 if RELAY => drop(host.node.connect(now, PeerId([9; 32]))),
            _ => drop(host.use_stream(now, which / 16)),
        }
    }
    fn has_arrived(host: &Self) -> bool {
        host.node.is_connected(host.other) == Ok(true)
    }
    fn counted(host: &Self) -> u64 {
        let relays: u64 = host.node.relay_counters().map(ClientCounters::total).sum();
        let relay = host.node.relay().map_or(0, |relay| relay.counters.total());
        host.node.counters().total() + host.node.quic_counters().total() + relays + relay
    }
}

#[test]
fn the_node_keeps_the_laws() {
    super::assert_lawful::<Host<false>>();
}

#[test]
fn the_node_that_relays_and_its_client_keep_the_laws() {
    super::assert_lawful::<Host<true>>();
}
