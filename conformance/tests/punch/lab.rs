//! Two agents, each behind a NAT of the simulator, with a relay and an owner that opens sockets.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gimlet_ice::{
    Agent, Candidate, Config, Declined, Event, Plan, Profile, PunchEvent, PunchState, Role, State,
};
use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Path, Rng};
use gimlet_sim::{Leg, Nat, NatConfig, Side};
use gimlet_stun::{Class, Message, PortModel};
use gimlet_testkit::Checked;

/// From one host to the other, and from either to anybody else.
pub(crate) const LATENCY: Duration = Duration::from_millis(25);

/// Fresh sockets that ask a STUN server, to see how ports are dealt out.
const SAMPLES: u16 = 8;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    pub(crate) side: usize,
    /// As the network sees it, behind the sender's NAT.
    pub(crate) tuple: FourTuple,
    /// Where on the sender's host it left.
    pub(crate) local: SocketAddr,
    pub(crate) is_request: bool,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    at: Instant,
    number: u64,
    tuple: FourTuple,
    bytes: Vec<u8>,
}

pub(crate) struct Host {
    pub(crate) agent: Checked<Agent>,
    pub(crate) nat: Option<Nat>,
    pub(crate) base: SocketAddr,
    /// Its address on the relay, if it has one.
    relayed: Option<SocketAddr>,
    /// Sockets opened for a punch.
    pub(crate) sockets: BTreeSet<SocketAddr>,
    next_port: u16,
    pub(crate) profile: Profile,
}

pub(crate) struct Lab {
    pub(crate) hosts: [Host; 2],
    pub(crate) now: Instant,
    pub(crate) sent: Vec<Sent>,
    pub(crate) events: Vec<(Instant, usize, Event)>,
    /// Per million, of everything that crosses the network.
    pub(crate) loss: u32,
    flying: BinaryHeap<Reverse<Packet>>,
    rng: Rng,
}

pub(crate) fn outside(side: usize) -> IpAddr {
    [203, 0, 113, side as u8 + 1].into()
}

fn stun_server(nth: u8) -> SocketAddr {
    ([198, 51, 100, 1 + nth], 3_478).into()
}

fn relay_server(side: usize) -> SocketAddr {
    ([198, 51, 100, 50 + side as u8], 3_478).into()
}

/// What stands in front of a host.
#[derive(Clone, Debug)]
pub(crate) enum Edge {
    /// Nothing.
    Open,
    /// A filter that translates nothing.
    Firewall(NatConfig),
    Nat(NatConfig),
}

impl Lab {
    pub(crate) fn new(seed: u64, edges: [Edge; 2], config: &Config) -> Self {
        let rng = Rng::from_u64(seed);
        let [first, second] = edges;
        let host = |side: usize, edge: Edge| {
            let rng = rng.fork_nth("host", side as u64);
            let role = if side == 0 { Role::Controlling } else { Role::Controlled };
            let agent = Agent::new(Instant::ZERO, rng.fork("ice"), Config { role, ..config.clone() });
            let (nat, ip) = match edge {
                Edge::Open => (None, outside(side)),
                Edge::Firewall(config) => (Some(config), outside(side)),
                Edge::Nat(config) => (Some(config), [10, side as u8, 0, 2].into()),
            };
            Host {
                agent: Checked::new(agent),
                nat: nat.map(|config| Nat::new(rng.fork("nat"), config)),
                base: SocketAddr::new(ip, 5_000),
                relayed: None,
                sockets: BTreeSet::new(),
                next_port: 20_000,
                profile: Profile::default(),
            }
        };
        let hosts = [host(0, first), host(1, second)];
        let (sent, events, flying) = (Vec::new(), Vec::new(), BinaryHeap::new());
        Self { hosts, now: Instant::ZERO, sent, events, loss: 0, flying, rng: rng.fork("network") }
    }

    /// The outside address of `inside` towards `remote`; makes the mapping.
    fn map(&mut self, side: usize, inside: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
        let Some(nat) = &mut self.hosts[side].nat else { return Some(inside) };
        let leg = Leg { side: Side::Inside, source: inside, destination: remote };
        nat.translate(self.now, leg).ok().map(|leg| leg.source)
    }

    /// Both hosts find out about their NATs, gather and signal.
    pub(crate) fn introduce(&mut self, relays: bool) {
        for side in 0..2 {
            self.discover(side);
            self.gather(side, relays);
        }
        for side in 0..2 {
            self.signal(side);
        }
    }

    /// The same, but `first` hears of the other side `earlier` than that side hears of it.
    pub(crate) fn introduce_one_by_one(&mut self, first: usize, earlier: Duration) {
        for side in 0..2 {
            self.discover(side);
            self.gather(side, false);
        }
        self.signal(1 - first);
        self.run_for(earlier);
        self.signal(first);
    }

