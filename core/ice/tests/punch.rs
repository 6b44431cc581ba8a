//! Hole punching as one side sees it: what it asks for, when it sends, and what it does not believe.

#[path = "support/desk.rs"]
mod desk;

use desk::{Ask, Desk, PEER_PWD, Said, Signed, addr, direct, success};
use gimlet_ice::{
    Agent, Candidate, Config, Declined, Event, IceCounters, PairState, Part, Profile, PunchEvent,
    PunchLimits, PunchSocketError, PunchState, Role, State,
};
use gimlet_machine::{FourTuple, Instant, Machine, Path, Rng, Verdict};
use gimlet_stun::{Class, PortModel};
use gimlet_testkit::{Checked, Script};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Our one socket, and what the peer knows of it.
const BASE: &str = "10.0.0.2:5000";
const MAPPED: &str = "203.0.113.1:5000";
/// The peer's address as a STUN server saw it.
const PEER: &str = "203.0.113.2:40000";

fn profile(dependent: bool, outside: &str) -> Profile {
    Profile {
        dependent: Some(dependent),
        port_model: Some(PortModel::Sequential { delta: 1 }),
        newest_port: Some(40_000),
        outside: vec![outside.parse().unwrap()],
        supposed: false,
    }
}

fn easy() -> Profile {
    profile(false, "203.0.113.1")
}

fn hard() -> Profile {
    profile(true, "203.0.113.2")
}

fn punch(desk: &mut Desk, ours: &Profile, theirs: &Profile) -> Result<gimlet_ice::Plan, Declined> {
    let now = desk.now;
    let plan = desk.agent.command(now, |agent| agent.punch(now, ours, theirs));
    desk.drain();
    plan
}

fn vouch(desk: &mut Desk, ip: &str) {
    let now = desk.now;
    desk.agent.command(now, |agent| agent.vouch(now, ip.parse().unwrap()));
    desk.drain();
}

fn add_socket(desk: &mut Desk, socket: &str) -> Result<(), PunchSocketError> {
    let now = desk.now;
    let added = desk.agent.command(now, |agent| agent.add_punch_socket(now, addr(socket)));
    desk.drain();
    added
}

/// An agent that has tried the known pair in vain, and has nothing else to do for seconds.
fn stuck(role: Role) -> Desk {
    let mut desk = Desk::new(Config { role, ..Config::default() });
    desk.local(Candidate::host(addr(BASE)));
    desk.local(Candidate::server_reflexive(addr(MAPPED), addr(BASE), None));
    desk.remote(Candidate::server_reflexive(addr(PEER), addr(PEER), None));
    desk.credentials();
    desk.wait(3_600);
    desk.take_said();
    desk.take_told();
    desk
}

/// The side that probes, with its punch begun.
fn probing() -> Desk {
    let mut desk = stuck(Role::Controlling);
    vouch(&mut desk, "203.0.113.2");
    assert_eq!(punch(&mut desk, &easy(), &hard()).unwrap().part, Part::Probe);
    desk
}

/// The side that opens, with one socket, a second after its punch was asked for: it has begun.
fn opening() -> Desk {
    let mut desk = stuck(Role::Controlling);
    vouch(&mut desk, "203.0.113.2");
    let (ours, theirs) = (profile(true, "203.0.113.1"), profile(false, "203.0.113.2"));
    assert_eq!(punch(&mut desk, &ours, &theirs).unwrap().part, Part::Open);
    add_socket(&mut desk, "10.0.0.2:6000").unwrap();
    desk.wait(1_000);
    assert_eq!(desk.inner().punch_state(), Some(PunchState::Spraying));
    desk
}

fn state_events(told: &[Event]) -> Vec<PunchState> {
    let states = told.iter().filter_map(|event| match event {
        Event::Punch(PunchEvent::StateChanged(state)) => Some(*state),
        _ => None,
    });
    states.collect()
}

/// The requests to other addresses than the known one.
fn probes(desk: &mut Desk) -> Vec<Said> {
    let said = desk.take_said().into_iter();
    said.filter(|said| said.is(Class::Request) && said.path != direct(BASE, PEER)).collect()
}

