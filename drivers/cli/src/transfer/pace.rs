//! How far a transfer has come, for progress bars and for noticing that it stands still.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A transfer in which nothing moves for so long is given up. A receiver may be hashing what it has
/// of a very large file meanwhile: at 1 GB/s that is 120 GB.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(120);

/// How often is looked.
const LOOK: Duration = Duration::from_secs(5);

/// Counts bytes for everybody who is interested.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    bytes: AtomicU64,
}

impl Pace {
    /// The transfer begins at `at`.
    pub(crate) fn set(&self, at: u64) {
        self.bytes.store(at, Ordering::Relaxed);
    }

    /// It has moved on.
    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Where it is.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns when nothing has moved for [`STALL_MAX`].
    pub(crate) async fn stalled(&self) {
        let (mut last, mut still) = (self.bytes(), Duration::ZERO);
        while still < STALL_MAX {
            tokio::time::sleep(LOOK).await;
            let bytes = self.bytes();
            still = if bytes == last { still + LOOK } else { Duration::ZERO };
            last = bytes;
        }
    }
}
