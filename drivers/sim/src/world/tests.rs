use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use gimlet_machine::{
    Buf, CloseReason, Deadline, Ecn, FourTuple, Input, Instant, Machine, Request, SocketId, Transmit, Verdict,
};

use super::*;
use crate::toy::{Heard, PING, PONG, Told, Toy};
use crate::{Chance, DropReason, Filtering, Firewall, Mapping, NatKind, PacketRecord, Rate, Refusal};

mod tcp;

const MILLIS_10: Duration = Duration::from_millis(10);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Two hosts on 10 ms lines: 20 ms one way.
fn pair(seed: u64) -> (World<Toy>, [HostId; 2], FourTuple) {
    pair_with(seed, LinkConfig::with_latency(MILLIS_10))
}

fn pair_with(seed: u64, link: LinkConfig) -> (World<Toy>, [HostId; 2], FourTuple) {
    let path = FourTuple::new(at("198.51.100.1:1000"), at("198.51.100.2:2000"));
    let mut world = World::new(seed);
    let a = world.add_host(HostConfig::new("a", [path.local]).link(link), Toy::default());
    let b = world.add_host(HostConfig::new("b", [path.remote]).link(link), Toy::default());
    (world, [a, b], path)
}

fn heard(world: &mut World<Toy>, host: HostId) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| world.poll_event_of(host)).map(|(_, Heard { bytes, .. })| bytes).collect()
}

/// Everything that was recorded, as text, shared with an observer.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Observer for Log {
    fn packet(&mut self, record: &PacketRecord<'_>) {
        self.0.borrow_mut().push(record.to_string());
    }
    fn nat(&mut self, at: Instant, nat: NatId, event: &crate::NatEvent) {
        self.0.borrow_mut().push(format!("{at} {nat} {event:?}"));
    }
    fn fault(&mut self, at: Instant, fault: &Fault) {
        self.0.borrow_mut().push(format!("{at} {fault:?}"));
    }
}

#[test]
fn a_ping_takes_two_lines_there_and_two_back() {
    let (mut world, [a, b], path) = pair(1);
    world.touch(a, |toy, _| toy.send(path.local, path.remote, PING));
    assert!(world.run_to_quiet(Instant::from_millis(1_000)));
    assert_eq!(world.now(), Instant::from_millis(40));
    let (when, ping) = world.poll_event_of(b).unwrap();
    assert_eq!((when, ping.path, ping.bytes), (Instant::from_millis(20), path.flipped(), PING.to_vec()));
    let pong = world.poll_event().unwrap();
    assert_eq!((pong.at, pong.host, pong.event.bytes), (Instant::from_millis(40), a, PONG.to_vec()));
    assert_eq!((world.counts().sent, world.counts().delivered, world.in_flight()), (2, 2, 0));
    assert_eq!(world.step(), None);
}

#[test]
fn the_trace_reads_like_a_story() {
    let (mut world, [a, _], path) = pair(1);
    let log = Log::default();
    world.observe(log.clone());
    world.touch(a, |toy, _| toy.send(path.local, path.remote, PING));
    world.run_for(Duration::from_millis(30));
    world.inject(&Fault::Heal);
    assert_eq!(
        *log.0.borrow(),
        [
            "0.000000 #0 from host 0 sent: 198.51.100.1:1000 -> 198.51.100.2:2000, 4 bytes",
            "0.020000 #0 from host 0 delivered to host 1: 198.51.100.1:1000 -> 198.51.100.2:2000, 4 bytes",
            "0.020000 #1 from host 1 sent: 198.51.100.2:2000 -> 198.51.100.1:1000, 4 bytes",
            "0.030000 Heal",
        ]
    );
}

/// Pings over a line that does everything lines do.
fn eventful(seed: u64) -> World<Toy> {
    let link = LinkConfig {
        latency: MILLIS_10,
        jitter: Duration::from_millis(3),
        loss: Chance::percent(5),
        duplicate: Chance::percent(5),
        reorder: Chance::percent(5),
        rate: Some(Rate { bits_per_second: 100_000, queue: 400, mark_from: Some(100) }),
        ..LinkConfig::default()
    };
    let (mut world, [a, _], path) = pair_with(seed, link);
    world.touch(a, |toy, now| toy.ping(now, path, Duration::from_millis(2), 500));
    assert!(world.run_to_quiet(Instant::from_millis(60_000)));
    world
}

