//! The path in use: whether it answers, and what takes its place (RFC 7675).

use core::net::IpAddr;

use gimlet_machine::{Id, Instant, Path};

use super::Agent;
use crate::checks::Check;
use crate::consent::{Consent, Urgency};
use crate::pair::{Lane, Pair, PairError};
use crate::state::{Liveness, LivenessStep, PairState, PairStep, State, Step};
use crate::timer::TimerKey;
use crate::{CONSENT_TIMEOUT, CandidateKind, Event, PAC_TIMEOUT, Role};

impl Agent {
    /// The pair that data takes: the selected one, after a restart the one of before, else the best that
    /// works (RFC 8445 §12.1).
    pub(super) fn pair_in_use(&self) -> Option<Id<Pair>> {
        let agreed = self.nominating.selected().or_else(|| self.session.retired_pair());
        agreed.or_else(|| self.best_valid())
    }

    pub(super) fn path_in_use(&self) -> Option<Path> {
        self.path_of(self.pair_in_use()?)
    }

    /// Whether other ways are worth a check although one is selected.
    pub(super) fn explores(&self) -> bool {
        let doubtful = match self.checks.consent.liveness() {
            Liveness::Fresh | Liveness::Once => false,
            Liveness::Twice | Liveness::Suspect => true,
        };
        let open = self.nominating.selected().is_none();
        let punches = self.checks.punching.is_active();
        open || doubtful || punches || self.config.renomination || self.config.lite
    }

    /// Keeps an eye on the pair in use, whichever it is by now.
    pub(super) fn watch(&mut self, now: Instant) {
        let pair = if self.config.lite { None } else { self.pair_in_use() };
        if self.checks.consent.watch(now, pair) {
            self.timers.clear(TimerKey::Probe);
            match pair {
                Some(_) => self.schedule_consent(now),
                None => self.timers.clear(TimerKey::Consent),
            }
        }
        let until = self.consent_until();
        self.arm(TimerKey::Expiry, until);
        if !self.wants_return() {
            self.timers.clear(TimerKey::Return);
        } else if self.timers.at(TimerKey::Return).is_none() {
            self.timers.set(TimerKey::Return, now + self.checks.consent.return_wait());
        }
    }

    /// When the pair in use is given up. One that was valid long ago and is in use only because nothing was
    /// agreed on gets its time: no data has to be sent there.
    fn consent_until(&self) -> Option<Instant> {
        let id = self.checks.consent.pair()?;
        let until = self.checklist.get(id)?.consent_until();
        let agreed = self.nominating.selected().or_else(|| self.session.retired_pair());
        let since = self.checks.consent.since() + CONSENT_TIMEOUT;
        Some(if agreed == Some(id) { until } else { until.max(since) })
    }

    fn schedule_consent(&mut self, now: Instant) {
        let nth = self.checks.consent.next_draw();
        let wait = Consent::interval(&mut self.checks.fork("consent", nth));
        self.timers.set(TimerKey::Consent, now + wait);
    }

    /// The request that is due on the path in use. It leaves once: the next one asks anew.
    pub(super) fn start_consent(&mut self, now: Instant) -> Option<Check> {
        let id = self.checks.consent.pair().filter(|_| self.checks.consent.due)?;
        let patience = self.checks.consent.next_patience(self.checklist.get(id)?.history.rtt());
        let check = self.checks.start_once(now, id, self.role.epoch());
        self.checks.consent.on_sent(check.id);
        self.checklist.on_checked(id, now);
        self.counters.consent_requests += 1;
        self.timers.set(TimerKey::Probe, now + patience);
        self.schedule_consent(now);
        Some(check)
    }

    /// The peer answered a request on `id`: it wants our data there for another while.
    pub(super) fn on_consent(&mut self, now: Instant, id: Id<Pair>) {
        if let Some(pair) = self.checklist.get_mut(id) {
            pair.seen.answered = now;
        }
        if self.checks.consent.pair() != Some(id) {
            self.on_alternative(now);
            return;
        }
        self.timers.clear(TimerKey::Probe);
        let was_suspect = self.checks.consent.liveness() == Liveness::Suspect;
        if self.checks.consent.on_answer() {
            self.stop_exploring();
            if let (true, Some(path)) = (was_suspect, self.path_of(id)) {
                self.tell(Event::PathValid {
                    path,
                    rtt: self.checklist.get(id).and_then(|p| p.history.rtt()),
                });
            }
        }
    }

    /// A pair that is not in use answered. If the one in use is in doubt, there is now somewhere to go.
    fn on_alternative(&mut self, now: Instant) {
        match self.checks.consent.liveness() {
            Liveness::Fresh => {}
            Liveness::Once | Liveness::Twice => self.checks.consent.due |= !self.checks.consent.is_asking(),
            Liveness::Suspect => self.leave_suspect(now),
        }
    }

