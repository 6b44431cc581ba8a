//! A public node is also the relay: peers that know nothing but its ticket meet wherever their NATs let them
//! or not. A failure names its seed; `SEED=n` replays it alone.

use std::net::SocketAddr;
use std::time::Duration;

use gimlet_conformance::meeting::EPOCH;
use gimlet_conformance::seeds;
use gimlet_ice::CandidateKind;
use gimlet_machine::{Direction, Instant, Path, PeerId, Session};
use gimlet_node::{
    Config, Error, Event, Identity, Node, PairReport, Paths, Progress, RELAY_IDLE, RelayConfig, Stream,
    Ticket,
};
use gimlet_sim::{
    Fault, Happening, HostConfig, HostId, LinkConfig, NatConfig, NatKind, World, seeded_provider,
};

/// Of a line, in each direction. A packet crosses two lines.
const LATENCY: Duration = Duration::from_micros(12_500);
/// From a peer to the public node and back, or to another peer and back.
const ROUND_TRIP: Duration = Duration::from_millis(50);
const WITHIN: Duration = Duration::from_secs(20);
/// Datagrams that leave in one call, so that trains are relayed as wholes.
const TRAIN: usize = 10;
/// The socket on which a public node answers STUN a second time.
const WITNESS: usize = 1;
/// Where the public node listens, as the world sees it.
const PUBLIC: &str = "198.51.100.1:4433";

/// What a scene is made of, besides the seed.
#[derive(Clone)]
struct Scene {
    nats: Vec<NatKind>,
    relay: Option<RelayConfig>,
    paths: Paths,
    opened_max: usize,
    /// Of the public node's line; the peers' have [`LATENCY`].
    public_latency: Duration,
}

impl Scene {
    fn of(nats: &[NatKind]) -> Self {
        let relay = Some(RelayConfig::default());
        let (paths, opened_max, public_latency) = (Paths::Any, 1_024, LATENCY);
        Self { nats: nats.to_vec(), relay, paths, opened_max, public_latency }
    }

    fn with(self, change: impl FnOnce(&mut RelayConfig)) -> Self {
        let mut relay = self.relay.unwrap_or_default();
        change(&mut relay);
        Self { relay: Some(relay), ..self }
    }
}

/// A public node that relays, and peers that know its ticket.
struct Stage {
    world: World<Node>,
    public: HostId,
    ticket: Ticket,
    peers: Vec<(HostId, PeerId)>,
}

fn add_node(world: &mut World<Node>, nth: usize, nat: NatKind, scene: &Scene) -> HostId {
    let n = u8::try_from(nth).expect("a few peers");
    let nat = NatConfig::of_kind(nat, [203, 0, 113, n]).map(|nat| world.add_nat(nat, LinkConfig::default()));
    let socket: SocketAddr = match (nth, nat) {
        (0, _) => PUBLIC.parse().expect("a socket address"),
        (_, None) => ([192, 0, 2, n], 5000).into(),
        (_, Some(_)) => ([10, 0, n, 2], 5000).into(),
    };
    let host = HostConfig::new(format!("node {nth}"), [socket]).behind(nat);
    let latency = if nth == 0 { scene.public_latency } else { LATENCY };
    let host = host.link(LinkConfig::with_latency(latency));
    let host = HostConfig { segments_max: TRAIN, opened_max: scene.opened_max, ..host };
    let (scene, origin) = (scene.clone(), std::time::Instant::now());
    world.add_host_with(host, move |mut seat| {
        let identity = Identity::from_secret([n + 1; 32]);
        let provider = seeded_provider(seat.rng.fork("tls"));
        // A node that starts again is told the time of day.
        let day = EPOCH + seat.now.since(Instant::ZERO);
        let mut config = Config::new(identity, seat.rng.bytes(), vec![socket], origin, day, provider);
        config.outside.unix_time_at_origin = EPOCH;
        config.public = nth == 0;
        // What relays do is to be seen without what makes them superfluous.
        config.limits.punch = None;
        config.relay = scene.relay.clone().filter(|_| nth == 0);
        config.paths = scene.paths;
        Node::new(seat.now, config).expect("the configuration is complete")
    })
}

