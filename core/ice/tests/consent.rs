//! Consent and the death of paths: cases 45 and 47.

#[path = "support/desk.rs"]
mod desk;

use desk::{Ask, Desk, Said, addr, direct};
use gimlet_ice::{Candidate, Config, Event, PairState, Role, State};
use gimlet_machine::Path;
use gimlet_stun::Class;
use std::collections::BTreeSet;

const LOCAL: &str = "192.0.2.1:1000";
const PEER: &str = "198.51.100.1:2000";
const OTHER: &str = "198.51.100.2:2000";

fn controlled() -> Config {
    Config { role: Role::Controlled, ..Config::default() }
}

/// A completed desk with one pair.
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
    assert_eq!(desk.inner().state(), State::Completed);
    desk.take_said();
    desk.take_told();
    desk
}

/// A completed desk with a second valid pair of lower priority.
fn completed_with_fallback(config: Config) -> Desk {
    let role = config.role;
    let mut desk = Desk::new(config);
    desk.local(Candidate::host(addr(LOCAL)));
    desk.remote(Candidate::host(addr(PEER)));
    desk.remote(Candidate::host(addr(OTHER)).with_local_preference(1));
    desk.credentials();
    desk.wait(20);
    for check in desk.take_checks() {
        desk.answer(&check);
    }
    match role {
        Role::Controlling => {
            desk.wait(20);
            let nomination = desk.take_one();
            desk.answer(&nomination);
        }
        Role::Controlled => drop(desk.asked(direct(LOCAL, PEER), Ask::nominating())),
    }
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
    desk.take_said();
    desk.take_told();
    desk
}

/// Lives for `ms`, answering the requests that leave on the paths in `alive` after 20 ms.
fn live(desk: &mut Desk, ms: u64, alive: &[Path]) -> Vec<Said> {
    let mut all = Vec::new();
    for _ in 0..ms / 20 {
        let said = desk.take_checks();
        desk.wait(20);
        for check in said {
            if alive.contains(&check.path) {
                desk.answer(&check);
            }
            all.push(check);
        }
    }
    all
}

#[test]
fn case_45_consent_is_asked_for_each_four_to_six_seconds_with_a_new_id() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut desk = completed(Config { role, ..Config::default() });
        let requests = live(&mut desk, 600_000, &[direct(LOCAL, PEER)]);
        assert!((100..=150).contains(&requests.len()), "{} in ten minutes", requests.len());
        let ids: BTreeSet<_> = requests.iter().map(|said| said.message().transaction_id().0).collect();
        assert_eq!(ids.len(), requests.len());
        let waits: Vec<_> =
            requests.windows(2).map(|pair| pair[1].at.since(pair[0].at).as_millis()).collect();
        assert!(waits.iter().all(|ms| (4_000..=6_000).contains(ms)), "{waits:?}");
        let spread: BTreeSet<_> = waits.iter().map(|ms| ms / 500).collect();
        assert!(spread.len() >= 4, "{waits:?}");
        assert!(requests.iter().all(|said| !said.message().use_candidate()));
        assert!(desk.take_told().is_empty());
    }
}

#[test]
fn case_45_consent_ends_exactly_thirty_seconds_after_the_latest_answer() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut desk = completed(Config { role, ..Config::default() });
        live(&mut desk, 60_000, &[direct(LOCAL, PEER)]);
        // One more request is answered; none after it.
        let request = loop {
            desk.wait(10);
            if let Some(request) = desk.take_checks().pop() {
                break request;
            }
        };
        desk.answer(&request);
        let start = desk.now;
        desk.wait(29_999);
        let requests = desk.take_checks();
        assert!(requests.windows(2).all(|pair| pair[1].at.since(pair[0].at).as_millis() >= 4_000));
        assert!(desk.inner().selected_path().is_some() && desk.inner().state() == State::Completed);
        let path = direct(LOCAL, PEER);
        assert_eq!(desk.take_told(), [Event::PathSuspect { path }]);
        desk.wait(1);
        assert_eq!(desk.now.since(start).as_millis(), 30_000);
        assert_eq!(desk.take_told(), [Event::ConsentExpired { path }, Event::StateChanged(State::Checking)]);
        assert_eq!((desk.inner().selected_path(), desk.inner().valid_paths().count()), (None, 0));
    }
}

