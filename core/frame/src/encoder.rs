//! Messages in, chunks worth writing out.

use alloc::collections::VecDeque;
use core::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::FrameError;
use crate::message::{clamp_limit, prefix};

/// A payload of at least this many bytes becomes a chunk of its own: by then a copy costs more than
/// one more chunk in the stream's send buffer. Bytes.
pub const LARGE_MIN: usize = 8 * 1024;

/// The longest chunk that small messages are run together into. Bytes; a chunk that would grow past
/// it is closed and the next one begun.
pub const COALESCED_MAX: usize = 64 * 1024;

/// Turns messages into chunks for a stream.
///
/// Push messages as they come; when the stream takes bytes, [`Encoder::take`] a chunk, write what
/// fits and [`Encoder::put_back`] the rest. Unbounded by itself: the owner refuses messages while
/// [`Encoder::pending`] is over its own limit.
pub struct Encoder {
    max: u32,
    /// Chunks that no longer change, first to leave first.
    closed: VecDeque<Bytes>,
    /// The chunk that small messages are still added to; it leaves after `closed`.
    open: BytesMut,
    pending: usize,
}

impl Encoder {
    /// An encoder for messages of at most `max` bytes (a `max` over 4 GiB − 1 means that). The limit
    /// that matters is the receiver's.
    pub fn new(max: usize) -> Self {
        Self { max: clamp_limit(max), closed: VecDeque::new(), open: BytesMut::new(), pending: 0 }
    }

    /// Queues a message, copying it once.
    pub fn push(&mut self, message: &[u8]) -> Result<(), FrameError> {
        let prefix = self.admit(message.len())?;
        if message.len() >= LARGE_MIN {
            self.close_with(prefix, Bytes::copy_from_slice(message));
        } else {
            self.coalesce(prefix, message);
        }
        Ok(())
    }

    /// Queues a message; a large one is not copied.
    pub fn push_owned(&mut self, message: Bytes) -> Result<(), FrameError> {
        let prefix = self.admit(message.len())?;
        if message.len() >= LARGE_MIN {
            self.close_with(prefix, message);
        } else {
            self.coalesce(prefix, &message);
        }
        Ok(())
    }

    /// Removes the next chunk; an empty one means that nothing is pending. Chunks end anywhere:
    /// only their concatenation is meaningful.
    pub fn take(&mut self) -> Bytes {
        let chunk = self.closed.pop_front().unwrap_or_else(|| self.open.split().freeze());
        self.pending -= chunk.len();
        debug_assert!(!chunk.is_empty() || self.pending == 0, "an empty chunk means that nothing is pending");
        chunk
    }

    /// Returns what the stream did not take of the chunk taken last. It leaves first.
    pub fn put_back(&mut self, rest: Bytes) {
        if !rest.is_empty() {
            self.pending += rest.len();
            self.closed.push_front(rest);
        }
    }

    /// Bytes queued and not taken, prefixes included.
    pub const fn pending(&self) -> usize {
        self.pending
    }

    /// The prefix of a message of `len` bytes, and the bookkeeping; or why it may not pass.
    #[inline]
    fn admit(&mut self, len: usize) -> Result<[u8; crate::PREFIX_LEN], FrameError> {
        if len > self.max as usize {
            return Err(FrameError::TooLong { length: len, max: self.max });
        }
        self.pending += crate::PREFIX_LEN + len;
        Ok(prefix(len as u32))
    }

    #[inline]
    fn coalesce(&mut self, prefix: [u8; crate::PREFIX_LEN], message: &[u8]) {
        if self.open.len() + prefix.len() + message.len() > COALESCED_MAX {
            self.close();
        }
        self.open.reserve(prefix.len() + message.len());
        self.open.put_slice(&prefix);
        self.open.put_slice(message);
    }

    /// The prefix rides with the small messages before it; the payload is a chunk of its own.
    fn close_with(&mut self, prefix: [u8; crate::PREFIX_LEN], message: Bytes) {
        self.open.extend_from_slice(&prefix);
        self.close();
        self.closed.push_back(message);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.closed.push_back(self.open.split().freeze());
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("max", &self.max).field("pending", &self.pending).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn drain(encoder: &mut Encoder) -> Vec<Bytes> {
        core::iter::from_fn(|| Some(encoder.take()).filter(|chunk| !chunk.is_empty())).collect()
    }

    #[test]
    fn small_messages_leave_as_one_chunk() {
        let mut encoder = Encoder::new(1_000);
        for message in [&b"one"[..], b"", b"three"] {
            encoder.push(message).unwrap();
        }
        assert_eq!(encoder.pending(), 3 * 4 + 8);
        assert_eq!(drain(&mut encoder), [&b"\0\0\0\x03one\0\0\0\0\0\0\0\x05three"[..]]);
        assert_eq!(encoder.pending(), 0);
    }

    #[test]
    fn a_large_payload_is_handed_on_without_a_copy() {
        let payload = Bytes::from(vec![7; LARGE_MIN]);
        let mut encoder = Encoder::new(LARGE_MIN);
        encoder.push(b"small").unwrap();
        encoder.push_owned(payload.clone()).unwrap();
        encoder.push(b"after").unwrap();
        let chunks = drain(&mut encoder);
        assert_eq!(chunks.len(), 3);
        assert_eq!(&chunks[0][..], b"\0\0\0\x05small\0\0\x20\0");
        assert_eq!(chunks[1].as_ptr(), payload.as_ptr());
        assert_eq!(&chunks[2][..], b"\0\0\0\x05after");
    }

    #[test]
    fn coalesced_chunks_stay_below_their_limit() {
        let mut encoder = Encoder::new(LARGE_MIN);
        (0..1_000).for_each(|_| encoder.push(&[1; 1_000]).unwrap());
        let chunks = drain(&mut encoder);
        assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), 1_004_000);
        assert!(chunks.iter().all(|chunk| chunk.len() <= COALESCED_MAX));
        assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk.len() > COALESCED_MAX - 1_004));
    }

    #[test]
    fn what_the_stream_did_not_take_leaves_first() {
        let mut encoder = Encoder::new(100);
        encoder.push(b"first").unwrap();
        let chunk = encoder.take();
        encoder.push(b"second").unwrap();
        encoder.put_back(chunk.slice(6..));
        assert_eq!(encoder.pending(), 3 + 10);
        assert_eq!(drain(&mut encoder).concat(), b"rst\0\0\0\x06second");
    }

    #[test]
    fn a_message_over_the_limit_is_refused_and_leaves_no_trace() {
        let mut encoder = Encoder::new(3);
        assert_eq!(encoder.push(b"four"), Err(FrameError::TooLong { length: 4, max: 3 }));
        assert_eq!(
            encoder.push_owned(Bytes::from_static(b"four")),
            Err(FrameError::TooLong { length: 4, max: 3 })
        );
        assert_eq!((encoder.pending(), encoder.take()), (0, Bytes::new()));
        encoder.push(b"the").unwrap();
        assert_eq!(encoder.pending(), 7);
    }
}