#[test]
fn a_window_is_tried_from_the_nearest_port_on_five_milliseconds_apart_three_times() {
    let mut desk = probing();
    let start = desk.now;
    desk.wait(3_000);
    let probes = probes(&mut desk);
    let ports: Vec<u16> = probes.iter().map(|probe| probe.path.peer_address().port()).collect();
    // 40000 itself is no guess: it is the newest that was seen. What is right may get lost, so each is tried again.
    assert_eq!(ports, (0..3).flat_map(|_| 40_001..=40_032).collect::<Vec<_>>());
    let times: Vec<u64> = probes.iter().map(|probe| probe.at.since(start).as_millis() as u64).collect();
    // The side that opens four sockets gets half of the time that takes.
    assert_eq!((times[0], times[1], times[31]), (10, 15, 165));
    assert_eq!(times[32], 10 + 32 * 5 + 500);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 5));
}

#[test]
fn probes_are_signed_checks_each_with_an_id_of_its_own_however_often_it_is_sent() {
    let mut desk = probing();
    desk.wait(3_000);
    let probes = probes(&mut desk);
    let ids: BTreeSet<[u8; 12]> = probes.iter().map(|probe| probe.message().transaction_id().0).collect();
    assert_eq!((probes.len(), ids.len()), (96, 32));
    for probe in &probes {
        let message = probe.message();
        assert!(message.has_integrity() && message.has_fingerprint() && message.username().is_some());
        assert_eq!(
            message.priority().map(|priority| priority >> 24),
            Some(110),
            "as a peer-reflexive candidate"
        );
        assert!(message.ice_controlling().is_some() && !message.use_candidate());
    }
}

#[test]
fn the_side_that_opens_asks_for_sockets_and_sends_from_each_of_them_twice() {
    let mut desk = stuck(Role::Controlled);
    vouch(&mut desk, "203.0.113.2");
    let (ours, theirs) = (profile(true, "203.0.113.1"), profile(false, "203.0.113.2"));
    assert_eq!(punch(&mut desk, &ours, &theirs).unwrap().part, Part::Open);
    assert_eq!(desk.take_told().last(), Some(&Event::Punch(PunchEvent::OpenSockets { count: 4 })));
    for port in 6_000..6_004 {
        assert_eq!(desk.inner().punch_state(), Some(PunchState::Planned));
        add_socket(&mut desk, &format!("10.0.0.2:{port}")).unwrap();
    }
    assert_eq!(state_events(&desk.take_told()), [PunchState::Spraying]);
    desk.wait(2_000);
    let from: Vec<u16> = probes(&mut desk).iter().map(|probe| probe.path.on_wire().local.port()).collect();
    assert_eq!(from, [6_000, 6_001, 6_002, 6_003, 6_000, 6_001, 6_002, 6_003]);
    assert_eq!(desk.inner().local_candidates().count(), 2, "they are no candidates");
}

#[test]
fn sockets_that_never_come_are_waited_for_no_longer_than_a_second() {
    let desk = opening();
    assert_eq!(desk.inner().counters().probes_sent, 1, "from the base, at once");
}

#[test]
fn a_round_that_finds_nothing_frees_the_sockets_and_comes_again_with_fresh_ones() {
    let mut desk = opening();
    desk.take_told();
    desk.wait(4_000);
    let told = desk.take_told();
    assert_eq!(state_events(&told), [PunchState::Backoff]);
    assert!(told.contains(&Event::Punch(PunchEvent::CloseSockets { but: None })));
    assert_eq!(add_socket(&mut desk, "10.0.0.2:6001"), Err(PunchSocketError::NotWanted));
    desk.wait(60_000);
    let told = desk.take_told();
    assert_eq!(state_events(&told), [PunchState::Planned]);
    assert!(told.contains(&Event::Punch(PunchEvent::OpenSockets { count: 4 })));
}

