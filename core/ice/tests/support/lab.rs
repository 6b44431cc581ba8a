//! Two agents, a lossy network and a NAT in front of each.
#![allow(dead_code, reason = "each test file uses a part")]

use gimlet_ice::{Agent, Candidate, Event, Role, State};
use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Path, Rng};
use gimlet_testkit::Checked;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What a side's NAT lets in (RFC 4787 §5), and how it maps (§4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nat {
    /// No NAT.
    None,
    /// Endpoint-independent filtering.
    FullCone,
    /// Address-dependent filtering.
    AddressRestricted,
    /// Address and port-dependent filtering.
    PortRestricted,
    /// Address and port-dependent mapping and filtering.
    Symmetric,
}

/// The network between two agents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net {
    pub(crate) seed: u64,
    pub(crate) delay_ms: u64,
    /// Per million.
    pub(crate) loss: u32,
    pub(crate) nats: [Nat; 2],
    /// How long the second agent's signalling is on its way to the first.
    pub(crate) signalling_ms: u64,
}

impl Net {
    pub(crate) fn open(seed: u64) -> Self {
        Self { seed, delay_ms: 25, loss: 0, nats: [Nat::None; 2], signalling_ms: 0 }
    }

    pub(crate) fn behind(nats: [Nat; 2]) -> Self {
        Self { nats, ..Self::open(0) }
    }
}

/// A NAT with what it remembers.
#[derive(Debug)]
struct NatBox {
    kind: Nat,
    side: u8,
    /// Inside address, and the destination if mappings depend on it, to outside port.
    mappings: BTreeMap<(SocketAddr, Option<SocketAddr>), u16>,
    /// The first outside port: moves on when mappings are forgotten.
    first_port: u16,
    /// Outside port, and whom it has sent to.
    permitted: BTreeSet<(u16, SocketAddr)>,
}

impl NatBox {
    fn public(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, self.side + 1)), port)
    }

    /// The outside port of `inside` towards `to`.
    fn map(&mut self, inside: SocketAddr, to: SocketAddr) -> u16 {
        let towards = (self.kind == Nat::Symmetric).then_some(to);
        let fresh = self.first_port + self.mappings.len() as u16;
        *self.mappings.entry((inside, towards)).or_insert(fresh)
    }

    fn outbound(&mut self, inside: SocketAddr, to: SocketAddr) -> SocketAddr {
        if self.kind == Nat::None {
            return inside;
        }
        let port = self.map(inside, to);
        self.permitted.insert((port, to));
        self.public(port)
    }

    /// The inside address for a packet to `to`, if it is let in.
    fn inbound(&self, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        if self.kind == Nat::None {
            return Some(to);
        }
        let mut mapped = self.mappings.iter().filter(|(_, port)| self.public(**port) == to);
        let ((inside, _), port) = mapped.next()?;
        let permitted = match self.kind {
            Nat::None | Nat::FullCone => true,
            Nat::AddressRestricted => {
                self.permitted.iter().any(|(open, to)| open == port && to.ip() == from.ip())
            }
            Nat::PortRestricted | Nat::Symmetric => self.permitted.contains(&(*port, from)),
        };
        permitted.then_some(*inside)
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    at: Instant,
    number: u64,
    to_side: usize,
    tuple: FourTuple,
    bytes: Vec<u8>,
}

pub(crate) struct Lab {
    pub(crate) agents: [Checked<Agent>; 2],
    pub(crate) now: Instant,
    /// Everything sent: when, by whom, the path, the bytes.
    pub(crate) trace: Vec<(Instant, usize, Path, Vec<u8>)>,
    pub(crate) events: Vec<(Instant, usize, Event)>,
    /// IPv6 packets are lost on the way.
    pub(crate) is_ipv6_dead: bool,
    net: Net,
    nats: [NatBox; 2],
    flying: BinaryHeap<Reverse<Packet>>,
    rng: Rng,
    /// Where a STUN server would be: what reflexive candidates are mapped towards.
    server: SocketAddr,
}

