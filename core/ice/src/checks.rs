//! Checks that await their answers, and when the next may leave.

use alloc::vec::Vec;
use core::time::Duration;

use gimlet_machine::{Id, Instant, Rng};
use gimlet_stun::{Due, RC_DEFAULT, RM_DEFAULT, Retransmission, TransactionId};

use crate::CONSENT_TIMEOUT;
use crate::consent::Consent;
use crate::pair::{Nominated, Pair};
use crate::punch::Punching;

/// One connectivity check (RFC 8445 §2.5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    pub(crate) id: TransactionId,
    pub(crate) pair: Id<Pair>,
    /// When it first left.
    pub(crate) sent_at: Instant,
    /// The epoch of the role it claims.
    pub(crate) epoch: u16,
    /// Whether it carries USE-CANDIDATE, and with which number.
    pub(crate) nominates: Option<Nominated>,
    retransmission: Retransmission,
    /// The pair has moved on: the answer counts, its absence does not.
    cancelled: bool,
}

impl Check {
    /// Whether the answer tells how long the round trip takes: not if it may belong to an earlier
    /// send (RFC 8489 §6.2.1, Karn's algorithm).
    pub(crate) const fn measures_rtt(&self) -> bool {
        self.retransmission.sent() == 1
    }

    pub(crate) const fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Whether it is a request for consent, or one whose answer is worth no more than that by now.
    pub(crate) const fn is_consent(&self) -> bool {
        self.cancelled && self.nominates.is_none()
    }
}

/// All checks that await their answers.
#[derive(Debug)]
pub(crate) struct Checks {
    pending: Vec<Check>,
    /// Before this moment no further check leaves (RFC 8445 §14.2).
    next_slot: Instant,
    ta: Duration,
    max: usize,
    rng: Rng,
    /// The path in use, whose requests share the pacing.
    pub(crate) consent: Consent,
    /// Hole punching, whose probes share the pacing.
    pub(crate) punching: Punching,
}

impl Checks {
    pub(crate) fn new(ta: Duration, max: usize, rng: Rng) -> Self {
        Self {
            pending: Vec::new(),
            next_slot: Instant::ZERO,
            ta,
            max: max.max(1),
            rng,
            consent: Consent::new(),
            punching: Punching::new(),
        }
    }

    /// An id for a message that nobody answers.
    pub(crate) fn fresh_id(&mut self) -> TransactionId {
        TransactionId::random(&mut self.rng)
    }

    /// Whether the pacing allows a check to leave.
    pub(crate) fn may_send(&self, now: Instant) -> bool {
        now >= self.next_slot
    }

    /// Something that is paced as checks are leaves at this moment.
    pub(crate) fn take_slot(&mut self, now: Instant) {
        debug_assert!(self.may_send(now), "the caller asks first");
        self.next_slot = now + self.ta;
    }

    pub(crate) const fn next_slot(&self) -> Instant {
        self.next_slot
    }

    pub(crate) const fn ta(&self) -> Duration {
        self.ta
    }

    /// Whether another check fits, be it in the place of a cancelled one.
    pub(crate) fn has_room(&self) -> bool {
        self.pending.len() < self.max || self.pending.iter().any(|check| check.cancelled)
    }

