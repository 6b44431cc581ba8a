//! The agents and what lies between them.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use gimlet_ice::{
    Agent, Candidate, Config, Credentials, Event, Limits, MESSAGE_MAX, MdnsName, MdnsQuery, Profile,
    PunchEvent, Role, State, TA_MIN,
};
use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Path, Rng, Verdict};
use gimlet_stun::{Class, Key, Message, Method, PortModel};
use gimlet_testkit::Checked;

/// Sockets of each side: three of IPv4, one of IPv6.
const SOCKETS: usize = 4;

/// The preference of host candidates that hide behind a name.
const HIDDEN: u16 = 15;

/// The most packets on the way; further ones are lost.
const FLYING_MAX: usize = 128;

/// Sockets that each side opens for punches, and the ports that they have.
const PUNCH_SOCKETS: usize = 8;
const PUNCH_PORT: u16 = 9_000;

/// How long a run goes on after its last step: past the patience of an agent, every retransmission, and the two
/// silences of a punch that an agent awaits.
const REST: Duration = Duration::from_secs(240);

/// The most deliveries in one moment: more is two agents answering each other for ever.
const DELIVERIES_MAX: usize = 10_000;

/// A packet on its way.
#[derive(Clone)]
pub(super) struct Flying {
    pub(super) from: usize,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) bytes: Vec<u8>,
    genuine: bool,
}

/// One agent and what is known of it.
pub(super) struct Side {
    pub(super) agent: Checked<Agent>,
    /// Something signed by the peer, or by somebody who has its password, has reached this side.
    heard: bool,
    last_request: Option<Instant>,
    closed: bool,
    has_credentials: bool,
    ended: [bool; 2],
    /// Addresses that may be sprayed.
    sprayable: BTreeSet<IpAddr>,
}

pub(super) struct World {
    now: Instant,
    pub(super) sides: [Side; 2],
    flying: VecDeque<Flying>,
    trace: DefaultHasher,
    tamper: fn(&mut [u8]),
    limits: Limits,
}

/// The address of a socket.
pub(super) fn socket(side: usize, n: usize) -> SocketAddr {
    let n = n % SOCKETS;
    let ip = if n == SOCKETS - 1 {
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, side as u16 + 1))
    } else {
        IpAddr::V4(Ipv4Addr::new(10, 0, side as u8, n as u8 + 1))
    };
    SocketAddr::new(ip, 4_000 + n as u16)
}

/// The address of a socket that is opened for a punch.
fn punch_socket(side: usize, n: usize) -> SocketAddr {
    SocketAddr::new(socket(side, 0).ip(), PUNCH_PORT + n as u16)
}

/// What others see of a socket behind the NAT of its side.
pub(super) fn mapped(side: usize, n: usize) -> SocketAddr {
    match socket(side, n) {
        SocketAddr::V4(address) => {
            SocketAddr::from((Ipv4Addr::new(203, 0, 113, side as u8 + 1), address.port() + 1_000))
        }
        v6 @ SocketAddr::V6(_) => v6,
    }
}

/// Which socket a packet to `destination` reaches.
fn reached(destination: SocketAddr) -> Option<(usize, usize)> {
    let all = (0..2).flat_map(|side| (0..SOCKETS).map(move |n| (side, n)));
    all.into_iter().find(|&(side, n)| destination == socket(side, n) || destination == mapped(side, n))
}

/// What became of each pair.
fn lines(agent: &Agent) -> Vec<String> {
    agent.pairs().map(|pair| pair.to_string()).collect()
}

