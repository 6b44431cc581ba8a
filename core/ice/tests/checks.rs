//! Connectivity checks of one agent against a peer written by hand: cases 27 to 33 and 38.

#[path = "support/desk.rs"]
mod desk;

use desk::{Ask, Desk, PEER_PRIORITY, PEER_PWD, PEER_UFRAG, Signed, addr, direct, refusal, success};
use gimlet_ice::{Candidate, CandidateKind, Config, Event, Limits, PairError, PairState, Role, State};
use gimlet_machine::{Instant, Machine, Verdict};
use gimlet_stun::{Class, Key, MessageWriter, Method};
use std::time::Duration;

const LOCAL: &str = "192.0.2.1:1000";
const PEER: &str = "198.51.100.1:2000";

fn controlling() -> Config {
    Config::default()
}

fn controlled() -> Config {
    Config { role: Role::Controlled, ..Config::default() }
}

#[test]
fn case_27_a_check_carries_exactly_what_the_rfc_asks_for() {
    for (config, is_controlling) in [(controlling(), true), (controlled(), false)] {
        let mut desk = Desk::with_pair(config, LOCAL, PEER);
        let check = desk.take_one();
        assert_eq!((check.at, check.path), (Instant::ZERO, direct(LOCAL, PEER)));
        let message = check.message();
        let username = format!("{PEER_UFRAG}:{}", desk.inner().local_credentials().ufrag);
        assert_eq!(message.username(), Some(username.as_bytes()));
        // The host candidate's preference under the peer-reflexive type.
        assert_eq!(message.priority(), Some((110 << 24) + (65_535 << 8) + 255));
        assert_eq!(message.ice_controlling().is_some(), is_controlling);
        assert_eq!(message.ice_controlled().is_some(), !is_controlling);
        assert!(!message.use_candidate(), "regular nomination");
        assert_eq!(message.verify(&Key::short_term(PEER_PWD.as_bytes())), Ok(()));
        assert!(message.has_fingerprint());
    }
}

#[test]
fn case_28_one_check_leaves_per_ta_however_often_the_agent_is_poked() {
    let mut desk = Desk::new(controlling());
    desk.local(Candidate::host(addr(LOCAL)));
    for port in 0..10 {
        desk.remote(Candidate::host(addr(&format!("198.51.100.{}:2000", port + 1))));
    }
    desk.credentials();
    for _ in 0..1000 {
        desk.agent.handle_timeout(desk.now);
        desk.drain();
    }
    assert_eq!(desk.said.len(), 1, "one check at one instant");
    desk.wait(400);
    let times: Vec<_> = desk.take_said().iter().map(|said| said.at.as_micros()).collect();
    assert_eq!(times, (0..10).map(|i| i * 5_000).collect::<Vec<_>>());
}

#[test]
fn case_28_retransmissions_share_the_pacing() {
    let mut desk = Desk::new(controlling());
    desk.local(Candidate::host(addr(LOCAL)));
    for host in 1..=10 {
        desk.remote(Candidate::host(addr(&format!("198.51.100.{host}:2000"))));
    }
    desk.credentials();
    desk.wait(60_000);
    let times: Vec<_> = desk.take_said().iter().map(|said| said.at).collect();
    assert_eq!(times.len(), 70, "seven sends for each of ten pairs");
    assert!(times.windows(2).all(|pair| pair[1].since(pair[0]) >= Duration::from_millis(5)), "{times:?}");
}

#[test]
fn case_29_the_timeout_grows_with_the_number_of_open_pairs() {
    // Ta of 50 ms and 16 open pairs: 800 ms, and no less than 500 for one pair.
    for (hosts, expected) in [(1, 500), (16, 800)] {
        let mut desk = Desk::new(Config { ta: Duration::from_millis(50), ..controlling() });
        desk.local(Candidate::host(addr(LOCAL)));
        for host in 1..=hosts {
            desk.remote(Candidate::host(addr(&format!("198.51.100.{host}:2000"))));
        }
        desk.credentials();
        desk.wait(2_000);
        let said = desk.take_said();
        let repeat =
            said.iter().skip(1).find(|again| again.bytes == said[0].bytes).expect("a retransmission");
        assert_eq!(repeat.at.as_millis(), expected, "{hosts} pairs");
    }
}

