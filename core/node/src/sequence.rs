//! Sequence numbers of descriptions: ours grow, theirs must.

use alloc::collections::BTreeMap;

use gimlet_machine::PeerId;

/// Peers whose last sequence number is remembered; beyond, the one heard longest ago is forgotten.
pub const SEQUENCES_MAX: usize = 4_096;

/// The last sequence number used by us and by each peer.
#[derive(Debug)]
pub(crate) struct Sequences {
    ours: u64,
    theirs: BTreeMap<PeerId, Heard>,
    /// Peers by when they were heard last, oldest first. Their own numbers would let a stranger choose
    /// who is forgotten.
    order: BTreeMap<u64, PeerId>,
    heard: u64,
}

/// What was heard of a peer.
#[derive(Clone, Copy, Debug)]
struct Heard {
    sequence: u64,
    /// The key in the order.
    nth: u64,
}

impl Sequences {
    pub(crate) fn new() -> Self {
        Self { ours: 0, theirs: BTreeMap::new(), order: BTreeMap::new(), heard: 0 }
    }

    /// The last number of ours.
    #[cfg(test)]
    pub(crate) fn ours(&self) -> u64 {
        self.ours
    }

    /// The next number of ours, at least the wall clock's nanoseconds, so that it also grows across
    /// a restart that forgot the last one.
    pub(crate) fn next(&mut self, unix_nanos: u64) -> u64 {
        self.ours = unix_nanos.max(self.ours + 1);
        self.ours
    }

    /// Whether `sequence` is newer than everything heard from `peer`; remembers it if so.
    pub(crate) fn accept(&mut self, peer: PeerId, sequence: u64) -> bool {
        let last = self.theirs.get(&peer).copied();
        if last.is_some_and(|last| sequence <= last.sequence) {
            return false;
        }
        self.heard += 1;
        self.order.insert(self.heard, peer);
        self.theirs.insert(peer, Heard { sequence, nth: self.heard });
        if let Some(last) = last {
            self.order.remove(&last.nth);
        } else if self.theirs.len() > SEQUENCES_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.theirs.remove(&oldest);
        }
        debug_assert_eq!(self.order.len(), self.theirs.len(), "each peer has one place in the order");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replayed_or_older_number_is_refused() {
        let mut sequences = Sequences::new();
        let (a, b) = (PeerId([1; 32]), PeerId([2; 32]));
        assert!(sequences.accept(a, 5));
        assert!(!sequences.accept(a, 5) && !sequences.accept(a, 4));
        assert!(sequences.accept(b, 4) && sequences.accept(a, 6));
    }

    #[test]
    fn ours_grow_even_when_the_clock_stands_still_or_goes_back() {
        let mut sequences = Sequences::new();
        assert_eq!([sequences.next(100), sequences.next(100), sequences.next(50)], [100, 101, 102]);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut sequences = Sequences::new();
        for n in 0..2 * SEQUENCES_MAX as u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_le_bytes());
            assert!(sequences.accept(PeerId(id), n + 1));
        }
        assert_eq!(sequences.theirs.len(), SEQUENCES_MAX);
    }
}
