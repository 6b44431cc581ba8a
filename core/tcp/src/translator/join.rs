//! Both spaces are known: the flow goes into the table, and what was held goes out.

use alloc::vec::Vec;
use core::time::Duration;

use gimlet_machine::Instant;
use gimlet_wire::{Envelope, Segment, TcpFlags, TcpOptionList};

use crate::destination::{REFUSED_FOR, Unfit};
use crate::flow::slot::{Flow, Slot, Slots, Tick};
use crate::handshake::{FastOpen, Handshake, Real, SEGMENT_SIZE_DEFAULT, Spoof, bare};
use crate::hold::Hold;
use crate::state::FlowStep;
use crate::translator::flow::{FLUSHING, mark};
use crate::translator::seen::{Arrival, Seen};
use crate::translator::{Fate, OUTBOX_MAX, Translator};
use crate::{Cause, Event, FlowState, SeqNumber, Side, Strip, Translation, Windows};

/// The largest window scale whose units no window of use is less than.
const FINE_SCALE: u8 = 7;
/// Segments that come this close together are one burst.
const BURST: Duration = Duration::from_millis(100);

impl<S: Slots> Translator<S> {
    /// The client answered last: what it said goes on, translated.
    pub(crate) fn join_in_passing(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_>,
        seen: &Seen,
        handshake: Handshake,
    ) -> Fate {
        let Some((place, _)) = self.join(now, handshake, FlowStep::ClientAnswers) else {
            return Fate::Consumed;
        };
        if seen.has(TcpFlags::FIN) {
            self.step_flow(place, FlowStep::Fin(Side::Client), now);
        }
        let slot = *self.flows.slot(place);
        if let Ok(mut tcp) = arrival.layout.tcp_mut(arrival.frame) {
            slot.translation().apply(Side::Client, arrival.leg.checksum, &mut tcp);
        }
        Fate::Pass
    }

    /// The client answered last, with a segment that the server would not take for an answer.
    pub(crate) fn join_and_acknowledge(&mut self, now: Instant, handshake: Handshake) -> Fate {
        if let Some((_, handshake)) = self.join(now, handshake, FlowStep::ClientAnswers) {
            let ack = handshake.to_server(handshake.first_byte(), TcpFlags::ACK, None, &[]);
            self.send(Side::Server, handshake.tag, ack);
        }
        Fate::Consumed
    }

    /// The server answered last: it gets what the client said.
    pub(crate) fn join_and_flush(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_>,
        seen: &Seen,
        handshake: Handshake,
    ) -> Fate {
        let Some((place, mut handshake)) = self.join(now, handshake, FlowStep::ServerAccepts) else {
            return Fate::Consumed;
        };
        let taken = seen.ack - handshake.first_byte();
        self.settle_fast_open(now, arrival, seen, &mut handshake);
        let from = handshake.first_byte() + taken;
        let ack = handshake.to_server(from, TcpFlags::ACK, None, &[]);
        self.send(Side::Server, handshake.tag, ack);
        if let Some(hold) = &mut handshake.hold {
            hold.skip_to(from);
        }
        let edge = seen.ack + handshake.real.map_or(0, |real| u32::from(real.window));
        self.flush(now, place, handshake, edge);
        Fate::Consumed
    }

    /// The server's window moved: more of what is held may go.
    pub(crate) fn flush_more(&mut self, now: Instant, place: usize, slot: &Slot, seen: &Seen) {
        let Some(handshake) = self.handshakes.take(&slot.key()) else {
            self.remark(place, 0, FLUSHING);
            return;
        };
        if !seen.has(TcpFlags::ACK) || seen.has(TcpFlags::RST) {
            self.handshakes.put(handshake);
            return;
        }
        let scale = handshake.real.and_then(|real| real.scale).unwrap_or(0);
        let scale = if handshake.spoof.is_some_and(|s| s.offer.client_scale.is_some()) { scale } else { 0 };
        let edge = seen.ack + (u32::from(seen.window) << scale);
        self.flush(now, place, handshake, edge);
    }

