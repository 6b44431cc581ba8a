//! A TCP header over bytes that somebody else owns (RFC 9293 §3.1).

pub(crate) mod options;

use core::fmt;
use core::ops::{BitAnd, BitOr, BitOrAssign, Not};

use crate::{Sum, TcpOption, TcpOptions};

/// Bytes of a TCP header without options.
pub const TCP_HEADER: usize = 20;
/// Most bytes of TCP options (RFC 9293 §3.1: the data offset has four bits).
pub const TCP_OPTIONS_MAX: usize = 40;

/// The control bits of a segment.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpFlags(pub u16);

impl TcpFlags {
    /// No bit set.
    pub const NONE: Self = Self(0);
    /// No more data from sender.
    pub const FIN: Self = Self(0x001);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x002);
    /// Reset the connection.
    pub const RST: Self = Self(0x004);
    /// Push function.
    pub const PSH: Self = Self(0x008);
    /// The acknowledgement number is meant.
    pub const ACK: Self = Self(0x010);
    /// The urgent pointer is meant.
    pub const URG: Self = Self(0x020);
    /// ECN echo (RFC 3168 §6.1).
    pub const ECE: Self = Self(0x040);
    /// Congestion window reduced (RFC 3168 §6.1).
    pub const CWR: Self = Self(0x080);
    /// Accurate ECN (RFC 9768 §3.1).
    pub const AE: Self = Self(0x100);

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether one of `flags` is set.
    #[inline]
    pub const fn intersects(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }
}

impl BitOr for TcpFlags {
    type Output = Self;
    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for TcpFlags {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for TcpFlags {
    type Output = Self;
    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for TcpFlags {
    type Output = Self;
    /// All the bits that there are and that `self` does not have.
    #[inline]
    fn not(self) -> Self {
        Self(!self.0 & 0x1ff)
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 9] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE"];
        let mut names = NAMES.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        f.write_str(names.next().map_or("-", |(_, name)| name))?;
        names.try_for_each(|(_, name)| write!(f, "|{name}"))
    }
}

/// Why bytes are not a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MalformedTcp {
    /// There are fewer bytes than a header has, or than it says it has.
    Truncated,
    /// The data offset is less than five words.
    DataOffset,
}

impl fmt::Display for MalformedTcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "ends inside of the TCP header",
            Self::DataOffset => "has a TCP data offset of less than five words",
        })
    }
}

impl core::error::Error for MalformedTcp {}

/// A TCP segment over its bytes. With `&mut [u8]` its fields can be set in place; checksums are the caller's.
#[derive(Clone, Copy, Debug)]
pub struct TcpView<B> {
    bytes: B,
    header: usize,
}

// Each of these is a load or a store where the compiler sees through to the bytes, and a call otherwise.
#[allow(clippy::inline_always)]
impl<B: AsRef<[u8]>> TcpView<B> {
    /// A view over `bytes`, which begin with the TCP header and end with the payload.
    #[inline(always)]
    pub fn new(bytes: B) -> Result<Self, MalformedTcp> {
        let slice = bytes.as_ref();
        if slice.len() < TCP_HEADER {
            return Err(MalformedTcp::Truncated);
        }
        let header = usize::from(slice[12] >> 4) * 4;
        if header < TCP_HEADER {
            return Err(MalformedTcp::DataOffset);
        }
        if header > slice.len() {
            return Err(MalformedTcp::Truncated);
        }
        Ok(Self { bytes, header })
    }

    #[inline(always)]
    fn fixed(&self) -> &[u8; TCP_HEADER] {
        self.bytes.as_ref().first_chunk().expect("`new` saw a whole header")
    }

    /// The whole segment.
    #[inline(always)]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The bytes that were lent.
    pub fn into_inner(self) -> B {
        self.bytes
    }

    /// The port it comes from.
    #[inline(always)]
    pub fn source_port(&self) -> u16 {
        let [a, b, ..] = self.fixed();
        u16::from_be_bytes([*a, *b])
    }

    /// The port it goes to.
    #[inline(always)]
    pub fn destination_port(&self) -> u16 {
        let [_, _, a, b, ..] = self.fixed();
        u16::from_be_bytes([*a, *b])
    }

    /// Both ports in one number, the source's in the upper half.
    #[inline(always)]
    pub fn ports(&self) -> u32 {
        let [a, b, c, d, ..] = self.fixed();
        u32::from_be_bytes([*a, *b, *c, *d])
    }

    /// SEG.SEQ.
    #[inline(always)]
    pub fn seq(&self) -> u32 {
        let [_, _, _, _, a, b, c, d, ..] = self.fixed();
        u32::from_be_bytes([*a, *b, *c, *d])
    }

    /// SEG.ACK. It means something only with [`TcpFlags::ACK`].
    #[inline(always)]
    pub fn ack(&self) -> u32 {
        let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = self.fixed();
        u32::from_be_bytes([*a, *b, *c, *d])
    }

