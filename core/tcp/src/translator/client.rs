//! Handshakes: what clients say.

use alloc::boxed::Box;

use gimlet_machine::Instant;
use gimlet_wire::{Fragment, Layout, TcpFlags};

use crate::cookie::{Cookie, Offer, offer_of};
use crate::destination::{ASYMMETRIC_FOR, Unfit};
use crate::flow::slot::Slots;
use crate::handshake::{FastOpen, Handshake, Spoof};
use crate::hold::Hold;
use crate::state::FlowStep;
use crate::timer::{BYPASS_IDLE, SYN_REPEAT};
use crate::translator::admit::{checksum_holds, complete};
use crate::translator::seen::{Arrival, Seen, SynOptions};
use crate::translator::{Fate, Translator};
use crate::{Bypass, Cause, EARLY_DATA_MAX, Event, FlowState, Role, Side};

/// A client that acknowledges a number so close to ours means ours and is wrong. One that is farther away has
/// heard a SYN-ACK that did not come by here.
const CLOSE: u32 = 1 << 16;

/// Whether a flow is remembered whose handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Whoever goes on sending is told again that there is no connection.
    Kept,
    /// Nobody will.
    None,
}

/// What a client's acknowledgement acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Our SYN-ACK.
    Ours,
    /// The server's own.
    Theirs,
    /// The server's own, which took another way.
    Elsewhere,
    /// Nothing that was ever sent.
    Nothing,
    /// Nothing that has to do with this handshake.
    Stranger,
    /// Nothing that the boxes of this pair sent.
    Forged,
}

impl<S: Slots> Translator<S> {
    /// A segment of a handshake. It was taken out, and is put back unless it is over.
    pub(crate) fn on_handshake(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_>,
        seen: &Seen,
        handshake: Handshake,
    ) -> Fate {
        if handshake.state == FlowState::Established {
            // What was left of early data, of a flow that the table has lost.
            self.counters.let_go += u64::from(handshake.waiting());
            return self.on_stranger(now, arrival);
        }
        // A piece of a segment cannot be checked, and no stack cuts up what these say.
        if arrival.layout.fragment != Fragment::Whole && seen.flags.intersects(TcpFlags::SYN | TcpFlags::RST)
        {
            self.counters.fragments += 1;
            self.handshakes.put(handshake);
            return Fate::Consumed;
        }
        // What is held is sent on with a new checksum: nothing wrong may get one.
        if arrival.layout.fragment == Fragment::Whole && !checksum_holds(arrival) {
            self.counters.bad_checksum += 1;
            self.handshakes.put(handshake);
            return Fate::Consumed;
        }
        match arrival.leg.side {
            Side::Client => self.on_client(now, arrival, seen, handshake),
            Side::Server => self.on_server(now, arrival, seen, handshake),
        }
    }

    fn on_client(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_>,
        seen: &Seen,
        mut handshake: Handshake,
    ) -> Fate {
        if seen.has(TcpFlags::RST) {
            return self.on_client_reset(now, seen, handshake);
        }
        if seen.is_opening() && seen.seq == handshake.client.isn {
            return self.on_repeated_syn(now, arrival, handshake);
        }
        if seen.is_opening() {
            self.replace(now, handshake);
            return self.on_opening(now, arrival, seen);
        }
        if seen.has(TcpFlags::SYN) || !seen.has(TcpFlags::ACK) {
            self.counters.out_of_window += 1;
            self.handshakes.put(handshake);
            return Fate::Consumed;
        }
        match self.judge(&mut handshake, seen) {
            Answer::Ours => self.on_answer(now, arrival, seen, handshake),
            Answer::Theirs => self.step_aside(now, handshake),
            Answer::Elsewhere => {
                let (server, until) = (arrival.key.server(), now + ASYMMETRIC_FOR);
                self.destinations.mark(now, server, Unfit::Asymmetric, until);
                self.step_aside(now, handshake)
            }
            Answer::Nothing => {
                self.counters.bad_acknowledgement += 1;
                // RFC 9293 §3.10.7.4: in SYN-RECEIVED an unacceptable acknowledgement is answered with a RST.
                if handshake.state != FlowState::AwaitServer {
                    self.counters.resets_to_client += 1;
                    let reset = handshake.reset_client_at(seen.ack);
                    self.send(Side::Client, handshake.tag, reset);
                }
                self.handshakes.put(handshake);
                Fate::Consumed
            }
            Answer::Stranger => {
                self.counters.unknown_passed += 1;
                self.handshakes.put(handshake);
                Fate::Pass
            }
            Answer::Forged => {
                self.counters.bad_cookie += 1;
                self.handshakes.put(handshake);
                Fate::Consumed
            }
        }
    }

