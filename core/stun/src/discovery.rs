//! The machine that tells what the NAT in front of us does (RFC 5780, in the words of RFC 4787).
//!
//! It asks in *steps*, and in each step in *rounds*: a round is a handful of requests that are sent
//! once each, and a step ends as soon as its answers are conclusive, or when silence has lasted.
//! Requests are not retransmitted, because what is measured is whether single packets arrive.
//!
//! * An answer is evidence when two of them agree. Two that differ are no evidence at all.
//! * Silence is evidence only beside witnesses: requests in the same round that take the same ways and
//!   were answered, ten times over. So loss makes a report emptier and never wrong.
//! * The socket that speaks with all of the server's addresses and the socket that waits to hear from
//!   them unasked are two. On one socket the first test would open the filter of the second, or, the
//!   other way round, packets that were not let in would spoil the mapping on NATs that remember them.
//! * The server is believed only as far as it was seen to do what it promises: an OTHER-ADDRESS on its
//!   own address, an answer from where it was not asked for, a refusal, all leave filtering unknown.

mod behaviour;
mod event;
mod evidence;
mod ports;
mod probe;
mod state;
#[cfg(test)]
mod tests;
mod timer;

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use gimlet_machine::{
    Buf, Deadline, FourTuple, Input, Instant, Machine, Queue, Rng, Timers, Transmit, Verdict,
};

pub use behaviour::{Behaviour, Filtering, Mapping, PortModel};
pub use event::{DiscoveryError, DiscoveryEvent};
pub use ports::BLOCK_MAX;
pub use state::Step;

use crate::header::Class;
use crate::message::Message;
pub(crate) use evidence::is_other;
use evidence::{AGREE, Contest, View};
use ports::Sample;
use probe::{Probe, Probes, Purpose};
use state::Ground;
use timer::Timer;

/// The most sockets that are used; the ones after that stay unused. The first maps, the second
/// filters, and all but the first are samples of the port model, which takes five sockets at least
/// and seven for a NAT that scatters.
pub const LOCALS_MAX: usize = 9;

/// The most servers that are asked; the ones after that are not.
pub const SERVERS_MAX: usize = 8;

/// The most rounds of a step that compares answers; then it ends with what is known.
pub const ROUNDS_MAX: u32 = 16;

/// The most rounds of a step that waits for witnesses; then it ends with what is known. A bit each.
pub const CONTEST_ROUNDS_MAX: u32 = 48;

/// Between rounds while nobody knows how far the server is: half of the RTO of RFC 8489 §6.2.1.
const FIRST_PACE: Duration = Duration::from_millis(250);

/// The shortest pace; a shorter one becomes this.
const PACE_MIN: Duration = Duration::from_millis(1);

/// A report for each step, and the last one.
const EVENTS_MAX: usize = 8;

/// How a [`Discovery`] asks.
#[derive(Clone, Copy, Debug)]
pub struct DiscoveryConfig {
    /// Between rounds of up to four requests of 28 bytes.
    pub pace: Duration,
    /// How long an answer may take after the last round.
    pub patience: Duration,
}

impl Default for DiscoveryConfig {
    /// Rounds 50 ms apart, as ICE paces its checks by default (RFC 8445 §14.2), and 1.5 s for
    /// the last answer, which is three times the RTO of RFC 8489.
    fn default() -> Self {
        Self { pace: Duration::from_millis(50), patience: Duration::from_millis(1_500) }
    }
}

gimlet_machine::counters! {
    /// What a [`Discovery`] did not use.
    pub struct DiscoveryCounters {
        /// Not STUN, or damaged; left to others.
        not_stun,
        /// A request or an indication that is not ours come back; left to others.
        not_an_answer,
        /// Answers nothing that this step asked: late, or somebody else's. Left to others.
        unknown_transaction,
        /// Answers us from where it was not asked to, or at another of our sockets.
        wrong_path,
        /// Answers, or comes back, once more.
        duplicate,
        /// An answer without an address, or one that depends on an attribute unknown here.
        unusable,
        /// The server refused.
        refused,
        /// An OTHER-ADDRESS that is none (RFC 5780 §7.4): the server's own address or port, or an
        /// address that no host has.
        false_other_address,
        /// A request for which the lent buffer was too small: lost like any other.
        no_room,
    }
}

