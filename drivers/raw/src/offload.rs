//! What a kernel says beside a frame: the header of `PACKET_VNET_HDR`.
//!
//! Programs on the same machine hand each other frames whose checksum nobody has computed and whose payload
//! nobody has cut into segments, because no wire in between asks for it. The kernel tells a packet socket so
//! in ten bytes before each frame (`struct virtio_net_hdr`, in the machine's byte order), and takes the same
//! from it.

use gimlet_tcp::{Checksum, Leg, Side};
use gimlet_wire::{Layout, Network, TcpFlags, Transport};

/// Length of the header, bytes.
pub(crate) const OFFLOAD_LEN: usize = 10;

/// The checksum is to be computed from `checksum_start` on (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_*`: how a frame is to be cut up.
const GSO_NONE: u8 = 0;
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_UDP: u8 = 5;
/// Only the first segment keeps CWR (RFC 3168 §6.1.2).
const GSO_ECN: u8 = 0x80;

/// The header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offload {
    flags: u8,
    gso_type: u8,
    header_len: u16,
    gso_size: u16,
    checksum_start: u16,
    checksum_offset: u16,
}

impl Offload {
    pub(crate) fn read(bytes: [u8; OFFLOAD_LEN]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            // The other flag, that the checksum was verified, means nothing on the way out.
            flags: bytes[0] & NEEDS_CHECKSUM,
            gso_type: bytes[1],
            header_len: word(2),
            gso_size: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        }
    }

    pub(crate) fn write(self) -> [u8; OFFLOAD_LEN] {
        let mut bytes = [0; OFFLOAD_LEN];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        bytes[2..4].copy_from_slice(&self.header_len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.checksum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.checksum_offset.to_ne_bytes());
        bytes
    }

    /// The same frame with `bytes` more (a VLAN tag) before its network header.
    #[must_use]
    pub(crate) fn pushed_back(mut self, bytes: u16) -> Self {
        if self.flags != 0 {
            self.checksum_start = self.checksum_start.saturating_add(bytes);
        }
        if self.header_len != 0 {
            self.header_len = self.header_len.saturating_add(bytes);
        }
        self
    }

    /// The leg of a frame that came with this header.
    pub(crate) fn leg(self, side: Side, tag: Option<u16>) -> Leg {
        let checksum = if self.flags == 0 { Checksum::Complete } else { Checksum::Partial };
        let gso = if self.gso_type == GSO_NONE { 0 } else { self.gso_size };
        Leg { side, checksum, gso, tag }
    }

    /// The header for `frame` if all that is known about it is its leg; `None` if the leg asks for something
    /// that only TCP and UDP have, and it is neither.
    pub(crate) fn of(leg: Leg, frame: &[u8]) -> Option<Self> {
        if leg.checksum == Checksum::Complete && leg.gso == 0 {
            return Some(Self::default());
        }
        let layout = Layout::of(frame).ok()?;
        let start = layout.transport_at;
        let (checksum_offset, header_len, gso_type) = match layout.transport {
            Transport::Tcp => {
                let tcp = layout.tcp(frame).ok()?;
                let version = match layout.network {
                    Network::V4 => GSO_TCP_V4,
                    Network::V6 => GSO_TCP_V6,
                };
                let ecn = if tcp.flags().contains(TcpFlags::CWR) { GSO_ECN } else { 0 };
                (16, tcp.header_len() as u16, version | ecn)
            }
            Transport::Udp => (6, 8, GSO_UDP),
            Transport::Icmp | Transport::Icmpv6 | Transport::Other(_) => return None,
        };
        let mut header = Self { header_len: start + header_len, ..Self::default() };
        if leg.checksum == Checksum::Partial {
            header = Self { flags: NEEDS_CHECKSUM, checksum_start: start, checksum_offset, ..header };
        }
        if leg.gso != 0 {
            header = Self { gso_type, gso_size: leg.gso, ..header };
        }
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of TCP without payload over IPv4 or IPv6, with a header of so many bytes.
    fn tcp(is_v6: bool, header_len: u8, flags: u8) -> Vec<u8> {
        let transport = if is_v6 { 54 } else { 34 };
        let mut frame = vec![0; transport + usize::from(header_len)];
        if is_v6 {
            frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
            (frame[19], frame[20]) = (header_len, 6);
        } else {
            frame[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
            (frame[17], frame[23]) = (20 + header_len, 6);
        }
        (frame[transport + 12], frame[transport + 13]) = ((header_len / 4) << 4, flags);
        frame
    }

    #[test]
    fn what_is_computed_for_a_train_is_what_the_kernel_said_of_it() {
        // TCP with timestamps over IPv4, its headers alone in the linear part of the kernel's buffer.
        let told = Offload {
            flags: NEEDS_CHECKSUM,
            gso_type: GSO_TCP_V4,
            header_len: 66,
            gso_size: 1448,
            checksum_start: 34,
            checksum_offset: 16,
        };
        let leg = told.leg(Side::Client, None);
        assert_eq!(leg, Leg { checksum: Checksum::Partial, gso: 1448, ..Leg::new(Side::Client) });
        assert_eq!(Offload::of(leg, &tcp(false, 32, 0x10)), Some(told));
        assert_eq!(Offload::read(told.write()), told);
        let v6 = Offload::of(leg, &tcp(true, 20, 0x90)).unwrap();
        assert_eq!((v6.gso_type, v6.checksum_start, v6.header_len), (GSO_TCP_V6 | GSO_ECN, 54, 74));
    }

    #[test]
    fn a_complete_frame_needs_no_header_and_a_partial_one_of_unknown_kind_has_none() {
        let complete = Leg::new(Side::Server);
        assert_eq!(Offload::of(complete, b"anything"), Some(Offload::default()));
        let partial = Leg { checksum: Checksum::Partial, ..complete };
        assert_eq!(Offload::of(partial, &[0; 60]), None);
        let frame = tcp(false, 20, 2);
        assert!((0..frame.len()).all(|len| Offload::of(partial, &frame[..len]).is_none()));
    }

    #[test]
    fn a_tag_pushes_back_only_what_is_there() {
        assert_eq!(Offload::default().pushed_back(4), Offload::default());
        let partial = Offload { flags: 1, checksum_start: 34, ..Offload::default() };
        assert_eq!(partial.pushed_back(4).checksum_start, 38);
    }
}
