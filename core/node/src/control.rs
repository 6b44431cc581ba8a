//! What two connected nodes say to each other on their control streams.
//!
//! Each side opens one unidirectional stream as soon as the connection is up and sends framed
//! messages on it: first a [`gimlet_handshake::Hello`], then [`Control`] values. Streams are
//! ordered, so nothing is understood before the hello.

use core::net::SocketAddr;

use gimlet_machine::PeerId;
use serde::{Deserialize, Serialize};

use crate::description::DESCRIPTION_MAX;
use crate::relay_pass::RelayPass;

/// Length of one control message; a longer one ends the connection, because the stream's framing
/// cannot be trusted any more. Bytes.
pub const CONTROL_MESSAGE_MAX: usize = DESCRIPTION_MAX + 64;

/// A control message (postcard; new variants are added at the end).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Control {
    /// To an introducer: carry this description to `to`.
    Introduce { to: [u8; 32], description: Vec<u8> },
    /// From an introducer: `from` asked me to carry this to you. `seen`: where I see it, if it is not me.
    Introduced { from: [u8; 32], description: Vec<u8>, seen: Option<SocketAddr> },
    /// From an introducer: `peer` cannot be reached through me.
    Unreachable { peer: [u8; 32], why: Unreachable },
    /// From a public node: I relay for you, and this is how to ask.
    Relay(RelayPass),
    /// From a public node: I answer STUN on this port too, at the address where you reach me. Whether your NAT
    /// gives that another port than it gives my other one shows what it does.
    Witness { port: u16 },
}

/// Why an introducer did not carry a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unreachable {
    /// The peer is not connected to this introducer.
    NotConnected,
    /// The sender asks more often than the introducer allows.
    TooMany,
    /// This node does not introduce peers.
    NotAnIntroducer,
}

impl Control {
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// `None`: not a message of this version. The caller counts it and reads on, because framing
    /// keeps the stream in step.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Control> {
        postcard::from_bytes(bytes).ok()
    }

    pub(crate) fn unreachable(peer: PeerId, why: Unreachable) -> Control {
        Control::Unreachable { peer: peer.0, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire_and_unknown_ones_are_passed_over() {
        let message = Control::Introduce { to: [1; 32], description: vec![1, 2, 3] };
        assert_eq!(Control::decode(&message.encode()), Some(message));
        assert_eq!(Control::decode(&[200, 1, 2]), None);
        assert_eq!(Control::decode(&[]), None);
    }

    #[test]
    fn the_largest_description_fits_a_control_message() {
        let seen = Some("[2001:db8::1]:65535".parse().unwrap());
        let message = Control::Introduced { from: [1; 32], description: vec![0; DESCRIPTION_MAX], seen };
        assert!(message.encode().len() <= CONTROL_MESSAGE_MAX);
    }
}
