//! Connections between hosts: their segments travel as packets do.

use gimlet_machine::{Answer, FourTuple, Machine, Transmit};

use super::World;
use crate::agenda::Due;
use crate::host::HostId;
use crate::packet::Protocol;
use crate::stream::{News, Segment};

impl<M: Machine<Path = FourTuple>> World<M> {
    /// A segment has reached its host.
    pub(super) fn hand_over_segment(&mut self, slot: u32, id: HostId) {
        let now = self.now;
        let packet = self.flight.packet(slot);
        let flow = FourTuple::new(packet.destination, packet.source);
        let segment = Segment::parse(&packet.bytes).expect("streams write well-formed segments");
        let host = &mut self.hosts[id.index()];
        let is_strange = host.connections.handle_segment(now, &host.sockets, flow, &segment);
        self.flight.release(slot);
        if is_strange {
            let reset = self.flight.take();
            Segment::RESET.write(&mut self.flight.packet_mut(reset).bytes);
            self.launch_segment(id, reset, flow);
        }
        if self.tend(id) {
            self.drain(id);
        }
    }

    /// A segment was not acknowledged in time.
    pub(super) fn hasten(&mut self, id: HostId) {
        let now = self.now;
        self.host_mut(id).connections.handle_timeout(now);
        if self.tend(id) {
            self.drain(id);
        }
    }

    /// Sends what the connections of `id` have to send, and tells its machine what became of them. Says
    /// whether it told anything.
    pub(super) fn tend(&mut self, id: HostId) -> bool {
        if self.hosts[id.index()].connections.is_empty() {
            return false;
        }
        let now = self.now;
        loop {
            let slot = self.flight.take();
            let out = &mut self.flight.packet_mut(slot).bytes;
            let Some(flow) = self.hosts[id.index()].connections.poll_segment(now, out) else {
                self.flight.release(slot);
                break;
            };
            self.launch_segment(id, slot, flow);
        }
        let mut told = false;
        while self.tell_news(id) {
            told = true;
        }
        let connections = &mut self.hosts[id.index()].connections;
        if let Some(at) = connections.deadline()
            && connections.planned.is_none_or(|planned| planned > at)
        {
            connections.planned = Some(at);
            self.agenda.plan(at, Due::Timeout(id.0));
        }
        told
    }

    fn tell_news(&mut self, id: HostId) -> bool {
        let now = self.now;
        let host = self.host_mut(id);
        let Some((id, flow, news)) = host.connections.poll_news() else { return false };
        if let Some(machine) = &mut host.machine {
            let answer = match &news {
                News::Connected => Answer::Connected { id, flow },
                News::Received(bytes) => Answer::Received { id, bytes },
                News::Written(len) => Answer::Written { id, len: *len },
                News::Closed(why) => Answer::Closed { id, why: *why },
            };
            machine.handle_answer(now, answer);
        }
        true
    }

    fn launch_segment(&mut self, id: HostId, slot: u32, flow: FourTuple) {
        let sockets = &self.hosts[id.index()].sockets;
        let source = sockets.has(flow.local.ip()).then_some(flow.local);
        let is_loopback = sockets.has(flow.remote.ip());
        self.flight.packet_mut(slot).protocol = Protocol::Tcp;
        self.send(id, slot, source, is_loopback, Transmit::new(flow));
    }
}
