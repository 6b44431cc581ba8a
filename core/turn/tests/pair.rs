//! Client and server together: a NAT in front of the client, an echoing peer behind the server, and
//! a network that loses and delays.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Path, Rng, Transmit, Verdict};
use gimlet_stun::AddressFamily;
use gimlet_testkit::Checked;
use gimlet_turn::{
    Challenge, Client, ClientConfig, ClientEvent, Failure, Families, LongTerm, Server, ServerConfig,
    ServerEvent,
};
use proptest::prelude::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn secs(secs: u64) -> Instant {
    Instant::from_millis(secs * 1000)
}

const DELAY: Duration = Duration::from_millis(20);

/// A datagram on its way: when, in which order, from where, to where, what.
type Flying = Reverse<(Instant, u64, SocketAddr, SocketAddr, Vec<u8>)>;

struct World {
    now: Instant,
    client: Checked<Client>,
    server: Checked<Server>,
    /// The client as the world sees it.
    outside: SocketAddr,
    peer: SocketAddr,
    flying: BinaryHeap<Flying>,
    sent: u64,
    /// Of a million datagrams.
    loss: u32,
    dice: Rng,
    opened: u16,
    told: Vec<ClientEvent>,
    /// What the client received through the relay, and from whom.
    echoes: Vec<(SocketAddr, Vec<u8>)>,
}

fn credentials() -> LongTerm {
    LongTerm::new(b"alice", b"her password").unwrap()
}

fn server(seed: u64) -> Checked<Server> {
    let config = ServerConfig { users: vec![credentials()], ..ServerConfig::default() };
    Checked::new(Server::new(Rng::from_u64(seed), config))
}

impl World {
    fn new(seed: u64, loss: u32) -> Self {
        let flow = FourTuple::new(address("10.0.0.2:5000"), address("192.0.2.1:3478"));
        let client = Client::new(Rng::from_u64(seed), flow, credentials(), ClientConfig::default());
        Self {
            now: Instant::ZERO,
            client: Checked::new(client),
            server: server(seed),
            outside: address("198.51.100.7:61000"),
            peer: address("203.0.113.5:9"),
            flying: BinaryHeap::new(),
            sent: 0,
            loss,
            dice: Rng::from_u64(seed).fork("network"),
            opened: 0,
            told: Vec::new(),
            echoes: Vec::new(),
        }
    }

    fn command<R>(&mut self, run: impl FnOnce(&mut Client, Instant) -> R) -> R {
        let now = self.now;
        self.client.command(now, |client| run(client, now))
    }

    fn fly(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.sent += 1;
        if !self.dice.chance(self.loss) {
            self.flying.push(Reverse((self.now + DELAY, self.sent, from, to, bytes)));
        }
    }

    /// The client's owner has `bytes` for the peer.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let (mut storage, now) = (Vec::new(), self.now);
        let mut out = Buf::new(&mut storage);
        out.put(bytes);
        let relay = self.client.inner().relay();
        let path = Path::Relayed { relay, peer: self.peer };
        let wrapped = self.client.command(now, |client| client.wrap(now, Transmit::new(path), &mut out));
        let sent = wrapped.is_ok();
        if sent {
            self.fly(self.outside, relay.remote, storage);
        }
        sent
    }

    fn drain(&mut self) {
        let (mut storage, now) = (Vec::new(), self.now);
        loop {
            let mut quiet = true;
            while let Some(event) = self.client.poll_event() {
                self.told.push(event);
                quiet = false;
            }
            while let Some(event) = self.server.poll_event() {
                if let ServerEvent::OpenRelay { id, .. } = event {
                    self.opened += 1;
                    let local = SocketAddr::new(address("192.0.2.1:1").ip(), 50_000 + self.opened);
                    self.server.command(now, |server| server.relay_opened(now, id, local, local));
                }
                quiet = false;
            }
            while let Some(transmit) = self.client.poll_transmit(now, &mut Buf::new(&mut storage)) {
                self.fly(self.outside, transmit.path.on_wire().remote, storage.clone());
                quiet = false;
            }
            while let Some(transmit) = self.server.poll_transmit(now, &mut Buf::new(&mut storage)) {
                self.fly(transmit.path.local, transmit.path.remote, storage.clone());
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, mut bytes: Vec<u8>) {
        if to == self.outside {
            let flow = FourTuple::new(self.client.inner().relay().local, from);
            let input = Input::new(Path::Direct(flow), &mut bytes);
            if let Verdict::Pass { path: Path::Relayed { peer, .. }, range } =
                self.client.handle_input(self.now, input)
            {
                self.echoes.push((peer, bytes[range].to_vec()));
            }
        } else if to.ip() == self.peer.ip() {
            self.fly(to, from, bytes);
        } else if to.ip() == address("192.0.2.1:1").ip() {
            let input = Input::new(FourTuple::new(to, from), &mut bytes);
            if let Verdict::Pass { path, range } = self.server.handle_input(self.now, input) {
                let bytes = bytes[range].to_vec();
                self.fly(path.local, path.remote, bytes);
            }
        }
    }

    fn run(&mut self, until: Instant) {
        loop {
            self.drain();
            let flying = self.flying.peek().map(|Reverse((at, ..))| *at);
            let timers = [self.client.poll_timeout(), self.server.poll_timeout()];
            let timer = timers.into_iter().flatten().map(|deadline| deadline.at).min();
            let Some(next) = [flying, timer].into_iter().flatten().min().filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            while self.flying.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
                let Some(Reverse((_, _, from, to, bytes))) = self.flying.pop() else { break };
                self.arrive(from, to, bytes);
            }
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
        }
    }

    fn count(&self, wanted: impl Fn(&ClientEvent) -> bool) -> usize {
        self.told.iter().filter(|event| wanted(event)).count()
    }

    fn allocations(&self) -> usize {
        self.count(|event| matches!(event, ClientEvent::Allocated(_)))
    }

    fn relayed(&self) -> SocketAddr {
        self.client.inner().relayed(AddressFamily::V4).unwrap()
    }

    /// A world whose client has an allocation and a channel.
    fn connected(seed: u64, loss: u32) -> Self {
        let mut world = Self::new(seed, loss);
        let peer = world.peer;
        world.command(|client, now| {
            client.allocate(now, Families::V4).unwrap();
            client.bind_channel(now, peer).unwrap();
        });
        world.run(secs(40));
        world
    }
}

