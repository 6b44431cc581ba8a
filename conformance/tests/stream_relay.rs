//! A peer behind a firewall that drops UDP reaches everybody through a relay over TCP or TLS, played in the
//! simulator. A failure names its seed; `SEED=n` replays it alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gimlet_conformance::RELAY_CERTIFICATE;
use gimlet_conformance::inhabitant::{Inhabitant, Neighbourhood as _, Relay};
use gimlet_conformance::meeting::EPOCH;
use gimlet_conformance::seeds;
use gimlet_machine::{Direction, Instant, PeerId, Session};
use gimlet_node::{Config, Error, Event, Identity, Node, Progress, TurnServer, TurnTls, TurnTransport};
use gimlet_sim::{
    Fault, Firewall, Happening, HostConfig, HostId, LinkConfig, NatConfig, NatKind, World, seeded_provider,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

const WITHIN: Duration = Duration::from_secs(30);
/// Of a line, in each direction. A packet crosses two lines.
const LATENCY: Duration = Duration::from_micros(12_500);
/// Where the public node listens.
const PUBLIC: &str = "198.51.100.1:4433";
/// Where the relay is.
const RELAY: &str = "198.51.100.2";

/// How the peer that is shut in speaks to its relay.
#[derive(Clone, Copy, Debug)]
enum Over {
    Tcp,
    Tls,
}

/// A world with a public node, a relay, a peer behind the firewall that knows the relay, and another peer.
struct Meeting {
    world: World<Inhabitant>,
    relay: HostId,
    public: HostId,
    shut_in: HostId,
    other: HostId,
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("a socket address")
}

impl Over {
    fn server(self) -> TurnServer {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(RELAY_CERTIFICATE).expect("a certificate")).expect("a root");
        let (port, transport) = match self {
            Over::Tcp => (3478, TurnTransport::Tcp),
            Over::Tls => {
                let tls = TurnTls { server_name: "relay.example".into(), roots: Arc::new(roots) };
                (443, TurnTransport::Tls(tls))
            }
        };
        TurnServer { transport, ..Relay::known_to(address(&format!("{RELAY}:{port}"))) }
    }

    fn firewall(self) -> Firewall {
        match self {
            Over::Tcp => Firewall::without_udp(),
            Over::Tls => Firewall::web_only(),
        }
    }
}

fn add_node(
    world: &mut World<Inhabitant>,
    nth: u8,
    nat: Option<NatConfig>,
    servers: Vec<TurnServer>,
) -> HostId {
    let nat = nat.map(|nat| world.add_nat(nat, LinkConfig::default()));
    let socket: SocketAddr = match (nth, nat) {
        (0, _) => address(PUBLIC),
        // A relay does not relay to private addresses.
        (_, None) => ([192, 0, 2, nth], 5000).into(),
        (_, Some(_)) => ([10, 0, nth, 2], 5000).into(),
    };
    let name = ["public", "shut in", "other"][usize::from(nth)];
    let host = HostConfig::new(name, [socket]).behind(nat).link(LinkConfig::with_latency(LATENCY));
    let origin = std::time::Instant::now();
    world.add_host_with(host, move |mut seat| {
        let identity = Identity::from_secret([nth + 1; 32]);
        let provider = seeded_provider(seat.rng.fork("tls"));
        let mut config = Config::new(identity, seat.rng.bytes(), vec![socket], origin, EPOCH, provider);
        config.public = nth == 0;
        config.turn_servers.clone_from(&servers);
        Inhabitant::Node(Box::new(Node::new(seat.now, config).expect("the configuration is complete")))
    })
}

fn open(seed: u64, over: Over, nat: NatKind) -> Meeting {
    let mut world = World::new(seed);
    let everywhere = address(&format!("{RELAY}:0"));
    let mut host = HostConfig::new("relay", [everywhere]).link(LinkConfig::with_latency(LATENCY));
    host.listens = vec![address(&format!("{RELAY}:3478")), address(&format!("{RELAY}:443"))];
    let relay = world.add_host_with(host, move |seat| {
        Inhabitant::Relay(Box::new(Relay::new(seat.rng.fork("relay"), everywhere.ip())))
    });
    let public = add_node(&mut world, 0, None, Vec::new());
    let behind = |kind, nth| NatConfig::of_kind(kind, [203, 0, 113, nth]);
    let wall = behind(NatKind::PortRestricted, 1).map(|nat| NatConfig { firewall: over.firewall(), ..nat });
    let shut_in = add_node(&mut world, 1, wall, vec![over.server()]);
    let other = add_node(&mut world, 2, behind(nat, 2), Vec::new());
    let mut meeting = Meeting { world, relay, public, shut_in, other };
    let listens = [address(PUBLIC)];
    let expires = EPOCH.as_secs() + 86_400;
    let ticket =
        meeting.world.touch_node(public, |node, _| node.ticket(&listens, expires)).expect("one address");
    for host in [shut_in, other] {
        meeting.world.touch_node(host, |node, now| node.add_ticket(now, &ticket)).expect("a fresh ticket");
    }
    meeting
}

impl Meeting {
    fn relayed(&self) -> (u64, u64) {
        let counters = self.world.relay(self.relay).server.counters();
        (counters.to_peers, counters.to_clients)
    }

    fn peer(&self, host: HostId) -> PeerId {
        self.world.node(host).peer_id()
    }

    fn connected(&self, host: HostId, other: HostId) -> bool {
        self.world.node(host).is_connected(self.peer(other)) == Ok(true)
    }

