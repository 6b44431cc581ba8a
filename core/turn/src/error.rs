//! What can be wrong, each with its cause and what to do about it.

use core::fmt;
use core::net::SocketAddr;

/// Why an allocation was not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocateError {
    /// There is one, or one is being asked for or given back.
    Busy,
}

impl fmt::Display for AllocateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllocateError::Busy => {
                f.write_str("this client has its one allocation: use another client, or release it first")
            }
        }
    }
}

impl core::error::Error for AllocateError {}

/// Why a permission or a channel was not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// [`PERMISSIONS_MAX`](crate::PERMISSIONS_MAX) or [`CHANNELS_MAX`](crate::CHANNELS_MAX) are there,
    /// channels that cool down included.
    TooMany,
    /// The server relays from no address of the peer's family.
    Family,
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerError::TooMany => "too many peers: forget one, or wait until old channels have cooled down",
            PeerError::Family => "no relayed address of the peer's family: allocate for both families",
        })
    }
}

impl core::error::Error for PeerError {}

/// Why a datagram was not wrapped. It is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapError {
    /// The path does not lead through this client's server.
    NotOurs,
    /// There is no allocation to send from.
    NotAllocated,
    /// No permission was asked for, so the server would drop it.
    NotPermitted {
        /// For whom it was.
        peer: SocketAddr,
    },
    /// With its headers it does not fit the buffer or a length field.
    TooBig,
}

impl fmt::Display for WrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WrapError::NotOurs => f.write_str("the path leads through another relay"),
            WrapError::NotAllocated => f.write_str("the server relays nothing for us yet, or no longer"),
            WrapError::NotPermitted { peer } => {
                write!(f, "the server would drop what goes to {peer}: permit the peer first")
            }
            WrapError::TooBig => f.write_str("no room for the relay's headers: leave 4 bytes per datagram"),
        }
    }
}

impl core::error::Error for WrapError {}
