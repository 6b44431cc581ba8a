//! TCP candidates (RFC 6544): two agents whose connections are played by hand.

use core::net::SocketAddr;
use std::collections::{BTreeMap, VecDeque};

use gimlet_ice::{
    Agent, Candidate, CandidateError, Config, Event, PairError, PairState, Role, State, Streams, Transports,
};
use gimlet_machine::{
    Answer, Buf, CloseReason, FourTuple, Input, Instant, Machine, Path, Request, Rng, SocketId,
};
use gimlet_stun::{Message, is_stun};

const PASSIVE: &str = "192.0.2.2:2000";
const ACTIVE: &str = "192.0.2.1";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// An agent with its connections.
struct End {
    agent: Agent,
    streams: Streams,
    told: Vec<Event>,
    data: Vec<(Path, Vec<u8>)>,
}

/// Two ends, the network between them, and a moment.
struct Scene {
    ends: [End; 2],
    now: Instant,
    /// Where connections lead: the other end's name of each.
    leads: BTreeMap<(usize, SocketId), SocketId>,
    accepted: u64,
    /// Whether the passive end takes connections, and whether datagrams arrive.
    listens: bool,
    udp: bool,
    checks: Vec<(usize, Path)>,
}

fn config(role: Role) -> Config {
    Config { role, transports: Transports::UdpAndTcp, ..Config::default() }
}

impl Scene {
    /// The first end is active, the second passive; `roles` says who controls.
    fn new(roles: [Role; 2]) -> Self {
        let mut seed = 0;
        let mut ends = roles.map(|role| {
            seed += 1;
            let agent = Agent::new(Instant::ZERO, Rng::from_u64(seed), config(role));
            End { agent, streams: Streams::new(SocketId(0)), told: Vec::new(), data: Vec::new() }
        });
        let now = Instant::ZERO;
        ends[0].agent.add_local_candidate(now, Candidate::tcp_active(ACTIVE.parse().unwrap())).unwrap();
        ends[1].agent.add_local_candidate(now, Candidate::tcp_passive(addr(PASSIVE))).unwrap();
        let (leads, checks) = (BTreeMap::new(), Vec::new());
        Self { ends, now, leads, accepted: 1_000, listens: true, udp: true, checks }
    }

    /// Each learns the other's lines and credentials.
    fn introduce(&mut self) {
        for side in 0..2 {
            let other = &self.ends[1 - side].agent;
            let lines: Vec<String> = other.local_candidates().map(ToString::to_string).collect();
            let credentials = other.local_credentials().clone();
            for line in lines {
                self.ends[side].agent.add_remote_line(self.now, &line).unwrap();
            }
            self.ends[side].agent.set_remote_credentials(self.now, credentials).unwrap();
        }
    }