/// Finds out mapping, filtering, hairpinning and the port model, once. It begins at once and ends
/// with [`DiscoveryEvent::Finished`], about five seconds later if much is silent.
///
/// The sockets have to be fresh: bound to one address of this host, each to a port of its own, and
/// not used for anything else before or meanwhile. With one socket filtering and hairpinning stay
/// unknown, and below five the port model does.
///
/// A server's OTHER-ADDRESS decides where a few dozen requests go. It has to look like a host's address,
/// and the requests stop if nothing comes back.
#[derive(Clone, Debug)]
pub struct Discovery {
    rng: Rng,
    config: DiscoveryConfig,
    /// The first maps, the second filters.
    locals: Vec<SocketAddr>,
    step: Step,
    rounds: u32,
    probes: Probes,
    knowledge: Knowledge,
    timers: Timers<Timer>,
    events: Queue<DiscoveryEvent>,
    counters: DiscoveryCounters,
}

/// What the answers said.
#[derive(Clone, Debug)]
struct Knowledge {
    /// What each address sees of the first socket.
    views: Vec<View>,
    /// The server that the later steps ask, and its other address.
    server: Option<(SocketAddr, Option<SocketAddr>)>,
    /// The other sockets, as far as they were answered.
    samples: Vec<(SocketAddr, SocketAddr)>,
    /// The contest of this step.
    contest: Contest,
    behaviour: Behaviour,
}

impl Discovery {
    /// Begins to ask `servers` from `locals`. The servers are RFC 5780 servers, plain ones, or both;
    /// the first of those with a usable OTHER-ADDRESS serves the later steps.
    pub fn new(
        now: Instant,
        rng: Rng,
        config: DiscoveryConfig,
        locals: &[SocketAddr],
        servers: &[SocketAddr],
    ) -> Result<Self, DiscoveryError> {
        check(locals, servers)?;
        let views = servers.iter().take(SERVERS_MAX).map(|server| View::new(*server)).collect();
        let mut discovery = Self {
            rng,
            config: DiscoveryConfig { pace: config.pace.max(PACE_MIN), ..config },
            locals: locals[..locals.len().min(LOCALS_MAX)].to_vec(),
            step: Step::Basic,
            rounds: 0,
            probes: Probes::default(),
            knowledge: Knowledge {
                views,
                server: None,
                samples: Vec::new(),
                contest: Contest::default(),
                behaviour: Behaviour::default(),
            },
            timers: Timers::new(),
            events: Queue::new(EVENTS_MAX),
            counters: DiscoveryCounters::default(),
        };
        discovery.on_round(now);
        Ok(discovery)
    }

    /// What is being found out.
    pub const fn step(&self) -> Step {
        self.step
    }

    /// What is known so far.
    pub const fn behaviour(&self) -> &Behaviour {
        &self.knowledge.behaviour
    }

    /// What was not used.
    pub const fn counters(&self) -> &DiscoveryCounters {
        &self.counters
    }

    /// Asks once more, or stops asking.
    fn on_round(&mut self, now: Instant) {
        debug_assert_ne!(self.step, Step::Done, "nothing is asked after the end");
        let (rounds_max, pace) = match self.step {
            Step::Basic => (ROUNDS_MAX, FIRST_PACE),
            Step::Sampling => (CONTEST_ROUNDS_MAX, FIRST_PACE),
            Step::Mapping => (ROUNDS_MAX, self.config.pace),
            Step::Filtering | Step::Hairpin | Step::Done => (CONTEST_ROUNDS_MAX, self.config.pace),
        };
        if self.rounds >= rounds_max || self.knowledge.contest.is_witnessed() {
            self.timers.set(Timer::Patience, now + self.config.patience.max(PACE_MIN));
            return;
        }
        match self.step {
            Step::Basic | Step::Mapping => self.ask_views(),
            Step::Sampling => self.ask_sample(),
            Step::Filtering => self.ask_unasked(),
            Step::Hairpin => self.ask_ourselves(),
            Step::Done => {}
        }
        self.rounds += 1;
        self.timers.set(Timer::Round, now + pace);
    }

    /// Whether the step's answers say all that it can learn.
    fn is_conclusive(&self) -> bool {
        let Knowledge { views, samples, contest, .. } = &self.knowledge;
        match self.step {
            Step::Basic | Step::Mapping => !views.iter().any(View::is_open),
            Step::Sampling => samples.len() + 1 >= self.locals.len(),
            Step::Filtering => contest.void || contest.both >= AGREE,
            Step::Hairpin => self.ends().is_none() || contest.both >= AGREE,
            Step::Done => true,
        }
    }

