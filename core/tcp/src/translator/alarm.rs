//! Handshakes: what time brings.

use gimlet_machine::Instant;

use crate::destination::{ASYMMETRIC_FOR, Unfit};
use crate::flow::slot::Slots;
use crate::handshake::{FastOpen, Handshake};
use crate::timer::ANSWER_TIMEOUT;
use crate::translator::Translator;
use crate::translator::client::Memory;
use crate::translator::flow::FLUSHING;
use crate::{Cause, FlowState, Role, Side};

impl<S: Slots> Translator<S> {
    /// The alarm of this handshake rang; it was taken out.
    pub(crate) fn on_alarm(&mut self, now: Instant, mut handshake: Handshake) {
        if let FastOpen::Waiting(until) = handshake.fast_open
            && until <= now
        {
            // No data came in time: the SYN goes alone.
            handshake.fast_open = FastOpen::Off;
            self.send_syn(now, &mut handshake);
        }
        match handshake.state {
            FlowState::HalfOpen | FlowState::AwaitClient => self.on_client_silent(now, handshake),
            FlowState::AwaitServer => self.on_server_silent(now, handshake),
            FlowState::Established => {
                self.counters.let_go += u64::from(handshake.waiting());
                if let Some(place) = self.flows.find(&handshake.key) {
                    self.remark(place, 0, FLUSHING);
                }
            }
            FlowState::ClientClosed
            | FlowState::ServerClosed
            | FlowState::TimeWait
            | FlowState::Lingering
            | FlowState::Aborted
            | FlowState::Bypass => {}
        }
    }

    fn on_client_silent(&mut self, now: Instant, mut handshake: Handshake) {
        if now >= handshake.clock.born + ANSWER_TIMEOUT {
            // Far's client may have been answered by nobody: then this was never ours.
            if handshake.spoof.is_some() && handshake.real.is_some() && self.config.role != Role::Near {
                self.reset_server(&handshake, handshake.first_byte());
            }
            self.fail(now, handshake, Cause::ClientSilent, Memory::None);
            return;
        }
        if handshake.next_syn_ack(self.config.role).is_some_and(|due| due <= now) {
            handshake.clock.syn_acks += 1;
            self.counters.syn_acks_resent += 1;
            let syn_ack = handshake.syn_ack();
            self.send(Side::Client, handshake.tag, syn_ack);
        }
        self.handshakes.put_after(now, handshake);
    }

    fn on_server_silent(&mut self, now: Instant, mut handshake: Handshake) {
        let role = self.config.role;
        if now >= handshake.clock.born + Handshake::patience(role) {
            let cause = if handshake.doubtful { Cause::ServerUnreachable } else { Cause::ServerSilent };
            if role == Role::Near && handshake.real.is_some() {
                // The server had answered: what follows is Far's to say.
                return;
            }
            // Silence may be a server that is down, or answers that do not come by here.
            self.abort(now, handshake, cause, Unfit::Asymmetric, now + ASYMMETRIC_FOR);
            return;
        }
        if handshake.next_syn().is_some_and(|due| due <= now) {
            if let FastOpen::Sent(_) = handshake.fast_open {
                // RFC 7413 §4.1.3.1: a SYN with data that gets no answer may have met a box that drops such.
                handshake.fast_open = FastOpen::Off;
                self.destinations.suspend_fast_open(now, handshake.key.server());
            }
            handshake.clock.syns += 1;
            self.counters.syns_resent += 1;
            self.send_syn(now, &mut handshake);
        }
        self.handshakes.put_after(now, handshake);
    }

    /// Sends the SYN, alone, as it left before.
    pub(crate) fn send_syn(&mut self, now: Instant, handshake: &mut Handshake) {
        handshake.clock.syn_at = now;
        let syn = handshake.syn.to_vec();
        self.send(Side::Server, handshake.tag, Some(syn));
    }
}
