//! Application streams: messages or bytes, coalesced on the way out, never lost on the way in.

use alloc::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use gimlet_frame::{Decoder, Encoder};
use gimlet_machine::{Direction, Instant};
use gimlet_quic::{ConnectionId, StreamId};

use crate::error::{Error, LostCause};

/// Streams of ended connections kept for reading what had already arrived; beyond, the oldest is
/// forgotten, and counted.
pub const ENDED_STREAMS_MAX: usize = 1_024;

/// Bytes that those streams hold together; beyond, the oldest are forgotten, and counted. One
/// connection leaves at most its window of 32 MiB, so the last three always fit. Bytes.
pub const ENDED_BYTES_MAX: usize = 128 << 20;

/// Streams of which both halves are over, kept so that [`gimlet_machine::Session::is_delivered`] can
/// still be asked; beyond, the oldest is forgotten.
pub const OVER_STREAMS_MAX: usize = 1_024;

/// Names one stream to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    pub(crate) connection: ConnectionId,
    pub(crate) id: StreamId,
}

/// Both halves of a stream as the application sees them.
#[derive(Debug)]
pub(crate) struct StreamState {
    pub(crate) sending: Sending,
    pub(crate) receiving: Receiving,
    /// Its place among those that are kept although they have ended.
    kept: Option<Kept>,
}

/// Why a stream that has ended is still there, and its number in that queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// The connection ended, and something may be unread.
    Ended(u64),
    /// Nothing is left to do.
    Over(u64),
}

/// Our half.
#[derive(Debug)]
pub(crate) enum Sending {
    /// Taking bytes.
    Open(Outgoing),
    /// No more bytes are taken; what is queued still leaves.
    Finishing(Outgoing),
    /// Everything was handed to QUIC and the end was marked.
    Finished,
    /// The peer acknowledged everything.
    Delivered,
    /// This direction does not exist, or ended early.
    Closed(Error),
}

/// Bytes on their way to QUIC.
#[derive(Debug)]
pub(crate) struct Outgoing {
    encoder: Encoder,
    raw: BytesMut,
    /// The application was told "not now" and waits for room for so many bytes.
    refused: Option<usize>,
    /// It is in the list of streams to flush.
    pub(crate) dirty: bool,
}

/// The peer's half.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly every stream that is in the table is open")]
pub(crate) enum Receiving {
    /// Bytes may come.
    Open(Incoming),
    /// This direction does not exist, or everything was read.
    Closed(Error),
}

/// Bytes on their way to the application.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) decoder: Decoder,
    /// Chunks taken out of QUIC.
    pub(crate) arrived: VecDeque<Bytes>,
    /// How the stream ends after those; `None` while more may come.
    pub(crate) end: Option<Error>,
    /// Empty between calls; keeps its capacity.
    pub(crate) scratch: Vec<Bytes>,
}

impl StreamState {
    /// A stream that we opened, or that the peer did.
    pub(crate) fn new(direction: Direction, ours: bool, message_max: usize) -> Self {
        let both = direction == Direction::Bidirectional;
        let sending = if both || ours {
            Sending::Open(Outgoing::new(message_max))
        } else {
            Sending::Closed(Error::AlreadyFinished)
        };
        let receiving = if both || !ours {
            Receiving::Open(Incoming {
                decoder: Decoder::new(message_max),
                arrived: VecDeque::new(),
                end: None,
                scratch: Vec::new(),
            })
        } else {
            Receiving::Closed(Error::Finished)
        };
        Self { sending, receiving, kept: None }
    }

    /// Whether neither half has anything left to do.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.sending, Sending::Delivered | Sending::Closed(_))
            && matches!(self.receiving, Receiving::Closed(_))
    }

    /// Bytes accepted from the application that QUIC does not have yet.
    pub(crate) fn pending(&self) -> usize {
        match &self.sending {
            Sending::Open(out) | Sending::Finishing(out) => out.pending(),
            Sending::Finished | Sending::Delivered | Sending::Closed(_) => 0,
        }
    }
}

impl Outgoing {
    pub(crate) fn new(message_max: usize) -> Self {
        Self { encoder: Encoder::new(message_max), raw: BytesMut::new(), refused: None, dirty: false }
    }

    /// Bytes queued here.
    pub(crate) fn pending(&self) -> usize {
        self.encoder.pending() + self.raw.len()
    }

