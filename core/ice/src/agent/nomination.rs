//! Nomination (RFC 8445 §8.1): which of the valid pairs both sides use.

use core::cmp::Reverse;
use core::net::SocketAddr;
use core::time::Duration;

use gimlet_machine::{Id, Instant};

use super::Agent;
use crate::candidate::is_near;
use crate::checks::{Check, Record};
use crate::pair::{Lane, Nominated, Pair};
use crate::state::{Liveness, Nomination, NominationStep, PairState, Step};
use crate::timer::TimerKey;
use crate::{Candidate, CandidateKind, Event, Role};

/// The shortest and the longest wait for a better direct pair. Data flows on the valid pair meanwhile, so
/// the wait costs nothing but certainty.
const PATIENCE_MIN: Duration = Duration::from_millis(20);
const PATIENCE_MAX: Duration = Duration::from_millis(100);

/// A valid pair of the same kind takes over from the selected one if its round trip is shorter by a fifth,
/// and by this much: less is noise, and moving has its price.
const GAIN_MIN: Duration = Duration::from_millis(10);

/// Without consent of our own, as lite agents are, this much silence of the peer on the selected pair says
/// that it went elsewhere: it would have asked for consent twice.
const SILENCE_MAX: Duration = Duration::from_secs(12);

/// Where nomination stands, and with which pair.
#[derive(Debug)]
pub(super) struct Nominating {
    state: Nomination,
    /// Requested or selected.
    pair: Option<Id<Pair>>,
    /// When the first pair became valid.
    since: Instant,
    /// When a pair was last selected in this generation.
    decided_at: Option<Instant>,
    /// The highest number seen or used (draft-thatcher-ice-renomination).
    number: u32,
}

impl Default for Nominating {
    fn default() -> Self {
        Self { state: Nomination::Undecided, pair: None, since: Instant::ZERO, decided_at: None, number: 0 }
    }
}

impl Nominating {
    fn step(&mut self, step: NominationStep) -> bool {
        let Some(next) = self.state.after(step) else { return false };
        self.state = next;
        debug_assert!(
            self.has_chosen() || self.pair.is_none(),
            "only a requested or selected pair is remembered"
        );
        true
    }

    /// The pair that data uses, agreed on or about to be.
    pub(super) fn selected(&self) -> Option<Id<Pair>> {
        match self.state {
            Nomination::Undecided | Nomination::Provisional | Nomination::Requested => None,
            Nomination::Selected | Nomination::Moved => self.pair,
        }
    }

    /// Whether a pair is requested or selected.
    pub(super) fn has_chosen(&self) -> bool {
        match self.state {
            Nomination::Undecided | Nomination::Provisional => false,
            Nomination::Requested | Nomination::Selected | Nomination::Moved => true,
        }
    }

    /// Whether a pair was ever selected in this generation.
    pub(super) fn has_ever_chosen(&self) -> bool {
        self.decided_at.is_some()
    }

    /// Whether `id` awaits the peer's agreement.
    fn is_requested(&self, id: Id<Pair>) -> bool {
        matches!(self.state, Nomination::Requested | Nomination::Moved) && self.pair == Some(id)
    }

    /// How a check of `id` by an agent of `role` nominates it.
    pub(super) fn nominates(&self, id: Id<Pair>, role: Role) -> Option<Nominated> {
        let asks = role == Role::Controlling && self.is_requested(id);
        asks.then(|| self.nomination())
    }

    /// How the latest nomination is made.
    pub(super) const fn nomination(&self) -> Nominated {
        if self.number == 0 { Nominated::Plainly } else { Nominated::Numbered(self.number) }
    }

    /// A pair is valid; says whether it is the first.
    pub(super) fn on_valid(&mut self, now: Instant) -> bool {
        let first = self.step(NominationStep::Validate);
        if first {
            self.since = now;
        }
        first
    }