#[test]
fn equal_seeds_give_equal_hashes_and_different_seeds_different_ones() {
    let worlds = [eventful(7), eventful(7), eventful(8)];
    let [one, same, other] = worlds.map(|world| (world.trace_hash(), *world.counts()));
    assert_eq!(one, same);
    assert_ne!(one.0, other.0);
    assert!(one.1.lost > 0 && one.1.duplicated > 0, "{:?}", one.1);
}

/// A number that two computers agree on. It may change when the simulator decides something
/// differently, and then every recorded seed means something else: say so in the changelog.
#[test]
fn a_known_seed_gives_a_known_hash_on_every_platform() {
    let known = "6257201c2f54c371494db360442cab12c0dd7d6cbf04790d4ecb1516049c899a";
    assert_eq!(eventful(7).trace_hash().to_string(), known);
}

#[test]
fn the_luck_of_a_line_does_not_depend_on_what_else_is_in_the_world() {
    let arrivals = |with_others: bool| {
        let link = LinkConfig { jitter: MILLIS_10, loss: Chance::percent(20), ..LinkConfig::default() };
        let (mut world, [a, b], path) = pair_with(9, link);
        if with_others {
            let nat = NatConfig::of_kind(NatKind::Symmetric, [203, 0, 113, 1]).unwrap();
            let nat = world.add_nat(nat, link);
            let other = HostConfig::new("other", [at("192.168.0.2:1")]).behind(nat).link(link);
            let other = world.add_host(other, Toy::default());
            let elsewhere = FourTuple::new(at("192.168.0.2:1"), at("192.0.2.1:1"));
            world.touch(other, |toy, now| toy.ping(now, elsewhere, Duration::from_millis(1), 100));
        }
        world.touch(a, |toy, now| toy.ping(now, path, Duration::from_millis(2), 100));
        world.run_to_quiet(Instant::FAR);
        std::iter::from_fn(|| world.poll_event_of(b)).map(|(at, _)| at).collect::<Vec<_>>()
    };
    assert_eq!(arrivals(false), arrivals(true));
}

#[test]
fn the_hash_covers_the_payload_and_the_moment() {
    let run = |payload: &[u8], wait: u64| {
        let (mut world, [a, _], path) = pair(1);
        world.run_until(Instant::from_nanos(wait));
        world.touch(a, |toy, _| toy.send(path.local, path.remote, payload));
        world.run_to_quiet(Instant::FAR);
        world.trace_hash()
    };
    let hashes = [run(b"x", 0), run(b"y", 0), run(b"x", 1)];
    assert!(hashes[0] != hashes[1] && hashes[0] != hashes[2] && hashes[1] != hashes[2]);
    assert_eq!(hashes[0].to_string().len(), 64);
}

#[test]
fn a_thousand_hosts_ping_their_neighbours() {
    let run = || {
        let mut world = World::new(3);
        let socket = |nth: u32| SocketAddr::from(((0x0a00_0000 + nth).to_be_bytes(), 1_000));
        let link = LinkConfig {
            latency: MILLIS_10,
            jitter: MILLIS_10,
            loss: Chance::percent(1),
            ..LinkConfig::default()
        };
        for nth in 0..1_000 {
            let config = HostConfig::new(format!("host-{nth}"), [socket(nth)]).link(link);
            let host = world.add_host(config, Toy::default());
            let path = FourTuple::new(socket(nth), socket((nth * 7 + 1) % 1_000));
            world.touch(host, |toy: &mut Toy, now| toy.ping(now, path, Duration::from_millis(100), 10));
        }
        assert!(world.run_to_quiet(Instant::from_millis(10_000)));
        (world.trace_hash(), *world.counts())
    };
    let (hash, counts) = run();
    assert!(counts.delivered > 19_000 && counts.lost > 100, "{counts:?}");
    assert_eq!((hash, counts), run());
}

#[test]
fn a_partition_cuts_both_ways_and_heals() {
    let (mut world, [a, b], path) = pair(1);
    world.touch(a, |toy, now| toy.ping(now, path, Duration::from_millis(100), 30));
    world.schedule(Instant::from_millis(1_000), Fault::Partition(vec![a], vec![b]));
    world.schedule(Instant::from_millis(2_000), Fault::Heal);
    assert!(world.run_to_quiet(Instant::from_millis(10_000)));
    let pings = std::iter::from_fn(|| world.poll_event_of(b)).map(|(at, _)| at.as_millis());
    assert_eq!(pings.filter(|at| (1_000..2_000).contains(at)).count(), 0);
    // Ten pings; the pong to the ping before them got across in time.
    assert_eq!((world.counts().cut, world.counts().delivered), (10, 40));
}

