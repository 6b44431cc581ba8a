//! Messages over streams (RFC 8489 §6.2.2), and ChannelData beside them (RFC 8656 §12.4–12.5).
//!
//! STUN needs no framing of its own: both kinds of frame say their length in the first four bytes,
//! and the first two bits say which kind it is. On a stream every frame ends on a multiple of four
//! bytes; in a datagram ChannelData may do without the padding.

use alloc::vec::Vec;
use core::fmt;

use gimlet_wire::{Reader, Writer};

use crate::header::{HEADER_LEN, MAGIC_COOKIE};

/// The longest frame on a stream, padding included. Bytes. A longer one is refused as soon as its
/// first four bytes have arrived, so this is also the most that a [`Framer`] holds.
pub const FRAME_MAX: usize = 65_536;

/// Channel numbers (RFC 8656 §12): the first byte is 0x40 to 0x4F.
const CHANNELS: core::ops::RangeInclusive<u16> = 0x4000..=0x4fff;

/// Number and length in front of ChannelData. Bytes.
const CHANNEL_HEADER_LEN: usize = 4;

/// Where the cookie of a STUN message ends. Bytes.
const COOKIE_END: usize = 8;

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole STUN message, for [`Message::parse`](crate::Message::parse).
    Message(&'a [u8]),
    /// A datagram to or from the peer of a channel.
    ChannelData(ChannelData<'a>),
}

/// ChannelData: a datagram behind a header of four bytes (RFC 8656 §12.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelData<'a> {
    /// 0x4000 to 0x4FFF: bound to a peer by ChannelBind.
    pub number: u16,
    /// The datagram.
    pub data: &'a [u8],
}

impl<'a> ChannelData<'a> {
    /// Reads a datagram that holds ChannelData. `None`: the number is no channel's, or the length
    /// says more than arrived. What follows the data is padding and ignored (RFC 8656 §12.5).
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(datagram);
        let number = reader.u16().filter(|number| CHANNELS.contains(number))?;
        let length = usize::from(reader.u16()?);
        Some(Self { number, data: reader.bytes(length)? })
    }

    /// Appends it to `out`, unpadded, as a datagram.
    ///
    /// # Panics
    ///
    /// When the number is no channel's or the data is longer than the length field can say: the
    /// caller's mistakes.
    pub fn write(&self, out: &mut Vec<u8>) {
        assert!(CHANNELS.contains(&self.number), "{:#06x} is no channel number", self.number);
        let length = u16::try_from(self.data.len()).expect("ChannelData holds at most 65,535 bytes");
        let mut writer = Writer::new(out);
        writer.u16(self.number);
        writer.u16(length);
        writer.bytes(self.data);
    }

    /// Appends it to `out`, padded, for a stream. Panics as [`ChannelData::write`] does.
    pub fn write_padded(&self, out: &mut Vec<u8>) {
        self.write(out);
        Writer::new(out).zeros(self.data.len().next_multiple_of(4) - self.data.len());
    }
}

/// Why a stream cannot be read on. There is no way back into step: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// A frame begins with neither a STUN message nor a channel number.
    NotFraming,
    /// A frame longer than [`FRAME_MAX`].
    TooLong {
        /// How long it says it is, padding included.
        len: usize,
    },
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FramingError::NotFraming => {
                f.write_str("the stream carries neither STUN nor ChannelData: close the connection")
            }
            FramingError::TooLong { len } => {
                write!(f, "a frame of {len} bytes is more than {FRAME_MAX}: close the connection")
            }
        }
    }
}

impl core::error::Error for FramingError {}

