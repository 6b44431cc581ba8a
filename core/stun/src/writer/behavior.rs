//! The attributes of NAT behaviour discovery (RFC 5780 §7).

use core::net::SocketAddr;

use super::MessageWriter;
use crate::attribute as kind;
use crate::message::ChangeRequest;

impl MessageWriter<'_> {
    /// CHANGE-REQUEST (§7.2).
    pub fn change_request(self, change: ChangeRequest) -> Self {
        let bit = |set, bit| if set { bit } else { 0 };
        let flags =
            bit(change.address, ChangeRequest::ADDRESS_BIT) | bit(change.port, ChangeRequest::PORT_BIT);
        self.attribute(kind::CHANGE_REQUEST, &flags.to_be_bytes())
    }

    /// RESPONSE-ORIGIN (§7.3).
    pub fn response_origin(self, address: SocketAddr) -> Self {
        self.address(kind::RESPONSE_ORIGIN, address)
    }

    /// OTHER-ADDRESS (§7.4).
    pub fn other_address(self, address: SocketAddr) -> Self {
        self.address(kind::OTHER_ADDRESS, address)
    }

    /// RESPONSE-PORT (§7.5).
    pub fn response_port(self, port: u16) -> Self {
        let [p0, p1] = port.to_be_bytes();
        self.attribute(kind::RESPONSE_PORT, &[p0, p1, 0, 0])
    }

    /// PADDING (§7.6): what it holds means nothing.
    pub fn padding(self, padding: &[u8]) -> Self {
        self.attribute(kind::PADDING, padding)
    }
}
