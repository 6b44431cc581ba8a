//! Connections over lines, NATs and firewalls.

use bytes::Bytes;

use super::*;
use crate::{ACCEPTED_FIRST, Egress, Firewall, PortAllocation};

const ASKED: SocketId = SocketId(7);
const ACCEPTED: SocketId = SocketId(ACCEPTED_FIRST);

fn server() -> SocketAddr {
    at("198.51.100.9:443")
}

fn inside() -> SocketAddr {
    at("192.168.0.2:5000")
}

fn connect() -> Request {
    Request::Connect { id: ASKED, local: at("0.0.0.0:0").ip(), remote: server() }
}

fn write(bytes: &[u8]) -> Request {
    Request::Write { id: ASKED, bytes: Bytes::copy_from_slice(bytes) }
}

/// A host behind a NAT with a firewall and ports from the dice, and a server that listens.
fn home(seed: u64, line: LinkConfig, firewall: Firewall) -> (World<Toy>, [HostId; 2], NatId) {
    let mut world = World::new(seed);
    let nat = NatConfig::of_kind(NatKind::PortRestricted, [203, 0, 113, 1]).unwrap();
    let nat =
        world.add_nat(NatConfig { firewall, ports: PortAllocation::Random, ..nat }, LinkConfig::default());
    let laptop = HostConfig::new("laptop", [inside()]).behind(nat).link(line);
    let laptop = world.add_host_with(laptop, |_| Toy::default());
    let host = HostConfig::new("server", [server()]).link(line);
    let host = HostConfig { listens: vec![server()], ..host };
    let host = world.add_host_with(host, |_| Toy::default());
    (world, [laptop, host], nat)
}

fn quiet_home(firewall: Firewall) -> (World<Toy>, [HostId; 2], NatId) {
    home(1, LinkConfig::with_latency(MILLIS_10), firewall)
}

fn answers(world: &World<Toy>, host: HostId, id: SocketId) -> Vec<Told> {
    let answers = world.machine(host).unwrap().answers.iter();
    answers.filter(|(of, _)| *of == id).map(|(_, told)| *told).collect()
}

fn received(world: &World<Toy>, host: HostId, id: SocketId) -> Vec<u8> {
    world.machine(host).unwrap().received.get(&id).cloned().unwrap_or_default()
}

#[test]
fn a_connection_takes_a_round_trip_and_carries_bytes_both_ways_through_a_nat() {
    let (mut world, [laptop, host], nat) = quiet_home(Firewall::default());
    world.touch(laptop, |toy, _| toy.ask(connect()));
    world.run_until(Instant::from_millis(40));
    let told = answers(&world, laptop, ASKED);
    let [Told::Connected(flow)] = told[..] else { panic!("{told:?}") };
    assert_eq!((flow.local.ip(), flow.remote), (inside().ip(), server()));
    world.touch(laptop, |toy, _| toy.ask(write(b"hello")));
    assert_eq!(answers(&world, laptop, ASKED)[1..], [Told::Written(5)]);
    world.run_until(Instant::from_millis(60));
    let [Told::Connected(theirs)] = answers(&world, host, ACCEPTED)[..] else { panic!("accepted") };
    assert_eq!((theirs.local, theirs.remote.ip()), (server(), at("203.0.113.1:0").ip()));
    assert_eq!(received(&world, host, ACCEPTED), b"hello");
    let back = Request::Write { id: ACCEPTED, bytes: Bytes::from_static(b"welcome") };
    world.touch(host, |toy, _| toy.ask(back));
    world.touch(host, |toy, _| toy.ask(Request::Close { id: ACCEPTED }));
    assert!(world.run_to_quiet(Instant::from_millis(2_000)));
    assert_eq!(received(&world, laptop, ASKED), b"welcome");
    assert_eq!(answers(&world, laptop, ASKED).last(), Some(&Told::Closed(CloseReason::Ended)));
    assert_eq!(world.nat(nat).mappings().count(), 0, "connections have a table of their own");
    assert!(world.hosts[laptop.index()].connections.is_empty());
    assert!(world.hosts[host.index()].connections.is_empty());
}

#[test]
fn a_firewall_that_drops_datagrams_lets_connections_out() {
    let rules = [Firewall::without_udp(), Firewall::web_only()];
    for firewall in rules {
        let (mut world, [laptop, _], _) = quiet_home(firewall);
        world.touch(laptop, |toy, _| toy.send(inside(), server(), PING));
        world.touch(laptop, |toy, _| toy.ask(connect()));
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.counts().nat_refused, 1);
        assert!(matches!(answers(&world, laptop, ASKED)[..], [Told::Connected(_)]));
    }
}