#[test]
fn case_45_forged_misdirected_refusing_and_inbound_messages_renew_nothing() {
    let mut desk = completed(controlled());
    let start = desk.now;
    let path = direct(LOCAL, PEER);
    while desk.now.since(start).as_millis() < 29_000 {
        for request in desk.take_checks() {
            desk.hear(path, &desk::success(&request, addr(LOCAL), "anotherPasswordOfSomeLength"));
            desk.hear(direct(LOCAL, OTHER), &desk::success(&request, addr(LOCAL), desk::PEER_PWD));
        }
        // The peer still asks us: its path to us works, ours to it does not.
        desk.asked(path, Ask::controlling());
        desk.wait(100);
    }
    desk.wait(2_000);
    assert!(desk.take_told().contains(&Event::ConsentExpired { path }));
    let mut desk = completed(controlled());
    for _ in 0..32 {
        for request in desk.take_checks() {
            desk.refuse(&request, 400);
        }
        desk.wait(1_000);
    }
    assert!(desk.take_told().contains(&Event::ConsentExpired { path }));
}

#[test]
fn an_answer_to_an_earlier_request_renews_consent_too() {
    let mut desk = completed(controlled());
    desk.wait(14_000);
    let requests = desk.take_checks();
    assert!(requests.len() >= 2);
    desk.answer(&requests[0]);
    desk.wait(29_999);
    assert_eq!(desk.inner().state(), State::Completed);
    desk.wait(1);
    assert_eq!(desk.inner().state(), State::Checking);
}

#[test]
fn a_lost_path_that_returns_is_found_again() {
    let path = direct(LOCAL, PEER);
    for config in [Config::default(), controlled()] {
        let role = config.role;
        let mut desk = completed(config);
        live(&mut desk, 300_000, &[]);
        assert_eq!(desk.inner().state(), State::Checking);
        desk.take_told();
        live(&mut desk, 200_000, &[path]);
        let told = desk.take_told();
        assert!(told.contains(&Event::StateChanged(State::Connected)), "{role}: {told:?}");
        // The controlled side takes the peer's choice of before for its choice until it hears otherwise.
        assert!(told.contains(&Event::PathSelected { path }), "{role}: {told:?}");
    }
}

#[test]
fn a_check_of_the_peer_brings_a_lost_path_back_at_once() {
    let mut desk = completed(controlled());
    live(&mut desk, 120_000, &[]);
    assert_eq!(desk.inner().state(), State::Checking);
    desk.take_said();
    desk.asked(direct(LOCAL, PEER), Ask::nominating());
    desk.wait(5);
    let check = desk.take_checks().pop().unwrap();
    desk.answer(&check);
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
}

#[test]
fn case_47_a_dead_path_is_left_within_two_consent_intervals_without_a_flap() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut desk = completed_with_fallback(Config { role, ..Config::default() });
        let both = [direct(LOCAL, PEER), direct(LOCAL, OTHER)];
        let idle = live(&mut desk, 100_000, &both);
        assert!(idle.iter().all(|said| said.path == both[0]), "the other path is left in peace");
        let start = desk.now;
        while desk.inner().selected_path() == Some(both[0]) {
            live(&mut desk, 20, &both[1..]);
            assert!(desk.now.since(start).as_millis() <= 10_000, "{role}");
        }
        live(&mut desk, 1_000, &both[1..]);
        let told = desk.take_told();
        assert_eq!(told, [Event::PathSuspect { path: both[0] }, Event::PathSelected { path: both[1] }]);
        assert_eq!(desk.inner().state(), State::Completed);
        assert_eq!(desk.inner().counters().probes_missed, 3, "three missed probes");
        // What is used now is kept fresh.
        live(&mut desk, 100_000, &both[1..]);
        assert_eq!(desk.inner().selected_path(), Some(both[1]));
        assert!(desk.take_told().is_empty());
    }
}

#[test]
fn case_47_the_controlling_side_asks_the_peer_to_follow() {
    let mut desk = completed_with_fallback(Config::default());
    let other = direct(LOCAL, OTHER);
    let said = live(&mut desk, 20_000, &[other]);
    let nominations: Vec<_> = said.iter().filter(|said| said.message().use_candidate()).collect();
    assert_eq!(nominations.len(), 1);
    assert_eq!(nominations[0].path, other);
}

