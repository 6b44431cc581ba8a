//! Flows in the table: translated, aborted, or not touched.

use alloc::vec::Vec;

use gimlet_machine::Instant;
use gimlet_wire::{Envelope, Segment, TcpFlags, TcpOptionList};

use crate::flow::slot::{Flow, Slot, Slots, Tick};
use crate::handshake::bare;
use crate::state::FlowStep;
use crate::timer::{BYPASS_IDLE, ESTABLISHED_IDLE, HALF_CLOSED_IDLE, LINGER, TIME_WAIT, sweep};
use crate::translator::admit::checksum_holds;
use crate::translator::seen::{Arrival, Seen};
use crate::translator::{Fate, Translator};
use crate::{EARLY_DATA_MAX, Event, FlowKey, FlowState, SeqNumber, Side, Translation};

/// In a slot's mark: early data waits for the server's window.
pub(crate) const FLUSHING: u32 = 1;
/// In a slot's mark: the client sent another SYN, so the server may begin anew.
pub(crate) const REOPENED: u32 = 2;
/// How long a server's RSTs to something that Far knew nothing about are not believed, in ticks: until Near has sent the
/// SYN again ([`crate::SYN_RTO`]) and it has come here.
const REFLEX_TICKS: u16 = 6;
/// In the mark of a flow that is not touched: nobody knew it when Far was asked. Its notes are the number and the
/// acknowledgement of what the client said then.
pub(crate) const ASKED: u32 = 4;
/// Where in a mark the client's window stands, in six bits.
const WINDOW_SHIFT: u32 = 2;
/// The bits of that window. None is set once a server has answered a second SYN in the old connection: a window has
/// one set always, and is of no use any more.
const WINDOW_BITS: u32 = 0x3f << WINDOW_SHIFT;
/// Where the tag of Sr stands, in eight bits.
const SERVER_SHIFT: u32 = 8;
/// Where the tag of Ci stands, in twelve bits.
const CLIENT_SHIFT: u32 = 16;

/// A mark for a flow whose client's last window was `window`, and with these initial numbers.
pub(crate) fn mark(window: u16, client: SeqNumber, server: SeqNumber) -> u32 {
    u32::from(compress(window)) << WINDOW_SHIFT
        | (tag(server) & 0xff) << SERVER_SHIFT
        | tag(client) << CLIENT_SHIFT
}

/// Whether a SYN with this number may be a copy of the one that began the flow of this mark.
fn is_copy(mark: u32, client: SeqNumber) -> bool {
    mark >> CLIENT_SHIFT == tag(client)
}

/// A window in six bits, rounded down: four for the place of the highest bit, two for those below.
fn compress(window: u16) -> u16 {
    let place = window.max(4).ilog2() as u16;
    place << 2 | window.max(4) >> (place - 2) & 3
}

fn expand(bits: u16) -> u16 {
    let place = (bits >> 2 & 15).max(2);
    (4 | bits & 3) << (place - 2)
}

/// Twelve bits of a number, which tell two of them apart well enough. Any eight of them do, for a start.
fn tag(isn: SeqNumber) -> u32 {
    isn.0.wrapping_mul(0x9e37_79b1) >> 20
}

pub(crate) fn state_of(slot: &Slot) -> FlowState {
    FlowState::from_number(slot.state()).unwrap_or(FlowState::Bypass)
}

/// How long a flow is remembered after its last segment, in a table in which room is short, or is not.
///
/// A RST that was forged may be dropped by the end that it was for, without a word, and the flow may be idle. So it is
/// forgotten early only if others need the room.
fn lifetime(state: FlowState, is_short: bool) -> core::time::Duration {
    match state {
        FlowState::HalfOpen | FlowState::AwaitServer | FlowState::AwaitClient | FlowState::Established => {
            ESTABLISHED_IDLE
        }
        FlowState::ClientClosed | FlowState::ServerClosed => HALF_CLOSED_IDLE,
        FlowState::TimeWait => TIME_WAIT,
        FlowState::Lingering if !is_short => ESTABLISHED_IDLE,
        FlowState::Lingering | FlowState::Aborted => LINGER,
        FlowState::Bypass => BYPASS_IDLE,
    }
}