#[test]
fn a_check_is_repeated_with_identical_bytes_and_given_up_after_39_5_seconds() {
    let mut desk = Desk::with_pair(controlling(), LOCAL, PEER);
    desk.wait(39_499);
    let said = desk.take_said();
    let times: Vec<_> = said.iter().map(|said| said.at.as_millis()).collect();
    assert_eq!(times, [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
    assert!(said.iter().all(|again| again.bytes == said[0].bytes));
    assert_eq!(desk.state_of(LOCAL, PEER), PairState::InProgress);
    desk.wait(1);
    assert_eq!(desk.state_of(LOCAL, PEER), PairState::Failed);
    assert_eq!(desk.report(LOCAL, PEER).unwrap().error, Some(PairError::NoAnswer));
}

#[test]
fn case_30_a_request_before_the_peers_credentials_is_answered_at_once_and_checked_once_they_arrive() {
    let mut desk = Desk::new(controlled());
    desk.local(Candidate::host(addr(LOCAL)));
    let answer = desk.asked(direct(LOCAL, PEER), Ask::controlling());
    assert!(answer.is(Class::Success));
    assert_eq!(answer.message().xor_mapped_address(), Some(addr(PEER)));
    let local_key = Key::short_term(desk.inner().local_credentials().pwd.as_bytes());
    assert_eq!(answer.message().verify(&local_key), Ok(()));
    assert!(desk.take_said().is_empty(), "no check without the peer's password");

    desk.wait(300);
    desk.credentials();
    let check = desk.take_one();
    assert_eq!((check.path, check.at.as_millis()), (direct(LOCAL, PEER), 300));
    assert_eq!(desk.take_told().iter().filter(|e| matches!(e, Event::RemotePeerReflexive { .. })).count(), 1);
}

#[test]
fn case_30_the_first_check_leaves_at_the_very_moment_at_which_it_can() {
    let mut desk = Desk::new(controlling());
    desk.local(Candidate::host(addr(LOCAL)));
    desk.credentials();
    desk.wait(1234);
    desk.remote(Candidate::host(addr(PEER)));
    assert_eq!(desk.take_one().at.as_millis(), 1234);
}

#[test]
fn early_requests_are_all_answered_and_only_the_newest_few_are_remembered() {
    let mut desk = Desk::new(controlled());
    desk.local(Candidate::host(addr(LOCAL)));
    for port in 0..20 {
        let path = direct(LOCAL, &format!("198.51.100.1:{}", 2000 + port));
        assert!(desk.asked(path, Ask::controlling()).is(Class::Success));
    }
    assert_eq!(desk.inner().counters().early_requests_forgotten, 12);
    desk.credentials();
    assert_eq!(desk.inner().remote_candidates().count(), 8);
}

#[test]
fn an_early_request_on_an_unknown_socket_waits_for_the_candidate() {
    let mut desk = Desk::new(controlled());
    desk.credentials();
    assert!(desk.asked(direct(LOCAL, PEER), Ask::controlling()).is(Class::Success));
    assert!(desk.take_said().is_empty());
    desk.local(Candidate::host(addr(LOCAL)));
    assert_eq!(desk.take_one().path, direct(LOCAL, PEER));
}

#[test]
fn case_24_a_pair_that_works_frees_those_of_its_foundation() {
    let mut desk = Desk::new(controlled());
    desk.local(Candidate::host(addr(LOCAL)));
    for port in [2000, 2001, 2002] {
        desk.remote(Candidate::host(addr(&format!("198.51.100.1:{port}"))).with_local_preference(port));
    }
    desk.credentials();
    desk.wait(100);
    let first = desk.take_one();
    assert_eq!(first.path, direct(LOCAL, "198.51.100.1:2002"), "the best of three alike");
    desk.answer(&first);
    desk.wait(100);
    let paths: Vec<_> = desk.take_checks().iter().map(|check| check.path).collect();
    assert_eq!(paths, [direct(LOCAL, "198.51.100.1:2001"), direct(LOCAL, "198.51.100.1:2000")]);
}

#[test]
fn case_31_an_unknown_source_becomes_a_peer_reflexive_candidate_of_the_receiving_base_only() {
    let mut desk = Desk::new(controlled());
    desk.local(Candidate::host(addr(LOCAL)));
    desk.local(Candidate::host(addr("192.0.2.9:1000")));
    desk.credentials();
    desk.asked(direct(LOCAL, PEER), Ask::controlling());
    let remotes: Vec<_> = desk.inner().remote_candidates().cloned().collect();
    assert_eq!(remotes.len(), 1);
    assert_eq!((remotes[0].kind, remotes[0].priority), (CandidateKind::PeerReflexive, PEER_PRIORITY));
    let paths: Vec<_> = desk.inner().pairs().map(|pair| pair.path).collect();
    assert_eq!(paths, [direct(LOCAL, PEER)]);
}

#[test]
fn case_31_a_later_signalled_candidate_takes_over_without_a_new_pair_or_lost_state() {
    let mut desk = Desk::new(controlled());
    desk.local(Candidate::host(addr(LOCAL)));
    desk.local(Candidate::host(addr("192.0.2.9:1000")));
    desk.credentials();
    desk.asked(direct(LOCAL, PEER), Ask::controlling());
    let check = desk.take_one();
    desk.answer(&check);
    let before = desk.report(LOCAL, PEER).unwrap().priority;

    desk.remote(Candidate::host(addr(PEER)));
    assert_eq!(desk.inner().remote_candidates().count(), 1);
    let report = desk.report(LOCAL, PEER).unwrap();
    assert_eq!((report.state, report.remote.kind), (PairState::Succeeded, CandidateKind::Host));
    assert!(report.priority > before, "ranked by the signalled priority");
    // What was signalled pairs with every base.
    assert_eq!(desk.inner().pairs().count(), 2);
    desk.local(Candidate::host(addr("192.0.2.10:1000")));
    assert_eq!(desk.inner().pairs().count(), 3, "those to come included");
}

#[test]
fn every_peer_reflexive_candidate_has_a_foundation_of_its_own() {
    let mut desk = Desk::new(controlled());
    desk.local(Candidate::host(addr(LOCAL)));
    desk.credentials();
    for port in 0..10 {
        desk.asked(direct(LOCAL, &format!("198.51.100.1:{}", 2000 + port)), Ask::controlling());
    }
    let mut foundations: Vec<_> = desk.inner().remote_candidates().map(|c| c.foundation).collect();
    foundations.sort();
    foundations.dedup();
    assert_eq!(foundations.len(), 10);
}

#[test]
fn case_32_an_unknown_mapped_address_is_a_local_peer_reflexive_candidate_and_the_pair_is_nominated() {
    let mapped = addr("203.0.113.1:7777");
    let mut desk = Desk::with_pair(controlling(), LOCAL, PEER);
    let check = desk.take_one();
    desk.answer_seeing(&check, mapped);
    assert!(desk.take_told().contains(&Event::LocalPeerReflexive { address: mapped }));
    desk.wait(5);
    let nomination = desk.take_one();
    assert!(nomination.message().use_candidate());
    assert_eq!(nomination.path, direct(LOCAL, PEER), "from the base");
    desk.answer_seeing(&nomination, mapped);
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
    assert!(desk.inner().local_candidates().all(|c| c.address != mapped), "it is not signalled");
}

#[test]
fn case_32_the_controlled_side_selects_the_original_pair_too() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    let check = desk.take_one();
    desk.answer_seeing(&check, addr("203.0.113.1:7777"));
    desk.asked(direct(LOCAL, PEER), Ask::nominating());
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
}

#[test]
fn case_33_a_request_on_a_waiting_pair_moves_it_to_the_front() {
    let mut desk = Desk::new(controlled());
    desk.local(Candidate::host(addr(LOCAL)));
    for host in 1..=5 {
        desk.remote(Candidate::host(addr(&format!("198.51.100.{host}:2000"))));
    }
    desk.credentials();
    desk.take_said();
    let last = direct(LOCAL, "198.51.100.5:2000");
    desk.asked(last, Ask::controlling());
    desk.wait(5);
    assert_eq!(desk.take_one().path, last, "triggered checks go before ordinary ones");
}

#[test]
fn case_33_a_request_on_a_pair_in_progress_cancels_its_check_and_the_old_answer_still_counts() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    let first = desk.take_one();
    desk.wait(100);
    desk.asked(direct(LOCAL, PEER), Ask::controlling());
    let second = desk.take_one();
    assert_eq!(second.at.as_millis(), 100, "within Ta");
    assert_ne!(second.message().transaction_id(), first.message().transaction_id());

    // Only the new check is retransmitted, from when it was sent.
    desk.wait(550);
    let again = desk.take_said();
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].at.as_millis(), &again[0].bytes), (600, &second.bytes));

    assert_eq!(desk.answer(&first), Verdict::Consumed);
    assert_eq!(desk.state_of(LOCAL, PEER), PairState::Succeeded);
    desk.wait(3_900);
    assert!(desk.take_checks().is_empty(), "the second check is not needed any more");
}

