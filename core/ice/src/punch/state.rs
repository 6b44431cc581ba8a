//! Every legal transition of a punch. Nothing outside this file decides what may follow what.
//!
//! ```text
//!   plan ──► Planned ──begin──► Spraying ◄──resume──┐
//!               ▲ │                │  └────hit────► Hit
//!         retry │ │ rest           │ exhaust         │
//!               │ ▼                ▼                 │ succeed: from anywhere
//!               Backoff ◄──────────┘                 ▼
//!                                                  Ended ──plan──► Planned
//! ```

use core::fmt;

/// Where a punch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PunchState {
    /// Awaits the peer's credentials, its sockets, and a packet that proves where the peer is.
    Planned,
    /// Awaits a hit; probes leave.
    Spraying,
    /// Awaits the checks of what was hit; no probe leaves.
    Hit,
    /// Awaits its next round: the last one found nothing, the budget is spent, or both NATs are to forget.
    Backoff,
    /// Over: data flows straight, or the owner ended it.
    Ended,
}

/// What may happen to a punch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PunchStep {
    /// The owner asks for it, or for another one.
    Plan,
    /// Everything is there.
    Begin,
    /// A round is put off before it began.
    Rest,
    /// The peer answered a probe, or hit one of our sockets.
    Hit,
    /// What was hit does not work.
    Resume,
    /// Everything was tried.
    Exhaust,
    /// The next round is due.
    Retry,
    /// Data flows straight, or the owner has had enough.
    Succeed,
}

impl PunchState {
    /// All states, in the order of a punch's usual life.
    pub const ALL: [PunchState; 5] =
        [PunchState::Planned, PunchState::Spraying, PunchState::Hit, PunchState::Backoff, PunchState::Ended];

    /// The state after `step`; `None` if it cannot happen here.
    pub(crate) const fn after(self, step: PunchStep) -> Option<PunchState> {
        use PunchState::{Backoff, Ended, Hit, Planned, Spraying};
        match step {
            PunchStep::Plan => match self {
                Spraying | Hit | Backoff | Ended => Some(Planned),
                Planned => None,
            },
            PunchStep::Begin => match self {
                Planned => Some(Spraying),
                Spraying | Hit | Backoff | Ended => None,
            },
            PunchStep::Rest => match self {
                Planned => Some(Backoff),
                Spraying | Hit | Backoff | Ended => None,
            },
            PunchStep::Hit => match self {
                Spraying => Some(Hit),
                Planned | Hit | Backoff | Ended => None,
            },
            PunchStep::Resume => match self {
                Hit => Some(Spraying),
                Planned | Spraying | Backoff | Ended => None,
            },
            PunchStep::Exhaust => match self {
                Spraying => Some(Backoff),
                Planned | Hit | Backoff | Ended => None,
            },
            PunchStep::Retry => match self {
                Backoff => Some(Planned),
                Planned | Spraying | Hit | Ended => None,
            },
            PunchStep::Succeed => match self {
                Planned | Spraying | Hit | Backoff => Some(Ended),
                Ended => None,
            },
        }
    }
}

impl fmt::Display for PunchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PunchState::Planned => "planned",
            PunchState::Spraying => "spraying",
            PunchState::Hit => "hit",
            PunchState::Backoff => "backoff",
            PunchState::Ended => "ended",
        })
    }
}
