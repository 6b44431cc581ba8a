//! As much of pcapng as recordings need: blocks and options, written in little-endian order and read again
//! (draft-ietf-opsawg-pcapng §3 and §4).

use std::io::{self, Read};

use super::RecordError;

/// The longest block that is read: four times the longest frame with the longest comments.
pub(crate) const BLOCK_MAX: usize = 1 << 20;
/// The longest option, bytes: its length is 16 bits.
pub(crate) const OPTION_MAX: usize = u16::MAX as usize;

/// Types of blocks.
pub(crate) const SECTION: u32 = 0x0a0d_0d0a;
pub(crate) const INTERFACE: u32 = 1;
pub(crate) const ENHANCED_PACKET: u32 = 6;

/// Says in which order the bytes of numbers are.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

/// Options of any block.
pub(crate) const COMMENT: u16 = 1;
const END_OF_OPTIONS: u16 = 0;
/// Options of a section.
pub(crate) const APPLICATION: u16 = 4;
/// Options of an interface: its name, the resolution of its time, and the seconds between its time and 1970.
pub(crate) const NAME: u16 = 2;
pub(crate) const RESOLUTION: u16 = 9;
pub(crate) const OFFSET: u16 = 14;
/// Options of a packet: its direction.
pub(crate) const FLAGS: u16 = 2;
pub(crate) const INBOUND: u32 = 1;
pub(crate) const OUTBOUND: u32 = 2;

/// Kinds of interfaces: Ethernet, and one for private use (`LINKTYPE_USER0`).
pub(crate) const ETHERNET: u16 = 1;
pub(crate) const PRIVATE: u16 = 147;
/// Nanoseconds: 10^-9.
pub(crate) const NANOSECONDS: u8 = 9;

/// Appends one block: what stands before its options, then them.
pub(crate) fn block(out: &mut Vec<u8>, kind: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    write(out);
    option(out, END_OF_OPTIONS, &[]);
    let length = ((out.len() - start + 4) as u32).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&length);
    out.extend_from_slice(&length);
}

/// Appends the fixed part of a section: byte order, version 1.0, a length that nobody has to know.
pub(crate) fn section(out: &mut Vec<u8>) {
    out.extend_from_slice(&BYTE_ORDER.to_le_bytes());
    out.extend_from_slice(&[1, 0, 0, 0]);
    out.extend_from_slice(&u64::MAX.to_le_bytes());
}

/// Appends the fixed part of an interface that never cuts frames short.
pub(crate) fn interface(out: &mut Vec<u8>, kind: u16) {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 6]);
}

/// Appends the fixed part of a packet, and its bytes.
pub(crate) fn packet(out: &mut Vec<u8>, interface: u32, ticks: u64, bytes: &[u8]) {
    let length = bytes.len() as u32;
    for word in [interface, (ticks >> 32) as u32, ticks as u32, length, length] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    padded(out, bytes);
}

/// Appends one option, cut off after [`OPTION_MAX`] bytes.
pub(crate) fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(OPTION_MAX)];
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    padded(out, value);
}

fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.resize(out.len() + padding(bytes.len()), 0);
}

const fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

/// Reads blocks one after the other into one buffer.
#[derive(Debug)]
pub(crate) struct Blocks<R> {
    from: R,
    bytes: Vec<u8>,
    /// Where the block in `bytes` begins in the file.
    at: u64,
    /// Where the next one does.
    next: u64,
}

impl<R: Read> Blocks<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, bytes: Vec::new(), at: 0, next: 0 }
    }

    /// Reads the next block: its type. `None`: the file ends here, and nothing is missing.
    pub(crate) fn advance(&mut self) -> Result<Option<u32>, RecordError> {
        self.at = self.next;
        self.bytes.clear();
        self.take(8)?;
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let begins = SECTION.to_le_bytes();
        if self.at == 0 && self.bytes.iter().zip(&begins).any(|(byte, begins)| byte != begins) {
            return Err(RecordError::NotARecording);
        }
        let [kind, length] = [0, 4].map(|at| self.word(at));
        let (kind, length) = (kind.ok_or_else(|| self.cut())?, length.ok_or_else(|| self.cut())?);
        if kind == SECTION {
            // The length of a section's block can only be read by who knows the order of its bytes.
            self.take(4)?;
            match self.word(8) {
                Some(BYTE_ORDER) => {}
                Some(word) if word == BYTE_ORDER.swap_bytes() => {
                    return Err(
                        self.damaged("its numbers are in big-endian order, which recordings never are")
                    );
                }
                Some(_) => return Err(RecordError::NotARecording),
                None => return Err(self.cut()),
            }
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= BLOCK_MAX);
        let Some(length) = length.filter(|length| length % 4 == 0 && *length >= self.bytes.len() + 4) else {
            return Err(self.damaged("a block has an impossible length"));
        };
        self.take(length - self.bytes.len())?;
        if self.bytes.len() < length {
            return Err(self.cut());
        }
        if self.word(length - 4) != Some(length as u32) {
            return Err(self.damaged("a block does not end with its length"));
        }
        self.next = self.at + length as u64;
        Ok(Some(kind))
    }

    /// A number in the fixed part of the block.
    pub(crate) fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?))
    }

    /// The bytes of the packet in this block, and where its options begin.
    pub(crate) fn packet(&self) -> Result<(&[u8], usize), RecordError> {
        let length = self.word(20).map_or(usize::MAX, |length| length as usize);
        let end = length.saturating_add(28);
        let bytes = self.bytes.get(28..end).filter(|_| end + padding(length) + 4 <= self.bytes.len());
        let bytes = bytes.ok_or_else(|| self.damaged("a frame is longer than its block"))?;
        if self.word(24) != self.word(20) {
            return Err(self.damaged("a frame was cut short by whoever wrote this file"));
        }
        Ok((bytes, end + padding(length)))
    }

    /// The options from `at` on.
    pub(crate) fn options(&self, at: usize) -> Options<'_> {
        let end = self.bytes.len().saturating_sub(4);
        Options { rest: self.bytes.get(at..end).unwrap_or(&[]) }
    }

    /// What is wrong with the block in hand.
    pub(crate) fn damaged(&self, why: &'static str) -> RecordError {
        RecordError::Damaged { at: self.at, why }
    }

    fn cut(&self) -> RecordError {
        RecordError::Cut { at: self.at }
    }

    /// Reads up to `more` bytes; memory grows with those that come, not with those that are claimed.
    fn take(&mut self, more: usize) -> Result<(), RecordError> {
        let mut limited = self.from.by_ref().take(more as u64);
        match limited.read_to_end(&mut self.bytes) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(RecordError::Io(error)),
        }
    }
}

/// Options in their order. `None` within: the next one does not fit into its block.
#[derive(Clone, Debug)]
pub(crate) struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = Option<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.rest.split_first_chunk::<4>()?;
        let code = u16::from_le_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        if code == END_OF_OPTIONS {
            self.rest = &[];
            return None;
        }
        let Some(value) = rest.get(..length) else {
            self.rest = &[];
            return Some(None);
        };
        self.rest = rest.get(length + padding(length)..).unwrap_or(&[]);
        Some(Some((code, value)))
    }
}
