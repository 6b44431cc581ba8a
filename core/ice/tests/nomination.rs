//! Nomination, selection and failure: cases 39 to 41, 43 and 44, and the candidates' side of 26.

#[path = "support/desk.rs"]
mod desk;

use desk::{Ask, Desk, addr, direct};
use gimlet_ice::{
    Candidate, CandidateError, Config, CredentialsError, Event, FailureCause, PairState, Role, State,
};
use gimlet_machine::Verdict;
use gimlet_stun::Class;

const LOCAL: &str = "192.0.2.1:1000";
const PEER: &str = "198.51.100.1:2000";
const OTHER: &str = "198.51.100.2:2000";

fn controlled() -> Config {
    Config { role: Role::Controlled, ..Config::default() }
}

/// A desk with two pairs, the first of higher priority; both checks are taken.
fn two_pairs(config: Config) -> (Desk, desk::Said, desk::Said) {
    let mut desk = Desk::new(config);
    desk.local(Candidate::host(addr(LOCAL)));
    desk.remote(Candidate::host(addr(PEER)));
    desk.remote(Candidate::host(addr(OTHER)).with_local_preference(1));
    desk.credentials();
    desk.wait(5);
    let mut checks = desk.take_checks();
    assert_eq!(checks.len(), 2);
    let second = checks.remove(1);
    (desk, checks.remove(0), second)
}

#[test]
fn the_best_possible_pair_is_nominated_at_once() {
    let (mut desk, best, _) = two_pairs(Config::default());
    desk.wait(30);
    desk.answer(&best);
    let nomination = desk.take_one();
    assert!(nomination.message().use_candidate());
    assert_eq!((nomination.path, nomination.at.as_millis()), (direct(LOCAL, PEER), 35));
    assert_eq!(desk.inner().state(), State::Connected);
    desk.answer(&nomination);
    assert_eq!(desk.inner().state(), State::Completed);
    let told = desk.take_told();
    let path = direct(LOCAL, PEER);
    assert_eq!(told.last(), Some(&Event::StateChanged(State::Completed)));
    assert!(told.contains(&Event::PathSelected { path }));
}

#[test]
fn a_better_pair_in_progress_gets_the_round_trip_of_the_valid_one() {
    let (mut desk, best, second) = two_pairs(Config::default());
    desk.wait(40);
    // 45 ms: the second pair took 40 ms, the better one left 45 ms ago.
    desk.answer(&second);
    let nomination = desk.take_one();
    assert!(nomination.message().use_candidate() && nomination.path == second.path);
    // It is late, and a path nevertheless.
    desk.answer(&best);
    assert_eq!(desk.inner().valid_paths().count(), 2);
    desk.answer(&nomination);
    assert_eq!(desk.inner().selected_path(), Some(second.path));
}

#[test]
fn a_better_pair_that_answers_in_time_is_the_one_nominated() {
    let mut desk = Desk::new(Config::default());
    desk.local(Candidate::host(addr(LOCAL)));
    desk.remote(Candidate::host(addr(OTHER)).with_local_preference(1));
    desk.credentials();
    let second = desk.take_one();
    desk.wait(50);
    desk.remote(Candidate::host(addr(PEER)));
    let best = desk.take_one();
    desk.wait(10);
    desk.answer(&second);
    assert!(desk.take_said().is_empty(), "the better pair may still answer");
    desk.wait(10);
    desk.answer(&best);
    assert_eq!(desk.take_one().path, best.path);
}

#[test]
fn nomination_never_waits_longer_than_a_tenth_of_a_second_for_a_direct_pair() {
    // The round trip is unknown because the check was repeated; the better pair never answers.
    let (mut desk, _, second) = two_pairs(Config::default());
    desk.wait(600);
    desk.take_said();
    desk.answer(&second);
    desk.wait(99);
    assert!(desk.take_checks().iter().all(|check| !check.message().use_candidate()));
    desk.wait(1);
    assert!(desk.take_checks().iter().any(|check| check.message().use_candidate()));
}

