//! One agent, a peer written by hand, a clock that the judge owns, and a transcript.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use gimlet_machine::FourTuple;
use gimlet_stun::{Class, Message, TransactionId};

use super::subject::{Local, Setup, Subject};
use super::wire::{self, Ask, OUR_PWD};
use super::{Finding, Outcome};

/// Where the judged agent is, and where the peer is.
pub(crate) const LOCAL: &str = "192.0.2.1:4000";
pub(crate) const PEER: &str = "198.51.100.1:2000";

/// Lines that a transcript keeps. What comes after is only counted: a flood would bury the case.
const TRANSCRIPT_MAX: usize = 120;
/// How often a subject may wake at one instant before the judge calls it a livelock.
const WAKES_MAX: usize = 20_000;

/// Everything that went in and came out, one line each, with the exact bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transcript(Rc<RefCell<(Vec<String>, usize)>>);

impl Transcript {
    pub(crate) fn add(&self, line: impl FnOnce() -> String) {
        let (lines, left_out) = &mut *self.0.borrow_mut();
        if lines.len() < TRANSCRIPT_MAX {
            lines.push(line());
        } else {
            *left_out += 1;
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let (lines, left_out) = &*self.0.borrow();
        let mut lines = lines.clone();
        if *left_out > 0 {
            lines.push(format!("({left_out} more lines)"));
        }
        lines
    }
}

/// A datagram that the agent sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) at: Duration,
    pub(crate) path: FourTuple,
    pub(crate) bytes: Vec<u8>,
}

impl Said {
    /// # Panics
    ///
    /// If what was said is no STUN message, which is a failure of the case.
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).unwrap_or_else(|error| panic!("it sent what is not STUN: {error}"))
    }

    pub(crate) fn is(&self, class: Class) -> bool {
        self.message().class() == class
    }

    pub(crate) fn id(&self) -> TransactionId {
        wire::id_of(&self.bytes)
    }

    pub(crate) fn error(&self) -> Option<u16> {
        self.message().error_code().map(|error| error.code)
    }

    /// The role that a check claims, and its tiebreaker.
    pub(crate) fn claim(&self) -> Option<(bool, u64)> {
        let message = self.message();
        let controlling = message.ice_controlling().map(|tiebreaker| (true, tiebreaker));
        controlling.or_else(|| message.ice_controlled().map(|tiebreaker| (false, tiebreaker)))
    }

    /// For people: when, where, and what.
    pub(crate) fn text(&self) -> String {
        format!("{} at {} ms", wire::describe(&self.bytes), self.at.as_millis())
    }
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is an address"))
}

pub(crate) fn path(local: &str, remote: &str) -> FourTuple {
    FourTuple::new(address(local), address(remote))
}

/// A candidate line of the peer's, with a foundation of its own.
pub(crate) fn line(address: SocketAddr, local_preference: u32) -> String {
    let priority = 126_u32 << 24 | local_preference << 8 | 255;
    let foundation = match address {
        SocketAddr::V4(v4) => v4.ip().octets().iter().map(ToString::to_string).collect::<String>(),
        SocketAddr::V6(v6) => format!("6{}", v6.ip().segments()[7]),
    };
    let (ip, port) = (address.ip(), address.port());
    format!("candidate:{foundation} 1 UDP {priority} {ip} {port} typ host")
}

/// An agent under observation, at a virtual time.
pub(crate) struct Desk {
    pub(crate) subject: Box<dyn Subject>,
    pub(crate) now: Duration,
    pub(crate) said: Vec<Said>,
    pub(crate) told: Vec<String>,
    transcript: Transcript,
    next_id: u32,
}

impl Desk {
    pub(crate) fn new(subject: Box<dyn Subject>, setup: Setup, transcript: &Transcript) -> Self {
        transcript.add(|| {
            let role = if setup.controlling { "controlling" } else { "controlled" };
            let lite = if setup.lite { ", lite" } else { "" };
            format!("a new agent, {role}{lite}, ufrag {}, password {OUR_PWD}", wire::OUR_UFRAG)
        });
        let transcript = transcript.clone();
        Self { subject, now: Duration::ZERO, said: vec![], told: vec![], transcript, next_id: 0 }
    }