    /// What the acknowledgement acknowledges. Far learns here what Near promised.
    fn judge(&self, handshake: &mut Handshake, seen: &Seen) -> Answer {
        if handshake.spoof.is_none() {
            handshake.spoof = self.recognise(handshake, seen);
        }
        let theirs = handshake.real.is_some_and(|real| seen.ack == real.isn + 1);
        let answered = handshake.state == FlowState::AwaitServer;
        match handshake.spoofed() {
            Some(spoofed) if seen.ack == spoofed + 1 => Answer::Ours,
            Some(_) | None if theirs && !answered => Answer::Theirs,
            Some(spoofed) => {
                let far = seen.ack.distance(spoofed).unsigned_abs() > CLOSE;
                let first = seen.seq == handshake.first_byte();
                if far && first && handshake.state == FlowState::HalfOpen {
                    Answer::Elsewhere
                } else {
                    Answer::Nothing
                }
            }
            // Far: the SYN may have been an old one's copy. What goes on elsewhere goes on.
            None if !seen.seq.within(handshake.client.isn, u32::from(EARLY_DATA_MAX)) => Answer::Stranger,
            None => Answer::Forged,
        }
    }

    /// What Near promised in the SYN-ACK that this segment acknowledges, if it was Near who did. What the SYN
    /// asked for is known, because Near takes out of it what it does not promise. What is not, the window scale,
    /// is in the client's echo of the timestamp, or is found by trying.
    fn recognise(&self, handshake: &Handshake, seen: &Seen) -> Option<Spoof> {
        let layout = Layout::of(&handshake.syn).ok()?;
        let syn = layout.tcp(&handshake.syn).ok()?;
        let options = SynOptions::of(&syn);
        let ecn = syn.flags().contains(TcpFlags::ECE);
        let claimed = seen.ack - 1;
        let scales = match (seen.timestamps, options.scale) {
            (Some((_, echo)), Some(_)) => {
                let scale = offer_of(echo).server_scale;
                scale..=scale
            }
            (None, Some(_)) => 0..=gimlet_wire::WINDOW_SHIFT_MAX,
            (Some(_) | None, None) => 0..=0,
        };
        scales.into_iter().find_map(|server_scale| {
            let offer = Offer { client_scale: options.scale, server_scale, sack: options.sack, ecn };
            let (client, server) = (handshake.key.client(), handshake.key.server());
            let cookie = self.cookies.check(client, server, handshake.client.isn, offer, claimed)?;
            Some(promised(cookie.0, offer, options.timestamps.is_some()))
        })
    }

    /// The client acknowledged our SYN-ACK.
    fn on_answer(
        &mut self,
        now: Instant,
        arrival: &mut Arrival<'_>,
        seen: &Seen,
        mut handshake: Handshake,
    ) -> Fate {
        let first = handshake.first_byte();
        let window = handshake.spoof.map_or(0, |spoof| spoof.window);
        // A client that was promised no window asks for one so (RFC 9293 §3.8.6.1), and that is an answer, too.
        let probes = seen.seq + 1 == first && seen.payload.is_empty() && !seen.has(TcpFlags::FIN);
        if !probes && !seen.seq.within(first, u32::from(window) + 1) {
            self.counters.out_of_window += 1;
            self.handshakes.put(handshake);
            // What Near does not need is Far's.
            return if self.config.role == Role::Near { Fate::Pass } else { Fate::Consumed };
        }
        handshake.client.window = seen.window;
        if seen.timestamps.is_some() {
            handshake.client.timestamps = seen.timestamps;
        }
        match handshake.state {
            FlowState::AwaitClient if probes => return self.join_and_acknowledge(now, handshake),
            FlowState::AwaitClient => return self.join_in_passing(now, arrival, seen, handshake),
            FlowState::HalfOpen => handshake.step(FlowStep::ClientAnswers),
            FlowState::AwaitServer
            | FlowState::Established
            | FlowState::ClientClosed
            | FlowState::ServerClosed
            | FlowState::TimeWait
            | FlowState::Lingering
            | FlowState::Aborted
            | FlowState::Bypass => {}
        }
        if self.config.role == Role::Near {
            self.handshakes.put(handshake);
            return Fate::Pass;
        }
        self.hold(arrival, seen, &mut handshake);
        self.open_fast(now, &mut handshake);
        self.handshakes.put(handshake);
        Fate::Consumed
    }

