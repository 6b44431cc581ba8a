//! TCP options: reading them where they are, and writing a list of them.

use core::fmt;

use crate::TCP_OPTIONS_MAX;

const END_OF_LIST: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
const MD5: u8 = 19;
const AO: u8 = 29;
const MPTCP: u8 = 30;
const FAST_OPEN: u8 = 34;

/// The largest shift that a window can have; larger ones count as this (RFC 7323 §2.3).
pub const WINDOW_SHIFT_MAX: u8 = 14;

/// One option of a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// Kind 0: nothing follows.
    EndOfList,
    /// Kind 1: a byte of nothing.
    NoOperation,
    /// Kind 2 (RFC 9293 §3.7.1).
    MaximumSegmentSize(u16),
    /// Kind 3: how far windows are shifted (RFC 7323 §2). As written: it may be over [`WINDOW_SHIFT_MAX`].
    WindowScale(u8),
    /// Kind 4 (RFC 2018 §2).
    SackPermitted,
    /// Kind 5 (RFC 2018 §3).
    Sack(SackBlocks<'a>),
    /// Kind 8 (RFC 7323 §3).
    Timestamps {
        /// TSval: the sender's clock.
        value: u32,
        /// TSecr: the receiver's clock, as the sender last heard it.
        echo: u32,
    },
    /// Kind 34: TCP Fast Open (RFC 7413 §4.1.1), with its cookie or the empty request for one.
    FastOpen(&'a [u8]),
    /// Kind 19: a signature over the segment (RFC 2385).
    Md5,
    /// Kind 29: an authentication code over the segment (RFC 5925).
    Ao,
    /// Kind 30 (RFC 8684).
    Mptcp,
    /// Any other kind.
    Other {
        /// Its number.
        kind: u8,
        /// What follows kind and length.
        bytes: &'a [u8],
    },
}

/// The blocks of a SACK option: bytes that arrived, as half-open ranges of sequence numbers. The first may
/// report a duplicate (RFC 2883).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SackBlocks<'a>(&'a [[u8; 8]]);

impl<'a> SackBlocks<'a> {
    /// How many blocks: up to four.
    pub const fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Left and right edge of each block, in the order in which they are written.
    pub fn edges(self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        self.0.iter().map(|block| halves(*block))
    }
}

/// Two numbers side by side.
const fn halves(both: [u8; 8]) -> (u32, u32) {
    let both = u64::from_be_bytes(both);
    ((both >> 32) as u32, both as u32)
}

/// Why an option cannot be read. What follows it cannot be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedOption {
    /// Its length does not fit its kind, or is less than the two bytes of kind and length.
    Length {
        /// Where it begins, counted like the offsets of options.
        at: usize,
        /// Its number.
        kind: u8,
    },
    /// It does not end where the options do or earlier.
    Truncated {
        /// Where it begins, counted like the offsets of options.
        at: usize,
        /// Its number.
        kind: u8,
    },
}

impl fmt::Display for MalformedOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { at, kind } => {
                write!(f, "TCP option {kind} at {at} has a length that it cannot have")
            }
            Self::Truncated { at, kind } => write!(f, "TCP option {kind} at {at} ends behind the header"),
        }
    }
}

impl core::error::Error for MalformedOption {}

/// The options of a header in the order in which they are written, each with the offset of its kind byte.
///
/// It ends behind [`TcpOption::EndOfList`], behind the last option, or behind one that is malformed.
#[derive(Clone, Debug)]
pub struct TcpOptions<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> TcpOptions<'a> {
    /// The options in `bytes`, whose first byte has the offset `at`.
    #[inline]
    pub const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { rest: bytes, at }
    }

    fn parse(kind: u8, bytes: &'a [u8]) -> Option<TcpOption<'a>> {
        Some(match (kind, bytes) {
            (MAXIMUM_SEGMENT_SIZE, [a, b]) => TcpOption::MaximumSegmentSize(u16::from_be_bytes([*a, *b])),
            (WINDOW_SCALE, [shift]) => TcpOption::WindowScale(*shift),
            (SACK_PERMITTED, []) => TcpOption::SackPermitted,
            (TIMESTAMPS, bytes) => {
                let (value, echo) = halves(bytes.try_into().ok()?);
                TcpOption::Timestamps { value, echo }
            }
            (SACK, blocks) => {
                let (blocks, []) = blocks.as_chunks::<8>() else { return None };
                TcpOption::Sack(SackBlocks(blocks))
            }
            (MAXIMUM_SEGMENT_SIZE | WINDOW_SCALE | SACK_PERMITTED, _) => return None,
            (FAST_OPEN, cookie) => TcpOption::FastOpen(cookie),
            (MD5, _) => TcpOption::Md5,
            (AO, _) => TcpOption::Ao,
            (MPTCP, _) => TcpOption::Mptcp,
            (kind, bytes) => TcpOption::Other { kind, bytes },
        })
    }

    fn step(&mut self, length: usize) -> usize {
        let at = self.at;
        self.rest = &self.rest[length..];
        self.at += length;
        at
    }
}

