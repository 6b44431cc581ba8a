//! Floods, garbage and random owners: cases 50 and 51, and the laws under random operation.

#[path = "support/desk.rs"]
mod desk;

use desk::{Ask, Desk, Signed, addr, direct};
use gimlet_ice::{Agent, Candidate, Config, Credentials, Event, Limits, PairState, Role, State};
use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Path, Rng, Verdict};
use gimlet_stun::Class;
use gimlet_testkit::Checked;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const LOCAL: &str = "192.0.2.1:1000";
const PEER: &str = "198.51.100.1:2000";

fn controlled() -> Config {
    Config { role: Role::Controlled, ..Config::default() }
}

fn source(number: u32) -> Path {
    let ip = IpAddr::V4(Ipv4Addr::from(0x0600_0000 + number / 1_000));
    let remote = SocketAddr::new(ip, 1_000 + (number % 1_000) as u16);
    Path::Direct(FourTuple::new(addr(LOCAL), remote))
}

#[test]
fn case_50_a_flood_of_signed_requests_is_answered_paced_and_bounded() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    let check = desk.take_one();
    desk.answer(&check);
    for number in 0..100_000 {
        let request = desk.request(Ask::controlling());
        desk.hear(source(number % 10_000), &request);
        if number % 10 == 9 {
            desk.wait(1);
        }
        if number % 1_000 == 999 {
            let checks = desk.take_checks();
            assert!(checks.windows(2).all(|pair| pair[1].at.since(pair[0].at) >= Duration::from_millis(5)));
            assert!(checks.len() <= 21, "{} checks in 100 ms", checks.len());
        }
    }
    assert_eq!(desk.inner().counters().requests_answered, 100_000);
    assert_eq!(desk.inner().remote_candidates().count(), 1 + 16);
    assert!(desk.inner().pairs().count() <= 17);
    // What worked before still does.
    assert_eq!(desk.state_of(LOCAL, PEER), PairState::Succeeded);
    desk.asked(direct(LOCAL, PEER), Ask::nominating());
    assert_eq!(desk.inner().selected_path(), Some(direct(LOCAL, PEER)));
}

#[test]
fn case_50_after_selection_a_flood_changes_nothing_that_matters_either() {
    for config in [controlled(), Config::default(), Config { renomination: true, ..Config::default() }] {
        let role = config.role;
        let mut desk = Desk::with_pair(config, LOCAL, PEER);
        let check = desk.take_one();
        desk.answer(&check);
        desk.wait(5);
        let ask = match role {
            Role::Controlling => {
                let nomination = desk.take_one();
                desk.answer(&nomination);
                Ask::controlled()
            }
            Role::Controlled => {
                desk.asked(direct(LOCAL, PEER), Ask::nominating());
                Ask::controlling()
            }
        };
        let selected = desk.inner().selected_path();
        let (start, mut checks) = (desk.now, 0);
        for number in 0..100_000 {
            let request = desk.request(ask);
            desk.hear(source(number % 10_000), &request);
            if number % 10 == 9 {
                desk.wait(1);
                for check in desk.take_checks() {
                    checks += 1;
                    if check.path == direct(LOCAL, PEER) {
                        desk.answer(&check);
                    }
                }
            }
        }
        assert_eq!(desk.inner().selected_path(), selected);
        assert_eq!(desk.inner().state(), State::Completed);
        assert_eq!(desk.inner().remote_candidates().count(), 1 + 16);
        assert!(desk.inner().pairs().count() <= 17);
        let slots = desk.now.since(start).as_millis() / 5 + 1;
        assert!(checks <= slots, "{checks} checks in {slots} slots");
    }
}

#[test]
fn a_learned_candidate_that_works_is_never_evicted() {
    let mut desk = Desk::new(controlled());
    desk.local(Candidate::host(addr(LOCAL)));
    desk.credentials();
    desk.asked(source(0), Ask::controlling());
    let check = desk.take_one();
    desk.answer_seeing(&check, addr(LOCAL));
    for number in 1..100 {
        desk.asked(source(number), Ask::controlling());
    }
    assert!(desk.inner().valid_paths().any(|path| path == source(0)));
    assert_eq!(desk.inner().counters().peer_reflexive_dropped, 84);
}

#[test]
fn with_only_working_learned_candidates_a_new_one_is_answered_and_not_learned() {
    let limits = Limits { peer_reflexive_max: 1, ..Limits::default() };
    let mut desk = Desk::new(Config { limits, ..controlled() });
    desk.local(Candidate::host(addr(LOCAL)));
    desk.credentials();
    desk.asked(source(0), Ask::controlling());
    let check = desk.take_one();
    desk.answer_seeing(&check, addr(LOCAL));
    assert!(desk.asked(source(1), Ask::controlling()).is(Class::Success));
    assert_eq!(desk.inner().remote_candidates().count(), 1);
}

