//! The connection to a relay that is spoken to over TCP or TLS (RFC 8656 §3.1), where UDP does not get through.
//!
//! It is opened, secured, lost and opened again; its graph is in `state.rs`. What it carries is the business of the
//! TURN client. Nothing waits in it for long: datagrams that the network does not take are dropped before they are
//! encrypted, as a congested router would drop them, because a queue here would only add delay.

mod tls;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::io::Write as _;

use bytes::Bytes;
use gimlet_machine::{Answer, CloseReason, Deadline, FourTuple, Instant, Request, SocketId};
use rustls::ClientConnection;

use crate::config::Outside;
use crate::requests::{Owner, Requests};
use crate::state::{StreamState, StreamStep};

pub(crate) use tls::Trust;
pub use tls::{StreamFailure, TurnTls};

/// Bytes that were written for one relay and that the network has not taken. Beyond: datagrams are dropped, and
/// counted; requests to the relay itself still go, and are limited by what may be under way. A quarter of a second
/// at 8 Mbit/s.
pub const RELAY_BACKLOG_MAX: usize = 256 << 10;

/// How long a connection to a relay may take to stand, TLS included. Beyond: it is given up and tried again.
pub const RELAY_OPEN_MAX: Duration = Duration::from_secs(10);

/// The first wait before a connection is tried again; doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// One relay's connection.
#[derive(Debug)]
pub(crate) struct RelayStream {
    state: StreamState,
    remote: SocketAddr,
    /// `None`: TCP alone.
    trust: Option<Trust>,
    socket: Option<SocketId>,
    /// Our address, while connected.
    local: Option<IpAddr>,
    tls: Option<Box<ClientConnection>>,
    outgoing: Outgoing,
    /// Connections lost since one was of use.
    failures: u32,
    due: Option<Instant>,
    /// To be closed by the driver.
    closing: Option<SocketId>,
    /// Why the last connection ended; taken by whoever tells it.
    failure: Option<StreamFailure>,
}

/// What the driver is to write, and what it has not written.
#[derive(Debug, Default)]
struct Outgoing {
    to: Option<SocketId>,
    bytes: Vec<u8>,
    outstanding: usize,
}

/// The flow that stands for a stream to `server` in paths. No datagram comes from port 0, so that it is never
/// confused with one over UDP; and it outlives the connection, so that what QUIC sends through the relay goes on
/// when there is another.
pub(crate) const fn stream_flow(server: SocketAddr) -> FourTuple {
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    FourTuple::new(SocketAddr::new(any, 0), server)
}

/// Whether a flow stands for a stream.
pub(crate) const fn is_stream_flow(flow: FourTuple) -> bool {
    flow.local.port() == 0 && flow.local.ip().is_unspecified()
}

impl RelayStream {
    pub(crate) fn new(remote: SocketAddr, trust: Option<Trust>) -> Self {
        Self {
            state: StreamState::Idle,
            remote,
            trust,
            socket: None,
            local: None,
            tls: None,
            outgoing: Outgoing::default(),
            failures: 0,
            due: None,
            closing: None,
            failure: None,
        }
    }

    /// Wants a connection, if there is none and none is being opened.
    pub(crate) fn start(&mut self, now: Instant) {
        if self.step(StreamStep::Connect) {
            self.due = Some(now + RELAY_OPEN_MAX);
        }
    }

    /// Asks the driver for what is wanted; whether anything was.
    pub(crate) fn settle(&mut self, now: Instant, requests: &mut Requests) -> bool {
        let closing = self.closing.take();
        if let Some(id) = closing {
            requests.close(id);
        }
        let wanting = self.state == StreamState::AwaitConnection && self.socket.is_none();
        if wanting {
            let local = stream_flow(self.remote).local.ip();
            self.socket = requests.connect(Owner::RelayStream, local, self.remote);
            if self.socket.is_none() {
                self.lose(now, StreamFailure::Connection(CloseReason::TooMany));
            }
        }
        closing.is_some() || wanting
    }

    /// What became of the connection. Returns the next bytes from the relay.
    pub(crate) fn on_answer(&mut self, now: Instant, outside: &Outside, answer: &Answer<'_>) -> Vec<u8> {
        match *answer {
            Answer::Connected { flow, .. } => self.on_connected(now, flow, outside),
            Answer::Received { bytes, .. } => return self.on_received(now, bytes),
            Answer::Written { len, .. } => {
                self.outgoing.outstanding = self.outgoing.outstanding.saturating_sub(len);
            }
            Answer::Closed { why, .. } => {
                // The driver has closed it, and takes nothing more.
                self.socket = None;
                self.outgoing = Outgoing::default();
                self.lose(now, StreamFailure::Connection(why));
            }
            // No socket was asked for.
            Answer::Bound { .. } => {}
        }
        Vec::new()
    }

