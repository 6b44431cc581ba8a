//! What a line does to datagrams: loses, queues, delays, doubles and reorders them.

use std::time::Duration;

use gimlet_machine::{Ecn, Instant, Rng};

use crate::Chance;

/// What one direction of a line does to the datagrams on it. The default is a perfect line: no
/// delay, no loss, no limit but an Ethernet's MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// How long every datagram takes at least.
    pub latency: Duration,
    /// Up to so much is added to each datagram's latency, evenly distributed. Jitter alone does not
    /// reorder: a datagram that would overtake waits for the one ahead of it.
    pub jitter: Duration,
    /// How often a datagram vanishes.
    pub loss: Chance,
    /// How often a datagram arrives twice. Each copy has its own jitter.
    pub duplicate: Chance,
    /// How often a datagram is held back, so that later ones overtake it.
    pub reorder: Chance,
    /// How long a reordered datagram is held back at most.
    pub reorder_window: Duration,
    /// A bottleneck, if there is one.
    pub rate: Option<Rate>,
    /// The largest IP packet, in bytes, headers included. A larger one vanishes: senders set
    /// "don't fragment", as RFC 9000 §14 demands.
    pub mtu: u16,
}

/// A bottleneck with a queue in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bits per second, IP and UDP headers included; at least 1.
    pub bits_per_second: u64,
    /// Bytes that may wait. A datagram that does not fit is dropped: a plain tail drop.
    pub queue: u64,
    /// From so many waiting bytes on, ECN-capable datagrams are marked "congestion experienced"
    /// (RFC 3168 §5) as they join the queue.
    pub mark_from: Option<u64>,
}

impl Rate {
    /// A bottleneck of so many megabits per second whose queue holds what it sends in 50 ms.
    pub const fn megabits(per_second: u64) -> Self {
        let bits_per_second = per_second.saturating_mul(1_000_000);
        Self { bits_per_second, queue: bits_per_second / 8 / 20, mark_from: None }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Chance::NEVER,
            duplicate: Chance::NEVER,
            reorder: Chance::NEVER,
            reorder_window: Duration::from_millis(10),
            rate: None,
            mtu: 1_500,
        }
    }
}

impl LinkConfig {
    /// A line that only delays.
    pub fn with_latency(latency: Duration) -> Self {
        Self { latency, ..Self::default() }
    }
}

/// Why a line dropped a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkDrop {
    /// The dice said so ([`LinkConfig::loss`]).
    Lost,
    /// The queue in front of the bottleneck was full.
    QueueFull,
    /// Larger than the MTU.
    TooBig,
}

/// When a datagram comes out at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// When.
    pub at: Instant,
    /// When its copy does, if it was doubled.
    pub again: Option<Instant>,
    /// The mark it carries on arrival.
    pub ecn: Ecn,
}

/// One direction of a line. It decides what becomes of each datagram and holds none of them;
/// [`crate::Line`] is the same thing as a machine that does.
#[derive(Clone, Debug)]
pub struct Link {
    config: LinkConfig,
    rng: Rng,
    /// When the bottleneck has sent all that waits.
    busy_until: Instant,
    /// When the latest datagram in order arrives: the next may not be earlier.
    last_arrival: Instant,
}

impl Link {
    /// A line with its own stream of dice.
    pub fn new(rng: Rng, config: LinkConfig) -> Self {
        Self { config, rng, busy_until: Instant::ZERO, last_arrival: Instant::ZERO }
    }

    /// What the line does.
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Changes what the line does to datagrams from here on. What waits keeps waiting.
    pub fn reconfigure(&mut self, config: LinkConfig) {
        self.config = config;
    }

    /// Decides about a packet of `size` bytes, IP header included, that enters at `now`. Calls come
    /// in the order of time.
    pub fn carry(&mut self, now: Instant, size: usize, ecn: Ecn) -> Result<Carried, LinkDrop> {
        if size > usize::from(self.config.mtu) {
            return Err(LinkDrop::TooBig);
        }
        if self.config.loss.happens(&mut self.rng) {
            return Err(LinkDrop::Lost);
        }
        let (departs, ecn) = self.queue(now, size as u64, ecn)?;
        let at = self.arrival(departs);
        let doubled = self.config.duplicate.happens(&mut self.rng);
        let again = doubled.then(|| self.arrival(departs));
        Ok(Carried { at, again, ecn })
    }

    /// Waits for the bottleneck.
    fn queue(&mut self, now: Instant, size: u64, ecn: Ecn) -> Result<(Instant, Ecn), LinkDrop> {
        const NANOS_PER_BYTE_AT_1_BPS: u128 = 8_000_000_000;
        let Some(rate) = self.config.rate else { return Ok((now, ecn)) };
        let bits_per_second = u128::from(rate.bits_per_second.max(1));
        let waiting = self.busy_until.since(now).as_nanos() * bits_per_second / NANOS_PER_BYTE_AT_1_BPS;
        if waiting + u128::from(size) > u128::from(rate.queue).max(u128::from(size)) {
            return Err(LinkDrop::QueueFull);
        }
        let takes = u128::from(size) * NANOS_PER_BYTE_AT_1_BPS / bits_per_second;
        self.busy_until = later(self.busy_until.max(now), u64::try_from(takes).unwrap_or(u64::MAX));
        let congested = rate.mark_from.is_some_and(|from| waiting >= u128::from(from));
        let marked = if congested && ecn != Ecn::NotEct { Ecn::Ce } else { ecn };
        Ok((self.busy_until, marked))
    }

    /// When a packet that departs at `departs` arrives.
    fn arrival(&mut self, departs: Instant) -> Instant {
        let jitter = self.up_to(self.config.jitter);
        let at = later(later(departs, nanos(self.config.latency)), jitter);
        if self.config.reorder.happens(&mut self.rng) {
            // At least a nanosecond late, and not counted as the latest: that is what lets others by.
            return later(later(at, 1), self.up_to(self.config.reorder_window));
        }
        self.last_arrival = self.last_arrival.max(at);
        self.last_arrival
    }

    /// Nanoseconds.
    fn up_to(&mut self, most: Duration) -> u64 {
        if most.is_zero() { 0 } else { self.rng.below(nanos(most)) }
    }
}

/// Cheaper than `Duration::as_nanos`, which is wide; saturates after 584 years.
fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

fn later(at: Instant, nanos: u64) -> Instant {
    Instant::from_nanos(at.as_nanos().saturating_add(nanos))
}

#[cfg(test)]
mod tests;