#[test]
fn with_all_places_taken_a_cancelled_check_gives_way_and_nothing_else_does() {
    let limits = Limits { checks_max: 1, ..Limits::default() };
    let mut desk = Desk::with_pair(Config { limits, ..controlled() }, LOCAL, PEER);
    desk.remote(Candidate::host(addr("198.51.100.2:2000")));
    desk.wait(100);
    let first = desk.take_one();
    desk.asked(direct(LOCAL, PEER), Ask::controlling());
    let second = desk.take_one();
    desk.answer(&first);
    assert_eq!(desk.inner().counters().answers_late, 1, "forgotten");
    desk.wait(100);
    assert!(desk.take_said().is_empty(), "the other pair waits for a place");
    assert_eq!(desk.answer(&second), Verdict::Consumed);
    assert_eq!(desk.take_one().path, direct(LOCAL, "198.51.100.2:2000"));
}

/// A candidate of the peer behind a NAT.
fn reflexive(address: &str) -> Candidate {
    let (ip, port) = address.split_once(':').unwrap();
    format!("candidate:{port} 1 udp 1694498815 {ip} {port} typ srflx raddr 10.0.0.1 rport 9").parse().unwrap()
}

#[test]
fn once_the_peer_has_begun_what_it_was_not_heard_on_is_checked_anew_once() {
    const UNHEARD: &str = "203.0.113.7:7";
    const HEARD: &str = "203.0.113.8:8";
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    desk.remote(reflexive(UNHEARD));
    desk.remote(reflexive(HEARD));
    desk.wait(20);
    let early = desk.take_checks().into_iter().find(|check| check.path == direct(LOCAL, UNHEARD)).unwrap();
    assert!(!desk.inner().has_heard_directly());
    desk.asked(direct(LOCAL, HEARD), Ask::controlling());
    assert!(desk.inner().has_heard_directly());
    desk.wait(20);
    desk.take_said();

    let began = |desk: &mut Desk| {
        desk.agent.command(desk.now, |agent| agent.recheck(desk.now));
        desk.drain();
        desk.wait(100);
        desk.take_checks()
    };
    // Not the host's, which no NAT is in front of, and not the one whose check triggered ours.
    let [fresh] = &began(&mut desk)[..] else { panic!("one check") };
    assert_eq!(fresh.path, direct(LOCAL, UNHEARD));
    assert_ne!(fresh.message().transaction_id(), early.message().transaction_id());
    assert!(began(&mut desk).is_empty(), "whoever repeats it makes nobody send");
    assert_eq!(desk.answer(&early), Verdict::Consumed);
    assert_eq!(desk.state_of(LOCAL, UNHEARD), PairState::Succeeded, "the early check still counts");
}

