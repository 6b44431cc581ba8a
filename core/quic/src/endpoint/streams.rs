//! Commands on streams and datagrams. None of them waits: "not now" is an ordinary answer, and an
//! event says when to try again.

use core::time::Duration;

use gimlet_machine::{Bytes, Direction, Instant};
use quinn_proto::{
    Chunks, Connection, Dir, FinishError, ReadError, ReadableError, SendDatagramError, SendStream, WriteError,
};

use crate::state::Phase;
use crate::stream::{to_code, to_dir};
use crate::{ConnectionId, DatagramError, Endpoint, StreamError, StreamId};

impl Endpoint {
    /// Opens a stream; `None`: the peer allows no more at present, wait for `StreamsAvailable`. The
    /// peer learns of it with the first byte, or its end.
    pub fn open(
        &mut self,
        now: Instant,
        id: ConnectionId,
        direction: Direction,
    ) -> Result<Option<StreamId>, StreamError> {
        let connection = self.open_connection(now, id)?;
        Ok(connection.streams().open(to_dir(direction)).map(StreamId::from_quinn))
    }

    /// The next stream that the peer opened; `None`: wait for `StreamOpened`.
    pub fn accept(
        &mut self,
        now: Instant,
        id: ConnectionId,
    ) -> Result<Option<(StreamId, Direction)>, StreamError> {
        let connection = self.connection(now, id)?;
        let accepted = connection.streams().accept(Dir::Bi).or_else(|| connection.streams().accept(Dir::Uni));
        match accepted.map(StreamId::from_quinn) {
            Some(stream) => Ok(Some((stream, stream.direction()))),
            None if connection.is_closed() => Err(StreamError::ConnectionClosed),
            None => Ok(None),
        }
    }

    /// Queues the chunks, without copying them; returns how many bytes were taken. What was not
    /// taken is left in `chunks`. Zero means "not now": wait for `Writable`.
    ///
    /// Each call costs time in proportion to the unacknowledged calls before it: gather small
    /// messages into one call.
    pub fn write(
        &mut self,
        now: Instant,
        id: ConnectionId,
        stream: StreamId,
        chunks: &mut [Bytes],
    ) -> Result<usize, StreamError> {
        let send_window_max = self.engine.send_window_max;
        let connection = self.open_connection(now, id)?;
        check(stream.is_writable_by(connection.side()))?;
        connection.set_send_window(send_window(connection.rtt(), send_window_max));
        let written = write_until_blocked(&mut connection.send_stream(stream.to_quinn()), chunks);
        self.wake(id);
        match written {
            Ok(taken) => Ok(taken),
            Err(WriteError::Blocked) => Ok(0),
            Err(WriteError::Stopped(code)) => Err(StreamError::Stopped(code.into_inner())),
            Err(WriteError::ClosedStream) => Err(StreamError::UnknownStream),
        }
    }

    /// The next bytes in order, at most `max`; `None`: wait for `Readable`. An empty chunk is the
    /// end, and comes once.
    pub fn read(
        &mut self,
        now: Instant,
        id: ConnectionId,
        stream: StreamId,
        max: usize,
    ) -> Result<Option<Bytes>, StreamError> {
        let mut chunk = None;
        let ended = self.read_with(now, id, stream, |chunks| {
            chunk = chunks.next(max.max(1))?;
            Ok(chunk.is_none())
        })?;
        Ok(chunk.map(|chunk| chunk.bytes).or(ended.then(Bytes::new)))
    }

    /// Appends to `into` what is there, at most `max` bytes; true at the end, which comes once.
    /// False: wait for `Readable`, unless `max` bytes came. Cheaper than reading chunk by chunk.
    pub fn read_chunks(
        &mut self,
        now: Instant,
        id: ConnectionId,
        stream: StreamId,
        max: usize,
        into: &mut Vec<Bytes>,
    ) -> Result<bool, StreamError> {
        let (mut left, before) = (max.max(1), into.len());
        let read = self.read_with(now, id, stream, |chunks| {
            while left > 0 {
                let Some(chunk) = chunks.next(left)? else { return Ok(true) };
                left -= chunk.bytes.len();
                into.push(chunk.bytes);
            }
            Ok(false)
        });
        // What came before an error counts; the error comes again.
        if into.len() > before { Ok(read.unwrap_or(false)) } else { read }
    }