    /// Goes on if the step's answers say all that it can learn.
    fn settle(&mut self, now: Instant) {
        if self.step != Step::Done && self.is_conclusive() {
            self.go_on(now);
        }
    }

    /// Ends the step and every further one that has nothing to wait for; begins the one that has.
    fn go_on(&mut self, now: Instant) {
        loop {
            self.end_step();
            if self.step == Step::Done {
                break;
            }
            if !self.is_conclusive() {
                return self.on_round(now);
            }
        }
        let refused = self.events.push(DiscoveryEvent::Finished(self.knowledge.behaviour));
        debug_assert!(refused.is_ok(), "there is room for a report of every step and the last one");
    }

    /// Draws the step's conclusions and takes the next one.
    fn end_step(&mut self) {
        match self.step {
            Step::Basic => self.conclude_basic(),
            Step::Sampling => self.conclude_sampling(),
            Step::Mapping => self.conclude_mapping(),
            Step::Filtering => {
                let sound = self.is_filtering_sound();
                self.knowledge.behaviour.filtering = self.knowledge.contest.filtering(sound);
            }
            Step::Hairpin => {
                let Knowledge { contest, behaviour, .. } = &mut self.knowledge;
                // Where one outside address serves all, each of the two sockets has let the other in by
                // sending to it. Elsewhere only a filter that lets everybody in is out of the way.
                let sound = behaviour.mapping == Some(Mapping::EndpointIndependent)
                    || behaviour.filtering == Some(Filtering::EndpointIndependent);
                behaviour.hairpinning = contest.hairpinning(sound);
            }
            Step::Done => {}
        }
        let learnt = DiscoveryEvent::Learnt { step: self.step, so_far: self.knowledge.behaviour };
        let refused = self.events.push(learnt);
        debug_assert!(refused.is_ok(), "there is room for a report of every step");
        self.step = self.step.after(self.ground());
        self.rounds = 0;
        self.knowledge.contest = Contest::default();
        self.probes.clear();
        self.timers = Timers::new();
    }

    fn ground(&self) -> Ground {
        match self.knowledge.server {
            None => Ground::Silence,
            Some((_, Some(_))) if !self.knowledge.samples.is_empty() => Ground::Full,
            Some(_) => Ground::Plain,
        }
    }

    /// RFC 5780 §4.2.
    fn conclude_basic(&mut self) {
        let Knowledge { views, server, behaviour, .. } = &mut self.knowledge;
        let settled = || views.iter().filter(|view| view.settled().is_some());
        let chosen = settled().find(|view| view.other.is_some()).or_else(|| settled().next());
        *server = chosen.map(|view| (view.server, view.other));
        behaviour.mapped =
            chosen.or(views.iter().find(|view| view.mapped.is_some())).and_then(|view| view.mapped);
    }

    fn conclude_sampling(&mut self) {
        let sample = |(local, mapped): &(SocketAddr, SocketAddr)| Sample {
            local: local.port(),
            mapped: mapped.port(),
        };
        let samples: Vec<Sample> = self.knowledge.samples.iter().map(sample).collect();
        self.knowledge.behaviour.port_model = ports::port_model(&samples);
        // The three other faces of the chosen server are asked next.
        let Some((server, Some(other))) = self.knowledge.server else { return };
        for face in faces(server, other).into_iter().skip(1) {
            if !self.knowledge.views.iter().any(|view| view.server == face) {
                self.knowledge.views.push(View::new(face));
            }
        }
    }

    /// RFC 5780 §4.3.
    fn conclude_mapping(&mut self) {
        let Knowledge { views, behaviour, .. } = &mut self.knowledge;
        (behaviour.mapping, behaviour.endpoint_dependent) = evidence::mapping(self.locals[0], views);
        if behaviour.mapping == Some(Mapping::NoNat) {
            // Without a NAT every port is kept, and nobody keeps it.
            behaviour.port_model = None;
        }
    }

    /// Whether silence in the filtering test can only be a filter's. All four faces of the server are
    /// there, and it is known to change its face when asked: the far witness shows it, or, where
    /// the mapping does not let that witness in, the server's second address knows of its first.
    fn is_filtering_sound(&self) -> bool {
        let Knowledge { views, behaviour, server: Some((server, Some(other))), .. } = &self.knowledge else {
            return false;
        };
        let view = |face| views.iter().find(|view| view.server == face && view.settled().is_some());
        let is_whole = faces(*server, *other).into_iter().all(|face| view(face).is_some());
        let is_known = match behaviour.mapping {
            Some(Mapping::NoNat | Mapping::EndpointIndependent) => true,
            Some(Mapping::AddressDependent | Mapping::AddressAndPortDependent) => {
                view(*other).is_some_and(|view| view.other == Some(*server))
            }
            None => false,
        };
        is_whole && is_known
    }