#[test]
fn checks_that_are_repeated_because_the_peer_has_begun_are_paced() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    for port in 10..20 {
        desk.remote(reflexive(&format!("203.0.113.7:{port}")));
    }
    desk.wait(200);
    desk.take_said();
    let began = desk.now;
    desk.agent.command(desk.now, |agent| agent.recheck(desk.now));
    desk.drain();
    desk.wait(100);
    let at: Vec<_> = desk.take_checks().iter().map(|check| check.at.since(began).as_millis()).collect();
    assert_eq!(at, (0..10).map(|nth| 5 * nth).collect::<Vec<_>>());
}

#[test]
fn case_33_a_request_on_a_failed_pair_revives_it() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    let check = desk.take_one();
    desk.refuse(&check, 500);
    assert_eq!(desk.state_of(LOCAL, PEER), PairState::Failed);
    desk.wait(1_000);
    desk.asked(direct(LOCAL, PEER), Ask::controlling());
    assert_eq!(desk.take_one().path, direct(LOCAL, PEER));
}

#[test]
fn case_33_a_request_on_a_succeeded_pair_is_answered_and_causes_nothing() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    let check = desk.take_one();
    desk.answer(&check);
    for _ in 0..100 {
        assert!(desk.asked(direct(LOCAL, PEER), Ask::controlling()).is(Class::Success));
        desk.wait(20);
    }
    assert!(desk.take_checks().is_empty(), "no ping-pong");
}