    /// Begins a check that leaves at this moment; the caller has seen that there is room.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        pair: Id<Pair>,
        epoch: u16,
        nominates: Option<Nominated>,
        rto: Duration,
    ) -> Check {
        debug_assert!(self.has_room(), "the caller asks first");
        let retransmission = Retransmission::new(now, rto, RC_DEFAULT, RM_DEFAULT);
        let id = TransactionId::random(&mut self.rng);
        self.send(Check { id, pair, sent_at: now, epoch, nominates, retransmission, cancelled: false })
    }

    /// Begins a request that is sent once and listened to for as long as it may tell something: one for
    /// consent. Its silence decides nothing by itself.
    pub(crate) fn start_once(&mut self, now: Instant, pair: Id<Pair>, epoch: u16) -> Check {
        let retransmission = Retransmission::new(now, CONSENT_TIMEOUT, 1, 1);
        let id = TransactionId::random(&mut self.rng);
        self.send(Check { id, pair, sent_at: now, epoch, nominates: None, retransmission, cancelled: true })
    }

    fn send(&mut self, mut check: Check) -> Check {
        debug_assert!(self.may_send(check.sent_at), "the caller asks first");
        if self.pending.len() >= self.max {
            let cancelled = self.pending.iter().enumerate().filter(|(_, check)| check.cancelled);
            let oldest = cancelled.min_by_key(|(_, check)| check.sent_at).map(|(index, _)| index);
            if let Some(oldest) = oldest {
                self.pending.swap_remove(oldest);
            }
        }
        check.retransmission.due(check.sent_at);
        let len = self.pending.len();
        if len >= self.pending.capacity() {
            // Doubling, but hardly past the limit: one place is kept for consent.
            self.pending.reserve_exact(len.clamp(4, (self.max + 1).saturating_sub(len).max(4)));
        }
        self.pending.push(check);
        self.next_slot = check.sent_at + self.ta;
        check
    }

    /// The generator of what belongs to generation or request number `nth`.
    pub(crate) fn fork(&self, label: &str, nth: u64) -> Rng {
        self.rng.fork_nth(label, nth)
    }

    /// The check whose retransmission is longest overdue, if one is due and the pacing allows it. The
    /// caller then sends it or [`Checks::cancel`]s it.
    pub(crate) fn overdue(&self, now: Instant) -> Option<Check> {
        let due = |check: &&Check| check.retransmission.is_sending() && is_due(check, now);
        let overdue = self.pending.iter().filter(due).min_by_key(|check| check.retransmission.deadline());
        overdue.filter(|_| self.may_send(now)).copied()
    }

    /// Notes that the check `id` leaves once more.
    pub(crate) fn retransmit(&mut self, now: Instant, id: TransactionId) {
        if let Some(check) = self.pending.iter_mut().find(|check| check.id == id) {
            let due = check.retransmission.due(now);
            debug_assert_eq!(due, Due::Send, "only overdue checks are retransmitted");
            self.next_slot = now + self.ta;
        }
    }

    /// When the next retransmission may leave.
    pub(crate) fn next_retransmission(&self) -> Option<Instant> {
        let sending = self.pending.iter().filter(|check| check.retransmission.is_sending());
        let at = sending.filter_map(|check| check.retransmission.deadline()).min()?;
        Some(at.max(self.next_slot))
    }

    /// When the next check is given up.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        let listening = self.pending.iter().filter(|check| !check.retransmission.is_sending());
        listening.filter_map(|check| check.retransmission.deadline()).min()
    }

    /// Takes one check whose time is over.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Option<Check> {
        let over = |check: &Check| !check.retransmission.is_sending() && is_due(check, now);
        let index = self.pending.iter().position(over)?;
        Some(self.pending.remove(index))
    }

    /// The check that `id` answers.
    pub(crate) fn get(&self, id: TransactionId) -> Option<&Check> {
        self.pending.iter().find(|check| check.id == id)
    }

    /// Takes the check that `id` answers.
    pub(crate) fn take(&mut self, id: TransactionId) -> Option<Check> {
        let index = self.pending.iter().position(|check| check.id == id)?;
        Some(self.pending.remove(index))
    }

    /// Whether a check of `pair` that has not been cancelled awaits its answer.
    pub(crate) fn is_pending(&self, pair: Id<Pair>) -> bool {
        self.pending.iter().any(|check| check.pair == pair && !check.cancelled)
    }

    /// Stops the retransmissions of the checks of which `chosen` holds; answers still count
    /// (RFC 8445 §7.3.1.4).
    pub(crate) fn cancel(&mut self, chosen: impl Fn(&Check) -> bool) {
        for check in self.pending.iter_mut().filter(|check| chosen(check)) {
            check.retransmission.cancel();
            check.cancelled = true;
        }
    }

    /// Forgets the checks of which `kept` does not hold.
    pub(crate) fn retain(&mut self, kept: impl Fn(&Check) -> bool) {
        self.pending.retain(kept);
    }

    /// Forgets the checks of a pair that is gone.
    pub(crate) fn forget(&mut self, pair: Id<Pair>) {
        self.pending.retain(|check| check.pair != pair);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
    }
}

fn is_due(check: &Check, now: Instant) -> bool {
    check.retransmission.deadline().is_some_and(|at| at <= now)
}
