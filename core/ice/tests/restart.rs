//! Generations: case 48.

#[path = "support/desk.rs"]
mod desk;
#[path = "support/lab.rs"]
mod lab;

use desk::{Ask, Desk, addr, direct};
use gimlet_ice::{Agent, Candidate, Config, Credentials, CredentialsError, Event, Role, State, TA_MIN};
use gimlet_machine::{Instant, Machine, Rng, Verdict};
use gimlet_stun::Class;
use lab::{Lab, Nat, Net};
use std::time::Duration;

const LOCAL: &str = "192.0.2.1:1000";
const PEER: &str = "198.51.100.1:2000";
const OTHER: &str = "198.51.100.2:2000";

fn controlled() -> Config {
    Config { role: Role::Controlled, ..Config::default() }
}

/// The peer's credentials after its own restart.
fn second_credentials() -> Credentials {
    Credentials { ufrag: "peerAgain".into(), pwd: "anotherPasswordOfTheSamePeer".into() }
}

fn completed(config: Config) -> Desk {
    let mut desk = Desk::with_pair(config, LOCAL, PEER);
    let check = desk.take_one();
    desk.answer(&check);
    desk.asked(direct(LOCAL, PEER), Ask::nominating());
    assert_eq!(desk.inner().state(), State::Completed);
    desk.take_said();
    desk.take_told();
    desk
}

fn restart(desk: &mut Desk) -> Credentials {
    let now = desk.now;
    let credentials = desk.agent.command(now, |agent| agent.restart(now));
    desk.drain();
    credentials
}

#[test]
fn case_48_the_old_path_carries_data_and_asks_for_consent_until_the_new_one_is_selected() {
    let mut desk = completed(controlled());
    let (role, tiebreaker) = (desk.inner().role(), desk.inner().tiebreaker());
    let old = desk.inner().local_credentials().clone();
    let path = direct(LOCAL, PEER);
    let fresh = restart(&mut desk);
    assert!(fresh.ufrag != old.ufrag && fresh.pwd != old.pwd && fresh == *desk.inner().local_credentials());
    assert_eq!((desk.inner().role(), desk.inner().tiebreaker()), (role, tiebreaker), "RFC 8445 section 9");
    assert_eq!((desk.inner().state(), desk.inner().generation()), (State::Connected, 1));
    assert_eq!(desk.inner().selected_path(), Some(path));
    // Consent goes on under the old credentials, for as long as it takes.
    for _ in 0..60 {
        desk.wait(1_000);
        for request in desk.take_checks() {
            let username = format!("{}:{}", desk::PEER_UFRAG, old.ufrag);
            assert_eq!(request.message().username(), Some(username.as_bytes()));
            desk.answer(&request);
        }
    }
    assert_eq!(desk.take_told(), [Event::StateChanged(State::Connected)]);
    assert_eq!(desk.inner().selected_path(), Some(path));
    // The new generation finds its own.
    let now = desk.now;
    desk.agent.command(now, |agent| agent.set_remote_credentials(now, second_credentials())).unwrap();
    desk.remote(Candidate::host(addr(OTHER)));
    let check = desk.take_checks().pop().unwrap();
    let username = format!("peerAgain:{}", fresh.ufrag);
    assert_eq!((check.path, check.message().username()), (direct(LOCAL, OTHER), Some(username.as_bytes())));
    desk.hear(check.path, &desk::success(&check, addr(LOCAL), &second_credentials().pwd));
    assert_eq!(desk.inner().selected_path(), Some(path), "valid is not yet selected");
    let nomination = desk.request_as(&second_credentials().ufrag, Ask::nominating());
    assert_eq!(desk.hear(check.path, &nomination), Verdict::Consumed);
    assert_eq!(desk.inner().selected_path(), Some(check.path));
    assert_eq!(desk.inner().state(), State::Completed);
    let generations: Vec<_> = desk.inner().pairs().map(|pair| pair.generation).collect();
    assert_eq!(generations, [1], "the old generation is over");
}

