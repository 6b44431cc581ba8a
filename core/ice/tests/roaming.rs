//! Peers that move, and choices that change: case 49, and the numbered half of case 40.

#[path = "support/desk.rs"]
mod desk;
#[path = "support/lab.rs"]
mod lab;

use desk::{Ask, Desk, NOMINATION, addr, direct};
use gimlet_ice::{Agent, Candidate, Config, Event, Role, State, TA_MIN};
use gimlet_machine::{FourTuple, Instant, Path, Rng};
use lab::{Lab, Nat, Net};
use std::time::Duration;

const LOCAL: &str = "192.0.2.1:1000";
const PEER: &str = "198.51.100.1:2000";
const OTHER: &str = "198.51.100.2:2000";

fn controlled() -> Config {
    Config { role: Role::Controlled, ..Config::default() }
}

fn renominating() -> Config {
    Config { renomination: true, ..Config::default() }
}

/// A completed desk: one pair, a round trip of 20 ms.
fn completed(config: Config) -> Desk {
    let role = config.role;
    let mut desk = Desk::with_pair(config, LOCAL, PEER);
    let check = desk.take_one();
    desk.wait(20);
    desk.answer(&check);
    match role {
        Role::Controlling => {
            let nomination = desk.take_one();
            desk.wait(20);
            desk.answer(&nomination);
        }
        Role::Controlled => drop(desk.asked(direct(LOCAL, PEER), Ask::nominating())),
    }
    desk.wait(1_000);
    desk.take_said();
    desk.take_told();
    desk
}

fn number_of(said: &desk::Said) -> Option<u32> {
    let value = said.message().attribute(NOMINATION)?;
    Some(u32::from_be_bytes(value.try_into().unwrap()))
}

#[test]
fn case_49_the_controlling_side_follows_a_peer_that_roamed_within_two_round_trips() {
    for config in [Config::default(), renominating()] {
        let mut desk = completed(config);
        let (start, there) = (desk.now, direct(LOCAL, OTHER));
        // The peer's request for consent, out of a NAT that gave it another address.
        desk.asked(there, Ask::controlled());
        desk.wait(5);
        let check = desk.take_checks().pop().expect("a triggered check");
        assert_eq!(check.path, there);
        desk.wait(15);
        desk.answer(&check);
        assert_eq!(desk.inner().selected_path(), Some(there));
        desk.wait(5);
        let nomination = desk.take_checks().pop().expect("the peer is told");
        assert!(nomination.message().use_candidate() && nomination.path == there);
        assert!(desk.now.since(start) <= Duration::from_millis(2 * 20 + 5));
        desk.wait(15);
        desk.answer(&nomination);
        let told = desk.take_told();
        assert!(told.contains(&Event::PathSelected { path: there }));
        assert!(!told.iter().any(|event| matches!(event, Event::StateChanged(_))), "no flap: {told:?}");
        assert_eq!(desk.inner().state(), State::Completed);
    }
}

#[test]
fn case_49_a_second_address_of_a_peer_that_is_still_heard_at_the_first_is_only_a_spare() {
    let mut desk = completed(Config::default());
    desk.asked(direct(LOCAL, OTHER), Ask::controlled());
    desk.wait(5);
    let check = desk.take_checks().pop().unwrap();
    desk.asked(direct(LOCAL, PEER), Ask::controlled());
    desk.answer(&check);
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
    assert_eq!(desk.inner().valid_paths().count(), 2);
}

#[test]
fn case_49_the_controlled_side_follows_the_nomination_or_its_own_probes() {
    let there = direct(LOCAL, OTHER);
    let roamed = || {
        let mut desk = completed(controlled());
        desk.asked(there, Ask::controlling());
        desk.wait(5);
        let check = desk.take_checks().pop().unwrap();
        desk.answer(&check);
        assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
        desk
    };
    let mut desk = roamed();
    desk.asked(there, Ask::renominating(1));
    assert_eq!(desk.inner().selected_path(), Some(there));
    // A peer that does not know that its address changed nominates nothing: three probes decide.
    let mut desk = roamed();
    desk.wait(400);
    assert_eq!(desk.inner().selected_path(), Some(there));
    assert_eq!(desk.inner().counters().probes_missed, 3);
    assert_eq!(desk.inner().state(), State::Completed);
}

