//! A session for tests: streams over plain datagrams, one frame each, trusting loopback to keep
//! their order. It has what a driver must respect: a window, acknowledgements, ends, a close.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use gimlet_machine::{
    Buf, Deadline, Direction, FourTuple, Input, Instant, Interest, Machine, Session, Transmit, Verdict,
};

/// Frames in flight on one stream.
pub(super) const WINDOW: usize = 8;

/// Bytes in one frame of a byte stream.
const CHUNK_MAX: usize = 1_000;

const HELLO: u8 = 0;
const WELCOME: u8 = 1;
const DATA: u8 = 2;
const ACK: u8 = 3;
const FINISH: u8 = 4;
const RESET: u8 = 5;
const DATAGRAM: u8 = 6;
const BYE: u8 = 7;
/// Makes the machine panic: a bug, as far as its driver can tell.
const POISON: u8 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Gone,
    Ended,
    Reset(u32),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Refused {}

pub(super) type StreamId = (SocketAddr, u32);
type ToyInterest = Interest<SocketAddr, StreamId>;

#[derive(Debug, Default)]
struct Peer {
    connected: bool,
    opened: u32,
    incoming: VecDeque<u32>,
    datagrams: VecDeque<Bytes>,
    streams: BTreeMap<u32, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    inbox: VecDeque<Bytes>,
    in_flight: usize,
    finished: bool,
    end: Option<Refused>,
}

#[derive(Debug)]
pub(super) struct Toy {
    local: SocketAddr,
    peers: BTreeMap<SocketAddr, Peer>,
    accepted: VecDeque<SocketAddr>,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<ToyInterest>,
    closing: bool,
    /// How often the machine was drained.
    pub(super) drains: usize,
}

impl Toy {
    pub(super) fn new(local: SocketAddr) -> Self {
        Self {
            local,
            peers: BTreeMap::new(),
            accepted: VecDeque::new(),
            out: VecDeque::new(),
            events: VecDeque::new(),
            closing: false,
            drains: 0,
        }
    }

    pub(super) fn streams(&self) -> usize {
        self.peers.values().map(|peer| peer.streams.len()).sum()
    }

    pub(super) fn poison(&mut self, peer: SocketAddr) {
        self.say(peer, POISON, 0, b"");
    }

    fn say(&mut self, peer: SocketAddr, kind: u8, stream: u32, body: &[u8]) {
        self.out.push_back((peer, [&[kind], &stream.to_be_bytes()[..], body].concat()));
    }

    fn peer(&mut self, peer: SocketAddr) -> Result<&mut Peer, Refused> {
        self.peers.get_mut(&peer).filter(|peer| peer.connected).ok_or(Refused::Gone)
    }

    fn lane(&mut self, (peer, stream): StreamId) -> Result<&mut Lane, Refused> {
        self.peer(peer)?.streams.get_mut(&stream).ok_or(Refused::Gone)
    }

    fn on_frame(&mut self, from: SocketAddr, kind: u8, stream: u32, body: &[u8]) {
        if kind == HELLO {
            self.peers.entry(from).or_default().connected = true;
            self.accepted.push_back(from);
            self.events.push_back(Interest::Accept);
            return self.say(from, WELCOME, 0, b"");
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if kind == DATA && !peer.streams.contains_key(&stream) && stream % 2 != peer.opened % 2 {
            // An odd stream is the dialler's, an even one the other side's.
            peer.streams.insert(stream, Lane::default());
            peer.incoming.push_back(stream);
            self.events.push_back(Interest::Streams(from));
        }
        let lane = peer.streams.get_mut(&stream);
        let event = match (kind, lane) {
            (WELCOME, _) => {
                peer.connected = true;
                Interest::Peer(from)
            }
            (DATAGRAM, _) => {
                peer.datagrams.push_back(Bytes::copy_from_slice(body));
                Interest::Datagrams(from)
            }
            (BYE, _) => {
                self.peers.remove(&from);
                Interest::Peer(from)
            }
            (POISON, _) => panic!("the toy was poisoned, as the test wants"),
            (_, None) => return,
            (DATA, Some(lane)) => {
                lane.inbox.push_back(Bytes::copy_from_slice(body));
                Interest::Readable((from, stream))
            }
            (ACK, Some(lane)) => {
                lane.in_flight -= 1;
                Interest::Writable((from, stream))
            }
            (FINISH, Some(lane)) => {
                lane.end = Some(Refused::Ended);
                Interest::Readable((from, stream))
            }
            (RESET, Some(lane)) => {
                lane.inbox.clear();
                lane.end = Some(Refused::Reset(u32::from_be_bytes(body.try_into().unwrap())));
                Interest::Readable((from, stream))
            }
            (other, Some(_)) => panic!("a toy never sends {other}"),
        };
        self.events.push_back(event);
    }
}

impl Machine for Toy {
    type Path = FourTuple;
    type Event = ToyInterest;

