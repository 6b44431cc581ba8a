//! What an endpoint has received. Octets count from the peer's SYN, which is 0.

use crate::stack::Stack;

/// Blocks that fit beside timestamps, and without them (RFC 2018 §3).
const BLOCKS_BESIDE_TIMESTAMPS_MAX: usize = 3;
const BLOCKS_MAX: usize = 4;
/// A segment on Ethernet, in bytes.
const SEGMENT: i64 = 1_460;

/// The receiving half.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The peer's first number, as we were told.
    pub(super) irs: Option<u32>,
    /// RCV.NXT.
    pub(super) nxt: i64,
    /// What arrived out of order, the latest first.
    pub(super) ranges: Vec<(i64, i64)>,
    /// Where the FIN is, once it was seen.
    pub(super) fin: Option<i64>,
    /// Bytes of the stream that the application has read.
    pub(super) read: i64,
    /// The end of the window that we have shown; it never moves back.
    pub(super) edge: i64,
    /// The latest acknowledgment that we sent.
    pub(super) told: i64,
    /// What arrived twice (RFC 2883), to be reported once.
    pub(super) duplicate: Option<(i64, i64)>,
    /// Segments in order that were not acknowledged yet.
    pub(super) unacknowledged: u32,
    buffer: i64,
}

impl Incoming {
    pub(super) fn new(stack: &Stack) -> Self {
        Self {
            irs: None,
            nxt: 0,
            ranges: Vec::new(),
            fin: None,
            read: 0,
            edge: 1,
            told: 0,
            duplicate: None,
            unacknowledged: 0,
            buffer: i64::from(stack.buffer),
        }
    }

    /// The peer's SYN arrived.
    pub(super) fn start(&mut self, irs: u32) {
        self.irs = Some(irs);
        self.nxt = 1;
    }

    /// Where a number lies, going by what was received so far.
    pub(super) fn unwrap(&self, number: u32) -> i64 {
        let expected = self.irs.unwrap_or(number).wrapping_add(self.nxt as u32);
        self.nxt + i64::from(number.wrapping_sub(expected) as i32)
    }

    /// Bytes of a stream of `all` bytes that were received in order.
    pub(super) fn stream(&self, all: i64) -> i64 {
        (self.nxt - 1).clamp(0, all)
    }

    /// The end of the window that the buffer allows.
    pub(super) fn edge_now(&self) -> i64 {
        self.read + 1 + self.buffer
    }

    /// How far the window has to open before that is worth saying (RFC 9293 §3.8.6.2.2).
    pub(super) fn worthwhile(&self) -> i64 {
        (self.buffer / 2).min(SEGMENT)
    }

    /// The window to show, in bytes that can be said with `shift`. What was shown once stays true.
    pub(super) fn offer(&mut self, shift: u8) -> i64 {
        let unit = 1_i64 << shift;
        let most = 65_535 << shift;
        let fresh = (self.edge_now() - self.nxt).clamp(0, most) / unit * unit;
        let is_news = self.nxt + fresh >= self.edge + self.worthwhile();
        // The part of the last offer that is not used up, or what the buffer gives, if that is worth it.
        let rest = ((self.edge - self.nxt).max(0) + unit - 1) / unit * unit;
        let window = if is_news { fresh } else { rest.min(most) };
        self.edge = self.edge.max(self.nxt + window);
        window
    }

    /// Takes `[left, right)`, which lies below the edge. Says whether it was nothing but the next in order.
    pub(super) fn take(&mut self, left: i64, right: i64) -> bool {
        if right <= self.nxt {
            self.duplicate = Some((left, right));
            return false;
        }
        if left > self.nxt {
            let known = self.ranges.iter().find(|(from, to)| *from < right && left < *to);
            self.duplicate = known.map(|(from, to)| (left.max(*from), right.min(*to))).or(self.duplicate);
            self.store(left, right);
            return false;
        }
        let had_holes = !self.ranges.is_empty();
        if left < self.nxt {
            self.duplicate = Some((left, self.nxt));
        }
        self.nxt = right;
        while let Some(at) = self.ranges.iter().position(|(from, _)| *from <= self.nxt) {
            let (_, to) = self.ranges.remove(at);
            self.nxt = self.nxt.max(to);
        }
        !had_holes && left + 1 > self.nxt - (right - left)
    }

    fn store(&mut self, mut left: i64, mut right: i64) {
        self.ranges.retain(|(from, to)| {
            let touches = *from <= right && left <= *to;
            if touches {
                left = left.min(*from);
                right = right.max(*to);
            }
            !touches
        });
        // One range may touch two that do not touch each other: `retain` saw the first with the old edges.
        if let Some(at) = self.ranges.iter().position(|(from, to)| *from <= right && left <= *to) {
            let (from, to) = self.ranges.remove(at);
            self.store(left.min(from), right.max(to));
            return;
        }
        self.ranges.insert(0, (left, right));
    }

    /// The blocks to report (RFC 2018 §4, RFC 2883 §4): what came twice, then the latest first.
    pub(super) fn blocks(&mut self, timestamps: bool) -> Vec<(u32, u32)> {
        let irs = self.irs.unwrap_or(0);
        let most = if timestamps { BLOCKS_BESIDE_TIMESTAMPS_MAX } else { BLOCKS_MAX };
        let duplicate = self.duplicate.take();
        let all = duplicate.iter().chain(&self.ranges).take(most);
        all.map(|(left, right)| (irs.wrapping_add(*left as u32), irs.wrapping_add(*right as u32))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Incoming {
        let mut incoming = Incoming::new(&Stack::default());
        incoming.start(0xffff_fff0);
        incoming.offer(0);
        incoming
    }

    #[test]
    fn holes_are_filled_and_reported_the_latest_first() {
        let mut incoming = fresh();
        assert!(incoming.take(1, 101));
        assert!(!incoming.take(201, 301));
        assert!(!incoming.take(401, 501));
        assert_eq!(incoming.blocks(true), [(0x181, 0x1e5), (0xb9, 0x11d)]);
        assert!(!incoming.take(301, 401));
        assert_eq!((incoming.nxt, incoming.ranges.clone()), (101, vec![(201, 501)]));
        assert!(!incoming.take(101, 201));
        assert_eq!((incoming.nxt, incoming.ranges.len()), (501, 0));
    }

    #[test]
    fn what_comes_twice_is_reported_once() {
        let mut incoming = fresh();
        incoming.take(1, 101);
        incoming.take(1, 51);
        assert_eq!(incoming.blocks(true), [(0xffff_fff1, 0x23)]);
        assert_eq!(incoming.blocks(true), []);
    }

    #[test]
    fn numbers_wrap() {
        let mut incoming = fresh();
        incoming.take(1, 101);
        assert_eq!(incoming.unwrap(0x55), 101);
        assert_eq!(incoming.unwrap(0xffff_fff0), 0);
    }

    #[test]
    fn a_window_never_moves_back() {
        let mut incoming = fresh();
        let edge = incoming.edge;
        incoming.take(1, 40_001);
        assert_eq!(incoming.offer(7) % 128, 0);
        assert!(incoming.edge >= edge);
    }
}
