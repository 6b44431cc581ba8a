//! Building whole frames: the headers around a TCP segment or an ICMP error.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::{
    Layout, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, Sum, TAGS_MAX, TCP_HEADER, TCP_OPTIONS_MAX,
    TcpFlags, TcpOptionList, Writer, checksum,
};

/// Where in a frame the two Ethernet addresses end.
const ETHERNET_ADDRESSES: usize = 12;
/// Don't fragment (RFC 791 §3.1).
const DONT_FRAGMENT: u16 = 0x4000;
/// Most bytes of a packet that an ICMP error carries, IP header included: every link takes as many (RFC 1812
/// §4.3.2.3, RFC 4443 §2.4(c)).
const ICMP_V4_MAX: usize = 576;
const ICMP_V6_MAX: usize = 1280;

/// Everything of a frame that is around its transport header and does not depend on what is inside: the
/// Ethernet header with its tags, and the fields of the IP header.
///
/// The usual way to one is [`Envelope::of`] a frame that arrived, [`reversed`](Envelope::reversed) for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Destination and source, as the frame begins.
    pub ethernet: [u8; ETHERNET_ADDRESSES],
    /// VLAN tags (TCI), outermost first; the first `tag_count` of them.
    pub tags: [u16; TAGS_MAX],
    /// How many tags there are.
    pub tag_count: u8,
    /// Where the packet comes from.
    pub source: IpAddr,
    /// Where it goes; of the same family.
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Type of service, or traffic class.
    pub traffic_class: u8,
    /// The IPv6 flow label, 20 bits; IPv4 has none.
    pub flow_label: u32,
}

/// A TCP segment to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The port it comes from.
    pub source_port: u16,
    /// The port it goes to.
    pub destination_port: u16,
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK.
    pub ack: u32,
    /// The control bits.
    pub flags: TcpFlags,
    /// SEG.WND as it is to be written.
    pub window: u16,
    /// The options.
    pub options: TcpOptionList,
    /// What comes behind the header.
    pub payload: &'a [u8],
}

impl Envelope {
    /// An ordinary one: untagged, with 64 hops to go, of no class and no flow. `ethernet` is destination and source.
    pub const fn new(ethernet: [u8; ETHERNET_ADDRESSES], source: IpAddr, destination: IpAddr) -> Self {
        Self {
            ethernet,
            tags: [0; TAGS_MAX],
            tag_count: 0,
            source,
            destination,
            hop_limit: 64,
            traffic_class: 0,
            flow_label: 0,
        }
    }

    /// The envelope of a frame that arrived.
    ///
    /// # Panics
    ///
    /// When `layout` is not the layout of `frame`.
    pub fn of(frame: &[u8], layout: &Layout) -> Self {
        let (source, destination) = layout.addresses(frame);
        Self {
            ethernet: *frame.first_chunk().expect("a frame with a layout has an Ethernet header"),
            tags: layout.tags,
            tag_count: layout.tag_count,
            source,
            destination,
            hop_limit: layout.hop_limit(frame),
            traffic_class: layout.traffic_class(frame),
            flow_label: layout.flow_label(frame),
        }
    }

