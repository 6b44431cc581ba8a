//! Chunks in, messages out.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use bytes::Bytes;

use crate::FrameError;
use crate::backlog::Backlog;
use crate::message::{PREFIX_LEN, clamp_limit};
use crate::state::Awaiting;

/// The most memory that an idle decoder keeps for the next straddling message. Bytes; a larger
/// buffer is released as soon as the chunk after it has been read.
pub const RETAINED_MAX: usize = 64 * 1024;

/// The first allocation for a straddling message. Later ones double, never past the claim, so that
/// memory is at most twice what arrived plus this.
const FIRST: usize = 2 * 1024;

gimlet_machine::counters! {
    /// What a decoder did not want.
    pub struct DecoderCounters {
        /// Lengths over the limit: 0 or 1, for the first one stops the decoder.
        over_long,
        /// Bytes that arrived with or after an over-long length and were dropped unread.
        discarded_bytes,
    }
}

/// Turns chunks of a stream into messages, in order.
///
/// Push what the stream delivers, poll until `None`. Memory held is at most twice the bytes that
/// arrived and were not yet handed out, plus [`RETAINED_MAX`].
pub struct Decoder {
    awaiting: Awaiting,
    max: u32,
    /// The chunk being read, from `at` on.
    chunk: Bytes,
    at: usize,
    backlog: Backlog,
    /// What has arrived of a straddling message; meaningful while a payload is awaited, and until
    /// the next call after [`Decoder::poll_slice`] lent it.
    partial: Vec<u8>,
    counters: DecoderCounters,
}

/// Where a complete message lies.
enum Found {
    Whole(Range<usize>),
    Straddling,
}

impl Decoder {
    /// A decoder at the beginning of a stream, for messages of at most `max` bytes (a `max` over
    /// 4 GiB − 1 means that).
    pub fn new(max: usize) -> Self {
        Self {
            awaiting: Awaiting::START,
            max: clamp_limit(max),
            chunk: Bytes::new(),
            at: 0,
            backlog: Backlog::default(),
            partial: Vec::new(),
            counters: DecoderCounters::default(),
        }
    }

    /// Takes the stream's next bytes. Messages handed out later may be slices of `chunk`, and keep
    /// its allocation alive.
    #[inline]
    pub fn push(&mut self, chunk: Bytes) {
        if !self.is_drained() {
            return self.backlog.push(chunk);
        }
        match self.awaiting {
            Awaiting::Desynchronised(_) => self.counters.discarded_bytes += chunk.len() as u64,
            Awaiting::Payload(length) if self.partial.len() + chunk.len() < length as usize => {
                extend(&mut self.partial, &chunk, length as usize);
            }
            Awaiting::Payload(_) | Awaiting::Length(_) => {
                self.chunk = chunk;
                self.at = 0;
            }
        }
    }

    /// The next message; `None` until more bytes arrive. After an over-long length every poll
    /// returns the same error.
    #[inline]
    pub fn poll(&mut self) -> Option<Result<Bytes, FrameError>> {
        Some(self.step()?.map(|found| match found {
            Found::Whole(range) => self.chunk.slice(range),
            Found::Straddling => Bytes::from(core::mem::take(&mut self.partial)),
        }))
    }

    /// As [`Decoder::poll`], but lends the message until the next call: no reference count is
    /// touched, and straddling messages share one buffer.
    #[inline]
    pub fn poll_slice(&mut self) -> Option<Result<&[u8], FrameError>> {
        Some(match self.step()? {
            Ok(Found::Whole(range)) => Ok(&self.chunk[range]),
            Ok(Found::Straddling) => Ok(&self.partial),
            Err(error) => Err(error),
        })
    }

    /// The stream ended: was that between two messages? Poll until `None` first.
    pub fn end(&self) -> Result<(), FrameError> {
        match self.awaiting {
            Awaiting::Desynchronised(claimed) => Err(self.desynchronised(claimed)),
            Awaiting::Payload(_) => Err(FrameError::Truncated { have: PREFIX_LEN + self.buffered() }),
            Awaiting::Length(_) => match self.buffered() {
                0 => Ok(()),
                have => Err(FrameError::Truncated { have }),
            },
        }
    }

