//! The way out: what others wrote for a peer, rewritten for the server.

use core::net::SocketAddr;

use gimlet_machine::{Buf, Instant, Path, Transmit};
use gimlet_stun::{Class, MessageWriter, Method, TransactionId};

use super::{Client, Transport};
use crate::error::WrapError;

/// The most bytes that [`Client::wrap`] adds to one datagram: a Send indication to an IPv6 peer, with
/// its padding. A bound channel adds 4.
pub const WRAP_MAX: usize = 20 + 24 + 4 + 3;

/// Number and length in front of ChannelData. Bytes.
const CHANNEL_HEADER_LEN: usize = 4;

/// Where the length field of a STUN message stands.
const LENGTH_AT: usize = 2;

/// What stands in front of each datagram.
#[derive(Clone, Copy, Debug)]
enum Head {
    /// RFC 8656 §12.5.
    Channel(u16),
    /// RFC 8656 §11.1.
    Send(SocketAddr),
}

impl Client {
    /// Rewrites what another machine wrote for [`Path::Relayed`] into what the server expects, in
    /// place: one datagram, or a train of them. On an error nothing has changed.
    ///
    /// Leave room: 4 bytes for each datagram once the channel is bound, [`WRAP_MAX`] before. A train
    /// is wrapped from its end, so that every byte moves once. Whoever can leave four bytes in front
    /// moves none: see [`Client::channel_header`].
    pub fn wrap(
        &mut self,
        now: Instant,
        transmit: Transmit<Path>,
        out: &mut Buf<'_>,
    ) -> Result<Transmit<Path>, WrapError> {
        let Path::Relayed { relay, peer } = transmit.path else { return Err(WrapError::NotOurs) };
        let head = self.head(now, relay, peer)?;
        let total = out.len();
        let payload = transmit.segment.map_or(total, usize::from).max(1);
        let count = total.div_ceil(payload).max(1);
        let last = total - (count - 1) * payload;
        let len = |payload| self.framed_len(head, payload);
        let (Some(whole), Some(end)) = (len(payload.min(total)), len(last)) else {
            return Err(WrapError::TooBig);
        };
        let room = out.len() + out.remaining();
        let wrapped = (count - 1) * whole + end;
        let segment = match transmit.segment {
            Some(_) => Some(u16::try_from(whole).map_err(|_| WrapError::TooBig)?),
            None => None,
        };
        if wrapped > room {
            return Err(WrapError::TooBig);
        }
        let bytes = out.vec();
        bytes.resize(wrapped, 0);
        for nth in (0..count).rev() {
            let from = nth * payload;
            let data = if nth + 1 == count { last } else { payload };
            let to = nth * whole;
            let front = head.len();
            bytes.copy_within(from..from + data, to + front);
            let frame = if nth + 1 == count { end } else { whole };
            bytes[to + front + data..to + frame].fill(0);
            self.write_head(head, data, &mut bytes[to..to + front]);
        }
        Ok(Transmit { path: Path::Direct(relay), ecn: transmit.ecn, segment })
    }

    /// The four bytes that belong in front of a datagram of `len` bytes to `peer`, for whoever left
    /// room for them; over a stream the datagram is then followed by zeros up to a multiple of four
    /// (RFC 8656 §12.5). `None`: no channel is bound, and [`Client::wrap`] is needed.
    pub fn channel_header(&self, now: Instant, peer: SocketAddr, len: usize) -> Option<[u8; 4]> {
        let ([n0, n1], [l0, l1]) =
            (self.channel(now, peer)?.to_be_bytes(), u16::try_from(len).ok()?.to_be_bytes());
        Some([n0, n1, l0, l1])
    }

    fn head(
        &self,
        now: Instant,
        relay: gimlet_machine::FourTuple,
        peer: SocketAddr,
    ) -> Result<Head, WrapError> {
        if relay != self.flow.relay {
            return Err(WrapError::NotOurs);
        }
        if !self.allocation.state.is_allocated() {
            return Err(WrapError::NotAllocated);
        }
        if let Some(number) = self.channel(now, peer) {
            return Ok(Head::Channel(number));
        }
        if self.is_permitted(now, peer.ip()) {
            Ok(Head::Send(peer))
        } else {
            Err(WrapError::NotPermitted { peer })
        }
    }

    /// How long a datagram of `payload` bytes becomes; `None` if a length field cannot say it.
    fn framed_len(&self, head: Head, payload: usize) -> Option<usize> {
        u16::try_from(head.len() + payload.next_multiple_of(4)).ok()?;
        let padded = match (head, self.config.transport) {
            (Head::Channel(_), Transport::Datagram) => payload,
            (Head::Channel(_), Transport::Stream) | (Head::Send(_), _) => payload.next_multiple_of(4),
        };
        Some(head.len() + padded)
    }

    fn write_head(&mut self, head: Head, payload: usize, place: &mut [u8]) {
        let length = (payload as u16).to_be_bytes();
        match head {
            Head::Channel(number) => {
                place[..2].copy_from_slice(&number.to_be_bytes());
                place[2..].copy_from_slice(&length);
            }
            Head::Send(peer) => {
                self.scratch.clear();
                let id = TransactionId::random(&mut self.rng);
                let writer = MessageWriter::new(&mut self.scratch, Class::Indication, Method::SEND, id);
                writer.xor_peer_address(peer).data(&[]).finish();
                debug_assert_eq!(self.scratch.len(), place.len(), "the head of a Send indication");
                let body = self.scratch.len() - gimlet_stun::HEADER_LEN + payload.next_multiple_of(4);
                place.copy_from_slice(&self.scratch);
                place[LENGTH_AT..LENGTH_AT + 2].copy_from_slice(&(body as u16).to_be_bytes());
                let at = place.len() - 2;
                place[at..].copy_from_slice(&length);
            }
        }
    }
}

impl Head {
    const fn len(self) -> usize {
        match self {
            Head::Channel(_) => CHANNEL_HEADER_LEN,
            Head::Send(SocketAddr::V4(_)) => 20 + 12 + 4,
            Head::Send(SocketAddr::V6(_)) => 20 + 24 + 4,
        }
    }
}
