//! Nomination (RFC 8445 §8.1): which of the valid pairs both sides use.

use core::net::SocketAddr;
use core::time::Duration;

use gimlet_machine::{Id, Instant};

use super::Agent;
use crate::candidate::is_near;
use crate::checks::Check;
use crate::pair::{Lane, Pair};
use crate::state::{Nomination, NominationStep, PairState, Step};
use crate::timer::TimerKey;
use crate::{Event, Role};

/// The shortest and the longest wait for a better direct pair. Data flows on the valid pair meanwhile, so
/// the wait costs nothing but certainty.
const PATIENCE_MIN: Duration = Duration::from_millis(20);
const PATIENCE_MAX: Duration = Duration::from_millis(100);

/// Where nomination stands, and with which pair.
#[derive(Debug)]
pub(super) struct Nominating {
    state: Nomination,
    /// Requested or selected.
    pair: Option<Id<Pair>>,
    /// When the first pair became valid.
    since: Instant,
}

impl Default for Nominating {
    fn default() -> Self {
        Self { state: Nomination::Undecided, pair: None, since: Instant::ZERO }
    }
}

impl Nominating {
    fn step(&mut self, step: NominationStep) -> bool {
        let Some(next) = self.state.after(step) else { return false };
        self.state = next;
        debug_assert!(
            matches!(next, Nomination::Requested | Nomination::Selected) || self.pair.is_none(),
            "only a requested or selected pair is remembered"
        );
        true
    }

    /// The pair that both sides use.
    pub(super) fn selected(&self) -> Option<Id<Pair>> {
        self.pair.filter(|_| self.state == Nomination::Selected)
    }

    /// Whether a pair is requested or selected.
    pub(super) fn has_chosen(&self) -> bool {
        match self.state {
            Nomination::Undecided | Nomination::Provisional => false,
            Nomination::Requested | Nomination::Selected => true,
        }
    }

    /// Whether we are asking for `id`.
    pub(super) fn is_requested(&self, id: Id<Pair>) -> bool {
        self.state == Nomination::Requested && self.pair == Some(id)
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
        if self.is_requested(id) {
            self.pair = None;
            self.step(NominationStep::Refuse);
        }
    }

    /// No pair is valid any more; says whether that is news.
    pub(super) fn on_none_valid(&mut self) -> bool {
        self.step(NominationStep::Lose)
    }
}

impl Agent {
    /// Controlling: asks for the best valid pair as soon as no better one can be hoped for.
    pub(super) fn consider_nomination(&mut self, now: Instant) {
        let chooses =
            self.nominating.state == Nomination::Provisional && self.role.role() == Role::Controlling;
        let best = if chooses { self.checklist.best_valid().map(|(id, _)| id) } else { None };
        let Some(best) = best else {
            self.timers.clear(TimerKey::Nominate);
            return;
        };
        match self.hopeful_until(best).filter(|until| *until > now) {
            Some(until) => self.timers.set(TimerKey::Nominate, until),
            None => self.request_nomination(best),
        }
    }

    fn request_nomination(&mut self, id: Id<Pair>) {
        self.timers.clear(TimerKey::Nominate);
        self.nominating.pair = Some(id);
        let taken = self.nominating.step(NominationStep::Request);
        debug_assert!(taken, "a request begins with a valid pair");
        self.checklist.trigger_first(id);
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
        let patience = match (best.lane(), rtt) {
            // A relay works nearly always and costs somebody: direct pairs get the time of a lost packet's
            // neighbour to show up.
            (Lane::Relayed, rtt) => PATIENCE_MAX.max(2 * rtt.unwrap_or_default()),
            (Lane::Host | Lane::Reflexive, Some(rtt)) => rtt.clamp(PATIENCE_MIN, PATIENCE_MAX),
            (Lane::Host | Lane::Reflexive, None) => PATIENCE_MAX,
        };
        let end = self.nominating.since + patience;
        let hope = |pair: &Pair| match pair.state() {
            PairState::Waiting => Some(end),
            PairState::InProgress => Some(match (best.lane(), rtt, self.remote_address(pair)) {
                (Lane::Relayed, ..) | (_, None, _) => end,
                (_, Some(rtt), Some(address)) if is_near(address.ip()) => end.min(pair.checked_at + rtt / 2),
                (_, Some(rtt), _) => end.min(pair.checked_at + rtt),
            }),
            PairState::Frozen | PairState::Succeeded | PairState::Failed => None,
        };
        let better = self.checklist.iter().filter(|(_, pair)| pair.priority > best.priority);
        better.filter_map(|(_, pair)| hope(pair)).max()
    }

    fn remote_address(&self, pair: &Pair) -> Option<SocketAddr> {
        self.candidates.remote(pair.remote).map(|remote| remote.candidate.address)
    }

    /// The answer to our request, if `check` carried it: both sides have agreed.
    pub(super) fn on_nomination_answered(&mut self, check: &Check) {
        let current = check.nominates && check.epoch == self.role.epoch();
        if current
            && self.nominating.is_requested(check.pair)
            && self.nominating.step(NominationStep::Confirm)
        {
            self.select(check.pair);
        }
    }

    /// Controlled: the peer asked for a pair that is valid here. Of two that it asked for, the better
    /// one is used (RFC 8445 §8.1.1).
    pub(super) fn accept_nomination(&mut self, id: Id<Pair>) {
        let priority = |id| self.checklist.get(id).map(|pair| pair.priority);
        let better = self.nominating.selected().is_none_or(|selected| priority(id) > priority(selected));
        if better && self.nominating.step(NominationStep::Accept) {
            self.select(id);
        }
    }

    /// Our role went, and with it the right to ask.
    pub(super) fn abandon_request(&mut self) {
        if self.nominating.state == Nomination::Requested
            && let Some(id) = self.nominating.pair.take()
        {
            self.nominating.step(NominationStep::Refuse);
            self.checklist.dequeue(id);
            self.checks.cancel(|check| check.nominates);
        }
    }

    /// RFC 8445 §8.1.2: what was not checked is not needed any more, what was is not repeated.
    fn select(&mut self, id: Id<Pair>) {
        self.nominating.pair = Some(id);
        let checks = &mut self.checks;
        // What is under way on the pair itself settles roles, not paths.
        checks.cancel(|check| check.pair != id || check.nominates);
        self.checklist.remove_unchecked(|removed| checks.forget(removed));
        if let Some(path) = self.path_of(id) {
            self.tell(Event::PathSelected { path });
        }
        self.timers.clear(TimerKey::Patience);
        self.step(Step::Select);
    }
}
