//! The agent: commands, getters, timers. Its other halves are in `agent/`.

mod consent;
mod generation;
mod input;
mod names;
mod nomination;
mod output;
mod pairing;
mod punch;

use alloc::vec::Vec;
use core::time::Duration;

use gimlet_machine::{Buf, Deadline, Id, Input, Instant, Machine, Path, Rng, Timers, Transmit, Verdict};

use self::nomination::Nominating;
use crate::answers::Answers;
use crate::candidate::stream_of;
use crate::candidates::{Added, Candidates};
use crate::checklist::Checklist;
use crate::checks::{Check, Checks, Pace};
use crate::credentials::Session;
use crate::event::Events;
use crate::pair::{Pair, PairError};
use crate::punch::Punching;
use crate::report::PairReport;
use crate::role::Tiebreak;
use crate::state::{PairStep, State, Step};
use crate::timer::TimerKey;
use crate::{
    Candidate, CandidateError, Credentials, CredentialsError, Event, FailureCause, IceCounters,
    KEEPALIVE_INTERVAL, Limits, PAC_TIMEOUT, PunchLimits, Role, TA_MIN, Transports,
};

/// How an agent is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who nominates. The side that starts the session controls (RFC 8445 §6.1.1).
    pub role: Role,
    /// Ta, the time between two checks; at least [`TA_MIN`] (RFC 8445 §14.2).
    pub ta: Duration,
    /// The shortest retransmission timeout (RFC 8445 §14.3 asks for 500 ms).
    pub rto_min: Duration,
    /// The component that this agent runs, 1 to 256.
    pub component: u16,
    /// The tiebreaker of the session that this one restarts (RFC 8445 §9 keeps it); drawn if `None`.
    pub tiebreaker: Option<u64>,
    /// Our credentials, where the owner assigns them; drawn if `None`, and in the place of any that are not
    /// well-formed ([`Credentials::validate`]). Predictable ones let strangers in (RFC 8445 §5.3).
    pub credentials: Option<Credentials>,
    /// Whether the agent only answers, and never checks (RFC 8445 §2.5): for hosts with a public address.
    /// Its role is [`Role::Controlled`], unless the peer is lite too.
    pub lite: bool,
    /// Whether both sides agreed to renominate (`ice-options:renomination`,
    /// draft-thatcher-ice-renomination): the controlling agent may then move to a better path at any time,
    /// not only when the selected one died.
    pub renomination: bool,
    /// Which candidates take part.
    pub transports: Transports,
    /// What hole punching may cost, if [`Agent::punch`] is called.
    pub punch: PunchLimits,
    /// How much the agent holds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            role: Role::default(),
            ta: TA_MIN,
            rto_min: Duration::from_millis(500),
            component: 1,
            tiebreaker: None,
            credentials: None,
            lite: false,
            renomination: false,
            transports: Transports::default(),
            punch: PunchLimits::default(),
            limits: Limits::default(),
        }
    }
}

/// An ICE agent for one component of one data stream (RFC 8445). See the crate's page.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    state: State,
    role: Tiebreak,
    session: Session,
    candidates: Candidates,
    checklist: Checklist,
    checks: Checks,
    nominating: Nominating,
    answers: Answers,
    timers: Timers<TimerKey>,
    events: Events,
    counters: IceCounters,
}

impl Agent {
    /// An agent with fresh credentials, unless `config` has some. `rng` is its own: every secret, tiebreaker and transaction id
    /// comes from it.
    #[allow(clippy::needless_pass_by_value, reason = "nobody else may draw what the agent draws")]
    pub fn new(_now: Instant, rng: Rng, config: Config) -> Self {
        let limits = &config.limits;
        let mut session = Session::new(&mut rng.fork("credentials"));
        if let Some(ours) = config.credentials.as_ref().filter(|ours| ours.validate().is_ok()) {
            session.set_local(ours.clone());
        }
        let pace = Pace { ta: config.ta.max(TA_MIN), rto_min: config.rto_min };
        Self {
            state: State::New,
            role: Tiebreak::new(config.role, config.tiebreaker, rng.fork("tiebreaker")),
            session,
            candidates: Candidates::new(),
            checklist: Checklist::new(limits.pairs_max),
            checks: Checks::new(pace, limits.checks_max, rng.fork("transactions")),
            nominating: Nominating::default(),
            answers: Answers::new(limits),
            timers: Timers::new(),
            events: Events::new(limits.events_max),
            counters: IceCounters::default(),
            config,
        }
    }