#[test]
fn case_40_of_numbered_nominations_the_highest_counts_and_replays_are_ignored() {
    let mut desk = Desk::new(controlled());
    desk.local(Candidate::host(addr(LOCAL)));
    desk.remote(Candidate::host(addr(PEER)));
    desk.remote(Candidate::host(addr(OTHER)).with_local_preference(1));
    desk.credentials();
    desk.wait(5);
    for check in desk.take_checks() {
        desk.answer(&check);
    }
    let (best, second) = (direct(LOCAL, PEER), direct(LOCAL, OTHER));
    for (path, ask, selected) in [
        (best, Ask::renominating(5), best),
        (second, Ask::renominating(6), second),
        (best, Ask::renominating(5), second),
        (best, Ask::renominating(6), second),
        (second, Ask::renominating(6), second),
        (best, Ask::renominating(7), best),
        (second, Ask::renominating(0), best),
        (second, Ask::renominating(u32::MAX), second),
    ] {
        desk.asked(path, ask);
        assert_eq!(desk.inner().selected_path(), Some(selected), "{path} {ask:?}");
    }
    assert_eq!(desk.inner().counters().nominations_ignored, 3);
}

#[test]
fn case_40_a_numbered_nomination_of_a_pair_that_is_not_valid_yet_waits_for_its_check() {
    let mut desk = completed(controlled());
    let there = direct(LOCAL, OTHER);
    desk.remote(Candidate::host(addr(OTHER)).with_local_preference(1));
    desk.asked(there, Ask::renominating(2));
    desk.wait(5);
    let check = desk.take_checks().pop().expect("what the peer asks for is checked, selection or not");
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
    desk.answer(&check);
    assert_eq!(desk.inner().selected_path(), Some(there));
}

#[test]
fn an_address_that_the_peer_saw_first_is_signalled_when_a_server_sees_it_too() {
    let mut desk = completed(Config::default());
    let mapped = addr("203.0.113.7:7777");
    desk.wait(6_000);
    let check = desk.take_checks().pop().expect("consent is asked for");
    desk.answer_seeing(&check, mapped);
    let signalled = |desk: &Desk| desk.inner().local_candidates().any(|it| it.address == mapped);
    assert!(!signalled(&desk), "the peer knows");
    desk.local(Candidate::server_reflexive(mapped, addr(LOCAL), None));
    assert!(signalled(&desk));
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
}

/// A controlling desk that asks for a relayed pair before the direct one answered.
fn asking_for_a_relay(config: Config) -> (Desk, desk::Said, desk::Said) {
    let mut desk = Desk::new(config);
    let relay = FourTuple::new(addr(LOCAL), addr("203.0.113.9:3478"));
    desk.local(Candidate::host(addr(LOCAL)));
    desk.local(Candidate::relayed(addr("203.0.113.9:50000"), relay, None));
    desk.remote(Candidate::host(addr(PEER)));
    desk.credentials();
    desk.wait(20);
    let mut checks = desk.take_checks();
    assert_eq!(checks.len(), 2);
    let relayed = checks.remove(usize::from(checks[1].path != direct(LOCAL, PEER)));
    desk.answer_seeing(&relayed, addr("203.0.113.9:50000"));
    desk.wait(200);
    let nomination = desk.take_checks().pop().expect("the wait for a direct path ends");
    assert!(nomination.message().use_candidate() && nomination.path == relayed.path);
    (desk, nomination, checks.remove(0))
}

