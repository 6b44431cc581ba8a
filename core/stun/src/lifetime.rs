//! The machine that tells how long a NAT keeps a mapping that nobody uses (RFC 5780 §4.6).
//!
//! Several sockets each make a mapping and then wait, all at once, each for a time of its own. When a socket's
//! time is over, another one asks the server to answer *there* (RESPONSE-PORT): if the answer comes in, the
//! mapping lives. Silence counts only beside ten answers that took the same way. Servers that do not do that,
//! for good reasons (RFC 5780 §9), leave one sign: a socket that asks again and is given another port has lost
//! its mapping. Where the NAT scatters its ports, the same port again means that it has not.
//!
//! ```text
//!   Opening ──► Resting ──► Asking ──► Reopening ──► Settled
//!      │                      └────────────────────────▲
//!      └───────────────────────────────────────────────┘
//! ```

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use gimlet_machine::{
    Buf, Deadline, FourTuple, Input, Instant, Machine, Queue, Rng, Timers, Transmit, Verdict,
};

use crate::discovery::{DiscoveryError, check};
use crate::header::{Class, Method, TransactionId};
use crate::message::Message;
use crate::writer::MessageWriter;

/// The most sockets that wait; the ones after that stay unused.
pub const WAITERS_MAX: usize = 16;

/// Between two requests of one socket.
const PACE: Duration = Duration::from_millis(250);

/// How often a socket asks for a mapping, or for what became of it.
const OPENINGS_MAX: u32 = 16;

/// Answers to the asking socket without which silence at the waiting one means nothing.
const WITNESSES: u32 = 10;

/// How often the server is asked to answer at a waiting socket, with a witness each time.
const ASKINGS_MAX: u32 = 3 * WITNESSES;

/// What is remembered of requests under way: the newest. An answer that is older counts as lost.
const REQUESTS_MAX: usize = 512;

/// How a [`Lifetime`] looks.
#[derive(Clone, Debug)]
pub struct LifetimeConfig {
    /// How long sockets wait, one time for each socket.
    pub waits: Vec<Duration>,
    /// Whether the NAT is known to give fresh sockets other ports than their own, so that the same port
    /// twice is no accident ([`PortModel`](crate::PortModel)).
    pub scatters: bool,
}

impl Default for LifetimeConfig {
    /// Around what is common: RFC 4787 §4.3 demands two minutes and recommends five, and many NATs give
    /// 30 s. It takes five minutes at most.
    fn default() -> Self {
        let waits = [10, 20, 28, 35, 50, 65, 95, 125, 185, 245, 305];
        Self { waits: waits.map(Duration::from_secs).into(), scatters: false }
    }
}

/// How long an unused mapping lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindingLifetime {
    /// It was there after so long.
    pub at_least: Option<Duration>,
    /// It was gone after so long.
    pub less_than: Option<Duration>,
}

/// How far a [`Lifetime`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifetimeEvent {
    /// The time of one socket is over.
    Settled {
        /// How long it waited.
        wait: Duration,
        /// Whether its mapping was still there; `None`: not known.
        alive: Option<bool>,
    },
    /// Everything is over. Comes once, last.
    Finished(BindingLifetime),
}

gimlet_machine::counters! {
    /// What a [`Lifetime`] did not use.
    pub struct LifetimeCounters {
        /// Not STUN, or damaged; left to others.
        not_stun,
        /// Answers nothing that was asked, or was answered. Left to others.
        unknown_transaction,
        /// Answers us from elsewhere, or where it was not asked to.
        wrong_path,
        /// The server refused.
        refused,
        /// A request for which the lent buffer was too small: lost like any other.
        no_room,
        /// Requests forgotten because `REQUESTS_MAX` newer ones were under way.
        forgotten,
    }
}

/// What a socket does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It asks for a mapping.
    Opening,
    /// It is silent.
    Resting,
    /// The server is asked to answer it.
    Asking,
    /// It asks what its mapping is now.
    Reopening,
    /// Its time is over.
    Settled(Option<bool>),
}

/// A socket that waits.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    local: SocketAddr,
    wait: Duration,
    phase: Phase,
    /// What the server saw of it at first.
    mapped: Option<SocketAddr>,
    /// Requests of this phase.
    asked: u32,
    witnesses: u32,
    /// What silence, or the server's refusal, has told so far.
    silent: bool,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The waiter's mapping.
    Mapping,
    /// An answer at the waiter, which asks for nothing itself.
    There,
    /// The way to the server and back.
    Witness,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    transaction: TransactionId,
    waiter: usize,
    purpose: Purpose,
    /// From where it leaves.
    local: SocketAddr,
    response_port: Option<u16>,
}