#[test]
fn case_38_any_error_answer_fails_the_pair_and_says_which() {
    for code in [400, 401, 420, 500] {
        let mut desk = Desk::with_pair(controlling(), LOCAL, PEER);
        let check = desk.take_one();
        assert_eq!(desk.refuse(&check, code), Verdict::Consumed);
        let report = desk.report(LOCAL, PEER).unwrap();
        assert_eq!((report.state, report.error), (PairState::Failed, Some(PairError::Refused(code))));
        desk.wait(60_000);
        assert!(desk.take_said().is_empty(), "a failed pair is not checked again");
    }
}

#[test]
fn case_38_an_error_answer_that_the_peer_did_not_sign_changes_nothing() {
    let mut desk = Desk::with_pair(controlling(), LOCAL, PEER);
    let check = desk.take_one();
    let mut unsigned = Vec::new();
    let id = check.message().transaction_id();
    MessageWriter::new(&mut unsigned, Class::Error, Method::BINDING, id).error_code(400, "").fingerprint();
    for bytes in [unsigned, refusal(&check, 400, "someoneElsesPassword12")] {
        desk.hear(check.path, &bytes);
        assert_eq!(desk.state_of(LOCAL, PEER), PairState::InProgress);
    }
    assert_eq!(desk.inner().counters().answers_forged, 2);
    desk.answer(&check);
    assert_eq!(desk.state_of(LOCAL, PEER), PairState::Succeeded);
}

#[test]
fn case_14_an_answer_that_took_another_way_fails_the_pair() {
    for strange in [direct(LOCAL, "6.6.6.6:2000"), direct("192.0.2.9:1000", PEER)] {
        let mut desk = Desk::with_pair(controlling(), LOCAL, PEER);
        desk.local(Candidate::host(addr("192.0.2.9:1000")));
        let check = desk.take_said().remove(0);
        desk.hear(strange, &success(&check, addr(LOCAL), PEER_PWD));
        let report = desk.report(LOCAL, PEER).unwrap();
        assert_eq!((report.state, report.error), (PairState::Failed, Some(PairError::Asymmetric)));
        assert_eq!(desk.inner().state(), State::Checking);
    }
}