impl Lab {
    pub(crate) fn new(agents: [Agent; 2], net: Net) -> Self {
        let nat = |side: usize| NatBox {
            kind: net.nats[side],
            side: side as u8,
            mappings: BTreeMap::new(),
            first_port: 40_000,
            permitted: BTreeSet::new(),
        };
        Self {
            agents: agents.map(Checked::new),
            now: Instant::ZERO,
            trace: vec![],
            events: vec![],
            is_ipv6_dead: false,
            net,
            nats: [nat(0), nat(1)],
            flying: BinaryHeap::new(),
            rng: Rng::from_u64(net.seed).fork("network"),
            server: "198.51.100.99:3478".parse().unwrap(),
        }
    }

    /// Gives each agent `count` host candidates, with a reflexive one each behind a NAT.
    pub(crate) fn add_hosts(&mut self, count: u8) {
        for side in 0..2 {
            for host in 0..count {
                let ip = Ipv4Addr::new(10, side as u8, host, 1);
                let address = SocketAddr::new(IpAddr::V4(ip), 5_000);
                self.add_local(side, Candidate::host(address));
                if self.net.nats[side] != Nat::None {
                    let server = self.server;
                    let mapped = self.nats[side].outbound(address, server);
                    self.add_local(side, Candidate::server_reflexive(mapped, address, Some(server)));
                }
            }
        }
    }

    /// The NAT of `side` forgets everything, and gives out other ports from here on.
    pub(crate) fn rebind(&mut self, side: usize) {
        let nat = &mut self.nats[side];
        nat.mappings.clear();
        nat.permitted.clear();
        nat.first_port += 1_000;
    }

    /// The outside port of the only mapping of `side`.
    pub(crate) fn mapping_of(&self, side: usize) -> u16 {
        let ports: Vec<_> = self.nats[side].mappings.values().copied().collect();
        assert_eq!(ports.len(), 1, "{ports:?}");
        ports[0]
    }

    pub(crate) fn add_local(&mut self, side: usize, candidate: Candidate) {
        let now = self.now;
        // Beyond its limits an agent refuses candidates; the rest of the test shows what comes of it.
        let _ = self.agents[side].command(now, |agent| agent.add_local_candidate(now, candidate));
    }

    /// Signals everything to both sides; to the first only after the signalling delay.
    pub(crate) fn exchange(&mut self) {
        self.signal(0);
        let later = self.now + Duration::from_millis(self.net.signalling_ms);
        self.run_until(later);
        self.signal(1);
    }

    /// Carries what `from` has to say to the other side.
    fn signal(&mut self, from: usize) {
        let now = self.now;
        let sender = self.agents[from].inner();
        let credentials = sender.local_credentials().clone();
        let candidates: Vec<_> = sender.local_candidates().map(ToString::to_string).collect();
        let to = &mut self.agents[1 - from];
        to.command(now, |agent| agent.set_remote_credentials(now, credentials)).unwrap();
        for line in candidates {
            let candidate = line.parse().unwrap();
            to.command(now, |agent| agent.add_remote_candidate(now, candidate)).unwrap();
        }
    }

    pub(crate) fn end_of_candidates(&mut self) {
        let now = self.now;
        for agent in &mut self.agents {
            agent.command(now, |agent| agent.end_of_local_candidates(now));
            agent.command(now, |agent| agent.end_of_remote_candidates(now));
        }
    }

    pub(crate) fn run_until(&mut self, end: Instant) {
        self.run_while(end, |_| true);
    }

    /// Runs until both agents are completed, or until `end`.
    pub(crate) fn run_until_completed(&mut self, end: Instant) {
        self.run_while(end, |lab| lab.agents.iter().any(|agent| agent.inner().state() != State::Completed));
    }

