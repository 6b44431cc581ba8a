//! What runs on the hosts of a scene with a relay: nodes, and a TURN server.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use gimlet_machine::{
    Answer, Buf, Deadline, Ecn, FourTuple, Input, Instant, Machine, Request, Rng, Transmit, Verdict,
};
use gimlet_node::{Event, Node, TurnServer, TurnTransport};
use gimlet_sim::{HostId, World};
use gimlet_turn::{LongTerm, Server, ServerConfig, ServerEvent};

use crate::stream_side::StreamSide;

/// The first port that a relay opens for a client.
const RELAYED_PORT: u16 = 50_000;
/// Who may use a relay.
const USER: (&str, &str) = ("alice", "her password");

/// A TURN server to which every port of its host belongs.
#[derive(Debug)]
pub struct Relay {
    /// The server, to look at.
    pub server: Server,
    /// Where its sockets are.
    ip: IpAddr,
    next_port: u16,
    streams: StreamSide,
    /// What leaves over UDP.
    leaving: VecDeque<(FourTuple, Ecn, Vec<u8>)>,
}

/// A machine of either kind.
#[derive(Debug)]
pub enum Inhabitant {
    /// A node.
    Node(Box<Node>),
    /// A relay.
    Relay(Box<Relay>),
}

impl Relay {
    /// A relay on a host with the address `ip`, that knows one user, the one of [`Relay::known_to`].
    pub fn new(rng: Rng, ip: IpAddr) -> Self {
        let users = vec![LongTerm::new(USER.0.as_bytes(), USER.1.as_bytes()).expect("short")];
        let streams = StreamSide::new(&rng);
        let server = Server::new(rng, ServerConfig { users, ..ServerConfig::default() });
        Self { server, ip, next_port: RELAYED_PORT, streams, leaving: VecDeque::new() }
    }

    fn hear(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        let Input { path, ecn, bytes } = input;
        let verdict = self.server.handle_input(now, Input { path, ecn, bytes: &mut *bytes });
        self.open_sockets(now);
        if let Verdict::Pass { path, range } = verdict {
            self.leave(path, ecn, &bytes[range]);
            return Verdict::Consumed;
        }
        verdict
    }

    /// Sends what is for a stream at once, and keeps the rest.
    fn leave(&mut self, path: FourTuple, ecn: Ecn, bytes: &[u8]) {
        if !self.streams.send(path, bytes) {
            self.leaving.push_back((path, ecn, bytes.to_vec()));
        }
    }

    fn pour(&mut self, now: Instant) {
        let mut bytes = Vec::new();
        while let Some(transmit) = self.server.poll_transmit(now, &mut Buf::new(&mut bytes)) {
            self.leave(transmit.path, transmit.ecn, &bytes);
        }
    }

    /// What a node has to know of the relay at `address`, to speak to it over UDP.
    pub fn known_to(address: SocketAddr) -> TurnServer {
        let transport = TurnTransport::Udp;
        TurnServer { address, transport, username: USER.0.into(), password: USER.1.into() }
    }

    fn open_sockets(&mut self, now: Instant) {
        while let Some(event) = self.server.poll_event() {
            if let ServerEvent::OpenRelay { id, .. } = event {
                let address = SocketAddr::new(self.ip, self.next_port);
                self.next_port += 1;
                self.server.relay_opened(now, id, address, address);
            }
        }
    }
}

/// A world with such inhabitants, for tests that know who lives where.
pub trait Neighbourhood {
    /// The node on `host`.
    ///
    /// # Panics
    /// If none runs there.
    fn node(&self, host: HostId) -> &Node;
    /// Gives the node on `host` a command.
    ///
    /// # Panics
    /// If none runs there.
    fn touch_node<T>(&mut self, host: HostId, command: impl FnOnce(&mut Node, Instant) -> T) -> T;
    /// The relay on `host`.
    ///
    /// # Panics
    /// If none runs there.
    fn relay(&self, host: HostId) -> &Relay;
}

impl Neighbourhood for World<Inhabitant> {
    fn node(&self, host: HostId) -> &Node {
        self.machine(host).and_then(Inhabitant::node).expect("a node runs there")
    }

    fn touch_node<T>(&mut self, host: HostId, command: impl FnOnce(&mut Node, Instant) -> T) -> T {
        self.touch(host, |it, now| command(it.node_mut().expect("a node runs there"), now))
    }

    fn relay(&self, host: HostId) -> &Relay {
        match self.machine(host) {
            Some(Inhabitant::Relay(relay)) => relay,
            Some(Inhabitant::Node(_)) | None => panic!("no relay runs there"),
        }
    }
}

impl Inhabitant {
    /// The node, if it is one.
    pub fn node(&self) -> Option<&Node> {
        match self {
            Inhabitant::Node(node) => Some(node),
            Inhabitant::Relay(_) => None,
        }
    }

    /// The node, for commands.
    pub fn node_mut(&mut self) -> Option<&mut Node> {
        match self {
            Inhabitant::Node(node) => Some(node),
            Inhabitant::Relay(_) => None,
        }
    }
}

impl Machine for Inhabitant {
    type Path = FourTuple;
    type Event = Event;

    fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        let relay = match self {
            Inhabitant::Node(node) => return node.handle_input(now, input),
            Inhabitant::Relay(relay) => relay,
        };
        let verdict = relay.hear(now, input);
        relay.pour(now);
        verdict
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self {
            Inhabitant::Node(node) => node.handle_timeout(now),
            Inhabitant::Relay(relay) => {
                relay.server.handle_timeout(now);
                relay.open_sockets(now);
                relay.pour(now);
            }
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        match self {
            Inhabitant::Node(node) => node.poll_event(),
            Inhabitant::Relay(_) => None,
        }
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        let relay = match self {
            Inhabitant::Node(node) => return node.poll_transmit(now, out),
            Inhabitant::Relay(relay) => relay,
        };
        let (path, ecn, bytes) = relay.leaving.pop_front()?;
        assert!(out.put(&bytes), "one datagram fits");
        Some(Transmit { path, ecn, segment: None })
    }

    fn poll_request(&mut self) -> Option<Request> {
        match self {
            Inhabitant::Node(node) => node.poll_request(),
            Inhabitant::Relay(relay) => relay.streams.poll_request(),
        }
    }

    fn handle_answer(&mut self, now: Instant, answer: Answer<'_>) {
        let relay = match self {
            Inhabitant::Node(node) => return node.handle_answer(now, answer),
            Inhabitant::Relay(relay) => relay,
        };
        for (path, mut bytes) in relay.streams.handle_answer(answer) {
            let _ = relay.hear(now, Input::new(path, &mut bytes));
        }
        relay.pour(now);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        match self {
            Inhabitant::Node(node) => node.poll_timeout(),
            Inhabitant::Relay(relay) => relay.server.poll_timeout(),
        }
    }
}
