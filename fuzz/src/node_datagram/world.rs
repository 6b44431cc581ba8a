//! The nodes, what lies between them, and what their applications know.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use gimlet_machine::{
    Buf, Bytes, Direction, FourTuple, Input, Instant, Machine, PeerId, Rng, Session, Verdict,
};
use gimlet_node::{Command, Config, Event, Identity, Node, Outcome, Paths, RelayConfig, Stream};
use gimlet_stun::REPLY_GROWTH_MAX;
use gimlet_testkit::Checked;

use super::outside::{self, Desk, Opened};

/// The most packets on the way; further ones are lost.
const FLYING_MAX: usize = 256;

/// The most deliveries in one peace: more is nodes answering each other for ever.
const DELIVERIES_MAX: usize = 50_000;

/// How long everybody may take to close: the limit of a close, and the longest probe timeout.
const CLOSE_TIME: Duration = Duration::from_secs(60);

/// An attempt is given up after this, so that no input is long in virtual time.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// A wall clock for every node, so that tickets can be judged.
const UNIX_TIME: Duration = Duration::from_secs(1_700_000_000);

/// quinn-proto wants a point on the standard clock to count from; nobody reads it.
static ORIGIN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

/// The bit of the set-up with which the public node relays.
pub(super) const RELAYS: u8 = 0x10;

/// The bit of the set-up with which the others use relayed paths only.
pub(super) const RELAYED_ONLY: u8 = 0x20;

/// The bit of the set-up with which the others know a relay over TCP.
pub(super) const STREAM_RELAY: u8 = 0x40;

#[derive(Clone)]
struct Flying {
    flow: FourTuple,
    bytes: Vec<u8>,
}

/// A node and what its application knows.
pub(super) struct Side {
    pub(super) node: Checked<Node>,
    pub(super) address: SocketAddr,
    /// What the driver has opened for it besides.
    pub(super) opened: Opened,
    /// Where its first socket was.
    pub(super) former: BTreeSet<SocketAddr>,
    id: PeerId,
    /// Streams with the number of the node at their other end.
    streams: Vec<(Stream, usize)>,
    /// The newest message read from each stream.
    newest: BTreeMap<Stream, u32>,
    closing: bool,
}

/// What a stranger's address sent and got.
#[derive(Default)]
struct Account {
    sent: usize,
    /// Made-up datagrams among what it sent.
    made_up: usize,
    /// Datagrams of one of our nodes that were shown as this stranger's.
    moved: usize,
    got: usize,
}

/// The most that a connection sends to an address that its packets seem to have moved to, beyond
/// three times what came from there. quinn-proto counts its budget before a datagram and not behind it,
/// pads its path challenge (RFC 9000 §8.2.1), and looks for the new path's MTU with up to twelve
/// probes without counting them. Bytes.
const MOVED_MAX: usize = (1 + 12) * 1_452;

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) sides: Vec<Side>,
    /// Requests that wait for an answer.
    pub(super) desk: Desk,
    /// Every address that a node has, or had.
    pub(super) known: BTreeSet<SocketAddr>,
    flying: VecDeque<Flying>,
    strangers: BTreeMap<SocketAddr, Account>,
    /// Every message sent and not received yet, by sender and receiver.
    sent: BTreeMap<(usize, usize), Vec<Vec<u8>>>,
    /// Numbers messages.
    count: u32,
    trace: DefaultHasher,
    tamper: fn(&mut Vec<u8>),
}

fn side(n: usize, setup: u8) -> Side {
    let address = SocketAddr::from(([198, 51, 100, n as u8 + 1], 4_433));
    let identity = Identity::from_secret([n as u8 + 1; 32]);
    let provider = gimlet_sim::seeded_provider(Rng::from_u64(n as u64));
    let mut config = Config::new(identity, [n as u8; 32], vec![address], *ORIGIN, UNIX_TIME, provider);
    config.public = n == 0;
    if n == 0 && setup & RELAYS != 0 {
        config.relay = Some(RelayConfig::default());
    }
    if n > 0 && setup & RELAYED_ONLY != 0 {
        config.paths = Paths::RelayedOnly;
    }
    if n > 0 && setup & STREAM_RELAY != 0 {
        config.turn_servers = vec![outside::stream_relay()];
    }
    config.limits.attempt_timeout = ATTEMPT_TIMEOUT;
    config.limits.message_max = 1 << 16;
    let node = Node::new(Instant::ZERO, config).expect("a sound configuration");
    let id = node.peer_id();
    Side {
        node: Checked::new(node),
        address,
        opened: Opened::default(),
        former: BTreeSet::new(),
        id,
        streams: Vec::new(),
        newest: BTreeMap::new(),
        closing: false,
    }
}