#[test]
fn a_one_way_cut_leaves_the_other_way_open() {
    let (mut world, [a, b], path) = pair(1);
    world.inject(&Fault::Cut { from: vec![b], to: vec![a] });
    world.touch(a, |toy, _| toy.send(path.local, path.remote, PING));
    world.run_to_quiet(Instant::FAR);
    assert_eq!((heard(&mut world, b).len(), heard(&mut world, a).len()), (1, 0));
    assert_eq!(world.counts().cut, 1);
}

#[test]
fn a_nat_is_cut_off_when_all_its_hosts_are() {
    let mut world = World::new(1);
    let server = at("198.51.100.9:9");
    let outside = world.add_host(HostConfig::new("server", [server]), Toy::default());
    let config =
        NatConfig::new([203, 0, 113, 1], Mapping::EndpointIndependent, Filtering::EndpointIndependent);
    let nat = world.add_nat(config, LinkConfig::default());
    let [one, two] = ["192.168.0.1:1", "192.168.0.2:2"]
        .map(|socket| world.add_host(HostConfig::new(socket, [at(socket)]).behind(nat), Toy::default()));
    let ping = |world: &mut World<Toy>| {
        world.touch(one, |toy, _| toy.send(at("192.168.0.1:1"), server, PING));
        world.run_to_quiet(Instant::FAR);
        heard(world, one).len()
    };
    world.inject(&Fault::Cut { from: vec![outside], to: vec![one] });
    assert_eq!(ping(&mut world), 0, "the cut is seen at the host");
    assert_eq!(world.counts().translated, 2);
    world.inject(&Fault::Cut { from: vec![outside], to: vec![two] });
    assert_eq!(ping(&mut world), 0, "the cut is seen in front of the NAT");
    assert_eq!(world.counts().translated, 3);
}

#[test]
fn a_restarted_host_has_a_fresh_machine_with_fresh_dice() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let seats = Rc::clone(&seen);
    let path = FourTuple::new(at("198.51.100.1:1"), at("198.51.100.2:2"));
    let mut world = World::new(5);
    let a = world.add_host(HostConfig::new("a", [path.local]), Toy::default());
    let b = world.add_host_with(HostConfig::new("b", [path.remote]), move |mut seat| {
        seats.borrow_mut().push((seat.now, seat.incarnation, seat.rng.u64()));
        Toy::default()
    });
    world.schedule(Instant::from_millis(10), Fault::Stop(b));
    world.schedule(Instant::from_millis(30), Fault::Start(b));
    world.schedule(Instant::from_millis(50), Fault::Restart(b));
    world.run_until(Instant::from_millis(20));
    assert!(!world.is_up(b));
    world.touch(a, |toy, _| toy.send(path.local, path.remote, PING));
    world.run_until(Instant::from_millis(40));
    assert_eq!((world.is_up(b), world.counts().host_down), (true, 1));
    world.touch(a, |toy, _| toy.send(path.local, path.remote, PING));
    world.run_to_quiet(Instant::FAR);
    assert_eq!(heard(&mut world, a), [PONG]);
    let seen = seen.borrow();
    assert_eq!(
        seen.iter().map(|seat| (seat.0.as_millis(), seat.1)).collect::<Vec<_>>(),
        [(0, 0), (30, 1), (50, 2)]
    );
    assert!(seen[0].2 != seen[1].2 && seen[1].2 != seen[2].2);
}

#[test]
#[should_panic(expected = "host `a` has no factory to start again from")]
fn a_host_without_a_factory_cannot_restart() {
    let (mut world, [a, _], _) = pair(1);
    world.inject(&Fault::Restart(a));
}

#[test]
#[should_panic(expected = "host `b` at 0.000000 (seed 1) is stopped and takes no commands")]
fn a_stopped_host_takes_no_commands() {
    let (mut world, [_, b], _) = pair(1);
    world.inject(&Fault::Stop(b));
    world.touch(b, |_, _| ());
}

#[test]
fn a_reaction_gives_commands_at_the_moment_of_the_event() {
    let (mut world, [a, b], path) = pair(1);
    world.react(b, move |toy, _, heard| {
        toy.send(path.remote, path.local, b"echo");
        (heard.bytes == b"keep").then_some(heard)
    });
    world.touch(a, |toy, _| {
        toy.send(path.local, path.remote, b"keep");
        toy.send(path.local, path.remote, b"drop");
    });
    world.run_to_quiet(Instant::FAR);
    assert_eq!((heard(&mut world, b).len(), heard(&mut world, a).len()), (1, 2));
    assert_eq!(world.now(), Instant::from_millis(40));
}

