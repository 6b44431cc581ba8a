//! What happens next: one heap, ordered by (time, sequence).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gimlet_machine::Instant;

/// What is due. The numbers are slots in the tables of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A packet reaches the next place on its way.
    Arrival(u32),
    /// A host's machine wants its timeout handled.
    Wake(u32),
    /// A host's connections have something to send again.
    Timeout(u32),
    /// A scheduled fault strikes.
    Fault(u32),
}

/// Everything that is going to happen. Of two things at one moment, the one planned first comes
/// first.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
}

/// Small, because the heap moves it about; the sequence decides before `due` is ever compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Instant,
    sequence: u64,
    due: Due,
}

impl Agenda {
    pub(crate) fn plan(&mut self, at: Instant, due: Due) {
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at, sequence: self.sequence, due }));
    }

    pub(crate) fn next(&self) -> Option<(Instant, Due)> {
        self.heap.peek().map(|Reverse(entry)| (entry.at, entry.due))
    }

    pub(crate) fn pop(&mut self) -> Option<(Instant, Due)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.due))
    }
}
