//! What becomes of streams: backpressure, ends, closes, and who is woken.

use std::time::Duration;

use gimlet_machine::{Direction, Machine, Session};

use crate::control::{Control, Unreachable};
use crate::hostile_tests::{PEER, Pair, config, node};
use crate::streams::{ENDED_BYTES_MAX, OVER_STREAMS_MAX, Stream};
use crate::{Config, ConnectError, Error, Event, Limits, LostCause};

/// Opens a stream from the peer to the public node, says `first` on it, and accepts it there.
fn stream(pair: &mut Pair, direction: Direction, first: &[u8]) -> (Stream, Stream) {
    let (now, to, from) = (pair.wire.now, pair.public_id(), pair.peer_id());
    let ours = pair.peer.command(now, |node| {
        let stream = node.open(now, to, direction).unwrap().unwrap();
        assert_eq!(node.send(now, stream, first), Ok(true));
        stream
    });
    pair.run(50);
    let now = pair.wire.now;
    let theirs = pair.public.command(now, |node| {
        let stream = node.accept_stream(now, from).unwrap().unwrap();
        assert_eq!(node.receive(now, stream).unwrap().unwrap(), first);
        stream
    });
    (ours, theirs)
}

#[test]
fn streams_that_are_over_are_forgotten_while_the_link_lives() {
    let mut pair = Pair::connected();
    for _ in 0..OVER_STREAMS_MAX + 100 {
        let (ours, theirs) = stream(&mut pair, Direction::Unidirectional, b"all there is");
        let now = pair.wire.now;
        pair.peer.command(now, |node| node.finish(now, ours)).unwrap();
        pair.run(50);
        let now = pair.wire.now;
        let end = pair.public.command(now, |node| node.receive(now, theirs));
        assert_eq!(end, Err(Error::Finished));
        pair.run(50);
        assert_eq!(pair.peer.inner().is_delivered(ours), Ok(true), "the latest ones can still be asked");
        pair.events.clear();
    }
    for node in [&pair.public, &pair.peer] {
        assert!(node.inner().usage().streams <= OVER_STREAMS_MAX, "{:?}", node.inner().usage());
    }
}

#[test]
fn a_message_that_does_not_fit_yet_waits_without_spinning() {
    let mut pair = Pair::connected();
    let (ours, theirs) = stream(&mut pair, Direction::Unidirectional, b"first");
    // Nobody reads: QUIC's window fills, then our buffer, by a little less than half.
    let mut accepted = 1;
    let mut piece = vec![1; 450_000];
    for _ in 0..100 {
        let now = pair.wire.now;
        accepted += usize::from(pair.peer.command(now, |node| node.send(now, ours, &piece)).unwrap());
        pair.run(50);
        let now = pair.wire.now;
        if pair.peer.command(now, |node| node.streams.get(ours).unwrap().pending()) > 0 {
            break;
        }
    }
    piece.resize(900_000, 2);
    let now = pair.wire.now;
    assert_eq!(pair.peer.command(now, |node| node.send(now, ours, &piece)), Ok(false));
    let mut woken = 0;
    while let Some(event) = pair.peer.poll_event() {
        if event == (Event::Writable { stream: ours }) {
            woken += 1;
            assert!(woken < 10, "told to write, and refused again, for ever");
            assert_eq!(pair.peer.command(now, |node| node.send(now, ours, &piece)), Ok(false));
        }
    }
    // Once it is read, the wake-up comes.
    pair.events.clear();
    for _ in 0..accepted - 1 {
        let now = pair.wire.now;
        while pair.public.command(now, |node| node.receive(now, theirs)).unwrap().is_some() {}
        pair.run(100);
    }
    assert!(pair.events.contains(&(false, Event::Writable { stream: ours })));
    let now = pair.wire.now;
    assert_eq!(pair.peer.command(now, |node| node.send(now, ours, &piece)), Ok(true));
}

#[test]
fn a_read_of_no_bytes_is_not_the_end() {
    let mut pair = Pair::connected();
    let (ours, theirs) = stream(&mut pair, Direction::Unidirectional, b"first");
    let now = pair.wire.now;
    pair.peer.command(now, |node| node.write(now, ours, b"more")).unwrap();
    pair.run(50);
    let now = pair.wire.now;
    let read = pair.public.command(now, |node| node.read(now, theirs, 0)).unwrap();
    assert!(read.is_none_or(|bytes| !bytes.is_empty()));
}