/// Credentials of limited time, and what the server would say to the client as the world sees it.
fn told_beforehand(world: &mut World, expires: u64) -> (LongTerm, Challenge) {
    let path = FourTuple::new(world.client.inner().relay().remote, world.outside);
    let challenge = world.server.inner().challenge_on(world.now, path);
    (LongTerm::until(b"secret", expires, "alice").unwrap(), challenge)
}

fn serving_by_secret(seed: u64) -> World {
    let mut world = World::new(seed, 0);
    let config = ServerConfig { secrets: vec![b"secret".to_vec()], ..ServerConfig::default() };
    world.server = Checked::new(Server::new(Rng::from_u64(seed), config));
    world
}

#[test]
fn a_client_that_knows_the_challenge_has_its_address_after_one_round_trip() {
    let mut world = serving_by_secret(1);
    let (credentials, challenge) = told_beforehand(&mut world, 3_600);
    world.command(|client, now| {
        client.renew(now, credentials, &challenge).unwrap();
        client.allocate(now, Families::V4).unwrap();
    });
    world.run(Instant::ZERO + 2 * DELAY);
    assert_eq!(world.allocations(), 1);
    assert_eq!(world.server.inner().counters().challenged, 0);
}

#[test]
fn an_allocation_outlives_the_credentials_it_was_made_with() {
    let mut world = serving_by_secret(2);
    let (credentials, challenge) = told_beforehand(&mut world, 100);
    world.command(|client, now| {
        client.renew(now, credentials, &challenge).unwrap();
        client.allocate(now, Families::V4).unwrap();
    });
    world.run(secs(60));
    let (credentials, challenge) = told_beforehand(&mut world, 10_000);
    // A request signed with the old name is under way.
    world.command(|client, now| {
        client.permit(now, address("203.0.113.9:0").ip()).unwrap();
    });
    world.drain();
    world.command(|client, now| client.renew(now, credentials, &challenge).unwrap());
    world.run(secs(1_000));
    assert_eq!(world.allocations(), 1, "{:?}", world.told);
    assert_eq!(world.count(|event| matches!(event, ClientEvent::PermissionInstalled { .. })), 1);
    assert_eq!(world.count(|event| matches!(event, ClientEvent::Failed { .. } | ClientEvent::Expired)), 0);
    assert_eq!(world.server.inner().counters().refused, 0);
}

#[test]
fn a_server_that_has_forgotten_everything_is_found_out_by_the_next_credentials() {
    let mut world = serving_by_secret(3);
    let (credentials, challenge) = told_beforehand(&mut world, 10_000);
    world.command(|client, now| {
        client.renew(now, credentials, &challenge).unwrap();
        client.allocate(now, Families::V4).unwrap();
    });
    world.run(secs(1));
    world.server = serving_by_secret(4).server;
    let (credentials, challenge) = told_beforehand(&mut world, 10_000);
    world.command(|client, now| client.renew(now, credentials, &challenge).unwrap());
    world.run(secs(1) + 4 * DELAY);
    assert_eq!((world.allocations(), world.server.inner().allocations()), (2, 1));
}

#[test]
fn a_challenge_that_is_none_changes_nothing() {
    let mut world = serving_by_secret(5);
    let (credentials, challenge) = told_beforehand(&mut world, 10_000);
    let stripped = Challenge { algorithms: Vec::new(), ..challenge.clone() };
    let long = Challenge { realm: vec![0; 800], ..challenge };
    for (challenge, cause) in [(stripped, Failure::BidDown), (long, Failure::Incomplete)] {
        let credentials = credentials.clone();
        let renewed = world.command(|client, now| client.renew(now, credentials, &challenge));
        assert_eq!(renewed, Err(cause));
    }
}