fn open(seed: u64, scene: &Scene) -> Stage {
    let mut world = World::new(seed);
    let public = add_node(&mut world, 0, NatKind::None, scene);
    let listens = [PUBLIC.parse().expect("a socket address")];
    let expires = EPOCH.as_secs() + 30 * 86_400;
    let ticket = world.touch(public, |node, _| node.ticket(&listens, expires)).expect("one address");
    let mut stage = Stage { world, public, ticket, peers: Vec::new() };
    for (nth, nat) in scene.nats.iter().enumerate() {
        let host = add_node(&mut stage.world, nth + 1, *nat, scene);
        stage.join(host);
        let peer = stage.node(host).peer_id();
        stage.peers.push((host, peer));
    }
    stage
}

impl Stage {
    fn join(&mut self, host: HostId) {
        let ticket = self.ticket.clone();
        self.world.touch(host, |node, now| node.add_ticket(now, &ticket)).expect("a fresh ticket");
    }

    fn node(&self, host: HostId) -> &Node {
        self.world.machine(host).expect("the host is up")
    }

    fn wait(&mut self, mut done: impl FnMut(&Self) -> bool) -> bool {
        let limit = self.world.now() + WITHIN;
        loop {
            if done(self) {
                return true;
            }
            if self.world.next_at().is_none_or(|at| at > limit) {
                return false;
            }
            self.world.step();
        }
    }

    fn connected(&self, from: usize, to: usize) -> bool {
        let (host, _) = self.peers[from];
        self.node(host).is_connected(self.peers[to].1) == Ok(true)
    }

    /// Everybody is connected to the public node.
    fn ready(&mut self) {
        let public = self.ticket.peer();
        let hosts: Vec<HostId> = self.peers.iter().map(|(host, _)| *host).collect();
        let ready = self.wait(|it| hosts.iter().all(|host| it.node(*host).is_connected(public) == Ok(true)));
        assert!(ready, "never joined; SEED={}\n{}", self.world.seed(), self.timeline());
    }

    /// Connects the first peer to the second; how long that took, until both know.
    fn connect(&mut self, from: usize, to: usize) -> Option<Duration> {
        self.ready();
        let start = self.world.now();
        let ((host, _), (_, peer)) = (self.peers[from], self.peers[to]);
        self.world.touch(host, |node, now| node.connect(now, peer)).expect("not ourselves");
        let met = self.wait(|it| it.connected(from, to) && it.connected(to, from));
        met.then(|| self.world.now().since(start))
    }

    fn must_connect(&mut self, from: usize, to: usize) -> Duration {
        let took = self.connect(from, to);
        took.unwrap_or_else(|| panic!("never met; SEED={}\n{}", self.world.seed(), self.timeline()))
    }

    fn path(&self, from: usize, to: usize) -> Option<Path> {
        self.node(self.peers[from].0).path(self.peers[to].1)
    }

    /// Whether data between the two crosses the public node's host.
    fn relayed(&self, one: usize, other: usize) -> bool {
        let public: SocketAddr = PUBLIC.parse().expect("a socket address");
        let crosses = |from: usize, to: usize| {
            let crosses = self.path(from, to).is_some_and(|path| path.on_wire().remote.ip() == public.ip());
            let told = self.node(self.peers[from].0).is_relayed(self.peers[to].1);
            assert_eq!(crosses, told, "the node knows; SEED={}", self.world.seed());
            crosses
        };
        crosses(one, other) && crosses(other, one)
    }

    /// A stream between the two, with `message` sent over it and arrived whole.
    fn send(&mut self, from: usize, to: usize, message: &[u8]) -> (Stream, Stream) {
        let ((ours, our_peer), (theirs, their_peer)) = (self.peers[from], self.peers[to]);
        let stream = self.world.touch(ours, |node, now| {
            let stream = node.open(now, their_peer, Direction::Bidirectional)?.expect("streams are free");
            node.send(now, stream, message)?;
            Ok::<_, Error>(stream)
        });
        let stream = stream.expect("connected");
        let limit = self.world.now() + WITHIN;
        let mut accepted = None;
        let arrived = self.world.run_to(limit, |world| {
            accepted = world.touch(theirs, |node, now| node.accept_stream(now, our_peer)).expect("connected");
            accepted.is_some()
        });
        assert!(arrived, "the stream arrives; SEED={}", self.world.seed());
        let accepted = accepted.expect("it arrived");
        assert!(self.receive(to, accepted).as_deref() == Some(message), "SEED={}", self.world.seed());
        (stream, accepted)
    }