    /// Offers one of our addresses. Its priority is lowered if another candidate of its type has the
    /// same (RFC 8445 §5.1.2.1): signal what [`Agent::local_candidates`] says. A candidate that is
    /// known already changes nothing.
    pub fn add_local_candidate(&mut self, now: Instant, candidate: Candidate) -> Result<(), CandidateError> {
        self.admit(&candidate, self.candidates.is_local_ended())?;
        candidate.validate()?;
        if !candidate.has_base() {
            return Err(CandidateError::NoBase);
        }
        let candidate = self.conceal(candidate);
        let hidden = candidate.mdns_name().copied().map(|name| (name, candidate.address.ip()));
        if let Some(id) = self.candidates.add_local(candidate, &self.config.limits)? {
            if let Some((name, ip)) = hidden {
                self.on_hidden(name, ip);
            }
            self.pair_local(id);
            self.checks.consent.reset_returns();
            self.act_on_early_requests(now);
        }
        self.settle(now);
        Ok(())
    }

    /// Takes the peer's credentials: from here on checks are sent. Saying the same twice is harmless. Other
    /// ones are the peer's restart, to be answered by [`Agent::restart`] first.
    pub fn set_remote_credentials(
        &mut self,
        now: Instant,
        credentials: Credentials,
    ) -> Result<(), CredentialsError> {
        if self.state == State::Closed {
            return Err(CredentialsError::Closed);
        }
        credentials.validate()?;
        if let Some(peer) = &self.session.peer {
            let same = peer.credentials == credentials;
            return if same { Ok(()) } else { Err(CredentialsError::AlreadySet) };
        }
        for stale in self.candidates.remove_other_generations(&credentials.ufrag) {
            self.remove_pairs_of(stale);
        }
        self.session.set_peer(credentials);
        self.step(Step::Start);
        // RFC 8863 §4: from the moment at which checks begin.
        self.timers.set(TimerKey::Patience, now + PAC_TIMEOUT);
        self.act_on_early_requests(now);
        self.settle(now);
        Ok(())
    }

    /// Takes one of the peer's addresses, at any time, credentials or not (RFC 8838). An address that
    /// is known already changes nothing, except that what was learned from a check takes over the
    /// signalled type and priority.
    pub fn add_remote_candidate(&mut self, now: Instant, candidate: Candidate) -> Result<(), CandidateError> {
        self.admit(&candidate, self.candidates.is_remote_ended())?;
        self.take_remote(now, candidate)?;
        self.settle(now);
        Ok(())
    }

    fn take_remote(&mut self, now: Instant, candidate: Candidate) -> Result<(), CandidateError> {
        candidate.validate()?;
        self.check_generation(&candidate)?;
        let added = self.candidates.add_remote(candidate, &self.config.limits)?;
        self.pair_remote(added);
        if matches!(added, Added::TookOver(_)) {
            self.leave_relay(now);
        }
        self.checks.consent.reset_returns();
        Ok(())
    }

    fn check_generation(&self, candidate: &Candidate) -> Result<(), CandidateError> {
        match (&self.session.peer, &candidate.ufrag) {
            (Some(peer), Some(ufrag)) if peer.credentials.ufrag != **ufrag => {
                Err(CandidateError::OtherGeneration)
            }
            (Some(_), Some(_) | None) | (None, _) => Ok(()),
        }
    }

