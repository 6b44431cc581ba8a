//! Hole punching: what is done about NATs whose outside ports nobody can know beforehand. The agent's part
//! in it is in `agent/punch.rs`; here is what it keeps.

mod budget;
mod gate;
mod model;
mod plan;
mod sockets;
mod spray;
mod state;

use alloc::boxed::Box;
use core::net::IpAddr;
use core::time::Duration;

use gimlet_machine::{Instant, Rng};

pub use model::{OUTSIDE_MAX, Profile};
pub use plan::{Declined, PUNCH_PROBES_MAX, PUNCH_SOCKETS_MAX, Part, Plan, PunchLimits, plan};
pub use sockets::PunchSocketError;
pub use state::PunchState;

use budget::Budget;
use gate::Attested;
pub(crate) use gate::is_host;
pub(crate) use sockets::Sockets;
use spray::{Order, Ports, Secret};
use state::PunchStep;

/// Between two probes: 200 in a second at most.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_millis(5);

/// Between two passes, and between the last probe and the end of a round: time for answers.
const PASS_GAP: Duration = Duration::from_millis(500);

/// How long a punch waits for sockets that its owner is slow to open, or cannot.
const SOCKETS_PATIENCE: Duration = Duration::from_secs(1);

/// How long what was hit may take to work: its check is sent three times meanwhile.
const HIT_PATIENCE: Duration = Duration::from_secs(5);

/// Hits that a round pauses for; what does not work after that does not stop it any more.
const HITS_MAX: u8 = 4;

/// The first wait after a round that found nothing, and the longest. It doubles each time. No shorter: NATs
/// remember early packets for half a minute.
const BACKOFF_MIN: Duration = Duration::from_secs(45);
const BACKOFF_MAX: Duration = Duration::from_secs(3_600);

/// How long two easy NATs are left alone so that they forget: flows that nobody answered (half a minute in
/// Linux), then, if that was not enough, any flow (RFC 4787 §4.3: two minutes).
const SILENCE_SHORT: Duration = Duration::from_secs(35);
const SILENCE_LONG: Duration = Duration::from_secs(130);

/// How long the checks after a silence get.
const BURST: Duration = Duration::from_secs(8);

/// By how much one side lets the other go first, from the third silence on.
const COURTESY: Duration = Duration::from_secs(1);

/// So many silences a failing agent still waits for.
const SILENCES_AWAITED: u32 = 2;

/// Whom we may spray, and the punch, if one was ever asked for.
#[derive(Debug)]
pub(crate) struct Punching {
    pub(crate) attested: Attested,
    pub(crate) punch: Option<Box<Punch>>,
}

impl Punching {
    pub(crate) const fn new() -> Self {
        Self { attested: Attested::new(), punch: None }
    }

    pub(crate) fn state(&self) -> Option<PunchState> {
        self.punch.as_ref().map(|punch| punch.state)
    }

    /// Whether new ways are looked for at the moment.
    pub(crate) fn is_active(&self) -> bool {
        match self.state() {
            Some(PunchState::Spraying | PunchState::Hit) => true,
            None | Some(PunchState::Planned | PunchState::Backoff | PunchState::Ended) => false,
        }
    }

    /// Whether both NATs are being left alone.
    pub(crate) fn is_silent(&self) -> bool {
        let meets = |punch: &Punch| punch.plan.part == Part::Meet && punch.state == PunchState::Backoff;
        self.punch.as_deref().is_some_and(meets)
    }

    /// Whether it is too early to say that no pair works.
    pub(crate) fn is_hopeful(&self) -> bool {
        let awaited = |punch: &Punch| punch.round < SILENCES_AWAITED;
        self.is_active() || (self.is_silent() && self.punch.as_deref().is_some_and(awaited))
    }
}

/// One peer's punch. It is small: neither ports nor transaction ids are stored.
#[derive(Debug)]
pub(crate) struct Punch {
    state: PunchState,
    pub(crate) plan: Plan,
    /// The outside addresses of both sides.
    pub(crate) ours: Box<[IpAddr]>,
    pub(crate) theirs: Box<[IpAddr]>,
    pub(crate) sockets: Sockets,
    /// Counts the rounds, each with its own order and transaction ids.
    round: u32,
    cursor: Cursor,
    /// When the state began, or the round that it belongs to.
    since: Instant,
    /// When the state ends by itself.
    until: Option<Instant>,
    /// Rounds since there was last reason for hope.
    failures: u8,
    pub(crate) budget: Budget,
    dice: Dice,
}

/// Where in its round a punch is.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    pass: u8,
    index: u32,
    /// No probe leaves before.
    next_at: Instant,
    hits: u8,
}

impl Cursor {
    const START: Self = Self { pass: 0, index: 0, next_at: Instant::ZERO, hits: 0 };
}

/// What decides orders and transaction ids.
#[derive(Debug)]
struct Dice {
    rng: Rng,
    secret: Secret,
    order: Order,
}

