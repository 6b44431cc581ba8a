//! Turning a machine's crank until it is quiet, and holding it to the laws.

use std::collections::VecDeque;
use std::net::SocketAddr;

use gimlet_machine::{
    Answer, Buf, Deadline, FourTuple, Input, Instant, Io, Machine, PUMP_ROUNDS_MAX, Request, SocketId,
    Transmit, Verdict, pump,
};

use super::{EVENTS_MAX, Happening, World};
use crate::agenda::Due;
use crate::connections::{ACCEPTED_FIRST, Connections};
use crate::host::{Host, HostId, Reaction};
use crate::packet::Flight;
use crate::sockets::Sockets;

/// Rounds of [`pump`] at one moment. A machine that is still not quiet breaks law 4.
const PUMPS_MAX: usize = 16;

/// Datagrams that a machine may send, and events it may have, between two touches. One that goes
/// on is taken for a machine that would never stop.
const BURST_MAX: usize = 1 << 17;

/// What a machine wrote, and waits until it is quiet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    slot: u32,
    /// Decided when it was written: the socket may be closed a moment later.
    source: Option<SocketAddr>,
    transmit: Transmit<FourTuple>,
}

impl<M: Machine<Path = FourTuple>> World<M> {
    /// A packet has reached its host.
    pub(super) fn hand_over(&mut self, slot: u32, host: HostId) {
        let now = self.now;
        let packet = self.flight.packet_mut(slot);
        let path = FourTuple::new(packet.destination, packet.source);
        let ecn = packet.ecn;
        // The machine may write to the bytes while the flight table is borrowed for its answers.
        let mut bytes = std::mem::take(&mut packet.bytes);
        let machine = self.hosts[host.index()].machine.as_mut().expect("only running hosts get packets");
        match machine.handle_input(now, Input { path, ecn, bytes: &mut bytes }) {
            Verdict::Consumed => {}
            Verdict::NotMine => self.trace.counts.not_mine += 1,
            Verdict::Pass { path, range } => {
                let passed = self.flight.take();
                self.flight.packet_mut(passed).bytes.extend_from_slice(&bytes[range]);
                let source = self.hosts[host.index()].sockets.source(path.local);
                self.launch(host, passed, source, Transmit { ecn, ..Transmit::new(path) });
            }
        }
        self.flight.packet_mut(slot).bytes = bytes;
        self.flight.release(slot);
        self.drain(host);
    }

    /// A wake-up has come. The machine may have changed its mind since it was planned.
    pub(super) fn wake(&mut self, id: HostId) {
        let now = self.now;
        let host = self.host_mut(id);
        host.alarm.planned = None;
        match host.alarm.deadline {
            Some(deadline) if deadline <= now => self.drain(id),
            Some(deadline) => self.plan_wake(id, deadline),
            None => {}
        }
    }

    /// Drains the machine of `id` at this moment, timers included, sends what it wrote, and plans
    /// its next wake-up.
    pub(super) fn drain(&mut self, id: HostId) {
        loop {
            self.crank(id);
            if !self.tend(id) {
                return;
            }
        }
    }

    fn crank(&mut self, id: HostId) {
        let Host { name, machine, reaction, segments_max, sockets, connections, .. } =
            &mut self.hosts[id.index()];
        let Some(machine) = machine else { return };
        let mut crank = Crank {
            host: id,
            who: (name, self.now, self.seed),
            segments_max: *segments_max,
            sockets,
            connections,
            reaction,
            flight: &mut self.flight,
            outbox: &mut self.outbox,
            happenings: &mut self.happenings,
            dropped: 0,
            slot: None,
            burst: 0,
        };
        let mut deadline = pump(machine, self.now, &mut crank);
        for _ in 1..PUMPS_MAX {
            if deadline.is_none_or(|deadline| deadline.at > self.now) || crank.burst > BURST_MAX {
                break;
            }
            deadline = pump(machine, self.now, &mut crank);
        }
        let (burst, dropped) = (crank.burst, crank.dropped);
        if let Some(unused) = crank.slot {
            self.flight.release(unused);
        }
        self.trace.counts.events_dropped += dropped;
        // A deadline at the end of time is none: there is no later moment to move it to.
        let deadline = deadline.filter(|deadline| deadline.at < Instant::FAR);
        self.hold_to_the_laws(id, deadline, burst);
        self.hosts[id.index()].alarm.deadline = deadline.map(|deadline| deadline.at);
        if let Some(deadline) = deadline {
            self.plan_wake(id, deadline.at);
        }
        self.send_outbox(id);
    }

    fn hold_to_the_laws(&self, id: HostId, deadline: Option<Deadline>, burst: usize) {
        assert!(
            burst <= BURST_MAX,
            "{} breaks law 4 (no livelock): more than {BURST_MAX} datagrams and events at one moment",
            self.describe(id)
        );
        if let Some(deadline) = deadline {
            assert!(
                deadline.at > self.now,
                "{} breaks law 4 (no livelock): after {} rounds at this moment its deadline is still {} ({})",
                self.describe(id),
                PUMPS_MAX * PUMP_ROUNDS_MAX,
                deadline.at,
                deadline.why
            );
        }
    }

