//! ICMP errors: about translated flows, and about SYNs.

use gimlet_machine::Instant;
use gimlet_wire::{IcmpQuote, Layout};

use crate::destination::{REFUSED_FOR, Unfit};
use crate::flow::slot::Slots;
use crate::handshake::Handshake;
use crate::translator::flow::state_of;
use crate::translator::{Fate, Translator};
use crate::{Cause, FlowKey, FlowState, Leg, SeqNumber, Side};

impl<S: Slots> Translator<S> {
    /// An ICMP message. Errors quote a segment that left on the side where they come from.
    pub(crate) fn on_icmp(&mut self, now: Instant, leg: Leg, frame: &mut [u8], layout: Layout) -> Fate {
        let quote = match IcmpQuote::of(frame, &layout) {
            Ok(Some(quote)) => quote,
            Ok(None) => return Fate::Pass,
            Err(_) => {
                self.counters.malformed += 1;
                return Fate::Pass;
            }
        };
        let Some(segment) = quote.segment(frame) else { return Fate::Pass };
        // The quote has no Ethernet header: its VLANs are those of the frame around it.
        let packet = Layout { tags: layout.tags, tag_count: layout.tag_count, ..quote.packet };
        let ports = u32::from(segment.source_port) << 16 | u32::from(segment.destination_port);
        let Some(key) = FlowKey::of(frame, &packet, ports, leg.side.across(), leg.tag) else {
            return Fate::Pass;
        };
        if let Some(place) = self.flows.find(&key) {
            let slot = *self.flows.slot(place);
            if state_of(&slot).is_translated() {
                slot.translation().apply_to_quote(leg.side, leg.checksum, frame, &layout, &quote);
                self.counters.quotes_translated += 1;
            }
            return Fate::Pass;
        }
        if let Some(handshake) = self.handshakes.take(&key) {
            return self.on_quoted_handshake(now, leg.side, SeqNumber(segment.seq), quote, handshake);
        }
        self.counters.quotes_unknown += u64::from(self.policy.serves(key.server()).is_some());
        Fate::Pass
    }

    /// An error about a SYN ends the attempt if it is one that will not pass (RFC 9293 §3.9.2.2). It has to quote
    /// the number of the SYN, which strangers do not know (RFC 5927 §4).
    fn on_quoted_handshake(
        &mut self,
        now: Instant,
        side: Side,
        seq: SeqNumber,
        quote: IcmpQuote,
        mut handshake: Handshake,
    ) -> Fate {
        let about_syn = side == Side::Server && seq == handshake.client.isn;
        let awaits = matches!(handshake.state, FlowState::HalfOpen | FlowState::AwaitServer);
        if !about_syn || !awaits {
            self.counters.quotes_implausible += 1;
            self.handshakes.put(handshake);
            return Fate::Consumed;
        }
        if quote.error.is_hard() && handshake.spoof.is_some() {
            self.abort(now, handshake, Cause::Unreachable, Unfit::Refused, now + REFUSED_FOR);
            return Fate::Consumed;
        }
        handshake.doubtful = true;
        let answered = handshake.spoof.is_some();
        self.handshakes.put(handshake);
        // A client that nobody answered has a right to know.
        if answered { Fate::Consumed } else { Fate::Pass }
    }
}