/// Whether the time of the flow is over. A tick is allowed for: what is kept began at its start.
fn is_expired(slot: &Slot, now: Instant, is_short: bool) -> bool {
    let tick = Tick(1).start().since(Instant::ZERO);
    now.since(slot.seen().start()) >= lifetime(state_of(slot), is_short) + tick
}

/// Whether there is nothing about the flow but its translation.
#[inline]
pub(crate) fn is_plain(slot: &Slot, now: Instant) -> bool {
    /// Fewer ticks than any established flow may be idle.
    const RECENT: u32 = 1_000;
    let idle = Tick::of(now).0.wrapping_sub(slot.seen().0);
    slot.state() == FlowState::Established as u8
        && slot.mark() & (FLUSHING | REOPENED) == 0
        && slot.segment_size() == 0
        && idle < RECENT
}

impl<S: Slots> Translator<S> {
    /// A segment of a flow that the table has, about which there is more than its translation.
    #[cold]
    pub(crate) fn on_flow(&mut self, now: Instant, place: usize, arrival: &mut Arrival<'_>) -> Fate {
        if is_expired(self.flows.slot(place), now, self.is_short()) {
            self.close(place);
            return self.on_stranger(now, arrival);
        }
        let Ok(view) = arrival.layout.tcp(arrival.frame) else { return Fate::Pass };
        let seen = Seen::of(&view, &arrival.layout);
        let state = state_of(self.flows.slot(place));
        match state {
            FlowState::Bypass => self.on_bypassed(now, place, arrival, &seen),
            FlowState::Aborted => self.on_aborted(now, place, arrival, &seen),
            FlowState::HalfOpen
            | FlowState::AwaitServer
            | FlowState::AwaitClient
            | FlowState::Established
            | FlowState::ClientClosed
            | FlowState::ServerClosed
            | FlowState::TimeWait
            | FlowState::Lingering => self.on_translated(now, place, arrival, &seen),
        }
    }

    fn on_translated(&mut self, now: Instant, place: usize, arrival: &mut Arrival<'_>, seen: &Seen) -> Fate {
        let state = state_of(self.flows.slot(place));
        match arrival.leg.side {
            Side::Client if seen.is_opening() && is_copy(self.flows.slot(place).mark(), seen.seq) => {
                // A copy of the first SYN that took its time: the server knows it, too. Or a new one whose tag is the
                // same by chance: then the server answers with a number of its own, and the client is to hear that.
                self.counters.repeated_syns += 1;
                if state.is_over() {
                    self.update(place, |_, mark| (state, mark | REOPENED), now);
                }
                return Fate::Pass;
            }
            Side::Client if seen.is_opening() && state.is_over() => {
                self.close(place);
                return self.on_stranger(now, arrival);
            }
            Side::Client if seen.is_opening() => {
                // A client that lost everything. The server challenges it (RFC 5961 §4), or begins anew, too.
                self.update(place, |_, mark| (state, mark | REOPENED), now);
                self.counters.reopened += 1;
                return Fate::Pass;
            }
            Side::Server if seen.is_accepting() => return self.on_late_syn_ack(now, place, arrival, seen),
            Side::Client if self.is_too_large(place, arrival, seen) => {
                return self.refuse_size(now, place, arrival);
            }
            Side::Client | Side::Server => {}
        }
        let mark = self.flows.slot(place).mark();
        if mark & REOPENED != 0
            && !is_copy(mark, seen.seq - 1)
            && self.asks_about_strangers(now, arrival.leg.side)
            && let Some(handshake) = self.make_up(now, arrival, seen)
        {
            // Near has answered that SYN, and the client has proof: nobody is left who knows the old flow, but for the
            // server, which will challenge the new one and be told so.
            self.close(place);
            return self.on_made_up(now, arrival, seen, handshake);
        }
        if mark & REOPENED != 0 && arrival.leg.side == Side::Server && !seen.has(TcpFlags::RST) {
            // The server goes on with the old connection (RFC 5961 §4): whoever sends a SYN-ACK now is not it.
            self.remark(place, 0, WINDOW_BITS);
        }
        let next = next_state(state, arrival.leg.side, seen.flags);
        if seen.has(TcpFlags::RST) {
            self.let_go(place);
        }
        let ends_linger = state == FlowState::Lingering && next == state;
        if ends_linger {
            // Another RST does not prolong anything.
            let seen_at = self.flows.slot(place).seen();
            self.update_at(place, next, seen_at);
        } else {
            self.update(place, |_, mark| (next, mark), now);
        }
        let slot = *self.flows.slot(place);
        if let Ok(mut tcp) = arrival.layout.tcp_mut(arrival.frame) {
            slot.translation().apply(arrival.leg.side, arrival.leg.checksum, &mut tcp);
        }
        self.counters.translated += 1;
        if slot.mark() & FLUSHING != 0 && arrival.leg.side == Side::Server {
            self.flush_more(now, place, &slot, seen);
        }
        Fate::Pass
    }

