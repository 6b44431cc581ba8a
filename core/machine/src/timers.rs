//! A small table of named timers.

use alloc::vec::Vec;
use core::fmt::Debug;

use crate::{Deadline, Instant};

/// A timer's name. Usually a plain enum; a variant may carry an id.
pub trait Timer: Copy + Ord + Debug {
    /// The name that people read in a [`Deadline`].
    fn why(self) -> &'static str;
}

/// Pending timers, at most one per key, kept in order. Setting is linear in the number pending,
/// reading the earliest is constant; nothing is allocated once the table has grown.
#[derive(Clone, Debug)]
pub struct Timers<K> {
    /// Latest first, so that the earliest is popped from the end. Ties go to the smaller key.
    pending: Vec<(Instant, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { pending: Vec::new() }
    }
}

impl<K: Timer> Timers<K> {
    /// No timers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Arms `key` for `at`, replacing an earlier setting.
    pub fn set(&mut self, key: K, at: Instant) {
        self.clear(key);
        let place = self.pending.partition_point(|entry| *entry > (at, key));
        self.pending.insert(place, (at, key));
    }

    /// Arms `key` for `at` unless it is already armed for an earlier moment.
    pub fn set_earlier(&mut self, key: K, at: Instant) {
        if self.at(key).is_none_or(|armed| armed > at) {
            self.set(key, at);
        }
    }

    /// Disarms `key`.
    pub fn clear(&mut self, key: K) {
        self.pending.retain(|(_, armed)| *armed != key);
    }

    /// When `key` is due, if armed.
    pub fn at(&self, key: K) -> Option<Instant> {
        self.pending.iter().find(|(_, armed)| *armed == key).map(|(at, _)| *at)
    }

    /// Removes and returns the earliest timer that is due at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        let due = self.pending.last().is_some_and(|(at, _)| *at <= now);
        if due { self.pending.pop().map(|(_, key)| key) } else { None }
    }

    /// The earliest deadline.
    pub fn deadline(&self) -> Option<Deadline> {
        self.pending.last().map(|(at, key)| Deadline { at: *at, why: key.why() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timer for u8 {
        fn why(self) -> &'static str {
            "test"
        }
    }

    #[test]
    fn the_earliest_comes_first_and_ties_go_to_the_smaller_key() {
        let mut timers = Timers::new();
        timers.set(2u8, Instant::from_millis(5));
        timers.set(1, Instant::from_millis(5));
        timers.set(3, Instant::from_millis(1));
        timers.set(3, Instant::from_millis(9));
        let now = Instant::from_millis(10);
        let order: Vec<u8> = core::iter::from_fn(|| timers.pop(now)).collect();
        assert_eq!(order, [1, 2, 3]);
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let mut timers = Timers::new();
        timers.set(1u8, Instant::from_millis(5));
        assert_eq!(timers.pop(Instant::from_millis(4)), None);
        timers.set_earlier(1, Instant::from_millis(7));
        assert_eq!(timers.deadline().map(|d| d.at), Some(Instant::from_millis(5)));
        timers.clear(1);
        assert_eq!(timers.deadline(), None);
    }
}