    /// Queues one message; `Ok(false)` when the queue is full.
    pub(crate) fn push_message(&mut self, message: &[u8], buffer_max: usize) -> Result<bool, Error> {
        let pending = self.pending();
        if pending > 0 && pending + message.len() > buffer_max {
            self.refused = Some(message.len());
            return Ok(false);
        }
        self.encoder.push(message).map_err(|error| Error::Framing(error.to_string()))?;
        Ok(true)
    }

    /// Queues some bytes; 0 when the queue is full.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8], buffer_max: usize) -> usize {
        let room = buffer_max.saturating_sub(self.pending()).min(bytes.len());
        self.raw.extend_from_slice(&bytes[..room]);
        if room < bytes.len() {
            self.refused = Some(buffer_max / 2);
        }
        room
    }

    /// Whether somebody who was refused would be served if asked again; says so once. An empty queue
    /// takes everything.
    pub(crate) fn has_made_room(&mut self, buffer_max: usize) -> bool {
        let pending = self.pending();
        self.refused.take_if(|wanted| pending == 0 || pending + *wanted <= buffer_max).is_some()
    }

    /// The next piece for QUIC; empty when there is none.
    pub(crate) fn take(&mut self) -> Bytes {
        if self.encoder.pending() > 0 { self.encoder.take() } else { self.raw.split().freeze() }
    }

    /// Puts back what QUIC did not take.
    pub(crate) fn put_back(&mut self, rest: Bytes) {
        self.encoder.put_back(rest);
    }
}

/// All application streams of a node.
#[derive(Debug)]
pub(crate) struct Streams {
    states: BTreeMap<Stream, StreamState>,
    /// Streams with bytes to hand to QUIC, each once.
    dirty: VecDeque<Stream>,
    /// Streams whose connection ended, oldest first, with the bytes that each holds.
    ended: BTreeMap<u64, (Stream, usize)>,
    /// The sum of those bytes.
    ended_bytes: usize,
    /// Streams of which both halves are over, oldest first.
    over: BTreeMap<u64, Stream>,
    /// Numbers the two queues.
    kept: u64,
    /// The moment of the last verb: the flush that follows belongs to it.
    pub(crate) touched: Instant,
}

impl Streams {
    pub(crate) fn new() -> Self {
        Self {
            states: BTreeMap::new(),
            dirty: VecDeque::new(),
            ended: BTreeMap::new(),
            ended_bytes: 0,
            over: BTreeMap::new(),
            kept: 0,
            touched: Instant::ZERO,
        }
    }

    #[cfg(test)]
    pub(crate) fn ended_bytes(&self) -> usize {
        self.ended_bytes
    }

    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    pub(crate) fn insert(&mut self, stream: Stream, state: StreamState) {
        let clash = self.states.insert(stream, state);
        debug_assert!(clash.is_none(), "QUIC never reuses a stream id");
    }

    pub(crate) fn get(&self, stream: Stream) -> Result<&StreamState, Error> {
        self.states.get(&stream).ok_or(Error::UnknownStream)
    }

    pub(crate) fn get_mut(&mut self, stream: Stream) -> Result<&mut StreamState, Error> {
        self.states.get_mut(&stream).ok_or(Error::UnknownStream)
    }

    /// Forgets `stream`; says whether it was there.
    pub(crate) fn remove(&mut self, stream: Stream) -> bool {
        let removed = self.states.remove(&stream);
        if let Some(kept) = removed.as_ref().and_then(|state| state.kept) {
            self.unkeep(kept);
        }
        removed.is_some()
    }

    fn unkeep(&mut self, kept: Kept) {
        match kept {
            Kept::Ended(number) => {
                let held = self.ended.remove(&number).map_or(0, |(_, held)| held);
                self.ended_bytes -= held;
            }
            Kept::Over(number) => {
                self.over.remove(&number);
            }
        }
    }

    /// Our half of `stream`, if it still takes bytes.
    pub(crate) fn outgoing(&mut self, stream: Stream) -> Result<&mut Outgoing, Error> {
        match &mut self.get_mut(stream)?.sending {
            Sending::Open(out) => Ok(out),
            Sending::Finishing(_) | Sending::Finished | Sending::Delivered => Err(Error::AlreadyFinished),
            Sending::Closed(error) => Err(error.clone()),
        }
    }

