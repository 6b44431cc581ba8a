//! Peers that cannot reach each other meet at a relay, played in the simulator. A failure names its
//! seed; `SEED=n` replays it alone.

use std::net::SocketAddr;
use std::time::Duration;

use gimlet_conformance::inhabitant::{Inhabitant, Neighbourhood as _, Relay};
use gimlet_conformance::meeting::EPOCH;
use gimlet_conformance::seeds;
use gimlet_machine::{Direction, Instant, PeerId, Session};
use gimlet_node::{Config, Error, Event, Identity, Node, Stream, TurnServer, TurnTransport};
use gimlet_sim::{Happening, HostConfig, HostId, LinkConfig, NatConfig, NatKind, World, seeded_provider};

const WITHIN: Duration = Duration::from_secs(20);
/// Of a line, in each direction. A packet crosses two lines.
const LATENCY: Duration = Duration::from_micros(12_500);
/// Datagrams that leave in one call, so that trains are wrapped as wholes.
const TRAIN: usize = 10;
/// Where the relay listens.
const RELAY: &str = "198.51.100.2:3478";
/// Where the public node listens.
const PUBLIC: &str = "198.51.100.1:4433";
/// A world with a public node, a relay and two peers that know both.
struct Meeting {
    world: World<Inhabitant>,
    relay: HostId,
    public: HostId,
    a: HostId,
    b: HostId,
    peer_a: PeerId,
    peer_b: PeerId,
}

fn line() -> LinkConfig {
    LinkConfig::with_latency(LATENCY)
}

fn add_node(
    world: &mut World<Inhabitant>,
    name: &str,
    nth: u8,
    nat: NatKind,
    servers: &[TurnServer],
) -> HostId {
    let nat =
        NatConfig::of_kind(nat, [203, 0, 113, nth]).map(|nat| world.add_nat(nat, LinkConfig::default()));
    let socket: SocketAddr = match (nth, nat) {
        (0, _) => PUBLIC.parse().expect("a socket address"),
        (_, None) => ([192, 0, 2, nth], 5000).into(),
        (_, Some(_)) => ([10, 0, nth, 2], 5000).into(),
    };
    let host = HostConfig::new(name, [socket]).behind(nat).link(line());
    let host = HostConfig { segments_max: TRAIN, ..host };
    let (servers, origin) = (servers.to_vec(), std::time::Instant::now());
    world.add_host_with(host, move |mut seat| {
        let identity = Identity::from_secret([nth + 1; 32]);
        let provider = seeded_provider(seat.rng.fork("tls"));
        let mut config = Config::new(identity, seat.rng.bytes(), vec![socket], origin, EPOCH, provider);
        config.public = nth == 0;
        // What relays do is to be seen without what makes them superfluous.
        config.limits.punch = None;
        config.turn_servers.clone_from(&servers);
        Inhabitant::Node(Box::new(Node::new(seat.now, config).expect("the configuration is complete")))
    })
}

/// `knows` says which of the two peers may use the relay, whose line has a latency of its own.
fn open(seed: u64, (nat_a, nat_b): (NatKind, NatKind), knows: [bool; 2], latency: Duration) -> Meeting {
    let mut world = World::new(seed);
    let everywhere: SocketAddr = "198.51.100.2:0".parse().expect("a socket address");
    let relay = HostConfig::new("relay", [everywhere]).link(LinkConfig::with_latency(latency));
    let relay = HostConfig { segments_max: TRAIN, ..relay };
    let rng = world.rng("relay", 0);
    let relay = world.add_host(relay, Inhabitant::Relay(Box::new(Relay::new(rng, everywhere.ip()))));
    let server = TurnServer {
        address: RELAY.parse().expect("a socket address"),
        transport: TurnTransport::Udp,
        username: "alice".into(),
        password: "her password".into(),
    };
    let public = add_node(&mut world, "public", 0, NatKind::None, &[]);
    let [for_a, for_b] = knows.map(|knows| if knows { vec![server.clone()] } else { Vec::new() });
    let a = add_node(&mut world, "a", 1, nat_a, &for_a);
    let b = add_node(&mut world, "b", 2, nat_b, &for_b);
    let listens = [PUBLIC.parse().expect("a socket address")];
    let expires = EPOCH.as_secs() + 86_400;
    let mut meeting =
        Meeting { world, relay, public, a, b, peer_a: PeerId([0; 32]), peer_b: PeerId([0; 32]) };
    let ticket =
        meeting.world.touch_node(public, |node, _| node.ticket(&listens, expires)).expect("one address");
    for host in [a, b] {
        meeting.world.touch_node(host, |node, now| node.add_ticket(now, &ticket)).expect("a fresh ticket");
    }
    meeting.peer_a = meeting.world.node(a).peer_id();
    meeting.peer_b = meeting.world.node(b).peer_id();
    meeting
}