    fn plan_wake(&mut self, id: HostId, at: Instant) {
        let host = &mut self.hosts[id.index()];
        // A later wake-up needs no entry yet: the earlier one looks again when its time comes.
        if host.alarm.planned.is_none_or(|planned| planned > at) {
            host.alarm.planned = Some(at);
            self.agenda.plan(at, Due::Wake(id.0));
        }
    }

    fn send_outbox(&mut self, id: HostId) {
        let mut outbox = std::mem::take(&mut self.outbox);
        for outgoing in outbox.drain(..) {
            self.launch_train(id, outgoing);
        }
        self.outbox = outbox;
    }

    /// Sends what a machine wrote: one datagram, or a train of equal ones.
    fn launch_train(&mut self, id: HostId, outgoing: Outgoing) {
        let Outgoing { slot, source, transmit } = outgoing;
        let length = self.flight.packet(slot).bytes.len();
        let segment = transmit.segment.map_or(length, usize::from);
        if segment == 0 || length <= segment {
            return self.launch(id, slot, source, transmit);
        }
        let train = std::mem::take(&mut self.flight.packet_mut(slot).bytes);
        for car in train.chunks(segment) {
            let one = self.flight.take();
            self.flight.packet_mut(one).bytes.extend_from_slice(car);
            self.launch(id, one, source, transmit);
        }
        self.flight.packet_mut(slot).bytes = train;
        self.flight.release(slot);
    }
}

/// What [`pump`] needs to turn the crank of one machine.
struct Crank<'w, M: Machine> {
    host: HostId,
    /// Name, time and seed, for a panic.
    who: (&'w str, Instant, u64),
    segments_max: usize,
    sockets: &'w mut Sockets,
    connections: &'w mut Connections,
    reaction: &'w mut Option<Reaction<M>>,
    flight: &'w mut Flight,
    outbox: &'w mut Vec<Outgoing>,
    happenings: &'w mut VecDeque<Happening<M::Event>>,
    /// Events that were dropped for want of room.
    dropped: u64,
    /// The packet that is lent for writing.
    slot: Option<u32>,
    /// Datagrams and events so far.
    burst: usize,
}

impl<M: Machine<Path = FourTuple>> Io<M> for Crank<'_, M> {
    fn buf(&mut self) -> Option<Buf<'_>> {
        if self.burst > BURST_MAX {
            return None;
        }
        let slot = *self.slot.get_or_insert_with(|| self.flight.take());
        Some(Buf::new(&mut self.flight.packet_mut(slot).bytes).with_segments_max(self.segments_max))
    }

    fn transmit(&mut self, transmit: Transmit<M::Path>) {
        self.burst += 1;
        let slot = self.slot.take().expect("a machine writes into the buffer it was lent");
        let source = self.sockets.source(transmit.path.local);
        self.outbox.push(Outgoing { slot, source, transmit });
    }

    fn event(&mut self, machine: &mut M, now: Instant, event: M::Event) {
        self.count("events");
        let event = match &mut self.reaction {
            Some(reaction) => reaction(machine, now, event),
            None => Some(event),
        };
        let Some(event) = event else { return };
        if self.happenings.len() >= EVENTS_MAX {
            self.happenings.pop_front();
            self.dropped += 1;
        }
        self.happenings.push_back(Happening { at: now, host: self.host, event });
    }

    fn request(&mut self, request: Request) -> Option<Answer<'static>> {
        self.count("requests");
        match request {
            Request::Bind { id, local } => {
                self.expect_new(id);
                Some(self.sockets.bind(id, local, self.connections.len()))
            }
            Request::Connect { id, local, remote } => {
                self.expect_new(id);
                self.connections.connect(id, self.sockets, local, remote)
            }
            Request::Write { id, bytes } => {
                let len = self.connections.write(id, bytes);
                (len > 0).then_some(Answer::Written { id, len })
            }
            Request::Close { id } => {
                self.sockets.close(id);
                self.connections.close(id);
                None
            }
        }
    }
}

impl<M: Machine> Crank<'_, M> {
    fn expect_new(&self, id: SocketId) {
        let taken = self.sockets.is_open(id) || self.connections.is_open(id);
        assert!(!taken && id.0 < ACCEPTED_FIRST, "host `{}` gives {id:?} to a second socket", self.who.0);
    }

    /// `pump` polls events and requests until there are none, so this is the only place that can stop it.
    fn count(&mut self, what: &str) {
        self.burst += 1;
        let (name, now, seed) = self.who;
        assert!(
            self.burst <= 2 * BURST_MAX,
            "host `{name}` at {now} (seed {seed}) breaks law 4 (no livelock): it has {what} without end"
        );
    }
}