    /// Sends what is held up to `edge`, in segments that the server takes. The rest waits: nothing is sent that
    /// the server has no room for, and nothing of it was acknowledged to the client.
    fn flush(&mut self, now: Instant, place: usize, mut handshake: Handshake, edge: SeqNumber) {
        let Some(mut hold) = handshake.hold.take() else { return };
        let size = handshake.real.map_or(0, |real| usize::from(real.segment_size));
        let room = size.saturating_sub(handshake.option_len()).max(1);
        while self.outbox.len() < OUTBOX_MAX
            && let Some(at) = hold.next(hold.sent())
            && at.before(edge)
        {
            let bytes = hold.at(at, room.min((edge - at) as usize));
            let end = at + bytes.len() as u32;
            let last = hold.next(end).is_none();
            let fin = hold.ends_at(end);
            let push = if last { TcpFlags::PSH } else { TcpFlags::NONE };
            let end_flag = if fin { TcpFlags::FIN } else { TcpFlags::NONE };
            let frame = handshake.to_server(at, TcpFlags::ACK | push | end_flag, hold.urgent(), bytes);
            self.send(Side::Server, handshake.tag, frame);
            self.counters.flushed += 1;
            hold.skip_to(end);
            if fin {
                self.finish_flush(now, place, &mut hold);
            }
        }
        if hold.ends_at(hold.sent()) {
            let frame = handshake.to_server(hold.sent(), TcpFlags::ACK | TcpFlags::FIN, None, &[]);
            self.send(Side::Server, handshake.tag, frame);
            self.finish_flush(now, place, &mut hold);
        }
        if hold.next(hold.sent()).is_some() {
            self.remark(place, FLUSHING, 0);
            handshake.hold = Some(hold);
            self.handshakes.put(handshake);
        } else {
            self.remark(place, 0, FLUSHING);
        }
    }

    fn finish_flush(&mut self, now: Instant, place: usize, hold: &mut Hold) {
        hold.forget_fin();
        self.step_flow(place, FlowStep::Fin(Side::Client), now);
    }

    /// Puts the flow into the table. `None`: it cannot be, and both ends know.
    fn join(&mut self, now: Instant, mut handshake: Handshake, step: FlowStep) -> Option<(usize, Handshake)> {
        let (spoof, real) = (handshake.spoof?, handshake.real?);
        if spoof.timestamps && real.timestamp.is_none() {
            // The client's segments have timestamps, and it expects them. Some stacks drop what has none.
            self.abort_both(now, handshake, Cause::NoTimestamps);
            return None;
        }
        if is_coarse(&spoof, &real) {
            self.abort_both(now, handshake, Cause::CoarseWindows);
            return None;
        }
        let flow = Flow {
            key: handshake.key,
            translation: translation(&spoof, &real),
            segment_size: narrow(&spoof, &real),
            state: handshake.state.after(step).unwrap_or(FlowState::Established) as u8,
            mark: mark(handshake.client.window, handshake.client.isn, real.isn),
            seen: Tick::of(now),
        };
        let Some(place) = self.keep(now, &flow) else {
            self.abort_both(now, handshake, Cause::TableFull);
            return None;
        };
        self.counters.established += 1;
        self.tell(Event::Established {
            flow: handshake.key,
            early: handshake.held(),
            waited: now.since(handshake.clock.born),
        });
        handshake.step(step);
        if spoof.window < SEGMENT_SIZE_DEFAULT {
            // The client was promised less than a segment: it waits to be told of more.
            let update = handshake.acknowledge(handshake.first_byte());
            self.send(Side::Client, handshake.tag, update);
        }
        Some((place, handshake))
    }

    /// Nothing of the client's has reached the server, and nothing will.
    fn abort_both(&mut self, now: Instant, handshake: Handshake, cause: Cause) {
        self.reset_server(&handshake, handshake.first_byte());
        self.abort(now, handshake, cause, Unfit::Changed, now + REFUSED_FOR);
    }

    /// Whether a client's segment is larger than what its server takes.
    pub(crate) fn is_too_large(&self, place: usize, arrival: &Arrival<'_>, seen: &Seen) -> bool {
        let size = usize::from(self.flows.slot(place).segment_size());
        let segment = match arrival.leg.gso {
            0 => seen.payload.len(),
            gso => usize::from(gso),
        };
        // A path of IPv6 has 1280 bytes for everybody, so nobody can be told of less (RFC 8200 §5).
        size != 0 && segment > size && (arrival.key.client().is_ipv4() || size >= 1_220)
    }

