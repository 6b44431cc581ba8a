//! mDNS candidates: ours hide behind names, and the owner resolves the peer's.

#[path = "support/desk.rs"]
mod desk;

use desk::{Ask, Desk, addr, direct};
use gimlet_ice::{
    Candidate, CandidateError, CandidateKind, Config, Event, Limits, MDNS_QUERIES_MAX, MDNS_TIMEOUT,
    MdnsName, MdnsQuery, Role, State,
};
use gimlet_machine::FourTuple;
use proptest::prelude::*;
use std::net::IpAddr;

const LOCAL: &str = "192.168.1.2:1000";
const PEER: &str = "192.168.1.3:2000";
const NAME: &str = "1f4712db-d17f-4a8b-9d1c-a2b0bb6ad3a8.local";

fn line(name: &str, port: u16) -> String {
    format!("candidate:f 1 UDP 2130706431 {name} {port} typ host")
}

fn hear_line(desk: &mut Desk, line: &str) -> Result<(), CandidateError> {
    let now = desk.now;
    let taken = desk.agent.command(now, |agent| agent.add_remote_line(now, line));
    desk.drain();
    taken
}

fn resolve(desk: &mut Desk, query: MdnsQuery, address: Option<&str>) {
    let now = desk.now;
    let address: Option<IpAddr> = address.map(|address| address.parse().unwrap());
    desk.agent.command(now, |agent| agent.name_resolved(now, query, address));
    desk.drain();
}

/// The questions asked since the last time.
fn take_queries(desk: &mut Desk) -> Vec<(MdnsQuery, String)> {
    let asked = desk.take_told().into_iter().filter_map(|event| match event {
        Event::ResolveName { query, name } => Some((query, name.to_string())),
        _ => None,
    });
    asked.collect()
}

fn take_published(desk: &mut Desk) -> Vec<(MdnsName, IpAddr)> {
    let published = desk.take_told().into_iter().filter_map(|event| match event {
        Event::PublishName { name, address } => Some((name, address)),
        _ => None,
    });
    published.collect()
}

fn lines(desk: &Desk) -> Vec<String> {
    desk.inner().local_candidates().map(ToString::to_string).collect()
}

/// With a local candidate and the peer's credentials.
fn ready() -> Desk {
    let mut desk = Desk::new(Config::default());
    desk.local(Candidate::host(addr(LOCAL)));
    desk.credentials();
    desk
}

#[test]
fn a_hidden_candidate_shows_a_name_that_the_owner_is_to_publish() {
    let mut desk = Desk::new(Config::default());
    desk.local(Candidate::host(addr(LOCAL)).hidden());
    let published = take_published(&mut desk);
    let [(name, address)] = published[..] else { panic!("{published:?}") };
    assert_eq!(address, addr(LOCAL).ip());
    let shown = &lines(&desk)[0];
    assert!(shown.ends_with(&format!(" 1 UDP 2130706431 {name} 1000 typ host")), "{shown}");
    let candidate = desk.inner().local_candidates().next().unwrap();
    assert_eq!((candidate.address, candidate.mdns_name()), (addr(LOCAL), Some(&name)), "the owner sees both");
}

#[test]
fn no_line_tells_what_a_hidden_candidate_hides() {
    let mut desk = Desk::new(Config::default());
    let [base, server, mapped, relayed] =
        [LOCAL, "203.0.113.9:3478", "203.0.113.1:7", "203.0.113.9:5000"].map(addr);
    // One reflexive candidate comes before the host's, one after it.
    desk.local(Candidate::server_reflexive(mapped, base, Some(server)));
    let plain = lines(&desk)[0].clone();
    desk.local(Candidate::host(base).hidden());
    desk.local(Candidate::server_reflexive(addr("203.0.113.1:8"), base, Some(server)));
    desk.local(Candidate::relayed(relayed, FourTuple::new(base, server), Some(base)));
    let shown = lines(&desk);
    assert!(plain.contains("192.168.1.2"), "{plain}");
    assert!(shown.iter().all(|line| !line.contains("192.168.1.2")), "{shown:?}");
    let unrelated = shown.iter().filter(|line| line.ends_with("raddr 0.0.0.0 rport 9")).count();
    assert_eq!((shown.len(), unrelated), (4, 3), "{shown:?}");
    // A foundation is a digest of the address, and private addresses can be tried one by one.
    let foundations: Vec<_> = desk.inner().local_candidates().map(|it| (it.kind, it.foundation)).collect();
    let bare = [
        Candidate::host(base),
        Candidate::server_reflexive(mapped, base, Some(server)),
        Candidate::relayed(relayed, FourTuple::new(base, server), Some(base)),
    ];
    for (kind, foundation) in &foundations {
        assert!(bare.iter().all(|bare| bare.foundation != *foundation), "{kind}");
    }
    let reflexive: Vec<_> =
        foundations.iter().filter(|(kind, _)| *kind == CandidateKind::ServerReflexive).collect();
    assert_eq!(reflexive[0], reflexive[1], "what shares its fate still says so");
}

