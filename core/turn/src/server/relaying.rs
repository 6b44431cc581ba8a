//! Data, both ways: no memory is taken on the way to a peer, and a used buffer on the way back.

use core::net::SocketAddr;
use core::ops::Range;

use gimlet_machine::{Ecn, FourTuple, Instant, Verdict};
use gimlet_stun::{
    AddressFamily, ChannelData, Class, Message, MessageWriter, Method, TransactionId, attribute,
};

use super::allocation::{Allocation, Leg};
use super::{AllocationId, Server};
use crate::state::ServedState;

/// Where the data of ChannelData begins. Bytes.
const CHANNEL_HEADER_LEN: usize = 4;

/// The longest datagram of a peer that fits a Data indication with all that is around it, or
/// ChannelData, in one UDP datagram. Bytes.
const FROM_PEER_MAX: usize = gimlet_machine::DATAGRAM_MAX - 64;

/// What a Send indication may ask that must be understood (RFC 8656 §11.2). DONT-FRAGMENT is not among
/// it: a machine cannot set it, and a datagram that may not be fragmented must not be.
const UNDERSTOOD: [u16; 2] = [attribute::XOR_PEER_ADDRESS, attribute::DATA];

/// What a client wants relayed: by which allocation, to whom, and where the data lies.
pub(super) type ToRelay = (AllocationId, SocketAddr, Range<usize>);

impl Server {
    /// RFC 8656 §12.6, on the server's side. `None`: not ChannelData of a client of ours.
    pub(super) fn on_channel_data(&mut self, now: Instant, path: FourTuple, bytes: &[u8]) -> Option<ToRelay> {
        let Some(id) = self.clients.get(&path).copied() else {
            // Not a client of ours: perhaps another protocol on a shared port.
            self.counters.no_allocation += 1;
            return None;
        };
        // Over UDP no more than padding may follow (RFC 8656 §12.5): whatever is longer is something else.
        let channel =
            ChannelData::parse(bytes).filter(|it| bytes.len() - it.data.len() < CHANNEL_HEADER_LEN + 4);
        let allocation = self.allocations.get(id);
        let peer = channel.zip(allocation).and_then(|(channel, it)| it.peer_of(now, channel.number));
        let (Some(channel), Some(peer)) = (channel, peer) else {
            // A client's QUIC to this host begins with the same bits (RFC 9443 §2).
            self.counters.unknown_channel += 1;
            return None;
        };
        Some((id, peer, CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + channel.data.len()))
    }

    /// RFC 8656 §11.2. `None`: dropped.
    pub(super) fn on_send(
        &mut self,
        path: FourTuple,
        bytes: &[u8],
        message: &Message<'_>,
    ) -> Option<ToRelay> {
        let Some(id) = self.clients.get(&path).copied() else {
            self.counters.no_allocation += 1;
            return None;
        };
        let (peer, data) = (message.xor_peer_address(), message.data());
        let (Some(peer), Some(data), None) = (peer, data, message.required_outside(&UNDERSTOOD).next())
        else {
            self.counters.incomplete += 1;
            return None;
        };
        let start = crate::place::offset(bytes, data);
        Some((id, peer, start..start + data.len()))
    }

    /// Sends what lies in `range` on to `peer`. To another client of this server it is handed over in place: a
    /// packet from a host to itself is lost behind many a one-to-one NAT, and costs two system calls elsewhere.
    pub(super) fn relay(
        &mut self,
        now: Instant,
        id: AllocationId,
        peer: SocketAddr,
        (range, ecn): (Range<usize>, Ecn),
        bytes: &[u8],
    ) -> Verdict<FourTuple> {
        // A channel lasts longer than the permission that was made with it (RFC 8656 §12): both are needed.
        if !self.allocations.get(id).is_some_and(|it| it.is_permitted(now, peer.ip())) {
            self.counters.unpermitted += 1;
            return Verdict::Consumed;
        }
        let neighbour = self.publics.get(&peer).copied();
        let admitted = neighbour.is_some() || self.config.peers.admits(peer);
        let leg = |it: &Allocation| match it.leg(AddressFamily::of(peer)) {
            Leg::Open { local, public } => Some((local, public)),
            Leg::Unwanted | Leg::Opening | Leg::Refused(_) => None,
        };
        let allocation = self.allocations.get_mut(id).filter(|_| admitted);
        let Some((allocation, (local, public))) = allocation.and_then(|it| leg(it).map(|leg| (it, leg)))
        else {
            self.counters.denied_peer += 1;
            return Verdict::Consumed;
        };
        if !allocation.meter.sends(now, range.len()) {
            self.counters.over_rate += 1;
            return Verdict::Consumed;
        }
        self.counters.to_peers += 1;
        self.counters.bytes_to_peers += range.len() as u64;
        match (neighbour, bytes.get(range.clone())) {
            (Some(neighbour), Some(data)) => {
                self.on_peer_data(now, neighbour, public, ecn, data);
                Verdict::Consumed
            }
            (Some(_) | None, _) => Verdict::Pass { path: FourTuple::new(local, peer), range },
        }
    }

    /// RFC 8656 §11.3 and §12.7: from a peer at `remote`, to the client.
    pub(super) fn on_peer_data(
        &mut self,
        now: Instant,
        id: AllocationId,
        remote: SocketAddr,
        ecn: Ecn,
        data: &[u8],
    ) {
        let peer = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let Some(allocation) = self.allocations.get_mut(id) else { return };
        if allocation.state != ServedState::Active || !allocation.is_permitted(now, peer.ip()) {
            self.counters.unpermitted += 1;
            return;
        }
        if data.len() > FROM_PEER_MAX {
            self.counters.overflow += 1;
            return;
        }
        if !allocation.meter.hears(now, data.len()) {
            self.counters.over_rate += 1;
            return;
        }
        let (client, channel) = (allocation.client, allocation.channel_of(now, peer));
        let rng = &mut self.rng;
        let kept = self.outbox.push(client, ecn, |out| {
            if let Some(number) = channel {
                ChannelData { number, data }.write(out);
            } else {
                let id = TransactionId::random(rng);
                let writer = MessageWriter::new(out, Class::Indication, Method::DATA, id);
                writer.xor_peer_address(peer).data(data).finish();
            }
        });
        if kept {
            self.counters.to_clients += 1;
            self.counters.bytes_to_clients += data.len() as u64;
        } else {
            self.counters.overflow += 1;
        }
    }
}