impl World {
    /// One to three nodes, the first one public. With bit 2 of `setup` the others know its ticket and
    /// are connected; with bit 3 the last two also have met each other. [`RELAYS`], [`RELAYED_ONLY`] and
    /// [`STREAM_RELAY`] are the next three.
    pub(super) fn new(setup: u8, tamper: fn(&mut Vec<u8>)) -> Self {
        let mut world = Self {
            now: Instant::ZERO,
            sides: (0..usize::from(setup & 3).clamp(1, 3)).map(|n| side(n, setup)).collect(),
            desk: Desk::default(),
            known: BTreeSet::new(),
            flying: VecDeque::new(),
            strangers: BTreeMap::new(),
            sent: BTreeMap::new(),
            count: 0,
            trace: DefaultHasher::new(),
            tamper,
        };
        world.known = world.sides.iter().map(|side| side.address).collect();
        let public = world.sides[0].address;
        let ticket = world.sides[0].node.inner().ticket(&[public], u64::MAX).expect("a sound ticket");
        for n in 1..world.len() {
            world.apply(n, Command::AddTicket(ticket.clone()));
        }
        if setup & 4 != 0 {
            world.peace(500);
            for n in 1..world.len() {
                let connected = world.sides[n].node.inner().is_connected(world.sides[0].id);
                assert_eq!(connected, Ok(true), "two nodes in peace connect");
            }
        }
        if setup & 8 != 0 && world.len() == 3 {
            world.connect(1, 2);
            world.peace(2_000);
            let met = world.sides[1].node.inner().is_connected(world.sides[2].id);
            // Who wants nothing but relayed paths needs a relay.
            let can = setup & RELAYED_ONLY == 0 || setup & RELAYS != 0;
            assert!(met == Ok(true) || !can, "two peers in peace meet: {met:?}");
        }
        world
    }