#[test]
fn case_14_a_forged_answer_from_elsewhere_cannot_fail_the_pair() {
    let mut desk = Desk::with_pair(controlling(), LOCAL, PEER);
    let check = desk.take_one();
    desk.hear(direct(LOCAL, "6.6.6.6:2000"), &success(&check, addr(LOCAL), "someoneElsesPassword12"));
    assert_eq!(desk.state_of(LOCAL, PEER), PairState::InProgress);
}

#[test]
fn case_13_only_an_answer_to_the_first_send_measures_the_round_trip_and_copies_are_ignored() {
    let mut desk = Desk::with_pair(controlling(), LOCAL, PEER);
    let check = desk.take_one();
    desk.wait(80);
    desk.answer(&check);
    let expected = Some(Duration::from_millis(80));
    assert!(desk.take_told().contains(&Event::PathValid { path: direct(LOCAL, PEER), rtt: expected }));
    assert_eq!(desk.report(LOCAL, PEER).unwrap().rtt, expected);
    desk.answer(&check);
    assert_eq!(desk.inner().counters().answers_late, 1, "a second copy answers nothing");
    assert_eq!(desk.report(LOCAL, PEER).unwrap().answers, 1);

    let mut desk = Desk::with_pair(controlling(), LOCAL, PEER);
    desk.wait(600);
    let check = desk.take_said().remove(1);
    desk.answer(&check);
    assert!(desk.take_told().contains(&Event::PathValid { path: direct(LOCAL, PEER), rtt: None }));
}

#[test]
fn case_8_unknown_required_attributes_are_refused_in_requests_and_fail_checks_in_answers() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    let check = desk.take_one();
    let answer = desk.asked(direct(LOCAL, PEER), Ask { unknown: Some(0x7001), ..Ask::controlling() });
    assert_eq!(answer.error(), Some(420));
    assert_eq!(answer.message().unknown_attributes().collect::<Vec<_>>(), [0x7001]);
    let local_key = Key::short_term(desk.inner().local_credentials().pwd.as_bytes());
    assert_eq!(answer.message().verify(&local_key), Ok(()));
    assert!(desk.take_said().is_empty(), "and nothing else happens");
    // An optional one is skipped.
    let answer = desk.asked(direct(LOCAL, PEER), Ask { unknown: Some(0xc001), ..Ask::controlling() });
    assert!(answer.is(Class::Success));

    let mut strange = Vec::new();
    let id = check.message().transaction_id();
    MessageWriter::new(&mut strange, Class::Success, Method::BINDING, id)
        .xor_mapped_address(addr(LOCAL))
        .attribute(0x7001, &[0; 4])
        .integrity(&Key::short_term(PEER_PWD.as_bytes()))
        .fingerprint();
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    desk.hear(check.path, &strange);
    assert_eq!(desk.report(LOCAL, PEER).unwrap().error, Some(PairError::Malformed));
}

#[test]
fn case_9_an_unauthenticated_request_gets_400_or_401_and_changes_nothing() {
    for (signed, code) in [(Signed::Not, 400), (Signed::WithAnotherPassword, 401)] {
        let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
        desk.take_said();
        let answer =
            desk.asked(direct(LOCAL, "6.6.6.6:6"), Ask { signed, use_candidate: true, ..Ask::controlling() });
        assert_eq!(answer.error(), Some(code));
        assert!(!answer.message().has_integrity());
        assert_eq!(desk.inner().remote_candidates().count(), 1);
        desk.wait(4);
        assert!(desk.take_said().is_empty());
    }
}