    fn admit(&self, candidate: &Candidate, ended: bool) -> Result<(), CandidateError> {
        if self.state == State::Closed {
            return Err(CandidateError::Closed);
        }
        if ended {
            return Err(CandidateError::AfterEnd);
        }
        if !self.config.transports.include(candidate.transport) {
            return Err(CandidateError::UnsupportedTransport);
        }
        if candidate.component != self.config.component {
            return Err(CandidateError::OtherComponent(candidate.component));
        }
        Ok(())
    }

    /// No local candidate follows (RFC 8838 §13). Without this on both sides the agent never fails.
    pub fn end_of_local_candidates(&mut self, now: Instant) {
        self.candidates.end_local();
        self.settle(now);
    }

    /// The peer said that no candidate of its follows (RFC 8838 §14).
    pub fn end_of_remote_candidates(&mut self, now: Instant) {
        self.candidates.end_remote();
        self.settle(now);
    }

    /// The connection of `path` could not be opened, or broke off: what is being checked there, or was found to work,
    /// does not. A check of the peer, or another chance later, opens it anew.
    pub fn connection_lost(&mut self, now: Instant, path: &Path) {
        let of_path = |(_, pair): &(Id<Pair>, &Pair)| {
            stream_of(path).is_some() && self.candidates.path(pair.local, pair.remote) == Some(*path)
        };
        let lost = self.checklist.iter().find(of_path).map(|(id, _)| id);
        if let Some(id) = lost.filter(|_| self.state != State::Closed) {
            self.fail_pair(now, id, PairError::NoConnection);
            self.settle(now);
        }
    }

    /// Ends everything: nothing is sent or answered any more.
    pub fn close(&mut self, now: Instant) {
        self.step(Step::Close);
        self.answers.clear();
        self.candidates.names.clear();
        self.checks.clear();
        self.checks.punching = Punching::new();
        self.checklist.remove_unchecked(|_| false, |_| ());
        self.timers = Timers::new();
        self.settle(now);
    }

    /// What the peer needs to check us.
    pub fn local_credentials(&self) -> &Credentials {
        &self.session.local
    }

    /// What checks of the peer are signed for, once it is known.
    pub fn remote_credentials(&self) -> Option<&Credentials> {
        self.session.peer.as_ref().map(|peer| &peer.credentials)
    }

    /// Who nominates at the moment.
    pub fn role(&self) -> Role {
        self.role.role()
    }

    /// What defends our role in a conflict; a restarted session keeps it (RFC 8445 §9).
    pub fn tiebreaker(&self) -> u64 {
        self.role.tiebreaker()
    }

    /// Where the agent stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// The path to use: the one that both sides agreed on, or that took its place. After a restart it is
    /// the one of before until the new generation has its own.
    pub fn selected_path(&self) -> Option<Path> {
        self.path_of(self.nominating.selected().or_else(|| self.session.retired_pair())?)
    }

    /// The paths on which a check succeeded, best first. Data may be sent on any of them (RFC 8445 §12.1)
    /// within [`crate::CONSENT_TIMEOUT`] of it; only the path in use is kept fresh beyond that.
    pub fn valid_paths(&self) -> impl Iterator<Item = Path> {
        let valid =
            |report: PairReport<'_>| (report.state == crate::PairState::Succeeded).then_some(report.path);
        self.pairs().filter_map(valid)
    }

    /// Our candidates as they are to be signalled: what the owner added, with unique priorities.
    pub fn local_candidates(&self) -> impl Iterator<Item = &Candidate> {
        let signalled = self.candidates.locals().filter(|(_, local)| local.is_signalled());
        signalled.map(|(_, local)| &local.candidate)
    }

