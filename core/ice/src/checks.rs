//! Checks that await their answers, and when the next may leave.

mod ids;
mod record;

use alloc::vec::Vec;
use core::time::Duration;

use gimlet_machine::{Id, Instant, Rng};
use gimlet_stun::TransactionId;

use self::ids::Ids;
pub(crate) use self::record::{Pace, Record, Subject};
use crate::checklist::Checklist;
use crate::consent::Consent;
use crate::pair::Pair;
use crate::punch::Punching;

/// A check so many younger than another one has the same half of a number: the older one is forgotten. At the
/// shortest Ta that takes more than five minutes, and a check is given up after 40 seconds.
const AGE_MAX: u32 = 1 << u16::BITS;

/// One connectivity check (RFC 8445 §2.5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    pub(crate) id: TransactionId,
    pub(crate) pair: Id<Pair>,
    /// The epoch of the role it claims.
    pub(crate) epoch: u8,
    /// Whether it carries USE-CANDIDATE.
    pub(crate) nominates: bool,
    /// How long ago it left, if its answer tells that.
    pub(crate) age: Option<Duration>,
    cancelled: bool,
}

impl Check {
    /// Whether the pair has moved on: the answer counts, its absence does not.
    pub(crate) const fn is_cancelled(&self) -> bool {
        self.cancelled
    }
}

/// All checks that await their answers.
#[derive(Debug)]
pub(crate) struct Checks {
    pending: Vec<Record>,
    /// Before this moment no further check leaves (RFC 8445 §14.2).
    next_slot: Instant,
    pace: Pace,
    max: usize,
    /// How many ids were given.
    numbered: u32,
    ids: Ids,
    /// What further generators come from: a tenth the size of one.
    seed: [u8; 32],
    /// The path in use, whose requests share the pacing.
    pub(crate) consent: Consent,
    /// Hole punching, whose probes share the pacing.
    pub(crate) punching: Punching,
}

impl Checks {
    pub(crate) fn new(pace: Pace, max: usize, mut rng: Rng) -> Self {
        Self {
            pending: Vec::new(),
            next_slot: Instant::ZERO,
            pace,
            max: max.max(1),
            numbered: 0,
            ids: Ids::new(&mut rng.fork("ids")),
            seed: rng.bytes(),
            consent: Consent::new(),
            punching: Punching::new(),
        }
    }

    /// The next id.
    pub(crate) fn fresh_id(&mut self) -> TransactionId {
        let id = self.ids.id(self.numbered);
        self.numbered = self.numbered.wrapping_add(1);
        id
    }

    /// Whether the pacing allows a check to leave.
    pub(crate) fn may_send(&self, now: Instant) -> bool {
        now >= self.next_slot
    }

    /// Something that is paced as checks are leaves at this moment.
    pub(crate) fn take_slot(&mut self, now: Instant) {
        debug_assert!(self.may_send(now), "the caller asks first");
        self.next_slot = now + self.pace.ta;
    }

    pub(crate) const fn next_slot(&self) -> Instant {
        self.next_slot
    }

    /// Whether another check fits, be it in the place of a cancelled one.
    pub(crate) fn has_room(&self) -> bool {
        self.pending.len() < self.max || self.pending.iter().any(Record::is_cancelled)
    }

    /// Begins a check that leaves at this moment; the caller has seen that there is room. `active` is how many
    /// pairs are waiting or in progress: what its RTO is made of (RFC 8445 §14.3).
    pub(crate) fn start(&mut self, now: Instant, subject: Subject, active: usize) -> Check {
        debug_assert!(self.has_room(), "the caller asks first");
        let active = u16::try_from(active).unwrap_or(u16::MAX).max(1);
        let record = if subject.reliable {
            Record::reliable(now, self.numbered, subject)
        } else {
            Record::check(now, self.numbered, subject, active, self.pace)
        };
        self.send(now, subject, record)
    }

    /// Begins a request that is sent once and listened to for as long as it may tell something: one for
    /// consent. Its silence decides nothing by itself.
    pub(crate) fn start_once(&mut self, now: Instant, pair: Id<Pair>, epoch: u8) -> Check {
        let subject = Subject { pair, epoch, nominates: false, reliable: false };
        self.send(now, subject, Record::once(now, self.numbered, subject))
    }

    fn send(&mut self, now: Instant, subject: Subject, record: Record) -> Check {
        let id = self.fresh_id();
        self.pending.retain(|older| older.number() != record.number());
        if self.pending.len() >= self.max {
            let age = |older: &Record| record.number().wrapping_sub(older.number());
            let cancelled = self.pending.iter().enumerate().filter(|(_, check)| check.is_cancelled());
            let oldest = cancelled.max_by_key(|(_, check)| age(check)).map(|(index, _)| index);
            if let Some(oldest) = oldest {
                self.pending.swap_remove(oldest);
            }
        }
        if self.pending.len() >= self.pending.capacity() {
            // A quarter more each time: doubling would leave half of the memory unused.
            self.pending.reserve_exact((self.pending.len() / 4).max(4));
        }
        self.pending.push(record);
        self.take_slot(now);
        let Subject { pair, epoch, nominates, reliable: _ } = subject;
        Check { id, pair, epoch, nominates, age: Some(Duration::ZERO), cancelled: record.is_cancelled() }
    }