impl Dice {
    fn new(rng: Rng) -> Self {
        let secret = Secret::new(&mut rng.fork("secret"));
        let order = Order::new(&mut rng.fork_nth("order", 0));
        Self { rng, secret, order }
    }
}

impl Punch {
    pub(crate) fn new(now: Instant, rng: Rng, plan: Plan, limits: &PunchLimits) -> Self {
        Self {
            state: PunchState::Planned,
            plan,
            ours: Box::default(),
            theirs: Box::default(),
            sockets: Sockets::default(),
            round: 0,
            cursor: Cursor::START,
            since: now,
            until: None,
            failures: 0,
            budget: Budget::new(limits.probes_max.min(PUNCH_PROBES_MAX)),
            dice: Dice::new(rng),
        }
    }

    /// Turns to another plan. What was spent stays spent, and sockets stay open.
    pub(crate) fn replan(&mut self, now: Instant, plan: Plan, ours: &Profile, theirs: &Profile) {
        self.step(now, PunchStep::Plan);
        self.plan = plan;
        self.ours = ours.addresses().into();
        self.theirs = theirs.addresses().into();
        self.failures = 0;
        self.until = None;
    }

    pub(crate) const fn state(&self) -> PunchState {
        self.state
    }

    pub(crate) const fn round(&self) -> u32 {
        self.round
    }

    pub(crate) const fn until(&self) -> Option<Instant> {
        self.until
    }

    fn step(&mut self, now: Instant, step: PunchStep) -> bool {
        let Some(next) = self.state.after(step) else { return false };
        self.state = next;
        if !matches!(step, PunchStep::Hit | PunchStep::Resume) {
            self.since = now;
        }
        self.until = None;
        true
    }

    /// How many sockets our part takes.
    pub(crate) fn wanted(&self) -> usize {
        match self.plan.part {
            Part::Open => usize::from(self.plan.sockets),
            Part::Probe | Part::Meet => 0,
        }
    }

    /// A socket arrived: the others may not.
    pub(crate) fn on_socket(&mut self, now: Instant) {
        if self.state == PunchState::Planned && self.until.is_none() {
            self.until = Some(now + SOCKETS_PATIENCE);
        }
    }

    /// Whether there are enough sockets to begin with.
    pub(crate) fn has_sockets(&self, now: Instant) -> bool {
        let late = self.until.is_some_and(|until| until <= now) && self.sockets.len() > 0;
        self.sockets.len() >= self.wanted() || late
    }

    /// When the next round may begin, as far as the budget goes: for what the costlier side spends, so that
    /// both sides wait equally long.
    pub(crate) fn affordable_at(&self, now: Instant) -> Instant {
        self.budget.room_for(now, self.plan.cost())
    }

    /// Whether both NATs have been left alone before the round that is to begin.
    pub(crate) const fn is_rested(&self) -> bool {
        self.failures > 0
    }

    /// Begins a round.
    pub(crate) fn begin(&mut self, now: Instant) {
        if !self.step(now, PunchStep::Begin) {
            return;
        }
        self.round = self.round.saturating_add(1);
        self.dice.order = Order::new(&mut self.dice.rng.fork_nth("order", u64::from(self.round)));
        self.cursor = Cursor::START;
        let length = match self.plan.part {
            Part::Meet => BURST,
            Part::Open | Part::Probe => self.length(),
        };
        self.until = Some(now + length);
    }

    /// Whether the side that opens goes first: what it opens is there before the other side's probes come. A
    /// NAT that minds early packets may want it the other way round, so the sides take turns.
    const fn opener_first(&self) -> bool {
        self.round % 2 == 1
    }

    fn time_of(probes: u16) -> Duration {
        PROBE_INTERVAL * u32::from(probes)
    }

    /// When pass `pass` of our part begins, counted from the beginning of the round.
    fn start_of(&self, pass: u8) -> Duration {
        let (opening, probing) = (Self::time_of(self.plan.sockets), Self::time_of(self.plan.probes));
        let turn = (probing + PASS_GAP) * u32::from(pass);
        match (self.plan.part, self.opener_first()) {
            // There are few probes for a guess: none may come before the mappings do.
            (Part::Probe, true) if self.plan.opens < 2 => opening + turn,
            // Half of the mappings are a good beginning, and every second counts.
            (Part::Probe, true) => opening / 2 + turn,
            // The second pass of the side that opens crosses the filters that the peer's probes have opened.
            (Part::Probe, false) | (Part::Open, true) => turn,
            (Part::Open, false) => probing + turn.min(opening + PASS_GAP),
            (Part::Meet, _) => Duration::ZERO,
        }
    }

    /// How long a round is, on both sides.
    fn length(&self) -> Duration {
        let (opening, probing) = (Self::time_of(self.plan.sockets), Self::time_of(self.plan.probes));
        opening * u32::from(self.plan.opens)
            + (probing + PASS_GAP) * u32::from(self.plan.passes.max(1))
            + 3 * PASS_GAP
    }