#[test]
fn requests_beyond_the_waiting_answers_are_dropped_and_counted() {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    for _ in 0..100 {
        let mut request = desk.request(Ask::controlling());
        // The driver does not drain.
        desk.agent.handle_input(desk.now, Input::new(direct(LOCAL, PEER), &mut request));
    }
    desk.take_said();
    desk.drain();
    let answers = desk.take_said().into_iter().filter(|said| said.is(Class::Success)).count();
    assert_eq!((answers, desk.inner().counters().answers_withheld), (32, 68));
}

#[test]
fn events_that_nobody_takes_are_bounded_and_the_last_state_survives() {
    let limits = Limits { events_max: 4, ..Limits::default() };
    let mut desk = Desk::new(Config { limits, ..controlled() });
    let now = Instant::ZERO;
    desk.agent.command(now, |agent| {
        agent.add_local_candidate(now, Candidate::host(addr(LOCAL))).unwrap();
        agent.set_remote_credentials(now, desk::peer_credentials()).unwrap();
    });
    for number in 0..50 {
        let mut request = desk.request(Ask::controlling());
        desk.agent.handle_input(now, Input::new(source(number), &mut request));
    }
    desk.agent.command(now, |agent| agent.close(now));
    let told: Vec<_> = std::iter::from_fn(|| desk.agent.poll_event()).collect();
    assert_eq!(told.len(), 4);
    assert_eq!(told.last(), Some(&Event::StateChanged(State::Closed)));
    assert!(desk.inner().counters().events_dropped > 0);
}

#[test]
fn a_peer_with_absurd_priorities_overflows_nothing() {
    for priority in [0, 1, u32::MAX] {
        for config in [controlled(), Config::default()] {
            let mut desk = Desk::with_pair(config.clone(), LOCAL, PEER);
            let ask = match config.role {
                Role::Controlled => Ask::controlling(),
                Role::Controlling => Ask::controlled(),
            };
            assert!(desk.asked(source(1), Ask { priority: Some(priority), ..ask }).is(Class::Success));
            desk.wait(100);
        }
    }
}

/// A message that an agent sent or a peer would send, to be mutated.
fn specimens() -> Vec<Vec<u8>> {
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    let check = desk.take_one();
    let mut specimens = vec![check.bytes.clone(), desk::success(&check, addr(LOCAL), desk::PEER_PWD)];
    for ask in [
        Ask::controlling(),
        Ask::nominating(),
        Ask { signed: Signed::Not, ..Ask::controlling() },
        Ask { unknown: Some(0x7fff), ..Ask::controlled() },
    ] {
        specimens.push(desk.request(ask));
    }
    specimens
}

#[test]
fn case_51_random_and_mutated_datagrams_change_nothing_but_counters() {
    let mut rng = Rng::from_u64(51);
    let specimens = specimens();
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    desk.take_said();
    for round in 0..1_000_000_u64 {
        let mut bytes = if round % 2 == 0 {
            let mut bytes = vec![0; (round / 2 % 1501) as usize];
            rng.fill(&mut bytes);
            bytes
        } else {
            let mut bytes = specimens[rng.below(specimens.len() as u64) as usize].clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
            if rng.chance(200_000) {
                bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
            }
            bytes
        };
        desk.agent.handle_input(desk.now, Input::new(direct(LOCAL, PEER), &mut bytes));
    }
    desk.drain();
    // Two flips may cancel out; an intact request gets its answer and no more.
    assert!(desk.take_checks().len() <= 1);
    assert_eq!(desk.inner().remote_candidates().count(), 1);
    assert_eq!(desk.inner().role(), Role::Controlled);
    assert!(desk.inner().counters().malformed > 10_000);
}

#[test]
fn case_66_what_is_not_ours_leaves_the_bytes_and_the_deadline_alone() {
    let mut rng = Rng::from_u64(66);
    let mut desk = Desk::with_pair(controlled(), LOCAL, PEER);
    for len in 0..200 {
        let mut bytes = vec![0; len];
        rng.fill(&mut bytes);
        // `Checked` asserts the rest.
        let verdict = desk.agent.handle_input(desk.now, Input::new(direct(LOCAL, PEER), &mut bytes));
        assert_eq!(verdict, Verdict::NotMine);
    }
}

/// What an owner or a network may do to two agents.
#[derive(Clone, Debug)]
enum Act {
    AddLocal { side: usize, host: u8, preference: u16 },
    AddReflexive { side: usize, host: u8 },
    Signal { from: usize },
    Credentials { from: usize },
    End { side: usize },
    Wait { ms: u32 },
    Deliver { keep: bool, twice: bool, elsewhere: bool },
    Poke { side: usize },
    RemoveLocal { side: usize, host: u8 },
    RemoveRemote { side: usize, host: u8 },
    NetworkChanged { side: usize },
    ReportSilence { side: usize },
    Restart { side: usize },
    PeerIsLite { side: usize },
    Close { side: usize },
}

