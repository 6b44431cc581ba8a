//! One TCP connection that a machine asked for.
//!
//! ```text
//!   Connecting ──► Open ──► Leaving ──► Lingering ──► over
//!        │           │         ▲ │                     ▲
//!        │           ├─────────┼─┴─────────────────────┤
//!        └───────────┴─────────┴───────────────────────┘
//! ```

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, SocketAddrV6, TcpStream};
use std::sync::Arc;

use gimlet_machine::{Answer, CloseReason, FourTuple, Instant, SocketId};
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::close_reason;
use crate::connections::{CLOSE_TIMEOUT, CONNECT_TIMEOUT, WRITE_BACKLOG_MAX};

/// Reads before the other sockets of a loop get their turn.
const READS_MAX: usize = 4;

/// What can be done with a connection without waiting, as far as anybody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Something may have arrived.
    pub read: bool,
    /// There may be room.
    pub write: bool,
}

#[derive(Debug)]
pub(crate) struct Connection {
    id: SocketId,
    io: Arc<TcpStream>,
    remote: SocketAddr,
    phase: Phase,
    /// What the machine wrote and the system has not taken.
    backlog: VecDeque<u8>,
    /// Why the system takes no more. What had arrived before is still read.
    broken: Option<CloseReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Awaits the peer's consent.
    Connecting { until: Instant },
    /// Awaits bytes from either side.
    Open,
    /// The machine has had the last word or told it. Awaits room for the rest of what it wrote.
    Leaving { until: Instant },
    /// Awaits the peer's end. A connection that is dropped with unread bytes is reset, and a reset may
    /// overtake what was written (RFC 1122 §4.2.2.13).
    Lingering { until: Instant },
}

/// The connection is no more, and this is what to say of it, unless the machine knows.
struct Over(Option<CloseReason>);

impl Connection {
    pub(crate) fn open(now: Instant, id: SocketId, local: IpAddr, remote: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // Messages are small and somebody waits for each; without it they are merely late.
        let _ = socket.set_tcp_nodelay(true);
        if !local.is_unspecified() {
            socket.bind(&SockAddr::from(our_end(local, remote)?))?;
        }
        match socket.connect(&SockAddr::from(remote)) {
            Ok(()) => {}
            Err(error) if is_under_way(&error) => {}
            Err(error) => return Err(error),
        }
        let phase = Phase::Connecting { until: now + CONNECT_TIMEOUT };
        let io = Arc::new(socket.into());
        Ok(Self { id, io, remote, phase, backlog: VecDeque::new(), broken: None })
    }

    pub(crate) fn id(&self) -> SocketId {
        self.id
    }

    pub(crate) fn descriptor(&self) -> Arc<TcpStream> {
        self.io.clone()
    }

