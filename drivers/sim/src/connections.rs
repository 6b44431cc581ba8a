//! A host's TCP connections: those its machine asked for, and those that others asked of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use gimlet_machine::{Answer, CloseReason, FourTuple, Instant, Rng, SocketId};

use crate::sockets::{Sockets, draw_port};
use crate::stream::{Kind, News, Segment, Stream};

/// The number of the first connection that a host accepts; the next ones follow. Machines number what they
/// ask for from below.
pub const ACCEPTED_FIRST: u64 = 1 << 63;

/// How often a free port is looked for.
const PORT_TRIES: usize = 64;

/// All connections of one host.
#[derive(Debug)]
pub(crate) struct Connections {
    streams: BTreeMap<FourTuple, (SocketId, Stream)>,
    flows: BTreeMap<SocketId, FourTuple>,
    /// Where others may ask for connections.
    listens: Vec<SocketAddr>,
    accepted: u64,
    rng: Rng,
    /// The earliest timeout that is on the agenda.
    pub(crate) planned: Option<Instant>,
}

impl Connections {
    pub(crate) fn new(rng: Rng, listens: Vec<SocketAddr>) -> Self {
        Self { streams: BTreeMap::new(), flows: BTreeMap::new(), listens, accepted: 0, rng, planned: None }
    }

    /// Forgets all, without a word to anybody.
    pub(crate) fn reset(&mut self) {
        self.streams.clear();
        self.flows.clear();
        self.planned = None;
    }

    /// Those that count toward the limit.
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether there is such a name.
    pub(crate) fn is_open(&self, id: SocketId) -> bool {
        self.flows.contains_key(&id)
    }

    /// Asks `remote` for a connection. `sockets` knows our addresses.
    pub(crate) fn connect(
        &mut self,
        id: SocketId,
        sockets: &Sockets,
        local: IpAddr,
        remote: SocketAddr,
    ) -> Option<Answer<'static>> {
        let closed = |why| Some(Answer::Closed { id, why });
        if !sockets.has_room(self.len()) {
            return closed(CloseReason::TooMany);
        }
        let ours = sockets.resolve(local).filter(|ip| ip.is_ipv4() == remote.is_ipv4());
        let Some(ours) = ours else { return closed(CloseReason::AddressUnavailable) };
        let flow = (0..PORT_TRIES)
            .map(|_| FourTuple::new(SocketAddr::new(ours, draw_port(&mut self.rng)), remote))
            .find(|flow| !self.streams.contains_key(flow) && !self.listens.contains(&flow.local));
        let Some(flow) = flow else { return closed(CloseReason::AddressUnavailable) };
        self.streams.insert(flow, (id, Stream::open()));
        self.flows.insert(id, flow);
        None
    }

    /// Writes to a connection, if there is one of this name. Returns how much was taken at once.
    pub(crate) fn write(&mut self, id: SocketId, bytes: Bytes) -> usize {
        self.stream(id).map_or(0, |stream| stream.write(bytes))
    }

    /// Closes a connection, if there is one of this name.
    pub(crate) fn close(&mut self, id: SocketId) {
        if let Some(stream) = self.stream(id) {
            stream.close();
            self.flows.remove(&id);
        }
    }

    /// A segment has arrived. Returns whether the peer is to be told that nobody knows what it means.
    pub(crate) fn handle_segment(
        &mut self,
        now: Instant,
        sockets: &Sockets,
        flow: FourTuple,
        segment: &Segment<'_>,
    ) -> bool {
        if let Some((_, stream)) = self.streams.get_mut(&flow) {
            stream.handle_segment(now, segment);
            return false;
        }
        let listens = self.listens.contains(&flow.local) && sockets.has(flow.local.ip());
        if segment.kind == Kind::Open && listens && sockets.has_room(self.len()) {
            let id = SocketId(ACCEPTED_FIRST + self.accepted);
            self.accepted += 1;
            self.streams.insert(flow, (id, Stream::accept()));
            self.flows.insert(id, flow);
            return false;
        }
        segment.kind != Kind::Reset
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.planned = None;
        self.streams.values_mut().for_each(|(_, stream)| stream.handle_timeout(now));
    }

    /// Writes the next segment; returns whose it is.
    pub(crate) fn poll_segment(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<FourTuple> {
        self.streams.iter_mut().find_map(|(flow, (_, stream))| stream.poll_segment(now, out).then_some(*flow))
    }

    /// The next thing that the machine should know. A connection that is over is forgotten once all is told.
    pub(crate) fn poll_news(&mut self) -> Option<(SocketId, FourTuple, News)> {
        let news = self
            .streams
            .iter_mut()
            .find_map(|(flow, (id, stream))| stream.poll_news().map(|news| (*id, *flow, news)));
        if let Some((id, _, News::Closed(_))) = news {
            self.flows.remove(&id);
        }
        if news.is_none() {
            let flows = &mut self.flows;
            self.streams.retain(|_, (id, stream)| {
                if stream.is_over() {
                    flows.remove(id);
                }
                !stream.is_over()
            });
        }
        news
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.streams.values().filter_map(|(_, stream)| stream.deadline()).min()
    }

    fn stream(&mut self, id: SocketId) -> Option<&mut Stream> {
        let flow = self.flows.get(&id)?;
        self.streams.get_mut(flow).map(|(_, stream)| stream)
    }
}
