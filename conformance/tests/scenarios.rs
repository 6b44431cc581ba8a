//! What users do, played in the simulator. A failure names its seed; `SEED=n` replays it alone.

use std::fmt::Write as _;
use std::time::Duration;

use gimlet_conformance::meeting::{Meeting, Scene, promised_pairs};
use gimlet_conformance::seeds;
use gimlet_machine::{Direction, Instant, Session};
use gimlet_node::{Error, Event, LostCause, Node, Stream};
use gimlet_sim::{Chance, Fault, Happening, HostId, LinkConfig, NatKind};

const WITHIN: Duration = Duration::from_secs(20);

fn meet(scene: Scene) -> Meeting {
    let mut meeting = scene.open();
    let took = meeting.connect(WITHIN);
    assert!(took.is_some(), "never met; SEED={}: {scene:?}\n{}", scene.seed, timeline(&mut meeting));
    meeting
}

fn timeline(meeting: &mut Meeting) -> String {
    let mut lines = String::new();
    for Happening { at, host, event } in meeting.events() {
        let _ = writeln!(lines, "{at} {:8} {event:?}", meeting.world.name(host));
    }
    lines
}

/// Opens a stream from `a` to `b` and gives both ends' names of it once it has carried a message.
fn stream(meeting: &mut Meeting) -> (Stream, Stream) {
    let (a, b, peer_a, peer_b) = (meeting.a, meeting.b, meeting.peer_a, meeting.peer_b);
    let ours = meeting
        .world
        .touch(a, |node, now| {
            let stream = node.open(now, peer_b, Direction::Bidirectional)?.expect("streams are free");
            node.send(now, stream, b"first")?;
            Ok::<_, Error>(stream)
        })
        .unwrap();
    let mut theirs = None;
    let limit = meeting.now() + WITHIN;
    meeting.world.run_to(limit, |world| {
        theirs = theirs.or_else(|| world.touch(b, |node, now| node.accept_stream(now, peer_a)).unwrap());
        theirs.is_some()
    });
    let theirs = theirs.expect("the stream arrives");
    assert_eq!(receive(meeting, b, theirs), Ok(b"first".to_vec()));
    (ours, theirs)
}

/// Waits for the next message on `stream`.
fn receive(meeting: &mut Meeting, host: HostId, stream: Stream) -> Result<Vec<u8>, Error> {
    let mut got = None;
    let limit = meeting.now() + WITHIN;
    meeting.world.run_to(limit, |world| {
        got = world.touch(host, |node: &mut Node, now| node.receive(now, stream)).transpose();
        got.is_some()
    });
    got.expect("a message or an error arrives in time").map(|bytes| bytes.to_vec())
}

#[test]
fn every_promised_pair_of_nats_connects_directly() {
    for seed in seeds(3) {
        for (nat_a, nat_b) in promised_pairs() {
            assert!(meet(Scene::new(seed, nat_a, nat_b)).is_direct(), "SEED={seed} {nat_a} {nat_b}");
        }
    }
}

#[test]
fn a_check_that_came_too_early_is_repeated_when_the_offerer_begins_and_not_half_a_second_later() {
    let round_trip = Duration::from_millis(50);
    for seed in seeds(3) {
        let mut meeting = Scene::new(seed, NatKind::AddressRestricted, NatKind::Symmetric).open();
        let took = meeting.connect(WITHIN).expect("promised");
        assert!(took <= round_trip.mul_f64(6.6), "SEED={seed}: {took:?}");
    }
}

