//! What strangers and the weather throw at an endpoint.

use std::time::Duration;

use gimlet_machine::{Counters as _, Direction, Rng, Verdict};
use gimlet_quic::{Cause, Event, PathMtu};

use crate::world::{A, B, World, config, endpoint, path};

/// Random bytes that look like QUIC as far as a first byte and a version go.
fn noise(rng: &mut Rng, round: u64) -> Vec<u8> {
    let mut bytes = vec![0; 1 + rng.below(1_500) as usize];
    rng.fill(&mut bytes);
    match round % 4 {
        0 => {}
        1 => bytes[0] = 0x40 | (bytes[0] & 0x3f),
        2 => bytes[0] |= 0xc0,
        _ => {
            bytes.resize(1_200, 0);
            bytes[..5].copy_from_slice(&[0xc3, 0, 0, 0, 1]);
            bytes[5] = 8;
        }
    }
    bytes
}

#[test]
fn noise_draws_no_reply_and_makes_no_connection() {
    for listening in [false, true] {
        let mut world = World::new(60);
        world.on(1, |b, _| b.listen(listening));
        let mut rng = Rng::from_u64(60);
        let before = world.nodes[1].inner().counters().total();
        for round in 0..20_000 {
            let from = path(B, &format!("10.7.{}.{}:7", rng.below(4), rng.below(250)));
            world.inject(1, from, &noise(&mut rng, round));
            // Stateless resets are limited in number, not in kind: let their interval pass.
            world.now += Duration::from_millis(25);
            if round % 100 == 0 {
                world.drain();
            }
        }
        world.drain();
        assert!(world.log.is_empty(), "listening: {listening}");
        assert!(world.nodes[1].inner().is_idle());
        assert_eq!(world.nodes[1].inner().counters().total() - before, 20_000, "each is counted");
    }
}

#[test]
fn noise_on_the_path_of_a_connection_does_not_disturb_it() {
    let mut world = World::new(61);
    let ids = world.connect();
    let mut rng = Rng::from_u64(61);
    let mut round = 0;
    world.transfer(ids, 300_000, |world, _| {
        round += 1;
        let bytes = noise(&mut rng, round);
        world.inject(1, path(B, A), &bytes);
        world.inject(0, path(A, B), &bytes);
    });
    assert!(round > 50);
    assert!(world.lost(0).is_none() && world.lost(1).is_none());
}

#[test]
fn forgeries_on_the_path_of_a_connection_are_counted() {
    let mut world = World::new(69);
    let ids = world.connect();
    world.run_for(Duration::from_secs(1));
    world.send_stream(0, ids.0, Direction::Unidirectional, b"x");
    world.log.clear();
    world.drain();
    let (_, mut forged) = world.log[0].clone();
    *forged.last_mut().unwrap() ^= 1;
    for _ in 0..5 {
        world.inject(1, path(B, A), &forged);
    }
    assert_eq!(world.nodes[1].inner().counters().undecryptable, 5);
    world.run_for(Duration::from_secs(1));
    assert!(world.events[1].iter().any(|event| matches!(event, Event::StreamOpened { .. })));
}

#[test]
fn flipped_bits_and_truncation_are_survived() {
    let mut world = World::new(62);
    let ids = world.connect_stranger();
    let mut rng = Rng::from_u64(62);
    world.transfer(ids, 200_000, |world, _| {
        let (sent_on, mut bytes) = world.log.last().unwrap().clone();
        let at = rng.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << rng.below(8);
        if rng.chance(300_000) {
            bytes.truncate(at);
        }
        let (to, arrives) = if sent_on == path(A, B) { (1, path(B, A)) } else { (0, path(A, B)) };
        world.inject(to, arrives, &bytes);
    });
}

/// First packets of honest dialers that will never say another word.
fn first_packets(count: u8) -> Vec<Vec<u8>> {
    let target = World::new(63).peer(1);
    (0..count)
        .map(|n| {
            let mut world = World::new(200 + u64::from(n));
            let id = world.on(0, |e, now| e.dial(now, target)).unwrap();
            world.on(0, |e, now| e.set_path(now, id, path(A, B), PathMtu::Same));
            world.drain();
            world.log.remove(0).1
        })
        .collect()
}