#[test]
fn answers_to_the_unauthenticated_are_few_and_never_larger_than_the_question() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    desk.take_said();
    for _ in 0..1000 {
        let request = desk.request(Ask { signed: Signed::Not, priority: None, ..Ask::controlling() });
        desk.hear(direct(LOCAL, "6.6.6.6:6"), &request);
        assert!(desk.said.iter().all(|said| said.bytes.len() <= request.len()));
    }
    assert_eq!(desk.take_said().len(), 10);
    assert_eq!(desk.inner().counters().answers_withheld, 990);
    // The budget is per second.
    desk.wait(1_000);
    desk.take_said();
    desk.asked(direct(LOCAL, "6.6.6.6:6"), Ask { signed: Signed::Not, ..Ask::controlling() });
}

#[test]
fn a_signed_request_without_priority_or_with_both_roles_is_a_bad_request() {
    for ask in
        [Ask { priority: None, ..Ask::controlling() }, Ask { controlled: Some(1), ..Ask::controlling() }]
    {
        let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
        desk.take_said();
        let answer = desk.asked(direct(LOCAL, PEER), ask);
        assert_eq!(answer.error(), Some(400));
        assert!(answer.message().has_integrity());
        assert!(desk.take_said().is_empty());
    }
}

#[test]
fn case_66_what_belongs_to_others_is_not_ours_and_costs_no_answer() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    let check = desk.take_one();
    // Another agent's request, with and without our fragment as a prefix of its.
    let ours = desk.inner().local_credentials().ufrag.clone();
    for username in ["otherAgent:x".to_string(), format!("{ours}x:peer"), ours.clone()] {
        let mut request = Vec::new();
        MessageWriter::new(&mut request, Class::Request, Method::BINDING, check.message().transaction_id())
            .username(username.as_bytes())
            .fingerprint();
        assert_eq!(desk.hear(direct(LOCAL, PEER), &request), Verdict::NotMine, "{username}");
    }
    // A plain request to a STUN server, a TURN message, an answer to somebody else, a keepalive elsewhere.
    for (class, method) in [
        (Class::Request, Method::BINDING),
        (Class::Request, Method::ALLOCATE),
        (Class::Success, Method::BINDING),
    ] {
        let mut bytes = Vec::new();
        MessageWriter::new(&mut bytes, class, method, gimlet_stun::TransactionId([9; 12])).fingerprint();
        assert_eq!(desk.hear(direct(LOCAL, PEER), &bytes), Verdict::NotMine);
    }
    let mut keepalive = Vec::new();
    MessageWriter::new(
        &mut keepalive,
        Class::Indication,
        Method::BINDING,
        gimlet_stun::TransactionId([9; 12]),
    )
    .fingerprint();
    assert_eq!(desk.hear(direct(LOCAL, "6.6.6.6:6"), &keepalive), Verdict::NotMine);
    assert_eq!(desk.hear(direct(LOCAL, PEER), &keepalive), Verdict::Consumed);
    assert_eq!(desk.hear(direct(LOCAL, PEER), b"\x16\xfe\xfd not STUN at all"), Verdict::NotMine);
    assert!(desk.take_said().is_empty());
}

#[test]
fn a_request_of_somebody_else_with_our_password_is_answered_and_teaches_nothing() {
    let mut desk = Desk::new(controlled());
    desk.local(Candidate::host(addr(LOCAL)));
    let set = |agent: &mut gimlet_ice::Agent| {
        let other = gimlet_ice::Credentials { ufrag: "somebody".into(), ..desk::peer_credentials() };
        agent.set_remote_credentials(Instant::ZERO, other)
    };
    desk.agent.command(Instant::ZERO, set).unwrap();
    desk.drain();
    assert!(desk.asked(direct(LOCAL, PEER), Ask::controlling()).is(Class::Success));
    // Nor can it take a role from us, or give us one.
    for tiebreaker in [0, u64::MAX] {
        let ask = Ask { controlled: Some(tiebreaker), ..Ask::controlled() };
        assert!(desk.asked(direct(LOCAL, PEER), ask).is(Class::Success));
    }
    assert_eq!(desk.inner().role(), Role::Controlled);
    assert_eq!(desk.inner().counters().requests_from_strangers, 3);
    assert_eq!(desk.inner().remote_candidates().count(), 0);
}
