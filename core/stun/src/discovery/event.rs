//! What the owner learns, and why it may learn nothing.

use core::fmt;

use super::behaviour::Behaviour;
use super::state::Step;

/// How far the discovery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryEvent {
    /// A step is over; this is what is known after it.
    Learnt {
        /// Which step.
        step: Step,
        /// The report so far.
        so_far: Behaviour,
    },
    /// Everything is over. Comes once, last.
    Finished(Behaviour),
}

/// Why a discovery was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryError {
    /// There is no socket, or no server.
    NothingToAsk,
    /// A socket's address is unspecified, has port 0, or is not on the same address as the others.
    NotOneHost,
    /// A server is of another address family than the sockets, or has port 0.
    Unreachable,
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiscoveryError::NothingToAsk => "discovery needs at least one socket and one server",
            DiscoveryError::NotOneHost => {
                "the sockets of a discovery are bound to one address, which is not the wildcard, and to a port each"
            }
            DiscoveryError::Unreachable => {
                "a server of another address family, or without a port: ask each family for itself"
            }
        })
    }
}

impl core::error::Error for DiscoveryError {}
