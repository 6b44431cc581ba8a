//! Frames as the model writes and reads them.
//!
//! Writing is done by hand here and reading by etherparse, so neither shares a line with what is judged.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TcpOptionElement, TcpSlice, TransportSlice};

/// The bits of the TCP header (RFC 9293 §3.1).
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is significant.
    pub const URG: u8 = 0x20;
}

/// Ethernet without tags, IPv4 and IPv6 without options, TCP without options, in bytes.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;

/// One TCP segment with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Who sends it.
    pub from: SocketAddr,
    /// Who gets it.
    pub to: SocketAddr,
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK; means nothing without [`flag::ACK`].
    pub ack: u32,
    /// Bits of [`flag`].
    pub flags: u8,
    /// SEG.WND as it is on the wire, unscaled.
    pub window: u16,
    /// The urgent pointer.
    pub urgent: u16,
    /// Options.
    pub options: Options,
    /// Data.
    pub payload: Vec<u8>,
}

/// The options that the model knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale shift.
    pub shift: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    /// SACK blocks, left and right edge.
    pub sacks: Vec<(u32, u32)>,
    /// TCP Fast Open: a cookie, or nothing to ask for one.
    pub fast_open: Option<Vec<u8>>,
    /// The kind and bytes of one option that nobody knows.
    pub unknown: Option<(u8, Vec<u8>)>,
}

/// How a frame is written where the protocol leaves a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dress {
    /// Options without padding between them, so that timestamps lie at an odd offset.
    pub packed: bool,
    /// Only the pseudo header is summed: the card is to do the rest.
    pub partial: bool,
}

/// Why bytes are no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not TCP over IP over Ethernet, or cut short.
    Form,
    /// The checksum of the IP header is wrong.
    IpChecksum,
    /// The TCP checksum is wrong.
    Checksum,
    /// An option is malformed.
    Options,
}

impl Segment {
    /// An empty segment.
    pub fn new(from: SocketAddr, to: SocketAddr) -> Self {
        let options = Options::default();
        Self { from, to, seq: 0, ack: 0, flags: 0, window: 0, urgent: 0, options, payload: Vec::new() }
    }

    /// Whether all bits of `flags` are set.
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// SEG.LEN: data, SYN and FIN.
    pub fn length(&self) -> u32 {
        let control = u32::from(self.has(flag::SYN)) + u32::from(self.has(flag::FIN));
        self.payload.len() as u32 + control
    }

    /// The whole Ethernet frame.
    ///
    /// # Panics
    ///
    /// If the addresses are of two families.
    pub fn write(&self, dress: Dress) -> Vec<u8> {
        let options = self.options.write(dress.packed);
        let tcp_length = TCP + options.len() + self.payload.len();
        let mut frame = Vec::with_capacity(ETHERNET + IPV6 + tcp_length);
        frame.extend_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend_from_slice(&[8, 0, 0x45, 0]);
                frame.extend_from_slice(&((IPV4 + tcp_length) as u16).to_be_bytes());
                frame.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
                frame.extend_from_slice(&from.octets());
                frame.extend_from_slice(&to.octets());
                let sum = !fold(sum(&frame[ETHERNET..]));
                frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend_from_slice(&(tcp_length as u16).to_be_bytes());
                frame.extend_from_slice(&[6, 64]);
                frame.extend_from_slice(&from.octets());
                frame.extend_from_slice(&to.octets());
            }
            (from, to) => panic!("from {from} to {to}"),
        }
        let start = frame.len();
        frame.extend_from_slice(&self.from.port().to_be_bytes());
        frame.extend_from_slice(&self.to.port().to_be_bytes());
        frame.extend_from_slice(&self.seq.to_be_bytes());
        frame.extend_from_slice(&self.ack.to_be_bytes());
        frame.extend_from_slice(&[((TCP + options.len()) * 4) as u8, self.flags]);
        frame.extend_from_slice(&self.window.to_be_bytes());
        frame.extend_from_slice(&[0, 0]);
        frame.extend_from_slice(&self.urgent.to_be_bytes());
        frame.extend_from_slice(&options);
        frame.extend_from_slice(&self.payload);
        let pseudo = pseudo_sum(self.from.ip(), self.to.ip(), tcp_length);
        let sum = if dress.partial { fold(pseudo) } else { !fold(pseudo + sum(&frame[start..])) };
        frame[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// Reads a whole Ethernet frame. A `partial` checksum has to be that of the pseudo header.
    pub fn read(frame: &[u8], partial: bool) -> Result<Segment, Unreadable> {
        let sliced = SlicedPacket::from_ethernet(frame).map_err(|_| Unreadable::Form)?;
        let (Some(net), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport) else {
            return Err(Unreadable::Form);
        };
        let (from, to, sum) = match net {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                if header.header_checksum() != header.to_header().calc_header_checksum() {
                    return Err(Unreadable::IpChecksum);
                }
                let sum = tcp.calc_checksum_ipv4(header.source(), header.destination());
                (IpAddr::V4(header.source_addr()), IpAddr::V4(header.destination_addr()), sum)
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                let sum = tcp.calc_checksum_ipv6(header.source(), header.destination());
                (IpAddr::V6(header.source_addr()), IpAddr::V6(header.destination_addr()), sum)
            }
            NetSlice::Arp(_) => return Err(Unreadable::Form),
        };
        let due = if partial {
            fold(pseudo_sum(from, to, tcp.slice().len()))
        } else {
            sum.map_err(|_| Unreadable::Form)?
        };
        if due != tcp.checksum() {
            return Err(Unreadable::Checksum);
        }
        let from = SocketAddr::new(from, tcp.source_port());
        let to = SocketAddr::new(to, tcp.destination_port());
        Ok(Segment {
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            flags: flags(tcp),
            window: tcp.window_size(),
            urgent: tcp.urgent_pointer(),
            options: Options::read(tcp)?,
            payload: tcp.payload().to_vec(),
            ..Segment::new(from, to)
        })
    }
}