fn act() -> impl Strategy<Value = Act> {
    let side = 0..2_usize;
    prop_oneof![
        4 => (side.clone(), 0..6_u8, any::<u16>())
            .prop_map(|(side, host, preference)| Act::AddLocal { side, host, preference }),
        2 => (side.clone(), 0..6_u8).prop_map(|(side, host)| Act::AddReflexive { side, host }),
        4 => side.clone().prop_map(|from| Act::Signal { from }),
        4 => side.clone().prop_map(|from| Act::Credentials { from }),
        1 => side.clone().prop_map(|side| Act::End { side }),
        6 => (0..2_000_u32).prop_map(|ms| Act::Wait { ms }),
        1 => (0..60_000_u32).prop_map(|ms| Act::Wait { ms }),
        20 => (prop::bool::weighted(0.8), prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(keep, twice, elsewhere)| Act::Deliver { keep, twice, elsewhere }),
        2 => side.clone().prop_map(|side| Act::Poke { side }),
        2 => (side.clone(), 0..6_u8).prop_map(|(side, host)| Act::RemoveLocal { side, host }),
        2 => (side.clone(), 0..6_u8).prop_map(|(side, host)| Act::RemoveRemote { side, host }),
        1 => side.clone().prop_map(|side| Act::NetworkChanged { side }),
        1 => side.clone().prop_map(|side| Act::ReportSilence { side }),
        2 => side.clone().prop_map(|side| Act::Restart { side }),
        1 => side.clone().prop_map(|side| Act::PeerIsLite { side }),
        1 => side.prop_map(|side| Act::Close { side }),
    ]
}

/// Two agents and the datagrams between them, in the hands of chance.
struct Play {
    agents: [Checked<Agent>; 2],
    now: Instant,
    flying: std::collections::VecDeque<(usize, FourTuple, Vec<u8>)>,
    /// When each side last sent a check.
    checked: [Option<Instant>; 2],
    states: [State; 2],
    lite: [bool; 2],
}

impl Play {
    fn new(roles: [Role; 2], lite: [bool; 2], renomination: bool) -> Self {
        let limits = Limits { pairs_max: 12, checks_max: 8, peer_reflexive_max: 3, ..Limits::default() };
        let agents = [0, 1].map(|side| {
            let (role, lite) = (roles[side], lite[side]);
            let config = Config { role, lite, renomination, limits, ..Config::default() };
            Checked::new(Agent::new(Instant::ZERO, Rng::from_u64(side as u64), config))
        });
        let flying = std::collections::VecDeque::new();
        Self { agents, now: Instant::ZERO, flying, checked: [None; 2], states: [State::New; 2], lite }
    }

