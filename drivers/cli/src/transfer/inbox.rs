//! Bytes from a stream, taken out as notes, as digests, or as they came.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::note::{Breach, NOTE_MAX};

/// What has arrived and was not taken yet. It holds what its owner pushed, and nothing else: memory
/// grows with bytes that arrived, never with a length that somebody claimed.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    chunks: VecDeque<Bytes>,
    length: usize,
}

impl Inbox {
    /// Adds what just arrived.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.length += chunk.len();
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The next note, if it is whole.
    pub(crate) fn note(&mut self) -> Result<Option<Bytes>, Breach> {
        let Some(length) = self.peek_length() else { return Ok(None) };
        if length > NOTE_MAX {
            return Err(Breach::TooLong(length));
        }
        Ok(self.exactly(2 + length).map(|note| note.slice(2..)))
    }

    /// The next `count` bytes, if so many are here.
    pub(crate) fn exactly(&mut self, count: usize) -> Option<Bytes> {
        if self.length < count {
            return None;
        }
        if let Some(first) = self.chunks.front()
            && first.len() >= count
        {
            return self.chunk(count);
        }
        let mut joined = BytesMut::with_capacity(count);
        while joined.len() < count {
            joined.extend_from_slice(&self.chunk(count - joined.len())?);
        }
        Some(joined.freeze())
    }

    /// The next bytes as they came, at most `max` of them.
    pub(crate) fn chunk(&mut self, max: usize) -> Option<Bytes> {
        let first = self.chunks.front_mut().filter(|_| max > 0)?;
        let taken = first.split_to(first.len().min(max));
        if first.is_empty() {
            self.chunks.pop_front();
        }
        self.length -= taken.len();
        Some(taken)
    }

    fn peek_length(&self) -> Option<usize> {
        let mut bytes = self.chunks.iter().flatten();
        Some(usize::from(u16::from_be_bytes([*bytes.next()?, *bytes.next()?])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn notes_come_out_whole_however_they_were_cut(
            notes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..6),
            cut in 1usize..40,
        ) {
            let mut wire = Vec::new();
            for note in &notes {
                wire.extend_from_slice(&(note.len() as u16).to_be_bytes());
                wire.extend_from_slice(note);
            }
            let (mut inbox, mut read) = (Inbox::default(), Vec::new());
            for chunk in wire.chunks(cut) {
                inbox.push(Bytes::copy_from_slice(chunk));
                while let Some(note) = inbox.note().unwrap() {
                    read.push(note.to_vec());
                }
            }
            prop_assert_eq!(read, notes);
            prop_assert!(inbox.is_empty());
        }
    }

    #[test]
    fn a_claimed_length_beyond_the_limit_is_refused_before_its_bytes_arrive() {
        let mut inbox = Inbox::default();
        inbox.push(Bytes::from_static(&[0xff, 0xff]));
        assert_eq!(inbox.note(), Err(Breach::TooLong(0xffff)));
    }
}
