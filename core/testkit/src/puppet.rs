//! A machine that does what a test tells it.

use std::collections::VecDeque;

use gimlet_machine::{
    Answer, Buf, CloseReason, Deadline, Ecn, FourTuple, Input, Instant, Machine, Request, SocketId, Transmit,
    Verdict,
};

/// What a [`Puppet`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A datagram arrived.
    Heard(FourTuple, Vec<u8>),
    /// [`Answer::Bound`].
    Bound(SocketId, std::net::SocketAddr),
    /// [`Answer::Connected`].
    Connected(SocketId, FourTuple),
    /// [`Answer::Received`].
    Received(SocketId, Vec<u8>),
    /// [`Answer::Written`].
    Written(SocketId, usize),
    /// [`Answer::Closed`].
    Closed(SocketId, CloseReason),
}

/// Asks for what it is told to ask for, says what it is told to say, and reports everything it sees: for
/// tests of drivers. Requests come before datagrams, each kind in order.
#[derive(Clone, Debug, Default)]
pub struct Puppet {
    requests: VecDeque<Request>,
    says: VecDeque<(FourTuple, Vec<u8>)>,
    reports: VecDeque<Report>,
    drains: usize,
}

impl Puppet {
    /// It has nothing to do.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has it ask its driver for something.
    pub fn ask(&mut self, request: Request) {
        self.requests.push_back(request);
    }

    /// Has it send a datagram.
    pub fn say(&mut self, path: FourTuple, bytes: &[u8]) {
        self.says.push_back((path, bytes.to_vec()));
    }

    /// How often its driver found that it has nothing to send.
    pub fn drains(&self) -> usize {
        self.drains
    }
}

impl Machine for Puppet {
    type Path = FourTuple;
    type Event = Report;

    fn handle_input(&mut self, _: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        self.reports.push_back(Report::Heard(input.path, input.bytes.to_vec()));
        Verdict::Consumed
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_event(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    fn poll_transmit(&mut self, _: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        let Some((path, bytes)) = self.says.pop_front() else {
            self.drains += 1;
            return None;
        };
        assert!(out.put(&bytes), "a datagram fits");
        Some(Transmit { path, ecn: Ecn::NotEct, segment: None })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn handle_answer(&mut self, _: Instant, answer: Answer<'_>) {
        self.reports.push_back(match answer {
            Answer::Bound { id, local } => Report::Bound(id, local),
            Answer::Connected { id, flow } => Report::Connected(id, flow),
            Answer::Received { id, bytes } => Report::Received(id, bytes.to_vec()),
            Answer::Written { id, len } => Report::Written(id, len),
            Answer::Closed { id, why } => Report::Closed(id, why),
        });
    }
}
