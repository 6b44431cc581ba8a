//! What owners learn.

use core::net::SocketAddr;
use core::time::Duration;

use crate::{FlowKey, FlowState, Profile};

/// Events that wait to be polled. Further ones are dropped and counted.
pub const EVENTS_MAX: usize = 1_024;

/// What a translator tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A server answered like this, which is news. SYNs to it may be answered from now on.
    Learned {
        /// Which.
        destination: SocketAddr,
        /// Like what.
        profile: Profile,
    },
    /// A client's SYN was answered.
    Spoofed {
        /// Whose.
        flow: FlowKey,
    },
    /// The server answered, too: both spaces are joined.
    Established {
        /// Which.
        flow: FlowKey,
        /// Bytes that the client had sent by then.
        early: u32,
        /// How long after the SYN.
        waited: Duration,
    },
    /// A handshake failed, and its ends were told.
    Aborted {
        /// Which.
        flow: FlowKey,
        /// Why.
        cause: Cause,
    },
    /// A flow is not touched.
    Bypassed {
        /// Which.
        flow: FlowKey,
        /// Why.
        why: Bypass,
    },
    /// A flow is forgotten.
    Closed {
        /// Which.
        flow: FlowKey,
    },
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server answered with a RST.
    Refused,
    /// A router said that there is no such service, and that this will not change.
    Unreachable,
    /// The server did not answer within [`CONNECT_TIMEOUT`](crate::CONNECT_TIMEOUT).
    ServerSilent,
    /// The same, and a router had said why.
    ServerUnreachable,
    /// The client did not answer within [`ANSWER_TIMEOUT`](crate::ANSWER_TIMEOUT).
    ClientSilent,
    /// The client ended it.
    ClientReset,
    /// The client began anew with another number.
    Replaced,
    /// The server takes no timestamps although it did before, and the client uses them already.
    NoTimestamps,
    /// The server's windows became too small to be said in the units that were promised.
    CoarseWindows,
    /// There was no room for the flow.
    TableFull,
}

/// Why a flow is not touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// Its destination has to be learned first, and is, from this flow.
    Cold,
    /// Its destination is left alone for a while.
    Unfit,
    /// Its SYN carries data, or an option that we do not answer for.
    Options,
    /// Its source, or all sources, use up their share.
    Overload,
    /// The owner wants no new flows.
    Draining,
    /// Its ends agreed without us.
    Agreed,
}

/// One flow, as [`Translator::flows`](crate::Translator::flows) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowReport {
    /// Which.
    pub flow: FlowKey,
    /// What it awaits.
    pub state: FlowState,
    /// D = S' − Sr, once both are known.
    pub delta: Option<u32>,
    /// Bytes that are held for the server.
    pub held: u32,
}
