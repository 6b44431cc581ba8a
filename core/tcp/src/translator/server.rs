//! Handshakes: what servers say.

use gimlet_machine::Instant;
use gimlet_wire::TcpFlags;

use crate::destination::{REFUSED_FOR, Unfit};
use crate::flow::slot::Slots;
use crate::handshake::{FastOpen, Handshake, Real};
use crate::state::FlowStep;
use crate::timer::SYN_REPEAT;
use crate::translator::admit::{accepts_ecn, offered, segment_size};
use crate::translator::client::Memory;
use crate::translator::seen::{Arrival, Seen, SynOptions};
use crate::translator::{Fate, Translator};
use crate::{Cause, Event, FlowState, Role, SeqNumber, Side};

/// Segments of Near's flows are believed to be Far's if they lie so close behind S': what a server sends before
/// the record of its handshake is forgotten.
const SPACE: u32 = 1 << 24;

impl<S: Slots> Translator<S> {
    pub(crate) fn on_server(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_>,
        seen: &Seen,
        handshake: Handshake,
    ) -> Fate {
        if seen.is_accepting() {
            return self.on_syn_ack(now, arrival, seen, handshake);
        }
        if seen.has(TcpFlags::RST) {
            return self.on_server_reset(now, seen, handshake);
        }
        if self.config.role == Role::Near && !seen.has(TcpFlags::SYN) {
            return self.on_sign_of_life(now, seen, handshake);
        }
        let (first, early) = (handshake.first_byte(), handshake.early_len());
        if seen.has(TcpFlags::SYN) {
            // Both ends open at once: the server answers the client's SYN with a SYN-ACK, and that is enough.
            self.counters.simultaneous += 1;
        } else if handshake.real.is_some() || !seen.has(TcpFlags::ACK) || seen.ack.within(first, early + 1) {
            // It overtook the SYN-ACK, or the SYN-ACK's answer is still on its way. It comes again.
            self.counters.early_from_server += 1;
        } else {
            // RFC 9293 §3.5.2: an old connection of the server's is challenged; a client that had sent this SYN
            // itself would answer so.
            self.reset_server(&handshake, seen.ack);
        }
        self.handshakes.put(handshake);
        Fate::Consumed
    }

    fn on_syn_ack(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_>,
        seen: &Seen,
        mut handshake: Handshake,
    ) -> Fate {
        if !seen.ack.within(handshake.first_byte(), handshake.early_len() + 1) {
            self.reset_server(&handshake, seen.ack);
            self.handshakes.put(handshake);
            return Fate::Consumed;
        }
        let Some(real) = read(arrival, seen) else { return Fate::Consumed };
        if self.config.role.spoofs() {
            let offered = offered_by(&handshake);
            self.learn(now, arrival, seen, offered);
        }
        if self.config.role == Role::Near {
            // Far answers the server. The client has its SYN-ACK.
            let repeated = handshake.real.replace(real).is_some();
            self.counters.repeated_syn_acks += u64::from(repeated);
            if handshake.state == FlowState::AwaitServer {
                // Far lets it through because it has not heard the client, who has nothing more to say. If it does
                // so again, it may have been restarted and know nothing at all.
                if repeated && now.since(handshake.clock.syn_at) >= SYN_REPEAT {
                    // Not each time: the server may answer that, too, and so on for ever.
                    self.counters.syns_resent += 1;
                    self.send_syn(now, &mut handshake);
                }
                self.counters.acknowledged_again += 1;
                let answer = handshake.answer_again();
                self.send(Side::Server, handshake.tag, answer);
            }
            self.handshakes.put(handshake);
            return Fate::Consumed;
        }
        let known = handshake.real.replace(real);
        match handshake.state {
            FlowState::HalfOpen => handshake.step(FlowStep::ServerAccepts),
            FlowState::AwaitServer => return self.join_and_flush(now, arrival, seen, handshake),
            // The newest counts until the client has answered: a server that restarted has another number.
            FlowState::AwaitClient => {
                self.counters.repeated_syn_acks += u64::from(known == Some(real));
            }
            FlowState::Established
            | FlowState::ClientClosed
            | FlowState::ServerClosed
            | FlowState::TimeWait
            | FlowState::Lingering
            | FlowState::Aborted
            | FlowState::Bypass => {}
        }
        // Far does not know whether Near answered. A client that was answered makes nothing of another SYN-ACK.
        let relayed = handshake.spoof.is_none();
        self.handshakes.put(handshake);
        if relayed { Fate::Pass } else { Fate::Consumed }
    }