    /// A pair failed: a request for it is void.
    pub(super) fn on_failed(&mut self, id: Id<Pair>) {
        if self.state == Nomination::Requested && self.pair == Some(id) {
            self.pair = None;
            self.step(NominationStep::Refuse);
        }
    }

    /// No pair is valid any more; says whether that is news.
    pub(super) fn on_none_valid(&mut self) -> bool {
        self.pair = self.pair.filter(|_| self.state == Nomination::Requested);
        self.step(NominationStep::Lose)
    }

    /// The selected pair is gone, and the others have to be looked at.
    pub(super) fn on_released(&mut self, now: Instant) {
        self.pair = None;
        self.since = now;
        self.step(NominationStep::Release);
    }

    /// A new generation: everything is open, and numbers begin anew.
    pub(super) fn restart(&mut self) {
        self.pair = None;
        self.step(NominationStep::Restart);
        *self = Self::default();
    }
}

impl Agent {
    /// Controlling: asks for the best valid pair as soon as no better one can be hoped for.
    pub(super) fn consider_nomination(&mut self, now: Instant) {
        let chooses =
            self.nominating.state == Nomination::Provisional && self.role.role() == Role::Controlling;
        let best = if chooses { self.best_valid() } else { None };
        let Some(best) = best else {
            self.timers.clear(TimerKey::Nominate);
            return;
        };
        match self.hopeful_until(best).filter(|until| *until > now) {
            Some(until) => self.timers.set(TimerKey::Nominate, until),
            None => self.request_nomination(best),
        }
    }

    /// The valid pair that is most worth being used.
    pub(super) fn best_valid(&self) -> Option<Id<Pair>> {
        let valid = self.checklist.valid();
        valid.max_by_key(|(id, pair)| (self.standing(pair), Reverse(*id))).map(|(id, _)| id)
    }

    /// How `pair` compares with others when one is chosen: what is known to be direct first, then by priority.
    fn standing(&self, pair: &Pair) -> (bool, u64) {
        let direct = pair.lane() < Lane::Relayed && !self.may_be_relayed(pair);
        (direct, pair.priority)
    }

    /// Whether the far end of `pair` may turn out to be the peer's relay. A check that left from there is heard
    /// from an address that may be signalled later only, and claims the type preference of a peer-reflexive
    /// candidate like any other (RFC 8445 §7.1.1): by priority alone it beats every server-reflexive one. Once
    /// the peer has said that all its candidates are known (RFC 8838 §14), it is what it seems; and so is a further port
    /// of a NAT that the peer is known to be behind.
    fn may_be_relayed(&self, pair: &Pair) -> bool {
        let Some(remote) = self.candidates.remote(pair.remote) else { return false };
        let ip = remote.candidate.address.ip();
        let is_nat =
            |known: &Candidate| known.kind == CandidateKind::ServerReflexive && known.address.ip() == ip;
        remote.learned
            && !self.candidates.is_remote_ended()
            && !self.candidates.remotes().any(|(_, known)| is_nat(&known.candidate))
    }

    fn request_nomination(&mut self, id: Id<Pair>) {
        self.timers.clear(TimerKey::Nominate);
        self.number_nomination();
        self.nominating.pair = Some(id);
        let taken = self.nominating.step(NominationStep::Request);
        debug_assert!(taken, "a request begins with a valid pair");
        self.checklist.trigger_first(id);
    }

    /// Every choice has its number, if the peer understands that. What was asked before is not asked again.
    fn number_nomination(&mut self) {
        self.checks.cancel(Record::nominates);
        if self.config.renomination {
            self.nominating.number = self.nominating.number.saturating_add(1);
        }
    }

