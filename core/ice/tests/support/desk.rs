//! One agent, and a peer written by hand.
#![allow(dead_code, reason = "each test file uses a part")]

use gimlet_ice::{Agent, Candidate, Config, Credentials, Event, PairReport, PairState};
use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Path, Rng, Verdict};
use gimlet_stun::{Class, Key, Message, MessageWriter, Method, TransactionId};
use gimlet_testkit::Checked;
use std::net::SocketAddr;

/// The hand-written peer's credentials.
pub(crate) const PEER_UFRAG: &str = "peerUfrag";
pub(crate) const PEER_PWD: &str = "peerPasswordOfManyChars";
/// PRIORITY in the peer's checks.
pub(crate) const PEER_PRIORITY: u32 = 110 << 24 | 0xffff << 8 | 255;

/// The attribute of draft-thatcher-ice-renomination.
pub(crate) const NOMINATION: u16 = 0xC001;

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn direct(local: &str, remote: &str) -> Path {
    Path::Direct(FourTuple::new(addr(local), addr(remote)))
}

pub(crate) fn peer_credentials() -> Credentials {
    Credentials { ufrag: PEER_UFRAG.into(), pwd: PEER_PWD.into() }
}

/// An agent under observation, at a virtual time.
pub(crate) struct Desk {
    pub(crate) agent: Checked<Agent>,
    pub(crate) now: Instant,
    pub(crate) said: Vec<Said>,
    pub(crate) told: Vec<Event>,
    next_id: u8,
}

/// A datagram that the agent sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) at: Instant,
    pub(crate) path: Path,
    pub(crate) bytes: Vec<u8>,
}

impl Said {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).unwrap()
    }

    pub(crate) fn is(&self, class: Class) -> bool {
        self.message().class() == class
    }

    pub(crate) fn error(&self) -> Option<u16> {
        self.message().error_code().map(|error| error.code)
    }
}

/// What a hand-written request carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// ICE-CONTROLLING or ICE-CONTROLLED.
    pub(crate) controlling: Option<u64>,
    pub(crate) controlled: Option<u64>,
    pub(crate) use_candidate: bool,
    pub(crate) priority: Option<u32>,
    /// NOMINATION, beside USE-CANDIDATE.
    pub(crate) number: Option<u32>,
    /// An attribute that nobody knows.
    pub(crate) unknown: Option<u16>,
    pub(crate) signed: Signed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    Well,
    WithAnotherPassword,
    Not,
}

impl Ask {
    pub(crate) fn controlled() -> Self {
        Self { controlled: Some(1), controlling: None, ..Self::controlling() }
    }

    pub(crate) fn controlling() -> Self {
        Self {
            controlling: Some(1),
            controlled: None,
            use_candidate: false,
            priority: Some(PEER_PRIORITY),
            number: None,
            unknown: None,
            signed: Signed::Well,
        }
    }

    pub(crate) fn nominating() -> Self {
        Self { use_candidate: true, ..Self::controlling() }
    }

    pub(crate) fn renominating(number: u32) -> Self {
        Self { number: Some(number), ..Self::nominating() }
    }
}

impl Desk {
    pub(crate) fn new(config: Config) -> Self {
        Self::with_seed(config, 1)
    }

    pub(crate) fn with_seed(config: Config, seed: u64) -> Self {
        let agent = Agent::new(Instant::ZERO, Rng::from_u64(seed), config);
        Self { agent: Checked::new(agent), now: Instant::ZERO, said: vec![], told: vec![], next_id: 0 }
    }

    /// With one host candidate, one of the peer's, and its credentials.
    pub(crate) fn with_pair(config: Config, local: &str, remote: &str) -> Self {
        let mut desk = Self::new(config);
        desk.local(Candidate::host(addr(local)));
        desk.remote(Candidate::host(addr(remote)));
        desk.credentials();
        desk
    }

    pub(crate) fn local(&mut self, candidate: Candidate) {
        self.agent.command(self.now, |agent| agent.add_local_candidate(self.now, candidate)).unwrap();
        self.drain();
    }

    pub(crate) fn remote(&mut self, candidate: Candidate) {
        self.agent.command(self.now, |agent| agent.add_remote_candidate(self.now, candidate)).unwrap();
        self.drain();
    }

    pub(crate) fn credentials(&mut self) {
        let set = |agent: &mut Agent| agent.set_remote_credentials(self.now, peer_credentials());
        self.agent.command(self.now, set).unwrap();
        self.drain();
    }

    pub(crate) fn end_of_candidates(&mut self) {
        self.agent.command(self.now, |agent| agent.end_of_local_candidates(self.now));
        self.agent.command(self.now, |agent| agent.end_of_remote_candidates(self.now));
        self.drain();
    }

    pub(crate) fn inner(&self) -> &Agent {
        self.agent.inner()
    }

    /// Moves on by `ms`, firing every timer on the way.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end = Instant::from_nanos(self.now.as_nanos() + ms * 1_000_000);
        while let Some(deadline) = self.agent.poll_timeout().filter(|deadline| deadline.at <= end) {
            self.now = self.now.max(deadline.at);
            self.agent.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
        self.drain();
    }