    /// The peer's candidates, learned ones included.
    pub fn remote_candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.remotes().map(|(_, remote)| &remote.candidate)
    }

    /// Every pair, highest priority first. After selection the pairs that were never checked are gone.
    pub fn pairs(&self) -> impl Iterator<Item = PairReport<'_>> {
        let mut reports: Vec<_> =
            self.checklist.iter().filter_map(|(id, pair)| self.report(id, pair)).collect();
        // Stable: ties stay in the order in which the pairs were formed.
        reports.sort_by_key(|report| core::cmp::Reverse(report.priority));
        reports.into_iter()
    }

    fn report(&self, id: Id<Pair>, pair: &Pair) -> Option<PairReport<'_>> {
        Some(PairReport {
            local: &self.candidates.local(pair.local)?.candidate,
            remote: &self.candidates.remote(pair.remote)?.candidate,
            path: self.candidates.path(pair.local, pair.remote)?,
            priority: pair.priority,
            state: pair.state(),
            selected: self.nominating.selected() == Some(id) || self.session.retired_pair() == Some(id),
            generation: pair.generation,
            checks: pair.history.checks,
            answers: pair.history.answers,
            rtt: pair.history.rtt(),
            error: pair.history.error,
        })
    }

    /// Whether `path` belongs to a pair of ours: how the agents that share a socket tell whose keepalive
    /// an indication is, since it carries no name.
    pub fn is_path_of_pair(&self, path: &Path) -> bool {
        let remote = self.candidates.remote_of(path);
        let ends = self.candidates.base_of(path).zip(remote);
        ends.is_some_and(|(local, remote)| self.checklist.find(local, remote).is_some())
    }

    /// What was done and dropped.
    pub fn counters(&self) -> &IceCounters {
        &self.counters
    }

    fn path_of(&self, id: Id<Pair>) -> Option<Path> {
        let pair = self.checklist.get(id)?;
        self.candidates.path(pair.local, pair.remote)
    }

    /// Takes `step` if the graph allows it, and tells the owner.
    fn step(&mut self, step: Step) -> bool {
        let Some(next) = self.state.after(step) else { return false };
        self.state = next;
        self.tell(Event::StateChanged(next));
        true
    }

    fn tell(&mut self, event: Event) {
        self.counters.events_dropped += u64::from(self.events.push(event));
    }

    /// A pair did not work out: by error, by silence, or because its nomination was not answered.
    fn fail_pair(&mut self, now: Instant, id: Id<Pair>, error: PairError) {
        let Some(pair) = self.checklist.get_mut(id) else { return };
        pair.history.error = Some(error);
        if self.checklist.step(id, PairStep::Fail) {
            self.checks.cancel(|check| check.is_of(id));
            self.checklist.dequeue(id);
            self.on_pair_lost(now, id);
        }
    }

    fn on_check_expired(&mut self, now: Instant, check: &Check) {
        // A cancelled check says nothing by its silence (RFC 8445 §7.3.1.4).
        let decides = !check.is_cancelled() && !self.checks.is_pending(check.pair);
        let succeeded =
            self.checklist.get(check.pair).is_some_and(|pair| pair.is(crate::PairState::Succeeded));
        // A valid pair stays valid unless its nomination is what was not answered.
        if decides && (check.nominates || !succeeded) {
            self.fail_pair(now, check.pair, PairError::NoAnswer);
        }
    }

    /// Brings what follows from the last touch up to date: nomination, failure, timers.
    fn settle(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        if self.config.lite {
            self.choose_without_checks(now);
        } else {
            self.consider_nomination(now);
        }
        self.consider_punch(now);
        self.consider_failure();
        self.watch(now);
        let (check, expiry) = (self.next_check(), self.checks.next_expiry());
        let punch = self.punch_deadline(now);
        self.arm(TimerKey::Punch, punch);
        self.arm(TimerKey::Name, self.candidates.names.next_expiry());
        self.arm(TimerKey::Check, check);
        self.arm(TimerKey::Expire, expiry);
    }

    /// RFC 8863 §4 and RFC 8838 §8: only when nothing is open, nothing can be added, and the peer has had
    /// time to reach us by itself.
    fn consider_failure(&mut self) {
        let patient = self.timers.at(TimerKey::Patience).is_some();
        let ended = self.candidates.is_local_ended() && self.candidates.is_remote_ended();
        let hopeful = self.checks.punching.is_hopeful() || self.candidates.names.is_waiting();
        if self.state != State::Checking || patient || !ended || hopeful {
            return;
        }
        let open = |pair: &Pair| pair.state().is_open() || pair.is(crate::PairState::Succeeded);
        if self.checklist.iter().any(|(_, pair)| open(pair)) {
            return;
        }
        let pairs = self.checklist.len();
        let answered = self.checklist.iter().filter(|(_, pair)| pair.history.answers > 0).count();
        let cause =
            if pairs == 0 { FailureCause::NoPairs } else { FailureCause::AllPairsFailed { pairs, answered } };
        self.step(Step::Fail);
        self.tell(Event::Failed { cause });
    }

    /// When a check may leave: at the next slot if a pair is ready, else with a retransmission.
    fn next_check(&mut self) -> Option<Instant> {
        if self.config.lite {
            return None;
        }
        if self.checks.consent.due {
            return Some(self.checks.next_slot());
        }
        self.session.peer.as_ref()?;
        let ready = self.checks.has_room() && (self.checklist.has_triggered() || self.checks_ordinarily());
        if ready { Some(self.checks.next_slot()) } else { self.checks.next_retransmission() }
    }

    /// Whether a pair waits for an ordinary check. While a nomination awaits its answer, and after it,
    /// no further pair could be chosen, and none is worth a packet.
    fn checks_ordinarily(&mut self) -> bool {
        let wanted = match self.nominating.selected() {
            Some(_) => self.explores(),
            None => !self.nominating.has_chosen(),
        };
        wanted && self.checklist.has_ordinary()
    }

    fn arm(&mut self, key: TimerKey, at: Option<Instant>) {
        match at {
            Some(at) if self.timers.at(key) != Some(at) => self.timers.set(key, at),
            Some(_) => {}
            None => self.timers.clear(key),
        }
    }
}