#[test]
fn run_to_stops_when_it_is_done_or_when_time_is_up() {
    let (mut world, [a, b], path) = pair(1);
    world.touch(a, |toy, now| toy.ping(now, path, MILLIS_10, 100));
    let mut pings = 0;
    assert!(world.run_to(Instant::from_millis(500), |world| {
        pings += heard(world, b).len();
        pings == 3
    }));
    assert_eq!(world.now(), Instant::from_millis(40));
    assert!(!world.run_to(Instant::from_millis(100), |_| false));
    assert!(world.now() <= Instant::from_millis(100));
}

#[test]
fn what_cannot_arrive_is_dropped_for_a_reason() {
    let (mut world, [a, b], path) = pair(1);
    let log = Log::default();
    world.observe(log.clone());
    let stranger = at("192.0.2.99:1");
    let cases: [(SocketAddr, SocketAddr, DropReason); 4] = [
        (path.local, stranger, DropReason::NoRoute),
        (path.local, SocketAddr::new(path.remote.ip(), 1), DropReason::NoSocket),
        (stranger, path.remote, DropReason::NotOurAddress),
        (path.local, at("[2001:db8::1]:1"), DropReason::NotOurAddress),
    ];
    for (local, remote, why) in cases {
        world.touch(a, |toy, _| toy.send(local, remote, b"?"));
        world.run_to_quiet(Instant::FAR);
        assert!(
            log.0.borrow().last().unwrap().contains(&format!("dropped ({why})")),
            "{why}: {log:?}",
            log = log.0
        );
    }
    world.touch(a, |toy, _| toy.send(path.local, path.remote, &[0; 1_473]));
    world.touch(a, |toy, _| toy.send(path.local, path.remote, &[0; 1_472]));
    world.touch(a, |toy, _| toy.send(path.local, path.remote, b"stranger"));
    world.run_to_quiet(Instant::FAR);
    let counts = world.counts();
    assert_eq!((counts.no_route, counts.no_socket, counts.not_our_address), (1, 1, 2));
    assert_eq!((counts.too_big, counts.not_mine, counts.delivered), (1, 1, 2));
    assert_eq!((heard(&mut world, b).len(), world.in_flight()), (1, 0));
}

#[test]
fn a_passed_datagram_leaves_the_host_again_without_a_copy_of_the_rest() {
    let (mut world, [a, _], path) = pair(1);
    world.touch(a, |toy, _| toy.send(path.local, path.remote, b"pass on hello"));
    world.run_to_quiet(Instant::FAR);
    assert_eq!(heard(&mut world, a), [b"hello"]);
}

#[test]
fn a_train_arrives_as_its_cars() {
    let path = FourTuple::new(at("198.51.100.1:1"), at("198.51.100.2:2"));
    let mut world = World::new(1);
    let config = HostConfig { segments_max: 8, ..HostConfig::new("a", [path.local]) };
    let a = world.add_host(config, Toy::default());
    let b = world.add_host(HostConfig::new("b", [path.remote]), Toy::default());
    world.touch(a, |toy, _| toy.send(path.local, path.remote, b"0123456789abcdefghijklmno"));
    world.run_to_quiet(Instant::FAR);
    assert_eq!(heard(&mut world, b), [&b"0123456789"[..], b"abcdefghij", b"klmno"]);
    assert_eq!((world.counts().sent, world.in_flight()), (3, 0));
}

#[test]
fn a_wildcard_socket_sends_from_the_first_address_of_the_family() {
    let mut world = World::new(1);
    let a = world.add_host(
        HostConfig::new("a", [at("198.51.100.1:5"), at("198.51.100.7:5"), at("[2001:db8::1]:5")]),
        Toy::default(),
    );
    let b =
        world.add_host(HostConfig::new("b", [at("[2001:db8::2]:0"), at("198.51.100.2:0")]), Toy::default());
    world.touch(a, |toy, _| {
        toy.send(at("0.0.0.0:5"), at("198.51.100.2:6"), b"4");
        toy.send(at("[::]:5"), at("[2001:db8::2]:7"), b"6");
    });
    world.run_to_quiet(Instant::FAR);
    let paths: Vec<_> = std::iter::from_fn(|| world.poll_event_of(b)).map(|(_, heard)| heard.path).collect();
    assert_eq!(
        paths,
        [
            FourTuple::new(at("198.51.100.2:6"), at("198.51.100.1:5")),
            FourTuple::new(at("[2001:db8::2]:7"), at("[2001:db8::1]:5")),
        ]
    );
}

