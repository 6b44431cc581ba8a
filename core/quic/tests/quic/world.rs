//! Some endpoints, wires between them, and a clock that jumps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gimlet_machine::{
    Buf, Bytes, Direction, Ecn, FourTuple, Input, Instant, Machine, Path, PeerId, Rng, Verdict,
};
use gimlet_quic::{Config, ConnectionId, Endpoint, Event, PathMtu, StreamId};
use gimlet_testkit::Checked;

/// A datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Packet {
    pub(crate) at: Instant,
    pub(crate) number: u64,
    /// The receiver's name of the path.
    pub(crate) path: Path,
    pub(crate) ecn: Ecn,
    pub(crate) bytes: Vec<u8>,
}

/// How the wires treat packets. All zero: perfectly.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wire {
    pub(crate) loss_per_million: u32,
    pub(crate) duplicate_per_million: u32,
    pub(crate) jitter: Duration,
    /// Marks packets that may be marked (RFC 3168 §5).
    pub(crate) congested: bool,
    /// Larger packets vanish; 0: none do.
    pub(crate) mtu: usize,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Checked<Endpoint>>,
    pub(crate) events: Vec<Vec<Event>>,
    pub(crate) wire: Wire,
    pub(crate) delay: Duration,
    /// Who owns which address.
    pub(crate) owners: BTreeMap<SocketAddr, usize>,
    /// Where a NAT shows whom: inside address to outside address.
    pub(crate) nat: BTreeMap<SocketAddr, SocketAddr>,
    /// How many datagrams the longest train had.
    pub(crate) longest_train: usize,
    /// Everything that was sent, with the sender's name of the path.
    pub(crate) log: Vec<(Path, Vec<u8>)>,
    rng: Rng,
    flying: BinaryHeap<Reverse<Packet>>,
    storage: Vec<u8>,
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(crate) fn path(local: &str, peer: &str) -> Path {
    Path::Direct(FourTuple::new(addr(local), addr(peer)))
}

#[expect(clippy::disallowed_methods, reason = "an origin from which only differences are computed")]
pub(crate) fn config(node: u8) -> Config {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let origin = std::time::Instant::now();
    Config::new(origin, Duration::from_secs(1_700_000_000), provider, [node + 1; 32])
}

pub(crate) fn endpoint(seed: u64, config: Config) -> Checked<Endpoint> {
    Checked::new(Endpoint::new(Rng::from_u64(seed), config).expect("a good configuration"))
}

pub(crate) const A: &str = "10.0.0.1:1000";
pub(crate) const B: &str = "10.0.0.2:2000";
/// A second address of B.
pub(crate) const B2: &str = "10.0.0.2:2222";
pub(crate) const C: &str = "10.0.0.3:3000";

impl World {
    /// A, B and C at their addresses, 10 ms apart.
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    pub(crate) fn with(seed: u64, tweak: impl Fn(&mut Config)) -> Self {
        let nodes = (0..3).map(|node| {
            let mut config = config(node);
            tweak(&mut config);
            endpoint(seed * 10 + u64::from(node), config)
        });
        Self {
            now: Instant::ZERO,
            nodes: nodes.collect(),
            events: vec![Vec::new(); 3],
            wire: Wire::default(),
            delay: Duration::from_millis(10),
            owners: [(addr(A), 0), (addr(B), 1), (addr(B2), 1), (addr(C), 2)].into(),
            nat: BTreeMap::new(),
            longest_train: 0,
            log: Vec::new(),
            rng: Rng::from_u64(seed).fork("wire"),
            flying: BinaryHeap::new(),
            storage: Vec::new(),
        }
    }

    pub(crate) fn peer(&self, node: usize) -> PeerId {
        self.nodes[node].inner().peer_id()
    }

    /// Runs a command on a node, at this moment.
    pub(crate) fn on<R>(&mut self, node: usize, run: impl FnOnce(&mut Endpoint, Instant) -> R) -> R {
        let now = self.now;
        self.nodes[node].command(now, |endpoint| run(endpoint, now))
    }

    /// Hands bytes to a node, as if from the network.
    pub(crate) fn inject(&mut self, node: usize, path: Path, bytes: &[u8]) -> Verdict<Path> {
        self.nodes[node].handle_input(self.now, Input::new(path, &mut bytes.to_vec()))
    }

