//! The attributes of TURN (RFC 8656 §18).

use core::net::SocketAddr;
use core::time::Duration;

use super::MessageWriter;
use crate::address::AddressFamily;
use crate::attribute as kind;
use crate::error_code::ErrorCode;
use crate::message::Icmp;

impl MessageWriter<'_> {
    /// CHANNEL-NUMBER (§18.1).
    pub fn channel_number(self, number: u16) -> Self {
        let [n0, n1] = number.to_be_bytes();
        self.attribute(kind::CHANNEL_NUMBER, &[n0, n1, 0, 0])
    }

    /// LIFETIME (§18.2) in whole seconds; more than 2³² − 1 of them become that many.
    pub fn lifetime(self, lifetime: Duration) -> Self {
        let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        self.attribute(kind::LIFETIME, &seconds.to_be_bytes())
    }

    /// XOR-PEER-ADDRESS (§18.3).
    pub fn xor_peer_address(self, peer: SocketAddr) -> Self {
        self.xored(kind::XOR_PEER_ADDRESS, peer)
    }

    /// DATA (§18.4): the datagram itself.
    pub fn data(self, datagram: &[u8]) -> Self {
        self.attribute(kind::DATA, datagram)
    }

    /// XOR-RELAYED-ADDRESS (§18.5).
    pub fn xor_relayed_address(self, relayed: SocketAddr) -> Self {
        self.xored(kind::XOR_RELAYED_ADDRESS, relayed)
    }

    /// REQUESTED-ADDRESS-FAMILY (§18.6).
    pub fn requested_address_family(self, family: AddressFamily) -> Self {
        self.attribute(kind::REQUESTED_ADDRESS_FAMILY, &[family as u8, 0, 0, 0])
    }

    /// EVEN-PORT (§18.7); `reserve_next` asks the server to keep the next port too.
    pub fn even_port(self, reserve_next: bool) -> Self {
        self.attribute(kind::EVEN_PORT, &[u8::from(reserve_next) << 7])
    }

    /// REQUESTED-TRANSPORT (§18.8): an IP protocol number, 17 for UDP.
    pub fn requested_transport(self, protocol: u8) -> Self {
        self.attribute(kind::REQUESTED_TRANSPORT, &[protocol, 0, 0, 0])
    }

    /// DONT-FRAGMENT (§18.9).
    pub fn dont_fragment(self) -> Self {
        self.attribute(kind::DONT_FRAGMENT, &[])
    }

    /// RESERVATION-TOKEN (§18.10).
    pub fn reservation_token(self, token: &[u8; 8]) -> Self {
        self.attribute(kind::RESERVATION_TOKEN, token)
    }

    /// ADDITIONAL-ADDRESS-FAMILY (§18.11).
    pub fn additional_address_family(self, family: AddressFamily) -> Self {
        self.attribute(kind::ADDITIONAL_ADDRESS_FAMILY, &[family as u8, 0, 0, 0])
    }

    /// ADDRESS-ERROR-CODE (§18.12), with an empty reason phrase.
    pub fn address_error_code(self, family: AddressFamily, code: u16) -> Self {
        let [_, _, class, number] = ErrorCode::head(code);
        self.attribute(kind::ADDRESS_ERROR_CODE, &[family as u8, 0, class, number])
    }

    /// ICMP (§18.13).
    pub fn icmp(self, icmp: Icmp) -> Self {
        let [d0, d1, d2, d3] = icmp.error_data;
        self.attribute(kind::ICMP, &[0, 0, icmp.kind, icmp.code, d0, d1, d2, d3])
    }
}
