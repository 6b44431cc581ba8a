//! The checklist: all pairs, and whose turn it is.

use alloc::vec::Vec;
use core::cmp::Reverse;

use gimlet_machine::{Arena, Id, Instant, Queue};

use crate::Role;
use crate::candidates::{Local, Remote};
use crate::pair::{Crowd, Ends, Family, Lane, Pair};
use crate::state::{PairState, PairStep};

/// The pairs of one data stream and the order of their checks (RFC 8445 §6.1.2).
#[derive(Debug)]
pub(crate) struct Checklist {
    pairs: Arena<Pair>,
    /// Pairs that the peer has checked, or that carry a nomination (RFC 8445 §6.1.4.1).
    triggered: Queue<Id<Pair>>,
    /// Whose turn it is among pairs that nobody triggered.
    turn: Lane,
    /// Which family had the latest turn in each lane.
    latest: [Option<Family>; 3],
    /// A foundation may have become idle: its frozen pairs need a look.
    thaw: bool,
    /// The session that new pairs belong to.
    generation: u16,
    /// The pairs of this session were checked a second time because the peer had begun.
    rechecked: bool,
    max: usize,
}

/// What became of a pair that was to be formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Formed {
    /// It is in the list.
    New(Id<Pair>),
    /// It is in the list, in place of this less likely one.
    Replaced(Id<Pair>, Id<Pair>),
    /// The list is full of pairs that are checked, or more likely.
    Refused,
}

impl Checklist {
    pub(crate) fn new(max: usize) -> Self {
        let max = max.clamp(1, usize::from(u16::MAX));
        Self {
            pairs: Arena::new(),
            triggered: Queue::new(max),
            turn: Lane::Host,
            latest: [None; 3],
            thaw: false,
            generation: 0,
            rechecked: false,
            max,
        }
    }

    /// The pair of these two candidates in the current generation.
    pub(crate) fn find(&self, local: Id<Local>, remote: Id<Remote>) -> Option<Id<Pair>> {
        let mut pairs = self.current().filter(|(_, pair)| pair.local == local && pair.remote == remote);
        pairs.next().map(|(id, _)| id)
    }

    /// The pairs of the current generation.
    fn current(&self) -> impl Iterator<Item = (Id<Pair>, &Pair)> {
        self.pairs.iter().filter(|(_, pair)| pair.generation == self.generation)
    }

    /// Which session new pairs belong to: grows with every restart (RFC 8445 §9).
    pub(crate) const fn generation(&self) -> u16 {
        self.generation
    }

    /// Begins a new generation. Of the old pairs only `keep` stays.
    pub(crate) fn restart(&mut self, keep: Option<Id<Pair>>) {
        let gone: Vec<_> = self.pairs.iter().map(|(id, _)| id).filter(|id| Some(*id) != keep).collect();
        for id in gone {
            self.remove(id);
        }
        self.triggered.clear();
        self.turn = Lane::Host;
        self.latest = [None; 3];
        self.rechecked = false;
        self.generation = self.generation.wrapping_add(1);
    }

    /// Forms the pair of `ends`, which is not there. `wanted` says that the peer has just used it: then
    /// it takes the place of any pair that was not checked yet.
    pub(crate) fn form(&mut self, ends: Ends<'_>, role: Role, wanted: bool) -> Formed {
        debug_assert!(self.find(ends.local.0, ends.remote.0).is_none(), "a pair is formed once");
        let mut pair = Pair::new(ends, role, self.generation);
        let evicted = if self.pairs.len() >= self.max {
            let Some(evicted) = self.least_likely(&pair, wanted) else { return Formed::Refused };
            self.remove(evicted);
            Some(evicted)
        } else {
            None
        };
        if self.begins_waiting(&pair) {
            pair.step(PairStep::Unfreeze);
        }
        if self.pairs.len() >= self.pairs.capacity() {
            // Doubling, but never past the limit.
            let len = self.pairs.len();
            self.pairs.reserve_exact(len.max(4).min(self.max - len));
        }
        let id = self.pairs.insert(pair);
        evicted.map_or(Formed::New(id), |evicted| Formed::Replaced(id, evicted))
    }

