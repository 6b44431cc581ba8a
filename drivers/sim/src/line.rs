//! A line that holds what is on it: a [`Link`] as a machine.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::convert::Infallible;
use std::fmt::Debug;

use gimlet_machine::{Buf, Deadline, Ecn, Input, Instant, Machine, Rng, Transmit, Verdict};

use crate::link::{Carried, Link, LinkConfig, LinkDrop};

/// Datagrams on one line. Beyond it newcomers are dropped and counted.
pub const LINE_HELD_MAX: usize = 65_536;

/// What a line adds to each payload when it counts bytes: IPv4 and UDP headers.
const HEADERS: usize = 20 + 8;

gimlet_machine::counters! {
    /// What a line did not carry.
    pub struct LineCounters {
        /// See [`LinkDrop::Lost`].
        lost,
        /// See [`LinkDrop::QueueFull`].
        queue_full,
        /// See [`LinkDrop::TooBig`].
        too_big,
        /// The line held [`LINE_HELD_MAX`] datagrams.
        overfull,
        /// The lent buffer was smaller than the datagram.
        no_room,
    }
}

/// One direction of a line as a machine: datagrams go in on a path and come out on the same path
/// later, or not at all, or twice. Put it in front of any other machine, or run it on real sockets
/// where the kernel cannot impair traffic.
///
/// A [`crate::World`] keeps its packets elsewhere and asks a [`Link`] what to do with them.
#[derive(Debug)]
pub struct Line<P> {
    link: Link,
    /// When what is due to come out, in which slot. Of two at one moment the first in is the first out.
    due: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    sequence: u64,
    held: Vec<Held<P>>,
    free: Vec<usize>,
    counters: LineCounters,
}

/// A datagram on the line. A freed slot keeps its buffer.
#[derive(Debug)]
struct Held<P> {
    path: P,
    ecn: Ecn,
    bytes: Vec<u8>,
}

impl<P: Copy + Ord + Debug> Line<P> {
    /// An empty line with its own dice.
    pub fn new(rng: Rng, config: LinkConfig) -> Self {
        Self {
            link: Link::new(rng, config),
            due: BinaryHeap::new(),
            sequence: 0,
            held: Vec::new(),
            free: Vec::new(),
            counters: LineCounters::default(),
        }
    }

    /// Changes what the line does to datagrams that enter from here on.
    pub fn reconfigure(&mut self, config: LinkConfig) {
        self.link.reconfigure(config);
    }

    /// What it did not carry.
    pub fn counters(&self) -> &LineCounters {
        &self.counters
    }

    /// Datagrams on it.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    fn hold(&mut self, at: Instant, path: P, ecn: Ecn, bytes: &[u8]) {
        if self.len() >= LINE_HELD_MAX {
            self.counters.overfull += 1;
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.held.push(Held { path, ecn, bytes: Vec::new() });
            self.held.len() - 1
        });
        let held = &mut self.held[slot];
        (held.path, held.ecn) = (path, ecn);
        held.bytes.clear();
        held.bytes.extend_from_slice(bytes);
        self.sequence += 1;
        self.due.push(Reverse((at, self.sequence, slot)));
    }
}

impl<P: Copy + Ord + Debug> Machine for Line<P> {
    type Path = P;
    type Event = Infallible;

    fn handle_input(&mut self, now: Instant, input: Input<'_, P>) -> Verdict<P> {
        match self.link.carry(now, input.bytes.len() + HEADERS, input.ecn) {
            Ok(Carried { at, again, ecn }) => {
                self.hold(at, input.path, ecn, input.bytes);
                if let Some(again) = again {
                    self.hold(again, input.path, ecn, input.bytes);
                }
            }
            Err(LinkDrop::Lost) => self.counters.lost += 1,
            Err(LinkDrop::QueueFull) => self.counters.queue_full += 1,
            Err(LinkDrop::TooBig) => self.counters.too_big += 1,
        }
        Verdict::Consumed
    }

    /// Nothing to do: what is due is there to be polled.
    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_event(&mut self) -> Option<Infallible> {
        None
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<P>> {
        loop {
            let Reverse((at, _, slot)) = *self.due.peek()?;
            if at > now {
                return None;
            }
            self.due.pop();
            self.free.push(slot);
            let held = &self.held[slot];
            if out.put(&held.bytes) {
                return Some(Transmit { ecn: held.ecn, ..Transmit::new(held.path) });
            }
            self.counters.no_room += 1;
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.due.peek().map(|Reverse((at, ..))| Deadline { at: *at, why: "arrival" })
    }
}

#[cfg(test)]
mod tests;