    /// A SYN-ACK of a server that the client must not see: a repeated one, because the acknowledgement was lost
    /// on its way, or one that begins a new connection.
    fn on_late_syn_ack(&mut self, now: Instant, place: usize, arrival: &Arrival<'_>, seen: &Seen) -> Fate {
        let slot = *self.flows.slot(place);
        let is_ours = slot.mark() >> SERVER_SHIFT & 0xff == tag(seen.seq) & 0xff;
        if slot.mark() & REOPENED != 0 && slot.mark() & WINDOW_BITS != 0 && !is_ours {
            self.forsake(now, arrival.key, seen.ack - 1);
            return Fate::Pass;
        }
        self.counters.repeated_syn_acks += 1;
        let waits = match state_of(&slot) {
            FlowState::Established | FlowState::ClientClosed => true,
            // Whoever sends a SYN-ACK has not received the RST, or did not believe it.
            FlowState::Lingering => {
                self.step_flow(place, FlowStep::GoOn, now);
                true
            }
            FlowState::HalfOpen
            | FlowState::AwaitServer
            | FlowState::AwaitClient
            | FlowState::ServerClosed
            | FlowState::TimeWait
            | FlowState::Aborted
            | FlowState::Bypass => false,
        };
        if !is_ours || !waits {
            return Fate::Consumed;
        }
        // The client's own acknowledgement of this number has the number that the SYN-ACK acknowledges, and its
        // clock, which the SYN-ACK echoes, was not heard in between: the server is where it was.
        let options = seen
            .timestamps
            .filter(|_| slot.translation().clock != 0)
            .map_or(TcpOptionList::new(), |(value, echo)| {
                TcpOptionList::new().no_operation().no_operation().timestamps(echo, value)
            });
        let segment = Segment {
            flags: TcpFlags::ACK,
            window: slot.translation().windows.to_server(expand((slot.mark() >> WINDOW_SHIFT) as u16)),
            options,
            ..bare(seen.ack, seen.seq + 1)
        };
        self.counters.acknowledged_again += 1;
        self.answer(arrival, segment);
        Fate::Consumed
    }

    fn on_bypassed(&mut self, now: Instant, place: usize, arrival: &mut Arrival<'_>, seen: &Seen) -> Fate {
        let slot = self.flows.slot(place);
        let is_other = seen.seq != SeqNumber(slot.translation().delta) || slot.mark() == ASKED;
        if arrival.leg.side == Side::Client && seen.is_opening() && is_other && checksum_holds(arrival) {
            // Another connection between the same ports, or one whose SYN was late.
            self.close(place);
            return self.on_stranger(now, arrival);
        }
        if self.flows.slot(place).mark() == ASKED
            && let Some(fate) = self.on_asked(now, place, arrival, seen)
        {
            return fate;
        }
        self.update(place, |state, mark| (state, mark), now);
        if arrival.leg.side == Side::Server && seen.is_accepting() {
            self.learn_from_bypass(now, place, arrival, seen);
        }
        Fate::Pass
    }