    /// The control bits.
    #[inline(always)]
    pub fn flags(&self) -> TcpFlags {
        let header = self.fixed();
        TcpFlags(u16::from_be_bytes([header[12], header[13]]) & 0x1ff)
    }

    /// SEG.WND as it is written: not scaled.
    #[inline(always)]
    pub fn window(&self) -> u16 {
        let header = self.fixed();
        u16::from_be_bytes([header[14], header[15]])
    }

    /// The checksum field.
    #[inline(always)]
    pub fn checksum(&self) -> u16 {
        let header = self.fixed();
        u16::from_be_bytes([header[16], header[17]])
    }

    /// SEG.UP. It means something only with [`TcpFlags::URG`].
    #[inline(always)]
    pub fn urgent(&self) -> u16 {
        let header = self.fixed();
        u16::from_be_bytes([header[18], header[19]])
    }

    /// Bytes of the header with its options: 20 to 60, and never more than there are.
    #[inline(always)]
    pub const fn header_len(&self) -> usize {
        self.header
    }

    /// The bytes of the options.
    #[inline(always)]
    pub fn option_bytes(&self) -> &[u8] {
        &self.bytes.as_ref()[TCP_HEADER..self.header]
    }

    /// The options, one by one. Their offsets count from the first byte of the TCP header.
    #[inline(always)]
    pub fn options(&self) -> TcpOptions<'_> {
        TcpOptions::new(self.option_bytes(), TCP_HEADER)
    }

    /// TSval and TSecr (RFC 7323 §3.2), of the first such option.
    pub fn timestamps(&self) -> Option<(u32, u32)> {
        self.options().flatten().find_map(|(_, option)| match option {
            TcpOption::Timestamps { value, echo } => Some((value, echo)),
            TcpOption::EndOfList
            | TcpOption::NoOperation
            | TcpOption::MaximumSegmentSize(_)
            | TcpOption::WindowScale(_)
            | TcpOption::SackPermitted
            | TcpOption::Sack(_)
            | TcpOption::FastOpen(_)
            | TcpOption::Md5
            | TcpOption::Ao
            | TcpOption::Mptcp
            | TcpOption::Other { .. } => None,
        })
    }

    /// What comes behind the header.
    #[inline(always)]
    pub fn payload(&self) -> &[u8] {
        &self.bytes.as_ref()[self.header..]
    }

    /// SEG.LEN: payload, and one each for SYN and FIN.
    #[inline(always)]
    pub fn seq_len(&self) -> u32 {
        let flags = self.flags();
        let controls = flags.contains(TcpFlags::SYN) as u32 + flags.contains(TcpFlags::FIN) as u32;
        self.payload().len() as u32 + controls
    }

    /// The checksum that this segment should have behind the pseudo-header that `pseudo_header` has summed.
    pub fn computed_checksum(&self, pseudo_header: Sum) -> u16 {
        let bytes = self.bytes.as_ref();
        pseudo_header.bytes(&bytes[..16]).bytes(&bytes[18..]).finish()
    }
}

#[allow(clippy::inline_always)] // As above.
impl<B: AsRef<[u8]> + AsMut<[u8]>> TcpView<B> {
    #[inline(always)]
    fn fixed_mut(&mut self) -> &mut [u8; TCP_HEADER] {
        self.bytes.as_mut().first_chunk_mut().expect("`new` saw a whole header")
    }

    /// The whole segment, to be changed. The data offset has to stay what it is.
    #[inline(always)]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes.as_mut()
    }

    /// Sets SEG.SEQ.
    #[inline(always)]
    pub fn set_seq(&mut self, seq: u32) {
        self.fixed_mut()[4..8].copy_from_slice(&seq.to_be_bytes());
    }

    /// Sets SEG.ACK.
    #[inline(always)]
    pub fn set_ack(&mut self, ack: u32) {
        self.fixed_mut()[8..12].copy_from_slice(&ack.to_be_bytes());
    }

    /// Sets the control bits and leaves the data offset and the reserved bits.
    #[inline(always)]
    pub fn set_flags(&mut self, flags: TcpFlags) {
        let header = self.fixed_mut();
        let kept = u16::from_be_bytes([header[12], header[13]]) & !0x1ff;
        header[12..14].copy_from_slice(&(kept | flags.0 & 0x1ff).to_be_bytes());
    }

    /// Sets SEG.WND.
    #[inline(always)]
    pub fn set_window(&mut self, window: u16) {
        self.fixed_mut()[14..16].copy_from_slice(&window.to_be_bytes());
    }

    /// Sets the checksum field.
    #[inline(always)]
    pub fn set_checksum(&mut self, checksum: u16) {
        self.fixed_mut()[16..18].copy_from_slice(&checksum.to_be_bytes());
    }

    /// The bytes of the options, to be changed.
    #[inline(always)]
    pub fn option_bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes.as_mut()[TCP_HEADER..self.header]
    }
}