#[test]
fn case_48_requests_to_the_old_fragment_are_answered_with_the_old_password_and_change_nothing() {
    let mut desk = completed(controlled());
    let old = desk.inner().local_credentials().clone();
    let requests: Vec<_> = [
        Ask::controlling(),
        Ask::nominating(),
        Ask { controlling: None, controlled: Some(u64::MAX), ..Ask::controlling() },
    ]
    .map(|ask| desk.request(ask))
    .into();
    restart(&mut desk);
    desk.take_told();
    for request in requests {
        for path in [direct(LOCAL, PEER), direct(LOCAL, OTHER)] {
            assert_eq!(desk.hear(path, &request), Verdict::Consumed);
            let answer = desk.take_one();
            assert!(answer.is(Class::Success) && answer.path == path);
            assert!(answer.message().verify(&gimlet_stun::Key::short_term(old.pwd.as_bytes())).is_ok());
        }
    }
    assert_eq!(desk.inner().role(), Role::Controlled);
    assert_eq!(desk.inner().remote_candidates().count(), 1);
    assert!(desk.take_told().is_empty());
    // The new fragment works beside it, before the peer's new credentials are known.
    desk.asked(direct(LOCAL, PEER), Ask::controlling());
}

#[test]
fn case_48_a_late_answer_to_a_check_of_the_old_generation_changes_nothing() {
    let mut desk = Desk::with_pair(Config::default(), LOCAL, PEER);
    let check = desk.take_one();
    restart(&mut desk);
    desk.answer(&check);
    assert_eq!(desk.inner().counters().answers_late, 1);
    assert_eq!(desk.inner().valid_paths().count(), 0);
    assert_eq!(desk.inner().state(), State::Checking);
}

#[test]
fn case_48_the_same_address_in_the_new_generation_is_a_new_pair_that_is_checked_anew() {
    let mut desk = completed(controlled());
    restart(&mut desk);
    let now = desk.now;
    desk.agent.command(now, |agent| agent.set_remote_credentials(now, second_credentials())).unwrap();
    desk.remote(Candidate::host(addr(PEER)));
    desk.wait(5);
    let check = desk.take_checks().pop().expect("the path is checked in the new generation");
    assert_eq!(check.path, direct(LOCAL, PEER));
    let generations: Vec<_> = desk.inner().pairs().map(|pair| pair.generation).collect();
    assert_eq!(generations, [0, 1]);
    // An answer under the old password counts for nothing here.
    desk.answer(&check);
    assert_eq!(desk.inner().counters().answers_forged, 1);
    desk.hear(check.path, &desk::success(&check, addr(LOCAL), &second_credentials().pwd));
    let nomination = desk.request_as(&second_credentials().ufrag, Ask::nominating());
    desk.hear(check.path, &nomination);
    assert_eq!(desk.inner().state(), State::Completed);
    assert_eq!(desk.inner().pairs().count(), 1);
}

#[test]
fn case_48_an_old_path_that_dies_during_the_restart_is_lost_without_harm() {
    let mut desk = completed(controlled());
    restart(&mut desk);
    desk.take_told();
    desk.wait(31_000);
    let path = direct(LOCAL, PEER);
    let told = desk.take_told();
    assert_eq!(
        told,
        [Event::PathSuspect { path }, Event::ConsentExpired { path }, Event::StateChanged(State::Checking)]
    );
    assert_eq!((desk.inner().selected_path(), desk.inner().pairs().count()), (None, 0));
    let now = desk.now;
    desk.agent.command(now, |agent| agent.set_remote_credentials(now, second_credentials())).unwrap();
    desk.remote(Candidate::host(addr(PEER)));
    let check = desk.take_checks().pop().unwrap();
    desk.hear(check.path, &desk::success(&check, addr(LOCAL), &second_credentials().pwd));
    assert_eq!(desk.inner().state(), State::Connected);
}

#[test]
fn other_credentials_need_a_restart_first_and_candidates_may_follow_it_again() {
    let mut desk = completed(controlled());
    desk.end_of_candidates();
    let now = desk.now;
    let set = |agent: &mut Agent| agent.set_remote_credentials(now, second_credentials());
    assert_eq!(desk.agent.command(now, set), Err(CredentialsError::AlreadySet));
    restart(&mut desk);
    assert_eq!(desk.agent.command(now, set), Ok(()));
    desk.remote(Candidate::host(addr(OTHER)));
    desk.local(Candidate::host(addr("192.0.2.2:1000")));
    // Twice in a row: the path of the first generation is still in use.
    restart(&mut desk);
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
    assert_eq!(desk.inner().generation(), 2);
    let now = desk.now;
    desk.agent.command(now, |agent| agent.close(now));
    let last = desk.inner().local_credentials().clone();
    assert_eq!(restart(&mut desk), last, "a closed agent stays as it is");
}