    fn run(&mut self, ms: u64) {
        let end = Instant::from_nanos(self.now.as_nanos() + ms * 1_000_000);
        loop {
            while (0..2).any(|side| self.drain(side)) {}
            let due = self.ends.iter().filter_map(|end| end.agent.poll_timeout()).map(|due| due.at).min();
            let Some(at) = due.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            for end in &mut self.ends {
                end.agent.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    fn drain(&mut self, side: usize) -> bool {
        let mut storage = Vec::new();
        let mut busy = false;
        while let Some(sent) = self.ends[side].agent.poll_transmit(self.now, &mut Buf::new(&mut storage)) {
            busy = true;
            if Message::parse(&storage).is_ok_and(|it| it.class() == gimlet_stun::Class::Request) {
                self.checks.push((side, sent.path));
            }
            if Streams::carries(&sent.path) {
                assert!(self.ends[side].streams.send(&sent.path, &storage));
            } else if self.udp {
                let path = Path::Direct(sent.path.on_wire().flipped());
                self.ends[1 - side].agent.handle_input(self.now, Input::new(path, &mut storage));
            }
        }
        while let Some(request) = self.ends[side].streams.poll_request() {
            busy = true;
            self.carry_out(side, request);
        }
        while let Some(event) = self.ends[side].agent.poll_event() {
            self.ends[side].told.push(event);
        }
        busy
    }

    fn carry_out(&mut self, side: usize, request: Request) {
        match request {
            Request::Connect { id, local, remote } if self.listens && remote == addr(PASSIVE) => {
                let flow = FourTuple::new(SocketAddr::new(local, 40_000 + id.0 as u16), remote);
                let theirs = SocketId(self.accepted);
                self.accepted += 1;
                assert!(self.ends[1 - side].streams.accept(theirs, flow.flipped()));
                self.leads.insert((side, id), theirs);
                self.leads.insert((1 - side, theirs), id);
                self.answer(side, Answer::Connected { id, flow });
            }
            Request::Connect { id, .. } => {
                self.answer(side, Answer::Closed { id, why: CloseReason::Refused });
            }
            Request::Write { id, bytes } => {
                let Some(theirs) = self.leads.get(&(side, id)).copied() else { return };
                self.answer(side, Answer::Written { id, len: bytes.len() });
                // The network cuts where it likes.
                for piece in bytes.chunks(7) {
                    self.answer(1 - side, Answer::Received { id: theirs, bytes: piece });
                }
            }
            Request::Close { id } => self.break_off(side, id),
            Request::Bind { .. } => unreachable!("streams bind nothing"),
        }
    }

    fn break_off(&mut self, side: usize, id: SocketId) {
        if let Some(theirs) = self.leads.remove(&(side, id)) {
            self.leads.remove(&(1 - side, theirs));
            for (side, id) in [(side, id), (1 - side, theirs)] {
                self.answer(side, Answer::Closed { id, why: CloseReason::Reset });
            }
        }
    }

    fn answer(&mut self, side: usize, answer: Answer<'_>) {
        let mut heard = VecDeque::new();
        let End { agent, streams, data, .. } = &mut self.ends[side];
        streams.handle_answer(answer, |path, bytes| heard.push_back((path, bytes.to_vec())));
        for (path, mut bytes) in heard {
            if is_stun(&bytes) {
                agent.handle_input(self.now, Input::new(path, &mut bytes));
            } else {
                data.push((path, bytes));
            }
        }
        while let Some(path) = streams.poll_lost() {
            agent.connection_lost(self.now, &path);
        }
    }

    fn states(&self) -> [State; 2] {
        self.ends.each_ref().map(|end| end.agent.state())
    }
}

const ROLES: [[Role; 2]; 2] = [[Role::Controlling, Role::Controlled], [Role::Controlled, Role::Controlling]];

#[test]
fn an_active_candidate_meets_a_passive_one_and_data_takes_the_connection() {
    for roles in ROLES {
        let mut scene = Scene::new(roles);
        scene.introduce();
        scene.run(1_000);
        assert_eq!(scene.states(), [State::Completed; 2], "{roles:?}");
        let paths = scene.ends.each_ref().map(|end| end.agent.selected_path().unwrap());
        assert!(paths.iter().all(Streams::carries), "{paths:?}");
        assert_eq!(scene.leads.len(), 2, "one connection, with a name at each end");
        for (end, path) in scene.ends.iter_mut().zip(&paths) {
            assert!(end.streams.send(path, b"data"));
        }
        scene.run(1);
        for (end, path) in scene.ends.iter().zip(paths) {
            assert_eq!(end.data, [(path, b"data".to_vec())]);
        }
        // Consent keeps it, for as long as it is asked.
        scene.run(120_000);
        assert_eq!(scene.states(), [State::Completed; 2], "{roles:?}");
        let asked = scene.ends[0].agent.counters();
        assert!(asked.consent_requests > 20 && asked.retransmissions == 0, "{asked:?}");
    }
}

#[test]
fn lines_say_what_rfc_6544_asks_for() {
    let scene = Scene::new(ROLES[0]);
    let line = |side: usize| scene.ends[side].agent.local_candidates().next().unwrap().to_string();
    // RFC 6544 §4.2: 2¹³ times 6 or 4, and 13 bits of ones.
    let priority = |direction: u32| 126 << 24 | (direction << 13 | 0x1fff) << 8 | 255;
    let active = format!(" 1 TCP {} 192.0.2.1 9 typ host tcptype active", priority(6));
    let passive = format!(" 1 TCP {} 192.0.2.2 2000 typ host tcptype passive", priority(4));
    assert!(line(0).ends_with(&active) && line(1).ends_with(&passive), "{} {}", line(0), line(1));
}

#[test]
fn a_passive_candidate_waits_and_active_ones_do_not_pair_with_each_other() {
    let mut scene = Scene::new(ROLES[0]);
    scene.listens = false;
    let more = Candidate::tcp_active("192.0.2.2".parse().unwrap());
    scene.ends[1].agent.add_local_candidate(scene.now, more).unwrap();
    scene.introduce();
    scene.run(1_000);
    assert_eq!(scene.ends[1].agent.pairs().count(), 0);
    assert_eq!(scene.ends[0].agent.pairs().count(), 1, "active to passive");
    assert!(scene.checks.iter().all(|(side, _)| *side == 0));
}

#[test]
fn a_refused_connection_fails_its_pair_at_once_and_a_check_is_never_repeated_through_one() {
    let mut scene = Scene::new(ROLES[0]);
    scene.listens = false;
    scene.introduce();
    scene.run(100);
    let report = |scene: &Scene| {
        let mut pairs = scene.ends[0].agent.pairs();
        pairs.next().map(|pair| (pair.state, pair.error, pair.checks)).unwrap()
    };
    assert_eq!(report(&scene), (PairState::Failed, Some(PairError::NoConnection), 1));
    // Where it is swallowed, one send has to do, and its silence decides (RFC 8489 §6.2.2).
    let mut scene = Scene::new(ROLES[0]);
    scene.introduce();
    let passive = std::mem::replace(
        &mut scene.ends[1].agent,
        Agent::new(scene.now, Rng::from_u64(9), config(Role::Controlled)),
    );
    assert_eq!(passive.state(), State::Checking);
    scene.run(39_000);
    assert_eq!(report(&scene), (PairState::InProgress, None, 1));
    scene.run(1_000);
    assert_eq!(report(&scene), (PairState::Failed, Some(PairError::NoAnswer), 1));
}

#[test]
fn a_connection_that_breaks_off_ends_the_path_at_both_ends_and_a_new_one_is_found() {
    let mut scene = Scene::new(ROLES[0]);
    scene.introduce();
    scene.run(1_000);
    let first = scene.ends[1].agent.selected_path();
    let (side, id) = *scene.leads.keys().next().unwrap();
    scene.break_off(side, id);
    assert_eq!(scene.ends.each_ref().map(|end| end.agent.selected_path()), [None, None]);
    scene.run(10_000);
    assert_eq!(scene.states(), [State::Completed; 2]);
    assert_ne!(scene.ends[1].agent.selected_path(), first, "it came from another port");
}

#[test]
fn where_datagrams_arrive_they_are_preferred() {
    let mut scene = Scene::new(ROLES[0]);
    for (side, socket) in ["192.0.2.1:1000", PASSIVE].into_iter().enumerate() {
        // The passive end has one port for both.
        scene.ends[side].agent.add_local_candidate(scene.now, Candidate::host(addr(socket))).unwrap();
    }
    scene.introduce();
    scene.run(1_000);
    let direct = Path::Direct(FourTuple::new(addr("192.0.2.1:1000"), addr(PASSIVE)));
    assert_eq!(scene.ends[0].agent.selected_path(), Some(direct));
    assert_eq!(scene.states(), [State::Completed; 2]);

    let mut scene = Scene::new(ROLES[0]);
    scene.udp = false;
    for (side, socket) in ["192.0.2.1:1000", PASSIVE].into_iter().enumerate() {
        scene.ends[side].agent.add_local_candidate(scene.now, Candidate::host(addr(socket))).unwrap();
    }
    scene.introduce();
    scene.run(2_000);
    assert!(scene.ends[0].agent.selected_path().is_some_and(|path| Streams::carries(&path)));
}

#[test]
fn without_the_owners_word_tcp_is_refused_and_simultaneous_open_always() {
    let mut agent = Agent::new(Instant::ZERO, Rng::from_u64(1), Config::default());
    let line = "candidate:1 1 TCP 1000 192.0.2.9 9 typ host tcptype active";
    let refused = Err(CandidateError::UnsupportedTransport);
    assert_eq!(agent.add_remote_line(Instant::ZERO, line), refused);
    let passive = Candidate::tcp_passive(addr(PASSIVE));
    assert_eq!(agent.add_local_candidate(Instant::ZERO, passive), refused);
    let mut agent = Agent::new(Instant::ZERO, Rng::from_u64(1), config(Role::Controlling));
    assert_eq!(agent.add_remote_line(Instant::ZERO, line), Ok(()));
    let so = "candidate:1 1 TCP 1000 192.0.2.9 7 typ host tcptype so";
    assert_eq!(agent.add_remote_line(Instant::ZERO, so), refused);
}

#[test]
fn a_peer_that_names_our_relay_as_its_address_is_not_taken_for_a_connection() {
    let mut agent = Agent::new(Instant::ZERO, Rng::from_u64(1), config(Role::Controlling));
    let relay = FourTuple::new(addr("192.0.2.1:1000"), addr("198.51.100.1:3478"));
    agent
        .add_local_candidate(Instant::ZERO, Candidate::relayed(addr("198.51.100.1:50000"), relay, None))
        .unwrap();
    agent.add_remote_candidate(Instant::ZERO, Candidate::host(relay.remote)).unwrap();
    agent.add_remote_candidate(Instant::ZERO, Candidate::host(addr("192.0.2.9:9"))).unwrap();
    let paths: Vec<Path> = agent.pairs().map(|pair| pair.path).collect();
    assert_eq!(paths, [Path::Relayed { relay, peer: addr("192.0.2.9:9") }]);
}