    /// The pair that gives way to `newcomer` in a full list: the least likely unchecked one of the
    /// fullest crowd, if `newcomer` is better or its crowd smaller. RFC 8445 §6.1.2.5 drops by priority
    /// alone, which would leave only pairs between host addresses, and those of one family.
    fn least_likely(&self, newcomer: &Pair, wanted: bool) -> Option<Id<Pair>> {
        let mut crowds = Crowd::ALL.map(|_| (0_usize, None));
        for (id, pair) in self.pairs.iter().filter(|(_, pair)| pair.is_unchecked()) {
            let (count, last) = &mut crowds[pair.crowd() as usize];
            *count += 1;
            let rank = (rank(pair), Reverse(id));
            if last.is_none_or(|last| rank < last) {
                *last = Some(rank);
            }
        }
        // Of equally full crowds the first: host pairs are the most and the cheapest to lose.
        let fullest =
            Crowd::ALL.into_iter().max_by_key(|crowd| (crowds[*crowd as usize].0, Reverse(*crowd)))?;
        let (count, last) = crowds[fullest as usize];
        let (last_rank, Reverse(id)) = last?;
        let better = if newcomer.crowd() == fullest {
            rank(newcomer) > last_rank
        } else {
            crowds[newcomer.crowd() as usize].0 < count
        };
        (wanted || better).then_some(id)
    }

    /// RFC 8445 §6.1.2.6 applied pair by pair, as RFC 8838 §12 has it: of each foundation the best pair
    /// waits, all of them once one has succeeded, none while one is being checked.
    fn begins_waiting(&mut self, newcomer: &Pair) -> bool {
        let (mut succeeded, mut in_progress, mut waiting) = (false, false, None);
        for (id, pair) in self.pairs.iter().filter(|(_, pair)| pair.foundation == newcomer.foundation) {
            match pair.state() {
                PairState::Succeeded => succeeded = true,
                PairState::InProgress => in_progress = true,
                PairState::Waiting => waiting = Some((id, pair.priority)),
                PairState::Frozen => {}
                // Nothing is under way if only failed ones are left.
                PairState::Failed => self.thaw = true,
            }
        }
        if succeeded {
            return true;
        }
        match waiting {
            None => !in_progress,
            Some((id, priority)) => {
                let outranks = newcomer.priority > priority && !in_progress && !self.is_triggered(id);
                let waiting = self.pairs.get_mut(id).filter(|_| outranks);
                waiting.is_some_and(|waiting| waiting.step(PairStep::Outrank))
            }
        }
    }

    fn is_triggered(&self, id: Id<Pair>) -> bool {
        self.triggered.iter().any(|queued| *queued == id)
    }

    /// Removes a pair; its foundation may be idle then.
    pub(crate) fn remove(&mut self, id: Id<Pair>) -> Option<Pair> {
        self.dequeue(id);
        self.thaw = true;
        self.pairs.remove(id)
    }

    /// Removes the pairs that were not checked: nomination is over (RFC 8445 §8.1.2).
    pub(crate) fn remove_unchecked(
        &mut self,
        spared: impl Fn(&Pair) -> bool,
        mut removed: impl FnMut(Id<Pair>),
    ) {
        let goes = |pair: &Pair| pair.is_unchecked() && !spared(pair);
        let pairs = &self.pairs;
        self.triggered.retain(|id| pairs.get(*id).is_some_and(|pair| pair.history.recheck || !goes(pair)));
        let next = |pairs: &Arena<Pair>| pairs.iter().find(|(_, pair)| goes(pair)).map(|(id, _)| id);
        while let Some(id) = next(&self.pairs) {
            self.pairs.remove(id);
            removed(id);
        }
    }

    /// Puts `id` at the end of the triggered-check queue, once.
    pub(crate) fn trigger(&mut self, id: Id<Pair>) {
        if !self.is_triggered(id) {
            // The queue has room for every pair, and holds only pairs of this list.
            let _ = self.triggered.push(id);
        }
    }

