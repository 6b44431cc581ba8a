//! What connections carry.

use std::time::Duration;

use gimlet_machine::{Bytes, Direction};
use gimlet_quic::{Cause, DatagramError, Endpoint, Event, StreamError};
use proptest::prelude::*;

use crate::world::{Wire, World};

#[test]
fn several_streams_of_both_kinds_carry_bytes_both_ways() {
    let mut world = World::new(20);
    let (a, b) = world.connect();
    let bidi: Vec<_> =
        (0..3_u8).map(|n| world.send_stream(0, a, Direction::Bidirectional, &[n; 100])).collect();
    let uni: Vec<_> =
        (0..3_u8).map(|n| world.send_stream(1, b, Direction::Unidirectional, &[n; 200])).collect();
    for stream in &bidi {
        world.on(0, |e, now| e.finish(now, a, *stream)).unwrap();
    }
    world.run_for(Duration::from_millis(100));

    assert!(world.events[1].contains(&Event::StreamOpened { id: b, direction: Direction::Bidirectional }));
    for (n, stream) in bidi.iter().enumerate() {
        assert_eq!(world.on(1, |e, now| e.accept(now, b)), Ok(Some((*stream, Direction::Bidirectional))));
        let mut got = Vec::new();
        assert!(world.read_all(1, b, *stream, &mut got), "finished");
        assert_eq!(got, [n as u8; 100]);
        let mut answer = [Bytes::from_static(b"answer"), Bytes::from_static(b" in two chunks")];
        assert_eq!(world.on(1, |e, now| e.write(now, b, *stream, &mut answer)), Ok(20));
    }
    for (n, stream) in uni.iter().enumerate() {
        assert_eq!(world.on(0, |e, now| e.accept(now, a)), Ok(Some((*stream, Direction::Unidirectional))));
        let mut got = Vec::new();
        assert!(!world.read_all(0, a, *stream, &mut got), "not finished");
        assert_eq!(got, [n as u8; 200]);
    }
    world.run_for(Duration::from_millis(100));
    let mut got = Vec::new();
    world.read_all(0, a, bidi[2], &mut got);
    assert_eq!(got, b"answer in two chunks");
    assert_eq!(world.on(0, |e, _| e.is_acknowledged(a, bidi[0])), Ok(true));
    assert_eq!(world.on(1, |e, _| e.is_acknowledged(b, uni[0])), Ok(false), "open");
}

#[test]
fn datagrams_arrive_whole_and_too_large_ones_say_how_much_fits() {
    let mut world = World::new(21);
    let (a, b) = world.connect();
    assert_eq!(world.on(0, |e, now| e.send_datagram(now, a, Bytes::from_static(b"hello"))), Ok(true));
    world.run_for(Duration::from_millis(50));
    assert!(world.events[1].contains(&Event::DatagramReceived { id: b }));
    assert_eq!(world.on(1, |e, now| e.receive_datagram(now, b)), Ok(Some(Bytes::from_static(b"hello"))));
    assert_eq!(world.on(1, |e, now| e.receive_datagram(now, b)), Ok(None));
    let max = world.on(0, |e, _| e.datagram_max(a)).unwrap();
    assert!((1_100..1_452).contains(&max));
    let sent = world.on(0, |e, now| e.send_datagram(now, a, vec![0; max + 1].into()));
    assert_eq!(sent, Err(DatagramError::TooLarge { max }));
}

#[test]
fn a_batch_of_chunks_stops_at_its_limit_and_then_tells_the_end_once() {
    let mut world = World::new(32);
    let (a, b) = world.connect();
    let stream = world.send_stream(0, a, Direction::Unidirectional, &[9; 10_000]);
    world.on(0, |e, now| e.finish(now, a, stream)).unwrap();
    world.run_for(Duration::from_millis(100));
    world.on(1, |e, now| e.accept(now, b)).unwrap().unwrap();
    let mut chunks = Vec::new();
    let read = |world: &mut World, max, into: &mut Vec<Bytes>| {
        world.on(1, |e, now| e.read_chunks(now, b, stream, max, into))
    };
    let len = |chunks: &[Bytes]| chunks.iter().map(Bytes::len).sum::<usize>();
    assert_eq!(read(&mut world, 4_000, &mut chunks), Ok(false));
    assert_eq!(len(&chunks), 4_000);
    assert_eq!(read(&mut world, usize::MAX, &mut chunks), Ok(true));
    assert_eq!(len(&chunks), 10_000, "appended");
    assert_eq!(read(&mut world, 1, &mut chunks), Err(StreamError::UnknownStream));
}