#[test]
fn a_stream_that_the_other_side_abandoned_does_not_hold_up_a_close() {
    let mut pair = Pair::connected();
    let (ours, theirs) = stream(&mut pair, Direction::Bidirectional, b"first");
    let now = pair.wire.now;
    pair.public.command(now, |node| node.abandon(now, theirs, 7));
    pair.run(100);
    let now = pair.wire.now;
    assert_eq!(pair.peer.command(now, |node| node.send(now, ours, b"x")), Err(Error::Abandoned(7)));
    let to = pair.public_id();
    pair.peer.command(now, |node| node.close(now, to));
    pair.run(500);
    assert_eq!(pair.peer.inner().usage().links, 0);
    assert_eq!(pair.peer.inner().counters().closed_undelivered, 0);
}

#[test]
fn abandoned_streams_give_their_place_back() {
    let mut pair = Pair::connected();
    for n in 0..600 {
        let (ours, theirs) = stream(&mut pair, Direction::Bidirectional, b"first");
        let now = pair.wire.now;
        pair.public.command(now, |node| node.abandon(now, theirs, 7));
        pair.run(50);
        let now = pair.wire.now;
        pair.peer.command(now, |node| node.abandon(now, ours, 7));
        pair.run(50);
        assert!(pair.peer.inner().usage().streams <= 1, "{n}");
    }
}

#[test]
fn a_stream_that_opens_during_a_close_does_not_hold_it_up() {
    let mut pair = Pair::connected();
    let (now, to, from) = (pair.wire.now, pair.public_id(), pair.peer_id());
    pair.peer.command(now, |node| {
        let stream = node.open(now, to, Direction::Bidirectional).unwrap().unwrap();
        assert_eq!(node.send(now, stream, b"crosses the close"), Ok(true));
    });
    pair.public.command(now, |node| {
        let stream = node.open(now, from, Direction::Unidirectional).unwrap().unwrap();
        assert_eq!(node.send(now, stream, &vec![7; 200_000]), Ok(true));
        node.close(now, from);
    });
    pair.run(1_000);
    let closed = Event::Lost { peer: from, cause: LostCause::ClosedByUs, reconnecting: false };
    assert!(pair.events.contains(&(true, closed)), "{:?}", pair.events);
    assert_eq!(pair.public.inner().counters().closed_undelivered, 0);
}

#[test]
fn what_is_said_to_a_closing_peer_is_never_mistaken_for_a_stream() {
    let mut pair = Pair::connected();
    let (now, to) = (pair.wire.now, pair.peer_id());
    // It does not come back after a goodbye.
    pair.peer.command(now, |node| node.peers.values_mut().for_each(|entry| entry.addresses.clear()));
    pair.public.command(now, |node| {
        let stream = node.open(now, to, Direction::Unidirectional).unwrap().unwrap();
        assert_eq!(node.send(now, stream, &vec![7; 2_000_000]), Ok(true));
        node.close(now, to);
    });
    pair.run(15);
    let now = pair.wire.now;
    pair.public.command(now, |node| {
        node.send_control(now, to, &Control::unreachable(to, Unreachable::NotConnected));
    });
    pair.run(2_000);
    let (now, from) = (pair.wire.now, pair.public_id());
    let first = pair.peer.command(now, |node| node.accept_stream(now, from));
    let second = pair.peer.command(now, |node| node.accept_stream(now, from));
    assert!(matches!(first, Ok(Some(_))), "{first:?}");
    assert!(matches!(second, Err(Error::Lost(_))), "a stream out of nowhere: {second:?}");
}

#[test]
fn abandoning_wakes_whoever_waits_on_the_stream() {
    let mut pair = Pair::connected();
    let (ours, _) = stream(&mut pair, Direction::Bidirectional, b"first");
    while pair.peer.poll_event().is_some() {}
    let now = pair.wire.now;
    pair.peer.command(now, |node| node.abandon(now, ours, 1));
    let woken: Vec<Event> = core::iter::from_fn(|| pair.peer.poll_event()).collect();
    assert!(woken.contains(&Event::Readable { stream: ours }), "{woken:?}");
    assert!(woken.contains(&Event::Writable { stream: ours }), "{woken:?}");
}

#[test]
fn a_reset_that_arrived_before_the_end_of_the_link_is_told_as_a_reset() {
    let mut pair = Pair::connected();
    let (ours, theirs) = stream(&mut pair, Direction::Unidirectional, b"first");
    let now = pair.wire.now;
    pair.peer.command(now, |node| node.abandon(now, ours, 9));
    pair.run(50);
    let (now, from) = (pair.wire.now, pair.public_id());
    pair.peer.command(now, |node| node.close(now, from));
    pair.run(200);
    let now = pair.wire.now;
    let read = pair.public.command(now, |node| node.receive(now, theirs));
    assert_eq!(read, Err(Error::Abandoned(9)));
}