#[test]
fn a_request_that_hits_a_socket_is_answered_checked_back_and_ends_the_punch_when_selected() {
    let mut desk = opening();
    desk.take_told();
    desk.take_said();
    let hit = direct("10.0.0.2:6000", PEER);
    let answer = desk.asked(hit, Ask::controlled());
    assert!(answer.is(Class::Success));
    assert_eq!(state_events(&desk.take_told()), [PunchState::Hit]);
    desk.wait(10);
    let checks = desk.take_checks();
    let check = checks.iter().find(|check| check.path == hit).expect("a triggered check");
    desk.answer_seeing(check, addr("203.0.113.1:41000"));
    desk.wait(200);
    let nomination = desk.take_checks().into_iter().find(|check| check.message().use_candidate()).unwrap();
    assert_eq!(nomination.path, hit);
    desk.answer(&nomination);
    assert_eq!(desk.inner().selected_path(), Some(hit));
    let told = desk.take_told();
    assert_eq!(state_events(&told), [PunchState::Ended]);
    let but = Some(addr("10.0.0.2:6000"));
    assert!(told.contains(&Event::Punch(PunchEvent::CloseSockets { but })), "{told:?}");
    desk.take_said();
    desk.wait(3_000);
    assert!(desk.take_said().iter().all(|said| said.path == hit), "the punch is over");
}

#[test]
fn regression_a_probe_that_comes_in_on_an_old_mapping_does_not_stop_the_side_that_opens() {
    let mut desk = opening();
    desk.take_told();
    // The base has a mapping towards the server, too, whose filter lets everybody in; what is answered from the base
    // leaves through yet another one, so that nothing comes of it.
    assert!(desk.asked(direct(BASE, PEER), Ask::controlled()).is(Class::Success));
    desk.wait(100);
    assert_eq!((desk.take_told(), desk.inner().punch_state()), (vec![], Some(PunchState::Spraying)));
}

#[test]
fn an_answer_to_a_probe_is_a_hit_and_what_was_hit_is_checked() {
    let mut desk = probing();
    desk.wait(100);
    let probe = probes(&mut desk).pop().unwrap();
    desk.take_told();
    assert_eq!(desk.hear(probe.path, &success(&probe, addr(MAPPED), PEER_PWD)), Verdict::Consumed);
    assert_eq!(state_events(&desk.take_told()), [PunchState::Hit]);
    desk.wait(300);
    let checks = desk.take_checks();
    assert!(checks.iter().all(|check| check.path == probe.path), "no further probe leaves: {checks:?}");
    desk.answer_seeing(&checks[0], addr(MAPPED));
    let valid: Vec<Path> = desk.inner().valid_paths().collect();
    assert_eq!(valid, [probe.path]);
}

#[test]
fn what_was_hit_and_does_not_work_lets_the_punch_go_on() {
    let mut desk = probing();
    desk.wait(50);
    let probe = probes(&mut desk).pop().unwrap();
    desk.hear(probe.path, &success(&probe, addr(MAPPED), PEER_PWD));
    desk.take_told();
    desk.take_said();
    desk.wait(5_100);
    assert_eq!(state_events(&desk.take_told()).first(), Some(&PunchState::Spraying));
    assert!(probes(&mut desk).iter().any(|later| later.path != probe.path));
}

#[test]
fn forged_misdirected_and_stale_answers_to_probes_change_nothing() {
    let mut desk = probing();
    desk.wait(100);
    let probe = probes(&mut desk).pop().unwrap();
    desk.take_told();
    let answer = success(&probe, addr(MAPPED), PEER_PWD);
    // Not signed by the peer.
    let forged = success(&probe, addr(MAPPED), "anotherPasswordOfSomeLength");
    assert_eq!(desk.hear(probe.path, &forged), Verdict::Consumed);
    assert_eq!(desk.inner().counters().answers_forged, 1);
    // From another port, another address, to another socket: nothing of ours went there.
    for (local, remote) in
        [(BASE, "203.0.113.2:39999"), (BASE, "198.51.100.9:40001"), ("10.0.0.2:5001", PEER)]
    {
        assert_eq!(desk.hear(direct(local, remote), &answer), Verdict::NotMine, "{local} {remote}");
    }
    // Answers to nothing, on the right path.
    for guess in 0..=255 {
        let mut other = answer.clone();
        other[19] = guess;
        if other != answer {
            assert_eq!(desk.hear(probe.path, &other), Verdict::NotMine);
        }
    }
    assert_eq!((state_events(&desk.take_told()), desk.inner().counters().probes_answered), (vec![], 0));
    // In the next round the same port has another id.
    desk.wait(120_000);
    assert_eq!(desk.hear(probe.path, &answer), Verdict::NotMine);
}

