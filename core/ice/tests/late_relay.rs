//! The peer's relay is heard before it is signalled: what comes out of it looks like any NAT until then.

#[path = "support/desk.rs"]
mod desk;

use desk::{Ask, Desk, Said, addr, direct};
use gimlet_ice::{Candidate, CandidateKind, Config, Event, PairState, Role};
use gimlet_machine::Path;

const LOCAL: &str = "192.0.2.1:1000";
/// The peer's host candidate, which nobody reaches, and what its NAT makes of it.
const INSIDE: &str = "10.0.0.2:2000";
const NAT: &str = "203.0.113.2:2000";
/// The peer's address at its relay.
const RELAY: &str = "198.51.100.2:3000";

fn reflexive() -> Candidate {
    Candidate::server_reflexive(addr(NAT), addr(INSIDE), None)
}

fn relayed() -> Candidate {
    let flow = gimlet_machine::FourTuple::new(addr(INSIDE), addr("198.51.100.2:3478"));
    let line = Candidate::relayed(addr(RELAY), flow, Some(addr(NAT))).to_string();
    line.parse().unwrap()
}

/// A controlling agent that knows where the peer's NAT is, and has heard its check out of the relay. Both were
/// checked; returns the checks, that of the NAT first.
fn heard(renomination: bool) -> (Desk, [Said; 2]) {
    let mut desk = Desk::new(Config { role: Role::Controlling, renomination, ..Config::default() });
    desk.local(Candidate::host(addr(LOCAL)));
    desk.remote(reflexive());
    desk.credentials();
    desk.wait(1);
    let to_nat = desk.take_one();
    assert_eq!(to_nat.path, direct(LOCAL, NAT));
    desk.wait(50);
    desk.asked(direct(LOCAL, RELAY), Ask::controlled());
    desk.wait(5);
    let to_relay = desk.take_checks().remove(0);
    assert_eq!(to_relay.path, direct(LOCAL, RELAY));
    (desk, [to_nat, to_relay])
}

fn selected(desk: &mut Desk) -> Vec<Path> {
    let selected = |event| match event {
        Event::PathSelected { path } => Some(path),
        _ => None,
    };
    desk.take_told().into_iter().filter_map(selected).collect()
}

/// Answers the nomination that the agent has sent, and returns its path.
#[track_caller]
fn agree(desk: &mut Desk) -> Path {
    let checks = desk.take_checks();
    let asks: Vec<_> = checks.iter().filter(|said| said.message().use_candidate()).collect();
    assert_eq!(asks.len(), 1, "{checks:?}");
    desk.answer(asks[0]);
    asks[0].path
}

#[test]
fn a_known_direct_pair_is_nominated_before_one_whose_far_end_may_be_a_relay() {
    for renomination in [false, true] {
        let (mut desk, [to_nat, to_relay]) = heard(renomination);
        desk.answer(&to_relay);
        desk.answer(&to_nat);
        let [nat, relay] = [NAT, RELAY].map(|remote| desk.report(LOCAL, remote).unwrap());
        assert_eq!([nat.state, relay.state], [PairState::Succeeded; 2]);
        assert!(relay.priority > nat.priority, "by priority alone the other one would win");
        desk.wait(300);
        assert_eq!(agree(&mut desk), direct(LOCAL, NAT));
        assert_eq!(selected(&mut desk), [direct(LOCAL, NAT)]);
    }
}

#[test]
fn the_known_direct_pair_is_given_time() {
    let (mut desk, [to_nat, to_relay]) = heard(false);
    desk.answer(&to_relay);
    desk.wait(60);
    assert!(desk.take_checks().iter().all(|said| !said.message().use_candidate()), "not yet");
    desk.answer(&to_nat);
    desk.wait(100);
    assert_eq!(agree(&mut desk), direct(LOCAL, NAT));
}

#[test]
fn what_was_not_signalled_is_nominated_by_its_priority_once_all_candidates_are_known() {
    let (mut desk, [to_nat, to_relay]) = heard(false);
    desk.end_of_candidates();
    desk.answer(&to_nat);
    desk.answer(&to_relay);
    desk.wait(300);
    assert_eq!(agree(&mut desk), direct(LOCAL, RELAY));
}

#[test]
fn alone_it_is_nominated_all_the_same() {
    let (mut desk, [_, to_relay]) = heard(false);
    desk.answer(&to_relay);
    desk.wait(300);
    assert_eq!(agree(&mut desk), direct(LOCAL, RELAY));
}

#[test]
fn data_leaves_a_selected_pair_at_once_when_it_turns_out_to_cross_a_relay() {
    let (mut desk, [to_nat, to_relay]) = heard(true);
    desk.answer(&to_relay);
    desk.wait(300);
    assert_eq!(agree(&mut desk), direct(LOCAL, RELAY));
    desk.answer(&to_nat);
    assert_eq!(selected(&mut desk), [direct(LOCAL, RELAY)], "no faster, and maybe no better");

    desk.remote(relayed());
    let report = desk.report(LOCAL, RELAY).unwrap();
    assert_eq!((report.remote.kind, report.state), (CandidateKind::Relayed, PairState::Succeeded));
    assert!(report.priority < desk.report(LOCAL, NAT).unwrap().priority);
    assert_eq!(selected(&mut desk), [direct(LOCAL, NAT)], "at once");
    desk.wait(5);
    assert_eq!(agree(&mut desk), direct(LOCAL, NAT), "and the peer is asked to follow");
}

#[test]
fn a_relay_that_is_signalled_while_the_peer_is_asked_is_left_when_it_agrees() {
    let (mut desk, [to_nat, to_relay]) = heard(true);
    desk.answer(&to_relay);
    desk.wait(300);
    desk.answer(&to_nat);
    desk.remote(relayed());
    assert_eq!(agree(&mut desk), direct(LOCAL, RELAY), "it was on its way");
    assert_eq!(selected(&mut desk), [direct(LOCAL, RELAY), direct(LOCAL, NAT)]);
}

#[test]
fn without_renomination_a_choice_stands() {
    let (mut desk, [to_nat, to_relay]) = heard(false);
    desk.answer(&to_relay);
    desk.wait(300);
    assert_eq!(agree(&mut desk), direct(LOCAL, RELAY));
    desk.answer(&to_nat);
    desk.remote(relayed());
    desk.wait(50);
    assert_eq!(selected(&mut desk), [direct(LOCAL, RELAY)]);
}