    const fn passes(&self) -> u8 {
        match self.plan.part {
            Part::Open => self.plan.opens,
            Part::Probe => self.plan.passes,
            Part::Meet => 0,
        }
    }

    /// When the next probe leaves, if another one does in this round.
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        if self.state != PunchState::Spraying || self.cursor.pass >= self.passes() {
            return None;
        }
        let at = self.cursor.next_at.max(self.since + self.start_of(self.cursor.pass));
        (self.budget.room(now) > 0).then_some(at)
    }

    /// The next probe's place in its pass.
    pub(crate) const fn place(&self) -> (u8, u32) {
        (self.cursor.pass, self.cursor.index)
    }

    /// The port that the prober tries next; `None` at the end of a pass.
    pub(crate) fn next_port(&self) -> Option<u16> {
        let probes = u32::from(self.plan.probes);
        let before = match self.plan.ports {
            Ports::Ahead { .. } => 0,
            Ports::Block { .. } | Ports::Anywhere => u32::from(self.cursor.pass) * probes,
        };
        let index = before + self.cursor.index;
        self.plan.ports.nth(self.dice.order, index).filter(|_| self.cursor.index < probes)
    }

    /// A probe leaves.
    pub(crate) fn on_sent(&mut self, now: Instant) {
        self.budget.spend(now);
        self.cursor.index += 1;
        self.cursor.next_at = now + PROBE_INTERVAL;
    }

    /// One place of a pass has no use.
    pub(crate) fn skip(&mut self) {
        self.cursor.index += 1;
    }

    /// Nothing is left in this pass.
    pub(crate) fn end_pass(&mut self) {
        self.cursor.pass += 1;
        self.cursor.index = 0;
    }

    /// The transaction id of the probe on this path.
    pub(crate) fn id(&self, path: gimlet_machine::FourTuple) -> gimlet_stun::TransactionId {
        self.dice.secret.id(self.round, path.local, path.remote)
    }

    /// A hit.
    pub(crate) fn on_hit(&mut self, now: Instant) -> bool {
        let taken = self.cursor.hits < HITS_MAX && self.step(now, PunchStep::Hit);
        if taken {
            self.cursor.hits += 1;
            self.until = Some(now + HIT_PATIENCE);
        }
        taken
    }

    /// What was hit does not work after all.
    pub(crate) fn resume(&mut self, now: Instant) {
        if self.step(now, PunchStep::Resume) {
            self.until = Some((self.since + self.length()).max(now + PASS_GAP));
        }
    }

    /// A round ended without success. `waits` says who lets the other go first when it matters, which changes
    /// with every silence.
    pub(crate) fn exhaust(&mut self, now: Instant, waits: bool) {
        if !self.step(now, PunchStep::Exhaust) {
            return;
        }
        let wait = BACKOFF_MIN.saturating_mul(1 << self.failures.min(8)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(match self.plan.part {
            Part::Meet => {
                let silences = self.failures.saturating_sub(2);
                let silence = SILENCE_LONG.saturating_mul(1 << silences.min(8)).min(BACKOFF_MAX);
                // Counted from when the side that waited would have begun had it not.
                let (late, was_late) = (courtesy(silences, waits), courtesy(silences.wrapping_sub(1), waits));
                now + (silence + late).saturating_sub(was_late)
            }
            Part::Open | Part::Probe => (now + wait).max(self.affordable_at(now)),
        });
        self.sockets.clear();
    }

    /// Puts the first round off: both NATs are to forget, or the budget is spent.
    pub(crate) fn rest(&mut self, now: Instant) {
        let wait = match self.plan.part {
            Part::Meet => now + SILENCE_SHORT,
            Part::Open | Part::Probe => self.affordable_at(now),
        };
        if self.step(now, PunchStep::Rest) {
            self.failures = self.failures.max(1);
            self.until = Some(wait);
            self.sockets.clear();
        }
    }

    /// The next round is due.
    pub(crate) fn retry(&mut self, now: Instant) {
        self.step(now, PunchStep::Retry);
    }

    /// There is reason to hope: a waiting round comes as soon as the budget allows.
    pub(crate) fn hasten(&mut self, now: Instant) {
        self.failures = 0;
        if self.state == PunchState::Backoff && self.plan.part != Part::Meet {
            self.until = Some(self.affordable_at(now));
        }
    }

    /// The end.
    pub(crate) fn end(&mut self, now: Instant) -> bool {
        let ended = self.step(now, PunchStep::Succeed);
        if ended {
            self.sockets.clear();
        }
        ended
    }
}

/// How long the side of which `waits` holds lets the other go first after silence number `silences`. At first
/// both begin at once, which suits all NATs if the owners' clocks agree; then they take turns.
const fn courtesy(silences: u8, waits: bool) -> Duration {
    if silences != 0 && silences != u8::MAX && waits == (silences % 2 == 1) {
        COURTESY
    } else {
        Duration::ZERO
    }
}

#[cfg(test)]
#[path = "punch/state_tests.rs"]
mod tests;
