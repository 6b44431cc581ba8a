//! What the server sends: answers, and datagrams from peers.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::ops::Range;

use gimlet_machine::{Instant, Path, Verdict};
use gimlet_stun::{ChannelData, Class, Frame, Framer, Message, Method};

use super::answers::Answered;
use super::{Client, RECEIVED_MAX};
use crate::event::{ClientEvent, Failure};

/// Where the data of ChannelData begins. Bytes.
const CHANNEL_HEADER_LEN: usize = 4;

/// What one frame was.
enum Heard {
    /// Ours, and dealt with.
    Done,
    /// Not ours.
    NotMine,
    /// A datagram from a peer: where in the frame it lies.
    From { peer: SocketAddr, range: Range<usize> },
}

impl Client {
    pub(super) fn on_datagram(&mut self, now: Instant, bytes: &[u8]) -> Verdict<Path> {
        // RFC 8656 §12: the first byte tells ChannelData from STUN.
        let heard = match bytes.first() {
            Some(0x40..=0x4f) => self.on_channel_data(now, bytes),
            Some(_) | None => self.on_message(now, bytes),
        };
        match heard {
            Heard::Done => Verdict::Consumed,
            Heard::NotMine => Verdict::NotMine,
            Heard::From { peer, range } => {
                Verdict::Pass { path: Path::Relayed { relay: self.flow.relay, peer }, range }
            }
        }
    }

    /// A piece of the stream: any number of frames, and parts of two.
    pub(super) fn on_chunk(&mut self, now: Instant, bytes: &[u8]) {
        let mut framer: Framer = core::mem::take(&mut self.flow.framer);
        let mut rest = bytes;
        loop {
            match framer.poll(&mut rest) {
                Ok(Some(Frame::Message(frame))) => {
                    let heard = self.on_message(now, frame);
                    self.keep(heard, frame);
                }
                Ok(Some(Frame::ChannelData(ChannelData { number, data }))) => {
                    match self.peer_of(now, number) {
                        Some(peer) => self.keep(Heard::From { peer, range: 0..data.len() }, data),
                        None => self.counters.unknown_channel += 1,
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.counters.not_turn += 1;
                    self.fail(Failure::Framing(error));
                    break;
                }
            }
        }
        self.flow.framer = framer;
    }

    fn keep(&mut self, heard: Heard, frame: &[u8]) {
        let Heard::From { peer, range } = heard else { return };
        let Some(data) = frame.get(range) else { return };
        if self.flow.received >= RECEIVED_MAX {
            self.counters.received_overflow += 1;
            return;
        }
        let datagram: Vec<u8> = data.to_vec();
        self.flow.received += 1;
        self.tell(ClientEvent::Received { peer, datagram });
    }

    /// RFC 8656 §12.6.
    fn on_channel_data(&mut self, now: Instant, bytes: &[u8]) -> Heard {
        // No more than padding may follow (RFC 8656 §12.5): whatever is longer is something else.
        let exact = |channel: &ChannelData<'_>| bytes.len() - channel.data.len() < CHANNEL_HEADER_LEN + 4;
        let parsed = ChannelData::parse(bytes).filter(exact);
        let peer = parsed.and_then(|channel| self.peer_of(now, channel.number));
        let (Some(channel), Some(peer)) = (parsed, peer) else {
            // The server's host may speak QUIC on this flow, which begins with the same bits
            // (RFC 9443 §2).
            self.counters.unknown_channel += 1;
            return Heard::NotMine;
        };
        Heard::From { peer, range: CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + channel.data.len() }
    }

    /// Whose number it is. A number that was asked for counts from then on: the server may use it
    /// before its answer has reached us.
    fn peer_of(&self, now: Instant, number: u16) -> Option<SocketAddr> {
        let channel = self.peers.channel(number)?;
        let known = self.allocation.state.is_allocated() && channel.may_carry(now);
        (known && self.peers.is_permitted(now, channel.peer.ip())).then_some(channel.peer)
    }

    fn on_message(&mut self, now: Instant, bytes: &[u8]) -> Heard {
        let Ok(message) = Message::parse(bytes) else {
            self.counters.not_turn += 1;
            return Heard::NotMine;
        };
        match (message.class(), message.method()) {
            (Class::Success | Class::Error, _) => match self.on_answer(now, &message) {
                Answered::Ours => Heard::Done,
                Answered::Unknown => Heard::NotMine,
            },
            (Class::Indication, Method::DATA) => self.on_data(now, bytes, &message),
            (Class::Request | Class::Indication, _) => {
                self.counters.not_an_answer += 1;
                Heard::NotMine
            }
        }
    }

    /// RFC 8656 §11.4, §11.6.
    fn on_data(&mut self, now: Instant, bytes: &[u8], message: &Message<'_>) -> Heard {
        let (Some(peer), None) = (message.xor_peer_address(), message.unknown_required().next()) else {
            self.counters.incomplete += 1;
            return Heard::Done;
        };
        if !self.is_permitted(now, peer.ip()) {
            self.counters.unpermitted += 1;
            return Heard::Done;
        }
        if let Some(data) = message.data() {
            let start = crate::place::offset(bytes, data);
            return Heard::From { peer, range: start..start + data.len() };
        }
        match message.icmp() {
            // Hints may be lost; what the owner must learn may not.
            Some(icmp) if self.events.len() < super::EVENTS_MAX / 2 => {
                self.tell(ClientEvent::PeerUnreachable { peer, icmp });
            }
            Some(_) => self.counters.events_overflow += 1,
            None => self.counters.incomplete += 1,
        }
        Heard::Done
    }
}
