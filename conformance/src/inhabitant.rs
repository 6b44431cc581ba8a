//! What runs on the hosts of a scene with a relay: nodes, and a TURN server.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use gimlet_machine::{
    Answer, Buf, Deadline, Ecn, FourTuple, Input, Instant, Machine, Request, Rng, Transmit, Verdict,
};
use gimlet_node::{Event, Node, TurnServer};
use gimlet_turn::{LongTerm, Server, ServerConfig, ServerEvent};

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
    /// What passes from clients to peers.
    passed: VecDeque<(FourTuple, Ecn, Vec<u8>)>,
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
        let server = Server::new(rng, ServerConfig { users, ..ServerConfig::default() });
        Self { server, ip, next_port: RELAYED_PORT, passed: VecDeque::new() }
    }

    /// What a node has to know of the relay at `address`.
    pub fn known_to(address: SocketAddr) -> TurnServer {
        TurnServer { address, username: USER.0.into(), password: USER.1.into() }
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
        let Input { path, ecn, bytes } = input;
        let verdict = relay.server.handle_input(now, Input { path, ecn, bytes: &mut *bytes });
        relay.open_sockets(now);
        if let Verdict::Pass { path, range } = verdict {
            relay.passed.push_back((path, ecn, bytes[range].to_vec()));
            return Verdict::Consumed;
        }
        verdict
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self {
            Inhabitant::Node(node) => node.handle_timeout(now),
            Inhabitant::Relay(relay) => {
                relay.server.handle_timeout(now);
                relay.open_sockets(now);
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
        match relay.passed.pop_front() {
            Some((path, ecn, bytes)) => {
                assert!(out.put(&bytes), "one datagram fits");
                Some(Transmit { path, ecn, segment: None })
            }
            None => relay.server.poll_transmit(now, out),
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        match self {
            Inhabitant::Node(node) => node.poll_timeout(),
            Inhabitant::Relay(relay) => relay.server.poll_timeout(),
        }
    }

    fn poll_request(&mut self) -> Option<Request> {
        match self {
            Inhabitant::Node(node) => node.poll_request(),
            Inhabitant::Relay(_) => None,
        }
    }

    fn handle_answer(&mut self, now: Instant, answer: Answer<'_>) {
        match self {
            Inhabitant::Node(node) => node.handle_answer(now, answer),
            Inhabitant::Relay(_) => {}
        }
    }
}