impl<'a> Iterator for TcpOptions<'a> {
    type Item = Result<(usize, TcpOption<'a>), MalformedOption>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let (&kind, behind) = self.rest.split_first()?;
        if kind == END_OF_LIST {
            self.rest = &[];
            return Some(Ok((at, TcpOption::EndOfList)));
        }
        if kind == NO_OPERATION {
            return Some(Ok((self.step(1), TcpOption::NoOperation)));
        }
        let length = behind.first().map(|length| usize::from(*length));
        let error = match length {
            Some(length) if length < 2 => MalformedOption::Length { at, kind },
            Some(length) if length <= self.rest.len() => match Self::parse(kind, &self.rest[2..length]) {
                Some(option) => return Some(Ok((self.step(length), option))),
                None => MalformedOption::Length { at, kind },
            },
            Some(_) | None => MalformedOption::Truncated { at, kind },
        };
        self.rest = &[];
        Some(Err(error))
    }
}

/// A list of options being written: at most [`TCP_OPTIONS_MAX`] bytes, and always a whole number of words.
///
/// What does not fit is left out, and [`TcpOptionList::is_full`] says so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TcpOptionList {
    bytes: [u8; TCP_OPTIONS_MAX],
    len: u8,
    full: bool,
}

impl TcpOptionList {
    /// No options.
    pub const fn new() -> Self {
        Self { bytes: [NO_OPERATION; TCP_OPTIONS_MAX], len: 0, full: false }
    }

    /// Appends the maximum segment size.
    #[must_use]
    pub fn maximum_segment_size(self, size: u16) -> Self {
        self.option(MAXIMUM_SEGMENT_SIZE, &size.to_be_bytes())
    }

    /// Appends a window scale.
    #[must_use]
    pub fn window_scale(self, shift: u8) -> Self {
        self.option(WINDOW_SCALE, &[shift])
    }

    /// Appends SACK-permitted.
    #[must_use]
    pub fn sack_permitted(self) -> Self {
        self.option(SACK_PERMITTED, &[])
    }

    /// Appends timestamps.
    #[must_use]
    pub fn timestamps(self, value: u32, echo: u32) -> Self {
        let both = (u64::from(value) << 32) | u64::from(echo);
        self.option(TIMESTAMPS, &both.to_be_bytes())
    }

    /// Appends a SACK option with up to four blocks.
    #[must_use]
    pub fn sack(self, blocks: &[(u32, u32)]) -> Self {
        let mut bytes = [0; 32];
        let used = blocks.len().min(4) * 8;
        for (slot, (left, right)) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(blocks) {
            *slot = ((u64::from(*left) << 32) | u64::from(*right)).to_be_bytes();
        }
        self.option(SACK, &bytes[..used])
    }

    /// Appends a Fast Open cookie, or the request for one if it is empty.
    #[must_use]
    pub fn fast_open(self, cookie: &[u8]) -> Self {
        self.option(FAST_OPEN, cookie)
    }

    /// Appends a byte of nothing.
    #[must_use]
    pub fn no_operation(self) -> Self {
        self.raw(&[NO_OPERATION])
    }

    /// Appends any option.
    #[must_use]
    pub fn option(self, kind: u8, bytes: &[u8]) -> Self {
        let mut whole = [0; TCP_OPTIONS_MAX];
        let length = bytes.len() + 2;
        let Some(room) = whole.get_mut(..length) else { return Self { full: true, ..self } };
        (room[0], room[1]) = (kind, length as u8);
        room[2..].copy_from_slice(bytes);
        self.raw(&whole[..length])
    }

    /// Appends bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        let start = usize::from(self.len);
        match self.bytes.get_mut(start..start + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len() as u8;
            }
            None => self.full = true,
        }
        self
    }

    /// Whether something did not fit and was left out.
    pub const fn is_full(&self) -> bool {
        self.full
    }

    /// The options, filled up to a whole word with no-operations.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len).next_multiple_of(4)]
    }
}

impl Default for TcpOptionList {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TcpOptionList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(TcpOptions::new(self.as_slice(), 0).flatten().map(|(_, option)| option))
            .finish()
    }
}