    /// Notes that `stream` has something for QUIC.
    pub(crate) fn mark_dirty(&mut self, stream: Stream) {
        let Some(state) = self.states.get_mut(&stream) else { return };
        if let Sending::Open(out) | Sending::Finishing(out) = &mut state.sending
            && !core::mem::replace(&mut out.dirty, true)
        {
            self.dirty.push_back(stream);
        }
    }

    /// Whether any stream has something for QUIC.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The next stream to flush; its mark is cleared.
    pub(crate) fn next_dirty(&mut self) -> Option<Stream> {
        let stream = self.dirty.pop_front()?;
        if let Some(StreamState { sending: Sending::Open(out) | Sending::Finishing(out), .. }) =
            self.states.get_mut(&stream)
        {
            out.dirty = false;
        }
        Some(stream)
    }

    /// The streams of one connection, in order.
    pub(crate) fn of(&self, connection: ConnectionId) -> Vec<Stream> {
        // Ids of a connection are adjacent in the map's order, which starts with the connection.
        self.states
            .range(first(connection)..)
            .map(|(stream, _)| *stream)
            .take_while(|stream| stream.connection == connection)
            .collect()
    }

    /// Whether any stream of `connection` holds bytes that QUIC does not have.
    pub(crate) fn has_pending(&self, connection: ConnectionId) -> bool {
        self.states
            .range(first(connection)..)
            .take_while(|(stream, _)| stream.connection == connection)
            .any(|(_, state)| state.pending() > 0)
    }

    /// The connection under `stream` ended with `cause`; `rescued` is what had arrived and `end` how
    /// the stream ends after it, if that is known. Returns how many older streams had to be forgotten
    /// unread.
    pub(crate) fn end(
        &mut self,
        stream: Stream,
        cause: &LostCause,
        rescued: Vec<Bytes>,
        end: Option<Error>,
    ) -> u64 {
        let Some(state) = self.states.get_mut(&stream) else { return 0 };
        let lost = Error::Lost(cause.clone());
        if let Sending::Open(_) | Sending::Finishing(_) | Sending::Finished = &state.sending {
            state.sending = Sending::Closed(lost.clone());
        }
        let mut held = 0;
        if let Receiving::Open(incoming) = &mut state.receiving {
            incoming.arrived.extend(rescued);
            incoming.end.get_or_insert(end.unwrap_or(lost));
            held = incoming.arrived.iter().map(Bytes::len).sum::<usize>() + incoming.decoder.buffered();
        }
        if state.is_over() {
            self.keep_if_over(stream);
            return 0;
        }
        self.kept += 1;
        state.kept = Some(Kept::Ended(self.kept));
        self.ended.insert(self.kept, (stream, held));
        self.ended_bytes += held;
        self.trim_ended()
    }

    fn trim_ended(&mut self) -> u64 {
        let mut forgotten = 0;
        while self.ended.len() > ENDED_STREAMS_MAX || self.ended_bytes > ENDED_BYTES_MAX {
            let Some((_, (oldest, _))) = self.ended.first_key_value() else { break };
            let oldest = *oldest;
            forgotten += u64::from(self.remove(oldest));
        }
        forgotten
    }

    /// Puts back what a reader had no room for.
    pub(crate) fn put_back(&mut self, stream: Stream, rest: Bytes) {
        if let Some(StreamState { receiving: Receiving::Open(incoming), .. }) = self.states.get_mut(&stream) {
            incoming.arrived.push_front(rest);
        }
    }

    /// Moves `stream` to those that nobody will use again, if both halves are over. The oldest of them
    /// is forgotten when there are too many.
    pub(crate) fn keep_if_over(&mut self, stream: Stream) {
        let Some(state) = self.states.get_mut(&stream).filter(|state| state.is_over()) else { return };
        if let Some(Kept::Over(_)) = state.kept {
            return;
        }
        self.kept += 1;
        if let Some(kept) = state.kept.replace(Kept::Over(self.kept)) {
            self.unkeep(kept);
        }
        self.over.insert(self.kept, stream);
        if self.over.len() > OVER_STREAMS_MAX
            && let Some((_, oldest)) = self.over.first_key_value()
        {
            self.remove(*oldest);
        }
    }
}

/// The smallest name that a stream of `connection` can have.
fn first(connection: ConnectionId) -> Stream {
    const ZERO: StreamId = StreamId::from_u64(0).unwrap();
    Stream { connection, id: ZERO }
}