    /// Lets things happen until `done` gives something.
    fn wait<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        let limit = self.world.now() + WITHIN;
        loop {
            if let Some(result) = done(self) {
                return Some(result);
            }
            if self.world.next_at().is_none_or(|at| at > limit) {
                return None;
            }
            self.world.step();
        }
    }

    #[track_caller]
    fn expect(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let happened = self.wait(|it| done(it).then_some(())).is_some();
        assert!(happened, "{what}: never; SEED={}\n{}", self.world.seed(), self.timeline());
    }

    /// Both know the public node, and `from` connects to the other one.
    fn connect(&mut self, from: HostId) {
        let (public, ends) = (self.public, [self.shut_in, self.other]);
        self.expect("a link to the public node", |it| ends.iter().all(|end| it.connected(*end, public)));
        let to = ends.into_iter().find(|end| *end != from).expect("there are two");
        let peer = self.peer(to);
        self.world.touch_node(from, |node, now| node.connect(now, peer)).expect("an introducer is connected");
        self.expect("a link", |it| it.connected(from, to) && it.connected(to, from));
    }

    /// Sends a megabyte from one end to the other, and compares hashes.
    fn transfer(&mut self, from: HostId, to: HostId) {
        let message: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
        let (sender, receiver) = (self.peer(from), self.peer(to));
        let sent = self.world.touch_node(from, |node, now| {
            let stream = node.open(now, receiver, Direction::Bidirectional)?.expect("streams are free");
            node.send(now, stream, &message)
        });
        assert!(matches!(sent, Ok::<bool, Error>(true)), "{sent:?}");
        let stream = self
            .wait(|it| {
                it.world.touch_node(to, |node, now| node.accept_stream(now, sender)).expect("connected")
            })
            .expect("the stream arrives");
        let got = self.wait(|it| it.world.touch_node(to, |node, now| node.receive(now, stream)).transpose());
        let got =
            got.unwrap_or_else(|| panic!("no message in time\n{}", self.timeline())).expect("a message");
        assert_eq!(Sha256::digest(&got), Sha256::digest(&message));
    }

    fn timeline(&mut self) -> String {
        let all = std::iter::from_fn(|| self.world.poll_event()).collect::<Vec<_>>();
        let line = |Happening { at, host, event }: Happening<Event>| match event {
            Event::Progress { step, .. } => format!("{at} {:8} {step}\n", self.world.name(host)),
            other => format!("{at} {:8} {other:?}\n", self.world.name(host)),
        };
        all.into_iter().map(line).collect()
    }
}

#[test]
fn behind_a_middlebox_that_allows_only_443_everybody_is_reached_over_tls() {
    for seed in seeds(3) {
        for nat in [NatKind::None, NatKind::PortRestricted, NatKind::Symmetric] {
            for from_inside in [true, false] {
                let mut meeting = open(seed, Over::Tls, nat);
                let (shut_in, other) = (meeting.shut_in, meeting.other);
                meeting.connect(if from_inside { shut_in } else { other });
                meeting.transfer(shut_in, other);
                meeting.transfer(other, shut_in);
                let path = meeting.world.node(shut_in).path(meeting.peer(other)).expect("a path");
                let (out, back) = meeting.relayed();
                assert!(
                    !path.is_direct() && out > 700 && back > 700,
                    "SEED={seed} {nat}: {path} {out} {back}"
                );
                assert_eq!(meeting.world.node(shut_in).counters().unknown_protocol, 0, "SEED={seed} {nat}");
            }
        }
    }
}

#[test]
fn where_only_udp_is_dropped_a_relay_over_tcp_is_enough() {
    for seed in seeds(3) {
        let mut meeting = open(seed, Over::Tcp, NatKind::PortRestricted);
        let (shut_in, other) = (meeting.shut_in, meeting.other);
        meeting.connect(shut_in);
        meeting.transfer(shut_in, other);
        meeting.transfer(other, shut_in);
        let mapped = meeting.world.node(shut_in).reflexive_addresses().count();
        assert_eq!(mapped, 0, "what the relay saw of a connection is no address for datagrams");
    }
}

#[test]
fn the_public_node_is_reached_through_the_relay_within_seconds() {
    for seed in seeds(5) {
        let mut meeting = open(seed, Over::Tls, NatKind::None);
        let (shut_in, public) = (meeting.shut_in, meeting.public);
        meeting.expect("a link", |it| it.connected(shut_in, public));
        assert!(meeting.world.now() < Instant::from_millis(2_500), "SEED={seed}: {}", meeting.world.now());
        let told = meeting.timeline();
        let server = address(&format!("{RELAY}:443"));
        let step = Progress::DialingThrough { server, address: address(PUBLIC) };
        assert!(told.contains(&step.to_string()), "{told}");
    }
}

#[test]
fn connections_outlive_the_connection_to_the_relay() {
    for seed in seeds(3) {
        let mut meeting = open(seed, Over::Tls, NatKind::PortRestricted);
        let (shut_in, other, relay) = (meeting.shut_in, meeting.other, meeting.relay);
        meeting.connect(shut_in);
        meeting.transfer(shut_in, other);
        // Everything that the relay knew of its clients is gone, their connections included.
        meeting.world.inject(&Fault::Restart(relay));
        meeting.transfer(other, shut_in);
        let told = meeting.timeline();
        assert!(told.contains("no relaying by"), "{told}");
        assert!(!told.contains("Lost {"), "{told}");
    }
}

#[test]
fn the_same_seed_writes_the_same_bytes() {
    let run = |seed| {
        let mut meeting = open(seed, Over::Tls, NatKind::Symmetric);
        let (shut_in, other) = (meeting.shut_in, meeting.other);
        meeting.connect(shut_in);
        meeting.transfer(shut_in, other);
        meeting.world.trace_hash()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
