//! Two programs behind NATs in the simulator, introduced by their lines.

use gimlet_ice::{Config, Role};
use gimlet_sim::{
    Filtering, HostConfig, HostId, LinkConfig, Mapping, NatConfig, NatKind, PortAllocation, World,
};
use gimlet_stun::{Server, ServerConfig};

use super::super::{Meeting, Peer, Servers, Spoke};
use super::*;
use crate::ice::lines::Line;

/// Two plain servers: what both see of a socket tells whether the NAT is hard.
const SERVERS: [&str; 2] = ["198.51.100.1:3478", "198.51.100.2:3478"];

/// Whoever lives in the world.
enum Inhabitant {
    Peer(Box<Peer>),
    Server(Box<Server>),
}

impl Machine for Inhabitant {
    type Path = FourTuple;
    type Event = Spoke;

    fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        match self {
            Inhabitant::Peer(peer) => peer.handle_input(now, input),
            Inhabitant::Server(server) => server.handle_input(now, input),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self {
            Inhabitant::Peer(peer) => peer.handle_timeout(now),
            Inhabitant::Server(server) => server.handle_timeout(now),
        }
    }

    fn poll_event(&mut self) -> Option<Spoke> {
        match self {
            Inhabitant::Peer(peer) => peer.poll_event(),
            Inhabitant::Server(_) => None,
        }
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        match self {
            Inhabitant::Peer(peer) => peer.poll_transmit(now, out),
            Inhabitant::Server(server) => server.poll_transmit(now, out),
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        match self {
            Inhabitant::Peer(peer) => peer.poll_timeout(),
            Inhabitant::Server(server) => server.poll_timeout(),
        }
    }

    fn poll_request(&mut self) -> Option<Request> {
        match self {
            Inhabitant::Peer(peer) => peer.poll_request(),
            Inhabitant::Server(_) => None,
        }
    }

    fn handle_answer(&mut self, now: Instant, answer: Answer<'_>) {
        match self {
            Inhabitant::Peer(peer) => peer.handle_answer(now, answer),
            Inhabitant::Server(_) => {}
        }
    }
}

struct Play {
    world: World<Inhabitant>,
    peers: [HostId; 2],
}

impl Play {
    fn open(seed: u64, nats: [NatConfig; 2], punch: bool) -> Self {
        let mut world = World::new(seed);
        let line = LinkConfig::with_latency(Duration::from_millis(10));
        for (nth, socket) in SERVERS.into_iter().enumerate() {
            let host = HostConfig::new(format!("server {nth}"), [socket.parse().unwrap()]).link(line);
            world.add_host(host, Inhabitant::Server(Box::new(Server::new(ServerConfig::default()))));
        }
        let mut side = 0;
        let peers = nats.map(|nat| {
            side += 1;
            let socket: SocketAddr = ([10, 0, side, 2], 5_000).into();
            let nat = world.add_nat(nat, LinkConfig::default());
            let host = HostConfig::new(format!("peer {side}"), [socket]).behind(nat).link(line);
            let role = if side == 1 { Role::Controlling } else { Role::Controlled };
            let stun = SERVERS.map(|server| server.parse().unwrap()).to_vec();
            let servers = Servers { stun, punch, ..Servers::default() };
            let (now, rng) = (world.now(), world.rng("peer", side.into()));
            let peer = Peer::new(now, &rng, Config { role, ..Config::default() }, &[socket], &servers);
            world.add_host(host, Inhabitant::Peer(Box::new(peer.unwrap())))
        });
        Self { world, peers }
    }

    fn with<T>(&mut self, side: usize, act: impl FnOnce(&mut Peer, Instant) -> T) -> T {
        self.world.touch(self.peers[side], |inhabitant, now| match inhabitant {
            Inhabitant::Peer(peer) => act(peer, now),
            Inhabitant::Server(_) => unreachable!("peers are peers"),
        })
    }