#[test]
fn closing_a_peer_that_waits_to_be_tried_again_wakes_its_waiters() {
    let mut pair = Pair::connected();
    let (now, to) = (pair.wire.now, pair.public_id());
    let from = pair.peer_id();
    pair.public.command(now, |node| node.close(now, from));
    pair.run(200);
    let now = pair.wire.now;
    assert_eq!(pair.peer.inner().is_connected(to), Ok(false), "it is to be tried again");
    pair.events.clear();
    pair.peer.command(now, |node| node.close(now, to));
    pair.run(0);
    assert_eq!(pair.peer.inner().is_connected(to), Err(Error::Connect(ConnectError::Cancelled)));
    let told = Event::Failed { peer: to, cause: ConnectError::Cancelled };
    assert!(pair.events.contains(&(false, told)), "{:?}", pair.events);
    assert_eq!(pair.peer.inner().usage().timer, None);
}

#[test]
fn connecting_again_during_a_close_is_not_forgotten() {
    let mut pair = Pair::connected();
    let (ours, _) = stream(&mut pair, Direction::Unidirectional, b"first");
    let (now, to) = (pair.wire.now, pair.public_id());
    pair.peer.command(now, |node| {
        assert_eq!(node.send(now, ours, &vec![7; 500_000]), Ok(true));
        node.close(now, to);
        node.connect(now, to).unwrap();
        assert_eq!(node.is_connected(to), Ok(false));
    });
    pair.run(3_000);
    let closed = Event::Lost { peer: to, cause: LostCause::ClosedByUs, reconnecting: true };
    assert!(pair.events.contains(&(false, closed)), "{:?}", pair.events);
    assert_eq!(pair.peer.inner().is_connected(to), Ok(true));
}

#[test]
fn unread_streams_of_peers_that_left_make_room_for_those_who_come() {
    let limits = Limits { peers_max: 2, ..Limits::default() };
    let mut small = config(1, crate::hostile_tests::PUBLIC);
    (small.public, small.limits) = (true, limits);
    let mut pair = Pair::of(
        gimlet_testkit::Checked::new(crate::Node::new(gimlet_machine::Instant::ZERO, small).unwrap()),
        node(2, PEER, false),
    );
    for secret in 3..8 {
        let (now, to) = (pair.wire.now, pair.public_id());
        pair.peer.command(now, |node| {
            let stream = node.open(now, to, Direction::Unidirectional).unwrap().unwrap();
            assert_eq!(node.send(now, stream, b"never accepted"), Ok(true));
            node.close_all(now);
        });
        pair.run(2_000);
        let ticket = pair.public.inner().ticket(&["192.0.2.1:4433".parse().unwrap()], u64::MAX).unwrap();
        let address = format!("198.51.100.{secret}:5000");
        pair.peer = gimlet_testkit::Checked::new(
            crate::Node::new(pair.wire.now, Config { public: false, ..config(secret, &address) }).unwrap(),
        );
        let now = pair.wire.now;
        pair.peer.command(now, |node| node.add_ticket(now, &ticket)).unwrap();
        pair.run(500);
        assert_eq!(pair.peer.inner().is_connected(to), Ok(true), "visitor {secret}");
    }
    assert!(pair.public.inner().usage().peers <= 2);
}

#[test]
fn what_ended_connections_leave_behind_is_bounded_in_bytes() {
    let mut pair = Pair::connected();
    let to = pair.public_id();
    // Each connection leaves 24 MB that nobody reads.
    for _ in 0..8 {
        for _ in 0..3 {
            let now = pair.wire.now;
            pair.peer.command(now, |node| {
                let stream = node.open(now, to, Direction::Unidirectional).unwrap().unwrap();
                assert_eq!(node.send(now, stream, &vec![7; 8_000_000]), Ok(true));
            });
            pair.run(1_000);
        }
        let now = pair.wire.now;
        pair.peer.command(now, |node| {
            node.close(now, to);
            node.connect(now, to).unwrap();
        });
        pair.run(3_000);
        assert_eq!(pair.peer.inner().is_connected(to), Ok(true));
    }
    let held = pair.public.inner().streams.ended_bytes();
    assert!(held > 0 && held <= ENDED_BYTES_MAX, "{held}");
    assert!(pair.public.inner().counters().ended_streams_forgotten > 0);
}

#[test]
fn a_closed_node_asks_nobody_anything() {
    let mut config = config(2, PEER);
    config.stun_servers = vec!["203.0.113.1:3478".parse().unwrap()];
    let now = gimlet_machine::Instant::ZERO;
    let mut node = gimlet_testkit::Checked::new(crate::Node::new(now, config).unwrap());
    assert_eq!(node.inner().usage().stun_requests, 1);
    node.command(now, |node| node.close_all(now));
    assert!(node.inner().is_closed());
    assert_eq!((node.inner().usage().stun_requests, node.poll_timeout()), (0, None));
    let mut storage = Vec::new();
    let now = now + Duration::from_secs(1);
    assert_eq!(node.poll_transmit(now, &mut gimlet_machine::Buf::new(&mut storage)), None);
}
