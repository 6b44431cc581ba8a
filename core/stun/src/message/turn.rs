//! The attributes of TURN (RFC 8656 §18).

use core::net::SocketAddr;
use core::time::Duration;

use gimlet_wire::Reader;

use super::Message;
use crate::address::{self, AddressFamily};
use crate::attribute;
use crate::error_code::ErrorCode;

/// The value of ICMP (RFC 8656 §18.13): an error that the server's packets to the peer met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// The ICMP type, of the version that the peer's address family has.
    pub kind: u8,
    /// The ICMP code.
    pub code: u8,
    /// What the ICMP message carried: the next hop's MTU, or zero.
    pub error_data: [u8; 4],
}

impl<'a> Message<'a> {
    /// CHANNEL-NUMBER (§18.1), in range or not.
    pub fn channel_number(&self) -> Option<u16> {
        Reader::new(self.value(attribute::CHANNEL_NUMBER)?).u16()
    }

    /// LIFETIME (§18.2), in whole seconds on the wire.
    pub fn lifetime(&self) -> Option<Duration> {
        let seconds = self.value(attribute::LIFETIME)?.try_into().ok().map(u32::from_be_bytes)?;
        Some(Duration::from_secs(u64::from(seconds)))
    }

    /// The first XOR-PEER-ADDRESS (§18.3).
    pub fn xor_peer_address(&self) -> Option<SocketAddr> {
        address::read_xored(self.value(attribute::XOR_PEER_ADDRESS)?, &self.transaction_id())
    }

    /// Every XOR-PEER-ADDRESS, `None` for a malformed one: CreatePermission may name several
    /// (§10.1) and refuses the whole request when one is wrong.
    pub fn xor_peer_addresses(&self) -> impl Iterator<Item = Option<SocketAddr>> + use<'a> {
        let id = self.transaction_id();
        self.all(attribute::XOR_PEER_ADDRESS).map(move |value| address::read_xored(value, &id))
    }

    /// DATA (§18.4): the datagram itself.
    pub fn data(&self) -> Option<&'a [u8]> {
        self.value(attribute::DATA)
    }

    /// The first XOR-RELAYED-ADDRESS (§18.5).
    pub fn xor_relayed_address(&self) -> Option<SocketAddr> {
        self.xor_relayed_addresses().next()?
    }

    /// Every XOR-RELAYED-ADDRESS, `None` for a malformed one: a dual allocation has two (§7.3).
    pub fn xor_relayed_addresses(&self) -> impl Iterator<Item = Option<SocketAddr>> + use<'a> {
        let id = self.transaction_id();
        self.all(attribute::XOR_RELAYED_ADDRESS).map(move |value| address::read_xored(value, &id))
    }

    /// REQUESTED-ADDRESS-FAMILY (§18.6).
    pub fn requested_address_family(&self) -> Option<AddressFamily> {
        self.family(attribute::REQUESTED_ADDRESS_FAMILY)
    }

    /// EVEN-PORT (§18.7): `Some(true)` asks the server to keep the next port too.
    pub fn even_port(&self) -> Option<bool> {
        self.value(attribute::EVEN_PORT)?.first().map(|byte| byte & 0x80 != 0)
    }

    /// REQUESTED-TRANSPORT (§18.8): an IP protocol number, 17 for UDP.
    pub fn requested_transport(&self) -> Option<u8> {
        Reader::new(self.value(attribute::REQUESTED_TRANSPORT)?).u8()
    }

    /// DONT-FRAGMENT (§18.9).
    pub fn dont_fragment(&self) -> bool {
        self.value(attribute::DONT_FRAGMENT).is_some()
    }

    /// RESERVATION-TOKEN (§18.10).
    pub fn reservation_token(&self) -> Option<&'a [u8; 8]> {
        self.value(attribute::RESERVATION_TOKEN)?.try_into().ok()
    }

    /// ADDITIONAL-ADDRESS-FAMILY (§18.11).
    pub fn additional_address_family(&self) -> Option<AddressFamily> {
        self.family(attribute::ADDITIONAL_ADDRESS_FAMILY)
    }

    /// ADDRESS-ERROR-CODE (§18.12): which family of a dual allocation failed, and why.
    pub fn address_error_code(&self) -> Option<(AddressFamily, ErrorCode<'a>)> {
        let value = self.value(attribute::ADDRESS_ERROR_CODE)?;
        Some((AddressFamily::from_number(*value.first()?)?, ErrorCode::read(value)?))
    }

    /// ICMP (§18.13).
    pub fn icmp(&self) -> Option<Icmp> {
        let mut reader = Reader::new(self.value(attribute::ICMP)?);
        reader.skip(2)?; // reserved
        Some(Icmp { kind: reader.u8()?, code: reader.u8()?, error_data: *reader.array()? })
    }

    fn family(&self, kind: u16) -> Option<AddressFamily> {
        AddressFamily::from_number(*self.value(kind)?.first()?)
    }
}