#[test]
fn one_address_has_one_name_and_every_agent_draws_its_own() {
    let mut desk = Desk::new(Config::default());
    desk.local(Candidate::host(addr(LOCAL)).hidden());
    desk.local(Candidate::host(addr("192.168.1.2:1001")).hidden());
    desk.local(Candidate::host(addr("192.168.2.2:1000")).hidden());
    let published = take_published(&mut desk);
    assert_eq!(
        published.iter().map(|(_, ip)| ip.to_string()).collect::<Vec<_>>(),
        ["192.168.1.2", "192.168.2.2"]
    );
    assert_ne!(published[0].0, published[1].0);
    let mut other = Desk::with_seed(Config::default(), 2);
    other.local(Candidate::host(addr(LOCAL)).hidden());
    assert_ne!(take_published(&mut other)[0].0, published[0].0);
}

#[test]
fn the_owner_may_bring_its_own_name() {
    let mut desk = Desk::new(Config::default());
    let name: MdnsName = NAME.parse().unwrap();
    desk.local(Candidate::host(addr(LOCAL)).hidden_as(name));
    assert_eq!(take_published(&mut desk), [(name, addr(LOCAL).ip())]);
    assert!(lines(&desk)[0].contains(NAME));
}

#[test]
fn a_candidate_that_no_agent_has_named_shows_nothing() {
    let line = Candidate::host(addr(LOCAL)).hidden().to_string();
    assert!(line.contains(" 0.0.0.0 1000 ") && !line.contains("192.168"), "{line}");
}

#[test]
fn a_name_of_the_peer_is_asked_for_resolved_and_checked() {
    let mut desk = ready();
    hear_line(&mut desk, &line(NAME, 2000)).unwrap();
    let queries = take_queries(&mut desk);
    let [(query, name)] = &queries[..] else { panic!("{queries:?}") };
    assert_eq!(name, NAME);
    assert_eq!(desk.inner().unresolved_names().count(), 1);
    desk.wait(50);
    assert!(desk.take_said().is_empty(), "there is no address");
    resolve(&mut desk, *query, Some("192.168.1.3"));
    desk.wait(5);
    let check = desk.take_one();
    assert_eq!(check.path, direct(LOCAL, PEER));
    desk.answer(&check);
    assert_eq!(desk.inner().state(), State::Connected);
    // What the owner may show around is still the name.
    let shown: Vec<_> = desk.inner().remote_candidates().map(ToString::to_string).collect();
    assert_eq!(shown, [line(NAME, 2000)]);
    assert_eq!(desk.inner().unresolved_names().count(), 0);
}

#[test]
fn what_was_heard_from_the_same_address_before_becomes_the_named_candidate() {
    let mut desk = Desk::new(Config { role: Role::Controlled, ..Config::default() });
    desk.local(Candidate::host(addr(LOCAL)));
    desk.credentials();
    hear_line(&mut desk, &line(NAME, 2000)).unwrap();
    let (query, _) = take_queries(&mut desk)[0];
    desk.asked(direct(LOCAL, PEER), Ask::controlling());
    let kinds = |desk: &Desk| desk.inner().remote_candidates().map(|it| it.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&desk), [CandidateKind::PeerReflexive]);
    resolve(&mut desk, query, Some("192.168.1.3"));
    assert_eq!((kinds(&desk), desk.inner().pairs().count()), (vec![CandidateKind::Host], 1));
}

#[test]
fn an_agent_with_names_pending_does_not_fail_until_they_are_decided() {
    for answered in [true, false] {
        let mut desk = ready();
        desk.wait(40_000);
        hear_line(&mut desk, &line(NAME, 2000)).unwrap();
        let (query, _) = take_queries(&mut desk)[0];
        desk.end_of_candidates();
        desk.wait(1_000);
        assert_eq!(desk.inner().state(), State::Checking, "somebody may still be there");
        if answered {
            resolve(&mut desk, query, None);
        } else {
            desk.wait(MDNS_TIMEOUT.as_millis() as u64);
        }
        assert_eq!(desk.inner().state(), State::Failed);
        assert_eq!(desk.inner().counters().names_unresolved, 1);
    }
}