    /// What `record` stands for; `None` if its pair is gone.
    fn read(&self, now: Instant, record: &Record, pairs: &Checklist) -> Option<Check> {
        let pair = pairs.at(record.place());
        debug_assert!(pair.is_some(), "a pair that goes takes its checks with it");
        Some(Check {
            id: self.ids.id(self.number_of(record)),
            pair: pair?,
            epoch: record.epoch(),
            nominates: record.nominates(),
            age: record.age(now, self.pace),
            cancelled: record.is_cancelled(),
        })
    }

    /// The whole number of `record`: the latest one with this half.
    fn number_of(&self, record: &Record) -> u32 {
        let latest = self.numbered.wrapping_sub(1);
        latest.wrapping_sub(u32::from((latest as u16).wrapping_sub(record.number())))
    }

    /// The generator of what belongs to generation or request number `nth`.
    pub(crate) fn fork(&self, label: &str, nth: u64) -> Rng {
        Rng::from_seed(self.seed).fork_nth(label, nth)
    }

    /// The check whose retransmission is longest overdue, if one is due and the pacing allows it. The
    /// caller then sends it ([`Checks::retransmit`]) or [`Checks::give_up`] on it.
    pub(crate) fn overdue(&self, now: Instant, pairs: &Checklist) -> Option<Check> {
        let due = self.pending.iter().filter(|check| check.is_sending() && check.at() <= now);
        let overdue = due.min_by_key(|check| check.at()).filter(|_| self.may_send(now))?;
        self.read(now, overdue, pairs)
    }

    /// Notes that the check `id` leaves once more.
    pub(crate) fn retransmit(&mut self, now: Instant, id: TransactionId) {
        if let Some(index) = self.position(id) {
            self.pending[index].retransmit(now, self.pace);
            self.take_slot(now);
        }
    }

    /// Sends the check `id` no more; its answer still counts.
    pub(crate) fn give_up(&mut self, id: TransactionId) {
        if let Some(index) = self.position(id) {
            self.pending[index].cancel(self.pace);
        }
    }

    /// When the next retransmission may leave.
    pub(crate) fn next_retransmission(&self) -> Option<Instant> {
        let at = self.pending.iter().filter(|check| check.is_sending()).map(Record::at).min()?;
        Some(at.max(self.next_slot))
    }

    /// When the next check is given up.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.pending.iter().filter(|check| !check.is_sending()).map(Record::at).min()
    }

    /// Takes one check whose time is over.
    pub(crate) fn take_expired(&mut self, now: Instant, pairs: &Checklist) -> Option<Check> {
        let over = |check: &Record| !check.is_sending() && check.at() <= now;
        let index = self.pending.iter().position(over)?;
        let record = self.pending.remove(index);
        self.read(now, &record, pairs)
    }

    fn position(&self, id: TransactionId) -> Option<usize> {
        let number = self.recent(id)?;
        self.pending.iter().position(|check| check.number() == number as u16)
    }

    /// The number of `id`, if it was given to one of the latest messages.
    fn recent(&self, id: TransactionId) -> Option<u32> {
        self.ids.number(id).filter(|number| (1..=AGE_MAX).contains(&self.numbered.wrapping_sub(*number)))
    }

    /// Whether `id` is of a check that left lately, be it over or not.
    pub(crate) fn is_ours(&self, id: TransactionId) -> bool {
        self.recent(id).is_some()
    }

    /// The check that `id` answers.
    pub(crate) fn get(&self, now: Instant, id: TransactionId, pairs: &Checklist) -> Option<Check> {
        self.read(now, &self.pending[self.position(id)?], pairs)
    }

    /// Forgets the check that `id` answers.
    pub(crate) fn finish(&mut self, id: TransactionId) {
        if let Some(index) = self.position(id) {
            self.pending.remove(index);
        }
    }

    /// Whether a check of `pair` that has not been cancelled awaits its answer.
    pub(crate) fn is_pending(&self, pair: Id<Pair>) -> bool {
        self.pending.iter().any(|check| check.is_of(pair) && !check.is_cancelled())
    }

    /// Stops the retransmissions of the checks of which `chosen` holds; answers still count
    /// (RFC 8445 §7.3.1.4).
    pub(crate) fn cancel(&mut self, chosen: impl Fn(&Record) -> bool) {
        for check in self.pending.iter_mut().filter(|check| chosen(check)) {
            check.cancel(self.pace);
        }
    }

    /// Forgets the checks of which `kept` does not hold.
    pub(crate) fn retain(&mut self, kept: impl Fn(&Record) -> bool) {
        self.pending.retain(kept);
    }

    /// Forgets the checks of a pair that is gone.
    pub(crate) fn forget(&mut self, pair: Id<Pair>) {
        self.pending.retain(|check| !check.is_of(pair));
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
    }
}
