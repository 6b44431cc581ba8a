//! Waiting for sockets, on mio's edge-triggered poll.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use gimlet_udp::Sockets;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

const WAKER: Token = Token(usize::MAX);

/// Readiness reports that one wait takes at most; the rest comes with the next.
const REPORTS_MAX: usize = 256;

/// Which sockets may have something to read, and which full one we wait for.
#[derive(Debug)]
pub(crate) struct Wait {
    poll: Poll,
    reports: Events,
    readable: Vec<bool>,
    /// The full socket. Only while there is one do we ask for writability: an idle socket reports it
    /// after each datagram it sends, a wake-up for nothing.
    blocked: Option<usize>,
    is_writable: bool,
}

impl Wait {
    pub(crate) fn new(sockets: &Sockets) -> io::Result<Self> {
        let poll = Poll::new()?;
        for (index, socket) in sockets.iter().enumerate() {
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(index), Interest::READABLE)?;
        }
        Ok(Self {
            poll,
            reports: Events::with_capacity(REPORTS_MAX),
            // What arrived before the registration is not reported by an edge.
            readable: vec![true; sockets.len()],
            blocked: None,
            is_writable: false,
        })
    }

    pub(crate) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
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
            if let Some(readable) = self.readable.get_mut(index) {
                *readable |= report.is_readable() || report.is_error();
                self.is_writable |= report.is_writable() && self.blocked == Some(index);
            }
        }
        Ok(())
    }

    /// Whether a socket has more to read than the last turn took.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_writable || self.readable.contains(&true)
    }

    pub(crate) fn is_readable(&self, index: usize) -> bool {
        self.readable[index]
    }

    /// A receive call that came back less than full has emptied the socket: whatever arrives later
    /// makes a new edge.
    pub(crate) fn set_readable(&mut self, index: usize, readable: bool) {
        self.readable[index] = readable;
    }

    /// Waits for room in socket number `blocked`, and in no other.
    pub(crate) fn watch_writable(&mut self, sockets: &mut Sockets, blocked: Option<usize>) -> io::Result<()> {
        self.is_writable = false;
        if self.blocked == blocked {
            return Ok(());
        }
        let registry = self.poll.registry();
        let changes =
            [(self.blocked, Interest::READABLE), (blocked, Interest::READABLE | Interest::WRITABLE)];
        for (index, interest) in changes {
            let Some(index) = index else { continue };
            let Some(socket) = sockets.at_mut(index) else { continue };
            registry.reregister(&mut SourceFd(&socket.as_raw_fd()), Token(index), interest)?;
        }
        self.blocked = blocked;
        Ok(())
    }
}