#[test]
fn a_port_that_is_not_let_out_to_cannot_be_reached() {
    let web = Firewall { tcp: Egress::To(vec![80]), ..Firewall::default() };
    let (mut world, [laptop, _], nat) = quiet_home(web);
    world.touch(laptop, |toy, _| toy.ask(connect()));
    assert!(world.run_to_quiet(Instant::FAR));
    assert_eq!(answers(&world, laptop, ASKED), [Told::Closed(CloseReason::Unreachable)]);
    assert_eq!(world.now(), Instant::from_millis(15_000));
    world.inject(&Fault::Firewall(nat, Firewall::default()));
    world.touch(laptop, |toy, _| toy.ask(connect()));
    world.run_for(Duration::from_secs(1));
    assert!(matches!(answers(&world, laptop, ASKED)[1..], [Told::Connected(_)]));
}

#[test]
fn where_nobody_listens_connections_are_refused_and_nobody_gets_in_from_outside() {
    let (mut world, [laptop, host], _) = quiet_home(Firewall::default());
    let elsewhere = SocketAddr::new(server().ip(), 444);
    let ask = |id, remote| Request::Connect { id, local: at("0.0.0.0:0").ip(), remote };
    world.touch(laptop, |toy, _| toy.ask(ask(SocketId(1), elsewhere)));
    world.touch(host, |toy, _| toy.ask(ask(SocketId(2), at("203.0.113.1:5000"))));
    world.touch(host, |toy, _| toy.ask(ask(SocketId(3), at("[2001:db8::1]:443"))));
    assert!(world.run_to_quiet(Instant::FAR));
    assert_eq!(answers(&world, laptop, SocketId(1)), [Told::Closed(CloseReason::Refused)]);
    assert_eq!(answers(&world, host, SocketId(2)), [Told::Closed(CloseReason::Unreachable)]);
    assert_eq!(answers(&world, host, SocketId(3)), [Told::Closed(CloseReason::AddressUnavailable)]);
}

#[test]
fn a_peer_that_restarts_and_a_nat_that_forgets_break_connections_off() {
    for nth in 0..2 {
        let (mut world, [laptop, host], nat) = quiet_home(Firewall::default());
        world.touch(laptop, |toy, _| toy.ask(connect()));
        world.run_for(Duration::from_secs(1));
        let fault = if nth == 0 { Fault::Restart(host) } else { Fault::RebootNat(nat) };
        world.inject(&fault);
        world.touch(laptop, |toy, _| toy.ask(write(b"still there?")));
        world.run_for(Duration::from_secs(30));
        let told = answers(&world, laptop, ASKED);
        assert_eq!(told.last(), Some(&Told::Closed(CloseReason::Reset)), "{told:?}");
    }
}

#[test]
fn a_megabyte_arrives_in_order_over_bad_lines_and_repeats() {
    let line = LinkConfig {
        loss: Chance::percent(10),
        duplicate: Chance::percent(5),
        reorder: Chance::percent(5),
        jitter: Duration::from_millis(3),
        ..LinkConfig::with_latency(MILLIS_10)
    };
    let message: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let run = |seed| {
        let (mut world, [laptop, host], _) = home(seed, line, Firewall::without_udp());
        world.touch(laptop, |toy, _| toy.ask(connect()));
        world.touch(laptop, |toy, _| toy.ask(write(&message)));
        world.touch(laptop, |toy, _| toy.ask(Request::Close { id: ASKED }));
        world.run_to_quiet(Instant::FAR);
        (received(&world, host, ACCEPTED) == message, world.trace_hash())
    };
    for seed in 0..3 {
        let (is_whole, hash) = run(seed);
        assert!(is_whole, "seed {seed}");
        assert_eq!(run(seed).1, hash, "seed {seed}");
    }
}

#[test]
fn connections_and_sockets_share_one_limit() {
    let mut world = World::new(1);
    let host = HostConfig { opened_max: 2, ..HostConfig::new("a", [server()]) };
    let host = world.add_host(host, Toy::default());
    let remote = at("192.0.2.1:443");
    let ask = |id| Request::Connect { id: SocketId(id), local: server().ip(), remote };
    let bind = Request::Bind { id: SocketId(3), local: SocketAddr::new(server().ip(), 0) };
    world.touch(host, |toy, _| [ask(1), ask(2), bind, ask(4)].into_iter().for_each(|it| toy.ask(it)));
    for id in [3, 4] {
        assert_eq!(answers(&world, host, SocketId(id)), [Told::Closed(CloseReason::TooMany)]);
    }
}

#[test]
#[should_panic(expected = "host `a` gives SocketId(1) to a second socket")]
fn canary_a_machine_that_names_two_connections_alike_is_reported() {
    let mut world = World::new(1);
    let host = world.add_host(HostConfig::new("a", [server()]), Toy::default());
    let ask = || Request::Connect { id: SocketId(1), local: server().ip(), remote: at("192.0.2.1:443") };
    world.touch(host, |toy, _| [ask(), ask()].into_iter().for_each(|it| toy.ask(it)));
}