    /// Whether the machine knows it by name.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self.phase, Phase::Connecting { .. } | Phase::Open)
    }

    /// Whether something that the machine wrote has yet to leave, and it has closed.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving { .. })
    }

    /// When patience ends.
    pub(crate) fn until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Connecting { until } | Phase::Leaving { until } | Phase::Lingering { until } => {
                Some(until)
            }
            Phase::Open => None,
        }
    }

    pub(crate) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Keeps `bytes` until there is room. Says whether they are within the limit.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        if self.broken.is_some() {
            return true;
        }
        let fits = self.backlog.len() + bytes.len() <= WRITE_BACKLOG_MAX;
        if fits {
            self.backlog.extend(bytes);
        }
        fits
    }

    /// The machine wants no more of it. Says whether there is anything left to do.
    pub(crate) fn close(&mut self, now: Instant) -> bool {
        let was_connecting = matches!(self.phase, Phase::Connecting { .. });
        self.phase = Phase::Leaving { until: now + CLOSE_TIMEOUT };
        !was_connecting || !self.backlog.is_empty()
    }

    /// Does what `ready` allows and tells `answer` what came of it. Returns what may still be ready, or `None`
    /// when the connection is over.
    pub(crate) fn serve(
        &mut self,
        now: Instant,
        ready: Readiness,
        room: &mut [u8],
        answer: &mut impl FnMut(Answer<'_>),
    ) -> Option<Readiness> {
        let mut left = ready;
        let served = self.connect(&mut left, answer).and_then(|()| {
            self.flush(&mut left, answer)?;
            self.read(now, &mut left, room, answer)
        });
        match served {
            Ok(()) => Some(left),
            Err(Over(why)) => {
                if let Some(why) = why {
                    answer(Answer::Closed { id: self.id, why });
                }
                None
            }
        }
    }

    fn connect(&mut self, left: &mut Readiness, answer: &mut impl FnMut(Answer<'_>)) -> Result<(), Over> {
        if !matches!(self.phase, Phase::Connecting { .. }) || *left == Readiness::default() {
            return Ok(());
        }
        if let Some(error) = self.io.take_error().unwrap_or_else(Some) {
            return Err(self.over(close_reason(&error)));
        }
        let ends = self.io.peer_addr().and_then(|_| self.io.local_addr());
        match ends {
            // TCP lets a socket connect to itself, when nobody listens on the port it happened to get.
            Ok(local) if local == self.remote => Err(self.over(CloseReason::Refused)),
            Ok(local) => {
                self.phase = Phase::Open;
                answer(Answer::Connected { id: self.id, flow: FourTuple::new(local, self.remote) });
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                *left = Readiness::default();
                Ok(())
            }
            Err(error) => Err(self.over(close_reason(&error))),
        }
    }

    /// Offers the backlog to the system.
    fn flush(&mut self, left: &mut Readiness, answer: &mut impl FnMut(Answer<'_>)) -> Result<(), Over> {
        let mut len = 0;
        while left.write && !self.backlog.is_empty() && !matches!(self.phase, Phase::Connecting { .. }) {
            let (front, back) = self.backlog.as_slices();
            match (&*self.io).write_vectored(&[IoSlice::new(front), IoSlice::new(back)]) {
                Ok(taken) => {
                    self.backlog.drain(..taken);
                    len += taken;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_no_room(&error) => left.write = false,
                Err(error) => {
                    self.broken = Some(close_reason(&error));
                    self.backlog.clear();
                    // Reading comes to the end, whatever it is.
                    left.read = true;
                }
            }
        }
        if len > 0 && self.is_known() {
            answer(Answer::Written { id: self.id, len });
        }
        if self.backlog.is_empty() {
            // A long backlog is rare; what it took is given back.
            self.backlog.shrink_to(4_096);
        }
        self.linger(left)
    }

    /// Everything has left: says so to the peer.
    fn linger(&mut self, left: &mut Readiness) -> Result<(), Over> {
        let Phase::Leaving { until } = self.phase else { return Ok(()) };
        if self.broken.is_some() {
            return Err(Over(None));
        }
        if self.backlog.is_empty() {
            self.io.shutdown(Shutdown::Write).map_err(|_| Over(None))?;
            self.phase = Phase::Lingering { until };
            left.read = true;
        }
        Ok(())
    }

    fn read(
        &mut self,
        now: Instant,
        left: &mut Readiness,
        room: &mut [u8],
        answer: &mut impl FnMut(Answer<'_>),
    ) -> Result<(), Over> {
        if matches!(self.phase, Phase::Connecting { .. }) {
            return Ok(());
        }
        for _ in 0..READS_MAX {
            if !left.read {
                break;
            }
            match (&*self.io).read(room) {
                Ok(0) => {
                    left.read = false;
                    return self.on_end(now, answer);
                }
                Ok(len) if self.is_known() => answer(Answer::Received { id: self.id, bytes: &room[..len] }),
                // Nobody wants to hear it.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_no_room(&error) => {
                    left.read = false;
                    if let Some(why) = self.broken {
                        return Err(self.over(why));
                    }
                }
                Err(error) => return Err(self.over(close_reason(&error))),
            }
        }
        Ok(())
    }

    /// The peer has written everything. What the machine wrote may still leave.
    fn on_end(&mut self, now: Instant, answer: &mut impl FnMut(Answer<'_>)) -> Result<(), Over> {
        match (self.phase, self.broken) {
            (Phase::Open, None) if !self.backlog.is_empty() => {
                answer(Answer::Closed { id: self.id, why: CloseReason::Ended });
                self.phase = Phase::Leaving { until: now + CLOSE_TIMEOUT };
                Ok(())
            }
            (Phase::Leaving { .. }, _) => Ok(()),
            (Phase::Connecting { .. } | Phase::Open | Phase::Lingering { .. }, broken) => {
                Err(self.over(broken.unwrap_or(CloseReason::Ended)))
            }
        }
    }

    fn over(&self, why: CloseReason) -> Over {
        Over(self.is_known().then_some(why))
    }
}

/// A free port of `local`. A link-local address means nothing without its interface, which is the one
/// that the peer's address names (RFC 4007 §6).
fn our_end(local: IpAddr, remote: SocketAddr) -> io::Result<SocketAddr> {
    match (local, remote) {
        (IpAddr::V4(_), SocketAddr::V4(_)) => Ok(SocketAddr::new(local, 0)),
        (IpAddr::V6(ip), SocketAddr::V6(remote)) => {
            let scope = if ip.is_unicast_link_local() { remote.scope_id() } else { 0 };
            Ok(SocketAddrV6::new(ip, 0, 0, scope).into())
        }
        (IpAddr::V4(_), SocketAddr::V6(_)) | (IpAddr::V6(_), SocketAddr::V4(_)) => {
            Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
        }
    }
}

/// The peer has been asked and has not answered yet.
fn is_under_way(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINPROGRESS) || error.kind() == io::ErrorKind::WouldBlock
}

/// Some systems say of a connection that is not there yet that it is not there.
fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}