    /// Reads with `take`, which says whether it met the end; false if there is nothing yet.
    fn read_with(
        &mut self,
        now: Instant,
        id: ConnectionId,
        stream: StreamId,
        take: impl FnOnce(&mut Chunks<'_>) -> Result<bool, ReadError>,
    ) -> Result<bool, StreamError> {
        let connection = self.connection(now, id)?;
        check(stream.is_readable_by(connection.side()))?;
        let is_closed = connection.is_closed();
        let mut receiver = connection.recv_stream(stream.to_quinn());
        let mut chunks = match receiver.read(true) {
            Ok(chunks) => chunks,
            Err(ReadableError::ClosedStream) => return Err(StreamError::UnknownStream),
            Err(ReadableError::IllegalOrderedRead) => unreachable!("nothing here reads out of order"),
        };
        let taken = take(&mut chunks);
        if chunks.finalize().should_transmit() {
            self.wake(id);
        }
        match taken {
            Ok(ended) => Ok(ended),
            Err(ReadError::Blocked) if is_closed => Err(StreamError::ConnectionClosed),
            Err(ReadError::Blocked) => Ok(false),
            Err(ReadError::Reset(code)) => Err(StreamError::Reset(code.into_inner())),
        }
    }

    /// Ends our half: everything written is still delivered, then the peer reads the end. `Finished`
    /// follows when the peer has acknowledged all of it.
    pub fn finish(&mut self, now: Instant, id: ConnectionId, stream: StreamId) -> Result<(), StreamError> {
        let connection = self.open_connection(now, id)?;
        check(stream.is_writable_by(connection.side()))?;
        let finished = connection.send_stream(stream.to_quinn()).finish();
        self.wake(id);
        finished.map_err(|error| match error {
            FinishError::Stopped(code) => StreamError::Stopped(code.into_inner()),
            FinishError::ClosedStream => StreamError::UnknownStream,
        })
    }

    /// Abandons our half: the peer reads an error with `code` (RESET_STREAM, RFC 9000 §19.4).
    pub fn reset(
        &mut self,
        now: Instant,
        id: ConnectionId,
        stream: StreamId,
        code: u32,
    ) -> Result<(), StreamError> {
        let connection = self.open_connection(now, id)?;
        check(stream.is_writable_by(connection.side()))?;
        let done = connection.send_stream(stream.to_quinn()).reset(to_code(code));
        self.wake(id);
        done.map_err(|_| StreamError::UnknownStream)
    }

    /// Wants no more of the peer's half (STOP_SENDING, RFC 9000 §19.5).
    pub fn stop(
        &mut self,
        now: Instant,
        id: ConnectionId,
        stream: StreamId,
        code: u32,
    ) -> Result<(), StreamError> {
        let connection = self.open_connection(now, id)?;
        check(stream.is_readable_by(connection.side()))?;
        let done = connection.recv_stream(stream.to_quinn()).stop(to_code(code));
        self.wake(id);
        done.map_err(|_| StreamError::UnknownStream)
    }

    /// Whether nothing of our half of `stream` waits for an acknowledgement any more: it was finished
    /// or reset, and the peer knows. An open stream never is.
    pub fn is_acknowledged(&mut self, id: ConnectionId, stream: StreamId) -> Result<bool, StreamError> {
        let connection = self.link(id)?;
        check(stream.is_writable_by(connection.side()))?;
        Ok(connection.send_stream(stream.to_quinn()).stopped().is_err())
    }

    /// Whether a stream may still hold bytes, or its end, that the peer has not acknowledged. Streams
    /// that were not finished or reset count, and so do the peer's bidirectional ones.
    pub fn has_unacknowledged(&mut self, id: ConnectionId) -> bool {
        self.link(id)
            .is_ok_and(|connection| !connection.is_closed() && connection.streams().send_streams() > 0)
    }

    /// Queues an unreliable datagram (RFC 9221); `false`: the buffer is full, wait for
    /// `DatagramsWritable`.
    pub fn send_datagram(
        &mut self,
        now: Instant,
        id: ConnectionId,
        bytes: Bytes,
    ) -> Result<bool, DatagramError> {
        let connection = self.open_connection(now, id).map_err(datagram_error)?;
        let sent = connection.datagrams().send(bytes, false);
        let max = connection.datagrams().max_size().unwrap_or(0);
        self.wake(id);
        match sent {
            Ok(()) => Ok(true),
            Err(SendDatagramError::Blocked(_)) => Ok(false),
            Err(SendDatagramError::TooLarge) => Err(DatagramError::TooLarge { max }),
            Err(SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled) => {
                Err(DatagramError::Unsupported)
            }
        }
    }

    /// The next datagram that arrived; `None`: wait for `DatagramReceived`.
    pub fn receive_datagram(
        &mut self,
        now: Instant,
        id: ConnectionId,
    ) -> Result<Option<Bytes>, DatagramError> {
        let connection = self.connection(now, id).map_err(datagram_error)?;
        match connection.datagrams().recv() {
            Some(bytes) => Ok(Some(bytes)),
            None if connection.is_closed() => Err(DatagramError::ConnectionClosed),
            None => Ok(None),
        }
    }

    /// The largest datagram that fits a packet at present, bytes; `None` before the handshake is
    /// over, or if the peer takes none.
    pub fn datagram_max(&mut self, id: ConnectionId) -> Option<usize> {
        self.link(id).ok()?.datagrams().max_size()
    }

    /// A connection that data flows on, or from which what arrived can still be read.
    fn connection(&mut self, now: Instant, id: ConnectionId) -> Result<&mut Connection, StreamError> {
        self.engine.clock.advance(now);
        self.link(id)
    }

    /// A connection that data flows on.
    fn open_connection(&mut self, now: Instant, id: ConnectionId) -> Result<&mut Connection, StreamError> {
        let connection = self.connection(now, id)?;
        if connection.is_closed() { Err(StreamError::ConnectionClosed) } else { Ok(connection) }
    }

    fn link(&mut self, id: ConnectionId) -> Result<&mut Connection, StreamError> {
        let session = self.table.get_mut(id).ok_or(StreamError::UnknownConnection)?;
        match session.phase {
            Phase::AwaitingInitial | Phase::AwaitingHandshake => Err(StreamError::NotConnected),
            Phase::Established | Phase::AwaitingDrain | Phase::Drained => {
                let link = session.link.as_mut().ok_or(StreamError::ConnectionClosed)?;
                Ok(&mut link.connection)
            }
        }
    }
}

/// quinn-proto asserts what the caller gets as an error here.
fn check(right_direction: bool) -> Result<(), StreamError> {
    if right_direction { Ok(()) } else { Err(StreamError::WrongDirection) }
}

/// Writes until everything is taken or quinn-proto says that the stream is blocked. A short write is not
/// enough: only a call that finds no room at all puts the stream on the list of those that are told
/// when there is some.
fn write_until_blocked(stream: &mut SendStream<'_>, mut chunks: &mut [Bytes]) -> Result<usize, WriteError> {
    let mut taken = 0;
    while !chunks.is_empty() {
        match stream.write_chunks(chunks) {
            Ok(written) => {
                taken += written.bytes;
                chunks = &mut chunks[written.chunks..];
            }
            Err(_) if taken > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

fn datagram_error(error: StreamError) -> DatagramError {
    match error {
        StreamError::UnknownConnection => DatagramError::UnknownConnection,
        StreamError::NotConnected => DatagramError::NotConnected,
        StreamError::ConnectionClosed
        | StreamError::UnknownStream
        | StreamError::WrongDirection
        | StreamError::Stopped(_)
        | StreamError::Reset(_) => DatagramError::ConnectionClosed,
    }
}

/// How much may be unacknowledged: enough for 500 MB/s at this round-trip time, so that the copy for
/// retransmission stays in the processor's cache where the path is short, and never less than
/// [`SEND_WINDOW_MIN`].
fn send_window(rtt: Duration, max: u64) -> u64 {
    const BYTES_PER_MICROSECOND: u64 = 500;
    let rtt = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
    rtt.saturating_mul(BYTES_PER_MICROSECOND).max(SEND_WINDOW_MIN).min(max)
}

/// A second-level cache's worth: on loopback a window of 16 MiB costs a third of the throughput.
const SEND_WINDOW_MIN: u64 = 5 << 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_send_window_follows_the_round_trip_time_between_its_limits() {
        let max = 16 << 20;
        assert_eq!(send_window(Duration::from_micros(100), max), SEND_WINDOW_MIN);
        assert_eq!(send_window(Duration::from_millis(10), max), 5_000_000);
        assert_eq!(send_window(Duration::from_secs(1), max), max);
        assert_eq!(send_window(Duration::MAX, 1_000), 1_000, "the owner's limit comes first");
    }
}