    fn receive(&mut self, at: usize, stream: Stream) -> Option<Vec<u8>> {
        let (host, limit) = (self.peers[at].0, self.world.now() + WITHIN);
        let mut message = None;
        self.world.run_to(limit, |world| {
            message = world.touch(host, |node, now| node.receive(now, stream)).ok().flatten();
            message.is_some()
        });
        message.map(|bytes| bytes.to_vec())
    }

    fn relay_allocations(&self) -> usize {
        self.node(self.public).relay().expect("it relays").allocations
    }

    fn events(&mut self) -> Vec<Happening<Event>> {
        std::iter::from_fn(|| self.world.poll_event()).collect()
    }

    fn timeline(&mut self) -> String {
        let all = self.events();
        let line = |Happening { at, host, event }: Happening<Event>| {
            format!("{at} {:8} {event:?}\n", self.world.name(host))
        };
        all.into_iter().map(line).collect()
    }
}

/// Pairs of NATs for which no direct path is possible without guessing ports.
const HOPELESS: [(NatKind, NatKind); 3] = [
    (NatKind::Symmetric, NatKind::Symmetric),
    (NatKind::Symmetric, NatKind::PortRestricted),
    (NatKind::PortRestricted, NatKind::Symmetric),
];

#[test]
fn peers_without_a_direct_path_meet_through_the_public_node_they_know() {
    for seed in seeds(50) {
        for (nat_a, nat_b) in HOPELESS {
            let mut stage = open(seed, &Scene::of(&[nat_a, nat_b]));
            stage.must_connect(0, 1);
            assert!(stage.relayed(0, 1), "SEED={seed} {nat_a} {nat_b}");
            stage.send(0, 1, b"through the public node");
            let relay = stage.node(stage.public).relay().expect("it relays");
            assert!(relay.counters.to_peers > 0 && relay.counters.bytes_to_clients > 0, "SEED={seed}");
        }
    }
}

#[test]
fn without_a_relay_they_do_not_meet() {
    let scene = Scene { relay: None, ..Scene::of(&[NatKind::Symmetric, NatKind::Symmetric]) };
    assert_eq!(open(0, &scene).connect(0, 1), None);
}

#[test]
fn a_megabyte_goes_through_the_public_node_in_both_directions() {
    let message: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    for seed in seeds(3) {
        for (nat_a, nat_b) in HOPELESS {
            let mut stage = open(seed, &Scene::of(&[nat_a, nat_b]));
            stage.must_connect(0, 1);
            let (ours, theirs) = stage.send(0, 1, &message);
            let (host, _) = stage.peers[1];
            assert_eq!(stage.world.touch(host, |node, now| node.send(now, theirs, &message)), Ok(true));
            assert!(stage.receive(0, ours).as_deref() == Some(&message), "SEED={seed}");
            assert!(stage.relayed(0, 1), "SEED={seed} {nat_a} {nat_b}");
        }
    }
}

/// From `connect` until both know, counted in round trips to the public node. A packet from peer to peer takes one
/// whole, through the introducer or through the relay: the offer (1); an address on the relay for its receiver (1);
/// that address to its sender (1), while the answer is there already; a check and its answer (2); TLS (2), its
/// last message (1), and the hello (1).
#[test]
fn a_relayed_connection_takes_few_round_trips() {
    let mut worst = Duration::ZERO;
    for seed in seeds(20) {
        for (nat_a, nat_b) in HOPELESS {
            let mut stage = open(seed, &Scene::of(&[nat_a, nat_b]));
            let took = stage.must_connect(0, 1);
            worst = worst.max(took);
        }
    }
    let trips = worst.as_secs_f64() / ROUND_TRIP.as_secs_f64();
    println!("symmetric to symmetric through the public node: {worst:?}, {trips:.2} round trips at worst");
    assert!(worst <= 9 * ROUND_TRIP, "{worst:?}");
}