    fn log(&self, text: impl FnOnce() -> String) {
        let now = self.now;
        self.transcript.add(|| format!("t={:.3} s  {}", now.as_secs_f64(), text()));
    }

    pub(crate) fn local(&mut self, local: Local) -> Outcome {
        self.log(|| format!("command: add local candidate {local:?}"));
        let added = self.subject.add_local(self.now, local).map_err(Finding::not_applicable);
        self.drain();
        added
    }

    pub(crate) fn host(&mut self, local: &str) -> Outcome {
        self.local(Local::Host(address(local)))
    }

    /// Whether the candidate was taken.
    pub(crate) fn remote_line(&mut self, line: &str) -> Result<(), String> {
        self.log(|| format!("command: add remote candidate `{line}`"));
        let added = self.subject.add_remote(self.now, line);
        if let Err(why) = &added {
            self.log(|| format!("refused: {why}"));
        }
        self.drain();
        added
    }

    /// The peer's host candidate with a local preference, 65535 being the best.
    pub(crate) fn remote_with(&mut self, remote: &str, local_preference: u32) -> Outcome {
        let line = line(address(remote), local_preference);
        self.remote_line(&line).map_err(|why| Finding::fails(format!("{line} was refused: {why}")))
    }

    pub(crate) fn remote(&mut self, remote: &str) -> Outcome {
        self.remote_with(remote, 65_535)
    }

    pub(crate) fn credentials(&mut self) {
        self.log(|| {
            format!("command: the peer's ufrag is {}, its password {}", wire::PEER_UFRAG, wire::PEER_PWD)
        });
        self.subject.set_remote_credentials(self.now, wire::PEER_UFRAG, wire::PEER_PWD);
        self.drain();
    }

    pub(crate) fn credentials_of(&mut self, ufrag: &str, pwd: &str) {
        self.log(|| format!("command: the peer's ufrag is {ufrag}, its password {pwd}"));
        self.subject.set_remote_credentials(self.now, ufrag, pwd);
        self.drain();
    }

    pub(crate) fn end_of_candidates(&mut self) -> Outcome {
        self.log(|| "command: end of candidates on both sides".into());
        let ended = self.subject.end_of_candidates(self.now);
        self.drain();
        ended
    }

    pub(crate) fn restart(&mut self) -> Result<(String, String), Finding> {
        self.log(|| "command: ICE restart".into());
        let fresh = self.subject.restart(self.now);
        self.drain();
        fresh
    }

