//! What a frame holds and where: Ethernet, VLAN tags, IPv4 or IPv6 with its extension headers.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;

use crate::{MalformedTcp, Sum, TcpView};

/// Bytes of an Ethernet header without tags (IEEE 802.3 §3).
pub const ETHERNET_HEADER: usize = 14;
/// Most VLAN tags in one frame: a service tag and a customer tag (IEEE 802.1ad). A frame with more is
/// [`Malformed::Tags`].
pub const TAGS_MAX: usize = 2;
/// Most IPv6 extension headers before the transport header. A packet with more is [`Malformed::Extensions`].
pub const EXTENSIONS_MAX: usize = 8;
/// Most bytes of IPv6 extension headers. A packet with more is [`Malformed::Extensions`].
pub const EXTENSION_BYTES_MAX: usize = 256;

/// The protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// The protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// The protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// The protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_TAG: u16 = 0x8100;
const ETHERTYPE_SERVICE_TAG: u16 = 0x88a8;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// The version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// IPv4 (RFC 791).
    V4,
    /// IPv6 (RFC 8200).
    V6,
}

/// Which part of an IP packet a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fragment {
    /// All of it. An IPv6 packet with a fragment header and nothing to reassemble is whole (RFC 6946).
    Whole,
    /// Its beginning, with the transport header or a part of it.
    First,
    /// A later part: there is no transport header where [`Layout::transport_at`] points.
    Later,
}

/// What follows the IP headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP (RFC 9293).
    Tcp,
    /// UDP (RFC 768).
    Udp,
    /// ICMP for IPv4 (RFC 792).
    Icmp,
    /// ICMP for IPv6 (RFC 4443).
    Icmpv6,
    /// Something else, by its protocol number. An authentication header (51) and encrypted payload (50) are
    /// here too: what follows them is not for us to change.
    Other(u8),
}

impl Transport {
    const fn of(network: Network, protocol: u8) -> Self {
        match (protocol, network) {
            (PROTOCOL_TCP, _) => Self::Tcp,
            (PROTOCOL_UDP, _) => Self::Udp,
            (PROTOCOL_ICMP, Network::V4) => Self::Icmp,
            (PROTOCOL_ICMPV6, Network::V6) => Self::Icmpv6,
            (other, _) => Self::Other(other),
        }
    }

    /// The protocol number.
    pub const fn protocol(self) -> u8 {
        match self {
            Self::Tcp => PROTOCOL_TCP,
            Self::Udp => PROTOCOL_UDP,
            Self::Icmp => PROTOCOL_ICMP,
            Self::Icmpv6 => PROTOCOL_ICMPV6,
            Self::Other(protocol) => protocol,
        }
    }
}

/// Why a frame has no [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Malformed {
    /// It ends inside of a header.
    Truncated,
    /// It carries something else than IP; the EtherType says what.
    NotIp(u16),
    /// It has more than [`TAGS_MAX`] VLAN tags.
    Tags,
    /// The EtherType says IPv4 or IPv6, and the version field something else.
    Version,
    /// The IPv4 header's length is less than five words.
    HeaderLength,
    /// The IP header says that there is more than there is, or less than its own header. A length of zero,
    /// which jumbograms (RFC 2675) and oversized offload frames have, is among it.
    TotalLength,
    /// The IPv6 extension headers are more than [`EXTENSIONS_MAX`] or longer than [`EXTENSION_BYTES_MAX`].
    Extensions,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("ends inside of a header"),
            Self::NotIp(ethertype) => write!(f, "is not IP: EtherType {ethertype:#06x}"),
            Self::Tags => write!(f, "has more than {TAGS_MAX} VLAN tags"),
            Self::Version => f.write_str("has an IP version that its EtherType denies"),
            Self::HeaderLength => f.write_str("has an IPv4 header of less than 20 bytes"),
            Self::TotalLength => f.write_str("has an IP length that the frame does not have"),
            Self::Extensions => f.write_str("has too many IPv6 extension headers"),
        }
    }
}

impl core::error::Error for Malformed {}

/// Where the parts of one frame are. It borrows nothing: the same layout serves to read the frame and to
/// rewrite it.
///
/// Methods that take the frame want the bytes that the layout was made from; others may panic or read
/// nonsense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The VLAN tags (TCI) in the bytes, outermost first; the first [`Layout::tag_count`] of them.
    pub tags: [u16; TAGS_MAX],
    /// How many tags there are.
    pub tag_count: u8,
    /// The version of IP.
    pub network: Network,
    /// Which part of the packet this is.
    pub fragment: Fragment,
    /// What follows the IP headers.
    pub transport: Transport,
    /// Whether the packet has IPv4 options or an IPv6 routing header: its way through the network is
    /// not the ordinary one.
    pub options: bool,
    /// Where the IP header begins.
    pub network_at: u16,
    /// Where the transport header begins, behind all extension headers.
    pub transport_at: u16,
    /// Where the IP packet ends. The frame may be longer, by padding.
    pub end: u32,
}

