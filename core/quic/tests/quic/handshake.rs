//! Who gets to talk to whom.

use std::time::Duration;

use gimlet_machine::{Buf, Machine};
use gimlet_quic::{Cause, DialError, Event, PathMtu};

use crate::world::{A, B, C, World, addr, path};

#[test]
fn a_dialer_and_an_expecter_meet_and_both_know_who_is_there() {
    let mut world = World::new(1);
    let (a, b) = world.connect();
    let (peer_a, peer_b) = (world.peer(0), world.peer(1));
    assert_eq!(world.events[0][0], Event::Connected { id: a, peer: peer_b, dialed: true });
    assert_eq!(world.events[1][0], Event::Connected { id: b, peer: peer_a, dialed: false });
    assert!(world.nodes[0].inner().is_connected(a) && world.nodes[1].inner().is_connected(b));
    assert_eq!(world.nodes[0].inner().path(a), Some(path(A, B)));
    // One round trip of TLS, and half of one for the dialer's last flight.
    assert_eq!(world.now.since(gimlet_machine::Instant::ZERO), Duration::from_millis(30));
}

#[test]
fn a_listener_accepts_a_stranger_and_learns_its_id_from_the_handshake() {
    let mut world = World::new(2);
    let (_, b) = world.connect_stranger();
    let peer_a = world.peer(0);
    assert_eq!(world.events[1][0], Event::Connected { id: b, peer: peer_a, dialed: false });
    assert_eq!(world.nodes[1].inner().path(b), Some(path(B, A)));
}

#[test]
fn nothing_leaves_before_a_path_is_set() {
    let mut world = World::new(3);
    let (peer_a, peer_b) = (world.peer(0), world.peer(1));
    let a = world.on(0, |e, now| e.dial(now, peer_b)).unwrap();
    let b = world.on(1, |e, now| e.expect(now, peer_a)).unwrap();
    world.on(0, |e, now| e.admit(now, a, path(A, B)));
    world.on(1, |e, now| e.admit(now, b, path(B, A)));
    world.run_for(Duration::from_secs(100));
    assert!(world.log.is_empty());
    // The dialer speaks; the expecter hears and stays silent until it has a path of its own.
    world.on(0, |e, now| e.set_path(now, a, path(A, B), PathMtu::Same));
    world.run_for(Duration::from_millis(200));
    assert!(!world.log.is_empty() && world.log.iter().all(|(sent_on, _)| *sent_on == path(A, B)));
    world.on(1, |e, now| e.set_path(now, b, path(B, A), PathMtu::Same));
    world.run_until(Duration::from_secs(5), "connected", |world| world.connected(0) && world.connected(1));
}

#[test]
fn whoever_answers_with_another_key_is_refused_by_the_dialer() {
    let mut world = World::new(4);
    world.on(2, |c, _| c.listen(true));
    let peer_b = world.peer(1);
    let a = world.on(0, |e, now| e.dial(now, peer_b)).unwrap();
    // The path leads to C.
    world.on(0, |e, now| e.set_path(now, a, path(A, C), PathMtu::Same));
    world.run_until(Duration::from_secs(5), "lost", |world| world.lost(0).is_some());
    assert_eq!(world.lost(0), Some(&Cause::WrongPeer));
    world.run_for(Duration::from_secs(5));
    assert!(!world.connected(0) && !world.connected(2));
    assert!(world.events[2].is_empty(), "C never learned of an attempt that was not for it");
    assert_eq!(world.nodes[2].inner().counters().handshakes_failed, 1);
    assert_eq!(world.nodes[0].inner().counters().wrong_peer, 1);
    assert!(world.nodes.iter().all(|node| node.inner().is_idle()));
}

#[test]
fn whoever_dials_with_another_key_is_refused_by_the_expecter() {
    let mut world = World::new(5);
    let (peer_a, peer_b) = (world.peer(0), world.peer(1));
    // C dials in A's place.
    let c = world.on(2, |e, now| e.dial(now, peer_b)).unwrap();
    let b = world.on(1, |e, now| e.expect(now, peer_a)).unwrap();
    world.on(2, |e, now| e.set_path(now, c, path(C, B), PathMtu::Same));
    world.on(1, |e, now| e.set_path(now, b, path(B, C), PathMtu::Same));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.lost(1), Some(&Cause::WrongPeer));
    assert!(!world.connected(1));
    assert_eq!(world.lost(2), Some(&Cause::Refused), "C is told, not left to wait");
    assert_eq!(world.events[1].last(), Some(&Event::Drained { id: b }));
    assert!(world.nodes.iter().all(|node| node.inner().is_idle()));
}

#[test]
fn different_application_protocols_do_not_connect() {
    let mut world = World::with(6, |config| {
        if config.identity == [2; 32] {
            config.alpn = b"something-else".to_vec();
        }
    });
    world.on(1, |b, _| b.listen(true));
    let peer_b = world.peer(1);
    let a = world.on(0, |e, now| e.dial(now, peer_b)).unwrap();
    world.on(0, |e, now| e.set_path(now, a, path(A, B), PathMtu::Same));
    world.run_until(Duration::from_secs(5), "lost", |world| world.lost(0).is_some());
    // RFC 7301 §3.2: no_application_protocol, alert 120.
    assert!(matches!(world.lost(0), Some(Cause::Protocol { code: 0x178, by_peer: true, .. })));
}