    fn handle_input(&mut self, _: Instant, input: Input<'_, FourTuple>) -> Verdict<FourTuple> {
        let Some((head, body)) = input.bytes.split_first_chunk::<5>() else { return Verdict::NotMine };
        let stream = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        self.on_frame(input.path.remote, head[0], stream, body);
        Verdict::Consumed
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_event(&mut self) -> Option<ToyInterest> {
        self.events.pop_front()
    }

    fn poll_transmit(&mut self, _: Instant, out: &mut Buf<'_>) -> Option<Transmit<FourTuple>> {
        let Some((to, bytes)) = self.out.pop_front() else {
            self.drains += 1;
            return None;
        };
        assert!(out.put(&bytes));
        Some(Transmit::new(FourTuple::new(self.local, to)))
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}

impl Session for Toy {
    type Peer = SocketAddr;
    type Stream = StreamId;
    type Error = Refused;

    fn connect(&mut self, _: Instant, peer: SocketAddr) -> Result<(), Refused> {
        if peer == self.local {
            return Err(Refused::Gone);
        }
        if let Entry::Vacant(vacant) = self.peers.entry(peer) {
            vacant.insert(Peer { opened: 1, ..Peer::default() });
            self.say(peer, HELLO, 0, b"");
        }
        Ok(())
    }

    fn is_connected(&self, peer: SocketAddr) -> Result<bool, Refused> {
        self.peers.get(&peer).map(|peer| peer.connected).ok_or(Refused::Gone)
    }

    fn accept(&mut self, _: Instant) -> Option<SocketAddr> {
        self.accepted.pop_front()
    }

    fn open(&mut self, _: Instant, peer: SocketAddr, _: Direction) -> Result<Option<StreamId>, Refused> {
        let state = self.peer(peer)?;
        state.opened += 2;
        let stream = state.opened;
        state.streams.insert(stream, Lane::default());
        Ok(Some((peer, stream)))
    }

    fn accept_stream(&mut self, _: Instant, peer: SocketAddr) -> Result<Option<StreamId>, Refused> {
        Ok(self.peer(peer)?.incoming.pop_front().map(|stream| (peer, stream)))
    }

    fn send(&mut self, _: Instant, stream: StreamId, message: &[u8]) -> Result<bool, Refused> {
        let lane = self.lane(stream)?;
        if lane.finished {
            return Err(Refused::Ended);
        }
        let accepted = lane.in_flight < WINDOW;
        if accepted {
            lane.in_flight += 1;
            self.say(stream.0, DATA, stream.1, message);
        }
        Ok(accepted)
    }

    fn receive(&mut self, _: Instant, stream: StreamId) -> Result<Option<Bytes>, Refused> {
        let lane = self.lane(stream)?;
        match (lane.inbox.pop_front(), lane.end) {
            (Some(message), _) => {
                self.say(stream.0, ACK, stream.1, b"");
                Ok(Some(message))
            }
            (None, Some(end)) => Err(end),
            (None, None) => Ok(None),
        }
    }

    fn write(&mut self, now: Instant, stream: StreamId, bytes: &[u8]) -> Result<usize, Refused> {
        let chunk = &bytes[..bytes.len().min(CHUNK_MAX)];
        self.send(now, stream, chunk).map(|accepted| if accepted { chunk.len() } else { 0 })
    }

    fn read(&mut self, now: Instant, stream: StreamId, max: usize) -> Result<Option<Bytes>, Refused> {
        match self.receive(now, stream) {
            Ok(Some(mut chunk)) => {
                if chunk.len() > max {
                    let rest = chunk.split_off(max);
                    // Acknowledged once for the whole, when its first part is read.
                    let lane = self.lane(stream)?;
                    lane.inbox.push_front(rest);
                    self.out.pop_back();
                }
                Ok(Some(chunk))
            }
            Err(Refused::Ended) => Ok(Some(Bytes::new())),
            other => other,
        }
    }

    fn finish(&mut self, _: Instant, stream: StreamId) -> Result<(), Refused> {
        let lane = self.lane(stream)?;
        lane.finished = true;
        self.say(stream.0, FINISH, stream.1, b"");
        Ok(())
    }

    fn is_delivered(&self, (peer, stream): StreamId) -> Result<bool, Refused> {
        let lane = self.peers.get(&peer).and_then(|peer| peer.streams.get(&stream)).ok_or(Refused::Gone)?;
        Ok(lane.finished && lane.in_flight == 0)
    }

    fn abandon(&mut self, _: Instant, (peer, stream): StreamId, code: u32) {
        let lane = self.peers.get_mut(&peer).and_then(|peer| peer.streams.remove(&stream));
        let is_over = |lane: &Lane| lane.finished && lane.in_flight == 0;
        if lane.is_some_and(|lane| !is_over(&lane)) {
            self.say(peer, RESET, stream, &code.to_be_bytes());
        }
    }

    fn send_datagram(&mut self, _: Instant, peer: SocketAddr, bytes: &[u8]) -> Result<bool, Refused> {
        self.peer(peer)?;
        let fits = bytes.len() <= CHUNK_MAX;
        if fits {
            self.say(peer, DATAGRAM, 0, bytes);
        }
        Ok(fits)
    }

    fn receive_datagram(&mut self, _: Instant, peer: SocketAddr) -> Result<Option<Bytes>, Refused> {
        Ok(self.peer(peer)?.datagrams.pop_front())
    }

    fn close(&mut self, _: Instant, peer: SocketAddr) {
        if self.peers.remove(&peer).is_some() {
            self.say(peer, BYE, 0, b"");
            self.events.push_back(Interest::Peer(peer));
        }
    }

    fn close_all(&mut self, _: Instant) {
        self.closing = true;
    }

    fn is_closed(&self) -> bool {
        let idle = |peer: &Peer| peer.streams.values().all(|lane| lane.in_flight == 0);
        self.closing && self.peers.values().all(idle)
    }

    fn wakes(event: &ToyInterest) -> Option<ToyInterest> {
        Some(*event)
    }
}
