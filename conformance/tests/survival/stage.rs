//! Two peers, a public node and relays; a transfer between the peers that is watched while things happen.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gimlet_conformance::inhabitant::{Inhabitant, Relay};
use gimlet_conformance::meeting::EPOCH;
use gimlet_machine::{Direction, Instant, Path, PeerId, Session};
use gimlet_node::{Config, Event, Identity, Node, Progress, Stream, TurnServer, TurnTransport};
use gimlet_sim::{
    Fault, Happening, HostConfig, HostId, LinkConfig, NatConfig, NatId, NatKind, PortAllocation, TraceHash,
    World, seeded_provider,
};
use sha2::{Digest as _, Sha256};

/// Of a line, in each direction. A packet crosses two lines.
const LATENCY: Duration = Duration::from_micros(12_500);
/// From one host to another and back.
pub(crate) const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Bytes of the file that is sent.
pub(crate) const FILE: usize = 2 << 20;
/// The sender writes so much every [`TICK`]: the file takes ten seconds.
const CHUNK: usize = FILE / 1_000;
const TICK: Duration = Duration::from_millis(10);
const PUBLIC: &str = "198.51.100.1:4433";
/// Nothing in these scenarios takes longer.
const WITHIN: Duration = Duration::from_secs(60);

/// Which end of the connection. The first one connects, and so controls ICE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    A,
    B,
}

impl End {
    pub(crate) const BOTH: [End; 2] = [End::A, End::B];

    pub(crate) const fn other(self) -> End {
        match self {
            End::A => End::B,
            End::B => End::A,
        }
    }
}

/// What became of the path of one end, and when.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) at: Instant,
    pub(crate) end: End,
    /// The relays that data crosses; none: it goes straight.
    pub(crate) relays: BTreeSet<usize>,
}

/// A file on its way from A to B.
struct Transfer {
    content: Vec<u8>,
    written: usize,
    ours: Stream,
    theirs: Option<Stream>,
    received: Sha256,
    count: usize,
    over: bool,
}

pub(crate) struct Stage {
    pub(crate) world: World<Inhabitant>,
    pub(crate) relays: Vec<HostId>,
    pub(crate) hosts: [HostId; 2],
    pub(crate) nats: [Option<NatId>; 2],
    peers: [PeerId; 2],
    seed: u64,
    log: Vec<Happening<Event>>,
    pub(crate) steps: Vec<Step>,
    transfer: Option<Transfer>,
}

fn relay_ip(nth: usize) -> IpAddr {
    IpAddr::from([198, 51, 100, 10 + nth as u8])
}

/// A home router. It does not preserve ports, so that a reboot gives everybody another one.
pub(crate) fn home(kind: NatKind, nth: u8) -> Option<NatConfig> {
    let nat = NatConfig::of_kind(kind, [203, 0, 113, nth])?;
    Some(NatConfig { ports: PortAllocation::Random, ..nat })
}

/// The socket of `end` in its `nth` network, behind a NAT or not.
pub(crate) fn socket(end: End, nth: u8, inside: bool) -> SocketAddr {
    let end = end as u8;
    if inside { ([10, end, nth, 2], 5000).into() } else { ([192, 0, 2, 10 * end + nth], 5000).into() }
}

impl Stage {
    /// Both peers know all `relays` relays and the public node, and are connected.
    pub(crate) fn open(seed: u64, kinds: [NatKind; 2], relays: usize) -> Self {
        let mut world = World::new(seed);
        let mut servers = Vec::new();
        let relays = (0..relays).map(|nth| {
            let host = HostConfig::new(format!("relay {nth}"), [SocketAddr::new(relay_ip(nth), 0)]);
            let host = host.link(LinkConfig::with_latency(LATENCY));
            let rng = world.rng("relay", nth as u64);
            servers.push(TurnServer {
                address: SocketAddr::new(relay_ip(nth), 3478),
                transport: TurnTransport::Udp,
                username: "alice".into(),
                password: "her password".into(),
            });
            world.add_host(host, Inhabitant::Relay(Box::new(Relay::new(rng, relay_ip(nth)))))
        });
        let relays = relays.collect();
        let public = add_node(&mut world, "public", PUBLIC.parse().expect("an address"), None, (0, &[]));
        let mut nats = [None; 2];
        let hosts = End::BOTH.map(|end| {
            let nat = home(kinds[end as usize], 1 + end as u8);
            nats[end as usize] = nat.map(|nat| world.add_nat(nat, LinkConfig::default()));
            let nat = nats[end as usize];
            let name = if end == End::A { "a" } else { "b" };
            add_node(&mut world, name, socket(end, 1, nat.is_some()), nat, (1 + end as u8, &servers))
        });
        let peers = hosts.map(|host| node_of(&world, host).peer_id());
        let (log, steps) = (Vec::new(), Vec::new());
        let mut stage = Self { world, relays, hosts, nats, peers, seed, log, steps, transfer: None };
        let expires = EPOCH.as_secs() + 86_400;
        let listens = [PUBLIC.parse().expect("an address")];
        let ticket = stage.touch(public, |node, _| node.ticket(&listens, expires)).expect("one address");
        for host in hosts {
            stage.touch(host, |node, now| node.add_ticket(now, &ticket)).expect("a fresh ticket");
        }
        stage.run_for(Duration::from_secs(1));
        let peer = stage.peers[1];
        stage.touch(hosts[0], |node, now| node.connect(now, peer)).expect("there is room");
        let met = stage.run_to(|stage| End::BOTH.iter().all(|end| stage.is_connected(*end)));
        assert!(met, "never met\n{}", stage.timeline());
        stage
    }

