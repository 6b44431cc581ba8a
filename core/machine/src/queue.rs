//! A first-in, first-out queue that knows its limit.

use alloc::collections::VecDeque;

/// A bounded queue. What happens on overflow is the owner's decision, which is why
/// [`Queue::push`] hands the item back.
#[derive(Clone, Debug)]
pub struct Queue<T> {
    items: VecDeque<T>,
    max: usize,
}

impl<T> Queue<T> {
    /// A queue for at most `max` items. Memory grows with use, never past the limit.
    pub const fn new(max: usize) -> Self {
        Self { items: VecDeque::new(), max }
    }

    /// Appends `item`, or returns it when the queue is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.is_full() {
            return Err(item);
        }
        self.items.push_back(item);
        Ok(())
    }

    /// Appends `item`; when full, drops and returns the oldest.
    pub fn push_evicting(&mut self, item: T) -> Option<T> {
        let evicted = if self.is_full() { self.items.pop_front() } else { None };
        self.items.push_back(item);
        evicted
    }

    /// Removes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// The oldest item.
    pub fn front(&self) -> Option<&T> {
        self.items.front()
    }

    /// The newest item.
    pub fn back_mut(&mut self) -> Option<&mut T> {
        self.items.back_mut()
    }

    /// All items, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.items.iter()
    }

    /// Keeps only the items for which `keep` holds.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.items.retain(keep);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.items.clear();
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether no more fit.
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_hands_the_item_back() {
        let mut queue = Queue::new(2);
        assert_eq!((queue.push(1), queue.push(2), queue.push(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!(queue.push_evicting(4), Some(1));
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(2), Some(4), None));
    }
}