#[test]
fn a_name_that_is_resolved_after_the_end_of_candidates_still_counts() {
    let mut desk = ready();
    hear_line(&mut desk, &line(NAME, 2000)).unwrap();
    let (query, _) = take_queries(&mut desk)[0];
    desk.end_of_candidates();
    resolve(&mut desk, query, Some("192.168.1.3"));
    assert_eq!(desk.inner().remote_candidates().count(), 1);
    assert_eq!(hear_line(&mut desk, &line("other.local", 1)), Err(CandidateError::AfterEnd));
}

#[test]
fn late_and_repeated_answers_are_counted_and_change_nothing() {
    let mut desk = ready();
    hear_line(&mut desk, &line(NAME, 2000)).unwrap();
    let (query, _) = take_queries(&mut desk)[0];
    resolve(&mut desk, query, Some("192.168.1.3"));
    resolve(&mut desk, query, Some("192.168.1.4"));
    assert_eq!(desk.inner().remote_candidates().count(), 1);
    hear_line(&mut desk, &line("second.local", 2000)).unwrap();
    let (query, _) = take_queries(&mut desk)[0];
    desk.wait(MDNS_TIMEOUT.as_millis() as u64);
    resolve(&mut desk, query, Some("192.168.1.5"));
    hear_line(&mut desk, &line("third.local", 2000)).unwrap();
    let (query, _) = take_queries(&mut desk)[0];
    let now = desk.now;
    desk.agent.command(now, |agent| agent.restart(now));
    resolve(&mut desk, query, Some("192.168.1.6"));
    assert_eq!((desk.inner().remote_candidates().count(), desk.inner().counters().names_late), (0, 3));
}

#[test]
fn a_flood_of_names_asks_for_eight_at_once_and_for_a_bounded_number_in_all() {
    let limits = Limits { remote_candidates_max: 20, ..Limits::default() };
    let mut desk = Desk::new(Config { limits, ..Config::default() });
    desk.local(Candidate::host(addr(LOCAL)));
    desk.credentials();
    let mut asked = 0;
    for number in 0..1_000 {
        let taken = hear_line(&mut desk, &line(&format!("n{number}.local"), 2000));
        let queries = take_queries(&mut desk);
        assert_eq!(taken.is_ok(), queries.len() == 1);
        assert!(taken.is_ok() || taken == Err(CandidateError::TooManyNames));
        assert!(desk.inner().unresolved_names().count() <= MDNS_QUERIES_MAX);
        asked += queries.len();
        assert!(number >= 8 || asked == number + 1);
        if number % 10 == 9 {
            let waiting: Vec<_> = desk.inner().unresolved_names().collect();
            assert!(number > 30 || waiting.len() >= 4, "{number}");
            for (query, _) in waiting {
                resolve(&mut desk, query, None);
            }
        }
    }
    assert_eq!((asked, desk.inner().counters().names_refused), (20, 980));
}

#[test]
fn a_name_that_is_said_twice_is_asked_for_once() {
    let mut desk = ready();
    for _ in 0..3 {
        hear_line(&mut desk, &line(NAME, 2000)).unwrap();
    }
    let queries = take_queries(&mut desk);
    assert_eq!(queries.len(), 1);
    resolve(&mut desk, queries[0].0, Some("192.168.1.3"));
    for _ in 0..3 {
        hear_line(&mut desk, &line(&NAME.to_uppercase(), 2000)).unwrap();
    }
    assert!(take_queries(&mut desk).is_empty());
}

#[test]
fn a_name_that_leads_nowhere_useful_is_refused() {
    let mut desk = ready();
    for address in ["224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1", "::"] {
        hear_line(&mut desk, &line(NAME, 2000)).unwrap();
        let (query, _) = take_queries(&mut desk)[0];
        resolve(&mut desk, query, Some(address));
    }
    desk.wait(100);
    assert_eq!((desk.inner().remote_candidates().count(), desk.take_said().len()), (0, 0));
    assert_eq!(desk.inner().counters().names_refused, 5);
}

