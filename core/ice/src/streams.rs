//! TCP connections under an agent (RFC 6544): datagrams in, streams out.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;
use gimlet_machine::{Answer, FourTuple, Path, Queue, Request, SocketId};

use crate::candidate::stream_of;

/// Connections at once. Beyond, none is opened or taken, and what would have left there is dropped and counted.
pub const STREAMS_MAX: usize = 32;

/// Bytes that a connection holds, or has given to the driver, and the network has not taken. A datagram that would
/// exceed it is dropped and counted, as a full network would do.
pub const STREAM_BACKLOG_MAX: usize = 64 * 1024;

/// The longest datagram that a frame holds (RFC 4571 §2).
pub const STREAM_DATAGRAM_MAX: usize = u16::MAX as usize;

/// The length in front of every datagram, big-endian (RFC 4571 §2).
const PREFIX_LEN: usize = 2;

gimlet_machine::counters! {
    /// What [`Streams`] dropped.
    pub struct StreamCounters {
        /// Datagrams that found no room: too many connections, or the network is too slow.
        unsent,
        /// Datagrams longer than [`STREAM_DATAGRAM_MAX`], or empty.
        unframed,
        /// Connections that were offered and not taken: there are [`STREAMS_MAX`], or the name or the flow is known.
        refused,
    }
}

/// The connections of one agent with [`crate::Transports::UdpAndTcp`]: they carry its paths through TCP, and nothing
/// else. Every datagram, be it a check or data, is framed (RFC 6544 §3, RFC 4571).
///
/// An agent writes a datagram for a path; if [`Streams::carries`] says so, it goes to [`Streams::send`] and not to a
/// socket. The first one opens the connection. [`Streams::poll_request`] and [`Streams::handle_answer`] are the
/// driver's side; what comes out goes to the agent as every other datagram does, with the path that it came by. When
/// [`Streams::poll_lost`] names a path, tell [`crate::Agent::connection_lost`].
///
/// A connection that somebody opened to a passive candidate is the owner's to accept: no driver listens for a machine.
/// It is handed over by [`Streams::accept`], under a name of the owner's.
#[derive(Debug)]
pub struct Streams {
    open: Vec<Stream>,
    /// The name of the next connection.
    next: u64,
    requests: VecDeque<Request>,
    lost: Queue<Path>,
    counters: StreamCounters,
}

#[derive(Debug)]
struct Stream {
    id: SocketId,
    /// As the agent names it. The port of an active candidate is not the one that the system chose.
    flow: FourTuple,
    /// Bytes that the network has not taken.
    backlog: usize,
    /// What has come of a frame that is not whole yet.
    inbound: Vec<u8>,
}

impl Streams {
    /// No connections. Those that are opened have names from `first` on, which the owner gives to nobody else.
    pub fn new(first: SocketId) -> Self {
        Self {
            open: Vec::new(),
            next: first.0,
            requests: VecDeque::new(),
            lost: Queue::new(STREAMS_MAX),
            counters: StreamCounters::default(),
        }
    }

    /// Whether `path` runs through a connection.
    pub fn carries(path: &Path) -> bool {
        stream_of(path).is_some()
    }

    /// Sends `datagram` on `path`, which has to run through a connection; opens that if it does not stand. Says
    /// whether the datagram was taken.
    pub fn send(&mut self, path: &Path, datagram: &[u8]) -> bool {
        let Some(flow) = stream_of(path) else { return false };
        let Some(len) = u16::try_from(datagram.len()).ok().filter(|len| *len > 0) else {
            self.counters.unframed += 1;
            return false;
        };
        let known = self.open.iter().position(|stream| stream.flow == flow);
        let Some(index) = known.or_else(|| self.connect(flow)) else {
            self.counters.unsent += 1;
            return false;
        };
        let stream = &mut self.open[index];
        let framed = PREFIX_LEN + datagram.len();
        if stream.backlog + framed > STREAM_BACKLOG_MAX {
            self.counters.unsent += 1;
            return false;
        }
        stream.backlog += framed;
        let mut bytes = Vec::with_capacity(framed);
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(datagram);
        self.requests.push_back(Request::Write { id: stream.id, bytes: Bytes::from(bytes) });
        true
    }