    fn ask(&mut self, purpose: Purpose, local: SocketAddr, remote: SocketAddr) {
        let asked = self.probes.ask(&mut self.rng, self.rounds, purpose, FourTuple::new(local, remote));
        debug_assert!(asked, "the rounds of a step fit");
    }

    fn ask_to_change(&mut self, purpose: Purpose, local: SocketAddr, server: SocketAddr, from: SocketAddr) {
        let path = FourTuple::new(local, server);
        let asked = self.probes.ask_to_change(&mut self.rng, self.rounds, purpose, path, from);
        debug_assert!(asked, "the rounds of a step fit");
    }

    fn ask_views(&mut self) {
        for place in 0..self.knowledge.views.len() {
            let view = self.knowledge.views[place];
            if view.is_open() {
                self.ask(Purpose::View(place), self.locals[0], view.server);
            }
        }
    }

    /// One socket after the other, so that the order of the mappings is the order of the samples
    /// whatever is lost.
    fn ask_sample(&mut self) {
        let place = self.knowledge.samples.len() + 1;
        if let (Some(local), Some((server, _))) = (self.locals.get(place).copied(), self.knowledge.server) {
            self.ask(Purpose::Sample, local, server);
        }
    }

    /// RFC 5780 §4.4, tests II and III in one round, between two witnesses.
    fn ask_unasked(&mut self) {
        let Some((server, Some(other))) = self.knowledge.server else { return };
        let (mapper, waiter) = (self.locals[0], self.locals[1]);
        self.ask(Purpose::Near, waiter, server);
        self.ask_to_change(Purpose::Both, waiter, server, other);
        self.ask_to_change(Purpose::Port, waiter, server, SocketAddr::new(server.ip(), other.port()));
        match self.knowledge.behaviour.mapping {
            // The mapping step opened every filter for the first socket, on the one outside address
            // that it has: it must hear what the second may not.
            Some(Mapping::NoNat | Mapping::EndpointIndependent) => {
                self.ask_to_change(Purpose::Far, mapper, server, other);
            }
            Some(Mapping::AddressDependent | Mapping::AddressAndPortDependent) | None => {
                self.ask(Purpose::Far, mapper, other);
            }
        }
    }

    /// RFC 5780 §4.5, in both directions, so that each socket lets the other in.
    fn ask_ourselves(&mut self) {
        let (Some((server, _)), Some((outside, their_outside))) = (self.knowledge.server, self.ends()) else {
            return;
        };
        let (mapper, waiter) = (self.locals[0], self.locals[1]);
        self.ask(Purpose::Hairpin, mapper, their_outside);
        self.ask(Purpose::Hairpin, waiter, outside);
        self.ask(Purpose::Near, mapper, server);
        self.ask(Purpose::Far, waiter, server);
    }