    /// Holds what the client sent early.
    pub(crate) fn hold(&mut self, arrival: &Arrival<'_>, seen: &Seen, handshake: &mut Handshake) {
        let payload = &arrival.frame[seen.payload.clone()];
        let window = u32::from(handshake.spoof.map_or(0, |spoof| spoof.window));
        let has_fin = seen.has(TcpFlags::FIN);
        if payload.is_empty() && !has_fin {
            return;
        }
        if arrival.layout.fragment != Fragment::Whole {
            // The rest of it is not here, and its checksum cannot be known.
            self.counters.refused += payload.len() as u64;
            return;
        }
        let start = handshake.first_byte();
        // This handshake is out of the account while it is worked on.
        let room = self.config.limits.pool.saturating_sub(self.handshakes.pooled() + handshake.pooled());
        let hold = handshake.hold.get_or_insert_with(|| Box::new(Hold::new(start, window)));
        if hold.needs(seen.seq, payload.len()) > room {
            self.counters.refused += payload.len() as u64;
            return;
        }
        let held = hold.take(seen.seq, payload);
        self.counters.held += u64::from(held.new);
        self.counters.held_again += u64::from(held.repeated);
        self.counters.conflicting += u64::from(held.conflicting);
        self.counters.refused += u64::from(held.refused);
        if has_fin && held.refused == 0 {
            hold.finish(seen.seq + payload.len() as u32);
        }
        if seen.has(TcpFlags::URG) {
            hold.mark_urgent(seen.seq + u32::from(seen.urgent));
        }
    }

    fn on_repeated_syn(&mut self, now: Instant, arrival: &Arrival<'_>, mut handshake: Handshake) -> Fate {
        self.counters.repeated_syns += 1;
        if handshake.spoof.is_none() {
            // Far does not know whether somebody answered: its client's retransmissions are the client's. What Near
            // promised last is what this one asks for.
            handshake.syn = complete(arrival);
            handshake.clock.syn_at = now;
            self.handshakes.put(handshake);
            return Fate::Pass;
        }
        if let Some(syn_ack) = handshake.syn_ack().filter(|_| self.config.role.spoofs()) {
            self.counters.respoofed += 1;
            self.send(Side::Client, handshake.tag, Some(syn_ack));
        }
        let due = handshake.real.is_none() && now.since(handshake.clock.syn_at) >= SYN_REPEAT;
        if due && handshake.fast_open == FastOpen::Off {
            self.send_syn(now, &mut handshake);
        }
        self.handshakes.put(handshake);
        Fate::Consumed
    }

    /// The client begins anew: what it said before is forgotten, here and at the server if that had answered.
    fn replace(&mut self, now: Instant, handshake: Handshake) {
        if handshake.real.is_some() && self.config.role != Role::Near {
            self.counters.resets_to_server += 1;
            let reset = handshake.reset_server_at(handshake.first_byte());
            self.send(Side::Server, handshake.tag, reset);
        }
        self.fail(now, handshake, Cause::Replaced, Memory::None);
    }

    fn on_client_reset(&mut self, now: Instant, seen: &Seen, handshake: Handshake) -> Fate {
        let window = handshake.spoof.map_or(0, |spoof| spoof.window);
        if !seen.seq.within(handshake.first_byte(), u32::from(window) + 1) {
            self.counters.blind_resets += 1;
            self.handshakes.put(handshake);
            return Fate::Consumed;
        }
        // The acknowledgement of a RST would be of our number. Without one it is as good.
        let relayed = self.config.role == Role::Near || handshake.spoof.is_none();
        if !relayed {
            self.counters.resets_to_server += 1;
            let reset = handshake.reset_server_at(seen.seq);
            self.send(Side::Server, handshake.tag, reset);
        }
        let (fate, memory) =
            if relayed { (Fate::Pass, Memory::None) } else { (Fate::Consumed, Memory::Kept) };
        self.fail(now, handshake, Cause::ClientReset, memory);
        fate
    }

    /// The ends agree without us.
    fn step_aside(&mut self, now: Instant, mut handshake: Handshake) -> Fate {
        handshake.step(FlowStep::StepAside);
        let flow = handshake.key;
        if !self.keep_bare(now, flow, handshake.state, (handshake.client.isn.0, 0)) {
            self.moments.quiet_until = now + BYPASS_IDLE;
        }
        self.tell(Event::Bypassed { flow, why: Bypass::Agreed });
        Fate::Pass
    }

    /// A handshake is over without success. Whoever believes in it has been told.
    pub(crate) fn fail(&mut self, now: Instant, mut handshake: Handshake, cause: Cause, memory: Memory) {
        handshake.step(FlowStep::GiveUp);
        if memory == Memory::Kept {
            self.keep_bare(now, handshake.key, handshake.state, (0, 0));
        }
        if handshake.spoof.is_some() {
            self.counters.aborted += 1;
            self.tell(Event::Aborted { flow: handshake.key, cause });
        }
    }
}

/// What Near promised, as far as Far knows.
pub(crate) fn promised(cookie: Cookie, offer: Offer, timestamps: bool) -> Spoof {
    Spoof { cookie, offer, timestamps, segment_size: None, window: EARLY_DATA_MAX, hop_limit: 64 }
}
