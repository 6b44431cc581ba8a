//! Clients, server and peers, and what lies between them.

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Path, Rng, Transmit, Verdict};
use gimlet_stun::{AddressFamily, Class, Message};
use gimlet_testkit::Checked;
use gimlet_turn::{
    AllocationState, Client, ClientConfig, ClientEvent, Families, LongTerm, RelayId, STRANGERS_PER_SECOND,
    Server, ServerConfig, ServerEvent, ServerLimits, Transport,
};

use super::ledger::{Ledger, USERS, is_signed};
use super::{Fault, forge};
use crate::tape::Tape;

/// The most packets on the way; further ones are lost.
const FLYING_MAX: usize = 128;

/// How long a run goes on after its last step, with whatever is wanted being granted: past every
/// retransmission, every wait and every lifetime that is given unasked.
const REST: Duration = Duration::from_secs(1_000);

/// The most deliveries in one moment: more is two machines answering each other for ever.
const DELIVERIES_MAX: usize = 10_000;

/// How many sockets an owner has open at most; what is asked beyond is refused.
const RELAYS_MAX: usize = 64;

/// Whom the lies are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Client,
    Server,
}

/// A packet between a client, or a stranger, and the server.
#[derive(Clone)]
struct Flying {
    /// As the client has it.
    flow: FourTuple,
    to_server: bool,
    bytes: Vec<u8>,
}

/// A client and what is known of it.
struct Side {
    client: Checked<Client>,
    /// The latest request it sent.
    asked: Vec<u8>,
    /// What is being heard was signed by somebody who has the password.
    authentic: bool,
    moves: u8,
}

pub(super) struct World {
    now: Instant,
    sides: Vec<Side>,
    server: Checked<Server>,
    limits: ServerLimits,
    ledger: Ledger,
    /// Sockets that were asked for and not answered, oldest first.
    wanted: VecDeque<(RelayId, AddressFamily)>,
    /// Sockets that are open.
    relays: Vec<(RelayId, SocketAddr)>,
    opened: u16,
    flying: VecDeque<Flying>,
    trace: DefaultHasher,
    scene: Scene,
}

/// What was decided before the first step.
struct Scene {
    target: Target,
    fault: Fault,
    setup: u8,
}

const SERVER: &str = "192.0.2.1:3478";

fn server_address() -> SocketAddr {
    SERVER.parse().expect("an address")
}

/// The flow of client `n` after so many moves, as it has it.
fn flow(n: usize, moves: u8) -> FourTuple {
    let local = SocketAddr::from(([198, 51, 100, 7 + n as u8], 61_000 + u16::from(moves % 8)));
    FourTuple::new(local, server_address())
}

/// The flow of a stranger, as it has it.
fn strange_flow(n: u8) -> FourTuple {
    FourTuple::new(SocketAddr::from(([198, 51, 100, 100 + n % 4], 7_000 + u16::from(n))), server_address())
}

/// Somebody to relay to. The last two are never relayed to by default.
pub(super) fn peer(n: u8) -> SocketAddr {
    match n & 7 {
        n @ 0..=3 => SocketAddr::from(([203, 0, 113, 5 + n / 2], 9 + u16::from(n % 2))),
        n @ 4..=5 => SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()), 9)),
        6 => SocketAddr::from(([10, 0, 0, 1], 9)),
        _ => SocketAddr::from(([203, 0, 113, 5], 0)),
    }
}