impl Layout {
    /// Finds the parts of an Ethernet frame.
    pub fn of(frame: &[u8]) -> Result<Self, Malformed> {
        // Most frames are untagged.
        match u16_at(frame, ETHERNET_HEADER - 2)? {
            ETHERTYPE_IPV4 => Self::ipv4(frame, ETHERNET_HEADER, Extent::Whole),
            ETHERTYPE_IPV6 => Self::ipv6(frame, ETHERNET_HEADER, Extent::Whole),
            ethertype => Self::tagged(frame, ethertype),
        }
    }

    /// The layout of a frame of the most usual shape: a whole TCP segment in IPv4, without tags and IP options.
    /// `None` says nothing about the frame; [`Layout::of`] does.
    ///
    /// What this finds is constant but for the end. In a caller that looks at it on its own, before anything
    /// else, the compiler knows every offset, and a segment is read in half of the time.
    // Inlined, or there is nothing that the compiler would know.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub fn plain_v4(frame: &[u8]) -> Option<Self> {
        const TRANSPORT: usize = ETHERNET_HEADER + IPV4_HEADER;
        let head: &[u8; TRANSPORT] = frame.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let is_plain =
            word(12) == ETHERTYPE_IPV4 && head[14] == 0x45 && word(20) << 2 == 0 && head[23] == PROTOCOL_TCP;
        let end = ETHERNET_HEADER + usize::from(word(16));
        (is_plain && TRANSPORT <= end && end <= frame.len()).then_some(Self {
            tags: [0; TAGS_MAX],
            tag_count: 0,
            network: Network::V4,
            fragment: Fragment::Whole,
            transport: Transport::Tcp,
            options: false,
            network_at: ETHERNET_HEADER as u16,
            transport_at: TRANSPORT as u16,
            end: end as u32,
        })
    }

    /// The same for IPv6, without extension headers.
    #[allow(clippy::inline_always)] // As `plain_v4`.
    #[inline(always)]
    pub fn plain_v6(frame: &[u8]) -> Option<Self> {
        const TRANSPORT: usize = ETHERNET_HEADER + IPV6_HEADER;
        let head: &[u8; TRANSPORT] = frame.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let is_plain = word(12) == ETHERTYPE_IPV6 && head[14] >> 4 == 6 && head[20] == PROTOCOL_TCP;
        let end = TRANSPORT + usize::from(word(18));
        (is_plain && TRANSPORT < end && end <= frame.len()).then_some(Self {
            tags: [0; TAGS_MAX],
            tag_count: 0,
            network: Network::V6,
            fragment: Fragment::Whole,
            transport: Transport::Tcp,
            options: false,
            network_at: ETHERNET_HEADER as u16,
            transport_at: TRANSPORT as u16,
            end: end as u32,
        })
    }

    /// Finds the parts of the packet that begins at `at` in `frame` and ends where the frame does or earlier:
    /// the quote in an ICMP error, which may be cut off anywhere behind its IP header.
    pub fn quoted(frame: &[u8], at: usize) -> Result<Self, Malformed> {
        match frame.get(at).ok_or(Malformed::Truncated)? >> 4 {
            4 => Self::ipv4(frame, at, Extent::Quoted),
            6 => Self::ipv6(frame, at, Extent::Quoted),
            _ => Err(Malformed::Version),
        }
    }

    fn tagged(frame: &[u8], mut ethertype: u16) -> Result<Self, Malformed> {
        let (mut tags, mut count, mut at) = ([0; TAGS_MAX], 0, ETHERNET_HEADER);
        while matches!(ethertype, ETHERTYPE_TAG | ETHERTYPE_SERVICE_TAG) {
            *tags.get_mut(count).ok_or(Malformed::Tags)? = u16_at(frame, at)?;
            ethertype = u16_at(frame, at + 2)?;
            (count, at) = (count + 1, at + 4);
        }
        let layout = match ethertype {
            ETHERTYPE_IPV4 => Self::ipv4(frame, at, Extent::Whole)?,
            ETHERTYPE_IPV6 => Self::ipv6(frame, at, Extent::Whole)?,
            other => return Err(Malformed::NotIp(other)),
        };
        Ok(Self { tags, tag_count: count as u8, ..layout })
    }

    fn ipv4(frame: &[u8], at: usize, extent: Extent) -> Result<Self, Malformed> {
        let header: &[u8; IPV4_HEADER] =
            frame.get(at..).and_then(<[u8]>::first_chunk).ok_or(Malformed::Truncated)?;
        if header[0] >> 4 != 4 {
            return Err(Malformed::Version);
        }
        let length = usize::from(header[0] & 0xf) * 4;
        if length < IPV4_HEADER {
            return Err(Malformed::HeaderLength);
        }
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let end = extent.end(frame, at, total, length)?;
        let field = u16::from_be_bytes([header[6], header[7]]);
        let fragment = match (field & 0x1fff, field & 0x2000) {
            (0, 0) => Fragment::Whole,
            (0, _) => Fragment::First,
            (_, _) => Fragment::Later,
        };
        Ok(Self {
            tags: [0; TAGS_MAX],
            tag_count: 0,
            network: Network::V4,
            fragment,
            transport: Transport::of(Network::V4, header[9]),
            options: length > IPV4_HEADER,
            network_at: at as u16,
            transport_at: (at + length) as u16,
            end,
        })
    }

    fn ipv6(frame: &[u8], at: usize, extent: Extent) -> Result<Self, Malformed> {
        let header: &[u8; IPV6_HEADER] =
            frame.get(at..).and_then(<[u8]>::first_chunk).ok_or(Malformed::Truncated)?;
        if header[0] >> 4 != 6 {
            return Err(Malformed::Version);
        }
        let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if payload == 0 && matches!(extent, Extent::Whole) {
            return Err(Malformed::TotalLength);
        }
        let end = extent.end(frame, at, IPV6_HEADER + payload, IPV6_HEADER)?;
        let mut walk =
            Walk { next: header[6], at: at + IPV6_HEADER, fragment: Fragment::Whole, routed: false };
        if !matches!(walk.next, PROTOCOL_TCP | PROTOCOL_ICMPV6) {
            walk.extensions(&frame[..end as usize])?;
        }
        Ok(Self {
            tags: [0; TAGS_MAX],
            tag_count: 0,
            network: Network::V6,
            fragment: walk.fragment,
            transport: Transport::of(Network::V6, walk.next),
            options: walk.routed,
            network_at: at as u16,
            transport_at: walk.at as u16,
            end,
        })
    }

    /// The VLAN tags in the bytes, outermost first.
    pub fn tags(&self) -> &[u16] {
        &self.tags[..usize::from(self.tag_count)]
    }

    /// Source and destination address.
    pub fn addresses(&self, frame: &[u8]) -> (IpAddr, IpAddr) {
        let at = usize::from(self.network_at);
        match self.network {
            Network::V4 => {
                let address = |at: usize| IpAddr::V4(Ipv4Addr::from_bits(u32_in(frame, at)));
                (address(at + 12), address(at + 16))
            }
            Network::V6 => {
                let address = |at: usize| IpAddr::V6(Ipv6Addr::from_bits(u128_in(frame, at)));
                (address(at + 8), address(at + 24))
            }
        }
    }

    /// Source and destination address as numbers of 128 bits: IPv4 as IPv6 writes it, `::ffff:a.b.c.d`
    /// (RFC 4291 §2.5.5.2). What a table's key is made of.
    #[allow(clippy::inline_always)] // As `plain_v4`.
    #[inline(always)]
    pub fn wide_addresses(&self, frame: &[u8]) -> (u128, u128) {
        const MAPPED: u128 = 0xffff_0000_0000;
        let at = usize::from(self.network_at);
        match self.network {
            Network::V4 => {
                let both = u64_in(frame, at + 12);
                (MAPPED | u128::from(both >> 32), MAPPED | u128::from(both & 0xffff_ffff))
            }
            Network::V6 => (u128_in(frame, at + 8), u128_in(frame, at + 24)),
        }
    }

    /// The time to live, or hop limit.
    pub fn hop_limit(&self, frame: &[u8]) -> u8 {
        let at = usize::from(self.network_at);
        match self.network {
            Network::V4 => frame[at + 8],
            Network::V6 => frame[at + 7],
        }
    }

    /// The type of service, or traffic class: differentiated services and congestion notification.
    pub fn traffic_class(&self, frame: &[u8]) -> u8 {
        let at = usize::from(self.network_at);
        match self.network {
            Network::V4 => frame[at + 1],
            Network::V6 => (u16::from_be_bytes([frame[at], frame[at + 1]]) >> 4) as u8,
        }
    }

    /// The IPv6 flow label; 0 for IPv4.
    pub fn flow_label(&self, frame: &[u8]) -> u32 {
        match self.network {
            Network::V4 => 0,
            Network::V6 => u32_in(frame, usize::from(self.network_at)) & 0x000f_ffff,
        }
    }

    /// The bytes of the transport header and everything behind it, up to the end of the packet.
    pub fn transport_range(&self) -> Range<usize> {
        usize::from(self.transport_at)..self.end as usize
    }

    /// The bytes of the IP packet: without Ethernet header, tags and padding.
    pub fn packet_range(&self) -> Range<usize> {
        usize::from(self.network_at)..self.end as usize
    }

    /// The TCP segment, to be read. Not for a [`Fragment::Later`].
    #[inline]
    pub fn tcp<'a>(&self, frame: &'a [u8]) -> Result<TcpView<&'a [u8]>, MalformedTcp> {
        TcpView::new(frame.get(self.transport_range()).ok_or(MalformedTcp::Truncated)?)
    }

    /// The TCP segment, to be rewritten in place. Not for a [`Fragment::Later`].
    #[inline]
    pub fn tcp_mut<'a>(&self, frame: &'a mut [u8]) -> Result<TcpView<&'a mut [u8]>, MalformedTcp> {
        TcpView::new(frame.get_mut(self.transport_range()).ok_or(MalformedTcp::Truncated)?)
    }

    /// The sum over the pseudo-header of this packet: what a partial checksum holds, and what a complete one
    /// begins with.
    pub fn pseudo_header(&self, frame: &[u8]) -> Sum {
        let (source, destination) = self.addresses(frame);
        let length = self.end - u32::from(self.transport_at);
        Sum::new().pseudo_header(source, destination, self.transport.protocol(), length)
    }

    /// Whether the checksum of a whole TCP or ICMPv6 packet is right, by reading all of it. ICMP for IPv4 has
    /// no pseudo-header.
    pub fn transport_checksum_holds(&self, frame: &[u8]) -> bool {
        let sum = match self.transport {
            Transport::Icmp => Sum::new(),
            Transport::Tcp | Transport::Udp | Transport::Icmpv6 | Transport::Other(_) => {
                self.pseudo_header(frame)
            }
        };
        frame.get(self.transport_range()).is_some_and(|bytes| sum.bytes(bytes).finish() == 0)
    }
}