    /// What each side says until it has said `end`.
    fn introductions(&mut self) -> [Vec<String>; 2] {
        let limit = self.world.now() + Duration::from_secs(10);
        let mut told = [Vec::new(), Vec::new()];
        for (side, lines) in told.iter_mut().enumerate() {
            let mut done = false;
            while !done && self.world.now() < limit {
                lines.extend(self.with(side, |peer, _| peer.take_lines()));
                done = lines.last().is_some_and(|line| line == "end");
                self.world.run_for(Duration::from_millis(10));
            }
            assert!(done, "{lines:?}");
        }
        told
    }

    /// Whether both are connected within some seconds.
    fn meets(&mut self) -> bool {
        let [of_a, of_b] = self.introductions();
        for (side, lines) in [(0, of_b), (1, of_a)] {
            for line in lines.into_iter().chain(["start".to_owned()]) {
                self.with(side, |peer, now| peer.hear(now, &Line::Text(line)));
            }
        }
        let limit = self.world.now() + Duration::from_secs(12);
        let peers = self.peers;
        self.world.run_to(limit, |world| {
            peers.iter().all(|host| match world.machine(*host) {
                Some(Inhabitant::Peer(peer)) => peer.meeting() == Meeting::Connected,
                Some(Inhabitant::Server(_)) | None => false,
            })
        })
    }
}

fn hard(nth: u8, ports: PortAllocation) -> NatConfig {
    let strict = (Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent);
    NatConfig { ports, ..NatConfig::new([203, 0, 113, nth], strict.0, strict.1) }
}

fn easy(nth: u8) -> NatConfig {
    NatConfig::of_kind(NatKind::PortRestricted, [203, 0, 113, nth]).expect("a NAT")
}

const BLOCK: PortAllocation = PortAllocation::Block { first: 20_480, size: 512 };

#[test]
fn a_hard_nat_is_met_if_both_programs_are_told_to_punch_and_only_then() {
    for seed in 0..3 {
        for nats in [[hard(1, BLOCK), easy(2)], [easy(1), hard(2, BLOCK)]] {
            assert!(Play::open(seed, nats.clone(), true).meets(), "seed {seed}");
            assert!(!Play::open(seed, nats, false).meets(), "seed {seed}");
        }
    }
}

#[test]
fn a_nat_that_deals_ports_from_everywhere_is_met_mostly() {
    let met =
        (0..10).filter(|seed| Play::open(*seed, [hard(1, PortAllocation::Random), easy(2)], true).meets());
    let met = met.count();
    // Each is met with a chance of 0.98.
    assert!(met >= 8, "{met} of 10");
}

#[test]
fn what_is_known_rides_on_a_candidate_that_was_told_before() {
    let mut play = Play::open(1, [hard(1, BLOCK), easy(2)], true);
    for (lines, mapping) in play.introductions().into_iter().zip(["hard", "easy"]) {
        let (first, again): (Vec<_>, Vec<_>) =
            lines.iter().partition(|line| !line.contains(" x-gimlet-nat "));
        assert!(!again.is_empty());
        for line in again {
            let (known, told) = line.split_once(" x-gimlet-nat ").unwrap();
            assert!(first.iter().any(|line| *line == known), "{line}");
            assert!(told.starts_with(mapping), "{line}");
        }
    }
    // Without the flag the lines are what they always were.
    let mut play = Play::open(1, [hard(1, BLOCK), easy(2)], false);
    assert!(play.introductions().iter().flatten().all(|line| !line.contains("x-gimlet")));
}

#[test]
fn two_hard_nats_are_told_why_there_is_no_punch() {
    let mut play = Play::open(1, [hard(1, BLOCK), hard(2, BLOCK)], true);
    assert!(!play.meets());
    for side in 0..2 {
        let lines = play.with(side, |peer, _| peer.take_lines());
        assert!(lines.iter().any(|line| line.starts_with("error no punch: both NATs")), "{lines:?}");
    }
}