    /// Until when a pair better than `best` may still become valid; `None` if there is none.
    ///
    /// RFC 8445 §8.1.1 leaves the criterion to the agent. Ours: a better pair in progress is given the
    /// round trip of the valid one (half of it if it leads to a nearby address, which would have answered
    /// sooner than anything behind a NAT), one that waits its turn is given until the patience for `best`
    /// ends.
    fn hopeful_until(&self, best: Id<Pair>) -> Option<Instant> {
        let best = self.checklist.get(best)?;
        let rtt = best.history.rtt();
        let lane = if self.may_be_relayed(best) { Lane::Relayed } else { best.lane() };
        let patience = match (lane, rtt) {
            // A relay works nearly always and costs somebody: direct pairs get the time of a lost packet's
            // neighbour to show up.
            (Lane::Relayed, rtt) => PATIENCE_MAX.max(2 * rtt.unwrap_or_default()),
            (Lane::Host | Lane::Reflexive, Some(rtt)) => rtt.clamp(PATIENCE_MIN, PATIENCE_MAX),
            (Lane::Host | Lane::Reflexive, None) => PATIENCE_MAX,
        };
        let end = self.nominating.since + patience;
        let hope = |pair: &Pair| match pair.state() {
            PairState::Waiting => Some(end),
            PairState::InProgress => Some(match (lane, rtt, self.remote_address(pair)) {
                (Lane::Relayed, ..) | (_, None, _) => end,
                (_, Some(rtt), Some(address)) if is_near(address.ip()) => {
                    end.min(pair.seen.checked + rtt / 2)
                }
                (_, Some(rtt), _) => end.min(pair.seen.checked + rtt),
            }),
            PairState::Frozen | PairState::Succeeded | PairState::Failed => None,
        };
        let standing = self.standing(best);
        let better = self.checklist.iter().filter(|(_, pair)| self.standing(pair) > standing);
        // A name leads to a host on our link: better than whatever is not.
        let named = (best.lane() != Lane::Host && self.candidates.names.is_waiting()).then_some(end);
        better.filter_map(|(_, pair)| hope(pair)).chain(named).max()
    }

    fn remote_address(&self, pair: &Pair) -> Option<SocketAddr> {
        self.candidates.remote(pair.remote).map(|remote| remote.candidate.address)
    }

    /// The answer to our request, if `check` carried it: both sides have agreed.
    pub(super) fn on_nomination_answered(&mut self, now: Instant, check: &Check) {
        let current = check.nominates && check.epoch == self.role.epoch();
        let moved = self.nominating.state == Nomination::Moved;
        if current
            && self.nominating.is_requested(check.pair)
            && self.nominating.step(NominationStep::Confirm)
            && !moved
        {
            self.select(now, check.pair);
            self.leave_relay(now);
        }
    }

    /// Controlling: the selected pair crosses a relay, as what the peer has signalled since may have shown. If a
    /// direct one is valid, data moves there now, or once the peer has answered there again.
    pub(super) fn leave_relay(&mut self, now: Instant) {
        let selected = self.nominating.selected().filter(|_| self.role.role() == Role::Controlling);
        let Some(selected) = selected else { return };
        if self.checklist.get(selected).is_none_or(|pair| pair.lane() < Lane::Relayed) {
            return;
        }
        let worthy = |id: &Id<Pair>| self.is_worth_moving(now, *id, selected);
        let Some(id) = self.best_valid().filter(worthy) else { return };
        match self.checklist.get_mut(id) {
            Some(pair) if !pair.is_fresh(now) => {
                pair.history.recheck = true;
                self.checklist.trigger(id);
            }
            Some(_) | None => self.move_to(now, id),
        }
    }