    /// Bytes that arrived and belong to no message handed out yet (a length already read is not
    /// counted). The owner stops reading the stream when it is too much.
    pub fn buffered(&self) -> usize {
        let held = match self.awaiting {
            Awaiting::Length(prefix) => prefix.len(),
            Awaiting::Payload(_) => self.partial.len(),
            Awaiting::Desynchronised(_) => 0,
        };
        held + (self.chunk.len() - self.at) + self.backlog.len()
    }

    /// What was dropped.
    pub fn counters(&self) -> &DecoderCounters {
        &self.counters
    }

    /// Moves to the next complete message.
    #[inline]
    fn step(&mut self) -> Option<Result<Found, FrameError>> {
        if let Some(length) = self.awaiting.whole(&self.chunk[self.at..], self.max) {
            let from = self.at + PREFIX_LEN;
            self.at = from + length;
            return Some(Ok(Found::Whole(from..self.at)));
        }
        self.step_by_parts()
    }

    /// The same for a frame that does not lie whole in the chunk.
    fn step_by_parts(&mut self) -> Option<Result<Found, FrameError>> {
        loop {
            match self.awaiting {
                Awaiting::Length(prefix) => {
                    let (next, taken) = prefix.absorb(&self.chunk[self.at..], self.max);
                    self.at += taken;
                    self.awaiting = next;
                    match next {
                        Awaiting::Length(_) => self.refill()?,
                        Awaiting::Payload(_) => self.partial.clear(),
                        Awaiting::Desynchronised(_) => self.on_desynchronised(),
                    }
                }
                Awaiting::Payload(length) => {
                    if let Some(found) = self.on_payload(length as usize) {
                        self.awaiting = self.awaiting.on_message();
                        return Some(Ok(found));
                    }
                    self.refill()?;
                }
                Awaiting::Desynchronised(claimed) => return Some(Err(self.desynchronised(claimed))),
            }
        }
    }

    /// Finds a payload of `length` bytes in the chunk, or moves what there is of it to `partial`.
    #[inline]
    fn on_payload(&mut self, length: usize) -> Option<Found> {
        let from = self.at;
        let present = self.chunk.len() - from;
        if self.partial.is_empty() && present >= length {
            self.at += length;
            return Some(Found::Whole(from..self.at));
        }
        if present == 0 {
            return None;
        }
        let taken = present.min(length - self.partial.len());
        self.at += taken;
        extend(&mut self.partial, &self.chunk[from..self.at], length);
        (self.partial.len() == length).then_some(Found::Straddling)
    }

    /// The chunk is used up: takes the next one, or lets go of what an idle decoder need not keep.
    #[inline]
    fn refill(&mut self) -> Option<()> {
        debug_assert_eq!(self.at, self.chunk.len(), "a chunk is read to its end");
        if let Some(next) = self.backlog.pop() {
            self.chunk = next;
            self.at = 0;
            return Some(());
        }
        if self.at > 0 {
            self.chunk = Bytes::new();
            self.at = 0;
        }
        if self.partial.capacity() > RETAINED_MAX && matches!(self.awaiting, Awaiting::Length(_)) {
            self.partial = Vec::new();
        }
        None
    }

    /// Whether everything that was pushed has been read.
    #[inline]
    fn is_drained(&self) -> bool {
        self.at == self.chunk.len() && self.backlog.len() == 0
    }

    /// Drops everything that waits: nobody can say what it means.
    #[cold]
    fn on_desynchronised(&mut self) {
        self.counters.over_long += 1;
        self.counters.discarded_bytes += self.buffered() as u64;
        self.chunk = Bytes::new();
        self.at = 0;
        self.backlog.clear();
        self.partial = Vec::new();
    }

    #[cold]
    fn desynchronised(&self, claimed: u32) -> FrameError {
        FrameError::Desynchronised { claimed, max: self.max }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("awaiting", &self.awaiting)
            .field("buffered", &self.buffered())
            .field("counters", &self.counters)
            .finish()
    }
}

/// Appends `bytes` of a message of `length` bytes. Room grows by doubling, never past the message.
#[inline]
fn extend(partial: &mut Vec<u8>, bytes: &[u8], length: usize) {
    let needed = partial.len() + bytes.len();
    debug_assert!(needed <= length, "a message never holds bytes of the next");
    if needed > partial.capacity() {
        grow(partial, needed, length);
    }
    partial.extend_from_slice(bytes);
}

#[cold]
fn grow(partial: &mut Vec<u8>, needed: usize, length: usize) {
    let target = (2 * needed).max(FIRST).min(length);
    partial.reserve_exact(target - partial.len());
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
