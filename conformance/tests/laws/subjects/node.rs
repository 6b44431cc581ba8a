use std::time::Duration;

use gimlet_conformance::laws::{Side, Subject};
use gimlet_machine::{
    Buf, Counters as _, Deadline, Direction, FourTuple, Input, Instant, Machine, PeerId, Rng, Session as _,
    Transmit, Verdict,
};
use gimlet_node::{Config, Event, Identity, Node, Stream, TurnServer};
use gimlet_sim::seeded_provider;
use gimlet_turn::ClientCounters;

/// A public node, whom it knows, and the stream that its application holds.
struct Host {
    node: Node,
    other: PeerId,
    stream: Option<Stream>,
}

impl Machine for Host {
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
}

fn identity(side: Side) -> Identity {
    Identity::from_secret([if side == Side::A { 1 } else { 2 }; 32])
}

impl Host {
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

impl Subject for Host {
    type Machine = Self;
    /// What QUIC keeps for some strangers in mid-handshake, what STUN holds, and events.
    const HEAP_MAX: usize = 3 << 20;

    fn build(seed: u64, side: Side) -> Self {
        let rng = Rng::from_u64(seed);
        let (origin, epoch) = (std::time::Instant::now(), Duration::from_secs(1_700_000_000));
        let addresses = vec![super::socket(side)];
        let provider = seeded_provider(rng.fork("tls"));
        let mut config =
            Config::new(identity(side), rng.fork("node").bytes(), addresses, origin, epoch, provider);
        config.public = true;
        // A stranger's address: what comes from there, noise for the most part, goes to TURN first.
        config.turn_servers = vec![TurnServer {
            address: super::flow(side, 3).remote,
            username: "alice".into(),
            password: "her password".into(),
        }];
        let node = Node::new(Instant::ZERO, config).expect("the configuration is complete");
        Host { node, other: identity(side.other()).peer_id(), stream: None }
    }
    fn path(side: Side, n: u8) -> FourTuple {
        super::flow(side, n)
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
            _ => drop(host.use_stream(now, which / 16)),
        }
    }
    fn has_arrived(host: &Self) -> bool {
        host.node.is_connected(host.other) == Ok(true)
    }
    fn counted(host: &Self) -> u64 {
        let relays: u64 = host.node.relay_counters().map(ClientCounters::total).sum();
        host.node.counters().total() + host.node.quic_counters().total() + relays
    }
}

#[test]
fn the_node_keeps_the_laws() {
    super::assert_lawful::<Host>();
}
