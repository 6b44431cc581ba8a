//! Three clocks that other libraries expect, all fed from the one time that handlers are given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use gimlet_machine::Instant;
use rustls::pki_types::UnixTime;

/// The farthest moment that is still translated exactly, in nanoseconds: 146 years. Later ones are
/// clamped, because `std::time::Instant` may panic on overflow where ours saturates.
const FAR_NANOS: u64 = 1 << 62;

/// Translates between our instants and `std::time::Instant`, which quinn-proto computes with, and
/// drives the [`WallClock`].
#[derive(Debug)]
pub(crate) struct Clock {
    origin: std::time::Instant,
    wall: WallClock,
}

/// Calendar time for the TLS library and for retry tokens: the calendar time at the origin, plus
/// the last moment that a handler or a command was given.
#[derive(Clone, Debug)]
pub(crate) struct WallClock {
    nanos: Arc<AtomicU64>,
    unix_time_at_origin: Duration,
}

impl Clock {
    /// `origin` stands for `Instant::ZERO`, which happened at `unix_time_at_origin`.
    pub(crate) fn new(origin: std::time::Instant, unix_time_at_origin: Duration) -> Self {
        Self { origin, wall: WallClock { nanos: Arc::default(), unix_time_at_origin } }
    }

    /// The calendar that follows this clock.
    pub(crate) fn wall(&self) -> WallClock {
        self.wall.clone()
    }

    /// Moves the calendar to `now` and translates `now` for quinn-proto.
    pub(crate) fn advance(&self, now: Instant) -> std::time::Instant {
        self.wall.nanos.store(now.as_nanos(), Ordering::Relaxed);
        self.origin + Duration::from_nanos(now.as_nanos().min(FAR_NANOS))
    }

    /// Translates a moment that quinn-proto computed.
    pub(crate) fn translate(&self, at: std::time::Instant) -> Instant {
        Instant::ZERO + at.saturating_duration_since(self.origin)
    }
}

impl WallClock {
    fn since_unix_epoch(&self) -> Duration {
        self.unix_time_at_origin.saturating_add(Duration::from_nanos(self.nanos.load(Ordering::Relaxed)))
    }
}

impl rustls::time_provider::TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.since_unix_epoch()))
    }
}

impl quinn_proto::TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.since_unix_epoch()
    }
}

#[cfg(test)]
mod tests {
    use quinn_proto::TimeSource as _;
    use rustls::time_provider::TimeProvider as _;

    use super::*;
    use crate::testing;

    #[test]
    fn the_calendar_follows_the_handlers_and_nothing_else() {
        let clock = Clock::new(testing::origin(), Duration::from_secs(1_000));
        let wall = clock.wall();
        clock.advance(Instant::from_millis(2_500));
        assert_eq!(wall.now(), SystemTime::UNIX_EPOCH + Duration::from_millis(1_002_500));
        assert_eq!(wall.current_time().map(|time| time.as_secs()), Some(1_002));
    }

    #[test]
    fn moments_survive_the_round_trip_and_the_far_end_does_not_panic() {
        let clock = Clock::new(testing::origin(), Duration::ZERO);
        let there = clock.advance(Instant::from_nanos(123_456_789));
        assert_eq!(clock.translate(there), Instant::from_nanos(123_456_789));
        assert!(clock.translate(clock.advance(Instant::FAR)) > Instant::from_millis(1));
    }
}