impl World {
    pub(super) fn new(setup: u8, tamper: fn(&mut [u8])) -> Self {
        let small = Limits {
            pairs_max: 4,
            checks_max: 2,
            early_requests_max: 1,
            answers_max: 2,
            ..Limits::default()
        };
        let limits = if setup & 4 != 0 { small } else { Limits::default() };
        let side = |n: u64| {
            let role = if u64::from(setup & 3) >> n & 1 == 0 { Role::Controlling } else { Role::Controlled };
            let config = Config { role, limits, ..Config::default() };
            let agent = Agent::new(Instant::ZERO, Rng::from_u64(n), config);
            Side {
                agent: Checked::new(agent),
                heard: false,
                last_request: None,
                closed: false,
                has_credentials: false,
                ended: [false; 2],
                sprayable: BTreeSet::new(),
            }
        };
        let sides = [side(0), side(1)];
        let trace = DefaultHasher::new();
        Self { now: Instant::ZERO, sides, flying: VecDeque::new(), trace, tamper, limits }
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Lets `millis` pass; timers fire on the way.
    pub(super) fn wait(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while self.fire_next(until) {}
        self.now = until;
    }

    /// Moves to the next deadline, if there is one by `until`, and fires it.
    fn fire_next(&mut self, until: Instant) -> bool {
        let due = |side: &Side| side.agent.poll_timeout().map(|deadline| deadline.at);
        let Some(at) = self.sides.iter().filter_map(due).min().filter(|at| *at <= until) else {
            return false;
        };
        self.now = self.now.max(at);
        for side in 0..2 {
            if due(&self.sides[side]).is_some_and(|at| at <= self.now) {
                self.timeout(side);
            }
        }
        true
    }

    /// A timeout, due or not.
    pub(super) fn timeout(&mut self, side: usize) {
        self.sides[side].agent.handle_timeout(self.now);
        self.drain(side);
    }

    /// The packet in front arrives; `translated` shows the receiver the mapped source.
    pub(super) fn deliver(&mut self, translated: bool) {
        let Some(packet) = self.flying.pop_front() else { return };
        let source = match reached(packet.source) {
            Some((side, n)) if translated => mapped(side, n),
            Some(_) | None => packet.source,
        };
        if let Some((side, n)) = reached(packet.destination).filter(|(side, _)| *side != packet.from) {
            self.arrive(side, FourTuple::new(socket(side, n), source), packet.bytes, packet.genuine);
        }
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
        let keys = [0, 1].map(|side| self.sides[side].agent.inner().local_credentials().pwd.clone());
        // Once: a second time might mend it.
        if let Some(packet) = self.flying.front_mut().filter(|packet| packet.genuine) {
            let at = at % packet.bytes.len();
            packet.bytes[at] ^= how | 1;
            // Damage to what follows MESSAGE-INTEGRITY may leave a message that says nothing else than
            // before (RFC 8489 §14.5): a FINGERPRINT under another name is ignored.
            packet.genuine = keys.iter().any(|pwd| {
                let key = Key::short_term(pwd.as_bytes());
                Message::parse(&packet.bytes).is_ok_and(|message| message.verify(&key).is_ok())
            });
        }
    }

    pub(super) fn front(&self) -> Option<&Flying> {
        self.flying.front()
    }

    /// A packet from one of the other side's sockets, or from a stranger.
    pub(super) fn hear(&mut self, side: usize, from: usize, bytes: Vec<u8>, genuine: bool) {
        let local = socket(side, from);
        let source = match from / SOCKETS % 3 {
            0 => socket(1 - side, from),
            1 => mapped(1 - side, from),
            _ if local.is_ipv4() => SocketAddr::from(([198, 51, 100, from as u8], 1)),
            _ => SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, from as u16), 1)),
        };
        self.arrive(side, FourTuple::new(local, source), bytes, genuine);
    }

    fn arrive(&mut self, side: usize, flow: FourTuple, mut bytes: Vec<u8>, genuine: bool) {
        let heard = &mut self.sides[side];
        heard.heard |= genuine;
        if genuine {
            heard.sprayable.insert(flow.remote.ip());
        }
        let verdict = heard.agent.handle_input(self.now, Input::new(Path::Direct(flow), &mut bytes));
        assert!(!matches!(verdict, Verdict::Pass { .. }), "an agent forwards nothing");
        assert!(verdict == Verdict::NotMine || !heard.closed, "a closed agent takes nothing");
        self.drain(side);
    }

    pub(super) fn gather(&mut self, side: usize, n: usize, reflexive: bool, preference: u16) {
        let (base, server) = (socket(side, n), SocketAddr::from(([192, 0, 2, 1], 3_478)));
        let candidate = if reflexive {
            Candidate::server_reflexive(mapped(side, n), base, Some(server))
        } else {
            Candidate::host(base)
        };
        let candidate = candidate.with_local_preference(u16::MAX - preference);
        let candidate = if preference == HIDDEN { candidate.hidden() } else { candidate };
        // Refusals are the agent's right; what it took is asserted in `assert_sound`.
        let _ =
            self.sides[side].agent.command(self.now, |agent| agent.add_local_candidate(self.now, candidate));
        self.drain(side);
    }

    /// The `n`th candidate of the other side arrives at `side`, as a line.
    pub(super) fn signal(&mut self, side: usize, n: usize) {
        let line = self.sides[1 - side].agent.inner().local_candidates().nth(n).map(ToString::to_string);
        match line.as_ref().map(|line| (line, super::read_line(line))) {
            Some((_, Some(candidate))) => self.add_remote(side, candidate),
            Some((line, None)) => {
                assert!(line.contains(".local "), "what an agent signals can be read: {line}");
                self.add_line(side, line);
            }
            None => {}
        }
    }

    pub(super) fn add_line(&mut self, side: usize, line: &str) {
        // Refusals are the agent's right.
        let _ = self.sides[side].agent.command(self.now, |agent| agent.add_remote_line(self.now, line));
        self.drain(side);
    }

    /// The link knows the names that the other side has published.
    fn resolve(&mut self, side: usize, query: MdnsQuery, name: MdnsName) {
        let published = self.sides[1 - side].agent.inner().local_candidates();
        let mut found = published.filter(|candidate| candidate.mdns_name() == Some(&name));
        let address = found.next().map(|candidate| candidate.address.ip());
        drop(found);
        let now = self.now;
        self.sides[side].agent.command(now, |agent| agent.name_resolved(now, query, address));
    }

    pub(super) fn add_remote(&mut self, side: usize, candidate: Candidate) {
        let _ =
            self.sides[side].agent.command(self.now, |agent| agent.add_remote_candidate(self.now, candidate));
        self.drain(side);
    }

    /// The other side's credentials arrive, or others.
    pub(super) fn set_credentials(&mut self, side: usize, lie: Option<Credentials>) {
        let real = self.sides[1 - side].agent.inner().local_credentials().clone();
        let credentials = lie.unwrap_or(real);
        let agent = &mut self.sides[side].agent;
        let taken = agent.command(self.now, |agent| agent.set_remote_credentials(self.now, credentials));
        self.sides[side].has_credentials |= taken.is_ok();
        self.drain(side);
    }

    pub(super) fn end_of_candidates(&mut self, side: usize, remote: bool) {
        self.sides[side].ended[usize::from(remote)] = true;
        self.sides[side].agent.command(self.now, |agent| {
            if remote {
                agent.end_of_remote_candidates(self.now);
            } else {
                agent.end_of_local_candidates(self.now);
            }
        });
        self.drain(side);
    }

    pub(super) fn close(&mut self, side: usize) {
        self.sides[side].agent.command(self.now, |agent| agent.close(self.now));
        self.drain(side);
        self.sides[side].closed = true;
    }

    /// The owner asks for a punch, with whatever both sides are said to know.
    pub(super) fn punch(&mut self, side: usize, how: u8, port: u16) {
        let now = self.now;
        let profile = |side: usize, hard: bool| Profile {
            dependent: (how & 0x40 == 0).then_some(hard),
            port_model: match how >> 2 & 3 {
                0 => Some(PortModel::Sequential { delta: i32::from(port.cast_signed()) }),
                1 => Some(PortModel::Block { first: port, last: port.wrapping_add(300) }),
                2 => Some(PortModel::Preserving),
                _ => None,
            },
            newest_port: Some(port),
            supposed: how & 0x80 != 0,
            outside: vec![mapped(side, 0).ip()],
        };
        let (ours, theirs) = (profile(side, how & 1 != 0), profile(1 - side, how & 2 != 0));
        let agent = &mut self.sides[side].agent;
        if how & 0x30 == 0x30 {
            agent.command(now, |agent| agent.stop_punch(now));
        } else {
            // Refusals are the agent's right.
            let _ = agent.command(now, |agent| agent.punch(now, &ours, &theirs));
        }
        self.drain(side);
    }

    /// The owner says that it knows where the other side is.
    pub(super) fn vouch(&mut self, side: usize) {
        let (now, ip) = (self.now, mapped(1 - side, 0).ip());
        self.sides[side].sprayable.insert(ip);
        self.sides[side].agent.command(now, |agent| agent.vouch(now, ip));
        self.drain(side);
    }

    /// Opens a few of the sockets that a punch wants; it has to live with that.
    fn open_sockets(&mut self, side: usize, count: usize) {
        let now = self.now;
        for n in 0..count.min(PUNCH_SOCKETS) {
            let socket = punch_socket(side, n);
            let _ = self.sides[side].agent.command(now, |agent| agent.add_punch_socket(now, socket));
        }
    }

    /// From here on the network is perfect: everything comes to rest.
    pub(super) fn run_out(&mut self) {
        let until = self.now + REST;
        loop {
            let mut deliveries = 0;
            while !self.flying.is_empty() {
                self.deliver(false);
                deliveries += 1;
                assert!(deliveries < DELIVERIES_MAX, "two agents answer each other for ever");
            }
            if !self.fire_next(until) {
                break;
            }
        }
        self.assert_sound();
        for side in &self.sides {
            // Without credentials an agent can only wait for them.
            let decided = side.ended == [true; 2] && side.has_credentials;
            let agent = side.agent.inner();
            let left = decided && agent.state() == State::Checking;
            assert!(!left, "left checking for ever, {:?}: {:#?}", agent.poll_timeout(), lines(agent));
        }
    }

    fn drain(&mut self, side: usize) {
        let mut storage = Vec::new();
        loop {
            let mut quiet = true;
            while let Some(event) = self.sides[side].agent.poll_event() {
                self.on_event(side, event);
                quiet = false;
            }
            while let Some(transmit) =
                self.sides[side].agent.poll_transmit(self.now, &mut Buf::new(&mut storage))
            {
                (self.tamper)(&mut storage);
                self.on_transmit(side, transmit.path, &storage);
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }

    fn on_event(&mut self, side: usize, event: Event) {
        format!("{side} {event:?}").hash(&mut self.trace);
        let Side { agent, heard, closed, .. } = &self.sides[side];
        assert!(!closed, "{event:?} from a closed agent");
        match event {
            Event::PathValid { .. } => assert!(heard, "valid, and the peer was never heard"),
            Event::PathSelected { path } => {
                assert!(heard, "selected, and the peer was never heard");
                assert_eq!(agent.inner().selected_path(), Some(path));
            }
            Event::ConsentExpired { path } => {
                assert!(agent.inner().selected_path() != Some(path), "expired, and still selected");
            }
            Event::PathSuspect { .. }
            | Event::PublishName { .. }
            | Event::StateChanged(_)
            | Event::RoleChanged(_)
            | Event::LocalPeerReflexive { .. }
            | Event::RemotePeerReflexive { .. }
            | Event::Punch(PunchEvent::StateChanged(_) | PunchEvent::CloseSockets { .. })
            | Event::Failed { .. } => {}
            Event::ResolveName { query, name } => self.resolve(side, query, name),
            Event::Punch(PunchEvent::OpenSockets { count }) => self.open_sockets(side, count),
        }
    }

    fn on_transmit(&mut self, from: usize, path: Path, bytes: &[u8]) {
        (from, self.now, path, bytes).hash(&mut self.trace);
        let Path::Direct(FourTuple { local, remote }) = path else { panic!("there is no relay here") };
        let side = &mut self.sides[from];
        assert!(!side.closed, "a closed agent speaks");
        let opened = (0..PUNCH_SOCKETS).any(|n| punch_socket(from, n) == local);
        assert!(
            opened || (0..SOCKETS).any(|n| socket(from, n) == local),
            "{local} is no socket of this side"
        );
        let known = side.agent.inner().remote_candidates().any(|known| known.address == remote);
        let is_spray = opened || !known;
        let message = Message::parse(bytes).expect("what an agent sends is STUN");
        assert_eq!(message.method(), Method::BINDING);
        assert!(message.has_fingerprint() && bytes.len() <= MESSAGE_MAX);
        if message.class() == Class::Request {
            let pause = side.last_request.map(|last| self.now.since(last));
            assert!(pause.is_none_or(|pause| pause >= TA_MIN), "checks {pause:?} apart");
            assert!(message.has_integrity() && message.username().is_some());
            assert!(!is_spray || side.sprayable.contains(&remote.ip()), "{remote} did not ask for this");
            side.last_request = Some(self.now);
        }
        // An answer without a signature proves nothing to its receiver.
        let genuine = message.has_integrity();
        self.fly(Flying { from, source: local, destination: remote, bytes: bytes.to_vec(), genuine });
    }

    fn fly(&mut self, packet: Flying) {
        if self.flying.len() < FLYING_MAX {
            self.flying.push_back(packet);
        }
    }

    pub(super) fn assert_sound(&self) {
        for Side { agent, heard, has_credentials, .. } in &self.sides {
            let agent = agent.inner();
            assert!(*has_credentials || agent.state() != State::Checking, "checking nobody");
            let per_kind = self.limits.local_candidates_max.max(self.limits.remote_candidates_max);
            let candidates_max = 4 * per_kind + self.limits.peer_reflexive_max;
            assert!(agent.local_candidates().count() <= candidates_max);
            assert!(agent.remote_candidates().count() <= candidates_max);
            assert!(agent.pairs().count() <= self.limits.pairs_max);
            assert!(*heard || agent.valid_paths().next().is_none(), "valid, and the peer was never heard");
            if let Some(selected) = agent.selected_path() {
                let valid = agent.valid_paths().any(|path| path == selected);
                assert!(valid, "{selected} is selected and not valid: {:#?}", lines(agent));
            }
            if agent.state() == State::Completed {
                assert!(agent.selected_path().is_some(), "completed without a path");
            }
        }
    }
}