#[test]
fn case_47_the_controlled_side_returns_to_the_pair_that_the_peer_never_left() {
    let mut desk = completed_with_fallback(Config { renomination: true, ..controlled() });
    let both = [direct(LOCAL, PEER), direct(LOCAL, OTHER)];
    desk.asked(both[0], Ask::renominating(3));
    let answered = live(&mut desk, 20_000, &both[1..]);
    assert!(!answered.is_empty() && desk.inner().selected_path() == Some(both[1]));
    // Our packets got lost, and the peer's did not: it still asks for consent where it was.
    desk.asked(both[0], Ask::controlling());
    live(&mut desk, 100, &both);
    assert_eq!(desk.inner().selected_path(), Some(both[0]));
    assert_eq!(desk.inner().state(), State::Completed);
    // An older choice does not become valid again by this.
    desk.asked(both[1], Ask::renominating(4));
    assert_eq!(desk.inner().selected_path(), Some(both[1]));
    live(&mut desk, 20_000, &both[..1]);
    assert_eq!(desk.inner().selected_path(), Some(both[0]), "nothing else works");
    live(&mut desk, 20_000, &both[1..]);
    desk.asked(both[0], Ask::controlling());
    live(&mut desk, 1_000, &both);
    assert_eq!(desk.inner().selected_path(), Some(both[1]));
}

#[test]
fn case_47_the_controlled_side_follows_a_plain_nomination_once_the_path_is_in_doubt() {
    let mut desk = completed_with_fallback(controlled());
    let other = direct(LOCAL, OTHER);
    desk.asked(other, Ask::nominating());
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)), "the better pair works");
    // The first answer is late.
    desk.wait(6_200);
    desk.asked(other, Ask::nominating());
    assert_eq!(desk.inner().selected_path(), Some(other));
}

#[test]
fn case_47_one_lost_answer_moves_nothing() {
    let mut desk = completed_with_fallback(Config::default());
    let both = [direct(LOCAL, PEER), direct(LOCAL, OTHER)];
    // Every other request is lost, for ten minutes.
    let mut lost = false;
    for _ in 0..30_000 {
        for check in desk.take_checks() {
            lost = !lost && check.path == both[0];
            if !lost {
                desk.answer(&check);
            }
        }
        desk.wait(20);
    }
    assert_eq!(desk.inner().selected_path(), Some(both[0]));
    assert!(desk.inner().counters().probes_missed > 50);
    assert!(desk.take_told().is_empty());
}

/// With 20 % loss each way, three probes in a row are lost twice in three minutes.
#[test]
fn case_47_a_path_that_loses_a_third_of_its_probes_is_hardly_ever_left() {
    let mut desk = completed_with_fallback(Config::default());
    let now = desk.now;
    desk.agent.command(now, gimlet_ice::Agent::expect_restarts);
    let mut rng = gimlet_machine::Rng::from_u64(1);
    for _ in 0..180_000 {
        for check in desk.take_checks() {
            if rng.below(100) >= 36 {
                desk.answer(&check);
            }
        }
        desk.wait(20);
    }
    let suspects =
        desk.take_told().into_iter().filter(|told| matches!(told, Event::PathSuspect { .. })).count();
    assert!(desk.inner().counters().probes_missed > 300);
    assert!(suspects <= 4, "{suspects} times in an hour");
}

/// Restarts are expected, and the network was gone for a moment: the agent need not wait for its next request.
#[test]
fn case_47_a_suspect_path_without_an_alternative_is_asked_until_it_answers() {
    let mut desk = completed(Config::default());
    let now = desk.now;
    desk.agent.command(now, gimlet_ice::Agent::expect_restarts);
    let path = direct(LOCAL, PEER);
    while !desk.take_told().contains(&Event::PathSuspect { path }) {
        live(&mut desk, 20, &[]);
    }
    let beyond = live(&mut desk, 1_000, &[]);
    assert!((2..=4).contains(&beyond.len()), "{} more in a second", beyond.len());
    let from = desk.now;
    while desk.take_told().is_empty() {
        live(&mut desk, 20, &[path]);
    }
    assert!(desk.now.since(from).as_millis() <= 1_600, "sooner than the next request");
    assert_eq!((desk.inner().selected_path(), desk.inner().state()), (Some(path), State::Completed));
}

#[test]
fn case_47_removing_an_end_of_the_selected_pair_moves_at_once() {
    for remote in [true, false] {
        let mut desk = Desk::new(Config::default());
        let second = "192.0.2.2:1000";
        desk.local(Candidate::host(addr(LOCAL)));
        desk.local(Candidate::host(addr(second)).with_local_preference(1));
        desk.remote(Candidate::host(addr(PEER)));
        desk.remote(Candidate::host(addr(OTHER)).with_local_preference(2));
        desk.credentials();
        let all = [LOCAL, second].map(|local| [PEER, OTHER].map(|remote| direct(local, remote))).concat();
        live(&mut desk, 1_000, &all);
        assert_eq!(desk.inner().selected_path(), Some(all[0]));
        desk.take_told();
        let now = desk.now;
        let known = desk.agent.command(now, |agent| {
            if remote {
                agent.remove_remote_candidate(now, addr(PEER))
            } else {
                agent.remove_local_candidate(now, addr(LOCAL))
            }
        });
        assert!(known);
        desk.drain();
        let path = if remote { all[1] } else { all[2] };
        let gone = if remote { addr(PEER) } else { addr(LOCAL) };
        if desk.inner().valid_paths().next().is_some() {
            assert_eq!(desk.take_told(), [Event::PathSelected { path }]);
        }
        assert!(desk.inner().pairs().all(|pair| pair.remote.address != gone && pair.local.address != gone));
        assert_eq!(desk.inner().state(), State::Completed);
        let again = desk.agent.command(now, |agent| agent.remove_remote_candidate(now, addr("9.9.9.9:9")));
        assert!(!again);
    }
}