    /// The same with source and destination exchanged, of the frame and of the packet.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.ethernet.rotate_left(ETHERNET_ADDRESSES / 2);
        Self { source: self.destination, destination: self.source, ..self }
    }

    /// Appends the frame that holds `segment`, with complete checksums. IPv4 packets are not to be fragmented
    /// and have no identification, which is for fragments alone (RFC 6864 §4.1).
    pub fn write(&self, out: &mut Vec<u8>, segment: &Segment<'_>) {
        let mut header = [0; TCP_HEADER + TCP_OPTIONS_MAX];
        let options = segment.options.as_slice();
        let length = TCP_HEADER + options.len();
        header[..2].copy_from_slice(&segment.source_port.to_be_bytes());
        header[2..4].copy_from_slice(&segment.destination_port.to_be_bytes());
        header[4..8].copy_from_slice(&segment.seq.to_be_bytes());
        header[8..12].copy_from_slice(&segment.ack.to_be_bytes());
        let offset_and_flags = ((length as u16 / 4) << 12) | segment.flags.0 & 0x1ff;
        header[12..14].copy_from_slice(&offset_and_flags.to_be_bytes());
        header[14..16].copy_from_slice(&segment.window.to_be_bytes());
        header[TCP_HEADER..length].copy_from_slice(options);
        let whole = length + segment.payload.len();
        let sum = Sum::new().pseudo_header(self.source, self.destination, PROTOCOL_TCP, whole as u32);
        // Both parts begin on even offsets: a header is a whole number of words.
        let checksum = sum.bytes(&header[..length]).bytes(segment.payload).finish();
        header[16..18].copy_from_slice(&checksum.to_be_bytes());
        self.headers(out, PROTOCOL_TCP, whole);
        out.extend_from_slice(&header[..length]);
        out.extend_from_slice(segment.payload);
    }

    /// Appends the frame that holds an ICMP error which says that `quoted`, an IP packet with all its headers,
    /// is larger than the `mtu` bytes that fit (RFC 1191 §4, RFC 4443 §3.2). The quote is cut to what every
    /// link takes.
    pub fn write_packet_too_big(&self, out: &mut Vec<u8>, mtu: u32, quoted: &[u8]) {
        const UNREACHABLE: u8 = 3;
        const FRAGMENTATION_NEEDED: u8 = 4;
        const PACKET_TOO_BIG: u8 = 2;
        let is_v4 = self.source.is_ipv4();
        let room = if is_v4 { ICMP_V4_MAX - 20 } else { ICMP_V6_MAX - 40 } - 8;
        let quoted = &quoted[..quoted.len().min(room)];
        let mut head = [0; 8];
        (head[0], head[1]) = if is_v4 { (UNREACHABLE, FRAGMENTATION_NEEDED) } else { (PACKET_TOO_BIG, 0) };
        let mtu = if is_v4 { mtu.min(0xffff) } else { mtu };
        head[4..].copy_from_slice(&mtu.to_be_bytes());
        let length = head.len() + quoted.len();
        let protocol = if is_v4 { PROTOCOL_ICMP } else { PROTOCOL_ICMPV6 };
        let sum = if is_v4 {
            Sum::new()
        } else {
            Sum::new().pseudo_header(self.source, self.destination, protocol, length as u32)
        };
        let checksum = sum.bytes(&head).bytes(quoted).finish();
        head[2..4].copy_from_slice(&checksum.to_be_bytes());
        self.headers(out, protocol, length);
        out.extend_from_slice(&head);
        out.extend_from_slice(quoted);
    }

    /// Appends the Ethernet header, the tags and the IP header of a packet with `length` bytes behind them.
    fn headers(&self, out: &mut Vec<u8>, protocol: u8, length: usize) {
        let mut writer = Writer::new(out);
        writer.bytes(&self.ethernet);
        let tags = &self.tags[..usize::from(self.tag_count)];
        for (nth, tag) in tags.iter().enumerate() {
            // IEEE 802.1ad: the outer one of two is a service tag.
            writer.u16(if nth + 1 < tags.len() { 0x88a8 } else { 0x8100 });
            writer.u16(*tag);
        }
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                writer.u16(0x0800);
                let at = writer.position();
                writer.u8(0x45);
                writer.u8(self.traffic_class);
                writer.u16((20 + length) as u16);
                writer.u16(0);
                writer.u16(DONT_FRAGMENT);
                writer.u8(self.hop_limit);
                writer.u8(protocol);
                writer.u16(0);
                writer.bytes(&source.octets());
                writer.bytes(&destination.octets());
                let sum = checksum(&writer.written()[at..]);
                writer.patch_u16(at + 10, sum);
            }
            (source, destination) => {
                let wide = |address: IpAddr| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                };
                writer.u16(0x86dd);
                writer.u32((6 << 28) | (u32::from(self.traffic_class) << 20) | self.flow_label & 0xf_ffff);
                writer.u16(length as u16);
                writer.u8(protocol);
                writer.u8(self.hop_limit);
                writer.bytes(&wide(source));
                writer.bytes(&wide(destination));
            }
        }
    }
}
