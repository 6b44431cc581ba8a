//! What leaves, and in which order.

use gimlet_machine::{Buf, Id, Instant, Path};

use super::Agent;
use crate::MESSAGE_MAX;
use crate::check::{write_answer, write_check, write_keepalive};
use crate::checks::{Check, Subject};
use crate::pair::Pair;
use crate::priority::as_peer_reflexive;
use crate::state::{PairState, PairStep, State};
use crate::timer::TimerKey;

impl Agent {
    /// Writes the next message into `out` and names its path.
    pub(super) fn write_next(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Path> {
        if self.state == State::Closed || out.remaining() < MESSAGE_MAX {
            return None;
        }
        if let Some(answer) = self.answers.pop() {
            write_answer(out.vec(), &answer, self.session.key(answer.era));
            return Some(answer.path);
        }
        if let Some(check) = self.next_due_check(now) {
            let path = self.write(&check, out);
            self.settle(now);
            return path;
        }
        if self.timers.at(TimerKey::Check).is_some_and(|at| at <= now) {
            // What was due needed no check any more.
            self.settle(now);
        }
        if let Some(path) = self.write_probe(now, out.vec()) {
            return Some(path);
        }
        if core::mem::take(&mut self.answers.keepalive) {
            let path = self.path_in_use()?;
            write_keepalive(out.vec(), self.checks.fresh_id());
            return Some(path);
        }
        None
    }

    /// The check that leaves now, if the pacing allows one: consent first, then triggered ones, then
    /// retransmissions, then ordinary ones (RFC 8445 §6.1.4.2).
    fn next_due_check(&mut self, now: Instant) -> Option<Check> {
        if self.config.lite || !self.checks.may_send(now) {
            return None;
        }
        if let Some(check) = self.start_consent(now) {
            return Some(check);
        }
        self.session.peer.as_ref()?;
        loop {
            if let Some(check) = self.start_triggered(now) {
                return Some(check);
            }
            let Some(overdue) = self.checks.overdue(now, &self.checklist) else { break };
            if overdue.epoch == self.role.epoch() {
                self.checks.retransmit(now, overdue.id);
                self.checklist.on_checked(overdue.pair, now);
                self.counters.retransmissions += 1;
                return Some(overdue);
            }
            // Its bytes claim a role that is no longer ours: a fresh check takes its place.
            self.checks.give_up(overdue.id);
            if self.checklist.step(overdue.pair, PairStep::Trigger) {
                self.checklist.trigger(overdue.pair);
            }
        }
        if !self.checks.has_room() || !self.checks_ordinarily() {
            return None;
        }
        let pair = self.checklist.pick_ordinary()?;
        Some(self.start(now, pair, false))
    }

    fn start_triggered(&mut self, now: Instant) -> Option<Check> {
        while self.checks.has_room() {
            let id = self.checklist.pop_triggered()?;
            let nominates = self.nominating.nominates(id, self.role.role()).is_some();
            let Some(pair) = self.checklist.get_mut(id) else { continue };
            let again = core::mem::take(&mut pair.history.recheck);
            if nominates || again || pair.is(PairState::Waiting) {
                return Some(self.start(now, id, nominates));
            }
        }
        None
    }

    fn start(&mut self, now: Instant, id: Id<Pair>, nominates: bool) -> Check {
        let active = self.checklist.count_active();
        // A pair that is valid stays valid while it is nominated or checked again.
        let taken = self.checklist.step(id, PairStep::Check);
        debug_assert!(!(taken && nominates), "only a valid pair is nominated");
        self.checklist.on_checked(id, now);
        self.counters.checks_sent += 1;
        let local = self.checklist.get(id).and_then(|pair| self.candidates.local(pair.local));
        let reliable = local.is_some_and(|local| local.candidate.transport.is_tcp());
        self.checks.start(now, Subject { pair: id, epoch: self.role.epoch(), nominates, reliable }, active)
    }

    fn write(&mut self, check: &Check, out: &mut Buf<'_>) -> Option<Path> {
        let pair = self.checklist.get(check.pair)?;
        let path = self.candidates.path(pair.local, pair.remote)?;
        let local = self.candidates.local(pair.local)?;
        let priority = as_peer_reflexive(local.candidate.priority);
        let peer = self.session.peer(self.era_of(check.pair))?;
        // A nomination of before is not sent again ([`Agent::number_nomination`]): the number is the same each time.
        let nominates = check.nominates.then(|| self.nominating.nomination());
        write_check(out.vec(), check.id, peer, priority, &self.role, nominates);
        Some(path)
    }
}