impl Machine for Agent {
    type Path = Path;
    type Event = Event;

    /// Takes what belongs to this session. `NotMine`, before any signature is looked at: no STUN, a
    /// request to another fragment, an answer to nothing we asked.
    fn handle_input(&mut self, now: Instant, input: Input<'_, Path>) -> Verdict<Path> {
        let verdict = self.on_datagram(now, input.path, input.bytes);
        if verdict == Verdict::Consumed {
            self.settle(now);
        }
        verdict
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(key) = self.timers.pop(now) {
            match key {
                // What these stand for is looked up, not remembered: see `settle`.
                TimerKey::Check
                | TimerKey::Expire
                | TimerKey::Nominate
                | TimerKey::Patience
                | TimerKey::Punch => {}
                TimerKey::Keepalive => {
                    self.answers.keepalive = true;
                    self.timers.set(TimerKey::Keepalive, now + KEEPALIVE_INTERVAL);
                }
                TimerKey::Consent => self.checks.consent.due = self.checks.consent.pair().is_some(),
                TimerKey::Name => self.on_names_expired(now),
                TimerKey::Probe => self.on_probe_late(now),
                TimerKey::Expiry => self.on_consent_expired(now),
                TimerKey::Return => self.on_return(),
            }
        }
        while let Some(check) = self.checks.take_expired(now, &self.checklist) {
            self.on_check_expired(now, &check);
        }
        self.settle(now);
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    /// Answers go first, then triggered checks, retransmissions, ordinary checks, probes, keepalives.
    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Path>> {
        let path = self.write_next(now, out)?;
        debug_assert!(out.len() <= crate::MESSAGE_MAX, "the bound holds");
        Some(Transmit::new(path))
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timers.deadline()
    }
}