/// Whether a packet has to be all there.
#[derive(Clone, Copy)]
enum Extent {
    Whole,
    Quoted,
}

impl Extent {
    /// Where a packet ends that begins at `at`, is `total` long by its own account, and has a header of
    /// `header` bytes.
    #[inline]
    fn end(self, frame: &[u8], at: usize, total: usize, header: usize) -> Result<u32, Malformed> {
        let there = frame.len() - at;
        match self {
            Self::Whole if total < header || total > there => Err(Malformed::TotalLength),
            Self::Whole => Ok((at + total) as u32),
            Self::Quoted if there < header => Err(Malformed::Truncated),
            // Some hosts quote a length that they have already changed. Nothing here depends on it.
            Self::Quoted if total < header => Ok(frame.len() as u32),
            Self::Quoted => Ok((at + total.min(there)) as u32),
        }
    }
}

/// A walk along IPv6 extension headers (RFC 8200 §4).
struct Walk {
    next: u8,
    at: usize,
    fragment: Fragment,
    routed: bool,
}

impl Walk {
    #[cold]
    fn extensions(&mut self, packet: &[u8]) -> Result<(), Malformed> {
        let start = self.at;
        for _ in 0..=EXTENSIONS_MAX {
            if self.at - start > EXTENSION_BYTES_MAX {
                return Err(Malformed::Extensions);
            }
            // Behind a later fragment's header there is a piece of something, not a header.
            if self.fragment == Fragment::Later
                || !matches!(self.next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
            {
                return Ok(());
            }
            let header: &[u8; 8] =
                packet.get(self.at..).and_then(<[u8]>::first_chunk).ok_or(Malformed::Truncated)?;
            let length = if self.next == FRAGMENT {
                let field = u16::from_be_bytes([header[2], header[3]]);
                self.fragment = match (field >> 3, field & 1) {
                    (0, 0) => self.fragment,
                    (0, _) => Fragment::First,
                    (_, _) => Fragment::Later,
                };
                8
            } else {
                self.routed |= self.next == ROUTING;
                8 + usize::from(header[1]) * 8
            };
            self.next = header[0];
            self.at += length;
            if self.at > packet.len() {
                return Err(Malformed::Truncated);
            }
        }
        Err(Malformed::Extensions)
    }
}

#[inline]
fn u16_at(frame: &[u8], at: usize) -> Result<u16, Malformed> {
    let bytes = frame.get(at..).and_then(<[u8]>::first_chunk).ok_or(Malformed::Truncated)?;
    Ok(u16::from_be_bytes(*bytes))
}

#[inline]
fn chunk<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    *frame[at..].first_chunk().expect("the layout was made from this frame")
}

#[inline]
fn u32_in(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(chunk(frame, at))
}

#[inline]
fn u64_in(frame: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(chunk(frame, at))
}

#[inline]
fn u128_in(frame: &[u8], at: usize) -> u128 {
    u128::from_be_bytes(chunk(frame, at))
}
