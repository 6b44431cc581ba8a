//! What the client waits for.

use crate::client::RequestId;

/// One timer for each request, named for what happens when it rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Send the request again.
    Retransmit(RequestId),
    /// Give the request up.
    GiveUp(RequestId),
}

impl Timer {
    pub(crate) const fn request(self) -> RequestId {
        match self {
            Timer::Retransmit(id) | Timer::GiveUp(id) => id,
        }
    }
}

impl gimlet_machine::Timer for Timer {
    fn why(self) -> &'static str {
        match self {
            Timer::Retransmit(_) => "retransmit",
            Timer::GiveUp(_) => "give up",
        }
    }
}
