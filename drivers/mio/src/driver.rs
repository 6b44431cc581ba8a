//! The loop.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use gimlet_machine::{
    Answer, Buf, Deadline, FourTuple, Instant, Io, Machine, Queue, Request, Transmit, pump,
};
use gimlet_udp::{Clock, Connections, Socket, Sockets};

use crate::network::Network;
use crate::remote::{Calls, Remote};

/// Events that wait for the application. Past it the oldest is dropped and counted
/// ([`Driver::events_lost`]); an application that drains after each turn never gets there.
pub const EVENTS_MAX: usize = 1 << 16;

/// A machine, its sockets, and the thread that calls it.
#[derive(Debug)]
pub struct Driver<M: Machine<Path = FourTuple>> {
    machine: M,
    /// The application may have called a verb since the machine was drained.
    touched: bool,
    clock: Clock,
    network: Network,
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
        let network = Network::new(sockets)?;
        let calls = Calls::new(network.wait.waker()?);
        Ok(Self {
            machine,
            touched: true,
            clock,
            network,
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
        &self.network.sockets
    }

    /// The connections that the machine asked for, for their counters.
    pub fn connections(&self) -> &Connections {
        &self.network.connections
    }

    /// Lets the machine speak through one more socket: an interface has come up. Tell the machine of its
    /// address afterwards, if it wants to know.
    ///
    /// # Errors
    ///
    /// The owner has given [`SOCKETS_MAX`](gimlet_udp::SOCKETS_MAX) already, or the system cannot watch more.
    pub fn add_socket(&mut self, socket: Socket) -> io::Result<()> {
        self.network.add(socket)
    }

    /// Takes away the socket that is bound to exactly `local`: its interface is gone. Its port is free
    /// then. Says whether there was such a socket among those that the owner gave; what a machine asked for
    /// is its own.
    pub fn remove_socket(&mut self, local: SocketAddr) -> bool {
        self.touched = true;
        self.network.remove(local)
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
        self.network.outbox.dropped()
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
    /// A socket that the owner gave, or the poll instance, failed for good. What the network refuses is
    /// counted by the sockets and is no error.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.touched {
            self.pump()?;
        }
        self.network.wait.poll(self.patience(timeout))?;
        self.touched |= self.calls.run(&mut self.machine, self.clock);
        self.network.receive(&mut self.machine, self.clock)?;
        self.network.serve(&mut self.machine, self.clock);
        self.pump()?;
        // What the machine wrote leaves before the next wait; what became of it is drained then.
        self.touched |= self.network.serve(&mut self.machine, self.clock);
        Ok(())
    }

    fn patience(&self, timeout: Option<Duration>) -> Option<Duration> {
        if !self.events.is_empty() || self.network.wait.is_ready() || self.calls.has_more() {
            return Some(Duration::ZERO);
        }
        let due = self.network.deadline(self.deadline).map(|deadline| deadline.at.since(self.clock.now()));
        due.into_iter().chain(timeout).min()
    }

    fn pump(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        let mut io = Exchange {
            now,
            network: &mut self.network,
            events: &mut self.events,
            events_lost: &mut self.events_lost,
        };
        self.touched = false;
        self.deadline = pump(&mut self.machine, now, &mut io);
        self.network.flush(now)
    }
}

/// What the pump sees of the driver.
struct Exchange<'a, E> {
    now: Instant,
    network: &'a mut Network,
    events: &'a mut Queue<E>,
    events_lost: &'a mut u64,
}

impl<M: Machine<Path = FourTuple>> Io<M> for Exchange<'_, M::Event> {
    fn buf(&mut self) -> Option<Buf<'_>> {
        self.network.buf(self.now)
    }

    fn transmit(&mut self, transmit: Transmit<FourTuple>) {
        self.network.transmit(transmit);
    }

    fn event(&mut self, _: &mut M, _: Instant, event: M::Event) {
        *self.events_lost += u64::from(self.events.push_evicting(event).is_some());
    }

    fn request(&mut self, request: Request) -> Option<Answer<'static>> {
        self.network.request(self.now, &request)
    }
}

#[cfg(test)]
mod outside_tests;
#[cfg(test)]
mod tests;