impl World {
    pub(super) fn new(setup: u8, target: Target, fault: Fault) -> Self {
        let small = ServerLimits {
            allocations_max: 4,
            per_user_max: 3,
            per_address_max: 2,
            permissions_max: 3,
            channels_max: 2,
            lifetime_max: Duration::from_secs(700),
            bytes_per_second_max: 2_000,
        };
        let limits = if setup & 1 != 0 { small } else { ServerLimits::default() };
        let users = USERS.map(|(name, password)| LongTerm::new(name, password).expect("short enough"));
        let families = match setup & 2 {
            0 => vec![AddressFamily::V4],
            _ => vec![AddressFamily::V4, AddressFamily::V6],
        };
        let config = ServerConfig { users: users.to_vec(), families, limits, ..ServerConfig::default() };
        let transport = if setup & 8 == 0 { Transport::Datagram } else { Transport::Stream };
        let clients = match target {
            Target::Client => 1,
            Target::Server => 2,
        };
        let side = |n: usize| {
            let config = ClientConfig { transport, ..ClientConfig::default() };
            let client = Client::new(Rng::from_u64(n as u64), flow(n, 0), users[n].clone(), config);
            Side { client: Checked::new(client), asked: Vec::new(), authentic: false, moves: 0 }
        };
        Self {
            now: Instant::from_millis(1_000),
            sides: (0..clients).map(side).collect(),
            server: Checked::new(Server::new(Rng::from_u64(99), config)),
            limits,
            ledger: Ledger::default(),
            wanted: VecDeque::new(),
            relays: Vec::new(),
            opened: 0,
            flying: VecDeque::new(),
            trace: DefaultHasher::new(),
            scene: Scene { target, fault, setup },
        }
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    fn is_stream(&self) -> bool {
        self.scene.setup & 8 != 0
    }

    /// Lets `millis` pass; timers fire on the way.
    pub(super) fn wait(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while self.fire_next(until) {}
        self.now = until;
    }

    /// Moves to the next deadline, if there is one by `until`, and fires it.
    fn fire_next(&mut self, until: Instant) -> bool {
        let clients = self.sides.iter().map(|side| side.client.poll_timeout());
        let deadlines = clients.chain([self.server.poll_timeout()]);
        let next = deadlines.flatten().map(|deadline| deadline.at).min();
        let Some(at) = next.filter(|at| *at <= until) else { return false };
        self.now = self.now.max(at);
        for n in 0..=self.sides.len() {
            self.timeout(n);
        }
        true
    }

    /// A timeout of a client or of the server, due or not.
    pub(super) fn timeout(&mut self, n: usize) {
        let now = self.now;
        match self.sides.get_mut(n) {
            Some(side) => side.client.handle_timeout(now),
            None => self.server.handle_timeout(now),
        }
        self.drain();
    }

    pub(super) fn deliver(&mut self) {
        let Some(Flying { flow, to_server, bytes }) = self.flying.pop_front() else { return };
        if to_server {
            self.server_hears(flow.flipped(), bytes);
        } else if let Some(n) = self.sides.iter().position(|side| side.client.inner().relay() == flow) {
            self.client_hears(n, flow, bytes);
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
        if let Some(packet) = self.flying.front_mut().filter(|packet| !packet.bytes.is_empty()) {
            let at = at % packet.bytes.len();
            match how {
                0 => packet.bytes.truncate(at),
                how => packet.bytes[at] ^= how,
            }
        }
    }

    fn fly(&mut self, packet: Flying) {
        if self.flying.len() < FLYING_MAX {
            self.flying.push_back(packet);
        }
    }

    /// Something that the owner of a client may do.
    pub(super) fn command(&mut self, n: usize, which: u8) {
        let n = n % self.sides.len();
        let (now, families) =
            (self.now, if self.scene.setup & 0x10 == 0 { Families::V4 } else { Families::Both });
        let side = &mut self.sides[n];
        let whom = peer(which >> 3);
        if which & 7 == 5 {
            side.moves = side.moves.wrapping_add(1);
        }
        let moved = flow(n, side.moves);
        // Refusals are the client's right.
        side.client.command(now, |client| match which & 7 {
            0 => drop(client.allocate(now, families)),
            1 => drop(client.permit(now, whom.ip())),
            2 => client.forbid(now, whom.ip()),
            3 => client.unbind_channel(now, whom),
            4 => drop(client.bind_channel(now, whom)),
            5 => client.reconnected(now, moved),
            6 => client.release(now),
            _ => drop(client.allocate(now, Families::V6)),
        });
        self.drain();
    }

    /// The owner of a client has a datagram for a peer.
    pub(super) fn send(&mut self, n: usize, to: u8, len: usize) {
        let n = n % self.sides.len();
        let (now, peer, side) = (self.now, peer(to), &mut self.sides[n]);
        let relay = side.client.inner().relay();
        let (path, client) = (Path::Relayed { relay, peer }, side.client.inner());
        let permitted = client.is_permitted(now, peer.ip()) || client.channel(now, peer).is_some();
        let (mut storage, payload) = (Vec::new(), vec![to; len]);
        let mut out = Buf::new(&mut storage);
        out.put(&payload);
        let wrapped = side.client.command(now, |client| client.wrap(now, Transmit::new(path), &mut out));
        assert_eq!(wrapped.is_ok(), permitted, "wrapped for whom is permitted, and for nobody else");
        if let Ok(transmit) = wrapped {
            assert_eq!(transmit.path, Path::Direct(relay));
            self.fly(Flying { flow: relay, to_server: true, bytes: storage });
        } else {
            assert_eq!(storage, payload, "what is not wrapped is not changed");
        }
        self.drain();
    }

    /// A peer, or somebody else, sends to a relay socket.
    pub(super) fn peer_sends(&mut self, from: u8, to: usize, len: usize) {
        let Some((_, local)) = self.relays.get(to % self.relays.len().max(1)).copied() else { return };
        let remote = peer(from);
        if local.is_ipv4() == remote.is_ipv4() {
            self.server_hears(FourTuple::new(local, remote), vec![from; len]);
        }
    }

    /// The server's owner answers the oldest request for a socket.
    pub(super) fn answer_owner(&mut self, how: u8) {
        let Some((id, family)) = self.wanted.pop_front() else { return };
        let now = self.now;
        self.opened = self.opened.wrapping_add(if how & 8 == 0 { 2 } else { 1 });
        let port = 40_000 + self.opened % 20_000;
        let fresh = match family {
            AddressFamily::V4 => SocketAddr::from(([192, 0, 2, 1], port)),
            AddressFamily::V6 => SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1), port)),
        };
        let taken = self.relays.first().map_or(fresh, |(_, local)| *local);
        let full = self.relays.len() >= RELAYS_MAX;
        let local = match how & 7 {
            3 => None,
            4 => Some(taken),
            5 => Some(SocketAddr::from(([127, 0, 0, 1], port))),
            _ => Some(fresh),
        };
        match local.filter(|_| !full) {
            None => self.server.command(now, |server| server.relay_failed(now, id)),
            Some(local) => {
                if local == fresh || how & 7 == 5 {
                    self.relays.push((id, local));
                }
                self.server.command(now, |server| server.relay_opened(now, id, local, local));
                if how & 7 == 6 {
                    // Twice.
                    self.server.command(now, |server| server.relay_failed(now, id));
                }
            }
        }
        self.drain();
    }

    /// A socket breaks, or all are closed.
    pub(super) fn close(&mut self, how: u8) {
        let now = self.now;
        if how & 8 != 0 {
            self.server.command(now, Server::close_all);
        } else if let Some((id, _)) = self.relays.get(usize::from(how) % self.relays.len().max(1)).copied() {
            self.relays.retain(|(open, _)| *open != id);
            self.server.command(now, |server| server.relay_gone(now, id));
        }
        self.drain();
    }

    /// Bytes from anybody.
    pub(super) fn garbage(&mut self, how: u8, bytes: &[u8]) {
        let n = usize::from(how >> 1) % self.sides.len();
        let known = self.sides[n].client.inner().relay();
        let strange = how & 1 != 0;
        match self.scene.target {
            Target::Client => {
                let from = if strange { SocketAddr::from(([192, 0, 2, how], 3_478)) } else { known.remote };
                self.client_hears(n, FourTuple::new(known.local, from), bytes.to_vec());
            }
            Target::Server => {
                let flow = if strange { strange_flow(how) } else { known };
                self.server_hears(flow.flipped(), bytes.to_vec());
            }
        }
    }

    /// A well-made lie.
    pub(super) fn forge(&mut self, how: u8, tape: &mut Tape<'_>) {
        let n = usize::from(how & 1) % self.sides.len();
        let known = self.sides[n].client.inner().relay();
        match self.scene.target {
            Target::Client => {
                if let Some(bytes) = forge::answer(&self.sides[n].asked, tape) {
                    self.client_hears(n, known, bytes);
                }
            }
            Target::Server => {
                let flow = if how & 2 == 0 { known } else { strange_flow(how >> 2) };
                let bytes = forge::request(flow, self.ledger.nonces.get(&flow.flipped()), tape);
                self.server_hears(flow.flipped(), bytes);
            }
        }
    }

    fn server_hears(&mut self, path: FourTuple, mut bytes: Vec<u8>) {
        let is_relay = self.server.inner().is_relay(path.local);
        if !is_relay {
            self.ledger.hears(path, &bytes);
        }
        let verdict = self.server.handle_input(self.now, Input::new(path, &mut bytes));
        if let Verdict::Pass { path: mut out, range } = verdict {
            assert!(!is_relay, "what a peer says goes through the outbox");
            if self.scene.fault == Fault::Server {
                out.remote.set_ip([203, 0, 113, 200].into());
            }
            self.ledger.assert_permitted(self.now, path, out.remote);
            assert!(self.server.inner().is_relay(out.local), "relayed from {}", out.local);
            assert_ne!(out.remote.port(), 0);
            (out.local, out.remote, &bytes[range]).hash(&mut self.trace);
        }
        self.drain();
    }

    fn client_hears(&mut self, n: usize, flow: FourTuple, mut bytes: Vec<u8>) {
        if self.is_stream() {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let side = &mut self.sides[n];
        // Of a stream, any piece may end a message that was authentic.
        side.authentic =
            self.scene.setup & 8 != 0 || Message::parse(&bytes).is_ok_and(|message| is_signed(&message));
        let client = side.client.inner();
        let (relay, state) = (client.relay(), client.state());
        let verdict = side.client.handle_input(self.now, Input::new(Path::Direct(flow), &mut bytes));
        if let Verdict::Pass { path, range } = verdict {
            assert_eq!(flow, relay, "only the server's datagrams are handed on");
            let Path::Relayed { relay: over, peer } = path else { panic!("{path} is no relayed path") };
            assert_eq!(over, relay);
            assert!(state.is_allocated() && self.sides[n].client.inner().is_permitted(self.now, peer.ip()));
            (n, peer, &bytes[range]).hash(&mut self.trace);
        }
        self.drain();
        self.sides[n].authentic = false;
    }

    fn drain(&mut self) {
        let (now, mut storage) = (self.now, Vec::new());
        loop {
            let mut quiet = true;
            for n in 0..self.sides.len() {
                while let Some(event) = self.sides[n].client.poll_event() {
                    self.on_client_event(n, &event);
                    quiet = false;
                }
                while let Some(transmit) =
                    self.sides[n].client.poll_transmit(now, &mut Buf::new(&mut storage))
                {
                    self.on_client_transmit(n, transmit.path, &mut storage);
                    quiet = false;
                }
            }
            while let Some(transmit) = self.server.poll_transmit(now, &mut Buf::new(&mut storage)) {
                assert_eq!(transmit.segment, None, "no train was offered");
                (transmit.path.local, transmit.path.remote, &storage).hash(&mut self.trace);
                self.ledger.says(now, transmit.path, &storage, STRANGERS_PER_SECOND);
                let flow = transmit.path.flipped();
                self.fly(Flying { flow, to_server: false, bytes: storage.clone() });
                quiet = false;
            }
            while let Some(event) = self.server.poll_event() {
                self.on_server_event(&event);
                quiet = false;
            }
            // The bit of the set-up asks for an owner who takes time.
            while self.scene.setup & 4 == 0 && !self.wanted.is_empty() {
                self.answer_owner(0);
            }
            if quiet {
                return;
            }
        }
    }

    fn on_client_event(&mut self, n: usize, event: &ClientEvent) {
        format!("{n} {event:?}").hash(&mut self.trace);
        let Side { client, authentic, .. } = &self.sides[n];
        match event {
            ClientEvent::Allocated(_) => assert!(authentic, "allocated, by nobody who could"),
            ClientEvent::PermissionInstalled { .. } | ClientEvent::ChannelBound { .. } => {
                assert!(authentic, "{event:?}, by nobody who could");
            }
            ClientEvent::Received { peer, .. } => {
                assert!(client.inner().is_permitted(self.now, peer.ip()) || self.is_stream());
            }
            ClientEvent::Expired
            | ClientEvent::Released
            | ClientEvent::Failed { .. }
            | ClientEvent::Redirected { .. }
            | ClientEvent::PermissionRefused { .. }
            | ClientEvent::ChannelRefused { .. }
            | ClientEvent::PeerUnreachable { .. } => {}
        }
    }

    fn on_client_transmit(&mut self, n: usize, path: Path, bytes: &mut [u8]) {
        let flow = self.sides[n].client.inner().relay();
        assert_eq!(path, Path::Direct(flow), "a client speaks to its server only");
        if let Some(last) = bytes.last_mut().filter(|_| self.scene.fault == Fault::Client) {
            *last ^= 1;
        }
        let message = Message::parse(bytes).expect("what a client sends is STUN");
        assert_eq!(message.class(), Class::Request);
        // Other servers may have other realms; this one does not.
        let signed = message.realm() != Some(super::ledger::REALM) || is_signed(&message);
        assert!(signed || !message.has_integrity(), "signed, and not by its password");
        self.sides[n].asked = bytes.to_vec();
        (n, &*bytes).hash(&mut self.trace);
        self.fly(Flying { flow, to_server: true, bytes: bytes.to_vec() });
    }

    fn on_server_event(&mut self, event: &ServerEvent) {
        format!("{event:?}").hash(&mut self.trace);
        match event {
            ServerEvent::OpenRelay { id, family, .. } => {
                // The server waits for an answer for some seconds only; an owner may forget older questions.
                if self.wanted.len() >= 2 * self.limits.allocations_max {
                    self.wanted.pop_front();
                }
                self.wanted.push_back((*id, *family));
            }
            ServerEvent::CloseRelay { id, local } => {
                self.relays.retain(|(open, at)| (open, at) != (id, local));
            }
            ServerEvent::Allocated { .. } => {}
            ServerEvent::Released { client, .. } => self.ledger.forget(*client),
        }
    }

    /// From here on the network is perfect and the owner opens every socket: everything comes to rest.
    pub(super) fn run_out(&mut self) {
        self.scene.setup &= !4;
        self.drain();
        let until = self.now + REST;
        loop {
            let mut deliveries = 0;
            while !self.flying.is_empty() {
                self.deliver();
                deliveries += 1;
                assert!(deliveries < DELIVERIES_MAX, "client and server answer each other for ever");
            }
            if !self.fire_next(until) {
                break;
            }
        }
        self.assert_sound();
        for side in &self.sides {
            let (state, deadline) = (side.client.inner().state(), side.client.poll_timeout());
            let at_rest = match state {
                AllocationState::Idle | AllocationState::Released | AllocationState::Failed => true,
                // Over a stream it waits for its owner to connect to another server.
                AllocationState::Moving => self.is_stream() || deadline.is_some(),
                AllocationState::Allocating
                | AllocationState::Clearing
                | AllocationState::Waiting
                | AllocationState::Allocated
                | AllocationState::Refreshing
                | AllocationState::Deleting => deadline.is_some(),
            };
            assert!(at_rest, "left {state:?}, waiting for nothing");
        }
    }

    pub(super) fn assert_sound(&self) {
        let server = self.server.inner();
        assert!(server.allocations() <= self.limits.allocations_max);
        assert!(self.relays.len() <= RELAYS_MAX);
        for (_, local) in &self.relays {
            assert!(server.is_relay(*local), "{local} is open and nobody's");
        }
        for side in &self.sides {
            let client = side.client.inner();
            let relayed = client.relayed(AddressFamily::V4).or(client.relayed(AddressFamily::V6));
            assert!(relayed.is_some() || !client.state().is_allocated(), "allocated, and no address");
        }
    }
}