/// quinn-proto tells of room in the connection's window only to streams that once found none at all.
#[test]
fn regression_a_write_cut_short_by_the_send_window_is_told_of_room() {
    let mut world = World::with(23, |config| config.transport.send_window = 20_000);
    let (a, _) = world.connect();
    let stream = world.on(0, |e, now| e.open(now, a, Direction::Unidirectional)).unwrap().unwrap();
    let mut chunks = [Bytes::from(vec![1; 30_000])];
    assert_eq!(world.on(0, |e, now| e.write(now, a, stream, &mut chunks)), Ok(20_000));
    world.run_for(Duration::from_millis(500));
    assert!(world.events[0].contains(&Event::Writable { id: a, stream }));
    assert_eq!(world.on(0, |e, now| e.write(now, a, stream, &mut chunks)), Ok(10_000));
}

#[test]
fn back_pressure_ends_when_the_reader_reads() {
    let mut world = World::with(22, |config| config.transport.stream_window = 10_000);
    let (a, b) = world.connect();
    let stream = world.on(0, |e, now| e.open(now, a, Direction::Unidirectional)).unwrap().unwrap();
    let mut chunks = [Bytes::from(vec![1; 30_000])];
    assert_eq!(world.on(0, |e, now| e.write(now, a, stream, &mut chunks)), Ok(10_000));
    assert_eq!(chunks[0].len(), 20_000, "what was not taken stays with the caller");
    assert_eq!(world.on(0, |e, now| e.write(now, a, stream, &mut chunks)), Ok(0));
    world.run_for(Duration::from_millis(100));
    assert!(!world.events[0].contains(&Event::Writable { id: a, stream }));
    world.on(1, |e, now| e.accept(now, b)).unwrap().unwrap();
    world.read_all(1, b, stream, &mut Vec::new());
    world.run_for(Duration::from_millis(100));
    assert!(world.events[0].contains(&Event::Writable { id: a, stream }));
    assert_eq!(world.on(0, |e, now| e.write(now, a, stream, &mut chunks)), Ok(10_000));
}

#[test]
fn stream_limits_make_the_opener_wait() {
    let mut world = World::with(23, |config| config.transport.streams_max = 2);
    let (a, b) = world.connect();
    let first = world.send_stream(0, a, Direction::Unidirectional, b"x");
    world.send_stream(0, a, Direction::Unidirectional, b"x");
    assert_eq!(world.on(0, |e, now| e.open(now, a, Direction::Unidirectional)), Ok(None));
    world.on(0, |e, now| e.finish(now, a, first)).unwrap();
    world.run_for(Duration::from_millis(50));
    world.on(1, |e, now| e.accept(now, b)).unwrap().unwrap();
    assert!(world.read_all(1, b, first, &mut Vec::new()));
    world.run_for(Duration::from_millis(50));
    let available = Event::StreamsAvailable { id: a, direction: Direction::Unidirectional };
    assert!(world.events[0].contains(&available));
    assert!(world.on(0, |e, now| e.open(now, a, Direction::Unidirectional)).unwrap().is_some());
}

#[test]
fn stop_and_reset_reach_the_other_end_with_their_codes() {
    let mut world = World::new(24);
    let (a, b) = world.connect();
    let stream = world.send_stream(0, a, Direction::Bidirectional, b"question");
    world.run_for(Duration::from_millis(50));
    world.on(1, |e, now| e.accept(now, b)).unwrap().unwrap();
    world.on(1, |e, now| e.stop(now, b, stream, 7)).unwrap();
    world.on(1, |e, now| e.reset(now, b, stream, 8)).unwrap();
    world.run_for(Duration::from_millis(50));
    assert!(world.events[0].contains(&Event::Stopped { id: a, stream, code: 7 }));
    let mut more = [Bytes::from_static(b"more")];
    assert_eq!(world.on(0, |e, now| e.write(now, a, stream, &mut more)), Err(StreamError::Stopped(7)));
    assert_eq!(world.on(0, |e, now| e.read(now, a, stream, 10)), Err(StreamError::Reset(8)));
}

#[test]
fn verbs_on_the_wrong_thing_say_what_is_wrong() {
    let mut world = World::new(25);
    let peer_b = world.peer(1);
    let early = world.on(0, |e, now| e.dial(now, peer_b)).unwrap();
    let open = |world: &mut World, id| world.on(0, |e, now| e.open(now, id, Direction::Unidirectional));
    assert_eq!(open(&mut world, early), Err(StreamError::NotConnected));
    let (a, b) = world.connect();
    let stream = world.send_stream(0, a, Direction::Unidirectional, b"x");
    assert_eq!(world.on(0, |e, now| e.read(now, a, stream, 1)), Err(StreamError::WrongDirection));
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.on(1, |e, now| e.finish(now, b, stream)), Err(StreamError::WrongDirection));
    world.on(0, |e, now| e.finish(now, a, stream)).unwrap();
    assert_eq!(world.on(0, |e, now| e.finish(now, a, stream)), Err(StreamError::UnknownStream));
    world.on(0, |e, now| e.close(now, a, 3, b"bye"));
    assert_eq!(open(&mut world, a), Err(StreamError::ConnectionClosed));
    world.run_for(Duration::from_secs(3));
    assert_eq!(open(&mut world, a), Err(StreamError::UnknownConnection));
}

