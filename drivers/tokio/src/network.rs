//! Everything between the machine and the system: called by the task, without the lock.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use gimlet_machine::{Answer, CloseReason, Instant, Request, SocketId};
use gimlet_udp::{Connections, Outbox, Readiness, RecvBatch, Socket, Sockets, Todo, close_reason};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::driven::Driven;
use crate::ready::{Ready, Signal, Watched, What, register};
use crate::shared::{Lost, Shared};

/// Buffers between the machine, which writes under the lock, and the sockets, which are called
/// without it.
const OUTBOX_TRAINS: usize = 4;

/// The sockets and connections, and what is on its way between them and the machine.
pub(crate) struct Network {
    pub(crate) sockets: Sockets,
    pub(crate) connections: Connections,
    pub(crate) outbox: Outbox,
    pub(crate) ready: Ready,
    /// By the index of the socket.
    watched: Vec<Option<Watched<Arc<UdpSocket>>>>,
    /// By the index of the connection.
    streams: Vec<Option<Watched<Arc<TcpStream>>>>,
    seen: VecDeque<Arc<Signal>>,
    /// A full socket, by index, watched for room. Only while there is one: an idle socket reports room
    /// after each datagram that it sends, a wake-up for nothing.
    blocked: Option<(usize, AsyncFd<OwnedFd>)>,
    batch: RecvBatch,
}

impl Network {
    pub(crate) fn new(sockets: Sockets) -> io::Result<Self> {
        let indices: Vec<usize> = sockets.iter().map(|(index, _)| index).collect();
        let mut network = Self {
            sockets,
            connections: Connections::new(),
            outbox: Outbox::new(OUTBOX_TRAINS),
            ready: Ready::default(),
            watched: Vec::new(),
            streams: Vec::new(),
            seen: VecDeque::new(),
            blocked: None,
            batch: RecvBatch::new(),
        };
        indices.into_iter().try_for_each(|index| network.watch(index))?;
        Ok(network)
    }

    /// What got lost so far.
    pub(crate) fn lost(&self) -> Lost {
        Lost {
            transmits: self.outbox.dropped(),
            sockets: *self.sockets.counters(),
            connections: *self.connections.counters(),
        }
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
        match self.ready.watch(What::Socket(index), socket.descriptor()) {
            Ok(watched) => {
                put(&mut self.watched, index, watched);
                Ok(())
            }
            Err(error) => {
                self.sockets.remove(index);
                Err(error)
            }
        }
    }

    fn unwatch(&mut self, index: usize) {
        self.watched[index] = None;
        self.blocked.take_if(|(blocked, _)| *blocked == index);
    }

    fn drop_socket(&mut self, index: usize) {
        self.unwatch(index);
        self.sockets.remove(index);
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
        let watched = self.ready.watch(What::Connection(index), io).map_err(|error| {
            self.connections.remove(index);
            close_reason(&error)
        })?;
        put(&mut self.streams, index, watched);
        Ok(())
    }