    pub(crate) fn end_of_candidates(&mut self) {
        let now = self.now;
        for side in 0..2 {
            let agent = &mut self.hosts[side].agent;
            agent.command(now, |agent| agent.end_of_local_candidates(now));
            agent.command(now, |agent| agent.end_of_remote_candidates(now));
            self.drain(side);
        }
    }

    /// Learns mapping and port model as a STUN client would.
    fn discover(&mut self, side: usize) {
        let base = self.hosts[side].base;
        let mut ask = |port: u16, server: u8| {
            let inside = SocketAddr::new(base.ip(), port);
            self.map(side, inside, stun_server(server)).expect("the NAT has room").port()
        };
        let dependent = ask(6_000, 0) != ask(6_000, 1);
        // Samples that may mean two things are taken again, from other sockets.
        let mut samples = Vec::new();
        for attempt in 0..4 {
            let local = |nth: u16| 6_001 + 97 * attempt + 7 * nth;
            samples = (0..SAMPLES).map(|nth| (local(nth), ask(local(nth), 0))).collect();
            if PortModel::of_samples(&samples).is_some() {
                break;
            }
        }
        let profile = Profile {
            dependent: Some(dependent),
            supposed: false,
            port_model: PortModel::of_samples(&samples),
            newest_port: samples.last().map(|(_, mapped)| *mapped),
            outside: vec![outside(side)],
        };
        self.hosts[side].profile = profile;
    }

    fn gather(&mut self, side: usize, relays: bool) {
        let (now, base) = (self.now, self.hosts[side].base);
        let mapped = self.map(side, base, stun_server(0)).expect("the NAT has room");
        let mut candidates = vec![Candidate::host(base)];
        if mapped != base {
            candidates.push(Candidate::server_reflexive(mapped, base, Some(stun_server(0))));
        }
        if relays {
            let relayed = SocketAddr::new(relay_server(side).ip(), 50_000);
            self.hosts[side].relayed = Some(relayed);
            let flow = FourTuple::new(base, relay_server(side));
            candidates.push(Candidate::relayed(relayed, flow, Some(mapped)));
        }
        for candidate in candidates {
            let agent = &mut self.hosts[side].agent;
            agent.command(now, |agent| agent.add_local_candidate(now, candidate)).expect("a fresh candidate");
        }
    }

    /// Carries what `from` has to say to the other side.
    pub(crate) fn signal(&mut self, from: usize) {
        let now = self.now;
        let sender = self.hosts[from].agent.inner();
        let credentials = sender.local_credentials().clone();
        let lines: Vec<_> = sender.local_candidates().map(ToString::to_string).collect();
        let to = &mut self.hosts[1 - from].agent;
        to.command(now, |agent| agent.set_remote_credentials(now, credentials)).expect("fresh credentials");
        for line in lines {
            let candidate = line.parse().expect("what an agent signals can be read");
            to.command(now, |agent| agent.add_remote_candidate(now, candidate)).expect("a fresh candidate");
        }
        self.drain(1 - from);
    }

    /// Both owners ask for a punch, with what discovery said.
    pub(crate) fn punch(&mut self) -> [Result<Plan, Declined>; 2] {
        [0, 1].map(|side| self.punch_one(side))
    }

    pub(crate) fn punch_one(&mut self, side: usize) -> Result<Plan, Declined> {
        let now = self.now;
        let (ours, theirs) = (self.hosts[side].profile.clone(), self.hosts[1 - side].profile.clone());
        let plan = self.hosts[side].agent.command(now, |agent| agent.punch(now, &ours, &theirs));
        self.drain(side);
        plan
    }

