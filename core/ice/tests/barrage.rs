//! A hundred thousand forged, replayed, damaged and random datagrams at every stage of an agent's life.

#[path = "support/desk.rs"]
mod desk;

use desk::{Ask, Desk, NOMINATION, PEER_PWD, Said, addr, direct};
use gimlet_ice::{Candidate, Config, Profile, Role};
use gimlet_machine::{Counters as _, FourTuple, Path, Rng};
use gimlet_stun::{Class, Key, MessageWriter, Method, TransactionId};
use gimlet_testkit::{Barrage, Echo};
use std::net::SocketAddr;

const LOCAL: &str = "192.0.2.1:1000";
const PEER: &str = "198.51.100.1:2000";
const DATAGRAMS: u32 = 100_000;

/// Besides counters, only the ration of unsigned answers moves.
const RATION: &[&str] = &["budget"];

/// Somebody who has seen everything and knows neither password.
struct Forger {
    /// Our fragment and the peer's, as they stand in every check.
    ufrag: String,
    sender: String,
    /// A check of ours that awaits its answer.
    in_flight: Option<TransactionId>,
}

impl Forger {
    fn listening_to(desk: &Desk) -> Self {
        let mut checks = desk.said.iter().filter(|said| said.is(Class::Request));
        Self {
            ufrag: desk.inner().local_credentials().ufrag.clone(),
            sender: desk::PEER_UFRAG.to_owned(),
            in_flight: checks.next_back().map(|said| said.message().transaction_id()),
        }
    }

    fn forge(&self, rng: &mut Rng) -> (Path, Vec<u8>) {
        // From the peer's address, or from any other.
        let remote = match rng.below(2) {
            0 => addr(PEER),
            _ => SocketAddr::from(([203, 0, 113, rng.u32() as u8], rng.u32() as u16 | 1)),
        };
        let path = Path::Direct(FourTuple::new(addr(LOCAL), remote));
        let bytes = if rng.chance(600_000) { self.request(rng) } else { self.answer(rng) };
        (path, bytes)
    }

    fn request(&self, rng: &mut Rng) -> Vec<u8> {
        let mut out = Vec::new();
        let class = if rng.chance(50_000) { Class::Indication } else { Class::Request };
        let username = format!("{}:{}", self.ufrag, self.sender);
        let mut writer = MessageWriter::new(&mut out, class, Method::BINDING, TransactionId::random(rng))
            .username(username.as_bytes())
            .priority(rng.u32());
        writer = match rng.below(3) {
            0 => writer.ice_controlling(u64::MAX),
            1 => writer.ice_controlled(u64::MAX),
            _ => writer.ice_controlling(rng.u64()),
        };
        if rng.chance(500_000) {
            writer = writer.use_candidate().attribute(NOMINATION, &u32::MAX.to_be_bytes());
        }
        seal(rng, writer);
        out
    }

    fn answer(&self, rng: &mut Rng) -> Vec<u8> {
        let mut out = Vec::new();
        let id = self.in_flight.filter(|_| rng.chance(900_000));
        let id = id.unwrap_or_else(|| TransactionId::random(rng));
        let mapped = SocketAddr::from(([203, 0, 113, rng.u32() as u8], rng.u32() as u16));
        let any = 300 + rng.below(400) as u16;
        let writer = |out, class| MessageWriter::new(out, class, Method::BINDING, id);
        match rng.below(3) {
            0 => seal(rng, writer(&mut out, Class::Success).xor_mapped_address(mapped)),
            1 => seal(rng, writer(&mut out, Class::Error).error_code(487, "Role Conflict")),
            _ => seal(rng, writer(&mut out, Class::Error).error_code(any, "")),
        }
        out
    }
}

/// Signs with a made-up password, or not at all.
fn seal(rng: &mut Rng, writer: MessageWriter<'_>) {
    let key = Key::short_term(&rng.bytes::<24>());
    match rng.below(4) {
        0 => writer.fingerprint(),
        1 => writer.finish(),
        2 => writer.integrity_sha256(&key).fingerprint(),
        _ => writer.integrity(&key).fingerprint(),
    };
}

