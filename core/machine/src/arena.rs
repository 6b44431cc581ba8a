//! Storage with generational ids: a stale id finds nothing, never a stranger.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;

/// Names an entry of an [`Arena`]. An id outlives its entry harmlessly: the slot's next tenant has
/// another generation.
pub struct Id<T> {
    index: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    /// The slot, for display and for tie-breaking. It is reused after removal.
    pub const fn index(self) -> u32 {
        self.index
    }
}

/// A growable table of entries, reached by generational [`Id`]s and iterated in slot order, which
/// is deterministic.
#[derive(Clone, Debug)]
pub struct Arena<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Slot<T> {
    generation: u32,
    entry: Option<T>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Arena<T> {
    /// An empty arena.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for `more` entries beyond those it has, and no further: for owners with a limit, who would
    /// otherwise pay for what doubling adds to it.
    pub fn reserve_exact(&mut self, more: usize) {
        self.slots.reserve_exact(more.saturating_sub(self.free.len()));
    }

    /// How many entries fit before memory is asked for.
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Stores `entry` and names it.
    pub fn insert(&mut self, entry: T) -> Id<T> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: None });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        debug_assert!(slot.entry.is_none(), "a free slot is empty");
        slot.entry = Some(entry);
        Id { index, generation: slot.generation, of: PhantomData }
    }

    /// Takes the entry out; every copy of its id is stale from here on.
    pub fn remove(&mut self, id: Id<T>) -> Option<T> {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(entry)
    }

    /// Looks an entry up.
    pub fn get(&self, id: Id<T>) -> Option<&T> {
        self.slots.get(id.index as usize).filter(|slot| slot.generation == id.generation)?.entry.as_ref()
    }

    /// Looks an entry up, for change.
    pub fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?.entry.as_mut()
    }

    /// The name of the entry in slot `index`, if it is taken: for who keeps slots only, and sees to it that no slot
    /// outlives its entry.
    pub fn id_at(&self, index: u32) -> Option<Id<T>> {
        let slot = self.slots.get(index as usize).filter(|slot| slot.entry.is_some())?;
        Some(Id { index, generation: slot.generation, of: PhantomData })
    }

    /// All entries in slot order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Id<T>, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let id = Id { index: index as u32, generation: slot.generation, of: PhantomData };
            slot.entry.as_ref().map(|entry| (id, entry))
        })
    }

    /// All entries in slot order, for change.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (Id<T>, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, slot)| {
            let id = Id { index: index as u32, generation: slot.generation, of: PhantomData };
            slot.entry.as_mut().map(|entry| (id, entry))
        })
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// Written out because a derive would demand the same of `T`.
impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.index, self.generation).cmp(&(other.index, other.generation))
    }
}
impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.index, self.generation).hash(state);
    }
}
impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.index, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_finds_nothing_even_after_the_slot_is_reused() {
        let mut arena = Arena::new();
        let old = arena.insert("old");
        assert_eq!(arena.remove(old), Some("old"));
        let new = arena.insert("new");
        assert_eq!((old.index(), arena.get(old)), (new.index(), None));
        assert_eq!(arena.remove(old), None);
        assert_eq!((arena.get(new), arena.len()), (Some(&"new"), 1));
        assert_eq!((arena.id_at(new.index()), arena.id_at(7)), (Some(new), None));
        arena.remove(new);
        assert_eq!(arena.id_at(new.index()), None);
    }

    #[test]
    fn room_is_made_for_what_is_asked_and_what_was_freed_counts() {
        let mut arena = Arena::new();
        arena.reserve_exact(3);
        assert_eq!(arena.capacity(), 3);
        let ids = [1, 2, 3].map(|entry| arena.insert(entry));
        assert_eq!(ids.map(|id| arena.remove(id)), [Some(1), Some(2), Some(3)]);
        arena.reserve_exact(3);
        assert_eq!(arena.capacity(), 3);
    }
}