/// A controlling desk with a relayed pair selected before the direct one answered.
fn on_a_relay(config: Config) -> (Desk, Path, desk::Said) {
    let (mut desk, nomination, late) = asking_for_a_relay(config);
    desk.answer_seeing(&nomination, addr("203.0.113.9:50000"));
    assert_eq!(desk.inner().selected_path(), Some(nomination.path));
    (desk, nomination.path, late)
}

#[test]
fn regression_a_direct_path_does_not_wait_for_the_answer_about_a_relayed_one() {
    let (mut desk, nomination, late) = asking_for_a_relay(renominating());
    desk.answer(&late);
    desk.wait(5);
    let instead = desk.take_checks().pop().expect("another request");
    assert_eq!((instead.path, number_of(&instead)), (direct(LOCAL, PEER), Some(2)));
    desk.answer_seeing(&nomination, addr("203.0.113.9:50000"));
    assert_eq!(desk.inner().selected_path(), None, "that is not what is asked for any more");
    desk.answer(&instead);
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
    desk.wait(2_000);
    let further = desk.take_checks();
    assert!(further.iter().all(|check| !check.message().use_candidate()), "{further:?}");

    // A port of the peer's NAT that it hit a punch socket from is as direct as any.
    let (mut desk, ..) = asking_for_a_relay(renominating());
    desk.remote(Candidate::server_reflexive(addr("192.0.2.77:1000"), addr("192.0.2.77:1000"), None));
    let further = direct(LOCAL, "192.0.2.77:2000");
    desk.asked(further, Ask::controlled());
    desk.wait(5);
    let check = desk.take_checks().into_iter().find(|check| check.path == further).expect("checked back");
    desk.answer(&check);
    desk.wait(5);
    let instead = desk.take_checks().into_iter().find(|check| check.message().use_candidate());
    assert_eq!(instead.map(|check| check.path), Some(further));

    // Without numbers, the peer could not tell which of two choices is the later one.
    let (mut desk, _, late) = asking_for_a_relay(Config::default());
    desk.answer(&late);
    desk.wait(5);
    assert!(desk.take_checks().iter().all(|check| !check.message().use_candidate()));
}

#[test]
fn with_renomination_a_path_moves_from_the_relay_to_a_direct_one_and_nominations_are_numbered() {
    let (mut desk, _, late) = on_a_relay(renominating());
    desk.answer(&late);
    let path = direct(LOCAL, PEER);
    assert_eq!(desk.inner().selected_path(), Some(path));
    desk.wait(5);
    let nomination = desk.take_checks().pop().unwrap();
    assert_eq!((nomination.path, number_of(&nomination)), (path, Some(2)));
    desk.answer(&nomination);
    desk.wait(1_000);
    assert!(desk.take_checks().is_empty(), "agreed");
}

#[test]
fn without_renomination_what_was_selected_stays_as_long_as_it_works() {
    let (mut desk, relayed, late) = on_a_relay(Config::default());
    desk.answer(&late);
    desk.wait(1_000);
    assert_eq!(desk.inner().selected_path(), Some(relayed));
    assert!(desk.take_checks().is_empty());
}

#[test]
fn with_renomination_a_direct_path_that_failed_is_tried_again_more_and_more_rarely() {
    let (mut desk, relayed, _) = on_a_relay(renominating());
    let mut tries = Vec::new();
    for _ in 0..60_000 {
        for check in desk.take_checks() {
            if check.path == relayed {
                desk.answer_seeing(&check, addr("203.0.113.9:50000"));
            } else {
                tries.push(check.at.as_millis() / 1_000);
            }
        }
        desk.wait(20);
    }
    // Each try is a whole ladder of seven sends in forty seconds; the waits between them double.
    let begun: Vec<_> = tries.chunks(7).skip(1).map(|ladder| ladder[0]).collect();
    let waits: Vec<_> = begun.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The first ladder began before the agent was on the relay.
    let expected = [50, 60, 80, 120, 200, 200, 200, 200];
    let near = |(wait, expected): (&u64, &u64)| wait.abs_diff(*expected) <= 1;
    assert!(waits.len() == expected.len() && waits.iter().zip(&expected).all(near), "{waits:?}");
    assert_eq!(desk.inner().selected_path(), Some(relayed));
}