/// What stands between an agent and the barrage: what it has heard, at this very moment.
fn withstand(mut desk: Desk, genuine: &[(Path, Vec<u8>)]) -> Echo {
    let forger = Forger::listening_to(&desk);
    let ours: Vec<Said> = desk.take_said();
    let mut barrage = Barrage::new(51).forging(|rng| forger.forge(rng));
    for (path, bytes) in genuine {
        desk.hear(*path, bytes);
        barrage = barrage.recorded(*path, bytes);
    }
    for said in &ours {
        // Our own words, sent back.
        barrage = barrage.recorded(said.path, &said.bytes);
    }
    let counted = desk.inner().counters().total();
    let echo = barrage.assert_harmless(&mut desk.agent, desk.now, DATAGRAMS, RATION);
    let moved = desk.inner().counters().total() - counted;
    // Each is counted, or somebody else's.
    assert!(moved + echo.not_mine >= u64::from(DATAGRAMS), "{moved} and {}", echo.not_mine);
    assert_eq!(echo.growth, 0, "no answer is longer than what it answers");
    let counters = desk.inner().counters();
    assert!(forger.in_flight.is_none() || counters.answers_forged > 1_000, "{counters:?}");
    assert!(counters.requests_forged > 1_000 && counters.requests_unsigned > 1_000, "{counters:?}");
    assert!(counters.malformed > 1_000, "{counters:?}");
    echo
}

fn config(role: Role) -> Config {
    Config { role, ..Config::default() }
}

fn ask(role: Role) -> Ask {
    match role {
        Role::Controlling => Ask::controlled(),
        Role::Controlled => Ask::controlling(),
    }
}

#[test]
fn a_hundred_thousand_hostile_datagrams_do_nothing_to_an_agent_that_knows_nobody() {
    let mut desk = Desk::new(config(Role::Controlled));
    desk.local(Candidate::host(addr(LOCAL)));
    desk.remote(Candidate::host(addr(PEER)));
    let request = desk.request(Ask::controlling());
    let echo = withstand(desk, &[(direct(LOCAL, PEER), request)]);
    // The peer's own request, replayed, is answered; strangers hear ten errors.
    assert!(echo.answers > 10);
}

#[test]
fn a_hundred_thousand_hostile_datagrams_do_nothing_to_an_agent_that_checks() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut desk = Desk::with_pair(config(role), LOCAL, PEER);
        let request = desk.request(ask(role));
        withstand(desk, &[(direct(LOCAL, PEER), request)]);
    }
}

#[test]
fn a_hundred_thousand_hostile_datagrams_do_nothing_to_an_agent_that_has_selected() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut desk = Desk::with_pair(config(role), LOCAL, PEER);
        let (path, mut genuine) = (direct(LOCAL, PEER), Vec::new());
        let check = desk.take_one();
        genuine.push((path, desk::success(&check, addr(LOCAL), PEER_PWD)));
        desk.hear(path, &genuine[0].1);
        desk.wait(5);
        match role {
            Role::Controlling => {
                let nomination = desk.take_one();
                genuine.push((path, desk::success(&nomination, addr(LOCAL), PEER_PWD)));
            }
            Role::Controlled => genuine.push((path, desk.request(Ask::nominating()))),
        }
        desk.hear(path, &genuine[1].1);
        genuine.push((path, desk.request(ask(role))));
        assert_eq!(desk.inner().selected_path(), Some(path));
        // A request for consent is in flight.
        desk.wait(6_000);
        withstand(desk, &genuine);
    }
}

#[test]
fn a_hundred_thousand_hostile_datagrams_do_nothing_to_an_agent_that_punches() {
    let mut desk = Desk::with_pair(config(Role::Controlling), LOCAL, PEER);
    let profile = |dependent, outside: &str| Profile {
        dependent: Some(dependent),
        outside: vec![outside.parse().unwrap()],
        ..Profile::default()
    };
    // Forgers speak from this network too.
    let (ours, theirs) = (profile(false, "192.0.2.1"), profile(true, "203.0.113.2"));
    let now = desk.now;
    desk.agent.command(now, |agent| agent.vouch(now, addr("203.0.113.2:1").ip()));
    desk.agent.command(now, |agent| agent.punch(now, &ours, &theirs)).unwrap();
    desk.wait(2_000);
    assert!(desk.inner().counters().probes_sent > 200);
    // The forger answers the check, and finds the probes' paths by chance at most.
    desk.said.retain(|said| said.path == direct(LOCAL, PEER));
    let request = desk.request(ask(Role::Controlling));
    withstand(desk, &[(direct(LOCAL, PEER), request)]);
}

#[test]
fn a_hundred_thousand_hostile_datagrams_do_nothing_to_a_lite_agent() {
    let mut desk = Desk::new(Config { lite: true, ..config(Role::Controlled) });
    desk.local(Candidate::host(addr(LOCAL)));
    desk.credentials();
    let (path, request) = (direct(LOCAL, PEER), desk.request(Ask::nominating()));
    desk.hear(path, &request);
    assert_eq!(desk.inner().selected_path(), Some(path));
    withstand(desk, &[(path, request)]);
}