    fn address(side: usize, host: u8) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2 + side as u8, host / 2)), 1_000 + u16::from(host))
    }

    fn apply(&mut self, act: &Act) {
        let now = self.now;
        match *act {
            Act::AddLocal { side, host, preference } => {
                let candidate = Candidate::host(Self::address(side, host)).with_local_preference(preference);
                let _ = self.agents[side].command(now, |agent| agent.add_local_candidate(now, candidate));
            }
            Act::AddReflexive { side, host } => {
                let base = Self::address(side, host);
                let mapped = SocketAddr::new(base.ip(), 50_000 + u16::from(host));
                let candidate = Candidate::server_reflexive(mapped, base, None);
                let _ = self.agents[side].command(now, |agent| agent.add_local_candidate(now, candidate));
            }
            Act::Signal { from } => {
                let lines: Vec<_> = self.agents[from].inner().local_candidates().cloned().collect();
                for candidate in lines {
                    let line: Candidate = candidate.to_string().parse().unwrap();
                    let _ = self.agents[1 - from].command(now, |agent| agent.add_remote_candidate(now, line));
                }
            }
            Act::Credentials { from } => {
                let credentials: Credentials = self.agents[from].inner().local_credentials().clone();
                let _ = self.agents[1 - from]
                    .command(now, |agent| agent.set_remote_credentials(now, credentials));
            }
            Act::End { side } => {
                self.agents[side].command(now, |agent| agent.end_of_local_candidates(now));
                self.agents[1 - side].command(now, |agent| agent.end_of_remote_candidates(now));
            }
            Act::Wait { ms } => self.wait(Duration::from_millis(ms.into())),
            Act::Deliver { keep, twice, elsewhere } => self.deliver(keep, twice, elsewhere),
            Act::Poke { side } => self.agents[side].handle_timeout(now),
            Act::RemoveLocal { side, host } => {
                let address = Self::address(side, host);
                self.agents[side].command(now, |agent| agent.remove_local_candidate(now, address));
            }
            Act::RemoveRemote { side, host } => {
                let address = Self::address(1 - side, host);
                self.agents[side].command(now, |agent| agent.remove_remote_candidate(now, address));
            }
            Act::NetworkChanged { side } => {
                self.agents[side].command(now, |agent| agent.network_changed(now));
            }
            Act::ReportSilence { side } => {
                self.agents[side].command(now, |agent| agent.report_silence(now));
            }
            Act::Restart { side } => {
                self.agents[side].command(now, |agent| agent.restart(now));
            }
            Act::PeerIsLite { side } => {
                let lite = self.lite[1 - side];
                self.agents[side].command(now, |agent| lite.then(|| agent.set_remote_lite(now)));
            }
            Act::Close { side } => self.agents[side].command(now, |agent| agent.close(now)),
        }
        self.drain();
        self.assert_invariants();
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deadlines = self.agents.iter().filter_map(Machine::poll_timeout).map(|deadline| deadline.at);
            let Some(next) = deadlines.min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            for agent in &mut self.agents {
                agent.handle_timeout(self.now);
            }
            self.drain();
        }
        self.now = end;
    }

    fn deliver(&mut self, keep: bool, twice: bool, elsewhere: bool) {
        let Some((to, mut tuple, bytes)) = self.flying.pop_front() else { return };
        if elsewhere {
            tuple.remote.set_port(tuple.remote.port() ^ 0x4000);
        }
        for _ in 0..u8::from(keep) + u8::from(keep && twice) {
            let input = &mut bytes.clone();
            self.agents[to].handle_input(self.now, Input::new(Path::Direct(tuple), input));
        }
    }

    fn drain(&mut self) {
        let mut storage = Vec::new();
        for side in 0..2 {
            while let Some(event) = self.agents[side].poll_event() {
                if let Event::StateChanged(state) = event {
                    self.states[side] = state;
                }
            }
            while let Some(transmit) = self.agents[side].poll_transmit(self.now, &mut Buf::new(&mut storage))
            {
                let message = gimlet_stun::Message::parse(&storage).expect("agents write STUN");
                if message.class() == Class::Request {
                    let before = self.checked[side].replace(self.now);
                    let paced = before.is_none_or(|before| self.now.since(before) >= gimlet_ice::TA_MIN);
                    assert!(paced, "a check per Ta");
                }
                self.flying.push_back((1 - side, transmit.path.on_wire().flipped(), storage.clone()));
            }
            while let Some(event) = self.agents[side].poll_event() {
                if let Event::StateChanged(state) = event {
                    self.states[side] = state;
                }
            }
        }
        while self.flying.len() > 200 {
            self.flying.pop_front();
        }
    }

    fn assert_invariants(&self) {
        for (side, agent) in self.agents.iter().enumerate() {
            let agent = agent.inner();
            assert_eq!(agent.state(), self.states[side], "events tell every change");
            assert!(agent.pairs().count() <= 12);
            // After a restart the path of before is still in use.
            let selected = agent.selected_path().is_some();
            assert!(selected || agent.state() != State::Completed);
            let standing = matches!(agent.state(), State::Connected | State::Completed | State::Closed);
            assert!(!selected || standing, "{}", agent.state());
            if matches!(agent.state(), State::Connected | State::Completed) {
                assert!(agent.valid_paths().next().is_some());
            }
            if agent.state() == State::Checking {
                assert!(agent.valid_paths().next().is_none());
            }
        }
    }
}

#[test]
fn the_random_play_can_reach_the_end_that_it_is_about() {
    // A canary: if no play could connect, the invariants below would say little.
    let mut play = Play::new([Role::Controlling; 2], [false; 2], false);
    for side in 0..2 {
        play.apply(&Act::AddLocal { side, host: 1, preference: 7 });
        play.apply(&Act::Credentials { from: side });
        play.apply(&Act::Signal { from: side });
    }
    for _ in 0..50 {
        play.apply(&Act::Deliver { keep: true, twice: true, elsewhere: false });
        play.apply(&Act::Wait { ms: 5 });
    }
    assert_eq!(play.states, [State::Completed; 2]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_owners_and_networks_do_the_laws_and_the_invariants_hold(
        acts in prop::collection::vec(act(), 1..120),
        roles in prop_oneof![
            Just([Role::Controlling, Role::Controlled]),
            Just([Role::Controlling, Role::Controlling]),
            Just([Role::Controlled, Role::Controlled]),
        ],
        lite in prop_oneof![6 => Just([false; 2]), 1 => Just([false, true]), 1 => Just([true; 2])],
        renomination in any::<bool>(),
    ) {
        let mut play = Play::new(roles, lite, renomination);
        for act in &acts {
            play.apply(act);
        }
        play.wait(Duration::from_secs(100));
    }
}