#[test]
fn while_a_nomination_is_under_way_no_further_pair_is_checked_and_afterwards_it_is() {
    let mut desk = Desk::new(Config::default());
    desk.local(Candidate::host(addr(LOCAL)));
    for host in 1..=5 {
        desk.remote(
            Candidate::host(addr(&format!("198.51.100.{host}:2000"))).with_local_preference(9 - host),
        );
    }
    desk.credentials();
    let check = desk.take_one();
    desk.answer(&check);
    desk.wait(5);
    let nomination = desk.take_one();
    assert!(nomination.message().use_candidate());
    desk.wait(400);
    assert!(desk.take_said().is_empty());
    desk.refuse(&nomination, 500);
    desk.wait(50);
    assert_eq!(desk.take_checks().len(), 4, "the search goes on");
}

#[test]
fn a_refused_nomination_fails_the_pair_and_the_next_best_is_asked_for() {
    let (mut desk, best, second) = two_pairs(Config::default());
    desk.answer(&best);
    desk.answer(&second);
    desk.wait(5);
    let nomination = desk.take_one();
    assert_eq!(nomination.path, best.path);
    desk.refuse(&nomination, 400);
    assert_eq!(desk.state_of(LOCAL, PEER), PairState::Failed);
    desk.wait(5);
    let next = desk.take_one();
    assert!(next.message().use_candidate() && next.path == second.path);
}

#[test]
fn losing_the_last_valid_pair_before_selection_goes_back_to_checking() {
    let mut desk = Desk::with_pair(Config::default(), LOCAL, PEER);
    let check = desk.take_one();
    desk.answer(&check);
    desk.wait(5);
    let nomination = desk.take_one();
    desk.refuse(&nomination, 500);
    assert_eq!(desk.inner().state(), State::Checking);
    assert_eq!(desk.inner().valid_paths().count(), 0);
    // The peer's check revives it.
    desk.asked(direct(LOCAL, PEER), Ask::controlled());
    desk.wait(5);
    let again = desk.take_one();
    desk.answer(&again);
    assert_eq!(desk.inner().state(), State::Connected);
}

#[test]
fn case_39_use_candidate_means_nothing_to_a_controlling_agent() {
    let mut desk = Desk::with_pair(Config::default(), LOCAL, PEER);
    let check = desk.take_one();
    desk.answer(&check);
    let ask = Ask { use_candidate: true, ..Ask::controlled() };
    assert!(desk.asked(direct(LOCAL, PEER), ask).is(Class::Success));
    assert_eq!(desk.inner().selected_path(), None);
    assert_eq!(desk.inner().counters().nominations_ignored, 1);
}

#[test]
fn case_39_a_nomination_on_a_pair_in_progress_waits_for_its_check() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    desk.take_one();
    desk.wait(10);
    desk.asked(direct(LOCAL, PEER), Ask::nominating());
    let triggered = desk.take_one();
    assert_eq!(desk.inner().selected_path(), None);
    // A later plain check does not take it back.
    desk.asked(direct(LOCAL, PEER), Ask::controlling());
    desk.answer(&triggered);
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
    assert_eq!(desk.inner().state(), State::Completed);
}

#[test]
fn case_39_a_nomination_on_a_succeeded_pair_counts_at_once() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    let check = desk.take_one();
    desk.answer(&check);
    desk.asked(direct(LOCAL, PEER), Ask::nominating());
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
}

#[test]
fn case_39_a_nomination_before_the_credentials_is_remembered() {
    let mut desk = Desk::new(controlled());
    desk.local(Candidate::host(addr(LOCAL)));
    desk.asked(direct(LOCAL, PEER), Ask::nominating());
    desk.asked(direct(LOCAL, PEER), Ask::controlling());
    desk.credentials();
    let check = desk.take_one();
    desk.answer(&check);
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
}

#[test]
fn case_40_of_two_nominated_pairs_the_one_of_higher_priority_is_used() {
    for order in [[PEER, OTHER], [OTHER, PEER]] {
        let (mut desk, best, second) = two_pairs(controlled());
        desk.answer(&best);
        desk.answer(&second);
        for remote in order {
            desk.asked(direct(LOCAL, remote), Ask::nominating());
        }
        assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)), "{order:?}");
    }
}