    pub(crate) fn host(&self, end: End) -> HostId {
        self.hosts[end as usize]
    }

    pub(crate) fn node(&self, end: End) -> &Node {
        node_of(&self.world, self.host(end))
    }

    fn touch<T>(&mut self, host: HostId, command: impl FnOnce(&mut Node, Instant) -> T) -> T {
        self.world.touch(host, |inhabitant, now| match inhabitant {
            Inhabitant::Node(node) => command(node, now),
            Inhabitant::Relay(_) => panic!("relays take no commands"),
        })
    }

    fn is_connected(&self, end: End) -> bool {
        self.node(end).is_connected(self.peers[end.other() as usize]) == Ok(true)
    }

    /// The path on which `end` sends.
    pub(crate) fn path(&self, end: End) -> Path {
        self.node(end).path(self.peers[end.other() as usize]).unwrap_or_else(|| {
            panic!("no path of {end:?}; {}", self.timeline());
        })
    }

    /// The relays that data from `end` crosses.
    pub(crate) fn relays_of(&self, end: End) -> BTreeSet<usize> {
        relays_on(self.path(end), self.relays.len())
    }

    pub(crate) fn is_direct(&self) -> bool {
        End::BOTH.iter().all(|end| self.relays_of(*end).is_empty())
    }

    /// The steps of `end` since `at`.
    pub(crate) fn steps_since(&self, at: Instant, end: End) -> Vec<Step> {
        self.steps.iter().filter(|step| step.at > at && step.end == end).cloned().collect()
    }

    pub(crate) fn fault(&mut self, fault: &Fault) -> Instant {
        self.world.inject(fault);
        self.world.now()
    }

    /// Packets no longer go straight from one end to the other.
    pub(crate) fn cut_direct(&mut self) -> Instant {
        let [a, b] = self.hosts;
        self.fault(&Fault::Partition(vec![a], vec![b]))
    }

    /// `end` is in its `nth` network from here on, behind `nat` or none, and its node learns of it.
    pub(crate) fn move_to(&mut self, end: End, nth: u8, nat: NatKind) -> Instant {
        let outside = home(nat, 10 * nth + end as u8);
        let behind = outside.map(|nat| self.world.add_nat(nat, LinkConfig::default()));
        let sockets = vec![socket(end, nth, behind.is_some())];
        let host = self.host(end);
        let at = self.fault(&Fault::Move { host, sockets: sockets.clone(), behind });
        self.nats[end as usize] = behind;
        self.touch(host, |node, now| node.set_local_addresses(now, sockets)).expect("one address");
        at
    }

    /// Begins to send the file.
    pub(crate) fn start(&mut self) {
        let (host, peer) = (self.hosts[0], self.peers[1]);
        let ours = self.touch(host, |node, now| node.open(now, peer, Direction::Unidirectional));
        let content = (0..FILE as u64).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        self.transfer = Some(Transfer {
            content,
            written: 0,
            ours: ours.expect("connected").expect("streams are free"),
            theirs: None,
            received: Sha256::new(),
            count: 0,
            over: false,
        });
    }

    /// Lets the applications write and read, and remembers what happened.
    fn tick(&mut self) {
        while let Some(happening) = self.world.poll_event() {
            let ends = End::BOTH.into_iter().find(|end| self.host(*end) == happening.host);
            if let (Some(end), Event::PathChanged { peer, path }) = (ends, &happening.event)
                && self.peers.contains(peer)
            {
                let relays = relays_on(*path, self.relays.len());
                self.steps.push(Step { at: happening.at, end, relays });
            }
            self.log.push(happening);
        }
        let Some(mut transfer) = self.transfer.take() else { return };
        let (a, b) = (self.hosts[0], self.hosts[1]);
        let chunk = &transfer.content[transfer.written..(transfer.written + CHUNK).min(FILE)];
        if !chunk.is_empty() {
            let taken = self.touch(a, |node, now| node.write(now, transfer.ours, chunk));
            transfer.written += taken.unwrap_or_else(|error| panic!("{error}\n{}", self.timeline()));
            if transfer.written == FILE {
                self.touch(a, |node, now| node.finish(now, transfer.ours)).expect("still open");
            }
        }
        let peer = self.peers[0];
        transfer.theirs = transfer.theirs.or_else(|| {
            let accepted = self.touch(b, |node, now| node.accept_stream(now, peer));
            accepted.unwrap_or_else(|error| panic!("{error}\n{}", self.timeline()))
        });
        while let (Some(theirs), false) = (transfer.theirs, transfer.over) {
            match self.touch(b, |node, now| node.read(now, theirs, usize::MAX)) {
                Ok(Some(bytes)) => {
                    transfer.received.update(&bytes);
                    transfer.count += bytes.len();
                    transfer.over = bytes.is_empty();
                }
                Ok(None) => break,
                Err(error) => panic!("{error}\n{}", self.timeline()),
            }
        }
        self.transfer = Some(transfer);
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.world.now() + time;
        while self.world.now() < end {
            self.world.run_until((self.world.now() + TICK).min(end));
            self.tick();
        }
    }