    /// An answer on the path in use is late. The first one that is late asks for a second opinion, the
    /// second opens the search for other ways, the third ends the trust.
    pub(super) fn on_probe_late(&mut self, now: Instant) {
        let Some(id) = self.checks.consent.pair().filter(|_| self.checks.consent.on_late()) else { return };
        self.counters.probes_missed += 1;
        // With nowhere to go, knowing sooner is worth nothing, and consent is asked for each 4 s at most.
        let always = self.checks.consent.urgency == Urgency::Always;
        let urgent = self.checks.consent.urgency != Urgency::None || self.checklist.has_other_valid(id);
        if urgent && self.checks.consent.is_patient() {
            self.checks.consent.due = true;
            return;
        }
        if !self.checks.consent.step(LivenessStep::Miss) {
            // Given up, and still the only one: the answer to one more probe ends the search.
            self.checks.consent.due |= always;
            return;
        }
        match self.checks.consent.liveness() {
            Liveness::Fresh => {}
            Liveness::Once => self.ask_alternatives(now),
            Liveness::Twice => self.explore(now),
            Liveness::Suspect => {
                if let Some(path) = self.path_of(id) {
                    self.tell(Event::PathSuspect { path });
                }
                self.leave_suspect(now);
                self.checks.consent.due |= always;
                return;
            }
        }
        self.checks.consent.due |= urgent;
    }

    /// Valid pairs whose latest answer is old are checked again.
    fn ask_alternatives(&mut self, now: Instant) {
        let used = self.checks.consent.pair();
        let generation = self.checklist.generation();
        let stale = self.checklist.iter().filter(|(id, pair)| {
            let valid = pair.is(PairState::Succeeded) && pair.generation == generation;
            valid && Some(*id) != used && now.since(pair.seen.answered) >= crate::CONSENT_INTERVAL_MIN
        });
        let mut stale: alloc::vec::Vec<_> = stale.map(|(id, pair)| (pair.priority, id)).collect();
        stale.sort_unstable();
        for (_, id) in stale.into_iter().rev() {
            if let Some(pair) = self.checklist.get_mut(id) {
                pair.history.recheck = true;
            }
            self.checklist.trigger(id);
        }
    }

    /// Looks for other ways: every pair that can be formed gets its chance.
    pub(super) fn explore(&mut self, now: Instant) {
        self.ask_alternatives(now);
        self.form_missing_pairs();
        self.checklist.revive(|_| true);
        self.resume_ended_checks();
    }

    /// Pairs whose checks a selection ended have no answer to wait for: they are checked anew.
    fn resume_ended_checks(&mut self) {
        let checks = &self.checks;
        let ended = self
            .checklist
            .iter()
            .filter(|(id, pair)| pair.is(PairState::InProgress) && !checks.is_pending(*id));
        let mut ended: alloc::vec::Vec<_> = ended.map(|(id, pair)| (pair.priority, id)).collect();
        ended.sort_unstable();
        for (_, id) in ended.into_iter().rev() {
            self.checklist.step(id, PairStep::Trigger);
            self.checklist.trigger(id);
        }
    }

    /// The path in use is fine after all: what has not been looked at yet need not be.
    pub(super) fn stop_exploring(&mut self) {
        if let (Some(selected), false) = (self.nominating.selected(), self.explores()) {
            self.end_other_checks(selected);
        }
    }

    fn leave_suspect(&mut self, now: Instant) {
        let Some(id) = self.checks.consent.pair() else { return };
        if self.fallback(now, id).is_some() {
            self.fail_pair(now, id, PairError::NoAnswer);
        }
    }

    /// What takes the place of `gone`. If that crossed a relay, which may be what died, rather a pair that does not
    /// cross it.
    fn fallback(&self, now: Instant, gone: Id<Pair>) -> Option<Id<Pair>> {
        let crossed = self.checklist.get(gone).map(|pair| self.relays_of(pair)).unwrap_or_default();
        let is_apart = |pair: &Pair| {
            !self.relays_of(pair).into_iter().flatten().any(|relay| crossed.contains(&Some(relay)))
        };
        self.checklist.fallback(now, gone, is_apart)
    }

    /// The relays of both sides that a pair is known to cross.
    fn relays_of(&self, pair: &Pair) -> [Option<IpAddr>; 2] {
        let ours = match self.candidates.path(pair.local, pair.remote) {
            Some(Path::Relayed { relay, .. }) => Some(relay.remote.ip()),
            Some(Path::Direct(_)) | None => None,
        };
        let theirs = self.candidates.remote(pair.remote).map(|remote| &remote.candidate);
        let theirs = theirs.filter(|theirs| theirs.kind == CandidateKind::Relayed);
        [ours, theirs.map(|theirs| theirs.address.ip())]
    }

    /// RFC 7675 §5.1: no answer for 30 seconds ends the right to send.
    pub(super) fn on_consent_expired(&mut self, now: Instant) {
        let Some(id) = self.checks.consent.pair() else { return };
        if self.consent_until().is_none_or(|until| until > now) {
            return;
        }
        if let Some(path) = self.path_of(id) {
            self.tell(Event::ConsentExpired { path });
        }
        self.fail_pair(now, id, PairError::NoAnswer);
    }