    /// Controlled: the peer asked for a pair that is valid here. The highest number counts, and still does when
    /// we had to leave its pair meanwhile; of plain choices the better pair, unless what was selected is in
    /// doubt (RFC 8445 §8.1.1).
    pub(super) fn accept_nomination(&mut self, now: Instant, id: Id<Pair>) {
        let Some(asked) = self.checklist.get(id).and_then(|pair| pair.asked) else { return };
        let selected = self.nominating.selected();
        let left = self.nominating.state == Nomination::Moved;
        let follows = match asked {
            Nominated::Numbered(number) if left => number >= self.nominating.number,
            Nominated::Numbered(number) => number > self.nominating.number,
            Nominated::Plainly => selected
                .is_none_or(|selected| self.is_better(id, selected) || self.is_doubtful(now, selected)),
        };
        if selected == Some(id) || follows {
            if let Nominated::Numbered(number) = asked {
                self.nominating.number = self.nominating.number.max(number);
            }
            let taken = self.nominating.step(NominationStep::Accept);
            if taken && selected != Some(id) {
                self.select(now, id);
            }
        } else {
            self.counters.nominations_ignored += 1;
        }
    }

    /// Selects the pair `id`, which is valid, although nobody asked for it.
    pub(super) fn accept_unasked(&mut self, now: Instant, id: Id<Pair>) {
        if self.nominating.step(NominationStep::Accept) {
            self.select(now, id);
        }
    }

    fn is_better(&self, id: Id<Pair>, than: Id<Pair>) -> bool {
        let priority = |id| self.checklist.get(id).map(|pair| pair.priority);
        priority(id) > priority(than)
    }

    /// Whether the peer may have left the pair `selected`.
    fn is_doubtful(&self, now: Instant, selected: Id<Pair>) -> bool {
        let moved = self.nominating.state == Nomination::Moved;
        let Some(pair) = self.checklist.get(selected) else { return true };
        let silence = now.since(pair.seen.heard.max(pair.seen.answered));
        moved || self.checks.consent.liveness() != Liveness::Fresh || silence > SILENCE_MAX
    }

    /// Our role went, and with it the right to ask.
    pub(super) fn abandon_request(&mut self) {
        let Some(id) = self.nominating.pair else { return };
        match self.nominating.state {
            Nomination::Requested => {
                self.nominating.pair = None;
                self.nominating.step(NominationStep::Refuse);
                self.checklist.dequeue(id);
                self.checks.cancel(Record::nominates);
            }
            // Now controlling, we ask for what we use; now controlled, we wait.
            Nomination::Moved if self.role.role() == Role::Controlling => self.checklist.trigger_first(id),
            Nomination::Moved => self.checks.cancel(Record::nominates),
            Nomination::Undecided | Nomination::Provisional | Nomination::Selected => {}
        }
    }

    /// RFC 8445 §8.1.2: what was not checked is not needed any more, what was is not repeated. With
    /// renomination, ways of a better kind stay in the race.
    pub(super) fn select(&mut self, now: Instant, id: Id<Pair>) {
        let again = self.nominating.decided_at.replace(now).is_some();
        self.nominating.pair = Some(id);
        self.counters.moves += u64::from(again);
        self.checks.consent.reset_returns();
        self.forget_retired();
        self.end_other_checks(id);
        if let Some(path) = self.path_of(id) {
            self.tell(Event::PathSelected { path });
        }
        self.timers.clear(TimerKey::Patience);
        self.step(Step::Select);
    }

    /// Ends the checks that cannot lead to a better pair than `id`.
    pub(super) fn end_other_checks(&mut self, id: Id<Pair>) {
        let renomination = self.config.renomination;
        let lane = self.checklist.get(id).map(Pair::lane);
        let spared = |pair: &Pair| renomination && Some(pair.lane()) < lane;
        let (checks, checklist) = (&mut self.checks, &mut self.checklist);
        // What is under way on the pair itself settles roles, not paths.
        checks.cancel(|check| {
            let of_pair = check.is_of(id) && !check.nominates();
            !of_pair && !checklist.at(check.place()).and_then(|id| checklist.get(id)).is_some_and(spared)
        });
        checklist.remove_unchecked(spared, |removed| checks.forget(removed));
    }