    /// The outside addresses of the first two sockets, if there is a NAT that could turn packets
    /// between them.
    fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let Knowledge { views, samples, behaviour, server, .. } = &self.knowledge;
        let (server, _) = (*server)?;
        let outside = views.iter().find(|view| view.server == server)?.settled()?;
        let (_, their_outside) = *samples.first()?;
        (behaviour.mapping.is_some_and(|mapping| mapping != Mapping::NoNat))
            .then_some((outside, their_outside))
    }

    fn on_answer(&mut self, now: Instant, path: FourTuple, message: &Message<'_>) -> Verdict<FourTuple> {
        let Some(probe) = self.probes.find(message.transaction_id()) else {
            self.counters.unknown_transaction += 1;
            return Verdict::NotMine;
        };
        let at_home = path.local == probe.path.local;
        if !at_home || path.remote != probe.answers_from {
            let is_refusal = at_home && message.class() == Class::Error;
            *(if is_refusal { &mut self.counters.refused } else { &mut self.counters.wrong_path }) += 1;
            // It refused, or answered as if not asked: it does not do what OTHER-ADDRESS promises.
            self.knowledge.contest.void |= at_home && path.remote == probe.path.remote;
            self.settle(now);
            return Verdict::Consumed;
        }
        if probe.is_answered {
            self.counters.duplicate += 1;
            return Verdict::Consumed;
        }
        if message.class() == Class::Error {
            self.counters.refused += 1;
            return Verdict::Consumed;
        }
        let mapped = message.xor_mapped_address().filter(|_| message.unknown_required().next().is_none());
        let Some(mapped) = mapped else {
            self.counters.unusable += 1;
            return Verdict::Consumed;
        };
        probe.is_answered = true;
        let probe = *probe;
        self.learn(now, &probe, mapped, message.other_address());
        self.settle(now);
        Verdict::Consumed
    }

    fn learn(&mut self, now: Instant, probe: &Probe, mapped: SocketAddr, other: Option<SocketAddr>) {
        let Knowledge { views, samples, contest, .. } = &mut self.knowledge;
        match probe.purpose {
            Purpose::View(place) => {
                let usable = other.filter(|other| evidence::is_other(probe.path.remote, *other));
                self.counters.false_other_address += u64::from(other.is_some() && usable.is_none());
                views[place].on_answer(mapped, usable);
            }
            Purpose::Sample => {
                if samples.iter().any(|(local, _)| *local == probe.path.local) {
                    return;
                }
                samples.push((probe.path.local, mapped));
                if !self.is_conclusive() {
                    self.on_round(now);
                }
            }
            Purpose::Both => contest.both = contest.both.saturating_add(1),
            Purpose::Port => contest.port = contest.port.saturating_add(1),
            Purpose::Near => contest.near |= 1 << probe.round,
            Purpose::Far => contest.far |= 1 << probe.round,
            // A request of this kind goes to ourselves; nobody else can answer it in our name.
            Purpose::Hairpin => {}
        }
    }

    /// A request that came in may be one of ours, turned round by the NAT.
    fn on_request(&mut self, now: Instant, path: FourTuple, message: &Message<'_>) -> Verdict<FourTuple> {
        let ours =
            self.probes.find(message.transaction_id()).filter(|probe| probe.purpose == Purpose::Hairpin);
        let Some(probe) = ours else {
            self.counters.not_an_answer += 1;
            return Verdict::NotMine;
        };
        if !self.locals[..2].contains(&path.local) || path.local == probe.path.local {
            self.counters.wrong_path += 1;
        } else if probe.is_answered {
            self.counters.duplicate += 1;
        } else {
            probe.is_answered = true;
            self.knowledge.contest.both = self.knowledge.contest.both.saturating_add(1);
            self.settle(now);
        }
        Verdict::Consumed
    }
}

/// A server's four faces: its two addresses times its two ports.
fn faces(server: SocketAddr, other: SocketAddr) -> [SocketAddr; 4] {
    let face = |ip: SocketAddr, port: SocketAddr| SocketAddr::new(ip.ip(), port.port());
    [server, face(server, other), face(other, server), other]
}

pub(crate) fn check(locals: &[SocketAddr], servers: &[SocketAddr]) -> Result<(), DiscoveryError> {
    let (Some(first), false) = (locals.first(), servers.is_empty()) else {
        return Err(DiscoveryError::NothingToAsk);
    };
    let is_own = |(nth, local): (usize, &SocketAddr)| {
        local.ip() == first.ip() && local.port() != 0 && !locals[..nth].contains(local)
    };
    if first.ip().is_unspecified() || !locals.iter().enumerate().all(is_own) {
        return Err(DiscoveryError::NotOneHost);
    }
    if servers.iter().any(|server| server.is_ipv4() != first.is_ipv4() || server.port() == 0) {
        return Err(DiscoveryError::Unreachable);
    }
    Ok(())
}

impl Machine for Discovery {
    type Path = FourTuple;
    type Event = DiscoveryEvent;

    fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        let Ok(message) = Message::parse(input.bytes) else {
            self.counters.not_stun += 1;
            return Verdict::NotMine;
        };
        match message.class() {
            Class::Success | Class::Error => self.on_answer(now, input.path, &message),
            Class::Request => self.on_request(now, input.path, &message),
            Class::Indication => {
                self.counters.not_an_answer += 1;
                Verdict::NotMine
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Round => self.on_round(now),
                Timer::Patience => self.go_on(now),
            }
        }
    }

    fn poll_event(&mut self) -> Option<DiscoveryEvent> {
        self.events.pop()
    }

    fn poll_transmit(&mut self, _now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        while let Some(probe) = self.probes.next() {
            if out.fill(|bytes| probe.write(bytes)) {
                return Some(Transmit::new(probe.path));
            }
            self.counters.no_room += 1;
        }
        None
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timers.deadline()
    }
}
