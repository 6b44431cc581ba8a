//! The attributes of NAT behaviour discovery (RFC 5780 §7).

use core::net::SocketAddr;

use gimlet_wire::Reader;

use super::Message;
use crate::{address, attribute};

/// The value of CHANGE-REQUEST (RFC 5780 §7.2): from where the server shall answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeRequest {
    /// From its other address.
    pub address: bool,
    /// From its other port.
    pub port: bool,
}

impl ChangeRequest {
    pub(crate) const ADDRESS_BIT: u32 = 0b100;
    pub(crate) const PORT_BIT: u32 = 0b010;
}

impl<'a> Message<'a> {
    /// CHANGE-REQUEST (§7.2).
    pub fn change_request(&self) -> Option<ChangeRequest> {
        let flags = Reader::new(self.value(attribute::CHANGE_REQUEST)?).u32()?;
        let has = |bit| flags & bit != 0;
        Some(ChangeRequest { address: has(ChangeRequest::ADDRESS_BIT), port: has(ChangeRequest::PORT_BIT) })
    }

    /// RESPONSE-ORIGIN (§7.3): where the response was sent from.
    pub fn response_origin(&self) -> Option<SocketAddr> {
        address::read(self.value(attribute::RESPONSE_ORIGIN)?)
    }

    /// OTHER-ADDRESS (§7.4): where a response with both changes would come from.
    pub fn other_address(&self) -> Option<SocketAddr> {
        address::read(self.value(attribute::OTHER_ADDRESS)?)
    }

    /// RESPONSE-PORT (§7.5): where the response shall go.
    pub fn response_port(&self) -> Option<u16> {
        Reader::new(self.value(attribute::RESPONSE_PORT)?).u16()
    }

    /// PADDING (§7.6): makes a datagram large enough to be fragmented.
    pub fn padding(&self) -> Option<&'a [u8]> {
        self.value(attribute::PADDING)
    }
}
