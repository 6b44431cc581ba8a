//! Everything between the machine and the system: called by the task, without the lock.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use gimlet_machine::{Answer, CloseReason, Instant, Request, SocketId};
use gimlet_udp::{Outbox, RecvBatch, Socket, Sockets, close_reason};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::driven::Driven;
use crate::ready::{Ready, Signal, Watched, register};
use crate::shared::Shared;

/// Buffers between the machine, which writes under the lock, and the sockets, which are called
/// without it.
const OUTBOX_TRAINS: usize = 4;

/// The sockets, and what is on its way between them and the machine.
pub(crate) struct Network {
    pub(crate) sockets: Sockets,
    pub(crate) outbox: Outbox,
    pub(crate) ready: Ready,
    /// By the index of the socket.
    watched: Vec<Option<Watched<Arc<UdpSocket>>>>,
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
            outbox: Outbox::new(OUTBOX_TRAINS),
            ready: Ready::default(),
            watched: Vec::new(),
            seen: VecDeque::new(),
            blocked: None,
            batch: RecvBatch::new(),
        };
        indices.into_iter().try_for_each(|index| network.watch(index))?;
        Ok(network)
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
        match self.ready.watch(index, socket.descriptor()) {
            Ok(watched) => {
                if self.watched.len() <= index {
                    self.watched.resize_with(index + 1, || None);
                }
                self.watched[index] = Some(watched);
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
    pub(crate) fn request(&mut self, request: &Request) -> Option<Answer<'static>> {
        match *request {
            Request::Bind { id, local } => Some(match self.bind(id, local) {
                Ok(local) => Answer::Bound { id, local },
                Err(why) => Answer::Closed { id, why },
            }),
            Request::Close { id } => {
                if let Some(index) = self.sockets.requested(id) {
                    self.drop_socket(index);
                }
                None
            }
            Request::Connect { .. } | Request::Write { .. } => request.refusal(CloseReason::Unsupported),
        }
    }

    fn bind(&mut self, id: SocketId, local: SocketAddr) -> Result<SocketAddr, CloseReason> {
        let index = self.sockets.open(id, local)?;
        self.watch(index).map_err(|error| close_reason(&error))?;
        self.sockets.at(index).map(Socket::local_address).ok_or(CloseReason::Failed)
    }

    /// One batch from each socket that has one, to the machine. Each socket signals when it has more.
    pub(crate) fn receive<M: Driven>(&mut self, shared: &Shared<M>) -> io::Result<()> {
        let mut seen = std::mem::take(&mut self.seen);
        self.ready.take(&mut seen);
        while let Some(signal) = seen.pop_front() {
            self.receive_on(&signal, shared)?;
        }
        self.seen = seen;
        Ok(())
    }

    fn receive_on<M: Driven>(&mut self, signal: &Arc<Signal>, shared: &Shared<M>) -> io::Result<()> {
        let index = signal.index;
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