impl Request {
    fn write(&self, out: &mut Vec<u8>) {
        let writer = MessageWriter::new(out, Class::Request, Method::BINDING, self.transaction);
        let writer = match self.response_port {
            Some(port) => writer.response_port(port),
            None => writer,
        };
        writer.fingerprint();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn(usize);

impl gimlet_machine::Timer for Turn {
    fn why(self) -> &'static str {
        "binding lifetime"
    }
}

/// Finds out how long mappings live, once. It begins at once and ends with [`LifetimeEvent::Finished`].
///
/// The sockets have to be fresh: bound to one address of this host, each to a port of its own, and used for
/// nothing else.
#[derive(Clone, Debug)]
pub struct Lifetime {
    rng: Rng,
    scatters: bool,
    server: SocketAddr,
    asker: SocketAddr,
    /// Which outside address the server sees of the asking socket.
    asker_mapped: Option<SocketAddr>,
    waiters: Vec<Waiter>,
    /// Requests that wait to leave.
    outgoing: Queue<Request>,
    under_way: Queue<Request>,
    timers: Timers<Turn>,
    events: Queue<LifetimeEvent>,
    counters: LifetimeCounters,
}

impl Lifetime {
    /// Begins to ask `server`. The first of `locals` asks for the others, of which each waits one of the times.
    pub fn new(
        now: Instant,
        rng: Rng,
        config: &LifetimeConfig,
        locals: &[SocketAddr],
        server: SocketAddr,
    ) -> Result<Self, DiscoveryError> {
        check(locals, &[server])?;
        let (Some((asker, others)), false) = (locals.split_first(), config.waits.is_empty()) else {
            return Err(DiscoveryError::NothingToAsk);
        };
        let waiter = |(local, wait): (&SocketAddr, &Duration)| Waiter {
            local: *local,
            wait: *wait,
            phase: Phase::Opening,
            mapped: None,
            asked: 0,
            witnesses: 0,
            silent: false,
        };
        let waiters: Vec<Waiter> = others.iter().zip(&config.waits).take(WAITERS_MAX).map(waiter).collect();
        if waiters.is_empty() {
            return Err(DiscoveryError::NothingToAsk);
        }
        let mut lifetime = Self {
            rng,
            scatters: config.scatters,
            server,
            asker: *asker,
            asker_mapped: None,
            outgoing: Queue::new(2 * WAITERS_MAX),
            under_way: Queue::new(REQUESTS_MAX),
            timers: Timers::new(),
            events: Queue::new(WAITERS_MAX + 1),
            counters: LifetimeCounters::default(),
            waiters,
        };
        for nth in 0..lifetime.waiters.len() {
            lifetime.turn(now, nth);
        }
        Ok(lifetime)
    }

    /// What is known so far.
    pub fn lifetime(&self) -> BindingLifetime {
        let waits = |verdict: Option<bool>| {
            let settled = self.waiters.iter().filter(move |waiter| waiter.phase == Phase::Settled(verdict));
            settled.map(|waiter| waiter.wait)
        };
        let less_than = waits(Some(false)).min();
        // A NAT that drops mappings early when it is busy keeps others longer: the shorter time is what
        // can be relied on.
        let at_least = waits(Some(true)).filter(|wait| less_than.is_none_or(|less| *wait < less)).max();
        BindingLifetime { at_least, less_than }
    }

    /// What was not used.
    pub const fn counters(&self) -> &LifetimeCounters {
        &self.counters
    }

    /// The next request of a waiter, or the end of its phase.
    fn turn(&mut self, now: Instant, nth: usize) {
        let waiter = self.waiters[nth];
        match waiter.phase {
            Phase::Opening | Phase::Reopening if waiter.asked >= OPENINGS_MAX => self.settle(nth, None),
            Phase::Opening | Phase::Reopening => {
                self.ask(nth, Purpose::Mapping, waiter.local, None);
                self.again(now, nth);
            }
            Phase::Resting => {
                self.enter(nth, Phase::Asking);
                self.turn(now, nth);
            }
            Phase::Asking if waiter.asked >= ASKINGS_MAX || waiter.witnesses >= WITNESSES => {
                self.waiters[nth].silent = waiter.witnesses >= WITNESSES;
                self.enter(nth, Phase::Reopening);
                self.turn(now, nth);
            }
            Phase::Asking => {
                let port = waiter.mapped.map(|mapped| mapped.port());
                self.ask(nth, Purpose::Witness, self.asker, None);
                self.ask(nth, Purpose::There, self.asker, port);
                self.again(now, nth);
            }
            Phase::Settled(_) => {}
        }
    }

    fn again(&mut self, now: Instant, nth: usize) {
        self.waiters[nth].asked += 1;
        self.timers.set(Turn(nth), now + PACE);
    }

    fn enter(&mut self, nth: usize, phase: Phase) {
        let waiter = &mut self.waiters[nth];
        (waiter.phase, waiter.asked) = (phase, 0);
        self.timers.clear(Turn(nth));
        self.outgoing.retain(|request| request.waiter != nth);
        self.under_way.retain(|request| request.waiter != nth);
    }

    fn ask(&mut self, nth: usize, purpose: Purpose, local: SocketAddr, response_port: Option<u16>) {
        let transaction = TransactionId::random(&mut self.rng);
        let request = Request { transaction, waiter: nth, purpose, local, response_port };
        // A pace ago the last one left; if it did not, this one takes its place.
        self.counters.forgotten += u64::from(self.outgoing.push_evicting(request).is_some());
    }