    /// Moves on by `ms`, waking the agent whenever it asks for it.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        self.wait_until(end);
    }

    pub(crate) fn wait_until(&mut self, end: Duration) {
        let mut wakes = 0;
        while let Some(deadline) = self.subject.deadline(self.now).filter(|deadline| *deadline <= end) {
            wakes = if deadline <= self.now { wakes + 1 } else { 0 };
            assert!(wakes < WAKES_MAX, "it asks to be woken at {:?} again and again", self.now);
            self.now = self.now.max(deadline);
            self.subject.wake(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// Waits until the agent says something, at most `ms`.
    pub(crate) fn wait_for_more(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        let before = self.said.len();
        while self.said.len() == before && self.now < end {
            let next = self.subject.deadline(self.now).unwrap_or(end).max(self.now).min(end);
            if next == self.now {
                self.wait(1);
            } else {
                self.wait_until(next);
            }
        }
    }

    /// The owner calls `handle_timeout` although nothing is due.
    pub(crate) fn poke(&mut self) {
        self.subject.wake(self.now);
        self.drain();
    }

    pub(crate) fn drain(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(event) = self.subject.event() {
                self.log(|| format!("event: {event}"));
                self.told.push(event);
                quiet = false;
            }
            while let Some((path, bytes)) = self.subject.transmit(self.now) {
                self.log(|| {
                    let (what, hex) = (wire::describe(&bytes), HEXLOWER.encode(&bytes));
                    format!("out {} -> {}: {what}: {hex}", path.local, path.remote)
                });
                self.said.push(Said { at: self.now, path, bytes });
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }

    pub(crate) fn hear(&mut self, path: FourTuple, bytes: &[u8]) {
        self.log(|| {
            let (what, hex) = (wire::describe(bytes), HEXLOWER.encode(bytes));
            format!("in  {} <- {}: {what}: {hex}", path.local, path.remote)
        });
        self.subject.hear(self.now, path, bytes);
        self.drain();
    }

    /// Takes everything said since the last time.
    pub(crate) fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    /// The checks said since the last time; everything else is forgotten.
    pub(crate) fn take_checks(&mut self) -> Vec<Said> {
        self.take_said().into_iter().filter(|said| said.is(Class::Request)).collect()
    }

    /// The next check, which must leave within two seconds.
    pub(crate) fn next_check(&mut self) -> Result<Said, Finding> {
        let end = self.now + Duration::from_secs(2);
        loop {
            if let Some(at) = self.said.iter().position(|said| said.is(Class::Request)) {
                return Ok(self.said.remove(at));
            }
            if self.now >= end {
                return Err(Finding::fails("no check left within two seconds".into()));
            }
            self.wait_for_more(100);
        }
    }

    /// The next check on `path`; other ones are forgotten.
    pub(crate) fn next_check_on(&mut self, path: FourTuple) -> Result<Said, Finding> {
        let end = self.now + Duration::from_secs(3);
        while self.now < end {
            let check = self.next_check()?;
            if check.path == path {
                return Ok(check);
            }
        }
        Err(Finding::fails(format!("no check left on {} -> {}", path.local, path.remote)))
    }

    /// A fresh transaction id.
    pub(crate) fn id(&mut self) -> TransactionId {
        self.next_id += 1;
        let mut id = *b"judge...0000";
        id[8..].copy_from_slice(&self.next_id.to_be_bytes());
        TransactionId(id)
    }

    /// The peer asks on `path`; returns what was answered within 200 ms.
    pub(crate) fn ask(&mut self, path: FourTuple, ask: &Ask) -> Vec<Said> {
        let id = self.id();
        let bytes = ask.write(id);
        self.hear(path, &bytes);
        let is_answer = |said: &Said| said.id() == id && !said.is(Class::Request);
        if !self.said.iter().any(is_answer) {
            // Some answer only when woken.
            self.wait(200);
        }
        let (answers, rest) = self.take_said().into_iter().partition(is_answer);
        self.said = rest;
        answers
    }

    /// The peer asks and must be answered with success.
    pub(crate) fn asked(&mut self, path: FourTuple, ask: &Ask) -> Result<Said, Finding> {
        let mut answers = self.ask(path, ask);
        match answers.pop() {
            Some(answer) if answers.is_empty() && answer.is(Class::Success) => Ok(answer),
            Some(answer) => Err(Finding::fails(format!("a good request was answered: {}", answer.text()))),
            None => Err(Finding::fails("a good request was not answered within 200 ms".into())),
        }
    }

    /// The peer answers `check` with success, seeing `mapped`.
    pub(crate) fn answer_seeing(&mut self, check: &Said, mapped: SocketAddr) {
        self.hear(check.path, &wire::success(&check.bytes, mapped));
    }

    /// The peer answers `check` with success; no NAT is between.
    pub(crate) fn answer(&mut self, check: &Said) {
        self.answer_seeing(check, check.path.local);
    }

    /// The peer refuses `check`.
    pub(crate) fn refuse(&mut self, check: &Said, code: u16) {
        self.hear(check.path, &wire::refusal(&check.bytes, code, Some(wire::PEER_PWD)));
    }

    /// Lives for `ms`, answering after 20 ms every check that leaves on a path in `alive`. Returns all.
    pub(crate) fn live(&mut self, ms: u64, alive: &[FourTuple]) -> Vec<Said> {
        let mut all = Vec::new();
        for _ in 0..ms / 20 {
            let checks = self.take_checks();
            self.wait(20);
            for check in checks {
                if alive.contains(&check.path) {
                    self.answer(&check);
                }
                all.push(check);
            }
        }
        all
    }
}