#[test]
fn where_a_direct_path_is_possible_data_ends_up_there() {
    let cones = [NatKind::FullCone, NatKind::AddressRestricted, NatKind::PortRestricted];
    for seed in seeds(5) {
        for (nat_a, nat_b) in cones.iter().flat_map(|a| cones.iter().map(move |b| (*a, *b))) {
            let mut stage = open(seed, &Scene::of(&[nat_a, nat_b]));
            stage.must_connect(0, 1);
            let direct = stage.wait(|it| {
                [(0, 1), (1, 0)]
                    .iter()
                    .all(|(from, to)| it.path(*from, *to).is_some_and(|path| path.is_direct()))
                    && !it.relayed(0, 1)
            });
            assert!(direct, "SEED={seed} {nat_a} {nat_b}\n{}", stage.timeline());
        }
    }
}

/// The farther the public node, the later the relayed addresses: before, while and after the peers' first path
/// becomes valid, their connection is made, and they agree.
#[test]
fn a_relayed_address_that_comes_late_is_told_and_never_takes_the_place_of_a_direct_path() {
    let kinds = [NatKind::None, NatKind::AddressRestricted, NatKind::PortRestricted];
    let pairs = kinds.iter().flat_map(|one| kinds.map(|other| (*one, other)));
    for (nat_a, nat_b) in pairs {
        for millis in (0..100).step_by(4) {
            let public_latency = Duration::from_millis(millis);
            let mut stage = open(millis, &Scene { public_latency, ..Scene::of(&[nat_a, nat_b]) });
            stage.must_connect(0, 1);
            stage.world.run_for(Duration::from_secs(2));
            let public: SocketAddr = PUBLIC.parse().expect("a socket address");
            for (from, to) in [(0, 1), (1, 0)] {
                let node = stage.node(stage.peers[from].0);
                let untold = |pair: &PairReport<'_>| {
                    pair.remote.address.ip() == public.ip()
                        && pair.remote.kind == CandidateKind::PeerReflexive
                };
                let untold = node.pairs(stage.peers[to].1).filter(untold).count();
                assert_eq!(untold, 0, "told; {nat_a} {nat_b} {millis} ms, node {}", from + 1);
                assert!(
                    !stage.relayed(from, to),
                    "direct; {nat_a} {nat_b} {millis} ms\n{}",
                    stage.timeline()
                );
            }
        }
    }
}

#[test]
fn direct_only_peers_do_not_meet_at_a_relay_and_meet_elsewhere_as_ever() {
    let scene = |nats: &[NatKind]| Scene { paths: Paths::DirectOnly, ..Scene::of(nats) };
    for seed in seeds(3) {
        let mut stage = open(seed, &scene(&[NatKind::Symmetric, NatKind::Symmetric]));
        assert_eq!(stage.connect(0, 1), None, "SEED={seed}");
        assert_eq!(stage.relay_allocations(), 0, "SEED={seed}");
        let mut stage = open(seed, &scene(&[NatKind::PortRestricted, NatKind::PortRestricted]));
        stage.must_connect(0, 1);
    }
}

#[test]
fn relayed_only_peers_meet_at_the_relay_whatever_their_nats_and_do_not_tell_their_addresses() {
    for seed in seeds(5) {
        for nat in [NatKind::None, NatKind::FullCone, NatKind::Symmetric] {
            let mut stage = open(seed, &Scene { paths: Paths::RelayedOnly, ..Scene::of(&[nat, nat]) });
            stage.must_connect(0, 1);
            stage.send(0, 1, b"without a trace");
            stage.world.run_for(Duration::from_secs(30));
            for (from, to) in [(0, 1), (1, 0)] {
                let (host, peer) = (stage.peers[from].0, stage.peers[to].1);
                assert!(stage.path(from, to).is_some_and(|path| !path.is_direct()), "SEED={seed} {nat}");
                assert!(stage.node(host).is_relayed(peer), "SEED={seed} {nat}");
                let public: SocketAddr = PUBLIC.parse().expect("a socket address");
                let tells = |pair: PairReport<'_>| pair.remote.address.ip() != public.ip();
                assert!(!stage.node(host).pairs(peer).any(tells), "SEED={seed} {nat}");
            }
        }
    }
}