#[test]
fn an_answer_that_is_played_back_counts_once() {
    let mut desk = probing();
    desk.wait(100);
    let probe = probes(&mut desk).pop().unwrap();
    let answer = success(&probe, addr(MAPPED), PEER_PWD);
    for _ in 0..1_000 {
        desk.hear(probe.path, &answer);
    }
    assert_eq!(desk.inner().counters().hits, 1);
    let learned = desk.inner().remote_candidates().filter(|known| known.address == probe.path.peer_address());
    assert_eq!(learned.count(), 1);
    desk.wait(1_000);
    // The triggered check leaves three times in 1.5 s at most, however often it was asked for.
    assert!(desk.take_checks().len() <= 3 + 2);
}

#[test]
fn a_peer_that_hits_everything_gets_an_answer_where_it_may_stay_and_little_else() {
    let mut desk = stuck(Role::Controlling);
    vouch(&mut desk, "203.0.113.2");
    let random =
        |dependent, outside| Profile { port_model: Some(PortModel::Random), ..profile(dependent, outside) };
    punch(&mut desk, &random(true, "203.0.113.1"), &random(false, "203.0.113.2")).unwrap();
    for port in 0..256_u32 {
        add_socket(&mut desk, &format!("10.0.0.2:{}", 6_000 + port)).unwrap();
    }
    assert_eq!(add_socket(&mut desk, "10.0.0.2:7000"), Err(PunchSocketError::NotWanted));
    for nth in 0..10_000_u32 {
        let hit =
            direct(&format!("10.0.0.2:{}", 6_000 + nth % 256), &format!("203.0.113.2:{}", 30_000 + nth));
        let request = desk.request(Ask::controlled());
        assert_eq!(desk.hear(hit, &request), Verdict::Consumed);
        if nth % 10 == 9 {
            desk.wait(1);
        }
    }
    let agent = desk.inner();
    // Four of the sockets may become part of a path. What is answered anywhere else, the peer takes for a path that
    // is none.
    let IceCounters { requests_answered: answered, hits, hits_ignored: ignored, .. } = *agent.counters();
    assert!(answered > 0 && answered + ignored == 10_000, "{answered} and {ignored}");
    assert!(hits <= 4 && ignored > 9_000, "{hits}");
    assert!(agent.remote_candidates().count() <= 1 + 16 && agent.pairs().count() <= 100);
}

#[test]
fn sockets_are_taken_only_if_they_are_wanted_and_fit() {
    let mut desk = stuck(Role::Controlling);
    assert_eq!(add_socket(&mut desk, "10.0.0.2:6000"), Err(PunchSocketError::NotWanted));
    vouch(&mut desk, "203.0.113.2");
    punch(&mut desk, &profile(true, "203.0.113.1"), &profile(false, "203.0.113.2")).unwrap();
    for wrong in [BASE, "0.0.0.0:6000", "10.0.0.2:0", "224.0.0.1:6000"] {
        assert_eq!(add_socket(&mut desk, wrong), Err(PunchSocketError::Unusable(addr(wrong))));
    }
    for _ in 0..3 {
        add_socket(&mut desk, "10.0.0.2:6000").unwrap();
    }
    desk.wait(10);
    assert_eq!(desk.inner().punch_state(), Some(PunchState::Planned), "one socket, named three times");
    let now = desk.now;
    desk.agent.command(now, |agent| agent.remove_local_candidate(now, addr("10.0.0.2:6000")));
    desk.wait(2_000);
    assert_eq!(desk.inner().punch_state(), Some(PunchState::Planned), "it was taken back");
}