#[test]
fn loss_duplication_and_reordering_delay_but_do_not_prevent() {
    let rough = LinkConfig {
        loss: Chance::percent(5),
        duplicate: Chance::percent(5),
        reorder: Chance::percent(10),
        ..LinkConfig::with_latency(Duration::from_millis(10))
    };
    for seed in seeds(20) {
        meet(Scene::new(seed, NatKind::PortRestricted, NatKind::PortRestricted).on(rough));
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_tls_included() {
    let run = |seed| {
        let mut meeting = meet(Scene::new(seed, NatKind::PortRestricted, NatKind::FullCone));
        let (ours, _) = stream(&mut meeting);
        meeting.world.touch(meeting.a, |node, now| node.finish(now, ours)).unwrap();
        assert!(meeting.close(WITHIN));
        meeting.world.trace_hash()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn messages_arrive_whole_in_order_and_in_both_directions() {
    let mut meeting = meet(Scene::new(5, NatKind::FullCone, NatKind::PortRestricted));
    let (ours, theirs) = stream(&mut meeting);
    for n in 0..200u32 {
        let message = vec![n as u8; n as usize * 37];
        let (a, b) = (meeting.a, meeting.b);
        assert_eq!(meeting.world.touch(a, |node, now| node.send(now, ours, &message)), Ok(true));
        assert_eq!(meeting.world.touch(b, |node, now| node.send(now, theirs, &message)), Ok(true));
        assert_eq!(receive(&mut meeting, b, theirs).as_ref(), Ok(&message));
        assert_eq!(receive(&mut meeting, a, ours).as_ref(), Ok(&message));
    }
}

#[test]
fn a_clean_close_delivers_everything_that_was_accepted() {
    for seed in seeds(5) {
        let lossy =
            LinkConfig { loss: Chance::percent(5), ..LinkConfig::with_latency(Duration::from_millis(10)) };
        let mut meeting = meet(Scene::new(seed, NatKind::PortRestricted, NatKind::PortRestricted).on(lossy));
        let (ours, theirs) = stream(&mut meeting);
        let message = vec![7; 300_000];
        assert_eq!(meeting.world.touch(meeting.a, |node, now| node.send(now, ours, &message)), Ok(true));
        meeting.world.touch(meeting.a, Node::close_all);
        let limit = meeting.now() + WITHIN;
        let a = meeting.a;
        assert!(meeting.world.run_to(limit, |world| world.machine(a).is_none_or(Session::is_closed)));
        // Long after the sender is gone, the receiver begins to read.
        meeting.world.run_for(Duration::from_secs(5));
        let b = meeting.b;
        assert_eq!(receive(&mut meeting, b, theirs), Ok(message), "SEED={seed}");
        assert_eq!(receive(&mut meeting, b, theirs), Err(Error::Finished), "SEED={seed}");
        let lost =
            meeting.events().into_iter().find(|e| e.host == b && matches!(e.event, Event::Lost { .. }));
        let orderly = LostCause::ClosedByPeer { code: 0, reason: "goodbye".into() };
        assert!(
            matches!(lost, Some(e) if matches!(&e.event, Event::Lost { cause, .. } if *cause == orderly))
        );
    }
}

#[test]
fn a_restarted_peer_is_found_again_under_the_same_name() {
    let mut meeting = meet(Scene::new(3, NatKind::PortRestricted, NatKind::FullCone));
    meeting.world.inject(&Fault::Restart(meeting.b));
    meeting.world.run_for(Duration::from_secs(2));
    let (a, b) = (meeting.a, meeting.b);
    let ticket = meeting.ticket.clone();
    meeting.world.touch(b, |node, now| node.add_ticket(now, &ticket)).unwrap();
    let peer_b = meeting.peer_b;
    let limit = meeting.now() + Duration::from_secs(120);
    let peer_a = meeting.peer_a;
    let found = meeting.world.run_to(limit, |world| {
        let sees =
            |host, peer| world.machine(host).is_some_and(|node: &Node| node.is_connected(peer) == Ok(true));
        sees(a, peer_b) && sees(b, peer_a)
    });
    assert!(found, "{}", timeline(&mut meeting));
}

#[test]
fn a_partition_that_heals_brings_the_peer_back() {
    let mut meeting = meet(Scene::new(4, NatKind::PortRestricted, NatKind::PortRestricted));
    let (a, b, public) = (meeting.a, meeting.b, meeting.public);
    meeting.world.inject(&Fault::Partition(vec![a], vec![b, public]));
    meeting.world.run_for(Duration::from_secs(60));
    let lost = meeting.events().iter().any(|e| e.host == a && matches!(e.event, Event::Lost { .. }));
    assert!(lost, "an hour-long silence is noticed");
    meeting.world.inject(&Fault::Heal);
    let (peer_b, limit) = (meeting.peer_b, meeting.now() + Duration::from_secs(120));
    let back = meeting
        .world
        .run_to(limit, |world| world.machine(a).is_some_and(|node| node.is_connected(peer_b) == Ok(true)));
    assert!(back, "{}", timeline(&mut meeting));
}

#[test]
fn both_sides_connecting_at_once_end_up_with_one_connection() {
    for seed in seeds(10) {
        let mut meeting = Scene::new(seed, NatKind::PortRestricted, NatKind::FullCone).open();
        meeting.world.run_for(Duration::from_secs(1));
        let (a, b, peer_a, peer_b) = (meeting.a, meeting.b, meeting.peer_a, meeting.peer_b);
        meeting.world.touch(a, |node, now| node.connect(now, peer_b)).unwrap();
        meeting.world.run_for(Duration::from_millis(seed * 7));
        meeting.world.touch(b, |node, now| node.connect(now, peer_a)).unwrap();
        meeting.world.run_for(Duration::from_secs(10));
        let (ours, theirs) = stream(&mut meeting);
        assert_eq!(meeting.world.touch(b, |node, now| node.send(now, theirs, b"back")), Ok(true));
        assert_eq!(receive(&mut meeting, a, ours), Ok(b"back".to_vec()), "SEED={seed}");
    }
}

#[test]
fn an_unknown_peer_is_an_answer_and_not_a_wait() {
    let mut meeting = Scene::new(1, NatKind::None, NatKind::None).open();
    meeting.world.run_for(Duration::from_secs(1));
    let nobody = gimlet_machine::PeerId([9; 32]);
    let a = meeting.a;
    meeting.world.touch(a, |node, now| node.connect(now, nobody)).unwrap();
    meeting.world.run_for(Duration::from_secs(5));
    let answer = meeting.world.machine(a).map(|node| node.is_connected(nobody));
    assert!(matches!(answer, Some(Err(Error::Connect(_)))), "{answer:?}");
}

#[test]
fn two_symmetric_nats_fail_with_the_reason_and_in_bounded_time() {
    let mut meeting = Scene::new(1, NatKind::Symmetric, NatKind::Symmetric).open();
    assert_eq!(meeting.connect(Duration::from_secs(60)), None);
    let answer = meeting.world.machine(meeting.a).map(|node| node.is_connected(meeting.peer_b));
    assert_eq!(answer, Some(Err(Error::Connect(gimlet_node::ConnectError::NoPath))));
    let pairs = meeting.world.machine(meeting.a).map(|node| node.pairs(meeting.peer_b).count());
    assert!(pairs.is_some_and(|pairs| pairs >= 2), "what was tried stays explainable: {pairs:?}");
}

#[test]
fn time_to_connect_is_a_handful_of_round_trips() {
    // Offer and answer through the public node, a check, the QUIC handshake and the hello: 5 round
    // trips of 50 ms and pacing. More means that something waits for a timer.
    let mut meeting = Scene::new(1, NatKind::PortRestricted, NatKind::PortRestricted).open();
    let took = meeting.connect(WITHIN).expect("they meet");
    assert!(took <= Duration::from_millis(350), "{took:?}\n{}", timeline(&mut meeting));
    assert!(meeting.now() > Instant::ZERO);
}