impl Meeting {
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

    fn connected(&self, host: HostId, peer: PeerId) -> bool {
        self.world.node(host).is_connected(peer) == Ok(true)
    }

    fn connect(&mut self) -> bool {
        let (a, b, peer_a, peer_b) = (self.a, self.b, self.peer_a, self.peer_b);
        let public = self.world.node(self.public).peer_id();
        let ready = self.wait(|it| [a, b].iter().all(|host| it.connected(*host, public)).then_some(()));
        if ready.is_none() || self.world.touch_node(a, |node, now| node.connect(now, peer_b)).is_err() {
            return false;
        }
        self.wait(|it| (it.connected(a, peer_b) && it.connected(b, peer_a)).then_some(())).is_some()
    }

    /// Whether data goes straight: from `a`, and from `b`.
    fn direct(&self) -> [bool; 2] {
        [(self.a, self.peer_b), (self.b, self.peer_a)]
            .map(|(host, peer)| self.world.node(host).path(peer).is_some_and(|path| path.is_direct()))
    }

    fn stream(&mut self) -> (Stream, Stream) {
        let (a, b, peer_a, peer_b) = (self.a, self.b, self.peer_a, self.peer_b);
        let ours = self.world.touch_node(a, |node, now| {
            let stream = node.open(now, peer_b, Direction::Bidirectional)?.expect("streams are free");
            node.send(now, stream, b"first")?;
            Ok::<_, Error>(stream)
        });
        let theirs = self.wait(|it| {
            it.world.touch_node(b, |node, now| node.accept_stream(now, peer_a)).expect("connected")
        });
        let (ours, theirs) = (ours.expect("connected"), theirs.expect("the stream arrives"));
        assert_eq!(self.receive(b, theirs), b"first");
        (ours, theirs)
    }

    fn receive(&mut self, host: HostId, stream: Stream) -> Vec<u8> {
        let got =
            self.wait(|it| it.world.touch_node(host, |node, now| node.receive(now, stream)).transpose());
        got.expect("a message in time").expect("a message").to_vec()
    }

    /// Sends `message` both ways.
    fn exchange(&mut self, (ours, theirs): (Stream, Stream), message: &[u8]) {
        let (a, b) = (self.a, self.b);
        assert_eq!(self.world.touch_node(a, |node, now| node.send(now, ours, message)), Ok(true));
        assert!(self.receive(b, theirs) == message);
        assert_eq!(self.world.touch_node(b, |node, now| node.send(now, theirs, message)), Ok(true));
        assert!(self.receive(a, ours) == message);
    }

    fn timeline(&mut self) -> String {
        let all = std::iter::from_fn(|| self.world.poll_event()).collect::<Vec<_>>();
        let line = |Happening { at, host, event }: Happening<Event>| {
            format!("{at} {:8} {event:?}\n", self.world.name(host))
        };
        all.into_iter().map(line).collect()
    }
}

fn meet(seed: u64, nat_a: NatKind, nat_b: NatKind) -> Meeting {
    meet_with(seed, (nat_a, nat_b), [true, true], LATENCY)
}

fn meet_with(seed: u64, nats: (NatKind, NatKind), knows: [bool; 2], latency: Duration) -> Meeting {
    let mut meeting = open(seed, nats, knows, latency);
    assert!(meeting.connect(), "never met; SEED={seed} {nats:?}\n{}", meeting.timeline());
    meeting
}

/// Pairs of NATs for which no direct path is possible.
const HOPELESS: [(NatKind, NatKind); 3] = [
    (NatKind::Symmetric, NatKind::Symmetric),
    (NatKind::Symmetric, NatKind::PortRestricted),
    (NatKind::PortRestricted, NatKind::Symmetric),
];

#[test]
fn peers_without_a_direct_path_meet_at_the_relay() {
    for seed in seeds(50) {
        for (nat_a, nat_b) in HOPELESS {
            let mut meeting = meet(seed, nat_a, nat_b);
            let streams = meeting.stream();
            meeting.exchange(streams, b"through the relay");
            // One end sends to the other's relayed address straight, or both send through the relay. Until they have
            // agreed, each may use a path of its own that is valid (RFC 8445 §12.1).
            meeting.world.run_to(meeting.world.now() + WITHIN, |_| false);
            assert_ne!(meeting.direct(), [true, true], "SEED={seed} {nat_a} {nat_b}");
            assert!(meeting.world.relay(meeting.relay).server.counters().to_peers > 0, "SEED={seed}");
        }
    }
}

