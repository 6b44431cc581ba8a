//! Waiting for the machine.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use gimlet_machine::Instant;
use tokio::task::coop;

use crate::driven::Driven;
use crate::error::Stopped;
use crate::shared::{Shared, State};
use crate::waiters::{Key, Ticket};

/// How exactly a verb is told the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// See [`State::now`].
    Exact,
    /// See [`State::about_now`].
    Rough,
}

/// A place among those who wait for one key. Whoever holds it gives it up with [`Place::leave`].
#[derive(Debug)]
pub(crate) struct Place<I> {
    key: Key<I>,
    ticket: Option<Ticket>,
}

impl<I: Copy + Ord> Place<I> {
    pub(crate) fn new(key: Key<I>) -> Self {
        Self { key, ticket: None }
    }

    /// Tries `attempt` under the lock, and waits for the key if it is pending.
    pub(crate) fn poll<M: Driven<Interest = I>, R>(
        &mut self,
        shared: &Shared<M>,
        cx: &mut Context<'_>,
        attempt: impl FnOnce(&mut State<M>) -> Poll<R>,
    ) -> Poll<R> {
        shared.enter(|state| {
            let outcome = attempt(state);
            self.settle(state, cx, outcome.is_ready());
            outcome
        })
    }

    /// Like [`Place::poll`] for a verb of the machine, after which the driver has work to do. It
    /// counts towards the task's cooperative budget: a task that never has to wait still lets the
    /// driver run.
    pub(crate) fn poll_verb<M: Driven<Interest = I>, R>(
        &mut self,
        shared: &Shared<M>,
        cx: &mut Context<'_>,
        moment: Moment,
        verb: impl FnOnce(&mut M, Instant) -> Option<R>,
    ) -> Poll<Result<R, Stopped>> {
        let budget = ready!(coop::poll_proceed(cx));
        let (outcome, waker) = shared.enter(|state| {
            let now = match moment {
                Moment::Exact => state.now(),
                Moment::Rough => state.about_now(),
            };
            let result = state.trusted().map(|machine| verb(machine, now));
            let (outcome, waker) = match (result, state.stopped()) {
                (Ok(Some(result)), _) => (Poll::Ready(Ok(result)), state.ring()),
                (Ok(None), None) => (Poll::Pending, None),
                (Ok(None), Some(why)) => (Poll::Ready(Err(why.clone())), None),
                (Err(why), _) => (Poll::Ready(Err(why)), None),
            };
            self.settle(state, cx, outcome.is_ready());
            (outcome, waker)
        });
        if let Some(waker) = waker {
            waker.wake();
        }
        if outcome.is_ready() {
            budget.made_progress();
        }
        outcome
    }

    fn settle<M: Driven<Interest = I>>(&mut self, state: &mut State<M>, cx: &Context<'_>, ready: bool) {
        let waiters = &mut state.audience.waiters;
        if !ready {
            waiters.register(self.key, &mut self.ticket, cx.waker());
        } else if let Some(ticket) = self.ticket.take() {
            waiters.cancel(self.key, ticket);
        }
    }

    /// Waits no longer.
    pub(crate) fn leave<M: Driven<Interest = I>>(&mut self, shared: &Shared<M>) {
        if let Some(ticket) = self.ticket.take() {
            shared.enter(|state| state.audience.waiters.cancel(self.key, ticket));
        }
    }
}

/// A place that is given up when dropped.
pub(crate) struct Registration<'a, M: Driven> {
    shared: &'a Shared<M>,
    place: Place<M::Interest>,
}

impl<'a, M: Driven> Registration<'a, M> {
    pub(crate) fn new(shared: &'a Shared<M>, key: Key<M::Interest>) -> Self {
        Self { shared, place: Place::new(key) }
    }

    pub(crate) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        attempt: impl FnOnce(&mut State<M>) -> Poll<R>,
    ) -> Poll<R> {
        self.place.poll(self.shared, cx, attempt)
    }
}

impl<M: Driven> Drop for Registration<'_, M> {
    fn drop(&mut self) {
        self.place.leave(self.shared);
    }
}

/// The future of [`Handle::when`](crate::Handle::when).
#[must_use = "futures do nothing unless awaited"]
pub struct When<'a, M: Driven, F> {
    registration: Registration<'a, M>,
    moment: Moment,
    verb: F,
}

impl<'a, M: Driven, F> When<'a, M, F> {
    pub(crate) fn new(shared: &'a Shared<M>, interest: M::Interest, moment: Moment, verb: F) -> Self {
        Self { registration: Registration::new(shared, Key::Interest(interest)), moment, verb }
    }
}

// The verb is called through `&mut`, never pinned.
impl<M: Driven, F> Unpin for When<'_, M, F> {}

impl<M: Driven, R, F: FnMut(&mut M, Instant) -> Option<R>> Future for When<'_, M, F> {
    type Output = Result<R, Stopped>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { registration: Registration { shared, place }, moment, verb } = self.get_mut();
        place.poll_verb(shared, cx, *moment, verb)
    }
}

impl<M: Driven, F> fmt::Debug for When<'_, M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When").field("place", &self.registration.place).finish_non_exhaustive()
    }
}