    pub(crate) fn drain(&mut self) {
        let mut storage = Vec::new();
        while let Some(event) = self.agent.poll_event() {
            self.told.push(event);
        }
        while let Some(transmit) = self.agent.poll_transmit(self.now, &mut Buf::new(&mut storage)) {
            self.said.push(Said { at: self.now, path: transmit.path, bytes: storage.clone() });
        }
        while let Some(event) = self.agent.poll_event() {
            self.told.push(event);
        }
        assert!(self.agent.poll_event().is_none());
    }

    pub(crate) fn hear(&mut self, path: Path, bytes: &[u8]) -> Verdict<Path> {
        let verdict = self.agent.handle_input(self.now, Input::new(path, &mut bytes.to_vec()));
        self.drain();
        verdict
    }

    /// Takes everything said since the last time.
    pub(crate) fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    /// The checks said since the last time, answers and keepalives left out.
    pub(crate) fn take_checks(&mut self) -> Vec<Said> {
        self.take_said().into_iter().filter(|said| said.is(Class::Request)).collect()
    }

    /// The only message said since the last time.
    #[track_caller]
    pub(crate) fn take_one(&mut self) -> Said {
        let mut said = self.take_said();
        assert_eq!(said.len(), 1, "{said:?}");
        said.remove(0)
    }

    pub(crate) fn take_told(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.told)
    }

    /// A request as the peer would write it.
    pub(crate) fn request(&mut self, ask: Ask) -> Vec<u8> {
        self.request_as(PEER_UFRAG, ask)
    }

    /// A request of whoever calls itself `sender`.
    pub(crate) fn request_as(&mut self, sender: &str, ask: Ask) -> Vec<u8> {
        self.next_id = self.next_id.wrapping_add(1);
        let id = TransactionId([self.next_id; 12]);
        let local = self.inner().local_credentials().clone();
        let username = format!("{}:{sender}", local.ufrag);
        let mut out = Vec::new();
        let mut writer =
            MessageWriter::new(&mut out, Class::Request, Method::BINDING, id).username(username.as_bytes());
        if let Some(priority) = ask.priority {
            writer = writer.priority(priority);
        }
        if let Some(tiebreaker) = ask.controlling {
            writer = writer.ice_controlling(tiebreaker);
        }
        if let Some(tiebreaker) = ask.controlled {
            writer = writer.ice_controlled(tiebreaker);
        }
        if ask.use_candidate {
            writer = writer.use_candidate();
        }
        if let Some(number) = ask.number {
            writer = writer.attribute(NOMINATION, &number.to_be_bytes());
        }
        if let Some(kind) = ask.unknown {
            writer = writer.attribute(kind, &[0; 4]);
        }
        match ask.signed {
            Signed::Well => writer.integrity(&Key::short_term(local.pwd.as_bytes())).fingerprint(),
            Signed::WithAnotherPassword => {
                writer.integrity(&Key::short_term(b"anotherPasswordOfSomeLength")).fingerprint()
            }
            Signed::Not => writer.fingerprint(),
        };
        out
    }

    /// The peer asks on `path`; returns the answer.
    #[track_caller]
    pub(crate) fn asked(&mut self, path: Path, ask: Ask) -> Said {
        let request = self.request(ask);
        let before = self.said.len();
        assert_eq!(self.hear(path, &request), Verdict::Consumed);
        let answers = self.said[before..].iter().filter(|said| !said.is(Class::Request));
        let answers: Vec<_> = answers.cloned().collect();
        assert_eq!(answers.len(), 1, "one request, one answer");
        let id = Message::parse(&request).unwrap().transaction_id();
        assert_eq!((answers[0].path, answers[0].message().transaction_id()), (path, id));
        self.said.retain(|said| *said != answers[0]);
        answers[0].clone()
    }

    /// The peer answers `check` with success, seeing `mapped`.
    pub(crate) fn answer_seeing(&mut self, check: &Said, mapped: SocketAddr) -> Verdict<Path> {
        self.hear(check.path, &success(check, mapped, PEER_PWD))
    }

    /// The peer answers `check` with success; no NAT is between.
    pub(crate) fn answer(&mut self, check: &Said) -> Verdict<Path> {
        self.answer_seeing(check, check.path.on_wire().local)
    }

    /// The peer answers `check` with an error.
    pub(crate) fn refuse(&mut self, check: &Said, code: u16) -> Verdict<Path> {
        self.hear(check.path, &refusal(check, code, PEER_PWD))
    }

    pub(crate) fn report(&self, local: &str, remote: &str) -> Option<PairReport<'_>> {
        let path = direct(local, remote);
        self.inner().pairs().find(|pair| pair.path == path)
    }

    #[track_caller]
    pub(crate) fn state_of(&self, local: &str, remote: &str) -> PairState {
        self.report(local, remote).expect("the pair exists").state
    }
}

/// A success answer to `check`.
pub(crate) fn success(check: &Said, mapped: SocketAddr, password: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let id = check.message().transaction_id();
    MessageWriter::new(&mut out, Class::Success, Method::BINDING, id)
        .xor_mapped_address(mapped)
        .integrity(&Key::short_term(password.as_bytes()))
        .fingerprint();
    out
}

/// An error answer to `check`.
pub(crate) fn refusal(check: &Said, code: u16, password: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let id = check.message().transaction_id();
    MessageWriter::new(&mut out, Class::Error, Method::BINDING, id)
        .error_code(code, "")
        .integrity(&Key::short_term(password.as_bytes()))
        .fingerprint();
    out
}
