//! The loop.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use gimlet_machine::{Buf, Deadline, FourTuple, Instant, Io, Machine, Queue, Transmit, pump};
use gimlet_udp::{Clock, Outbox, RecvBatch, Sockets};

use crate::remote::{Calls, Remote};
use crate::wait::Wait;

/// Events that wait for the application. Past it the oldest is dropped and counted
/// ([`Driver::events_lost`]); an application that drains after each turn never gets there.
pub const EVENTS_MAX: usize = 1 << 16;

/// Buffers between the machine and the sockets. With one, each train leaves before the next is
/// written, while it is still in the processor's cache.
const OUTBOX_TRAINS: usize = 1;

/// A machine, its sockets, and the thread that calls it.
#[derive(Debug)]
pub struct Driver<M: Machine<Path = FourTuple>> {
    machine: M,
    /// The application may have called a verb since the machine was drained.
    touched: bool,
    clock: Clock,
    sockets: Sockets,
    batch: RecvBatch,
    outbox: Outbox,
    wait: Wait,
    calls: Calls<M>,
    deadline: Option<Deadline>,
    events: Queue<M::Event>,
    events_lost: u64,
}

impl<M: Machine<Path = FourTuple>> Driver<M> {
    /// A driver for `machine`, which was built with moments of `clock` and speaks through
    /// `sockets`.
    ///
    /// # Errors
    ///
    /// The system gives no poll instance: the process is out of files.
    pub fn new(machine: M, sockets: Sockets, clock: Clock) -> io::Result<Self> {
        let wait = Wait::new(&sockets)?;
        let calls = Calls::new(wait.waker()?);
        Ok(Self {
            machine,
            touched: true,
            clock,
            sockets,
            batch: RecvBatch::new(),
            outbox: Outbox::new(OUTBOX_TRAINS),
            wait,
            calls,
            deadline: None,
            events: Queue::new(EVENTS_MAX),
            events_lost: 0,
        })
    }

    /// The present moment, for the machine's verbs.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine, for its verbs. The next turn drains what they cause.
    pub fn machine_mut(&mut self) -> &mut M {
        self.touched = true;
        &mut self.machine
    }

    /// Calls a verb: [`Driver::machine_mut`] and [`Driver::now`] in one.
    pub fn with<R>(&mut self, verb: impl FnOnce(&mut M, Instant) -> R) -> R {
        self.touched = true;
        verb(&mut self.machine, self.clock.now())
    }

    /// The sockets, for their addresses and counters.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// A way in for other threads.
    pub fn remote(&self) -> Remote<M> {
        self.calls.remote()
    }

    /// What the machine wants the application to know, oldest first.
    pub fn poll_event(&mut self) -> Option<M::Event> {
        self.events.pop()
    }

    /// Events dropped because more than [`EVENTS_MAX`] waited.
    pub fn events_lost(&self) -> u64 {
        self.events_lost
    }

    /// Transmits given up because a socket stayed full
    /// ([`OUTBOX_BLOCKED_MAX`](gimlet_udp::OUTBOX_BLOCKED_MAX)).
    pub fn transmits_lost(&self) -> u64 {
        self.outbox.dropped()
    }

    /// Runs until `on_event` breaks, and returns what it broke with.
    ///
    /// # Errors
    ///
    /// See [`Driver::turn`].
    pub fn run<R>(
        &mut self,
        mut on_event: impl FnMut(&mut Self, M::Event) -> ControlFlow<R>,
    ) -> io::Result<R> {
        loop {
            while let Some(event) = self.poll_event() {
                if let ControlFlow::Break(result) = on_event(self, event) {
                    return Ok(result);
                }
            }
            self.turn(None)?;
        }
    }

    /// Waits until there is something to do, `timeout` at the longest (`None`: for ever), and does a
    /// bounded amount of it. Returns at once if events are waiting for [`Driver::poll_event`].
    ///
    /// # Errors
    ///
    /// A socket or the poll instance failed for good. What the network refuses is counted by the
    /// sockets and is no error.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.touched {
            self.pump()?;
        }
        self.wait.poll(self.patience(timeout))?;
        self.touched |= self.calls.run(&mut self.machine, self.clock);
        self.receive()?;
        self.pump()
    }

    fn patience(&self, timeout: Option<Duration>) -> Option<Duration> {
        if !self.events.is_empty() || self.wait.is_ready() || self.calls.has_more() {
            return Some(Duration::ZERO);
        }
        // While a socket is full the machine cannot be drained, so its own deadline has to wait for
        // that socket, which is never long.
        let deadline = self.outbox.deadline().or(self.deadline);
        let due = deadline.map(|deadline| deadline.at.since(self.clock.now()));
        due.into_iter().chain(timeout).min()
    }

    /// One batch from each socket that has one.
    fn receive(&mut self) -> io::Result<()> {
        for index in 0..self.sockets.len() {
            if !self.wait.is_readable(index) {
                continue;
            }
            let Some(socket) = self.sockets.at_mut(index) else { continue };
            socket.recv(&mut self.batch)?;
            self.wait.set_readable(index, self.batch.is_full());
            let now = self.clock.now();
            for input in self.batch.inputs() {
                self.sockets.deliver(&mut self.machine, now, input);
            }
        }
        Ok(())
    }

    fn pump(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        let mut io = Exchange {
            now,
            sockets: &mut self.sockets,
            outbox: &mut self.outbox,
            events: &mut self.events,
            events_lost: &mut self.events_lost,
        };
        self.touched = false;
        self.deadline = pump(&mut self.machine, now, &mut io);
        let blocked = self.outbox.flush(&mut self.sockets, now);
        self.wait.watch_writable(&mut self.sockets, blocked)
    }
}

/// What the pump sees of the driver.
struct Exchange<'a, E> {
    now: Instant,
    sockets: &'a mut Sockets,
    outbox: &'a mut Outbox,
    events: &'a mut Queue<E>,
    events_lost: &'a mut u64,
}

impl<M: Machine<Path = FourTuple>> Io<M> for Exchange<'_, M::Event> {
    fn buf(&mut self) -> Option<Buf<'_>> {
        if self.outbox.is_full() {
            self.outbox.flush(self.sockets, self.now);
        }
        self.outbox.buf(self.sockets.segments_max())
    }

    fn transmit(&mut self, transmit: Transmit<FourTuple>) {
        self.outbox.push(transmit);
    }

    fn event(&mut self, _: &mut M, _: Instant, event: M::Event) {
        *self.events_lost += u64::from(self.events.push_evicting(event).is_some());
    }
}

#[cfg(test)]
mod tests;