#[test]
fn a_bottleneck_marks_capable_datagrams_and_drops_what_does_not_fit() {
    let rate = Rate { bits_per_second: 8_000, queue: 300, mark_from: Some(100) };
    let link = LinkConfig { rate: Some(rate), ..LinkConfig::default() };
    let path = FourTuple::new(at("198.51.100.1:1"), at("198.51.100.2:2"));
    let mut world = World::new(1);
    let a = world
        .add_host(HostConfig { uplink: link, ..HostConfig::new("a", [path.local]) }, Toy::marking(Ecn::Ect0));
    let b = world.add_host(HostConfig::new("b", [path.remote]), Toy::default());
    // 100 bytes each with headers, at 1,000 bytes per second: 100 ms each.
    world.touch(a, |toy, _| (0..5).for_each(|_| toy.send(path.local, path.remote, &[0; 72])));
    world.run_to_quiet(Instant::FAR);
    let arrivals: Vec<_> = std::iter::from_fn(|| world.poll_event_of(b))
        .map(|(at, heard)| (at.as_millis(), heard.ecn))
        .collect();
    assert_eq!(arrivals, [(100, Ecn::Ect0), (200, Ecn::Ce), (300, Ecn::Ce)]);
    assert_eq!(world.counts().queue_full, 2);
}

#[test]
fn relinking_changes_the_line_for_later_packets() {
    let (mut world, [a, _], path) = pair(1);
    world.inject(&Fault::Relink(a, LinkConfig { loss: Chance::ALWAYS, ..LinkConfig::default() }));
    world.touch(a, |toy, _| toy.send(path.local, path.remote, PING));
    world.run_to_quiet(Instant::FAR);
    assert_eq!((world.counts().lost, world.counts().delivered), (1, 0));
}

/// A host behind two NATs, one of them a carrier's, and a server.
#[test]
fn a_carrier_grade_nat_in_front_of_a_home_router_translates_twice_and_forgets_when_rebooted() {
    let mut world = World::new(1);
    let (server, inside) = (at("198.51.100.9:9"), at("192.168.0.2:5000"));
    let carrier = NatConfig::of_kind(NatKind::PortRestricted, [203, 0, 113, 1]).unwrap();
    let carrier = world.add_nat(carrier, LinkConfig::with_latency(MILLIS_10));
    let home = NatConfig::of_kind(NatKind::PortRestricted, [100, 64, 0, 7]).unwrap();
    let home = world.add_nat_behind(carrier, home, LinkConfig::with_latency(MILLIS_10));
    let far = world.add_host(HostConfig::new("server", [server]), Toy::default());
    let near = world.add_host(HostConfig::new("phone", [inside]).behind(home), Toy::default());
    world.touch(near, |toy, _| toy.send(inside, server, PING));
    world.run_to_quiet(Instant::FAR);
    let (when, ping) = world.poll_event_of(far).unwrap();
    assert_eq!((when.as_millis(), ping.path.remote), (20, at("203.0.113.1:5000")));
    assert_eq!((heard(&mut world, near), world.counts().translated), (vec![PONG.to_vec()], 4));
    assert_eq!(world.nat(home).mappings().collect::<Vec<_>>(), [(inside, at("100.64.0.7:5000"))]);

    world.inject(&Fault::RebootNat(home));
    assert_eq!(world.nat(home).mappings().count(), 0);
    let log = Log::default();
    world.observe(log.clone());
    world.touch(far, |toy, _| toy.send(server, at("203.0.113.1:5000"), b"late"));
    world.run_to_quiet(Instant::FAR);
    let why = DropReason::Nat(Refusal::NoMapping).to_string();
    assert!(log.0.borrow().last().unwrap().contains(&why), "{:?}", log.0);
}