fn flags(tcp: &TcpSlice<'_>) -> u8 {
    tcp.slice()[13]
}

impl Options {
    /// How the most widespread stack lays them out, or packed.
    fn write(&self, packed: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(40);
        let pad = |out: &mut Vec<u8>, to: usize| {
            while !packed && out.len() % 4 != to {
                out.push(1);
            }
        };
        if let Some(mss) = self.mss {
            out.extend_from_slice(&[2, 4]);
            out.extend_from_slice(&mss.to_be_bytes());
        }
        if let (true, Some(shift)) = (packed, self.shift) {
            out.extend_from_slice(&[3, 3, shift]);
        }
        if let Some((value, echo)) = self.timestamps {
            if self.sack_permitted && !packed {
                out.extend_from_slice(&[4, 2]);
            } else {
                pad(&mut out, 2);
            }
            out.extend_from_slice(&[8, 10]);
            out.extend_from_slice(&value.to_be_bytes());
            out.extend_from_slice(&echo.to_be_bytes());
        }
        if self.sack_permitted && (packed || self.timestamps.is_none()) {
            pad(&mut out, 2);
            out.extend_from_slice(&[4, 2]);
        }
        if let (false, Some(shift)) = (packed, self.shift) {
            pad(&mut out, 1);
            out.extend_from_slice(&[3, 3, shift]);
        }
        if let Some(cookie) = &self.fast_open {
            out.extend_from_slice(&[34, 2 + cookie.len() as u8]);
            out.extend_from_slice(cookie);
        }
        if let Some((kind, bytes)) = &self.unknown {
            out.extend_from_slice(&[*kind, 2 + bytes.len() as u8]);
            out.extend_from_slice(bytes);
        }
        if !self.sacks.is_empty() {
            pad(&mut out, 2);
            out.extend_from_slice(&[5, 2 + 8 * self.sacks.len() as u8]);
            for (left, right) in &self.sacks {
                out.extend_from_slice(&left.to_be_bytes());
                out.extend_from_slice(&right.to_be_bytes());
            }
        }
        while out.len() % 4 != 0 {
            out.push(1);
        }
        assert!(out.len() <= 40, "{} bytes of options", out.len());
        out
    }

    fn read(tcp: &TcpSlice<'_>) -> Result<Options, Unreadable> {
        let mut options = Options::default();
        let mut iterator = tcp.options_iterator();
        loop {
            let rest = iterator.rest();
            let Some(element) = iterator.next() else { return Ok(options) };
            match element {
                Ok(TcpOptionElement::Noop) => {}
                Ok(TcpOptionElement::MaximumSegmentSize(mss)) => options.mss = Some(mss),
                Ok(TcpOptionElement::WindowScale(shift)) => options.shift = Some(shift),
                Ok(TcpOptionElement::SelectiveAcknowledgementPermitted) => options.sack_permitted = true,
                Ok(TcpOptionElement::SelectiveAcknowledgement(first, more)) => {
                    options.sacks.push(first);
                    options.sacks.extend(more.into_iter().flatten());
                }
                Ok(TcpOptionElement::Timestamp(value, echo)) => options.timestamps = Some((value, echo)),
                Err(_) => return options.read_rest(rest),
            }
        }
    }

    /// What etherparse does not know, to the end.
    fn read_rest(mut self, mut rest: &[u8]) -> Result<Options, Unreadable> {
        while let [kind, tail @ ..] = rest {
            match (*kind, tail) {
                (0, _) => break,
                (1, _) => rest = tail,
                (kind, [length, ..]) if *length >= 2 && usize::from(*length) <= rest.len() => {
                    let (option, tail) = rest.split_at(usize::from(*length));
                    match kind {
                        34 => self.fast_open = Some(option[2..].to_vec()),
                        _ => self.unknown = Some((kind, option[2..].to_vec())),
                    }
                    rest = tail;
                }
                _ => return Err(Unreadable::Options),
            }
        }
        Ok(self)
    }
}