    /// Drains everybody, then jumps to the next moment at which something happens. False if nothing
    /// ever will, or not before `until`.
    pub(crate) fn step(&mut self, until: Instant) -> bool {
        self.drain();
        let packet = self.flying.peek().map(|Reverse(packet)| packet.at);
        let timers = self.nodes.iter().filter_map(Machine::poll_timeout).map(|deadline| deadline.at);
        let Some(next) = timers.chain(packet).min().filter(|next| *next <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        while self.flying.peek().is_some_and(|Reverse(packet)| packet.at <= self.now) {
            let Some(Reverse(packet)) = self.flying.pop() else { break };
            self.deliver(packet);
        }
        for node in &mut self.nodes {
            if node.poll_timeout().is_some_and(|deadline| deadline.at <= self.now) {
                node.handle_timeout(self.now);
            }
        }
        self.drain();
        true
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Runs until `done`, and fails if that takes longer than `limit`.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        what: &str,
        mut done: impl FnMut(&mut World) -> bool,
    ) {
        let until = self.now + limit;
        self.drain();
        while !done(self) {
            assert!(self.step(until), "not within {limit:?}: {what}; events {:?}", self.events);
        }
    }

    pub(crate) fn drain(&mut self) {
        for node in 0..self.nodes.len() {
            while let Some(event) = self.nodes[node].poll_event() {
                self.events[node].push(event);
            }
            loop {
                let mut buf = Buf::new(&mut self.storage).with_segments_max(10);
                let Some(transmit) = self.nodes[node].poll_transmit(self.now, &mut buf) else { break };
                let bytes = self.storage.clone();
                let train = transmit.segment.map_or(1, |size| bytes.len().div_ceil(usize::from(size)));
                self.longest_train = self.longest_train.max(train);
                for datagram in bytes.chunks(transmit.segment.map_or(bytes.len(), usize::from)) {
                    self.send(transmit.path, transmit.ecn, datagram);
                }
            }
            while let Some(event) = self.nodes[node].poll_event() {
                self.events[node].push(event);
            }
        }
    }

    fn send(&mut self, path: Path, ecn: Ecn, bytes: &[u8]) {
        self.log.push((path, bytes.to_vec()));
        let copies = 1 + u32::from(self.rng.chance(self.wire.duplicate_per_million));
        for _ in 0..copies {
            let lost = self.rng.chance(self.wire.loss_per_million);
            let jitter = self.rng.below(self.wire.jitter.as_nanos() as u64 + 1);
            if lost || (self.wire.mtu > 0 && bytes.len() > self.wire.mtu) {
                continue;
            }
            let FourTuple { local, remote } = path.on_wire();
            let seen_as = self.nat.get(&local).copied().unwrap_or(local);
            let arrives = Path::Direct(FourTuple::new(remote, seen_as));
            let at = self.now + self.delay + Duration::from_nanos(jitter);
            let number = self.log.len() as u64;
            self.flying.push(Reverse(Packet { at, number, path: arrives, ecn, bytes: bytes.to_vec() }));
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let Packet { path, ecn, mut bytes, .. } = packet;
        let ecn = if self.wire.congested && ecn != Ecn::NotEct { Ecn::Ce } else { ecn };
        let FourTuple { local: to, remote } = path.on_wire();
        let inside = self.nat.iter().find(|(_, outside)| **outside == to).map(|(inside, _)| *inside);
        let behind_nat = self.nat.contains_key(&to);
        let to = inside.unwrap_or(to);
        // An old mapping is gone: what is sent to it, or past the NAT, is lost.
        let Some(owner) = self.owners.get(&to).copied().filter(|_| inside.is_some() || !behind_nat) else {
            return;
        };
        let path = Path::Direct(FourTuple::new(to, remote));
        self.nodes[owner].handle_input(self.now, Input { path, ecn, bytes: &mut bytes });
    }

    /// A dials B, who expects it; both know the path.
    pub(crate) fn connect(&mut self) -> (ConnectionId, ConnectionId) {
        let (peer_a, peer_b) = (self.peer(0), self.peer(1));
        let a = self.on(0, |a, now| a.dial(now, peer_b)).unwrap();
        let b = self.on(1, |b, now| b.expect(now, peer_a)).unwrap();
        self.on(0, |e, now| e.set_path(now, a, path(A, B), PathMtu::Same));
        self.on(1, |e, now| e.set_path(now, b, path(B, A), PathMtu::Same));
        self.run_until(Duration::from_secs(20), "connected", |world| {
            world.connected(0) && world.connected(1)
        });
        (a, b)
    }

    /// A dials B, who listens. Returns A's id and B's.
    pub(crate) fn connect_stranger(&mut self) -> (ConnectionId, ConnectionId) {
        self.on(1, |b, _| b.listen(true));
        let peer_b = self.peer(1);
        let a = self.on(0, |a, now| a.dial(now, peer_b)).unwrap();
        self.on(0, |e, now| e.set_path(now, a, path(A, B), PathMtu::Same));
        self.run_until(Duration::from_secs(20), "connected", |world| {
            world.connected(0) && world.connected(1)
        });
        let b = self.events[1].iter().find_map(|event| match event {
            Event::Connected { id, .. } => Some(*id),
            _ => None,
        });
        (a, b.expect("B is connected"))
    }

    pub(crate) fn connected(&self, node: usize) -> bool {
        self.events[node].iter().any(|event| matches!(event, Event::Connected { .. }))
    }

    pub(crate) fn lost(&self, node: usize) -> Option<&gimlet_quic::Cause> {
        self.events[node].iter().find_map(|event| match event {
            Event::Lost { cause, .. } => Some(cause),
            _ => None,
        })
    }

    /// Opens a stream from `node` with `bytes` on it.
    pub(crate) fn send_stream(
        &mut self,
        node: usize,
        id: ConnectionId,
        direction: Direction,
        bytes: &[u8],
    ) -> StreamId {
        let stream = self.on(node, |e, now| e.open(now, id, direction)).unwrap().expect("room for a stream");
        let mut chunks = [Bytes::copy_from_slice(bytes)];
        let written = self.on(node, |e, now| e.write(now, id, stream, &mut chunks)).unwrap();
        assert_eq!(written, bytes.len());
        stream
    }

    /// Reads what is there; says whether the end was reached.
    pub(crate) fn read_all(
        &mut self,
        node: usize,
        id: ConnectionId,
        stream: StreamId,
        into: &mut Vec<u8>,
    ) -> bool {
        loop {
            match self.on(node, |e, now| e.read(now, id, stream, 4_096)) {
                Ok(Some(chunk)) if chunk.is_empty() => return true,
                Ok(Some(chunk)) => into.extend_from_slice(&chunk),
                Ok(None) => return false,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Moves `total` bytes from A to B on one stream while `act` interferes after every step, and
    /// checks what arrives. Returns the virtual time it took.
    pub(crate) fn transfer(
        &mut self,
        (a, b): (ConnectionId, ConnectionId),
        total: usize,
        mut act: impl FnMut(&mut World, usize),
    ) -> Duration {
        let content: Bytes = (0..total).map(|at| (at * 31 % 251) as u8).collect::<Vec<_>>().into();
        let stream = self.on(0, |e, now| e.open(now, a, Direction::Unidirectional)).unwrap().unwrap();
        let (mut left, mut got, mut accepted) = (content.clone(), Vec::new(), false);
        let (mut finished, start) = (false, self.now);
        self.run_until(Duration::from_secs(300), "transferred", |world| {
            if !left.is_empty() {
                let mut chunks = [left.clone()];
                let taken = world.on(0, |e, now| e.write(now, a, stream, &mut chunks)).unwrap();
                left = left.slice(taken..);
            } else if !finished {
                world.on(0, |e, now| e.finish(now, a, stream)).unwrap();
                finished = true;
            }
            while !accepted {
                // Earlier streams of the test may still wait.
                let Some((next, _)) = world.on(1, |e, now| e.accept(now, b)).unwrap() else { break };
                accepted = next == stream;
            }
            let ended = accepted && world.read_all(1, b, stream, &mut got);
            act(world, got.len());
            ended
        });
        assert!(got == content, "what arrives is what was sent");
        self.run_until(Duration::from_secs(60), "acknowledged", |world| {
            world.on(0, |e, _| e.is_acknowledged(a, stream)).unwrap()
        });
        assert!(self.events[0].contains(&Event::Finished { id: a, stream }));
        self.now.since(start)
    }
}