#[test]
fn a_flood_of_first_packets_stays_within_the_limit_and_the_newest_get_in() {
    let mut world = World::with(63, |config| {
        config.limits.strangers_max = 10;
        config.limits.retry_above = 1_000;
    });
    world.on(1, |b, _| b.listen(true));
    for (n, first) in first_packets(40).iter().enumerate() {
        world.inject(1, path(B, &format!("10.8.0.{n}:8")), first);
        assert!(world.nodes[1].inner().connections() <= 10);
    }
    assert_eq!(world.nodes[1].inner().counters().evicted, 30);
    world.connect_stranger();
}

#[test]
fn under_a_flood_strangers_prove_their_address_first() {
    let mut world = World::with(64, |config| {
        config.limits.strangers_max = 10;
        config.limits.retry_above = 5;
    });
    world.on(1, |b, _| b.listen(true));
    for (n, first) in first_packets(40).iter().enumerate() {
        world.inject(1, path(B, &format!("10.8.0.{n}:8")), first);
    }
    assert_eq!(world.nodes[1].inner().connections(), 5, "the rest cost no memory");
    assert_eq!(world.nodes[1].inner().counters().retried, 35);
    world.connect_stranger();
    assert_eq!(world.nodes[1].inner().counters().retried, 36);
    assert_eq!(world.nodes[1].inner().counters().evicted, 0);
}

#[test]
fn a_full_listener_says_so() {
    let mut world = World::with(65, |config| config.limits.connections_max = 1);
    world.connect_stranger();
    let peer_b = world.peer(1);
    let c = world.on(2, |e, now| e.dial(now, peer_b)).unwrap();
    world.on(2, |e, now| e.set_path(now, c, path(crate::world::C, B), PathMtu::Same));
    world.run_until(Duration::from_secs(1), "refused", |world| world.lost(2).is_some());
    assert_eq!(world.lost(2), Some(&Cause::Refused));
    assert_eq!(world.nodes[1].inner().counters().refused, 1);
}

#[test]
fn a_restarted_listener_tells_its_old_peers_at_once() {
    let mut world = World::new(66);
    let ids = world.connect_stranger();
    world.run_for(Duration::from_secs(1));
    // B comes back with the same identity and another seed.
    world.nodes[1] = endpoint(6_666, config(1));
    world.on(1, |b, _| b.listen(true));
    world.send_stream(0, ids.0, Direction::Unidirectional, &[0; 1_000]);
    world.run_until(Duration::from_millis(200), "reset", |world| world.lost(0).is_some());
    assert_eq!(world.lost(0), Some(&Cause::Reset));
    assert_eq!(world.events[0].last(), Some(&Event::Drained { id: ids.0 }));
}

#[test]
fn a_silent_endpoint_answers_nothing_even_to_its_own_connection_ids() {
    let mut world = World::new(67);
    let ids = world.connect();
    world.send_stream(0, ids.0, Direction::Unidirectional, b"x");
    world.log.clear();
    world.drain();
    let (_, genuine) = world.log[0].clone();
    world.nodes[1] = endpoint(6_767, config(1));
    assert_eq!(world.inject(1, path(B, A), &genuine), Verdict::NotMine);
    world.log.clear();
    world.drain();
    assert!(world.log.is_empty());
}

#[test]
fn a_first_packet_on_the_path_of_a_connection_starts_nothing_unless_listening() {
    let mut world = World::new(68);
    world.connect();
    let first = first_packets(1).remove(0);
    world.inject(1, path(B, A), &first);
    assert_eq!(world.nodes[1].inner().counters().uninvited, 1);
    assert_eq!(world.nodes[1].inner().connections(), 1);
    world.on(1, |b, _| b.listen(true));
    world.inject(1, path(B, A), &first);
    assert_eq!(world.nodes[1].inner().connections(), 2);
}
