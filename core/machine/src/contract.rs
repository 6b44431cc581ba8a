//! The trait and the values that cross it.

use core::fmt::Debug;
use core::ops::Range;

use crate::{Answer, Buf, Instant, Request};

/// When a machine wants `handle_timeout`, and which of its timers wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// Call `handle_timeout` at this moment or soon after; early and late calls are harmless.
    pub at: Instant,
    /// The timer's name, for people: `"retransmit"`, `"consent"`.
    pub why: &'static str,
}

impl Deadline {
    /// The earliest of several: how the deadlines of children compose.
    ///
    /// ```
    /// # use gimlet_machine::{Deadline, Instant};
    /// let soon = Deadline { at: Instant::from_millis(1), why: "soon" };
    /// let late = Deadline { at: Instant::from_millis(9), why: "late" };
    /// assert_eq!(Deadline::earliest([Some(late), None, Some(soon)]), Some(soon));
    /// ```
    pub fn earliest(all: impl IntoIterator<Item = Option<Deadline>>) -> Option<Deadline> {
        all.into_iter().flatten().min()
    }
}

/// Explicit congestion notification, as carried in the two low bits of the IP traffic class
/// (RFC 3168 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Ecn {
    /// Not ECN-capable transport.
    #[default]
    NotEct = 0b00,
    /// ECN-capable transport, codepoint 1.
    Ect1 = 0b01,
    /// ECN-capable transport, codepoint 0.
    Ect0 = 0b10,
    /// Congestion experienced.
    Ce = 0b11,
}

impl Ecn {
    /// Reads the two low bits; the others are ignored.
    pub const fn from_bits(bits: u8) -> Ecn {
        match bits & 0b11 {
            0b01 => Ecn::Ect1,
            0b10 => Ecn::Ect0,
            0b11 => Ecn::Ce,
            _ => Ecn::NotEct,
        }
    }
}

/// One datagram that arrived. The bytes are lent, and a machine may rewrite them in place.
#[derive(Debug)]
pub struct Input<'a, P> {
    /// Where it arrived and where it came from.
    pub path: P,
    /// How the network marked it.
    pub ecn: Ecn,
    /// The payload.
    pub bytes: &'a mut [u8],
}

impl<'a, P> Input<'a, P> {
    /// An unmarked datagram.
    pub fn new(path: P, bytes: &'a mut [u8]) -> Self {
        Self { path, ecn: Ecn::NotEct, bytes }
    }
}

/// What became of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<P> {
    /// It was for this machine, whatever it made of it.
    Consumed,
    /// It was not for this machine: the owner may offer the same bytes, unchanged, to another.
    NotMine,
    /// The bytes in `range`, rewritten in place, leave on `path`.
    Pass {
        /// Where to.
        path: P,
        /// Which part of the lent bytes.
        range: Range<usize>,
    },
}

/// Describes what was just written into the [`Buf`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit<P> {
    /// Where to send it.
    pub path: P,
    /// How to mark it.
    pub ecn: Ecn,
    /// `None`: one datagram. `Some(n)`: a train of datagrams of `n` bytes each, the last one
    /// possibly shorter (what generic segmentation offload takes).
    pub segment: Option<u16>,
}

impl<P> Transmit<P> {
    /// One unmarked datagram.
    pub const fn new(path: P) -> Self {
        Self { path, ecn: Ecn::NotEct, segment: None }
    }
}

/// A deterministic state machine: *(bytes, time)* in, actions out, no I/O.
///
/// The laws that every implementation keeps (`gimlet-testkit` asserts them on each call):
///
/// 1. Time is given and never goes backwards.
/// 2. The owner drains the polls before time moves.
/// 3. A drained machine stays quiet until it is touched or its deadline comes.
/// 4. After `handle_timeout(t)` and a drain, the deadline is `None` or later than `t`. Early, late
///    and repeated timeouts are harmless.
/// 5. Hostile bytes are ordinary: no panic, no unbounded memory, a counter for each drop.
/// 6. The same seed and the same inputs at the same times give the same outputs, byte for byte.
/// 7. Commands return neither bytes nor actions.
/// 8. Everything has a limit.
pub trait Machine {
    /// What names a way to the outside: a [`crate::FourTuple`] at the socket, something narrower
    /// further in.
    type Path: Copy + Ord + Debug;
    /// What the owner learns, or is asked to do and answers by id.
    type Event;

    /// A datagram arrived.
    fn handle_input(&mut self, now: Instant, input: Input<'_, Self::Path>) -> Verdict<Self::Path>;
    /// Time has passed. Harmless at any moment; due at [`Machine::poll_timeout`].
    fn handle_timeout(&mut self, now: Instant);
    /// The next thing the owner should know.
    fn poll_event(&mut self) -> Option<Self::Event>;
    /// Writes the next datagram (or a train of equal ones) into `out`, which the owner lends empty.
    /// `None` leaves `out` empty.
    fn poll_transmit(&mut self, now: Instant, out: &mut Buf<'_>) -> Option<Transmit<Self::Path>>;
    /// When to call [`Machine::handle_timeout`]; `None`: nothing happens without input.
    fn poll_timeout(&self) -> Option<Deadline>;

    /// The next thing that the driver is to open, write or close. Most machines do with the sockets that
    /// their owner gave them; whoever owns one that does not hands its requests on.
    fn poll_request(&mut self) -> Option<Request> {
        None
    }
    /// What became of a request.
    fn handle_answer(&mut self, now: Instant, answer: Answer<'_>) {
        let _ = (now, answer);
    }
}