#[test]
fn a_megabyte_goes_through_the_relay_in_both_directions() {
    for seed in seeds(3) {
        for (nat_a, nat_b) in HOPELESS {
            let mut meeting = meet(seed, nat_a, nat_b);
            let streams = meeting.stream();
            let message: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
            meeting.exchange(streams, &message);
            assert_ne!(meeting.direct(), [true, true], "SEED={seed} {nat_a} {nat_b}");
        }
    }
}

#[test]
fn a_relay_on_one_side_is_enough() {
    for seed in seeds(10) {
        for (nat_a, nat_b) in HOPELESS {
            for knows in [[true, false], [false, true]] {
                let mut meeting = meet_with(seed, (nat_a, nat_b), knows, LATENCY);
                assert_eq!(meeting.direct(), knows.map(|knows| !knows), "SEED={seed} {nat_a} {nat_b}");
                let streams = meeting.stream();
                meeting.exchange(streams, b"through the relay of one");
            }
        }
    }
}

#[test]
fn a_relay_that_answers_late_is_told_to_the_peer_later() {
    // Four crossings to be challenged and served: the offer leaves long before that.
    let slow = Duration::from_millis(250);
    for seed in seeds(5) {
        for nats in HOPELESS {
            let mut meeting = meet_with(seed, nats, [true, true], slow);
            assert_ne!(meeting.direct(), [true, true], "SEED={seed} {nats:?}");
            let streams = meeting.stream();
            meeting.exchange(streams, b"better late");
        }
    }
}

#[test]
fn a_relay_that_never_answers_delays_nobody() {
    let cones = (NatKind::PortRestricted, NatKind::PortRestricted);
    for seed in seeds(5) {
        let mut meeting = meet_with(seed, cones, [true, true], 2 * WITHIN);
        let took = meeting.world.now();
        assert_eq!(meeting.direct(), [true, true], "SEED={seed}");
        assert!(took <= Instant::from_millis(600), "SEED={seed}: {took}\n{}", meeting.timeline());
    }
}

#[test]
fn where_a_direct_path_is_possible_data_ends_up_there() {
    let cones = [NatKind::FullCone, NatKind::AddressRestricted, NatKind::PortRestricted];
    for seed in seeds(10) {
        for (nat_a, nat_b) in cones.iter().flat_map(|a| cones.iter().map(move |b| (*a, *b))) {
            let mut meeting = meet(seed, nat_a, nat_b);
            let direct = meeting.wait(|it| (it.direct() == [true, true] && !to_relay(it)).then_some(()));
            assert!(direct.is_some(), "SEED={seed} {nat_a} {nat_b}\n{}", meeting.timeline());
            let streams = meeting.stream();
            let before = meeting.world.relay(meeting.relay).server.counters().to_peers;
            meeting.exchange(streams, &vec![7; 100_000]);
            let through_relay = meeting.world.relay(meeting.relay).server.counters().to_peers - before;
            assert!(through_relay <= 8, "checks at most: {through_relay}; SEED={seed} {nat_a} {nat_b}");
        }
    }
}

/// Whether an end sends straight to the relay's host.
fn to_relay(meeting: &Meeting) -> bool {
    let relay: SocketAddr = RELAY.parse().expect("a socket address");
    [(meeting.a, meeting.peer_b), (meeting.b, meeting.peer_a)].iter().any(|(host, peer)| {
        meeting.world.node(*host).path(*peer).is_some_and(|path| path.on_wire().remote.ip() == relay.ip())
    })
}

#[test]
fn closing_says_goodbye_through_the_relay_and_then_lets_it_go() {
    for seed in seeds(5) {
        let mut meeting = meet(seed, NatKind::Symmetric, NatKind::Symmetric);
        assert_eq!(meeting.world.relay(meeting.relay).server.allocations(), 2);
        let (a, b, peer_a) = (meeting.a, meeting.b, meeting.peer_a);
        meeting.world.touch_node(a, Session::close_all);
        let heard = meeting.wait(|it| (!it.connected(b, peer_a)).then_some(()));
        assert!(heard.is_some() && meeting.world.node(a).is_closed(), "SEED={seed}\n{}", meeting.timeline());
        let gone = meeting.wait(|it| (it.world.node(a).usage().allocations == 0).then_some(()));
        assert!(gone.is_some(), "SEED={seed}");
        assert_eq!(meeting.world.relay(meeting.relay).server.allocations(), 1);
    }
}

#[test]
fn the_same_seed_relays_the_same_bytes() {
    let run = |seed| {
        let mut meeting = meet(seed, NatKind::Symmetric, NatKind::PortRestricted);
        let streams = meeting.stream();
        meeting.exchange(streams, &vec![1; 50_000]);
        meeting.world.trace_hash()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
