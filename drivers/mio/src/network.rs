//! Everything between the machine and the system.

use std::io;
use std::net::{IpAddr, SocketAddr};

use gimlet_machine::{
    Answer, Buf, CloseReason, Deadline, FourTuple, Instant, Machine, Request, SocketId, Transmit,
};
use gimlet_udp::{Clock, Connections, Outbox, RecvBatch, Socket, Sockets, Todo, close_reason};

use crate::wait::Wait;

/// Buffers between the machine and the sockets. With one, each train leaves before the next is
/// written, while it is still in the processor's cache.
const OUTBOX_TRAINS: usize = 1;

/// The sockets and connections, and what is on its way between them and the machine.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) sockets: Sockets,
    pub(crate) connections: Connections,
    pub(crate) wait: Wait,
    pub(crate) outbox: Outbox,
    batch: RecvBatch,
}

impl Network {
    pub(crate) fn new(sockets: Sockets) -> io::Result<Self> {
        let mut wait = Wait::new()?;
        sockets.iter().try_for_each(|(index, socket)| wait.add(index, socket))?;
        Ok(Self {
            sockets,
            connections: Connections::new(),
            wait,
            outbox: Outbox::new(OUTBOX_TRAINS),
            batch: RecvBatch::new(),
        })
    }

    /// Adds a socket of the owner's.
    pub(crate) fn add(&mut self, socket: Socket) -> io::Result<()> {
        let index = self.sockets.add(socket)?;
        self.watch(index)
    }

    /// Drops the owner's socket that is bound to `local`; says whether there was one.
    pub(crate) fn remove(&mut self, local: SocketAddr) -> bool {
        self.sockets.given(local).map(|index| self.drop_socket(index)).is_some()
    }

    fn watch(&mut self, index: usize) -> io::Result<()> {
        let Some(socket) = self.sockets.at(index) else { return Ok(()) };
        let watched = self.wait.add(index, socket);
        if watched.is_err() {
            self.sockets.remove(index);
        }
        watched
    }

    fn drop_socket(&mut self, index: usize) {
        if let Some(socket) = self.sockets.remove(index) {
            // The system forgets a closed descriptor by itself; this one only tells it beforehand.
            let _ = self.wait.remove(index, &socket);
        }
    }

    /// Does what a machine asks for.
    pub(crate) fn request(&mut self, now: Instant, request: &Request) -> Option<Answer<'static>> {
        match *request {
            Request::Bind { id, local } => Some(match self.bind(id, local) {
                Ok(local) => Answer::Bound { id, local },
                Err(why) => Answer::Closed { id, why },
            }),
            Request::Connect { id, local, remote } => {
                let closed = |why| Answer::Closed { id, why };
                self.connect(now, id, local, remote).err().map(closed)
            }
            Request::Write { id, ref bytes } => {
                let todo = self.connections.write(id, bytes);
                self.tend(id, todo)
            }
            Request::Close { id } => {
                if let Some(index) = self.sockets.requested(id) {
                    // What was written before still leaves.
                    self.outbox.flush(&mut self.sockets, now);
                    self.drop_socket(index);
                    return None;
                }
                let todo = self.connections.close(now, id);
                self.tend(id, todo)
            }
        }
    }

    fn connect(
        &mut self,
        now: Instant,
        id: SocketId,
        local: IpAddr,
        remote: SocketAddr,
    ) -> Result<(), CloseReason> {
        let index = self.connections.connect(now, id, local, remote)?;
        let Some(io) = self.connections.descriptor(index) else { return Err(CloseReason::Failed) };
        self.wait.add_connection(index, &io).map_err(|error| {
            self.connections.remove(index);
            close_reason(&error)
        })
    }

    fn tend(&mut self, id: SocketId, todo: Todo) -> Option<Answer<'static>> {
        match todo {
            Todo::Nothing => None,
            Todo::Serve(index) => {
                self.wait.mark_connection(index);
                None
            }
            Todo::Forget(index, why) => {
                self.wait.forget_connection(index);
                why.map(|why| Answer::Closed { id, why })
            }
        }
    }

    /// Reads and writes on every connection that has something to do. Says whether the machine was told
    /// anything.
    pub(crate) fn serve<M: Machine>(&mut self, machine: &mut M, clock: Clock) -> bool {
        let mut told = false;
        for _ in 0..self.wait.connections() {
            let Some((index, ready)) = self.wait.pop_connection() else { break };
            let now = clock.now();
            let left = self.connections.serve(index, now, ready, |answer| {
                told = true;
                machine.handle_answer(now, answer);
            });
            if let Some(left) = left {
                self.wait.set_readiness(index, left);
            }
        }
        if self.connections.deadline().is_none() {
            return told;
        }
        let now = clock.now();
        while let Some((index, answer)) = self.connections.expire(now) {
            self.wait.forget_connection(index);
            if let Some(answer) = answer {
                told = true;
                machine.handle_answer(now, answer);
            }
        }
        told
    }

    fn bind(&mut self, id: SocketId, local: SocketAddr) -> Result<SocketAddr, CloseReason> {
        let index = self.sockets.open(id, local)?;
        self.watch(index).map_err(|error| close_reason(&error))?;
        self.sockets.at(index).map(Socket::local_address).ok_or(CloseReason::Failed)
    }

    /// An empty buffer for the machine, if there is room.
    pub(crate) fn buf(&mut self, now: Instant) -> Option<Buf<'_>> {
        if self.outbox.is_full() {
            self.outbox.flush(&mut self.sockets, now);
        }
        self.outbox.buf(self.sockets.segments_max())
    }

    pub(crate) fn transmit(&mut self, transmit: Transmit<FourTuple>) {
        self.outbox.push(transmit);
    }

    /// Offers everything to the sockets.
    pub(crate) fn flush(&mut self, now: Instant) -> io::Result<()> {
        let blocked = self.outbox.flush(&mut self.sockets, now);
        self.wait.watch_writable(|index| self.sockets.at(index), blocked)
    }

    /// One batch from each socket that has one, to the machine.
    pub(crate) fn receive<M>(&mut self, machine: &mut M, clock: Clock) -> io::Result<()>
    where
        M: Machine<Path = FourTuple>,
    {
        for _ in 0..self.wait.readable() {
            let Some(index) = self.wait.pop_readable() else { break };
            if let Err(error) = self.sockets.recv(index, &mut self.batch) {
                let (id, why) = self.give_up(index, error)?;
                machine.handle_answer(clock.now(), Answer::Closed { id, why });
                continue;
            }
            if self.batch.is_full() {
                self.wait.set_readable(index);
            }
            let now = clock.now();
            for input in self.batch.inputs() {
                self.sockets.deliver(machine, now, input);
            }
        }
        Ok(())
    }

    fn give_up(&mut self, index: usize, error: io::Error) -> io::Result<(SocketId, CloseReason)> {
        if let Some(socket) = self.sockets.at(index) {
            let _ = self.wait.remove(index, socket);
        }
        self.sockets.give_up(index, error)
    }

    /// When to come back although nothing arrives and the machine wants nothing before `deadline`.
    pub(crate) fn deadline(&self, deadline: Option<Deadline>) -> Option<Deadline> {
        // While a socket is full the machine cannot be drained, so its own deadline has to wait for
        // that socket, which is never long.
        Deadline::earliest([self.outbox.deadline().or(deadline), self.connections.deadline()])
    }
}