#[test]
fn a_probe_waits_for_everything_else_that_leaves() {
    let mut desk = probing();
    desk.take_said();
    // The peer's checks from everywhere: every slot is taken by a triggered check.
    for nth in 0..16_u16 {
        let source: SocketAddr = ([198, 51, 100, 7], 2_000 + nth).into();
        let request = desk.request(Ask::controlled());
        desk.hear(Path::Direct(FourTuple::new(addr(BASE), source)), &request);
    }
    desk.take_said();
    desk.wait(75);
    let said = desk.take_said();
    let hears = |said: &&Said| said.path.peer_address().ip() == addr("198.51.100.7:1").ip();
    assert_eq!(said.iter().filter(hears).count(), said.iter().filter(|said| said.is(Class::Request)).count());
    desk.wait(60);
    assert!(!probes(&mut desk).is_empty(), "then it is their turn");
}

#[test]
fn an_unsigned_or_strange_request_vouches_for_nobody() {
    let mut desk = stuck(Role::Controlling);
    punch(&mut desk, &easy(), &hard()).unwrap();
    let from_peer = direct(BASE, "203.0.113.2:50000");
    for signed in [Signed::Not, Signed::WithAnotherPassword] {
        let request = desk.request(Ask { signed, ..Ask::controlled() });
        desk.hear(from_peer, &request);
    }
    let request = desk.request_as("stranger", Ask::controlled());
    desk.hear(from_peer, &request);
    desk.wait(1_000);
    assert_eq!(desk.inner().punch_state(), Some(PunchState::Planned));
    assert_eq!(desk.inner().counters().probes_sent, 0);
    let request = desk.request(Ask::controlled());
    desk.hear(from_peer, &request);
    assert_eq!(desk.inner().punch_state(), Some(PunchState::Spraying), "this one is the peer's");
}

#[test]
fn a_relay_is_never_sprayed_although_packets_come_from_there() {
    let mut desk = stuck(Role::Controlling);
    let relay = addr("203.0.113.2:50000");
    let flow = FourTuple::new(addr(PEER), addr("203.0.113.2:3478"));
    desk.remote(Candidate::relayed(relay, flow, None));
    vouch(&mut desk, "203.0.113.2");
    punch(&mut desk, &easy(), &hard()).unwrap();
    desk.wait(2_000);
    assert_eq!(desk.inner().counters().probes_sent, 0);
}

#[test]
fn who_needs_no_punch_or_cannot_have_one_is_told_why() {
    let mut connected = Desk::with_pair(Config::default(), "192.0.2.1:1000", "198.51.100.1:2000");
    let check = connected.take_one();
    connected.answer(&check);
    assert_eq!(punch(&mut connected, &easy(), &hard()), Err(Declined::Connected));

    let mut lite = Desk::new(Config { lite: true, ..Config::default() });
    assert_eq!(punch(&mut lite, &easy(), &hard()), Err(Declined::Lite));

    let mut closed = stuck(Role::Controlling);
    let now = closed.now;
    closed.agent.command(now, |agent| agent.close(now));
    assert_eq!(punch(&mut closed, &easy(), &hard()), Err(Declined::Closed));
    assert_eq!(closed.inner().punch_state(), None);

    let limits = PunchLimits { sockets_max: 3, probes_max: 16, ..PunchLimits::default() };
    let mut poor = Desk::new(Config { punch: limits, ..Config::default() });
    assert!(matches!(punch(&mut poor, &easy(), &hard()), Err(Declined::Unlikely(_))));
}

#[test]
fn stopping_stops_at_once_and_another_call_begins_anew_within_the_same_budget() {
    let mut desk = probing();
    desk.wait(100);
    let sent = desk.inner().counters().probes_sent;
    let now = desk.now;
    desk.agent.command(now, |agent| agent.stop_punch(now));
    desk.wait(10_000);
    assert_eq!(desk.inner().counters().probes_sent, sent);
    assert_eq!(desk.inner().punch_state(), Some(PunchState::Ended));
    for _ in 0..60 {
        punch(&mut desk, &easy(), &hard()).unwrap();
        desk.wait(2_000);
    }
    let sent = desk.inner().counters().probes_sent;
    assert!((900..=1_024).contains(&sent), "{sent} probes within two minutes");
}