#[test]
fn a_dialer_without_an_answer_gives_up_after_the_idle_timeout() {
    let mut world = World::new(7);
    let peer_b = world.peer(1);
    let a = world.on(0, |e, now| e.dial(now, peer_b)).unwrap();
    world.on(0, |e, now| e.set_path(now, a, path(A, "10.9.9.9:9"), PathMtu::Same));
    world.run_until(Duration::from_secs(60), "lost", |world| world.lost(0).is_some());
    assert_eq!(world.lost(0), Some(&Cause::TimedOut));
    assert_eq!(world.events[0].last(), Some(&Event::Drained { id: a }));
    assert_eq!(world.now.as_millis(), 30_000);
    // The second packet leaves after 300 ms, not after a second.
    assert!(world.log.len() > 5);
}

#[test]
fn a_first_packet_that_overtakes_the_admission_of_its_path_is_not_lost() {
    let mut world = World::new(8);
    let (peer_a, peer_b) = (world.peer(0), world.peer(1));
    let a = world.on(0, |e, now| e.dial(now, peer_b)).unwrap();
    let b = world.on(1, |e, now| e.expect(now, peer_a)).unwrap();
    world.on(0, |e, now| e.set_path(now, a, path(A, B), PathMtu::Same));
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.log.len(), 1, "one first packet, not repeated yet");
    world.on(1, |e, now| e.set_path(now, b, path(B, A), PathMtu::Same));
    world.run_until(Duration::from_millis(50), "connected", |world| world.connected(1));
}

#[test]
fn regression_a_first_packet_that_was_kept_for_long_does_not_pass_for_a_long_way() {
    let mut world = World::new(13);
    let (peer_a, peer_b) = (world.peer(0), world.peer(1));
    let a = world.on(0, |e, now| e.dial(now, peer_b)).unwrap();
    let b = world.on(1, |e, now| e.expect(now, peer_a)).unwrap();
    world.on(0, |e, now| e.set_path(now, a, path(A, B), PathMtu::Same));
    // B's checks take so long that A has sent four times, the last time 1.7 s ago.
    world.run_for(Duration::from_millis(3_800));
    world.on(1, |e, now| e.set_path(now, b, path(B, A), PathMtu::Same));
    world.run_until(Duration::from_millis(100), "A is satisfied", |world| world.connected(0));
    assert!(world.nodes[0].inner().rtt(a) < Some(Duration::from_millis(200)));
    // What A says to that gets lost.
    world.owners.remove(&addr(B));
    world.run_for(Duration::from_millis(100));
    world.owners.insert(addr(B), 1);
    assert!(!world.connected(1));
    world.run_until(Duration::from_secs(3), "B is satisfied", |world| world.connected(1));
}

#[test]
fn dialing_ourselves_or_one_too_many_fails_with_a_reason() {
    let mut world = World::with(9, |config| config.limits.connections_max = 2);
    let (peer_a, peer_b) = (world.peer(0), world.peer(1));
    assert_eq!(world.on(0, |e, now| e.dial(now, peer_a)), Err(DialError::Ourselves));
    let first = world.on(0, |e, now| e.dial(now, peer_b)).unwrap();
    world.on(0, |e, now| e.expect(now, peer_b)).unwrap();
    assert_eq!(world.on(0, |e, now| e.expect(now, peer_b)), Err(DialError::Full));
    world.on(0, |e, now| e.close(now, first, 0, b""));
    world.run_for(Duration::from_secs(5));
    assert!(world.on(0, |e, now| e.expect(now, peer_b)).is_ok(), "a drained connection makes room");
}

#[test]
fn the_same_seed_gives_the_same_datagrams_in_number_and_size() {
    // The provider's key shares are random here, so sizes and moments are compared, not bytes.
    let shape = |seed| {
        let mut world = World::new(seed);
        let ids = world.connect();
        world.transfer(ids, 50_000, |_, _| {});
        world.log.iter().map(|(path, bytes)| (*path, bytes.len())).collect::<Vec<_>>()
    };
    assert_eq!(shape(10), shape(10));
}

#[test]
fn a_buffer_too_small_for_a_packet_gets_none_and_loses_none() {
    let mut world = World::new(11);
    let peer_b = world.peer(1);
    let a = world.on(0, |e, now| e.dial(now, peer_b)).unwrap();
    world.on(0, |e, now| e.set_path(now, a, path(A, B), PathMtu::Same));
    let mut storage = Vec::new();
    let now = world.now;
    let mut small = Buf::new(&mut storage).with_limit(1_199);
    assert_eq!(world.on(0, |e, _| e.poll_transmit(now, &mut small)), None);
    let mut large = Buf::new(&mut storage).with_limit(1_500);
    assert!(world.on(0, |e, _| e.poll_transmit(now, &mut large)).is_some());
}

#[test]
fn an_endpoint_may_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<gimlet_quic::Endpoint>();
}