    /// An introducer tells both owners where it sees the other side.
    pub(crate) fn vouch(&mut self) {
        let now = self.now;
        for side in 0..2 {
            self.hosts[side].agent.command(now, |agent| agent.vouch(now, outside(1 - side)));
            self.drain(side);
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_while(end, |_| true);
    }

    /// Runs until both sides have selected a direct path; says whether that came to pass.
    pub(crate) fn run_until_direct(&mut self, time: Duration) -> bool {
        let end = self.now + time;
        self.run_while(end, |lab| !lab.is_direct());
        self.is_direct()
    }

    /// Runs until both sides have selected any path; says whether that came to pass.
    pub(crate) fn run_until_completed(&mut self, time: Duration) -> bool {
        let end = self.now + time;
        let done = |lab: &Lab| lab.hosts.iter().all(|host| host.agent.inner().state() == State::Completed);
        self.run_while(end, |lab| !done(lab));
        done(self)
    }

    pub(crate) fn run_while(&mut self, end: Instant, go_on: impl Fn(&Lab) -> bool) {
        self.drain(0);
        self.drain(1);
        while go_on(self) {
            let packet = self.flying.peek().map(|Reverse(packet)| packet.at);
            let timers = self.hosts.iter().filter_map(|host| host.agent.poll_timeout());
            let next = timers.map(|deadline| deadline.at).chain(packet).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = self.now.max(end);
                return;
            };
            self.now = self.now.max(next);
            while self.flying.peek().is_some_and(|Reverse(packet)| packet.at <= self.now) {
                let Some(Reverse(packet)) = self.flying.pop() else { break };
                self.deliver(packet);
            }
            for side in 0..2 {
                let agent = &mut self.hosts[side].agent;
                if agent.poll_timeout().is_some_and(|deadline| deadline.at <= self.now) {
                    agent.handle_timeout(self.now);
                    self.drain(side);
                }
            }
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let Packet { tuple: FourTuple { local: source, remote: destination }, bytes, .. } = packet;
        for side in 0..2 {
            if self.hosts[side].relayed == Some(destination) {
                // What is sent to a relayed address arrives by way of the relay.
                let relay = FourTuple::new(self.hosts[side].base, relay_server(side));
                return self.arrive(side, Path::Relayed { relay, peer: source }, bytes);
            }
            if destination.ip() == outside(side) {
                let inside = match &mut self.hosts[side].nat {
                    None => Some(destination),
                    Some(nat) => {
                        let leg = Leg { side: Side::Outside, source, destination };
                        nat.translate(self.now, leg).ok().map(|leg| leg.destination)
                    }
                };
                let host = &self.hosts[side];
                let open = inside.filter(|inside| *inside == host.base || host.sockets.contains(inside));
                if let Some(inside) = open {
                    return self.arrive(side, Path::Direct(FourTuple::new(inside, source)), bytes);
                }
            }
        }
    }

    fn arrive(&mut self, side: usize, path: Path, mut bytes: Vec<u8>) {
        self.hosts[side].agent.handle_input(self.now, Input::new(path, &mut bytes));
        self.drain(side);
    }

    fn drain(&mut self, side: usize) {
        let mut storage = Vec::new();
        loop {
            let mut quiet = true;
            while let Some(event) = self.hosts[side].agent.poll_event() {
                quiet = false;
                self.events.push((self.now, side, event));
                self.obey(side, event);
            }
            while let Some(sent) = self.hosts[side].agent.poll_transmit(self.now, &mut Buf::new(&mut storage))
            {
                quiet = false;
                self.send(side, sent.path, storage.clone());
            }
            if quiet {
                return;
            }
        }
    }

    /// Does what an event asks of the owner.
    fn obey(&mut self, side: usize, event: Event) {
        let now = self.now;
        let host = &mut self.hosts[side];
        let Event::Punch(event) = event else { return };
        match event {
            PunchEvent::StateChanged(_) => {}
            PunchEvent::OpenSockets { count } => {
                for _ in 0..count {
                    let socket = SocketAddr::new(host.base.ip(), host.next_port);
                    host.next_port += 1;
                    host.sockets.insert(socket);
                    let added = host.agent.command(now, |agent| agent.add_punch_socket(now, socket));
                    added.expect("it asked for it");
                }
            }
            PunchEvent::CloseSockets { but } => host.sockets.retain(|socket| Some(*socket) == but),
        }
    }

    fn send(&mut self, side: usize, path: Path, bytes: Vec<u8>) {
        let is_request = Message::parse(&bytes).expect("STUN").class() == Class::Request;
        let (local, remote) = (path.on_wire().local, path.on_wire().remote);
        let Some(mapped) = self.map(side, local, remote) else { return };
        let tuple = match path {
            Path::Direct(_) => FourTuple::new(mapped, remote),
            Path::Relayed { peer, .. } => {
                FourTuple::new(self.hosts[side].relayed.expect("it has a relay"), peer)
            }
        };
        self.sent.push(Sent { at: self.now, side, tuple, local, is_request });
        if self.rng.chance(self.loss) {
            return;
        }
        let (at, number) = (self.now + LATENCY, self.sent.len() as u64);
        self.flying.push(Reverse(Packet { at, number, tuple, bytes }));
    }

    /// Whether both sides have selected a path without a relay.
    pub(crate) fn is_direct(&self) -> bool {
        (0..2).all(|side| {
            let path = self.hosts[side].agent.inner().selected_path();
            let relayed = |address: SocketAddr| (0..2).any(|side| relay_server(side).ip() == address.ip());
            path.is_some_and(|path| path.is_direct() && !relayed(path.peer_address()))
        })
    }

    /// The probes that `side` has sent.
    pub(crate) fn probes(&self, side: usize) -> u64 {
        self.hosts[side].agent.inner().counters().probes_sent
    }

    /// When `side` came to `state` first.
    pub(crate) fn first(&self, side: usize, state: PunchState) -> Option<Instant> {
        let came = |event: &Event| *event == Event::Punch(PunchEvent::StateChanged(state));
        self.events.iter().find(|(_, of, event)| *of == side && came(event)).map(|(at, ..)| *at)
    }

    /// How often `side` came to `state`.
    pub(crate) fn count(&self, side: usize, state: PunchState) -> usize {
        let came = |event: &Event| *event == Event::Punch(PunchEvent::StateChanged(state));
        self.events.iter().filter(|(_, of, event)| *of == side && came(event)).count()
    }
}
