//! Reading from front to back.

/// A cursor over borrowed bytes. Every read is all or nothing: on `None` the cursor has not moved.
///
/// Integers are big-endian, the network's order, unless the method's name ends in `_le`.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A cursor at the front of `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { whole: bytes, rest: bytes }
    }

    /// The next `n` bytes.
    #[inline]
    pub fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    /// The next `N` bytes, as an array.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(taken)
    }

    /// Passes over `n` bytes.
    #[inline]
    pub fn skip(&mut self, n: usize) -> Option<()> {
        self.bytes(n).map(|_| ())
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(|&[byte]| byte)
    }

    /// Two bytes, most significant first.
    #[inline]
    pub fn u16(&mut self) -> Option<u16> {
        self.array().copied().map(u16::from_be_bytes)
    }

    /// Four bytes, most significant first.
    #[inline]
    pub fn u32(&mut self) -> Option<u32> {
        self.array().copied().map(u32::from_be_bytes)
    }

    /// Eight bytes, most significant first.
    #[inline]
    pub fn u64(&mut self) -> Option<u64> {
        self.array().copied().map(u64::from_be_bytes)
    }

    /// Two bytes, least significant first.
    #[inline]
    pub fn u16_le(&mut self) -> Option<u16> {
        self.array().copied().map(u16::from_le_bytes)
    }

    /// Four bytes, least significant first.
    #[inline]
    pub fn u32_le(&mut self) -> Option<u32> {
        self.array().copied().map(u32::from_le_bytes)
    }

    /// Eight bytes, least significant first.
    #[inline]
    pub fn u64_le(&mut self) -> Option<u64> {
        self.array().copied().map(u64::from_le_bytes)
    }

    /// What has not been read, without reading it.
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes have been read.
    #[inline]
    pub const fn position(&self) -> usize {
        self.whole.len() - self.rest.len()
    }

    /// How many bytes have not been read.
    #[inline]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything has been read.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_byte_orders_read_the_same_bytes() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut reader = Reader::new(&bytes);
        assert_eq!((reader.u8(), reader.u16(), reader.u32()), (Some(1), Some(0x0203), Some(0x0405_0607)));
        assert_eq!(Reader::new(&bytes).u16_le(), Some(0x0201));
        assert_eq!(Reader::new(&bytes).u32_le(), Some(0x0403_0201));
        assert_eq!(Reader::new(&bytes).u64_le(), Some(0x0807_0605_0403_0201));
        assert_eq!(Reader::new(&bytes).u64(), Some(0x0102_0304_0506_0708));
    }

    #[test]
    fn a_short_read_leaves_the_cursor_where_it_was() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(
            (reader.u32(), reader.u64_le(), reader.bytes(4), reader.skip(4)),
            (None, None, None, None)
        );
        assert_eq!((reader.position(), reader.remaining()), (0, 3));
        assert_eq!((reader.u16(), reader.u16()), (Some(0x0102), None));
        assert_eq!((reader.position(), reader.rest(), reader.is_empty()), (2, &[3][..], false));
    }
}
