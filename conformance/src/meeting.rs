//! The scene of most scenarios: a public node and two peers, each behind the NAT of one's choice.

use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::{Instant, PeerId, Session};
use gimlet_node::{Config, Event, Identity, Node, Ticket};
use gimlet_sim::{Happening, HostConfig, HostId, LinkConfig, NatConfig, NatKind, World, seeded_provider};

/// The wall clock when the world begins: some moment in 2023.
pub const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// What a meeting is made of.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// The NAT in front of the peer who connects.
    pub nat_a: NatKind,
    /// The NAT in front of the peer who is connected to.
    pub nat_b: NatKind,
    /// Both directions of every host's line. A packet crosses two lines.
    pub line: LinkConfig,
}

/// A world with its three inhabitants.
#[derive(Debug)]
pub struct Meeting {
    /// The network.
    pub world: World<Node>,
    /// The public node.
    pub public: HostId,
    /// The peer who connects.
    pub a: HostId,
    /// The peer who is connected to.
    pub b: HostId,
    /// What both peers know of the public node.
    pub ticket: Ticket,
    /// The name of `a`.
    pub peer_a: PeerId,
    /// The name of `b`.
    pub peer_b: PeerId,
}

/// Where the public node listens.
const PUBLIC: &str = "198.51.100.1:4433";

/// Every pair of NATs for which a direct connection is promised: all but two symmetric ones, and a
/// symmetric one with a port-restricted one.
pub fn promised_pairs() -> Vec<(NatKind, NatKind)> {
    use NatKind::{AddressRestricted, FullCone, None, PortRestricted, Symmetric};
    let cones = [None, FullCone, AddressRestricted, PortRestricted];
    let mut pairs: Vec<_> = cones.iter().flat_map(|a| cones.iter().map(move |b| (*a, *b))).collect();
    for other in [None, FullCone, AddressRestricted] {
        pairs.extend([(Symmetric, other), (other, Symmetric)]);
    }
    pairs
}

impl Scene {
    /// Two peers with these NATs, on lines of 12.5 ms: 50 ms from peer to peer and back.
    pub fn new(seed: u64, nat_a: NatKind, nat_b: NatKind) -> Self {
        Self { seed, nat_a, nat_b, line: LinkConfig::with_latency(Duration::from_micros(12_500)) }
    }

    /// The same scene on another line.
    #[must_use]
    pub fn on(self, line: LinkConfig) -> Self {
        Self { line, ..self }
    }

    /// Builds it: both peers know the public node's ticket, and are connecting to it.
    pub fn open(self) -> Meeting {
        let mut world = World::new(self.seed);
        let public = self.node(&mut world, "public", PUBLIC, (NatKind::None, 0));
        let a = self.node(&mut world, "a", address(self.nat_a, 1), (self.nat_a, 1));
        let b = self.node(&mut world, "b", address(self.nat_b, 2), (self.nat_b, 2));
        let listens = [PUBLIC.parse().expect("a socket address")];
        let expires = EPOCH.as_secs() + 86_400;
        let ticket = world.touch(public, |node, _| node.ticket(&listens, expires)).expect("one address");
        for host in [a, b] {
            world.touch(host, |node, now| node.add_ticket(now, &ticket)).expect("a fresh ticket");
        }
        let peer = |host| world.machine(host).map(Node::peer_id).expect("the host is up");
        let (peer_a, peer_b) = (peer(a), peer(b));
        Meeting { world, public, a, b, ticket, peer_a, peer_b }
    }

    fn node(&self, world: &mut World<Node>, name: &str, socket: &str, (nat, nth): (NatKind, u8)) -> HostId {
        let outside = NatConfig::of_kind(nat, [203, 0, 113, nth]);
        // The NAT's own line does nothing: the host's line stands for the whole way to the internet.
        let nat = outside.map(|config| world.add_nat(config, LinkConfig::default()));
        let socket: SocketAddr = socket.parse().expect("a socket address");
        let host = HostConfig::new(name, [socket]).behind(nat).link(self.line);
        let public = nth == 0;
        let origin = std::time::Instant::now();
        world.add_host_with(host, move |mut seat| {
            let identity = Identity::from_secret([nth + 1; 32]);
            let provider = seeded_provider(seat.rng.fork("tls"));
            let since_origin = EPOCH;
            let mut config =
                Config::new(identity, seat.rng.bytes(), vec![socket], origin, since_origin, provider);
            config.public = public;
            Node::new(seat.now, config).expect("the configuration is complete")
        })
    }
}

/// A private address behind a NAT, a public one without.
fn address(nat: NatKind, nth: u8) -> &'static str {
    match (nat, nth) {
        (NatKind::None, 1) => "192.0.2.1:5000",
        (NatKind::None, _) => "192.0.2.2:5000",
        (_, 1) => "192.168.0.2:5000",
        (_, _) => "10.0.0.2:5000",
    }
}

impl Meeting {
    /// Lets both peers reach the public node, then lets `a` connect to `b`. Says whether both are
    /// connected to each other before `within` has passed, and how long that took.
    pub fn connect(&mut self, within: Duration) -> Option<Duration> {
        let public = self.ticket.peer();
        let limit = self.world.now() + within;
        let (a, b) = (self.a, self.b);
        let ready = |world: &mut World<Node>| [a, b].iter().all(|host| connected(world, *host, public));
        if !self.world.run_to(limit, ready) {
            return None;
        }
        let start = self.world.now();
        let (peer_a, peer_b) = (self.peer_a, self.peer_b);
        self.world.touch(a, |node, now| node.connect(now, peer_b)).ok()?;
        let limit = start + within;
        let met = |world: &mut World<Node>| connected(world, a, peer_b) && connected(world, b, peer_a);
        self.world.run_to(limit, met).then(|| self.world.now().since(start))
    }

    /// Whether both peers send to each other without a relay.
    pub fn is_direct(&self) -> bool {
        let direct = |host, peer| {
            self.world.machine(host).and_then(|node| node.path(peer)).is_some_and(|path| path.is_direct())
        };
        direct(self.a, self.peer_b) && direct(self.b, self.peer_a)
    }

    /// All events so far, in order.
    pub fn events(&mut self) -> Vec<Happening<Event>> {
        std::iter::from_fn(|| self.world.poll_event()).collect()
    }

    /// Closes all three nodes and runs until they are done or `within` has passed; says which.
    pub fn close(&mut self, within: Duration) -> bool {
        let hosts = [self.a, self.b, self.public];
        for host in hosts {
            self.world.touch(host, Session::close_all);
        }
        let limit = self.world.now() + within;
        self.world.run_to(limit, |world| {
            hosts.iter().all(|host| world.machine(*host).is_none_or(Session::is_closed))
        })
    }

    /// The current virtual time.
    pub fn now(&self) -> Instant {
        self.world.now()
    }
}

fn connected(world: &World<Node>, host: HostId, peer: PeerId) -> bool {
    world.machine(host).is_some_and(|node| node.is_connected(peer) == Ok(true))
}