/// A message that a frame was too big (RFC 792, RFC 4443 §3.2): who had sent it to whom, from which number on, and
/// how big a frame may be.
pub(crate) fn read_too_big(frame: &[u8]) -> Option<(SocketAddr, SocketAddr, u32, usize)> {
    let ip = frame.get(ETHERNET..)?;
    let v4 = frame.get(12..14)? == [8, 0];
    let (icmp, kind) = if v4 { (ip.get(IPV4..)?, [3, 4]) } else { (ip.get(IPV6..)?, [2, 0]) };
    let is_icmp = if v4 { ip.get(9) == Some(&1) } else { ip.get(6) == Some(&58) };
    if !is_icmp || icmp.get(..2)? != kind {
        return None;
    }
    let mtu = u16::from_be_bytes(icmp.get(6..8)?.try_into().ok()?);
    let quote = icmp.get(8..)?;
    let tcp = quote.get(if v4 { IPV4 } else { IPV6 }..)?;
    let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| -> Option<IpAddr> {
        Some(if v4 {
            <[u8; 4]>::try_from(quote.get(12 + at * 4..16 + at * 4)?).ok()?.into()
        } else {
            <[u8; 16]>::try_from(quote.get(8 + at * 16..24 + at * 16)?).ok()?.into()
        })
    };
    let seq = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
    let from = SocketAddr::new(address(0)?, port(0)?);
    let to = SocketAddr::new(address(1)?, port(2)?);
    Some((from, to, seq, usize::from(mtu)))
}

/// One's complement sum in 16-bit words, not folded.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let whole: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    whole + last.first().map_or(0, |byte| u64::from(*byte) << 8)
}

/// Folds a sum to 16 bits, end-around.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1), not folded.
pub(crate) fn pseudo_sum(from: IpAddr, to: IpAddr, tcp_length: usize) -> u64 {
    let addresses = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => sum(&from.octets()) + sum(&to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => sum(&from.octets()) + sum(&to.octets()),
        (from, to) => panic!("from {from} to {to}"),
    };
    addresses + 6 + tcp_length as u64
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(flag::SYN, "SYN "), (flag::FIN, "FIN "), (flag::RST, "RST "), (flag::PSH, "PSH ")];
        write!(f, "{} > {} ", self.from, self.to)?;
        names.iter().filter(|(bit, _)| self.has(*bit)).try_for_each(|(_, name)| f.write_str(name))?;
        write!(f, "seq {:08x}+{}", self.seq, self.payload.len())?;
        if self.has(flag::ACK) {
            write!(f, " ack {:08x}", self.ack)?;
        }
        write!(f, " win {}", self.window)?;
        let options = &self.options;
        if let Some(mss) = options.mss {
            write!(f, " mss {mss}")?;
        }
        if let Some(shift) = options.shift {
            write!(f, " ws {shift}")?;
        }
        if options.sack_permitted {
            f.write_str(" sackOK")?;
        }
        if let Some((value, echo)) = options.timestamps {
            write!(f, " ts {value:08x}/{echo:08x}")?;
        }
        options.sacks.iter().try_for_each(|(left, right)| write!(f, " sack {left:08x}-{right:08x}"))?;
        if let Some(cookie) = &options.fast_open {
            write!(f, " tfo {}", cookie.len())?;
        }
        options.unknown.iter().try_for_each(|(kind, _)| write!(f, " option {kind}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(from: &str, to: &str) -> Segment {
        let options = Options {
            timestamps: Some((7, 9)),
            sacks: vec![(1, 2), (5, 9), (u32::MAX, 3)],
            ..Options::default()
        };
        Segment {
            seq: 5,
            ack: 6,
            flags: flag::ACK | flag::PSH,
            window: 77,
            options,
            payload: b"odd".to_vec(),
            ..Segment::new(from.parse().unwrap(), to.parse().unwrap())
        }
    }

    #[test]
    fn what_is_written_by_hand_is_read_by_etherparse() {
        for (from, to) in [("10.0.0.1:4", "10.0.0.2:80"), ("[2001:db8::1]:4", "[2001:db8::2]:80")] {
            let segment = sample(from, to);
            for partial in [false, true] {
                for packed in [false, true] {
                    let frame = segment.write(Dress { packed, partial });
                    assert_eq!(Segment::read(&frame, partial), Ok(segment.clone()));
                    assert_eq!(Segment::read(&frame, !partial), Err(Unreadable::Checksum));
                }
            }
        }
    }

    #[test]
    fn options_of_a_syn_are_read_as_they_were_written_in_either_layout() {
        let mut segment = sample("10.0.0.1:4", "10.0.0.2:80");
        segment.flags = flag::SYN;
        segment.options = Options {
            mss: Some(1460),
            shift: Some(7),
            sack_permitted: true,
            timestamps: Some((1, 0)),
            fast_open: Some(vec![1; 8]),
            ..Options::default()
        };
        for packed in [false, true] {
            let frame = segment.write(Dress { packed, partial: false });
            assert_eq!(Segment::read(&frame, false), Ok(segment.clone()));
        }
    }
}
