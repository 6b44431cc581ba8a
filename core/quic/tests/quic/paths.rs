//! Moving a connection beneath QUIC's feet.

use std::time::Duration;

use gimlet_machine::{Direction, Verdict};
use gimlet_quic::{Event, PathMtu};

use crate::world::{A, B, B2, World, addr, path};

#[test]
fn a_transfer_survives_a_switch_of_paths_in_the_middle() {
    let mut world = World::new(40);
    let ids = world.connect();
    let mut switched = false;
    world.transfer(ids, 1_000_000, |world, got| {
        if got > 300_000 && !switched {
            switched = true;
            // The old path dies; ICE has found another.
            world.owners.remove(&addr(B));
            world.on(0, |e, now| e.set_path(now, ids.0, path(A, B2), PathMtu::Same));
            world.on(1, |e, now| e.set_path(now, ids.1, path(B2, A), PathMtu::Same));
        }
    });
    assert!(switched);
    assert_eq!(world.nodes[0].inner().path(ids.0), Some(path(A, B2)));
    assert!(!world.events.iter().flatten().any(|event| matches!(event, Event::Moved { .. })));
}

#[test]
fn silence_is_told_with_the_first_probe_timeout_and_a_move_ends_it_in_a_round_trip() {
    for (seed, outage) in [(60, 200), (61, 2_000), (62, 9_000)] {
        let mut world = World::new(seed);
        let ids = world.connect();
        let (mut died, mut moved, mut resumed) = (None, None, None);
        world.transfer(ids, 1_000_000, |world, got| {
            if got > 300_000 && died.is_none() {
                died = Some((world.now, got));
                world.owners.remove(&addr(B));
            }
            let Some((at, before)) = died else { return };
            let silent = |event: &Event| matches!(event, Event::Silent { id, .. } if *id == ids.0);
            if world.events[0].iter().any(silent) && moved.is_none() {
                assert!(world.now.since(at) < Duration::from_millis(150), "{:?}", world.now.since(at));
                // Nobody finds another path for a while.
                moved = Some(at + Duration::from_millis(outage));
            }
            if moved.is_some_and(|at| world.now >= at) && resumed.is_none() {
                world.on(0, |e, now| e.set_path(now, ids.0, path(A, B2), PathMtu::MayShrink));
                world.on(1, |e, now| e.set_path(now, ids.1, path(B2, A), PathMtu::MayShrink));
                resumed = Some((world.now, None, before));
            }
            if let Some((_, first @ None, before)) = &mut resumed
                && got > *before + 3_000
            {
                *first = Some(world.now);
            }
        });
        let Some((moved, Some(first), _)) = resumed else { panic!("never moved: {died:?} {moved:?}") };
        // A probe there, its acknowledgement back, what was lost there again, and what was lost behind it.
        assert!(first.since(moved) <= Duration::from_millis(60), "seed {seed}: {:?}", first.since(moved));
    }
}

#[test]
fn the_ends_may_switch_at_different_times() {
    let mut world = World::new(41);
    let ids = world.connect();
    // Both listen on both paths; only A moves, B follows much later.
    world.on(0, |e, now| e.admit(now, ids.0, path(A, B2)));
    world.on(1, |e, now| e.admit(now, ids.1, path(B2, A)));
    world.on(0, |e, now| e.set_path(now, ids.0, path(A, B2), PathMtu::Same));
    world.transfer(ids, 500_000, |_, _| {});
    assert_eq!(world.nodes[1].inner().path(ids.1), Some(path(B, A)));
    world.on(1, |e, now| e.set_path(now, ids.1, path(B2, A), PathMtu::Same));
    world.transfer(ids, 500_000, |_, _| {});
}

#[test]
fn a_smaller_path_is_survived_and_quicker_when_announced() {
    let run = |mtu: PathMtu| {
        let mut world = World::new(42);
        let ids = world.connect();
        world.transfer(ids, 2_000_000, |_, _| {});
        assert_eq!(world.nodes[0].inner().mtu(ids.0), Some(1_452), "discovered");
        world.wire.mtu = 1_280;
        world.on(0, |e, now| e.set_path(now, ids.0, path(A, B2), mtu));
        world.on(1, |e, now| e.set_path(now, ids.1, path(B2, A), mtu));
        let before = world.log.len();
        world.transfer(ids, 2_000_000, |_, _| {});
        world.log[before..].iter().filter(|(_, bytes)| bytes.len() > 1_280).count()
    };
    let (announced, silent) = (run(PathMtu::MayShrink), run(PathMtu::Same));
    assert!(announced < 20, "only probes are too large: {announced}");
    assert!(silent > 5 * announced, "{silent}");
}