    fn run_while(&mut self, end: Instant, go_on: impl Fn(&Lab) -> bool) {
        loop {
            for side in 0..2 {
                self.drain(side);
            }
            if !go_on(self) {
                return;
            }
            let packet = self.flying.peek().map(|Reverse(packet)| packet.at);
            let timers = self.agents.iter().filter_map(Machine::poll_timeout).map(|deadline| deadline.at);
            let Some(next) = timers.chain(packet).min().filter(|next| *next <= end) else {
                self.now = self.now.max(end);
                return;
            };
            self.now = self.now.max(next);
            while self.flying.peek().is_some_and(|Reverse(packet)| packet.at <= self.now) {
                let Some(Reverse(packet)) = self.flying.pop() else { break };
                self.deliver(packet);
            }
            for agent in &mut self.agents {
                if agent.poll_timeout().is_some_and(|deadline| deadline.at <= self.now) {
                    agent.handle_timeout(self.now);
                }
            }
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let Packet { to_side, tuple, mut bytes, .. } = packet;
        let Some(inside) = self.nats[to_side].inbound(tuple.local, tuple.remote) else { return };
        let path = Path::Direct(FourTuple::new(inside, tuple.local));
        self.agents[to_side].handle_input(self.now, Input::new(path, &mut bytes));
        self.drain(to_side);
    }

    fn drain(&mut self, side: usize) {
        let mut storage = Vec::new();
        loop {
            let mut quiet = true;
            while let Some(event) = self.agents[side].poll_event() {
                self.events.push((self.now, side, event));
                quiet = false;
            }
            while let Some(transmit) = self.agents[side].poll_transmit(self.now, &mut Buf::new(&mut storage))
            {
                self.trace.push((self.now, side, transmit.path, storage.clone()));
                self.send(side, transmit.path.on_wire(), storage.clone());
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }

    fn send(&mut self, side: usize, tuple: FourTuple, bytes: Vec<u8>) {
        let private = |address: SocketAddr| matches!(address.ip(), IpAddr::V4(ip) if ip.is_private());
        let source = self.nats[side].outbound(tuple.local, tuple.remote);
        // A private address behind the other side's NAT is unreachable.
        let unreachable = private(tuple.remote) && self.net.nats[1 - side] != Nat::None;
        let dead = self.is_ipv6_dead && tuple.remote.is_ipv6();
        if self.rng.chance(self.net.loss) || unreachable || dead {
            return;
        }
        let at = self.now + Duration::from_millis(self.net.delay_ms);
        let number = self.trace.len() as u64;
        let tuple = FourTuple::new(source, tuple.remote);
        self.flying.push(Reverse(Packet { at, number, to_side: 1 - side, tuple, bytes }));
    }

    pub(crate) fn roles(&self) -> [Role; 2] {
        [self.agents[0].inner().role(), self.agents[1].inner().role()]
    }

    pub(crate) fn states(&self) -> [State; 2] {
        [self.agents[0].inner().state(), self.agents[1].inner().state()]
    }

    /// When each side's first event that `is` what is asked for came, in milliseconds.
    pub(crate) fn first(&self, is: impl Fn(&Event) -> bool) -> [Option<u64>; 2] {
        [0, 1].map(|side| {
            let mut events = self.events.iter().filter(|(_, of, event)| *of == side && is(event));
            events.next().map(|(at, ..)| at.as_millis())
        })
    }

    /// Panics if either agent sent two checks less than `ta` apart.
    pub(crate) fn assert_paced(&self, ta: Duration) {
        for side in 0..2 {
            let checks = self.trace.iter().filter(|(_, of, _, bytes)| {
                *of == side
                    && gimlet_stun::Message::parse(bytes).unwrap().class() == gimlet_stun::Class::Request
            });
            let times: Vec<_> = checks.map(|(at, ..)| *at).collect();
            for pair in times.windows(2) {
                assert!(pair[1].since(pair[0]) >= ta, "side {side}: checks at {} and {}", pair[0], pair[1]);
            }
        }
    }
}
