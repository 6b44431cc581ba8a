//! Every legal transition of a flow. Nothing outside this file decides what may follow what.
//!
//! ```text
//!              ┌─client answers──► AwaitServer ──server accepts─┐
//!   HalfOpen ──┤                                                ├─► Established
//!              └─server accepts──► AwaitClient ──client answers─┘     │   │  ▲
//!                                                                 FIN │   │  │ anything but RST
//!   any of the three ──give up──► Aborted                             ▼   │  │
//!   any of the three ──step aside──► Bypass                   HalfClosed  │RST
//!                                                                 FIN │   ▼  │
//!                                                                     ▼  Lingering
//!                                                              TimeWait
//! ```
//!
//! A flow that is not there is the state before `HalfOpen` and after every other: a table forgets flows when
//! their time is over.

use core::fmt;

use crate::Side;

/// What a flow awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FlowState {
    /// The client's answer to our SYN-ACK and the server's SYN-ACK, whichever comes first.
    HalfOpen = 1,
    /// The server's SYN-ACK. What the client sends is held.
    AwaitServer = 2,
    /// The client's answer. The server's numbers are known.
    AwaitClient = 3,
    /// Nothing: both spaces are known and everything that passes is translated.
    Established = 4,
    /// The server's FIN, after the client's.
    ClientClosed = 5,
    /// The client's FIN, after the server's.
    ServerClosed = 6,
    /// The end of stray segments, after both FINs (RFC 9293 §3.6.1).
    TimeWait = 7,
    /// A sign that a RST was forged, or the end of stray segments after a genuine one.
    Lingering = 8,
    /// The end of stray segments of a flow whose handshake failed: the spaces were never joined, and whoever
    /// goes on sending is told so with a RST.
    Aborted = 9,
    /// Nothing: this flow is not touched.
    Bypass = 10,
}

/// What may happen to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowStep {
    /// The client acknowledged our initial sequence number.
    ClientAnswers,
    /// The server's SYN-ACK acknowledges the client's SYN.
    ServerAccepts,
    /// A FIN passed, from this side.
    Fin(Side),
    /// A RST passed.
    Reset,
    /// Something other than a RST passed.
    GoOn,
    /// The handshake will not succeed, and whoever believes in it was told.
    GiveUp,
    /// The endpoints agree without us.
    StepAside,
}

impl FlowState {
    /// All states, in the order of a flow's life.
    pub const ALL: [FlowState; 10] = [
        FlowState::HalfOpen,
        FlowState::AwaitServer,
        FlowState::AwaitClient,
        FlowState::Established,
        FlowState::ClientClosed,
        FlowState::ServerClosed,
        FlowState::TimeWait,
        FlowState::Lingering,
        FlowState::Aborted,
        FlowState::Bypass,
    ];

    /// The state after `step`; `None` if it cannot happen here.
    pub(crate) const fn after(self, step: FlowStep) -> Option<Self> {
        use FlowState::{
            Aborted, AwaitClient, AwaitServer, Bypass, ClientClosed, Established, HalfOpen, Lingering,
            ServerClosed, TimeWait,
        };
        match step {
            FlowStep::ClientAnswers => match self {
                HalfOpen => Some(AwaitServer),
                AwaitClient => Some(Established),
                AwaitServer | Established | ClientClosed | ServerClosed | TimeWait | Lingering | Aborted
                | Bypass => None,
            },
            FlowStep::ServerAccepts => match self {
                HalfOpen => Some(AwaitClient),
                AwaitServer => Some(Established),
                AwaitClient | Established | ClientClosed | ServerClosed | TimeWait | Lingering | Aborted
                | Bypass => None,
            },
            FlowStep::Fin(Side::Client) => match self {
                Established => Some(ClientClosed),
                ServerClosed => Some(TimeWait),
                HalfOpen | AwaitServer | AwaitClient | ClientClosed | TimeWait | Lingering | Aborted
                | Bypass => None,
            },
            FlowStep::Fin(Side::Server) => match self {
                Established => Some(ServerClosed),
                ClientClosed => Some(TimeWait),
                HalfOpen | AwaitServer | AwaitClient | ServerClosed | TimeWait | Lingering | Aborted
                | Bypass => None,
            },
            FlowStep::Reset => match self {
                Established | ClientClosed | ServerClosed | TimeWait => Some(Lingering),
                HalfOpen | AwaitServer | AwaitClient | Lingering | Aborted | Bypass => None,
            },
            FlowStep::GoOn => match self {
                Lingering => Some(Established),
                HalfOpen | AwaitServer | AwaitClient | Established | ClientClosed | ServerClosed
                | TimeWait | Aborted | Bypass => None,
            },
            FlowStep::GiveUp => match self {
                HalfOpen | AwaitServer | AwaitClient => Some(Aborted),
                Established | ClientClosed | ServerClosed | TimeWait | Lingering | Aborted | Bypass => None,
            },
            FlowStep::StepAside => match self {
                HalfOpen | AwaitServer | AwaitClient | Established | ClientClosed | ServerClosed
                | TimeWait | Lingering | Aborted => Some(Bypass),
                Bypass => None,
            },
        }
    }

    /// Whether segments of this flow are translated.
    pub const fn is_translated(self) -> bool {
        match self {
            FlowState::Established
            | FlowState::ClientClosed
            | FlowState::ServerClosed
            | FlowState::TimeWait
            | FlowState::Lingering => true,
            FlowState::HalfOpen
            | FlowState::AwaitServer
            | FlowState::AwaitClient
            | FlowState::Aborted
            | FlowState::Bypass => false,
        }
    }

    /// Whether a SYN with another initial sequence number begins a new flow here, instead of being one
    /// endpoint's sign that it lost this one.
    pub const fn is_over(self) -> bool {
        match self {
            FlowState::TimeWait | FlowState::Lingering | FlowState::Aborted | FlowState::Bypass => true,
            FlowState::HalfOpen
            | FlowState::AwaitServer
            | FlowState::AwaitClient
            | FlowState::Established
            | FlowState::ClientClosed
            | FlowState::ServerClosed => false,
        }
    }

    /// The state that is kept as `number`.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == number)
    }
}

impl fmt::Display for FlowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FlowState::HalfOpen => "half-open",
            FlowState::AwaitServer => "awaits server",
            FlowState::AwaitClient => "awaits client",
            FlowState::Established => "established",
            FlowState::ClientClosed => "client closed",
            FlowState::ServerClosed => "server closed",
            FlowState::TimeWait => "TIME-WAIT",
            FlowState::Lingering => "lingering",
            FlowState::Aborted => "aborted",
            FlowState::Bypass => "bypass",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gimlet_testkit::{edges, matches_committed};

    #[test]
    fn the_graph_is_the_committed_one() {
        let steps = [
            FlowStep::ClientAnswers,
            FlowStep::ServerAccepts,
            FlowStep::Fin(Side::Client),
            FlowStep::Fin(Side::Server),
            FlowStep::Reset,
            FlowStep::GoOn,
            FlowStep::GiveUp,
            FlowStep::StepAside,
        ];
        let actual = edges(&FlowState::ALL, &steps, FlowState::after);
        matches_committed(env!("CARGO_MANIFEST_DIR"), "flow.txt", &actual);
    }

    #[test]
    fn a_number_names_one_state_and_noise_names_none() {
        assert!(FlowState::ALL.iter().all(|state| FlowState::from_number(*state as u8) == Some(*state)));
        assert_eq!((FlowState::from_number(0), FlowState::from_number(11)), (None, None));
    }
}
