//! What the driver's task and the application's tasks share: the machine, behind a lock.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::task::Waker;
use std::thread;

use gimlet_machine::{Answer, Instant, Queue};
use gimlet_udp::{Clock, ConnectionsCounters, SocketsCounters};

use crate::driven::{Driven, Wake};
use crate::error::Stopped;
use crate::order::Order;
use crate::waiters::{Key, Waiters};

/// Events that wait for [`Handle::next_event`](crate::Handle::next_event). Past it the oldest is
/// dropped and counted: an application that never asks for events loses nothing but them.
pub const EVENTS_MAX: usize = 4_096;

/// Something to do when an interest is woken, on behalf of somebody who is gone. Returns whether it
/// is done.
pub(crate) type Chore<M> = fn(&mut M, Instant, <M as Driven>::Interest) -> bool;

pub(crate) struct Shared<M: Driven> {
    pub(crate) clock: Clock,
    state: Mutex<State<M>>,
}

/// Everything behind the lock. It is held for short, synchronous work only: no system call is made
/// and no waker is called under it, except on the way down after a panic.
pub(crate) struct State<M: Driven> {
    pub(crate) machine: M,
    clock: Clock,
    /// The latest moment that the machine was told.
    told: Instant,
    pub(crate) phase: Phase,
    pub(crate) audience: Audience<M>,
    pub(crate) lost: Lost,
    /// Where the owner's sockets are bound.
    pub(crate) local_addresses: Vec<SocketAddr>,
    /// What the owner wants done with them.
    pub(crate) orders: Vec<Order>,
    driver: Bell,
}

/// Those to whom the machine's events matter.
pub(crate) struct Audience<M: Driven> {
    pub(crate) waiters: Waiters<M::Interest>,
    pub(crate) events: Queue<M::Event>,
    pub(crate) events_lost: u64,
    /// At most one per stream.
    pub(crate) chores: BTreeMap<M::Interest, Chore<M>>,
}

/// What got lost between the machine and the system, as of the latest turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lost {
    pub(crate) transmits: u64,
    pub(crate) sockets: SocketsCounters,
    pub(crate) connections: ConnectionsCounters,
}

/// How far the driver is.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Turning.
    Running,
    /// Turning until the machine says that it is closed.
    Closing,
    /// About to stop: the driver's task has yet to notice.
    Stopping(Stopped),
    /// Not turning any more; the ports are free.
    Stopped(Stopped),
}

/// Wakes the driver's task, once for any number of calls.
#[derive(Debug, Default)]
struct Bell {
    waker: Option<Waker>,
    rung: bool,
}

impl<M: Driven> Shared<M> {
    pub(crate) fn new(machine: M, clock: Clock, local_addresses: Vec<SocketAddr>) -> Self {
        let state = State {
            machine,
            clock,
            told: Instant::ZERO,
            phase: Phase::Running,
            audience: Audience {
                waiters: Waiters::new(),
                events: Queue::new(EVENTS_MAX),
                events_lost: 0,
                chores: BTreeMap::new(),
            },
            lost: Lost::default(),
            local_addresses,
            orders: Vec::new(),
            driver: Bell::default(),
        };
        Self { clock, state: Mutex::new(state) }
    }

    /// Runs `work` under the lock. If it panics, the driver stops and everybody learns why.
    pub(crate) fn enter<R>(&self, work: impl FnOnce(&mut State<M>) -> R) -> R {
        // A poisoned lock is no news: `Witness` has written it down as a phase.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let witness = Witness { unwinding: thread::panicking(), state: &mut state };
        work(&mut *witness.state)
    }

    /// Runs `work` under the lock, then rings the driver's bell.
    pub(crate) fn enter_and_ring<R>(&self, work: impl FnOnce(&mut State<M>) -> R) -> R {
        let (result, waker) = self.enter(|state| {
            let result = work(state);
            (result, state.ring())
        });
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// Tells the machine what became of its requests.
    pub(crate) fn answer<'a>(&self, answers: impl IntoIterator<Item = Answer<'a>>) {
        let mut answers = answers.into_iter().peekable();
        if answers.peek().is_some() {
            self.enter(|state| {
                let now = state.now();
                answers.for_each(|answer| state.machine.handle_answer(now, answer));
            });
        }
    }

    /// Stops the driver, unless it has been stopped already, and tells everybody.
    pub(crate) fn stop(&self, why: Stopped) {
        let woken = self.enter(|state| state.stop(why));
        woken.into_iter().for_each(Waker::wake);
    }

