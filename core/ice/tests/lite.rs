//! Lite agents: case 42.

#[path = "support/desk.rs"]
mod desk;
#[path = "support/lab.rs"]
mod lab;

use desk::{Ask, Desk, addr, direct};
use gimlet_ice::{Agent, Candidate, Config, Event, Role, State};
use gimlet_machine::{Instant, Rng};
use gimlet_stun::Class;
use lab::{Lab, Net};
use std::time::Duration;

const LOCAL: &str = "192.0.2.1:1000";
const PEER: &str = "198.51.100.1:2000";
const OTHER: &str = "198.51.100.2:2000";

fn lite(role: Role) -> Config {
    Config { role, lite: true, ..Config::default() }
}

#[test]
fn case_42_a_lite_agent_answers_and_never_checks() {
    let mut desk = Desk::with_pair(lite(Role::Controlled), LOCAL, PEER);
    desk.wait(1_000);
    for path in [direct(LOCAL, PEER), direct(LOCAL, OTHER)] {
        assert!(desk.asked(path, Ask::controlling()).is(Class::Success));
    }
    desk.wait(5_000);
    assert_eq!((desk.inner().state(), desk.inner().selected_path()), (State::Checking, None));
    // It takes the peer's word.
    let path = direct(LOCAL, OTHER);
    desk.asked(path, Ask::nominating());
    assert_eq!((desk.inner().state(), desk.inner().selected_path()), (State::Completed, Some(path)));
    assert!(desk.take_told().contains(&Event::PathValid { path, rtt: None }));
    assert!(desk.take_said().is_empty());
    // Of its own accord it only keeps the path open (RFC 8445 section 11).
    for _ in 0..4 {
        desk.wait(15_000);
        let keepalive = desk.take_one();
        assert!(keepalive.is(Class::Indication) && keepalive.path == path);
        assert!(keepalive.message().has_fingerprint());
    }
    assert_eq!(desk.inner().state(), State::Completed, "consent is the full side's to ask for");
}

#[test]
fn case_42_a_lite_agent_follows_a_peer_that_went_elsewhere() {
    let mut desk = Desk::with_pair(lite(Role::Controlled), LOCAL, PEER);
    desk.asked(direct(LOCAL, PEER), Ask::nominating());
    // A number tells at once, plain words once the first path has fallen silent.
    desk.asked(direct(LOCAL, OTHER), Ask::renominating(1));
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, OTHER)));
    let third = direct(LOCAL, "198.51.100.3:9");
    desk.asked(third, Ask { priority: Some(1), ..Ask::nominating() });
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, OTHER)));
    desk.wait(13_000);
    desk.asked(third, Ask { priority: Some(1), ..Ask::nominating() });
    assert_eq!(desk.inner().selected_path(), Some(third));
}

#[test]
fn case_42_towards_a_lite_agent_the_full_one_controls_whatever_both_began_with() {
    // Full here, lite there.
    let mut desk = Desk::with_pair(Config { role: Role::Controlled, ..Config::default() }, LOCAL, PEER);
    let now = desk.now;
    desk.agent.command(now, |agent| agent.set_remote_lite(now));
    desk.drain();
    assert_eq!(desk.inner().role(), Role::Controlling);
    desk.wait(2_000);
    let check = desk.take_checks().pop().unwrap();
    desk.answer(&check);
    desk.wait(200);
    let nomination = desk.take_checks().pop().unwrap();
    assert!(nomination.message().use_candidate() && nomination.message().ice_controlling().is_some());
    // Lite here: a claim to be controlled is refused, whatever the tiebreakers.
    let mut desk =
        Desk::with_pair(Config { tiebreaker: Some(u64::MAX), ..lite(Role::Controlling) }, LOCAL, PEER);
    assert_eq!(desk.asked(direct(LOCAL, PEER), Ask::controlled()).error(), Some(487));
    assert_eq!(desk.inner().role(), Role::Controlled);
    desk.asked(direct(LOCAL, PEER), Ask::nominating());
    assert_eq!(desk.inner().state(), State::Completed);
}

#[test]
fn case_42_two_lite_agents_use_the_best_pair_without_a_single_check() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut desk = Desk::new(lite(role));
        let now = desk.now;
        desk.agent.command(now, |agent| agent.set_remote_lite(now));
        desk.local(Candidate::host(addr(LOCAL)));
        desk.remote(Candidate::host(addr(OTHER)).with_local_preference(1));
        desk.credentials();
        assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, OTHER)));
        desk.remote(Candidate::host(addr(PEER)));
        assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
        assert_eq!(desk.inner().state(), State::Completed);
        desk.wait(14_000);
        assert!(desk.take_said().is_empty());
        let now = desk.now;
        desk.agent.command(now, |agent| agent.remove_remote_candidate(now, addr(PEER)));
        desk.drain();
        assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, OTHER)));
    }
}

#[test]
fn case_42_a_full_and_a_lite_agent_meet_and_only_one_of_them_asks() {
    let rng = Rng::from_u64(42);
    let full = Agent::new(Instant::ZERO, rng.fork("full"), Config::default());
    let other = Agent::new(Instant::ZERO, rng.fork("lite"), lite(Role::Controlled));
    let mut lab = Lab::new([full, other], Net::open(42));
    lab.add_hosts(2);
    lab.exchange();
    lab.run_until_completed(Instant::from_millis(1_000));
    assert_eq!(lab.states(), [State::Completed; 2]);
    lab.run_until(lab.now + Duration::from_secs(600));
    assert_eq!(lab.states(), [State::Completed; 2]);
    let class = |bytes: &[u8]| gimlet_stun::Message::parse(bytes).unwrap().class();
    assert!(lab.trace.iter().all(|(_, side, _, bytes)| *side == 0 || class(bytes) != Class::Request));
}