    pub(super) fn len(&self) -> usize {
        self.sides.len()
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    // Time and network.

    pub(super) fn wait(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while self.fire_next(until) {}
        self.now = until;
    }

    /// Time passes, and everything sent arrives at once.
    pub(super) fn peace(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        let mut deliveries = 0;
        loop {
            while self.answer(true) {}
            while !self.flying.is_empty() {
                self.deliver(false);
                deliveries += 1;
                assert!(deliveries < DELIVERIES_MAX, "the nodes answer each other for ever");
            }
            if !self.fire_next(until) {
                break;
            }
        }
        self.now = until;
    }

    fn fire_next(&mut self, until: Instant) -> bool {
        let due = |side: &Side| side.node.poll_timeout().map(|deadline| deadline.at);
        let Some(at) = self.sides.iter().filter_map(due).min().filter(|at| *at <= until) else {
            return false;
        };
        self.now = self.now.max(at);
        for n in 0..self.len() {
            if due(&self.sides[n]).is_some_and(|at| at <= self.now) {
                self.timeout(n);
            }
        }
        true
    }

    pub(super) fn timeout(&mut self, n: usize) {
        self.sides[n].node.handle_timeout(self.now);
        self.drain(n);
    }

    /// The packet in front arrives; `translated` shows it as a stranger's.
    pub(super) fn deliver(&mut self, translated: bool) {
        let Some(Flying { flow, bytes }) = self.flying.pop_front() else { return };
        let Some(n) = self.sides.iter().position(|side| side.owns(flow.remote)) else { return };
        let source = if translated { stranger(n) } else { flow.local };
        if translated {
            self.strangers.entry(source).or_default().moved += 1;
        }
        self.arrive(n, FourTuple::new(flow.remote, source), bytes);
    }

    pub(super) fn lose(&mut self) {
        self.flying.pop_front();
    }

    pub(super) fn double(&mut self) {
        if let Some(packet) = self.flying.front().cloned() {
            self.fly(packet);
        }
    }

    pub(super) fn damage(&mut self, at: usize, how: u8) {
        if let Some(packet) = self.flying.front_mut() {
            let at = at % packet.bytes.len();
            packet.bytes[at] ^= how | 1;
        }
    }

    /// A made-up datagram: from another node's address, or a stranger's.
    pub(super) fn hear(&mut self, n: usize, from: usize, bytes: Vec<u8>) {
        let source =
            self.sides.get(from).filter(|_| from != n).map_or_else(|| stranger(from), |side| side.address);
        if source == stranger(from) {
            self.strangers.entry(source).or_default().made_up += 1;
        }
        self.arrive(n, FourTuple::new(self.sides[n].address, source), bytes);
    }

    fn arrive(&mut self, n: usize, flow: FourTuple, mut bytes: Vec<u8>) {
        if let Some(account) = self.strangers.get_mut(&flow.remote) {
            account.sent += bytes.len();
        }
        let verdict = self.sides[n].node.handle_input(self.now, Input::new(flow, &mut bytes));
        if let Verdict::Pass { path, range } = verdict {
            assert!(n == 0, "only the public node relays");
            self.on_transmit(n, path, &bytes[range]);
        }
        self.drain(n);
    }

    fn fly(&mut self, packet: Flying) {
        if self.flying.len() < FLYING_MAX {
            self.flying.push_back(packet);
        }
    }

    pub(super) fn drain(&mut self, n: usize) {
        let mut storage = Vec::new();
        loop {
            let mut quiet = true;
            while let Some(event) = self.sides[n].node.poll_event() {
                self.on_event(n, &event);
                quiet = false;
            }
            while let Some(request) = self.sides[n].node.poll_request() {
                format!("{n} {request:?}").hash(&mut self.trace);
                self.on_request(n, request);
                quiet = false;
            }
            while let Some(transmit) = self.sides[n].node.poll_transmit(self.now, &mut Buf::new(&mut storage))
            {
                self.on_transmit(n, transmit.path, &storage);
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }

    fn on_event(&mut self, n: usize, event: &Event) {
        format!("{n} {event:?}").hash(&mut self.trace);
        if let Event::Connected { peer, .. } | Event::Incoming { peer } = event {
            let known = self.sides.iter().any(|side| side.id == *peer) && *peer != self.sides[n].id;
            assert!(known, "{peer} is connected, and nobody here has its key");
        }
    }

    fn on_transmit(&mut self, n: usize, flow: FourTuple, bytes: &[u8]) {
        (n, self.now, flow, bytes).hash(&mut self.trace);
        assert!(!bytes.is_empty());
        if !self.sides[n].owns(flow.local) {
            // Who dialed us stays where they found us (RFC 9000 §9), and a driver loses what leaves from there.
            assert!(
                self.sides[n].former.contains(&flow.local),
                "{flow}: sent from a socket that was not open"
            );
            return;
        }
        if let Some(account) = self.strangers.get_mut(&flow.remote) {
            // RFC 9000 §8.1 for QUIC; the STUN server has a limit of its own.
            account.got += bytes.len();
            let allowed = 3 * account.sent + REPLY_GROWTH_MAX * account.made_up + MOVED_MAX * account.moved;
            assert!(account.got <= allowed, "{} bytes to a stranger who sent {}", account.got, account.sent);
        } else {
            assert!(self.known.contains(&flow.remote), "{flow}: who is that?");
        }
        self.fly(Flying { flow, bytes: bytes.to_vec() });
    }

    // Applications. A verb that fails changes nothing here; what matters is asserted where data comes in.

    pub(super) fn apply(&mut self, n: usize, command: Command) -> Option<Outcome> {
        let now = self.now;
        let result = self.sides[n].node.command(now, |node| node.apply(now, command));
        self.drain(n);
        if let Err(error) = &result {
            assert!(!error.to_string().is_empty(), "{error:?} says nothing");
        }
        result.ok()
    }

    fn peer(&self, n: usize) -> PeerId {
        self.sides.get(n).map_or(PeerId([n as u8; 32]), |side| side.id)
    }

    pub(super) fn connect(&mut self, n: usize, to: usize) {
        self.apply(n, Command::Connect(self.peer(to)));
    }

    /// Takes a waiting peer, and a waiting stream of node `from`.
    pub(super) fn accept(&mut self, n: usize, from: usize) {
        self.apply(n, Command::Accept);
        if let Some(Outcome::Stream(stream)) = self.apply(n, Command::AcceptStream(self.peer(from))) {
            self.sides[n].streams.push((stream, from));
        }
    }

    pub(super) fn open(&mut self, n: usize, to: usize, both_ways: bool) {
        let direction = if both_ways { Direction::Bidirectional } else { Direction::Unidirectional };
        if let Some(Outcome::Stream(stream)) = self.apply(n, Command::Open(self.peer(to), direction)) {
            self.sides[n].streams.push((stream, to));
        }
    }

    fn stream(&self, n: usize, which: usize) -> Option<(Stream, usize)> {
        let streams = &self.sides[n].streams;
        streams.get(which % streams.len().max(1)).copied()
    }

    /// A message with a number of its own, padded to `length`.
    fn compose(&mut self, length: usize) -> Vec<u8> {
        self.count += 1;
        let mut message = self.count.to_be_bytes().to_vec();
        message.resize(length.max(4), self.count as u8);
        message
    }

    pub(super) fn send(&mut self, n: usize, which: usize, length: usize) {
        let Some((stream, to)) = self.stream(n, which) else { return };
        let message = self.compose(length);
        if self.apply(n, Command::Send(stream, Bytes::from(message.clone()))) == Some(Outcome::Done) {
            self.sent.entry((n, to)).or_default().push(message);
        }
    }

    pub(super) fn receive(&mut self, n: usize, which: usize) {
        let Some((stream, from)) = self.stream(n, which) else { return };
        if let Some(Outcome::Data(message)) = self.apply(n, Command::Receive(stream)) {
            let number = self.on_message(from, n, &message);
            let before = self.sides[n].newest.insert(stream, number);
            assert!(before < Some(number), "message {number} after {before:?}");
        }
    }

    /// Sends a datagram, and takes one.
    pub(super) fn datagram(&mut self, n: usize, to: usize, length: usize) {
        let message = self.compose(length);
        let command = Command::SendDatagram(self.peer(to), Bytes::from(message.clone()));
        if self.apply(n, command) == Some(Outcome::Done) {
            self.sent.entry((n, to)).or_default().push(message);
        }
        if let Some(Outcome::Data(message)) = self.apply(n, Command::ReceiveDatagram(self.peer(to))) {
            self.on_message(to, n, &message);
        }
    }

    /// Somebody's data reached an application: it was sent there, and not received before.
    fn on_message(&mut self, from: usize, n: usize, message: &[u8]) -> u32 {
        let mut message = message.to_vec();
        (self.tamper)(&mut message);
        let sent = self.sent.entry((from, n)).or_default();
        let at = sent.iter().position(|sent| *sent == message);
        let message = sent.remove(at.expect("a message that nobody sent, or the same one twice"));
        message.first_chunk().copied().map_or(0, u32::from_be_bytes)
    }

    pub(super) fn finish(&mut self, n: usize, which: usize) {
        if let Some((stream, _)) = self.stream(n, which) {
            self.apply(n, Command::Finish(stream));
        }
    }

    pub(super) fn abandon(&mut self, n: usize, which: usize) {
        if let Some((stream, _)) = self.stream(n, which) {
            self.apply(n, Command::Abandon(stream, which as u32));
        }
    }

    pub(super) fn close(&mut self, n: usize, to: usize) {
        self.apply(n, Command::Close(self.peer(to)));
    }

    pub(super) fn close_all(&mut self, n: usize) {
        self.sides[n].closing = true;
        self.apply(n, Command::CloseAll);
    }

    /// Everybody closes, on a perfect network: nobody is left open.
    pub(super) fn close_everything(&mut self) {
        for n in 0..self.len() {
            if !self.sides[n].closing {
                self.close_all(n);
            }
        }
        self.peace(CLOSE_TIME.as_millis() as u64);
        for side in &self.sides {
            assert!(side.node.inner().is_closed(), "left open, {:?}", side.node.poll_timeout());
        }
    }
}

/// An address that is no node's.
fn stranger(n: usize) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, n as u8], 7_000))
}