#[test]
fn a_direct_path_that_comes_and_goes_is_gone_back_to_later_each_time() {
    let (mut desk, relayed, late) = on_a_relay(renominating());
    desk.answer(&late);
    let path = direct(LOCAL, PEER);
    assert_eq!(desk.inner().selected_path(), Some(path));
    // From here on the direct path works for the first ten seconds of its use, and whenever it is not used.
    let (mut used, mut since, mut stays) = (path, 0, Vec::new());
    for ms in (0..900_000).step_by(20) {
        for check in desk.take_checks() {
            let works = used != path || ms - since < 10_000;
            if check.path == relayed {
                desk.answer_seeing(&check, addr("203.0.113.9:50000"));
            } else if works {
                desk.answer(&check);
            }
        }
        desk.wait(20);
        let uses = desk.inner().selected_path().expect("one of the two works");
        if uses != used {
            if used == relayed {
                stays.push((ms - since) / 1_000);
            }
            (used, since) = (uses, ms);
        }
    }
    let expected = [5, 15, 35, 75, 155];
    let near = |(stay, expected): (&u64, &u64)| stay.abs_diff(*expected) <= 1;
    assert!(stays.len() >= 5 && stays.iter().zip(&expected).all(near), "{stays:?}");
    assert!(stays.len() <= 8, "it hardly moves in the end: {stays:?}");
}

fn agents(seed: u64, renomination: bool) -> [Agent; 2] {
    let rng = Rng::from_u64(seed);
    let agent = |role, name| {
        Agent::new(Instant::ZERO, rng.fork(name), Config { role, renomination, ..Config::default() })
    };
    [agent(Role::Controlling, "a"), agent(Role::Controlled, "b")]
}

#[test]
fn case_49_whoevers_nat_forgets_its_mapping_both_sides_find_each_other_again_without_a_flap() {
    for (seed, roamer) in (0..40).map(|seed| (seed, (seed % 2) as usize)) {
        let mut nats = [Nat::FullCone; 2];
        nats[roamer] = Nat::PortRestricted;
        let mut lab = Lab::new(agents(seed, seed % 4 < 2), Net { seed, ..Net::behind(nats) });
        lab.add_hosts(1);
        lab.exchange();
        lab.run_until_completed(Instant::from_millis(60_000));
        let start = lab.now + Duration::from_secs(20);
        lab.run_until(start);
        lab.rebind(roamer);
        let before = lab.events.len();
        lab.run_until(start + Duration::from_secs(60));
        lab.assert_paced(TA_MIN);
        assert_eq!(lab.states(), [State::Completed; 2], "seed {seed}");
        let told = &lab.events[before..];
        assert!(told.iter().all(|(.., event)| !matches!(event, Event::StateChanged(_))), "{seed}: {told:?}");
        let learned = told.iter().find(|(_, _, event)| matches!(event, Event::RemotePeerReflexive { .. }));
        let moved = told
            .iter()
            .find(|(_, side, event)| *side != roamer && matches!(event, Event::PathSelected { .. }));
        let (learned, moved) = (learned.expect("a new address").0, moved.expect("and a new path").0);
        // Two round trips of 50 ms and Ta; the controlled side takes three probes of 100 ms.
        let most = if roamer == 1 { 105 } else { 450 };
        assert!(moved.since(learned).as_millis() <= most, "seed {seed}: {:?}", moved.since(learned));
        let seen = lab.agents[1 - roamer].inner().selected_path().unwrap().peer_address();
        assert_eq!(seen.port(), lab.mapping_of(roamer), "seed {seed}");
    }
}