    /// Tells a client how much its server takes at a time. The promise was ours, the segment goes no further.
    pub(crate) fn refuse_size(&mut self, now: Instant, place: usize, arrival: &Arrival<'_>) -> Fate {
        let size = u32::from(self.flows.slot(place).segment_size());
        let headers = if arrival.key.client().is_ipv4() { 40 } else { 60 };
        let Arrival { leg, frame, layout, .. } = arrival;
        let envelope = Envelope { hop_limit: 64, traffic_class: 0, ..Envelope::of(frame, layout).reversed() };
        self.counters.too_large += 1;
        // Once per burst.
        let told = self.moments.told.is_some_and(|(key, at)| key == arrival.key && now.since(at) < BURST);
        if !told {
            self.moments.told = Some((arrival.key, now));
            let mut told = Vec::new();
            envelope.write_packet_too_big(&mut told, size + headers, &frame[layout.packet_range()]);
            self.send(Side::Client, leg.tag, Some(told));
        }
        Fate::Consumed
    }

    /// What became of the data that went along with the SYN.
    fn settle_fast_open(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_>,
        seen: &Seen,
        handshake: &mut Handshake,
    ) {
        let FastOpen::Sent(_) = handshake.fast_open else { return };
        self.harvest(now, arrival);
        let taken = seen.ack - handshake.first_byte();
        if taken == 0 {
            self.counters.fast_open_refused += 1;
            return;
        }
        self.counters.fast_opened += 1;
        let ack = handshake.acknowledge(seen.ack);
        self.send(Side::Client, handshake.tag, ack);
    }
}

fn translation(spoof: &Spoof, real: &Real) -> Translation {
    let promised = spoof.offer.client_scale.map(|_| spoof.offer.server_scale);
    let mut strip = Strip::NOTHING;
    if spoof.offer.sack && !real.sack {
        strip = strip.and(Strip::SACK);
    }
    if spoof.offer.ecn && !real.ecn {
        strip = strip.and(Strip::ECN);
    }
    let clock = real.timestamp.filter(|_| spoof.timestamps);
    Translation {
        delta: spoof.cookie.isn - real.isn,
        clock: clock.map_or(0, |clock| spoof.cookie.timestamp.wrapping_sub(clock)),
        windows: Windows::new(spoof.offer.client_scale, promised, real.scale),
        strip,
    }
}

/// Whether windows of the server could vanish when they are said in the units that the client was promised. Units
/// of 128 bytes are less than any segment.
fn is_coarse(spoof: &Spoof, real: &Real) -> bool {
    spoof.offer.client_scale.is_some() && spoof.offer.server_scale > real.scale.unwrap_or(0).max(FINE_SCALE)
}

/// The server's segment size, if the client may send larger ones.
fn narrow(spoof: &Spoof, real: &Real) -> u16 {
    match spoof.segment_size {
        Some(promised) if promised > real.segment_size => real.segment_size,
        // Far does not know what was promised, and Near promised what it learned from this server.
        Some(_) | None => 0,
    }
}

impl Handshake {
    /// What the server's SYN-ACK says to a client that has had one: acknowledgement and window without the SYN.
    fn acknowledge(&self, ack: SeqNumber) -> Option<Vec<u8>> {
        let (spoof, real) = (self.spoof?, self.real?);
        let windows = translation(&spoof, &real).windows;
        // The window of a SYN-ACK is not scaled, and those that follow are.
        let scale = spoof.offer.client_scale.map_or(0, |_| spoof.offer.server_scale);
        let window =
            if windows == Windows::default() && scale == 0 { real.window } else { real.window >> scale };
        let clocks = self.client.timestamps.filter(|_| spoof.timestamps);
        let options = clocks.map_or(TcpOptionList::new(), |(value, _)| {
            let clock = spoof.cookie.timestamp;
            TcpOptionList::new().no_operation().no_operation().timestamps(clock, value)
        });
        self.client_frame(Segment {
            flags: TcpFlags::ACK,
            window,
            options,
            ..bare(spoof.cookie.isn + 1, ack)
        })
    }
}
