//! Who waits for what.

use std::collections::BTreeMap;
use std::task::Waker;

/// What a task of the application can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key<I> {
    /// Something in the machine.
    Interest(I),
    /// Any event, for [`Handle::next_event`](crate::Handle::next_event).
    Event,
    /// The driver's end.
    Stopped,
}

/// Names one registered waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// Wakers by what they wait for. One entry per waiting future: the application bounds it.
#[derive(Debug)]
pub(crate) struct Waiters<I> {
    waiting: BTreeMap<Key<I>, Vec<(Ticket, Waker)>>,
    next: u64,
}

impl<I: Copy + Ord> Waiters<I> {
    pub(crate) fn new() -> Self {
        Self { waiting: BTreeMap::new(), next: 0 }
    }

    /// Has `waker` woken when `key` is. A `ticket` from an earlier registration under the same key is
    /// renewed rather than doubled.
    pub(crate) fn register(&mut self, key: Key<I>, ticket: &mut Option<Ticket>, waker: &Waker) {
        let list = self.waiting.entry(key).or_default();
        if let Some((_, known)) = list.iter_mut().find(|(known, _)| Some(*known) == *ticket) {
            known.clone_from(waker);
            return;
        }
        let fresh = Ticket(self.next);
        self.next += 1;
        *ticket = Some(fresh);
        list.push((fresh, waker.clone()));
    }

    /// Forgets a registration, if it still stands.
    pub(crate) fn cancel(&mut self, key: Key<I>, ticket: Ticket) {
        if let Some(list) = self.waiting.get_mut(&key) {
            list.retain(|(known, _)| *known != ticket);
            if list.is_empty() {
                self.waiting.remove(&key);
            }
        }
    }

    /// Moves the wakers of `key` to `woken`.
    pub(crate) fn wake(&mut self, key: Key<I>, woken: &mut Vec<Waker>) {
        if self.waiting.is_empty() {
            return;
        }
        if let Some(list) = self.waiting.remove(&key) {
            woken.extend(list.into_iter().map(|(_, waker)| waker));
        }
    }

    /// Moves all wakers to `woken`.
    pub(crate) fn wake_all(&mut self, woken: &mut Vec<Waker>) {
        let all = std::mem::take(&mut self.waiting);
        woken.extend(all.into_values().flatten().map(|(_, waker)| waker));
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_registration_is_not_doubled_and_a_cancelled_one_leaves_nothing() {
        let (mut waiters, mut ticket) = (Waiters::new(), None);
        let waker = Waker::noop();
        waiters.register(Key::Interest(7), &mut ticket, waker);
        waiters.register(Key::Interest(7), &mut ticket, waker);
        assert_eq!(waiters.len(), 1);
        waiters.cancel(Key::Interest(7), ticket.unwrap());
        assert!(waiters.waiting.is_empty());
    }

    #[test]
    fn waking_takes_the_wakers_of_one_key_or_of_all() {
        let (mut waiters, waker, mut woken) = (Waiters::new(), Waker::noop(), Vec::new());
        for key in [Key::Interest(1), Key::Interest(1), Key::Interest(2), Key::Event, Key::Stopped] {
            waiters.register(key, &mut None, waker);
        }
        waiters.wake(Key::Interest(1), &mut woken);
        assert_eq!((woken.len(), waiters.len()), (2, 3));
        waiters.wake_all(&mut woken);
        assert_eq!((woken.len(), waiters.len()), (5, 0));
    }
}