#[test]
fn an_address_of_a_family_that_the_nat_does_not_translate_is_beyond_it() {
    let mut world = World::new(1);
    let config = NatConfig::of_kind(NatKind::Symmetric, [203, 0, 113, 1]).unwrap();
    let nat = world.add_nat(config, LinkConfig::default());
    let both = [at("192.168.0.2:5"), at("[2001:db8::1]:5")];
    let a = world.add_host(HostConfig::new("a", both).behind(nat), Toy::default());
    let b = world.add_host(HostConfig::new("b", [at("[2001:db8::2]:6")]), Toy::default());
    world.touch(b, |toy, _| toy.send(at("[2001:db8::2]:6"), both[1], PING));
    world.run_to_quiet(Instant::FAR);
    assert_eq!((heard(&mut world, b), world.counts().translated), (vec![PONG.to_vec()], 0));
    assert!(world.direct_path_possible(a, b));
}

#[test]
#[should_panic(expected = "192.168.0.1 cannot belong to both in the same network")]
fn an_address_has_one_owner_in_a_network() {
    let mut world = World::new(1);
    world.add_host(HostConfig::new("a", [at("192.168.0.1:1")]), Toy::default());
    world.add_host(HostConfig::new("b", [at("192.168.0.1:2")]), Toy::default());
}

#[test]
fn a_host_that_moves_is_reached_at_its_new_address_and_not_at_the_old_one() {
    let (mut world, [a, b], path) = pair(1);
    let moved = at("192.168.0.7:2000");
    let router = NatConfig::of_kind(NatKind::FullCone, [203, 0, 113, 1]).unwrap();
    let nat = world.add_nat(router, LinkConfig::default());
    world.inject(&Fault::Move { host: b, sockets: vec![moved], behind: Some(nat) });
    world.touch(a, |toy, _| toy.send(path.local, path.remote, PING));
    world.touch(b, |toy, _| toy.send(moved, path.local, b"moved"));
    world.run_to_quiet(Instant::FAR);
    let (_, news) = world.poll_event_of(a).unwrap();
    assert_eq!((news.path.remote, world.counts().no_route), (at("203.0.113.1:2000"), 1));
    world.touch(a, |toy, _| toy.send(path.local, news.path.remote, PING));
    world.run_to_quiet(Instant::FAR);
    assert_eq!(heard(&mut world, b), [PING]);
    let c = world.add_host(HostConfig::new("c", [path.remote]), Toy::default());
    assert_eq!(world.name(c), "c", "the old address is free again");
}

/// Two homes behind one carrier, a phone directly on the carrier, and a public host.
fn neighbourhood(carrier_hairpins: bool) -> (World<Toy>, [HostId; 5]) {
    let mut world = World::new(1);
    let line = LinkConfig::with_latency(MILLIS_10);
    let carrier = NatConfig::of_kind(NatKind::PortRestricted, [203, 0, 113, 1]).unwrap();
    let carrier = world.add_nat(NatConfig { hairpin: carrier_hairpins, ..carrier }, line);
    let homes = [1, 2].map(|nth| {
        let router = NatConfig::of_kind(NatKind::PortRestricted, [100, 64, 0, nth]).unwrap();
        world.add_nat_behind(carrier, router, line)
    });
    let mut add = |name: &str, socket: &str, nat| {
        world.add_host(HostConfig::new(name, [at(socket)]).behind(nat), Toy::default())
    };
    let hosts = [
        add("left", "192.168.0.2:5000", Some(homes[0])),
        add("left's neighbour", "192.168.0.3:6000", Some(homes[0])),
        // The same private address in another home.
        add("right", "192.168.0.2:5000", Some(homes[1])),
        add("phone", "100.64.0.9:7000", Some(carrier)),
        add("server", "198.51.100.9:9000", None),
    ];
    (world, hosts)
}

#[test]
fn the_oracle_knows_who_shares_a_network_and_who_needs_hairpinning() {
    for hairpins in [false, true] {
        let (world, [left, neighbour, right, phone, server]) = neighbourhood(hairpins);
        assert!(world.direct_path_possible(left, neighbour), "they share a home");
        assert!(world.direct_path_possible(left, phone), "the phone is in the carrier's network");
        assert!([left, right, phone].iter().all(|host| world.direct_path_possible(*host, server)));
        assert_eq!(world.direct_path_possible(left, right), hairpins);
    }
}

#[test]
fn the_oracle_knows_firewalls_and_what_lies_behind_them() {
    let (mut world, [left, neighbour, right, phone, server]) = neighbourhood(true);
    let home = NatId(1);
    for rules in [Firewall::without_udp(), Firewall::web_only()] {
        world.inject(&Fault::Firewall(home, rules));
        assert!(world.direct_path_possible(left, neighbour), "nothing is between them");
        assert!([phone, server, right].iter().all(|host| !world.direct_path_possible(left, *host)));
        assert!([left, neighbour].iter().all(|host| !world.direct_path_possible(phone, *host)));
        assert!(world.direct_path_possible(right, phone) && world.direct_path_possible(right, server));
    }
    world.inject(&Fault::Firewall(home, Firewall::default()));
    assert!([phone, server, right].iter().all(|host| world.direct_path_possible(left, *host)));
}