    /// A RST during a handshake is believed if it knows what it answers (RFC 9293 §3.10.7.3).
    fn on_server_reset(&mut self, now: Instant, seen: &Seen, handshake: Handshake) -> Fate {
        let (first, early) = (handshake.first_byte(), handshake.early_len());
        let answers = seen.has(TcpFlags::ACK) && seen.ack.within(first, early + 1);
        let follows = handshake.real.is_some_and(|real| seen.seq == real.isn + 1);
        let translated = handshake.spoofed().is_some_and(|spoofed| seen.seq == spoofed + 1);
        let near = self.config.role == Role::Near;
        if !(answers || follows || near && translated) {
            self.counters.blind_resets += 1;
            self.handshakes.put(handshake);
            return Fate::Consumed;
        }
        if near && translated {
            // Far has told the client.
            self.destinations.mark(now, handshake.key.server(), Unfit::Refused, now + REFUSED_FOR);
            self.fail(now, handshake, Cause::Refused, Memory::None);
            return Fate::Pass;
        }
        // A client that Near did not answer is still waiting for this.
        let fate = if handshake.spoof.is_none() { Fate::Pass } else { Fate::Consumed };
        self.abort(now, handshake, Cause::Refused, Unfit::Refused, now + REFUSED_FOR);
        fate
    }

    /// Near: the server's side sends, so somebody there answered the client.
    fn on_sign_of_life(&mut self, now: Instant, seen: &Seen, handshake: Handshake) -> Fate {
        let is_far = handshake.spoofed().is_some_and(|spoofed| (seen.seq - spoofed) < SPACE);
        if !is_far {
            self.counters.early_from_server += 1;
            self.handshakes.put(handshake);
            return Fate::Consumed;
        }
        let warm = self.config.warm_for;
        self.destinations.renew(now, handshake.key.server(), warm);
        self.counters.established += 1;
        self.tell(Event::Established {
            flow: handshake.key,
            early: 0,
            waited: now.since(handshake.clock.born),
        });
        Fate::Pass
    }

    /// Tells the client that there is no connection, and remembers both.
    pub(crate) fn abort(
        &mut self,
        now: Instant,
        handshake: Handshake,
        cause: Cause,
        why: Unfit,
        until: Instant,
    ) {
        if handshake.spoof.is_some() {
            self.counters.resets_to_client += 1;
            let reset = handshake.reset_to_client();
            self.send(Side::Client, handshake.tag, reset);
        }
        self.destinations.mark(now, handshake.key.server(), why, until);
        let memory = if self.config.role == Role::Near { Memory::None } else { Memory::Kept };
        self.fail(now, handshake, cause, memory);
    }

    pub(crate) fn reset_server(&mut self, handshake: &Handshake, at: SeqNumber) {
        self.counters.resets_to_server += 1;
        let reset = handshake.reset_server_at(at);
        self.send(Side::Server, handshake.tag, reset);
    }
}

impl Handshake {
    /// Bytes that went along with the SYN.
    pub(crate) fn early_len(&self) -> u32 {
        match self.fast_open {
            FastOpen::Sent(bytes) => u32::from(bytes),
            FastOpen::Off | FastOpen::Waiting(_) => 0,
        }
    }
}

/// What a SYN-ACK says.
fn read(arrival: &Arrival<'_>, seen: &Seen) -> Option<Real> {
    let view = arrival.layout.tcp(arrival.frame).ok()?;
    let options = SynOptions::of(&view);
    Some(Real {
        isn: seen.seq,
        timestamp: options.timestamps.map(|(value, _)| value),
        scale: options.scale,
        segment_size: segment_size(&options),
        window: seen.window,
        sack: options.sack,
        ecn: accepts_ecn(seen.flags),
    })
}

/// What the SYN of this handshake offered to the server, as it left.
fn offered_by(handshake: &Handshake) -> u32 {
    let layout = gimlet_wire::Layout::of(&handshake.syn).ok();
    let view = layout.and_then(|layout| layout.tcp(&handshake.syn).ok());
    view.map_or(0, |view| offered(&SynOptions::of(&view), view.flags()))
}