    /// Runs until `done`; says whether that was soon enough.
    pub(crate) fn run_to(&mut self, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.world.now() + WITHIN;
        while !done(self) {
            if self.world.now() >= end {
                return false;
            }
            self.run_for(TICK);
        }
        true
    }

    /// Bytes that have arrived.
    pub(crate) fn received(&self) -> usize {
        self.transfer.as_ref().map_or(0, |transfer| transfer.count)
    }

    /// Lets the transfer end, checks that what arrived is what was sent, and that the connection was never lost.
    pub(crate) fn finish(mut self) -> TraceHash {
        let over = self.run_to(|stage| stage.transfer.as_ref().is_some_and(|transfer| transfer.over));
        assert!(over, "{} of {FILE} bytes arrived\n{}", self.received(), self.timeline());
        let transfer = self.transfer.take().expect("begun");
        assert_eq!(transfer.received.finalize(), Sha256::digest(&transfer.content), "SEED={}", self.seed);
        let ended = |it: &Happening<Event>| {
            let peer = match &it.event {
                Event::Lost { peer, .. } | Event::Failed { peer, .. } => *peer,
                _ => return false,
            };
            self.hosts.contains(&it.host) && self.peers.contains(&peer)
        };
        assert!(!self.log.iter().any(ended), "the connection stands\n{}", self.timeline());
        self.world.trace_hash()
    }

    /// Whether `end` told of such a step since `at`.
    pub(crate) fn told(&self, at: Instant, end: End, step: impl Fn(&Progress) -> bool) -> Option<Instant> {
        let of = |it: &&Happening<Event>| it.host == self.host(end) && it.at >= at;
        let told = |it: &Happening<Event>| match &it.event {
            Event::Progress { step: told, .. } => step(told),
            _ => false,
        };
        self.log.iter().filter(of).find(|it| told(it)).map(|it| it.at)
    }

    /// Everything that happened, for people.
    pub(crate) fn timeline(&self) -> String {
        let mut lines = format!("SEED={}\n", self.seed);
        for Happening { at, host, event } in &self.log {
            if !matches!(event, Event::Readable { .. } | Event::Writable { .. }) {
                let _ = writeln!(lines, "{at} {:8} {event:?}", self.world.name(*host));
            }
        }
        let now = self.world.now();
        let _ = writeln!(lines, "{now} now; {} of {FILE} bytes have arrived", self.received());
        for (_, end) in self.hosts.iter().zip(End::BOTH) {
            for pair in self.node(end).pairs(self.peers[end.other() as usize]) {
                let _ = writeln!(lines, "    {end:?} {pair}");
            }
        }
        lines
    }
}

fn relays_on(path: Path, relays: usize) -> BTreeSet<usize> {
    let ips = [path.on_wire().remote.ip(), path.peer_address().ip()];
    (0..relays).filter(|nth| ips.contains(&relay_ip(*nth))).collect()
}

fn node_of(world: &World<Inhabitant>, host: HostId) -> &Node {
    match world.machine(host) {
        Some(Inhabitant::Node(node)) => node,
        Some(Inhabitant::Relay(_)) | None => panic!("no node runs there"),
    }
}

fn add_node(
    world: &mut World<Inhabitant>,
    name: &str,
    socket: SocketAddr,
    nat: Option<NatId>,
    (secret, servers): (u8, &[TurnServer]),
) -> HostId {
    let host = HostConfig::new(name, [socket]).behind(nat).link(LinkConfig::with_latency(LATENCY));
    let host = HostConfig { segments_max: 10, ..host };
    let (servers, origin) = (servers.to_vec(), std::time::Instant::now());
    world.add_host_with(host, move |mut seat| {
        let identity = Identity::from_secret([secret + 1; 32]);
        let provider = seeded_provider(seat.rng.fork("tls"));
        let mut config = Config::new(identity, seat.rng.bytes(), vec![socket], origin, EPOCH, provider);
        config.public = secret == 0;
        config.turn_servers.clone_from(&servers);
        Inhabitant::Node(Box::new(Node::new(seat.now, config).expect("the configuration is complete")))
    })
}
