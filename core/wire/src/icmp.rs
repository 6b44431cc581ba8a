//! ICMP errors and the packets that they quote (RFC 792, RFC 4443).

use crate::{Fragment, Layout, Malformed, Network, TcpFlags, Transport};

/// Bytes of an ICMP error before the packet that it quotes.
pub const ICMP_HEADER: usize = 8;

/// What an ICMP error says, as far as a connection wants to know (RFC 5461 §3, RFC 9293 §3.9.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IcmpError {
    /// Nobody listens on the port.
    PortUnreachable,
    /// The host does not speak the protocol.
    ProtocolUnreachable,
    /// Somebody forbids it.
    Prohibited,
    /// The packet does not fit the next hop, which takes this many bytes; 0 if the hop does not say.
    PacketTooBig {
        /// Bytes of the largest packet, IP header included.
        mtu: u32,
    },
    /// There is no way to the host or network, for the moment.
    Unreachable,
    /// The packet came around too many corners, or its fragments did not all arrive.
    TimeExceeded,
    /// Somebody could not read a header.
    ParameterProblem,
    /// An error of another type.
    Other(u8),
}

impl IcmpError {
    fn v4(kind: u8, code: u8, rest: [u8; 4]) -> Option<Self> {
        let [_, _, high, low] = rest;
        Some(match (kind, code) {
            (3, 2) => Self::ProtocolUnreachable,
            (3, 3) => Self::PortUnreachable,
            // RFC 1191 §4: the next hop's MTU is in the lower half of the word.
            (3, 4) => Self::PacketTooBig { mtu: u32::from(u16::from_be_bytes([high, low])) },
            (3, 9 | 10 | 13) => Self::Prohibited,
            (3, _) => Self::Unreachable,
            (11, _) => Self::TimeExceeded,
            (12, _) => Self::ParameterProblem,
            // Source quench and redirect quote packets too.
            (4 | 5, _) => Self::Other(kind),
            (_, _) => return None,
        })
    }

    fn v6(kind: u8, code: u8, rest: [u8; 4]) -> Option<Self> {
        Some(match (kind, code) {
            (1, 1 | 5 | 6) => Self::Prohibited,
            (1, 4) => Self::PortUnreachable,
            (1, _) => Self::Unreachable,
            (2, _) => Self::PacketTooBig { mtu: u32::from_be_bytes(rest) },
            (3, _) => Self::TimeExceeded,
            (4, 1) => Self::ProtocolUnreachable,
            (4, _) => Self::ParameterProblem,
            // RFC 4443 §2.1: errors have types below 128.
            (0..128, _) => Self::Other(kind),
            (_, _) => return None,
        })
    }

    /// Whether it is one of the errors that end an attempt to connect; the others may pass (RFC 9293
    /// §3.9.2.2).
    pub const fn is_hard(self) -> bool {
        match self {
            Self::PortUnreachable | Self::ProtocolUnreachable | Self::Prohibited => true,
            Self::PacketTooBig { .. }
            | Self::Unreachable
            | Self::TimeExceeded
            | Self::ParameterProblem
            | Self::Other(_) => false,
        }
    }
}

/// An ICMP error and the packet that it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpQuote {
    /// What it says.
    pub error: IcmpError,
    /// The quoted packet. Its offsets count from the first byte of the frame, like those of the frame's own
    /// layout.
    pub packet: Layout,
}

impl IcmpQuote {
    /// The quote in a frame whose layout is `layout`; `None` if it is not an ICMP error.
    pub fn of(frame: &[u8], layout: &Layout) -> Result<Option<Self>, Malformed> {
        let range = layout.transport_range();
        if !matches!(layout.transport, Transport::Icmp | Transport::Icmpv6)
            || layout.fragment != Fragment::Whole
        {
            return Ok(None);
        }
        let message = frame.get(range.clone()).ok_or(Malformed::Truncated)?;
        let [kind, code, _, _, rest @ ..] =
            message.first_chunk::<ICMP_HEADER>().ok_or(Malformed::Truncated)?;
        let error = match layout.network {
            Network::V4 => IcmpError::v4(*kind, *code, *rest),
            Network::V6 => IcmpError::v6(*kind, *code, *rest),
        };
        let Some(error) = error else { return Ok(None) };
        let packet = Layout::quoted(&frame[..range.end], range.start + ICMP_HEADER)?;
        if packet.network != layout.network {
            return Err(Malformed::Version);
        }
        Ok(Some(Self { error, packet }))
    }

    /// What the quote shows of a TCP header. `None`: it is not TCP, or shows less than ports and sequence
    /// number.
    pub fn segment(&self, frame: &[u8]) -> Option<QuotedSegment> {
        if self.packet.transport != Transport::Tcp || self.packet.fragment == Fragment::Later {
            return None;
        }
        let bytes = frame.get(self.packet.transport_range())?;
        let [a, b, c, d, seq @ ..] = bytes.first_chunk::<8>()?;
        let rest = bytes.get(8..).unwrap_or_default();
        let flags = rest.get(4..).and_then(<[u8]>::first_chunk).map(|flags| u16::from_be_bytes(*flags));
        Some(QuotedSegment {
            source_port: u16::from_be_bytes([*a, *b]),
            destination_port: u16::from_be_bytes([*c, *d]),
            seq: u32::from_be_bytes(*seq),
            ack: rest.first_chunk().map(|ack| u32::from_be_bytes(*ack)),
            flags: flags.map(|flags| TcpFlags(flags & 0x1ff)),
        })
    }
}

/// What an ICMP error shows of a TCP header. RFC 792 promises the first three fields only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedSegment {
    /// The port of whoever sent the segment, who is also sent the error.
    pub source_port: u16,
    /// The port that it was for.
    pub destination_port: u16,
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK, if it is there.
    pub ack: Option<u32>,
    /// The control bits, if they are there.
    pub flags: Option<TcpFlags>,
}