#[test]
fn the_timeline_of_a_punch_is_the_same_to_the_byte_every_time() {
    let run = |seed| {
        let mut desk = Desk::with_seed(Config::default(), seed);
        desk.local(Candidate::host(addr(BASE)));
        desk.remote(Candidate::server_reflexive(addr(PEER), addr(PEER), None));
        desk.credentials();
        vouch(&mut desk, "203.0.113.2");
        let model = Some(PortModel::Block { first: 30_000, last: 30_400 });
        punch(&mut desk, &easy(), &Profile { port_model: model, ..hard() }).unwrap();
        desk.wait(5_000);
        desk.take_said()
    };
    assert_eq!(run(1), run(1));
    let ports = |seed| run(seed).iter().map(|said| said.path).collect::<Vec<_>>();
    assert_ne!(ports(1), ports(2), "the order of ports is a secret");
}

#[test]
fn a_punch_says_nothing_until_there_is_a_sign_of_the_peer_and_stops_when_it_answers() {
    let mut agent = Agent::new(Instant::ZERO, Rng::from_u64(1), Config::default());
    let start = Instant::ZERO;
    agent.add_local_candidate(start, Candidate::host(addr(BASE))).unwrap();
    agent.set_remote_credentials(start, desk::peer_credentials()).unwrap();
    agent.punch(start, &easy(), &hard()).unwrap();
    let mut script = Script::new(agent);
    let moved = |to| move |event: &Event| *event == Event::Punch(PunchEvent::StateChanged(to));
    let port = |port: u16| Path::Direct(FourTuple::new(addr(BASE), SocketAddr::new(addr(PEER).ip(), port)));
    let mut probe = Vec::new();
    script.tells(|event| *event == Event::StateChanged(State::Checking)).tells(moved(PunchState::Planned));
    // Five minutes of silence.
    script.at(Instant::from_millis(300_000)).quiet();
    script.does(|agent, now| agent.vouch(now, addr(PEER).ip())).tells(moved(PunchState::Spraying));
    script.at(Instant::from_millis(300_010)).says_that(port(40_001), |_| ());
    script.at(Instant::from_millis(300_015)).says_that(port(40_002), |bytes| probe.extend_from_slice(bytes));
    script.at(Instant::from_millis(300_020)).says_that(port(40_003), |_| ());
    let probe = Said { at: start, path: port(40_002), bytes: probe };
    script.hears(port(40_002), &success(&probe, addr(MAPPED), PEER_PWD));
    script.tells(moved(PunchState::Hit));
    script.tells(|event| matches!(event, Event::RemotePeerReflexive { address } if address.port() == 40_002));
    // An ordinary check, half a second apart; and the punch goes on when that was in vain.
    script.at(Instant::from_millis(300_025)).says_that(port(40_002), |_| ());
    script.at(Instant::from_millis(300_525)).says_that(port(40_002), |_| ());
    script.at(Instant::from_millis(301_525)).says_that(port(40_002), |_| ());
    script.at(Instant::from_millis(303_525)).says_that(port(40_002), |_| ());
    script
        .at(Instant::from_millis(305_020))
        .tells(moved(PunchState::Spraying))
        .says_that(port(40_004), |_| ());
}

#[test]
fn a_restart_keeps_the_punch_and_forgets_the_answers_to_it() {
    let mut desk = probing();
    desk.wait(100);
    let probe = probes(&mut desk).pop().unwrap();
    let now = desk.now;
    desk.agent.command(now, |agent| agent.restart(now));
    desk.drain();
    desk.take_said();
    desk.wait(500);
    assert!(desk.take_said().is_empty(), "nobody knows the peer's new password yet");
    assert_eq!(desk.hear(probe.path, &success(&probe, addr(MAPPED), PEER_PWD)), Verdict::Consumed);
    assert_eq!(desk.inner().counters().hits, 0);
    assert!(desk.inner().pairs().all(|pair| pair.state != PairState::Succeeded));
}

#[test]
fn an_agent_is_no_larger_for_being_able_to_punch() {
    // What a punch keeps is on the heap, and there only once it was asked for.
    assert!(size_of::<Agent>() <= 2_304, "{}", size_of::<Agent>());
    let agent = Checked::new(Agent::new(Instant::ZERO, Rng::from_u64(1), Config::default()));
    assert_eq!((agent.inner().punch_state(), agent.poll_timeout()), (None, None));
}
