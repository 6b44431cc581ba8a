//! A NAT of a few lines, whose lifetime is known, judges the machine.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::*;
use crate::error_code;
use gimlet_testkit::Checked;

const SERVER: &str = "192.0.2.1:3478";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What the server does with RESPONSE-PORT.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Obeys,
    Refuses,
    Overlooks,
    Silent,
}

/// A NAT with one outside address.
struct Nat {
    lifetime: Duration,
    /// Fresh mappings get the next port, not the socket's own.
    counts: bool,
    mappings: BTreeMap<SocketAddr, (u16, Instant)>,
    next: u16,
    /// The asking socket leaves by another address.
    pools: bool,
}

impl Nat {
    fn new(lifetime: Duration) -> Self {
        Self { lifetime, counts: false, mappings: BTreeMap::new(), next: 40_000, pools: false }
    }

    fn out(&mut self, now: Instant, local: SocketAddr, asker: SocketAddr) -> SocketAddr {
        let (known, fresh) = (self.mappings.get(&local).copied(), self.next);
        let known = known.filter(|(_, used)| now.since(*used) < self.lifetime);
        let port = known.map_or(if self.counts { fresh } else { local.port() }, |(port, _)| port);
        self.next += u16::from(known.is_none());
        self.mappings.insert(local, (port, now));
        let ip = if self.pools && local == asker { "203.0.113.2:0" } else { "203.0.113.1:0" };
        SocketAddr::new(at(ip).ip(), port)
    }

    /// Who is behind an outside port.
    fn inside(&self, now: Instant, port: u16) -> Option<SocketAddr> {
        let lives = |(_, (known, used)): &(&SocketAddr, &(u16, Instant))| {
            *known == port && now.since(*used) < self.lifetime
        };
        self.mappings.iter().find(lives).map(|(local, _)| *local)
    }
}

/// Runs a search of the default waits to its end, losing one packet in ten each way if asked.
fn run(mut nat: Nat, server: Server, scatters: bool, loses: Option<u64>) -> (BindingLifetime, Instant, u64) {
    let locals: Vec<SocketAddr> =
        (0..12).map(|nth| SocketAddr::from(([10, 0, 0, 2], 5_000 + nth * 7))).collect();
    let (mut now, mut dice) = (Instant::ZERO, Rng::from_u64(loses.unwrap_or(0)));
    let config = LifetimeConfig { scatters, ..LifetimeConfig::default() };
    let lifetime = Lifetime::new(now, Rng::from_u64(3), &config, &locals, at(SERVER)).unwrap();
    let mut lifetime = Checked::new(lifetime);
    let (mut flying, mut storage) = (Vec::<(Instant, FourTuple, Vec<u8>)>::new(), Vec::new());
    let (mut ends, mut sent) = (Vec::new(), 0);
    loop {
        while let Some(event) = lifetime.poll_event() {
            if let LifetimeEvent::Finished(found) = event {
                ends.push(found);
            }
        }
        while let Some(transmit) = lifetime.poll_transmit(now, &mut Buf::new(&mut storage)) {
            sent += 1;
            let mapped = nat.out(now, transmit.path.local, locals[0]);
            let lost = loses.is_some() && dice.below(10) == 0;
            let request = Message::parse(&storage).unwrap();
            let port = request.response_port();
            let mut answer = Vec::new();
            let class =
                if port.is_some() && server == Server::Refuses { Class::Error } else { Class::Success };
            let writer = MessageWriter::new(&mut answer, class, Method::BINDING, request.transaction_id());
            if class == Class::Error {
                writer.error_code(error_code::UNKNOWN_ATTRIBUTE, "").fingerprint();
            } else {
                writer.xor_mapped_address(mapped).fingerprint();
            }
            let to = match (server, port) {
                (Server::Silent, _) => continue,
                (Server::Obeys, Some(port)) => nat.inside(now, port),
                (Server::Obeys | Server::Refuses | Server::Overlooks, _) => Some(transmit.path.local),
            };
            let lost = lost || (loses.is_some() && dice.below(10) == 0);
            if let Some(to) = to.filter(|_| !lost) {
                let path = FourTuple::new(to, transmit.path.remote);
                flying.push((now + Duration::from_millis(20), path, answer));
            }
        }
        let next = flying.iter().map(|(at, ..)| *at).chain(lifetime.poll_timeout().map(|due| due.at)).min();
        let Some(next) = next else { break };
        now = now.max(next);
        let (arrived, rest): (Vec<_>, Vec<_>) = flying.into_iter().partition(|(at, ..)| *at <= now);
        flying = rest;
        for (_, path, mut bytes) in arrived {
            lifetime.handle_input(now, Input::new(path, &mut bytes));
        }
        if lifetime.poll_timeout().is_some_and(|due| due.at <= now) {
            lifetime.handle_timeout(now);
        }
    }
    assert_eq!(ends.len(), 1, "it ends once");
    (ends[0], now, sent)
}

fn between(at_least: u64, less_than: u64) -> BindingLifetime {
    BindingLifetime { at_least: Some(seconds(at_least)), less_than: Some(seconds(less_than)) }
}