    /// The driver's task has given up the sockets, because it was stopped or else for `why`.
    pub(crate) fn end(&self, why: Stopped) {
        let (woken, orders) = self.enter(|state| {
            let woken = state.stop(why);
            if let Phase::Stopping(why) = &state.phase {
                state.phase = Phase::Stopped(why.clone());
            }
            (woken, std::mem::take(&mut state.orders))
        });
        woken.into_iter().for_each(Waker::wake);
        // Whoever waits for them learns that they will not be carried out.
        drop(orders);
    }
}

impl<M: Driven> State<M> {
    /// The driver listens from here on: whatever was rung for is about to be done.
    pub(crate) fn reset_bell(&mut self, waker: &Waker) {
        self.driver.rung = false;
        match &mut self.driver.waker {
            Some(known) => known.clone_from(waker),
            none @ None => *none = Some(waker.clone()),
        }
    }

    /// The present moment.
    pub(crate) fn now(&mut self) -> Instant {
        self.told = self.clock.now();
        self.told
    }

    /// The moment of the verb that rang the driver's bell, else the present one: verbs that wait for
    /// the same turn may as well happen at the same moment. Reading the clock costs as much as the
    /// rest of sending a small message.
    pub(crate) fn about_now(&mut self) -> Instant {
        if self.driver.rung { self.told } else { self.now() }
    }

    /// Rings the driver's bell: the waker to call once the lock is free, if it must be called.
    pub(crate) fn ring(&mut self) -> Option<Waker> {
        self.driver.ring()
    }

    /// Why the driver turns no more, if it does not.
    pub(crate) fn stopped(&self) -> Option<&Stopped> {
        match &self.phase {
            Phase::Running | Phase::Closing => None,
            Phase::Stopping(why) | Phase::Stopped(why) => Some(why),
        }
    }

    /// Why the driver's task ended, if it has.
    pub(crate) fn ended(&self) -> Option<&Stopped> {
        match &self.phase {
            Phase::Running | Phase::Closing | Phase::Stopping(_) => None,
            Phase::Stopped(why) => Some(why),
        }
    }

    /// An error if the machine cannot be trusted any more. A driver that stopped for another reason
    /// leaves it readable.
    pub(crate) fn trusted(&mut self) -> Result<&mut M, Stopped> {
        match self.stopped() {
            Some(Stopped::Panicked) => Err(Stopped::Panicked),
            Some(Stopped::Closed | Stopped::RuntimeGone | Stopped::Io(_)) | None => Ok(&mut self.machine),
        }
    }

    fn stop(&mut self, why: Stopped) -> Vec<Waker> {
        let mut woken: Vec<Waker> = self.driver.ring().into_iter().collect();
        if self.stopped().is_none() {
            self.phase = Phase::Stopping(why);
        }
        self.audience.chores.clear();
        self.audience.waiters.wake_all(&mut woken);
        woken
    }
}

impl<M: Driven> Audience<M> {
    /// Collects into `woken` whom `event` wakes, runs the chores that waited for it, and keeps it
    /// for whoever asks for events.
    pub(crate) fn on_event(
        &mut self,
        machine: &mut M,
        now: Instant,
        event: M::Event,
        woken: &mut Vec<Waker>,
    ) {
        match M::wakes(&event) {
            Wake::Nobody => {}
            Wake::One(interest) => {
                self.waiters.wake(Key::Interest(interest), woken);
                if let Some(chore) = self.chores.get(&interest)
                    && chore(machine, now, interest)
                {
                    self.chores.remove(&interest);
                }
            }
            Wake::Everybody => {
                self.waiters.wake_all(woken);
                self.chores.retain(|interest, chore| !chore(machine, now, *interest));
            }
        }
        self.waiters.wake(Key::Event, woken);
        self.events_lost += u64::from(self.events.push_evicting(event).is_some());
    }
}

impl Bell {
    /// The waker to call, unless the driver has been rung for already.
    fn ring(&mut self) -> Option<Waker> {
        if std::mem::replace(&mut self.rung, true) { None } else { self.waker.take() }
    }
}

/// Notices a panic under the lock.
struct Witness<'a, M: Driven> {
    /// The thread was unwinding before; its panic is not ours.
    unwinding: bool,
    state: &'a mut State<M>,
}

impl<M: Driven> Drop for Witness<'_, M> {
    fn drop(&mut self) {
        if !self.unwinding && thread::panicking() {
            self.state.stop(Stopped::Panicked).into_iter().for_each(Waker::wake);
        }
    }
}

impl<M: Driven> fmt::Debug for Shared<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
