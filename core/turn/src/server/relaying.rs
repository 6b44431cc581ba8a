//! Data, both ways: no memory is taken on the way to a peer, and a used buffer on the way back.

use core::net::SocketAddr;

use gimlet_machine::{FourTuple, Input, Instant, Verdict};
use gimlet_stun::{ChannelData, Class, Message, MessageWriter, Method, TransactionId, attribute};

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

impl Server {
    /// RFC 8656 §12.6, on the server's side.
    pub(super) fn on_channel_data(
        &mut self,
        now: Instant,
        path: FourTuple,
        bytes: &[u8],
    ) -> Verdict<FourTuple> {
        let Some(id) = self.clients.get(&path).copied() else {
            // Not a client of ours: perhaps another protocol on a shared port.
            self.counters.no_allocation += 1;
            return Verdict::NotMine;
        };
        let channel = ChannelData::parse(bytes);
        let allocation = self.allocations.get(id);
        let peer = channel.zip(allocation).and_then(|(channel, it)| it.peer_of(now, channel.number));
        let (Some(channel), Some(peer)) = (channel, peer) else {
            // A client's QUIC to this host begins with the same bits (RFC 9443 §2).
            self.counters.unknown_channel += 1;
            return Verdict::NotMine;
        };
        let range = CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + channel.data.len();
        self.pass(id, peer, range)
    }

    /// RFC 8656 §11.2.
    pub(super) fn on_send(
        &mut self,
        now: Instant,
        path: FourTuple,
        bytes: &[u8],
        message: &Message<'_>,
    ) -> Verdict<FourTuple> {
        let Some(id) = self.clients.get(&path).copied() else {
            self.counters.no_allocation += 1;
            return Verdict::Consumed;
        };
        let (peer, data) = (message.xor_peer_address(), message.data());
        let (Some(peer), Some(data), None) = (peer, data, message.required_outside(&UNDERSTOOD).next())
        else {
            self.counters.incomplete += 1;
            return Verdict::Consumed;
        };
        if !self.allocations.get(id).is_some_and(|it| it.is_permitted(now, peer.ip())) {
            self.counters.unpermitted += 1;
            return Verdict::Consumed;
        }
        let start = crate::place::offset(bytes, data);
        self.pass(id, peer, start..start + data.len())
    }

    fn pass(
        &mut self,
        id: AllocationId,
        peer: SocketAddr,
        range: core::ops::Range<usize>,
    ) -> Verdict<FourTuple> {
        let admitted = self.config.peers.admits(peer);
        let allocation = self.allocations.get_mut(id).filter(|_| admitted);
        let Some((allocation, local)) = allocation.and_then(|it| it.local_for(peer).map(|local| (it, local)))
        else {
            self.counters.denied_peer += 1;
            return Verdict::Consumed;
        };
        allocation.relayed.0 += range.len() as u64;
        self.counters.to_peers += 1;
        Verdict::Pass { path: FourTuple::new(local, peer), range }
    }

    /// RFC 8656 §11.3 and §12.7: from a peer, to the client.
    pub(super) fn on_peer_data(&mut self, now: Instant, id: AllocationId, input: &Input<'_, FourTuple>) {
        let remote = input.path.remote;
        let peer = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let Some(allocation) = self.allocations.get_mut(id) else { return };
        if allocation.state != ServedState::Active || !allocation.is_permitted(now, peer.ip()) {
            self.counters.unpermitted += 1;
            return;
        }
        let data = &*input.bytes;
        if data.len() > FROM_PEER_MAX {
            self.counters.overflow += 1;
            return;
        }
        let (client, channel) = (allocation.client, allocation.channel_of(now, peer));
        let rng = &mut self.rng;
        let kept = self.outbox.push(client, input.ecn, |out| {
            if let Some(number) = channel {
                ChannelData { number, data }.write(out);
            } else {
                let id = TransactionId::random(rng);
                let writer = MessageWriter::new(out, Class::Indication, Method::DATA, id);
                writer.xor_peer_address(peer).data(data).finish();
            }
        });
        if kept {
            allocation.relayed.1 += data.len() as u64;
            self.counters.to_clients += 1;
        } else {
            self.counters.overflow += 1;
        }
    }
}
