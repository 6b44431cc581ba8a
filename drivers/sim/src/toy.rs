//! A machine for the tests of this crate: it sends what it is told to, and answers pings.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::{
    Answer, Buf, CloseReason, Deadline, Ecn, FourTuple, Input, Instant, Machine, Request, SocketId, Transmit,
    Verdict,
};

pub(crate) const PING: &[u8] = b"ping";
pub(crate) const PONG: &[u8] = b"pong";

/// Answers every ping with a pong, sends pings on a timer, reports what it hears.
#[derive(Debug, Default)]
pub(crate) struct Toy {
    outbox: VecDeque<(FourTuple, Vec<u8>)>,
    heard: VecDeque<Heard>,
    pings: Option<Pings>,
    /// How everything sent is marked.
    ecn: Ecn,
    requests: VecDeque<Request>,
    /// What became of them.
    pub(crate) answers: Vec<(SocketId, Told)>,
    /// What came through connections.
    pub(crate) received: BTreeMap<SocketId, Vec<u8>>,
}

#[derive(Debug)]
struct Pings {
    path: FourTuple,
    every: Duration,
    next: Instant,
    left: u32,
}

/// An answer, without the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Bound(SocketAddr),
    Connected(FourTuple),
    Written(usize),
    Closed(CloseReason),
}

/// A datagram that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) path: FourTuple,
    pub(crate) ecn: Ecn,
    pub(crate) bytes: Vec<u8>,
}

impl Toy {
    pub(crate) fn marking(ecn: Ecn) -> Self {
        Self { ecn, ..Self::default() }
    }

    pub(crate) fn send(&mut self, local: SocketAddr, remote: SocketAddr, bytes: &[u8]) {
        self.outbox.push_back((FourTuple::new(local, remote), bytes.to_vec()));
    }

    pub(crate) fn ask(&mut self, request: Request) {
        self.requests.push_back(request);
    }

    pub(crate) fn ping(&mut self, now: Instant, path: FourTuple, every: Duration, left: u32) {
        self.pings = Some(Pings { path, every, next: now, left });
    }
}

impl Machine for Toy {
    type Path = FourTuple;
    type Event = Heard;

    fn handle_input(&mut self, _now: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        if input.bytes == b"stranger" {
            return Verdict::NotMine;
        }
        if let Some(onward) = input.bytes.strip_prefix(b"pass on ") {
            let skipped = input.bytes.len() - onward.len();
            let path = input.path;
            return Verdict::Pass { path, range: skipped..input.bytes.len() };
        }
        if input.bytes == PING {
            self.outbox.push_back((input.path, PONG.to_vec()));
        }
        self.heard.push_back(Heard { path: input.path, ecn: input.ecn, bytes: input.bytes.to_vec() });
        Verdict::Consumed
    }

    fn handle_timeout(&mut self, now: Instant) {
        let Some(pings) = &mut self.pings else { return };
        if pings.next > now {
            return;
        }
        pings.next = now + pings.every;
        pings.left -= 1;
        self.outbox.push_back((pings.path, PING.to_vec()));
        if pings.left == 0 {
            self.pings = None;
        }
    }

    fn poll_event(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    fn poll_transmit(&mut self, _now: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        let (path, bytes) = self.outbox.pop_front()?;
        assert!(out.is_empty(), "a lent buffer is empty");
        assert!(out.put(&bytes));
        // A long payload is a train of ten-byte datagrams, if the driver takes trains.
        let segment = (out.segments_max() > 1 && bytes.len() > 10).then_some(10);
        Some(Transmit { path, ecn: self.ecn, segment })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.pings.as_ref().map(|pings| Deadline { at: pings.next, why: "ping" })
    }

    fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn handle_answer(&mut self, _now: Instant, answer: Answer<'_>) {
        let told = match answer {
            Answer::Bound { local, .. } => Told::Bound(local),
            Answer::Connected { flow, .. } => Told::Connected(flow),
            Answer::Written { len, .. } => Told::Written(len),
            Answer::Closed { why, .. } => Told::Closed(why),
            Answer::Received { id, bytes } => {
                assert!(!bytes.is_empty(), "at least one byte");
                return self.received.entry(id).or_default().extend_from_slice(bytes);
            }
        };
        self.answers.push((answer.id(), told));
    }
}
