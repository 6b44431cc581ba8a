//! The buffer that a driver lends for output.

use alloc::vec::Vec;

/// The largest UDP payload over IPv4 or IPv6 without jumbograms, and so the largest train of
/// segments that the kernel takes in one call. Bytes.
pub const DATAGRAM_MAX: usize = 65_507;

/// A lent, initially empty output buffer with two limits: bytes, and datagrams in one train.
///
/// It wraps a `Vec` that the driver keeps, so a steady stream of datagrams allocates nothing.
#[derive(Debug)]
pub struct Buf<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
    segments_max: usize,
}

impl<'a> Buf<'a> {
    /// Lends `storage`, emptied, for one datagram of at most [`DATAGRAM_MAX`] bytes.
    pub fn new(storage: &'a mut Vec<u8>) -> Self {
        storage.clear();
        Self { bytes: storage, limit: DATAGRAM_MAX, segments_max: 1 }
    }

    /// Allows a train of up to `segments_max` datagrams (at least 1).
    #[must_use]
    pub fn with_segments_max(mut self, segments_max: usize) -> Self {
        self.segments_max = segments_max.max(1);
        self
    }

    /// Allows at most `limit` bytes in all (at most [`DATAGRAM_MAX`]).
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit.min(DATAGRAM_MAX);
        self
    }

    /// Lends the same storage onward to a child machine.
    pub fn reborrow(&mut self) -> Buf<'_> {
        Buf { bytes: self.bytes, limit: self.limit, segments_max: self.segments_max }
    }

    /// How many datagrams a train may hold; 1 means no trains.
    pub const fn segments_max(&self) -> usize {
        self.segments_max
    }

    /// Bytes that still fit.
    pub fn remaining(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends `bytes` if they fit, all or nothing; says whether they did.
    pub fn put(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= self.remaining();
        if fits {
            self.bytes.extend_from_slice(bytes);
        }
        fits
    }

    /// Appends what `write` appends, if that fits, all or nothing; says whether it did.
    pub fn fill(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let before = self.bytes.len();
        write(self.bytes);
        let fits = self.bytes.len() <= self.limit.max(before);
        if !fits {
            self.bytes.truncate(before);
        }
        fits
    }

    /// What has been written.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes
    }

    /// What has been written, for patching lengths and checksums.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes
    }

    /// Forgets everything after `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// The storage itself, for writers that append to a `Vec`. Whoever writes through it keeps
    /// within [`Buf::remaining`].
    pub fn vec(&mut self) -> &mut Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn put_is_all_or_nothing() {
        let mut storage = Vec::new();
        let mut buf = Buf::new(&mut storage).with_limit(4);
        assert!(buf.put(b"abc"));
        assert!(!buf.put(b"de"));
        assert_eq!((buf.as_slice(), buf.remaining()), (&b"abc"[..], 1));
    }

    #[test]
    fn fill_is_all_or_nothing() {
        let mut storage = Vec::new();
        let mut buf = Buf::new(&mut storage).with_limit(4);
        assert!(buf.fill(|bytes| bytes.extend_from_slice(b"abc")));
        assert!(!buf.fill(|bytes| bytes.extend_from_slice(b"de")));
        assert!(buf.fill(|bytes| bytes.push(b'd')));
        assert_eq!((buf.as_slice(), buf.remaining()), (&b"abcd"[..], 0));
    }

    #[test]
    fn a_lent_buffer_starts_empty_and_keeps_its_capacity() {
        let mut storage = Vec::with_capacity(64);
        Buf::new(&mut storage).put(b"first");
        assert!(Buf::new(&mut storage).is_empty());
        assert_eq!(storage.capacity(), 64);
    }
}