#[test]
fn two_round_trips_to_an_address_and_data_follows_without_a_third() {
    let mut world = World::new(1, 0);
    let peer = world.peer;
    world.command(|client, now| {
        client.allocate(now, Families::V4).unwrap();
        client.bind_channel(now, peer).unwrap();
    });
    world.run(Instant::from_millis(80));
    assert_eq!(world.allocations(), 1);
    assert!(world.send(b"early"), "before anybody has agreed to the permission");
    world.run(Instant::from_millis(160));
    assert_eq!(world.echoes, [(peer, b"early".to_vec())]);
    assert!(world.client.inner().channel(world.now, peer).is_some());
    assert!(world.send(b"on the channel"));
    world.run(Instant::from_millis(240));
    assert_eq!(world.echoes.last(), Some(&(peer, b"on the channel".to_vec())));
}

#[test]
fn case_56_a_server_that_starts_again_is_found_out_and_everything_comes_back() {
    let mut world = World::connected(2, 0);
    world.server = server(99);
    let now = world.now;
    world.server.handle_timeout(now);
    world.run(secs(40 + 26));
    assert_eq!((world.allocations(), world.server.inner().allocations()), (2, 1));
    assert!(world.send(b"again"));
    world.run(secs(67));
    assert_eq!(world.echoes.last(), Some(&(world.peer, b"again".to_vec())));
}

#[test]
fn case_57_a_peer_whose_nat_picks_another_port_reaches_us_through_the_relay() {
    let mut world = World::connected(3, 0);
    let (surprise, relayed) = (SocketAddr::new(world.peer.ip(), 31_337), world.relayed());
    world.fly(surprise, relayed, b"from elsewhere".to_vec());
    world.run(secs(41));
    assert_eq!(world.echoes, [(surprise, b"from elsewhere".to_vec())]);
}

#[test]
fn case_58_a_nat_that_forgets_the_flow_is_found_out_within_half_a_minute() {
    let mut world = World::connected(4, 0);
    let mapped = world.client.inner().mapped();
    world.outside = address("198.51.100.7:61999");
    world.run(secs(40 + 30));
    assert_eq!(world.allocations(), 2);
    assert_ne!(world.client.inner().mapped(), mapped);
    assert!(world.send(b"from the new port"));
    world.run(secs(71));
    assert_eq!(world.echoes.last(), Some(&(world.peer, b"from the new port".to_vec())));
}

#[test]
fn what_is_released_is_gone_at_the_server_too() {
    let mut world = World::connected(5, 0);
    world.command(Client::release);
    world.run(secs(41));
    assert_eq!(world.told.last(), Some(&ClientEvent::Released));
    assert_eq!(world.server.inner().allocations(), 0);
    assert!(!world.send(b"too late"));
}

#[test]
fn an_hour_passes_and_everything_still_works() {
    let mut world = World::connected(6, 0);
    world.run(secs(2 * 3600));
    assert_eq!((world.allocations(), world.server.inner().allocations()), (1, 1));
    assert_eq!(world.count(|event| matches!(event, ClientEvent::ChannelBound { .. })), 1);
    assert!(world.client.inner().channel(world.now, world.peer).is_some());
    assert!(world.send(b"still here"));
    world.run(secs(2 * 3600 + 1));
    assert_eq!(world.echoes, [(world.peer, b"still here".to_vec())]);
}

/// The canary of this file: a network that loses everything connects nobody.
#[test]
fn where_everything_is_lost_the_client_says_so() {
    let world = World::connected(8, 1_000_000);
    let failed = ClientEvent::Failed { cause: Failure::TimedOut };
    assert_eq!((world.told, world.sent), (vec![failed], 7));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// The laws on every call, loss up to one datagram in ten, and an hour of keeping alive.
    #[test]
    fn under_loss_the_relay_comes_up_and_stays(seed in any::<u64>(), loss in 0u32..100_000) {
        let mut world = World::connected(seed, loss);
        prop_assert_eq!(world.allocations(), 1);
        for second in 41..3_600 {
            if second % 10 == 0 {
                prop_assert!(world.send(b"tick"));
            }
            world.run(secs(second));
        }
        prop_assert_eq!((world.allocations(), world.server.inner().allocations()), (1, 1));
        prop_assert!(world.client.inner().channel(world.now, world.peer).is_some());
        // Four legs for each echo, of which each loses one in ten at most.
        prop_assert!(world.echoes.len() > 180, "{} of 356", world.echoes.len());
        prop_assert!(world.sent < 4_000);
    }

    /// The same seed is the same life, byte for byte.
    #[test]
    fn the_same_seed_is_the_same_life(seed in any::<u64>()) {
        let life = || {
            let mut world = World::connected(seed, 50_000);
            world.run(secs(700));
            (world.sent, world.told.clone(), world.dice.u64())
        };
        prop_assert_eq!(life(), life());
    }
}
