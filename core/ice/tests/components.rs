//! Several components of one stream: an agent each, and credentials in common (RFC 8445 §4).

#[path = "support/desk.rs"]
mod desk;

use desk::{Ask, Desk, addr, direct};
use gimlet_ice::{Agent, Candidate, Config, Credentials, CredentialsError, State};
use gimlet_machine::Verdict;

const SOCKETS: [&str; 2] = ["192.0.2.1:4000", "192.0.2.1:4001"];
const PEERS: [&str; 2] = ["198.51.100.1:5000", "198.51.100.1:5001"];

fn shared() -> Credentials {
    Credentials { ufrag: "ours".into(), pwd: "ourPasswordOfManyCharacters".into() }
}

/// The agents of components 1 and 2.
fn stream() -> [Desk; 2] {
    [0, 1].map(|nth| {
        let component = nth as u16 + 1;
        let config =
            Config { component, credentials: Some(shared()), tiebreaker: Some(7), ..Config::default() };
        let mut desk = Desk::with_seed(config, nth as u64);
        let now = desk.now;
        desk.agent.command(now, Agent::share_credentials);
        desk.local(Candidate::host(addr(SOCKETS[nth])).with_component(component));
        desk.remote(Candidate::host(addr(PEERS[nth])).with_component(component));
        desk.credentials();
        desk
    })
}

#[test]
fn a_check_belongs_to_the_component_on_whose_base_it_arrives() {
    let mut stream = stream();
    let request = stream[0].request(Ask::controlled());
    for nth in [0, 1] {
        let path = direct(SOCKETS[nth], PEERS[nth]);
        assert_eq!(stream[1 - nth].hear(path, &request), Verdict::NotMine);
        assert_eq!(stream[nth].hear(path, &request), Verdict::Consumed);
    }
    for desk in &stream {
        let counters = desk.inner().counters();
        assert_eq!((counters.requests_answered, counters.unknown_bases), (1, 0));
        assert_eq!(desk.inner().remote_candidates().count(), 1, "nothing was learned of the other component");
    }
}

#[test]
fn both_components_connect_and_neither_takes_an_answer_of_the_other() {
    let mut stream = stream();
    for nth in [0, 1] {
        let check = stream[nth].take_one();
        assert_eq!(check.path, direct(SOCKETS[nth], PEERS[nth]));
        assert_eq!(stream[1 - nth].answer(&check), Verdict::NotMine);
        assert_eq!(
            stream[1 - nth].inner().state(),
            if nth == 0 { State::Checking } else { State::Completed }
        );
        stream[nth].answer(&check);
        stream[nth].wait(200);
        if let Some(nomination) = stream[nth].take_checks().pop() {
            stream[nth].answer(&nomination);
        }
        assert_eq!(stream[nth].inner().state(), State::Completed);
    }
}

#[test]
fn a_forged_check_on_the_other_component_costs_nothing() {
    let mut stream = stream();
    let unsigned = stream[0].request(Ask { signed: desk::Signed::Not, ..Ask::controlled() });
    assert_eq!(stream[0].hear(direct(SOCKETS[1], PEERS[1]), &unsigned), Verdict::NotMine);
    assert_eq!(stream[0].inner().counters().requests_unsigned, 0);
}

#[test]
fn an_agent_that_shares_nothing_still_remembers_requests_on_sockets_that_it_will_offer() {
    let config = Config { credentials: Some(shared()), ..Config::default() };
    let mut desk = Desk::new(config);
    desk.credentials();
    let request = desk.request(Ask::controlled());
    assert_eq!(desk.hear(direct(SOCKETS[0], PEERS[0]), &request), Verdict::Consumed);
    desk.local(Candidate::host(addr(SOCKETS[0])));
    assert_eq!(desk.inner().pairs().count(), 1);
}

#[test]
fn the_components_restart_together() {
    let mut stream = stream();
    let now = stream[0].now;
    let fresh = stream[0].agent.command(now, |agent| agent.restart(now));
    let taken = stream[1].agent.command(now, |agent| agent.restart_as(now, fresh.clone()));
    assert_eq!((taken, stream[1].inner().local_credentials()), (Ok(()), &fresh));
    let request = stream[0].request(Ask::controlled());
    let path = direct(SOCKETS[1], PEERS[1]);
    assert_eq!(stream[0].hear(path, &request), Verdict::NotMine, "they still share");
    assert_eq!(stream[1].hear(path, &request), Verdict::Consumed);

    let short = Credentials { pwd: "short".into(), ..shared() };
    let refused = stream[1].agent.command(now, |agent| agent.restart_as(now, short));
    assert_eq!((refused, stream[1].inner().generation()), (Err(CredentialsError::Password), 1));
}
