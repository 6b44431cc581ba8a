//! What a client waits for, and what a server does.

use crate::client::RequestId;
use crate::server::AllocationId;

/// A client's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The request's next send, or its end.
    Request(RequestId),
    /// Prolong the allocation.
    Refresh,
    /// The allocation's lifetime is over.
    Expire,
    /// Prolong permissions and channels; let channels cool down.
    Peers,
    /// Ask a busy server again.
    Retry,
}

impl gimlet_machine::Timer for Timer {
    fn why(self) -> &'static str {
        match self {
            Timer::Request(_) => "retransmit",
            Timer::Refresh => "refresh",
            Timer::Expire => "expire",
            Timer::Peers => "peers",
            Timer::Retry => "retry",
        }
    }
}

/// A server's timer: one for each allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Expiry(pub(crate) AllocationId);

impl gimlet_machine::Timer for Expiry {
    fn why(self) -> &'static str {
        "expire"
    }
}
