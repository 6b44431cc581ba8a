//! The table that finds a flow by its key: open addressing in memory that the driver lends.
//!
//! ```text
//!   slot 0    the header: which table this is, and the secret of its hash
//!   1..=2^k   homes: where the upper k bits of a flow's hash point
//!   ..        PROBE_MAX more, so that no probe has to wrap around
//! ```
//!
//! A flow lies at its home or behind it, closer than [`PROBE_MAX`], with no empty slot between. At most half of
//! the homes are used. Removing a flow moves those behind it up, so that nothing is left of it and lookups do
//! not slow down with time.
//!
//! If there is no room that close, which without knowledge of the secret does not happen, the
//! secret is changed and every flow moved. That costs time in proportion to the table, so it is done at most once
//! per as many insertions as there are flows; in between, such a flow is refused.

use alloc::vec::Vec;

use gimlet_machine::Rng;

use crate::flow::hash::FlowHash;
use crate::flow::key::FlowKey;
use crate::flow::slot::{Flow, Slot, Slots, Tick};

/// How many slots are looked at for one flow. At half load the longest run of a million random flows is about
/// half of this; a flow that finds no room so close makes the table change its secret, or is refused.
pub(crate) const PROBE_MAX: usize = 128;

/// Says that slots hold a table of this layout; the number changes with the layout.
const MAGIC: u64 = 0x6769_6d6c_6574_7401;

/// How many slots a table for `flows` flows takes: two for each, rounded up, and what surrounds them. A slot is
/// 64 bytes.
pub const fn slots_for(flows: usize) -> usize {
    let flows = if flows < PROBE_MAX { PROBE_MAX } else { flows };
    1 + flows.next_power_of_two() * 2 + PROBE_MAX
}

/// Why a flow is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InsertError {
    /// Half of the homes are used.
    Full,
    /// Too many flows have their home where it has, and the secret was changed not long ago.
    Crowded,
}

/// What was found in memory that another process left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Flows that go on.
    pub flows: usize,
    /// Slots that were not whole, or not of a flow.
    pub discarded: usize,
}

/// Flows by their keys.
#[derive(Clone, Debug)]
pub(crate) struct Table<S> {
    slots: S,
    hash: FlowHash,
    secret: [u64; 2],
    generation: u64,
    /// 64 − k.
    shift: u32,
    len: usize,
    /// Insertions since the secret was changed.
    inserted: usize,
    /// How often the secret was changed.
    reseeds: u64,
    /// Flows for which there was no room after that.
    lost: u64,
    rng: Rng,
}

impl<S: Slots> Table<S> {
    /// An empty table in `slots`, whatever they held. `None`: they are fewer than [`slots_for`] one flow.
    pub(crate) fn new(slots: S, mut rng: Rng) -> Option<Self> {
        let homes = homes(slots.as_ref().len())?;
        let before = Header::of(slots.as_ref());
        let generation = before.map_or(0, |header| header.generation).wrapping_add(1);
        let secret = [rng.u64(), rng.u64()];
        let shift = u64::BITS - homes.trailing_zeros();
        let hash = FlowHash::new(secret);
        let mut table =
            Self { slots, hash, secret, generation, shift, len: 0, inserted: 0, reseeds: 0, lost: 0, rng };
        table.slots.as_mut().fill(Slot::EMPTY);
        table.write_header();
        Some(table)
    }

    /// The table that `slots` hold, without what is not whole in it; a new one if they hold none. Moments after
    /// `now` become `now`.
    pub(crate) fn attach(slots: S, rng: Rng, now: Tick) -> Option<(Self, Attached)> {
        let Some(header) = Header::of(slots.as_ref()) else {
            return Self::new(slots, rng).map(|table| (table, Attached::default()));
        };
        let homes = homes(slots.as_ref().len())?;
        let Header { secret, generation, .. } = header;
        let shift = u64::BITS - homes.trailing_zeros();
        let hash = FlowHash::new(secret);
        let mut table =
            Self { slots, hash, secret, generation, shift, len: 0, inserted: 0, reseeds: 0, lost: 0, rng };
        let discarded = table.mend(now);
        let attached = Attached { flows: table.len, discarded };
        Some((table, attached))
    }

    /// Where the flow named `key` is. The place is good until something is inserted or removed.
    pub(crate) fn find(&self, key: &FlowKey) -> Option<usize> {
        let home = self.home(key);
        let run = &self.slots.as_ref()[home..home + PROBE_MAX];
        let end = run.iter().position(|slot| slot.is(key) || slot.is_empty())?;
        (!run[end].is_empty()).then_some(home + end)
    }