    fn on_connected(&mut self, now: Instant, flow: FourTuple, outside: &Outside) {
        if !self.step(StreamStep::Connected) {
            return;
        }
        self.local = Some(flow.local.ip());
        self.outgoing = Outgoing { to: self.socket, ..Outgoing::default() };
        match self.trust.as_ref().map(|trust| trust.session(now, outside)) {
            None => self.on_secured(),
            Some(Ok(session)) => {
                self.tls = Some(Box::new(session));
                self.flush();
            }
            Some(Err(failure)) => self.lose(now, failure),
        }
    }

    fn on_secured(&mut self) {
        if self.step(StreamStep::Secured) {
            self.due = None;
        }
    }

    fn on_received(&mut self, now: Instant, bytes: &[u8]) -> Vec<u8> {
        if self.tls.is_none() {
            return if self.is_open() { bytes.to_vec() } else { Vec::new() };
        }
        let mut plain = Vec::new();
        let decrypted = self.tls.as_mut().map(|tls| tls::decrypt(tls, bytes, &mut plain));
        // Answers of the handshake, or the alert that says what is wrong.
        self.flush();
        if self.tls.as_ref().is_some_and(|tls| !tls.is_handshaking()) {
            self.on_secured();
        }
        if let Some(Err(failure)) = decrypted {
            self.lose(now, failure);
        }
        plain
    }

    /// Writes one or more whole frames that hold datagrams. `false`: there is no connection, or too much waits.
    pub(crate) fn write_datagrams(&mut self, frames: &[u8]) -> bool {
        let fits = self.outgoing.load() + frames.len() <= RELAY_BACKLOG_MAX;
        if fits && self.is_open() {
            self.write(frames);
        }
        fits && self.is_open()
    }

    /// Writes a request to the relay itself.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        debug_assert!(self.is_open(), "nothing is said to a relay before it is there");
        let Some(tls) = &mut self.tls else { return self.outgoing.bytes.extend_from_slice(bytes) };
        // It takes as much as is given: what is encrypted is taken out at once.
        let mut rest = bytes;
        while !rest.is_empty() {
            let Ok(taken) = tls.writer().write(rest) else { break };
            rest = rest.get(taken.max(1)..).unwrap_or_default();
            tls::flush(tls, &mut self.outgoing.bytes);
        }
    }

    fn flush(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls::flush(tls, &mut self.outgoing.bytes);
        }
    }

    /// What the driver is to write next.
    pub(crate) fn poll_write(&mut self) -> Option<Request> {
        let id = self.outgoing.to.filter(|_| !self.outgoing.bytes.is_empty())?;
        let bytes = Bytes::from(core::mem::take(&mut self.outgoing.bytes));
        self.outgoing.outstanding += bytes.len();
        Some(Request::Write { id, bytes })
    }

    /// Whether there is something to write that the driver has not heard of.
    pub(crate) fn has_unwritten(&self) -> bool {
        !self.outgoing.bytes.is_empty()
    }

    /// The connection is of no use any more: another is opened after a while, unless that would end alike.
    pub(crate) fn lose(&mut self, now: Instant, failure: StreamFailure) {
        let step = if failure.is_final() { StreamStep::Stop } else { StreamStep::Lost };
        if !self.step(step) {
            return;
        }
        let wait = RETRY_MIN.saturating_mul(1 << self.failures.min(16)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(failure);
        self.drop_connection();
        self.due = (!failure.is_final()).then_some(now + wait);
    }

    /// Wants no connection any more. What was written still leaves.
    pub(crate) fn stop(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.flush();
        self.step(StreamStep::Stop);
        self.drop_connection();
    }

    /// Opens another connection at once: to `remote`, or from another address of ours.
    pub(crate) fn reopen(&mut self, now: Instant, remote: SocketAddr) {
        self.stop();
        self.remote = remote;
        self.start(now);
    }

    fn drop_connection(&mut self) {
        self.closing = self.socket.take().or(self.closing);
        (self.tls, self.local, self.due) = (None, None, None);
    }

    /// The relay has served us: the next loss is a first one.
    pub(crate) fn on_of_use(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        match self.state {
            StreamState::AwaitConnection | StreamState::AwaitSecurity => {
                self.lose(now, StreamFailure::TimedOut);
            }
            StreamState::AwaitRetry => self.start(now),
            StreamState::Idle | StreamState::Open => self.due = None,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        self.due.map(|at| Deadline { at, why: "relay connection" })
    }

    /// Why the last connection ended, once.
    pub(crate) fn poll_failure(&mut self) -> Option<StreamFailure> {
        self.failure.take()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == StreamState::Open
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state == StreamState::Idle
    }

    /// Whether a connection is on its way.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.state, StreamState::AwaitConnection | StreamState::AwaitSecurity)
    }

    pub(crate) fn is_secured_by_tls(&self) -> bool {
        self.trust.is_some()
    }

    pub(crate) fn socket(&self) -> Option<SocketId> {
        self.socket
    }

    /// The address that the connection leaves from.
    pub(crate) fn local(&self) -> Option<IpAddr> {
        self.local
    }

    fn step(&mut self, step: StreamStep) -> bool {
        let next = self.state.next(step);
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }
}

impl Outgoing {
    fn load(&self) -> usize {
        self.bytes.len() + self.outstanding
    }
}

#[cfg(test)]
mod tests;