#[test]
fn large_datagrams_are_found_where_the_wire_and_both_ends_allow_them() {
    let mut world = World::with(49, |config| config.transport.mtu_max = 9_000);
    let ids = world.connect();
    world.transfer(ids, 3_000_000, |_, _| {});
    let mtu = world.nodes[0].inner().mtu(ids.0).unwrap();
    assert!((8_900..=9_000).contains(&mtu), "{mtu}");
}

#[test]
fn datagrams_on_a_path_that_was_not_admitted_do_not_count() {
    let mut world = World::new(43);
    let ids = world.connect();
    world.send_stream(0, ids.0, Direction::Unidirectional, b"secret");
    world.log.clear();
    world.drain();
    let (_, genuine) = world.log[0].clone();
    assert_eq!(world.inject(1, path(B, "10.6.6.6:6"), &genuine), Verdict::NotMine);
    assert_eq!(world.nodes[1].inner().counters().unknown_path, 1);
}

#[test]
fn a_listener_follows_a_client_whose_nat_gave_it_another_port() {
    let mut world = World::new(44);
    let ids = world.connect_stranger();
    let mut moved = false;
    world.transfer(ids, 500_000, |world, got| {
        if got > 100_000 && !moved {
            moved = true;
            world.nat.insert(addr(A), addr("10.0.0.1:4444"));
        }
    });
    assert!(moved);
    assert!(world.events[1].contains(&Event::Moved { id: ids.1, path: path(B, "10.0.0.1:4444") }));
    assert_eq!(world.nodes[1].inner().path(ids.1), Some(path(B, "10.0.0.1:4444")));
    assert_eq!(world.nodes[1].inner().counters().strayed, 0);
}

#[test]
fn a_replayed_or_forged_packet_does_not_redirect_a_listener() {
    let mut world = World::new(45);
    let ids = world.connect_stranger();
    world.send_stream(0, ids.0, Direction::Unidirectional, b"hello");
    world.log.clear();
    world.run_for(Duration::from_millis(100));
    let (_, genuine) = world.log.iter().find(|(sent_on, _)| *sent_on == path(A, B)).cloned().unwrap();
    let attacker = path(B, "10.6.6.6:6");
    // A replay: authentic, but not new.
    assert_eq!(world.inject(1, attacker, &genuine), Verdict::Consumed);
    // A forgery: the right connection id, the wrong rest.
    let mut forged = genuine.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(world.inject(1, attacker, &forged), Verdict::Consumed);
    world.log.clear();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[1].inner().path(ids.1), Some(path(B, A)));
    assert_eq!(world.nodes[1].inner().counters().strayed, 2);
    assert!(world.log.iter().all(|(sent_on, _)| *sent_on != attacker), "nothing goes to the attacker");
    world.transfer(ids, 10_000, |_, _| {});
}

#[test]
fn an_attacker_who_overtakes_a_packet_loses_the_connection_again() {
    let mut world = World::new(46);
    let ids = world.connect_stranger();
    world.run_for(Duration::from_secs(1));
    // The attacker sees a packet and delivers it first, from its own address (RFC 9000 §9.3.3).
    world.send_stream(0, ids.0, Direction::Unidirectional, b"hello");
    world.log.clear();
    world.drain();
    let (_, genuine) = world.log[0].clone();
    let attacker = path(B, "10.6.6.6:6");
    world.inject(1, attacker, &genuine);
    world.run_for(Duration::from_secs(10));
    // It cannot answer the challenge, so everything goes the old way.
    assert_eq!(world.nodes[1].inner().path(ids.1), Some(path(B, A)));
    world.transfer(ids, 100_000, |_, _| {});
}

#[test]
fn the_owner_may_take_over_a_strangers_connection() {
    let mut world = World::new(47);
    let ids = world.connect_stranger();
    world.on(0, |e, now| e.set_path(now, ids.0, path(A, B2), PathMtu::Same));
    world.on(1, |e, now| e.set_path(now, ids.1, path(B2, A), PathMtu::MayShrink));
    world.transfer(ids, 100_000, |_, _| {});
    assert_eq!(world.nodes[1].inner().path(ids.1), Some(path(B2, A)));
}

#[test]
fn an_old_connection_and_its_successor_share_a_path() {
    let mut world = World::new(48);
    let old = world.connect();
    // The same two again, on the same path, while the old one lives.
    world.events.iter_mut().for_each(Vec::clear);
    let new = world.connect();
    assert_ne!(old.0, new.0);
    for ids in [old, new, old] {
        world.transfer(ids, 20_000, |_, _| {});
    }
    for node in &world.nodes {
        assert_eq!(node.inner().counters().foreign_path + node.inner().counters().undeliverable, 0);
    }
}