/// Cuts a stream into frames. A frame that lies whole in a chunk is borrowed from it; only one that
/// straddles chunks is put together in the framer, which holds at most [`FRAME_MAX`] bytes and grows
/// with what arrives, whatever the length field says.
///
/// ```
/// use gimlet_stun::{Frame, Framer};
///
/// let stream = b"\x00\x01\x00\x00\x21\x12\xa4\x42twelve bytes\x40\x00\x00\x02hi\x00\x00";
/// let (mut framer, mut frames) = (Framer::new(), 0);
/// for mut chunk in stream.chunks(7) {
///     while let Some(frame) = framer.poll(&mut chunk).unwrap() {
///         frames += 1;
///         match frame {
///             Frame::Message(bytes) => assert!(gimlet_stun::is_stun(bytes)),
///             Frame::ChannelData(channel) => assert_eq!(channel.data, b"hi"),
///         }
///     }
/// }
/// assert_eq!(frames, 2);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// The front of a frame whose end has not arrived.
    held: Vec<u8>,
    /// The frame in `held` was handed out and makes way for the next.
    done: bool,
    failed: Option<FramingError>,
}

impl Framer {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next frame off the front of `chunk`. `Ok(None)`: the chunk is used up and more must
    /// arrive. After an error every call returns it again.
    pub fn poll<'f, 'c: 'f>(&'f mut self, chunk: &mut &'c [u8]) -> Result<Option<Frame<'f>>, FramingError> {
        if core::mem::take(&mut self.done) {
            self.held.clear();
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.held.is_empty().then(|| need(chunk)).transpose() {
            Ok(Some(len)) if len <= chunk.len() => {
                let (bytes, rest) = chunk.split_at(len);
                *chunk = rest;
                Ok(Some(frame(bytes)))
            }
            Ok(_) => self.assemble(chunk),
            Err(error) => self.fail(error),
        }
    }

    /// How many bytes of an unfinished frame are held.
    pub fn held(&self) -> usize {
        if self.done { 0 } else { self.held.len() }
    }

    /// Moves bytes from `chunk` until the held frame is whole: first enough to know its length, then
    /// the rest.
    fn assemble(&mut self, chunk: &mut &[u8]) -> Result<Option<Frame<'_>>, FramingError> {
        loop {
            let len = match need(&self.held) {
                Ok(len) => len,
                Err(error) => return self.fail(error),
            };
            debug_assert!(len <= FRAME_MAX, "longer frames are refused");
            if len <= self.held.len() {
                self.done = true;
                return Ok(Some(frame(&self.held)));
            }
            let (taken, rest) = chunk.split_at(chunk.len().min(len - self.held.len()));
            if taken.is_empty() {
                return Ok(None);
            }
            self.held.extend_from_slice(taken);
            *chunk = rest;
        }
    }

    fn fail(&mut self, error: FramingError) -> Result<Option<Frame<'_>>, FramingError> {
        self.held = Vec::new();
        self.failed = Some(error);
        Err(error)
    }
}

/// How many bytes it takes to get further with a frame that begins with `bytes`: to know its length
/// if that cannot be known yet, and otherwise its length. If that many are there, it is whole.
fn need(bytes: &[u8]) -> Result<usize, FramingError> {
    let is_stun = match bytes.first() {
        None => return Ok(CHANNEL_HEADER_LEN),
        Some(0x00..=0x3f) => true,
        Some(0x40..=0x4f) => false,
        Some(_) => return Err(FramingError::NotFraming),
    };
    let Some((&[_, _, l0, l1], rest)) = bytes.split_first_chunk() else { return Ok(CHANNEL_HEADER_LEN) };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if is_stun {
        // The cookie comes before the length is believed: 64 KiB is much to wait for on the word of
        // two bits.
        let Some(cookie) = rest.first_chunk() else { return Ok(COOKIE_END) };
        if u32::from_be_bytes(*cookie) != MAGIC_COOKIE || !length.is_multiple_of(4) {
            return Err(FramingError::NotFraming);
        }
    }
    let header = if is_stun { HEADER_LEN } else { CHANNEL_HEADER_LEN };
    let len = header + length.next_multiple_of(4);
    if len <= FRAME_MAX { Ok(len) } else { Err(FramingError::TooLong { len }) }
}

/// A whole frame, as [`need`] measured it.
fn frame(bytes: &[u8]) -> Frame<'_> {
    ChannelData::parse(bytes).map_or(Frame::Message(bytes), Frame::ChannelData)
}