    /// Far: something for a flow that it knew nothing about, perhaps because the SYN was overtaken or lost.
    fn on_asked(
        &mut self,
        now: Instant,
        place: usize,
        arrival: &mut Arrival<'_>,
        seen: &Seen,
    ) -> Option<Fate> {
        let slot = self.flows.slot(place);
        let notes = slot.translation();
        match arrival.leg.side {
            Side::Client if seen.seq - SeqNumber(notes.delta) > u32::from(EARLY_DATA_MAX) => {
                // Only the first segment has proof, and this one may be it: it comes before what was first here, or
                // that was somebody else's.
                self.close(place);
                Some(self.on_stranger(now, arrival))
            }
            Side::Server if seen.has(TcpFlags::RST) && !seen.has(TcpFlags::ACK) => {
                // What the server says to a segment that it cannot place. The SYN may still come; if it does not,
                // the client says the same again, and hears the answer.
                let age = (Tick::of(now).0 as u16).wrapping_sub(slot.segment_size());
                let reflex = seen.seq == SeqNumber(notes.clock) && age <= REFLEX_TICKS;
                self.counters.blind_resets += u64::from(reflex);
                reflex.then_some(Fate::Consumed)
            }
            Side::Client | Side::Server => None,
        }
    }

    /// Something for a flow whose handshake failed: whoever sent it is told again.
    fn on_aborted(&mut self, now: Instant, place: usize, arrival: &mut Arrival<'_>, seen: &Seen) -> Fate {
        if arrival.leg.side == Side::Client && seen.is_opening() {
            self.close(place);
            return self.on_stranger(now, arrival);
        }
        self.counters.after_abort += 1;
        if seen.has(TcpFlags::ACK) && !seen.has(TcpFlags::RST) {
            let segment = Segment { flags: TcpFlags::RST, ..bare(seen.ack, SeqNumber(0)) };
            match arrival.leg.side {
                Side::Client => self.counters.resets_to_client += 1,
                Side::Server => self.counters.resets_to_server += 1,
            }
            self.answer(arrival, segment);
        }
        Fate::Consumed
    }

    /// Sends a segment back to where a frame came from.
    pub(crate) fn answer(&mut self, arrival: &Arrival<'_>, segment: Segment<'_>) {
        let Arrival { leg, frame, layout, key } = arrival;
        let (ours, theirs) = match leg.side {
            Side::Client => (key.server().port(), key.client().port()),
            Side::Server => (key.client().port(), key.server().port()),
        };
        let segment = Segment { source_port: ours, destination_port: theirs, ..segment };
        let envelope = Envelope { hop_limit: 64, traffic_class: 0, ..Envelope::of(frame, layout).reversed() };
        let mut answer = Vec::with_capacity(128);
        envelope.write(&mut answer, &segment);
        self.send(leg.side, leg.tag, Some(answer));
    }

    fn update(
        &mut self,
        place: usize,
        change: impl FnOnce(FlowState, u32) -> (FlowState, u32),
        now: Instant,
    ) {
        let slot = self.flows.slot_mut(place);
        let (state, mark) = change(state_of(slot), slot.mark());
        slot.update(state as u8, mark, Tick::of(now));
    }

    fn update_at(&mut self, place: usize, state: FlowState, seen: Tick) {
        let slot = self.flows.slot_mut(place);
        slot.update(state as u8, slot.mark(), seen);
    }

    /// Sets or clears bits of a flow's mark.
    pub(crate) fn remark(&mut self, place: usize, set: u32, clear: u32) {
        let slot = self.flows.slot_mut(place);
        slot.update(slot.state(), (slot.mark() | set) & !clear, slot.seen());
    }

    /// Takes a legal step of the flow at `place`.
    pub(crate) fn step_flow(&mut self, place: usize, step: FlowStep, now: Instant) {
        self.update(place, |state, mark| (state.after(step).unwrap_or(state), mark), now);
    }

    /// The ends of a flow in the table have agreed anew, without us: the client's number is `isn`.
    fn forsake(&mut self, now: Instant, flow: FlowKey, isn: SeqNumber) {
        // In the same place, so there is room.
        self.keep_bare(now, flow, FlowState::Bypass, (isn.0, 0));
        self.tell(Event::Bypassed { flow, why: crate::Bypass::Agreed });
    }

    /// Whether half of the flows that there may be are there, or the owner waits for them to end.
    fn is_short(&self) -> bool {
        self.moments.draining || self.flows.len() * 2 >= self.config.limits.flows.min(self.flows.limit())
    }