#[test]
fn two_homes_behind_one_carrier_meet_by_hairpinning() {
    let (mut world, [left, _, right, _, server]) = neighbourhood(true);
    let (inside, stun) = (at("192.168.0.2:5000"), at("198.51.100.9:9000"));
    let mut seen = Vec::new();
    for host in [left, right] {
        world.touch(host, |toy, _| toy.send(inside, stun, b"who am I?"));
        world.run_to_quiet(Instant::FAR);
        seen.push(world.poll_event_of(server).unwrap().1.path.remote);
    }
    // Each punches; the second finds the door open, and the answer comes back the same way.
    world.touch(left, |toy, _| toy.send(inside, seen[1], b"punch"));
    world.run_to_quiet(Instant::FAR);
    world.touch(right, |toy, _| toy.send(inside, seen[0], PING));
    world.run_to_quiet(Instant::FAR);
    let (_, ping) = world.poll_event_of(left).unwrap();
    assert_eq!((ping.path.remote, ping.bytes), (seen[1], PING.to_vec()));
    assert_eq!(heard(&mut world, right), [PONG]);
}

#[test]
fn neighbours_talk_without_leaving_home() {
    let (mut world, [left, neighbour, ..]) = neighbourhood(false);
    world.touch(left, |toy, _| toy.send(at("192.168.0.2:5000"), at("192.168.0.3:6000"), PING));
    world.run_to_quiet(Instant::FAR);
    assert_eq!((heard(&mut world, neighbour).len(), heard(&mut world, left)), (1, vec![PONG.to_vec()]));
    assert_eq!((world.counts().translated, world.now()), (0, Instant::ZERO));
}

#[test]
fn a_steady_stream_reuses_its_buffers() {
    let (mut world, [a, _], path) = pair(1);
    world.touch(a, |toy, now| toy.ping(now, path, Duration::from_millis(1), 2_000));
    world.run_until(Instant::from_millis(200));
    let (slots, in_flight) = (world.flight.slots(), world.in_flight());
    // 20 pings and 20 pongs are under way at any time, and one buffer is lent.
    assert!((39..=41).contains(&in_flight) && slots <= 44, "{in_flight} in flight in {slots} slots");
    world.run_until(Instant::from_millis(1_900));
    assert_eq!(world.flight.slots(), slots);
}

#[test]
fn late_in_time_the_world_works_as_it_does_early() {
    let run = |start: Instant| {
        let (mut world, [a, b], path) = pair(1);
        world.run_until(start);
        world.touch(a, |toy, now| toy.ping(now, path, MILLIS_10, 100));
        assert!(world.run_to_quiet(Instant::FAR));
        (world.now().since(start), heard(&mut world, b).len())
    };
    assert_eq!(run(Instant::FAR - Duration::from_secs(2)), run(Instant::ZERO));
}

#[test]
fn a_deadline_at_the_end_of_time_never_comes() {
    let mut world = World::new(1);
    world.add_host(HostConfig::new("patient", [at("198.51.100.1:1")]), Rogue::Patient);
    assert!(world.run_to_quiet(Instant::FAR));
    assert_eq!(world.now(), Instant::ZERO);
}

#[test]
fn a_machine_opens_sockets_and_is_reached_at_them() {
    let (mut world, [a, b], path) = pair(1);
    let bind = |id, local| Request::Bind { id: SocketId(id), local };
    world.touch(b, |toy, _| toy.ask(bind(1, SocketAddr::new(path.remote.ip(), 0))));
    let answers = world.machine(b).unwrap().answers.clone();
    let [(SocketId(1), Told::Bound(opened))] = answers[..] else { panic!("{answers:?}") };
    world.touch(a, |toy, _| toy.send(path.local, opened, PING));
    world.run_to_quiet(Instant::FAR);
    let (_, news) = world.poll_event_of(b).unwrap();
    assert_eq!((news.path.local, heard(&mut world, a)), (opened, vec![PONG.to_vec()]));
    // What was written before leaves before, and what comes after finds the socket closed.
    world.touch(b, |toy, _| {
        toy.ask(Request::Close { id: SocketId(1) });
        toy.send(opened, path.local, b"just in time");
    });
    world.touch(b, |toy, _| toy.send(opened, path.local, b"too late"));
    world.touch(a, |toy, _| toy.send(path.local, opened, PING));
    world.run_to_quiet(Instant::FAR);
    assert_eq!((world.counts().not_our_address, world.counts().no_socket), (1, 1));
}

