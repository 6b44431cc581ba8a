//! Datagrams between two machines, under a virtual clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use gimlet_machine::{Buf, CloseReason, Input, Instant, Machine};

/// A datagram on its way, shown to the judge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet<P> {
    /// When it arrives.
    pub at: Instant,
    /// Its number among all datagrams sent, from 0: breaks ties and seeds judges.
    pub number: u64,
    /// Whether it goes from the first machine to the second.
    pub forward: bool,
    /// The path on which it *arrives*.
    pub path: P,
    /// Its payload.
    pub bytes: Vec<u8>,
}

/// Two machines, one link. Events are handed to a closure together with the machine that told them.
#[derive(Debug)]
pub struct Shuttle<P> {
    /// The virtual clock.
    pub now: Instant,
    /// One-way delay of the link.
    pub delay: Duration,
    flip: fn(P) -> P,
    sent: u64,
    flying: BinaryHeap<Reverse<Packet<P>>>,
    storage: Vec<u8>,
}

impl<P: Copy + Ord + std::fmt::Debug> Shuttle<P> {
    /// A link of `delay` one way; `flip` turns the sender's name of a path into the receiver's.
    pub fn new(delay: Duration, flip: fn(P) -> P) -> Self {
        Self { now: Instant::ZERO, delay, flip, sent: 0, flying: BinaryHeap::new(), storage: Vec::new() }
    }

    /// How many datagrams were sent so far, lost ones included.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Runs until `until`, or until nothing is pending. `keep` may change a packet, and drops it by
    /// returning false. Events arrive as `on_event(now, is_first_machine, event)`.
    pub fn run<A, B>(
        &mut self,
        (a, b): (&mut A, &mut B),
        until: Instant,
        mut keep: impl FnMut(&mut Packet<P>) -> bool,
        mut on_event: impl FnMut(Instant, bool, A::Event),
    ) where
        A: Machine<Path = P>,
        B: Machine<Path = P, Event = A::Event>,
    {
        loop {
            while self.drain(a, true, &mut keep, &mut on_event)
                | self.drain(b, false, &mut keep, &mut on_event)
            {}
            let packet = self.flying.peek().map(|Reverse(packet)| packet.at);
            let timer =
                [a.poll_timeout(), b.poll_timeout()].into_iter().flatten().map(|deadline| deadline.at).min();
            let Some(next) = [packet, timer].into_iter().flatten().min().filter(|next| *next <= until) else {
                self.now = self.now.max(until);
                return;
            };
            self.now = self.now.max(next);
            while self.flying.peek().is_some_and(|Reverse(packet)| packet.at <= self.now) {
                let Some(Reverse(mut packet)) = self.flying.pop() else { break };
                let input = Input::new(packet.path, &mut packet.bytes);
                if packet.forward {
                    b.handle_input(self.now, input)
                } else {
                    a.handle_input(self.now, input)
                };
            }
            if a.poll_timeout().is_some_and(|deadline| deadline.at <= self.now) {
                a.handle_timeout(self.now);
            }
            if b.poll_timeout().is_some_and(|deadline| deadline.at <= self.now) {
                b.handle_timeout(self.now);
            }
        }
    }

    fn drain<M: Machine<Path = P>>(
        &mut self,
        machine: &mut M,
        forward: bool,
        keep: &mut impl FnMut(&mut Packet<P>) -> bool,
        on_event: &mut impl FnMut(Instant, bool, M::Event),
    ) -> bool {
        let mut busy = false;
        while let Some(event) = machine.poll_event() {
            on_event(self.now, forward, event);
            busy = true;
        }
        // A link between two machines has no system that opens sockets.
        while let Some(request) = machine.poll_request() {
            if let Some(answer) = request.refusal(CloseReason::Unsupported) {
                machine.handle_answer(self.now, answer);
            }
            busy = true;
        }
        while let Some(transmit) = machine.poll_transmit(self.now, &mut Buf::new(&mut self.storage)) {
            let (at, path) = (self.now + self.delay, (self.flip)(transmit.path));
            let mut packet = Packet { at, number: self.sent, forward, path, bytes: self.storage.clone() };
            self.sent += 1;
            if keep(&mut packet) {
                self.flying.push(Reverse(packet));
            }
            busy = true;
        }
        busy
    }
}
