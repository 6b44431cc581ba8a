//! How much one client relays, and how much it may.

use gimlet_machine::Instant;

/// Microseconds in a second: a meter counts in millionths of a byte, so that no rate needs a fraction.
const SCALE: u64 = 1_000_000;

/// Counts what an allocation relays and holds it to a rate, both directions together. A second's worth may
/// come at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    /// Bytes to peers, and from peers.
    pub(super) relayed: (u64, u64),
    /// Bytes per second; the largest number stands for no limit.
    rate: u64,
    level: u64,
    filled: Instant,
}

impl Meter {
    pub(super) const fn new(now: Instant, rate: u64) -> Self {
        Self { relayed: (0, 0), rate, level: rate.saturating_mul(SCALE), filled: now }
    }

    /// Takes room for a datagram to a peer; false if there is none.
    pub(super) fn sends(&mut self, now: Instant, len: usize) -> bool {
        let fits = self.take(now, len as u64);
        self.relayed.0 += if fits { len as u64 } else { 0 };
        fits
    }

    /// Takes room for a datagram from a peer; false if there is none.
    pub(super) fn hears(&mut self, now: Instant, len: usize) -> bool {
        let fits = self.take(now, len as u64);
        self.relayed.1 += if fits { len as u64 } else { 0 };
        fits
    }

    fn take(&mut self, now: Instant, len: u64) -> bool {
        if self.rate == u64::MAX {
            return true;
        }
        let elapsed = u64::try_from(now.since(self.filled).as_micros()).unwrap_or(u64::MAX);
        let full = self.rate.saturating_mul(SCALE);
        self.level = self.level.saturating_add(elapsed.saturating_mul(self.rate)).min(full);
        self.filled = now;
        let cost = len.saturating_mul(SCALE);
        let fits = self.level >= cost;
        self.level -= if fits { cost } else { 0 };
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_may_come_at_once_and_then_the_rate_holds() {
        let mut meter = Meter::new(Instant::ZERO, 10_000);
        let mut passed =
            |millis| (0..100).filter(|_| meter.sends(Instant::from_millis(millis), 1_000)).count();
        assert_eq!((passed(0), passed(0), passed(500), passed(60_000)), (10, 0, 5, 10));
        assert_eq!(meter.relayed, (25_000, 0));
    }

    #[test]
    fn without_a_limit_everything_passes_and_is_counted() {
        let mut meter = Meter::new(Instant::ZERO, u64::MAX);
        assert!((0..1_000).all(|_| meter.hears(Instant::ZERO, 65_535)));
        assert_eq!(meter.relayed, (0, 65_535_000));
    }
}