#[test]
fn the_lifetime_is_between_the_last_wait_that_lived_and_the_first_that_did_not() {
    for (lifetime, at_least, less_than) in [(30, 28, 35), (60, 50, 65), (120, 95, 125), (300, 245, 305)] {
        let (found, end, sent) = run(Nat::new(seconds(lifetime)), Server::Obeys, false, None);
        assert_eq!(found, between(at_least, less_than), "{lifetime} s");
        assert!(end < Instant::ZERO + seconds(less_than + 10), "{end}");
        assert!(sent < 200, "{sent} requests");
    }
    let (found, ..) = run(Nat::new(seconds(3_600)), Server::Obeys, false, None);
    assert_eq!(found, BindingLifetime { at_least: Some(seconds(305)), less_than: None });
    let (found, ..) = run(Nat::new(seconds(5)), Server::Obeys, false, None);
    assert_eq!(found, BindingLifetime { at_least: None, less_than: Some(seconds(10)) });
}

#[test]
fn loss_makes_it_emptier_and_never_wrong() {
    let mut exact = 0;
    for seed in 0..200 {
        let (found, ..) = run(Nat::new(seconds(60)), Server::Obeys, false, Some(seed));
        assert!(found.at_least.is_none_or(|known| known < seconds(60)), "seed {seed}: {found:?}");
        assert!(found.less_than.is_none_or(|known| known >= seconds(60)), "seed {seed}: {found:?}");
        exact += u32::from(found == between(50, 65));
    }
    assert!(exact >= 195, "{exact} of 200");
}

#[test]
fn a_server_that_answers_nowhere_else_leaves_what_a_new_port_tells() {
    for server in [Server::Refuses, Server::Overlooks] {
        let counting = |scatters| {
            let nat = Nat { counts: true, ..Nat::new(seconds(60)) };
            run(nat, server, scatters, None).0
        };
        assert_eq!(counting(true), between(50, 65));
        assert_eq!(counting(false), BindingLifetime { at_least: None, less_than: Some(seconds(65)) });
        let (found, ..) = run(Nat::new(seconds(60)), server, false, None);
        assert_eq!(found, BindingLifetime::default(), "a port that is kept tells nothing");
    }
}

#[test]
fn a_nat_that_gives_the_asker_another_address_is_no_reason_to_believe_silence() {
    let nat = Nat { pools: true, ..Nat::new(seconds(3_600)) };
    let (found, ..) = run(nat, Server::Obeys, false, None);
    assert_eq!(found.less_than, None);
}

#[test]
fn where_nobody_answers_nothing_is_known_and_it_ends() {
    let (found, end, sent) = run(Nat::new(seconds(60)), Server::Silent, true, None);
    assert_eq!(found, BindingLifetime::default());
    assert!(end <= Instant::from_millis(5_000) && sent <= 16 * 11, "{end}, {sent} requests");
}

#[test]
fn answers_that_nobody_asked_for_change_nothing_but_counters() {
    let (now, config) = (Instant::ZERO, LifetimeConfig::default());
    let locals = [at("10.0.0.2:5000"), at("10.0.0.2:5001")];
    let mut lifetime = Lifetime::new(now, Rng::from_u64(3), &config, &locals, at(SERVER)).unwrap();
    let mut storage = Vec::new();
    let asked = lifetime.poll_transmit(now, &mut Buf::new(&mut storage)).unwrap();
    assert_eq!(asked.path, FourTuple::new(locals[1], at(SERVER)));
    let id = Message::parse(&storage).unwrap().transaction_id();
    let answer = |id| {
        let mut bytes = Vec::new();
        let writer = MessageWriter::new(&mut bytes, Class::Success, Method::BINDING, id);
        writer.xor_mapped_address(at("203.0.113.1:9")).fingerprint();
        bytes
    };
    let before = lifetime.waiters.clone();
    let stranger = FourTuple::new(locals[1], at("192.0.2.66:3478"));
    assert_eq!(lifetime.handle_input(now, Input::new(stranger, &mut answer(id))), Verdict::Consumed);
    let forged = TransactionId([7; 12]);
    assert_eq!(lifetime.handle_input(now, Input::new(asked.path, &mut answer(forged))), Verdict::NotMine);
    assert_eq!(lifetime.handle_input(now, Input::new(asked.path, &mut [0; 19])), Verdict::NotMine);
    let LifetimeCounters { wrong_path, unknown_transaction, not_stun, .. } = *lifetime.counters();
    assert_eq!((wrong_path, unknown_transaction, not_stun), (1, 1, 1));
    assert_eq!(alloc::format!("{:?}", lifetime.waiters), alloc::format!("{before:?}"));
}

#[test]
fn sockets_that_cannot_tell_anything_are_refused() {
    let (now, config) = (Instant::ZERO, LifetimeConfig::default());
    let new = |locals: &[SocketAddr], config: &LifetimeConfig| {
        Lifetime::new(now, Rng::from_u64(3), config, locals, at(SERVER)).map(drop)
    };
    let two = [at("10.0.0.2:5000"), at("10.0.0.2:5001")];
    assert_eq!(new(&two, &config), Ok(()));
    assert_eq!(new(&two[..1], &config), Err(DiscoveryError::NothingToAsk));
    let nothing = LifetimeConfig { waits: Vec::new(), ..config.clone() };
    assert_eq!(new(&two, &nothing), Err(DiscoveryError::NothingToAsk));
    assert_eq!(new(&[two[0], two[0]], &config), Err(DiscoveryError::NotOneHost));
}