fn agents(seed: u64) -> [Agent; 2] {
    let rng = Rng::from_u64(seed);
    let agent = |role, name| Agent::new(Instant::ZERO, rng.fork(name), Config { role, ..Config::default() });
    [agent(Role::Controlling, "a"), agent(Role::Controlled, "b")]
}

/// Two agents connect, restart while requests are lost, and connect again.
fn restarted(seed: u64) -> Lab {
    let net = Net { seed, loss: 100_000, signalling_ms: 60, ..Net::behind([Nat::PortRestricted; 2]) };
    let mut lab = Lab::new(agents(seed), net);
    lab.add_hosts(2);
    lab.exchange();
    lab.run_until_completed(Instant::from_millis(60_000));
    for _ in 0..2 {
        let start = lab.now + Duration::from_millis(200);
        lab.run_until(start);
        for agent in &mut lab.agents {
            agent.command(start, |agent| agent.restart(start));
        }
        lab.exchange();
        let paths = [0, 1].map(|side| lab.agents[side].inner().selected_path());
        assert!(paths.iter().all(Option::is_some), "data flows meanwhile");
        lab.run_until_completed(start + Duration::from_secs(60));
    }
    lab.assert_paced(TA_MIN);
    lab
}

#[test]
fn case_48_two_agents_restart_again_and_again_and_never_lose_their_path() {
    for seed in 0..100 {
        let lab = restarted(seed);
        assert_eq!(lab.states(), [State::Completed; 2], "seed {seed}");
        assert_eq!(lab.roles(), [Role::Controlling, Role::Controlled]);
        for agent in &lab.agents {
            assert_eq!(agent.inner().generation(), 2);
            assert!(agent.inner().pairs().all(|pair| pair.generation == 2), "seed {seed}");
        }
        let lost = |event: &Event| matches!(event, Event::StateChanged(State::Checking | State::Failed));
        let counts =
            [0, 1].map(|side| lab.events.iter().filter(|(_, of, event)| *of == side && lost(event)).count());
        assert_eq!(counts, [1; 2], "seed {seed}: only at the beginning");
    }
}

#[test]
fn case_65_the_same_seed_gives_the_same_trace_through_restarts() {
    let run = |seed| {
        let lab = restarted(seed);
        (lab.trace, lab.events)
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).0, run(4).0);
}

#[test]
fn case_65_extra_timeouts_and_polls_change_nothing() {
    let run = |extra: bool| {
        let mut lab = Lab::new(agents(5), Net::behind([Nat::PortRestricted; 2]));
        lab.add_hosts(3);
        lab.exchange();
        for ms in (100..60_000).step_by(100) {
            lab.run_until(Instant::from_millis(ms));
            if extra {
                let now = lab.now;
                for agent in &mut lab.agents {
                    agent.handle_timeout(now);
                    agent.handle_timeout(now);
                    assert!(agent.poll_event().is_none());
                }
            }
        }
        (lab.trace, lab.events)
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn case_65_time_near_its_ends_overflows_nothing() {
    for start in [Instant::ZERO, Instant::from_nanos(u64::MAX - 1_000_000_000), Instant::FAR] {
        let mut agent = Agent::new(start, Rng::from_u64(1), controlled());
        agent.add_local_candidate(start, Candidate::host(addr(LOCAL))).unwrap();
        agent.add_remote_candidate(start, Candidate::host(addr(PEER))).unwrap();
        agent.set_remote_credentials(start, second_credentials()).unwrap();
        let mut storage = Vec::new();
        for _ in 0..20 {
            agent.handle_timeout(start);
            while agent.poll_transmit(start, &mut gimlet_machine::Buf::new(&mut storage)).is_some() {}
            agent.network_changed(start);
            agent.restart(start);
        }
        assert!(agent.state() != State::Closed);
    }
}
