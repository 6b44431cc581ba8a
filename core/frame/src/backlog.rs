//! Chunks that wait behind the one being read.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

/// A chunk shorter than this is copied together with its neighbours: a handle and an allocation per
/// chunk would outweigh its bytes.
const SMALL: usize = 128;

/// Chunks in order of arrival. Its memory is at most a small multiple of the bytes in it, however
/// they were cut. Unbounded in bytes: the decoder's owner watches [`crate::Decoder::buffered`].
#[derive(Default)]
pub(crate) struct Backlog {
    chunks: VecDeque<Bytes>,
    /// Small chunks, run together; they come after `chunks`.
    tail: Vec<u8>,
    len: usize,
}

impl Backlog {
    /// Appends a chunk.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len();
        if chunk.len() < SMALL {
            self.tail.extend_from_slice(&chunk);
            return;
        }
        self.seal();
        self.chunks.push_back(chunk);
    }

    /// Removes the oldest chunk.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if self.len == 0 { None } else { self.pop_waiting() }
    }

    fn pop_waiting(&mut self) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.seal();
        }
        let chunk = self.chunks.pop_front()?;
        debug_assert!(!chunk.is_empty(), "an empty chunk is never kept");
        self.len -= chunk.len();
        Some(chunk)
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes waiting.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes the run of small chunks a chunk.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(Bytes::from(core::mem::take(&mut self.tail)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_whatever_the_sizes() {
        let mut backlog = Backlog::default();
        let (mut expected, mut actual) = (Vec::new(), Vec::new());
        for (n, size) in [1, 127, 128, 0, 3, 500, 500, 2].into_iter().enumerate() {
            let chunk = alloc::vec![n as u8; size];
            expected.extend_from_slice(&chunk);
            backlog.push(chunk.into());
        }
        assert_eq!(backlog.len(), expected.len());
        while let Some(chunk) = backlog.pop() {
            actual.extend_from_slice(&chunk);
        }
        assert_eq!((actual, backlog.len()), (expected, 0));
    }

    #[test]
    fn tiny_chunks_share_one_handle() {
        let mut backlog = Backlog::default();
        (0..10_000).for_each(|_| backlog.push(Bytes::from_static(b"x")));
        assert_eq!(backlog.pop().map(|chunk| chunk.len()), Some(10_000));
        assert!(backlog.pop().is_none());
    }
}