#[test]
fn sockets_are_bounded_and_gone_with_their_machine() {
    let mut world = World::new(1);
    let local = at("198.51.100.1:1000");
    let host = HostConfig { opened_max: 2, ..HostConfig::new("a", [local]) };
    let host = world.add_host_with(host, |_| Toy::default());
    let bind = |id| Request::Bind { id: SocketId(id), local: SocketAddr::new(local.ip(), 0) };
    let answers = |world: &World<Toy>| {
        let answers = &world.machine(host).unwrap().answers;
        let is_open = |told: Told| matches!(told, Told::Bound(_));
        answers.iter().map(|(_, told)| is_open(*told).then_some(()).ok_or(*told)).collect::<Vec<_>>()
    };
    world.touch(host, |toy, _| (1..=3).for_each(|id| toy.ask(bind(id))));
    assert_eq!(answers(&world), [Ok(()), Ok(()), Err(Told::Closed(CloseReason::TooMany))]);
    world.inject(&Fault::Restart(host));
    world.touch(host, |toy, _| toy.ask(bind(1)));
    assert_eq!(answers(&world), [Ok(())]);
}

/// Canaries: machines that break the laws, and must be caught at it.
#[derive(Clone, Copy)]
enum Rogue {
    /// Its deadline never advances.
    StuckTimer,
    /// It sends for ever.
    Babbler,
    /// It has events for ever.
    Gossip,
    /// It answers itself, over no distance, for ever.
    Echo { due: bool },
    /// It breaks nothing: it wants to be woken when time ends.
    Patient,
}

impl Machine for Rogue {
    type Path = FourTuple;
    type Event = ();
    fn handle_input(&mut self, _now: Instant, _input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        if let Rogue::Echo { due } = self {
            *due = true;
        }
        Verdict::Consumed
    }
    fn handle_timeout(&mut self, _now: Instant) {}
    fn poll_event(&mut self) -> Option<()> {
        matches!(self, Rogue::Gossip).then_some(())
    }
    fn poll_transmit(&mut self, _now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        let socket = SocketAddr::from(([198, 51, 100, 1], 1));
        let speaks = match self {
            Rogue::StuckTimer | Rogue::Gossip | Rogue::Patient => false,
            Rogue::Babbler => true,
            Rogue::Echo { due } => std::mem::take(due),
        };
        (speaks && out.put(b"and another thing")).then_some(Transmit::new(FourTuple::new(socket, socket)))
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        match self {
            Rogue::StuckTimer => Some(Deadline { at: Instant::from_millis(1_500), why: "retransmit" }),
            Rogue::Patient => Some(Deadline { at: Instant::FAR, why: "never" }),
            Rogue::Babbler | Rogue::Gossip | Rogue::Echo { .. } => None,
        }
    }
}

fn run_rogue(rogue: Rogue) {
    let mut world = World::new(42);
    world.add_host(HostConfig::new("rogue", [at("198.51.100.1:1")]), rogue);
    world.run_until(Instant::from_millis(2_000));
}

#[test]
#[should_panic(
    expected = "host `rogue` at 1.500000 (seed 42) breaks law 4 (no livelock): after 1024 rounds at this moment its \
                deadline is still 1.500000 (retransmit)"
)]
fn canary_a_deadline_that_never_advances_is_reported_with_host_time_and_seed() {
    run_rogue(Rogue::StuckTimer);
}

#[test]
#[should_panic(
    expected = "host `rogue` at 0.000000 (seed 42) breaks law 4 (no livelock): more than 131072 datagrams"
)]
fn canary_a_machine_that_never_stops_sending_is_reported() {
    run_rogue(Rogue::Babbler);
}

#[test]
#[should_panic(
    expected = "host `rogue` at 0.000000 (seed 42) breaks law 4 (no livelock): it has events without end"
)]
fn canary_a_machine_with_endless_events_is_reported() {
    run_rogue(Rogue::Gossip);
}

#[test]
#[should_panic(expected = "time stands still at 0.000000 (seed 42): 2097152 things happened at one moment")]
fn canary_a_moment_that_never_ends_is_reported() {
    run_rogue(Rogue::Echo { due: true });
}
