//! Appending, and going back to patch.

use alloc::vec::Vec;

/// Appends to a borrowed `Vec`. It allocates only when the `Vec` has no room left, so a caller that
/// keeps its `Vec` pays once.
///
/// Integers are big-endian, the network's order, unless the method's name ends in `_le`. Positions
/// count from where this writer began, whatever stood in the `Vec` before.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    /// Appends behind what `out` holds.
    #[inline]
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self { out, start }
    }

    /// Appends `bytes`.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends `n` zero bytes.
    #[inline]
    pub fn zeros(&mut self, n: usize) {
        self.out.resize(self.out.len() + n, 0);
    }

    /// Appends one byte.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// Appends two bytes, most significant first.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    /// Appends four bytes, most significant first.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Appends eight bytes, most significant first.
    #[inline]
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// Appends two bytes, least significant first.
    #[inline]
    pub fn u16_le(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends four bytes, least significant first.
    #[inline]
    pub fn u32_le(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends eight bytes, least significant first.
    #[inline]
    pub fn u64_le(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Overwrites the two bytes at `at`, most significant first.
    ///
    /// # Panics
    ///
    /// When they have not been written yet.
    #[inline]
    pub fn patch_u16(&mut self, at: usize, value: u16) {
        self.out[self.start + at..][..2].copy_from_slice(&value.to_be_bytes());
    }

    /// Overwrites the four bytes at `at`, most significant first.
    ///
    /// # Panics
    ///
    /// When they have not been written yet.
    #[inline]
    pub fn patch_u32(&mut self, at: usize, value: u32) {
        self.out[self.start + at..][..4].copy_from_slice(&value.to_be_bytes());
    }

    /// How many bytes this writer has appended.
    #[inline]
    pub fn position(&self) -> usize {
        self.out.len() - self.start
    }

    /// What this writer has appended.
    #[inline]
    pub fn written(&self) -> &[u8] {
        &self.out[self.start..]
    }

    /// What this writer has appended, for as long as the `Vec` was lent.
    #[inline]
    pub fn into_written(self) -> &'a [u8] {
        &self.out[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn positions_count_from_where_the_writer_began() {
        let mut out = vec![0xff; 3];
        let mut writer = Writer::new(&mut out);
        let length = writer.position();
        writer.u16(0);
        writer.zeros(3);
        writer.patch_u16(length, 3);
        assert_eq!((writer.position(), writer.written()), (5, &[0, 3, 0, 0, 0][..]));
        writer.patch_u32(1, 0x0a0b_0c0d);
        assert_eq!(writer.into_written(), [0, 0x0a, 0x0b, 0x0c, 0x0d]);
        assert_eq!(out[..3], [0xff; 3]);
    }

    #[test]
    fn writing_into_capacity_does_not_move_the_storage() {
        let mut out = Vec::with_capacity(16);
        let before = out.as_ptr();
        let mut writer = Writer::new(&mut out);
        writer.u64(1);
        writer.u64_le(2);
        assert_eq!((out.as_ptr(), out.len()), (before, 16));
    }
}