    fn settle(&mut self, nth: usize, alive: Option<bool>) {
        self.enter(nth, Phase::Settled(alive));
        let wait = self.waiters[nth].wait;
        self.tell(LifetimeEvent::Settled { wait, alive });
        if alive == Some(false) {
            // What waits longer has nothing more to tell.
            for longer in 0..self.waiters.len() {
                let Waiter { wait: theirs, phase, .. } = self.waiters[longer];
                if theirs > wait && !matches!(phase, Phase::Settled(_)) {
                    self.enter(longer, Phase::Settled(None));
                }
            }
        }
        if self.waiters.iter().all(|waiter| matches!(waiter.phase, Phase::Settled(_))) {
            self.tell(LifetimeEvent::Finished(self.lifetime()));
        }
    }

    fn tell(&mut self, event: LifetimeEvent) {
        let refused = self.events.push(event);
        debug_assert!(refused.is_ok(), "there is room for every waiter and the end");
    }

    fn on_answer(&mut self, now: Instant, path: FourTuple, message: &Message<'_>) -> Verdict<FourTuple> {
        let transaction = message.transaction_id();
        let Some(request) = self.under_way.iter().find(|it| it.transaction == transaction).copied() else {
            self.counters.unknown_transaction += 1;
            return Verdict::NotMine;
        };
        let there = self.waiters[request.waiter].local;
        let is_success = message.class() == Class::Success;
        let may_come_there = request.purpose == Purpose::There && path.local == there;
        if path.remote != self.server || (path.local != request.local && !may_come_there) {
            self.counters.wrong_path += 1;
            return Verdict::Consumed;
        }
        self.under_way.retain(|it| it.transaction != transaction);
        let mapped = message.xor_mapped_address().filter(|_| message.unknown_required().next().is_none());
        let elsewhere = path.local == there;
        match request.purpose {
            Purpose::There if is_success && elsewhere => self.settle(request.waiter, Some(true)),
            // It answered the one that asked, as if nothing else had been asked for, or refused.
            Purpose::There => self.on_refusal(now, request.waiter),
            Purpose::Mapping | Purpose::Witness if !is_success => self.counters.refused += 1,
            Purpose::Witness => {
                self.asker_mapped = mapped.or(self.asker_mapped);
                self.waiters[request.waiter].witnesses += 1;
                self.consider_pool(now, request.waiter);
            }
            Purpose::Mapping => {
                if let Some(mapped) = mapped {
                    self.on_mapping(now, request.waiter, mapped);
                }
            }
        }
        Verdict::Consumed
    }

    /// The server does not answer elsewhere, or says so: only the waiter itself can still tell.
    fn on_refusal(&mut self, now: Instant, nth: usize) {
        self.counters.refused += 1;
        self.enter(nth, Phase::Reopening);
        self.turn(now, nth);
    }

    /// RESPONSE-PORT cannot name another address than the asker's.
    fn consider_pool(&mut self, now: Instant, nth: usize) {
        let (theirs, asker) = (self.waiters[nth].mapped, self.asker_mapped);
        if theirs.zip(asker).is_some_and(|(theirs, asker)| theirs.ip() != asker.ip()) {
            self.on_refusal(now, nth);
        }
    }

    fn on_mapping(&mut self, now: Instant, nth: usize, mapped: SocketAddr) {
        let waiter = self.waiters[nth];
        if waiter.phase == Phase::Opening {
            self.waiters[nth].mapped = Some(mapped);
            self.enter(nth, Phase::Resting);
            self.timers.set(Turn(nth), now + waiter.wait);
            return;
        }
        let alive = if waiter.mapped != Some(mapped) || waiter.silent {
            Some(false)
        } else {
            self.scatters.then_some(true)
        };
        self.settle(nth, alive);
    }
}

impl Machine for Lifetime {
    type Path = FourTuple;
    type Event = LifetimeEvent;

    fn handle_input(&mut self, now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        let Ok(message) = Message::parse(input.bytes) else {
            self.counters.not_stun += 1;
            return Verdict::NotMine;
        };
        match message.class() {
            Class::Success | Class::Error => self.on_answer(now, input.path, &message),
            Class::Request | Class::Indication => {
                self.counters.unknown_transaction += 1;
                Verdict::NotMine
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(Turn(nth)) = self.timers.pop(now) {
            self.turn(now, nth);
        }
    }

    fn poll_event(&mut self) -> Option<LifetimeEvent> {
        self.events.pop()
    }

    fn poll_transmit(&mut self, _now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        while let Some(request) = self.outgoing.pop() {
            if out.fill(|bytes| request.write(bytes)) {
                self.counters.forgotten += u64::from(self.under_way.push_evicting(request).is_some());
                return Some(Transmit::new(FourTuple::new(request.local, self.server)));
            }
            self.counters.no_room += 1;
        }
        None
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timers.deadline()
    }
}
