//! The node's own timers; its children keep theirs.

use gimlet_machine::{PeerId, Timer as Named};

/// What the node itself waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// An attempt has taken too long.
    Attempt(PeerId),
    /// Introducers are asked again.
    Offer(PeerId),
    /// A dial goes through a relay, if there is one.
    Detour(PeerId),
    /// A lost or failed peer is tried again.
    Retry(PeerId),
    /// A close has waited long enough for acknowledgements.
    Close(PeerId),
    /// A link has found no path that works.
    Repair(PeerId),
    /// The handshake is done, but the peer has not said hello.
    Hello(PeerId),
    /// The peer's pass for our relay is half over.
    Pass(PeerId),
    /// The next step of a punch with this peer is due.
    Punch(PeerId),
    /// Finding out what our NAT does has taken long enough.
    Sample,
    /// No connection has needed the relays of public nodes for a while.
    RelayIdle,
}

impl Named for Timer {
    fn why(self) -> &'static str {
        match self {
            Timer::Attempt(_) => "attempt",
            Timer::Offer(_) => "offer",
            Timer::Detour(_) => "detour",
            Timer::Retry(_) => "retry",
            Timer::Close(_) => "close",
            Timer::Repair(_) => "repair",
            Timer::Hello(_) => "hello",
            Timer::Pass(_) => "relay pass",
            Timer::Punch(_) => "punch",
            Timer::Sample => "sample",
            Timer::RelayIdle => "relay idle",
        }
    }
}