#[test]
fn case_47_with_only_a_stale_alternative_the_agent_stays_connected_while_it_asks() {
    let mut desk = completed_with_fallback(Config::default());
    let both = [direct(LOCAL, PEER), direct(LOCAL, OTHER)];
    live(&mut desk, 100_000, &both);
    desk.take_told();
    let now = desk.now;
    desk.agent.command(now, |agent| agent.remove_remote_candidate(now, addr(PEER)));
    desk.drain();
    assert_eq!(desk.take_told(), [Event::StateChanged(State::Connected)]);
    assert_eq!(desk.inner().selected_path(), None, "no consent there, no data");
    live(&mut desk, 200, &both);
    let path = both[1];
    assert_eq!(desk.take_told(), [Event::PathSelected { path }, Event::StateChanged(State::Completed)]);
}

#[test]
fn case_47_a_changed_network_is_noticed_within_two_round_trips() {
    let mut desk = completed_with_fallback(Config::default());
    let both = [direct(LOCAL, PEER), direct(LOCAL, OTHER)];
    live(&mut desk, 100_000, &both);
    let now = desk.now;
    desk.agent.command(now, |agent| agent.network_changed(now));
    desk.drain();
    live(&mut desk, 140, &both[1..]);
    assert_eq!(desk.inner().selected_path(), Some(both[1]));
    // A change that broke nothing changes nothing.
    let mut desk = completed_with_fallback(Config::default());
    live(&mut desk, 100_000, &both);
    let now = desk.now;
    desk.agent.command(now, |agent| agent.network_changed(now));
    desk.drain();
    live(&mut desk, 10_000, &both);
    assert_eq!(desk.inner().selected_path(), Some(both[0]));
    assert!(desk.take_told().is_empty());
}

#[test]
fn silence_that_the_owner_reports_is_checked_by_three_probes() {
    let mut desk = completed(Config::default());
    let now = desk.now;
    desk.agent.command(now, |agent| agent.report_silence(now));
    desk.drain();
    let probe = desk.take_one();
    desk.wait(20);
    desk.answer(&probe);
    assert!(desk.take_told().is_empty(), "all is well");
    let now = desk.now;
    desk.agent.command(now, |agent| agent.report_silence(now));
    desk.agent.command(now, |agent| agent.report_silence(now));
    desk.drain();
    desk.wait(1_000);
    assert_eq!(desk.take_checks().len(), 3);
    let path = direct(LOCAL, PEER);
    assert_eq!(desk.take_told(), [Event::PathSuspect { path }]);
    // It answers again before its consent ends.
    live(&mut desk, 10_000, &[path]);
    let told = desk.take_told();
    assert!(matches!(told[..], [Event::PathValid { path: again, .. }] if again == path), "{told:?}");
}

#[test]
fn a_dead_direct_path_gives_way_to_a_pair_that_selection_had_made_unnecessary() {
    // The fallback was signalled and never checked: it is found when the path in use falls silent.
    let mut desk = completed(Config::default());
    desk.remote(Candidate::host(addr(OTHER)).with_local_preference(1));
    assert!(desk.report(LOCAL, OTHER).is_none());
    let start = desk.now;
    while desk.inner().selected_path() != Some(direct(LOCAL, OTHER)) {
        live(&mut desk, 20, &[direct(LOCAL, OTHER)]);
        assert!(desk.now.since(start).as_millis() < 13_000);
    }
    assert_eq!(desk.state_of(LOCAL, PEER), PairState::Failed);
    assert_eq!(desk.inner().counters().probes_missed, 3);
}

#[test]
fn keepalives_are_what_lite_agents_send_and_others_do_not() {
    let mut desk = completed(controlled());
    let said = live(&mut desk, 60_000, &[direct(LOCAL, PEER)]);
    assert!(said.len() >= 10 && desk.take_said().iter().all(|said| !said.is(Class::Indication)));
}