#[test]
fn lines_that_name_what_cannot_be_asked_for_are_refused_at_once() {
    let mut desk = ready();
    let named = |name: &str| CandidateError::UnresolvedName(name.into());
    for name in ["www.example.com", "a.b.local", "localhost", "-.local"] {
        assert_eq!(hear_line(&mut desk, &line(name, 2000)), Err(named(name)));
    }
    assert!(matches!(hear_line(&mut desk, &line(NAME, 0)), Err(CandidateError::Unusable(_))));
    let other = "candidate:f 2 UDP 9 a.local 1 typ host";
    assert_eq!(hear_line(&mut desk, other), Err(CandidateError::OtherComponent(2)));
    let tcp = "candidate:f 1 TCP 9 a.local 9 typ host tcptype active";
    assert_eq!(hear_line(&mut desk, tcp), Err(CandidateError::UnsupportedTransport));
    let stale = "candidate:f 1 UDP 9 a.local 1 typ host ufrag someoneElse";
    assert_eq!(hear_line(&mut desk, stale), Err(CandidateError::OtherGeneration));
    assert!(take_queries(&mut desk).is_empty());
    hear_line(&mut desk, "candidate:f 1 UDP 9 198.51.100.1 1 typ host").unwrap();
    assert_eq!(desk.inner().remote_candidates().count(), 1, "an address needs no question");
}

#[test]
fn names_of_another_generation_are_forgotten_when_the_credentials_arrive() {
    let mut desk = Desk::new(Config::default());
    let stale = "candidate:f 1 UDP 9 a.local 1 typ host ufrag someoneElse";
    let current = format!("candidate:f 1 UDP 9 b.local 1 typ host ufrag {}", desk::PEER_UFRAG);
    hear_line(&mut desk, stale).unwrap();
    hear_line(&mut desk, &current).unwrap();
    desk.credentials();
    let left: Vec<_> = desk.inner().unresolved_names().map(|(_, name)| name.to_string()).collect();
    assert_eq!(left, ["b.local"]);
}

#[test]
fn a_closed_agent_asks_nothing_and_takes_no_answer() {
    let mut desk = ready();
    hear_line(&mut desk, &line(NAME, 2000)).unwrap();
    let (query, _) = take_queries(&mut desk)[0];
    let now = desk.now;
    desk.agent.command(now, |agent| agent.close(now));
    resolve(&mut desk, query, Some("192.168.1.3"));
    assert_eq!(desk.inner().unresolved_names().count(), 0);
    assert_eq!(desk.inner().remote_candidates().count(), 0);
    assert_eq!(hear_line(&mut desk, &line(NAME, 2000)), Err(CandidateError::Closed));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Case 25 for names: what one agent shows, another one asks for and shows alike.
    #[test]
    fn case_25_a_named_line_round_trips_through_the_peer(
        label in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        port in 1_u16..,
        last in 1_u8..,
    ) {
        let mut ours = Desk::new(Config::default());
        let name: MdnsName = format!("{label}.local").parse().unwrap();
        let address = addr(&format!("10.0.0.{last}:{port}"));
        ours.local(Candidate::host(address).hidden_as(name));
        let shown = lines(&ours).remove(0);
        let mut theirs = ready();
        hear_line(&mut theirs, &shown).unwrap();
        let (query, asked) = take_queries(&mut theirs).remove(0);
        prop_assert_eq!(asked, name.to_string());
        resolve(&mut theirs, query, Some(&address.ip().to_string()));
        let known = theirs.inner().remote_candidates().next().unwrap();
        prop_assert_eq!(known.address, address);
        prop_assert_eq!(known.to_string(), shown);
    }

    /// Whatever the peer writes and the owner answers, limits hold and the laws do.
    #[test]
    fn random_names_and_answers_stay_within_limits(
        steps in prop::collection::vec((0_u8..6, 0_u8..24, any::<u8>()), 1..120),
    ) {
        let mut desk = ready();
        let mut queries = Vec::new();
        for (what, which, how) in steps {
            match what {
                0 | 1 => _ = hear_line(&mut desk, &line(&format!("n{which}.local"), 2000)),
                2 | 3 => {
                    if let Some((query, _)) = queries.get(usize::from(which)) {
                        let address = format!("10.0.{how}.{which}");
                        resolve(&mut desk, *query, (how % 3 != 0).then_some(address.as_str()));
                    }
                }
                4 => desk.wait(u64::from(how) * 20),
                _ => {
                    let now = desk.now;
                    if how < 16 {
                        desk.agent.command(now, |agent| agent.restart(now));
                        desk.credentials();
                    }
                }
            }
            queries.extend(take_queries(&mut desk));
            prop_assert!(desk.inner().unresolved_names().count() <= MDNS_QUERIES_MAX);
            prop_assert!(desk.inner().remote_candidates().count() <= 32);
        }
    }
}