    /// The driver keeps what is written before the connection stands.
    fn connect(&mut self, flow: FourTuple) -> Option<usize> {
        if self.open.len() >= STREAMS_MAX {
            return None;
        }
        let id = SocketId(self.next);
        self.next += 1;
        self.requests.push_back(Request::Connect { id, local: flow.local.ip(), remote: flow.remote });
        self.open.push(Stream::new(id, flow));
        Some(self.open.len() - 1)
    }

    /// Takes over a connection that was opened to a passive candidate of ours: `flow.local` is the candidate's
    /// address. `false`: it is not wanted, and the owner closes it.
    pub fn accept(&mut self, id: SocketId, flow: FourTuple) -> bool {
        let known = self.open.iter().any(|stream| stream.id == id || stream.flow == flow);
        if known || self.open.len() >= STREAMS_MAX {
            self.counters.refused += 1;
            return false;
        }
        self.open.push(Stream::new(id, flow));
        true
    }

    /// What became of a connection. Whole datagrams go to `heard`, with their paths. Says whether the connection is
    /// one of ours.
    pub fn handle_answer(&mut self, answer: Answer<'_>, mut heard: impl FnMut(Path, &mut [u8])) -> bool {
        let Some(index) = self.open.iter().position(|stream| stream.id == answer.id()) else {
            return false;
        };
        match answer {
            Answer::Received { bytes, .. } => self.open[index].receive(bytes, &mut heard),
            Answer::Written { len, .. } => {
                let stream = &mut self.open[index];
                stream.backlog = stream.backlog.saturating_sub(len);
            }
            Answer::Closed { .. } => {
                let stream = self.open.remove(index);
                // A path has one connection, so there is room; the oldest is the one that the owner never asked for.
                self.lost.push_evicting(stream.path());
            }
            Answer::Connected { .. } | Answer::Bound { .. } => {}
        }
        true
    }

    /// What the driver is to do next.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// The next path whose connection could not be opened, or broke off.
    pub fn poll_lost(&mut self) -> Option<Path> {
        self.lost.pop()
    }

    /// Closes the connections of which `kept` does not hold: after a restart those that belong to no pair
    /// ([`crate::Agent::is_path_of_pair`]), at the end all.
    pub fn retain(&mut self, mut kept: impl FnMut(&Path) -> bool) {
        let requests = &mut self.requests;
        self.open.retain(|stream| {
            let keeps = kept(&stream.path());
            if !keeps {
                requests.push_back(Request::Close { id: stream.id });
            }
            keeps
        });
    }

    /// The paths that have a connection, or will have one.
    pub fn paths(&self) -> impl Iterator<Item = Path> {
        self.open.iter().map(Stream::path)
    }

    /// What was dropped.
    pub const fn counters(&self) -> &StreamCounters {
        &self.counters
    }
}

impl Stream {
    const fn new(id: SocketId, flow: FourTuple) -> Self {
        Self { id, flow, backlog: 0, inbound: Vec::new() }
    }

    const fn path(&self) -> Path {
        Path::Relayed { relay: self.flow, peer: self.flow.remote }
    }