    /// Puts `id` before everything else that was triggered.
    pub(crate) fn trigger_first(&mut self, id: Id<Pair>) {
        self.dequeue(id);
        let others: Vec<_> = core::iter::from_fn(|| self.triggered.pop()).collect();
        core::iter::once(id).chain(others).for_each(|id| self.trigger(id));
    }

    /// The next triggered pair.
    pub(crate) fn pop_triggered(&mut self) -> Option<Id<Pair>> {
        self.triggered.pop()
    }

    pub(crate) fn has_triggered(&self) -> bool {
        !self.triggered.is_empty()
    }

    pub(crate) fn dequeue(&mut self, id: Id<Pair>) {
        self.triggered.retain(|queued| *queued != id);
    }

    /// Whether a pair that nobody triggered can be checked; unfreezes pairs if that is what it takes.
    pub(crate) fn has_ordinary(&mut self) -> bool {
        let any_waiting = |pairs: &Arena<Pair>| pairs.iter().any(|(_, pair)| pair.is(PairState::Waiting));
        if !any_waiting(&self.pairs) && self.thaw {
            self.thaw = false;
            self.unfreeze_idle_foundations();
        }
        any_waiting(&self.pairs)
    }

    /// The next pair to check of its own accord (RFC 8445 §6.1.4.2): lanes take turns, within a lane families
    /// take turns (RFC 8421 §4), and of each the most likely waiting pair goes first. Both sides begin with the
    /// likeliest and count alike, so they stay in step.
    pub(crate) fn pick_ordinary(&mut self) -> Option<Id<Pair>> {
        if !self.has_ordinary() {
            return None;
        }
        let lanes = [self.turn, self.turn.next(), self.turn.next().next()];
        let best = |lane: Lane| {
            let waiting =
                self.pairs.iter().filter(|(_, pair)| pair.lane() == lane && pair.is(PairState::Waiting));
            let latest = self.latest[lane as usize];
            let is_turn = |pair: &Pair| latest != Some(pair.family());
            let best = waiting.max_by_key(|(id, pair)| (is_turn(pair), rank(pair), Reverse(*id)));
            best.map(|(id, pair)| (lane, pair.family(), id))
        };
        let (lane, family, id) = lanes.into_iter().find_map(best)?;
        self.turn = lane.next();
        self.latest[lane as usize] = Some(family);
        Some(id)
    }

    /// RFC 8445 §6.1.4.2: with nobody waiting, a frozen pair gets its turn if no other of its foundation
    /// is being checked.
    fn unfreeze_idle_foundations(&mut self) {
        loop {
            let idle = |candidate: &Pair| {
                let busy = |pair: &Pair| matches!(pair.state(), PairState::Waiting | PairState::InProgress);
                !self.pairs.iter().any(|(_, pair)| pair.foundation == candidate.foundation && busy(pair))
            };
            let frozen = self.pairs.iter().filter(|(_, pair)| pair.is(PairState::Frozen) && idle(pair));
            let best = frozen.max_by_key(|(id, pair)| (pair.priority, Reverse(*id)));
            let Some((id, _)) = best else { return };
            self.step(id, PairStep::Unfreeze);
        }
    }

    /// Unfreezes the pairs of `foundation`: one of them works (RFC 8445 §7.2.5.3.3).
    pub(crate) fn unfreeze(&mut self, foundation: u32) {
        for (_, pair) in self.pairs.iter_mut().filter(|(_, pair)| pair.foundation == foundation) {
            pair.step(PairStep::Unfreeze);
        }
    }

    /// Takes `step` with a pair, if its state allows it.
    pub(crate) fn step(&mut self, id: Id<Pair>, step: PairStep) -> bool {
        let Some(pair) = self.pairs.get_mut(id) else { return false };
        let taken = pair.step(step);
        if taken && matches!(step, PairStep::Fail) {
            self.thaw = true;
        }
        taken
    }