#[test]
fn nothing_is_asked_of_the_relay_before_a_connection_starts_and_nothing_is_kept_after() {
    for seed in seeds(5) {
        let mut stage = open(seed, &Scene::of(&[NatKind::Symmetric, NatKind::Symmetric]));
        stage.ready();
        stage.world.run_for(Duration::from_secs(5));
        assert_eq!((stage.relay_allocations(), stage.node(stage.public).usage().sockets), (0, WITNESS));
        stage.must_connect(0, 1);
        assert_eq!((stage.relay_allocations(), stage.node(stage.public).usage().sockets), (2, 2 + WITNESS));
        let ((a, _), (_, peer_b)) = (stage.peers[0], stage.peers[1]);
        stage.world.touch(a, |node, now| node.close(now, peer_b));
        stage.world.run_for(RELAY_IDLE / 2);
        assert_eq!(stage.relay_allocations(), 2, "SEED={seed}: the next connection may begin soon");
        stage.world.run_for(RELAY_IDLE);
        assert_eq!(stage.relay_allocations(), 0, "SEED={seed}\n{}", stage.timeline());
        assert_eq!(stage.node(stage.public).usage().sockets, WITNESS, "SEED={seed}");
        stage.must_connect(0, 1);
        assert!(stage.relayed(0, 1), "SEED={seed}: and again");
    }
}

#[test]
fn passes_are_renewed_and_a_connection_outlives_many() {
    let mut stage = open(1, &Scene::of(&[NatKind::Symmetric, NatKind::Symmetric]));
    stage.must_connect(0, 1);
    let (ours, theirs) = stage.send(0, 1, b"first");
    stage.world.run_for(Duration::from_secs(5 * 3_600));
    assert!(stage.connected(0, 1) && stage.connected(1, 0), "{}", stage.timeline());
    let (host, _) = stage.peers[1];
    assert_eq!(stage.world.touch(host, |node, now| node.send(now, theirs, b"still here")), Ok(true));
    assert_eq!(stage.receive(0, ours).as_deref(), Some(&b"still here"[..]));
    let relay = stage.node(stage.public).relay().expect("it relays");
    assert_eq!((relay.allocations, relay.counters.allocated, relay.counters.challenged), (2, 2, 0));
}

#[test]
fn a_peer_over_its_quota_is_refused_and_others_are_not() {
    let symmetric = [NatKind::Symmetric; 4];
    let scene = Scene::of(&symmetric).with(|relay| relay.limits.allocations_max = 2);
    for seed in seeds(3) {
        let mut stage = open(seed, &scene);
        stage.must_connect(0, 1);
        assert_eq!(stage.connect(2, 3), None, "SEED={seed}: the relay is full");
        let relay = stage.node(stage.public).relay().expect("it relays");
        assert!(relay.counters.refused >= 2, "SEED={seed}");
        stage.send(0, 1, b"undisturbed");
    }
}

#[test]
fn a_driver_that_opens_no_sockets_means_no_relay_and_no_harm() {
    let symmetric = Scene { opened_max: 0, ..Scene::of(&[NatKind::Symmetric, NatKind::Symmetric]) };
    let mut stage = open(0, &symmetric);
    assert_eq!(stage.connect(0, 1), None);
    assert_eq!(stage.relay_allocations(), 0);
    let cones = Scene { nats: vec![NatKind::PortRestricted; 2], ..symmetric };
    open(0, &cones).must_connect(0, 1);
}

