//! What only the operating system can give: time and entropy.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gimlet_machine::Instant;

/// The monotone clock of one driver: nanoseconds since it was started.
///
/// A machine compares only moments of the clock it was built with, so whoever builds the machine
/// hands the same clock to the driver.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
    unix_time_at_origin: Duration,
}

impl Clock {
    /// A clock that starts at [`Instant::ZERO`].
    pub fn start() -> Self {
        let unix_time_at_origin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: std::time::Instant::now(), unix_time_at_origin }
    }

    /// The present moment.
    pub fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }

    /// What stands for [`Instant::ZERO`].
    pub fn origin(&self) -> std::time::Instant {
        self.origin
    }

    /// The calendar time at [`Instant::ZERO`], since 1970-01-01 00:00 UTC; certificates and tickets
    /// are judged by it. Zero if the system's calendar is set before 1970.
    pub fn unix_time_at_origin(&self) -> Duration {
        self.unix_time_at_origin
    }

    /// The same moment as the operating system names it; `None` if it lies beyond what that can
    /// name, which is as good as never.
    pub fn at(&self, moment: Instant) -> Option<std::time::Instant> {
        self.origin.checked_add(moment.since(Instant::ZERO))
    }
}

/// A seed for [`gimlet_machine::Rng`] from the operating system's entropy.
///
/// # Errors
///
/// The system has no entropy source that this process may use (a sandbox without `getrandom` and
/// `/dev/urandom`, for example). Nothing secret can be made there.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| io::Error::other(format!("the operating system gave no entropy: {error}")))?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_starts_at_zero_and_names_moments_both_ways() {
        let clock = Clock::start();
        let now = clock.now();
        assert!(now < Instant::from_millis(60_000));
        assert_eq!(clock.at(now).map(|at| at - clock.origin()), Some(now.since(Instant::ZERO)));
        assert!(clock.now() >= now);
    }

    #[test]
    fn two_seeds_differ() {
        assert_ne!(seed().unwrap(), seed().unwrap());
    }
}