    /// Keeps a flow in the table, in the place of what was there under its name.
    pub(crate) fn keep(&mut self, now: Instant, flow: &Flow) -> Option<usize> {
        if let Some(place) = self.flows.find(&flow.key) {
            self.let_go(place);
        }
        let place = self.flows.insert(flow).ok()?;
        self.bypassed += usize::from(flow.state == FlowState::Bypass as u8);
        if self.moments.sweep.is_none() {
            self.moments.sweep = Some(now + sweep(self.flows.slots()).1);
        }
        Some(place)
    }

    /// Keeps a flow that has nothing to be translated.
    pub(crate) fn keep_bare(
        &mut self,
        now: Instant,
        key: FlowKey,
        state: FlowState,
        notes: (u32, u32),
    ) -> bool {
        let (delta, clock) = notes;
        let translation = Translation { delta, clock, ..Translation::IDENTITY };
        let flow =
            Flow { key, translation, segment_size: 0, state: state as u8, mark: 0, seen: Tick::of(now) };
        self.keep(now, &flow).is_some()
    }

    /// Forgets the flow at `place`.
    pub(crate) fn close(&mut self, place: usize) {
        let slot = *self.flows.slot(place);
        self.let_go(place);
        self.flows.remove(place);
        if state_of(&slot).is_translated() {
            self.tell(Event::Closed { flow: slot.key() });
        }
    }

    /// The flow at `place` is over: so is what was held for it, and its part of what is not touched.
    fn let_go(&mut self, place: usize) {
        let slot = *self.flows.slot(place);
        self.bypassed -= usize::from(state_of(&slot) == FlowState::Bypass).min(self.bypassed);
        if slot.mark() & FLUSHING != 0
            && let Some(handshake) = self.handshakes.take(&slot.key())
        {
            self.counters.let_go += u64::from(handshake.waiting());
            self.remark(place, 0, FLUSHING);
        }
    }

    /// Looks at a part of the table and forgets what is over.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let ((count, wait), is_short) = (sweep(self.flows.slots()), self.is_short());
        let Self { flows, events, bypassed, counters, handshakes, .. } = self;
        let cursor = flows.sweep(self.moments.cursor, count, |slot| {
            let keep = !is_expired(slot, now, is_short);
            let state = state_of(slot);
            if !keep && state == FlowState::Bypass {
                *bypassed = bypassed.saturating_sub(1);
            }
            if !keep && slot.mark() & FLUSHING != 0 {
                counters.let_go += handshakes.take(&slot.key()).map_or(0, |left| u64::from(left.waiting()));
            }
            if !keep && state.is_translated() {
                counters.events_lost += u64::from(events.push(Event::Closed { flow: slot.key() }).is_err());
            }
            keep
        });
        self.moments.cursor = cursor;
        self.moments.sweep = (self.flows.len() > 0).then(|| now + wait);
    }
}

/// What follows after a segment with these flags.
fn next_state(state: FlowState, side: Side, flags: TcpFlags) -> FlowState {
    let step = if flags.contains(TcpFlags::RST) {
        FlowStep::Reset
    } else if flags.contains(TcpFlags::FIN) {
        FlowStep::Fin(side)
    } else {
        FlowStep::GoOn
    };
    let next = state.after(step);
    match (next, step) {
        (Some(next), _) => next,
        // A FIN in a lingering flow is something other than a RST, too.
        (None, FlowStep::Fin(_)) => state.after(FlowStep::GoOn).unwrap_or(state),
        (
            None,
            FlowStep::ClientAnswers
            | FlowStep::ServerAccepts
            | FlowStep::Reset
            | FlowStep::GoOn
            | FlowStep::GiveUp
            | FlowStep::StepAside,
        ) => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_in_six_bits_is_never_larger_and_more_than_three_quarters() {
        for window in 4..=u16::MAX {
            let kept = expand(compress(window));
            assert!(kept <= window && u32::from(window) * 3 <= u32::from(kept) * 4, "{window} became {kept}");
        }
        assert_eq!(expand(compress(0)), 4);
        assert_eq!(mark(65_535, SeqNumber(7), SeqNumber(9)) & (FLUSHING | REOPENED), 0);
        assert!(is_copy(mark(65_535, SeqNumber(7), SeqNumber(9)), SeqNumber(7)));
        assert!(!is_copy(mark(65_535, SeqNumber(7), SeqNumber(9)), SeqNumber(9)));
    }
}