#[test]
fn only_listed_peers_are_relayed_for() {
    for seed in seeds(3) {
        let scene = Scene::of(&[NatKind::Symmetric; 3]).with(|relay| {
            let listed = [1u8, 2].map(|n| Identity::from_secret([n + 1; 32]).peer_id());
            relay.allow = gimlet_node::Allow::Listed(listed.into());
        });
        let mut stage = open(seed, &scene);
        stage.must_connect(0, 1);
        // One side's relay is enough, but the third peer has none of its own.
        stage.must_connect(0, 2);
        assert!(stage.path(2, 0).is_some_and(|path| path.is_direct()), "SEED={seed}");
        assert_eq!(stage.relay_allocations(), 2, "SEED={seed}");
    }
}

#[test]
fn a_public_node_that_restarts_relays_again() {
    for seed in seeds(5) {
        let mut stage = open(seed, &Scene::of(&[NatKind::Symmetric, NatKind::Symmetric]));
        stage.must_connect(0, 1);
        stage.send(0, 1, b"before");
        let public = stage.public;
        stage.world.inject(&Fault::Restart(public));
        // What was relayed is lost with the relay; whoever asked for the other asks again.
        stage.world.run_for(Duration::from_secs(120));
        assert!(stage.connected(0, 1) && stage.connected(1, 0), "SEED={seed}\n{}", stage.timeline());
        stage.send(0, 1, b"after");
        assert!(stage.relayed(0, 1), "SEED={seed}");
    }
}

#[test]
fn a_public_node_that_closes_gives_every_socket_back() {
    for seed in seeds(3) {
        let mut stage = open(seed, &Scene::of(&[NatKind::Symmetric, NatKind::Symmetric]));
        stage.must_connect(0, 1);
        let public = stage.public;
        stage.world.touch(public, Session::close_all);
        assert!(stage.wait(|it| it.node(public).is_closed()), "SEED={seed}\n{}", stage.timeline());
        let usage = stage.node(public).usage();
        assert_eq!((usage.relaying, usage.sockets), (0, 0), "SEED={seed}");
        let released = stage.events().into_iter().filter(|happening| {
            matches!(happening.event, Event::Progress { step: Progress::Relayed { to_peers, .. }, .. } if to_peers > 0)
        });
        assert_eq!(released.count(), 2, "SEED={seed}");
    }
}

#[test]
fn strangers_get_nothing_out_of_relay_sockets() {
    let mut stage = open(1, &Scene::of(&[NatKind::Symmetric, NatKind::Symmetric]));
    stage.must_connect(0, 1);
    stage.world.run_for(Duration::from_secs(1));
    let relayed: Vec<SocketAddr> = stage
        .events()
        .into_iter()
        .filter_map(|happening| match happening.event {
            Event::Progress { step: Progress::Relay { relayed, .. }, .. } => Some(relayed),
            _ => None,
        })
        .collect();
    assert_eq!(relayed.len(), 2);
    let before = *stage.node(stage.public).relay().expect("it relays").counters;
    let public = stage.public;
    let mut rng = stage.world.rng("stranger", 0);
    for nth in 0..20_000u32 {
        let mut bytes = vec![0; 1 + rng.below(200) as usize];
        rng.fill(&mut bytes);
        let from = SocketAddr::from(([198, 18, (nth >> 8) as u8, nth as u8], 9));
        let path = gimlet_machine::FourTuple::new(relayed[nth as usize % 2], from);
        let sent = stage.world.touch(public, |node, now| {
            use gimlet_machine::{Buf, Input, Machine, Verdict};
            let verdict = node.handle_input(now, Input::new(path, &mut bytes));
            assert_eq!(verdict, Verdict::Consumed, "nobody else looks at it");
            node.poll_transmit(now, &mut Buf::new(&mut Vec::new())).is_some()
        });
        assert!(!sent, "no answer, nothing relayed");
    }
    let after = *stage.node(public).relay().expect("it relays").counters;
    assert_eq!(after.unpermitted - before.unpermitted, 20_000);
    assert_eq!(after.to_clients, before.to_clients);
    stage.send(0, 1, b"undisturbed");
}

#[test]
fn the_same_seed_relays_the_same_bytes() {
    let run = |seed| {
        let mut stage = open(seed, &Scene::of(&[NatKind::Symmetric, NatKind::PortRestricted]));
        stage.must_connect(0, 1);
        stage.send(0, 1, &vec![1; 50_000]);
        stage.world.trace_hash()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