#[test]
fn case_41_selection_ends_all_other_checks() {
    let mut desk = Desk::new(controlled());
    desk.local(Candidate::host(addr(LOCAL)));
    for host in 1..=10 {
        desk.remote(Candidate::host(addr(&format!("198.51.100.{host}:2000"))));
    }
    desk.credentials();
    desk.wait(10);
    let checks = desk.take_checks();
    assert_eq!(checks.len(), 3);
    desk.answer(&checks[0]);
    desk.asked(checks[0].path, Ask::nominating());
    let states: Vec<_> = desk.inner().pairs().map(|pair| pair.state).collect();
    assert!(!states.contains(&PairState::Waiting) && !states.contains(&PairState::Frozen), "{states:?}");
    desk.take_said();
    desk.wait(3_900);
    assert!(desk.take_said().is_empty(), "nothing new and nothing again");
    // An answer that is still on its way counts.
    assert_eq!(desk.answer(&checks[1]), Verdict::Consumed);
    assert_eq!(desk.inner().valid_paths().count(), 2);
}

#[test]
fn after_completion_requests_are_still_answered_and_signalled_addresses_are_left_alone() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    let check = desk.take_one();
    desk.answer(&check);
    desk.asked(direct(LOCAL, PEER), Ask::nominating());
    // Late candidates are taken and not checked, not even when the peer checks them.
    desk.remote(Candidate::host(addr(OTHER)));
    for remote in [PEER, OTHER] {
        assert!(desk.asked(direct(LOCAL, remote), Ask::controlling()).is(Class::Success));
    }
    desk.wait(1_000);
    assert!(desk.take_said().is_empty());
    assert_eq!(desk.inner().pairs().count(), 1);
}

#[test]
fn case_26_candidates_of_another_generation_are_ignored() {
    let line = |port: u16, ufrag: &str| -> Candidate {
        format!("candidate:1 1 UDP 99 198.51.100.1 {port} typ host ufrag {ufrag}").parse().unwrap()
    };
    let mut desk = Desk::new(Config::default());
    desk.local(Candidate::host(addr(LOCAL)));
    // Before the credentials nobody can tell; afterwards the stranger is gone.
    desk.remote(line(1, "stale"));
    desk.remote(line(2, desk::PEER_UFRAG));
    assert_eq!(desk.inner().pairs().count(), 2);
    desk.credentials();
    let paths: Vec<_> = desk.inner().pairs().map(|pair| pair.path).collect();
    assert_eq!(paths, [direct(LOCAL, "198.51.100.1:2")]);
    let now = desk.now;
    let add = |agent: &mut gimlet_ice::Agent| agent.add_remote_candidate(now, line(3, "stale"));
    assert_eq!(desk.agent.command(now, add), Err(CandidateError::OtherGeneration));
}

#[test]
fn case_43_a_late_check_of_the_peer_still_connects_after_every_pair_has_failed() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    desk.end_of_candidates();
    let check = desk.take_one();
    desk.refuse(&check, 500);
    desk.wait(20_000);
    assert_eq!(desk.inner().state(), State::Checking, "patience (RFC 8863)");
    desk.asked(direct(LOCAL, OTHER), Ask::controlling());
    let check = desk.take_one();
    assert_eq!(check.path, direct(LOCAL, OTHER));
    desk.answer(&check);
    desk.wait(20_000);
    assert_eq!(desk.inner().state(), State::Connected);
    assert!(!desk.take_told().iter().any(|event| matches!(event, Event::Failed { .. })));
}

#[test]
fn case_44_failure_needs_the_end_of_candidates_on_both_sides_every_pair_failed_and_patience() {
    let mut desk = Desk::with_pair(Config::default(), LOCAL, PEER);
    desk.end_of_candidates();
    let check = desk.take_one();
    desk.refuse(&check, 500);
    desk.wait(39_499);
    assert_eq!(desk.inner().state(), State::Checking);
    desk.wait(1);
    assert_eq!(desk.inner().state(), State::Failed);
    let cause = FailureCause::AllPairsFailed { pairs: 1, answered: 1 };
    desk.wait(1_000_000);
    let failures: Vec<_> =
        desk.take_told().into_iter().filter(|event| matches!(event, Event::Failed { .. })).collect();
    assert_eq!(failures, [Event::Failed { cause }], "once");
    // Yet a check of the peer revives the agent.
    desk.asked(direct(LOCAL, PEER), Ask::controlled());
    assert_eq!(desk.inner().state(), State::Checking);
    let again = desk.take_one();
    desk.answer(&again);
    assert_eq!(desk.inner().state(), State::Connected);
}