    /// The slot of the flow named `key`, for change.
    // Inlined, the key stays in registers.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub(crate) fn find_slot(&mut self, key: &FlowKey) -> Option<&mut Slot> {
        let home = self.home(key);
        let run = &mut self.slots.as_mut()[home..home + PROBE_MAX];
        let mut at = 0;
        while !run[at].is(key) {
            if run[at].is_empty() || at + 1 == PROBE_MAX {
                return None;
            }
            at += 1;
        }
        Some(&mut run[at])
    }

    /// Reads from where the flow named `key` should be, and gives what cannot be known without reading.
    #[inline]
    pub(crate) fn peek(&self, key: &FlowKey) -> u64 {
        self.slots.as_ref()[self.home(key)].words()[6]
    }

    /// The slot at a place that [`Table::find`] or [`Table::insert`] gave.
    #[inline]
    pub(crate) fn slot(&self, place: usize) -> &Slot {
        &self.slots.as_ref()[place]
    }

    /// The same, for change.
    #[inline]
    pub(crate) fn slot_mut(&mut self, place: usize) -> &mut Slot {
        &mut self.slots.as_mut()[place]
    }

    /// Keeps `flow`, in the place of one of the same name if there is one.
    pub(crate) fn insert(&mut self, flow: &Flow) -> Result<usize, InsertError> {
        if let Some(place) = self.find(&flow.key) {
            *self.slot_mut(place) = self.sealed(flow);
            return Ok(place);
        }
        if self.len >= self.limit() {
            return Err(InsertError::Full);
        }
        if self.vacancy(&flow.key).is_none() {
            if self.inserted < self.len {
                return Err(InsertError::Crowded);
            }
            self.reseed();
        }
        let place = self.vacancy(&flow.key).ok_or(InsertError::Crowded)?;
        *self.slot_mut(place) = self.sealed(flow);
        self.len += 1;
        self.inserted = self.inserted.saturating_add(1);
        Ok(place)
    }

    /// Forgets the flow at `place`. Those behind it move up.
    pub(crate) fn remove(&mut self, place: usize) {
        debug_assert!(!self.slot(place).is_empty(), "a place that holds a flow");
        self.len -= 1;
        self.close_gap(place);
    }

    /// Looks at `count` slots from the `from`-th on, and forgets the flows for which `keep` does not hold. Where to
    /// go on; after the last slot that is the first.
    pub(crate) fn sweep(
        &mut self,
        from: usize,
        count: usize,
        mut keep: impl FnMut(&mut Slot) -> bool,
    ) -> usize {
        let all = self.slots.as_ref().len();
        let (mut place, mut looked) = (from.max(1), 0);
        while looked < count {
            if place >= all {
                return 1;
            }
            let slot = self.slot_mut(place);
            if slot.is_empty() || keep(slot) {
                (place, looked) = (place + 1, looked + 1);
            } else {
                // Another flow may have moved up to here: the same place again.
                self.remove(place);
            }
        }
        place
    }

    /// Every flow, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.as_ref()[1..].iter().filter(|slot| !slot.is_empty())
    }

    /// How many flows there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// How many there may be.
    pub(crate) const fn limit(&self) -> usize {
        1 << (u64::BITS - self.shift - 1)
    }

    /// The slots that were lent.
    pub(crate) fn as_slice(&self) -> &[Slot] {
        self.slots.as_ref()
    }

    /// How many slots were lent.
    pub(crate) fn slots(&self) -> usize {
        self.slots.as_ref().len()
    }

    /// How often the secret was changed because flows crowded.
    pub(crate) const fn reseeds(&self) -> u64 {
        self.reseeds
    }

    /// How many flows found no room when it was.
    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }

    #[inline]
    fn home(&self, key: &FlowKey) -> usize {
        1 + (self.hash.of(key) >> self.shift) as usize
    }

    /// The first empty slot for `key`, at its home or close behind it.
    fn vacancy(&self, key: &FlowKey) -> Option<usize> {
        let home = self.home(key);
        let run = &self.slots.as_ref()[home..home + PROBE_MAX];
        run.iter().position(Slot::is_empty).map(|distance| home + distance)
    }

    fn sealed(&self, flow: &Flow) -> Slot {
        Slot::of(flow, |slot| self.seal(slot))
    }

    /// The check of a slot's words: all but the one that changes.
    fn seal(&self, slot: &Slot) -> u32 {
        let [a, b, c, d, ends, offsets, _, rest] = *slot.words();
        let step = |seal: u64, word: u64| {
            let seal = (seal ^ word).wrapping_mul(self.secret[1] | 1);
            seal ^ (seal >> 32)
        };
        [a, b, c, d, ends, offsets, rest].into_iter().fold(self.secret[0] ^ self.generation, step) as u32
    }

    /// Moves flows up over the hole at `place`, until one of them is at home or there is none.
    fn close_gap(&mut self, mut place: usize) {
        let all = self.slots.as_ref().len();
        for next in place + 1..all {
            let slot = *self.slot(next);
            if slot.is_empty() {
                break;
            }
            if self.home(&slot.key()) <= place {
                // Copy first: whoever finds both after a crash drops the copy that cannot be reached.
                *self.slot_mut(place) = slot;
                place = next;
            }
        }
        *self.slot_mut(place) = Slot::EMPTY;
    }

    /// Counts the flows, and takes out what is torn, twice there, or out of reach. How many that were.
    fn mend(&mut self, now: Tick) -> usize {
        let all = self.slots.as_ref().len();
        let mut displaced = Vec::new();
        for place in 1..all {
            // What moves up comes from behind and is looked at when its turn comes: an empty slot
            // stays behind, and what it separated from its home is found displaced below.
            let slot = *self.slot(place);
            if !slot.is_empty() && !slot.holds(|slot| self.seal(slot)) {
                *self.slot_mut(place) = Slot::EMPTY;
                displaced.push(None);
            }
        }
        for place in 1..all {
            let slot = *self.slot(place);
            if slot.is_empty() {
                continue;
            }
            match self.find(&slot.key()) {
                Some(found) if found == place => {
                    let seen = slot.seen().min(now);
                    self.slot_mut(place).touch(seen);
                    self.len += 1;
                }
                found => {
                    *self.slot_mut(place) = Slot::EMPTY;
                    displaced.push(found.is_none().then_some(slot.flow()));
                }
            }
        }
        let back = displaced.iter().flatten().filter(|flow| self.insert(flow).is_ok()).count();
        displaced.len() - back
    }

    /// Changes the secret and moves every flow to its new home.
    fn reseed(&mut self) {
        let flows: Vec<Flow> = self.iter().map(Slot::flow).collect();
        self.reseeds += 1;
        self.generation = self.generation.wrapping_add(1);
        self.secret = [self.rng.u64(), self.rng.u64()];
        self.hash = FlowHash::new(self.secret);
        self.slots.as_mut().fill(Slot::EMPTY);
        self.write_header();
        (self.len, self.inserted) = (0, 0);
        for flow in &flows {
            match self.vacancy(&flow.key) {
                Some(place) => {
                    *self.slot_mut(place) = self.sealed(flow);
                    self.len += 1;
                }
                None => self.lost += 1,
            }
        }
    }

    fn write_header(&mut self) {
        let header =
            Header { slots: self.slots.as_ref().len(), secret: self.secret, generation: self.generation };
        self.slots.as_mut()[0] = header.slot();
    }
}

/// The first slot of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    slots: usize,
    secret: [u64; 2],
    generation: u64,
}

impl Header {
    fn of(slots: &[Slot]) -> Option<Self> {
        let found = slots.first()?;
        let [_, _, first, second, generation, ..] = *found.words();
        let header = Self { slots: slots.len(), secret: [first, second], generation };
        (header.slot() == *found).then_some(header)
    }

    fn slot(&self) -> Slot {
        let [first, second] = self.secret;
        let words = [MAGIC, self.slots as u64, first, second, self.generation];
        let check =
            words.iter().fold(0, |check: u64, word| (check ^ word).wrapping_mul(MAGIC | 1).rotate_left(29));
        Slot::from_words([words[0], words[1], words[2], words[3], words[4], 0, 0, check])
    }
}

/// How many homes fit into `slots`: a power of two, with what surrounds them.
fn homes(slots: usize) -> Option<usize> {
    let room = slots.checked_sub(1 + PROBE_MAX)?;
    let homes = 1 << room.checked_ilog2()?;
    (homes >= 2 * PROBE_MAX).then_some(homes)
}

#[cfg(test)]
mod tests;
