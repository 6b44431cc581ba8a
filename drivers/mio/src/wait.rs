//! Waiting for sockets, on mio's edge-triggered poll.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use gimlet_udp::{Readiness, Socket};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

const WAKER: Token = Token(usize::MAX);
/// The token of connection number 0; tokens below belong to sockets, of which there are never so many.
const CONNECTIONS: usize = 1 << 20;

/// Readiness reports that one wait takes at most; the rest comes with the next.
const REPORTS_MAX: usize = 256;

/// Which sockets and connections may have something for us, and which full socket we wait for.
#[derive(Debug)]
pub(crate) struct Wait {
    poll: Poll,
    reports: Events,
    readable: Ready,
    connections: Ready,
    /// What is known of each connection.
    readiness: Vec<Readiness>,
    /// The full socket. Only while there is one do we ask for writability: an idle socket reports it
    /// after each datagram it sends, a wake-up for nothing.
    blocked: Option<usize>,
    is_writable: bool,
}

/// Those that may have something to do, each once, in the order in which they said so.
#[derive(Debug, Default)]
struct Ready {
    marks: Vec<Mark>,
    queue: VecDeque<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mark {
    #[default]
    Idle,
    Queued,
    /// In the queue, and gone since.
    Forgotten,
}

impl Wait {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            reports: Events::with_capacity(REPORTS_MAX),
            readable: Ready::default(),
            connections: Ready::default(),
            readiness: Vec::new(),
            blocked: None,
            is_writable: false,
        })
    }

    pub(crate) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Watches socket number `index` from here on.
    pub(crate) fn add(&mut self, index: usize, socket: &Socket) -> io::Result<()> {
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&socket.as_raw_fd()), Token(index), Interest::READABLE)?;
        // What arrived before the registration is not reported by an edge.
        self.readable.mark(index);
        Ok(())
    }

    /// Watches socket number `index` no longer.
    pub(crate) fn remove(&mut self, index: usize, socket: &Socket) -> io::Result<()> {
        if self.blocked == Some(index) {
            self.blocked = None;
            // Whatever waited behind it may leave.
            self.is_writable = true;
        }
        self.readable.forget(index);
        self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd()))
    }

    /// Waits for a report, at most `patience`.
    pub(crate) fn poll(&mut self, patience: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.reports, patience) {
            // A signal; the caller's loop comes back.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for report in &self.reports {
            let Token(index) = report.token();
            if report.token() == WAKER {
                continue;
            }
            if let Some(connection) = index.checked_sub(CONNECTIONS) {
                let broken = report.is_error();
                let readiness = &mut self.readiness[connection];
                readiness.read |= report.is_readable() || report.is_read_closed() || broken;
                readiness.write |= report.is_writable() || report.is_write_closed() || broken;
                self.connections.mark(connection);
                continue;
            }
            if report.is_readable() || report.is_error() {
                self.readable.mark(index);
            }
            self.is_writable |= report.is_writable() && self.blocked == Some(index);
        }
        Ok(())
    }

    /// Watches connection number `index` from here on.
    pub(crate) fn add_connection(&mut self, index: usize, connection: &impl AsRawFd) -> io::Result<()> {
        let (token, both) = (Token(CONNECTIONS + index), Interest::READABLE | Interest::WRITABLE);
        self.poll.registry().register(&mut SourceFd(&connection.as_raw_fd()), token, both)?;
        if self.readiness.len() <= index {
            self.readiness.resize(index + 1, Readiness::default());
        }
        self.readiness[index] = Readiness::default();
        Ok(())
    }

    /// Connection number `index` is closed, so that the system reports nothing more of it.
    pub(crate) fn forget_connection(&mut self, index: usize) {
        self.connections.forget(index);
    }

    /// Connection number `index` has something to do.
    pub(crate) fn mark_connection(&mut self, index: usize) {
        self.connections.mark(index);
    }

    /// How many connections may have something to do.
    pub(crate) fn connections(&self) -> usize {
        self.connections.queue.len()
    }

    /// The next of them, and what is known of it.
    pub(crate) fn pop_connection(&mut self) -> Option<(usize, Readiness)> {
        self.connections.pop().map(|index| (index, self.readiness[index]))
    }

    /// What is known of connection number `index` after it was served. What is not ready any more makes a new
    /// edge when it is.
    pub(crate) fn set_readiness(&mut self, index: usize, readiness: Readiness) {
        self.readiness[index] = readiness;
        if readiness.read {
            self.connections.mark(index);
        }
    }

    /// Whether a socket or connection has more to do than the last turn did.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_writable || !self.readable.queue.is_empty() || !self.connections.queue.is_empty()
    }

    /// How many sockets may have something to read.
    pub(crate) fn readable(&self) -> usize {
        self.readable.queue.len()
    }

    /// The next of them. It is due again once it has something new, or by [`Wait::set_readable`].
    pub(crate) fn pop_readable(&mut self) -> Option<usize> {
        self.readable.pop()
    }

    /// A socket has more. A receive call that came back less than full has emptied it: whatever arrives
    /// later makes a new edge.
    pub(crate) fn set_readable(&mut self, index: usize) {
        self.readable.mark(index);
    }

    /// Waits for room in the socket that is `blocked`, and in no other.
    pub(crate) fn watch_writable<'a>(
        &mut self,
        socket: impl Fn(usize) -> Option<&'a Socket>,
        blocked: Option<usize>,
    ) -> io::Result<()> {
        self.is_writable = false;
        if self.blocked == blocked {
            return Ok(());
        }
        let registry = self.poll.registry();
        let changes =
            [(self.blocked, Interest::READABLE), (blocked, Interest::READABLE | Interest::WRITABLE)];
        for (index, interest) in changes {
            let Some((index, socket)) = index.and_then(|index| Some((index, socket(index)?))) else {
                continue;
            };
            registry.reregister(&mut SourceFd(&socket.as_raw_fd()), Token(index), interest)?;
        }
        self.blocked = blocked;
        Ok(())
    }
}

impl Ready {
    fn mark(&mut self, index: usize) {
        if self.marks.len() <= index {
            self.marks.resize(index + 1, Mark::Idle);
        }
        if self.marks[index] == Mark::Idle {
            self.queue.push_back(index);
        }
        self.marks[index] = Mark::Queued;
    }

    fn forget(&mut self, index: usize) {
        if let Some(mark @ Mark::Queued) = self.marks.get_mut(index) {
            *mark = Mark::Forgotten;
        }
    }

    fn pop(&mut self) -> Option<usize> {
        loop {
            let index = self.queue.pop_front()?;
            if std::mem::take(&mut self.marks[index]) == Mark::Queued {
                return Some(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_queued_once_and_one_that_is_gone_not_at_all() {
        let mut ready = Ready::default();
        for index in [3, 0, 3, 5] {
            ready.mark(index);
        }
        ready.forget(0);
        ready.forget(9);
        // Another one took the place of the third: its turn is that of its predecessor.
        ready.forget(3);
        ready.mark(3);
        assert_eq!(std::iter::from_fn(|| ready.pop()).collect::<Vec<_>>(), [3, 5]);
        ready.mark(0);
        assert_eq!((ready.pop(), ready.pop()), (Some(0), None));
    }
}
