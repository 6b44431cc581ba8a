//! Time that survives a restart.

use std::time::Duration;

use gimlet_machine::Instant;

use crate::sys;

/// The machine's monotone clock. Its origin is the same for every process until the computer is started again, so
/// moments that one process left in a [`crate::Table`] mean the same to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The present moment.
    pub fn now(self) -> Instant {
        Instant::from_nanos(sys::monotonic())
    }

    /// How long it is until `moment`; zero if it has come.
    pub fn until(self, moment: Instant) -> Duration {
        moment.since(self.now())
    }
}