    /// How many pairs are waiting or in progress: what the retransmission timeout is made of
    /// (RFC 8445 §14.3).
    pub(crate) fn count_active(&self) -> usize {
        let active = |pair: &Pair| matches!(pair.state(), PairState::Waiting | PairState::InProgress);
        self.pairs.iter().filter(|(_, pair)| active(pair)).count()
    }

    /// The valid pairs (RFC 8445 §7.2.5.3.2).
    pub(crate) fn valid(&self) -> impl Iterator<Item = (Id<Pair>, &Pair)> {
        self.current().filter(|(_, pair)| pair.is(PairState::Succeeded))
    }

    pub(crate) fn has_valid(&self) -> bool {
        self.valid().next().is_some()
    }

    /// Which valid pair takes the place of `instead`: one that the peer asked for, then one of which `is_apart`
    /// holds, then by priority.
    pub(crate) fn fallback(
        &self,
        now: Instant,
        instead: Id<Pair>,
        is_apart: impl Fn(&Pair) -> bool,
    ) -> Option<Id<Pair>> {
        let fresh = self.current().filter(|(id, pair)| *id != instead && pair.is_fresh(now));
        let rank = |pair: &Pair| (pair.asked.is_some(), is_apart(pair), pair.priority);
        fresh.max_by_key(|(id, pair)| (rank(pair), Reverse(*id))).map(|(id, _)| id)
    }

    /// Whether a pair other than `than` is valid.
    pub(crate) fn has_other_valid(&self, than: Id<Pair>) -> bool {
        self.current().any(|(id, pair)| id != than && pair.is(PairState::Succeeded))
    }

    /// Gives the failed pairs of which `chosen` holds another chance; says whether there were any.
    pub(crate) fn revive(&mut self, chosen: impl Fn(&Pair) -> bool) -> bool {
        let generation = self.generation;
        let mut any = false;
        for (_, pair) in self.pairs.iter_mut() {
            if pair.generation == generation && pair.is(PairState::Failed) && chosen(pair) {
                any |= pair.step(PairStep::Trigger);
            }
        }
        any
    }

    /// The pairs whose checks may have come to a box that the peer had not opened yet, the likeliest first. Told once
    /// in a generation.
    pub(crate) fn take_early(&mut self) -> Vec<Id<Pair>> {
        if core::mem::replace(&mut self.rechecked, true) {
            return Vec::new();
        }
        // Where the peer was heard, its check has triggered ours.
        let unheard = |pair: &Pair| pair.seen.heard == Instant::ZERO && pair.lane() != Lane::Host;
        let early = |pair: &Pair| pair.is(PairState::InProgress) && unheard(pair);
        let mut early: Vec<_> = self
            .current()
            .filter(|(_, pair)| early(pair))
            .map(|(id, pair)| (Reverse(rank(pair)), id))
            .collect();
        early.sort_unstable();
        early.into_iter().map(|(_, id)| id).collect()
    }

    /// The pairs of the remote candidate `remote`.
    pub(crate) fn of_remote(&self, remote: Id<Remote>) -> impl Iterator<Item = (Id<Pair>, &Pair)> {
        self.pairs.iter().filter(move |(_, pair)| pair.remote == remote)
    }

    /// The pair in this place.
    pub(crate) fn at(&self, place: u16) -> Option<Id<Pair>> {
        self.pairs.id_at(place.into())
    }

    pub(crate) fn get(&self, id: Id<Pair>) -> Option<&Pair> {
        self.pairs.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: Id<Pair>) -> Option<&mut Pair> {
        self.pairs.get_mut(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id<Pair>, &Pair)> {
        self.pairs.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Id<Pair>, &mut Pair)> {
        self.pairs.iter_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Records that a check of `id` left.
    pub(crate) fn on_checked(&mut self, id: Id<Pair>, now: Instant) {
        if let Some(pair) = self.pairs.get_mut(id) {
            pair.seen.checked = now;
            pair.history.checks = pair.history.checks.saturating_add(1);
        }
    }
}

/// The order within a lane.
fn rank(pair: &Pair) -> (u64, u64) {
    (pair.likelihood(), pair.priority)
}

#[cfg(test)]
#[path = "checklist_tests.rs"]
mod tests;