    /// What a pair that failed, or is gone, means for nomination and for the agent.
    pub(super) fn on_pair_lost(&mut self, now: Instant, id: Id<Pair>) {
        self.nominating.on_failed(id);
        if self.session.retired_pair() == Some(id) {
            self.forget_retired();
            if !self.checklist.has_valid() {
                self.step(Step::Lose);
            }
        } else if self.nominating.selected() == Some(id) {
            self.checks.consent.on_died(now, id);
            self.replace_selected(now, id);
        } else if !self.checklist.has_valid() && self.nominating.on_none_valid() {
            self.timers.clear(TimerKey::Keepalive);
            if self.session.retired_pair().is_none() {
                self.step(Step::Lose);
            }
        }
    }

    /// The selected pair is gone. Whoever is left takes its place: at once if the peer answered there
    /// lately, else as soon as it does. The state stays as good as it can.
    fn replace_selected(&mut self, now: Instant, gone: Id<Pair>) {
        if let Some(next) = self.fallback(now, gone) {
            self.move_to(now, next);
        } else if self.checklist.has_valid() {
            self.nominating.on_released(now);
            self.step(Step::Unselect);
            self.explore(now);
        } else {
            self.nominating.on_none_valid();
            self.timers.clear(TimerKey::Keepalive);
            self.step(Step::Lose);
            self.timers.set(TimerKey::Patience, now + PAC_TIMEOUT);
            self.explore(now);
        }
    }

    /// The retired generation ends with its pair.
    pub(super) fn forget_retired(&mut self) {
        let Some(retired) = self.session.retired.take() else { return };
        let Some(pair) = self.checklist.remove(retired.pair) else { return };
        self.checks.forget(retired.pair);
        let unused = self.checklist.of_remote(pair.remote).next().is_none();
        if unused && self.candidates.remote(pair.remote).is_some_and(|remote| remote.learned) {
            self.candidates.remove_remote(pair.remote);
        }
    }

    /// Whether something that does not work now may be worth another try later: after everything was
    /// lost, or while data goes through a relay and a direct path may come back.
    fn wants_return(&self) -> bool {
        if self.config.lite || self.session.peer.is_none() {
            return false;
        }
        if let Some(selected) = self.nominating.selected().and_then(|id| self.checklist.get(id)) {
            let relayed = self.config.renomination && selected.lane() == Lane::Relayed;
            return relayed && self.checklist.iter().any(|(_, pair)| self.may_improve(pair));
        }
        let over = self.checklist.iter().all(|(_, pair)| pair.is(PairState::Failed));
        let lost = self.state == State::Checking && self.nominating.has_ever_chosen();
        lost && over && self.checklist.len() > 0
    }

    /// Whether `pair` is direct, and either does not work or is valid and was not moved to.
    fn may_improve(&self, pair: &Pair) -> bool {
        let passed_over = pair.is(PairState::Succeeded) && self.role.role() == Role::Controlling;
        pair.lane() < Lane::Relayed && (pair.is(PairState::Failed) || passed_over)
    }

    pub(super) fn on_return(&mut self) {
        self.checks.consent.on_return();
        let silent = self.checks.punching.is_silent();
        let hushed = |pair: &Pair| silent && pair.lane() == Lane::Reflexive;
        if self.nominating.selected().is_none() {
            self.checklist.revive(|pair| !hushed(pair));
            return;
        }
        let passed_over: alloc::vec::Vec<_> = self
            .checklist
            .iter()
            .filter(|(_, pair)| pair.is(PairState::Succeeded) && self.may_improve(pair))
            .map(|(id, _)| id)
            .collect();
        for id in passed_over {
            if let Some(pair) = self.checklist.get_mut(id) {
                pair.history.recheck = true;
            }
            self.checklist.trigger(id);
        }
        self.checklist.revive(|pair| !hushed(pair) && pair.lane() < Lane::Relayed);
    }

    /// The owner has reason to doubt the path in use.
    pub(super) fn doubt(&mut self) {
        if self.checks.consent.pair().is_some() && !self.checks.consent.is_asking() {
            self.checks.consent.urge();
            self.checks.consent.due = true;
        }
    }

    /// The network changed: what worked may not, what did not may.
    pub(super) fn on_network_changed(&mut self, now: Instant) {
        self.checks.consent.reset_returns();
        self.checks.consent.forgive();
        if let Some(punch) = self.checks.punching.punch.as_deref_mut() {
            punch.hasten(now);
        }
        self.timers.clear(TimerKey::Return);
        if self.checks.consent.pair().is_some() {
            self.checks.consent.step(LivenessStep::Alarm);
            self.doubt();
        }
        if self.session.peer.is_some() {
            self.explore(now);
        }
    }

    /// A lite agent takes the peer's word for it (RFC 8445 §7.3.2).
    pub(super) fn believe(&mut self, now: Instant, id: Id<Pair>) {
        if !self.checklist.step(id, PairStep::Believe) {
            return;
        }
        self.checklist.dequeue(id);
        if let Some(path) = self.path_of(id) {
            self.tell(Event::PathValid { path, rtt: None });
        }
        self.on_pair_valid(now);
    }
}
