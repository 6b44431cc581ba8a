//! The bytes of a frame: a length and that many bytes.

/// The length of the length. Bytes.
pub const PREFIX_LEN: usize = 4;

/// The largest message that is accepted unless the owner says otherwise: 100 MiB. A longer claim
/// desynchronises the decoder; a longer message is refused by the encoder.
pub const MESSAGE_MAX_DEFAULT: usize = 100 * 1024 * 1024;

/// The four bytes before a message of `len` bytes.
///
/// ```
/// assert_eq!(gimlet_frame::prefix(258), [0, 0, 1, 2]);
/// ```
pub const fn prefix(len: u32) -> [u8; PREFIX_LEN] {
    len.to_be_bytes()
}

/// A limit in bytes as the wire can express it.
pub(crate) const fn clamp_limit(max: usize) -> u32 {
    if max > u32::MAX as usize { u32::MAX } else { max as u32 }
}