    /// Another valid pair takes the place of the selected one at once; the peer is asked to follow
    /// (RFC 8445 §8.1.1 allows it because consent for the other one is gone, or the peer understands
    /// renomination).
    pub(super) fn move_to(&mut self, now: Instant, id: Id<Pair>) {
        let former = self.nominating.pair.replace(id);
        if !self.nominating.step(NominationStep::Move) {
            self.nominating.pair = former;
            return;
        }
        self.nominating.decided_at = Some(now);
        self.counters.moves += 1;
        self.checks.consent.reset_returns();
        self.checks.cancel(Record::nominates);
        if let Some(path) = self.path_of(id) {
            self.tell(Event::PathSelected { path });
        }
        if self.role.role() == Role::Controlling {
            self.number_nomination();
            self.checklist.trigger_first(id);
        }
    }

    /// Controlling: a pair is valid while the peer has not answered for another one, which crosses a relay. A direct
    /// one takes its place if the peer understands that (a number says which is meant).
    pub(super) fn reconsider_request(&mut self, id: Id<Pair>) {
        let asked = self.nominating.pair.filter(|_| self.nominating.state == Nomination::Requested);
        let both = asked.and_then(|asked| self.checklist.get(asked)).zip(self.checklist.get(id));
        let Some((asked, pair)) = both else { return };
        let better = asked.lane() == Lane::Relayed && self.standing(pair) > self.standing(asked);
        if !(self.config.renomination
            && self.role.role() == Role::Controlling
            && better
            && self.standing(pair).0)
        {
            return;
        }
        self.nominating.pair = None;
        self.nominating.step(NominationStep::Refuse);
        self.checks.cancel(Record::nominates);
        self.request_nomination(id);
    }

    /// A pair other than the selected one answered: is it where to go?
    pub(super) fn consider_move(&mut self, now: Instant, id: Id<Pair>, became_valid: bool) {
        let Some(selected) = self.nominating.selected().filter(|selected| *selected != id) else { return };
        if became_valid && self.has_roamed(id, selected) {
            match self.role.role() {
                Role::Controlling => self.move_to(now, id),
                // The peer will nominate; if it does not notice, our own requests will tell.
                Role::Controlled => self.doubt(),
            }
        } else if self.role.role() == Role::Controlling && self.is_worth_moving(now, id, selected) {
            self.move_to(now, id);
        }
    }

    /// Whether the peer, selected at `selected`, was since heard only at `id`, which nobody had signalled:
    /// its NAT gave it another address, or it changed networks.
    fn has_roamed(&self, id: Id<Pair>, selected: Id<Pair>) -> bool {
        let pairs = self.checklist.get(id).zip(self.checklist.get(selected));
        let Some((pair, selected)) = pairs else { return false };
        let learned = self.candidates.remote(pair.remote).is_some_and(|remote| remote.learned);
        let settled = self.nominating.decided_at.map(|at| at + selected.history.rtt().unwrap_or_default());
        let same_base = pair.local == selected.local;
        let since = settled.is_some_and(|settled| pair.seen.heard > settled);
        learned && pair.history.late && same_base && since && pair.seen.heard >= selected.seen.heard
    }

    fn is_worth_moving(&self, now: Instant, id: Id<Pair>, selected: Id<Pair>) -> bool {
        let pairs = self.checklist.get(id).zip(self.checklist.get(selected));
        let Some((pair, selected)) = pairs.filter(|_| !self.checks.consent.is_shunned(now, id)) else {
            return false;
        };
        if !self.config.renomination {
            // Who agreed to punch agreed to use what comes of it.
            return self.checks.punching.is_active() && pair.lane() < selected.lane();
        }
        let faster = match (pair.history.rtt(), selected.history.rtt()) {
            (Some(new), Some(old)) => new + GAIN_MIN.max(old / 5) <= old,
            (Some(_) | None, None) | (None, Some(_)) => false,
        };
        pair.lane() < selected.lane() || (pair.lane() == selected.lane() && faster)
    }
}