    fn tend(&mut self, id: SocketId, todo: Todo) -> Option<Answer<'static>> {
        match todo {
            Todo::Nothing => None,
            Todo::Serve(index) => {
                if let Some(Some(watched)) = self.streams.get(index) {
                    watched.signal.give();
                }
                None
            }
            Todo::Forget(index, why) => {
                self.streams[index] = None;
                why.map(|why| Answer::Closed { id, why })
            }
        }
    }

    fn bind(&mut self, id: SocketId, local: SocketAddr) -> Result<SocketAddr, CloseReason> {
        let index = self.sockets.open(id, local)?;
        self.watch(index).map_err(|error| close_reason(&error))?;
        self.sockets.at(index).map(Socket::local_address).ok_or(CloseReason::Failed)
    }

    /// One batch from each socket that has one, and a few reads and writes from each connection, to the
    /// machine. Each signals when it has more.
    pub(crate) fn receive<M: Driven>(&mut self, shared: &Shared<M>) -> io::Result<()> {
        let mut seen = std::mem::take(&mut self.seen);
        self.ready.take(&mut seen);
        while let Some(signal) = seen.pop_front() {
            match signal.what {
                What::Socket(index) => self.receive_on(index, shared)?,
                What::Connection(index) => self.serve(index, shared)?,
            }
        }
        self.seen = seen;
        if self.connections.deadline().is_some() {
            let now = shared.clock.now();
            while let Some((index, answer)) = self.connections.expire(now) {
                self.streams[index] = None;
                shared.answer(answer);
            }
        }
        Ok(())
    }

    fn serve<M: Driven>(&mut self, index: usize, shared: &Shared<M>) -> io::Result<()> {
        let Some(slot) = self.streams.get_mut(index) else { return Ok(()) };
        // It may be over, and another one may have taken its place since.
        let Some(watched) = slot else { return Ok(()) };
        let mut cx = Context::from_waker(&watched.waker);
        let mut read = ready(watched.io.poll_read_ready(&mut cx))?;
        let mut write = ready(watched.io.poll_write_ready(&mut cx))?;
        let known = Readiness { read: read.is_some(), write: write.is_some() };
        let now = shared.clock.now();
        let left = self.connections.serve(index, now, known, |answer| shared.answer([answer]));
        let Some(left) = left else {
            *slot = None;
            return Ok(());
        };
        // What is not ready any more is reported anew when it is. An end is final: the runtime reports it for
        // ever, also when it has been read.
        let mut more = left.read;
        if let Some(guard) = read.as_mut().filter(|guard| !left.read && !guard.ready().is_read_closed()) {
            guard.clear_ready();
            more |= watched.io.poll_read_ready(&mut cx).is_ready();
        }
        if let Some(guard) = write.as_mut().filter(|guard| !left.write && !guard.ready().is_write_closed()) {
            guard.clear_ready();
            more |= watched.io.poll_write_ready(&mut cx).is_ready();
        }
        if more {
            watched.signal.give();
        }
        Ok(())
    }

    fn receive_on<M: Driven>(&mut self, index: usize, shared: &Shared<M>) -> io::Result<()> {
        // Another socket may have taken the place since.
        let Some(Some(watched)) = self.watched.get(index) else { return Ok(()) };
        let mut cx = Context::from_waker(&watched.waker);
        let Poll::Ready(guard) = watched.io.poll_read_ready(&mut cx) else { return Ok(()) };
        let mut guard = guard?;
        if let Err(error) = self.sockets.recv(index, &mut self.batch) {
            drop(guard);
            self.unwatch(index);
            let (id, why) = self.sockets.give_up(index, error)?;
            shared.answer([Answer::Closed { id, why }]);
            return Ok(());
        }
        if self.batch.is_full() {
            watched.signal.give();
        } else {
            // A call that came back less than full has emptied the socket: whatever arrives later
            // is reported anew.
            guard.clear_ready();
            if watched.io.poll_read_ready(&mut cx).is_ready() {
                watched.signal.give();
            }
        }
        for run in self.batch.runs() {
            shared.enter(|state| {
                let now = state.now();
                for input in run {
                    self.sockets.deliver(&mut state.machine, now, input);
                }
            });
        }
        Ok(())
    }

    /// Sends what the machine wrote. Says whether a full socket stopped it; that one wakes the task
    /// when it has room.
    pub(crate) fn flush(&mut self, now: Instant, cx: &mut Context<'_>) -> io::Result<bool> {
        while let Some(index) = self.outbox.flush(&mut self.sockets, now) {
            let Some(socket) = self.sockets.at(index) else { break };
            let blocked = match self.blocked.take() {
                Some((known, watched)) if known == index => watched,
                // A duplicate: the runtime watches each descriptor once, and this one for reading.
                _ => register(socket.as_fd().try_clone_to_owned()?, Interest::WRITABLE)?,
            };
            let has_room = match blocked.poll_write_ready(cx) {
                Poll::Ready(guard) => {
                    guard?.clear_ready();
                    true
                }
                Poll::Pending => false,
            };
            self.blocked = Some((index, blocked));
            if !has_room {
                return Ok(true);
            }
        }
        self.blocked = None;
        Ok(false)
    }
}

fn put<T>(slots: &mut Vec<Option<T>>, index: usize, tenant: T) {
    if slots.len() <= index {
        slots.resize_with(index + 1, || None);
    }
    slots[index] = Some(tenant);
}

/// `None`: not yet.
fn ready<T>(poll: Poll<io::Result<T>>) -> io::Result<Option<T>> {
    match poll {
        Poll::Ready(result) => result.map(Some),
        Poll::Pending => Ok(None),
    }
}