#[test]
fn a_clean_close_delivers_what_was_accepted() {
    let mut world = World::new(26);
    world.wire = Wire { loss_per_million: 200_000, ..Wire::default() };
    let (a, b) = world.connect();
    let stream = world.send_stream(0, a, Direction::Unidirectional, &vec![5; 100_000]);
    world.on(0, |e, now| e.finish(now, a, stream)).unwrap();
    world.run_until(Duration::from_secs(60), "acknowledged", |world| {
        !world.on(0, |e, _| e.has_unacknowledged(a))
    });
    world.wire = Wire::default();
    world.on(0, |e, now| e.close(now, a, 42, b"done"));
    world.run_until(Duration::from_secs(5), "lost", |world| world.lost(1).is_some());
    assert_eq!(world.lost(1), Some(&Cause::Closed { code: 42, reason: Bytes::from_static(b"done") }));
    // B reads everything although the connection is gone.
    world.on(1, |e, now| e.accept(now, b)).unwrap().unwrap();
    let mut got = Vec::new();
    assert!(world.read_all(1, b, stream, &mut got));
    assert_eq!(got, vec![5; 100_000]);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.events[0].last(), Some(&Event::Drained { id: a }));
    assert_eq!(world.events[1].last(), Some(&Event::Drained { id: b }));
    assert!(world.lost(0).is_none(), "whoever closes is not told that it lost");
    assert!(world.nodes.iter().all(|node| node.inner().is_idle()));
}

#[test]
fn close_all_ends_connections_reservations_and_listening() {
    let mut world = World::new(27);
    world.connect();
    let peer_c = world.peer(2);
    let reserved = world.on(1, |e, now| e.expect(now, peer_c)).unwrap();
    world.on(1, Endpoint::close_all);
    world.run_for(Duration::from_secs(5));
    assert!(world.events[1].contains(&Event::Drained { id: reserved }));
    assert!(world.nodes[1].inner().is_idle() && world.nodes[0].inner().is_idle());
}

#[test]
fn an_idle_connection_is_kept_alive_and_a_dead_one_is_noticed() {
    let mut world = World::new(28);
    let (a, _) = world.connect();
    world.run_for(Duration::from_secs(300));
    assert!(world.nodes[0].inner().is_connected(a));
    world.wire.loss_per_million = 1_000_000;
    world.run_for(Duration::from_secs(41));
    assert_eq!((world.lost(0), world.lost(1)), (Some(&Cause::TimedOut), Some(&Cause::TimedOut)));
}

#[test]
fn busy_connections_take_turns() {
    let mut world = World::new(29);
    let (a, _) = world.connect();
    world.on(2, |c, _| c.listen(true));
    let peer_c = world.peer(2);
    let other = world.on(0, |e, now| e.dial(now, peer_c)).unwrap();
    let to_c = crate::world::path(crate::world::A, crate::world::C);
    world.on(0, |e, now| e.set_path(now, other, to_c, gimlet_quic::PathMtu::Same));
    world.run_until(Duration::from_secs(5), "connected", |world| world.connected(2));
    for id in [a, other] {
        world.send_stream(0, id, Direction::Unidirectional, &vec![0; 60_000]);
    }
    world.log.clear();
    world.drain();
    let first: Vec<bool> = world.log.iter().take(8).map(|(path, _)| *path == to_c).collect();
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
}

#[test]
fn bulk_leaves_in_trains_no_longer_than_the_driver_allows() {
    let mut world = World::new(30);
    let ids = world.connect();
    world.transfer(ids, 1_000_000, |_, _| {});
    assert_eq!(world.longest_train, 10);
}

#[test]
fn marks_of_congestion_are_heard_and_slow_the_sender_down() {
    let run = |congested| {
        let mut world = World::new(31);
        let ids = world.connect();
        world.wire.congested = congested;
        world.transfer(ids, 1_000_000, |_, _| {})
    };
    assert!(run(true) > 2 * run(false));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the wire does short of cutting, everything arrives, in order and once.
    #[test]
    fn a_bad_wire_delivers_everything(
        seed in 100_u64..10_000,
        loss in 0_u32..250_000,
        duplicate in 0_u32..200_000,
        jitter_ms in 0_u64..40,
        total in 1_usize..300_000,
    ) {
        let mut world = World::new(seed);
        world.wire = Wire {
            loss_per_million: loss,
            duplicate_per_million: duplicate,
            jitter: Duration::from_millis(jitter_ms),
            ..Wire::default()
        };
        let ids = world.connect();
        world.transfer(ids, total, |_, _| {});
    }
}