#[test]
fn case_44_without_the_end_of_candidates_the_agent_keeps_hoping() {
    for end in [true, false] {
        let mut desk = Desk::with_pair(Config::default(), LOCAL, PEER);
        let now = desk.now;
        desk.agent.command(now, |agent| {
            if end { agent.end_of_local_candidates(now) } else { agent.end_of_remote_candidates(now) }
        });
        desk.wait(1_000_000);
        assert_eq!(desk.inner().state(), State::Checking);
        assert!(desk.agent.inner().pairs().all(|pair| pair.state == PairState::Failed));
    }
}

#[test]
fn with_nothing_to_pair_the_cause_says_so() {
    let mut desk = Desk::with_pair(Config::default(), LOCAL, "[2001:db8::1]:1");
    desk.end_of_candidates();
    desk.wait(39_500);
    assert!(desk.take_told().contains(&Event::Failed { cause: FailureCause::NoPairs }));
}

#[test]
fn commands_refuse_what_they_cannot_do_and_say_why() {
    let mut desk = Desk::with_pair(Config::default(), LOCAL, PEER);
    let now = desk.now;
    let other = gimlet_ice::Credentials { ufrag: "another".into(), ..desk::peer_credentials() };
    desk.agent.command(now, |agent| {
        assert_eq!(agent.set_remote_credentials(now, desk::peer_credentials()), Ok(()));
        assert_eq!(agent.set_remote_credentials(now, other), Err(CredentialsError::AlreadySet));
        let read: Candidate = "candidate:1 1 UDP 9 203.0.113.1 1 typ srflx".parse().unwrap();
        assert_eq!(agent.add_local_candidate(now, read), Err(CandidateError::NoBase));
        let component = Candidate::host(addr(OTHER)).with_component(2);
        assert_eq!(agent.add_remote_candidate(now, component), Err(CandidateError::OtherComponent(2)));
        agent.end_of_local_candidates(now);
        let late = Candidate::host(addr(OTHER));
        assert_eq!(agent.add_local_candidate(now, late.clone()), Err(CandidateError::AfterEnd));
        agent.close(now);
        assert_eq!(agent.add_remote_candidate(now, late), Err(CandidateError::Closed));
    });
    desk.drain();
    assert_eq!(desk.take_told().last(), Some(&Event::StateChanged(State::Closed)));
    let request = desk.request(Ask::controlling());
    assert_eq!(desk.hear(direct(LOCAL, PEER), &request), Verdict::NotMine);
    desk.take_said();
    desk.wait(1_000_000);
    assert!(desk.take_said().is_empty());
}

#[test]
fn local_priorities_are_unique_and_a_reflexive_candidate_ranks_like_its_base() {
    let mut desk = Desk::new(Config::default());
    for host in 1..=3 {
        let base = addr(&format!("10.0.0.{host}:1"));
        desk.local(Candidate::host(base));
        desk.local(Candidate::server_reflexive(addr(&format!("203.0.113.1:{host}")), base, None));
    }
    let candidates: Vec<_> = desk.inner().local_candidates().collect();
    let mut priorities: Vec<_> = candidates.iter().map(|candidate| candidate.priority).collect();
    for pair in candidates.chunks(2) {
        assert_eq!(pair[0].local_preference(), pair[1].local_preference());
    }
    priorities.sort_unstable();
    priorities.dedup();
    assert_eq!(priorities.len(), 6);
}

#[test]
fn a_report_tells_why_a_pair_does_not_work() {
    let mut desk = Desk::with_pair(Config::default(), LOCAL, PEER);
    let check = desk.take_one();
    desk.refuse(&check, 420);
    let report = desk.report(LOCAL, PEER).unwrap().to_string();
    let expected =
        "host 192.0.2.1:1000 -> host 198.51.100.1:2000: Failed, 1 sent, 1 answered, refused with error 420";
    assert_eq!(report, expected);
}