    /// Memory grows with what came, to one frame at most.
    fn receive(&mut self, mut bytes: &[u8], heard: &mut impl FnMut(Path, &mut [u8])) {
        let path = self.path();
        while !bytes.is_empty() {
            let wanted = match self.inbound.first_chunk::<PREFIX_LEN>() {
                None => PREFIX_LEN,
                Some(len) => PREFIX_LEN + usize::from(u16::from_be_bytes(*len)),
            };
            let (next, rest) = bytes.split_at(bytes.len().min(wanted - self.inbound.len()));
            self.inbound.extend_from_slice(next);
            bytes = rest;
            let Some((len, datagram)) = self.inbound.split_first_chunk_mut::<PREFIX_LEN>() else { continue };
            if datagram.len() == usize::from(u16::from_be_bytes(*len)) {
                // An empty frame keeps the connection open, and says nothing.
                if !datagram.is_empty() {
                    heard(path, datagram);
                }
                self.inbound.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use gimlet_machine::CloseReason;

    const FLOW: fn() -> FourTuple =
        || FourTuple::new("192.0.2.1:9".parse().unwrap(), "192.0.2.2:2000".parse().unwrap());

    fn path() -> Path {
        Path::Relayed { relay: FLOW(), peer: FLOW().remote }
    }

    fn requests(streams: &mut Streams) -> Vec<Request> {
        core::iter::from_fn(|| streams.poll_request()).collect()
    }

    #[test]
    fn the_first_datagram_opens_the_connection_and_every_one_is_framed() {
        let mut streams = Streams::new(SocketId(7));
        assert!(streams.send(&path(), b"one") && streams.send(&path(), b"second"));
        let id = SocketId(7);
        let connect = Request::Connect { id, local: FLOW().local.ip(), remote: FLOW().remote };
        let write = |bytes: &'static [u8]| Request::Write { id, bytes: Bytes::from_static(bytes) };
        assert_eq!(requests(&mut streams), [connect, write(b"\x00\x03one"), write(b"\x00\x06second")]);
        assert!(
            !streams.send(&Path::Direct(FLOW()), b"a socket's") && !Streams::carries(&Path::Direct(FLOW()))
        );
    }

    #[test]
    fn frames_come_out_whole_wherever_the_stream_is_cut() {
        let stream = b"\x00\x03one\x00\x00\x00\x06second\x00";
        for cut in 0..stream.len() {
            for other in cut..stream.len() {
                let mut streams = Streams::new(SocketId(0));
                assert!(streams.accept(SocketId(5), FLOW()));
                let mut heard = Vec::new();
                for bytes in [&stream[..cut], &stream[cut..other], &stream[other..]] {
                    let answer = Answer::Received { id: SocketId(5), bytes };
                    assert!(streams.handle_answer(answer, |from, datagram| {
                        assert_eq!(from, path());
                        heard.push(datagram.to_vec());
                    }));
                }
                assert_eq!(heard, [b"one".to_vec(), b"second".to_vec()]);
            }
        }
    }

    #[test]
    fn a_slow_network_gets_no_more_than_the_backlog_and_a_broken_one_is_told_once() {
        let mut streams = Streams::new(SocketId(0));
        let datagram = [0; 1_000];
        let taken = (0..100).filter(|_| streams.send(&path(), &datagram)).count();
        assert_eq!(taken, STREAM_BACKLOG_MAX / 1_002);
        assert_eq!(streams.counters().unsent, 100 - taken as u64);
        let id = SocketId(0);
        streams.handle_answer(Answer::Written { id, len: 1_002 }, |_, _| ());
        assert!(streams.send(&path(), &datagram) && !streams.send(&path(), &datagram));
        let closed = Answer::Closed { id, why: CloseReason::Refused };
        assert!(streams.handle_answer(closed, |_, _| ()) && !streams.handle_answer(closed, |_, _| ()));
        assert_eq!((streams.poll_lost(), streams.poll_lost()), (Some(path()), None));
        requests(&mut streams);
        streams.send(&path(), &datagram);
        assert!(matches!(requests(&mut streams)[0], Request::Connect { id: SocketId(1), .. }), "anew");
    }

    #[test]
    fn connections_are_bounded_and_closed_when_nobody_keeps_them() {
        let mut streams = Streams::new(SocketId(1_000));
        let flow = |port| FourTuple::new(FLOW().local, ([192, 0, 2, 2], port).into());
        let all = u64::try_from(STREAMS_MAX).unwrap();
        for nth in 0..all {
            assert!(streams.accept(SocketId(nth), flow(nth as u16 + 1)));
        }
        assert!(!streams.accept(SocketId(all), flow(999)) && !streams.send(&path(), b"one more"));
        assert!(!streams.accept(SocketId(0), flow(998)));
        assert_eq!((streams.counters().refused, streams.counters().unsent), (2, 1));
        streams.retain(|_| false);
        assert_eq!((requests(&mut streams).len(), streams.paths().count()), (STREAMS_MAX, 0));
        assert!(!streams.send(&path(), &[]) && !streams.send(&path(), &vec![0; STREAM_DATAGRAM_MAX + 1]));
        assert_eq!(streams.counters().unframed, 2);
    }
}
